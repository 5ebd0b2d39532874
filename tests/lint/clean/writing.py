"""How the clean messages are written: with line feeds, decoded; what encodes them here is the standard library."""

from __future__ import annotations

import base64
import quopri
from typing import NamedTuple

DATE = "Sun, 22 Nov 2026 10:15:00 +0100"
NOON = b"Sun, 22 Nov 2026 12:00:00 +0000"
"""When the clean messages are judged."""


class Shape(NamedTuple):
    """A message as some program writes it, and the envelope that goes with it."""

    name: str
    raw: bytes
    mail_from: bytes = b"ann@example.com"
    smtputf8: bool = False


def crlf(text: str, charset: str = "utf-8") -> bytes:
    """Text with line feeds as octets of a message."""
    return text.lstrip("\n").replace("\n", "\r\n").encode(charset)


def b64(octets: bytes) -> str:
    """Base64 in lines of 76."""
    return base64.encodebytes(octets).decode()


def qp(text: str, charset: str = "utf-8") -> str:
    """Quoted-printable."""
    return quopri.encodestring(text.encode(charset)).decode()


def b_word(text: str, charset: str = "utf-8") -> str:
    """One encoded word, B."""
    return f"=?{charset}?B?{base64.b64encode(text.encode(charset)).decode()}?="


def head(
    subject: str = "Minutes of the meeting",
    *,
    sender: str = "Ann Lee <ann@example.com>",
    to: str = "Bob Ray <bob@example.org>",
    more: str = "",
) -> str:
    """The fields that every message has, and `more` (lines with their line feeds) below them."""
    return f"""Date: {DATE}
From: {sender}
To: {to}
Subject: {subject}
Message-ID: <20261122.101500.{len(subject)}@example.com>
MIME-Version: 1.0
{more}"""


PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\n%%EOF\n" * 4
