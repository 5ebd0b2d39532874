"""`[[route]]`, several hosts, the breaker and the limit of connections, end to end (contract 1.1, 1.4).

Two next hops stand behind the relay: `default`, and `other`, each a sandbox of its own; on the SMTP door a transaction
has one of them, on the LMTP door both are served side by side.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from smtpguard.sandbox import Action, Close, Garbage, Hang, Ok, Reset, Sandbox, Say, Script
from tests.harness import MESSAGE, PATIENT, QUICK, Client, Guard, code, relay
from tests.test_octets import hello, port

BY_RECIPIENT = '[[route]]\nrecipient_domain = ["other.example", "*.other.example"]\nnext_hop = "other"\n'
BY_SENDER = '[[route]]\nsender_domain = ["bulk.example"]\nnext_hop = "other"\n'
RECOVERS_WITHIN_S = 6.0  # reliability: "next message passes within 6 s"


@asynccontextmanager
async def two_hops(
    routes: str,
    *,
    one: Script | None = None,
    other: Script | None = None,
    next_hop: str = PATIENT,
    others: str = PATIENT,
    now: Callable[[], float] = time.time,
) -> AsyncIterator[tuple[Guard, Sandbox]]:
    """A relay and the sandbox that is its next hop `other`; the default one is `guard.hop`."""
    async with Sandbox(script=other) as second:
        more = f'{routes}[next_hop.other]\nhost = "127.0.0.1"\nport = {second.port}\ntls = "none"\n{others}\n'
        async with relay(script=one, more=more, next_hop=next_hop, now=now) as guard:
            yield guard, second


async def deliver(client: Client, mail_from: str, *rcpts: str, lmtp: bool = False) -> list[str]:
    """MAIL, RCPTs, DATA and a message: the codes of MAIL and RCPTs, then of DATA or the answers to the message."""
    codes = [code(await client.say(command)) for command in commands(mail_from, *rcpts)]
    reply = await client.say("DATA")
    if not reply[0].startswith("354"):
        await client.say("RSET")
        return [*codes, code(reply)]
    client.send(MESSAGE + b".\r\n")
    taken = sum(1 for each in codes[1:] if each.startswith("250"))
    return [*codes, *[code(each) for each in await client.replies(taken if lmtp else 1)]]


def commands(mail_from: str, *rcpts: str) -> list[str]:
    """MAIL and RCPTs."""
    return [f"MAIL FROM:<{mail_from}>", *(f"RCPT TO:<{rcpt}>" for rcpt in rcpts)]


def took(hop: Sandbox) -> list[list[bytes]]:
    """The recipients of each message that a hop has."""
    return [[path for path, _ in message.rcpts] for message in hop.messages]


# -- by sender -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", ["smtp", "lmtp"])
async def test_by_sender(door: str) -> None:
    async with two_hops(BY_SENDER) as (guard, other), Client(port(guard, door)) as client:
        await client.greet(hello(door))
        for mail_from in ("a@bulk.example", "a@s.example", "A@BULK.Example", "", "a@x.bulk.example"):
            assert (await deliver(client, mail_from, "b@r.example"))[-1] == "250 2.0.0"
        assert [message.mail_from for message in other.messages] == [b"a@bulk.example", b"A@BULK.Example"]
        assert [message.mail_from for message in guard.hop.messages] == [b"a@s.example", b"", b"a@x.bulk.example"]
        events = await guard.events("transaction", 5)
        assert [event["smtpguard.next_hop"] for event in events] == ["other", "default", "other", "default", "default"]


async def test_by_sender_the_hop_itself_answers_mail() -> None:
    script = Script({"MAIL": [Say("550 5.7.1 not you"), Ok()]})
    async with two_hops(BY_SENDER, other=script) as (guard, _), Client(guard.smtp) as client:
        await client.greet()
        assert code(await client.say("MAIL FROM:<a@bulk.example>")) == "550 5.7.1"
        [line] = await guard.events("recipient-refused")
        assert (line["smtp.verb"], line["smtpguard.next_hop"]) == ("MAIL", "other")
        assert (await deliver(client, "a@bulk.example", "b@r.example"))[-1] == "250 2.0.0"


# -- by recipient, SMTP door -----------------------------------------------------------------------------------------


async def test_by_recipient_mail_is_answered_here_and_one_hop_serves_the_transaction() -> None:
    async with two_hops(BY_RECIPIENT) as (guard, other), Client(guard.smtp) as client:
        await client.greet()
        asked = len([line for line in guard.hop.commands + other.commands if line.startswith(b"MAIL")])
        assert code(await client.say("MAIL FROM:<a@s.example>")) == "250 2.1.0"
        assert len([line for line in guard.hop.commands + other.commands if line.startswith(b"MAIL")]) == asked
        assert code(await client.say("RCPT TO:<b@x.other.example>")) == "250 2.1.5"
        assert code(await client.say("RCPT TO:<b@r.example>")) == "452 4.5.3"
        assert code(await client.say("RCPT TO:<c@other.example>")) == "250 2.1.5"
        await client.say("DATA")
        client.send(MESSAGE + b".\r\n")
        assert code(await client.reply()) == "250 2.0.0"
        assert took(other) == [[b"b@x.other.example", b"c@other.example"]]
        assert not guard.hop.messages
        assert await deliver(client, "a@s.example", "b@r.example") == ["250 2.1.0", "250 2.1.5", "250 2.0.0"]
        assert took(guard.hop) == [[b"b@r.example"]]
        [line] = await guard.events("recipient-refused")
        assert (line["smtp.rcpt_to"], line["smtpguard.source"]) == ("b@r.example", "internal")


async def test_by_recipient_in_one_packet() -> None:
    async with two_hops(BY_RECIPIENT) as (guard, other), Client(guard.smtp) as client:
        await client.greet()
        lines = [
            *commands("a@s.example", "b@r.example", "b@other.example", "550-5.1.1@r.example", "c@r.example"),
            "DATA",
        ]
        client.send("".join(line + "\r\n" for line in lines).encode())
        got = [code(reply) for reply in await client.replies(6)]
        assert got[:5] == ["250 2.1.0", "250 2.1.5", "452 4.5.3", "550 5.1.1", "250 2.1.5"]
        client.send(MESSAGE + b".\r\n")
        assert code(await client.reply()) == "250 2.0.0"
        assert (took(guard.hop), took(other)) == ([[b"b@r.example", b"c@r.example"]], [])


@pytest.mark.parametrize(
    ("action", "wanted"),
    [
        (Say("550 5.7.1 not you"), "550 5.7.1"),
        (Say("450 4.7.1 not now"), "450 4.7.1"),
        (Say("421 4.3.2 closing"), "451 4.3.2"),
        (Say("530 5.7.0 log in"), "451 4.7.0"),
        (Garbage(), "451 4.3.0"),
        (Close(), "451 4.4.2"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_by_recipient_a_refusal_of_mail_is_each_recipients_answer(action: Action, wanted: str) -> None:
    async with two_hops(BY_RECIPIENT, other=Script({"MAIL": action})) as (guard, other), Client(guard.smtp) as client:
        await client.greet()
        got = await deliver(client, "a@s.example", "b@other.example", "c@other.example")
        assert got[:3] == ["250 2.1.0", wanted, wanted]
        assert got[3][0] == wanted[0]  # DATA: no recipient was taken, and whether to retry is the same
        lines = await guard.events("recipient-refused", 2)
        assert [line.get("smtp.rcpt_to") for line in lines[:2]] == ["b@other.example", "c@other.example"]
        assert {line["smtp.verb"] for line in lines[:2]} == {"MAIL"}
        assert not other.messages
        assert (await deliver(client, "a@s.example", "b@r.example"))[-1] == "250 2.0.0"


@pytest.mark.parametrize("wanted", ["450 4.7.1", "550 5.7.1"])
async def test_recipients_in_the_packet_of_a_refused_mail_are_deferred_where_it_is(wanted: str) -> None:
    """Law B: a client that believes each answer by itself must not bounce what MAIL's answer would have it retry."""
    async with relay(script=Script({"MAIL": Say(f"{wanted} not you")})) as guard, Client(guard.smtp) as client:
        await client.greet()
        lines = [*commands("a@s.example", "b@r.example", "c@r.example"), "DATA"]
        client.send("".join(line + "\r\n" for line in lines).encode())
        got = [code(reply) for reply in await client.replies(4)]
        assert got[0] == wanted
        assert {answer[0] for answer in got[1:]} == {wanted[0]}
        assert code(await client.say("NOOP")) == "250 2.0.0"


# -- by recipient, LMTP door -----------------------------------------------------------------------------------------


async def test_lmtp_serves_both_side_by_side() -> None:
    async with two_hops(BY_RECIPIENT) as (guard, other), Client(guard.lmtp) as client:
        await client.greet("LHLO client.example")
        rcpts = ["b@r.example", "550-5.1.1@other.example", "c@other.example", "452-4.2.2@r.example", "d@r.example"]
        got = await deliver(client, "a@s.example", *rcpts, lmtp=True)
        assert got[6:] == ["250 2.0.0", "550 5.1.1", "250 2.0.0", "452 4.2.2", "250 2.0.0"]
        assert took(guard.hop) == [[b"b@r.example", b"d@r.example"]]
        assert took(other) == [[b"c@other.example"]]
        assert guard.hop.messages[0].data == other.messages[0].data
        [transaction] = await guard.events("transaction")
        assert (transaction["smtp.rcpt.accepted"], transaction["smtp.rcpt.refused"]) == (3, 2)
        assert transaction["smtpguard.next_hop"] == "default,other"


@pytest.mark.parametrize("verb", ["CONNECT", "EHLO", "MAIL", "RCPT", "DOT"])
@pytest.mark.parametrize("action", [Close(), Garbage(), Reset(), Hang()], ids=["close", "garbage", "reset", "hang"])
async def test_lmtp_a_dead_hop_does_not_disturb_the_others_answers(verb: str, action: Action) -> None:
    others = QUICK if isinstance(action, Hang) else PATIENT
    async with (
        two_hops(BY_RECIPIENT, other=Script({verb: action}), others=others) as (guard, other),
        Client(guard.lmtp) as client,
    ):
        await client.greet("LHLO client.example")
        got = await deliver(client, "a@s.example", "b@other.example", "b@r.example", "c@other.example", lmtp=True)
        dead, alive, also_dead = got[4:]
        assert dead == also_dead
        assert dead[:5] == "451 4"
        assert alive == "250 2.0.0"
        assert took(guard.hop) == [[b"b@r.example"]]
        assert not other.messages
        [transaction] = await guard.events("transaction")
        assert transaction["event.outcome"] == ("unknown" if verb == "DOT" else "failure")  # RFC 1047


async def test_lmtp_a_slow_hop_does_not_hold_up_the_others_message() -> None:
    """The quick hop has its message while the slow one still keeps silent about MAIL."""
    silent = Script({"MAIL": Hang()})
    async with two_hops(BY_RECIPIENT, one=silent, next_hop=PATIENT) as (guard, other), Client(guard.lmtp) as client:
        await client.greet("LHLO client.example")
        await client.say(*commands("a@s.example", "b@r.example", "b@other.example"), "DATA")
        client.send(MESSAGE + b".\r\n")
        assert (await other.wait(1, timeout=8.0))[0].rcpts[0][0] == b"b@other.example"
        await guard.hop.stop()  # and now it is dead
        assert [code(reply)[:7] for reply in await client.replies(2)] == ["451 4.4", "250 2.0"]


# -- several hosts ---------------------------------------------------------------------------------------------------

NOBODY = "127.0.0.3"  # nothing listens there on a port of ours
TWO_HOSTS = 'host = ["127.0.0.2", "127.0.0.1"]\n'


@pytest.mark.parametrize("door", ["smtp", "lmtp"])
async def test_a_dead_host_is_passed_over(door: str) -> None:
    next_hop = f'host = ["{NOBODY}", "127.0.0.1"]\n{PATIENT}'
    async with relay(next_hop=next_hop) as guard, Client(port(guard, door)) as client:
        await client.greet(hello(door))
        assert (await deliver(client, "a@s.example", "b@r.example"))[-1] == "250 2.0.0"
        [line] = await guard.events("recipient-accepted")
        assert line["server.address"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("verb", "action", "wanted"),
    [
        ("CONNECT", Say("554 5.7.1 not you"), "250 2.0.0"),
        ("CONNECT", Say("421 4.3.2 busy"), "250 2.0.0"),
        ("CONNECT", Close(), "250 2.0.0"),
        ("EHLO", Say("550 5.7.1 no"), "250 2.0.0"),
        ("MAIL", Say("451 4.3.0 later"), "250 2.0.0"),
        ("MAIL", Close(), "250 2.0.0"),
        ("MAIL", Hang(), "250 2.0.0"),
        ("MAIL", Say("550 5.7.1 not you"), "550 5.7.1"),
        ("RCPT", Close(), "451 4.4.2"),
        ("RCPT", Say("450 4.2.1 later"), "450 4.2.1"),
        ("DOT", Close(), "451 4.4.2"),
        ("DOT", Say("451 4.3.0 later"), "451 4.3.0"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
async def test_when_the_next_host_is_tried(verb: str, action: Action, wanted: str) -> None:
    first = Sandbox(script=Script({verb: action}))
    timeouts = QUICK if isinstance(action, Hang) else PATIENT
    async with relay(next_hop=TWO_HOSTS + timeouts) as guard, Client(guard.lmtp) as client:
        await first.start("127.0.0.2", guard.hop.port)
        try:
            await client.greet("LHLO client.example")
            assert (await deliver(client, "a@s.example", "b@r.example"))[-1] == wanted
        finally:
            await first.stop()
        assert first.connections
        assert not first.messages
        assert len(guard.hop.messages) == (wanted == "250 2.0.0")
        assert wanted == "250 2.0.0" or not [line for line in guard.hop.commands if line.startswith(b"MAIL")]


# -- the breaker, saturation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", ["smtp", "lmtp"])
async def test_a_hop_that_fails_repeatedly_is_left_alone_and_taken_up_again(door: str) -> None:
    async with relay(script=Script({"CONNECT": Close()})) as guard, Client(port(guard, door)) as client:
        await client.greet(hello(door))
        failures = 0
        while not guard.sample("next_hop_breaker_open", next_hop="default"):
            assert (await deliver(client, "a@s.example", "b@r.example"))[-1].startswith("451 4.4")
            failures += 1
            assert failures < 10
        asked = guard.hop.connections
        refused = await deliver(client, "a@s.example", "b@r.example")
        assert "451 4.4.1" in refused
        assert guard.hop.connections == asked  # it was not even tried
        assert len(await guard.events("next-hop-failed")) == 1
        guard.hop.script = None
        back = time.monotonic()
        async with asyncio.timeout(RECOVERS_WITHIN_S):
            while (await deliver(client, "a@s.example", "b@r.example"))[-1] != "250 2.0.0":  # noqa: ASYNC110
                await asyncio.sleep(0.02)  # as a client that tries again, only sooner
        assert time.monotonic() - back < RECOVERS_WITHIN_S
        assert guard.sample("next_hop_breaker_open", next_hop="default") == 0
        await guard.events("next-hop-recovered")


@pytest.mark.parametrize("door", ["smtp", "lmtp"])
async def test_when_all_connections_are_busy_mail_waits_its_turn_or_is_deferred(door: str) -> None:
    limited = f'connections = 1\nqueue_wait = "100ms"\n{PATIENT}'
    async with relay(next_hop=limited) as guard, Client(guard.smtp) as busy, Client(port(guard, door)) as client:
        await busy.greet()
        await busy.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>")
        await client.greet(hello(door))
        assert "451 4.3.2" in await deliver(client, "a@s.example", "b@r.example")
        await busy.say("DATA")
        busy.send(MESSAGE + b".\r\n")
        assert code(await busy.reply()) == "250 2.0.0"
        assert (await deliver(client, "a@s.example", "b@r.example"))[-1] == "250 2.0.0"
        assert guard.hop.connections == 1
        assert guard.sample("next_hop_connections_in_use", next_hop="default") == 0
