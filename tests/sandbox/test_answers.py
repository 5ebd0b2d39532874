"""Answers by address: what a local part asks for is what is said, at the verb where it belongs."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpguard.mail.reply import Reply
from smtpguard.sandbox import Lifelike, Sandbox, lifelike
from smtpguard.sandbox.answers import wish_of
from tests.talk import Client

REFUSALS = list(lifelike().values())


async def one_transaction(hop: Sandbox, rcpt: str, mail_from: str = "a@example.com") -> list[bytes]:
    """The answers to MAIL, RCPT and the message, as far as it came."""
    async with Client(hop.port) as client:
        await client.greet()
        answers = [await client.ask(f"MAIL FROM:<{mail_from}>")]
        if answers[-1][:3] == b"250":
            answers.append(await client.ask(f"RCPT TO:<{rcpt}>"))
        if answers[-1][:9] == b"250 2.1.5":
            answers.append(await client.message(b"x\r\n"))
        return answers


@pytest.mark.parametrize(
    ("local_part", "refusal"),
    [
        ("550-5.1.1", "550 5.1.1 <{}@example.org>: there is no such user here\r\n"),
        ("452-4.2.2", "452 4.2.2 <{}@example.org>: the mailbox is full\r\n"),
        ("554-5.7.1", "554 5.7.1 <{}@example.org>: refused by policy\r\n"),
        ("571-5.123.456", "571 5.123.456 <{}@example.org>: refused, as the address asks\r\n"),
        ("550-5.1.1+somebody-else.7", "550 5.1.1 <{}@example.org>: there is no such user here\r\n"),
        ("550-5.1.1.17", "550 5.1.1 <{}@example.org>: there is no such user here\r\n"),
    ],
)
async def test_a_code_as_local_part(local_part: str, refusal: str) -> None:
    expected = refusal.format(local_part).encode()
    async with Sandbox() as hop:
        assert (await one_transaction(hop, f"{local_part}@example.org"))[1:] == [expected]
        late = await one_transaction(hop, f"data-{local_part}@example.org")
        assert [late[1], late[2]] == [b"250 2.1.5 Ok\r\n", expected.replace(b"<", b"<data-")]
        assert (await one_transaction(hop, "b@example.org", mail_from=f"{local_part}@example.org")) == [expected]
        assert len(await one_transaction(hop, "b@example.org", mail_from=f"DATA-{local_part}@example.org")) == 3
        assert hop.messages == []


async def test_421_closes() -> None:
    async with Sandbox() as hop, Client(hop.port) as client:
        await client.envelope()
        await client.send(b"RCPT TO:<421-4.7.0@example.org>\r\nNOOP\r\n")
        assert (await client.rest()).count(b"\r\n") == 1


@pytest.mark.parametrize(
    "address",
    [
        "550-4.1.1",
        "550-5.1",
        "250-2.0.0",
        "x550-5.1.1",
        "550-5.1.1x",
        "closed",
        "google",
        "google.",
        "google.nothing",
        "",
    ],
)
async def test_other_addresses_are_taken(address: str) -> None:
    async with Sandbox() as hop:
        assert (await one_transaction(hop, f"{address}@example.org"))[2][:3] == b"250"
        assert (await one_transaction(hop, "postmaster", mail_from=""))[2][:3] == b"250"


@given(st.binary(max_size=40), st.binary(max_size=20))
def test_no_address_is_too_strange(path: bytes, domain: bytes) -> None:
    wish_of(path, domain=domain, slow_s=1)
    wish_of(b"google.dmarc+" + path, domain=domain, slow_s=1)


async def test_one_refused_recipient_leaves_the_others() -> None:
    async with Sandbox() as hop, Client(hop.port) as client:
        await client.envelope("b@example.org", "c@example.org")
        assert (await client.ask("RCPT TO:<550-5.1.1@example.org>"))[:3] == b"550"
        assert (await client.message(b"x\r\n"))[:3] == b"250"
        assert [path for path, _ in hop.messages[0].rcpts] == [b"b@example.org", b"c@example.org"]


async def test_the_first_that_wants_the_last_word_has_it() -> None:
    async with Sandbox() as hop, Client(hop.port) as client:
        await client.envelope("b@example.org", "data-550-5.7.1@example.org", "data-452-4.3.1@example.org")
        assert (await client.message(b"x\r\n"))[:9] == b"550 5.7.1"


@pytest.mark.parametrize("prefix", ["", "data-"])
async def test_close_reset_timeout_garbage_and_slow(prefix: str) -> None:
    async with Sandbox(slow_s=0.2) as hop:
        for word in ("close", "reset", "timeout", "garbage", "slow"):
            async with Client(hop.port) as client:
                await client.envelope()
                began = time.monotonic()
                await client.send(f"RCPT TO:<{prefix}{word}+1@example.org>\r\n".encode())
                if prefix:
                    assert (await client.reply())[:9] == b"250 2.1.5"
                    await client.send(b"BDAT 3 LAST\r\nx\r\n")
                match word:
                    case "close":
                        assert await client.rest() == b""
                    case "reset":
                        with pytest.raises(ConnectionResetError):
                            await client.rest()
                    case "timeout":
                        with pytest.raises(TimeoutError):
                            async with asyncio.timeout(0.05):
                                await client.reader.read(1)
                    case "garbage":
                        with pytest.raises(ValueError, match="invalid literal"):
                            int((await client.line())[:3])
                    case _:
                        assert (await client.reply())[:3] == b"250"
                        assert time.monotonic() - began >= 0.18
        assert hop.accepted == (1 if prefix else 0)  # slow@ is an acceptance, in the end


async def test_the_same_words_at_mail() -> None:
    async with Sandbox() as hop, Client(hop.port) as client:
        await client.greet()
        await client.send(b"MAIL FROM:<close@example.com>\r\n")
        assert await client.rest() == b""


# -- lifelike


def test_there_are_about_fifteen_of_several_providers() -> None:
    names = {refusal.name for refusal in REFUSALS}
    assert names == set(lifelike())
    assert {
        "google.dmarc",
        "google.spam",
        "google.unknown",
        "google.rate",
        "microsoft.ip_listed",
        "microsoft.unknown",
        "microsoft.auth",
        "yahoo.dmarc",
        "yahoo.rate",
    } <= names
    lifelike().clear()
    assert lifelike()


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name)
async def test_a_lifelike_refusal_is_a_reply_at_its_verb(refusal: Lifelike) -> None:
    async with Sandbox() as hop:
        answers = await one_transaction(hop, f"{refusal.name}+7@example.org", mail_from="a@sender.test")
        assert len(answers) == {"RCPT": 2, "DOT": 3}[refusal.verb]
        text = refusal.text.replace("{domain}", "sender.test").replace("{rcpt}", f"{refusal.name}+7@example.org")
        assert answers[-1] == text.replace("\n", "\r\n").encode() + b"\r\n"
        assert all(len(line) <= 510 for line in text.encode().splitlines())
        reply = Reply.of(text)
        assert reply.klass in (4, 5)
        assert reply.enhanced is None or reply.enhanced.klass == reply.klass
        assert len(await one_transaction(hop, f"data-{refusal.name}.3.4@example.org")) == 3
        assert hop.messages == []
