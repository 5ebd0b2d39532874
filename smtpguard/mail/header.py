"""What is written in a header field: encoded words, parameters, charsets, dates (RFC 2047, 2045 5.1, 2231, 5322 3.3).

Each function takes a value as it stands behind the colon, folds and all, and gives what it says; none raises, and all
are linear in time. Charsets are a closed list: Python's own knows names that are no charset of mail and looks for
unknown ones on disk. Address lists are `mail/mailbox.py`.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from smtpguard.mail.fields import unfolded

# --- charsets --------------------------------------------------------------------------------------------------------

_ISO_8859: Final = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16)
_WINDOWS: Final = (874, 1250, 1251, 1252, 1253, 1254, 1255, 1256, 1257, 1258)
_IBM: Final = (437, 850, 852, 855, 857, 858, 860, 862, 866)
# By Python's codec. Where a name is used for a larger set than it says, as GB2312 is, the codec is the larger one's.
_NAMES: Final[Mapping[str, str]] = {
    "ascii": "us-ascii ascii ansi_x3.4-1968 iso646-us",
    "utf-8": "utf-8 utf8 unicode-1-1-utf-8 cp65001",
    "utf-7": "utf-7 unicode-1-1-utf-7",
    "utf-16": "utf-16",
    "utf-16-le": "utf-16le",
    "utf-16-be": "utf-16be",
    "utf-32": "utf-32",
    **{f"iso8859-{n}": f"iso-8859-{n} iso8859-{n} iso_8859-{n} iso8859_{n}" for n in _ISO_8859},
    "latin-1": "iso-8859-1 iso8859-1 iso_8859-1",
    **{f"cp{n}": f"windows-{n} cp{n} cp-{n} x-cp{n}" for n in _WINDOWS},
    **{f"cp{n}": f"cp{n} ibm{n}" for n in _IBM},
    "koi8-r": "koi8-r",
    "koi8-u": "koi8-u koi8-ru",
    "tis-620": "tis-620",
    "mac-roman": "macintosh x-mac-roman",
    "mac-cyrillic": "x-mac-cyrillic",
    "mac-latin2": "x-mac-ce",
    "iso2022_jp": "iso-2022-jp",
    "iso2022_jp_2": "iso-2022-jp-2",
    "iso2022_jp_ext": "iso-2022-jp-1 iso-2022-jp-3 iso-2022-jp-ext iso-2022-jp-ms cp50220 cp50221",
    "cp932": "shift_jis shift-jis sjis x-sjis windows-31j cp932 ms932 ms_kanji",
    "euc_jp": "euc-jp x-euc-jp eucjp",
    "iso2022_kr": "iso-2022-kr",
    "cp949": "euc-kr ks_c_5601-1987 ks_c_5601 ksc5601 cp949 windows-949",
    "gb18030": "gb2312 gb_2312 gb_2312-80 gbk gb18030 cp936 windows-936 x-gbk euc-cn",
    "hz": "hz-gb-2312",
    "big5hkscs": "big5 big5-hkscs x-big5 cn-big5 cp950 windows-950",
}
# Other names of the same, of the registry (RFC 2978) and of browsers (WHATWG Encoding 4.2): all readers know them.
_ALIASES: Final[Mapping[str, str]] = {
    "us-ascii": "iso-ir-6 csascii",
    "utf-8": "csutf8 unicode11utf8 unicode20utf8",
    "iso-8859-1": "csisolatin1 iso-ir-100 iso_8859-1:1987 latin1 l1 cp819 ibm819",
    "iso-8859-2": "csisolatin2 iso-ir-101 iso_8859-2:1987 latin2 l2",
    "iso-8859-3": "csisolatin3 iso-ir-109 iso_8859-3:1988 latin3 l3",
    "iso-8859-4": "csisolatin4 iso-ir-110 iso_8859-4:1988 latin4 l4",
    "iso-8859-5": "csisolatincyrillic iso-ir-144 iso_8859-5:1988 cyrillic",
    "iso-8859-6": "iso-8859-6-e iso-8859-6-i csisolatinarabic iso-ir-127 iso_8859-6:1987 arabic asmo-708 ecma-114",
    "iso-8859-7": "csisolatingreek iso-ir-126 iso_8859-7:1987 greek greek8 elot_928 ecma-118",
    "iso-8859-8": "iso-8859-8-e iso-8859-8-i csisolatinhebrew csiso88598i iso-ir-138 iso_8859-8:1988 hebrew",
    "iso-8859-9": "csisolatin5 iso-ir-148 iso_8859-9:1989 latin5 l5",
    "iso-8859-10": "csisolatin6 iso-ir-157 iso_8859-10:1992 latin6 l6",
    "iso-8859-14": "csiso885914 iso-ir-199 iso_8859-14:1998 latin8 l8",
    "iso-8859-15": "csiso885915 csisolatin9 latin-9 latin9 l9",
    "iso-8859-16": "csiso885916 iso-ir-226 iso_8859-16:2001 latin10 l10",
    "windows-874": "dos-874",
    "koi8-r": "cskoi8r koi8 koi",
    "tis-620": "tis620 cstis620",
    "macintosh": "csmacintosh mac",
    "x-mac-cyrillic": "x-mac-ukrainian",
    "iso-2022-jp": "csiso2022jp",
    "iso-2022-jp-2": "csiso2022jp2",
    "shift_jis": "csshiftjis cswindows31j",
    "euc-jp": "cseucpkdfmtjapanese extended_unix_code_packed_format_for_japanese",
    "iso-2022-kr": "csiso2022kr",
    "euc-kr": "cseuckr csksc56011987 ks_c_5601-1989 ksc_5601 iso-ir-149 korean",
    "gbk": "csgb2312 csiso58gb231280 iso-ir-58 chinese ms936",
    "big5": "csbig5 x-x-big5",
}
# Registered, or said where none is known (RFC 1428), but nothing that Python reads: Latin-1 shows the octets.
_UNREADABLE: Final = ("unknown-8bit", "binary", "iso-2022-cn", "viscii", "armscii-8", "georgian-ps")
_BY_NAME: Final = {name: codec for codec, names in _NAMES.items() for name in names.split()}
_CODECS: Final[Mapping[str, str]] = {
    **_BY_NAME,
    **{alias: _BY_NAME[name] for name, aliases in _ALIASES.items() for alias in aliases.split()},
    **dict.fromkeys(_UNREADABLE, "latin-1"),
}


@lru_cache(maxsize=512)
def codec_of(charset: str) -> str:
    """Python's name of a charset of mail (RFC 2978), whatever its case; "" for one that is unknown."""
    return _CODECS.get(charset.strip().lower(), "")


def to_text(octets: bytes, charset: str) -> str:
    """Octets in a charset as text, with U+FFFD where they are none of it; Latin-1 where the charset is unknown."""
    return octets.decode(codec_of(charset) or "latin-1", "replace")


def _guessed(octets: bytes) -> str:
    """Octets without a charset: UTF-8 (RFC 6532), else Latin-1, which all octets are."""
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("latin-1")


# --- encoded words ---------------------------------------------------------------------------------------------------

WORD_LIMIT: Final = 75  # RFC 2047 2


class EncodedWord(NamedTuple):
    """`=?utf-8?Q?caf=C3=A9?=` between two offsets of a value. `fault`: why readers may fail to decode it, or ""."""

    start: int
    end: int
    text: str
    fault: str


# RFC 2047 2, RFC 2231 5: "=?" charset ["*" language] "?" encoding "?" encoded-text "?="; blanks in it are a fault
_WORD = re.compile(rb"=\?([A-Za-z0-9_.:+-]{1,40})(?:\*[A-Za-z0-9-]{1,40})?\?([A-Za-z]{1,6})\?([^?]*)\?=")
_Q_ESCAPE = re.compile(rb"=(?![0-9A-Fa-f]{2})")
_BLANKS = re.compile(rb"\s+")


def encoded_words(value: bytes) -> Iterator[EncodedWord]:
    """The encoded words of a value, good and bad, from left to right; what only begins like one is text."""
    for found in _WORD.finditer(value):
        charset, encoding, content = found[1].decode(), found[2].upper(), found[3]
        octets, fault = _word_octets(encoding, content)
        codec = codec_of(charset)
        if not codec:
            fault = fault or f"the charset {charset} is unknown"
        try:
            text = octets.decode(codec or "latin-1")
        except UnicodeDecodeError:
            text = octets.decode(codec, "replace")
            fault = fault or f"its octets are not {charset}"
        yield EncodedWord(found.start(), found.end(), text, fault)


def _word_octets(encoding: bytes, content: bytes) -> tuple[bytes, str]:
    """What the content of an encoded word stands for, and what is wrong with it."""
    fault = "there is a space or a line end in it" if _BLANKS.search(content) else ""
    if encoding == b"B":
        if fault:
            content = _BLANKS.sub(b"", content)
        try:
            return binascii.a2b_base64(content, strict_mode=True), fault
        except binascii.Error:
            return lenient_base64(content), fault or "its Base64 is broken"
    if encoding == b"Q":
        if _Q_ESCAPE.search(content):
            fault = fault or "a = in it is not followed by two hexadecimal digits"
        return binascii.a2b_qp(content, header=True), fault
    return content, f"{encoding.decode()} is not an encoding: Q and B are"


_NOT_BASE64: Final = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"))


def lenient_base64(content: bytes) -> bytes:
    """What Base64 stands for as far as it can be read: other octets are passed over, the first padding ends it."""
    kept = content.partition(b"=")[0].translate(None, _NOT_BASE64)
    if len(kept) % 4 == 1:  # six bits are no octet
        kept = kept[:-1]
    return binascii.a2b_base64(kept + b"=" * (-len(kept) % 4))


def decoded(value: bytes) -> str:
    """A value as people read it: unfolded, its encoded words decoded, the blanks between two of them gone."""
    value = unfolded(value)
    if b"=?" not in value:
        return _guessed(value)
    pieces: list[str] = []
    at = 0
    for word in encoded_words(value):
        between = value[at : word.start]
        if not (at and between.isspace()):  # RFC 2047 6.2
            pieces.append(_guessed(between))
        pieces.append(word.text)
        at = word.end
    pieces.append(_guessed(value[at:]))
    return "".join(pieces)


# --- parameters ------------------------------------------------------------------------------------------------------


class Structured(NamedTuple):
    """A `Content-Type` or `Content-Disposition`: its value in lower case, its parameters by name in lower case."""

    value: str
    params: Mapping[str, str]


_VALUE_LIMIT: Final = 16_384
# RFC 2045 5.1: parameter := attribute "=" value; value := token / quoted-string. Blanks around = are understood.
_PARAMETER = re.compile(rb';\s*([^\s=;"()]{1,80})\s*=\s*(?:"([^"\\]*(?:\\.[^"\\]*)*)"|([^\s;"()]+))', re.DOTALL)
_OCTET_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_COMMENT = re.compile(rb"\([^()]*\)")


def _uncommented(value: bytes) -> bytes:
    """A value without its comments (RFC 5322 3.2.2), three deep: enough for `(Zone (its name))`."""
    for _ in range(3):
        if b"(" not in value:
            break
        value = _COMMENT.sub(b"", value)
    return value


def structured(value: bytes) -> Structured:
    """The value and its parameters, continuations and charsets put together (RFC 2231); the first of a name counts."""
    return _remembered(value) if len(value) <= _SHORT else _structured(value[:_VALUE_LIMIT])


def _structured(value: bytes) -> Structured:
    value = unfolded(value)
    head = _uncommented(value.partition(b";")[0])
    plain: dict[str, str] = {}
    pieces: dict[str, dict[int, tuple[bytes, bool]]] = {}
    for found in _PARAMETER.finditer(value):
        name, quoted, token = found.groups()
        octets: bytes = token or _OCTET_PAIR.sub(rb"\1", quoted or b"")
        base, star, rest = _guessed(name).lower().partition("*")
        if not star:
            plain.setdefault(base, _guessed(octets))
        elif (number := rest.removesuffix("*") or "0").isdecimal() and len(number) < 4:
            pieces.setdefault(base, {}).setdefault(int(number), (octets, rest == "" or rest.endswith("*")))
    return Structured(_guessed(head).strip().lower(), plain | {name: _joined(them) for name, them in pieces.items()})


_SHORT: Final = 100
_remembered = lru_cache(maxsize=256)(_structured)
"""Most parts say one of few things: `text/plain; charset=utf-8`, `base64`."""


def _joined(pieces: Mapping[int, tuple[bytes, bool]]) -> str:
    """RFC 2231 3, 4: pieces 0, 1, ... as far as they go; the first may say the charset of those that are escaped."""
    charset = ""
    octets = b""
    for number in range(len(pieces)):
        piece, is_escaped = pieces.get(number, (b"", False))
        if is_escaped:
            if number == 0 and piece.count(b"'") >= 2:
                said, _language, piece = piece.split(b"'", 2)
                charset = _guessed(said)
            piece = unquote_to_bytes(piece)
        octets += piece
    return to_text(octets, charset) if charset else _guessed(octets)


# --- dates -----------------------------------------------------------------------------------------------------------

_MONTHS: Final = {name: n for n, name in enumerate(b"jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}
_ZONES: Final[Mapping[bytes, int]] = {
    b"est": -5,
    b"edt": -4,
    b"cst": -6,
    b"cdt": -5,
    b"mst": -7,
    b"mdt": -6,
    b"pst": -8,
    b"pdt": -7,
}
"""Hours from UTC (RFC 5322 4.3); every other name says nothing and counts as UTC."""

# RFC 5322 3.3 and 4.3: [day-name ","] day month year hour ":" minute [":" second] zone
_DATE = re.compile(
    rb"(?:(?:mon|tue|wed|thu|fri|sat|sun)\s*,\s*)?(\d{1,2})\s+(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)\s+"
    rb"(\d{2,4})\s+(\d{1,2})\s*:\s*(\d{2})(?:\s*:\s*(\d{2}))?\s*(?:([+-])(\d\d)([0-5]\d)|([a-z]{1,5}))",
    re.IGNORECASE,
)
_DATE_LIMIT: Final = 200


# the same as nearly all programs write it, to the second; what else there is, and 60 seconds, `_DATE` reads
_USUAL_DATE = re.compile(
    rb"\s?(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), )?(\d\d? [JFMASOND][a-z]{2} \d{4}) ([01]\d|2[0-3]):([0-5]\d):([0-5]\d)"
    rb" ([+-]\d{4})(?: \([A-Z]{1,5}\))?"
)


def date(value: bytes) -> float | None:
    """Seconds since the epoch of a date-time; None where it is none."""
    found = _USUAL_DATE.fullmatch(value)
    if found is None:
        return _date(value)
    day, hour, minute, second, zone = found.groups()
    midnight = _midnight(day, zone)
    return None if midnight is None else midnight + 3600 * int(hour) + 60 * int(minute) + int(second)


@lru_cache(maxsize=256)
def _midnight(day: bytes, zone: bytes) -> float | None:
    return _date(day + b" 00:00:00 " + zone)


def _date(value: bytes) -> float | None:
    found = _DATE.fullmatch(_uncommented(value[:_DATE_LIMIT]).strip())
    if found is None:
        return None
    day, month, year, hour, minute, second, sign, hours, minutes, zone = found.groups()
    full = int(year)
    if len(year) == 2:  # RFC 5322 4.3
        full += 2000 if full < 50 else 1900
    elif len(year) == 3:
        full += 1900
    seconds = int(second or 0)
    try:
        # a leap second is the second before it
        clock = datetime(
            full, _MONTHS[month.lower()], int(day), int(hour), int(minute), seconds - (seconds == 60), 0, UTC
        )
    except ValueError:
        return None
    offset = _ZONES.get(zone.lower(), 0) * 3600 if zone else int(sign + hours) * 3600 + int(sign + minutes) * 60
    return clock.timestamp() - offset
