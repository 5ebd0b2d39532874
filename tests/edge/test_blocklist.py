"""Blocklists over real sockets: what is a listing, what is not known, and lists that cannot be trusted."""

from __future__ import annotations

import asyncio
import io
import traceback
from collections.abc import AsyncIterator, Callable
from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest
from pydantic import SecretStr

from smtpguard.edge.blocklist import CHECK_S, Blocklists, Change, Health, Listings
from smtpguard.edge.resolver import Resolver
from smtpguard.lint.facts import Missing
from tests.dns import server as dns_server
from tests.dns.zones import Zone, load
from tests.edge.waiting import until

ZEN, SPAMCOP, DBL, SURBL, URIBL = (
    "zen.spamhaus.org",
    "bl.spamcop.net",
    "dbl.spamhaus.org",
    "multi.surbl.org",
    "multi.uribl.com",
)
LISTED, POLICY, CLEAN = IPv4Address("5.18.0.25"), IPv4Address("5.18.0.26"), IPv4Address("5.18.0.30")
TEST_ENTRY = "2.0.0.127.zen.spamhaus.org"
Make = Callable[..., "Bench"]
KEY = "abcdefghijklmnopqrstuvwxyz"


class Bench:
    """Blocklists in front of a server, the clock of both, and what they told."""

    def __init__(
        self, upstream: dns_server.Server, *lists: str, key: str = "", internal: tuple[str, ...] = (), try_s: float = 10
    ) -> None:
        self.server, self.zone = upstream, upstream.zone
        self.now = 1000.0
        self.told: list[Health | Change] = []
        self.resolver = Resolver(
            [upstream.address],
            internal_zones=internal,
            clock=lambda: self.now,
            count=lambda purpose, result: None,
            try_s=try_s,
            total_s=2 * try_s,
        )
        self.lists = Blocklists(
            self.resolver.about("blocklist"),
            lists or (ZEN, SPAMCOP, DBL, SURBL, URIBL),
            keys={"spamhaus": SecretStr(key)} if key else {},
            clock=lambda: self.now,
            on_change=self.told.append,
        )

    def states(self) -> dict[str, str]:
        """The state of each list."""
        return {health.list: health.state for health in self.lists.status()}

    async def passed(self, seconds: float) -> None:
        """Let time pass, and what is due be done."""
        self.now += seconds
        await self.lists.refresh()

    async def close(self) -> None:
        await self.lists.close()
        await self.resolver.close()


@pytest.fixture
async def upstream() -> AsyncIterator[dns_server.Server]:
    async with dns_server.serving(load("lists")) as upstream:
        yield upstream


@pytest.fixture
async def make(upstream: dns_server.Server) -> AsyncIterator[Make]:
    """Makes blocklists of any settings."""
    made: list[Bench] = []

    def one(*lists: str, **settings: Any) -> Bench:
        made.append(Bench(upstream, *lists, **settings))
        return made[-1]

    yield one
    for bench in made:
        await bench.close()


@pytest.fixture
def bench(make: Make) -> Bench:
    """All lists."""
    return make()


async def checks_ended() -> None:
    """Wait for the checks of lists that are under way; their tasks bear the lists' names."""
    await until(lambda: not {ZEN, SPAMCOP, DBL, SURBL, URIBL} & {task.get_name() for task in asyncio.all_tasks()})


def brief(said: Listings) -> object:
    """(list, kind) of each entry; the reason of a Missing."""
    return said.why if isinstance(said, Missing) else [(entry.list, entry.kind) for entry in said]


# --- listings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("5.18.0.25", [(ZEN, "listed"), (ZEN, "policy"), (SPAMCOP, "minor")]),
        ("::ffff:5.18.0.25", [(ZEN, "listed"), (ZEN, "policy"), (SPAMCOP, "minor")]),
        ("5.18.0.26", [(ZEN, "policy")]),
        ("5.18.0.27", []),  # a code that is not documented
        ("5.18.0.30", []),
        ("2a00:1::25", [(ZEN, "listed")]),
        ("2a00:1::26", []),
        ("10.0.0.1", "no list for it"),
        ("2001:db8::1", "no list for it"),
    ],
)
async def test_an_address(bench: Bench, address: str, expected: object) -> None:
    assert brief(await bench.lists.ip(ip_address(address))) == expected
    asked = len(bench.server.questions)
    assert brief(await bench.lists.ip(ip_address(address))) == expected
    assert len(bench.server.questions) == asked


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("phish.example", [(DBL, "listed"), (SURBL, "listed"), (SURBL, "listed")]),
        ("www.phish.example", [(DBL, "listed"), (SURBL, "listed"), (SURBL, "listed")]),
        ("spam.example.com", [(DBL, "grey")]),  # the host, not example.com
        ("example.com", []),
        ("localhost", "no list for it"),
        ("192.0.2.1", "no list for it"),
    ],
)
async def test_a_domain(bench: Bench, domain: str, expected: object) -> None:
    assert brief(await bench.lists.domain(domain)) == expected


async def test_an_entry_says_where_to_be_delisted(bench: Bench) -> None:
    listings = await bench.lists.ip(POLICY)
    assert not isinstance(listings, Missing)
    assert listings[0].url == "https://check.spamhaus.org/query/ip/5.18.0.26"
    assert listings[0].meaning.startswith("PBL: ")


async def test_addresses_are_asked_of_address_lists_only_and_domains_of_the_others(bench: Bench) -> None:
    await bench.lists.ip(LISTED)
    assert not any(was.name.endswith((DBL, SURBL, URIBL)) for was in bench.server.questions)
    bench.server.questions.clear()
    await bench.lists.domain("phish.example")
    assert not any(was.name.endswith((ZEN, SPAMCOP)) for was in bench.server.questions)


async def test_names_of_internal_zones_are_not_told_to_lists(upstream: dns_server.Server, make: Make) -> None:
    bench = make(internal=("corp.example",))
    assert brief(await bench.lists.domain("host.corp.example")) == "internal"
    bench.lists.watch_domain("corp.example")
    await bench.lists.refresh()
    assert not any("corp" in was.name for was in upstream.questions)


# --- what could not be had -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["SERVFAIL", "REFUSED", "TIMEOUT"])
async def test_a_fault_is_not_clean(make: Make, fault: str) -> None:
    bench = make(ZEN, try_s=0.3)
    bench.zone.put("30.0.18.5.zen.spamhaus.org", fault)
    assert brief(await bench.lists.ip(CLEAN)) == f"{ZEN}: {fault.lower()}"
    assert bench.states()[ZEN] == "ok"


async def test_an_entry_in_one_list_counts_where_another_does_not_answer(bench: Bench) -> None:
    bench.zone.put("25.0.18.5.zen.spamhaus.org", "SERVFAIL")
    assert brief(await bench.lists.ip(LISTED)) == [(SPAMCOP, "minor")]


async def test_the_host_counts_where_its_organizational_domain_could_not_be_asked(bench: Bench) -> None:
    bench.zone.put("example.com.dbl.spamhaus.org", "SERVFAIL")
    assert brief(await bench.lists.domain("spam.example.com")) == [(DBL, "grey")]
    assert brief(await bench.lists.domain("other.example.com")) == f"{DBL}: servfail"


async def test_an_entry_past_its_time_does_not_count(bench: Bench) -> None:
    await bench.lists.ip(POLICY)
    bench.server.fault = "SERVFAIL"
    bench.now += 301
    assert brief(await bench.lists.ip(POLICY)) == f"{ZEN}: stale"


# --- lists that cannot be trusted ------------------------------------------------------------------------------------


BAD: list[tuple[str, list[object], str]] = [
    (TEST_ENTRY, [], "broken"),
    (TEST_ENTRY, [{"A": "127.0.0.99"}], "broken"),
    (TEST_ENTRY, [{"A": "127.0.0.1"}], "blocked"),
    (TEST_ENTRY, [{"A": "127.255.255.254"}], "error"),
    (TEST_ENTRY, [{"A": "198.51.100.77"}], "broken"),
    (TEST_ENTRY, ["SERVFAIL"], "unreachable"),
    ("1.0.0.127.zen.spamhaus.org", [{"A": "127.0.0.2"}], "broken"),
    ("1.0.0.127.zen.spamhaus.org", [{"A": "127.0.0.1"}], "blocked"),
    ("*.zen.spamhaus.org", [{"A": "198.51.100.77"}], "broken"),  # parked
    ("*.zen.spamhaus.org", [{"A": "127.0.0.2"}], "broken"),  # lists the world
]


@pytest.mark.parametrize(("name", "records", "state"), BAD)
async def test_a_list_whose_test_entries_are_wrong_is_never_used(
    upstream: dns_server.Server, make: Make, name: str, records: list[object], state: str
) -> None:
    if name.startswith("*"):
        upstream.zone.records.clear()
    upstream.zone.put(name, *records)  # type: ignore[arg-type]  # as zones.py wants them
    bench = make(ZEN)
    assert brief(await bench.lists.ip(LISTED)) == "no list in use"
    assert bench.states() == {ZEN: state}
    assert bench.server.asked("25.0.18.5.zen.spamhaus.org") == 0
    (health,) = bench.told
    assert isinstance(health, Health)
    assert health.detail
    await bench.lists.ip(CLEAN)
    assert len(bench.told) == 1  # told once


async def test_other_lists_are_used_meanwhile(bench: Bench) -> None:
    bench.zone.put(TEST_ENTRY)
    assert brief(await bench.lists.ip(LISTED)) == [(SPAMCOP, "minor")]
    assert brief(await bench.lists.ip(CLEAN)) == []
    assert bench.states()[ZEN] == "broken"


@pytest.mark.parametrize(
    ("code", "state"), [("127.0.0.1", "blocked"), ("127.255.255.252", "error"), ("198.51.100.77", "broken")]
)
async def test_an_answer_about_a_subject_may_say_that_a_list_is_not_to_be_used(
    bench: Bench, code: str, state: str
) -> None:
    bench.zone.put("30.0.18.5.zen.spamhaus.org", {"A": code})
    assert brief(await bench.lists.ip(CLEAN)) == f"{ZEN}: {state}"
    assert bench.states()[ZEN] == state
    assert brief(await bench.lists.ip(LISTED)) == [(SPAMCOP, "minor")]  # ZEN is left out


async def test_what_was_concluded_with_a_list_is_not_held_without_it(bench: Bench) -> None:
    assert brief(await bench.lists.ip(POLICY)) == [(ZEN, "policy")]
    bench.zone.put("30.0.18.5.zen.spamhaus.org", {"A": "127.255.255.254"})
    await bench.lists.ip(CLEAN)
    assert brief(await bench.lists.ip(POLICY)) == []


async def test_a_list_is_used_again_when_its_test_entries_are_right(upstream: dns_server.Server, make: Make) -> None:
    records = upstream.zone.records[TEST_ENTRY]
    upstream.zone.put(TEST_ENTRY)
    bench = make(ZEN)
    assert brief(await bench.lists.ip(LISTED)) == "no list in use"
    upstream.zone.records[TEST_ENTRY] = records
    await bench.passed(CHECK_S["broken"] - 1)
    assert bench.states() == {ZEN: "broken"}
    await bench.passed(1)
    assert brief(await bench.lists.ip(LISTED)) == [(ZEN, "listed"), (ZEN, "policy")]
    assert [health.state for health in bench.told if isinstance(health, Health)] == ["broken", "ok"]


async def test_a_list_that_could_not_be_reached_is_tried_again_in_a_minute(
    upstream: dns_server.Server, make: Make
) -> None:
    upstream.fault = "SERVFAIL"
    bench = make(ZEN)
    assert brief(await bench.lists.ip(LISTED)) == "no list in use"
    upstream.fault = ""
    bench.now += CHECK_S["unreachable"]
    assert brief(await bench.lists.ip(LISTED)) == [(ZEN, "listed"), (ZEN, "policy")]


async def test_a_list_in_use_stays_so_while_it_cannot_be_checked(upstream: dns_server.Server, make: Make) -> None:
    bench = make(ZEN)
    await bench.lists.refresh()
    upstream.fault = "SERVFAIL"
    bench.now += CHECK_S["ok"]
    await bench.lists.refresh()
    await checks_ended()
    assert upstream.asked(TEST_ENTRY) == 2
    assert bench.states() == {ZEN: "ok"}


async def test_a_list_that_ends_while_in_use_is_left_when_that_is_sure(upstream: dns_server.Server, make: Make) -> None:
    bench = make(ZEN)
    await bench.lists.refresh()
    for name in [name for name in upstream.zone.records if name.endswith(ZEN)]:
        upstream.zone.put(name)
    bench.now += CHECK_S["ok"]
    await bench.lists.refresh()  # behind: the list stays in use until it is known
    await checks_ended()
    assert upstream.asked(TEST_ENTRY) == 2
    assert bench.states() == {ZEN: "ok"}
    bench.now += CHECK_S["unreachable"]
    await bench.lists.refresh()
    await checks_ended()
    assert bench.states() == {ZEN: "broken"}


async def test_many_that_wait_for_a_list_share_one_check(bench: Bench) -> None:
    await asyncio.gather(*(bench.lists.ip(LISTED) for _ in range(20)))
    assert bench.server.asked(TEST_ENTRY) == 1


async def test_a_check_goes_on_when_who_waits_for_it_goes(bench: Bench) -> None:
    bench.server.hold()
    waiting = asyncio.ensure_future(bench.lists.ip(LISTED))
    await until(lambda: bench.server.asked(TEST_ENTRY) == 1)
    waiting.cancel()
    bench.server.release()
    await until(lambda: bench.states()[ZEN] == "ok")


# --- subjects that are watched ---------------------------------------------------------------------------------------


async def test_a_change_of_a_watched_address_is_told(bench: Bench) -> None:
    bench.lists.watch_ip(ip_address("::ffff:5.18.0.30"))
    await bench.lists.refresh()
    assert [told for told in bench.told if isinstance(told, Change)] == []

    bench.zone.put("30.0.18.5.bl.spamcop.net", {"A": "127.0.0.2"})
    await bench.passed(59)
    assert not any(isinstance(told, Change) for told in bench.told)  # not before the answer's end, and 60 s
    await bench.passed(2)
    change = bench.told[-1]
    assert isinstance(change, Change)
    assert (change.subject, change.list, brief(change.listings)) == (CLEAN, SPAMCOP, [(SPAMCOP, "minor")])
    assert brief(await bench.lists.ip(CLEAN)) == [(SPAMCOP, "minor")]  # also what was held

    bench.server.fault = "SERVFAIL"
    await bench.passed(301)
    assert bench.told[-1] is change  # not known is not delisted
    asked = len(bench.server.questions)
    await bench.passed(59)
    assert len(bench.server.questions) == asked  # not more often than once a minute, whatever failed
    bench.server.fault = ""
    bench.zone.put("30.0.18.5.bl.spamcop.net")
    await bench.passed(61)
    await bench.passed(61)  # the second answer that says so
    assert bench.told[-1] == Change(CLEAN, SPAMCOP, ())


async def test_a_change_of_a_watched_domain_is_told(upstream: dns_server.Server, make: Make) -> None:
    bench = make(DBL)
    bench.lists.watch_domain("phish.example")
    await bench.lists.refresh()
    change = bench.told[-1]
    assert isinstance(change, Change)
    assert (change.subject, change.list, brief(change.listings)) == ("phish.example", DBL, [(DBL, "listed")])
    asked = upstream.asked("phish.example.dbl.spamhaus.org")
    await bench.passed(301)
    assert upstream.asked("phish.example.dbl.spamhaus.org") == asked + 1
    assert bench.told[-1] is change  # nothing new


async def test_no_subject_is_asked_for_of_a_list_that_is_not_in_use(upstream: dns_server.Server, make: Make) -> None:
    bench = make(URIBL)
    bench.lists.watch_domain("a.example")
    upstream.fault = "SERVFAIL"
    await bench.lists.refresh()
    assert {was.name for was in upstream.questions} == {"test.uribl.com.multi.uribl.com"}
    upstream.fault = ""
    await bench.passed(61)
    assert upstream.asked("a.example.multi.uribl.com") == 1


async def test_run_refreshes_and_ends_when_cancelled(bench: Bench) -> None:
    bench.lists.watch_ip(LISTED)
    running = asyncio.ensure_future(bench.lists.run())
    await until(lambda: any(isinstance(told, Change) for told in bench.told))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


# --- the key ---------------------------------------------------------------------------------------------------------


def _keyed() -> Zone:
    """ZEN and DBL under the names for who has a key."""
    plain = load("lists")
    keyed = Zone({})
    for name, records in plain.records.items():
        for zone in ("zen", "dbl"):
            if name.endswith(f"{zone}.spamhaus.org"):
                label = name.removesuffix(f"{zone}.spamhaus.org")
                keyed.records[f"{label}{KEY}.{zone}.dq.spamhaus.net"] = records
    return keyed


async def test_with_a_key_the_names_of_the_key_are_asked(upstream: dns_server.Server, make: Make) -> None:
    upstream.zone = _keyed()
    bench = make(ZEN, DBL, key=KEY)
    assert brief(await bench.lists.ip(LISTED)) == [(ZEN, "listed"), (ZEN, "policy")]
    assert brief(await bench.lists.domain("phish.example")) == [(DBL, "listed")]
    assert all(f".{KEY}." in was.name for was in upstream.questions)


async def test_the_key_is_nowhere_to_be_seen(
    upstream: dns_server.Server, make: Make, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    asyncio.get_running_loop().set_debug(True)
    upstream.zone = _keyed()
    bench = make(ZEN, DBL, key=KEY, try_s=0.2)
    bench.lists.watch_ip(LISTED)
    seen: list[object] = [await bench.lists.ip(LISTED), await bench.lists.domain("phish.example")]
    for fault in ("SERVFAIL", "TIMEOUT", "GARBAGE", "LOOP", "CUT"):
        upstream.fault = fault
        await bench.passed(CHECK_S["ok"])
        seen += [await bench.lists.ip(CLEAN), *bench.lists.status()]
    upstream.fault = ""
    upstream.zone.put(f"2.0.0.127.{KEY}.zen.dq.spamhaus.net", {"A": "127.255.255.254"})
    await bench.passed(CHECK_S["ok"])
    seen += [*bench.told, bench.lists, *vars(bench.lists).values(), bench.resolver]
    tasks = "".join(map(repr, asyncio.all_tasks()))
    out = capsys.readouterr()
    assert KEY not in repr(seen) + tasks + caplog.text + out.out + out.err


async def test_a_key_that_is_none_is_refused_without_being_shown(make: Make) -> None:
    shown = io.StringIO()
    with pytest.raises(ValueError, match="the key of spamhaus") as raised:
        make(ZEN, key=f"{KEY}.evil.example\n")
    traceback.print_exception(raised.value, file=shown)
    assert KEY not in shown.getvalue() + str(raised.value)
