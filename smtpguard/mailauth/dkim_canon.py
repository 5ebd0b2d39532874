"""What DKIM signs, in the form in which it is signed: header fields and the body (RFC 6376 3.4).

`simple` bears no change but blank lines at the end; `relaxed` bears other blanks. A body is read in pieces and given
out in pieces: a large one is never in memory twice. What takes most time is a look for blanks that would have to go; a
piece that has none is passed on as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Final, NamedTuple

from smtpguard.mail.fields import Field
from smtpguard.mail.message import Message
from smtpguard.mail.octets import Buffer

PIECE: Final = 131_072
"""Octets of the body taken at a time: large enough that the loop costs nothing, small enough for the CPU's cache."""

_CRLF: Final = b"\r\n"
_HASHES: Final = {name: partial(getattr(hashlib, name), usedforsecurity=False) for name in ("sha256", "sha1")}


def simple_field(message: Message, field: Field) -> bytes:
    """The field as it stands, without the last CRLF (RFC 6376 3.4.1)."""
    return message.header[field.offset : field.value_offset + len(field.value)]


def relaxed_field(name: bytes, value: bytes) -> bytes:
    """Name in lower case, colon, value unfolded with single blanks and none around it (RFC 6376 3.4.2)."""
    return name.lower() + b":" + _single(value.replace(_CRLF, b"")).strip(b" ")


def relaxed_fields(fields: Iterable[tuple[bytes, Field]], *, is_tidy: bool) -> bytes:
    """Fields in relaxed form by their names in lower case, a CRLF between two; `is_tidy`: as their header section."""
    if not is_tidy:
        return _CRLF.join([relaxed_field(name, field.value) for name, field in fields])
    # all at once: what stands between two fields stands in none
    text = b"\0".join([name + b":" + field.value.strip(b" \t\r\n") for name, field in fields])
    return _single(text.replace(_CRLF, b"")).replace(b"\0", _CRLF)


class Body(NamedTuple):
    """What of the body is hashed, and how."""

    form: str
    """simple, relaxed"""
    hash: str
    """As hashlib names it."""
    length: int | None = None
    """Octets of the canonical form; None for all."""


def body_sums(message: Message, wanted: Iterable[Body]) -> dict[Body, tuple[bytes, int]]:
    """For each, the hash and the octets of the whole body in its form; the body is read once for a form."""
    if message.is_plain:
        return {body: _plain_sum(message, body) for body in wanted}
    sums: dict[Body, tuple[bytes, int]] = {}
    by_form: dict[str, list[Body]] = {}
    for body in wanted:
        by_form.setdefault(body.form, []).append(body)
    for form, bodies in by_form.items():
        begun = [(body, _HASHES[body.hash]()) for body in bodies]
        octets = 0
        for piece in canonical_body(message.raw, message.body_offset, is_relaxed=form == "relaxed"):
            for body, sum_ in begun:
                if body.length is None:
                    sum_.update(piece)
                elif octets < body.length:
                    sum_.update(piece[: body.length - octets])
            octets += len(piece)
        sums |= {body: (sum_.digest(), octets) for body, sum_ in begun}
    return sums


def _plain_sum(message: Message, body: Body) -> tuple[bytes, int]:
    """The same of a body that no form changes but at its end."""
    raw, start, end = message.raw, message.body_offset, message.size
    text = raw[max(start, end - PIECE) : end]
    while not (kept := text.rstrip(_CRLF)) and start < end:  # nothing but blank lines
        end -= len(text)
        text = raw[max(start, end - PIECE) : end]
    end -= len(text) - len(kept)
    closing = _CRLF if kept or body.form == "simple" else b""
    octets = end - start + len(closing)
    if body.length is not None and body.length < octets:
        end, closing = min(end, start + body.length), closing[: max(0, body.length - (end - start))]
    sum_ = _HASHES[body.hash]()
    for at in range(start, end, PIECE):
        sum_.update(raw[at : min(end, at + PIECE)])
    sum_.update(closing)
    return sum_.digest(), octets


def canonical_body(raw: Buffer, start: int, *, is_relaxed: bool, size: int = PIECE) -> Iterator[bytes]:
    """The body that begins at `start`, in pieces of about `size` octets (RFC 6376 3.4.3, 3.4.4).

    Held back from one piece to the next: a CR that may begin a line end, a blank before it (relaxed), and the number of
    line ends that may turn out to be blank lines at the end of the body.
    """
    held = b""
    line_ends = 0
    has_text = False
    for at in range(start, len(raw), size):
        piece = held + raw[at : at + size]
        held = b""
        if piece.endswith(b"\r"):
            piece, held = piece[:-1], b"\r"
        if is_relaxed:
            if piece.endswith((b" ", b"\t")):
                piece, held = piece.rstrip(b" \t"), b" " + held
            piece = _single(piece).replace(b" \r\n", _CRLF)
        text, ended = _split_line_ends(piece)
        if text:
            yield from _line_ends(line_ends)
            yield text
            has_text, line_ends = True, 0
        line_ends += ended
    if held.endswith(b"\r"):  # a lone one
        yield from _line_ends(line_ends)
        yield held
        has_text = True
    if has_text or not is_relaxed:
        yield _CRLF


def _single(text: bytes) -> bytes:
    """Runs of blanks as one space each."""
    if b"\t" in text:
        text = text.replace(b"\t", b" ")
    while b"  " in text:  # halves each run: as many rounds as the longest run has binary digits
        text = text.replace(b"  ", b" ")
    return text


def _split_line_ends(piece: bytes) -> tuple[bytes, int]:
    """The piece without the CRLFs at its end, and how many they were."""
    text = piece.rstrip(_CRLF)
    tail = piece[len(text) :]
    ends = len(tail) // 2
    if tail == _CRLF * ends:
        return text, ends
    marked = tail.replace(_CRLF, b"\0")  # lone CRs and LFs among them are text
    ends = len(marked) - len(marked.rstrip(b"\0"))
    return piece[: len(piece) - 2 * ends], ends


def _line_ends(number: int) -> Iterator[bytes]:
    """So many CRLFs, in pieces."""
    while number > 0:
        yield _CRLF * min(number, PIECE)
        number -= PIECE
