"""A message as notices read it: its MIME outline (mail/mime.py), each part with its header as a dictionary.

    message = parse(octets)                     # of whatever line ends, within bounds; raises nothing
    message.type, message.header.get("subject", ""), message.text(), [part.type for part in message.walk()]

Bounces are odder than other mail, so that four things are more lenient here than there: line feeds alone end lines, a
text without a charset is UTF-8 if it can be, a message within a transfer encoding is looked into, and a date may lack
its zone. A DSN stands before the message it returns, so what is cut off is what nobody asks for.

Also here: `messages`, which cuts an mbox into its messages as it reads.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Final

from smtpguard.mail import mime
from smtpguard.mail.fields import Fields
from smtpguard.mail.header import codec_of
from smtpguard.mail.message import Message

MAX_OCTETS: Final = 1 << 20
MAX_TEXT: Final = 64 << 10
"""Octets of a text part that are read; the longest human part of a DSN seen has 12,000."""
MAX_HEADER: Final = 64 << 10
"""Octets of a message's own header that are read, as of a part's (mail/mime.py)."""
MAX_ENCODED: Final = 4
"""Messages within a transfer encoding that are looked into, of all there are in one message."""

Header = Mapping[str, str]
"""Names in lower case; the first of a name; folded lines joined by a line feed. "" is never a value."""


@dataclass(frozen=True, eq=False)
class Part:
    """A message or a part of one: its type in lower case, and the parts of it."""

    type: str
    outline: mime.Part
    parts: tuple[Part, ...] = ()

    @cached_property
    def header(self) -> Header:
        """Its header fields; made when they are asked for, as those of few parts are."""
        return _by_name(self.outline.header)

    def walk(self) -> Iterator[Part]:
        """This part and all below it, in order."""
        yield self
        for part in self.parts:
            yield from part.walk()

    @property
    def body(self) -> bytes:
        """Its octets as they stand."""
        return self.outline.raw[self.outline.start : self.outline.end]

    def text(self) -> str:
        """The body decoded; HTML without its tags. Line ends are line feeds."""
        octets = self.outline.content(MAX_TEXT)
        text = _decoded(octets, self.outline.params.get("charset", "")).replace("\r\n", "\n")
        return _plain(text) if self.type == "text/html" else text


def parse(octets: bytes) -> Part:
    """The tree of a message."""
    return _Reader().read(_outline(octets[:MAX_OCTETS]))


def _outline(octets: bytes) -> mime.Part:
    octets = _with_crlf(octets)
    if (end := octets.find(b"\r\n\r\n")) > MAX_HEADER or (end < 0 and len(octets) > MAX_HEADER):
        last = octets.rfind(b"\r\n", 0, MAX_HEADER)
        octets = octets[: last if last >= 0 else MAX_HEADER] + (octets[end:] if end >= 0 else b"")
    return Message(octets).root


class _Reader:
    """Makes the tree of one message; counts the encoded messages in it."""

    def __init__(self) -> None:
        self._encoded_left = MAX_ENCODED

    def read(self, outline: mime.Part) -> Part:
        """The part, and what is below it."""
        below: Iterable[mime.Part] = outline.parts
        is_encoded = outline.is_message and not outline.parts and outline.encoding in ("base64", "quoted-printable")
        if is_encoded and self._encoded_left > 0:
            self._encoded_left -= 1
            below = (_outline(outline.content(MAX_OCTETS)),)
        return Part(outline.content_type, outline, tuple(map(self.read, below)))


def _with_crlf(octets: bytes) -> bytes:
    return octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def fields(block: bytes) -> dict[str, str]:
    """The fields of a header section, or of a block of a delivery status (RFC 3464 2.1.1)."""
    return _by_name(Fields(_with_crlf(block)))


def _by_name(header: Fields) -> dict[str, str]:
    values = ((name, found[0].value) for name, found in header.by_name.items())
    unfolded = ((name, b"\n".join(filter(None, map(bytes.strip, value.split(b"\r\n"))))) for name, value in values)
    return {name.decode().lower(): _decoded(value, "") for name, value in unfolded if value}


def when(value: str) -> float | None:
    """Seconds since the epoch of an RFC 5322 date, or what many write for one; None for what is none."""
    try:
        return parsedate_to_datetime(" ".join(value.split())[:100]).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _decoded(octets: bytes, charset: str) -> str:
    """Text in its charset, else UTF-8, else Latin-1."""
    if codec := codec_of(charset):
        return octets.decode(codec, "replace")
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("latin-1")


_BREAKS: Final = frozenset(("br", "p", "div", "tr", "li", "table", "h1", "h2", "h3", "pre", "blockquote"))


def _plain(text: str) -> str:
    """The words of HTML: enough for a bounce, which is a page of paragraphs."""
    words: list[str] = []
    hidden = ""
    first, *pieces = text.split("<")
    words.append(first)
    for piece in pieces:
        tag, closed, rest = piece.partition(">")
        name = re.match(r"/?[a-z0-9]*", tag[:20].lower())
        word = name[0] if name is not None else ""
        if hidden:
            hidden = "" if word == f"/{hidden}" else hidden
        elif word in ("script", "style", "title"):
            hidden = word
        if hidden or not closed:
            continue
        if word.lstrip("/") in _BREAKS:
            words.append("\n")
        words.append(" ".join(rest.split()) if "\n" in rest else rest)
    return html.unescape("".join(words))


# --- mbox ------------------------------------------------------------------------------------------------------------

_FROM = re.compile(rb"From \S* {1,4}.*\d\d:\d\d")  # "From address  weekday month day hh:mm:ss year"


def messages(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The messages of an mbox (RFC 4155; mboxrd and mboxo alike), each without its From_ line, cut at MAX_OCTETS.

    None is empty. The first may have a From_ line without a date, as some MTAs put before a message that they pipe.
    """
    kept: list[bytes] = []
    size = 0
    blank = True
    seen = False
    for line in lines:
        if blank and line.startswith(b"From ") and (not seen or _FROM.match(line[:400])):
            if kept:
                yield b"".join(kept)
            kept, size, seen = [], 0, True
        elif seen and size < MAX_OCTETS:
            unquoted = line[1:] if line.startswith(b">") and line.lstrip(b">").startswith(b"From ") else line
            kept.append(unquoted)
            size += len(unquoted)
        blank = line in (b"\n", b"\r\n")
    if kept:
        yield b"".join(kept)
