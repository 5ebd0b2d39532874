"""Where a rule's hit shows: evidence out of a field or of a place in the message, as text that is safe to print."""

from __future__ import annotations

from typing import Final

from smtpguard.lint.finding import Evidence
from smtpguard.mail.fields import Field
from smtpguard.mail.message import Message
from smtpguard.mail.reply import clean

TEXT_LIMIT: Final = 120
"""Characters of a message that are shown."""


def shown(octets: bytes) -> str:
    """The beginning of octets of a message as one line of harmless text."""
    text = clean(octets[: 4 * TEXT_LIMIT].decode("utf-8", "replace"), utf8=True).strip()
    return text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 3] + "..."


def of_field(field: Field) -> Evidence:
    """A field of the message's own header, from its name on."""
    return Evidence(shown(field.name + b": " + field.unfolded), field.line, field.offset)


def in_field(field: Field, start: int, end: int) -> Evidence:
    """The octets between two offsets of a field's value; the field one of the message's own header."""
    line = field.line + field.value.count(b"\n", 0, start)  # a fold is one
    return Evidence(shown(field.value[start:end]), line, field.value_offset + start)


def at_offset(message: Message, offset: int) -> Evidence:
    """A place in the message: the line from there to its end."""
    stop = message.raw.find(b"\n", offset, offset + 4 * TEXT_LIMIT)
    text = message.raw[offset : offset + 4 * TEXT_LIMIT if stop < 0 else stop]
    return Evidence(shown(text), message.line_of(offset), offset)
