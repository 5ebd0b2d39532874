"""What chaos, fuzz and reading found, each as a case of its own: it failed before its fix."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

import pytest
import uvloop

from smtpguard.edge.smtpd import Door
from smtpguard.sandbox import Drip, Ok, Script, Turn
from tests.harness import MESSAGE, Client, code, relay


@dataclass(frozen=True, slots=True)
class HalfAWordMore:
    """Answer as usual, and begin another reply: with it, or `later_s` afterwards, when the connection is idle."""

    later_s: float = 0.0

    def play(self, turn: Turn) -> None:
        turn.normal()
        if self.later_s:
            turn.later(self.later_s, lambda: turn.send(b"42"))
        else:
            turn.send(b"42")


@dataclass(frozen=True, slots=True)
class InTwoHalves:
    """The usual answer, with a pause in the middle."""

    pause_s: float

    def play(self, turn: Turn) -> None:
        turn.take()
        turn.send(turn.reply[:6])
        turn.later(self.pause_s, lambda: turn.send(turn.reply[6:]))


async def sent(client: Client) -> str:
    """A whole transaction; the code of its last answer."""
    for line in ("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>", "DATA"):
        reply = await client.say(line)
        if reply[-1][0] in "45":
            return code(reply)
    client.send(MESSAGE + b".\r\n")
    return code(await client.reply())


@pytest.mark.parametrize("later_s", [0.0, 0.05], ids=["in the same packet", "while idle"])
async def test_half_a_reply_on_a_kept_connection_harms_nobody(later_s: float) -> None:
    """Octets that end no reply made the connection free twice over: two transactions shared it, one went unanswered."""
    async with relay(script=Script({"DOT": [HalfAWordMore(later_s), Ok()]})) as guard:
        async with Client(guard.smtp) as first, Client(guard.smtp) as second:
            for client in (first, second):
                await client.greet()
            assert await sent(first) == "250 2.0.0"
            await asyncio.sleep(2 * later_s)  # the half word comes while nothing is asked
            assert set(await asyncio.gather(sent(first), sent(second))) == {"250 2.0.0"}
        assert len(guard.hop.messages) == 3


@pytest.mark.parametrize("verb", ["RCPT", "DOT"])
async def test_a_reply_that_drips_has_the_time_of_one_reply(verb: str) -> None:
    """Each octet began the time-out anew: 8,192 of them might have taken days."""
    limits = 'timeout = { connect = "1s", command = "1s", data = "1s", final = "1s" }'
    script = Script({verb: [Drip(interval_s=0.3), Ok()]})
    async with relay(script=script, next_hop=limits) as guard, Client(guard.smtp) as client:
        await client.greet()
        async with asyncio.timeout(3.0):
            assert await sent(client) == "451 4.4.2"
        await client.say("RSET")
        assert await sent(client) == "250 2.0.0"


async def test_a_half_answer_to_the_dot_does_not_shorten_its_time() -> None:
    """The first octet of an answer to the message put the limit of a command in the place of the final one."""
    limits = 'timeout = { connect = "1s", command = "500ms", data = "1s", final = "10s" }'
    async with relay(script=Script({"DOT": InTwoHalves(1.5)}), next_hop=limits) as guard, Client(guard.smtp) as client:
        await client.greet()
        assert await sent(client) == "250 2.0.0"


def test_a_client_that_connects_at_the_moment_of_a_stop_does_not_break_it() -> None:
    """uvloop closes what is being accepted, and tells nobody: the goodbye to it raised, and cut all others off."""

    async def play() -> None:
        async with relay() as guard:
            acceptor, keeper = guard.service._acceptor, guard.service._keeper
            assert acceptor is not None
            assert keeper is not None
            ours, theirs = socket.socketpair()
            ours.setblocking(False)

            class Stopped(Door):
                def begin(self) -> None:
                    super().begin()
                    accepting.cancel()

            door = Stopped("smtp", keeper, guard.service._new_id, acceptor._left)
            accepting = acceptor._begin(door, ours, is_tcp=False)
            with theirs:
                await asyncio.gather(accepting, return_exceptions=True)
                assert accepting.cancelled()
                assert not acceptor.sessions
                assert await acceptor.drain(1.0) == 0
                assert guard.sample("sessions_in_progress", door="smtp") == 0

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(play())
