"""What is known of a sender is kept together until the first of it is found anew; what is being found is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_address
from typing import Any, cast

import pytest

from smtpguard.edge.gather import MAX_SENDERS, Gather, had, settled
from smtpguard.edge.known import AHEAD
from smtpguard.edge.resolver import Resolver
from smtpguard.lint.facts import Egress, Missing, SenderDomain, Spf
from smtpguard.mailauth.spf import SpfStatus
from tests.harness import PATIENCE_S
from tests.mailauth.zone import Entries, Zone

OURS = (ip_address("192.0.2.25"),)
TTL = 300
DATA: dict[str, Entries] = {
    "good.test": [{"MX": [10, "mx.good.test"]}, {"TXT": "v=spf1 ip4:192.0.2.25 -all"}],
    "mx.good.test": [{"A": "192.0.2.25"}],
    "_dmarc.good.test": [{"TXT": "v=DMARC1; p=reject"}],
    "personal.test": [{"TXT": "v=spf1 exists:%{l}.list.test -all"}, {"A": "192.0.2.25"}],
    "ann.list.test": [{"A": "127.0.0.2"}],
    "late.test": ["TIMEOUT"],
    "relay.test": [{"A": "192.0.2.25"}],
}


class Asked(Zone):
    """The zone as `Gather` asks a resolver."""

    def about(self, _purpose: str) -> Asked:
        return self


class World:
    """A gather with a clock that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.zone = Asked(DATA, ttl=TTL)
        self.gather = Gather(
            cast(Resolver, self.zone), None, helo="relay.test", clock=lambda: self.now, on_fault=self._raise
        )

    def _raise(self, fault: Exception) -> None:
        raise fault

    async def sender(self, path: bytes) -> dict[type, Any]:
        """What is known of it when all was found."""
        domain = path.rpartition(b"@")[2].decode()
        found = self.gather.sender(domain, path, OURS)
        await settled(found.facts.values(), PATIENCE_S)
        return {kind: had(fact) for kind, fact in found.facts.items()}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.gather.close()


async def test_a_sender_is_asked_for_once(world: World) -> None:
    first = world.gather.sender("good.test", b"ann@good.test", OURS)
    assert first.until == 0.0
    assert any(isinstance(fact, asyncio.Task) for fact in first.facts.values())
    known = await world.sender(b"ann@good.test")
    asked = len(world.zone.asked)
    found = world.gather.sender("good.test", b"ben@good.test", OURS)
    assert found.facts == known
    assert found is world.gather.sender("good.test", b"ann@good.test", OURS)
    assert len(world.zone.asked) == asked
    assert {type(fact).__name__ for fact in known.values()} == {"MailDomain", "Spf", "Egress"}


async def test_it_is_looked_at_again_when_the_first_of_it_is_found_anew(world: World) -> None:
    await world.sender(b"ann@good.test")
    found = world.gather.sender("good.test", b"ann@good.test", OURS)
    world.now += AHEAD * TTL - 1
    assert found is world.gather.sender("good.test", b"ann@good.test", OURS)
    world.now += 2
    asked = len(world.zone.asked)
    assert found is not world.gather.sender("good.test", b"ann@good.test", OURS)
    await asyncio.sleep(0)
    assert len(world.zone.asked) > asked


async def test_of_a_record_that_asks_for_the_local_part_each_sender_is_known_by_itself(world: World) -> None:
    await world.sender(b"ann@personal.test")  # it shows that the record asks for it
    for path, status in ((b"ann@personal.test", SpfStatus.PASS), (b"ben@personal.test", SpfStatus.FAIL)) * 2:
        spf = (await world.sender(path))[Spf]
        assert spf.results[OURS[0]].status is status


async def test_a_fault_of_the_dns_is_asked_about_again(world: World) -> None:
    known = await world.sender(b"ann@late.test")
    assert isinstance(known[SenderDomain], Missing)
    world.now += 11
    asked = len(world.zone.asked)
    await world.sender(b"ann@late.test")
    assert len(world.zone.asked) > asked


async def test_without_egress_addresses_nothing_is_asked_of_them(world: World) -> None:
    found = world.gather.sender("", b"", ())
    assert isinstance(found.facts[Spf], Missing)
    assert isinstance(found.facts[Egress], Missing)
    assert world.zone.asked == []
    assert Spf not in world.gather.sender("", b"nobody", ()).facts


async def test_what_stands_for_the_sender(world: World) -> None:
    first = world.gather.standing("good.test", ("", "good.test", "mail.good.test"))
    assert first.until == 0.0
    assert first.listed is None
    await settled(first.waiting(), PATIENCE_S)
    found = world.gather.standing("good.test", ("", "good.test", "mail.good.test"))
    assert found is world.gather.standing("good.test", ("", "good.test", "mail.good.test"))
    assert found.organizations == {"good.test": "good.test", "mail.good.test": "good.test"}
    assert found.policy[0].disposition == "reject"
    assert found.organization == "good.test"
    assert found.listed is not None
    world.now += AHEAD * TTL + 1
    assert found is not world.gather.standing("good.test", ("", "good.test", "mail.good.test"))


async def test_without_a_from_domain_there_is_no_policy(world: World) -> None:
    found = world.gather.standing("", ("good.test", ""))
    assert found.policy == Missing("no From domain")
    assert found.organizations == {}
    assert found.organization == ""


async def test_what_is_kept_together_is_bounded(world: World) -> None:
    for number in range(MAX_SENDERS + 1):
        world.gather.standing("", (f"d{number}.test",))
    assert 0 < len(world.gather._standings) <= MAX_SENDERS
