"""Tag lists: `v=1; a=rsa-sha256; ...`, the form of DKIM signatures and key records (RFC 6376 3.2).

One rule is stricter than a reader might think: a list with a tag that stands twice is no list at all, for two readers
could take different ones of them.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

from smtpguard.mail.reply import clean

BLANKS: Final = b" \t\r\n"
"""What FWS is made of."""

# RFC 6376 3.2: tag-name = ALPHA *ALNUMPUNC; ALNUMPUNC = ALPHA / DIGIT / "_"
_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_]*")
# RFC 6376 3.2: VALCHAR = %x21-3A / %x3C-7E, FWS between; RFC 8616 2: UTF-8 besides.
_TEXT = re.compile(rb"[\t\r\n -~\x80-\xff]*")


class TagError(ValueError):
    """It is no tag list; the text says why, in a few words."""


def parse_tags(text: bytes) -> dict[bytes, bytes]:
    """The tags by name (case matters), values without the blanks around them; TagError where it is no tag list."""
    if not _TEXT.fullmatch(text):
        raise TagError("a control character")
    parts = text.split(b";")
    if not parts[-1].strip(BLANKS):
        parts.pop()  # the list may end with a semicolon
    tags: dict[bytes, bytes] = {}
    for part in parts:
        name, equals, value = part.partition(b"=")
        name = name.strip(BLANKS)
        if not (equals and _NAME.fullmatch(name)):
            raise TagError(f"'{shown(name)}' is not tag=value")
        if name in tags:
            raise TagError(f"{name.decode()}= stands twice")
        tags[name] = value.strip(BLANKS)
    return tags


def shown(value: bytes) -> str:
    """The beginning of a value, harmless and on one line, for saying what is wrong with it."""
    return clean(value[:20].decode("utf-8", "replace"))


def without_blanks(value: bytes) -> bytes:
    """A value in which FWS means nothing."""
    return value.translate(None, BLANKS)


def from_base64(value: bytes) -> bytes | None:
    """What a value without blanks stands for; None where it is not Base64, padding and all, or says nothing."""
    if len(value) % 4 or value.endswith(b"==="):  # which strict mode lets pass
        return None
    try:
        return binascii.a2b_base64(value, strict_mode=True) or None
    except binascii.Error:
        return None
