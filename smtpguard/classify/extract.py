"""What a reply's text says besides its cause: how long to wait, which list, which address, domain and limit.

Patterns of `re`, not of RE2, whose calls cost more than these searches: each begins with words or signs of its own and
repeats nothing without a bound that could be parted in two ways, so that 4 KiB of anything take microseconds. A value
that does not hold up (no IP address, a wait of a year) is left out. Nothing here raises.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from ipaddress import ip_address
from itertools import islice
from typing import Final

from smtpguard.classify.regex import picker
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


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII | re.IGNORECASE)


def _first(pattern: re.Pattern[str], text: str) -> str:
    """The first group of the first match that is not empty; "" without."""
    found = pattern.search(text)
    return next(filter(None, found.groups()), "") if found is not None else ""


# --- the wait --------------------------------------------------------------------------------------------------------

_UNITS: Final = {"sec": 1, "sek": 1, "min": 60, "hour": 3600, "hr": 3600, "stunde": 3600, "day": 86400}
# "try again in 300 seconds", "retry in 5 minutes", "greylisted for 60 sec", "wait 1 hour", "in 00:05:00": first the
# number, which few texts have, then the words before it
_WAIT = re.compile(r"(\d\d{0,5})(?: ?(sec|sek|min|hour|hr|day|stunde)|:(\d\d):(\d\d)\b)", re.ASCII)
_BEFORE_WAIT = re.compile(
    r"\b(?:(again|retry|retrying|wait|back|later|gr[ae]y-?list[a-z]*|defer[a-z]*|delay[a-z]*)(?: in| after| for)?"
    r"|in|after|for)[ :(=]{1,9}(?:at least |about |another )?$"
)
_BEFORE: Final = 40  # characters


def retry_after(text: str) -> float | None:
    """Seconds to wait as the text gives them, above 0 and at most a week; else None.

    "in 1 hour" may be what is counted in ("3 messages in 1 hour"): it is believed where nothing says to wait.
    """
    lower = text.lower()
    wait = 0
    for found in islice(_WAIT.finditer(lower), _TRIES):
        at = found.start()
        if (before := _BEFORE_WAIT.search(lower[max(at - _BEFORE, 0) : at])) is None or (wait and not before[1]):
            continue
        number, unit, minutes, seconds = found.groups()
        wait = int(number) * _UNITS[unit] if unit else int(number) * 3600 + int(minutes) * 60 + int(seconds)
        if before[1]:
            break
    return float(wait) if 0 < wait <= MAX_RETRY_S else None


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
_ZONE = _compiled(
    r"\b(?:blocked (?:using|by)|list(?:ed|ing) (?:at|in|on|by|with)|rejected (?:using|by)"
    r"|black ?list(?:ed)? (?:at|by|in|using)|dnsbl|rbl)"
    r"(?: server response)?[ :(]*(?:the )?([a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z]{2,})\b"
)
_IPV4 = re.compile(r"\d\d{0,2}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b", re.ASCII)
_IPV6 = _compiled(r"\b[0-9a-f]{1,4}:[0-9a-f:.]{1,40}[0-9a-f]\b")
# a domain said to be the sender's: "sending domain [x]", "email from x is", "x's DMARC policy", "MAIL FROM domain [x]"
_DOMAIN = _compiled(
    r"(?:sending domain|sender(?:'s)? domain|mail ?from domain|(?:spf|dkim) domain|email from|due to|spf-check failed:"
    r"|domain of sender address [^ @]*@?|sender address <?[^ @]*@|from domain|spf record of|records for)"
    r" ?(?:domain )?[\[(<:]{0,2} ?((?:[a-z0-9_-]+\.)+[a-z]{2,})\b"
)
_LIMIT = _compiled(r"(?:limit|max(?:imum)?|size|exceeds?)[^0-9]{0,40}+\b(\d[\d,]*(?: ?(?:bytes|octets|[kmg]i?b)\b)?)")
_URL = _compiled(r"\b(https?://[a-z0-9][^\s<>\"'\[\])]+)")
# Google: "DKIM = did not pass", Microsoft: "Spf= Fail , Dkim= Pass , DMARC= Fail"
_AUTH_RESULT = _compiled(
    r"\b(spf|dkim|dmarc) ?(?:\[[^\]]{0,80}\] with ip: \[[^\]]{0,80}\] |with ip-address )?"
    r"= ?(pass|fail|none|did not pass|softfail)"
)
_ENHANCED = _compiled(r"(?:^|[ (#\[:>'-])([45])\.([0-7])\.(\d{1,3})(?:[ ):;,\]'-]|$)")


def blocklist(text: str) -> tuple[str, str]:
    """(name, page for removal) of the list a refusal is about: a known one, else a zone the text gives, else ""."""
    if found := _LISTS(text.encode("utf-8", "replace")):
        named = max((BLOCKLISTS[number] for number in sorted(found)), key=lambda entry: len(entry.name))
        return named.name, named.delisting
    return _first(_ZONE, text).lower(), ""


def sending_ip(text: str) -> str:
    """The first IPv4 address in the text, else the first IPv6 address; "" without."""
    for pattern in (_IPV4, _IPV6) if text.count(":") > 1 else (_IPV4,):
        for found in islice(pattern.finditer(text), _TRIES):
            try:
                return str(ip_address(found[0]))
            except ValueError:
                continue
    return ""


def sender_domain(text: str) -> str:
    """The domain that the text calls the sender's, in lower case; "" without."""
    return _first(_DOMAIN, text).lower()


def limit(text: str) -> str:
    """A limit with its unit as the text writes it ("10485760", "25 MB"); "" without."""
    return _first(_LIMIT, text)


def url(text: str) -> str:
    """The first web page named, without closing punctuation; "" without."""
    return _first(_URL, text).rstrip(".,;:!?")


def auth_results(text: str) -> str:
    """What the text says of SPF, DKIM and DMARC, as "SPF fail, DKIM pass"; "" where it says nothing."""
    results: dict[str, str] = {}
    for found in islice(_AUTH_RESULT.finditer(text), _TRIES) if "=" in text else ():
        method, result = found[1].upper(), found[2].lower()
        results.setdefault(method, "fail" if result == "did not pass" else result)
    return ", ".join(f"{method} {result}" for method, result in results.items())


# Codes that a provider's own pages explain: Yahoo [TSS04] [BL21], AOL (RLY:B1), Microsoft (S3150) and AS(42), Google
# p=DmarcPolicy, Charter AUP#1260, Orange OFR_416, La Poste LPN007_510, GoDaddy IB607, Netease DT:SPM
# each is looked for where its sign is
_CODES: Final = [
    (sign, re.compile(pattern, re.ASCII))
    for sign, pattern in (
        ("[", r"\[((?:TSS?|IPTS|BL)\d\d|RL\d{1,9}|P\d)\]"),
        ("(", r"\((S\d{3,4}|(?:RLY|DYN|RTR|HVU|CON|DNS|SND|LC):[A-Z0-9]{1,20}|G\d{1,2})\)|\b(AS\(\d{1,9}\))"),
        ("p=", r"[?&](p=[A-Za-z]+)"),
        ("#", r"\b(AUP#[A-Za-z0-9-]+)"),
        ("-00", r"\b((?:SC|OU|DY|RP|HM)-00\d)"),
        ("BL", r"\b(IPBL\d+|NOBL|BL0000\d+)\b"),
        ("IB", r"\b(IB\d{3}|LIB_?\d+)\b"),
        ("OFR", r"\b(OFR\d*_?\d+)\b"),
        ("LPN", r"\b(LPN\d*_?\d+)\b"),
        ("DT:", r"\b(DT:[A-Z]+)\b"),
        ("CX", r"\b(CXS?M?XRT)\b"),
        ("RL0", r"\b(RL0000\d+)\b"),
        ("MXIN", r"\b(MXIN\d+)\b"),
        ("VS", r"\b(VS\d+-[A-Z]+)\b"),
    )
]
_MAY_BE_CODE = re.compile(r"[0-9=#(\[]")  # what all but the rarest have
_ANY_CODE = re.compile(r"[\[(#]|[?&]p=|-00|BL|IB|OFR|LPN|DT:|CX|RL0|MXIN|VS")


def provider_code(text: str) -> str:
    """The provider's own code for its reason, as it writes it ("TSS04", "S3150", "p=DmarcPolicy"); "" without."""
    if _MAY_BE_CODE.search(text) is not None and _ANY_CODE.search(text) is not None:
        for sign, pattern in _CODES:
            if sign in text and (code := _first(pattern, text)):
                return code
    return ""


def enhanced_within(text: str, klass: int) -> EnhancedCode | None:
    """An enhanced code of this class that stands inside the text, as in "no such user (#5.1.1)"; else None."""
    if f"{klass}." not in text:  # most replies: spares a search
        return None
    for found in islice(_ENHANCED.finditer(text), _TRIES):
        code = EnhancedCode(*map(int, found.groups()))
        if code.klass == klass:
            return code
    return None
