"""Where in a message something shows that was found in a decoded part: the line and octet, as nearly as it can be told.

Exact where the part's octets hold the words as they are (7bit, 8bit, most of quoted-printable); else the place where
the part's body begins.
"""

from __future__ import annotations

from typing import Final

from smtpguard.lint.evidence import TEXT_LIMIT
from smtpguard.lint.finding import Evidence
from smtpguard.mail.message import Message
from smtpguard.mail.mime import Part
from smtpguard.mail.reply import clean

_LONG: Final = 40
_SHORT: Final = 12
"""Characters to search for: quoted-printable lines end anywhere, so what is long may be broken."""


def in_part(message: Message, part: Part, text: str, *, shown: str = "") -> Evidence:
    """The first place of `text` in a part; `shown` stands in the evidence instead of the text."""
    excerpt = " ".join(clean(shown or text, utf8=True).split())
    if len(excerpt) > TEXT_LIMIT:
        excerpt = excerpt[: TEXT_LIMIT - 3] + "..."
    offset = _offset(message, part, text)
    return Evidence(excerpt, message.line_of(offset), offset)


def _offset(message: Message, part: Part, text: str) -> int:
    if part.encoding == "base64":
        return part.start
    for length in (_LONG, _SHORT):
        piece = text[:length].encode("utf-8", "replace")
        if part.encoding == "quoted-printable":
            piece = b"".join(b"=%02X" % octet if octet == 0x3D or octet > 0x7E else bytes([octet]) for octet in piece)
        if piece and (at := message.raw.find(piece, part.start, part.end)) >= 0:
            return at
    return part.start
