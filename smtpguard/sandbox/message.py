"""The octets of a message: found on the wire, kept in memory or in a Maildir.

RFC 5321 4.5.2: only CRLF.CRLF ends DATA, and a dot that begins a line is taken away. Octets are never looked at
otherwise: what was sent is what is kept. Files are written in the event loop: this is a sandbox on a local disk, and a
thread a chunk would cost more than the write.
"""

from __future__ import annotations

import itertools
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Literal

_END: Final = b"\r\n.\r\n"
_BEGINNINGS: Final = tuple(_END[:length] for length in range(len(_END) - 1, 0, -1))
_serial = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Message:
    """One accepted message. Paths and parameters are octets as the client sent them."""

    id: str
    mail_from: bytes
    params: tuple[bytes, ...]
    rcpts: list[tuple[bytes, tuple[bytes, ...]]]
    data: bytes  # b"" where it lies in a Maildir
    size: int  # octets, dots unstuffed
    via: Literal["DATA", "BDAT"]
    tls: bool
    login: str
    helo: bytes
    connection: int  # which connection brought it, from 1
    path: Path | None = None  # where it lies in a Maildir


class Dots:
    """DATA as a stream: dot-stuffed octets in, the message's own octets out, in pieces as they come."""

    def __init__(self) -> None:
        self._carry = b"\r\n"  # DATA's own line end: a dot right after it begins a line
        self._virtual = True

    def feed(self, octets: bytes) -> tuple[bytes, bytes | None]:
        """(the message's octets, None), or at the end of data (its last octets, what came after the end)."""
        held = self._carry + octets
        end = held.find(_END)
        if end >= 0:
            return self._plain(held[: end + 2]), held[end + len(_END) :]
        self._carry = next((part for part in _BEGINNINGS if held.endswith(part)), b"")
        piece = held[: len(held) - len(self._carry)]
        return (self._plain(piece) if piece else b""), None

    def _plain(self, stuffed: bytes) -> bytes:
        # No piece ends within CRLF-dot, so that each occurrence is seen whole, and once.
        plain = stuffed.replace(b"\r\n.", b"\r\n") if b"\r\n." in stuffed else stuffed
        if self._virtual:
            self._virtual = False
            return plain[2:]
        return plain


class Spool:
    """Where a message's octets go while they come: a file in a Maildir's `tmp`, memory, or nowhere but the count.

    Beyond `limit` octets (0: none) nothing more is kept; `too_large` says so.
    """

    def __init__(self, maildir: Path | None, *, keep: bool, limit: int) -> None:
        self.size = 0
        self.too_large = False
        self._limit = limit
        self._pieces: list[bytes] | None = [] if keep and maildir is None else None
        self._maildir = maildir
        self._file: BinaryIO | None = None
        self._name = ""
        if maildir is not None:
            self._name = f"{int(time.time())}.P{os.getpid()}Q{next(_serial)}"
            self._file = open(maildir / "tmp" / self._name, "xb", buffering=0)  # noqa: SIM115 - closed by drop, keep

    def write(self, octets: bytes) -> None:
        """Add octets. OSError where the disk says so."""
        self.size += len(octets)
        if self._limit and self.size > self._limit:
            self.too_large = True
            self.drop()
        elif self._file is not None:
            view = memoryview(octets)
            while view:
                view = view[self._file.write(view) or 0 :]
        elif self._pieces is not None:
            self._pieces.append(octets)

    def keep(self, label: str) -> tuple[bytes, Path | None]:
        """The message's octets and no path, or no octets and its path in the Maildir's `new`."""
        if self._file is None or self._maildir is None:
            data = b"".join(self._pieces or ())
            self._pieces = None
            return data, None
        self._file.close()
        self._file = None
        path = self._maildir / "new" / f"{self._name}.{label}"
        os.rename(self._maildir / "tmp" / self._name, path)
        return b"", path

    def drop(self) -> None:
        """Give memory or file back; nothing happens after `keep`."""
        self._pieces = None
        if self._file is not None and self._maildir is not None:
            self._file.close()
            self._file = None
            (self._maildir / "tmp" / self._name).unlink(missing_ok=True)


def make_maildir(path: Path) -> None:
    """Make a Maildir's folders where they are missing. OSError where that cannot be."""
    for name in ("tmp", "new", "cur"):
        (path / name).mkdir(parents=True, exist_ok=True)
