"""`[[policy]]` with a real Postfix in front, over both doors: what waits, what goes another way, what comes back.

The next hops are scripted, the intervals short. A refusal reaches Postfix's users only as its queue and its bounces,
so these are what is read; the next hop's own list of commands says how often it was really asked.
"""

from __future__ import annotations

import random
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest

from smtpguard.sandbox import Ok, Say, Script
from tests.e2e.line import HEALED, POSTFIX, Door, Letter, Line, line, taken
from tests.e2e.mta import until
from tests.e2e.relay import Event

LISTED: Final = Say("554 5.7.1 Service unavailable; client host [192.0.2.25] blocked using zen.spamhaus.org")
NOBODY: Final = Say("550 5.1.1 there is no such user here")
SLOW: Final = Say("421 4.7.0 Too many messages from your address, slow down")

DEFER: Final = '[[policy]]\nclass = 5\ncategory = "reputation.ip_listed"\naction = "defer"\n'
REROUTE: Final = '[[policy]]\ncategory = "reputation.ip_listed"\naction = "reroute"\nto = "other"\n'
SUPPRESS: Final = '[[policy]]\nclass = 5\ncategory = "recipient.unknown"\naction = "suppress"\n'
THROTTLE: Final = '[[policy]]\ncategory = ["rate.limited", "reputation.poor"]\naction = "throttle"\n'

MANY: Final = 6
FLOW_S: Final = 60.0  # for what takes some retries, two seconds apart, on a busy machine
SLACK_S: Final = 0.3  # a line of the log tells when MAIL came; a pause begins with the answer, a little later

pytestmark = POSTFIX


@pytest.fixture(params=["lmtp", "smtp"])
def door(request: pytest.FixtureRequest) -> Door:
    """Each door in turn."""
    name: Door = request.param
    return name


def at(event: Event) -> float:
    """When it happened, in seconds since the epoch."""
    return datetime.fromisoformat(event["@timestamp"]).timestamp()


def emptied(it: Line) -> None:
    """Wait until nothing is queued; then every letter was delivered or came back, and none twice."""
    until(lambda: not it.mta.queue(), FLOW_S, it.state)
    ends = it.delivered() + it.bounced()
    assert set(ends.values()) <= {1}, {letter: times for letter, times in ends.items() if times > 1}


def said(it: Line) -> str:
    """All that came back, as one line: a bounce breaks lines where it likes."""
    return " ".join(" ".join(it.mta.bounces()).split())


def refused(it: Line, source: str) -> list[Event]:
    """Refusals that Postfix was told, of one source: the next hop's own words, or ours."""
    return it.relay.events("recipient-refused", smtpguard_source=source)


def gaps(events: list[Event]) -> list[float]:
    """Seconds between each and the next."""
    times = [at(event) for event in events]
    return [later - earlier for earlier, later in pairwise(times)]


# --- defer -------------------------------------------------------------------------------------------------------


def test_what_is_held_goes_out_once_we_are_delisted(door: Door, directory: Path) -> None:
    """One attempt an interval, however many messages wait and however often Postfix comes back with each."""
    probe_s = 3
    policy = f'{DEFER}hold = "10m"\nprobe = "{probe_s}s"\n'
    with line(door, directory, script=Script({"RCPT": LISTED}), policy=policy) as it:
        it.send("m0", "n0@rcpt.example")
        it.relay.wait_for("policy-applied", smtpguard_action="defer")
        for number in range(1, MANY):
            it.send(f"m{number}", f"n{number}@rcpt.example")
        until(lambda: len(refused(it, "next_hop")) >= 3, FLOW_S, it.state)
        asked = it.hop.heard(b"RCPT")
        probes = refused(it, "next_hop")
        assert len(asked) == len(probes)  # what is answered here is not asked there
        assert all(gap > probe_s - SLACK_S for gap in gaps(probes)), gaps(probes)
        assert len(refused(it, "policy")) >= MANY  # and that is our doing: Postfix came back with all of them
        assert "Cause: reputation.ip_listed (192.0.2.25 is on zen.spamhaus.org)" in it.mta.log()
        assert len(it.mta.queue()) == MANY
        assert not it.mta.bounces()

        it.hop.play(HEALED)
        emptied(it)
        assert it.delivered() == {Letter(f"m{number}", f"n{number}@rcpt.example"): 1 for number in range(MANY)}


def test_a_hold_that_is_over_comes_back_once_with_the_true_words(door: Door, directory: Path) -> None:
    policy = f'{DEFER}hold = "4s"\nprobe = "1s"\n'
    with line(door, directory, script=Script({"RCPT": LISTED}), policy=policy) as it:
        it.send("m0", "ann@rcpt.example")
        until(lambda: it.mta.queue() and "held until" in it.mta.log(), FLOW_S, it.state)
        emptied(it)
        assert it.bounced() == {Letter("m0", "ann@rcpt.example"): 1}
        assert "554 5.7.1" in said(it)
        assert "blocked using zen.spamhaus.org" in said(it)
        assert not it.delivered()
        until(lambda: "rejected" in refused(it, "next_hop")[-1]["message"], FLOW_S, it.state)
        assert gaps([refused(it, "next_hop")[0], refused(it, "next_hop")[-1]])[0] > 4.0 - SLACK_S


# --- reroute -----------------------------------------------------------------------------------------------------


def test_what_one_next_hop_refuses_goes_by_the_other(door: Door, directory: Path) -> None:
    with line(door, directory, script=Script({"RCPT": LISTED}), policy=REROUTE) as it:
        it.send("m0", "ann@rcpt.example", "bob@rcpt.example")
        emptied(it)
        assert taken(it.other) == {Letter("m0", "ann@rcpt.example"): 1, Letter("m0", "bob@rcpt.example"): 1}
        assert not it.hop.messages
        assert "deferred" not in it.mta.log()  # before Postfix was answered
        assert it.relay.metric('smtpguard_policy_actions_total{action="reroute"}') >= 1


def test_of_a_mixed_transaction_each_recipient_gets_there_once(door: Door, directory: Path) -> None:
    """Over SMTP the refused one is deferred and its retry takes the detour; over LMTP it goes at once."""
    with line(door, directory, policy=REROUTE) as it:
        it.send("m0", "ann@rcpt.example", "spamhaus.ip_listed@rcpt.example", "550-5.1.1@rcpt.example")
        emptied(it)
        assert taken(it.hop) == {Letter("m0", "ann@rcpt.example"): 1}
        assert taken(it.other) == {Letter("m0", "spamhaus.ip_listed@rcpt.example"): 1}
        assert it.bounced() == {Letter("m0", "550-5.1.1@rcpt.example"): 1}
        assert ("deferred" in it.mta.log()) == (door == "smtp")


def test_a_message_refused_after_the_dot_goes_by_the_other(door: Door, directory: Path) -> None:
    with line(door, directory, script=Script({"DOT": LISTED}), policy=REROUTE) as it:
        it.send("m0", "ann@rcpt.example", "bob@rcpt.example")
        emptied(it)
        assert taken(it.other) == {Letter("m0", "ann@rcpt.example"): 1, Letter("m0", "bob@rcpt.example"): 1}
        assert not it.hop.messages


# --- suppress ----------------------------------------------------------------------------------------------------


def test_an_unknown_recipient_is_suppressed_by_the_second_strike(door: Door, directory: Path) -> None:
    """Not by the first, nor by one that comes too soon after it; an acceptance in between forgives."""
    gap_s = 2
    policy = f'{SUPPRESS}[suppression]\nstrike_gap = "{gap_s}s"\n'
    script = Script({"RCPT": [NOBODY, NOBODY, Ok(), NOBODY, NOBODY, Ok()]})
    with line(door, directory, script=script, policy=policy) as it:

        def strike(number: int, *, rcpts: int) -> None:
            """One more message, refused or taken, when the gap is over; how often the next hop was asked by then."""
            due = time.monotonic() + gap_s
            until(lambda: time.monotonic() > due, FLOW_S)
            it.send(f"m{number}", "ann@rcpt.example")
            emptied(it)
            assert len(it.hop.heard(b"RCPT")) == rcpts, it.state()
            until(lambda: len(it.relay.events("transaction")) == number + 1, FLOW_S, it.state)

        it.send("m0", "ann@rcpt.example")  # the first strike
        it.send("m1", "ann@rcpt.example")
        emptied(it)
        assert len(it.hop.heard(b"RCPT")) == 2
        assert not it.relay.events("suppression-added")
        strike(2, rcpts=3)  # taken
        strike(3, rcpts=4)  # the first strike, again
        assert not it.relay.events("suppression-added")
        strike(4, rcpts=5)
        it.relay.wait_for("suppression-added", smtp_rcpt__to="ann@rcpt.example")
        strike(5, rcpts=5)  # refused here
        strike(6, rcpts=5)
        assert it.delivered() == {Letter("m2", "ann@rcpt.example"): 1}
        assert it.bounced() == {Letter(f"m{number}", "ann@rcpt.example"): 1 for number in (0, 1, 3, 4, 5, 6)}
        assert said(it).count("suppressed since") >= 2
        assert it.relay.metric("smtpguard_suppression_hits_total") == 2
        assert it.send("m7", "bob@rcpt.example")
        emptied(it)
        assert it.delivered()[Letter("m7", "bob@rcpt.example")] == 1


# --- throttle ----------------------------------------------------------------------------------------------------


def test_a_throttle_lets_one_attempt_through(door: Door, directory: Path) -> None:
    """Two pauses, the second twice as long; in each nobody is asked, and after each one message is the attempt."""
    initial_s = 2
    policy = f'{THROTTLE}initial = "{initial_s}s"\nmax = "1m"\n'
    script = Script({"RCPT": [SLOW, SLOW, Ok()]})
    with line(door, directory, script=script, policy=policy) as it:
        it.send("m0", "n0@rcpt.example")
        it.relay.wait_for("policy-applied", smtpguard_action="throttle")
        for number in range(1, MANY):
            it.send(f"m{number}", f"n{number}@rcpt.example")
        emptied(it)
        asked = refused(it, "next_hop")
        assert len(asked) == 2
        assert len(it.hop.heard(b"RCPT")) == 2 + MANY
        first, second = gaps([*asked, it.relay.wait_for("recipient-accepted")])
        assert first > initial_s - SLACK_S
        assert second > 2 * initial_s - SLACK_S
        assert len(refused(it, "policy")) >= MANY
        assert it.delivered() == {Letter(f"m{number}", f"n{number}@rcpt.example"): 1 for number in range(MANY)}


# --- all of it ---------------------------------------------------------------------------------------------------

EVERYTHING: Final = (
    f"{REROUTE}"
    '[[policy]]\nclass = 5\ncategory = ["auth.*", "identity.*"]\naction = "defer"\nhold = "10m"\nprobe = "1s"\n'
    f'{THROTTLE}initial = "1s"\nmax = "2s"\n'
    f'{SUPPRESS}[suppression]\nstrike_gap = "1s"\n'
)
GOOD: Final = "ann{}"
MILD: Final = ("550-5.1.1", "google.unknown", "spamhaus.ip_listed+{}", "proofpoint.ip_listed+{}", GOOD, GOOD)
HARSH: Final = ("google.spam+{}", "google.dmarc+{}", "google.no_rdns+{}", "microsoft.rate+{}", "452-4.2.2+{}", GOOD)
UNKNOWN: Final = ("550-5.1.1@", "google.unknown@")
SPAM: Final = "google.spam"


def test_with_every_policy_on_nothing_is_lost_doubled_or_bounced_falsely(door: Door, directory: Path) -> None:
    """Laws L, D and B: each letter ends once, taken or returned; returned only where a next hop said so for good."""
    chance = random.Random(7)
    kinds = [[chance.choice(MILD) for _ in range(chance.randint(1, 4))] for _ in range(30)]
    kinds += [[chance.choice((*MILD, *HARSH)) for _ in range(chance.randint(1, 4))] for _ in range(30)]
    kinds += [[kind] for kind in HARSH]
    sent: dict[str, list[str]] = {}
    with line(door, directory, policy=EVERYTHING) as it:
        for number, each in enumerate(kinds):
            rcpts = [f"{kind.format(f'{number}x{place}')}@rcpt.example" for place, kind in enumerate(each)]
            sent[f"m{number}"] = sorted(set(rcpts))
            it.send(f"m{number}", *sent[f"m{number}"])

        def acted() -> set[str]:
            return {event["smtpguard.action"] for event in it.relay.events("policy-applied")}

        until(lambda: {"reroute", "defer", "throttle", "suppress"} <= acted(), FLOW_S, it.state)
        it.hop.play(HEALED)
        emptied(it)

        delivered, bounced = it.delivered(), it.bounced()
        letters = {Letter(message, rcpt) for message, rcpts in sent.items() for rcpt in rcpts}
        assert set(delivered) | set(bounced) == letters  # L
        assert not delivered & bounced  # D, with what `emptied` has counted
        for message, rcpt in bounced:  # B
            is_spam = any(each.startswith(SPAM) for each in sent[message])
            assert rcpt.startswith(UNKNOWN) or is_spam, (message, rcpt)
        assert taken(it.hop)
        assert taken(it.other)
        assert bounced
