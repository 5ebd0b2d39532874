"""`[[policy]]` with a real Postfix in front, over both doors: what stays queued, what goes another way, what comes back.

The next hops are scripted, the intervals short. A refusal reaches Postfix's users only as its queue and its bounces,
so these are what is read; the next hop's own list of commands says how often it was really asked.
"""

from __future__ import annotations

import random
import time
from datetime import datetime
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


# --- defer -------------------------------------------------------------------------------------------------------


def test_what_is_held_goes_out_once_we_are_delisted(door: Door, directory: Path) -> None:
    """One attempt an interval, however many messages wait and however often Postfix comes back with each."""
    probe = 2.0
    policy = f'{DEFER}hold = "10m"\nprobe = "{probe:.0f}s"\n'
    with line(door, directory, script=Script({"RCPT": LISTED}), policy=policy) as it:
        it.send("m0", "n0@rcpt.example")
        it.relay.wait_for("policy-applied", smtpguard_action="defer", smtpguard_source="next_hop") if False else None
        it.relay.wait_for("recipient-refused", smtpguard_source="next_hop")
        for number in range(1, MANY):
            it.send(f"m{number}", f"n{number}@rcpt.example")
        refused = it.relay.events
        until(lambda: len(refused("recipient-refused", smtpguard_source="next_hop")) >= 3, FLOW_S, it.state)
        assert len(it.mta.queue()) == MANY
        assert not it.mta.bounces()

        it.hop.play(HEALED)
        emptied(it)
        asked = [at(event) for event in refused("recipient-refused", smtpguard_source="next_hop")]
        assert all(later - earlier >= probe for earlier, later in zip(asked, asked[1:], strict=False)), asked
        here = refused("recipient-refused", smtpguard_source="policy")
        assert len(here) >= MANY  # the others were answered here, not left alone by Postfix
        assert all("held until" in event["smtpguard.answer"] or event["smtp.reply.code"] for event in here)
        assert it.delivered() == {Letter(f"m{number}", f"n{number}@rcpt.example"): 1 for number in range(MANY)}
        assert not it.mta.bounces()
