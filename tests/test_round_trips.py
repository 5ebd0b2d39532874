"""What a transaction costs at the next hop, counted in round trips, and what an answer may take in time (contract 1.4).

The sandbox counts each time that we spoke to it after it had answered, so that a slow machine changes nothing. Its
replies are 50 ms under way: whoever waits where it need not shows in the count. The second half is about
`relay.answer_within`: counted from the client's dot, there is an answer by then, and never mail that was too late.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from smtpguard.sandbox import DEFAULT_KEYWORDS, Action, After, Delay, Hang, Ok, Sandbox, Say, Script, StopReading
from tests.harness import MESSAGE, PATIENT, Client, Guard, code, relay
from tests.test_octets import KEYWORDS, WAYS, hello, port, stuffed

LATENCY_S = 0.05
AT_MOST = {"BDAT": 2, "DATA": 3}
LARGE = MESSAGE + b"x" * 70 * 20_000 + b"\r\n"  # more than is sent in one write


async def transact(client: Client, door: str, rcpts: int, message: bytes = MESSAGE) -> list[str]:
    """As a client that pipelines: all commands in one packet, then the message; the codes of the answers to it."""
    commands = [b"MAIL FROM:<a@s.example>", *(b"RCPT TO:<b%d@r.example>" % n for n in range(rcpts)), b"DATA"]
    client.send(b"".join(command + b"\r\n" for command in commands))
    replies = await client.replies(len(commands))
    assert [code(reply)[:3] for reply in replies] == ["250"] * (1 + rcpts) + ["354"]
    client.send(stuffed(message))
    return [code(reply) for reply in await client.replies(rcpts if door == "lmtp" else 1)]


@pytest.mark.parametrize(("door", "via"), WAYS)
async def test_a_transaction_on_an_open_connection(door: str, via: str) -> None:
    hop = Sandbox(latency_s=LATENCY_S, keywords=KEYWORDS[via])
    async with relay(hop=hop, next_hop="") as guard, Client(port(guard, door)) as client:
        await client.greet(hello(door))
        await transact(client, door, 1)
        connections = hop.connections  # one, or two where the question what it offers was still under way
        for rcpts, message in ((1, MESSAGE), (10, MESSAGE), (100, MESSAGE), (10, LARGE)):
            trips = hop.round_trips
            assert set(await transact(client, door, rcpts, message)) == {"250 2.0.0"}
            assert hop.round_trips - trips <= AT_MOST[via], rcpts
            assert [path for path, _ in hop.messages[-1].rcpts] == [b"b%d@r.example" % n for n in range(rcpts)]
        assert hop.messages[-1].via == via
        assert hop.connections == connections


@pytest.mark.parametrize("door", ["smtp", "lmtp"])
async def test_without_pipelining_each_command_costs_one(door: str) -> None:
    """The count is a count: what it is where nothing can be saved."""
    keywords = [keyword for keyword in DEFAULT_KEYWORDS if keyword not in ("PIPELINING", "CHUNKING")]
    hop = Sandbox(keywords=keywords)
    async with relay(hop=hop) as guard, Client(port(guard, door)) as client:
        await client.greet(hello(door))
        await transact(client, door, 1)
        trips = hop.round_trips
        assert set(await transact(client, door, 10)) == {"250 2.0.0"}
        assert hop.round_trips - trips == 1 + 10 + 2


async def test_recipients_refused_on_the_way_cost_nothing_more() -> None:
    alternately: list[Action] = [Say("550 5.1.1 no"), Ok()] * 5
    hop = Sandbox(latency_s=LATENCY_S, script=Script({"RCPT": [Ok(), Ok(), *alternately]}))
    async with relay(hop=hop, next_hop="") as guard, Client(guard.lmtp) as client:
        await client.greet("LHLO client.example")
        await transact(client, "lmtp", 1)
        trips = hop.round_trips
        codes = await transact(client, "lmtp", 10)
        assert sorted(codes) == ["250 2.0.0"] * 5 + ["550 5.1.1"] * 5
        assert hop.round_trips - trips <= 2


async def test_the_next_sessions_use_the_same_connection() -> None:
    async with relay() as guard:
        for door in ("smtp", "lmtp", "smtp"):
            async with Client(port(guard, door)) as client:
                await client.greet(hello(door))
                await transact(client, door, 2)
        assert guard.hop.connections <= 2  # the second was opened at start, to ask what is offered
        assert [line for line in guard.hop.commands if line.startswith(b"RSET")] == []


# -- time -------------------------------------------------------------------------------------------------------

HUGE = MESSAGE + (b"y" * 1_000 + b"\r\n") * 20_000 + b".\r\n"
SLACK_S = 2.0  # reliability: 4xx, 421 or close within the time-out + 2 s
RECEIVING_S = 2.0  # the dot is behind 20 MB
SHORT = '[relay]\nhostname = "guard.test"\nanswer_within = "{}"'


async def timed(guard: Guard, door: str, rcpts: int = 2) -> tuple[list[str], float]:
    """The answers to a message, and the seconds from the dot to the last of them."""
    async with Client(port(guard, door)) as client:
        await client.greet(hello(door))
        commands = ["MAIL FROM:<a@s.example>", *(f"RCPT TO:<b{n}@r.example>" for n in range(rcpts)), "DATA"]
        assert (await client.say(*commands))[0].startswith("354")
        dot = time.monotonic()
        client.send(stuffed(MESSAGE))
        replies = await client.replies(rcpts if door == "lmtp" else 1)
        return [code(reply) for reply in replies], time.monotonic() - dot


@pytest.mark.parametrize(("door", "via"), WAYS)
async def test_a_hop_that_never_answers_the_dot(door: str, via: str) -> None:
    more = SHORT.format("1s")
    script = Script({"DOT": [Hang(), Ok()]})
    async with relay(script=script, next_hop=PATIENT, more=more, keywords=KEYWORDS[via]) as guard:
        codes, took_s = await timed(guard, door)
        assert set(codes) == {"451 4.4.2"}
        assert 0.9 < took_s < 1.0 + SLACK_S
        [transaction] = await guard.events("transaction")
        assert transaction["event.outcome"] == "unknown"  # RFC 1047: it may have it
        assert guard.sample("transactions_total", door=door, outcome="unknown") == 1
        assert set((await timed(guard, door))[0]) == {"250 2.0.0"}


@pytest.mark.parametrize(
    "slow",
    [
        {"MAIL": [Delay(0.7), Ok()]},
        {"RCPT": [Delay(0.7), Ok()]},
        {"CONNECT": Hang()},
        {"EHLO": Hang()},
        {"RCPT": Hang()},
    ],
    ids=["slow MAIL", "slow RCPT", "no greeting", "no EHLO", "no RCPT"],
)
async def test_what_is_too_late_to_send_is_not_sent(slow: dict[str, Action | list[Action]]) -> None:
    """LMTP: less than the reserve, here half of `answer_within`, is left when the hop has answered the envelope."""
    async with relay(script=Script(slow), next_hop=PATIENT, more=SHORT.format("1s")) as guard:
        codes, took_s = await timed(guard, "lmtp")
        assert set(codes) <= {"451 4.4.2", "451 4.4.1"}
        assert "CONNECT" in slow or set(codes) == {"451 4.4.2"}
        assert took_s < 1.0 + SLACK_S
        assert not guard.hop.messages
        assert not [line for line in guard.hop.commands if line.startswith((b"BDAT", b"DATA"))]
        [transaction] = await guard.events("transaction")
        assert transaction["event.outcome"] == "failure"  # nothing was sent: there is no doubt about it


async def test_a_hop_that_is_slow_in_time_is_waited_for() -> None:
    script = Script({"RCPT": [Delay(0.2), Ok()], "DOT": Delay(0.3)})
    async with relay(script=script, next_hop=PATIENT, more=SHORT.format("9s")) as guard:
        codes, _ = await timed(guard, "lmtp")
        assert set(codes) == {"250 2.0.0"}


async def test_a_hop_that_does_not_read_is_given_up_in_time() -> None:
    """No progress in the message itself: the same clock."""
    script = Script({"BODY": After(1, StopReading())})
    async with relay(script=script, next_hop=PATIENT, more=SHORT.format("1s")) as guard, Client(guard.smtp) as client:
        await client.greet()
        await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>", "DATA")
        client.send(HUGE)
        dot = time.monotonic()
        async with asyncio.timeout(20):
            await client.writer.drain()
        assert code(await client.reply()) == "451 4.4.2"
        assert time.monotonic() - dot < 1.0 + SLACK_S + RECEIVING_S
        assert not guard.hop.messages
