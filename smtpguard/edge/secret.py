"""A password in what a next hop says: some repeat the command that they refuse, and it goes into no log and no bounce.

Hidden is what we sent as it is, and as PLAIN (RFC 4616 2) and LOGIN send it, from its sixth character on, in whatever
case: what is repeated may be cut off. What CRAM-MD5 sends is no password, and is not looked for.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Final

_TELLTALE: Final = 6  # characters that are taken for the whole


def hidden(text: str, username: str, password: str) -> str:
    """The text without the password, whichever way it was sent; as it is where there is no password."""
    if password:
        for secret in _spellings(username, password):
            text = _without(text, secret)
    return text


def _spellings(username: str, password: str) -> tuple[str, ...]:
    """The longest first."""
    octets = password.encode()
    plain = b"\0%b\0%b" % (username.encode(), octets)
    return b64encode(plain).decode(), b64encode(octets).decode(), password


def _without(text: str, secret: str) -> str:
    """Neither the secret nor the first part of it (some next hops cut off what they repeat), in whatever case."""
    head = re.compile(re.escape(secret[:_TELLTALE]), re.IGNORECASE)
    pieces: list[str] = []
    start = 0
    while (found := head.search(text, start)) is not None:
        pieces += (text[start : found.start()], "[hidden]")
        start = found.end()
        for said, sent in zip(text[start:], secret[_TELLTALE:], strict=False):
            if said.lower() != sent.lower():
                break
            start += 1
    return "".join((*pieces, text[start:]))
