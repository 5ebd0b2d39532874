"""Every limit of contract 1.3, met from both sides: the last that passes, the first that does not, and the way on."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_network
from pathlib import Path

import pytest

from smtpguard.edge.doorkeeper import _within
from smtpguard.sandbox import Delay, Say, Script
from tests.edge.waiting import until
from tests.harness import MESSAGE, PATIENCE_S, PATIENT, Client, Guard, code, relay

DOORS = pytest.mark.parametrize("door", ["smtp", "lmtp"])


def resident_octets() -> int:
    """What this process holds in memory (proc_pid_statm(5))."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def memory(guard: Guard) -> int:
    """Octets of `relay.memory` in use."""
    assert guard.service._keeper is not None
    return guard.service._keeper.memory.used


async def opened(client: Client, door: str, rcpts: int = 1) -> None:
    """Up to 354."""
    await client.greet("EHLO c.example" if door == "smtp" else "LHLO c.example")
    lines = [f"RCPT TO:<r{n}@r.example>" for n in range(rcpts)]
    assert code(await client.say("MAIL FROM:<a@s.example>", *lines, "DATA")) == "354"


async def sent(client: Client, message: bytes = MESSAGE) -> str:
    """A whole transaction after the greeting; the code."""
    assert code(await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>", "DATA")) == "354"
    client.send(message + b".\r\n")
    return code(await client.reply())


# -- sessions -------------------------------------------------------------------------------------------------------


async def test_beyond_max_sessions_clients_wait_for_their_greeting() -> None:
    """On both doors together; nobody is refused, and who waits is served as soon as one leaves."""
    async with relay(listen="max_sessions = 2") as guard:
        async with Client(guard.smtp) as first, Client(guard.lmtp) as second:
            await first.greet()
            await second.greet("LHLO c.example")
            async with Client(guard.smtp) as third, Client(guard.lmtp) as fourth:
                # Sessions are counted before they are greeted: once these answer, a third would have been.
                assert code(await first.say("NOOP")) == "250 2.0.0"
                assert code(await second.say("NOOP")) == "250 2.0.0"
                in_progress = [guard.sample("sessions_in_progress", door=door) for door in ("smtp", "lmtp")]
                assert in_progress == [1, 1]
                assert not third.reader._buffer  # type: ignore[attr-defined]
                assert code(await first.say("QUIT")) == "221 2.0.0"
                greetings = [asyncio.create_task(client.reply()) for client in (third, fourth)]
                await asyncio.wait(greetings, return_when=asyncio.FIRST_COMPLETED)
                for _ in range(3):
                    assert code(await second.say("NOOP")) == "250 2.0.0"
                assert sum(greeting.done() for greeting in greetings) == 1, "one place was free, not two"
                assert code(await second.say("QUIT")) == "221 2.0.0"
                assert [code(await greeting) for greeting in greetings] == ["220", "220"]
        assert guard.sample("sessions_total", door="smtp", result="limited") == 0


async def test_too_many_sessions_of_one_client() -> None:
    async with relay(listen="max_sessions_per_client = 1") as guard:
        async with Client(guard.smtp) as first:
            await first.greet()
            async with Client(guard.lmtp) as second:
                assert code(await second.reply()) == "421 4.7.0"
                assert await second.ended()
            assert code(await first.say("QUIT")) == "221 2.0.0"
            assert await first.ended()
        async with Client(guard.smtp) as third:
            await third.greet()
        assert guard.service._keeper is not None
        await until(lambda: not guard.service._keeper.per_client)  # type: ignore[union-attr]


# -- commands -------------------------------------------------------------------------------------------------------


@DOORS
async def test_a_thousand_recipients(door: str) -> None:
    async with relay() as guard, Client(guard.smtp if door == "smtp" else guard.lmtp) as client:
        await client.greet("EHLO c.example" if door == "smtp" else "LHLO c.example")
        client.send(b"MAIL FROM:<a@s.example>\r\n" + b"".join(b"RCPT TO:<r%d@r.example>\r\n" % n for n in range(1001)))
        replies = [code(reply) for reply in await client.replies(1002)]
        assert replies == ["250 2.1.0"] + ["250 2.1.5"] * 1000 + ["452 4.5.3"]
        assert code(await client.say("RCPT TO:<one.more@r.example>")) == "452 4.5.3"
        assert code(await client.say("DATA")) == "354"
        client.send(MESSAGE + b".\r\n")
        answers = await client.replies(1000 if door == "lmtp" else 1)
        assert {code(answer) for answer in answers} == {"250 2.0.0"}
        assert code(await client.say("NOOP")) == "250 2.0.0"
        [message] = guard.hop.messages
        assert len(message.rcpts) == 1000


@DOORS
async def test_refused_recipients_count_too(door: str) -> None:
    """What is remembered of a transaction has an end: whoever asks for more is answered, and leaves no trace."""
    refused = "550 5.1.1" if door == "smtp" else "501 5.1.3"
    rcpt = b"RCPT TO:<r@r.example>\r\n" if door == "smtp" else b"RCPT TO:<>\r\n"
    async with relay(script=Script({"RCPT": Say("550 5.1.1 no")})) as guard:
        async with Client(guard.smtp if door == "smtp" else guard.lmtp) as client:
            await client.greet("EHLO c.example" if door == "smtp" else "LHLO c.example")
            assert code(await client.say("MAIL FROM:<a@s.example>")) == "250 2.1.0"
            answers = []
            for _ in range(6):
                client.send(rcpt * 250)
                answers += [code(reply) for reply in await client.replies(250)]
            assert answers == [refused] * 1000 + ["452 4.5.3" if door == "smtp" else refused] + ["452 4.5.3"] * 499
            assert code(await client.say("RSET", "MAIL FROM:<a@s.example>")) == "250 2.1.0"
            client.send(rcpt)
            assert code(await client.reply()) == refused
        events = await guard.events("recipient-refused", 1002)
        assert len(events) == 1002


@pytest.mark.parametrize(("length", "wanted"), [(4096, "250 2.0.0"), (4097, "500 5.5.2"), (9000, "500 5.5.2")])
async def test_a_command_line_of(length: int, wanted: str) -> None:
    async with relay() as guard, Client(guard.smtp) as client:
        await client.greet()
        client.send(b"NOOP " + b"x" * (length - 7) + b"\r\nVRFY x\r\n")
        assert [code(reply) for reply in await client.replies(2)] == [wanted, "252 2.5.0"]


async def test_a_line_without_an_end_costs_no_memory() -> None:
    async with relay() as guard, Client(guard.smtp) as client:
        await client.greet()
        before = resident_octets()
        piece = b"x" * (1 << 20)
        for _ in range(128):
            client.send(piece)
            await client.writer.drain()
        assert resident_octets() - before < 16 << 20
        assert code(await client.say("")) == "500 5.5.2"
        assert code(await client.say("NOOP")) == "250 2.0.0"


async def test_twenty_bad_commands() -> None:
    async with relay() as guard, Client(guard.smtp) as client:
        await client.greet()
        client.send(b"WHAT\r\nNOOP\r\n" * 10 + b"DATA now\r\nWH\nT\r\nMAIL FROM:<a@s.example>\r\n" + b"WHAT\r\n" * 6)
        replies = [code(reply)[:3] for reply in await client.replies(30)]
        assert replies == ["500", "250"] * 10 + ["501", "500", "500", "250"] + ["500"] * 6
        assert code(await client.say("WHAT")) == "421 4.7.0"
        assert await client.ended()
        assert guard.sample("sessions_total", door="smtp", result="limited") == 1


async def test_a_delivered_message_makes_up_for_bad_commands() -> None:
    async with relay() as guard, Client(guard.smtp) as client:
        await client.greet()
        for _ in range(3):
            for _ in range(19):
                assert code(await client.say("WHAT")) == "500 5.5.1"
            assert await sent(client) == "250 2.0.0"


# -- time -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["", "EHLO c.example", "NOO"])
async def test_idle(before: str) -> None:
    async with relay(listen='idle_timeout = "1s"') as guard, Client(guard.smtp) as client:
        assert code(await client.reply()) == "220"
        if before.startswith("EHLO"):
            await client.say(before)
        else:
            client.send(before.encode())
        assert code(await client.reply()) == "421 4.4.2"
        assert await client.ended()
        assert guard.sample("sessions_total", door="smtp", result="timeout") == 1


async def test_idle_within_a_body_gives_its_memory_back() -> None:
    async with relay(listen='idle_timeout = "1s"') as guard, Client(guard.smtp) as client:
        await opened(client, "smtp")
        client.send(b"Subject: x\r\n\r\n" + b"x" * 1000)
        await until(lambda: memory(guard) >= 1000)
        assert code(await client.reply()) == "421 4.4.2"
        assert await client.ended()
        assert memory(guard) == 0
        assert not guard.hop.messages


async def test_who_makes_progress_is_not_idle() -> None:
    async with relay(listen='idle_timeout = "1s"') as guard, Client(guard.smtp) as client:
        await opened(client, "smtp")
        for octet in b"Subject":
            client.send(bytes([octet]))
            await asyncio.sleep(0.2)  # the subject of this test
        client.send(b": x\r\n\r\n.\r\n")
        assert code(await client.reply()) == "250 2.0.0"


@pytest.mark.parametrize("already", [b"N", b"N" * 9000], ids=["short", "too long"])
async def test_a_command_that_never_ends_is_idle(already: bytes) -> None:
    async with relay(listen='idle_timeout = "1s"') as guard, Client(guard.smtp) as client:
        assert code(await client.reply()) == "220"
        client.send(already)

        async def drip() -> None:
            while True:
                client.send(b"O")
                await asyncio.sleep(0.1)  # the subject of this test

        dripping = asyncio.create_task(drip())
        assert code(await client.reply()) == "421 4.4.2"
        dripping.cancel()
        assert await client.ended()


async def test_who_waits_for_the_next_hop_is_not_idle() -> None:
    slow = Script({"MAIL": Delay(1.3), "DOT": Delay(1.3)})
    async with (
        relay(script=slow, listen='idle_timeout = "1s"', next_hop=PATIENT) as guard,
        Client(guard.smtp) as client,
    ):
        await client.greet()
        assert await sent(client) == "250 2.0.0"


async def test_who_does_not_read_its_answers_is_not_read_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands wait in the kernel, not with us, and the idle timer ends it."""
    monkeypatch.setattr("smtpguard.edge.lines.LINGER_S", 0.1)
    async with relay(listen='idle_timeout = "1s"') as guard:
        before = resident_octets()
        wire = socket.create_connection(("127.0.0.1", guard.smtp))
        with wire:
            wire.setblocking(False)
            sent = 0

            async def talk_on() -> None:
                nonlocal sent
                while True:
                    await asyncio.get_running_loop().sock_sendall(wire, b"NOOP\r\n" * 10_000)
                    sent += 60_000

            with pytest.raises(ConnectionError):
                await asyncio.wait_for(talk_on(), PATIENCE_S)
            assert sent < 64 << 20
            assert resident_octets() - before < 16 << 20
        assert guard.sample("sessions_total", door="smtp", result="timeout") == 1


# -- room -----------------------------------------------------------------------------------------------------------


@DOORS
async def test_all_bodies_together(door: str) -> None:
    """40 small bodies held at once in room for ten: the rest is deferred, and afterwards there is room again."""
    async with relay(more='[relay]\nhostname = "guard.test"\nmemory = "1MiB"\n') as guard:
        port = guard.smtp if door == "smtp" else guard.lmtp
        clients = [Client(port) for _ in range(40)]
        body = b"x" * 998 + b"\r\n"
        try:
            for client in clients:
                await client.__aenter__()
                await opened(client, door, rcpts=2)
                client.send(body * 100)
            await until(lambda: memory(guard) > (1 << 20) - 100_000)
            for client in clients:
                client.send(b".\r\n")
            answers = [
                [code(reply) for reply in await client.replies(2 if door == "lmtp" else 1)] for client in clients
            ]
            taken = sum(set(answer) == {"250 2.0.0"} for answer in answers)
            assert 1 <= taken <= 39
            assert sum(set(answer) == {"452 4.3.1"} for answer in answers) == 40 - taken
            assert memory(guard) == 0
            assert len(guard.hop.messages) == taken
            assert await sent(clients[-1]) == "250 2.0.0"
        finally:
            for client in clients:
                await client.__aexit__(None, None, None)


async def test_a_client_that_vanishes_gives_its_room_back() -> None:
    async with relay() as guard:
        for size in (1000, 1_000_000):  # in memory, and in a file
            async with Client(guard.smtp) as client:
                await opened(client, "smtp")
                client.send(b"x" * size)
                await client.writer.drain()
                if size == 1000:
                    await until(lambda: memory(guard) == 1000)
                client.writer.transport.abort()
            await until(lambda: guard.sample("sessions_in_progress", door="smtp") == 0)
            assert memory(guard) == 0
        assert not guard.hop.messages


@DOORS
async def test_too_large(door: str) -> None:
    async with relay(listen='max_message_size = "2KiB"') as guard:
        async with Client(guard.smtp if door == "smtp" else guard.lmtp) as client:
            await client.greet("EHLO c.example" if door == "smtp" else "LHLO c.example")
            assert code(await client.say("MAIL FROM:<a@s.example> SIZE=2049")) == "552 5.3.4"
            assert code(await client.say("MAIL FROM:<a@s.example> SIZE=2048", "RSET")) == "250 2.0.0"
            assert await sent(client, b"x" * 2046 + b"\r\n") == "250 2.0.0"
            assert await sent(client, b"x" * 2047 + b"\r\n") == "552 5.3.4"
            assert await sent(client, b".." + b"x" * 2045 + b"\r\n") == "250 2.0.0"  # a stuffed dot does not count
            assert await sent(client, b"x" * 5_000_000 + b"\r\n") == "552 5.3.4"
            assert await sent(client) == "250 2.0.0"
        assert memory(guard) == 0
        assert [message.size for message in guard.hop.messages if message.size > 2500] == []


# -- octets ---------------------------------------------------------------------------------------------------------


@DOORS
@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        (b"Received: x\r\n" * 50 + b"\r\n", "250 2.0.0"),
        (b"Received: x\r\n" * 51 + b"\r\n", "554 5.4.6"),
        (b"Subject: x\r\n\r\n" + b"Received: x\r\n" * 51, "250 2.0.0"),
        (b"Subject: x\r\n\r\na\0b\r\n", "550 5.6.0"),
        (b"Subject: x\r\n\r\na\nb\r\n", "550 5.5.2"),
        (b"Subject: x\r\n\r\na\rb\r\n", "550 5.5.2"),
        (b"Subject: x\r\n\r\na\n.\r\nMAIL FROM:<evil@s.example>\r\n", "550 5.5.2"),
        (b"Subject: x\r\n\r\na\r.\r\nMAIL FROM:<evil@s.example>\r\n", "550 5.5.2"),
        (b"Subject: x\r\n\r\na\r\n.\nMAIL FROM:<evil@s.example>\r\n", "550 5.5.2"),
        (b"Subject: x\r\n\r\n" + b"x" * 70_000 + b"\r\n", "250 2.0.0"),
        (b"\xff\xfe\x1b\x80\r\n", "250 2.0.0"),
        (b"", "250 2.0.0"),
    ],
    ids=["50", "51", "body", "nul", "lf", "cr", "lf-dot", "cr-dot", "dot-lf", "long", "odd", "empty"],
)
async def test_framing(message: bytes, wanted: str, door: str) -> None:
    async with relay() as guard, Client(guard.smtp if door == "smtp" else guard.lmtp) as client:
        await client.greet("EHLO c.example" if door == "smtp" else "LHLO c.example")
        assert await sent(client, message) == wanted
        assert await sent(client) == "250 2.0.0"
        assert len(guard.hop.messages) == 1 + wanted.startswith("250")
        assert all(message.mail_from == b"a@s.example" for message in guard.hop.messages)
        assert memory(guard) == 0


async def test_bare_newlines_can_be_mended() -> None:
    mend = '[relay]\nhostname = "guard.test"\nbare_newline = "normalize"\nreceived_header = false\n'
    async with relay(more=mend) as guard, Client(guard.smtp) as client:
        await client.greet()
        assert await sent(client, b"Subject: x\n\na\rb\n.\nc\r.\r\n..d\r\n") == "250 2.0.0"
        assert await sent(client, b"Subject: x\n\na\0b\n\r\n") == "550 5.6.0"
        assert [message.data for message in guard.hop.messages] == [
            b"Subject: x\r\n\r\na\r\nb\r\n.\r\nc\r\n.\r\n.d\r\n"
        ]


def test_addresses_of_any_form_are_judged() -> None:
    allowed = (ip_network("192.0.2.0/24"), ip_network("fe80::/10"))
    wanted = {"192.0.2.7": True, "::ffff:192.0.2.7": True, "fe80::1%eth0": True, "192.0.3.1": False, "?": False}
    assert {address: _within(address, allowed) for address in wanted} == wanted
