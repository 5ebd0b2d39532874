"""A world to audit: a zone, blocklists and policy files as literals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from smtpguard.audit import Line
from smtpguard.audit.inbound import NoFile
from smtpguard.lint.facts import Listing, Missing
from smtpguard.mailauth.dns import IpAddress

GOOD: dict[str, Any] = {
    "good.test": [
        {"TXT": "v=spf1 ip4:203.0.113.0/24 include:_spf.good.test -all"},
        {"MX": [10, "mx1.good.test"]},
        {"A": "203.0.113.80"},
    ],
    "_spf.good.test": [{"TXT": "v=spf1 ip4:198.51.100.0/24 -all"}],
    "mx1.good.test": [{"A": "203.0.113.25"}],
    "_dmarc.good.test": [{"TXT": "v=DMARC1; p=reject; rua=mailto:dmarc@good.test"}],
    "mail.good.test": [{"A": "203.0.113.7"}, {"TXT": "v=spf1 a -all"}],
    "7.113.0.203.in-addr.arpa": [{"PTR": "mail.good.test"}],
}
"""A sender with all that he needs, but for a DKIM key; 203.0.113.7 is mail.good.test."""


def but(changes: Mapping[str, Any]) -> dict[str, Any]:
    """GOOD with some names changed; None takes a name away."""
    return {name: entries for name, entries in {**GOOD, **changes}.items() if entries is not None}


class Lists:
    """Blocklists that say what they are given, of whatever else that it is not listed."""

    def __init__(self, said: Mapping[IpAddress | str, tuple[Listing, ...] | Missing] | None = None) -> None:
        self._said = said or {}

    async def ip(self, address: IpAddress) -> tuple[Listing, ...] | Missing:
        return self._said.get(address, ())

    async def domain(self, name: str) -> tuple[Listing, ...] | Missing:
        return self._said.get(name, ())


class Files:
    """Policy files by address; `fetched` is what was asked for."""

    def __init__(self, files: Mapping[str, bytes] | None = None) -> None:
        self._files = files or {}
        self.fetched: list[str] = []

    async def __call__(self, url: str) -> bytes | NoFile:
        self.fetched.append(url)
        return self._files.get(url, NoFile("it answers 404"))


def told(lines: Iterable[Line]) -> list[tuple[str, str]]:
    """State and rule of each."""
    return [(line.state, line.rule) for line in lines]
