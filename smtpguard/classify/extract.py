"""What a reply's text says besides its cause: how long to wait, which list, which address, domain and limit.

All searches are RE2 on octets of at most 4 KiB, hence linear; a value that does not hold up (no IP address, a wait of a
year) is left out. Nothing here raises.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from ipaddress import ip_address
from itertools import islice
from typing import Final

from smtpguard.classify.regex import Groups, grouper, picker, spans
from smtpguard.mail.reply import EnhancedCode

MAX_RETRY_S: Final = 7 * 86400.0
"""A longer wait is not one: senders give up after five days (RFC 5321 4.5.4.1)."""


_TRIES: Final = 10
"""Places of a text that are looked at for one value: it may be made of nothing else."""


@dataclass(frozen=True, slots=True)
class Blocklist:
    """A block list: its name, how replies name it (RE2), and the page where to ask for removal ("" unknown)."""

    name: str
    pattern: str
    delisting: str = ""


def _read() -> tuple[Blocklist, ...]:
    text = files(__package__).joinpath("blocklists.toml").read_text(encoding="utf-8")
    return tuple(Blocklist(**entry) for entry in tomllib.loads(text)["list"])


BLOCKLISTS: Final = _read()


def _first(groups: Groups, text: bytes) -> str:
    """The first group of the first match that is not empty; "" without."""
    found = groups(text)
    return next((group.decode("utf-8", "replace") for group in found if group), "") if found is not None else ""


# --- the wait --------------------------------------------------------------------------------------------------------

_UNITS: Final = {"sec": 1, "sekunde": 1, "min": 60, "hour": 3600, "hr": 3600, "stunde": 3600, "day": 86400}
# "try again in 300 seconds", "retry in 5 minutes", "greylisted for 60 sec", "wait 1 hour", "in 00:05:00"
_RETRY = grouper(
    r"\b(?:again|retry|retrying|wait|back|later|gr[ae]y-?list\w*|defer\w*|delay\w*|in|after|for)[ :(=]+"
    r"(?:at least |about |another )?"
    r"(?:(\d{1,6}) ?(sec|min|hour|hr|day|sekunde|stunde)|(\d{1,2}):(\d{2}):(\d{2})\b)"
)


def retry_after(text: bytes) -> float | None:
    """Seconds to wait as the text gives them, above 0 and at most a week; else None."""
    found = _RETRY(text)
    if found is None:
        return None
    number, unit, *clock = (group.decode() for group in found)
    if unit:
        wait = float(int(number) * _UNITS.get(unit.lower(), 0))  # RE2 takes U+017F for an s
    else:
        hours, minutes, seconds = map(int, clock)
        wait = float(hours * 3600 + minutes * 60 + seconds)
    return wait if 0 < wait <= MAX_RETRY_S else None


def spoken(seconds: float) -> str:
    """A wait in words: 300 is "5 minutes", 90 is "90 seconds"."""
    for unit, size in (("hour", 3600), ("minute", 60)):
        if seconds >= size and seconds % size == 0:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{int(seconds)} second{'s' if seconds != 1 else ''}"


# --- names and numbers -----------------------------------------------------------------------------------------------

_LISTS: Final = picker(entry.pattern for entry in BLOCKLISTS)

# a zone that is in no table: the word after "blocked using", "listed at" and the like, if it is a host name
_ZONE = grouper(
    r"\b(?:blocked (?:using|by)|list(?:ed|ing) (?:at|in|on|by|with)|rejected (?:using|by)"
    r"|black ?list(?:ed)? (?:at|by|in|using)|dnsbl|rbl)"
    r"(?: server response)?[ :(]*(?:the )?([a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z]{2,})\b"
)
_IP = spans(r"\b((?:\d{1,3}\.){3}\d{1,3}|[0-9a-f]{1,4}:[0-9a-f:]*:[0-9a-f:.]*[0-9a-f])\b")
# a domain said to be the sender's: "sending domain [x]", "email from x is", "x's DMARC policy", "MAIL FROM domain [x]"
_DOMAIN = grouper(
    r"(?:sending domain|sender(?:'s)? domain|mail ?from domain|(?:spf|dkim) domain|email from|due to|spf-check failed:"
    r"|domain of sender address [^ @]*@?|sender address <?[^ @]*@|from domain|spf record of|records for)"
    r" ?(?:domain )?[\[(<:]{0,2} ?((?:[a-z0-9_-]+\.)+[a-z]{2,})\b"
)
_LIMIT = grouper(r"(?:limit|max(?:imum)?|size|exceeds?)[^0-9]{0,40}?\b(\d[\d,]*(?: ?(?:bytes|octets|[kmg]i?b)\b)?)")
_URL = grouper(r"\b(https?://[a-z0-9][^\s<>\"'\[\])]+)")
# Google: "DKIM = did not pass", Microsoft: "Spf= Fail , Dkim= Pass , DMARC= Fail"
_AUTH_RESULT = spans(
    r"\b(spf|dkim|dmarc) ?(?:\[[^\]]*\] with ip: \[[^\]]*\] |with ip-address )?"
    r"= ?(pass|fail|none|did not pass|softfail)"
)
_ENHANCED = spans(r"(?:^|[ (#\[:>'-])([45])\.([0-7])\.(\d{1,3})(?:[ ):;,\]'-]|$)")


def blocklist(text: bytes) -> tuple[str, str]:
    """(name, page for removal) of the list a refusal is about: a known one, else a zone the text gives, else ""."""
    if found := _LISTS(text):
        named = max((BLOCKLISTS[number] for number in sorted(found)), key=lambda entry: len(entry.name))
        return named.name, named.delisting
    return _first(_ZONE, text).lower(), ""


def sending_ip(text: bytes) -> str:
    """The first IP address in the text; "" without."""
    for start, end in islice(_IP(text), _TRIES):
        try:
            return str(ip_address(text[start:end].decode()))
        except ValueError:
            continue
    return ""


def sender_domain(text: bytes) -> str:
    """The domain that the text calls the sender's, in lower case; "" without."""
    return _first(_DOMAIN, text).lower()


def limit(text: bytes) -> str:
    """A limit with its unit as the text writes it ("10485760", "25 MB"); "" without."""
    return _first(_LIMIT, text)


def url(text: bytes) -> str:
    """The first web page named, without closing punctuation; "" without."""
    return _first(_URL, text).rstrip(".,;:!?")


def auth_results(text: bytes) -> str:
    """What the text says of SPF, DKIM and DMARC, as "SPF fail, DKIM pass"; "" where it says nothing."""
    results: dict[str, str] = {}
    for start, end in islice(_AUTH_RESULT(text), _TRIES) if b"=" in text else ():
        said = text[start:end].decode().lower()
        method, result = re.split(r"\W", said, maxsplit=1)[0], said.rpartition("=")[2].strip()
        results.setdefault(method.upper(), "fail" if result == "did not pass" else result)
    return ", ".join(f"{method} {result}" for method, result in results.items())


# Codes that a provider's own pages explain: Yahoo [TSS04] [BL21], AOL (RLY:B1), Microsoft (S3150) and AS(42), Google
# p=DmarcPolicy, Charter AUP#1260, Orange OFR_416, La Poste LPN007_510, GoDaddy IB607, Netease DT:SPM
_PROVIDER_CODE = grouper(
    r"\[(TSS?\d\d|IPTS\d\d|BL\d\d|RL\d+|P\d)\]|\((S\d{3,4}|(?:RLY|DYN|RTR|HVU|CON|DNS|SND|LC):[A-Z0-9]+|G\d{1,2})\)"
    r"|\b(AS\(\d+\))|\b(AUP#[A-Za-z0-9-]+|(?:OFR|LPN|LIB)\d*_?\d+|IB\d{3}|IPBL\d+|MXIN\d+|(?:SC|OU|DY|RP|HM)-00\d|DT:[A-Z]+|CXS?M?XRT|"
    r"NOBL|BL0000\d+|RL0000\d+|VS\d+-[A-Z]+)\b"
    r"|[?&](p=[A-Za-z]+)"
)


def provider_code(text: bytes) -> str:
    """The provider's own code for its reason, as it writes it ("TSS04", "S3150", "p=DmarcPolicy"); "" without."""
    return _first(_PROVIDER_CODE, text)


def enhanced_within(text: bytes, klass: int) -> EnhancedCode | None:
    """An enhanced code of this class that stands inside the text, as in "no such user (#5.1.1)"; else None."""
    if b"%d." % klass not in text:  # most replies: spares a search
        return None
    for start, end in islice(_ENHANCED(text), _TRIES):
        numbers = text[start:end].strip(b" (#[:>'-):;,]").split(b".")
        code = EnhancedCode(*map(int, numbers))
        if code.klass == klass:
            return code
    return None
