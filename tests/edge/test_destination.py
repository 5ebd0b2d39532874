"""Where a domain's mail goes: mail hosts in order, what the DNS says for certain, addresses not to be spoken to."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpguard.edge.destination import (
    MAX_ADDRESSES,
    MAX_HOSTS,
    Addresses,
    Destination,
    NoWay,
    find,
    is_inward,
    is_local,
    literal,
)
from smtpguard.policy import Own
from tests.mailauth.zone import Entries, Zone

PUBLIC = "198.41.0.4"  # of a root name server: never asked, only looked at
PUBLIC_6 = "2001:503:ba3e::2:30"


def addresses(zone: Zone, *, own: tuple[str, ...] = (), bind: str = "", private: bool = False) -> Addresses:
    return Addresses(zone, allow_private=private, own=[ip_address(text) for text in own], bind=bind)


async def found_in(zone: Mapping[str, Any], domain: str = "d.test", **more: Any) -> Destination | NoWay:
    resolver = Zone(zone)
    return await find(domain, resolver, addresses(resolver, **more))


def names(found: Destination | NoWay) -> list[set[str]]:
    assert isinstance(found, Destination), found
    return [{host.name for host in rank} for rank in found.ranks]


def why(found: Destination | NoWay) -> str:
    assert isinstance(found, NoWay), found
    return found.failure.keyword


def at(*hosts: str, address: str = PUBLIC) -> dict[str, Entries]:
    return {host: [{"A": address}] for host in hosts}


# -- which hosts


async def test_hosts_stand_by_preference_and_equals_together() -> None:
    zone = {
        "d.test": [{"MX": [20, "c.test"]}, {"MX": [10, "b.test"]}, {"MX": [10, "a.test"]}, {"TTL": 120}],
        **at("a.test", "b.test", "c.test"),
    }
    found = await found_in(zone)
    assert names(found) == [{"a.test", "b.test"}, {"c.test"}]
    assert found.ttl == 120


async def test_the_preferred_of_many_hosts_are_chosen() -> None:
    hosts = [f"mx{number}.test" for number in range(9)]
    zone: dict[str, Entries] = {"d.test": [{"MX": [number, host]} for number, host in enumerate(hosts)]}
    assert names(await found_in(zone | at(*hosts))) == [{host} for host in hosts[:MAX_HOSTS]]


async def test_of_equals_not_always_the_same_are_chosen() -> None:
    hosts = [f"mx{number}.test" for number in range(9)]
    zone: dict[str, Entries] = {"d.test": [{"MX": [10, host]} for host in hosts]} | at(*hosts)
    seen = {frozenset(names(await found_in(zone))[0]) for _ in range(20)}
    assert len(seen) > 1
    assert {len(each) for each in seen} == {MAX_HOSTS}


async def test_a_host_without_an_address_is_left_out() -> None:
    zone = {"d.test": [{"MX": [10, "gone.test"]}, {"MX": [20, "mx.test"]}], **at("mx.test")}
    assert names(await found_in(zone)) == [{"mx.test"}]


async def test_without_mx_the_domain_is_its_own_host() -> None:
    assert names(await found_in({"d.test": [{"AAAA": PUBLIC_6}]})) == [{"d.test"}]


async def test_a_literal_is_its_own_host() -> None:
    assert names(await found_in({}, f"[{PUBLIC}]")) == [{PUBLIC}]
    assert names(await found_in({}, f"[ipv6:{PUBLIC_6}]")) == [{PUBLIC_6}]
    assert why(await found_in({}, "[192.0.2]")) == Own.NO_DOMAIN
    assert why(await found_in({}, "[10.0.0.1]")) == Own.INWARD


@given(st.text(max_size=40))
def test_any_text_is_a_literal_or_none(text: str) -> None:
    assert not literal(text) or ip_address(literal(text))


# -- what is certain

CERTAIN: list[tuple[Mapping[str, Entries], Own]] = [
    ({"d.test": [{"MX": [0, "."]}]}, Own.NULL_MX),
    ({"other.test": [{"A": PUBLIC}]}, Own.NO_DOMAIN),
    ({"d.test": [{"TXT": "no mail here"}]}, Own.NO_MAIL_HOST),
    ({"d.test": [{"MX": [10, "mx.test"]}]}, Own.NO_MAIL_HOST),
    ({"d.test": [{"MX": [10, "127.0.0.1"]}]}, Own.NO_MAIL_HOST),
]


@pytest.mark.parametrize(("zone", "reason"), CERTAIN, ids=str)
async def test_what_the_dns_says_is_certain(zone: Mapping[str, Entries], reason: Own) -> None:
    assert why(await found_in(zone)) == reason


UNCERTAIN: list[Mapping[str, Entries]] = [
    {"d.test": ["SERVFAIL"]},
    {"d.test": ["TIMEOUT"]},
    {"d.test": [{"MX": [0, "."]}, "STALE"]},
    {"d.test": [{"MX": [10, "mx.test"]}], "mx.test": ["SERVFAIL"]},
    {"d.test": [{"MX": [10, "mx.test"]}], "mx.test": [{"TXT": "x"}, {"SERVFAIL": "A"}]},
    {"d.test": [{"MX": [10, "mx.test"]}, "STALE"]},
    {"d.test": [{"MX": [number, f"mx{number}.test"]} for number in range(12)]},  # too many to be looked up
]


@pytest.mark.parametrize("zone", UNCERTAIN, ids=str)
async def test_what_the_dns_does_not_say_now_is_no_refusal(zone: Mapping[str, Entries]) -> None:
    assert why(await found_in(zone)) == Own.DNS


async def test_old_hosts_are_better_than_none() -> None:
    zone = {"d.test": [{"MX": [10, "mx.test"]}, "STALE"], "mx.test": [{"A": PUBLIC}, "STALE"]}
    assert names(await found_in(zone)) == [{"mx.test"}]


async def test_one_host_that_can_be_looked_up_is_enough() -> None:
    zone = {"d.test": [{"MX": [10, "bad.test"]}, {"MX": [20, "mx.test"]}], "bad.test": ["TIMEOUT"], **at("mx.test")}
    assert names(await found_in(zone)) == [{"mx.test"}]


# -- which addresses

INWARD = (
    "127.0.0.1 0.0.0.0 10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 192.0.2.1 198.18.0.1 224.0.0.1 "
    "240.0.0.1 255.255.255.255 ::1 :: fe80::1 fc00::1 fec0::1 ff02::1 2001:db8::1 ::ffff:10.0.0.1 ::127.0.0.1 "
    "64:ff9b::a00:1 2002:a00:1:: 2001:0:a00:1::f5ff:fffe"
)


@pytest.mark.parametrize("text", INWARD.split())
def test_an_inward_address_is_known_in_each_disguise(text: str) -> None:
    assert is_inward(ip_address(text))


@pytest.mark.parametrize("text", [PUBLIC, PUBLIC_6, "8.8.8.8", f"64:ff9b::{PUBLIC}"])
def test_a_public_address_is_not_inward(text: str) -> None:
    assert not is_inward(ip_address(text))


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "169.254.169.254"])
async def test_a_host_that_lies_inside_is_left_out(address: str) -> None:
    zone = {"d.test": [{"MX": [10, "in.test"]}, {"MX": [20, "mx.test"]}], "in.test": [{"A": address}], **at("mx.test")}
    assert names(await found_in(zone)) == [{"mx.test"}]
    assert names(await found_in(zone, private=True)) == [{"in.test"}, {"mx.test"}]
    assert why(await found_in(at("d.test", address=address))) == Own.INWARD


async def test_addresses_are_judged_when_they_are_dialled() -> None:
    zone = Zone(
        {"in.test": [{"A": "10.0.0.1"}], "both.test": [{"A": "10.0.0.1"}, {"A": PUBLIC}], "no.test": ["TIMEOUT"]}
    )
    look = addresses(zone)
    with pytest.raises(OSError, match="inside"):
        await look.addresses("in.test", 25)
    assert [address for _, address in await look.addresses("both.test", 25)] == [(PUBLIC, 25)]
    assert await look.addresses("no.test", 25) == []


async def test_both_families_take_turns_and_there_are_not_too_many() -> None:
    sixes, fours = [f"2001:503:ba3e::{n}" for n in range(1, 9)], [f"198.41.0.{n}" for n in range(1, 9)]
    zone = Zone({"mx.test": [*({"AAAA": text} for text in sixes), *({"A": text} for text in fours)]})
    found = (await addresses(zone).look_up("mx.test")).addresses
    assert [address.version for address in found] == [6, 4] * (MAX_ADDRESSES // 2)


@pytest.mark.parametrize(
    ("source", "is_four"), [("2001:4860::9", False), ("fd00::2", True), ("fe80::1", True), (None, True)]
)
async def test_where_ipv6_leads_nowhere_the_other_family_is_first(source: str | None, is_four: bool) -> None:
    zone = Zone({"mx.test": [{"A": "9.9.9.9"}, {"AAAA": "2001:4860::1"}, {"AAAA": "2001:4860::2"}]})
    own = ip_address(source) if source else None
    looked = Addresses(zone, allow_private=False, own=(), bind="", source=lambda _: own)
    found = [where[0] for _, where in await looked.addresses("mx.test", 25)]
    assert len(found) == 3
    assert (found[0] == "9.9.9.9") is is_four


async def test_a_source_address_decides_the_family() -> None:
    zone = Zone({"mx.test": [{"AAAA": PUBLIC_6}, {"A": PUBLIC}]})
    assert [str(each) for each in (await addresses(zone, bind="127.0.0.1").look_up("mx.test")).addresses] == [PUBLIC]
    assert [str(each) for each in (await addresses(zone, bind="::1").look_up("mx.test")).addresses] == [PUBLIC_6]


# -- no loops


async def test_a_host_that_is_ourselves_ends_the_list() -> None:
    zone = {
        "d.test": [
            {"MX": [10, "first.test"]},
            {"MX": [20, "equal.test"]},
            {"MX": [20, "us.test"]},
            {"MX": [30, "z.test"]},
        ],
        **at("first.test", "equal.test", "z.test"),
        "us.test": [{"A": "198.41.0.9"}],
    }
    assert names(await found_in(zone, own=("198.41.0.9",))) == [{"first.test"}]
    assert names(await found_in(zone)) == [{"first.test"}, {"equal.test", "us.test"}, {"z.test"}]


async def test_a_domain_whose_best_host_we_are_has_no_way() -> None:
    zone = {"d.test": [{"MX": [10, "us.test"]}, {"MX": [20, "z.test"]}], "us.test": [{"A": PUBLIC}], **at("z.test")}
    assert why(await found_in(zone, own=(PUBLIC,))) == Own.OURSELVES
    assert why(await found_in(zone, bind=PUBLIC)) == Own.OURSELVES


async def test_an_address_of_this_machine_is_found_out() -> None:
    assert is_local(ip_address("127.0.0.1"))
    assert not is_local(ip_address(PUBLIC))
    assert not is_local(ip_address(PUBLIC_6))
