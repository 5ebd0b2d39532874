"""Who may come in, and who may say for whom he speaks: allow, XFORWARD, PROXY, wrong protocols (contract 1.2, 1.3)."""

from __future__ import annotations

import ipaddress
import struct

import pytest

from tests.harness import MESSAGE, Client, Guard, code, relay

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"  # PROXY protocol version 2, HAProxy's doc/proxy-protocol.txt 2.2
PROXY = "proxy_protocol = true\n"


def version_2(command: int, family: int, rest: bytes) -> bytes:
    """A version 2 header; command 0 is LOCAL, 1 PROXY; family 0x11 TCP over IPv4, 0x21 over IPv6."""
    return SIGNATURE + struct.pack("!BBH", 0x20 | command, family, len(rest)) + rest


def addresses(source: str, port: int = 4321) -> bytes:
    """Source and destination as version 2 packs them."""
    packed = ipaddress.ip_address(source).packed
    return packed * 2 + struct.pack("!HH", port, 25)


async def refused(guard: Guard) -> dict[str, object]:
    """The one session that was refused, as the log has it."""
    [event] = await guard.events("session-refused")
    assert event["log.level"] == "warning"
    return event


async def test_a_stranger_is_turned_away_at_connect() -> None:
    async with relay(listen='allow = ["192.0.2.0/24"]') as guard:
        for port in (guard.smtp, guard.lmtp):
            async with Client(port) as client:
                assert code(await client.reply()) == "554 5.7.1"
                assert await client.ended()
        [event, _] = await guard.events("session-refused", 2)
        assert event["source.ip"] == "127.0.0.1"
        assert event["smtp.reply.code"] == 554
        assert guard.sample("sessions_total", door="smtp", result="stranger") == 1


async def test_xforward_is_for_the_trusted() -> None:
    async with relay(listen='trusted = ["192.0.2.1/32"]') as guard, Client(guard.smtp) as client:
        await client.greet()
        assert code(await client.say("XFORWARD NAME=mail.s.example")) == "550 5.7.1"


@pytest.mark.parametrize(
    ("attributes", "wanted"),
    [
        ("NAME=mail.s.example ADDR=192.0.2.7", "250 2.0.0"),
        ("name=mail.s.example", "250 2.0.0"),
        ("NAME=[UNAVAILABLE]", "250 2.0.0"),
        ("IDENT=4A+20B", "250 2.0.0"),
        ("", "501 5.5.4"),
        ("NAME", "501 5.5.4"),
        ("COLOUR=blue", "501 5.5.4"),
        ("NAME=a COLOUR=blue", "501 5.5.4"),
        ("HELO=a+0D+0Ab", "501 5.5.4"),
        ("HELO=" + "x" * 256, "501 5.5.4"),
        ("N\u00c4ME=x", "501 5.5.4"),
    ],
)
async def test_xforward_attributes(attributes: str, wanted: str) -> None:
    async with relay() as guard, Client(guard.smtp) as client:
        await client.greet()
        assert code(await client.say(f"XFORWARD {attributes}")) == wanted
        assert code(await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>")) == "250 2.1.5"
        assert code(await client.say("XFORWARD NAME=x")) == "503 5.5.1"


@pytest.mark.parametrize(
    ("header", "source", "port"),
    [
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 4321 25\r\n", "192.0.2.7", 4321),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 4321 25\r\n", "2001:db8::7", 4321),
        (version_2(1, 0x11, addresses("192.0.2.7")), "192.0.2.7", 4321),
        (version_2(1, 0x21, addresses("2001:db8::7")), "2001:db8::7", 4321),
        (version_2(1, 0x11, addresses("192.0.2.7") + b"\x04\x00\x02hi"), "192.0.2.7", 4321),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1", 0),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", "127.0.0.1", 0),
        (version_2(0, 0, b""), "127.0.0.1", 0),
        (version_2(0, 0x11, addresses("192.0.2.7")), "127.0.0.1", 0),
    ],
    ids=["v1-4", "v1-6", "v2-4", "v2-6", "v2-tlv", "v1-unknown", "v1-unknown-more", "v2-local", "v2-local-more"],
)
async def test_proxy_gives_the_address(header: bytes, source: str, port: int) -> None:
    """As the log and the trace field have it; what follows in the same packet is the dialogue."""
    listen = PROXY + 'allow = ["192.0.2.0/24", "2001:db8::/32", "127.0.0.1/32"]'
    async with relay(listen=listen) as guard, Client(guard.smtp) as client:
        client.send(header + b"EHLO client.example\r\nMAIL FROM:<a@s.example>\r\nRCPT TO:<b@r.example>\r\nDATA\r\n")
        assert [code(reply)[:3] for reply in await client.replies(5)] == ["220", "250", "250", "250", "354"]
        client.send(MESSAGE + b".\r\n")
        assert code(await client.reply()) == "250 2.0.0"
        [event] = await guard.events("transaction")
        assert event["source.ip"] == source
        if port:
            assert event["source.port"] == port
        literal = f"IPv6:{source}" if ":" in source else source
        assert f"([{literal}])".encode() in guard.hop.messages[0].data.split(b"\r\n\tby ")[0]


async def test_allow_judges_the_address_that_proxy_gives() -> None:
    async with relay(listen=PROXY) as guard, Client(guard.smtp) as client:
        client.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 4321 25\r\n")
        assert code(await client.reply()) == "554 5.7.1"
        assert await client.ended()
        assert (await refused(guard))["source.ip"] == "192.0.2.7"


async def test_only_the_trusted_may_send_proxy() -> None:
    async with relay(listen=PROXY + 'trusted = ["192.0.2.1/32"]') as guard, Client(guard.smtp) as client:
        client.send(b"PROXY TCP4 127.0.0.1 127.0.0.1 4321 25\r\n")
        reply = await client.reply()
        assert reply == [] or code(reply) == "554 5.7.1"  # what we did not read makes the kernel reset
        assert await client.ended()
        assert (await refused(guard))["smtp.reply.code"] == 554


@pytest.mark.parametrize(
    "header",
    [
        b"EHLO client.example\r\n",
        b"PROXY\r\n",
        b"PROXY TCP4 192.0.2.7\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 4321 99999\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 4321 25 more\r\n",
        b"PROXY TCP4 2001:db8::7 192.0.2.1 4321 25\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 4321 25\n",
        b"PROXY TCP9 192.0.2.7 192.0.2.1 4321 25\r\n",
        b"PROXY TCP4 " + b"1" * 8192 + b"\r\n",
        version_2(1, 0x11, b"\1\2"),
        version_2(7, 0x11, addresses("192.0.2.7")),
        SIGNATURE + b"\xff\xff\x00\x00",
        b"\r\n\r\nquite wrong and long enough for any header",
    ],
)
async def test_what_is_no_proxy_header_is_refused(header: bytes) -> None:
    async with relay(listen=PROXY) as guard:
        async with Client(guard.smtp) as client:
            client.send(header)
            reply = await client.reply()
            assert reply == [] or code(reply) == "554 5.5.0"
            assert await client.ended()
        assert (await refused(guard))["smtp.reply.code"] == 554
        assert guard.sample("sessions_in_progress", door="smtp") == 0


async def test_a_client_that_sends_no_proxy_header_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smtpguard.edge.frame.PROXY_WITHIN_S", 0.05)
    async with relay(listen=PROXY) as guard, Client(guard.smtp) as client:
        client.send(b"PROXY TCP4 192.0")
        assert code(await client.reply()) == "421 4.4.2"
        assert await client.ended()


async def test_a_health_check_that_connects_and_leaves_is_no_fault() -> None:
    async with relay(listen=PROXY) as guard:
        async with Client(guard.smtp):
            pass
        async with Client(guard.smtp) as client:
            client.send(b"PROXY UNKNOWN\r\n")
            assert code(await client.reply()) == "220"


@pytest.mark.parametrize("verb", ["GET", "POST", "PUT", "HEAD", "CONNECT", "OPTIONS", "BDAT"])
async def test_wrong_protocols_are_hung_up_on(verb: str) -> None:
    """What a browser was made to send, or the data of a BDAT, must never be read as commands."""
    async with relay() as guard, Client(guard.smtp) as client:
        await client.greet()
        await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>")
        client.send(f"{verb} 86 LAST\r\nRSET\r\nMAIL FROM:<evil@s.example>\r\n".encode())
        reply = await client.reply()
        assert reply == [] or code(reply) == "502 5.5.1"
        assert await client.ended()
        [event] = await guard.events("transaction")
        assert event["smtp.mail_from"] == "a@s.example"
        assert not guard.hop.messages


@pytest.mark.parametrize("octet", [b"\0", b"\r", b"\x1b", b"\t", b"\x7f", b"\x08"])
@pytest.mark.parametrize("command", ["MAIL FROM:<a%s@s.example>", "NOOP %s", "EHLO client%s"])
async def test_control_characters_in_a_command(octet: bytes, command: str) -> None:
    async with relay() as guard, Client(guard.smtp) as client:
        await client.greet()
        assert code(await client.say(command.encode() % octet)) == "500 5.5.2"
        assert code(await client.say("NOOP")) == "250 2.0.0"


async def test_a_bare_lf_does_not_end_a_command() -> None:
    async with relay() as guard, Client(guard.smtp) as client:
        await client.greet()
        client.send(b"MAIL FROM:<a@s.example>\nNOOP\r\nRSET\n")
        assert [code(reply) for reply in await client.replies(3)] == ["500 5.5.2", "250 2.0.0", "500 5.5.2"]
        client.send(
            b"MAIL FROM:<a@s.example>\r\nRCPT TO:<b@r.example>\nRCPT TO:<c\t@r.example>\r\nRCPT TO:<d@r.example>\r\n"
        )
        replies = [code(reply) for reply in await client.replies(4)]
        assert replies[0] == "250 2.1.0"
        assert [reply[:3] for reply in replies[1:3]] == ["500", "500"]
        assert replies[3] == "250 2.1.5"
