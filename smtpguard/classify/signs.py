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
from smtpguard.classify.regex import any_of

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
_SIGN_OF: Final = {mark.replace("/", "."): intern(sign) for sign, marks in _MARKS.items() for mark in marks}
_MARK: Final = re.compile(any_of(_SIGN_OF))


def signs_of(name: str) -> tuple[str, ...]:
    """The signs in a host name or page, each once."""
    found = _MARK.findall(f".{name.replace('/', '.')}.")
    return tuple(dict.fromkeys(map(_SIGN_OF.__getitem__, found)))
