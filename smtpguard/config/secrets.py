"""Files that hold secrets: passwords, tokens, users. Read once, never shown.

What goes wrong is told without a word of what a file holds: the errors here can be printed and logged.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import SecretStr

_MAX_SECRET: Final = 4_096  # octets; longer is a file named by mistake
_MAX_USERS: Final = 16 * 2**20

# PHC string format, https://github.com/P-H-C/phc-string-format: $id[$v=..][$params]$salt$hash. Base64 without padding.
_ARGON2: Final = re.compile(
    r"\$argon2(?:id|i|d)\$v=(?:16|19)\$m=[1-9][0-9]{0,6},t=[1-9][0-9]{0,2},p=[1-9][0-9]{0,2}"
    r"\$[A-Za-z0-9+/]{11,88}\$[A-Za-z0-9+/]{16,88}",
    re.ASCII,
)
# ln is log2 of N; a check takes 128 * r * N octets: 1 GiB at 20 with r=8, which no login is worth
_SCRYPT: Final = re.compile(
    r"\$scrypt\$ln=(?:[1-9]|1[0-9]|20),r=[1-8],p=(?:[1-9]|1[0-6])"
    r"\$[A-Za-z0-9+/.]{11,88}\$[A-Za-z0-9+/.]{16,88}",
    re.ASCII,
)


class FileError(Exception):
    """A file that cannot be used; each of `reasons` completes the sentence that begins with its name."""

    def __init__(self, *reasons: str) -> None:
        self.reasons = reasons
        super().__init__("; ".join(reasons))


def probe(path: Path | str, limit: int = 1) -> bytes:
    """The first `limit` octets of a file; FileError says why it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(limit)
    except OSError as error:
        raise FileError(f"cannot be read: {os.strerror(error.errno or 0).lower()}") from None


def read_secret(path: Path | str) -> SecretStr:
    """The one line in a file, without its line end; FileError where it is empty, longer or not text."""
    raw = probe(path, _MAX_SECRET + 1)
    if len(raw) > _MAX_SECRET:
        raise FileError(f"is longer than {_MAX_SECRET} octets")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise FileError("is not UTF-8 text") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise FileError("is empty")
    if not text.isprintable():
        raise FileError("holds more than one line, or control characters")
    return SecretStr(text)


def credential(environ: Mapping[str, str], name: str) -> SecretStr | None:
    """A systemd credential (systemd.exec(5), LoadCredential=), or None where there is none of that name."""
    folder = environ.get("CREDENTIALS_DIRECTORY", "")
    if not folder:
        return None
    path = Path(folder, name)
    with contextlib.suppress(PermissionError):  # of the folder: reading says so, in its own words
        if not path.exists():
            return None
    return read_secret(path)


def load_users(path: Path) -> dict[str, str]:
    """The users who may log in: name -> hash (a PHC string of scrypt or argon2), from `name:hash` lines.

    Empty lines and lines that begin with # are skipped. FileError names every bad line by its number.
    """
    raw = probe(path, _MAX_USERS)
    try:
        lines = raw.decode().split("\n")
    except UnicodeDecodeError:
        raise FileError("is not UTF-8 text") from None
    users: dict[str, str] = {}
    reasons: list[str] = []
    for number, line in enumerate(lines, 1):
        name, colon, phc = line.strip().partition(":")
        if line.isspace() or not line or line.startswith("#"):
            continue
        if not colon or not name or not name.isprintable():
            reasons.append(f"line {number} is not name:hash")
        elif not _ARGON2.fullmatch(phc) and not _SCRYPT.fullmatch(phc):
            reasons.append(f"line {number} has no hash that can be used ($argon2id$... or $scrypt$...)")
        elif name in users:
            reasons.append(f"line {number} names a user a second time")
        else:
            users[name] = phc
    if not users and not reasons:
        reasons.append("names no user")
    if reasons:
        raise FileError(*reasons)
    return users


def host_key() -> bytes:
    """The key of hashed addresses: one a host, across restarts; never the machine id itself (machine-id(5))."""
    with contextlib.suppress(OSError):
        if machine := Path("/etc/machine-id").read_bytes().strip():
            return hashlib.blake2b(machine, person=b"smtpguard").digest()
    return secrets.token_bytes(32)
