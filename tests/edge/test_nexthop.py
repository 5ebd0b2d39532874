"""A next hop: hosts in order, connections kept and limited, breakers, what it offers, what it says of itself."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

import pytest

from smtpguard import flow
from smtpguard.edge.breaker import FIRST_PAUSE_S, THRESHOLD
from smtpguard.mail.reply import Answer, FailureKind, HopFailure, Reply, Verb
from smtpguard.mail.session import Envelope
from smtpguard.sandbox import (
    Action,
    Close,
    CloseAfter,
    CommitThenClose,
    Hang,
    Mixed,
    Ok,
    Reset,
    Sandbox,
    Say,
    Script,
)
from tests.edge.hopping import ENVELOPE, HEAD, MESSAGE, HeldBody, Talk, Way, sandboxes, soon, talk, to, until, way_to

FIRST, SECOND, THIRD = "127.0.0.1", "127.0.0.2", "127.0.0.3"


def _is_good(answer: Answer) -> bool:
    return isinstance(answer, Reply) and answer.klass == 2


def _kind(answer: Answer) -> FailureKind:
    assert isinstance(answer, HopFailure), answer
    return answer.kind


async def _send(exchange: Talk) -> Answer:
    said = await exchange.message(HEAD, HeldBody(MESSAGE), soon())
    exchange.finish()
    return said


async def test_it_is_what_flow_asks_for() -> None:
    async with Sandbox() as hop, way_to(hop.port) as way:
        next_hop: flow.NextHop = way.hop
        exchange = await talk(next_hop, ENVELOPE, to(), soon(), size=10)
        assert _is_good(await _send(exchange))
        assert str(exchange.hop) == FIRST


# -- failover (contract 1.4)

GOES_ON: list[tuple[str, Action]] = [
    ("CONNECT", Close()),
    ("CONNECT", Hang()),
    ("CONNECT", Say("421 4.7.0 busy")),
    ("CONNECT", Say("554 5.7.1 go away")),
    ("CONNECT", Say("nonsense")),
    ("EHLO", Say("550 5.7.1 bad name")),
    ("EHLO", Reset()),
    ("MAIL", Say("451 4.3.0 later")),
    ("MAIL", Say("421 4.3.2 going down")),
    ("MAIL", Close()),
    ("MAIL", Hang()),
    ("MAIL", Mixed()),
]


@pytest.mark.parametrize(("verb", "action"), GOES_ON, ids=str)
async def test_the_next_host_is_tried_after(verb: str, action: Action) -> None:
    one, two = Sandbox(script=Script({verb: action})), Sandbox()
    async with sandboxes(one, two) as port, way_to(port, FIRST, SECOND) as way:
        exchange = await way.begin()
        assert exchange.hop.host == SECOND
        assert _is_good(exchange.mail)
        assert _is_good(await exchange.rcpts[0])
        assert _is_good(await _send(exchange))
        assert (one.accepted, two.accepted) == (0, 1)


async def test_the_next_host_is_tried_after_no_connection_and_after_tls_not_to_be_had() -> None:
    two = Sandbox()
    async with sandboxes(Sandbox(), two) as port:
        async with way_to(port, THIRD, SECOND) as way:
            assert (await way.begin()).hop.host == SECOND
        async with way_to(port, FIRST, SECOND, tls="required") as way:
            exchange = await way.begin()
            assert _kind(exchange.mail) is FailureKind.TLS
            assert way.count("connections_total", result="failed") == 2


STAYS: list[tuple[str, Action]] = [
    ("MAIL", Say("550 5.7.1 not you")),
    ("MAIL", Say("552 5.3.4 too large")),
    ("RCPT", Say("451 4.3.0 later")),
    ("RCPT", Close()),
    ("DOT", Say("451 4.3.0 later")),
    ("DOT", CommitThenClose()),
]


@pytest.mark.parametrize(("verb", "action"), STAYS, ids=str)
async def test_no_other_host_is_tried_after(verb: str, action: Action) -> None:
    one, two = Sandbox(script=Script({verb: action})), Sandbox()
    async with sandboxes(one, two) as port, way_to(port, FIRST, SECOND) as way:
        exchange = await way.begin()
        await exchange.rcpts[0]
        if _is_good(exchange.mail):
            await _send(exchange)
        assert exchange.hop.host == FIRST
        assert two.connections == 0


async def test_no_other_host_is_tried_after_a_refused_login() -> None:
    one, two = Sandbox(users={"u": "other"}), Sandbox()
    async with sandboxes(one, two) as port, way_to(port, FIRST, SECOND, username="u") as way:
        exchange = await way.begin()
        assert isinstance(exchange.mail, Reply)
        assert (exchange.mail.code, exchange.mail.verb) == (535, Verb.AUTH)
        assert [await rcpt for rcpt in exchange.rcpts] == [exchange.mail]
        assert two.connections == 0


async def test_a_refusal_is_worth_more_than_a_failure_and_the_last_one_counts() -> None:
    one, two = Sandbox(script=Script({"MAIL": Say("451 4.1.1 one")})), Sandbox(script=Script({"MAIL": Close()}))
    three = Sandbox(script=Script({"CONNECT": Say("554 5.3.3 three")}))
    async with sandboxes(one, two, three) as port:
        async with way_to(port, FIRST, SECOND) as way:
            exchange = await way.begin()
            assert (str(exchange.mail), exchange.hop.host) == ("451 4.1.1 one", FIRST)
        async with way_to(port, SECOND, FIRST, THIRD) as way:
            exchange = await way.begin()
            assert (str(exchange.mail), exchange.hop.host) == ("554 5.3.3 three", THIRD)
            assert [await rcpt for rcpt in exchange.rcpts] == [exchange.mail]
        async with way_to(port, SECOND, "127.0.0.9") as way:
            assert _kind((await way.begin()).mail) is FailureKind.CONNECT


async def test_the_deadline_ends_the_search() -> None:
    hosts = [Sandbox(script=Script({"CONNECT": Hang()})) for _ in range(3)]
    async with sandboxes(*hosts) as port, way_to(port, FIRST, SECOND, THIRD) as way:
        began = soon(0)
        assert _kind((await way.begin(within_s=0.2)).mail) is FailureKind.TIMEOUT
        assert soon(0) - began < 1
        assert hosts[1].connections == 0
        assert _kind((await way.begin(within_s=-1)).mail) is FailureKind.TIMEOUT


# -- connections


async def test_connections_are_kept_newest_first_and_counted() -> None:
    async with Sandbox() as hop, way_to(hop.port) as way:
        first, second = await way.begin(), await way.begin()
        assert way.count("connections_in_use") == 2
        await asyncio.gather(_send(first), _send(second))
        for _ in range(5):
            assert all(map(_is_good, await way.pass_one()))
        assert hop.connections == 2
        assert len({message.connection for message in hop.messages[2:]}) == 1
        assert way.count("connections_total", result="opened") == 2
        assert way.count("connections_total", result="reused") == 5
        assert way.count("connections_in_use") == 0


async def test_what_is_not_used_is_closed_after_a_while_and_politely() -> None:
    async with Sandbox() as hop, way_to(hop.port, idle="100ms") as way:
        await way.pass_one()
        assert hop.open_connections == 1
        await until(lambda: hop.open_connections == 0)
        assert hop.commands[-1] == b"QUIT"
        assert all(map(_is_good, await way.pass_one()))


async def test_a_connection_carries_so_many_messages_and_no_more() -> None:
    async with Sandbox() as hop, way_to(hop.port, messages_per_connection=3, connections=1) as way:
        for _ in range(7):
            assert all(map(_is_good, await way.pass_one()))
        assert [message.connection for message in hop.messages] == [1, 1, 1, 2, 2, 2, 3]
        await until(lambda: hop.open_connections == 1)


async def test_a_connection_that_answers_nothing_to_quit_is_closed_all_the_same() -> None:
    async with Sandbox(script=Script({"QUIT": Hang()})) as hop, way_to(hop.port, messages_per_connection=1) as way:
        await way.pass_one()
        await until(lambda: hop.open_connections == 0, 4)


@pytest.mark.parametrize("goodbye", [b"", b"421 4.4.2 idle for too long\r\n"])
async def test_a_kept_connection_that_was_closed_is_replaced_unnoticed(goodbye: bytes) -> None:
    said = Script({"DOT": [CloseAfter(b"250 2.0.0 taken\r\n" + goodbye), Ok()]})
    async with Sandbox(script=said) as hop, way_to(hop.port) as way:
        assert all(map(_is_good, await way.pass_one()))
        assert all(map(_is_good, await way.pass_one()))
        assert hop.connections == 2
        assert sum(way.count("failures_total", kind=kind.value) for kind in FailureKind) == 0


@pytest.mark.parametrize("action", [Close(), Reset(), Say("421 4.4.2 idle for too long"), CloseAfter("421 4.4.2 idle")])
async def test_a_kept_connection_that_dies_under_the_first_command_is_replaced_once(action: Action) -> None:
    script = Script({"MAIL": [Ok(), action, Ok()]})
    async with Sandbox(script=script) as hop, way_to(hop.port) as way:
        assert all(map(_is_good, await way.pass_one()))
        assert all(map(_is_good, await way.pass_one()))
        assert (hop.connections, hop.accepted) == (2, 2)
        assert way.log.events == []
    script = Script({"MAIL": [Ok(), action]})
    async with Sandbox(script=script) as hop, way_to(hop.port) as way:
        assert all(map(_is_good, await way.pass_one()))
        assert not _is_good((await way.begin()).mail)
        assert hop.connections == 2


async def test_all_busy_means_waiting_in_turn_and_then_no() -> None:
    async with Sandbox() as hop, way_to(hop.port, connections=2, queue_wait="100ms") as way:
        busy = [await way.begin(), await way.begin()]
        late = await way.begin()
        assert _kind(late.mail) is FailureKind.SATURATED
        assert _kind(await late.rcpts[0]) is FailureKind.SATURATED
        assert way.count("failures_total", kind="saturated") == 1
        order: list[int] = []

        async def wait(number: int) -> None:
            exchange = await way.begin()
            order.append(number)
            assert _is_good(await _send(exchange))

        waiting = [asyncio.create_task(wait(number)) for number in range(4)]
        await asyncio.sleep(0)
        for exchange in busy:
            assert _is_good(await _send(exchange))
        await asyncio.gather(*waiting)
        assert order == [0, 1, 2, 3]
        assert hop.connections == 2


async def test_who_goes_away_while_waiting_or_connecting_takes_no_connection_along() -> None:
    async with Sandbox() as hop, way_to(hop.port, connections=1, queue_wait="5s") as way:
        busy = await way.begin()
        waiting = [asyncio.create_task(way.begin()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        busy.finish()
        waiting[1].cancel()
        exchange = await waiting[2]
        assert _is_good(await _send(exchange))
        hop.script = Script({"MAIL": [Hang(), Ok()]})
        begun = asyncio.create_task(way.begin())
        await until(lambda: len([line for line in hop.commands if line.startswith(b"MAIL")]) == 3)
        begun.cancel()
        await asyncio.gather(begun, *waiting, return_exceptions=True)
        assert all(map(_is_good, await way.pass_one()))


async def test_who_goes_away_at_the_moment_of_the_connection_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cancel may be lost within: MAIL went out for nobody, on a connection that nobody gave back."""
    async with Sandbox() as hop, way_to(hop.port, connections=1) as way:
        trunk = way.hop._trunk
        opened = asyncio.Event()
        connection = trunk.connection

        async def deaf(host: Any, deadline: float) -> Any:
            opening = asyncio.ensure_future(connection(host, deadline))
            try:
                got = await asyncio.shield(opening)
            except asyncio.CancelledError:
                got = await opening
            opened.set()
            return got

        monkeypatch.setattr(trunk, "connection", deaf)
        talked = Talk()
        exchange = way.hop.begin(ENVELOPE, to(), soon(), talked)
        await asyncio.sleep(0)
        exchange.abort()
        await opened.wait()
        await until(lambda: b"QUIT" in hop.commands)
        assert not any(command.startswith(b"MAIL") for command in hop.commands)
        assert trunk.pool.slots.taken("") == 0
        assert way.count("connections_in_use") == 0


async def test_hundreds_at_once_share_the_connections() -> None:
    async with Sandbox() as hop, way_to(hop.port, connections=5, queue_wait="20s", messages_per_connection=7) as way:
        answers = await asyncio.gather(*(way.pass_one(within_s=20) for _ in range(300)))
        assert all(_is_good(answer) for each in answers for answer in each)
        assert hop.accepted == 300
        await until(lambda: way.count("connections_in_use") == 0)
        assert hop.open_connections <= 5


async def test_kept_connections_make_room_for_those_to_another_host() -> None:
    one, two = Sandbox(), Sandbox()
    async with sandboxes(one, two) as port, way_to(port, FIRST, SECOND, connections=2) as way:
        await asyncio.gather(way.pass_one(), way.pass_one())
        one.script = Script({"MAIL": Say("451 4.3.0 later"), "CONNECT": Say("421 4.3.2 no")})
        await asyncio.gather(way.pass_one(), way.pass_one())
        await until(lambda: one.open_connections + two.open_connections <= 2)
        assert two.accepted == 2


# -- breakers


async def test_a_dead_next_hop_is_given_up_and_taken_up_again() -> None:
    hop = Sandbox()
    port = await hop.start()
    async with way_to(port) as way:
        assert all(map(_is_good, await way.pass_one()))
        await hop.stop()
        for _ in range(THRESHOLD):
            assert _kind((await way.begin()).mail) is FailureKind.CONNECT
        assert way.count("breaker_open") == 1
        before = way.count("connections_total", result="failed")
        for _ in range(50):
            exchange = await way.begin()
            assert _kind(exchange.mail) is FailureKind.CONNECT
            assert _kind(await exchange.rcpts[0]) is FailureKind.CONNECT
        assert way.count("connections_total", result="failed") == before  # nobody was asked
        await hop.start(FIRST, port)
        back = soon(6)
        while not _is_good((exchange := await way.begin()).mail):
            assert soon(0) < back
            await asyncio.sleep(0.05)
        assert _is_good(await _send(exchange))
        assert way.count("breaker_open") == 0
        assert way.log.actions == ["next-hop-failed", "next-hop-recovered"]
    await hop.stop()


async def test_a_host_given_up_is_passed_over() -> None:
    one, two = Sandbox(script=Script({"MAIL": Hang()})), Sandbox()
    async with sandboxes(one, two) as port, way_to(port, FIRST, SECOND, timeout={"command": "30ms"}) as way:
        for _ in range(THRESHOLD + 3):
            assert all(map(_is_good, await way.pass_one()))
        assert one.connections == THRESHOLD
        assert way.count("breaker_open") == 0  # the other one works


@pytest.mark.parametrize(
    "script", [{"CONNECT": Say("554 5.7.1 listed")}, {"MAIL": Say("451 4.7.1 later")}, {"MAIL": Say("550 5.7.1 no")}]
)
async def test_a_host_that_refuses_is_never_given_up(script: dict[str, Any]) -> None:
    async with Sandbox(script=Script(script)) as hop, way_to(hop.port) as way:
        for _ in range(THRESHOLD * 2):
            exchange = await way.begin()
            assert isinstance(exchange.mail, Reply)
            exchange.finish()


async def test_a_probe_whose_client_goes_away_bars_nobody() -> None:
    script = Script({"CONNECT": [Close()] * THRESHOLD + [Hang(), Ok()]})
    async with Sandbox(script=script) as hop, way_to(hop.port) as way:
        for _ in range(THRESHOLD):
            await way.begin()
        again = monotonic() + FIRST_PAUSE_S
        await until(lambda: monotonic() > again)
        probe = asyncio.create_task(way.begin())
        await until(lambda: hop.connections == THRESHOLD + 1)
        assert _kind((await way.begin()).mail) is FailureKind.CONNECT
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        assert all(map(_is_good, await way.pass_one()))


# -- what it offers, what it lacks


async def test_what_it_offers_is_known_after_asking() -> None:
    one, two = Sandbox(keywords=("DSN", "8BITMIME", "SIZE 5000")), Sandbox(keywords=("DSN", "SIZE 3000"))
    async with sandboxes(one, two) as port, way_to(port, FIRST, SECOND) as way:
        assert way.hop.offers("DSN") is None
        assert way.hop.size_limit() is None
        await way.hop.ask()
        assert [way.hop.offers(keyword) for keyword in ("DSN", "8BITMIME", "SMTPUTF8")] == [True, False, False]
        assert way.hop.size_limit() == 3000
        await way.pass_one()
        assert (one.connections, two.connections) == (1, 1)  # what was opened for asking is used


@pytest.mark.parametrize(("keywords", "limit"), [(("SIZE",), 0), (("SIZE 0",), 0), (("SIZE 9",), 9), ((), None)])
async def test_size_limit(keywords: tuple[str, ...], limit: int | None) -> None:
    async with Sandbox(keywords=keywords) as hop, way_to(hop.port) as way:
        await way.hop.ask()
        assert way.hop.size_limit() == limit


async def test_asking_the_dead_is_no_error_and_is_said() -> None:
    async with way_to(1) as way:
        await way.hop.ask()
        assert way.hop.offers("DSN") is None
        [(action, message, fields)] = way.log.events
        assert action == "next-hop-failed"
        assert FIRST in message
        assert fields["error.type"] == "connect"


LACKS: list[tuple[str, Envelope, int | None]] = [
    ("8BITMIME", Envelope(b"a@x.test", eight_bit=True), None),
    ("SMTPUTF8", Envelope(b"a@x.test", smtputf8=True), None),
    ("DSN", Envelope(b"a@x.test", dsn=True), None),
    ("SIZE", Envelope(b"a@x.test"), 1001),
]


@pytest.mark.parametrize(("keyword", "envelope", "size"), LACKS)
async def test_what_the_message_needs_and_is_not_offered_is_said_before_anything_is_sent(
    keyword: str, envelope: Envelope, size: int | None
) -> None:
    async with Sandbox(keywords=("SIZE 1000",)) as hop, way_to(hop.port) as way:
        exchange = await talk(way.hop, envelope, to(), soon(), size=size)
        assert isinstance(exchange.mail, HopFailure)
        assert (exchange.mail.kind, exchange.mail.verb, exchange.mail.keyword) == (
            FailureKind.CAPABILITY,
            Verb.MAIL,
            keyword,
        )
        assert hop.commands == [b"EHLO relay.test"]
        assert all(map(_is_good, await way.pass_one()))
        assert hop.connections == 1


async def test_keywords_to_discard_are_not_used() -> None:
    async with Sandbox() as hop, way_to(hop.port, discard_keywords=["CHUNKING", "PIPELINING"]) as way:
        assert all(map(_is_good, await way.pass_one()))
        assert hop.messages[0].via == "DATA"
        assert way.hop.offers("CHUNKING") is False


# -- what is logged, how it ends


async def test_a_host_that_comes_and_goes_is_not_logged_each_time() -> None:
    script = Script({"CONNECT": [Say("554 5.7.1 listed"), Ok()] * 20})
    async with Sandbox(script=script) as hop, way_to(hop.port, messages_per_connection=1) as way:
        for _ in range(20):
            exchange = await way.begin()
            if _is_good(exchange.mail):
                await _send(exchange)
                await until(lambda: hop.open_connections == 0)
        assert way.log.actions == ["next-hop-failed", "next-hop-recovered"]
        _, message, fields = way.log.events[0]
        assert "554 5.7.1 listed" in message
        assert fields["smtp.verb"] == "CONNECT"
        assert fields["server.address"] == FIRST
        assert way.count("connections_total", result="refused") == 10


async def _after_close(way: Way) -> None:
    exchange = await way.begin()
    assert _kind(exchange.mail) is FailureKind.STOPPING
    assert _kind(await exchange.rcpts[0]) is FailureKind.STOPPING


async def test_close_lets_mail_under_way_end_and_takes_no_more() -> None:
    async with Sandbox() as hop, way_to(hop.port, connections=2, queue_wait="5s") as way:
        await way.pass_one()
        busy = [await way.begin(), await way.begin()]
        waiting = asyncio.create_task(way.begin())
        await asyncio.sleep(0)
        closing = asyncio.create_task(way.hop.close(5))
        assert _kind((await waiting).mail) is FailureKind.STOPPING
        await _after_close(way)
        assert [_is_good(await _send(exchange)) for exchange in busy] == [True, True]
        await asyncio.wait_for(closing, 2)
        await until(lambda: hop.open_connections == 0)
        await way.hop.close()


async def test_close_does_not_wait_for_ever() -> None:
    async with Sandbox() as hop, way_to(hop.port) as way:
        exchange = await way.begin()
        await asyncio.wait_for(way.hop.close(), 4)
        assert isinstance(await _send(exchange), HopFailure)
        await until(lambda: hop.open_connections == 0)
        assert way.count("connections_in_use") == 0
