"""Clients of every temper: abrupt, slow, eager, silent, hostile; and what a door leaves behind (reliability: laws).

Also our own faults: each answer due is given as 451, nothing of an exception is told, and the next session is well.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import socket
import struct
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smtpguard.sandbox import Delay, Script
from tests.certs import client_context, self_signed
from tests.edge.waiting import all_ended, until
from tests.harness import MESSAGE, PATIENCE_S, PATIENT, Client, Guard, code, relay, what_is_open

SESSION = (
    b"EHLO c.example\r\nMAIL FROM:<a@s.example>\r\nRCPT TO:<b@r.example>\r\nRCPT TO:<550-5.1.1@r.example>\r\n"
    b"DATA\r\n" + MESSAGE + b".\r\nMAIL FROM:<>\r\nRCPT TO:<c@r.example>\r\nDATA\r\n..\r\n.\r\nNOOP\r\nQUIT\r\n"
)
CODES = ["220", "250", "250", "250", "550", "354", "250", "250", "250", "354", "250", "250", "221"]
LOOPS = pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])


async def all_codes(client: Client) -> list[str]:
    """The codes of all replies to the end of the connection."""
    codes = []
    while reply := await client.reply():
        codes.append(reply[-1][:3])
    return codes


def reset(client: Client) -> None:
    """RST, where a mere close would be FIN."""
    stream = client.writer.get_extra_info("socket")
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort()


@pytest.fixture(autouse=True)
def _no_complaints(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What asyncio says of an exception that nobody took, or of a transport that broke, is a fault of ours."""
    yield
    complaints = [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.WARNING]
    assert not complaints


# -- ways to say the same -------------------------------------------------------------------------------------------


async def test_a_whole_session_in_one_packet() -> None:
    async with relay() as guard, Client(guard.smtp) as client:
        client.send(SESSION)
        assert await all_codes(client) == CODES
        assert [message.data.split(b"\r\n\t")[-1].split(b"\r\n", 1)[1] for message in guard.hop.messages] == [
            MESSAGE,
            b".\r\n",
        ]


async def test_octet_by_octet() -> None:
    async with relay() as guard, Client(guard.smtp) as client:
        stream = client.writer.get_extra_info("socket")
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in SESSION:
            client.send(bytes([octet]))
            await asyncio.sleep(0)
        assert await all_codes(client) == CODES
        assert len(guard.hop.messages) == 2


@pytest.mark.parametrize(
    "cut", [b"DATA\r", b"DATA\r\n.", b"body\r\n.", b"body\r\n.\r", b"RCPT TO:<b", b"RCPT TO:<550-5.1.1@r.example>\r"]
)
async def test_cut_where_it_hurts(cut: bytes) -> None:
    async with relay() as guard, Client(guard.smtp) as client:
        at = SESSION.index(cut) + len(cut)
        await client.reply()
        client.send(SESSION[:at])
        await until(lambda: client_heard(guard))
        client.send(SESSION[at:])
        assert await all_codes(client) == CODES[1:]
        assert len(guard.hop.messages) == 2


def client_heard(guard: Guard) -> bool:
    """The next hop heard the sender of the first packet."""
    return any(b"a@s.example" in line for line in guard.hop.commands)


async def test_fin_right_after_the_last_command() -> None:
    async with relay() as guard, Client(guard.smtp) as client:
        client.send(SESSION.removesuffix(b"QUIT\r\n"))
        client.writer.write_eof()
        assert await all_codes(client) == CODES[:-1]
        assert guard.sample("sessions_total", door="smtp", result="accepted") == 1


# -- clients that leave -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["fin", "reset"])
@pytest.mark.parametrize("door", ["smtp", "lmtp"])
async def test_gone_before_the_dot(how: str, door: str) -> None:
    async with relay() as guard, Client(guard.smtp if door == "smtp" else guard.lmtp) as client:
        await client.greet("EHLO c.example" if door == "smtp" else "LHLO c.example")
        assert code(await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>", "DATA")) == "354"
        client.send(MESSAGE + b".")
        await client.writer.drain()
        client.writer.write_eof() if how == "fin" else reset(client)
        [event] = await guard.events("transaction")
        assert "client gone" in event["message"]
        assert event["smtp.rcpt.accepted"] == 0
        await all_ended(guard)
        await until(lambda: guard.sample("next_hop_connections_in_use", next_hop="default") == 0)
        assert not guard.hop.messages


@pytest.mark.parametrize("door", ["smtp", "lmtp"])
async def test_gone_after_the_dot(door: str) -> None:
    """What it sent is delivered and recorded; what it had sent behind that is not, for it will come again."""
    async with relay(script=Script({"DOT": Delay(0.5)}), next_hop=PATIENT) as guard:
        async with Client(guard.smtp if door == "smtp" else guard.lmtp) as client:
            await client.greet("EHLO c.example" if door == "smtp" else "LHLO c.example")
            assert code(await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>", "DATA")) == "354"
            client.send(MESSAGE + b".\r\nMAIL FROM:<again@s.example>\r\nRCPT TO:<b@r.example>\r\nDATA\r\n.\r\n")
            await until(lambda: any(line.startswith((b"BDAT", b"DATA")) for line in guard.hop.commands))
            reset(client)
            [event] = await guard.events("transaction")
        assert "client gone" in event["message"]
        assert event["smtp.rcpt.accepted"] == 1
        await all_ended(guard)
        assert [message.mail_from for message in guard.hop.messages] == [b"a@s.example"]


async def test_gone_while_the_next_hop_thinks_about_mail() -> None:
    async with relay(script=Script({"MAIL": Delay(0.3)}), next_hop=PATIENT) as guard:
        async with Client(guard.smtp) as client:
            await client.greet()
            client.send(b"MAIL FROM:<a@s.example>\r\n")
            await until(lambda: client_heard(guard))
            reset(client)
            await all_ended(guard)
        await until(lambda: guard.sample("next_hop_connections_in_use", next_hop="default") == 0)
        assert not await guard.events("session-failed", 0)
        async with Client(guard.smtp) as client:
            client.send(SESSION)
            assert await all_codes(client) == CODES


async def test_a_client_that_does_not_read_its_answers() -> None:
    """It is not read from either: memory stays flat, others are served, and in the end each answer is there."""
    async with relay() as guard:
        loop = asyncio.get_running_loop()
        count = 50_000
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.setblocking(False)
            await loop.sock_connect(deaf, ("127.0.0.1", guard.smtp))
            assert guard.service._acceptor is not None
            await until(lambda: bool(guard.service._acceptor.sessions))  # type: ignore[union-attr]
            [door] = guard.service._acceptor.sessions
            sending = asyncio.create_task(loop.sock_sendall(deaf, b"EHLO c.example\r\n" * count + b"QUIT\r\n"))
            await until(lambda: door.transport is not None and door.transport.get_write_buffer_size() > 0)
            async with Client(guard.smtp) as client:
                client.send(SESSION)
                assert await all_codes(client) == CODES
            assert door.transport is not None
            assert door.transport.get_write_buffer_size() < 256 << 10
            got = b""
            answers = 0
            while octets := await asyncio.wait_for(loop.sock_recv(deaf, 1 << 20), PATIENCE_S):
                answers += (got[-5:] + octets).count(b"\r\n250 ") - got[-5:].count(b"\r\n250 ")
                got = octets[-5:]
            assert answers == count
            await sending


# -- what stays behind ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def with_tls(directory: Path) -> AsyncIterator[Guard]:
    """A relay that offers STARTTLS."""
    cert, key = self_signed(["localhost"], directory=directory)
    async with relay(listen=f'tls_cert = "{cert}"\ntls_key = "{key}"') as guard:
        yield guard


@pytest.mark.parametrize("how", ["quit", "reset", "message", "hung-up", "tls", "tls-reset", "tls-garbage", "half-line"])
async def test_nothing_holds_a_session_that_ended(how: str, tmp_path: Path) -> None:
    """No timer, task or cycle: its memory is free without the collector, its descriptors are closed."""
    async with with_tls(tmp_path) as guard:
        async with Client(guard.smtp) as client:  # so that the next hop's connection is there already
            client.send(SESSION)
            await all_codes(client)
        await all_ended(guard)
        before = what_is_open()
        gc.collect()
        gc.disable()
        try:
            async with Client(guard.smtp) as client:
                await client.greet()
                assert guard.service._acceptor is not None
                [door] = map(weakref.ref, guard.service._acceptor.sessions)
                if how.startswith("tls"):
                    if how == "tls-garbage":
                        await client.say("STARTTLS")
                    else:
                        await client.start_tls(client_context(tmp_path / "self-signed.cert.pem"))
                        await client.say("EHLO c.example")
                client.send(
                    {"message": SESSION, "hung-up": b"GET /\r\n", "tls-garbage": b"x" * 99, "half-line": b"NOO"}.get(
                        how, b"NOOP\r\nQUIT\r\n"
                    )
                )
                if how.endswith("reset") or how == "half-line":
                    await client.writer.drain()
                    reset(client)
                else:
                    await client.ended()
            await all_ended(guard)
            with suppress(TimeoutError):
                async with asyncio.timeout(2):  # less than LINGER_S
                    await until(lambda: door() is None)
            assert door() is None, gc.get_referrers(door())
        finally:
            gc.enable()
        with suppress(TimeoutError):
            await until(lambda: len(what_is_open()) <= len(before))
        now = what_is_open()
        assert len(now) <= len(before), {number: what for number, what in now.items() if before.get(number) != what}


async def test_stopping_before_and_after_the_dot() -> None:
    """421 to who has not said the dot, the next hop's answer to who has; and no waiting for either's QUIT."""
    async with relay(script=Script({"DOT": Delay(0.5)}), next_hop=PATIENT) as guard:
        async with Client(guard.smtp) as idle, Client(guard.smtp) as half, Client(guard.smtp) as whole:
            await idle.greet()
            for client in (half, whole):
                await client.greet()
                await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>", "DATA")
                client.send(MESSAGE)
            whole.send(b".\r\n")
            await until(lambda: any(line.startswith((b"BDAT", b"DATA")) for line in guard.hop.commands))
            async with asyncio.timeout(PATIENCE_S):
                await guard.service.stop()
            assert code(await idle.reply()) == "421 4.3.2"
            assert code(await half.reply()) == "421 4.3.2"
            assert code(await whole.reply()) == "250 2.0.0"
            for client in (idle, half, whole):
                assert await client.ended()
        assert len(guard.hop.messages) == 1


async def test_a_next_hop_that_left_between_two_commands_is_found_out_before_the_message() -> None:
    """451 to every further command (reliability), and not after the dot only: DATA was answered with 354."""
    async with relay() as guard, Client(guard.smtp) as client:
        await client.greet()
        assert code(await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>")) == "250 2.1.5"
        await guard.hop.stop()
        await until(lambda: not guard.sample("next_hop_connections_in_use", next_hop="default"))
        for command in ("DATA", "MAIL FROM:<a@s.example>", "RCPT TO:<c@r.example>"):
            assert code(await client.say(command)) == "451 4.4.2"
        assert code(await client.say("RSET")) == "250 2.0.0"
        told = await guard.events("recipient-refused", 3)
        assert [event["smtp.verb"] for event in told] == ["DATA", "MAIL", "RCPT"]


# -- faults of ours ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("door", "answers"), [("smtp", 1), ("lmtp", 3)])
async def test_a_fault_of_ours_after_the_dot(door: str, answers: int) -> None:
    async with relay() as guard:

        def fault() -> str:
            raise RuntimeError("secret detail")

        keeper = guard.service._keeper
        assert keeper is not None
        keeper.date, date = fault, keeper.date
        async with Client(guard.smtp if door == "smtp" else guard.lmtp) as client:
            await client.greet("EHLO c.example" if door == "smtp" else "LHLO c.example")
            rcpts = [f"RCPT TO:<r{n}@r.example>" for n in range(3)]
            assert code(await client.say("MAIL FROM:<a@s.example>", *rcpts, "DATA")) == "354"
            client.send(MESSAGE + b".\r\nNOOP\r\n")
            replies = await client.replies(answers)
            assert {reply[-1] for reply in replies} == {"451 4.3.0 internal fault of the relay"}
            assert await client.reply() == []
        [event] = await guard.events("session-failed")
        assert event["log.level"] == "error"
        [transaction] = await guard.events("transaction")
        assert transaction["smtp.rcpt.accepted"] == 0
        assert not guard.hop.messages
        assert keeper.memory.used == 0
        keeper.date = date
        async with Client(guard.smtp) as client:
            client.send(SESSION)
            assert await all_codes(client) == CODES


# -- any octets -------------------------------------------------------------------------------------------------------

LINE = re.compile(rb"[2-5][0-9][0-9](?:[ -][\x20-\x7e]*)?\r\n")
WORDS = [
    *SESSION.splitlines(keepends=True),
    b"LHLO c.example\r\n",
    b"HELO x\r\n",
    b"STARTTLS\r\n",
    b"AUTH PLAIN AGEAYg==\r\n",
    b"XFORWARD NAME=x\r\n",
    b"RSET\r\n",
    b"MAIL FROM:<a@s.example> SIZE=",
    b"MAIL FROM:<\xc3\xa4@s.example> SMTPUTF8 BODY=8BITMIME RET=FULL\r\n",
    b'RCPT TO:<"a\\"b"@r.example> NOTIFY=NEVER ORCPT=',
    b"\r\n.\r\n",
    b"Message-ID: ",
    b"Received: x\r\n",
    b"\r",
    b"\n",
    b"\0",
    b"x" * 4100,
]
OCTETS = st.lists(st.one_of(st.sampled_from(WORDS), st.binary(max_size=40)), max_size=30).map(b"".join)


@LOOPS
@pytest.mark.parametrize("door", ["smtp", "lmtp"])
def test_any_octets_get_well_formed_answers(door: str, make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Law W, and no fault of ours: whatever comes, in whatever pieces."""
    with asyncio.Runner(loop_factory=make_loop) as runner:
        place = relay()
        guard = runner.run(place.__aenter__())
        port = guard.smtp if door == "smtp" else guard.lmtp

        async def answers_to(octets: bytes, pieces: int) -> bytes:
            loop = asyncio.get_running_loop()
            got = b""
            with socket.socket() as client:
                client.setblocking(False)
                await loop.sock_connect(client, ("127.0.0.1", port))
                size = len(octets) // pieces + 1
                with suppress(OSError):  # it closed, and then reset what came in late
                    for start in range(0, len(octets), size):
                        await loop.sock_sendall(client, octets[start : start + size])
                    client.shutdown(socket.SHUT_WR)
                with suppress(ConnectionError):
                    while piece := await asyncio.wait_for(loop.sock_recv(client, 1 << 16), PATIENCE_S):
                        got += piece
            return got

        @settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
        @given(OCTETS, st.integers(1, 9), st.booleans())
        def well_formed(octets: bytes, pieces: int, is_greeted: bool) -> None:
            hello = {"smtp": b"EHLO c.example\r\n", "lmtp": b"LHLO c.example\r\n"}[door] if is_greeted else b""
            got = runner.run(answers_to(hello + octets, pieces))
            lines = got.splitlines(keepends=True)
            assert b"".join(lines) == got
            before = b""
            for line in lines:
                assert LINE.fullmatch(line), line
                assert len(line) <= 512
                assert not re.search(rb"Error|Exception|Traceback|0x[0-9a-f]{6}|internal fault", line), line
                if before[3:4] == b"-":
                    assert line[:3] == before[:3]
                before = line
            assert before[3:4] != b"-"

        try:
            well_formed()
            assert not runner.run(guard.events("session-failed", 0))
        finally:
            runner.run(place.__aexit__(None, None, None))


async def test_a_stop_in_the_middle_of_a_message_is_told_and_not_a_reset() -> None:
    """What the client still sends must not turn our 421 into a lost connection: it would not know what became of it."""
    async with relay() as guard, Client(guard.smtp) as client:
        await client.greet()
        await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>", "DATA")
        client.send(MESSAGE + b"more\r\n" * 2_000_000 + b".\r\n")  # more than is read before the stop
        stopping = asyncio.create_task(guard.service.stop())
        assert code(await client.reply()) == "421 4.3.2"
        assert await client.reader.read() == b""  # an end, no ConnectionResetError
        client.writer.close()
        await stopping
        assert not guard.hop.messages
