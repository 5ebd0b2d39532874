"""A header section as fields, of a message or of a part of one (RFC 5322 2.2, RFC 2045 3).

Octets stay as they are: nothing is decoded, unfolded or mended. Lines that are no field are kept as strays, for the
lint to name. Any octets give fields or none; more than LINES_LIMIT lines are not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

HEADER_LIMIT: Final = 1 << 20
"""Octets of a header section that are read; Gmail takes 500 KB."""
LINES_LIMIT: Final = 40_000

_FOLD = re.compile(rb"\r\n(?=[ \t])")


def unfolded(value: bytes) -> bytes:
    """A value on one line (RFC 5322 2.2.3), blanks around it gone."""
    return _FOLD.sub(b"", value).strip() if b"\r\n" in value else value.strip()


class Field(NamedTuple):
    """A header field as it stands: nothing is decoded or unfolded."""

    name: bytes
    value: bytes
    """What stands behind the colon, folds and leading blank included, without the last CRLF."""
    line: int
    """Its first line in the header section, from 1; of a message's own header that is the line of the message."""
    offset: int
    """Of its first octet in the message."""
    value_offset: int
    """Of the octet behind the colon in the message."""

    @property
    def unfolded(self) -> bytes:
        """The value on one line, blanks around it gone."""
        return unfolded(self.value)


class Stray(NamedTuple):
    """A line of the header section that is no field, or has a blank before its colon."""

    text: bytes
    line: int
    offset: int


# RFC 5322 2.2: field-name = 1*ftext, printable US-ASCII but the colon. 4.5.8 (obsolete) lets blanks stand before it.
_FIELD = re.compile(rb"([!-9;-~]+)([ \t]*):")
_BLANK: Final = (b" ", b"\t")


class Fields:
    """The fields of a header section. `offset` is where its first octet stands in the message."""

    def __init__(self, header: bytes, offset: int = 0) -> None:
        self.header: Final = header
        """The section without the CRLF of its last line."""
        self.fields: Final[list[Field]] = []
        self.by_name: Final[dict[bytes, list[Field]]] = {}
        """The fields by their name in lower case, each list from top to bottom."""
        self.strays: Final[list[Stray]] = []
        self.is_cut = False
        """Whether there are more lines than are looked at."""
        self._split(offset)

    def _split(self, offset: int) -> None:
        lines = self.header.split(b"\r\n", LINES_LIMIT) if self.header else []
        if len(lines) > LINES_LIMIT:
            self.is_cut = True
            lines.pop()
        count = len(lines)
        number = 0
        while number < count:
            first, start = number, offset
            text = lines[number]
            offset += len(text) + 2
            number += 1
            if number < count and lines[number][:1] in _BLANK:
                while number < count and lines[number][:1] in _BLANK:
                    offset += len(lines[number]) + 2
                    number += 1
                text = b"\r\n".join(lines[first:number])
            match = _FIELD.match(text)
            if match is None:
                self.strays.append(Stray(text, first + 1, start))
                continue
            name, blank = match.groups()
            if blank:
                self.strays.append(Stray(text, first + 1, start))
            colon = match.end()
            field = Field(name, text[colon:], first + 1, start, start + colon)
            self.fields.append(field)
            self.by_name.setdefault(name.lower(), []).append(field)

    def all(self, name: bytes) -> Sequence[Field]:
        """The fields of a name (lower case), from top to bottom."""
        return self.by_name.get(name, ())

    def first(self, name: bytes) -> Field | None:
        """The topmost field of a name (lower case)."""
        found = self.by_name.get(name)
        return found[0] if found else None
