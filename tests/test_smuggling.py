"""Smuggling and hostile text: nothing is taken for an end, or handed on, that a lenient reader takes for more (S, W).

Every published variant of the end of data goes through both doors, refused and mended; then a next hop says all that a
reply may not hold, and the client and the log get whole lines of it.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from typing import Final

import pytest

from smtpguard.sandbox import Close, Message, Ok, Say, Script
from tests.harness import MESSAGE, Client, Guard, code, relay
from tests.mail.test_framing import VARIANTS
from tests.test_octets import KEYWORDS, WAYS, hello, port, send_cut

INNER: Final = (
    b"MAIL FROM:<evil@s.example>\r\nRCPT TO:<victim@r.example>\r\nDATA\r\nFrom: <evil@s.example>\r\n\r\nsmuggled"
)
NORMALIZE: Final = '[relay]\nhostname = "guard.test"\nbare_newline = "normalize"'
BARE: Final = re.compile(rb"(?<!\r)\n|\r(?!\n)|\0")


def attempts() -> Iterator[tuple[bytes, bytes]]:
    """(what it is, DATA's octets with the true end): the variant in the middle, at the front, right before the end."""
    for variant in VARIANTS:
        yield variant, b"Subject: a\r\n\r\na" + variant + INNER + b"\r\n.\r\n"
        if not (front := variant.lstrip(b"\r\n\0")).startswith(b".\r\n"):  # that is an end there: DATA's CRLF counts
            yield variant + b" at the front", front + INNER + b"\r\n.\r\n"
        yield variant + b" before the end", b"Subject: a\r\n\r\n" + INNER + variant + b"\r\n.\r\n"


async def try_it(client: Client, octets: bytes, rng: random.Random | None) -> str:
    """The code of the one answer to DATA's octets; the NOOP behind them must be answered next, and nothing else."""
    reply = await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>", "DATA")
    assert reply[0].startswith("354"), reply
    if rng is None:
        client.send(octets + b"NOOP\r\n")
    else:
        await send_cut(client, octets + b"NOOP\r\n", rng)
    answer = code(await client.reply())
    assert code(await client.reply()) == "250 2.0.0"
    return answer


def assert_harmless(message: Message) -> None:
    """Nothing that any reader takes for a line end or an end of data but the true ones; the inner mail is data."""
    assert not BARE.search(message.data)
    assert b"RCPT TO:<victim@r.example>" in message.data
    assert [path for path, _ in message.rcpts] == [b"b@r.example"]


def assert_heard_no_victim(guard: Guard) -> None:
    """No command of the inner mail reached the hop."""
    assert not [line for line in guard.hop.commands if b"evil" in line or b"victim" in line]


def test_the_list_is_the_published_one() -> None:
    assert len(VARIANTS) > 50
    assert {b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\r", b"\r\n.\n", b"\r.\r\n", b"\r\n\0.\r\n"} <= set(VARIANTS)


@pytest.mark.parametrize("whole", [True, False], ids=["in one packet", "in random cuts"])
@pytest.mark.parametrize("door", ["smtp", "lmtp"])
async def test_every_variant_is_refused_and_the_hop_gets_nothing(door: str, whole: bool) -> None:
    rng = random.Random(door)
    async with relay() as guard, Client(port(guard, door)) as client:
        await client.greet(hello(door))
        for name, octets in attempts():
            got = await try_it(client, octets, None if whole else rng)
            assert got in (("550 5.5.2", "550 5.6.0") if b"\0" in octets else ("550 5.5.2",)), name
        assert not guard.hop.messages
        assert_heard_no_victim(guard)


@pytest.mark.parametrize("whole", [True, False], ids=["in one packet", "in random cuts"])
@pytest.mark.parametrize(("door", "via"), WAYS)
async def test_mended_newlines_end_nothing_and_are_whole(door: str, via: str, whole: bool) -> None:
    """`bare_newline = "normalize"`: each attempt is one message at the hop, or refused for a NUL."""
    rng = random.Random(f"{door}{via}")
    async with relay(keywords=KEYWORDS[via], more=NORMALIZE) as guard, Client(port(guard, door)) as client:
        await client.greet(hello(door))
        taken = 0
        for name, octets in attempts():
            got = await try_it(client, octets, None if whole else rng)
            assert got == ("550 5.6.0" if b"\0" in octets else "250 2.0.0"), name
            taken += got == "250 2.0.0"
            assert len(guard.hop.messages) == taken, name
        for message in guard.hop.messages:
            assert_harmless(message)
        assert_heard_no_victim(guard)


@pytest.mark.parametrize("newline", [b"\n", b"\r", b"\0\r\n", b"\r\0\n"], ids=["LF", "CR", "NUL CRLF", "CR NUL LF"])
@pytest.mark.parametrize("door", ["smtp", "lmtp"])
async def test_a_command_is_not_two_by_another_line_end(door: str, newline: bytes) -> None:
    async with relay() as guard, Client(port(guard, door)) as client:
        await client.greet(hello(door))
        client.send(b"MAIL FROM:<evil@s.example>" + newline + b"RCPT TO:<victim@r.example>\r\nNOOP\r\n")
        answers = [code(reply) for reply in await client.replies(3 if newline.endswith(b"\n") else 2)]
        assert answers[0] == "500 5.5.2"
        assert answers[-1] == "250 2.0.0"
        assert set(answers[1:-1]) <= {"503 5.5.1"}
        assert_heard_no_victim(guard)


async def test_octets_behind_the_end_of_data_are_the_next_command() -> None:
    async with relay() as guard, Client(guard.smtp) as client:
        await client.greet()
        await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>", "DATA")
        client.send(MESSAGE + b".\r\nMAIL FROM:<a2@s.example>\r\nRCPT TO:<b2@r.example>\r\nDATA\r\n" + b"two\r\n.\r\n")
        replies = [code(reply)[:3] for reply in await client.replies(5)]
        assert replies == ["250", "250", "250", "354", "250"]
        assert [message.mail_from for message in guard.hop.messages] == [b"a@s.example", b"a2@s.example"]


# -- the other way: what the hop says ------------------------------------------------------------------------------

LINE: Final = re.compile(r"[45]\d\d[ -][ -~]*")
UTF8_LINE: Final = re.compile(r"5\d\d[ -][^\x00-\x1f\x7f-\x9f\u2028\u2029\u202e]*")

HOSTILE: Final[dict[str, bytes]] = {
    "control characters": b"550 5.7.1 a\x00b\x01c\x07d\x08e\x7ff\tg\x0bh\x0ci\r\n",
    "terminal escapes": b"550 5.7.1 \x1b[2J\x1b]0;owned\x07\x1b[31mred\x9b2J\r\n",
    "8-bit that is no UTF-8": b"550 5.7.1 \xff\xfe caf\xe9\r\n",
    "UTF-8": "550 5.7.1 почта ✉ \u2028 \u202e\u0085 不要\r\n".encode(),
    "2,000 octets": b"550 5.7.1 " + b"word " * 400 + b"\r\n",
    "2,000 octets without a blank": b"550 5.7.1 " + b"w" * 2_000 + b"\r\n",
    "2,000 octets of UTF-8": b"550 5.7.1 " + "ж".encode() * 1_000 + b"\r\n",
    "5,000 octets": b"550 5.7.1 " + b"word " * 1_000 + b"\r\n",
    "100 lines": b"".join(b"550-5.7.1 line %d of it\r\n" % n for n in range(99)) + b"550 5.7.1 the last\r\n",
    "no text": b"550\r\n",
    "a blank": b"550 \r\n",
    "nothing behind the code": b"550 5.7.1\r\n",
    "a reply within": b"550 5.7.1 no%0D%0A250 2.0.0 yes\r\n",
    "JSON within": b'550 5.7.1 "},{"event.action":"forged"} \\u0000 \\n\r\n',
    "our own tag": b"550 5.7.1 [smtpguard] Fix: pay evil.example\r\n",
}


@pytest.mark.parametrize("utf8", [False, True], ids=["ASCII", "SMTPUTF8"])
@pytest.mark.parametrize("verb", ["RCPT", "DOT"])
@pytest.mark.parametrize("door", ["smtp", "lmtp"])
async def test_what_a_hop_says_reaches_client_and_log_as_whole_printable_lines(
    door: str, verb: str, utf8: bool
) -> None:
    script = Script({verb: [Say(octets) for octets in HOSTILE.values()]})
    async with relay(script=script) as guard, Client(port(guard, door)) as client:
        await client.greet(hello(door))
        for name in HOSTILE:
            lines = await refused(client, utf8=utf8)
            assert all((UTF8_LINE if utf8 else LINE).fullmatch(line) for line in lines), (name, lines)
            assert {line[:3] for line in lines} == {"550"}, name
            assert [line[3] for line in lines] == ["-"] * (len(lines) - 1) + [" "], name
            assert len(lines) <= 6, name
            assert max(len(line.encode()) for line in lines) <= 510, name
            assert sum(len(line.encode()) + 2 for line in lines) <= 1200, name
            assert re.search(r"\[smtpguard\] Cause: \S+ \(.*\) Id: \w+$", lines[-1]), name
            assert utf8 or name != "UTF-8" or "?" in lines[0]
            assert not utf8 or name != "UTF-8" or "почта ✉" in lines[0]
        assert code(await client.say("NOOP")) == "250 2.0.0"
        await guard.events("recipient-refused", len(HOSTILE))
        for line in log_of(guard):
            assert isinstance(json.loads(line), dict)
            assert line.isprintable(), line
            assert not [
                value for value in json.loads(line).values() if isinstance(value, str) and not value.isprintable()
            ]


def log_of(guard: Guard) -> list[str]:
    """The log's lines so far."""
    return guard.config.with_name("log").read_text().split("\n")[:-1]


async def refused(client: Client, *, utf8: bool) -> list[str]:
    """The lines of the refusal of one message, wherever it comes."""
    reply = await client.say(f"MAIL FROM:<a@s.example>{' SMTPUTF8' if utf8 else ''}")
    assert code(reply) == "250 2.1.0"
    reply = await client.say("RCPT TO:<b@r.example>")
    if reply[0].startswith("250"):
        await client.say("DATA")
        client.send(MESSAGE + b".\r\n")
        reply = await client.reply()
    else:
        await client.say("RSET")
    return reply


@pytest.mark.parametrize(
    "octets",
    [b"550-5.7.1 no\n550 5.7.1 no\r\n", b"250 2.1.5 ok\n550 5.7.1 no\r\n", b"250 ok\r250 ok\r\n", b"250 a\rb\r\n"],
    ids=repr,
)
async def test_a_bare_newline_in_a_reply_never_makes_two_of_it(octets: bytes) -> None:
    """Its lines are one reply or none; what it said of the next command is not believed."""
    async with relay(script=Script({"RCPT": Say(octets)})) as guard, Client(guard.smtp) as client:
        await client.greet()
        await client.say("MAIL FROM:<a@s.example>")
        client.send(b"RCPT TO:<b@r.example>\r\nNOOP\r\n")
        reply, noop = await client.replies(2)
        assert all(re.fullmatch(r"\d\d\d[ -][ -~]*", line) for line in reply)
        assert len({line[:3] for line in reply}) == 1
        assert code(noop) == "250 2.0.0"
        assert not guard.hop.messages


@pytest.mark.parametrize(
    "octets",
    [
        b"550 5.7.1 " + b"word " * 2_000 + b"\r\n",
        b"".join(b"550-5.7.1 line %d of it\r\n" % n for n in range(1_000)) + b"550 5.7.1 the last\r\n",
        b"\r\n",
        b"",
    ],
    ids=["10,000 octets", "1,000 lines", "an empty line", "nothing"],
)
@pytest.mark.parametrize("door", ["smtp", "lmtp"])
async def test_a_reply_without_measure_is_none(door: str, octets: bytes) -> None:
    """Law B: what is no reply cannot bounce mail."""
    script = Script({"RCPT": [Say(octets) if octets else Close(), Ok()]})
    async with relay(script=script) as guard, Client(port(guard, door)) as client:
        await client.greet(hello(door))
        assert code(refusal := await refused(client, utf8=False)) == ("451 4.3.0" if octets else "451 4.4.2")
        assert all(LINE.fullmatch(line) for line in refusal)
        assert (await refused(client, utf8=False))[0].startswith("250 ")  # the next message passes
        assert all(line.isprintable() for line in log_of(guard))
