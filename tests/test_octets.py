"""Octets: what the next hop keeps is what the client sent, under one field of ours (law L, contract 1.3).

Each message goes through both doors and to next hops that take DATA and BDAT, sent in random cuts, kept by the sandbox
in a Maildir. The field itself is held against RFC 5321 4.4, and addresses against what the next hop heard.
"""

from __future__ import annotations

import asyncio
import base64
import email.utils
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import argon2
import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from smtpguard.sandbox import DEFAULT_KEYWORDS, Sandbox
from tests.certs import client_context, self_signed
from tests.harness import MESSAGE, Client, Guard, code, relay

WITHOUT_CHUNKING: Final = tuple(keyword for keyword in DEFAULT_KEYWORDS if keyword != "CHUNKING")
KEYWORDS: Final = {"DATA": WITHOUT_CHUNKING, "BDAT": DEFAULT_KEYWORDS}
WAYS: Final = [(door, via) for door in ("smtp", "lmtp") for via in ("DATA", "BDAT")]
SLOW_HOP: Final = ""  # the default time-outs: 25 MB may take its time on a busy machine
PLAIN: Final = "[relay]\nhostname = 'guard.test'\nreceived_header = false"
PROTOCOLS: Final = {  # RFC 3848, RFC 6531 4.3; by door and SMTPUTF8
    ("smtp", False): b"ESMTP",
    ("smtp", True): b"UTF8SMTP",
    ("lmtp", False): b"LMTP",
    ("lmtp", True): b"UTF8LMTP",
}
HEAD: Final = b"From: <a@s.example>\r\nSubject: octets\r\n\r\n"

# RFC 5321 4.4 Time-stamp-line, as narrow as what we write: one TCP-info, one comment, WITH and ID.
RECEIVED: Final = re.compile(
    rb"Received: from (?P<helo>\S+) \((?:(?P<ip>\[[0-9A-Fa-f.:IPv]+\])|local)\)\r\n"
    rb"\tby (?P<by>\S+) \(smtpguard\) with (?P<with>[A-Z0-9]+) id (?P<id>[0-9A-Z]+);\r\n"
    rb"\t(?P<date>[^\r\n]+)\r\n"
)


class Envelope(NamedTuple):
    """What MAIL and RCPT say, in octets."""

    mail: bytes = b"FROM:<a@s.example>"
    rcpt: bytes = b"TO:<b@r.example>"


ORDINARY: Final = Envelope()
EIGHT_BIT: Final = Envelope(mail=b"FROM:<a@s.example> BODY=8BITMIME")
UTF8: Final = Envelope(
    "FROM:<δοκιμή@παράδειγμα.example> SMTPUTF8 BODY=8BITMIME".encode(), "TO:<квіточка@пошта.example>".encode()
)


def large_message() -> bytes:
    """25 MB, as base64 lines, with a line of dots now and then."""
    lines = base64.encodebytes(random.Random(25).randbytes(18_000_000)).replace(b"\n", b"\r\n")
    message = HEAD + lines.replace(b"\r\nA", b"\r\n.A").replace(b"\r\nB", b"\r\n.\r\n")
    assert len(message) > 24_000_000
    return message + b"." * (25_000_000 - len(message) - 2) + b"\r\n"


MESSAGES: Final[dict[str, tuple[Envelope, bytes]]] = {
    "dots": (
        ORDINARY,
        HEAD + b".\r\n..\r\n.a\r\n...\r\na.\r\n.\r\n\r\n.\r\n. \r\n..\r\n.." + b"." * 70_000 + b"\r\n.\r\n.\r\n",
    ),
    "dot at the very front": (ORDINARY, b".From: a@s.example\r\n.\r\n.\r\n"),
    "8-bit": (EIGHT_BIT, HEAD + bytes(octet for octet in range(1, 256) if octet not in b"\r\n") * 300 + b"\r\n"),
    "SMTPUTF8": (UTF8, "From: Ελένη <δοκιμή@παράδειγμα.example>\r\nSubject: 日本語 ✉\r\n\r\nжёлтый\r\n".encode()),
    "no octet at all": (ORDINARY, b""),
    "empty body": (ORDINARY, HEAD),
    "header without the blank line": (ORDINARY, b"From: <a@s.example>\r\nSubject: no end\r\n"),
    "no header": (ORDINARY, b"\r\nbody alone\r\n"),
    "blank lines": (ORDINARY, b"\r\n" * 5_000),
    "a line of 998 octets": (ORDINARY, HEAD + b"a" * 998 + b"\r\n"),
    "a line of 100,000 octets": (ORDINARY, HEAD + b"b" * 100_000 + b"\r\n." + b"c" * 100_000 + b"\r\n"),
    "blanks and controls": (ORDINARY, HEAD + b" \t \r\n\x01\x07\x08\x0b\x0c\x1b[2J\x7f\r\n"),
    "a Received of others": (ORDINARY, b"Received: from x by y; Mon, 1 Jan 2024 00:00:00 +0000\r\n" + HEAD + b"x\r\n"),
}


def stuffed(message: bytes) -> bytes:
    """As on the wire with the end of data (RFC 5321 4.5.2)."""
    assert not message or message.endswith(b"\r\n")
    return (b"\r\n" + message).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


def cuts(octets: bytes, rng: random.Random) -> Iterator[bytes]:
    """`octets` in pieces of random size: up to some ten octets where there are few, to 256 KiB where there are many."""
    most = max(12, min(1 << 18, len(octets) // 40))
    at = 0
    while at < len(octets):
        size = rng.choice((1, 2, 3, rng.randint(1, most), rng.randint(1, most)))
        yield octets[at : at + size]
        at += size


async def send_cut(client: Client, octets: bytes, rng: random.Random) -> None:
    """Each piece is a packet of its own: the loop turns between them, so that the relay reads it before the next."""
    for piece in cuts(octets, rng):
        client.send(piece)
        await client.writer.drain()
        await asyncio.sleep(0)


async def hand_over(client: Client, envelope: Envelope, message: bytes, rng: random.Random | None = None) -> None:
    """One message of one recipient, taken."""
    reply = await client.say(b"MAIL " + envelope.mail, b"RCPT " + envelope.rcpt, b"DATA")
    assert code(reply)[:3] == "354", reply
    if rng is None:
        client.send(stuffed(message))
    else:
        await send_cut(client, stuffed(message), rng)
    reply = await client.reply()
    assert code(reply) == "250 2.0.0", reply


def hello(door: str) -> str:
    """The greeting of that door's protocol."""
    return f"{'LHLO' if door == 'lmtp' else 'EHLO'} client.example"


def port(guard: Guard, door: str) -> int:
    """Where that door is."""
    return guard.lmtp if door == "lmtp" else guard.smtp


def kept(hop: Sandbox) -> bytes:
    """The octets of the last message in the hop's Maildir."""
    path = hop.messages[-1].path
    assert path is not None
    return path.read_bytes()


def without_ours(octets: bytes) -> tuple[re.Match[bytes], bytes]:
    """Our field, and all behind it."""
    found = RECEIVED.match(octets)
    assert found is not None, octets[:300]
    return found, octets[found.end() :]


# -- messages ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("door", "via"), WAYS)
async def test_what_arrives_is_what_was_sent_under_one_field(door: str, via: str, tmp_path: Path) -> None:
    rng = random.Random(f"{door}{via}")
    hop = Sandbox(maildir=tmp_path, keywords=KEYWORDS[via])
    async with relay(hop=hop, next_hop=SLOW_HOP) as guard, Client(port(guard, door)) as client:
        await client.greet(hello(door))
        for name, (envelope, message) in MESSAGES.items():
            await hand_over(client, envelope, message, rng)
            found, rest = without_ours(kept(hop))
            assert rest == message, name
            assert hop.messages[-1].via == via, name
            assert hop.messages[-1].mail_from == envelope.mail.split(b">")[0][6:], name
            assert [path for path, _ in hop.messages[-1].rcpts] == [envelope.rcpt[4:-1]], name
            assert found["with"] == PROTOCOLS[door, envelope is UTF8], name
        accepted = await guard.events("recipient-accepted", len(MESSAGES))
        assert found["id"].decode() == accepted[-1]["event.id"]


@pytest.mark.parametrize(("door", "via"), WAYS)
async def test_25_mb_arrive_as_sent(door: str, via: str, tmp_path: Path) -> None:
    message = large_message()
    hop = Sandbox(maildir=tmp_path, keywords=KEYWORDS[via])
    async with relay(hop=hop, next_hop=SLOW_HOP) as guard, Client(port(guard, door)) as client:
        await client.greet(hello(door))
        await hand_over(client, ORDINARY, message, random.Random(1))
        assert without_ours(kept(hop))[1] == message
        [accepted] = await guard.events("transaction")
        assert accepted["smtp.size"] == len(message)


@pytest.mark.parametrize(("door", "via"), WAYS)
async def test_without_our_field_nothing_is_added(door: str, via: str, tmp_path: Path) -> None:
    hop = Sandbox(maildir=tmp_path, keywords=KEYWORDS[via])
    async with relay(hop=hop, more=PLAIN) as guard, Client(port(guard, door)) as client:
        await client.greet(hello(door))
        for name, (envelope, message) in MESSAGES.items():
            await hand_over(client, envelope, message)
            assert kept(hop) == message, name


@contextmanager
def session(door: str, via: str = "BDAT", more: str = "") -> Iterator[tuple[asyncio.Runner, Guard, Client]]:
    """One session of a relay, for many examples of hypothesis."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            guard = runner.run(stack.enter_async_context(relay(keywords=KEYWORDS[via], more=more)))
            client = runner.run(stack.enter_async_context(Client(port(guard, door))))
            runner.run(client.greet(hello(door)))
            yield runner, guard, client
        finally:
            runner.run(stack.aclose())


LINES = st.lists(
    st.sampled_from([b"", b".", b"..", b". ", b".a", b"a.", b"\xff\xfe", b"Received: x", b" \t", b"b" * 999])
)


@pytest.mark.parametrize(("door", "via"), WAYS)
def test_random_messages_arrive_as_sent(door: str, via: str) -> None:
    with session(door, via, PLAIN) as (runner, guard, client):

        @settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
        @given(LINES, st.integers(0, 10_000))
        def arrives(lines: list[bytes], seed: int) -> None:
            message = b"".join(line + b"\r\n" for line in lines)
            runner.run(hand_over(client, EIGHT_BIT, message, random.Random(seed)))
            assert guard.hop.messages[-1].data == message

        arrives()


# -- a signature --------------------------------------------------------------------------------------------------


class Signer(NamedTuple):
    """A DKIM key: as dkimpy signs with it, and as DNS shows it."""

    algorithm: bytes
    private: bytes
    record: bytes


def rsa_signer() -> Signer:
    """RFC 6376 3.6.1."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    public = base64.b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return Signer(b"rsa-sha256", pem, b"v=DKIM1; k=rsa; p=" + public)


def ed25519_signer() -> Signer:
    """RFC 8463."""
    pytest.importorskip("nacl", reason="dkimpy signs with Ed25519 by PyNaCl")
    key = ed25519.Ed25519PrivateKey.generate()
    public = base64.b64encode(key.public_key().public_bytes_raw())
    return Signer(b"ed25519-sha256", base64.b64encode(key.private_bytes_raw()), b"v=DKIM1; k=ed25519; p=" + public)


@pytest.mark.parametrize("make", [rsa_signer, ed25519_signer], ids=["RSA", "Ed25519"])
@pytest.mark.parametrize(("door", "via"), WAYS)
async def test_a_dkim_signature_still_verifies(make: Callable[[], Signer], door: str, via: str, tmp_path: Path) -> None:
    signer = make()
    body = (
        b"".join(b"." * (n % 5) + b" text  with \t blanks \xc3\xa9 " + b"\r\n" * (n % 3) for n in range(400)) + b"\r\n"
    )
    letter = b"From: Ann <ann@s.example>\r\nTo: b@r.example\r\nSubject:  two  blanks\r\nDate: x\r\n\r\n" + body
    signature = dkim.sign(
        letter, b"sel", b"s.example", signer.private, signature_algorithm=signer.algorithm,
        canonicalize=(b"simple", b"simple"),
    )  # fmt: skip
    letter = signature + letter

    def dns(name: bytes, timeout: float = 5) -> bytes:
        return signer.record if name == b"sel._domainkey.s.example." else b""

    hop = Sandbox(maildir=tmp_path, keywords=KEYWORDS[via])
    async with relay(hop=hop) as guard, Client(port(guard, door)) as client:
        await client.greet(hello(door))
        await hand_over(client, EIGHT_BIT, letter, random.Random(7))
    assert without_ours(kept(hop))[1] == letter
    verify: Callable[..., bool] = dkim.verify
    assert verify(kept(hop), dnsfunc=dns)
    assert not verify(kept(hop).replace(b"text  with", b"text with", 1), dnsfunc=dns)  # it can fail


# -- our field ----------------------------------------------------------------------------------------------------


async def test_the_received_field_tells_who_how_and_when(tmp_path: Path) -> None:
    cert, key = self_signed(["localhost"], directory=tmp_path)
    password = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("secret")
    listen = (
        f'tls_cert = "{cert}"\ntls_key = "{key}"\nusers_file = "{{dir}}/users"\n'
        'lmtp = ["127.0.0.1:0", "unix:{dir}/lmtp.sock"]'
    )
    async with relay(listen=listen, files={"users": f"ann:{password}\n"}) as guard:
        begin = int(time.time())

        async def trace(where: int | str, greeting: str, *, tls: bool = False, login: bool = False) -> re.Match[bytes]:
            async with Client(where) as client:
                await client.greet(greeting)
                if tls:
                    await client.start_tls(client_context(cert))
                    assert code(await client.say(greeting))[:3] == "250"
                if login:
                    secret = base64.b64encode(b"\0ann\0secret").decode()
                    assert code(await client.say(f"AUTH PLAIN {secret}"))[:3] == "235"
                await hand_over(client, ORDINARY, MESSAGE)
            found, _ = without_ours(guard.hop.messages[-1].data)
            ids = [event["event.id"] for event in await guard.events("transaction", len(guard.hop.messages))]
            assert found["id"].decode() == ids[-1]
            assert found["by"] == b"guard.test"
            moment = email.utils.parsedate_to_datetime(found["date"].decode())
            assert moment.tzinfo is not None
            assert begin <= moment.timestamp() <= time.time()
            return found

        found = await trace(guard.smtp, "EHLO client.example")
        assert (found["helo"], found["ip"], found["with"]) == (b"client.example", b"[127.0.0.1]", b"ESMTP")
        assert (await trace(guard.smtp, "HELO [192.0.2.1]"))["helo"] == b"[192.0.2.1]"
        assert (await trace(guard.smtp, "HELO c.example"))["with"] == b"SMTP"  # RFC 3848
        assert (await trace(guard.smtp, "EHLO c.example", tls=True))["with"] == b"ESMTPS"
        assert (await trace(guard.smtp, "EHLO c.example", tls=True, login=True))["with"] == b"ESMTPSA"
        assert (await trace(guard.lmtp, "LHLO c.example"))["with"] == b"LMTP"
        assert (await trace(guard.lmtp, "LHLO c.example", tls=True, login=True))["with"] == b"LMTPSA"
        # What would begin a comment or another field is not written down
        assert (await trace(guard.smtp, "EHLO c(;by)evil.example"))["helo"] == b"unknown"
        unix = next(where for where in guard.service.addresses["lmtp"] if where.startswith("unix:"))
        found = await trace(unix.removeprefix("unix:"), "LHLO c.example")
        assert (found["ip"], found["with"]) == (None, b"LMTP")


# -- addresses ------------------------------------------------------------------------------------------------------

# The sandbox answers by the local part: "_" in front makes it one that it has no answer for.
ATOMS = st.text("abyz019!#$%&'*+-/=?^_`{|}~.", max_size=20).map(lambda text: b"_" + text.encode())
QUOTED = st.lists(
    st.one_of(
        st.sampled_from([b'\\"', b"\\\\", b"\\>", b"\\@", b"<", b">", b" ", b"@", b",", b":", b".", b"()"]), ATOMS
    ),
    max_size=8,
).map(lambda parts: b'"' + b"".join(parts) + b'"')
WIDE = st.text(st.characters(min_codepoint=0xA0, codec="utf-8"), min_size=1, max_size=12).map(str.encode)
DOMAINS = st.sampled_from(
    [b"r.example", b"R.Example", b"[192.0.2.1]", b"[IPv6:2001:db8::1]", b"-odd-.example.", "пошта.example".encode()]
)
MAILBOXES = st.tuples(st.one_of(ATOMS, QUOTED, WIDE), DOMAINS).map(b"@".join)
ROUTED = MAILBOXES.map(lambda mailbox: b"@one.example,@two.example:" + mailbox)  # RFC 5321 appendix C
LONG = MAILBOXES.map(lambda mailbox: b"x" * 300 + mailbox)
FRAMABLE = st.one_of(MAILBOXES, ROUTED, LONG)
# A control character is no part of any command; all other octets may try
ANY = st.binary(max_size=60).map(lambda octets: re.sub(rb"[\x00-\x1f\x7f]", b"", octets))
PIECES = st.lists(st.sampled_from([b"<", b">", b'"', b"\\", b" ", b"@", b"a", b"SIZE=1", "é".encode()])).map(b"".join)


async def offer(client: Client, door: str, mail_from: bytes, *rcpts: bytes) -> None:
    """A message without an octet from and to these, taken."""
    mail = b"MAIL FROM:<" + mail_from + b"> SMTPUTF8 BODY=8BITMIME"
    reply = await client.say(mail, *(b"RCPT TO:<" + rcpt + b">" for rcpt in rcpts), b"DATA")
    assert code(reply)[:3] == "354", reply
    client.send(b".\r\n")
    for _ in rcpts if door == "lmtp" else [1]:
        assert code(await client.reply()) == "250 2.0.0"


@pytest.mark.parametrize("door", ["smtp", "lmtp"])
def test_addresses_are_passed_on_octet_for_octet(door: str) -> None:
    with session(door) as (runner, guard, client):

        @settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
        @given(FRAMABLE, FRAMABLE, FRAMABLE)
        def passes(mail_from: bytes, one: bytes, two: bytes) -> None:
            runner.run(offer(client, door, mail_from, one, two))
            mail, *rcpts = [line for line in guard.hop.commands if line[:5] in (b"MAIL ", b"RCPT ")][-3:]
            assert mail.startswith(b"MAIL FROM:<" + mail_from + b"> SMTPUTF8 BODY=8BITMIME")
            assert rcpts == [b"RCPT TO:<" + one + b">", b"RCPT TO:<" + two + b">"]

        passes()


def test_any_path_is_passed_on_octet_for_octet_or_refused() -> None:
    """Whatever a client writes between the brackets: the hop hears the same octets, or nothing of it."""
    with session("smtp") as (runner, guard, client):

        @settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
        @given(st.one_of(ANY, PIECES))
        @example(b"a> SIZE=1")
        @example(b"a>\xff")
        def same_or_nothing(path: bytes) -> None:
            assert code(runner.run(client.say(b"MAIL FROM:<a@s.example> SMTPUTF8")))[:3] == "250"
            before = len(guard.hop.commands)
            answer = code(runner.run(client.say(b"RCPT TO:<" + path + b">")))
            new = guard.hop.commands[before:]
            assert code(runner.run(client.say("RSET"))) == "250 2.0.0"
            if answer[:3] in ("501", "555"):
                assert not new or answer.startswith("501 5.1.3"), new  # a null recipient is refused by either
            assert new in ([], [b"RCPT TO:<" + path + b">"])

        same_or_nothing()
