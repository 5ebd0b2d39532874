"""Messages to judge, written shortly, and what a rule says of them."""

from __future__ import annotations

from base64 import encodebytes
from collections.abc import Mapping
from typing import Final

from smtpguard.lint import RULES, Hit, Severity
from smtpguard.mail.message import Message
from tests.lint.asking import marks_of

FIELDS: Final = {
    "From": "Ann <ann@shop.example>",
    "To": "bob@reader.example",
    "Subject": "Our autumn offers",
    "Date": "Sun, 22 Nov 2026 10:00:00 +0000",
    "Message-ID": "<1@shop.example>",
    "MIME-Version": "1.0",
}


def letter(body: str | bytes, kind: str = "text/plain; charset=utf-8", **fields: str) -> Message:
    """A message of one part; fields by name with `_` for `-`, a value of "-" leaves one out."""
    given = {name.replace("_", "-"): value for name, value in fields.items()}
    head = {**FIELDS, "Content-Type": kind, **given}
    octets = body if isinstance(body, bytes) else body.replace("\n", "\r\n").encode()
    return Message(_header(head) + b"\r\n" + octets)


def _header(fields: Mapping[str, str]) -> bytes:
    return b"".join(f"{name}: {value}\r\n".encode() for name, value in fields.items() if value != "-")


def part(body: str | bytes, kind: str, **fields: str) -> bytes:
    """A part for `letter_of`."""
    octets = body if isinstance(body, bytes) else body.replace("\n", "\r\n").encode()
    return _header({"Content-Type": kind, **{n.replace("_", "-"): v for n, v in fields.items()}}) + b"\r\n" + octets


def letter_of(*parts: bytes, kind: str = "multipart/mixed", **fields: str) -> Message:
    """A message of several parts."""
    body = b"".join(b"--b\r\n" + each + b"\r\n" for each in parts) + b"--b--\r\n"
    return letter(body, f'{kind}; boundary="b"', **fields)


def newsletter(html: str, **fields: str) -> Message:
    """HTML with a text beside it."""
    text = part("Our offers\n", "text/plain; charset=utf-8")
    page = part(html, "text/html; charset=utf-8", Content_Transfer_Encoding="8bit")
    return letter_of(text, page, kind="multipart/alternative", **fields)


def file(name: str, content: bytes = b"x", kind: str = "application/octet-stream", **fields: str) -> bytes:
    """An attachment in Base64; `name` as it stands between the quotes."""
    given = {"Content_Transfer_Encoding": "base64", "Content_Disposition": f'attachment; filename="{name}"', **fields}
    return part(encodebytes(content).replace(b"\n", b"\r\n"), kind, **given)


def hits(code: str, message: Message) -> list[Hit]:
    """What a rule says of a message; the marks of the message must not have kept it from being asked."""
    rule = RULES[code]
    found = list(rule.check(message))
    assert not (found and rule.when) or rule.when & marks_of(rule.stage, {Message: message})
    return found


def severities(code: str, message: Message) -> list[Severity]:
    """How severe each hit of a rule is."""
    return [hit.severity or RULES[code].severity for hit in hits(code, message)]


def is_at(message: Message, hit: Hit, octets: bytes) -> bool:
    """Whether the evidence names the first place of these octets, by line and by offset."""
    at = message.raw.find(octets)
    return at >= 0 and (hit.evidence.line, hit.evidence.offset) == (message.line_of(at), at)
