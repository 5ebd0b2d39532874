"""`[[policy]]` through both doors, before two scripted next hops: what the MTA is told, who has the mail.

The laws hold whatever policy does: a 2xx only where a next hop took the message, one submission at most once, a 5xx
only where a next hop said it of this mail.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import pytest

from smtpguard.history.account import accounts
from smtpguard.policy import Hold, Suppression, Throttle
from smtpguard.sandbox import CommitThenClose, Ok, Sandbox, Say, Script
from tests.harness import MESSAGE, PATIENT, Client, Guard, code
from tests.test_routes_live import deliver, took, two_hops

DAY = 86_400.0
LISTED = Say("550 5.7.1 Service unavailable; client host [192.0.2.1] blocked using zen.spamhaus.org")
NOBODY = Say("550 5.1.1 <x@b.example>: Recipient address rejected: User unknown")
SLOW = Say("421 4.7.0 Too many messages from your address, slow down")

REROUTE = '[[policy]]\ncategory = "reputation.ip_listed"\naction = "reroute"\nto = "other"\n'
DEFER = '[[policy]]\nclass = 5\ncategory = "reputation.*"\naction = "defer"\nhold = "24h"\nprobe = "15m"\n'
THROTTLE = '[[policy]]\ncategory = "rate.limited"\naction = "throttle"\ninitial = "30s"\nmax = "10m"\n'
SUPPRESS = '[[policy]]\nclass = 5\ncategory = "recipient.*"\naction = "suppress"\n'

SENDER = "ann@s.example"
BEN, CAT, DAN = "ben@b.example", "cat@c.example", "dan@d.example"
ACCEPTED = "250 2.0.0"


class Clock:
    """A time that only the test moves."""

    def __init__(self) -> None:
        self.at = 1_800_000_000.0

    def __call__(self) -> float:
        return self.at


@asynccontextmanager
async def world(
    policy: str, *, one: Script | None = None, other: Script | None = None, next_hop: str = PATIENT
) -> AsyncIterator[tuple[Guard, Sandbox, Clock]]:
    clock = Clock()
    async with two_hops(policy, one=one, other=other, next_hop=next_hop, now=clock) as (guard, second):
        yield guard, second, clock


_QUEUE_IDS = count(1)


async def send(guard: Guard, *rcpts: str, lmtp: bool = False, mail_from: str = SENDER) -> list[str]:
    """A message of its own over a connection of its own; all codes that came."""
    async with Client(guard.lmtp if lmtp else guard.smtp) as client:
        await client.greet("LHLO client.example" if lmtp else "EHLO client.example")
        await client.say(f"XFORWARD IDENT=4XyZ{next(_QUEUE_IDS)}")
        return await deliver(client, mail_from, *rcpts, lmtp=lmtp)


async def pipelined(guard: Guard, *rcpts: str, mail_from: str = SENDER) -> list[str]:
    """MAIL and RCPTs in one packet, then the message if one was taken."""
    async with Client(guard.smtp) as client:
        await client.greet()
        lines = [f"MAIL FROM:<{mail_from}>", *(f"RCPT TO:<{rcpt}>" for rcpt in rcpts)]
        client.send("".join(f"{line}\r\n" for line in lines).encode())
        codes = [code(each) for each in await client.replies(len(lines))]
        if any(each.startswith("250") for each in codes[1:]):
            await client.say("DATA")
            client.send(MESSAGE + b".\r\n")
            codes.append(code(await client.reply()))
        return codes


# --- reroute, SMTP door ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["CONNECT", "MAIL", "RCPT", "DATA", "DOT"])
async def test_a_refusal_of_the_whole_is_tried_by_the_other_next_hop_before_the_client_is_told(verb: str) -> None:
    refusal = Say("554 5.7.1 client host [192.0.2.1] blocked using zen.spamhaus.org") if verb == "CONNECT" else LISTED
    hop = PATIENT + ('\ndiscard_keywords = ["CHUNKING"]' if verb == "DATA" else "")
    async with world(REROUTE, one=Script({verb: refusal}), next_hop=hop) as (guard, other, _):
        codes = await send(guard, BEN)
        assert codes[0].startswith("250")
        assert codes[1].startswith("250")
        assert codes[-1].startswith(ACCEPTED)
        assert took(other) == [[BEN.encode()]]
        assert took(guard.hop) == []
        [event] = await guard.events("policy-applied")
        assert (event["smtpguard.action"], event["smtpguard.next_hop"]) == ("reroute", "default")
        [whole] = await guard.events("transaction")
        assert (whole["event.outcome"], whole["smtpguard.next_hop"]) == ("success", "other")
        assert guard.sample("policy_actions_total", action="reroute") == 1


async def test_all_recipients_of_a_packet_take_the_detour_together() -> None:
    async with world(REROUTE, one=Script({"RCPT": LISTED})) as (guard, other, _):
        assert (await pipelined(guard, BEN, CAT, DAN))[-1].startswith(ACCEPTED)
        assert took(other) == [[path.encode() for path in (BEN, CAT, DAN)]]


async def test_recipients_after_a_detour_go_the_same_way() -> None:
    async with world(REROUTE, one=Script({"RCPT": [LISTED, Ok()]})) as (guard, other, _):
        assert (await send(guard, BEN, CAT))[-1].startswith(ACCEPTED)
        assert took(other) == [[BEN.encode(), CAT.encode()]]
        assert took(guard.hop) == []


async def test_in_a_mixed_transaction_the_refused_get_4xx_and_their_retry_takes_the_detour() -> None:
    async with world(REROUTE, one=Script({"RCPT": [LISTED, Ok()]})) as (guard, other, _):
        codes = await pipelined(guard, BEN, CAT)
        assert codes[1] == "450 4.7.1"
        assert codes[2].startswith("250")
        assert codes[3].startswith(ACCEPTED)
        assert (took(guard.hop), took(other)) == ([[CAT.encode()]], [])
        assert (await send(guard, BEN))[-1].startswith(ACCEPTED)
        assert took(other) == [[BEN.encode()]]


async def test_once_one_is_taken_a_detour_is_for_the_retry() -> None:
    async with world(REROUTE, one=Script({"RCPT": [Ok(), LISTED]})) as (guard, other, _):
        codes = await send(guard, BEN, CAT)
        assert codes[1].startswith("250")
        assert codes[2] == "450 4.7.1"
        assert (took(guard.hop), took(other)) == ([[BEN.encode()]], [])


async def test_a_refusal_without_a_detour_among_those_with_one_is_told_in_its_turn() -> None:
    async with world(REROUTE, one=Script({"RCPT": [LISTED, NOBODY, LISTED]})) as (guard, other, _):
        codes = await pipelined(guard, BEN, CAT, DAN)
        assert codes[1].startswith("250")
        assert codes[2] == "550 5.1.1"
        assert codes[3].startswith("250")
        assert took(other) == [[BEN.encode(), DAN.encode()]]


async def test_the_other_next_hops_refusal_is_the_answer_and_there_is_no_third_try() -> None:
    async with world(REROUTE, one=Script({"RCPT": LISTED}), other=Script({"RCPT": LISTED})) as (guard, other, _):
        assert (await send(guard, BEN))[1] == "550 5.7.1"
        assert took(guard.hop) == took(other) == []


async def test_a_message_that_the_detour_takes_but_for_one_recipient_goes_to_nobody_and_then_to_each() -> None:
    async with world(REROUTE, one=Script({"DOT": LISTED}), other=Script({"RCPT": [Ok(), NOBODY, Ok()]})) as (
        guard,
        other,
        _,
    ):
        assert (await send(guard, BEN, CAT))[-1] == "451 4.1.1"
        assert took(guard.hop) == took(other) == []
        assert (await send(guard, BEN, CAT))[-1].startswith(ACCEPTED)  # by RCPT at the other next hop now
        assert took(other) == [[BEN.encode(), CAT.encode()]]


async def test_what_may_have_been_taken_is_never_tried_again() -> None:
    async with world(REROUTE, one=Script({"DOT": CommitThenClose()})) as (guard, other, _):
        assert (await send(guard, BEN))[-1] == "451 4.4.2"
        assert took(other) == []
        [event] = await guard.events("transaction")
        assert event["event.outcome"] == "unknown"


# --- reroute, LMTP door ------------------------------------------------------------------------------------------


async def test_over_lmtp_each_refused_recipient_takes_the_detour() -> None:
    one = Script({"RCPT": [LISTED, Ok(), NOBODY]})
    async with world(REROUTE, one=one) as (guard, other, _):
        codes = await send(guard, BEN, CAT, DAN, lmtp=True)
        assert [each[:3] for each in codes[-3:]] == ["250", "250", "550"]
        assert took(guard.hop) == [[CAT.encode()]]
        assert took(other) == [[BEN.encode()]]
        [event] = await guard.events("transaction")
        assert (event["smtp.rcpt.accepted"], event["smtp.rcpt.refused"]) == (2, 1)


@pytest.mark.parametrize("verb", ["MAIL", "DOT"])
async def test_over_lmtp_a_refusal_of_all_takes_the_detour(verb: str) -> None:
    async with world(REROUTE, one=Script({verb: LISTED})) as (guard, other, _):
        codes = await send(guard, BEN, CAT, lmtp=True)
        assert [each[:3] for each in codes[-2:]] == ["250", "250"]
        assert took(other) == [[BEN.encode(), CAT.encode()]]


async def test_over_lmtp_the_detours_own_answers_are_each_recipients() -> None:
    one, other_script = Script({"DOT": LISTED}), Script({"RCPT": [Ok(), NOBODY]})
    async with world(REROUTE, one=one, other=other_script) as (guard, other, _):
        codes = await send(guard, BEN, CAT, lmtp=True)
        assert codes[-1] == "550 5.1.1"
        assert codes[-2].startswith("250")
        assert took(other) == [[BEN.encode()]]


# --- defer -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lmtp", [False, True])
async def test_a_hold_answers_here_probes_and_ends_with_an_acceptance(lmtp: bool) -> None:
    script = Script({"RCPT": [LISTED, LISTED, Ok()]})
    async with world(DEFER, one=script) as (guard, _, clock):

        async def attempt(*rcpts: str) -> str:
            codes = await send(guard, *rcpts, lmtp=lmtp)
            return next((each for each in codes if not each.startswith(("250", "354"))), "250")

        assert await attempt(BEN) == "450 4.7.1"  # the true refusal, held back
        here = "450 4.7.1" if lmtp else "451 4.7.1"  # on the SMTP door MAIL is answered already
        assert await attempt(CAT) == here
        clock.at += 900
        assert await attempt(CAT) == "450 4.7.1"  # the attempt, refused again
        assert await attempt(BEN) == here
        clock.at += 900
        assert await attempt(DAN) == "250"
        assert await attempt(BEN) == "250"
        assert took(guard.hop) == [[DAN.encode()], [BEN.encode()]]
        assert guard.sample("policy_actions_total", action="defer") == 4


async def test_after_its_time_the_true_refusal_passes() -> None:
    async with world(DEFER, one=Script({"RCPT": LISTED})) as (guard, _, clock):
        assert (await send(guard, BEN))[1] == "450 4.7.1"
        clock.at += DAY
        assert (await send(guard, BEN))[1] == "550 5.7.1"
        assert (await send(guard, BEN))[1] == "550 5.7.1"


async def test_a_held_refusal_of_mail_is_answered_at_mail() -> None:
    async with world(DEFER, one=Script({"MAIL": [LISTED, Ok()]})) as (guard, _, clock):
        async with Client(guard.smtp) as client:
            await client.greet()
            for _ in range(2):  # the refusal itself, and what it holds back
                reply = await client.say(f"MAIL FROM:<{SENDER}>")
                assert code(reply) == "451 4.7.1"
                assert reply[0].startswith("451-4.7.1 held until ")
        clock.at += 900
        assert (await send(guard, BEN))[-1].startswith(ACCEPTED)


async def test_a_reload_loses_no_hold() -> None:
    async with world(DEFER, one=Script({"RCPT": [LISTED, Ok()]})) as (guard, _, _clock):
        assert (await send(guard, BEN))[1] == "450 4.7.1"
        assert await guard.service.reload()
        assert (await send(guard, BEN))[0] == "451 4.7.1"


# --- throttle and suppress ---------------------------------------------------------------------------------------


async def test_a_throttle_lets_one_attempt_through_when_its_pause_is_over() -> None:
    async with world(THROTTLE, one=Script({"RCPT": [SLOW, Ok()]})) as (guard, _, clock):
        assert (await send(guard, BEN))[1] == "451 4.7.0"
        assert (await send(guard, CAT))[0] == "451 4.7.0"
        clock.at += 40
        assert (await send(guard, CAT))[-1].startswith(ACCEPTED)
        assert (await send(guard, BEN))[-1].startswith(ACCEPTED)
        assert took(guard.hop) == [[CAT.encode()], [BEN.encode()]]


@pytest.mark.parametrize("lmtp", [False, True])
async def test_the_second_strike_a_day_apart_suppresses(lmtp: bool) -> None:
    async with world(SUPPRESS, one=Script({"RCPT": [NOBODY, NOBODY, Ok()]})) as (guard, _, clock):
        for _ in range(2):
            assert "550 5.1.1" in await send(guard, BEN, lmtp=lmtp)
            assert guard.sample("suppression_hits_total") == 0
            clock.at += DAY
        async with Client(guard.lmtp if lmtp else guard.smtp) as client:
            await client.greet("LHLO x.example" if lmtp else "EHLO x.example")
            await client.say(f"MAIL FROM:<{SENDER}>")
            reply = await client.say(f"RCPT TO:<{BEN}>")
            assert code(reply) == "550 5.1.1"
            assert "suppressed since 2027-01-16" in reply[0]
            assert (await client.say(f"RCPT TO:<{CAT}>"))[0].startswith("250")
        [event] = await guard.events("suppression-added")
        assert event["smtp.rcpt_to"] == BEN
        await guard.events("transaction", 3)
        assert guard.sample("suppression_hits_total") == 1
        clock.at += 90 * DAY
        assert (await send(guard, BEN, lmtp=lmtp))[-1].startswith("250")


async def test_a_bounce_that_is_refused_is_no_strike() -> None:
    async with world(SUPPRESS + "[suppression]\nstrikes = 1\n", one=Script({"RCPT": [NOBODY, Ok()]})) as (guard, _, _c):
        assert (await send(guard, BEN, mail_from=""))[1] == "550 5.1.1"
        assert (await send(guard, BEN))[-1].startswith(ACCEPTED)


# --- what is owed, kept and told ---------------------------------------------------------------------------------


async def test_a_recipient_behind_a_detour_that_takes_no_mail_has_its_answer() -> None:
    script, second = Script({"RCPT": LISTED}), Script({"MAIL": NOBODY})
    async with world(REROUTE, one=script, other=second) as (guard, _, _c), Client(guard.smtp) as client:
        await client.greet()
        await client.say(f"MAIL FROM:<{SENDER}>")
        assert code(await client.say(f"RCPT TO:<{BEN}>")) == "550 5.1.1"
        assert code(await client.say(f"RCPT TO:<{CAT}>")) == "550 5.1.1"
        assert code(await client.say("RSET")) == "250 2.0.0"


@pytest.mark.parametrize("lmtp", [False, True])
async def test_a_held_message_to_many_without_a_queue_id_is_known_again(lmtp: bool) -> None:
    spam = Say("550 5.7.1 This message was blocked as spam")
    policy = '[[policy]]\nclass = 5\ncategory = "content.*"\naction = "defer"\n'
    async with world(policy, one=Script({"DOT": [spam, Ok()]})) as (guard, _, clock):

        async def attempt() -> str:
            async with Client(guard.lmtp if lmtp else guard.smtp) as client:
                await client.greet("LHLO client.example" if lmtp else "EHLO client.example")
                return (await deliver(client, SENDER, BEN, CAT, lmtp=lmtp))[-1]

        assert await attempt() == "451 4.7.1"
        assert await attempt() == "451 4.7.1"
        assert [event["smtpguard.source"] for event in (await guard.events("recipient-refused", 2))[:2]] == [
            "next_hop",
            "policy",
        ]
        clock.at += 900
        assert (await attempt()).startswith("250")


async def test_over_lmtp_a_transaction_that_no_host_takes_at_once_names_its_next_hop() -> None:
    async with world("", next_hop='connections = 1\nqueue_wait = "0ms"') as (guard, _, _c):
        await guard.hop.stop()
        async with Client(guard.lmtp) as client:
            await client.greet("LHLO client.example")
            for _ in range(8):  # more than the breaker bears
                assert (await deliver(client, SENDER, BEN, lmtp=True))[-1] == "451 4.4.1"
        assert {event["smtpguard.next_hop"] for event in await guard.events("transaction", 8)} == {"default"}


async def test_what_is_remembered_of_a_refusal_shows_nobody_to_others() -> None:
    refusal = Say(f"550 5.7.1 <{BEN}>: client host [192.0.2.1] blocked using zen.spamhaus.org")
    masked = DEFER + '[privacy]\naddresses = "mask"\n'
    async with world(masked, one=Script({"RCPT": refusal})) as (guard, _, _c):
        await send(guard, BEN)
        async with Client(guard.smtp) as client:
            await client.greet()
            [told, *_] = await client.say(f"MAIL FROM:<{SENDER}>")
        assert "<b***@b.example>: client host" in told
        [hold] = guard.service.store.state.holds
        assert BEN not in hold.text


STRIKE_ONCE = SUPPRESS + "[suppression]\nstrikes = 1\n"


@pytest.mark.parametrize("lmtp", [False, True])
@pytest.mark.parametrize(
    ("policy", "refusal", "kind"),
    [(DEFER, LISTED, Hold), (THROTTLE, SLOW, Throttle), (STRIKE_ONCE, NOBODY, Suppression)],
)
async def test_the_history_knows_what_policy_did_and_what_it_remembers_still(
    policy: str, refusal: Say, kind: type, lmtp: bool
) -> None:
    """Of the refusal that began it, and of the attempt that was answered here."""
    async with world(policy, one=Script({"RCPT": refusal})) as (guard, _, clock):
        for _attempt in range(2):
            await send(guard, BEN, lmtp=lmtp)
        queue_ids = [event["smtp.queue_id"] for event in await guard.events("transaction", 2)]
        store = guard.service.store
        assert await asyncio.to_thread(store.flush, 10.0)
        with store.reading() as database:
            [first], [second] = (accounts(database, id, clock.at - DAY) for id in queue_ids)
    action = {Hold: "defer", Throttle: "throttle", Suppression: "suppress"}[kind]
    for account in (first, second):
        [refused] = account.event.refusals
        [standing] = account.standings
        assert refused.action == action
        assert type(standing) is kind
        assert standing is not None
        assert standing.since == clock.at
    assert first.event.refusals[0].source == "next_hop"
    assert second.event.refusals[0].source == ("suppression" if kind is Suppression else "policy")


@pytest.mark.parametrize("lmtp", [False, True])
async def test_the_history_knows_by_which_next_hop_it_was_tried(lmtp: bool) -> None:
    async with world(REROUTE, one=Script({"RCPT": [LISTED, Ok()]})) as (guard, _, clock):
        await send(guard, BEN, CAT, lmtp=lmtp)
        [event] = await guard.events("transaction")
        store = guard.service.store
        assert await asyncio.to_thread(store.flush, 10.0)
        with store.reading() as database:
            [account] = accounts(database, event["smtp.queue_id"], clock.at - DAY)
    [refused] = account.event.refusals
    assert (refused.code, refused.answer, refused.action, refused.detour) == (550, 0, "reroute", "other")
    assert (account.event.transaction.accepted, account.event.transaction.refused) == (2, 0)
