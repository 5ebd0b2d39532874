"""Where a message's body waits for the next hop: in memory up to 256 KiB, then in an unlinked file.

The file has no name, so that nothing is left behind however we end; it is read by `pread`, so that several next hops
can take the same body at once. Octets are kept as on the wire (dot-stuffed): DATA sends them untouched, BDAT unstuffed.
Writing to the page cache is done in the loop: 64 KiB cost tens of microseconds. A full disk is `NoRoom`, never a crash.

`relay.memory` is for what is in memory: bodies that are short, and files where the spool is a tmpfs. What lies on a
disk costs none, and the disk is its bound.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import IO, Final

from smtpguard.edge.host import is_in_memory
from smtpguard.mail.framing import unstuff
from smtpguard.mail.message import HEAD_OCTETS
from smtpguard.mail.octets import Buffer

IN_MEMORY: Final = 256 * 1024
PIECE: Final = 128 * 1024
_SMALL: Final = 4096  # octets; a chunk object costs 33 more, so that drops of one or two octets are joined


class NoRoom(Exception):
    """`relay.memory` is used up, or the spool cannot be written."""


class Memory:
    """What all bodies together may hold in memory (`relay.memory`), files on a tmpfs among them, in octets."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, octets: int) -> None:
        """Reserve; NoRoom beyond the limit."""
        if self.used + octets > self.limit:
            raise NoRoom("relay.memory")
        self.used += octets

    def give(self, octets: int) -> None:
        """Return what was taken."""
        self.used -= octets


class SpooledBody:
    """A body being received, then read: flow.Body."""

    __slots__ = ("_chunks", "_file", "_held", "_is_on_disk", "_memory", "_spool_dir", "_stored", "dots", "size")

    def __init__(self, memory: Memory, spool_dir: Path | None) -> None:
        self._memory = memory
        self._spool_dir = spool_dir
        self._chunks: list[bytes] = []
        self._held = 0
        self._stored = 0
        self._file: IO[bytes] | None = None
        self._is_on_disk = False
        self.size = 0
        self.dots = False

    @property
    def head(self) -> bytes:
        """The first wire octets, at most HEAD_OCTETS, for reading header fields; OSError as `wire`."""
        if self._file is not None:
            return os.pread(self._file.fileno(), HEAD_OCTETS, 0)
        whole = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        return whole[:HEAD_OCTETS]

    def write(self, chunk: bytes) -> None:
        """Keep the next wire octets; NoRoom if they cannot be kept."""
        if self._file is None and self._held + len(chunk) <= IN_MEMORY:
            self._memory.take(len(chunk))
            self._held += len(chunk)
            if self._chunks and len(self._chunks[-1]) < _SMALL:
                self._chunks[-1] += chunk
            else:
                self._chunks.append(chunk)
            return
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._spool_dir, buffering=0)  # noqa: SIM115 (closed by close)
                self._is_on_disk = not is_in_memory(os.fstat(self._file.fileno()).st_dev)
                for kept in self._chunks:
                    self._append(kept)
                self._chunks.clear()
                if self._is_on_disk:
                    self._memory.give(self._held)
                    self._held = 0
            if not self._is_on_disk:
                self._memory.take(len(chunk))
                self._held += len(chunk)
            self._append(chunk)
        except OSError as error:
            raise NoRoom(f"spool: {error.strerror}") from error

    def _append(self, chunk: bytes) -> None:
        assert self._file is not None
        view = memoryview(chunk)
        while view:
            written = self._file.write(view)
            view = view[written or 0 :]
        self._stored += len(chunk)

    def complete(self, size: int) -> None:
        """The end of data was seen: `size` octets of message, dots unstuffed."""
        self.size = size
        self.dots = size != (self._held if self._file is None else self._stored)

    def wire(self) -> Iterator[bytes]:
        """The dot-stuffed octets, in chunks."""
        if self._file is None:
            yield from self._chunks
            return
        descriptor, offset = self._file.fileno(), 0
        while offset < self._stored:
            piece = os.pread(descriptor, PIECE, offset)
            if not piece:
                raise OSError("the spool file is shorter than what was written to it")
            offset += len(piece)
            yield piece

    def content(self) -> Iterator[bytes]:
        """The message's own octets, `size` in all, in chunks."""
        return unstuff(self.wire()) if self.dots else self.wire()

    def raw(self) -> Buffer:
        """The message's own octets in one piece: bytes, or the file mapped into memory.

        One with stuffed dots that lies in a file is written out unstuffed for that, into another file without a name.
        OSError where that fails.
        """
        if self._file is None:
            return b"".join(self.content())
        if not self.dots:
            return mmap(self._file.fileno(), 0, access=ACCESS_READ)
        with tempfile.TemporaryFile(dir=self._spool_dir) as unstuffed:
            unstuffed.writelines(self.content())
            unstuffed.flush()
            return mmap(unstuffed.fileno(), 0, access=ACCESS_READ)

    def close(self) -> None:
        """Give memory and file back; may be called twice."""
        self._memory.give(self._held)
        self._held = 0
        self._chunks = []
        if self._file is not None:
            self._file.close()
            self._file = None
