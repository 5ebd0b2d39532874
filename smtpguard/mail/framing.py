r"""The end of data and what may stand before it (RFC 5321 4.1.1.4, 4.5.2; contract 1.3).

`DataScanner` is fed octets in any cut and gives them back, checked, as wire bytes: dot-stuffed, every line ended by
CRLF, no CR, LF or NUL besides. The only end of data is CRLF.CRLF. `unstuff` turns wire bytes into the message.
Pure: it stores nothing beyond four octets and says of a fault only what it is; refusing is the door's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final

END: Final = b"\r\n.\r\n"
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

    __slots__ = (
        "_begin_of_line",
        "_begun",
        "_header_tail",
        "_in_header",
        "_normalize",
        "_tail",
        "_virtual",
        "fault",
        "received",
        "size",
    )

    def __init__(self, *, normalize: bool = False) -> None:
        self.fault: FramingFault | None = None
        self.size = 0
        self.received = 0
        self._normalize = normalize
        self._tail = b"\r\n"  # a virtual CRLF before the first line: `.CRLF` at once is an empty message
        self._virtual = 2  # octets at the front of the tail that nobody sent
        self._begun = False
        self._begin_of_line = True
        self._in_header = True
        self._header_tail = b"\n"

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Scan the next octets: (checked wire bytes, None), or with what came after the end of data instead of None."""
        tail = self._tail
        octets = tail + data
        end = _first_end(octets)
        rest: bytes | None = None
        if end >= 0:
            cut, rest = end + 2, octets[end + 5 :]
        else:
            cut = len(octets) - _held_back(octets)
        self._tail = octets[cut:] if rest is None else b""
        chunk = octets[self._virtual : cut]
        self._virtual = max(0, self._virtual - cut)
        return (self._check(chunk) if chunk else b""), rest

    def _check(self, chunk: bytes) -> bytes:
        if self._normalize:
            chunk = self._mend(chunk)
        else:
            # Each end of a line takes two octets only where all are CRLF; in half the time that counting them takes.
            lines = chunk.splitlines()
            ends = len(lines) - (chunk[-1] not in b"\r\n")
            if len(chunk) - len(b"".join(lines)) != 2 * ends:
                self.fault = self.fault or FramingFault.BARE_NEWLINE
        if b"\0" in chunk:
            self.fault = self.fault or FramingFault.NUL
        dots = chunk.count(b"\r\n.") if chunk.rfind(b"\r\n.") >= 0 else 0  # mostly there is none
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
        window = self._header_tail + chunk
        end = window.find(b"\n\r\n")
        if end >= 0:
            self._in_header = False
            window = window[: end + 1]
        self.received += window.lower().count(_FIELD)
        self._header_tail = window[1 - len(_FIELD) :]


def _first_end(octets: bytes) -> int:
    """`octets.find(END)`, in a third of the time: searching from the right is what CPython is quick at."""
    last = octets.rfind(END)
    return last if last < 0 or octets.rfind(END, 0, last + len(END) - 1) < 0 else octets.find(END)


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
