"""Signs: what the host names and pages that a reply names give away, as words that phrases may have.

The table below, and for each provider with `marks` in providers.toml a sign of its name (`#google`). A mark is a piece
of the name in lower case; a dot in it is the border of a label or of a part of a path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from sys import intern
from typing import Final

from smtpguard.classify.providers import MARKS
from smtpguard.classify.regex import picker

# a list of domains, one of addresses, reverse DNS, the rules of SPF, of line ends; a virus, named as hosts are
_MARKS: Final[Mapping[str, Sequence[str]]] = {
    "#domainlist": (".dbl.", "surbl", "uribl", "rhsbl", "query.domain", "ivmuri"),
    "#list": (
        *("spamhaus", "spamcop", "sorbs", "barracudacentral", "barracudanetworks.com.reputation", "abuseat"),
        *("uceprotect", "psbl", "mailspike", "cloudmark", "senderscore", "rbl.", "dnsbl", ".bl.", ".bl?"),
        *("blacklist", "black-list", "blocklist", "block-list", "denyip", "blue-shield", "ipcheck", "abusix"),
        *("mail-abuse", "spamrats", "spameatingmonkey", "njabl", "blocklist.de", "manitu.net", "mxtoolbox"),
        *("ers.trendmicro", "backscatterer", "lashback", "hostkarma", "invaluement", "spfbl", "delist"),
        *("sender.office.com", "mail_blocks"),
    ),
    "#arpa": (".arpa.",),
    "#spf": ("openspf", "open-spf", "spf.pobox", ".why?s="),
    "#barelf": ("smtplf",),
    "#virus": (".trojan", ".win32.", ".w32.", ".heur", ".worm.", ".exploit.", ".eicar", ".backdoor.", ".ransom"),
    **MARKS,
}
_SIGN_OF: Final = [intern(sign) for sign, marks in _MARKS.items() for _ in marks]
_marks_in: Final = picker(re.escape(mark.replace("/", ".")) for marks in _MARKS.values() for mark in marks)


def signs_of(name: str) -> tuple[str, ...]:
    """The signs in a host name or page, each once, in the order of the table."""
    found = _marks_in(f".{name.replace('/', '.')}.".encode("utf-8", "replace"))
    return tuple(dict.fromkeys([_SIGN_OF[number] for number in sorted(found or ())]))
