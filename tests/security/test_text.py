"""Whatever octets come in, from either side: the log is whole JSON lines without control characters, and pages of
metrics have no more series than before."""

from __future__ import annotations

import json
import random
import re
from typing import Final

import pytest

from smtpguard.sandbox import Say, Script
from tests.fuzz.words import WORDS
from tests.harness import MESSAGE, Client, Guard, code, relay

ROUNDS: Final = 200


def log_of(guard: Guard) -> list[str]:
    """Its lines so far."""
    return guard.config.with_name("log").read_text().split("\n")[:-1]


def assert_harmless(guard: Guard) -> None:
    """Each line one JSON object, nothing in it that moves a cursor or hides text."""
    lines = log_of(guard)
    assert lines
    for line in lines:
        assert line.isprintable(), line
        values = json.loads(line)
        assert all(value.isprintable() for value in values.values() if isinstance(value, str)), line
        assert len(line) < 65_536


@pytest.mark.parametrize("door", ["smtp", "lmtp"])
async def test_any_octets_in_commands_and_data(door: str) -> None:
    """Sessions of nonsense: each reply is whole, the log is whole, and the next session is served as ever."""
    rng = random.Random(door)
    words = [*WORDS["mail"], *WORDS["data"], b"MAIL ", b"RCPT ", b"DATA\r\n", b"RSET\r\n", b"XFORWARD ", b"AUTH PLAIN "]
    words += [b"MAIL FROM:<a@s.example>\r\n", b"RCPT TO:<b@r.example>\r\n", b"\r\n", b"BDAT 5\r\n", b"STARTTLS\r\n"]
    async with relay() as guard:
        port = guard.smtp if door == "smtp" else guard.lmtp
        for _ in range(ROUNDS):
            async with Client(port) as client:
                await client.greet("EHLO c.example" if door == "smtp" else "LHLO c.example")
                client.send(b"".join(rng.choices(words, k=rng.randrange(1, 40))))
                client.writer.write_eof()
                while line := await client.line():
                    assert re.fullmatch(r"[2-5]\d\d[ -][ -~]*", line), line
                    assert len(line) <= 510
        async with Client(port) as client:
            await client.greet("EHLO c.example" if door == "smtp" else "LHLO c.example")
            await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>", "DATA")
            client.send(MESSAGE + b".\r\n")
            assert code(await client.reply()) == "250 2.0.0"
        assert_harmless(guard)
        assert not [line for line in log_of(guard) if '"session-failed"' in line]


async def test_any_octets_in_a_next_hops_replies() -> None:
    rng = random.Random(7)
    words = [word for word in WORDS["reply"] if b"\n" not in word]
    said = [b"550 5.7.1 " + b"".join(rng.choices(words, k=rng.randrange(30))) + b"\r\n" for _ in range(ROUNDS)]
    async with relay(script=Script({"RCPT": [Say(octets) for octets in said]})) as guard, Client(guard.smtp) as client:
        await client.greet()
        for _ in said:
            await client.say("MAIL FROM:<a@s.example>")
            reply = await client.say("RCPT TO:<b@r.example>")
            assert all(re.fullmatch(r"[45]\d\d[ -][ -~]*", line) for line in reply), reply
            await client.say("RSET")
        await guard.events("recipient-refused", ROUNDS)
        assert_harmless(guard)


async def test_ten_thousand_domains_and_codes_make_no_more_series() -> None:
    """Every refusal has a code, an enhanced code, a sender and a recipient of its own."""
    rng = random.Random(3)
    codes = [
        f"{rng.choice((450, 451, 452, 550, 552, 554, rng.randrange(400, 600)))} "
        f"{rng.choice('45')}.{rng.randrange(1000)}.{rng.randrange(1000)} {rng.randbytes(4).hex()}"
        for _ in range(2_000)
    ]
    async with relay(script=Script({"RCPT": [Say(text) for text in codes]})) as guard, Client(guard.smtp) as client:
        await client.greet()
        counts = []
        for number in range(0, 10_000, 50):
            client.send(b"MAIL FROM:<a@%b.example>\r\n" % rng.randbytes(8).hex().encode())
            client.send(b"".join(b"RCPT TO:<b@%b.example>\r\n" % rng.randbytes(8).hex().encode() for _ in range(50)))
            client.send(b"RSET\r\n")
            await client.replies(52)
            if number in (5_000, 9_950):
                counts.append(len(_series(guard)))
        assert counts[0] == counts[1] < 1_500
        assert not [series for series in _series(guard) if "example" in series]


def _series(guard: Guard) -> set[str]:
    """Names and labels of all series."""
    text = guard.service.metrics.exposition("")[0].decode()
    return {line.rpartition(" ")[0] for line in text.splitlines() if line and line[0] != "#"}
