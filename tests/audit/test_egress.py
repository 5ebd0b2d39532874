"""Our own addresses in an audit: names, the way back, the HELO name, and blocklists."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest

from smtpguard.audit import Line
from smtpguard.audit.egress import ask, domain_lines, lines
from smtpguard.lint.facts import Listing, Missing
from tests.audit.world import Lists, but, told
from tests.mailauth.zone import Zone

OURS = IPv4Address("203.0.113.7")
POINTER = "7.113.0.203.in-addr.arpa"
SBL = Listing("zen.spamhaus.org", "SBL: a known source of spam", "https://check.spamhaus.org/query/ip/203.0.113.7")


async def audited(changes: dict[str, Any], lists: Lists | None = None, helo: str = "mail.good.test") -> list[Line]:
    return list(lines(await ask(Zone(but(changes)), lists or Lists(), [OURS], helo)))


def named(name: str, address: str) -> dict[str, Any]:
    """203.0.113.7 has this name, which has that address."""
    return {POINTER: [{"PTR": name}], name: [{"A": address}]}


async def test_all_in_order() -> None:
    name, listed, helo = await audited({})
    assert {line.state for line in (name, listed, helo)} == {"ok"}
    assert name.message == "203.0.113.7 is mail.good.test, and mail.good.test is 203.0.113.7"
    assert listed.message == "203.0.113.7 is on none of the lists that were asked"
    assert helo.message == "HELO mail.good.test leads to every address"


@pytest.mark.parametrize(
    ("changes", "rule", "record"),
    [
        ({POINTER: None}, "NET001", ""),
        (named("old.good.test", "203.0.113.9"), "NET002", "old.good.test. A 203.0.113.7"),
        (named("203-0-113-7.dsl.isp.test", "203.0.113.7"), "NET003", ""),
        ({"mail.good.test": [{"TXT": "x"}], POINTER: None}, "NET004", ""),
        ({"mail.good.test": [{"A": "203.0.113.9"}]}, "NET005", "mail.good.test. A 203.0.113.7"),
        ({"mail.good.test": [{"A": "203.0.113.7"}, {"TXT": "v=spf1 -all"}]}, "SPF005", ""),
    ],
    ids=["no name", "not back", "a line", "no helo", "other helo", "helo spf"],
)
async def test_what_the_lint_says_of_us(changes: dict[str, Any], rule: str, record: str) -> None:
    line = next(line for line in await audited(changes) if line.rule == rule)
    assert line.fix
    if record:
        assert record in line.records


async def test_a_helo_name_that_nobody_knows_is_not_looked_at() -> None:
    *others, last = await audited({}, helo="")
    assert {line.state for line in others} == {"ok"}
    assert (last.state, last.is_temporary, "EHLO is not known" in last.message) == ("skip", False, True)
    zone = Zone(but({}))
    await ask(zone, Lists(), [OURS], "")
    assert {name for _, name in zone.asked} == {POINTER, "mail.good.test"}
    name, *_ = await audited({POINTER: None}, helo="")
    assert f"publish {POINTER}. PTR" in name.fix


async def test_whoever_has_to_publish_a_ptr_it_is_not_the_domains_owner() -> None:
    missing = (await audited({POINTER: None}))[0]
    assert f"publish {POINTER}. PTR mail.good.test." in missing.fix
    assert missing.records == ()


@pytest.mark.parametrize(
    "changes", [{POINTER: ["TIMEOUT"]}, {POINTER: [{"PTR": "x.good.test"}], "x.good.test": ["SERVFAIL"]}]
)
async def test_names_that_cannot_be_had_are_no_fault(changes: dict[str, Any]) -> None:
    first, *_ = await audited(changes)
    assert (first.state, first.is_temporary) == ("skip", True)


async def test_a_helo_name_that_cannot_be_had() -> None:
    found = await audited(
        {"mail.good.test": ["TIMEOUT"], POINTER: [{"PTR": "a.good.test"}], "a.good.test": [{"A": str(OURS)}]}
    )
    assert (found[-1].state, found[-1].is_temporary) == ("skip", True)
    assert "fail" not in {line.state for line in found}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ((SBL,), [("fail", "RBL001")]),
        ((SBL._replace(kind="policy"),), [("warn", "RBL002")]),
        ((SBL._replace(kind="minor"),), [("warn", "RBL003")]),
        (Missing("zen.spamhaus.org: blocked"), [("skip", "")]),
        ((), [("ok", "")]),
    ],
)
async def test_blocklists(said: Any, expected: list[Any]) -> None:
    found = await audited({}, Lists({OURS: said}))
    assert told(found[1:-1]) == expected


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("203.0.113.7", " is no public address: lists are not asked"),
        ("::ffff:8.8.8.8", ": not to be said (no list for it)"),
        ("8.8.8.8", ": not to be said (no list for it)"),
    ],
)
async def test_lists_are_not_asked_of_addresses_that_are_not_public(address: str, said: str) -> None:
    ours = ip_address(address)
    found = await ask(Zone(but({})), Lists({ours: Missing("no list for it")}), [ours], "mail.good.test")
    assert f"{ours}{said}" in [line.message for line in lines(found) if line.state == "skip"]


def test_a_domain_on_a_list_and_one_of_which_nothing_is_known() -> None:
    entry = Listing("dbl.spamhaus.org", "seen in spam", "https://check.spamhaus.org/query/domain/a.test")
    (listed,) = domain_lines("a.test", (entry,))
    assert (listed.about, listed.state, listed.rule) == ("blocklist", "fail", "RBL004")
    (missing,) = domain_lines("a.test", Missing("dbl.spamhaus.org: blocked"))
    assert (missing.state, missing.is_temporary) == ("skip", False)
    assert "dbl.spamhaus.org: blocked" in missing.message
