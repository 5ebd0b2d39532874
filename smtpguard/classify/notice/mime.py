"""A message taken apart as far as notices need it: RFC 2045, 2046 and 5322, from any octets, within bounds.

The standard library's parser nests as deep as a message asks; this one looks at MAX_OCTETS, goes MAX_DEPTH deep, makes
MAX_PARTS parts and takes what is malformed for text. It raises nothing and is linear. A DSN stands before the message
it returns, so what is cut off is what nobody asks for.

Also here: `messages`, which cuts an mbox into its messages as it reads.
"""

from __future__ import annotations

import binascii
import html
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

MAX_OCTETS: Final = 1 << 20
MAX_HEADER: Final = 64 << 10
MAX_TEXT: Final = 64 << 10
"""Octets of a text part that are read; the longest human part of a DSN seen has 12,000."""
MAX_DEPTH: Final = 8
MAX_PARTS: Final = 100

Fields = Mapping[str, str]
"""Names in lower case; the first of a name; folded lines joined by a line feed. "" is never a value."""


@dataclass(frozen=True, slots=True)
class Part:
    """A message or a part of one: its header fields, its type in lower case, its body or the parts of it."""

    type: str
    header: Fields
    parameters: Mapping[str, str]
    body: bytes
    parts: tuple[Part, ...] = ()

    def walk(self) -> Iterator[Part]:
        """This part and all below it, in order."""
        yield self
        for part in self.parts:
            yield from part.walk()

    def text(self) -> str:
        """The body decoded; HTML without its tags. Line ends are line feeds."""
        octets = _transferred(self.body[: 2 * MAX_TEXT], self.header.get("content-transfer-encoding", ""))
        text = _decoded(octets[:MAX_TEXT], self.parameters.get("charset", "")).replace("\r\n", "\n")
        return _plain(text) if self.type == "text/html" else text


def parse(octets: bytes) -> Part:
    """The tree of a message."""
    return _Parser().part(octets[:MAX_OCTETS], "text/plain", MAX_DEPTH)


class _Parser:
    """Counts the parts of one message."""

    def __init__(self) -> None:
        self._left = MAX_PARTS

    def part(self, octets: bytes, default: str, depth: int) -> Part:
        self._left -= 1
        header, body = split(octets)
        named = fields(header)
        kind, parameters = content_type(named.get("content-type", default))
        parts: tuple[Part, ...] = ()
        if depth > 0 and kind.startswith("multipart/") and (boundary := parameters.get("boundary")):
            below = "message/rfc822" if kind == "multipart/digest" else "text/plain"
            pieces = _pieces(body, boundary.encode("utf-8", "replace"))
            parts = tuple(self.part(piece, below, depth - 1) for piece in pieces if self._left > 0)
        elif depth > 0 and kind in ("message/rfc822", "message/global") and self._left > 0:
            inner = _transferred(body, named.get("content-transfer-encoding", ""))
            parts = (self.part(inner, "text/plain", depth - 1),)
        return Part(kind, named, parameters, body, parts)


def split(octets: bytes) -> tuple[bytes, bytes]:
    """Header section and body (RFC 5322 2.1), whatever the line ends; a part may begin with its empty line."""
    for empty, gap in ((b"\r\n", b"\r\n\r\n"), (b"\n", b"\n\n")):
        if octets.startswith(empty):
            return b"", octets[len(empty) :]
        if (at := octets.find(gap)) >= 0 and (gap == b"\n\n" or octets.find(b"\n\n", 0, at) < 0):
            return octets[:at], octets[at + len(gap) :]
    return octets, b""


_FIELD = re.compile(rb"([!-9;-~]{1,80})[ \t]*:[ \t]*(.*)")


def fields(header: bytes) -> dict[str, str]:
    """The fields of a header section, or of a block of a delivery status (RFC 3464 2.1.1)."""
    found: dict[str, list[bytes]] = {}
    current: list[bytes] = []
    for line in header[:MAX_HEADER].splitlines():
        if line[:1] in b" \t":
            current.append(line.strip())
        elif (field := _FIELD.match(line)) is not None:
            current = [field[2].strip()]
            found.setdefault(field[1].decode().lower(), current)
        else:
            current = []  # what follows folded belongs to no field
    values = ((name, b"\n".join(filter(None, lines))) for name, lines in found.items())
    return {name: _decoded(value, "") for name, value in values if value}


_PARAMETER = re.compile(r';\s*([a-z0-9*_-]{1,40})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))', re.I)


def content_type(value: str) -> tuple[str, dict[str, str]]:
    """`text/plain` and its parameters, names in lower case (RFC 2045 5.1)."""
    kind = value.partition(";")[0].strip().lower()
    # an unclosed quote is searched once: [^"\\] runs to the end, and the next ";" begins behind it or nowhere
    parameters = {m[1].lower(): m[3] or m[2] or "" for m in _PARAMETER.finditer(value[:2000])}
    return kind, parameters


def when(value: str) -> float | None:
    """Seconds since the epoch of an RFC 5322 date; None for what is none."""
    try:
        return parsedate_to_datetime(" ".join(value.split())[:100]).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _pieces(body: bytes, boundary: bytes) -> list[bytes]:
    """The parts between delimiters (RFC 2046 5.1.1); a close delimiter that is missing is the end."""
    delimiter = re.compile(rb"(?:^|\r?\n)--" + re.escape(boundary) + rb"(--)?[ \t]*(?=\r?\n|$)")
    pieces: list[bytes] = []
    begin = -1
    for found in delimiter.finditer(body):
        if begin >= 0:
            pieces.append(body[begin : found.start()])
        begin = found.end()
        if found[1] or len(pieces) >= MAX_PARTS:
            begin = -1
            break
    if begin >= 0:
        pieces.append(body[begin:])
    return [_without_first_line_end(piece) for piece in pieces]


def _without_first_line_end(piece: bytes) -> bytes:
    return piece[2:] if piece.startswith(b"\r\n") else piece[1:] if piece.startswith(b"\n") else piece


def _transferred(octets: bytes, encoding: str) -> bytes:
    """RFC 2045 6; an encoding that it does not know is none."""
    match encoding.strip().lower():
        case "quoted-printable":
            return binascii.a2b_qp(octets)
        case "base64":
            kept = re.sub(rb"[^A-Za-z0-9+/]", b"", octets)
            return binascii.a2b_base64(kept[: len(kept) // 4 * 4])  # such octets are never refused
    return octets


# Python knows "charsets" that are none of mail's, some of them slow (punycode, idna)
_CHARSET = re.compile(
    r"us-ascii|utf-?(?:7|8|16)|iso-?8859-\d{1,2}|(?:windows-|cp)\d{3,4}|koi8-[ru]|iso-2022-(?:jp|kr)"
    r"|shift[_-]?jis|euc-?(?:jp|kr)|gb(?:2312|k|18030)|big5|ks_c_5601-1987"
)


def _decoded(octets: bytes, charset: str) -> str:
    """Text in its charset, else UTF-8, else Latin-1."""
    name = charset.strip("\"' ").lower()
    if name and _CHARSET.fullmatch(name):
        try:
            return octets.decode(name, "replace")
        except LookupError:
            pass
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

    The first may have a From_ line without a date, as some MTAs put before the one message that they pipe.
    """
    kept: list[bytes] = []
    size = 0
    blank = True
    seen = False
    for line in lines:
        if blank and line.startswith(b"From ") and (not seen or _FROM.match(line[:400])):
            if seen:
                yield b"".join(kept)
            kept, size, seen = [], 0, True
        elif seen and size < MAX_OCTETS:
            unquoted = line[1:] if line.startswith(b">") and line.lstrip(b">").startswith(b"From ") else line
            kept.append(unquoted)
            size += len(unquoted)
        blank = line in (b"\n", b"\r\n")
    if seen:
        yield b"".join(kept)
