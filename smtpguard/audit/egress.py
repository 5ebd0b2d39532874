"""The audit of our own addresses, and of blocklists: what a receiver sees of us before it has read a word of mail.

The rules are the lint's (NET, RBL, SPF005). What a blocklist did not say is no listing and no acquittal: it is told as
skipped, with what the list said instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from smtpguard.audit.inbound import addresses as addresses_of
from smtpguard.audit.line import About, Line, judged, unknown
from smtpguard.lint.facts import Egress, EgressAddress, HeloSpf, Listing, Missing, SenderListings
from smtpguard.lint.lists import is_public, unmapped
from smtpguard.mailauth import spf
from smtpguard.mailauth.dns import IpAddress, Resolver

MAX_NAMES: Final = 10
"""Names of an address that are followed, as receivers do (RFC 7208 5.5)."""
_OF_NAMES: Final = ("NET001", "NET002", "NET003")
_OF_LISTS: Final = ("RBL001", "RBL002", "RBL003")
_OF_HELO: Final = ("NET004", "NET005", "SPF005")

Listings = tuple[Listing, ...] | Missing


class Lists(Protocol):
    """Blocklists; `edge/blocklist.py` meets it."""

    async def ip(self, address: IpAddress) -> Listings:
        """Where an address is listed; Missing where a list did not say and no other lists it."""

    async def domain(self, name: str) -> Listings:
        """Where a domain is listed, as `ip`."""


class Found(NamedTuple):
    """`listings`: by address; an address is asked about where lists are."""

    egress: Egress
    helo: HeloSpf
    listings: Mapping[IpAddress, Listings]


async def ask(resolver: Resolver, lists: Lists, addresses: Sequence[IpAddress], helo: str) -> Found:
    """Names, the way back from them, the HELO name with its own SPF, and blocklists, for each of our addresses.

    `helo` "": it is not known.
    """
    helo_addresses, policy, each, listed = await asyncio.gather(
        addresses_of(resolver, helo) if helo else _none(),
        spf.check(resolver, addresses, domain=helo, helo=helo),
        asyncio.gather(*(_address(resolver, address) for address in addresses)),
        asyncio.gather(*(lists.ip(address) for address in addresses)),
    )
    listings = dict(zip(addresses, listed, strict=True))
    known = tuple(
        EgressAddress(one.address, one.ptr, one.forward, () if isinstance(listing, Missing) else listing)
        for one, listing in zip(each, listed, strict=True)
    )
    return Found(Egress(known, helo, helo_addresses), HeloSpf("helo", helo, policy), listings)


async def _none() -> tuple[()]:
    return ()


async def _address(resolver: Resolver, address: IpAddress) -> EgressAddress:
    ptr = await resolver.ptr(address)
    names = ptr.records[:MAX_NAMES]
    answers = await asyncio.gather(*(addresses_of(resolver, name) for name in names))
    return EgressAddress(address, ptr, dict(zip(names, answers, strict=True)))


def lines(found: Found) -> Iterator[Line]:
    """Address by address, then the name that we announce."""
    for one in found.egress.addresses:
        alone = Egress((one,), found.egress.helo, found.egress.helo_addresses)
        yield from _names(one, alone)
        yield from _listed("egress", one.address, found.listings[one.address], list(judged("egress", _OF_LISTS, alone)))
    if not found.egress.helo:
        said = "the name that it says in EHLO is not known: no configuration of smtpguard is here"
        yield Line("egress", "skip", said, "ask where mail is sent from, or name its configuration with --config")
        return
    helo = list(judged("egress", _OF_HELO, found.egress, found.helo))
    fault = next((answer.fault for answer in found.egress.helo_addresses if not answer.is_known), "")
    yield from helo
    if fault:
        yield unknown("egress", f"the HELO name {found.egress.helo}", fault)
    elif not helo:
        yield Line("egress", "ok", f"HELO {found.egress.helo} leads to every address")


def _names(one: EgressAddress, alone: Egress) -> Iterator[Line]:
    ptr = one.ptr
    if ptr is None or not ptr.is_known:
        yield unknown("egress", f"the name of {one.address}", ptr.fault if ptr else "not asked")
        return
    problems = list(judged("egress", _OF_NAMES, alone))
    yield from problems
    back = [name for name, answers in one.forward.items() if any(one.address in answer.records for answer in answers)]
    if not problems and back:
        yield Line("egress", "ok", f"{one.address} is {back[0]}, and {back[0]} is {one.address}")
    elif not problems:
        yield unknown("egress", f"the addresses of {', '.join(one.forward)}", "some name server fails")


def _listed(about: About, subject: IpAddress | str, listings: Listings, problems: Sequence[Line]) -> Iterator[Line]:
    yield from problems
    if isinstance(listings, Missing) and not isinstance(subject, str) and not is_public(unmapped(subject)):
        yield Line(about, "skip", f"{subject} is no public address: lists are not asked")
    elif isinstance(listings, Missing):
        yield Line(about, "skip", f"{subject}: not to be said ({listings.why})")
    elif not listings:
        yield Line(about, "ok", f"{subject} is on none of the lists that were asked")


def domain_lines(domain: str, listings: Listings) -> Iterator[Line]:
    """What the lists of domains say of a sender's."""
    entries = () if isinstance(listings, Missing) else listings
    yield from _listed(
        "blocklist", domain, listings, list(judged("blocklist", ("RBL004",), SenderListings({domain: entries})))
    )
