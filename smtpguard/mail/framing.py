r"""The end of data and what may stand before it (RFC 5321 4.1.1.4, 4.5.2; contract 1.3).

`DataScanner` is fed octets in any cut and gives them back, checked, as wire bytes: dot-stuffed, every line ended by
CRLF, no CR, LF or NUL besides. The only end of data is CRLF.CRLF. `unstuff` turns wire bytes into the message.
Pure: it stores nothing beyond four octets and says of a fault only what it is; refusing is the door's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from enum import StrEnum
from io import IncrementalNewlineDecoder
from typing import Final

END: Final = b"\r\n.\r\n"
_DOT: Final = b"\r\n."
_FIELD: Final = b"\nreceived:"
_ANY_NEWLINE = re.compile(rb"\r\n|\r|\n")


class FramingFault(StrEnum):
    """Why a message is refused by its octets alone."""

    BARE_NEWLINE = "bare_newline"  # a CR or an LF that is not part of a CRLF: smuggling (CVE-2023-51764 and kin)
    NUL = "nul"


class DataScanner:
    """One message's way from the wire.

    `fault` is the first fault found (the octets after it are still scanned for the end), `size` the octets of the
    message itself, `received` the number of `Received:` fields in its header section.
    """

    fault: FramingFault | None = None
    size = 0
    received = 0
    _tail = b"\r\n"  # a virtual CRLF before the first line: `.CRLF` at once is an empty message
    _virtual = 2  # octets at the front of the tail that nobody sent
    _begun = False
    _begin_of_line = True
    _in_header = True
    _header_tail = b"\n"

    def __init__(self, *, normalize: bool = False) -> None:
        self._normalize = normalize

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Scan the next octets: (checked wire bytes, None), or with what came after the end of data instead of None."""
        if (
            self._virtual == len(self._tail)  # no border to look across
            and data.endswith(END)
            and data[0] != 0x2E
            and data.rfind(_DOT, 0, len(data) - 3) < 0  # no line begins with a dot but the last
        ):
            self._tail = b""
            return self._check(data[:-3], has_dots=False), b""
        octets = self._tail + data
        has_dots = octets.rfind(_DOT) >= 0  # from the right is what CPython is quick at
        end = octets.find(END) if has_dots else -1
        rest: bytes | None = None
        if end >= 0:
            cut, rest = end + 2, octets[end + 5 :]
        else:
            cut = len(octets) - _held_back(octets)
        self._tail = octets[cut:] if rest is None else b""
        chunk = octets[self._virtual : cut]
        self._virtual = max(0, self._virtual - cut)
        return (self._check(chunk, has_dots=has_dots) if chunk else b""), rest

    def _check(self, chunk: bytes, *, has_dots: bool) -> bytes:
        if self._normalize:
            chunk = self._mend(chunk)
        elif self.fault is None:
            seen = IncrementalNewlineDecoder(None, translate=False)
            seen.decode(chunk.decode("latin-1"), True)  # without a decoder it takes text
            if seen.newlines not in ("\r\n", None):
                self.fault = FramingFault.BARE_NEWLINE
        if b"\0" in chunk:
            self.fault = self.fault or FramingFault.NUL
        dots = chunk.count(_DOT) if has_dots or self._normalize else 0
        dots += self._begin_of_line and chunk.startswith(b".")
        self._begin_of_line = chunk.endswith(b"\r\n")
        self._begun = True
        self.size += len(chunk) - dots
        if self._in_header:
            self._count_received(chunk)
        return chunk

    def _mend(self, chunk: bytes) -> bytes:
        """Every newline a CRLF, and stuffed anew: an `LF.LF` mended without that would end the message."""
        content = chunk.replace(b"\r\n.", b"\r\n")
        if not self._begun and content.startswith(b"."):
            content = content[1:]  # no chunk but the first begins behind a CRLF of the client's
        wire = _ANY_NEWLINE.sub(b"\r\n", content).replace(b"\r\n.", b"\r\n..")
        return b"." + wire if self._begin_of_line and wire.startswith(b".") else wire

    def _count_received(self, chunk: bytes) -> None:
        border = self._header_tail + chunk[:2]
        if b"\n\r\n" in border:  # the empty line lies across it
            self._in_header, window = False, border
        else:
            end = chunk.find(b"\n\r\n")
            self._in_header = end < 0
            window = self._header_tail + (chunk if end < 0 else chunk[: end + 1])
        self.received += window.lower().count(_FIELD)
        self._header_tail = window[1 - len(_FIELD) :]


def _held_back(octets: bytes) -> int:
    """How many octets at the end could be the beginning of the end of data."""
    if octets[-1] not in b"\r\n.":  # the common case
        return 0
    for length in (4, 3, 2, 1):
        if octets.endswith(END[:length]):
            return length
    return 0


def unstuff(wire: Iterable[bytes]) -> Iterator[bytes]:
    """The message behind dot-stuffed wire bytes, however they are cut (RFC 5321 4.5.2: one leading dot goes)."""
    begin_of_line = True
    held = b""
    for piece in wire:
        chunk = held + piece if held else piece
        # A line end at the border waits for what follows: its dot would be missed.
        cut = len(chunk) - (2 if chunk.endswith(b"\r\n") else 1 if chunk.endswith(b"\r") else 0)
        chunk, held = chunk[:cut], chunk[cut:]
        if not chunk:
            continue
        if begin_of_line and chunk.startswith(b"."):
            chunk = chunk[1:]
        begin_of_line = False
        yield chunk.replace(b"\r\n.", b"\r\n")
    if held:
        yield held
