"""Attachments by their names: types that receivers block, names that hide their type, and the listing of a zip archive.

Which types are blocked, and by whom, is data (attachments.toml). Nothing is unpacked: of a zip archive only the last
octets are decoded, where its listing stands (APPNOTE.TXT 4.3.12), so that neither size nor compression matters.
"""

from __future__ import annotations

import re
import tomllib
import zipfile
from collections.abc import Mapping
from importlib.resources import files
from io import BytesIO
from typing import Final, NamedTuple

from smtpguard.mail.header import lenient_base64
from smtpguard.mail.mime import Part

LISTING_OCTETS: Final = 128 << 10
"""Of an archive's end that are read; a listing of some 1,500 names."""


class Blocked(NamedTuple):
    """Who blocks a type, what it says, and whether the message is refused or only its reader kept from the file."""

    by: str
    says: str
    is_refused: bool


def _read() -> Mapping[str, Blocked]:
    text = files(__package__).joinpath("attachments.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text)
    return {
        ending: Blocked(table["by"], table["says"], kind == "refused")
        for kind, table in reversed(tables.items())  # refused is the worse: it is laid over the other
        for ending in table["types"].split()
    }


BLOCKED: Final = _read()
"""By the end of the name, lower case, without the dot."""

# What wraps one file keeps its name: `setup.exe.gz` is blocked like `setup.exe`.
_WRAPPERS: Final = (".gz", ".bz2", ".xz", ".z", ".zst")
# Characters that turn the direction of what follows: `invoice<U+202E>fdp.exe` shows as `invoiceexe.pdf`.
_TURNS = re.compile("[\u202d\u202e]")
_INNOCENT = re.compile(r"\.(?:pdf|docx?|xlsx?|pptx?|txt|rtf|odt|ods|csv|jpe?g|png|gif|mp[34]|html?|zip)\s*$")


def ending_of(name: str) -> str:
    """The type that a name ends in, lower case: `exe` of `SETUP.EXE. ` (Windows drops dots and blanks at the end)."""
    name = name.lower().rstrip(". ")
    for wrapper in _WRAPPERS:
        name = name.removesuffix(wrapper)
    return name.rpartition(".")[2].strip() if "." in name else ""


def is_turned(name: str) -> bool:
    """Whether a name holds a character that makes it read otherwise than it is."""
    return _TURNS.search(name) is not None


def is_disguised(name: str) -> bool:
    """Whether the type of a name stands behind another one, or behind blanks: `invoice.pdf.exe`."""
    stem = name.lower().rstrip(". ").rpartition(".")[0]
    return _INNOCENT.search(stem) is not None or stem.endswith("   ")


# --- archives --------------------------------------------------------------------------------------------------------

_ZIP_TYPES: Final = frozenset({"application/zip", "application/x-zip-compressed", "application/x-zip"})
_MASKED: Final = 1 << 13
"""APPNOTE.TXT 4.4.4, general purpose bit 13: the names of the listing are encrypted."""


class Listing(NamedTuple):
    """The names in an archive; `is_masked` where they are encrypted."""

    names: tuple[str, ...]
    is_masked: bool


def is_zip(part: Part) -> bool:
    """Whether a part says that it is a zip archive. Documents that are zip files within (docx, odt, epub) do not."""
    return part.content_type in _ZIP_TYPES or part.filename.lower().endswith(".zip")


def listing_of(part: Part) -> Listing | None:
    """What a zip archive has in it; None where that cannot be told: it is none, or its listing is too long."""
    octets = _tail(part)
    if b"PK\5\6" not in octets:  # APPNOTE.TXT 4.3.16: the end of the listing
        return None
    try:
        with zipfile.ZipFile(BytesIO(octets)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError):
        return None
    is_masked = any(entry.flag_bits & _MASKED for entry in entries)
    return Listing(tuple(entry.filename for entry in entries), is_masked)


_NOT_BASE64: Final = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="))


def _tail(part: Part) -> bytes:
    """The last octets of a part, decoded. Four characters of Base64 are three octets, counted from the end as well."""
    if part.encoding != "base64":
        return part.content(LISTING_OCTETS)
    encoded = bytes(part.raw[max(part.start, part.end - 3 * LISTING_OCTETS // 2) : part.end])
    letters = encoded.translate(None, _NOT_BASE64)
    return lenient_base64(letters[len(letters) % 4 :])
