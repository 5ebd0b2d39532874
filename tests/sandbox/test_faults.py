"""The sandbox as a bad next hop: each action of a script, at each verb, and what it leaves behind."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from smtpguard.sandbox import (
    Action,
    After,
    Close,
    CloseAfter,
    CommitThenClose,
    Delay,
    Drip,
    EarlySay,
    FalseTls,
    Flood,
    Garbage,
    Half,
    Hang,
    Mixed,
    Ok,
    Reset,
    Sandbox,
    Say,
    Script,
    StopReading,
    Surplus,
)
from smtpguard.sandbox.script import MAX_FLOOD_OCTETS, VERBS
from tests.certs import client_context, self_signed, server_context
from tests.talk import Client, talk

SILENCE_S = 0.05  # how long nothing must come where nothing may come


async def assert_silent(client: Client) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SILENCE_S):
            await client.reader.read(1)


def at_rcpt(*actions: Action) -> Sandbox:
    return Sandbox(script=Script({"RCPT": [*actions]}))


# -- what is said


async def test_say_replaces_the_answer_and_the_last_action_repeats() -> None:
    async with (
        at_rcpt(Say("452-4.2.2 full\n452 4.2.2 come back"), Say("550 5.1.1 no")) as hop,
        Client(hop.port) as client,
    ):
        await client.greet()
        await client.ask("MAIL FROM:<a@example.com>")
        asked = [await client.ask("RCPT TO:<b@example.org>") for _ in range(3)]
        assert asked == [b"452-4.2.2 full\r\n452 4.2.2 come back\r\n", b"550 5.1.1 no\r\n", b"550 5.1.1 no\r\n"]
        assert (await client.ask("DATA"))[:3] == b"503"


async def test_ok_at_the_end_means_then_as_usual() -> None:
    script = Script({"MAIL": [Say("451 4.3.0 later"), Ok()], "DOT": Say(b"250 \xff as I like it\r\n")})
    async with Sandbox(script=script) as hop, Client(hop.port) as client:
        await client.greet()
        assert (await client.ask("MAIL FROM:<a@example.com>"))[:3] == b"451"
        assert (await client.ask("MAIL FROM:<a@example.com>"))[:3] == b"250"
        await client.ask("RCPT TO:<b@example.org>")
        assert await client.message(b"x\r\n") == b"250 \xff as I like it\r\n"
        assert [message.data for message in hop.messages] == [b"x\r\n"]


async def test_an_answer_of_another_class_has_no_effect() -> None:
    async with Sandbox(script=Script({"DATA": Say("250 2.0.0 what?")})) as hop, Client(hop.port) as client:
        await client.envelope()
        assert (await client.ask("DATA"))[:3] == b"250"
        assert (await client.ask("NOOP"))[:3] == b"250"  # no message begins


@pytest.mark.parametrize("verb", sorted(VERBS - {"STARTTLS", "AUTH", "BODY"}))
async def test_every_verb_can_be_refused(verb: str) -> None:
    async with Sandbox(script=Script({verb: Say(f"421 4.0.0 {verb}")})) as hop, Client(hop.port) as client:
        refused = []
        refused.append(await client.reply())
        for line in (
            "EHLO client.test",
            "HELO client.test",
            "NOOP",
            "RSET",
            "MAIL FROM:<a@example.com>",
            "RCPT TO:<b@example.org>",
            "BDAT 0",
            "RSET",
            "MAIL FROM:<a@example.com>",
            "RCPT TO:<b@example.org>",
            "DATA",
            ".",
            "QUIT",
        ):
            refused.append(await client.ask(line))
        assert f"421 4.0.0 {verb}\r\n".encode() in refused
        assert {reply[9:].strip().decode() for reply in refused if reply[:3] == b"421"} == {verb}


async def test_starttls_and_auth_can_be_refused(tmp_path: Path) -> None:
    context = server_context(*self_signed(["hop.test"], directory=tmp_path))
    script = Script({"STARTTLS": Say("454 4.7.0 not now"), "AUTH": Say("454 4.7.0 nor this")})
    async with Sandbox(script=script, tls=context, users={"a": "b"}) as hop, Client(hop.port) as client:
        await client.greet()
        assert await client.ask("STARTTLS") == b"454 4.7.0 not now\r\n"
        assert await client.ask("AUTH PLAIN AGEAYg==") == b"454 4.7.0 nor this\r\n"
        assert (await client.ask("MAIL FROM:<a@example.com>"))[:3] == b"530"


@pytest.mark.parametrize(
    ("action", "answer"),
    [
        (Garbage(), Garbage().octets),
        (Garbage(b"\0\r\n"), b"\0\r\n"),
        (Surplus(), b"250 2.1.5 Ok\r\n250 2.0.0 and one more\r\n"),
        (Surplus("550 5.0.0 x\n550 5.0.0 y"), b"250 2.1.5 Ok\r\n550 5.0.0 x\r\n550 5.0.0 y\r\n"),
        (Mixed(), b"250-2.0.0 yes\r\n550 5.0.0 no\r\n"),
    ],
)
async def test_strange_answers(action: Action, answer: bytes) -> None:
    async with at_rcpt(action, Ok()) as hop, Client(hop.port) as client:
        await client.greet()
        await client.ask("MAIL FROM:<a@example.com>")
        await client.send(b"RCPT TO:<b@example.org>\r\nNOOP\r\n")
        async with asyncio.timeout(5):
            assert await client.reader.readexactly(len(answer)) == answer
        assert (await client.reply())[:9] == b"250 2.0.0"


@pytest.mark.parametrize("then", ["hang", "close"])
async def test_half_a_reply(then: str) -> None:
    async with at_rcpt(Half(b"250 2.1", "hang" if then == "hang" else "close")) as hop, Client(hop.port) as client:
        await client.greet()
        await client.ask("MAIL FROM:<a@example.com>")
        await client.send(b"RCPT TO:<b@example.org>\r\n")
        async with asyncio.timeout(5):
            assert await client.reader.readexactly(7) == b"250 2.1"
        if then == "hang":
            await assert_silent(client)
        else:
            assert await client.rest() == b""


async def test_drip_takes_its_time_and_has_its_effect() -> None:
    async with at_rcpt(Drip(over_s=0.2), Drip(0.001, text="550 5.1.1 no")) as hop, Client(hop.port) as client:
        await client.greet()
        await client.ask("MAIL FROM:<a@example.com>")
        began = time.monotonic()
        await client.send(b"RCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\nRSET\r\n")
        async with asyncio.timeout(5):
            first = await client.reader.read(100)
        assert len(first) < 14  # it came in parts
        assert first + await client.reply() == b"250 2.1.5 Ok\r\n"
        assert time.monotonic() - began >= 0.15
        assert await client.reply() == b"550 5.1.1 no\r\n"
        assert (await client.reply())[:3] == b"250"


async def test_flood_is_endless_for_a_reader_but_ends() -> None:
    async with at_rcpt(Flood()) as hop, Client(hop.port) as client:
        await client.greet()
        await client.ask("MAIL FROM:<a@example.com>")
        await client.send(b"RCPT TO:<b@example.org>\r\n")
        count = 0
        async with asyncio.timeout(30):
            while piece := await client.reader.read(1 << 20):
                count += len(piece)
        assert count == MAX_FLOOD_OCTETS
    async with at_rcpt(Flood(octets=50, line=b"250-x\r\n")) as hop, Client(hop.port) as client:
        await client.greet()
        await client.ask("MAIL FROM:<a@example.com>")
        await client.send(b"RCPT TO:<b@example.org>\r\n")
        assert await client.rest() == b"250-x\r\n" * 7 + b"2"


# -- how it ends


@pytest.mark.parametrize("verb", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "DOT", "RSET", "QUIT", "NOOP"])
@pytest.mark.parametrize("action", [Close(), Reset(), Hang()])
async def test_close_reset_and_hang_at_every_verb(verb: str, action: Action) -> None:
    async with Sandbox(script=Script({verb: [action, Ok()]})) as hop:
        async with Client(hop.port) as client:
            whole = b"EHLO c\r\nNOOP\r\nRSET\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n"
            client.writer.write(whole)
            if isinstance(action, Reset):
                with pytest.raises(ConnectionResetError):
                    await client.rest()
            elif isinstance(action, Close):
                assert b"221" not in await client.rest()
            else:
                assert b"221" not in await until_silent(client)
        await talk(hop.port, "S: 220\nC: QUIT\nS: 221\nS:")
        assert hop.accepted == (1 if verb == "QUIT" else 0)


async def until_silent(client: Client) -> bytes:
    seen = b""
    with suppress(TimeoutError):
        async with asyncio.timeout(SILENCE_S):
            while piece := await client.reader.read(4096):
                seen += piece
            pytest.fail("it closed")
    return seen


async def test_close_after_the_usual_answer_or_another() -> None:
    async with at_rcpt(CloseAfter("421 4.3.2 going down"), CloseAfter()) as hop:
        for answer in (b"421 4.3.2 going down\r\n", b"250 2.1.5 Ok\r\n"):
            async with Client(hop.port) as client:
                await client.greet()
                await client.ask("MAIL FROM:<a@example.com>")
                await client.send(b"RCPT TO:<b@example.org>\r\nNOOP\r\n")
                assert await client.rest() == answer


@pytest.mark.parametrize("via", ["DATA", "BDAT"])
async def test_commit_then_close_has_the_message_and_says_nothing(via: str) -> None:
    async with Sandbox(script=Script({"DOT": [CommitThenClose(), Ok()]})) as hop, Client(hop.port) as client:
        await client.envelope()
        await client.send(b"BDAT 3 LAST\r\nx\r\n" if via == "BDAT" else b"DATA\r\nx\r\n.\r\n")
        assert (await client.rest())[:3] in (b"", b"354")
        assert [message.data for message in hop.messages] == [b"x\r\n"]


async def test_delay_holds_what_follows() -> None:
    script = Script({"CONNECT": [Delay(0.1), Ok()], "RCPT": [Delay(0.5, Say("550 5.1.1 no")), Ok()]})
    async with Sandbox(script=script) as hop, Client(hop.port) as client:
        began = time.monotonic()
        await client.greet()
        assert time.monotonic() - began >= 0.09
        began = time.monotonic()
        await client.send(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nNOOP\r\n")
        assert (await client.reply())[:3] == b"250"
        assert time.monotonic() - began < 0.49
        assert [(await client.reply())[:3] for _ in range(2)] == [b"550", b"250"]
        assert time.monotonic() - began >= 0.49


async def test_a_delayed_commit_stores_and_a_delayed_refusal_does_not() -> None:
    script = Script({"DOT": [Delay(0.01, Say("451 4.3.0 no")), Delay(0.01)]})
    async with Sandbox(script=script) as hop, Client(hop.port) as client:
        await client.envelope()
        assert (await client.message(b"one\r\n"))[:3] == b"451"
        await client.ask("MAIL FROM:<a@example.com>")
        await client.ask("RCPT TO:<b@example.org>")
        assert (await client.message(b"two\r\n"))[:3] == b"250"
        assert [message.data for message in hop.messages] == [b"two\r\n"]


# -- within the message


async def test_stop_reading_brings_the_client_to_a_halt() -> None:
    async with Sandbox(script=Script({"BODY": StopReading()})) as hop, Client(hop.port) as client:
        await client.envelope()
        await client.ask("DATA")
        client.writer.write(b"x" * (32 << 20))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await client.writer.drain()
        client.writer.transport.abort()


async def test_stop_reading_for_a_while() -> None:
    async with Sandbox(script=Script({"BODY": StopReading(0.1)})) as hop, Client(hop.port) as client:
        await client.envelope()
        began = time.monotonic()
        assert (await client.message(b"x" * (8 << 20) + b"\r\n"))[:3] == b"250"
        assert time.monotonic() - began >= 0.09
        assert hop.messages[0].size == (8 << 20) + 2


@pytest.mark.parametrize("via", ["DATA", "BDAT"])
async def test_early_say_and_read_on(via: str) -> None:
    async with Sandbox(script=Script({"BODY": [After(1000, EarlySay()), Ok()]})) as hop, Client(hop.port) as client:
        await client.envelope()
        await client.send(b"DATA\r\n" if via == "DATA" else b"BDAT 4002 LAST\r\n")
        if via == "DATA":
            await client.reply()
        await client.send(b"x" * 2000)
        assert (await client.reply())[:9] == b"552 5.3.4"
        await client.send(b"x" * 2000 + b"\r\n" + (b".\r\n" if via == "DATA" else b"") + b"VRFY x\r\n")
        assert (await client.reply())[:3] == b"252"  # the message has had its answer
        await client.ask("MAIL FROM:<a@example.com>")
        await client.ask("RCPT TO:<b@example.org>")
        assert (await client.message(b"x\r\n"))[:3] == b"250"
        assert [message.size for message in hop.messages] == [3]


async def test_early_say_and_close_or_stop() -> None:
    async with (
        Sandbox(script=Script({"BODY": EarlySay("421 4.3.2 bye", then="close")})) as hop,
        Client(hop.port) as client,
    ):
        await client.envelope()
        await client.ask("DATA")
        await client.send(b"x")
        assert await client.rest() == b"421 4.3.2 bye\r\n"
    async with Sandbox(script=Script({"BODY": EarlySay(then="stop")})) as hop, Client(hop.port) as client:
        await client.envelope()
        await client.ask("DATA")
        await client.send(b"x\r\n.\r\nNOOP\r\n")
        assert (await client.reply())[:3] == b"552"
        await assert_silent(client)


@pytest.mark.parametrize(
    ("action", "codes"),
    [
        (Say("250 2.0.0 too soon"), [b"250 2.0.0 too soon", b"250 2.0.0 Ok: queu"]),
        (Delay(0.01, Ok()), [b"250 2.0.0 Ok: queu"]),
        (After(100, Close()), [b"250 2.0.0 Ok: queu"]),
    ],
)
async def test_other_actions_within_the_message(action: Action, codes: list[bytes]) -> None:
    async with Sandbox(script=Script({"BODY": action})) as hop, Client(hop.port) as client:
        await client.envelope()
        await client.send(b"BDAT 3 LAST\r\nx\r\n")
        assert [(await client.reply())[:18] for _ in codes] == codes
        assert [message.data for message in hop.messages] == [b"x\r\n"]


async def test_reset_in_the_middle_of_the_message() -> None:
    async with Sandbox(script=Script({"BODY": [After(100_000, Reset()), Ok()]})) as hop:
        async with Client(hop.port) as client:
            await client.envelope()
            await client.ask("DATA")
            await client.send(b"x" * 90_000)
            await assert_silent(client)
            client.writer.write(b"x" * 90_000)
            with pytest.raises(ConnectionResetError):
                await client.rest()
        assert hop.messages == []


# -- TLS


async def test_false_tls_after_220_and_in_place_of_the_first_handshake(tmp_path: Path) -> None:
    cert, key = self_signed(["hop.test"], directory=tmp_path)
    trust = client_context(cert)
    for implicit in (False, True):
        script = Script({"STARTTLS": [FalseTls(b"no TLS here, honest\r\n"), Ok()]})
        async with Sandbox(script=script, tls=server_context(cert, key), implicit_tls=implicit) as hop:
            with pytest.raises(ssl.SSLError):
                await shake_hands(hop.port, trust, implicit)
            await shake_hands(hop.port, trust, implicit)


async def shake_hands(port: int, trust: ssl.SSLContext, implicit: bool) -> None:
    async with Client(port, tls=trust if implicit else None, name="hop.test") as client:
        await client.greet()
        if not implicit:
            assert (await client.ask("STARTTLS"))[:3] == b"220"
            await client.start_tls(trust, "hop.test")
            assert (await client.ask("EHLO client.test"))[:3] == b"250"


@pytest.mark.parametrize("action", [Close(), Reset(), Hang(), CloseAfter("454 4.7.0 no")])
async def test_faults_under_tls(tmp_path: Path, action: Action) -> None:
    cert, key = self_signed(["hop.test"], directory=tmp_path)
    script = Script({"MAIL": [action, Ok()]})
    async with Sandbox(script=script, tls=server_context(cert, key), implicit_tls=True) as hop:
        async with Client(hop.port, tls=client_context(cert), name="hop.test") as client:
            await client.greet()
            await client.send(b"MAIL FROM:<a@example.com>\r\n")
            if isinstance(action, Hang):
                await assert_silent(client)
            elif isinstance(action, Reset):
                with pytest.raises(ConnectionResetError):
                    await client.rest()
            else:
                assert await client.rest() == (b"454 4.7.0 no\r\n" if isinstance(action, CloseAfter) else b"")
        await shake_hands(hop.port, client_context(cert), implicit=True)


# -- when


async def replies_to_noop(hop: Sandbox, connections: int) -> list[list[bytes]]:
    heard = []
    for _ in range(connections):
        async with Client(hop.port) as client:
            await client.reply()
            heard.append([(await client.ask("NOOP"))[:3] for _ in range(2)])
    return heard


async def test_occurrences_are_counted_over_all_connections_or_on_each() -> None:
    actions: dict[str, Action | Sequence[Action]] = {"NOOP": [Say("451 4.0.0 a"), Ok()]}
    async with Sandbox(script=Script(actions)) as hop:
        assert await replies_to_noop(hop, 2) == [[b"451", b"250"], [b"250", b"250"]]
        hop.script = Script(actions, each_connection=True)
        assert await replies_to_noop(hop, 2) == [[b"451", b"250"], [b"451", b"250"]]
        hop.script = None
        assert await replies_to_noop(hop, 1) == [[b"250", b"250"]]


async def test_a_script_for_some_connections() -> None:
    always: dict[str, Action | Sequence[Action]] = {"NOOP": Say("451 4.0.0 a")}
    async with Sandbox(script=Script(always, connections=range(2, 4))) as hop:
        assert [codes[0] for codes in await replies_to_noop(hop, 4)] == [b"250", b"451", b"451", b"250"]
    async with Sandbox(script=Script(always, connections=lambda number: number % 2 == 0)) as hop:
        assert [codes[0] for codes in await replies_to_noop(hop, 4)] == [b"250", b"451", b"250", b"451"]


def test_a_script_knows_its_verbs() -> None:
    with pytest.raises(ValueError, match="no such verb: FROM, mail; known are AUTH, BDAT"):
        Script({"mail": Ok(), "FROM": Ok()})


async def test_stop_ends_connections_in_the_middle_of_a_fault() -> None:
    actions: list[Action] = [Hang(), Drip(10), Delay(100), StopReading(), Flood(), Half()]
    async with Sandbox(script=Script({"NOOP": actions})) as hop:
        clients = [await Client(hop.port).__aenter__() for _ in actions]
        for client in clients:
            await client.reply()
            await client.send(b"NOOP\r\n")
        await hop.stop()
        assert hop.open_connections == 0
        for client in clients:
            await client.__aexit__(None, None, None)
