"""STARTTLS and AUTH at the doors, and the hashes behind them (contract 1.2, 1.3; RFC 3207, RFC 4954)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from smtpguard.edge import auth
from smtpguard.edge.auth import AuthRefused, Users, verify
from tests.certs import client_context, self_signed
from tests.edge.waiting import all_ended
from tests.harness import MESSAGE, Client, Guard, code, relay


def scrypt(password: bytes, *, cost: int = 4, block: int = 8) -> str:
    """A stored hash."""
    salt = b"0123456789abcdef"
    made = hashlib.scrypt(password, salt=salt, n=1 << cost, r=block, p=1, maxmem=1 << 30, dklen=32)
    return f"$scrypt$ln={cost},r={block},p=1${encoded(salt).rstrip('=')}${encoded(made).rstrip('=')}"


def encoded(octets: bytes) -> str:
    """Base64."""
    return base64.b64encode(octets).decode()


def plain(name: str, password: str) -> str:
    """The initial response of AUTH PLAIN."""
    return encoded(f"\0{name}\0{password}".encode())


ARGON2 = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(b"sesame")
USERS = f"# who may log in\nann:{scrypt(b'sesame')}\nbob:{ARGON2}\n"


@pytest.fixture(autouse=True)
def _no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a failure costs is proven once, below."""
    monkeypatch.setattr(auth, "MAX_DELAY_S", 0.0)


@pytest.fixture(autouse=True)
def _no_complaints(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What asyncio says of an exception that nobody took, or of a transport that broke, is a fault of ours."""
    yield
    complaints = [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.WARNING]
    assert not complaints


@asynccontextmanager
async def guarded(
    tmp_path: Path, listen: str = 'allow = ["192.0.2.0/24"]'
) -> AsyncIterator[tuple[Guard, Client, ssl.SSLContext]]:
    """A relay for strangers who log in, a client that was greeted, and the client's TLS context."""
    cert, key = self_signed(["localhost"], directory=tmp_path)
    tls = f'tls_cert = "{cert}"\ntls_key = "{key}"\nusers_file = "{{dir}}/users"\n{listen}'
    async with relay(listen=tls, files={"users": USERS}) as guard, Client(guard.smtp) as client:
        await client.greet()
        yield guard, client, client_context(cert)


async def test_a_stranger_logs_in_and_sends(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (guard, client, context):
        assert code(await client.say("MAIL FROM:<a@s.example>")) == "530 5.7.0"
        assert code(await client.say("RCPT TO:<b@r.example>")) == "503 5.5.1"
        await client.start_tls(context)
        await client.say("EHLO client.example")
        assert code(await client.say("MAIL FROM:<a@s.example>")) == "530 5.7.0"
        assert code(await client.say(f"AUTH PLAIN {plain('ann', 'sesame')}")) == "235 2.7.0"
        assert code(await client.say(f"AUTH PLAIN {plain('ann', 'sesame')}")) == "503 5.5.1"
        await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>", "DATA")
        client.send(MESSAGE + b".\r\n")
        assert code(await client.reply()) == "250 2.0.0"
        assert b" with ESMTPSA id " in guard.hop.messages[0].data


@pytest.mark.parametrize("user", ["ann", "bob"], ids=["scrypt", "argon2"])
@pytest.mark.parametrize(
    "dialogue",
    [
        ("AUTH PLAIN {plain}",),
        ("auth plain {plain}",),
        ("AUTH PLAIN", "{plain}"),
        ("AUTH LOGIN", "{name}", "{password}"),
        ("AUTH LOGIN {name}", "{password}"),
    ],
    ids=["initial", "lower-case", "challenged", "login", "login-initial"],
)
async def test_ways_to_log_in(user: str, dialogue: tuple[str, ...], tmp_path: Path) -> None:
    words = {"plain": plain(user, "sesame"), "name": encoded(user.encode()), "password": encoded(b"sesame")}
    async with guarded(tmp_path) as (_, client, context):
        await client.start_tls(context)
        await client.say("EHLO client.example")
        for line in dialogue[:-1]:
            assert (await client.say(line.format(**words)))[0].startswith("334 ")
        assert code(await client.say(dialogue[-1].format(**words))) == "235 2.7.0"


@pytest.mark.parametrize(
    ("dialogue", "wanted"),
    [
        (("AUTH PLAIN", "*"), "501 5.7.0"),
        (("AUTH LOGIN", "*"), "501 5.7.0"),
        (("AUTH LOGIN", "YW5u", "*"), "501 5.7.0"),
        (("AUTH PLAIN", "not base64!"), "501 5.5.2"),
        (("AUTH LOGIN", "YW5u", "="), "501 5.5.2"),
        (("AUTH PLAIN not_base64",), "501 5.5.2"),
        (("AUTH PLAIN YW5u",), "501 5.5.2"),
        (("AUTH PLAIN =",), "501 5.5.2"),
        (("AUTH PLAIN", ""), "501 5.5.2"),
        (("AUTH PLAIN \u00e4",), "501 5.5.2"),
        (("AUTH PLAIN", "x" * 5000), "500 5.5.6"),
        (("AUTH CRAM-MD5",), "504 5.5.4"),
        (("AUTH",), "504 5.5.4"),
        (("AUTH LOGIN", "YW5u", ""), "535 5.7.8"),
        (("AUTH LOGIN", "/////w==", "c2VzYW1l"), "535 5.7.8"),
        ((f"AUTH PLAIN {plain('nobody', 'sesame')}",), "535 5.7.8"),
        ((f"AUTH PLAIN {plain('ann', 'wrong')}",), "535 5.7.8"),
    ],
)
async def test_a_failed_login_gets_one_answer(dialogue: tuple[str, ...], wanted: str, tmp_path: Path) -> None:
    async with guarded(tmp_path) as (_, client, context):
        await client.start_tls(context)
        await client.say("EHLO client.example")
        for line in dialogue[:-1]:
            assert (await client.say(line))[0].startswith("334 ")
        assert code(await client.say(dialogue[-1])) == wanted
        assert code(await client.say("NOOP")) == "250 2.0.0"
        assert code(await client.say("MAIL FROM:<a@s.example>")) == "530 5.7.0"


async def test_three_wrong_passwords_end_the_session(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (guard, client, context):
        await client.start_tls(context)
        await client.say("EHLO client.example")
        for wanted in ("535 5.7.8", "535 5.7.8", "421 4.7.0"):
            assert code(await client.say(f"AUTH PLAIN {plain('ann', 'guess')}")) == wanted
        assert await client.ended()
        [event] = await guard.events("session-refused")
        assert event["smtp.reply.code"] == 421
        assert "guess" not in str(event)


async def test_no_password_in_clear(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (_, client, _):
        assert code(await client.say(f"AUTH PLAIN {plain('ann', 'sesame')}")) == "538 5.7.11"
        assert code(await client.say("MAIL FROM:<a@s.example>")) == "530 5.7.0"


async def test_auth_needs_ehlo_and_no_transaction(tmp_path: Path) -> None:
    async with guarded(tmp_path, "") as (_, client, context):
        await client.start_tls(context)
        assert code(await client.say(f"AUTH PLAIN {plain('ann', 'sesame')}")) == "503 5.5.1"
        await client.say("EHLO client.example", "MAIL FROM:<a@s.example>")
        assert code(await client.say(f"AUTH PLAIN {plain('ann', 'sesame')}")) == "503 5.5.1"


async def test_a_client_that_leaves_within_the_dialogue(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (guard, client, context):
        await client.start_tls(context)
        await client.say("EHLO client.example")
        await client.say("AUTH LOGIN")
        client.writer.transport.abort()
        async with Client(guard.smtp) as second:
            await second.greet()
        assert not await guard.events("session-failed", 0)


# -- STARTTLS -------------------------------------------------------------------------------------------------------


async def test_starttls_begins_anew(tmp_path: Path) -> None:
    async with guarded(tmp_path, "") as (guard, client, context):
        assert code(await client.say("STARTTLS now")) == "501 5.5.4"
        assert code(await client.say("MAIL FROM:<clear@s.example>", "RCPT TO:<b@r.example>")) == "250 2.1.5"
        await client.start_tls(context)
        assert code(await client.say("DATA")) == "503 5.5.1"
        assert code(await client.say("MAIL FROM:<a@s.example>")) == "503 5.5.1"  # RFC 3207 4.2: EHLO again
        await client.say("EHLO client.example")
        assert code(await client.say("STARTTLS")) == "503 5.5.1"
        await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>", "DATA")
        client.send(b"Subject: x\r\n\r\n" + b"0123456789" * 7 + b"\r\n" * 200_000 + b".\r\n")
        assert code(await client.reply()) == "250 2.0.0"
        [message] = guard.hop.messages
        assert message.mail_from == b"a@s.example"
        assert b" with ESMTPS id " in message.data
        assert code(await client.say("QUIT")) == "221 2.0.0"
        assert await client.ended()


async def test_what_was_sent_in_clear_behind_starttls_is_forgotten(tmp_path: Path) -> None:
    """CVE-2011-0411 and kin."""
    async with guarded(tmp_path, "") as (guard, client, context):
        client.send(b"STARTTLS\r\nRSET\r\nMAIL FROM:<evil@s.example>\r\n")
        assert code(await client.reply()) == "220"
        await client.writer.start_tls(context, server_hostname="localhost")
        assert code(await client.say("NOOP")) == "250 2.0.0"
        assert code(await client.say("EHLO client.example", "RCPT TO:<b@r.example>")) == "503 5.5.1"
        assert not [line for line in guard.hop.commands if b"evil" in line]


@pytest.mark.parametrize("garbage", [b"QUIT\r\n", b"\0" * 64, b"\x16\x03\x01\xff\xff" + b"x" * 9000, b"\x80"])
async def test_a_handshake_of_garbage(garbage: bytes, tmp_path: Path) -> None:
    async with guarded(tmp_path, "") as (guard, client, _):
        await client.say("STARTTLS")
        client.send(garbage)
        client.writer.write_eof()
        assert await client.ended()
        await all_ended(guard)
        assert guard.sample("sessions_total", door="smtp", result="tls_failed") == 1
        assert not await guard.events("session-failed", 0)
        async with Client(guard.smtp) as second:
            assert await second.greet()


async def test_a_client_that_resets_within_the_handshake(tmp_path: Path) -> None:
    async with guarded(tmp_path, "") as (guard, client, _):
        await client.say("STARTTLS")
        client.send(b"\x16\x03\x01\x00\x10")
        client.writer.transport.abort()
        await all_ended(guard)
        assert not await guard.events("session-failed", 0)


async def test_a_handshake_that_never_comes_is_idle(tmp_path: Path) -> None:
    async with guarded(tmp_path, 'idle_timeout = "1s"') as (guard, client, _):
        await client.say("STARTTLS")
        assert await client.ended()
        await all_ended(guard)


# -- hashes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "password", "wanted"),
    [
        (scrypt(b"sesame"), b"sesame", True),
        (scrypt(b"sesame"), b"Sesame", False),
        (scrypt(b"sesame").replace("+", "."), b"sesame", True),
        (scrypt(b"sesame", cost=18), b"sesame", True),
        (ARGON2, b"sesame", True),
        (ARGON2, b"", False),
        ("$scrypt$ln=99,r=8,p=1$YWJj$YWJj", b"", False),
        ("$scrypt$ln=4,r=0,p=1$YWJj$YWJj", b"", False),
        ("$scrypt$ln=4,r=8,p=1$a$b", b"", False),
        ("$argon2id$v=19$m=8,t=1,p=1$x$y", b"", False),
        ("sesame", b"sesame", False),
        ("", b"", False),
    ],
    ids=[
        "scrypt",
        "scrypt, another password",
        "scrypt, passlib's base64",
        "scrypt, costly",
        "argon2",
        "argon2, no password",
        "ln too large",
        "r = 0",
        "no base64",
        "argon2 of nonsense",
        "clear text",
        "nothing",
    ],  # the hashes are salted: without names, two runs would collect different tests
)
def test_verify(stored: str, password: bytes, wanted: bool) -> None:
    assert verify(stored, password) is wanted


async def test_failures_from_one_address_cost_ever_more_and_a_success_forgets_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(auth, "MAX_DELAY_S", 8.0)
    users = Users({"ann": "{SCRYPT}" + scrypt(b"sesame")})
    slept: list[float] = []
    sleep = asyncio.sleep

    async def count(delay: float) -> None:
        slept.append(delay)
        await sleep(0)

    monkeypatch.setattr("smtpguard.edge.auth.asyncio.sleep", count)
    try:
        for _ in range(7):
            assert not await users.check("ann", b"wrong", "192.0.2.7")
        assert slept == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
        assert not await users.check("nobody", b"sesame", "192.0.2.8")
        assert slept[-1] == 0.25
        assert await users.check("ann", b"sesame", "192.0.2.7")
        assert not await users.check("ann", b"wrong", "192.0.2.7")
        assert slept[-1] == 0.25
        slept.clear()
        for _ in range(1100):  # 2 ** 1024 would be no float any more
            await users.check("ann", b"wrong", "192.0.2.9")
        assert max(slept) == 8.0
    finally:
        users.close()


async def test_the_dialogue_gives_octets_as_they_are() -> None:
    async def challenge(_: bytes) -> bytes:
        return base64.b64encode(b"p\xe4ss")

    assert await auth.dialogue(b"LOGIN " + base64.b64encode("\u00e4nn".encode()), challenge) == ("\u00e4nn", b"p\xe4ss")
    with pytest.raises(AuthRefused):
        await auth.dialogue(b"PLAIN " + base64.b64encode(b"\0a\0b\0c"), challenge)
