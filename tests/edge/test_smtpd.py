"""What a door offers, and what becomes of a message that needs more than its next hop has (contract 1.1, 1.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

import pytest

from smtpguard.sandbox import DEFAULT_KEYWORDS, Close, Ok, Sandbox, Script
from tests.certs import client_context, self_signed
from tests.harness import MESSAGE, PATIENCE_S, Client, code, relay

XFORWARD = "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"
ALWAYS = {"PIPELINING", "ENHANCEDSTATUSCODES"}
ALL = ALWAYS | {"SIZE 52428800", "8BITMIME", "SMTPUTF8", "DSN", XFORWARD}
OTHER = '[[route]]\nrecipient_domain = ["other.example"]\nnext_hop = "other"\n[next_hop.other]\ntls = "none"\n'
UNASKED = Script({"CONNECT": [Close(), Ok()]})  # the question at start goes unanswered, so all is offered


async def offered(port: int, wanted: Collection[str], *, hello: str = "EHLO client.example") -> set[str]:
    """What EHLO offers, asked until it is what is wanted: next hops are asked while we listen already."""
    got: set[str] = set()
    try:
        async with asyncio.timeout(PATIENCE_S):
            while got != set(wanted):
                async with Client(port) as client:
                    lines = await client.greet(hello)
                    got = set(lines)
                    assert len(got) == len(lines), "a keyword is offered twice"
    except TimeoutError:
        pass
    return got


def without(*dropped: str, size: str = "SIZE 52428800") -> tuple[str, ...]:
    """The sandbox's keywords but these, with another SIZE."""
    return tuple(size if word.startswith("SIZE") else word for word in DEFAULT_KEYWORDS if word not in dropped)


@pytest.mark.parametrize(
    ("keywords", "listen", "wanted"),
    [
        (DEFAULT_KEYWORDS, "", ALL),
        (DEFAULT_KEYWORDS, "trusted = []", ALL - {XFORWARD}),
        (without("8BITMIME"), "", ALL - {"8BITMIME"}),
        (without("SMTPUTF8"), "", ALL - {"SMTPUTF8"}),
        (without("DSN"), "", ALL - {"DSN"}),
        (("PIPELINING",), "", ALL - {"8BITMIME", "SMTPUTF8", "DSN"}),
        (without(size="SIZE 1000"), "", ALL - {"SIZE 52428800"} | {"SIZE 1000"}),
        (without(size="SIZE 0"), "", ALL),
        (without(size="SIZE 99999999"), "", ALL),
        (DEFAULT_KEYWORDS, 'max_message_size = "2KiB"', ALL - {"SIZE 52428800"} | {"SIZE 2048"}),
    ],
    ids=["all", "untrusted", "8bitmime", "smtputf8", "dsn", "none", "size", "size-0", "larger", "ours"],
)
@pytest.mark.parametrize("door", ["smtp", "lmtp"])
async def test_offered(keywords: tuple[str, ...], listen: str, wanted: set[str], door: str) -> None:
    async with relay(keywords=keywords, listen=listen) as guard:
        port, hello = (guard.smtp, "EHLO c.example") if door == "smtp" else (guard.lmtp, "LHLO c.example")
        assert await offered(port, wanted, hello=hello) == wanted


async def test_all_is_offered_while_nothing_is_known_of_the_next_hop() -> None:
    async with relay(script=Script({"CONNECT": Close()}), keywords=("PIPELINING",)) as guard:
        async with Client(guard.smtp) as client:
            assert set(await client.greet()) == ALL
        await guard.events("next-hop-failed")
        async with Client(guard.smtp) as client:
            assert set(await client.greet()) == ALL


async def test_of_several_next_hops_the_poorest_decides_the_keywords_and_the_largest_the_size() -> None:
    async with Sandbox(keywords=without("DSN", size="SIZE 3000")) as other:
        more = OTHER + f'host = "127.0.0.1"\nport = {other.port}\n'
        wanted = ALL - {"DSN", "SIZE 52428800"} | {"SIZE 3000"}
        async with relay(keywords=without(size="SIZE 2000"), more=more) as guard:
            assert await offered(guard.smtp, wanted) == wanted


async def test_tls_and_login_are_offered_when_they_can_be_had(tmp_path: Path) -> None:
    cert, key = self_signed(["localhost"], directory=tmp_path)
    listen = f'tls_cert = "{cert}"\ntls_key = "{key}"\nusers_file = "{{dir}}/users"'
    users = {"users": "ann:$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0$c29tZWhhc2hzb21laGFzaHNvbWVoYXNo\n"}
    async with relay(listen=listen, files=users) as guard, Client(guard.smtp) as client:
        assert set(await client.greet()) == ALL | {"STARTTLS"}
        await client.start_tls(client_context(cert))
        reply = await client.say("EHLO client.example")
        assert {line[4:] for line in reply[1:]} == ALL | {"AUTH PLAIN LOGIN"}


async def test_each_door_has_its_own_hello() -> None:
    async with relay() as guard:
        async with Client(guard.smtp) as client:
            assert await client.greet("HELO client.example") == []
            assert code(await client.say("LHLO client.example")) == "500 5.5.1"
        async with Client(guard.lmtp) as client:
            assert (await client.reply())[0] == "220 guard.test LMTP smtpguard"
            assert code(await client.say("EHLO client.example")) == "500 5.5.1"
            assert code(await client.say("HELO client.example")) == "500 5.5.1"
            assert code(await client.say("MAIL FROM:<a@s.example>")) == "503 5.5.1"
            assert (await client.say("LHLO client.example"))[0] == "250-guard.test"


@pytest.mark.parametrize(
    "dialogue",
    [
        ("EHLO", "501 5.5.4"),
        ("EHLO two words", "501 5.5.4"),
        ("MAIL FROM:<a@s.example>", "503 5.5.1"),
        ("RCPT TO:<b@r.example>", "503 5.5.1"),
        ("DATA", "503 5.5.1"),
        ("STARTTLS", "503 5.5.1"),
        ("AUTH PLAIN", "503 5.5.1"),
        ("EXPN all", "500 5.5.1"),
        ("", "500 5.5.1"),
        ("NOOP whatever", "250 2.0.0"),
        ("noop", "250 2.0.0"),
        ("VRFY ann", "252 2.5.0"),
        ("HELP", "214 2.0.0"),
        ("RSET", "250 2.0.0"),
        ("RSET now", "250 2.0.0"),
    ],
    ids=lambda dialogue: dialogue[0] or "empty",
)
async def test_before_hello(dialogue: tuple[str, str]) -> None:
    async with relay() as guard, Client(guard.smtp) as client:
        await client.reply()
        assert code(await client.say(dialogue[0])) == dialogue[1]


async def test_lmtp_data_without_a_recipient_is_503() -> None:
    """RFC 2033 4.2: MUST, where RFC 5321 leaves the choice of 503 and 554."""
    async with relay() as guard, Client(guard.lmtp) as client:
        await client.greet("LHLO client.example")
        assert code(await client.say("MAIL FROM:<a@s.example>", "DATA")) == "503 5.5.1"


async def test_out_of_order() -> None:
    async with relay() as guard, Client(guard.smtp) as client:
        await client.greet()
        assert code(await client.say("MAIL FROM:<a@s.example>", "DATA")) == "554 5.5.1"
        assert code(await client.say("MAIL FROM:<a@s.example>")) == "503 5.5.1"
        assert code(await client.say("RCPT TO:<b@r.example>", "DATA now")) == "501 5.5.4"
        assert code(await client.say("XFORWARD NAME=x.example")) == "503 5.5.1"
        assert code(await client.say("EHLO again.example", "DATA")) == "503 5.5.1"
        assert not guard.hop.messages


async def test_dsn_parameters_are_refused_where_they_are_not_offered() -> None:
    wanted = ALL - {"DSN"}
    async with relay(keywords=without("DSN")) as guard:
        assert await offered(guard.smtp, wanted) == wanted
        async with Client(guard.smtp) as client:
            await client.greet()
            assert code(await client.say("MAIL FROM:<a@s.example> RET=HDRS")) == "555 5.5.4"
            assert code(await client.say("MAIL FROM:<a@s.example> ENVID=x")) == "555 5.5.4"
            assert (
                code(await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example> NOTIFY=NEVER")) == "555 5.5.4"
            )
            assert code(await client.say("RCPT TO:<b@r.example>")) == "250 2.1.5"


@pytest.mark.parametrize("door", ["smtp", "lmtp"])
async def test_dsn_parameters_pass_as_they_are(door: str) -> None:
    async with relay() as guard:
        port, hello = (guard.smtp, "EHLO c.example") if door == "smtp" else (guard.lmtp, "LHLO c.example")
        async with Client(port) as client:
            await client.greet(hello)
            reply = await client.say(
                "MAIL FROM:<a@s.example> ret=Hdrs ENVID=Aa+2BbB BODY=8BITMIME",
                "RCPT TO:<b@r.example> Notify=SUCCESS,failure ORCPT=rfc822;B@R.Example",
                "DATA",
            )
            assert code(reply) == "354"
            client.send(MESSAGE + b".\r\n")
            assert code(await client.reply()) == "250 2.0.0"
    [message] = guard.hop.messages
    assert set(message.params) >= {b"ret=Hdrs", b"ENVID=Aa+2BbB", b"BODY=8BITMIME"}
    [(_, params)] = message.rcpts
    assert set(params) == {b"Notify=SUCCESS,failure", b"ORCPT=rfc822;B@R.Example"}


@pytest.mark.parametrize(
    ("lacks", "mail", "wanted"),
    [
        ("DSN", "MAIL FROM:<a@s.example> RET=HDRS", "451 4.3.0"),
        ("8BITMIME", "MAIL FROM:<a@s.example> BODY=8BITMIME", "554 5.6.3"),
        ("SMTPUTF8", "MAIL FROM:<\u00e4@s.example> SMTPUTF8", "550 5.6.7"),
        ("", "MAIL FROM:<a@s.example> SIZE=11000", "552 5.3.4"),
    ],
    ids=["dsn", "8bitmime", "smtputf8", "size"],
)
@pytest.mark.parametrize("door", ["smtp", "lmtp"])
async def test_a_next_hop_that_turns_out_to_lack_what_is_needed(lacks: str, mail: str, wanted: str, door: str) -> None:
    keywords = without(lacks) if lacks else without(size="SIZE 10000")
    async with relay(script=UNASKED, keywords=keywords) as guard:
        await guard.events("next-hop-failed")
        port, hello = (guard.smtp, "EHLO c.example") if door == "smtp" else (guard.lmtp, "LHLO c.example")
        async with Client(port) as client:
            assert "DSN" in await client.greet(hello)
            if door == "smtp":
                assert code(await client.say(mail)) == wanted
            else:
                assert code(await client.say(mail, "RCPT TO:<b@r.example>", "RCPT TO:<c@r.example>", "DATA")) == "354"
                client.send(b"Subject: x\r\n\r\n" + b"x" * 76 + b"\r\n" + (b"y" * 76 + b"\r\n") * 140 + b".\r\n")
                assert [code(reply) for reply in await client.replies(2)] == [wanted, wanted]
            await client.say("RSET")
            assert code(await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>")) == "250 2.1.5"
    assert not guard.hop.messages


@pytest.mark.parametrize("way", ["lmtp", "smtp step by step", "smtp in one packet"])
async def test_dsn_parameters_of_a_recipient_do_not_go_to_a_next_hop_without_dsn(way: str) -> None:
    """It might say 555, which would pass as the client's own doing: a bounce for a parameter that we offered."""
    mail, rcpt = "MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example> NOTIFY=NEVER"
    async with relay(script=UNASKED, keywords=without("DSN")) as guard:
        await guard.events("next-hop-failed")
        port, hello = (guard.lmtp, "LHLO c.example") if way == "lmtp" else (guard.smtp, "EHLO c.example")
        async with Client(port) as client:
            assert "DSN" in await client.greet(hello)
            if way == "lmtp":
                assert code(await client.say(mail, rcpt, "DATA")) == "354"
                client.send(MESSAGE + b".\r\n")
                assert code(await client.reply()) == "451 4.3.0"
            elif way == "smtp step by step":
                assert code(await client.say(mail)) == "250 2.1.0"
                assert code(await client.say(rcpt)) == "451 4.3.0"
                assert code(await client.say("DATA")) == "451 4.3.0"
            else:
                client.send(f"{mail}\r\n{rcpt}\r\n".encode())
                assert code(await client.reply()) == "451 4.3.0"
                await client.reply()
            await client.say("RSET")
            assert code(await client.say(mail, "RCPT TO:<b@r.example>")) == "250 2.1.5"
    assert not any(b"NOTIFY" in command for command in guard.hop.commands)


async def test_a_mail_refused_with_what_was_pipelined_behind_it_is_no_string_of_bad_commands() -> None:
    """Postfix sends MAIL, up to a thousand RCPT and DATA at once; the session must outlive a refused MAIL."""
    async with relay(listen='max_message_size = "1MiB"') as guard, Client(guard.smtp) as client:
        await client.greet()
        for mail, wanted in (("<a@s.example> SIZE=2000000", "552 5.3.4"), ("<a@s.example", "501 5.1.7")):
            rcpts = b"".join(b"RCPT TO:<r%d@r.example>\r\n" % n for n in range(50))
            client.send(f"MAIL FROM:{mail}\r\n".encode() + rcpts + b"DATA\r\n")
            replies = [code(reply) for reply in await client.replies(52)]
            assert replies == [wanted] + ["503 5.5.1"] * 51
        assert code(await client.say("RSET", "MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>")) == "250 2.1.5"
