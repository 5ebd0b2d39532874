"""Every reply path: what a next hop does at each verb, on both doors, and what the MTA gets, the log and the metrics.

The table is the contract's section 1.4 in short: (verb, what the next hop does there) -> the code at the command where
the SMTP door's client sees it, and the code the LMTP door's client gets at the dot.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import pytest

from smtpguard.sandbox import DEFAULT_KEYWORDS, Action, Close, Garbage, Hang, Mixed, Ok, Reset, Say, Script, Surplus
from tests.harness import MESSAGE, PATIENT, QUICK, Client, Guard, code, relay

GOOD, DEFERRED, REJECTED, GOODBYE = "good", "4xx", "5xx", "421"
GARBAGE, NOTHING, CLOSE, RESET, MIXED, SURPLUS, SEQUENCE = (
    "garbage",
    "nothing",
    "close",
    "reset",
    "mixed",
    "surplus",
    "503",
)

ACTIONS: dict[str, Action] = {
    GOOD: Ok(),
    DEFERRED: Say("450 4.7.1 try again later"),
    REJECTED: Say("550 5.7.1 we do not want it"),
    GOODBYE: Say("421 4.3.2 closing down"),
    GARBAGE: Garbage(),
    NOTHING: Hang(),
    CLOSE: Close(),
    RESET: Reset(),
    MIXED: Mixed(),
    SURPLUS: Surplus("250 2.0.0 and one more"),
    SEQUENCE: Say("503 5.5.1 bad sequence of commands"),
}

# At these verbs a refusal is the set-up's fault: any 5xx becomes 451 (contract 1.4)
CONNECT_ROW = {
    DEFERRED: "450 4.7.1",
    REJECTED: "451 4.7.1",
    GOODBYE: "451 4.3.2",
    GARBAGE: "451 4.3.0",
    NOTHING: "451 4.4.1",
    CLOSE: "451 4.4.2",
    RESET: "451 4.4.2",
    MIXED: "451 4.3.0",
}
EHLO_ROW = {**CONNECT_ROW, DEFERRED: "451 4.7.1", NOTHING: "451 4.4.2"}
# At these it is about the mail: it passes as it is, but 421 and what is no refusal of this mail
MAIL_ROW = {
    DEFERRED: "450 4.7.1",
    REJECTED: "550 5.7.1",
    GOODBYE: "451 4.3.2",
    SEQUENCE: "451 4.5.1",
    GARBAGE: "451 4.3.0",
    NOTHING: "451 4.4.2",
    CLOSE: "451 4.4.2",
    RESET: "451 4.4.2",
    MIXED: "451 4.3.0",
}
DOT_ROW = {**MAIL_ROW, GOOD: "250 2.0.0", SEQUENCE: "503 5.5.1"}
ROWS: dict[str, dict[str, str]] = {
    "CONNECT": CONNECT_ROW,
    "EHLO": EHLO_ROW,
    "MAIL": MAIL_ROW,
    "RCPT": MAIL_ROW,
    "DATA": MAIL_ROW,
    "BDAT": {**MAIL_ROW, GOOD: "250 2.0.0"},
    "DOT": DOT_ROW,
}
TABLE = [(verb, does, wanted) for verb, row in ROWS.items() for does, wanted in row.items()]

# The command at which the SMTP door's client sees it
SEEN_AT = {
    "CONNECT": "MAIL",
    "EHLO": "MAIL",
    "MAIL": "MAIL",
    "RCPT": "RCPT",
    "DATA": "DOT",
    "BDAT": "DOT",
    "DOT": "DOT",
}
WITHOUT_CHUNKING = tuple(keyword for keyword in DEFAULT_KEYWORDS if keyword != "CHUNKING")


def script_for(verb: str, does: str) -> Script:
    """BDAT LAST is answered at the end of data."""
    return Script({"DOT" if verb == "BDAT" else verb: ACTIONS[does]})


def keywords_for(verb: str) -> tuple[str, ...]:
    """BDAT where that is the verb, else DATA."""
    return DEFAULT_KEYWORDS if verb == "BDAT" else WITHOUT_CHUNKING


def relay_before(verb: str, does: str) -> AbstractAsyncContextManager[Guard]:
    """A relay before a next hop that does this at this verb."""
    timeouts = QUICK if does == "nothing" else PATIENT
    return relay(script=script_for(verb, does), keywords=keywords_for(verb), next_hop=timeouts)


async def send_one(client: Client, *, hello: str) -> tuple[str, str]:
    """One message to one recipient, command by command: where it ended (MAIL, RCPT, DATA, DOT) and how."""
    await client.greet(hello)
    for command in ("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>", "DATA"):
        reply = await client.say(command)
        if reply[-1][0] in "45":
            return command.split()[0], code(reply)
    client.send(MESSAGE + b".\r\n")
    return "DOT", code(await client.reply())


async def assert_told(guard: Guard, wanted: str, verb: str, does: str) -> None:
    """Log, metrics: one refusal, or one acceptance, of the same kind as what the client saw."""
    [transaction] = await guard.events("transaction")
    door = {"smtp": "smtp", "lmtp": "lmtp"}
    accepted = wanted.startswith("250")
    got = "accepted" if accepted else "deferred" if wanted[0] == "4" else "rejected"
    assert sum(guard.sample("recipients_total", outcome=other) for other in ("accepted", "deferred", "rejected")) == (
        guard.sample("recipients_total", outcome=got)
    )
    assert sum(guard.sample("transactions_total", door=name, outcome="accepted") for name in door) == accepted
    if accepted:
        [line] = await guard.events("recipient-accepted")
        assert line["smtp.rcpt_to"] == "b@r.example"
        return
    [line] = await guard.events("recipient-refused")
    assert line["event.id"] == transaction["event.id"]
    assert int(wanted[:3]) in (line.get("smtpguard.answer"), line.get("smtp.reply.code"))
    assert line["smtpguard.category"]
    assert line["smtpguard.fix"]
    source = "next_hop" if does in (DEFERRED, REJECTED, GOODBYE, SEQUENCE) else "internal"
    assert line["smtpguard.source"] == source
    said = 5 if does in (REJECTED, SEQUENCE) else 4
    assert guard.sample("refusals_by_source_total", source=source, **{"class": str(said)}) == 1


@pytest.mark.parametrize(("verb", "does", "wanted"), TABLE, ids=[f"{verb}-{does}" for verb, does, _ in TABLE])
async def test_smtp_door(verb: str, does: str, wanted: str) -> None:
    async with relay_before(verb, does) as guard:
        async with Client(guard.smtp) as client:
            where, got = await send_one(client, hello="EHLO client.example")
        assert (where, got) == (SEEN_AT[verb], wanted)
        await assert_told(guard, wanted, verb, does)


@pytest.mark.parametrize(("verb", "does", "wanted"), TABLE, ids=[f"{verb}-{does}" for verb, does, _ in TABLE])
async def test_lmtp_door(verb: str, does: str, wanted: str) -> None:
    async with relay_before(verb, does) as guard:
        async with Client(guard.lmtp) as client:
            where, got = await send_one(client, hello="LHLO client.example")
        assert (where, got) == ("DOT", wanted)
        await assert_told(guard, wanted, verb, does)


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DOT"])
async def test_a_surplus_reply_is_never_the_answer_to_the_next_command(verb: str) -> None:
    """The reply itself may count; whatever follows on that connection may not."""
    script = Script({verb: [ACTIONS[SURPLUS], Ok()], "DATA": Say("550 5.7.1 no")})
    async with relay(script=script, keywords=WITHOUT_CHUNKING) as guard, Client(guard.smtp) as client:
        _, got = await send_one(client, hello="EHLO client.example")
        assert got[0] in "45"
        assert not guard.hop.messages


async def test_a_reply_too_many_makes_no_refusal() -> None:
    """It stands where the third recipient's answer should be: nobody knows who was refused, so nobody is."""
    answers: list[Action] = [Ok(), Say(b"250 2.1.5 fine\r\n550 5.1.1 no such user\r\n"), Ok()]
    async with relay(script=Script({"RCPT": answers})) as guard, Client(guard.lmtp) as client:
        await client.greet("LHLO client.example")
        rcpts = ("RCPT TO:<b@r.example>", "RCPT TO:<c@r.example>", "RCPT TO:<d@r.example>")
        assert (await client.say("MAIL FROM:<a@s.example>", *rcpts, "DATA"))[0].startswith("354")
        client.send(MESSAGE + b".\r\n")
        assert [code(reply) for reply in await client.replies(3)] == ["451 4.3.0"] * 3
        assert not guard.hop.messages


@pytest.mark.parametrize(
    ("verb", "says", "wanted"),
    [
        ("MAIL", b"550 5.1.0 no\r\n250 2.1.0 fine\r\n", "451 4.3.0"),
        ("RCPT", b"550 5.1.1 no such user\r\nwhat?\r\n", "451 4.3.0"),
        ("DATA", b"550 5.1.1 no such user\r\n354 go\r\n", "451 4.3.0"),
        ("DOT", b"550 5.1.1 no such user\r\n250 2.0.0 queued\r\n", "451 4.3.0"),
        ("DOT", b"550 5.7.1 no\r\n221 2.0.0 bye\r\n", "550 5.7.1"),  # a goodbye answers nothing
        ("DOT", b"550 5.7.1 no\r\n421 4.3.2 bye\r\n", "550 5.7.1"),
    ],
)
async def test_what_is_no_answer_leaves_no_refusal_beside_it(verb: str, says: bytes, wanted: str) -> None:
    script = Script({verb: Say(says)})
    async with relay(script=script, keywords=WITHOUT_CHUNKING) as guard, Client(guard.smtp) as client:
        _, got = await send_one(client, hello="EHLO client.example")
        assert got == wanted


async def test_a_dead_transaction_stays_dead_until_it_is_reset() -> None:
    async with relay(script=Script({"RCPT": [Ok(), Close(), Ok()]})) as guard, Client(guard.smtp) as client:
        await client.greet()
        assert code(await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<one@r.example>")) == "250 2.1.5"
        assert code(await client.say("RCPT TO:<two@r.example>")) == "451 4.4.2"
        assert code(await client.say("RCPT TO:<three@r.example>")) == "451 4.4.2"
        for _ in range(3):
            assert code(await client.say("DATA")) == "451 4.4.2"
            assert code(await client.say("MAIL FROM:<a@s.example>")) == "451 4.4.2"
        assert code(await client.say("RSET")) == "250 2.0.0"
        await guard.events("transaction")
        told = await guard.events("recipient-refused")
        assert [event["smtp.verb"] for event in told] == ["RCPT", "RCPT", "DATA", "MAIL"]
        reply = await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<one@r.example>", "DATA")
        assert reply[-1].startswith("354")
        client.send(MESSAGE + b".\r\n")
        assert code(await client.reply()) == "250 2.0.0"
        assert len(guard.hop.messages) == 1


async def test_commands_in_one_packet_are_answered_in_order() -> None:
    async with relay() as guard, Client(guard.smtp) as client:
        await client.greet()
        client.send(
            b"MAIL FROM:<a@s.example>\r\nRCPT TO:<b@r.example>\r\nRCPT TO:<x y>\r\n"
            b"RCPT TO:<550-5.1.1@r.example>\r\nRCPT TO:<c@r.example>\r\nDATA\r\n"
        )
        replies = await client.replies(6)
        assert [code(reply) for reply in replies[:5]] == [
            "250 2.1.0",
            "250 2.1.5",
            "501 5.1.3",
            "550 5.1.1",
            "250 2.1.5",
        ]
        assert replies[5][0].startswith("354")
        client.send(MESSAGE + b".\r\nNOOP\r\nQUIT\r\n")
        assert [code(reply)[:3] for reply in await client.replies(3)] == ["250", "250", "221"]
        assert await client.ended()
        [message] = guard.hop.messages
        assert [path for path, _ in message.rcpts] == [b"b@r.example", b"c@r.example"]


async def test_lmtp_answers_each_recipient_in_order() -> None:
    async with relay() as guard, Client(guard.lmtp) as client:
        await client.greet("LHLO client.example")
        rcpts = ["b@r.example", "550-5.1.1@r.example", "452-4.2.2@r.example", "c@r.example"]
        assert (await client.say("MAIL FROM:<>", *(f"RCPT TO:<{rcpt}>" for rcpt in rcpts), "DATA"))[0].startswith("354")
        client.send(MESSAGE + b".\r\n")
        assert [code(reply) for reply in await client.replies(4)] == [
            "250 2.0.0",
            "550 5.1.1",
            "452 4.2.2",
            "250 2.0.0",
        ]
        [message] = guard.hop.messages
        assert message.mail_from == b""
        [transaction] = await guard.events("transaction")
        assert (transaction["smtp.rcpt.accepted"], transaction["smtp.rcpt.refused"]) == (2, 2)
        assert guard.sample("transactions_total", door="lmtp", outcome="partial") == 1


async def test_a_refusal_reads_as_the_contract_says() -> None:
    async with relay() as guard, Client(guard.smtp) as client:
        await client.greet()
        reply = await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<550-5.1.1@r.example>")
        await client.say("RSET")
        [line] = await guard.events("recipient-refused")
        assert all(text.startswith(("550-5.1.1 ", "550 5.1.1 ")) for text in reply)
        assert reply[0].startswith("550-5.1.1 127.0.0.1 said: ")
        assert reply[-2].startswith("550-5.1.1 [smtpguard] Fix: ")
        assert reply[-1].startswith("550 5.1.1 [smtpguard] Cause: recipient.unknown (")
        assert reply[-1].endswith(f"Id: {line['event.id']}")


async def test_explanations_can_be_switched_off() -> None:
    async with relay(more="[reply]\nexplain = false") as guard, Client(guard.smtp) as client:
        await client.greet()
        reply = await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<550-5.1.1@r.example>")
        assert not [line for line in reply if "smtpguard" in line]


async def test_greeting_5xx_may_bounce() -> None:
    script = Script({"CONNECT": Say("554 5.7.1 your address is listed")})
    async with relay(script=script, more='[reply]\ngreeting_5xx = "bounce"') as guard, Client(guard.smtp) as client:
        assert await send_one(client, hello="EHLO client.example") == ("MAIL", "554 5.7.1")


async def test_the_queue_id_of_the_mta_and_of_the_next_hop_are_in_the_log() -> None:
    async with relay() as guard, Client(guard.lmtp) as client:
        await client.greet("LHLO client.example")
        assert (
            code(await client.say("XFORWARD NAME=mail.s.example IDENT=4XYZ123", "XFORWARD HELO=[UNAVAILABLE]"))
            == "250 2.0.0"
        )
        await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>", "DATA")
        client.send(MESSAGE + b".\r\n")
        assert code(await client.reply()) == "250 2.0.0"
        [line] = await guard.events("recipient-accepted")
        assert line["smtp.queue_id"] == "4XYZ123"
        assert line["smtp.next_hop_queue_id"].startswith("SBX")
        assert line["email.message_id"] == "<1@s.example>"
        await client.say("MAIL FROM:<a@s.example>", "RSET")
        [_, second] = await guard.events("transaction", 2)
        assert "smtp.queue_id" not in second  # XFORWARD is for one transaction


async def test_without_xforward_the_queue_id_is_read_out_of_the_topmost_received_field() -> None:
    async with relay() as guard, Client(guard.smtp) as client:
        await client.greet()
        await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>", "DATA")
        client.send(
            b"Received: by mta.s.example (Postfix, from userid 0)\r\n\tid 4ABCdef123; now\r\n" + MESSAGE + b".\r\n"
        )
        assert code(await client.reply()) == "250 2.0.0"
        [line] = await guard.events("recipient-accepted")
        assert line["smtp.queue_id"] == "4ABCdef123"
