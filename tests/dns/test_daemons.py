"""The resolver and the blocklists against unbound, NSD and rbldnsd: they say what the server in the process says."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from ipaddress import ip_address
from typing import Any

import pytest

from smtpguard.edge.blocklist import Blocklists, Change, Health
from smtpguard.edge.resolver import Resolver, View
from smtpguard.lint.facts import Missing
from smtpguard.mailauth import dmarc, spf
from smtpguard.mailauth.dns import Answer, Status
from tests.dns.daemons import REFUSED, SILENT, Daemons
from tests.dns.server import serving
from tests.dns.zones import Zone

pytestmark = pytest.mark.dns

TYPES = ("a", "aaaa", "mx", "txt", "tlsa")
LISTS = (
    "zen.spamhaus.org",
    "bl.spamcop.net",
    "psbl.surriel.com",
    "dbl.spamhaus.org",
    "multi.surbl.org",
    "multi.uribl.com",
)


def resolver_of(address: str, **settings: Any) -> Resolver:
    """A resolver that asks one server."""
    return Resolver([address], clock=time.monotonic, count=lambda purpose, result: None, **settings)


@pytest.fixture
async def theirs(daemons: Daemons) -> AsyncIterator[View]:
    """A resolver that asks unbound."""
    resolver = resolver_of(daemons.address)
    yield resolver.about("other")
    await resolver.close()


@pytest.fixture
async def ours(zone: Zone) -> AsyncIterator[View]:
    """A resolver that asks the server in this process."""
    async with serving(zone) as server:
        resolver = resolver_of(server.address)
        yield resolver.about("other")
        await resolver.close()


def what(answer: Answer[Any]) -> tuple[Status, list[str], str]:
    """All of an answer that does not depend on when and whom it was asked."""
    return answer.status, sorted(map(repr, answer.records)), answer.canonical


async def test_every_name_is_answered_alike(zone: Zone, ours: View, theirs: View) -> None:
    names = {name.replace("*", "any") for name in zone.records if name.endswith(".test")}
    names |= {"nothing.test", "deep.test", "b.deep.test", "no.good.test", "xn--no.test"}
    for name in sorted(names):
        for rdtype in TYPES:
            expected, got = await getattr(ours, rdtype)(name), await getattr(theirs, rdtype)(name)
            assert what(got) == what(expected), (name, rdtype)


@pytest.mark.parametrize("address", ["192.0.2.25", "2001:db8::25", "192.0.2.99"])
async def test_addresses_have_the_same_names(ours: View, theirs: View, address: str) -> None:
    assert what(await theirs.ptr(ip_address(address))) == what(await ours.ptr(ip_address(address)))


async def test_what_is_not_there_holds_for_the_soas_time(theirs: View) -> None:
    assert 30 <= (await theirs.a("nothing-at-all.test")).ttl <= 60


@pytest.mark.parametrize(("name", "fault"), [(REFUSED, "refused"), (SILENT, "timeout")])
async def test_faults(daemons: Daemons, name: str, fault: str) -> None:
    resolver = resolver_of(daemons.address, try_s=0.5, total_s=1)
    answer = await resolver.about("other").a(name)
    assert (answer.status, answer.fault) == (Status.TEMPFAIL, fault)
    await resolver.close()


@pytest.mark.parametrize(
    ("domain", "status"),
    [
        ("good.test", "pass"),
        ("google.test", "pass"),
        ("split.test", "pass"),
        ("byname.test", "pass"),
        ("perhost.test", "pass"),
        ("redirected.test", "pass"),
        ("aliased.test", "pass"),
        ("any.wild-txt.test", "fail"),
        ("parked.test", "fail"),
        ("eleven.test", "permerror"),
        ("voids.test", "permerror"),
        ("loop1.test", "permerror"),
        ("two-spf.test", "permerror"),
        ("nothing.parked.test", "none"),
        ("type99.test", "none"),
        (REFUSED, "temperror"),
    ],
)
async def test_spf_over_all_of_it(theirs: View, domain: str, status: str) -> None:
    address = ip_address("192.0.2.25")
    assert (await spf.check(theirs, [address], domain=domain))[address].status == status


@pytest.mark.parametrize(
    ("domain", "policy"),
    [("good.test", "reject"), ("google.test", "none"), ("sub.parked.test", "reject"), ("two.test", "")],
)
async def test_dmarc_over_all_of_it(theirs: View, domain: str, policy: str) -> None:
    found = await dmarc.walk(theirs, domain)
    assert not found.fault
    assert (found.policy.p if found.policy is not None else "") == policy


CLEAN = ("5.18.0.27", "5.18.0.30", "2a00:1::26", "example.com")
LISTED = ("5.18.0.25", "5.18.0.26", "2a00:1::25", "phish.example", "www.phish.example", "spam.example.com")


@pytest.mark.parametrize("subject", [*CLEAN, *LISTED])
async def test_lists_are_read_alike(ours: View, theirs: View, subject: str) -> None:
    said = []
    for view in (ours, theirs):
        told: list[Health | Change] = []
        lists = Blocklists(view, LISTS, clock=time.monotonic, on_change=told.append)
        is_domain = subject.endswith((".com", ".example"))
        said.append(await (lists.domain(subject) if is_domain else lists.ip(ip_address(subject))))
        assert all(isinstance(health, Health) and health.state == "ok" for health in told)
    assert said[0] == said[1]
    assert not isinstance(said[1], Missing)
    assert bool(said[1]) == (subject in LISTED)
