"""Logins of clients that are not in `listen.allow` (contract 1.2, 1.3): `users_file`, checked off the loop.

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
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

TRIES: Final = 3
"""Failed logins in a session before 421."""

MAX_DELAY_S: Final = 8.0
_REMEMBERED: Final = 4096  # addresses with failures, the oldest forgotten first

_SCHEME = re.compile(r"^\{[A-Za-z0-9.-]+\}")
_SCRYPT = re.compile(r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,3}),p=(\d{1,3})\$([A-Za-z0-9+/.]+)\$([A-Za-z0-9+/.]+)")
_ARGON2 = PasswordHasher()
# Of a random password, with the library's default costs: what an unknown name is checked against.
_NOBODY: Final = _ARGON2.hash(base64.b64encode(b"nobody knows this one").decode())


class Users:
    """Names and hashes; `check` never raises."""

    def __init__(self, hashes: Mapping[str, str]) -> None:
        self._hashes = {name: _SCHEME.sub("", value) for name, value in hashes.items()}
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="login")
        self._failures: OrderedDict[str, int] = OrderedDict()

    async def check(self, name: str, password: bytes, address: str) -> bool:
        """Whether name and password fit; a failure answers late, the later the more of them came from `address`."""
        loop = asyncio.get_running_loop()
        known = self._hashes.get(name)
        fits = await loop.run_in_executor(self._pool, verify, known or _NOBODY, password)
        if fits and known is not None:
            self._failures.pop(address, None)
            return True
        failures = self._failures.pop(address, 0)
        self._failures[address] = failures + 1
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
    salt, wanted = _unbase64(found[4]), _unbase64(found[5])
    try:
        made = hashlib.scrypt(password, salt=salt, n=1 << cost, r=block, p=parallel, maxmem=1 << 28, dklen=len(wanted))
    except (ValueError, MemoryError):
        return False
    return hmac.compare_digest(made, wanted)


def _unbase64(text: str) -> bytes:
    return base64.b64decode(text.replace(".", "+") + "=" * (-len(text) % 4))
