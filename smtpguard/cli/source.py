"""What `explain`, `rules` and `ingest` read: files, folders and standard input, their kind found by looking.

A source is looked at (64 KiB, unpacked if it is gzip) and then read once, line by line: a log of gigabytes takes no
memory. `Unreadable` is the one error: what, and why.

| kind | is | gives |
| --- | --- | --- |
| message | one message (`.eml`) | its notices |
| mbox | a line "From ..." first | those of each message |
| folder | a Maildir (cur, new), or any folder of files | those of each file |
| log | lines with a date first, JSON of ours, an Exchange log | those of each line |
| replies | a reply a line, or {"reply", "next_hop", "verb"} | one a reply |
| text | anything else | one: the reply in it; none where a file has no code, or is no text |
"""

from __future__ import annotations

import gzip
import io
import json
import logging
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final, Literal

from smtpguard.classify.notice import Action, Notice, mime, read_log, read_message, said, verb_of
from smtpguard.mail.reply import Verb

Kind = Literal["message", "mbox", "folder", "log", "replies", "text"]
Tick = Callable[[int], None]
"""Told how many octets of the files were read so far."""

HEAD: Final = 64 << 10
MAX_LINE: Final = 64 << 10
TICK_EVERY: Final = 1000

logging.getLogger("flufl.bounce").disabled = True  # it tells the terminal of each detector that stumbles


class Unreadable(Exception):
    """A source that cannot be read; the text names it and says why."""


class Source:
    """One file, folder or stream; `kind` is known from the start. To be used in a `with`."""

    def __init__(self, name: str, stream: BinaryIO | None = None, tick: Tick | None = None) -> None:
        """`stream`: what to read instead of the file `name` ("-" for standard input)."""
        self.name = name
        self._tick = tick
        self._raw: BinaryIO | None = None
        self._is_given = stream is not None
        if stream is None and Path(name).is_dir():
            self.kind: Kind = "folder"
            return
        try:
            self._raw = stream if stream is not None else Path(name).open("rb")  # noqa: SIM115 - __exit__ closes it
            self._head, self._rest = _unpacked(self._raw)
        except (OSError, EOFError, zlib.error) as error:
            self.close()
            raise _unreadable(name, error) from None
        self.kind = _kind(self._head)

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; a stream that was given stays open."""
        if self._raw is not None and not self._is_given:
            self._raw.close()

    def notices(self, today: datetime, *, host: str = "", verb: Verb | None = None) -> Iterator[Notice]:
        """All notices, in order. `host` and `verb` are taken for replies that do not say their own."""
        try:
            match self.kind:
                case "folder":
                    for name in _files(Path(self.name)):
                        with Source(name) as source:
                            yield from source.notices(today, host=host, verb=verb)
                case "message":
                    yield from read_message(self.octets())
                case "mbox":
                    for octets in mime.messages(self.lines()):
                        yield from read_message(octets)
                case "log":
                    yield from read_log(self.lines(), today)
                case "replies":
                    for text in _replies(self.lines()):
                        yield _of_reply(text, host, verb)
                case "text":
                    yield from self._text(self.octets(), host, verb)
        except (OSError, EOFError, zlib.error) as error:
            raise _unreadable(self.name, error) from None

    def messages(self) -> Iterator[bytes]:
        """Each message of a folder, an mbox or a message; of nothing else."""
        try:
            match self.kind:
                case "folder":
                    for name in _files(Path(self.name)):
                        with Source(name) as source:
                            yield from source.messages()
                case "message":
                    yield self.octets()
                case "mbox":
                    yield from mime.messages(self.lines())
        except (OSError, EOFError, zlib.error) as error:
            raise _unreadable(self.name, error) from None

    def _text(self, octets: bytes, host: str, verb: Verb | None) -> Iterator[Notice]:
        """What is typed into a pipe is taken at its word; a file of any kind may be here by mistake."""
        notice = _of_text(octets.decode("utf-8", "replace"), host, verb)
        is_coded = notice.has_code or (notice.reply is not None and notice.reply.enhanced is not None)
        if b"\0" not in octets and (is_coded or self._is_given):
            yield notice

    def octets(self) -> bytes:
        """As much as is looked at of one message."""
        missing = max(0, mime.MAX_OCTETS - len(self._head))
        return self._head + self._rest.read(missing)

    def lines(self) -> Iterator[bytes]:
        """Line by line; a longer one than MAX_LINE comes in pieces."""
        number = 0
        # the head may end within a line
        for stream in (io.BytesIO(self._head + self._rest.readline(MAX_LINE)), self._rest):
            while line := stream.readline(MAX_LINE):
                number += 1
                if number % TICK_EVERY == 0 and self._tick is not None and self._raw is not None:
                    self._tick(self._raw.tell())
                yield line


def size_of(names: Sequence[str]) -> int:
    """Octets of the files among the names."""
    return sum(path.stat().st_size for path in map(Path, names) if path.is_file())


def _unreadable(name: str, error: BaseException) -> Unreadable:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or "cannot be read"
    return Unreadable(f"{'standard input' if name == '-' else name}: {reason}")


class _Rest(io.RawIOBase):
    """What was read already, then the stream it was read from."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head = head
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        octets = self._head[: len(buffer)] or self._stream.read(len(buffer))
        self._head = self._head[len(octets) :]
        buffer[: len(octets)] = octets
        return len(octets)


def _unpacked(stream: BinaryIO) -> tuple[bytes, BinaryIO]:
    head = stream.read(HEAD)
    if head.startswith(b"\x1f\x8b"):  # RFC 1952 2.3.1
        plain = gzip.GzipFile(fileobj=io.BufferedReader(_Rest(head, stream)))
        return plain.read(HEAD), plain  # type: ignore[return-value]
    return head, stream


def _files(folder: Path) -> Iterator[str]:
    """The messages of a Maildir, or the files of a folder; hidden ones are no mail."""
    inner = [folder / name for name in ("cur", "new") if (folder / name).is_dir()]
    for place in inner or [folder]:
        for path in sorted(place.iterdir()):
            if path.is_file() and not path.name.startswith("."):
                yield str(path)


# --- what it is ------------------------------------------------------------------------------------------------------

_STAMP = re.compile(rb"(?:<\d{1,3}>1? ?)?(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)")
_EXCHANGE = re.compile(rb"(?:\xef\xbb\xbf)?#(?:Software|Version|Log-type|Fields):", re.I)
_CODE = re.compile(rb"[45]\d\d(?:[ -]|$)")
_MAIL_FIELDS: Final = frozenset(
    ("from", "to", "subject", "date", "message-id", "received", "return-path", "mime-version", "content-type")
)


def _kind(head: bytes) -> Kind:
    if head.startswith(b"From "):
        return "mbox"
    if _EXCHANGE.match(head):
        return "log"
    # before the log: the body of a message may hold the lines of one, while no line of a log begins with such a field
    if len(mime.parse(head).header.keys() & _MAIL_FIELDS) >= 2:
        return "message"
    lines = [line for line in head.splitlines()[:200] if line.strip()]
    if any(map(_STAMP.match, lines[:20])) or any(b'"event.action"' in line for line in lines if line[:1] == b"{"):
        return "log"
    if lines and lines[0][:1] == b"{":
        return "replies" if any(b'"reply"' in line for line in lines) else "text"
    ends = [line for line in lines if _CODE.match(line) and line[3:4] != b"-"]
    return "replies" if len(ends) > 1 and len(ends) * 2 > len(lines) else "text"


# --- replies alone ---------------------------------------------------------------------------------------------------


def _replies(lines: Iterable[bytes]) -> Iterator[str]:
    """Reply by reply; lines with a dash behind the code belong to the next (RFC 5321 4.2.1)."""
    kept: list[str] = []
    for line in lines:
        text = line.decode("utf-8", "replace").strip()
        if not text:
            continue
        kept.append(text)
        if text[:3].isdigit() and text[3:4] == "-" and len(kept) < 100:
            continue
        yield "\n".join(kept)
        kept = []
    if kept:
        yield "\n".join(kept)


def _of_reply(text: str, host: str, verb: Verb | None) -> Notice:
    if text.startswith("{"):
        try:
            given = json.loads(text)
        except (ValueError, RecursionError):
            given = None
        if isinstance(given, dict) and isinstance(given.get("reply"), str):
            text = given["reply"]
            host = str(given.get("next_hop") or host)
            verb = verb_of(str(given.get("verb") or "")) or verb
    return _of_text(text, host, verb)


def _of_text(text: str, host: str, verb: Verb | None) -> Notice:
    told = said(text, host=host, verb=verb)
    action: Action = "delivered" if told.reply.klass < 4 else "delayed" if told.reply.klass == 4 else "failed"
    return Notice("log", action, reply=told.reply, host=told.host, verb=told.verb, id=told.id, has_code=told.has_code)
