"""Macro strings of SPF (RFC 7208 7): parsed once, expanded for each sender. Pure text; nothing here asks the DNS.

The grammar is RFC 7208 7.1 to the letter, with what its errata and the published test suite settled: no number 0, and
`c`, `r`, `t` in explanations only. Whether an expanded name can exist in the DNS is asked of the DNS, not here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import quote

from smtpguard.mail.domain import MAX_NAME

DOMAIN_LETTERS: Final = frozenset("slodiphv")
EXPLANATION_LETTERS: Final = DOMAIN_LETTERS | frozenset("crt")  # RFC 7208 7.2

# macro-expand     = ( "%{" macro-letter transformers *delimiter "}" ) / "%%" / "%_" / "%-"
# transformers     = *DIGIT [ "r" ]
# delimiter        = "." / "-" / "+" / "," / "/" / "_" / "="
# macro-literal    = %x21-24 / %x26-7E
# explain-string   = *( macro-string / SP )
_PIECE = re.compile(r"%\{([A-Za-z])([0-9]*)([rR]?)([.+,/_=-]*)\}|%([%_-])|([\x20-\x24\x26-\x7e]+)")
_ESCAPES: Final = {"%": "%", "_": " ", "-": "%20"}

# domain-end       = ( "." toplabel [ "." ] ) / macro-expand
# toplabel         = ( *alphanum ALPHA *alphanum ) / ( 1*alphanum "-" *( alphanum / "-" ) alphanum )
_TOPLABEL = re.compile(r"\.(?=[A-Za-z0-9-]*[A-Za-z-])[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.?")
_NUMBERS = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")


class Macro(NamedTuple):
    """`%{...}`: `keep` is the number of right-hand parts, 0 for all."""

    letter: str
    keep: int
    is_reversed: bool
    delimiters: str
    is_escaped: bool

    def of(self, value: str) -> str:
        """The letter's value after split, reversal, choice and escape (RFC 7208 7.3)."""
        if self.keep or self.is_reversed or self.delimiters:
            parts = re.split(f"[{re.escape(self.delimiters or '.')}]", value)
            if self.is_reversed:
                parts.reverse()
            value = ".".join(parts[-self.keep :])
        return quote(value, safe="") if self.is_escaped else value


@dataclass(frozen=True, slots=True)
class MacroString:
    """Text with macros. `letters`: those that it needs values for; without any, `name` is all that it stands for."""

    text: str
    parts: tuple[str | Macro, ...]
    letters: frozenset[str]
    name: str
    """The domain name that it is as it stands; "" with macros."""

    def expand(self, values: Mapping[str, str]) -> str:
        """The text with each macro replaced; `values` holds one for every letter in `letters`."""
        return "".join(part if isinstance(part, str) else part.of(values[part.letter]) for part in self.parts)


def parse(text: str, letters: frozenset[str] = EXPLANATION_LETTERS) -> MacroString:
    """A macro-string, blanks allowed (the explain-string); ValueError says what is wrong."""
    parts: list[str | Macro] = []
    at = 0
    while at < len(text):
        piece = _PIECE.match(text, at)
        if piece is None:
            shown = ascii(text[at : at + 12])[1:-1]
            raise ValueError(f"{shown} is not a macro" if text[at] == "%" else f"{shown} is not printable ASCII")
        letter, digits, reverse, delimiters, escape, literal = piece.groups()
        if letter:
            if letter.lower() not in letters:
                raise ValueError(f"macro letter {letter} is not known here")
            keep = int(digits.lstrip("0")[:4] or "0")  # four digits are more parts than any value has
            if digits and not keep:
                raise ValueError(f"{piece[0]} keeps 0 parts")
            parts.append(Macro(letter.lower(), keep, bool(reverse), delimiters, letter.isupper()))
        else:
            parts.append(literal or _ESCAPES[escape])
        at = piece.end()
    used = frozenset(part.letter for part in parts if isinstance(part, Macro))
    return MacroString(text, tuple(parts), used, "" if used else domain_name("".join(map(str, parts))))


def parse_domain(text: str) -> MacroString:
    """A domain-spec without blanks: it ends in a top label or a macro (RFC 7208 7.1); ValueError says what is wrong."""
    if not text:
        raise ValueError("a domain is missing")
    spec = parse(text, DOMAIN_LETTERS)
    *_, last = _PIECE.finditer(text)
    literal = last[6]
    if literal and not _TOPLABEL.fullmatch(literal, max(0, literal.rfind(".", 0, -1))):
        if _NUMBERS.fullmatch(text):
            raise ValueError(f"an address is not a domain: write ip4:{text}")
        raise ValueError(f"{text} is not a domain name of two labels or more")
    return spec


def domain_name(text: str) -> str:
    """An expanded domain-spec as a name to ask for: lower case, no final dot, left labels cut off beyond 253 octets."""
    name = text.lower().removesuffix(".")
    return name if len(name) <= MAX_NAME else name[-MAX_NAME - 1 :].partition(".")[2]  # RFC 7208 7.3
