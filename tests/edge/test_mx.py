"""The next hop "mx": one way a domain, shared connections, certain refusals, dead and full destinations, TLS policies.

Mail hosts are sandboxes on 127.0.0.1, 127.0.0.2 and so on, all at one port; the DNS is a dict.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from smtpguard import flow, policy
from smtpguard.edge.looking import Looking
from smtpguard.edge.metrics import Metrics
from smtpguard.edge.mtasts import Policies
from smtpguard.edge.mx import MxHop
from smtpguard.mail.reply import Answer, FailureKind, HopFailure, Reply, Verb
from smtpguard.mail.session import Envelope
from smtpguard.mailauth.dns import Resolver, Tlsa
from smtpguard.mailauth.mtasts import Policy
from smtpguard.policy import Own
from smtpguard.sandbox import Action, Close, Hang, Ok, Sandbox, Say, Script
from tests.certs import CaAndServer, ca_and_server, server_context
from tests.edge.hopping import (
    ENVELOPE,
    HEAD,
    MESSAGE,
    OURSELVES,
    Heard,
    HeldBody,
    Talk,
    sandboxes,
    settings,
    silent,
    soon,
    talk,
    to,
    until,
)
from tests.edge.test_dane import Signed, tlsa, written
from tests.edge.test_mtasts import Authority, authority, site
from tests.mailauth.zone import Entries, Zone

__all__ = ["authority"]  # a fixture of test_mtasts
U_LABEL = "x@b\u00fccher.test".encode()


def has_ipv6() -> bool:
    """Whether ::1 is there to be listened at."""
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True


@dataclass
class World:
    """A next hop "mx" and what it told."""

    hop: MxHop
    metrics: Metrics
    log: Heard
    told: Counter[tuple[str, str]] = field(default_factory=Counter)

    def count(self, name: str, **labels: str) -> float:
        """A metric's value, without the prefix `smtpguard_next_hop_`."""
        return self.metrics.registry.get_sample_value(f"smtpguard_next_hop_{name}", {"next_hop": "test", **labels}) or 0

    async def begin(self, rcpt: bytes = b"b@a.test", *more: bytes, within_s: float = 5.0) -> Talk:
        return await talk(self.hop, ENVELOPE, to(rcpt, *more), soon(within_s))

    async def send(self, rcpt: bytes = b"b@a.test", *more: bytes) -> Answer:
        """One whole message; what it came to."""
        exchange = await self.begin(rcpt, *more)
        if not isinstance(exchange.mail, Reply) or exchange.mail.klass != 2:
            exchange.finish()
            return exchange.mail
        said = await exchange.message(HEAD, HeldBody(MESSAGE), soon())
        exchange.finish()
        return said


@asynccontextmanager
async def world(zone: Mapping[str, Entries] | Resolver, port: int = 25, **more: Any) -> AsyncIterator[World]:
    """`more`: settings; `policies`: as MxHop takes them."""
    metrics, log, told = Metrics(), Heard(), Counter[tuple[str, str]]()
    policies = more.pop("policies", None)
    hop = MxHop(
        "test",
        settings("mx", port=port, **{"allow_private": True, "tls": "opportunistic", **more}),
        hostname=OURSELVES,
        metrics=metrics,
        log=log,
        resolver=Zone(zone) if isinstance(zone, Mapping) else zone,
        count=lambda policy, result: told.update([(policy, result)]),
        policies=policies,
    )
    try:
        yield World(hop, metrics, log, told)
    finally:
        await hop.close()


def mx(*hosts: str) -> dict[str, Entries]:
    """`a.test` has these hosts, by preference, at 127.0.0.1, 127.0.0.2 and so on."""
    zone: dict[str, Entries] = {"a.test": [{"MX": [number * 10, host]} for number, host in enumerate(hosts, start=1)]}
    return zone | {host: [{"A": f"127.0.0.{number}"}] for number, host in enumerate(hosts, start=1)}


def taken(answer: Answer) -> bool:
    return isinstance(answer, Reply) and answer.klass == 2


# -- where mail goes


async def test_it_is_what_flow_asks_for() -> None:
    async with sandboxes(Sandbox()) as port, world(mx("mx1.test"), port) as here:
        next_hop: flow.NextHop = here.hop
        exchange = await talk(next_hop, ENVELOPE, to(b"b@a.test"), soon())
        assert (exchange.hop.next_hop, exchange.hop.host) == ("test", "mx1.test")
        assert taken(await exchange.message(HEAD, HeldBody(MESSAGE), soon()))
        exchange.finish()
        assert next_hop.is_by_domain
        assert next_hop.offers("DSN") is False
        assert next_hop.offers("8BITMIME") is None
        await here.hop.ask()


GOES_ON: list[tuple[str, Action]] = [("CONNECT", Close()), ("CONNECT", Say("554 no")), ("MAIL", Say("451 4.3.0 later"))]


@pytest.mark.parametrize(("verb", "action"), GOES_ON, ids=str)
async def test_the_preferred_host_is_asked_first_and_then_the_next(verb: str, action: Action) -> None:
    one, two = Sandbox(script=Script({verb: [action]})), Sandbox()
    async with sandboxes(one, two) as port, world(mx("mx1.test", "mx2.test"), port) as here:
        assert taken(await here.send())
        assert (one.accepted, two.accepted) == (0, 1)


async def test_equal_hosts_share_the_load() -> None:
    one, two = Sandbox(), Sandbox()
    zone = mx("mx1.test", "mx2.test") | {"a.test": [{"MX": [10, "mx1.test"]}, {"MX": [10, "mx2.test"]}]}
    async with sandboxes(one, two) as port, world(zone, port) as here:
        for _ in range(30):
            assert taken(await here.send())
        assert min(one.accepted, two.accepted) > 3  # by chance one time in a hundred thousand
        assert (one.connections, two.connections) == (1, 1)


async def test_a_second_address_is_tried() -> None:
    zone: dict[str, Entries] = {"a.test": [{"MX": [1, "mx.test"]}], "mx.test": [{"AAAA": "::1"}, {"A": "127.0.0.1"}]}
    async with sandboxes(Sandbox()) as port, world(zone, port) as here:
        assert taken(await here.send())


V6: list[tuple[Entries, tuple[str, ...], bytes]] = [
    ([{"AAAA": "::1"}], ("::1",), b"b@a.test"),
    ([{"AAAA": "::1"}, {"A": "127.0.0.1"}], ("::1",), b"b@a.test"),
    ([{"AAAA": "::1"}, {"A": "127.0.0.1"}], ("127.0.0.1",), b"b@a.test"),
    ([{"A": "127.0.0.1"}, {"AAAA": "::2"}, {"AAAA": "::1"}], ("::1",), b"b@a.test"),
    ([], ("::1",), b"b@[IPv6:::1]"),
    ([{"AAAA": "::ffff:127.0.0.1"}], ("127.0.0.1",), b"b@a.test"),
]


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
@pytest.mark.parametrize(("addresses", "up", "rcpt"), V6, ids=str)
async def test_either_family_will_do(addresses: Entries, up: tuple[str, ...], rcpt: bytes) -> None:
    hop = Sandbox()
    port = await hop.start(up[0])
    zone: dict[str, Entries] = {"a.test": [{"MX": [1, "mx.test"]}], "mx.test": addresses}
    try:
        async with world(zone, port) as here:
            assert taken(await here.send(rcpt))
            assert taken(await here.send(rcpt))
            assert (hop.accepted, hop.connections) == (2, 1)
    finally:
        await hop.stop()


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
async def test_both_families_are_first_in_turn() -> None:
    six, four = Sandbox(), Sandbox()
    port = await six.start("::1")
    await four.start("127.0.0.1", port)
    names = {f"d{number}.test": [{"MX": [1, f"mx{number}.test"]}] for number in range(8)}
    zone: dict[str, Entries] = {**names}
    zone |= {f"mx{number}.test": [{"A": "127.0.0.1"}, {"AAAA": "::1"}] for number in range(8)}
    try:
        async with world(zone, port) as here:
            for domain in names:
                assert taken(await here.send(f"x@{domain}".encode()))
            assert (six.accepted, four.accepted) == (8, 0)  # RFC 6724 6, rule 7 and the usual table: IPv6 first
    finally:
        await six.stop()
        await four.stop()


async def test_domains_with_the_same_hosts_share_connections() -> None:
    zone: dict[str, Entries] = mx("mx1.test") | {
        "b.test": [{"MX": [10, "mx1.test"]}],
        "c.test": [{"MX": [5, "mx1.test"]}],
    }
    hop = Sandbox()
    async with sandboxes(hop) as port, world(zone, port) as here:
        for rcpt in (b"x@a.test", b"x@b.test", b"x@c.test", b"y@A.TEST"):
            assert taken(await here.send(rcpt))
        assert (hop.accepted, hop.connections) == (4, 1)
        assert (here.count("connections_total", result="opened"), here.count("connections_total", result="reused")) == (
            1,
            3,
        )


async def test_a_domain_is_looked_up_once() -> None:
    zone = Zone(mx("mx1.test"))
    async with sandboxes(Sandbox()) as port, world(zone, port) as here:
        await asyncio.gather(*(here.send() for _ in range(5)))
        assert zone.asked.count(("MX", "a.test")) == 1


@pytest.mark.parametrize("is_found", [False, True])
async def test_who_goes_away_while_the_way_is_looked_for_is_not_asked_for(is_found: bool) -> None:
    """Also at the very moment that it is found: no MAIL goes out for nobody, and no slot is held."""
    hop = Sandbox()
    async with sandboxes(hop) as port, world(mx("mx1.test"), port) as here:
        talked = Talk()
        exchange = here.hop.begin(ENVELOPE, to(b"b@a.test"), soon(), talked)
        assert isinstance(exchange, Looking)
        looking = exchange.task
        await asyncio.sleep(0)  # it looks now
        [finding] = here.hop._known._finding.values()
        if is_found:
            finding.add_done_callback(lambda _: exchange.abort())
        else:
            exchange.abort()
        assert looking is not None
        with pytest.raises(asyncio.CancelledError):
            await looking
        await finding
        assert not talked.begun.done()
        assert here.hop._trunk.pool.slots.taken("") == 0
        assert taken(await here.send())  # what was found is kept
        assert hop.connections == 1


async def test_a_literal_and_a_u_label_are_delivered_to() -> None:
    zone: dict[str, Entries] = {"xn--bcher-kva.test": [{"A": "127.0.0.1"}]}
    async with sandboxes(Sandbox()) as port, world(zone, port) as here:
        assert taken(await here.send(b"x@[127.0.0.1]"))
        exchange = await talk(here.hop, Envelope(b"", (b"SMTPUTF8",), smtputf8=True), to(U_LABEL), soon())
        assert taken(await exchange.rcpts[0])
        exchange.finish()


async def test_recipients_of_two_domains_are_never_mixed() -> None:
    hop = Sandbox()
    zone: dict[str, Entries] = mx("mx1.test") | {"b.test": [{"MX": [10, "mx1.test"]}]}
    async with sandboxes(hop) as port, world(zone, port) as here:
        for _ in range(2):
            said = await here.send(b"x@a.test", b"x@b.test")
            assert isinstance(said, HopFailure)
            assert said.kind is FailureKind.INTERNAL
            assert taken(await here.send(b"x@a.test"))
        assert hop.accepted == 2


def test_the_provider_is_that_of_the_mail_hosts() -> None:
    async def ask() -> None:
        zone: dict[str, Entries] = {
            "a.test": [{"MX": [1, "aspmx.l.google.com"]}],
            "aspmx.l.google.com": [{"A": "127.0.0.1"}],
        }
        async with sandboxes(Sandbox()) as port, world(zone, port) as here:
            assert here.hop.provider_to("a.test") == "a.test"
            assert here.hop.provider_to("gmail.com") == "google"
            exchange = await here.begin()
            exchange.finish()
            assert here.hop.provider_to("a.test") == "google"

    asyncio.run(ask())


# -- what the DNS says

SAID: list[tuple[Entries, str]] = [
    ([{"MX": [0, "."]}], "556 5.1.10"),
    ([{"TXT": "x"}], "550 5.4.4"),
    ([{"MX": [1, "nowhere.test"]}], "550 5.4.4"),
    (["SERVFAIL"], "451 4.4.3"),
    (["TIMEOUT"], "451 4.4.3"),
]


@pytest.mark.parametrize(("entries", "reply"), SAID, ids=str)
async def test_what_the_dns_says_is_what_the_client_is_told(entries: Entries, reply: str) -> None:
    zone = Zone({"a.test": entries})
    async with world(zone) as here:
        for _ in range(2):
            said = await here.send()
            assert isinstance(said, HopFailure)
            told = policy.of_failure(said, Verb.MAIL, "a.test").reply
            assert f"{told.code} {told.enhanced}" == reply
        assert len(zone.asked) == len(set(zone.asked))


@pytest.mark.parametrize("rcpt", [b"x@gone.test", b"x@" + b"a" * 64 + b".test", b"x@a..test", b"x@[1.2]"])
async def test_a_domain_that_is_none_is_refused(rcpt: bytes) -> None:
    async with world({"a.test": [{"A": "127.0.0.1"}]}) as here:
        said = await here.send(rcpt)
        assert isinstance(said, HopFailure)
        assert said.keyword == Own.NO_DOMAIN


async def test_private_addresses_are_not_spoken_to() -> None:
    hop = Sandbox()
    async with sandboxes(hop) as port, world(mx("mx1.test"), port, allow_private=False) as here:
        for rcpt in (b"b@a.test", b"b@[127.0.0.1]"):
            said = await here.send(rcpt)
            assert isinstance(said, HopFailure)
            assert said.keyword == Own.INWARD
        assert hop.connections == 0


async def test_a_host_that_moves_inside_behind_our_back_is_not_spoken_to() -> None:
    zone = Zone({"a.test": [{"MX": [1, "mx.test"]}], "mx.test": [{"A": "198.41.0.4"}]})
    hop = Sandbox()
    async with sandboxes(hop) as port, world(zone, port, allow_private=False, bind="127.0.0.1") as here:
        await here.send()  # found, and not to be reached from there
        zone._data["mx.test"] = {"A": ["127.0.0.1"]}
        here.hop._hosts.clear()
        said = await here.send()
        assert isinstance(said, HopFailure)
        assert said.kind is FailureKind.CONNECT
        assert hop.connections == 0


# -- dead and full destinations


async def test_a_dead_host_costs_one_time_out_and_the_rest_is_told_at_once() -> None:
    hop = Sandbox(script=Script({"CONNECT": Hang()}))
    async with sandboxes(hop) as port, world(mx("mx1.test"), port) as here:
        answers = await asyncio.gather(*(here.send() for _ in range(20)))
        assert all(isinstance(answer, HopFailure) for answer in answers)
        assert hop.connections == 1
        began = soon(0)
        assert isinstance(await here.send(), HopFailure)
        assert soon(0) - began < 0.2
        assert hop.connections == 1
        assert here.count("breaker_open") == 1


async def test_a_host_that_drops_what_we_send_costs_one_time_out_and_the_next_takes_the_mail() -> None:
    well = Sandbox()
    zone: dict[str, Entries] = mx("mx1.test", "mx2.test") | {
        "a.test": [{"MX": [1, "mx2.test"]}, {"MX": [2, "mx1.test"]}]
    }
    async with sandboxes(well) as port, world(zone, port) as here:
        with silent("127.0.0.2", port):
            began = soon(0)
            assert taken(await here.send())
            assert 0.4 <= soon(0) - began < 0.8  # timeout.connect
            began = soon(0)
            assert taken(await here.send())
            assert soon(0) - began < 0.2
        assert here.count("failures_total", kind="connect") == 1
        assert (well.accepted, well.connections) == (2, 1)


async def test_addresses_that_drop_what_we_send_share_the_time_out() -> None:
    zone: dict[str, Entries] = {
        "a.test": [{"MX": [1, "mx.test"]}],
        "mx.test": [{"A": f"127.0.0.{number}"} for number in (2, 3, 4)],
    }
    async with sandboxes(Sandbox()) as port, world(zone, port) as here:
        with silent("127.0.0.2", port), silent("127.0.0.3", port), silent("127.0.0.4", port):
            began = soon(0)
            said = await here.send()
            assert isinstance(said, HopFailure)
            assert said.kind is FailureKind.CONNECT
            assert soon(0) - began < 0.8


async def test_the_deadline_holds_whatever_drops_what_we_send() -> None:
    hosts = [f"mx{number}.test" for number in range(1, 6)]
    zone = mx(*hosts) | {host: [{"A": f"127.0.0.{number}"}] for number, host in enumerate(hosts, start=2)}
    async with sandboxes(Sandbox()) as port, world(zone, port) as here:
        with ExitStack() as stack:
            for number in range(2, 7):
                stack.enter_context(silent(f"127.0.0.{number}", port))
            began = soon(0)
            exchange = await here.begin(within_s=0.6)
            assert isinstance(exchange.mail, HopFailure)
            assert soon(0) - began < 1.9  # all five, each with the time-out of a connection, take 2 s
            exchange.finish()


async def test_a_host_that_is_there_may_stumble() -> None:
    hop = Sandbox(script=Script({"MAIL": [Close(), Close(), Ok()]}))
    async with sandboxes(hop) as port, world(mx("mx1.test"), port) as here:
        assert [taken(await here.send()) for _ in range(3)] == [False, False, True]


async def test_a_dead_host_holds_up_no_other_one_and_no_other_domain() -> None:
    dead, well = Sandbox(script=Script({"CONNECT": Hang()})), Sandbox()
    zone: dict[str, Entries] = mx("mx1.test", "mx2.test") | {"b.test": [{"MX": [10, "mx2.test"]}]}
    async with sandboxes(dead, well) as port, world(zone, port) as here:
        slow = asyncio.gather(*(here.send() for _ in range(5)))
        began = soon(0)
        assert taken(await here.send(b"x@b.test"))
        assert soon(0) - began < 0.3
        assert taken((await slow)[0])
        began = soon(0)
        assert taken(await here.send())
        assert soon(0) - began < 0.3
        assert dead.connections == 1


async def test_a_destination_is_opened_up_when_it_was_reached() -> None:
    hop = Sandbox(latency_s=0.02)
    async with sandboxes(hop) as port, world(mx("mx1.test"), port, connections_per_domain=3) as here:
        exchanges = await asyncio.gather(*(here.begin() for _ in range(3)))
        assert all(taken(exchange.mail) for exchange in exchanges)
        assert hop.open_connections == 3
        fourth = await here.begin()
        assert isinstance(fourth.mail, HopFailure)
        for exchange in (*exchanges, fourth):
            exchange.finish()


async def test_one_domain_cannot_have_all_connections() -> None:
    zone: dict[str, Entries] = mx("mx1.test") | {"b.test": [{"MX": [10, "mx2.test"]}], "mx2.test": [{"A": "127.0.0.2"}]}
    hops = Sandbox(), Sandbox()
    limits = {"connections": 3, "connections_per_domain": 2, "queue_wait": "50ms"}
    async with sandboxes(*hops) as port, world(zone, port, **limits) as here:
        held = [await here.begin() for _ in range(3)]
        assert [taken(exchange.mail) for exchange in held] == [True, True, False]
        assert isinstance(held[2].mail, HopFailure)
        assert held[2].mail.kind is FailureKind.SATURATED
        other = await here.begin(b"x@b.test")
        assert taken(other.mail)
        full = await here.begin(b"y@b.test")
        assert not taken(full.mail)
        for exchange in (*held, other, full):
            exchange.finish()
        await until(lambda: here.count("connections_in_use") == 0)


async def test_a_large_provider_has_half_of_all_connections() -> None:
    zone: dict[str, Entries] = {
        "a.test": [{"MX": [1, "one.mail.protection.outlook.com"]}],
        "b.test": [{"MX": [1, "two.mail.protection.outlook.com"]}],
        "one.mail.protection.outlook.com": [{"A": "127.0.0.1"}],
        "two.mail.protection.outlook.com": [{"A": "127.0.0.1"}],
        "c.test": [{"A": "127.0.0.1"}],
    }
    async with sandboxes(Sandbox()) as port, world(zone, port, connections=4, queue_wait="50ms") as here:
        held = [await here.begin(rcpt) for rcpt in (b"x@a.test", b"x@b.test", b"y@b.test", b"x@c.test")]
        assert [taken(exchange.mail) for exchange in held] == [True, True, False, True]
        for exchange in held:
            exchange.finish()


async def test_idle_connections_give_way_to_new_ones() -> None:
    zone: dict[str, Entries] = {f"d{number}.test": [{"A": f"127.0.0.{number}"}] for number in range(1, 6)}
    hops = [Sandbox() for _ in range(5)]
    async with sandboxes(*hops) as port, world(zone, port, connections=2) as here:
        for number in range(1, 6):
            assert taken(await here.send(f"x@d{number}.test".encode()))
        await until(lambda: sum(hop.open_connections for hop in hops) <= 2)


async def test_the_deadline_holds_whatever_the_hosts_do() -> None:
    hops = [Sandbox(script=Script({"CONNECT": Hang()})) for _ in range(5)]
    hosts = [f"mx{number}.test" for number in range(1, 6)]
    async with sandboxes(*hops) as port, world(mx(*hosts), port) as here:
        began = soon(0)
        exchange = await here.begin(within_s=0.6)
        assert isinstance(exchange.mail, HopFailure)
        assert soon(0) - began < 1.0
        assert hops[4].connections == 0


class Slow(Zone):
    """A DNS that answers when it is told to."""

    def __init__(self, data: Mapping[str, Entries]) -> None:
        super().__init__(data)
        self.go = asyncio.Event()

    async def mx(self, name: str) -> Any:
        await self.go.wait()
        return await super().mx(name)


async def test_the_deadline_holds_whatever_the_dns_does() -> None:
    async with world(Slow(mx("mx1.test"))) as here:
        exchange = await here.begin(within_s=0.1)
        assert isinstance(exchange.mail, HopFailure)
        assert exchange.mail.keyword == Own.DNS


async def test_what_is_given_up_while_it_is_looked_up_is_never_sent() -> None:
    zone, hop = Slow(mx("mx1.test")), Sandbox()
    async with sandboxes(hop) as port, world(zone, port) as here:
        for way in ("finish", "abort"):
            hears = Talk()
            exchange = here.hop.begin(ENVELOPE, to(b"b@a.test"), soon(), hears)
            await asyncio.sleep(0)
            getattr(exchange, way)()
        zone.go.set()
        assert taken(await here.send())
        assert hop.accepted == 1


async def test_when_it_is_closed_it_takes_no_more() -> None:
    async with world(mx("mx1.test")) as here:
        await here.hop.close()
        said = await here.send()
        assert isinstance(said, HopFailure)
        assert said.kind is FailureKind.STOPPING


# -- TLS policies


class Fixed(Policies):
    """One policy for every domain."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    async def of(self, domain: str) -> Policy | None:
        return self.policy

    async def close(self) -> None:
        """Nothing is open."""


def sts(mode: Any = "enforce", *hosts: str) -> dict[str, Any]:
    return {"policies": Fixed(Policy(mode, hosts or ("mx1.test",), 604_800))}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> CaAndServer:
    return ca_and_server(["mx1.test"], directory=tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> CaAndServer:
    return ca_and_server(["another.test"], directory=tmp_path_factory.mktemp("wrong"))


def _serving(certs: CaAndServer, **more: Any) -> Sandbox:
    return Sandbox(tls=server_context(certs.cert, certs.key), **more)


def _is_tls_failure(answer: Answer) -> bool:
    return isinstance(answer, HopFailure) and answer.kind is FailureKind.TLS


def _heard_no_mail(hop: Sandbox) -> bool:
    return not [line for line in hop.commands if line.startswith((b"MAIL", b"RCPT", b"DATA", b"BDAT"))]


async def test_without_a_policy_any_tls_is_used_and_none_is_needed(wrong: CaAndServer) -> None:
    for hop in (_serving(wrong), Sandbox()):
        async with sandboxes(hop) as port, world(mx("mx1.test"), port) as here:
            assert taken(await here.send())
            assert not here.told
            assert (b"STARTTLS" in hop.commands) == (hop.settings.tls is not None)


async def test_mta_sts_takes_a_good_certificate(good: CaAndServer) -> None:
    hop = _serving(good)
    async with sandboxes(hop) as port, world(mx("mx1.test"), port, tls_ca_file=str(good.ca), **sts()) as here:
        exchange = await here.begin()
        assert exchange.hop.tls_version.startswith("TLSv1")
        exchange.finish()
        assert here.told == {("sts", "successful"): 1}


async def test_under_mta_sts_a_bad_certificate_gets_no_octet_of_mail(good: CaAndServer, wrong: CaAndServer) -> None:
    for certs, believed, result in (
        (wrong, wrong, "certificate-host-mismatch"),
        (good, wrong, "certificate-not-trusted"),
    ):
        hop = _serving(certs)
        async with sandboxes(hop) as port, world(mx("mx1.test"), port, tls_ca_file=str(believed.ca), **sts()) as here:
            assert _is_tls_failure(await here.send())
            assert _heard_no_mail(hop)
            assert hop.connections == 1
            assert here.told == {("sts", result): 1}


async def test_a_policy_of_a_web_server_lets_no_octet_of_mail_into_the_clear_or_to_a_wrong_host(
    authority: Authority, wrong: CaAndServer
) -> None:
    """RFC 8461 5: the policy as it is fetched, and a mail host that has a bad certificate, or lost its STARTTLS."""
    for hop, result in (
        (_serving(wrong), "certificate-host-mismatch"),
        (Sandbox(), "starttls-not-supported"),
    ):
        zone: dict[str, Entries] = {"d.test": [{"MX": [1, "mx.d.test"]}], "mx.d.test": [{"A": "127.0.0.1"}]}
        async with (
            site(authority) as web,
            sandboxes(hop) as port,
            world(zone, port, tls_ca_file=str(wrong.ca), policies=web.policies) as here,
        ):
            assert _is_tls_failure(await here.send(b"x@d.test"))
            assert web.asked == 1
            assert here.told == {("sts", result): 1}
            assert {line.split(b" ")[0] for line in hop.commands} <= {b"EHLO", b"STARTTLS", b"QUIT"}
            assert hop.accepted == 0


async def test_an_expired_certificate_is_told_apart(tmp_path: Path) -> None:
    old = ca_and_server(["mx1.test"], directory=tmp_path, expired=True)
    async with (
        sandboxes(_serving(old)) as port,
        world(mx("mx1.test"), port, tls_ca_file=str(old.ca), **sts()) as here,
    ):
        assert _is_tls_failure(await here.send())
        assert here.told == {("sts", "certificate-expired"): 1}


@pytest.mark.parametrize("mode", ["sts", "dane"])
async def test_where_tls_is_demanded_a_stripped_starttls_gets_no_octet_of_mail(mode: str, good: CaAndServer) -> None:
    hop = Sandbox()
    zone = Signed(mx("mx1.test") | {"_25._tcp.mx1.test": [written(tlsa(good.cert, 3))]})
    more: dict[str, Any] = sts() if mode == "sts" else {}
    async with sandboxes(hop) as port, world(Zone(mx("mx1.test")) if more else zone, port, **more) as here:
        assert _is_tls_failure(await here.send())
        assert _heard_no_mail(hop)
        assert list(here.told) == [("sts" if more else "tlsa", "starttls-not-supported")]


async def test_mta_sts_keeps_to_its_hosts(good: CaAndServer) -> None:
    other, named = Sandbox(), _serving(good)
    zone = mx("mx0.test", "mx1.test")
    async with sandboxes(other, named) as port, world(zone, port, tls_ca_file=str(good.ca), **sts()) as here:
        assert taken(await here.send())
        assert (other.connections, named.accepted) == (0, 1)
    async with sandboxes(other) as port, world(mx("mx0.test"), port, **sts()) as here:
        assert _is_tls_failure(await here.send())
        assert other.connections == 0


async def test_in_testing_mail_passes_and_what_would_have_failed_is_counted(wrong: CaAndServer) -> None:
    for hop, result in ((_serving(wrong), "certificate-host-mismatch"), (Sandbox(), "starttls-not-supported")):
        async with (
            sandboxes(hop) as port,
            world(mx("mx1.test"), port, tls_ca_file=str(wrong.ca), **sts("testing")) as here,
        ):
            assert taken(await here.send())
            assert here.told == {("sts", result): 1}
            assert (b"STARTTLS" in hop.commands) == (hop.settings.tls is not None)
    async with sandboxes(Sandbox()) as port, world(mx("mx0.test"), port, **sts("testing")) as here:
        assert taken(await here.send())
        assert here.told["sts", "validation-failure"] == 1


async def test_a_domain_under_a_policy_shares_no_connection_with_one_without(good: CaAndServer) -> None:
    class Some(Fixed):
        async def of(self, domain: str) -> Policy | None:
            return self.policy if domain == "b.test" else None

    hop = _serving(good)
    zone: dict[str, Entries] = mx("mx1.test") | {"b.test": [{"MX": [10, "mx1.test"]}]}
    policies = Some(Policy("enforce", ("mx1.test",), 604_800))
    async with sandboxes(hop) as port, world(zone, port, tls_ca_file=str(good.ca), policies=policies) as here:
        for rcpt in (b"x@a.test", b"x@b.test", b"x@a.test", b"x@b.test"):
            assert taken(await here.send(rcpt))
        assert hop.connections == 2


def _signed(record: Tlsa, *unsigned: str) -> Signed:
    return Signed(mx("mx1.test") | {"_25._tcp.mx1.test": [written(record)]}, *unsigned)


async def test_dane_needs_no_authority_that_we_know(good: CaAndServer) -> None:
    hop = _serving(good)
    async with sandboxes(hop) as port, world(_signed(tlsa(good.cert, 3, 1)), port) as here:
        assert taken(await here.send())
        assert here.told == {("tlsa", "successful"): 1}


async def test_under_dane_another_certificate_gets_no_octet_of_mail(good: CaAndServer, wrong: CaAndServer) -> None:
    hop = _serving(wrong)
    async with sandboxes(hop) as port, world(_signed(tlsa(good.cert, 3, 1)), port) as here:
        assert _is_tls_failure(await here.send())
        assert _heard_no_mail(hop)
        assert here.told == {("tlsa", "validation-failure"): 1}


async def test_dane_comes_before_mta_sts(good: CaAndServer, wrong: CaAndServer) -> None:
    hop = _serving(good)
    both = {**sts("enforce", "other.test"), "tls_ca_file": str(wrong.ca)}
    async with sandboxes(hop) as port, world(_signed(tlsa(good.cert, 3)), port, **both) as here:
        assert taken(await here.send())
        assert here.told == {("tlsa", "successful"): 1}


@pytest.mark.parametrize("unsigned", ["a.test", "mx1.test", "_25._tcp.mx1.test"])
async def test_where_a_link_is_not_signed_dane_asks_nothing(
    unsigned: str, good: CaAndServer, wrong: CaAndServer
) -> None:
    async with sandboxes(_serving(wrong)) as port, world(_signed(tlsa(good.cert, 3), unsigned), port) as here:
        assert taken(await here.send())
        assert not here.told


async def test_where_records_cannot_be_looked_up_mail_waits(good: CaAndServer) -> None:
    hop = _serving(good)
    zone = Signed(mx("mx1.test") | {"_25._tcp.mx1.test": ["SERVFAIL"]})
    async with sandboxes(hop) as port, world(zone, port) as here:
        said = await here.send()
        assert isinstance(said, HopFailure)
        assert said.keyword == Own.DNS
        assert hop.connections == 0


async def test_tls_none_asks_for_no_policy(good: CaAndServer) -> None:
    zone = _signed(tlsa(good.cert, 3))
    async with sandboxes(Sandbox()) as port, world(zone, port, tls="none", **sts("enforce", "other.test")) as here:
        assert taken(await here.send())
        assert not here.told
        assert ("TLSA", "_25._tcp.mx1.test") not in zone.asked


async def test_required_tls_is_required_of_all(good: CaAndServer, wrong: CaAndServer) -> None:
    for hop in (Sandbox(), _serving(wrong)):
        async with (
            sandboxes(hop) as port,
            world(mx("mx1.test"), port, tls="required", tls_ca_file=str(good.ca)) as here,
        ):
            assert _is_tls_failure(await here.send())
            assert _heard_no_mail(hop)


def test_a_tls_file_that_is_no_good_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    chosen, metrics = settings("mx", tls="opportunistic", tls_ca_file=str(tmp_path / "ca.pem")), Metrics()
    with pytest.raises(ssl.SSLError):
        MxHop("t", chosen, hostname=OURSELVES, metrics=metrics, log=Heard(), resolver=Zone({}), count=lambda *_: None)
