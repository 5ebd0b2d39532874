"""The resolver over real sockets: what it reads, what it makes of every fault, how long it keeps what."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import pytest
from dns.message import from_text

from smtpguard.edge.dnscache import Cache
from smtpguard.edge.dnsquery import DEAD_S, LOOK_S, Server, Servers, answer_of, server
from smtpguard.edge.resolver import PURPOSES, RESULTS, Purpose, Resolver, Result, View, reverse_name
from smtpguard.mailauth.dns import Answer, Mx, Status, Tlsa
from tests.dns import server as dns_server
from tests.dns.zones import Zone, load
from tests.edge.waiting import until

Make = Callable[..., "Bench"]
DAY = 86_400.0
BIG = "k=" + "x" * 4094
HASTY: dict[str, object] = {"try_s": 0.2, "total_s": 0.4}  # where a server is silent


class Clock:
    """Seconds, as the test says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A resolver in front of a server, its clock, and what it counted."""

    def __init__(self, upstream: dns_server.Server, **settings: object) -> None:
        self.server = upstream
        self.zone = upstream.zone
        self.clock = Clock()
        self.counted: Counter[tuple[Purpose, Result]] = Counter()
        given = {"resolvers": [upstream.address], "try_s": 10, "total_s": 30, **settings}
        self.resolver = Resolver(
            clock=self.clock,
            count=lambda purpose, result: self.counted.update([(purpose, result)]),
            **given,  # type: ignore[arg-type]  # each as the test gives it
        )
        self.dns: View = self.resolver.about("other")

    def results(self) -> dict[str, int]:
        """How often each result was counted."""
        return {result: count for (_, result), count in self.counted.items()}


@pytest.fixture
async def upstream() -> AsyncIterator[dns_server.Server]:
    zone = load("good", "shapes", "faults")
    zone.put("big.test", {"TXT": BIG})
    async with dns_server.serving(zone) as upstream:
        yield upstream


@pytest.fixture
async def make(upstream: dns_server.Server) -> AsyncIterator[Make]:
    """Makes resolvers of any settings."""
    made: list[Bench] = []

    def one(**settings: object) -> Bench:
        made.append(Bench(upstream, **settings))
        return made[-1]

    yield one
    for bench in made:
        await bench.resolver.close()


@pytest.fixture
def bench(make: Make) -> Bench:
    """A resolver with the settings of a test."""
    return make()


def _said(answer: Answer[object]) -> tuple[str, str]:
    return answer.status.value, answer.fault


# --- what it reads ---------------------------------------------------------------------------------------------------


async def test_every_type_is_read_into_values(bench: Bench) -> None:
    dns = bench.dns
    assert (await dns.a("mx1.good.test")).records == (IPv4Address("192.0.2.25"),)
    assert (await dns.aaaa("mx1.good.test")).records == (ip_address("2001:db8::25"),)
    assert (await dns.mx("good.test")).records == (Mx(10, "mx1.good.test"), Mx(20, "mx2.good.test"))
    assert set((await dns.txt("good.test")).records) == {
        b"v=spf1 ip4:192.0.2.25 ip6:2001:db8::25 -all",
        b"another=thing",
    }
    assert (await dns.ptr(ip_address("192.0.2.25"))).records == ("mx1.good.test",)
    assert (await dns.ptr(ip_address("2001:db8::25"))).records == ("mx1.good.test",)
    (tlsa,) = (await dns.tlsa("_25._tcp.mx1.good.test")).records
    assert (tlsa.usage, tlsa.selector, tlsa.matching, len(tlsa.data)) == (3, 1, 1, 32)
    assert isinstance(tlsa, Tlsa)


async def test_shapes_of_real_zones(bench: Bench) -> None:
    dns = bench.dns
    assert (await dns.txt("s1._domainkey.cname.test")).records == (
        b"v=DKIM1; k=rsa; p=MIICIjANBgkqhkiG9w0BAQEFAAOCAg8AMIICCgKCAgEAsplitinAWord",
    )
    assert (await dns.mx("null-mx.test")).records == (Mx(0, ""),)
    assert (await dns.mx("upper.test")).records == (Mx(10, "mx.upper.test"),)
    assert (await dns.txt("quote.test")).records == (rb'a "quoted" \ thing; semicolon',)
    assert (await dns.txt("any.thing.wild-txt.test")).records == (b"v=spf1 -all",)
    assert (await dns.txt("_label_.test")).status is Status.POSITIVE
    assert len((await dns.txt("two-spf.test")).records) == 2


async def test_records_have_one_order(bench: Bench) -> None:
    addresses = [f"192.0.2.{number}" for number in range(1, 9)]
    bench.zone.put("many.test", *({"A": address} for address in addresses[::-1]))  # a server gives them in any
    assert [str(address) for address in (await bench.dns.a("many.test")).records] == addresses


async def test_a_cname_is_followed_and_told(bench: Bench) -> None:
    answer = await bench.dns.a("cname.test")
    assert (answer.records, answer.canonical, answer.ttl) == ((IPv4Address("192.0.2.1"),), "end.cname.test", 120)
    assert (await bench.dns.a("end.cname.test")).canonical == ""
    lost = await bench.dns.a("lost.test")
    assert (lost.status, lost.canonical) == (Status.NXDOMAIN, "nowhere.lost.test")


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("implicit-mx.test", Status.NODATA),
        ("type99.test", Status.NODATA),
        ("deep.test", Status.NODATA),  # an empty non-terminal is a name (RFC 8020 2)
        ("nothing.here.test", Status.NXDOMAIN),
    ],
)
async def test_none_of_this_type_is_not_no_such_name(bench: Bench, name: str, status: Status) -> None:
    answer = await bench.dns.mx(name)
    assert (answer.status, answer.records, answer.ttl) == (status, (), 60)  # the SOA's minimum


@pytest.mark.parametrize("name", ["", ".", "a..b", ".a", "x" * 64 + ".test", ".".join(["x" * 60] * 5), "a.test.."])
async def test_what_is_no_name_is_not_asked(bench: Bench, name: str) -> None:
    assert (await bench.dns.a(name)).status is Status.NXDOMAIN
    assert not bench.server.questions


@pytest.mark.parametrize("name", ["MX1.Good.TEST", "mx1.good.test.", "xn--bcher-kva.test", "b\u00fccher.test"])
async def test_a_name_may_be_written_otherwise(bench: Bench, name: str) -> None:
    assert (await bench.dns.a(name)).status is Status.POSITIVE
    assert (await bench.dns.a(name)).is_cached
    assert len(bench.server.questions) == 1


async def test_labels_are_taken_literally(bench: Bench) -> None:
    bench.zone.put("*.literal.test", {"A": "192.0.2.9"})
    assert (await bench.dns.a(r"a\046b @.literal.test")).status is Status.POSITIVE
    assert bench.server.questions[0].name == r"a\\046b\032\@.literal.test"  # one label, escaped by dnspython


def test_reverse_names() -> None:
    assert reverse_name(ip_address("192.0.2.25")) == "25.2.0.192.in-addr.arpa"
    assert reverse_name(ip_address("::ffff:192.0.2.25")) == "25.2.0.192.in-addr.arpa"
    assert reverse_name(ip_address("2001:db8::1")) == "1." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa"


async def test_it_is_secure_only_where_the_server_may_say_so(bench: Bench, make: Make) -> None:
    bench.server.is_authenticated = True
    assert not (await bench.dns.a("mx1.good.test")).is_secure
    trusting = make(trust_ad=True)
    assert (await trusting.dns.a("mx1.good.test")).is_secure
    bench.server.is_authenticated = False
    assert not (await trusting.dns.a("mx2.good.test")).is_secure


# --- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("servfail.test", "servfail"),
        ("refused.test", "refused"),
        ("lame.test", "lame"),
        ("loop.test", "malformed"),
        ("cut.test", "truncated"),
        ("timeout.test", "timeout"),
        ("garbage.test", "timeout"),  # what is no reply is not read: one may still come
        ("wrongid.test", "timeout"),
    ],
)
async def test_a_fault_is_never_an_answer(make: Make, name: str, fault: str) -> None:
    bench = make(**HASTY if fault == "timeout" else {})
    answer = await bench.dns.txt(name)
    assert _said(answer) == ("tempfail", fault)
    assert not answer.is_known
    assert bench.results() == {"failed": 1}


@pytest.mark.parametrize(("flags", "status"), [("QR RA", Status.NODATA), ("QR", Status.TEMPFAIL)])
def test_a_server_that_does_not_serve_us_does_not_say_none(flags: str, status: Status) -> None:
    reply = from_text(f"id 1\nopcode QUERY\nrcode NOERROR\nflags {flags}\n;QUESTION\ngood.test. IN A\n")
    assert answer_of(reply, "A").status is status


async def test_a_forged_reply_is_passed_over(bench: Bench) -> None:
    assert (await bench.dns.txt("forged.test")).records == (b"genuine",)


async def test_a_server_older_than_edns_is_asked_without(bench: Bench) -> None:
    assert (await bench.dns.txt("noedns.test")).records == (b"plain",)


async def test_what_is_cut_comes_by_tcp(bench: Bench) -> None:
    assert (await bench.dns.txt("big.test")).records == (BIG.encode(),)
    assert [was.transport for was in bench.server.questions] == ["udp", "tcp"]


async def test_what_is_cut_and_refused_by_tcp_is_not_known() -> None:
    async with dns_server.serving(Zone({"big.test": [{"TXT": BIG}]}), tcp=False) as upstream:
        answer = await Servers([upstream.address], clock=time.monotonic).ask("big.test", "TXT")
        assert _said(answer) == ("tempfail", "truncated")


async def test_a_lost_packet_is_asked_once_more(make: Make) -> None:
    bench = make(**HASTY)
    await bench.dns.txt("timeout.test")
    assert bench.server.asked("timeout.test") == 2


async def test_an_answer_of_the_server_is_not_asked_again(bench: Bench) -> None:
    await bench.dns.txt("servfail.test")
    assert bench.server.asked("servfail.test") == 1


@pytest.mark.parametrize("fault", ["SERVFAIL", "REFUSED", "LAME", "TIMEOUT", "CUT"])
async def test_the_next_server_is_asked_where_one_fails(bench: Bench, make: Make, fault: str) -> None:
    async with dns_server.serving(bench.zone) as broken:
        broken.fault = fault
        two = make(resolvers=[broken.address, bench.server.address], try_s=0.5, total_s=10)
        assert (await two.dns.a("mx1.good.test")).status is Status.POSITIVE
        assert broken.asked("mx1.good.test") == 1


async def test_a_server_that_does_not_answer_is_tried_last_for_a_while(bench: Bench, make: Make) -> None:
    async with dns_server.serving(bench.zone) as dead:
        dead.fault = "TIMEOUT"
        two = make(resolvers=[dead.address, bench.server.address], try_s=0.5, total_s=10)
        await two.dns.a("mx1.good.test")
        await two.dns.a("mx2.good.test")
        assert (dead.asked("mx1.good.test"), dead.asked("mx2.good.test")) == (1, 0)
        dead.fault = ""
        two.clock.now += DEAD_S + 1
        await two.dns.a("good.test")
        assert dead.asked("good.test") == 1


async def test_a_server_that_nobody_had_time_for_is_not_thought_dead(bench: Bench, make: Make) -> None:
    async with dns_server.serving(bench.zone) as silent:
        silent.fault = "TIMEOUT"
        servers = [silent.address, bench.server.address]
        two = make(resolvers=servers, try_s=0.2, total_s=0.2)
        assert _said(await two.dns.a("mx1.good.test")) == ("tempfail", "timeout")
        assert bench.server.asked("mx1.good.test") == 0
        assert (await two.dns.a("mx2.good.test")).status is Status.POSITIVE  # the silent one comes last now
        assert silent.asked("mx2.good.test") == 0


async def test_where_nobody_listens_is_known_at_once() -> None:
    async with dns_server.serving(Zone({})) as gone:
        address = gone.address
    servers = Servers([address], clock=time.monotonic)
    async with asyncio.timeout(10):
        assert (await servers.ask("a.test", "A")).fault == "network"


async def test_of_several_faults_the_most_telling_is_said(bench: Bench, make: Make) -> None:
    async with dns_server.serving(bench.zone) as silent:
        silent.fault = "TIMEOUT"
        bench.server.fault = "SERVFAIL"
        two = make(resolvers=[bench.server.address, silent.address], try_s=0.5, total_s=10)
        assert (await two.dns.a("mx1.good.test")).fault == "servfail"


# --- what is kept, and for how long ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rdtype", "seconds"),
    [
        ("good.test", "A", 300),
        ("mx2.good.test", "A", 7200),
        ("short.test", "A", 60),  # 1 s
        ("long.test", "A", DAY),  # a week
        ("nothing.test", "A", 60),  # the SOA's
        ("good.test", "TLSA", 60),
    ],
)
async def test_an_answer_is_kept_for_its_time(bench: Bench, name: str, rdtype: str, seconds: float) -> None:
    ask = getattr(bench.dns, rdtype.lower())
    fresh = await ask(name)
    assert (fresh.ttl, fresh.is_cached) == (seconds, False)
    bench.clock.now += 0.79 * seconds  # not yet asked ahead
    kept = await ask(name)
    assert (kept.status, kept.records, kept.is_cached) == (fresh.status, fresh.records, True)
    assert abs(kept.ttl - 0.21 * seconds) <= 1
    assert bench.server.asked(name) == 1
    bench.clock.now += 0.21 * seconds + 0.1
    assert not (await ask(name)).is_cached
    assert bench.server.asked(name) == 2
    assert bench.results()["hit"] == 1


async def test_a_failure_is_kept_for_5_10_20_then_30_seconds(bench: Bench) -> None:
    for asked, pause in enumerate([5, 10, 20, 30, 30], start=1):
        assert (await bench.dns.a("servfail.test")).ttl == pause
        bench.clock.now += pause - 0.1
        assert _said(await bench.dns.a("servfail.test")) == ("tempfail", "servfail")
        assert bench.server.asked("servfail.test") == asked
        bench.clock.now += 0.2
    bench.zone.put("servfail.test", {"A": "192.0.2.1"})
    assert (await bench.dns.a("servfail.test")).status is Status.POSITIVE
    bench.zone.put("servfail.test", "SERVFAIL")
    bench.clock.now += 301
    assert (await bench.dns.a("servfail.test")).is_stale
    bench.zone.put("servfail.test", {"A": "192.0.2.2"})
    bench.clock.now += 5  # the row begins anew
    assert (await bench.dns.a("servfail.test")).records == (IPv4Address("192.0.2.2"),)


async def test_records_outlive_a_fault_for_a_day_as_stale(bench: Bench) -> None:
    fresh = await bench.dns.a("good.test")
    bench.server.fault = "SERVFAIL"
    bench.clock.now += 301
    stale = await bench.dns.a("good.test")
    assert (stale.records, stale.is_stale, stale.is_known, stale.ttl) == (fresh.records, True, True, 0)
    bench.clock.now += DAY - 2
    assert (await bench.dns.a("good.test")).is_stale
    bench.clock.now += 35
    assert _said(await bench.dns.a("good.test")) == ("tempfail", "servfail")
    bench.server.fault = ""
    bench.clock.now += 35
    assert not (await bench.dns.a("good.test")).is_stale
    assert bench.results() == {"answer": 2, "stale": 2, "failed": 1}


async def test_what_was_not_there_is_not_so_after_a_fault(bench: Bench) -> None:
    assert (await bench.dns.a("nothing.test")).status is Status.NXDOMAIN
    bench.server.fault = "SERVFAIL"
    bench.clock.now += 61
    assert _said(await bench.dns.a("nothing.test")) == ("tempfail", "servfail")


async def test_a_name_that_is_gone_is_believed_when_it_is_still_gone(bench: Bench) -> None:
    fresh = await bench.dns.a("good.test")
    bench.zone.put("good.test")
    for name in [name for name in bench.zone.records if name.endswith(".good.test")]:
        bench.zone.put(name)
    bench.clock.now += 301
    held = await bench.dns.a("good.test")
    assert (held.records, held.is_stale) == (fresh.records, True)
    bench.clock.now += 29
    assert (await bench.dns.a("good.test")).is_stale
    assert bench.server.asked("good.test") == 2
    bench.clock.now += 1
    assert (await bench.dns.a("good.test")).status is Status.NXDOMAIN
    assert bench.server.asked("good.test") == 3


async def test_a_name_that_is_back_was_never_gone(bench: Bench) -> None:
    bench.zone.put("flap.test", {"A": "192.0.2.1"})
    await bench.dns.a("flap.test")
    for _ in range(3):  # each time anew
        bench.zone.put("flap.test")
        bench.clock.now += 301
        assert (await bench.dns.a("flap.test")).is_stale
        bench.zone.put("flap.test", {"A": "192.0.2.2"})
        bench.clock.now += 30
        assert (await bench.dns.a("flap.test")).records == (IPv4Address("192.0.2.2"),)


async def test_records_that_are_gone_from_a_name_are_gone_at_once(bench: Bench) -> None:
    await bench.dns.a("implicit-mx.test")
    bench.zone.put("implicit-mx.test", {"TXT": "still here"})
    bench.clock.now += 301
    assert (await bench.dns.a("implicit-mx.test")).status is Status.NODATA


async def test_an_answer_in_use_is_asked_for_ahead_of_its_end(bench: Bench) -> None:
    await bench.dns.a("good.test")
    bench.zone.put("good.test", {"A": "192.0.2.99"})
    bench.clock.now += 241
    assert (await bench.dns.a("good.test")).records == (IPv4Address("192.0.2.10"),)  # without a wait
    await until(lambda: bench.results() == {"answer": 2, "hit": 1})
    assert (await bench.dns.a("good.test")).records == (IPv4Address("192.0.2.99"),)
    assert bench.server.asked("good.test") == 2


async def test_a_refresh_that_fails_leaves_the_answer_and_is_not_tried_all_the_time(bench: Bench) -> None:
    await bench.dns.a("good.test")
    bench.server.fault = "SERVFAIL"
    bench.clock.now += 241
    await bench.dns.a("good.test")
    await until(lambda: bench.results().get("failed") == 1)
    bench.clock.now += 4
    answer = await bench.dns.a("good.test")
    assert (answer.is_cached, answer.is_stale) == (True, False)
    await bench.dns.a("mx1.good.test")  # what had been asked before would have come
    assert bench.server.asked("good.test") == 2


async def test_the_longest_unused_make_room(bench: Bench, make: Make) -> None:
    small = make(max_entries=2)
    for name in ["mx1.good.test", "mx2.good.test", "mx1.good.test", "good.test"]:
        await small.dns.a(name)
    assert small.dns.peek("mx1.good.test", "A") is not None
    assert small.dns.peek("mx2.good.test", "A") is None


def test_a_cache_is_bounded_in_octets_too() -> None:
    cache = Cache(max_octets=10_000)
    said = Answer(Status.POSITIVE, (b"x" * 4000,), 300)
    for name in ("a", "b", "c"):
        cache.learn((name, "TXT"), said, 0)
    assert [cache.get((name, "TXT")) is not None for name in ("a", "b", "c")] == [False, True, True]
    cache.learn(("b", "TXT"), Answer(Status.POSITIVE, (b"y",), 300), 0)  # an entry that shrinks makes room
    cache.learn(("d", "TXT"), said, 0)
    assert len(cache) == 3


# --- waiting ---------------------------------------------------------------------------------------------------------


async def test_many_waiters_share_one_question(bench: Bench) -> None:
    bench.server.hold()
    waiting = [asyncio.ensure_future(bench.resolver.about(purpose).a("mx1.good.test")) for purpose in PURPOSES]
    await until(lambda: bench.server.asked("mx1.good.test") == 1)
    bench.server.release()
    answers = await asyncio.gather(*waiting)
    assert all(answer.status is Status.POSITIVE for answer in answers)
    assert bench.server.asked("mx1.good.test") == 1
    assert bench.counted == {(purpose, "answer"): 1 for purpose in PURPOSES}


async def test_a_waiter_that_goes_does_not_take_the_question_along(bench: Bench, make: Make) -> None:
    bench.server.hold()
    first = asyncio.ensure_future(bench.dns.a("mx1.good.test"))
    second = asyncio.ensure_future(bench.dns.a("mx1.good.test"))
    await until(lambda: bench.server.asked("mx1.good.test") == 1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    bench.server.release()
    assert (await second).status is Status.POSITIVE

    bench.server.hold()
    alone = asyncio.ensure_future(bench.dns.a("mx2.good.test"))
    await until(lambda: bench.server.asked("mx2.good.test") == 1)
    alone.cancel()
    bench.server.release()
    await until(lambda: bench.dns.peek("mx2.good.test", "A") is not None)  # it was finished for the next


async def test_a_hit_does_not_suspend(bench: Bench) -> None:
    await bench.dns.a("mx1.good.test")
    coroutine = bench.dns.a("mx1.good.test")
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    assert ended.value.value.is_cached


async def test_beyond_the_bound_questions_are_not_asked(bench: Bench, make: Make) -> None:
    narrow = make(max_flights=2)
    await narrow.dns.a("good.test")
    narrow.clock.now += 301
    bench.server.hold()
    waiting = [asyncio.ensure_future(narrow.dns.a(name)) for name in ("mx1.good.test", "mx2.good.test")]
    await until(lambda: len(bench.server.questions) == 3)
    assert _said(await narrow.dns.a("cname.test")) == ("tempfail", "busy")
    assert (await narrow.dns.a("good.test")).is_stale  # rather than nothing
    bench.server.release()
    assert all(answer.is_known for answer in await asyncio.gather(*waiting))
    assert (await narrow.dns.a("cname.test")).is_known


async def test_close_ends_what_is_under_way(bench: Bench, make: Make) -> None:
    bench.server.hold()
    waiting = asyncio.ensure_future(bench.dns.a("mx1.good.test"))
    await until(lambda: bench.server.asked("mx1.good.test") == 1)
    await bench.resolver.close()
    assert _said(await waiting) == ("tempfail", "closed")
    assert _said(await bench.dns.a("mx2.good.test")) == ("tempfail", "closed")
    assert len(bench.server.questions) == 1


@pytest.mark.parametrize("name", ["mx1.good.test", "big.test"])
async def test_a_question_that_is_cut_off_leaves_nothing_open(make: Make, name: str) -> None:
    for turns in range(12):  # of the loop, before it is cut off
        bench = make()
        before = os.listdir("/proc/self/fd")
        asking = asyncio.ensure_future(bench.dns.txt(name))
        for _ in range(turns):
            await asyncio.sleep(0)
        await bench.resolver.close()
        await asking
        await until(lambda: len(os.listdir("/proc/self/fd")) == len(before))  # noqa: B023  # called before the next turn


# --- peek ------------------------------------------------------------------------------------------------------------


async def test_peek_tells_what_is_known_and_asks_nothing(bench: Bench) -> None:
    assert bench.dns.peek("mx1.good.test", "A") is None
    await bench.dns.a("mx1.good.test")
    known = bench.dns.peek("mx1.good.test", "A")
    assert known is not None
    assert known.records == (IPv4Address("192.0.2.25"),)
    bench.clock.now += 301
    assert bench.dns.peek("mx1.good.test", "A") is None
    assert len(bench.server.questions) == 1


async def test_peek_gives_the_last_records_while_new_ones_are_asked_for(bench: Bench, make: Make) -> None:
    await bench.dns.a("mx1.good.test")
    bench.clock.now += 301
    bench.server.hold()
    waiting = asyncio.ensure_future(bench.dns.a("mx1.good.test"))
    await until(lambda: len(bench.server.questions) == 2)
    known = bench.dns.peek("mx1.good.test", "A")
    assert known is not None
    assert known.is_stale
    bench.server.release()
    assert not (await waiting).is_stale


# --- whom it asks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", Server("192.0.2.1", 53)),
        ("192.0.2.1:5353", Server("192.0.2.1", 5353)),
        ("2001:db8::1", Server("2001:db8::1", 53)),
        ("[2001:db8::1]:5353", Server("2001:db8::1", 5353)),
    ],
)
def test_a_server_is_an_address_and_maybe_a_port(text: str, expected: Server) -> None:
    assert server(text) == expected


@pytest.mark.parametrize("text", ["", "ns.test", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:65536", "[::1]", "1.2.3:53"])
def test_anything_else_is_no_server(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        server(text)


def test_the_systems_servers_are_read_again_when_their_file_changes(tmp_path: Path) -> None:
    clock, system = Clock(), tmp_path / "resolv.conf"
    servers = Servers(clock=clock, system=system)
    assert servers.in_order() == (Server("127.0.0.1"),)  # resolv.conf(5): without a file, this host
    system.write_text("search example.test\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n")
    assert servers.in_order() == (Server("127.0.0.1"),)
    clock.now += LOOK_S
    assert servers.in_order() == (Server("192.0.2.1"), Server("2001:db8::1"))
    new = tmp_path / "new"
    new.write_text("# by hand\nnameserver 192.0.2.2\n")
    os.replace(new, system)
    clock.now += LOOK_S
    assert servers.in_order() == (Server("192.0.2.2"),)


async def test_names_of_internal_zones_are_never_asked(bench: Bench, make: Make) -> None:
    split = make(internal_zones=["*.Corp.test.", "2.0.192.in-addr.arpa"])
    for answer in [
        await split.dns.a("corp.test"),
        await split.dns.mx("a.b.CORP.test"),
        await split.dns.ptr(ip_address("192.0.2.25")),
    ]:
        assert _said(answer) == ("tempfail", "internal")
    assert not bench.server.questions
    assert (await split.dns.a("notcorp.test")).status is Status.NXDOMAIN


async def test_look_ups_are_counted_by_purpose_and_result(bench: Bench) -> None:
    spf, mx = bench.resolver.about("spf"), bench.resolver.about("mx")
    await spf.txt("good.test")
    await spf.txt("good.test")
    await mx.mx("good.test")
    await mx.mx("implicit-mx.test")
    await mx.mx("nothing.test")
    await mx.mx("servfail.test")
    await mx.mx("servfail.test")
    assert bench.counted == {
        ("spf", "answer"): 1,
        ("spf", "hit"): 1,
        ("mx", "answer"): 1,
        ("mx", "nodata"): 1,
        ("mx", "nxdomain"): 1,
        ("mx", "failed"): 2,
    }
    assert {result for _, result in bench.counted} <= set(RESULTS)
