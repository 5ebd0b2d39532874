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
_LINE_END = re.compile(rb"\r\n(?![ \t])")
"""What ends a field, folds and all."""
_NO_MARKS: Final = bytes(set(range(256)) - set(b"\r\n\0"))

_LOWER: Final[dict[bytes, bytes]] = {}
"""Names that were seen, as they stand and in lower case: there are few, and each is a field-name."""
_MAX_NAMES: Final = 2048
_MAX_NAME: Final = 80
"""Octets of a name that is remembered."""
_new = tuple.__new__
"""Makes a Field in a third of the time that its own constructor takes."""


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
        self.is_tidy = True
        """Whether no octet is NUL, and every CR and LF is part of a CRLF."""
        self.longest = 0
        """Octets of the longest field, name and folds and all; strays count too."""
        if header:
            self._split(offset)

    def _split(self, offset: int) -> None:
        header = self.header
        if len(header) > LINES_LIMIT and header.count(b"\r\n") >= LINES_LIMIT:
            self.is_cut = True
            header = b"\r\n".join(header.split(b"\r\n", LINES_LIMIT)[:-1])
        fields, by_name = self.fields, self.by_name
        line = 1
        texts = _LINE_END.split(header)
        self.longest = max(map(len, texts))
        for text in texts:
            colon = text.find(b":")
            name = text[:colon] if colon > 0 else b""
            lower = _LOWER.get(name)
            if lower is None:
                name, lower = self._named(text, line, offset)
            if lower:
                field: Field = _new(Field, (name, text[colon + 1 :], line, offset, offset + colon + 1))
                fields.append(field)
                if lower in by_name:
                    by_name[lower].append(field)
                else:
                    by_name[lower] = [field]
            offset += len(text) + 2
            line += 1 + text.count(b"\r\n")
        self.is_tidy = header.translate(None, _NO_MARKS) == b"\r\n" * (line - 2) and not self.is_cut

    def _named(self, text: bytes, line: int, offset: int) -> tuple[bytes, bytes]:
        """The name of a field that was not seen before, as it stands and in lower case; both are b"" for a stray."""
        match = _FIELD.match(text)
        if match is None:
            self.strays.append(Stray(text, line, offset))
            return b"", b""
        name, blank = match.groups()
        lower: bytes = name.lower()
        if blank:
            self.strays.append(Stray(text, line, offset))
        elif len(name) < _MAX_NAME:
            if len(_LOWER) >= _MAX_NAMES:
                _LOWER.clear()
            _LOWER[name] = lower
        return name, lower

    def all(self, name: bytes) -> Sequence[Field]:
        """The fields of a name (lower case), from top to bottom."""
        return self.by_name.get(name, ())

    def first(self, name: bytes) -> Field | None:
        """The topmost field of a name (lower case)."""
        found = self.by_name.get(name)
        return found[0] if found else None
