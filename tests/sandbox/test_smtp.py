"""The sandbox as a correct SMTP server: its verbs, its messages to the octet, TLS, login, latency, and its end."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import ssl
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpguard.sandbox import DEFAULT_KEYWORDS, Sandbox
from smtpguard.sandbox.message import Dots
from tests.certs import ca_and_server, client_context, self_signed, server_context
from tests.talk import Client, talk

MEGABYTE = 1 << 20


# -- commands


async def test_a_whole_session_verb_by_verb() -> None:
    async with Sandbox() as hop:
        await talk(
            hop.port,
            """
            S: 220 sandbox.smtpguard.test ESMTP
            C: HELO client.test
            S: 250 sandbox.smtpguard.test
            C: NOOP whatever
            S: 250 2.0.0
            C: VRFY somebody
            S: 252 2.5.2
            C: VRFY
            S: 501 5.5.4
            C: RSET
            S: 250 2.0.0
            C: RSET now
            S: 501 5.5.4
            C: MAIL FROM:<a@example.com>
            S: 250 2.1.0
            C: rcpt to:<b@example.org>
            S: 250 2.1.5
            C: DATA at once
            S: 501 5.5.4
            C: DATA
            S: 354
            C: Subject: one
            C: .
            S: 250 2.0.0 Ok: queued as SBX000001
            C: QUIT
            S: 221 2.0.0
            S:
            """,
        )
        [message] = hop.messages
        assert (message.mail_from, message.rcpts) == (b"a@example.com", [(b"b@example.org", ())])
        assert (message.data, message.size, message.via) == (b"Subject: one\r\n", 14, "DATA")
        assert (message.id, message.helo, message.tls, message.login) == ("SBX000001", b"client.test", False, "")
        assert hop.commands[0] == b"HELO client.test"
        assert hop.commands[-1] == b"QUIT"


async def test_ehlo_offers_what_was_asked_for() -> None:
    async with Sandbox() as hop, Client(hop.port) as client:
        await client.reply()
        offer = (await client.ask("EHLO client.test")).decode().splitlines()
        assert [line[4:] for line in offer] == ["sandbox.smtpguard.test", *DEFAULT_KEYWORDS]
    async with Sandbox(keywords=["SIZE 1000", "X-ODD 1 2"], hostname="other.test") as hop, Client(hop.port) as client:
        await client.reply()
        assert await client.ask("EHLO client.test") == b"250-other.test\r\n250-SIZE 1000\r\n250 X-ODD 1 2\r\n"


async def test_bad_sequences_and_bad_syntax() -> None:
    async with Sandbox() as hop:
        await talk(
            hop.port,
            """
            S: 220
            C: MAIL FROM:<a@example.com>
            S: 503 5.5.1
            C: EHLO
            S: 501 5.5.4
            C: HELO
            S: 501 5.5.4
            C: EHLO client.test
            S: 250-
            S: 250-
            S: 250-
            S: 250-
            S: 250-
            S: 250-
            S: 250-
            S: 250 CHUNKING
            C: RCPT TO:<b@example.org>
            S: 503 5.5.1
            C: DATA
            S: 503 5.5.1
            C: XYZZY
            S: 500 5.5.2
            C: STARTTLS
            S: 454 4.7.0
            C: AUTH PLAIN AGEAYg==
            S: 502 5.5.1
            C: MAIL FROM:a@example.com
            S: 501 5.1.7
            C: MAIL FROM:<a@example.com> SIZE=x
            S: 501 5.5.4
            C: MAIL FROM:<a@example.com> REQUIRETLS
            S: 555 5.5.4
            C: MAIL FROM:<a@example.com> BODY=BINARYMIME
            S: 555 5.5.4
            C: MAIL FROM:<ä@example.com>
            S: 553 5.6.7
            C: MAIL FROM:<a@example.com> SIZE=52428801
            S: 552 5.3.4
            C: MAIL FROM:<>
            S: 250 2.1.0
            C: MAIL FROM:<>
            S: 503 5.5.1
            C: RCPT TO:<>
            S: 501 5.1.3
            C: DATA
            S: 503 5.5.1
            C: BDAT 3 FIRST
            S: 501 5.5.4
            S:
            """,
        )
        assert hop.messages == []


async def test_only_crlf_ends_a_line_and_a_line_has_an_end() -> None:
    async with Sandbox() as hop:
        async with Client(hop.port) as client:
            await client.greet()
            assert (await client.ask("NOOP\nRSET"))[:9] == b"500 5.5.2"
            assert (await client.ask("NOOP\0"))[:9] == b"500 5.5.2"
        async with Client(hop.port) as client:
            await client.reply()
            await client.send(b"X" * 20_000)
            assert (await client.rest())[:9] == b"500 5.5.2"


async def test_paths_and_parameters_are_kept_to_the_octet() -> None:
    path = b'"a > b\\" c"@[192.0.2.1]'
    params = b"RET=HDRS ENVID=Ab+2Bc smtputf8 Body=8bitmime SIZE=77"
    async with Sandbox() as hop, Client(hop.port) as client:
        await client.greet()
        await client.send(b"MAIL FROM:<" + path + b"> " + params + b"\r\n")
        assert (await client.reply())[:3] == b"250"
        await client.send("RCPT TO:<Jörg@Example.ORG> NOTIFY=NEVER ORCPT=rfc822;a>b\r\n".encode())
        assert (await client.reply())[:3] == b"250"
        await client.message(b"")
        [message] = hop.messages
        assert message.mail_from == path
        assert message.params == tuple(params.split())
        assert message.rcpts == [("Jörg@Example.ORG".encode(), (b"NOTIFY=NEVER", b"ORCPT=rfc822;a>b"))]


# -- messages


@given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"a", b"\xff"]), max_size=30), st.data())
def test_dots_give_the_same_octets_however_they_are_cut(parts: list[bytes], data: st.DataObject) -> None:
    message = b"".join(parts) + b"\r\n"
    stuffed = (b"\r\n" + message).replace(b"\r\n.", b"\r\n..")[2:]
    stream = stuffed + b".\r\nQUIT\r\n"
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)) | {0, len(stream)})
    dots, got, rest = Dots(), b"", None
    for start, end in pairwise(cuts):
        if rest is None:
            octets, rest = dots.feed(stream[start:end])
            got += octets
            rest = None if rest is None else rest + stream[end:]
    assert got == message
    assert rest == b"QUIT\r\n"


@pytest.mark.parametrize(
    ("wire", "data"),
    [
        (b"", b""),
        (b"..\r\n", b".\r\n"),
        (b"...\r\n..x\r\n", b"..\r\n.x\r\n"),
        (b".x\r\n", b"x\r\n"),
        (b"a\n.\nb\r.\r\r\nQUIT\n.\r\nc\r\n", b"a\n.\nb\r.\r\r\nQUIT\n.\r\nc\r\n"),
        (b"\0\xff\r\n", b"\0\xff\r\n"),
    ],
)
async def test_data_byte_by_byte(wire: bytes, data: bytes) -> None:
    async with Sandbox() as hop, Client(hop.port) as client:
        await client.envelope()
        assert (await client.ask("DATA"))[:3] == b"354"
        for octet in wire + b".\r\n":
            await client.send(bytes((octet,)))
        assert (await client.reply())[:3] == b"250"
        assert hop.messages[0].data == data


async def test_bdat_in_chunks_with_the_next_command_in_the_packet() -> None:
    async with Sandbox() as hop, Client(hop.port) as client:
        await client.envelope()
        await client.send(b"BDAT 4\r\n.\r\n.BDAT 0\r\nBDAT 5 LAST\r\nQUIT\nNOOP\r\n")
        assert await client.reply() == b"250 2.0.0 Ok: 4 octets so far\r\n"
        assert await client.reply() == b"250 2.0.0 Ok: 4 octets so far\r\n"
        assert (await client.reply()).endswith(b"queued as SBX000001\r\n")
        assert (await client.reply())[:3] == b"250"
        assert hop.messages[0].data == b".\r\n.QUIT\n"
        assert hop.messages[0].via == "BDAT"


async def test_bdat_refused_consumes_its_octets() -> None:
    async with Sandbox() as hop, Client(hop.port) as client:
        await client.greet()
        await client.ask("MAIL FROM:<a@example.com>")
        await client.send(b"BDAT 6\r\nNOOP\r\nBDAT 3 LAST\r\nabcVRFY x\r\n")
        assert await client.reply() == b"503 5.5.1 Error: bad sequence of commands\r\n"
        assert (await client.reply())[:9] == b"503 5.5.1"
        assert (await client.reply())[:3] == b"252"
        assert hop.messages == []
    async with Sandbox(keywords=["PIPELINING"]) as hop, Client(hop.port) as client:
        await client.envelope()
        await client.send(b"BDAT 6 LAST\r\nNOOP\r\nVRFY x\r\n")
        assert (await client.reply())[:9] == b"502 5.5.1"
        assert (await client.reply())[:3] == b"252"


async def test_after_bdat_began_neither_data_nor_rcpt() -> None:
    async with Sandbox() as hop, Client(hop.port) as client:
        await client.envelope()
        await client.send(b"BDAT 1\r\nxDATA\r\nRCPT TO:<c@example.org>\r\nRSET\r\nMAIL FROM:<>\r\n")
        assert [(await client.reply())[:3] for _ in range(5)] == [b"250", b"503", b"503", b"250", b"250"]


async def test_a_message_beyond_size_is_refused_after_the_dot_and_the_next_one_passes() -> None:
    async with Sandbox(keywords=["SIZE 100", "CHUNKING"]) as hop, Client(hop.port) as client:
        await client.envelope()
        assert (await client.message(b"x" * 99 + b"\r\n"))[:9] == b"552 5.3.4"
        for size, code in ((101, b"552"), (100, b"250")):
            await client.ask("MAIL FROM:<a@example.com>")
            await client.ask("RCPT TO:<b@example.org>")
            await client.send(b"BDAT %d LAST\r\n" % size + b"x" * size)
            assert (await client.reply())[:3] == code
        assert [message.size for message in hop.messages] == [100]


@pytest.mark.parametrize("via", ["DATA", "BDAT"])
async def test_25_megabytes_into_a_maildir_to_the_octet_chunk_by_chunk(via: str, tmp_path: Path) -> None:
    body = random.Random(7).randbytes(MEGABYTE)
    body = b".begin\r\n" + (body + b"\r\n..\r\n.\r.\n").replace(b"\r\n.\r\n", b"\r\n") * 25
    stuffed = body.replace(b"\r\n.", b"\r\n..")
    async with Sandbox(maildir=tmp_path / "mail") as hop, Client(hop.port) as client:
        await client.envelope()
        if via == "DATA":
            reply = await client.message(b"." + stuffed + b"\r\n")
            body += b"\r\n"
        else:
            for start in range(0, len(body), 10 * MEGABYTE):
                piece = body[start : start + 10 * MEGABYTE]
                last = b" LAST" if start + len(piece) == len(body) else b""
                await client.send(b"BDAT %d%s\r\n" % (len(piece), last) + piece)
                reply = await client.reply()
                # Not gathered in memory: what was answered is in the file.
                assert last or files_in(tmp_path)[0].stat().st_size == start + len(piece)
        assert reply.endswith(b"queued as SBX000001\r\n")
        [message] = await hop.wait(1)
        assert message.path is not None
        assert message.path.parent == tmp_path / "mail" / "new"
        assert files_in(tmp_path / "mail" / "tmp") == []
        kept = message.path.read_bytes()
        assert hashlib.sha256(kept).digest() == hashlib.sha256(body).digest()
        assert (message.size, message.data) == (len(body), b"")


async def test_what_is_refused_or_broken_off_leaves_nothing_in_the_maildir(tmp_path: Path) -> None:
    async with Sandbox(maildir=tmp_path) as hop:
        async with Client(hop.port) as client:
            await client.envelope("data-550-5.7.1@example.org")
            assert (await client.message(b"x\r\n"))[:9] == b"550 5.7.1"
            assert files_in(tmp_path) == []
            await client.ask("MAIL FROM:<a@example.com>")
            await client.ask("RCPT TO:<b@example.org>")
            await client.send(b"DATA\r\nhalf a mess")
            await client.reply()
        await hop.stop()
        assert files_in(tmp_path) == []


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_without_keep_messages_are_counted_only() -> None:
    async with Sandbox(keep=False) as hop, Client(hop.port) as client:
        await client.envelope()
        await client.message(b"x\r\n")
        assert await hop.wait(1) == []
        assert hop.accepted == 1


async def test_wait_wakes_when_the_message_comes_and_says_what_is_missing() -> None:
    async with Sandbox() as hop, Client(hop.port) as client:
        with pytest.raises(TimeoutError, match="0 of 1 messages"):
            await hop.wait(1, timeout=0.01)
        waiting = asyncio.create_task(hop.wait(1))
        await client.envelope()
        assert not waiting.done()
        await client.message(b"x\r\n")
        assert [message.data for message in await waiting] == [b"x\r\n"]


# -- TLS and login


async def test_starttls_forgets_what_was_said_in_clear(tmp_path: Path) -> None:
    cert, key = self_signed(["hop.test"], directory=tmp_path)
    async with Sandbox(tls=server_context(cert, key)) as hop, Client(hop.port) as client:
        await client.reply()
        assert b"STARTTLS" in await client.ask("EHLO client.test")
        assert (await client.ask("STARTTLS please"))[:3] == b"501"
        await client.send(b"STARTTLS\r\nRSET\r\n")  # the RSET is an injection, and never answered
        assert await client.reply() == b"220 2.0.0 Ready to start TLS\r\n"
        await client.start_tls(client_context(cert), "hop.test")
        assert (await client.ask("MAIL FROM:<a@example.com>"))[:3] == b"503"
        assert b"STARTTLS" not in await client.ask("EHLO client.test")
        assert (await client.ask("STARTTLS"))[:3] == b"503"
        await client.ask("MAIL FROM:<a@example.com>")
        await client.ask("RCPT TO:<b@example.org>")
        await client.message(b"x\r\n")
        assert hop.messages[0].tls
        assert (await client.ask("QUIT"))[:3] == b"221"
        assert await client.rest() == b""


@pytest.mark.parametrize("expired", [False, True])
async def test_implicit_tls_with_an_authority(tmp_path: Path, expired: bool) -> None:
    made = ca_and_server(["hop.test", "127.0.0.1"], directory=tmp_path, expired=expired)
    trust = client_context(made.ca)
    async with Sandbox(tls=server_context(made.cert, made.key), implicit_tls=True) as hop:
        if expired:
            with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
                await talk_tls(hop.port, trust, "127.0.0.1")
            return
        await talk_tls(hop.port, trust, "hop.test")
        await talk_tls(hop.port, trust, "127.0.0.1")
        with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
            await talk_tls(hop.port, trust, "other.test")


async def talk_tls(port: int, trust: ssl.SSLContext, name: str) -> None:
    async with Client(port, tls=trust, name=name) as client:
        await client.envelope()
        assert (await client.message(b"x\r\n"))[:3] == b"250"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def test_login_by_plain_and_by_login() -> None:
    async with Sandbox(users={"jo": "päss"}) as hop:
        for dialogue in (
            [f"AUTH PLAIN {b64(chr(0) + 'jo' + chr(0) + 'päss')}"],
            ["auth plain", b64("jo\0jo\0päss")],
            ["AUTH LOGIN", b64("jo"), b64("päss")],
            [f"AUTH LOGIN {b64('jo')}", b64("päss")],
        ):
            async with Client(hop.port) as client:
                await client.reply()
                assert b"AUTH PLAIN LOGIN" in await client.ask("EHLO client.test")
                assert (await client.ask("MAIL FROM:<a@example.com>"))[:9] == b"530 5.7.0"
                *prompts, verdict = [await client.ask(line) for line in dialogue]
                assert all(prompt[:4] == b"334 " for prompt in prompts)
                assert verdict[:9] == b"235 2.7.0"
                assert (await client.ask("AUTH PLAIN"))[:3] == b"503"
                await client.ask("MAIL FROM:<a@example.com>")
                await client.ask("RCPT TO:<b@example.org>")
                await client.message(b"")
        assert [message.login for message in hop.messages] == ["jo"] * 4


@pytest.mark.parametrize(
    ("dialogue", "code"),
    [
        ([f"AUTH PLAIN {b64(chr(0) + 'jo' + chr(0) + 'wrong')}"], b"535"),
        ([f"AUTH PLAIN {b64(chr(0) + 'nobody' + chr(0) + '')}"], b"535"),
        (["AUTH PLAIN", "*"], b"501"),
        (["AUTH PLAIN ="], b"501"),
        (["AUTH LOGIN", "*"], b"501"),
        (["AUTH LOGIN", b64("jo"), "no base64!"], b"501"),
        (["AUTH CRAM-MD5"], b"504"),
    ],
)
async def test_login_refused(dialogue: list[str], code: bytes) -> None:
    async with Sandbox(users={"jo": "secret"}) as hop, Client(hop.port) as client:
        await client.greet()
        assert [await client.ask(line) for line in dialogue][-1][:3] == code
        assert (await client.ask("MAIL FROM:<a@example.com>"))[:9] == b"530 5.7.0"


# -- flights


async def test_replies_to_one_packet_travel_together() -> None:
    async with Sandbox(latency_s=0.1) as hop, Client(hop.port) as client:
        await client.greet()
        rcpts = b"".join(b"RCPT TO:<b%d@example.org>\r\n" % number for number in range(10))
        flights, trips = hop.flights, hop.round_trips
        began = time.monotonic()
        await client.send(b"MAIL FROM:<a@example.com>\r\n" + rcpts)
        assert [(await client.reply())[:3] for _ in range(11)] == [b"250"] * 11
        await client.send(b"BDAT 3 LAST\r\n")
        await client.send(b"x\r\n")
        assert (await client.reply())[:3] == b"250"
        took = time.monotonic() - began
        assert (hop.flights - flights, hop.round_trips - trips) == (2, 2)
        assert took >= 0.2


async def test_two_packets_sent_at_once_cost_one_round_trip_and_keep_their_order() -> None:
    async with Sandbox(latency_s=0.1) as hop, Client(hop.port) as client:
        await client.greet()
        trips = hop.round_trips
        await client.send(b"MAIL FROM:<a@example.com>\r\nRCPT TO:")
        await asyncio.to_thread(lambda: None)  # a turn of the loop: the first packet arrives alone
        await client.send(b"<b@example.org>\r\nVRFY x\r\n")
        assert [(await client.reply())[:9] for _ in range(3)] == [b"250 2.1.0", b"250 2.1.5", b"252 2.5.2"]
        assert hop.round_trips - trips == 1


async def test_a_client_that_ends_its_half_gets_its_answers() -> None:
    async with Sandbox(latency_s=0.05) as hop, Client(hop.port) as client:
        await client.greet()
        await client.send(b"NOOP\r\n")
        client.writer.write_eof()
        assert (await client.rest())[:3] == b"250"


# -- beginning and end


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
async def test_it_listens_on_loopback_only(host: str) -> None:
    with pytest.raises(ValueError, match="loopback only"):
        await Sandbox().start(host)


async def test_stop_ends_every_connection_whatever_it_does(tmp_path: Path) -> None:
    cert, key = self_signed(["hop.test"], directory=tmp_path)
    context = server_context(cert, key)
    hop = Sandbox(tls=context)
    shaking = Sandbox(tls=context, implicit_tls=True)
    await hop.start()
    await shaking.start()
    async with (
        Client(hop.port) as idle,
        Client(hop.port) as busy,
        Client(hop.port) as secure,
        Client(shaking.port) as raw,
    ):
        await idle.greet()
        await busy.envelope()
        await busy.send(b"DATA\r\nhalf")
        await busy.reply()
        await secure.reply()
        await secure.ask("STARTTLS")
        await secure.start_tls(client_context(cert), "hop.test")
        assert hop.open_connections == 3
        await shaking.stop()
        await hop.stop()
        assert hop.open_connections == shaking.open_connections == 0
        for client in (idle, busy, raw):
            assert await client.rest() == b""
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", hop.port)
    await hop.stop()


async def test_it_comes_back_on_the_same_port() -> None:
    hop = Sandbox()
    port = await hop.start()
    await talk(port, "S: 220")
    await hop.stop()
    assert await hop.start(port=port) == port
    await talk(port, "S: 220")
    with pytest.raises(RuntimeError, match="already"):
        await hop.start()
    await hop.stop()
    assert hop.connections == 2
