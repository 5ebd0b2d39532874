"""MTA-STS (RFC 8461): the record that says a domain has a policy, and the policy file itself. Nothing is fetched here.

The record at `_mta-sts.` only tells senders when to fetch anew (`id=`). The policy, at `https://mta-sts.DOMAIN` and the
path below, names the mail hosts that may be delivered to, and whether a sender must do without one whose certificate
does not fit. A record or a file with a fault counts as none: mail then passes as if there were no policy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from smtpguard.mailauth.versioned import Versioned, only

MAX_POLICY: Final = 64 * 1024
"""Octets of a policy file that senders read (RFC 8461 3.3)."""
MAX_AGE_S: Final = 31_557_600
"""A year (RFC 8461 3.2)."""
PATH: Final = "/.well-known/mta-sts.txt"

Mode = Literal["enforce", "testing", "none"]
_MODES: Final[dict[str, Mode]] = {"enforce": "enforce", "testing": "testing", "none": "none"}

# sts-id-value = 1*32(ALPHA / DIGIT)
_ID: Final = re.compile(r"[A-Za-z0-9]{1,32}")
# sts-policy-mx-value = [".*"] Domain, where the text of RFC 8461 4.1 has it that the wildcard is the first label
_MX: Final = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+")
# sts-policy-max-age-value = 1*10(DIGIT)
_AGE: Final = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy file. With a problem, senders take it for none."""

    mode: Mode = "none"
    mx: tuple[str, ...] = ()
    """Names of mail hosts, lower case; `*.example.net` is any host right below example.net."""
    max_age_s: int = 0
    problems: tuple[str, ...] = ()

    def allows(self, host: str) -> bool:
        """Whether a mail host (lower case) may be delivered to under it (RFC 8461 4.1)."""
        parent = host.partition(".")[2]
        return any(pattern == host or pattern == f"*.{parent}" for pattern in self.mx)


def name_of(domain: str) -> str:
    """Where a domain's record stands."""
    return f"_mta-sts.{domain}"


def url_of(domain: str) -> str:
    """Where a domain's policy is fetched (RFC 8461 3.3)."""
    return f"https://mta-sts.{domain}{PATH}"


def parse_record(records: Iterable[bytes]) -> Versioned:
    """The TXT records at `name_of`; the tag that counts is `id` (RFC 8461 3.1)."""
    found = only(records, "STSv1")
    if found.tags and not _ID.fullmatch(found.tags.get("id", "")):
        return found._replace(tags={}, problem="its id= is missing, or not 1 to 32 letters and digits")
    return found


def parse_policy(file: bytes) -> Policy:
    """A policy file (RFC 8461 3.2): `key: value` lines that end in LF or CRLF; the first of two with one key holds."""
    if len(file) > MAX_POLICY:
        return Policy(problems=(f"it has more than {MAX_POLICY} octets",))
    values: dict[str, str] = {}
    mx: list[str] = []
    problems: list[str] = []
    for line in file.decode("utf-8", "replace").splitlines():
        key, colon, value = (part.strip(" \t") for part in line.partition(":"))
        if not colon:
            if line.strip():
                problems.append(f"'{ascii(line[:40])[1:-1]}' is no line of the form key: value")
        elif key == "mx":
            mx.append(value.lower().removesuffix("."))
        else:
            values.setdefault(key, value)
    problems += [f"mx: '{ascii(name)[1:-1]}' is no name of a host" for name in mx if not _MX.fullmatch(name)]
    if values.get("version") != "STSv1":
        problems.append("there is no line `version: STSv1`")
    mode = _MODES.get(values.get("mode", ""))
    if mode is None:
        problems.append(f"mode is none of {', '.join(_MODES)}")
    elif mode != "none" and not mx:
        problems.append("it names no mx")
    age = values.get("max_age", "")
    if not _AGE.fullmatch(age) or int(age) > MAX_AGE_S:
        problems.append(f"max_age is no number of seconds up to {MAX_AGE_S}")
    return Policy(
        mode or "none",
        tuple(dict.fromkeys(mx)),
        int(age) if _AGE.fullmatch(age) else 0,
        tuple(problems),
    )
