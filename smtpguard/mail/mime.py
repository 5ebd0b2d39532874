"""A message's MIME outline: which parts there are and where their octets lie (RFC 2045-2049, 2183, 2231, 6532).

The outline is made of offsets: no body is copied or decoded until `content` or `text` asks, and then within a limit.
Multiparts are cut by their own delimiter, the outermost first, so that an outer delimiter ends what an inner part left
open (RFC 2046 5.1.2). Whatever the octets are there is an outline, in linear time: what is malformed or beyond the
bounds below is a `Fault` of the part, never an exception.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from smtpguard.mail.fields import Field, Fields
from smtpguard.mail.header import Structured, codec_of, decoded, lenient_base64, structured, to_text
from smtpguard.mail.octets import Buffer

if TYPE_CHECKING:
    from smtpguard.mail.message import Message

MAX_DEPTH: Final = 20
MAX_PARTS: Final = 500
MAX_PART_HEADER: Final = 64 << 10
MAX_HEADERS: Final = 256 << 10
"""Octets of the headers of all parts together."""
MAX_DELIMITERS: Final = 20_000
"""Lines that look like a delimiter; of real ones there are no more than parts."""
MAX_CONTENT: Final = 1 << 20


class FaultKind(StrEnum):
    """What a part can have wrong. An outline decodes nothing: whether Base64 is any is for who looks at it."""

    NO_VERSION = "no MIME-Version"
    TYPE = "content type"
    DUPLICATE = "duplicate field"
    BOUNDARY = "no boundary"
    ABSENT = "boundary absent"
    OPEN = "unterminated"
    ENCODING = "transfer encoding"
    BASE64 = "Base64"
    CHARSET = "charset"
    HEADER = "header too long"
    STRAY = "stray line"
    DEPTH = "depth"
    PARTS = "parts"


class Fault(NamedTuple):
    """Something malformed or beyond a bound: its kind, in words what, and where in the message."""

    kind: FaultKind
    text: str
    offset: int


@dataclass(slots=True, eq=False)
class Part:
    """A part of a message, or the message itself, with its body between the octets `start` and `end` of `raw`.

    A `message/rfc822` has one part, the message in it. `depth` is 0 for the root.
    """

    raw: Buffer = field(repr=False)
    header: Fields = field(repr=False)
    content_type: str
    """`text/html`: lower case; `text/plain` where there is none, or none that can be read (RFC 2045 5.2)."""
    params: Mapping[str, str]
    encoding: str
    """`7bit`, `8bit`, `binary`, `quoted-printable`, `base64`, or what the part says instead; lower case."""
    start: int
    end: int
    depth: int
    parts: tuple[Part, ...] = ()
    faults: tuple[Fault, ...] = ()

    @property
    def charset(self) -> str:
        """As the part says it, lower case; `us-ascii` where it says none (RFC 2045 5.2)."""
        return self.params.get("charset", "").strip().lower() or "us-ascii"

    @property
    def disposition(self) -> str:
        """`inline`, `attachment`, or "" where nothing is said; all others are attachments (RFC 2183)."""
        said = self._disposition.value
        return said if said in ("", "inline") else "attachment"

    @property
    def filename(self) -> str:
        """The name that it is to be saved by, decoded (RFC 2231, and RFC 2047 as many write it); "" for none."""
        said = self._disposition.params.get("filename") or self.params.get("name", "")
        return decoded(said.encode("utf-8", "replace")) if "=?" in said else said

    @property
    def _disposition(self) -> Structured:
        said = self.header.first(b"content-disposition")
        return structured(said.value) if said is not None else _NO_DISPOSITION

    @property
    def is_message(self) -> bool:
        """Whether its body is another message."""
        return self.content_type in _MESSAGES

    @property
    def is_multipart(self) -> bool:
        """Whether its body is other parts."""
        return self.content_type.startswith("multipart/")

    def content(self, limit: int = MAX_CONTENT) -> bytes:
        """The first `limit` octets of the body, decoded as its transfer encoding says; what is broken is left out."""
        if self.encoding == "base64":
            return lenient_base64(self.raw[self.start : min(self.end, self.start + 2 * limit)])[:limit]
        if self.encoding == "quoted-printable":
            return binascii.a2b_qp(self.raw[self.start : min(self.end, self.start + 4 * limit)])[:limit]
        return self.raw[self.start : min(self.end, self.start + limit)]

    def text(self, limit: int = MAX_CONTENT) -> str:
        """`content` in its charset, with U+FFFD where it is not; Latin-1 where the charset is unknown."""
        return to_text(self.content(limit), self.params.get("charset") or "us-ascii")


_NO_DISPOSITION: Final = Structured("", {})


def walk(part: Part) -> Iterator[Part]:
    """The part and all below it, in the order of their octets."""
    yield part
    for below in part.parts:
        yield from walk(below)


def outline(message: Message) -> Part:
    """The message as a part, with the parts below it."""
    return _Outline(message.raw).root(message)


# RFC 2045 6.4: multiparts and messages are encoded in their parts, not as a whole
_IDENTITY: Final = frozenset({"7bit", "8bit", "binary"})
_ENCODINGS: Final = _IDENTITY | {"quoted-printable", "base64"}
_MESSAGES: Final = ("message/rfc822", "message/global")


class _Outline:
    """Counts the parts and delimiters of one message."""

    def __init__(self, raw: Buffer) -> None:
        self._raw = raw
        self._parts_left = MAX_PARTS
        self._delimiters_left = MAX_DELIMITERS
        self._headers_left = MAX_HEADERS

    def root(self, message: Message) -> Part:
        part = self._part(message, message.body_offset, message.size, "text/plain", 0)
        said = next(filter(None, map(message.first, _NEEDS_VERSION)), None)
        if said is not None and message.first(b"mime-version") is None:
            part.faults += (Fault(FaultKind.NO_VERSION, "there is no MIME-Version: field", said.offset),)
        return part

    def _below(self, start: int, end: int, default: str, depth: int) -> Part:
        """The part between two offsets, its header first."""
        raw = self._raw
        reach = min(end, start + MAX_PART_HEADER, start + self._headers_left)
        if raw[start : min(end, start + 2)] == b"\r\n":
            header, body = b"", start + 2
        elif (gap := raw.find(b"\r\n\r\n", start, reach)) >= 0:
            header, body = raw[start:gap], gap + 4
        else:
            header, body = raw[start:reach].removesuffix(b"\r\n"), reach
        self._headers_left -= len(header)
        part = self._part(Fields(header, start), body, end, default, depth)
        if body == reach < end:
            part.faults += (
                Fault(FaultKind.HEADER, f"the header of a part is longer than {reach - start} octets", start),
            )
        elif part.header.strays:
            text = "a line in the header of a part is not a field (is the empty line below the header missing?)"
            part.faults += (Fault(FaultKind.STRAY, text, part.header.strays[0].offset),)
        return part

    def _part(self, header: Fields, start: int, end: int, default: str, depth: int) -> Part:
        self._parts_left -= 1
        faults: list[Fault] = []
        content_type, params = default, _NO_PARAMS
        typed, encoded = map(header.first, _NEEDS_VERSION)
        if typed is not None:
            content_type, params = structured(typed.value)
            kind, slash, subtype = content_type.partition("/")
            if not (kind and slash and subtype) or " " in content_type:
                text = f"Content-Type {_quoted(content_type)} is not a type and a subtype"
                faults.append(Fault(FaultKind.TYPE, text, typed.offset))
                content_type, params = "text/plain", _NO_PARAMS
        part = Part(self._raw, header, content_type, params, "7bit", start, end, depth)
        if encoded is not None:
            part.encoding = structured(encoded.value).value
            if part.encoding not in _ENCODINGS:
                text = f"Content-Transfer-Encoding {_quoted(part.encoding)} is unknown"
                faults.append(Fault(FaultKind.ENCODING, text, encoded.offset))
        for name in _NEEDS_VERSION:
            if len(same := header.all(name)) > 1:
                again = same[1]
                faults.append(
                    Fault(FaultKind.DUPLICATE, f"there is a second {again.name.decode()}: field", again.offset)
                )
        if content_type.startswith("text/"):
            if "charset" in params and not codec_of(part.charset) and typed is not None:
                text = f"the charset {_quoted(part.charset)} is unknown"
                faults.append(Fault(FaultKind.CHARSET, text, typed.offset))
        elif part.is_multipart or part.is_message:
            self._descend(part, typed, encoded, faults)
        part.faults = tuple(faults)
        return part

    def _descend(self, part: Part, typed: Field | None, encoded: Field | None, faults: list[Fault]) -> None:
        """Fill in what is below a multipart or a message within a message."""
        at = typed.offset if typed is not None else part.start
        if encoded is not None and part.encoding in _ENCODINGS - _IDENTITY and part.content_type != "message/global":
            text = f"{_quoted(part.content_type)} may not be {part.encoding} as a whole: its parts are encoded"
            faults.append(Fault(FaultKind.ENCODING, text, encoded.offset))
        if part.encoding not in _IDENTITY and not part.is_multipart:  # a multipart is read as it stands, as all do
            return
        if part.depth >= MAX_DEPTH:
            faults.append(Fault(FaultKind.DEPTH, f"parts are nested more than {MAX_DEPTH} deep", at))
            return
        if part.is_multipart:
            default = "message/rfc822" if part.content_type == "multipart/digest" else "text/plain"
            pieces: Sequence[tuple[int, int]] = self._pieces(part, at, faults)
        else:
            default = "text/plain"
            pieces = [(part.start, part.end)] if part.start < part.end else []
        below: list[Part] = []
        for start, end in pieces:
            if self._parts_left <= 0:
                faults.append(Fault(FaultKind.PARTS, f"there are more than {MAX_PARTS} parts", start))
                break
            below.append(self._below(start, end, default, part.depth + 1))
        part.parts = tuple(below)

    def _pieces(self, part: Part, at: int, faults: list[Fault]) -> list[tuple[int, int]]:
        """Where each part of a multipart begins and ends (RFC 2046 5.1.1)."""
        boundary = part.params.get("boundary", "")
        if not boundary:
            faults.append(Fault(FaultKind.BOUNDARY, "a multipart has no boundary parameter", at))
            return []
        raw, end = self._raw, part.end
        delimiter = b"--" + boundary.encode("utf-8", "replace")
        pieces: list[tuple[int, int]] = []
        begin = -1
        found = raw.find(delimiter, part.start, end)
        while found >= 0:
            if self._delimiters_left <= 0:
                faults.append(Fault(FaultKind.PARTS, f"more than {MAX_DELIMITERS} lines are like a delimiter", found))
                break
            if len(pieces) > self._parts_left:  # more than will be made
                break
            self._delimiters_left -= 1
            behind = found + len(delimiter)
            if found == part.start or raw[found - 1 : found] == b"\n":
                # only blanks may stand behind a delimiter: it may begin like a longer one
                line_end = raw.find(b"\n", behind, min(end, behind + 100))
                rest = raw[behind : end if line_end < 0 else line_end][:100].rstrip(b" \t\r")
                if rest in (b"", b"--"):
                    if begin >= 0:  # the CRLF before a delimiter is the delimiter's
                        pieces.append((begin, max(begin, found - 2)))
                    if rest:
                        return pieces
                    begin = end if line_end < 0 else line_end + 1
                    behind = begin
            found = raw.find(delimiter, behind, end)
        else:
            if begin >= 0:
                text = f"the closing delimiter of the boundary {_quoted(boundary)} is missing"
                faults.append(Fault(FaultKind.OPEN, text, at))
            else:
                text = f"the boundary {_quoted(boundary)} does not occur in the body"
                faults.append(Fault(FaultKind.ABSENT, text, at))
        return [*pieces, (begin, end)] if begin >= 0 else pieces


def _quoted(text: str) -> str:
    return ascii(text[:60])


_NO_PARAMS: Final[Mapping[str, str]] = {}
_NEEDS_VERSION: Final = (b"content-type", b"content-transfer-encoding")  # RFC 2045 4
