"""Links as a reader of mail follows them: URLs in text, the host they lead to, and what makes a host deceptive.

A URL is taken apart as a browser does it (WHATWG URL 4.4, which forgives more than RFC 3986: backslashes, tabs, hosts
written as one number), because a filter judges where a click leads. Nothing is looked up, and nothing here raises.
Hosts are lower case and in their Unicode form, whichever form a link uses (RFC 5891).
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote

import re2

from smtpguard.mail.octets import seeker

MAX_URL: Final = 8192
"""Characters of a URL that are looked at; tracking links have up to some 3,000."""


MAX_HOST: Final = 256
"""Characters; a name in the DNS has at most 253."""


class Url(NamedTuple):
    """A URL in parts. `scheme` is "" where none is given; `host` only for the schemes that a browser opens."""

    scheme: str
    userinfo: str = ""
    host: str = ""
    rest: str = ""
    """Path, query and fragment; for other schemes all behind the colon."""


_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_WEB: Final = ("http", "https", "ftp")
_ORIGIN = re.compile(r"(https?)://([a-z0-9.-]*[a-z0-9])")
"""What nearly all links begin with, up to the path."""
_IGNORED: Final = {ord(c): None for c in "\t\r\n"}
_EDGES: Final = "".join(map(chr, range(33)))


def parse(text: str) -> Url:
    """What a browser makes of a link's target; a relative one has neither scheme nor host."""
    path = text.find("/", len("https://"))
    if path < 0:
        path = len(text)
    origin = _origin(text[:path]) if path < MAX_HOST else None
    if origin is not None and len(text) <= MAX_URL and text.isascii() and text.isprintable() and " " not in text:
        return Url(origin[0], "", origin[1], text[path:])
    text = text[:MAX_URL].translate(_IGNORED).strip(_EDGES)
    match = _SCHEME.match(text)
    scheme = match[1].lower() if match else ""
    rest = text[match.end() :] if match else text
    if scheme not in _WEB and not (match is None and rest.startswith("//")):
        return Url(scheme, rest=rest)
    rest = rest.lstrip("/\\")
    authority = _AUTHORITY.match(rest)
    assert authority is not None  # it matches the empty string too
    userinfo, at, where = authority[0].rpartition("@")
    bracket = where.find("]") + 1 if where.startswith("[") else 0
    host = where[:bracket] if bracket else where.partition(":")[0]
    return Url(scheme, userinfo if at else "", canonical_host(host[:MAX_HOST]), rest[authority.end() :])


@lru_cache(maxsize=4096)
def _origin(text: str) -> tuple[str, str] | None:
    """Scheme and host of the usual form; None where a closer look is needed."""
    found = _ORIGIN.fullmatch(text)
    return None if found is None or "xn--" in found[2] else (found[1], found[2])


_AUTHORITY = re.compile(r"[^/\\?#]*")


@lru_cache(maxsize=4096)
def canonical_host(host: str) -> str:
    """A host in lower case and Unicode form, so that two spellings of one name are equal."""
    if "%" in host:
        host = unquote(host, errors="replace")
    if not host.isascii():
        host = unicodedata.normalize("NFKC", host)  # full-width letters and dots, as UTS 46 maps them
    host = host.lower().rstrip(".")
    if "xn--" in host:
        host = ".".join(map(_unicode_label, host.split(".")))
    return host


def _unicode_label(label: str) -> str:
    if not label.startswith("xn--"):
        return label
    try:
        return label[4:].encode("ascii").decode("punycode").lower()
    except ValueError:  # not a valid A-label: shown as it is
        return label


# --- links in plain text ---------------------------------------------------------------------------------------------

_IN_TEXT = re.compile(r"(?:\bhttps?://|\bwww\.)[^\s<>\"\u200b]+", re.IGNORECASE)
_BEHIND: Final = ".,;:!?'*_~)]}"


class TextLink(NamedTuple):
    """A URL as it stands in a text, and where it begins (characters)."""

    text: str
    at: int

    @property
    def url(self) -> str:
        """With its scheme, which `www.` leaves out."""
        return self.text if self.text[:4].lower() == "http" else f"http://{self.text}"

    @property
    def to(self) -> Url:
        """What a browser makes of it."""
        return parse(self.url)


def may_have_links(text: str) -> bool:
    """Whether a closer look is worth it: False where `links_in` finds none, and mostly then."""
    octets = text.encode("utf-8", "surrogatepass")
    return ("/" in text and _has_scheme(octets)) or _has_www(octets)


_has_scheme = seeker(b"://")
_has_www = seeker(b"www.")


def links_in(text: str) -> Iterator[TextLink]:
    """What mail programs make a link of: http:, https: and www., without the punctuation behind it."""
    if not may_have_links(text):
        return
    for found in _IN_TEXT.finditer(text):
        yield TextLink(found[0].rstrip(_BEHIND), found.start())


# --- what a link shows -----------------------------------------------------------------------------------------------


class Shown(NamedTuple):
    """A text that reads as a place: the host, and whether it is written as a URL (`https://`, `www.`, a path)."""

    host: str
    is_url: bool


_SHOWN = re.compile(
    r"(?P<scheme>https?://)?(?P<host>(?:[^\W_](?:[\w-]*[^\W_])?\.)+[^\W\d_]{2,})(?::\d{1,5})?(?P<path>[/?#]\S*)?",
    re.IGNORECASE,
)
_UNSEEN: Final = {ord(c): None for c in "\u200b\u200c\u200d\u2060\ufeff\u00ad"}
# Endings of file names, some of them top-level domains as well: `notes.md` is hardly a host in Moldova.
_FILES: Final = """
csv doc docx gif htm html ics jpeg jpg js json md mov odt pdf pl png ppt pptx ps py rs sh so txt xls xlsx xml zip
"""
_FILE_ENDINGS: Final = frozenset(_FILES.split())


def shown_host(text: str) -> Shown | None:
    """The host that the whole of a link's text names; None where it is words, a file name or an address."""
    found = _SHOWN.fullmatch(text.strip().translate(_UNSEEN))
    if found is None:
        return None
    host = canonical_host(found["host"][:MAX_HOST])
    is_url = bool(found["scheme"] or found["path"] or host.startswith("www."))
    if not is_url and host.rpartition(".")[2] in _FILE_ENDINGS:
        return None
    return Shown(host, is_url)


# --- hosts that deceive ----------------------------------------------------------------------------------------------

_NUMBER = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+)){0,3}")

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


def ip_literal(host: str) -> Ip | None:
    """The address that a host is, in any form that a browser takes (WHATWG URL 3.5: `0x7f.1`, `2130706433`)."""
    try:
        if host.startswith("["):
            return ipaddress.IPv6Address(host.strip("[]"))
        if not _NUMBER.fullmatch(host):
            return None
        numbers = [_number(part) for part in host.split(".")]
        *heads, last = numbers
        if any(number > 255 for number in heads):
            return None
        value = last  # the last one fills all the octets that are left
        for index, number in enumerate(heads):
            value += number << (8 * (3 - index))
        return ipaddress.IPv4Address(value)
    except ValueError:
        return None


def _number(text: str) -> int:
    if text.startswith("0x"):
        return int(text[2:] or "0", 16)
    return int(text, 8 if len(text) > 1 and text.startswith("0") else 10)


# UTS 39 table 1a (recommended scripts), and those that have letters which look Latin.
_NAMES: Final = """
Latin Cyrillic Greek Armenian Hebrew Arabic Devanagari Bengali Gurmukhi Gujarati Tamil Telugu Kannada Malayalam Sinhala
Thai Lao Tibetan Myanmar Georgian Hangul Ethiopic Khmer Hiragana Katakana Bopomofo Han Cherokee Coptic Lisu
"""
_SCRIPTS: Final = {name: re2.compile(rf"\p{{{name}}}") for name in _NAMES.split()}  # type: ignore[no-untyped-call]
_EAST_ASIAN: Final = (
    frozenset({"Latin", "Han", "Hiragana", "Katakana"}),
    frozenset({"Latin", "Han", "Bopomofo"}),
    frozenset({"Latin", "Han", "Hangul"}),
)
_LOOK_LATIN: Final = frozenset({"Cyrillic", "Greek", "Armenian", "Cherokee", "Coptic", "Lisu"})
# Cyrillic letters that no eye tells from Latin ones; a label of these alone, under a Latin top-level domain where no
# Cyrillic is written, imitates a Latin name (UTS 39 4, whole-script confusables).
_CYRILLIC_TWINS: Final = frozenset("асԁеһіјӏорԛѕԝхуъьпгѵ")
_CYRILLIC_USED: Final = frozenset({"am", "bg", "by", "kg", "kz", "me", "mk", "mn", "rs", "ru", "su", "tj", "ua", "uz"})


def mixed_scripts(host: str) -> str:
    """The label of a host that mixes scripts as no language does, or that imitates a Latin one; "" for none.

    UTS 39 5.2, moderately restrictive: one script, those of Chinese, Japanese or Korean, or Latin with one other that
    has no Latin look-alikes.
    """
    if host.isascii():
        return ""
    top = host.rpartition(".")[2]
    for label in host.split("."):
        if label.isascii():
            continue
        scripts = {name for name, letters in _SCRIPTS.items() if letters.search(label)}
        is_mixed = len(scripts) > 1 and not any(scripts <= allowed for allowed in _EAST_ASIAN)
        if is_mixed and not (len(scripts) == 2 and "Latin" in scripts and not scripts & _LOOK_LATIN):
            return label
        is_twin = scripts == {"Cyrillic"} and _CYRILLIC_TWINS.issuperset(c for c in label if c.isalpha())
        if is_twin and top.isascii() and top not in _CYRILLIC_USED:
            return label
    return ""


# Where anybody can make a short link to anything. A brand's own short domain (youtu.be, amzn.to) tells where it leads.
_SHORT: Final = """
adf.ly bit.do bit.ly bitly.com bl.ink buff.ly clck.ru cutt.ly goo.gl is.gd j.mp kutt.it ow.ly qrco.de rb.gy rebrand.ly
reurl.cc s.id short.io shorte.st shorturl.at snip.ly surl.li t.ly t2m.io tiny.cc tiny.one tinyurl.com tr.im u.to
urlz.fr v.gd vk.cc x.gd
"""
_SHORTENERS: Final = frozenset(_SHORT.split())


def is_shortener(host: str) -> bool:
    """Whether a host is a public link shortener."""
    return host.removeprefix("www.") in _SHORTENERS


# Filters of companies that lead each link of the mail they receive through themselves: their users answer and forward
# such mail. The names below these are theirs, too: `eur01.safelinks.protection.outlook.com`.
_FILTERS: Final = """
safelinks.protection.outlook.com urldefense.com urldefense.proofpoint.com urldefense.us mimecast.com mimecastprotect.com
linkprotect.cudasvc.com secure-web.cisco.com trendmicro.com protection.sophos.com clicktime.symantec.com
protect.checkpoint.com avanan.click protect2.fireeye.com scanmail.trustwave.com atpscan.global.hornetsecurity.com
"""
_LINK_FILTERS: Final = tuple(f".{host}" for host in _FILTERS.split())


def is_link_filter(host: str) -> bool:
    """Whether a host is a mail filter that checks where a link leads when it is clicked."""
    return f".{host}".endswith(_LINK_FILTERS)
