"""A second opinion: the same questions put to another resolver, and where the two answers differ (split horizon).

What the audit sees through the network's own resolver may not be what the world sees: an inner zone of the same name,
a record that is not yet everywhere, a resolver that rewrites. Only names of the audited domain are compared; what other
domains answer may depend on who asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import Any, NamedTuple, TypeVar

from smtpguard.audit.line import Line
from smtpguard.lint.names import is_inside
from smtpguard.mailauth.dns import Answer, IpAddress, Mx, Resolver, Tlsa

T = TypeVar("T")


class Noted:
    """A resolver that keeps what was asked and answered, by kind and name."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self.answers: dict[tuple[str, str], Answer[Any]] = {}

    async def _note(self, kind: str, name: str, answer: Awaitable[Answer[T]]) -> Answer[T]:
        said = self.answers[kind, name] = await answer
        return said

    async def a(self, name: str) -> Answer[IPv4Address]:
        """IPv4 addresses."""
        return await self._note("A", name, self._resolver.a(name))

    async def aaaa(self, name: str) -> Answer[IPv6Address]:
        """IPv6 addresses."""
        return await self._note("AAAA", name, self._resolver.aaaa(name))

    async def mx(self, name: str) -> Answer[Mx]:
        """Mail hosts."""
        return await self._note("MX", name, self._resolver.mx(name))

    async def txt(self, name: str) -> Answer[bytes]:
        """Each TXT record's octets."""
        return await self._note("TXT", name, self._resolver.txt(name))

    async def ptr(self, address: IpAddress) -> Answer[str]:
        """The names of an address."""
        return await self._resolver.ptr(address)  # of no domain

    async def tlsa(self, name: str) -> Answer[Tlsa]:
        """RFC 6698."""
        return await self._note("TLSA", name, self._resolver.tlsa(name))


class Difference(NamedTuple):
    """A question with two answers."""

    kind: str
    name: str
    here: Answer[Any]
    there: Answer[Any]


async def differences(noted: Noted, second: Resolver, domain: str) -> list[Difference]:
    """Ask the second resolver what was asked about the domain and what is below it."""
    by_kind: dict[str, Callable[[str], Awaitable[Answer[Any]]]] = {
        "A": second.a,
        "AAAA": second.aaaa,
        "MX": second.mx,
        "TXT": second.txt,
        "TLSA": second.tlsa,
    }
    asked = [
        (kind, name, here)
        for (kind, name), here in noted.answers.items()
        if name == domain or name.endswith("." + domain)
    ]
    there = await asyncio.gather(*(partial(by_kind[kind], name)() for kind, name, _ in asked))
    pairs = (Difference(*question, said) for question, said in zip(asked, there, strict=True))
    return [pair for pair in pairs if _differ(pair.here, pair.there)]


def _differ(here: Answer[Any], there: Answer[Any]) -> bool:
    """Whether one resolver has records that the other lacks. That there is no name or no record comes to the same."""
    return here.is_known and there.is_known and set(here.records) != set(there.records)


def difference_lines(found: Iterable[Difference], server: str) -> Iterator[Line]:
    """A line for each; without any, that there is none."""
    is_same = True
    for kind, name, here, there in found:
        is_same = False
        fix = "believe the public answer: receivers see it; [lint.dns] resolvers says whom smtpguard asks"
        yield Line("dns", "warn", f"{kind} of {name} is {_shown(here)} here, {_shown(there)} at {server}", fix)
    if is_same:
        yield Line("dns", "ok", f"{server} says the same")


def _shown(answer: Answer[Any]) -> str:
    return ", ".join(map(_record, answer.records)) or "not there"


def _record(record: object) -> str:
    if isinstance(record, bytes):
        return '"' + ascii(record.decode("latin-1"))[1:-1] + '"'
    return f"{record.preference} {record.host}" if isinstance(record, Mx) else str(record)


def inside_lines(noted: Noted, domain: str) -> Iterator[Line]:
    """Names of the domain that lead to private addresses: what is seen here is not what the world sees."""
    inside = sorted(
        {
            name
            for (kind, name), answer in noted.answers.items()
            if kind in ("A", "AAAA") and (name == domain or name.endswith("." + domain))
            if any(map(is_inside, answer.records))
        }
    )
    if inside:
        fix = "compare with --public-resolver IP; put a resolver that sees the public zone into [lint.dns] resolvers"
        yield Line("dns", "warn", f"private addresses at {', '.join(inside[:3])}: this may be an inner view", fix)
