"""What a reply's text says besides its cause: how long to wait, which list, which address, domain and limit.

Patterns of `re`, not of RE2, whose calls cost more than these searches. Each way through a pattern begins with a plain
character, in one case, for `re` passes over all others at once then; and none repeats without a bound what could be
parted in two ways, so that 4 KiB of anything take microseconds. A value that does not hold up (no IP address, a wait of
a year) is left out. Nothing here raises.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from ipaddress import ip_address
from itertools import islice
from typing import Final

from smtpguard.mail.reply import EnhancedCode

MAX_RETRY_S: Final = 7 * 86400.0
"""A longer wait is not one: senders give up after five days (RFC 5321 4.5.4.1)."""


_TRIES: Final = 10
"""Places of a text that are looked at for one value: it may be made of nothing else."""


@dataclass(frozen=True, slots=True)
class Blocklist:
    """A block list: its name, how replies name it in lower case, and the page where to ask for removal ("" unknown)."""

    name: str
    marks: tuple[str, ...]
    delisting: str = ""


def _read() -> tuple[Blocklist, ...]:
    text = files(__package__).joinpath("blocklists.toml").read_text(encoding="utf-8")
    return tuple(Blocklist(**entry | {"marks": tuple(entry["marks"])}) for entry in tomllib.loads(text)["list"])


BLOCKLISTS: Final = _read()


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII)


def _begun(*patterns: str) -> str:
    """Any of the patterns, where a word begins: as `\\b` before them, but seen at once by their first characters."""
    return "|".join(rf"{pattern[0]}(?<!\w{pattern[0]}){pattern[1:]}" for pattern in patterns)


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

# of what a text names the list with the longest name is meant
_BY_MARK: Final = [
    (mark, entry) for entry in sorted(BLOCKLISTS, key=lambda entry: -len(entry.name)) for mark in entry.marks
]

# as much as may be a host name, and what of it is one
_NAME: Final = r"([a-z0-9_-]{1,63}+\.[a-z0-9_.-]{2,190}+)"
_HOST = _compiled(r"(?:[a-z0-9_-]+\.)+[a-z]{2,}\b")
# a zone that is in no table: the word after "blocked using", "listed at" and the like, if it is a host name
_LISTED: Final = _begun(
    "blocked (?:using|by)",
    "rejected (?:using|by)",
    "list(?:ed|ing) (?:at|in|on|by|with)",
    "black ?list(?:ed)? (?:at|by|in|using)",
    "dnsbl",
    "rbl",
)
_ZONE = _compiled(rf"(?:{_LISTED})(?: server response)?[ :(]{{0,4}}+(?:the )?{_NAME}")
_IPV4 = _compiled(r"\d\d{0,2}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b")
_IPV6 = _compiled(r"\b[0-9a-f]{1,4}:[0-9a-f:.]{1,40}[0-9a-f]\b")
# a domain said to be the sender's: "sending domain [x]", "email from x is", "x's DMARC policy", "MAIL FROM domain [x]"
_DOMAIN = _compiled(
    r"(?:sending domain|sender(?:'s)? domain|mail ?from domain|spf domain|dkim domain|email from|due to"
    r"|spf-check failed:|domain of sender address(?: [^ @]{0,64}+@)?|sender address <?[^ @]{0,64}+@|from domain"
    r"|spf record of|records for)"
    rf" ?(?:domain )?[\[(<:]{{0,2}} ?{_NAME}"
)
_LIMIT = _compiled(r"(?:limit|maximum|max|size|exceeds?)[^0-9]{0,40}+\b(\d[\d,]*(?: ?(?:bytes|octets|[kmg]i?b)\b)?)")
_URL = _compiled(rf"(?:{_begun('h', 'H')})[Tt][Tt][Pp][Ss]?://[A-Za-z0-9][^\s<>\"'\[\])]+")
# Google: "DKIM = did not pass", Microsoft: "Spf= Fail , Dkim= Pass , DMARC= Fail"
_AUTH_RESULT = _compiled(
    rf"({_begun('spf', 'dkim', 'dmarc')}) ?(?:\[[^\]]{{0,80}}\] with ip: \[[^\]]{{0,80}}\] |with ip-address )?"
    r"= ?(pass|fail|none|did not pass|softfail)"
)
_ENHANCED = _compiled(r"(?:^|[ (#\[:>'-])([45])\.([0-7])\.(\d{1,3})(?:[ ):;,\]'-]|$)")


def _host_at(pattern: re.Pattern[str], lower: str) -> str:
    """The first host name where a pattern says that one may be; "" without."""
    for found in islice(pattern.finditer(lower), _TRIES):
        if (host := _HOST.match(found[1])) is not None:
            return host[0]
    return ""


def blocklist(text: str) -> tuple[str, str]:
    """(name, page for removal) of the list a refusal is about: a known one, else a zone the text gives, else ""."""
    lower = text.lower()
    for mark, named in _BY_MARK:
        if mark in lower:
            return named.name, named.delisting
    return _host_at(_ZONE, lower), ""


def sending_ip(text: str) -> str:
    """The first IPv4 address in the text, else the first IPv6 address; "" without."""
    for found in islice(_IPV4.finditer(text), _TRIES):
        octets = [*map(int, found[0].split("."))]
        if max(octets) < 256 and ".".join(map(str, octets)) == found[0]:
            return found[0]
    if text.count(":") > 1:
        for found in islice(_IPV6.finditer(text.lower()), _TRIES):
            try:
                return str(ip_address(found[0]))
            except ValueError:
                continue
    return ""


def sender_domain(text: str) -> str:
    """The domain that the text calls the sender's, in lower case; "" without."""
    return _host_at(_DOMAIN, text.lower())


def limit(text: str) -> str:
    """A limit with its unit as the text writes it ("10485760", "25 MB"); "" without."""
    lower = text.lower()
    if (found := _LIMIT.search(lower)) is None:
        return ""
    return (text if len(text) == len(lower) else lower)[slice(*found.span(1))]


def url(text: str) -> str:
    """The first web page named, without closing punctuation; "" without."""
    found = _URL.search(text)
    return found[0].rstrip(".,;:!?") if found is not None else ""


def auth_results(text: str) -> str:
    """What the text says of SPF, DKIM and DMARC, as "SPF fail, DKIM pass"; "" where it says nothing."""
    results: dict[str, str] = {}
    for found in islice(_AUTH_RESULT.finditer(text.lower()), _TRIES) if "=" in text else ():
        method, result = found[1].upper(), found[2]
        results.setdefault(method, "fail" if result == "did not pass" else result)
    return ", ".join(f"{method} {result}" for method, result in results.items())


# Codes that a provider's own pages explain
_CODE = _compiled(
    r"\[(?:(?:TSS?|IPTS|BL)\d\d|RL\d{1,9}|P\d)\]"  # Yahoo [TSS04], [BL21]
    r"|\((?:S\d{3,4}|(?:RLY|DYN|RTR|HVU|CON|DNS|SND|LC):[A-Z0-9]{1,20}|G\d{1,2})\)"  # Microsoft (S3150), AOL (RLY:B1)
    r"|\?p=[A-Za-z]+|&p=[A-Za-z]+|"  # Google ?p=DmarcPolicy
    + _begun(
        *(r"AS\(\d{1,9}\)", r"SC-00\d", r"OU-00\d", r"DY-00\d", r"RP-00\d", r"HM-00\d"),  # Microsoft
        *(r"IPBL\d+\b", r"NOBL\b", r"BL0000\d+\b", r"RL0000\d+\b", r"CXS?M?XRT\b"),  # Comcast, Cox
        *(r"AUP#[A-Za-z0-9-]+", r"IB\d{3}\b", r"LIB_?\d+\b"),  # Charter, GoDaddy, Libero
        *(r"OFR\d*_?\d+\b", r"LPN\d*_?\d+\b"),  # Orange OFR_416, La Poste LPN007_510
        *(r"DT:[A-Z]+\b", r"MXIN\d+\b", r"VS\d+-[A-Z]+\b"),  # Netease DT:SPM, MXIN506, VS4-IP
    )
)


def provider_code(text: str) -> str:
    """The provider's own code for its reason, as it writes it ("TSS04", "S3150", "p=DmarcPolicy"); "" without."""
    if (found := _CODE.search(text)) is None:
        return ""
    code = found[0]
    return code[1:-1] if code[0] in "[(" else code.lstrip("?&")


def enhanced_within(text: str, klass: int) -> EnhancedCode | None:
    """An enhanced code of this class that stands inside the text, as in "no such user (#5.1.1)"; else None."""
    if f"{klass}." not in text:  # most replies: spares a search
        return None
    for found in islice(_ENHANCED.finditer(text), _TRIES):
        code = EnhancedCode(*map(int, found.groups()))
        if code.klass == klass:
            return code
    return None
