"""A transaction on one connection: what goes out, which reply is whose, and every fault a next hop can have in it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from smtpguard.edge.exchange import mail_line, rcpt_lines
from smtpguard.flow import Exchange
from smtpguard.mail.reply import Answer, FailureKind, HopFailure, Reply, Verb
from smtpguard.mail.session import Envelope, Recipient
from smtpguard.sandbox import (
    DEFAULT_KEYWORDS,
    Action,
    After,
    Close,
    CommitThenClose,
    Delay,
    Drip,
    EarlySay,
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
from tests.certs import ca_and_server, server_context
from tests.edge.hopping import (
    CHUNKING_ONLY,
    ENVELOPE,
    HEAD,
    MESSAGE,
    NO_PIPELINING,
    PIPELINING_ONLY,
    HeldBody,
    Talk,
    big,
    soon,
    talk,
    to,
    until,
    way_to,
)

OFFERS = [DEFAULT_KEYWORDS, PIPELINING_ONLY, CHUNKING_ONLY, NO_PIPELINING, ()]
BIG = big(3_000_000)


def _is_good(answer: Answer) -> bool:
    return isinstance(answer, Reply) and answer.klass == 2


def _failed(answer: Answer) -> tuple[FailureKind, Verb, bool]:
    assert isinstance(answer, HopFailure), answer
    return answer.kind, answer.verb, answer.unknown


# -- what goes out


@pytest.mark.parametrize("keywords", OFFERS, ids=lambda words: " ".join(words)[:30] or "nothing")
@pytest.mark.parametrize("message", [MESSAGE, b"", b".\r\n", big(70_000), BIG], ids=len)
async def test_the_octets_arrive_as_they_are_whatever_is_offered(keywords: tuple[str, ...], message: bytes) -> None:
    roomy = tuple(word for word in keywords if not word.startswith("SIZE"))
    async with Sandbox(keywords=roomy) as hop, way_to(hop.port) as way:
        assert all(map(_is_good, await way.pass_one(message)))
        assert hop.messages[0].data == HEAD + message
        assert hop.messages[0].via == ("BDAT" if "CHUNKING" in keywords else "DATA")
        assert all(map(_is_good, await way.pass_one()))  # and the connection is in step
        assert hop.connections == 1


@pytest.mark.parametrize("chunk", [1, 1000, 65_536])
async def test_how_the_body_is_cut_changes_nothing(chunk: int) -> None:
    message = big(70_000 if chunk > 1 else 2000) + big(0)
    for keywords in (CHUNKING_ONLY, ("PIPELINING",)):
        async with Sandbox(keywords=keywords) as hop, way_to(hop.port) as way:
            exchange = await way.begin()
            assert _is_good(await exchange.message(b"", HeldBody(message, chunk=chunk), soon()))
            assert hop.messages[0].data == message


async def test_paths_and_parameters_go_out_octet_for_octet() -> None:
    envelope = Envelope(b'"a b>"@x.test', (b"BODY=8BITMIME", b"RET=HDRS", b"ENVID=QQ+2B"), eight_bit=True, dsn=True)
    rcpts = [Recipient(b"B@Y.test", (b"NOTIFY=NEVER", b"ORCPT=rfc822;B@y.test")), Recipient("ü@y.test".encode())]
    async with Sandbox() as hop, way_to(hop.port) as way:
        exchange = await talk(way.hop, envelope, rcpts, soon(), size=77)
        await asyncio.gather(*exchange.rcpts)
        assert hop.commands[1:] == [
            b'MAIL FROM:<"a b>"@x.test> BODY=8BITMIME RET=HDRS ENVID=QQ+2B SIZE=77',
            b"RCPT TO:<B@Y.test> NOTIFY=NEVER ORCPT=rfc822;B@y.test",
            b"RCPT TO:<\xc3\xbc@y.test>",
        ]
        exchange.finish()


@pytest.mark.parametrize("octet", [b"\r", b"\n", b"\0"])
async def test_no_command_can_be_smuggled_in(octet: bytes) -> None:
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        mail_line(Envelope(b"a@x.test" + octet))
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        rcpt_lines([Recipient(b"a@x.test", (b"NOTIFY=NEVER" + octet,))])
    async with Sandbox() as hop, way_to(hop.port) as way:
        bad = await talk(way.hop, Envelope(b"a" + octet), to(), soon())
        assert _failed(bad.mail)[0] is FailureKind.INTERNAL
        exchange = await way.begin()
        late = exchange.send(to(b"b" + octet + b"@y.test"))
        assert _failed(await late[0]) == (FailureKind.INTERNAL, Verb.RCPT, False)
        assert not [line for line in hop.commands if b"RCPT TO:<b@" not in line and b"RCPT" in line]
        exchange.finish()


@pytest.mark.parametrize(("keywords", "trips"), [(DEFAULT_KEYWORDS, 2), (PIPELINING_ONLY, 3)])
@pytest.mark.parametrize("count", [1, 10, 200])
async def test_a_transaction_costs_so_many_round_trips_whatever_the_recipients(
    keywords: tuple[str, ...], trips: int, count: int
) -> None:
    async with Sandbox(keywords=keywords) as hop, way_to(hop.port) as way:
        await way.pass_one()
        before = hop.round_trips
        exchange = await way.begin(*(b"r%d@y.test" % number for number in range(count)))
        assert all(map(_is_good, await asyncio.gather(*exchange.rcpts)))
        assert _is_good(await exchange.message(HEAD, HeldBody(MESSAGE), soon()))
        exchange.finish()
        assert hop.round_trips - before == trips
        assert len(hop.messages[-1].rcpts) == count


@pytest.mark.parametrize("keywords", [DEFAULT_KEYWORDS, NO_PIPELINING])
async def test_each_recipient_gets_its_own_answer_also_those_sent_later(keywords: tuple[str, ...]) -> None:
    async with Sandbox(keywords=keywords) as hop, way_to(hop.port) as way:
        exchange = await way.begin(b"a@y.test", b"550-5.1.1@y.test", b"452-4.2.2@y.test")
        later = exchange.send(to(b"554-5.7.1@y.test", b"z@y.test"))
        answers = await asyncio.gather(*exchange.rcpts, *later)
        assert [answer.code for answer in answers if isinstance(answer, Reply)] == [250, 550, 452, 554, 250]
        assert {answer.verb for answer in answers} == {Verb.RCPT}
        assert _is_good(await exchange.message(HEAD, HeldBody(MESSAGE), soon()))
        assert [path for path, _ in hop.messages[0].rcpts] == [b"a@y.test", b"z@y.test"]
        exchange.finish()


@pytest.mark.parametrize("keywords", [DEFAULT_KEYWORDS, NO_PIPELINING])
async def test_a_refused_mail_is_the_answer_to_its_recipients_too(keywords: tuple[str, ...]) -> None:
    script = Script({"MAIL": [Say("550 5.7.1 not you"), Ok()]})
    async with Sandbox(keywords=keywords, script=script) as hop, way_to(hop.port) as way:
        exchange = await way.begin(b"a@y.test", b"b@y.test")
        assert isinstance(exchange.mail, Reply)
        assert exchange.mail.code == 550
        assert [await rcpt for rcpt in exchange.rcpts] == [exchange.mail] * 2
        exchange.finish()
        assert all(map(_is_good, await way.pass_one()))
        assert hop.connections == 1


# -- faults: at each verb, in time, with the right name; and the next message passes

FAULTS: list[tuple[Action, FailureKind]] = [
    (Close(), FailureKind.DISCONNECT),
    (Reset(), FailureKind.DISCONNECT),
    (Hang(), FailureKind.TIMEOUT),
    (Half(), FailureKind.TIMEOUT),
    (Half(then="close"), FailureKind.DISCONNECT),
    (Drip(over_s=30, text="550 5.0.0 no"), FailureKind.TIMEOUT),
    (Garbage(), FailureKind.PROTOCOL),
    (Mixed(), FailureKind.PROTOCOL),
    (Say("199 2.0.0 what"), FailureKind.PROTOCOL),
    (Say("600 6.0.0 what"), FailureKind.PROTOCOL),
    (Flood(), FailureKind.PROTOCOL),
]


async def _answers(way: Any, message: bytes) -> list[Answer]:
    exchange = await way.begin()
    answers = [exchange.mail, await exchange.rcpts[0], await exchange.message(HEAD, HeldBody(message), soon())]
    exchange.finish()
    return answers


@pytest.mark.parametrize(("action", "kind"), FAULTS, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize(("verb", "at"), [("MAIL", 0), ("RCPT", 1), ("DATA", 2), ("DOT", 2)])
async def test_a_fault_is_a_failure_in_time_and_the_next_message_passes(
    verb: str, at: int, action: Action, kind: FailureKind
) -> None:
    keywords = PIPELINING_ONLY if verb == "DATA" else DEFAULT_KEYWORDS
    script = Script({verb: [Ok(), action, Ok()]})
    async with Sandbox(keywords=keywords, script=script) as hop, way_to(hop.port) as way:
        assert all(map(_is_good, await _answers(way, MESSAGE)))
        began = soon(0)
        if at == 0 and kind is FailureKind.DISCONNECT:  # nobody notices: a kept connection, asked once more
            assert all(map(_is_good, await _answers(way, MESSAGE)))
            return
        answers = await _answers(way, MESSAGE)
        assert soon(0) - began < 0.4 + 2
        assert all(map(_is_good, answers[:at]))
        if kind is FailureKind.TIMEOUT and verb == "RCPT":
            assert _failed(answers[1])[0] is kind
        else:
            assert _failed(answers[at]) == (kind, Verb(verb), verb == "DOT")
        assert all(isinstance(answer, HopFailure) for answer in answers[at:])
        assert hop.accepted == 1
        assert way.count("failures_total", kind=kind.value) == 1
        assert all(map(_is_good, await _answers(way, MESSAGE)))


@pytest.mark.parametrize("verb", ["MAIL", "RCPT"])
@pytest.mark.parametrize("keywords", [DEFAULT_KEYWORDS, NO_PIPELINING])
async def test_a_surplus_reply_is_never_taken_for_the_next_answer(verb: str, keywords: tuple[str, ...]) -> None:
    script = Script({verb: [Surplus(), Ok()], "DOT": Say("550 5.7.1 the true answer")})
    async with Sandbox(keywords=keywords, script=script) as hop, way_to(hop.port) as way:
        *_, said = await _answers(way, MESSAGE)
        assert not _is_good(said)
        assert hop.accepted == 0


class Hasty(Talk):
    """Who asks for a recipient before the answer to MAIL was told in full, and for the message before RCPT's."""

    def at_mail(self, exchange: Exchange, answer: Answer) -> None:
        super().at_mail(exchange, answer)
        self.rcpts = self.send(to())

    def at_rcpt(self, answer: Answer) -> None:
        super().at_rcpt(answer)
        if self.exchange is not None:
            self.exchange.message(HEAD, HeldBody(MESSAGE), soon())


@pytest.mark.parametrize("keywords", [DEFAULT_KEYWORDS, PIPELINING_ONLY, NO_PIPELINING])
@pytest.mark.parametrize("verb", ["MAIL", "RCPT"])
async def test_a_surplus_reply_is_no_answer_to_what_is_asked_within_the_call_that_brings_it(
    verb: str, keywords: tuple[str, ...]
) -> None:
    async with Sandbox(keywords=keywords, script=Script({verb: Surplus()})) as hop, way_to(hop.port) as way:
        hasty = Hasty()
        exchange = way.hop.begin(ENVELOPE, [], soon(), hasty)
        said = await hasty.told
        assert _failed(said)[0] is FailureKind.PROTOCOL
        assert hop.accepted == 0
        exchange.finish()


async def test_a_surplus_reply_behind_the_last_answer_ends_the_connection_but_the_answer_counts() -> None:
    async with Sandbox(script=Script({"DOT": [Surplus(), Ok()]})) as hop, way_to(hop.port) as way:
        assert all(map(_is_good, await _answers(way, MESSAGE)))
        assert all(map(_is_good, await _answers(way, MESSAGE)))
        assert (hop.accepted, hop.connections) == (2, 2)


@pytest.mark.parametrize("code", [250, 251, 334, 300, 399])
async def test_only_354_lets_data_begin(code: int) -> None:
    script = Script({"DATA": Say(f"{code} 2.0.0 go")})
    async with Sandbox(keywords=PIPELINING_ONLY, script=script) as hop, way_to(hop.port) as way:
        *_, said = await _answers(way, MESSAGE)
        assert _failed(said) == (FailureKind.PROTOCOL, Verb.DATA, False)
        assert b"Subject: hello" not in hop.commands


async def test_what_comes_behind_354_ends_the_connection_before_the_message_begins() -> None:
    script = Script({"DATA": [Say("354 go\n250 2.0.0 taken already"), Ok()]})
    async with Sandbox(keywords=PIPELINING_ONLY, script=script) as hop, way_to(hop.port) as way:
        *_, said = await _answers(way, MESSAGE)
        assert _failed(said) == (FailureKind.PROTOCOL, Verb.DATA, False)
        assert all(map(_is_good, await _answers(way, MESSAGE)))
        assert hop.accepted == 1


async def test_a_caller_that_no_longer_waits_for_a_recipient_loses_nothing_else() -> None:
    script = Script({"RCPT": [Delay(0.05), Ok()]})
    async with Sandbox(keywords=NO_PIPELINING, script=script) as hop, way_to(hop.port) as way:
        exchange = await way.begin(b"a@y.test", b"b@y.test")
        for rcpt in exchange.rcpts:
            rcpt.cancel()
        assert _is_good(await exchange.message(HEAD, HeldBody(MESSAGE), soon()))
        assert len(hop.messages[0].rcpts) == 2


@pytest.mark.parametrize("keywords", [CHUNKING_ONLY, ("PIPELINING",)])
async def test_it_is_the_same_inside_tls(keywords: tuple[str, ...], tmp_path: Path) -> None:
    certs = ca_and_server(["127.0.0.1"], directory=tmp_path)
    inside: dict[str, Any] = {"tls": "required", "tls_ca_file": str(certs.ca)}
    message = big(20_000_000)
    server = server_context(certs.cert, certs.key)
    async with Sandbox(keywords=keywords, tls=server) as hop, way_to(hop.port, **inside) as way:
        assert all(map(_is_good, await _answers(way, MESSAGE)))
        assert all(map(_is_good, await _answers(way, message)))
        assert [each.data for each in hop.messages] == [HEAD + MESSAGE, HEAD + message]
        assert (hop.connections, hop.messages[0].tls) == (1, True)
        hop.script = Script({"BODY": [After(100_000, StopReading()), Ok()], "DOT": CommitThenClose()})
        began = soon(0)
        # Whether the last octet left is not always known inside TLS: what is encrypted waits in a buffer of its own.
        assert _failed((await _answers(way, message))[-1])[0] is FailureKind.TIMEOUT
        assert soon(0) - began < 0.4 + 2
        assert _failed((await _answers(way, MESSAGE))[-1])[1:] == (Verb.DOT, True)


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DOT"])
async def test_354_is_no_answer_to_anything_else(verb: str) -> None:
    async with Sandbox(script=Script({verb: Say("354 go")})) as hop, way_to(hop.port) as way:
        assert FailureKind.PROTOCOL in {
            answer.kind for answer in await _answers(way, MESSAGE) if isinstance(answer, HopFailure)
        }


async def test_421_passes_as_said_and_its_connection_is_not_used_again() -> None:
    for verb, at in (("RCPT", 1), ("DOT", 2)):
        script = Script({verb: [Say("421 4.3.2 going down"), Ok()]})
        async with Sandbox(script=script) as hop, way_to(hop.port) as way:
            exchange = await way.begin()
            answers = [exchange.mail, await exchange.rcpts[0]]
            if at == 2:
                answers.append(await exchange.message(HEAD, HeldBody(MESSAGE), soon()))
            exchange.finish()
            assert str(answers[at]) == "421 4.3.2 going down"
            assert all(map(_is_good, await way.pass_one()))
            assert hop.connections == 2


async def test_a_connection_that_dies_between_commands_stays_dead_for_its_transaction() -> None:
    async with Sandbox() as hop, way_to(hop.port) as way:
        exchange = await way.begin()
        await exchange.rcpts[0]
        port = hop.port
        await hop.stop()
        await hop.start("127.0.0.1", port)
        assert _failed(await exchange.send(to())[0]) == (FailureKind.DISCONNECT, Verb.RCPT, False)
        assert _failed(await exchange.message(HEAD, HeldBody(MESSAGE), soon()))[0] is FailureKind.DISCONNECT
        exchange.finish()
        assert hop.connections == 1


# -- the message


@pytest.mark.parametrize("keywords", [DEFAULT_KEYWORDS, PIPELINING_ONLY])
@pytest.mark.parametrize("text", ["552 5.3.4 too large", "451 4.3.0 not now", "421 4.3.2 going down"])
@pytest.mark.parametrize("then", ["read", "stop", "close"])
async def test_a_refusal_while_sending_ends_the_transfer_and_passes(
    keywords: tuple[str, ...], text: str, then: Any
) -> None:
    roomy = tuple(word for word in keywords if not word.startswith("SIZE"))
    script = Script({"BODY": [After(100_000, EarlySay(text, then=then)), Ok()]})
    async with Sandbox(keywords=roomy, script=script) as hop, way_to(hop.port) as way:
        *_, said = await _answers(way, big(20_000_000))
        assert str(said) == text
        assert said.verb is Verb.DOT
        assert hop.accepted == 0
        assert all(map(_is_good, await _answers(way, MESSAGE)))


async def test_a_good_answer_before_the_end_is_believed_by_nobody() -> None:
    roomy = ("PIPELINING",)
    script = Script({"BODY": After(100_000, EarlySay("250 2.0.0 taken", then="stop"))})
    async with Sandbox(keywords=roomy, script=script) as hop, way_to(hop.port) as way:
        *_, said = await _answers(way, big(20_000_000))
        assert _failed(said) == (FailureKind.PROTOCOL, Verb.DATA, False)


@pytest.mark.parametrize("keywords", [CHUNKING_ONLY, ("PIPELINING",)])
@pytest.mark.parametrize(
    ("action", "kind"),
    [(Close(), FailureKind.DISCONNECT), (Reset(), FailureKind.DISCONNECT), (StopReading(), FailureKind.TIMEOUT)],
    ids=str,
)
async def test_a_fault_in_the_middle_of_a_message_is_no_doubt_about_it(
    keywords: tuple[str, ...], action: Action, kind: FailureKind
) -> None:
    script = Script({"BODY": [After(100_000, action), Ok()]})
    async with Sandbox(keywords=keywords, script=script) as hop, way_to(hop.port) as way:
        began = soon(0)
        *_, said = await _answers(way, big(20_000_000))
        assert soon(0) - began < 0.4 + 2
        assert _failed(said) == (kind, Verb.BDAT if "CHUNKING" in keywords else Verb.DATA, False)
        assert all(map(_is_good, await _answers(way, MESSAGE)))


@pytest.mark.parametrize("keywords", [CHUNKING_ONLY, ("PIPELINING",)])
@pytest.mark.parametrize("message", [MESSAGE, BIG], ids=len)
@pytest.mark.parametrize("action", [CommitThenClose(), Hang(), Garbage(), Reset()], ids=str)
async def test_no_answer_after_the_last_octet_leaves_it_unknown(
    keywords: tuple[str, ...], message: bytes, action: Action
) -> None:
    async with Sandbox(keywords=keywords, script=Script({"DOT": action})) as hop, way_to(hop.port) as way:
        *_, said = await _answers(way, message)
        assert isinstance(said, HopFailure)
        assert (said.verb, said.unknown) == (Verb.DOT, True)
        assert hop.accepted == (1 if isinstance(action, CommitThenClose) else 0)


async def test_a_slow_reader_that_makes_progress_is_waited_for() -> None:
    script = Script({"BODY": StopReading(0.25)})
    async with Sandbox(keywords=CHUNKING_ONLY, script=script) as hop, way_to(hop.port) as way:
        *_, said = await _answers(way, big(20_000_000))
        assert _is_good(said)


async def test_the_deadline_counts_before_the_limits() -> None:
    long = {"timeout": {"command": "60s", "data": "60s", "final": "60s"}}
    for script in (Script({"DOT": Hang()}), Script({"BODY": After(100_000, StopReading())})):
        async with Sandbox(keywords=CHUNKING_ONLY, script=script) as hop, way_to(hop.port, **long) as way:
            exchange = await way.begin()
            await exchange.rcpts[0]
            began = soon(0)
            said = await exchange.message(HEAD, HeldBody(big(20_000_000)), soon(0.3))
            assert soon(0) - began < 2
            assert _failed(said)[0] is FailureKind.TIMEOUT


@pytest.mark.parametrize("octets", [1000, 500_000])
@pytest.mark.parametrize("keywords", [CHUNKING_ONLY, ("PIPELINING",)])
@pytest.mark.parametrize(
    "fault", [{"claims": 10**7}, {"claims": 100}, {"breaks": True}, {"octets": b"x" * 400_000}], ids=str
)
async def test_a_body_that_is_not_what_it_said_is_never_taken(
    octets: int, keywords: tuple[str, ...], fault: dict[str, Any]
) -> None:
    if "claims" in fault and fault["claims"] == 100 and "CHUNKING" not in keywords:
        pytest.skip("DATA does not announce a size")
    body = HeldBody(**({"octets": big(octets)} | fault))
    if "octets" in fault and "CHUNKING" in keywords:
        body.claims = len(body.octets) + 1
    async with Sandbox(keywords=keywords) as hop, way_to(hop.port) as way:
        exchange = await way.begin()
        await exchange.rcpts[0]
        said = await exchange.message(HEAD, body, soon())
        exchange.finish()
        assert _failed(said) == (FailureKind.INTERNAL, Verb.BDAT if "CHUNKING" in keywords else Verb.DATA, False)
        assert all(map(_is_good, await _answers(way, MESSAGE)))
        assert hop.accepted == 1


@pytest.mark.parametrize("code", [500, 503])
async def test_a_refusal_of_the_command_bdat_is_not_one_of_the_message(code: int) -> None:
    async with Sandbox(script=Script({"DOT": Say(f"{code} 5.5.1 what is BDAT")})) as hop, way_to(hop.port) as way:
        *_, said = await _answers(way, MESSAGE)
        assert said.verb is Verb.BDAT


# -- the state in which it is left


@pytest.mark.parametrize("keywords", [DEFAULT_KEYWORDS, PIPELINING_ONLY, NO_PIPELINING])
async def test_an_open_transaction_is_reset_before_the_connection_is_used_again(keywords: tuple[str, ...]) -> None:
    async with Sandbox(keywords=keywords) as hop, way_to(hop.port) as way:
        exchange = await way.begin(b"550-5.1.1@y.test")
        exchange.finish()  # not even waiting for the recipient
        await until(lambda: b"RSET" in hop.commands and not way.hop._pool.slots.taken(""))
        assert all(map(_is_good, await way.pass_one()))
        assert hop.connections == 1
        assert [path for path, _ in hop.messages[0].rcpts] == [b"b@y.test"]


@pytest.mark.parametrize("action", [Hang(), Close(), Say("500 5.5.1 what"), Garbage()], ids=str)
async def test_a_connection_that_cannot_be_reset_is_not_used_again(action: Action) -> None:
    async with Sandbox(script=Script({"RSET": action})) as hop, way_to(hop.port, connections=1) as way:
        exchange = await way.begin()
        exchange.finish()
        assert all(map(_is_good, await way.pass_one()))
        assert hop.connections == 2


async def test_what_is_over_reaches_nobody() -> None:
    async with Sandbox() as hop, way_to(hop.port) as way:
        exchange = await way.begin()
        await exchange.rcpts[0]
        await exchange.message(HEAD, HeldBody(MESSAGE), soon())
        exchange.finish()
        other = await way.begin()
        exchange.finish()
        exchange.abort()
        [unheard] = exchange.send(to())
        sending = asyncio.create_task(exchange.message(HEAD, HeldBody(MESSAGE), soon()))
        assert _is_good(await other.rcpts[0])
        assert _is_good(await other.message(HEAD, HeldBody(MESSAGE), soon()))
        other.finish()
        assert not unheard.done()
        assert not sending.done()
        sending.cancel()
        assert (hop.connections, hop.accepted) == (1, 2)


class Faulty(Talk):
    """Whose own code fails when it is told."""

    def at_mail(self, exchange: Exchange, answer: Answer) -> None:
        raise RuntimeError("a fault of ours")

    def broke(self, error: Exception) -> None:
        self.told.set_exception(error)


@pytest.mark.parametrize("is_kept", [False, True])
async def test_a_fault_of_who_hears_ends_its_own_transaction_and_no_other(is_kept: bool) -> None:
    async with Sandbox() as hop, way_to(hop.port) as way:
        if is_kept:
            assert all(map(_is_good, await way.pass_one()))
        faulty = Faulty()
        way.hop.begin(ENVELOPE, to(), soon(), faulty)
        with pytest.raises(RuntimeError, match="a fault of ours"):
            await faulty.told
        await until(lambda: not hop.open_connections)
        assert way.count("connections_in_use") == 0
        assert all(map(_is_good, await way.pass_one()))


async def test_an_abort_ends_the_connection_and_is_nobodys_failure() -> None:
    async with Sandbox() as hop, way_to(hop.port) as way:
        exchange = await way.begin()
        exchange.abort()
        await until(lambda: not hop.open_connections)
        assert hop.accepted == 0
        assert sum(way.count("failures_total", kind=kind.value) for kind in FailureKind) == 0
        assert way.count("connections_in_use") == 0


async def test_a_cancelled_message_ends_the_connection() -> None:
    async with Sandbox(script=Script({"DOT": Hang()})) as hop, way_to(hop.port, timeout={"final": "60s"}) as way:
        exchange = await way.begin()
        sending = asyncio.create_task(exchange.message(HEAD, HeldBody(MESSAGE), soon()))
        await until(lambda: len(hop.commands) > 3)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await until(lambda: way.count("connections_in_use") == 0)


async def test_answers_that_take_their_time_are_not_mistaken() -> None:
    script = Script({"RCPT": [Delay(0.05), Delay(0.05, Say("550 5.1.1 no")), Ok()]})
    async with Sandbox(script=script) as hop, way_to(hop.port) as way:
        exchange = await way.begin(b"a@y.test", b"b@y.test", b"c@y.test")
        said = await exchange.message(HEAD, HeldBody(MESSAGE), soon())  # waits for the recipients' answers itself
        assert [rcpt.done() for rcpt in exchange.rcpts] == [True] * 3
        assert _is_good(said)
        assert [path for path, _ in hop.messages[0].rcpts] == [b"a@y.test", b"c@y.test"]
        assert exchange.hop.host == "127.0.0.1"
        assert ENVELOPE.mail_from == hop.messages[0].mail_from


async def test_a_recipient_that_comes_later_has_the_time_of_a_command() -> None:
    """A client may take minutes between MAIL and RCPT: the deadline of `begin` is over then, the transaction is not."""
    async with Sandbox() as hop, way_to(hop.port) as way:
        deadline = soon(0.1)
        exchange = await talk(way.hop, ENVELOPE, [], deadline)
        await asyncio.sleep(deadline - soon(-0.02))
        [late] = exchange.send(to(b"late@y.test"))
        assert _is_good(await late)
        exchange.finish()
