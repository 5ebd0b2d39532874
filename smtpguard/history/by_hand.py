"""A recipient put on the suppression list by a person: the row of an address.

For `smtpguard suppress` and `/api/v1/suppressions`; policy makes its own (policy/standing.py). Pure.
"""

from __future__ import annotations

from typing import Final

from smtpguard.mail.address import SyntaxRefused, parse_rcpt
from smtpguard.policy import Suppression
from smtpguard.record import Masker

MAX_REASON: Final = 500  # characters
MAX_TTL_S: Final = 36_500 * 86_400.0
CODE: Final = 550
ENHANCED: Final = "5.1.1"
CATEGORY: Final = "recipient.disabled"
_KEY_DIGITS: Final = 16


def path_of(address: str) -> bytes:
    """The octets of an address, as `name@domain` or in angle brackets; ValueError where it is none."""
    text = address.strip().removeprefix("<").removesuffix(">")
    if "@" not in text:
        raise ValueError(f"{text!r} is not an address: give name@domain")
    try:
        return parse_rcpt(b"TO:<%s>" % text.encode("utf-8", "replace"), smtputf8=True).path
    except SyntaxRefused as error:
        raise ValueError(f"{text}: {error}") from None


def is_key(text: str) -> bool:
    """Whether this is the keyed hash of an address, as a list shows it."""
    return len(text) == _KEY_DIGITS and set(text) <= set("0123456789abcdef")


def suppression(
    path: bytes, masker: Masker, now: float, ttl_s: float, *, reason: str = "", source: str = "manual"
) -> Suppression:
    """The row of a recipient, from now on for `ttl_s` seconds; `source` is manual or import."""
    text = masker.text(reason, (path,))[:MAX_REASON] or "suppressed by hand"
    return Suppression(masker.id(path), now, now + ttl_s, masker.show(path), CODE, ENHANCED, text, CATEGORY, source)
