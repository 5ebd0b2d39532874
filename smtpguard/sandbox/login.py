"""AUTH PLAIN and AUTH LOGIN as a dialogue of lines (RFC 4954, RFC 4616), for a server that knows the passwords."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Generator, Mapping
from typing import NamedTuple

MECHANISMS = (b"PLAIN", b"LOGIN")


class Verdict(NamedTuple):
    """How it ended: the reply with CRLF, and who logged in ("" for nobody)."""

    reply: bytes
    login: str = ""


def exchange(mechanism: bytes, initial: bytes, users: Mapping[str, str]) -> Generator[bytes, bytes, Verdict]:
    """Yields the server's prompts, is sent the client's lines (without CRLF), returns the verdict.

    `mechanism` is one of MECHANISMS; `initial` the initial response, b"" for none.
    """
    if mechanism == b"PLAIN":
        response = initial or (yield b"334 \r\n")
        # RFC 4616 2: [authzid] NUL authcid NUL passwd; RFC 4954 4: "=" stands for an empty response
        parts = (_decode(response) or b"").split(b"\0")
        name, password = (parts[1], parts[2]) if len(parts) == 3 else (None, None)
    else:
        name = _decode(initial or (yield b"334 VXNlcm5hbWU6\r\n"))
        password = None if name is None else _decode((yield b"334 UGFzc3dvcmQ6\r\n"))
    if name is None or password is None:  # "*" cancels, and is no base64 either
        return Verdict(b"501 5.5.2 Error: cancelled, or not to be decoded\r\n")
    login = name.decode("utf-8", "replace")
    if users.get(login) != password.decode("utf-8", "replace"):
        return Verdict(b"535 5.7.8 Error: authentication failed\r\n")
    return Verdict(b"235 2.7.0 Authentication successful\r\n", login)


def _decode(response: bytes) -> bytes | None:
    try:
        return base64.b64decode(response, validate=True)
    except binascii.Error:
        return None
