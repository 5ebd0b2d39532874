"""Logins of clients that are not in `listen.allow` (contract 1.2, 1.3): the AUTH dialogue, and `users_file`, checked
off the loop.

Hashes are scrypt (`$scrypt$ln=15,r=8,p=1$salt$hash`, base64 without padding) or argon2 (`$argon2id$...`), with or
without Dovecot's `{SCHEME}` in front. An unknown name costs as much time as a wrong password, and each failure from
an address makes its next one slower.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

TRIES: Final = 3
"""Failed logins in a session before 421."""

MAX_DELAY_S: Final = 8.0
_MAX_DOUBLINGS: Final = 5  # 0.25 s doubled five times is MAX_DELAY_S
_SCRYPT_OCTETS: Final = (1 << 30) + (1 << 24)  # 128 * r * 2**ln and a little more; enough for ln=20, r=8
_REMEMBERED: Final = 4096  # addresses with failures, the oldest forgotten first

_SCHEME = re.compile(r"^\{[A-Za-z0-9.-]+\}")
_SCRYPT = re.compile(r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,3}),p=(\d{1,3})\$([A-Za-z0-9+/.]+)\$([A-Za-z0-9+/.]+)")
_ARGON2 = PasswordHasher()


Challenge = Callable[[bytes], Awaitable[bytes | None]]
"""Sends a challenge as 334; the line that answers it, None for one that is too long or not ended by CRLF."""


class AuthRefused(ValueError):
    """An AUTH command that gave no credentials; `line` is the reply, with CRLF."""

    def __init__(self, line: bytes) -> None:
        super().__init__(line)
        self.line = line


async def dialogue(argument: bytes, challenge: Challenge) -> tuple[str, bytes]:
    """Name and password of an AUTH command with this argument (RFC 4954 4); AuthRefused if it gives none."""
    mechanism, _, initial = argument.partition(b" ")
    speak = _MECHANISMS.get(mechanism.upper())
    if speak is None:
        raise AuthRefused(b"504 5.5.4 PLAIN and LOGIN are the mechanisms here\r\n")
    # RFC 4954 4: a single "=" is an initial response of no octets.
    name, password = await speak(None if not initial else b"" if initial == b"=" else _decoded(initial), challenge)
    return name.decode("utf-8", "replace"), password


async def _plain(initial: bytes | None, challenge: Challenge) -> tuple[bytes, bytes]:
    """RFC 4616: [authorization identity] NUL name NUL password; the identity is of no use here."""
    given = initial if initial is not None else _decoded(await challenge(b""))
    parts = given.split(b"\0")
    if len(parts) != 3:
        raise AuthRefused(b"501 5.5.2 PLAIN wants identity, name and password, with NUL between\r\n")
    return parts[1], parts[2]


async def _login(initial: bytes | None, challenge: Challenge) -> tuple[bytes, bytes]:
    """draft-murchison-sasl-login 2: name, then password."""
    name = initial if initial is not None else _decoded(await challenge(b"Username:"))
    return name, _decoded(await challenge(b"Password:"))


_MECHANISMS: Final = {b"PLAIN": _plain, b"LOGIN": _login}


def _decoded(line: bytes | None) -> bytes:
    if line is None:
        raise AuthRefused(b"500 5.5.6 the line is too long or not ended by CRLF\r\n")
    if line == b"*":
        raise AuthRefused(b"501 5.7.0 login given up\r\n")
    try:
        return base64.b64decode(line, validate=True)
    except ValueError:
        raise AuthRefused(b"501 5.5.2 not base64\r\n") from None


class Users:
    """Names and hashes; `check` never raises."""

    def __init__(self, hashes: Mapping[str, str]) -> None:
        self._hashes = {name: _SCHEME.sub("", value) for name, value in hashes.items()}
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="login")
        self._failures: OrderedDict[str, int] = OrderedDict()
        # A stranger is checked against a user's hash, so that his name costs what a known one does.
        self._nobody = next(iter(self._hashes.values()), None) or _ARGON2.hash("nobody knows this one")

    async def check(self, name: str, password: bytes, address: str) -> bool:
        """Whether name and password fit; a failure answers late, the later the more of them came from `address`."""
        loop = asyncio.get_running_loop()
        known = self._hashes.get(name)
        fits = await loop.run_in_executor(self._pool, verify, known or self._nobody, password)
        if fits and known is not None:
            self._failures.pop(address, None)
            return True
        failures = self._failures.pop(address, 0)
        self._failures[address] = min(failures + 1, _MAX_DOUBLINGS)
        while len(self._failures) > _REMEMBERED:
            self._failures.popitem(last=False)
        await asyncio.sleep(min(MAX_DELAY_S, 0.25 * 2**failures))
        return False

    def close(self) -> None:
        """End the threads; a check under way ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def verify(stored: str, password: bytes) -> bool:
    """Whether the password fits the stored hash, in constant time; False for a hash of an unknown form."""
    found = _SCRYPT.fullmatch(stored)
    if found is None:
        try:
            return _ARGON2.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False
    cost, block, parallel = (int(found[i]) for i in (1, 2, 3))
    try:
        salt, wanted = _unbase64(found[4]), _unbase64(found[5])
        made = hashlib.scrypt(
            password, salt=salt, n=1 << cost, r=block, p=parallel, maxmem=_SCRYPT_OCTETS, dklen=len(wanted)
        )
    except (ValueError, TypeError, MemoryError):  # numbers out of range
        return False
    return hmac.compare_digest(made, wanted)


def _unbase64(text: str) -> bytes:
    return base64.b64decode(text.replace(".", "+") + "=" * (-len(text) % 4))
