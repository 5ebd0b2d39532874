"""Policy over memory, by the clock passed in: what is answered here, what is let through, what is learnt."""

from __future__ import annotations

from typing import Any

import pytest

from smtpguard.classify import Classification
from smtpguard.config import PolicySettings, SuppressionSettings
from smtpguard.flow.standing import Local, Standing, Verdict
from smtpguard.history.state import State
from smtpguard.mail.reply import EnhancedCode, Reply, Verb
from smtpguard.policy import Policies, Subject

DAY = 86_400.0
LISTED = Classification("reputation.ip_listed", scope="egress", permanence="until_fixed", provider="google")
UNKNOWN = Classification("recipient.unknown", scope="recipient", permanence="permanent")
SPAM = Classification("content.spam", scope="message", permanence="message")
SLOW = Classification("rate.limited", scope="egress", retry_after=120.0)

ANN = Subject("ann", "example.org", "default", "google", "4XyZ")
BEN = Subject("ben", "example.org", "default", "google", "4XyZ")


def said(code: int = 550, text: str = "no", verb: Verb = Verb.RCPT) -> Reply:
    return Reply(code, (text,), EnhancedCode(code // 100, 7, 1), verb)


class World:
    """A standing with a clock of its own."""

    def __init__(self, *rules: dict[str, Any], state: State | None = None, **suppression: Any) -> None:
        self.now = 1_000_000.0
        self.state = state or State()
        self.standing = Standing(
            Policies([PolicySettings.model_validate(rule) for rule in rules]),
            SuppressionSettings.model_validate(suppression),
            self.state,
            now=lambda: self.now,
            when=lambda at: f"t+{at - 1_000_000:.0f}",
            random=lambda: 0.0,
        )

    def refused(self, subject: Subject, reply: Reply, meaning: Classification, **how: Any) -> Verdict:
        how.setdefault("passes_5xx", reply.klass == 5)
        return self.standing.refused(subject, reply, meaning, reply.verb, **how)

    def at_rcpt(self, subject: Subject, claimed: set[str] | None = None) -> Local | None:
        return self.standing.at_rcpt(subject, set() if claimed is None else claimed)


def answer(local: Local | None) -> str:
    return f"{local.reply.code} {local.reply.enhanced} {local.reply.text}" if local else ""


# --- defer -----------------------------------------------------------------------------------------------------

DEFER = {"class": 5, "category": "reputation.*", "action": "defer", "hold": "24h", "probe": "15m"}


def test_a_refusal_is_held_and_later_mail_is_answered_here() -> None:
    world = World(DEFER)
    verdict = world.refused(ANN, said(text="blocked"), LISTED)
    assert verdict.action == "defer"
    assert verdict.reply is not None
    assert str(verdict.reply) == "450 4.7.1 held until t+86400: 550 5.7.1 blocked"
    local = world.at_rcpt(BEN)  # another recipient: the egress is what was refused
    assert answer(local) == "450 4.7.1 held until t+86400: 550 5.7.1 blocked"
    assert local is not None
    assert (local.source, local.action, local.classification.category) == ("policy", "defer", "reputation.ip_listed")
    other_hop = ANN._replace(next_hop="backup")
    assert world.at_rcpt(other_hop) is None


def test_one_attempt_a_probe_is_let_through() -> None:
    world = World(DEFER)
    world.refused(ANN, said(), LISTED)
    world.now += 900
    mine: set[str] = set()
    assert world.at_rcpt(ANN, mine) is None
    assert world.at_rcpt(BEN, mine) is None  # of the transaction that is the attempt
    assert world.at_rcpt(BEN) is not None
    assert world.standing.at_mail(ANN, set()) is not None
    world.now += 900
    assert world.standing.at_mail(ANN, set()) is None


def test_an_acceptance_clears_a_hold() -> None:
    world = World(DEFER)
    world.refused(ANN, said(), LISTED)
    world.standing.accepted(BEN)
    assert world.at_rcpt(ANN) is None
    assert world.standing.is_idle


def test_after_its_time_the_true_5xx_passes() -> None:
    world = World(DEFER)
    world.refused(ANN, said(), LISTED)
    world.now += DAY
    assert world.at_rcpt(ANN) is None
    assert world.refused(ANN, said(), LISTED).reply is None
    assert world.at_rcpt(BEN) is None  # nothing is held any more


@pytest.mark.parametrize(
    ("meaning", "verb", "held"),
    [(UNKNOWN, Verb.RCPT, {"ann": True, "ben": False}), (SPAM, Verb.DOT, {"ann": False, "ben": False})],
)
def test_a_hold_reaches_as_far_as_the_refusal(meaning: Classification, verb: Verb, held: dict[str, bool]) -> None:
    world = World({"action": "defer"})
    assert world.refused(ANN, said(verb=verb), meaning).reply is not None
    assert {subject.rcpt: world.at_rcpt(subject) is not None for subject in (ANN, BEN)} == held
    assert (world.standing.at_dot(ANN, set()) is not None) is (meaning is SPAM)


def test_a_message_that_cannot_be_recognised_is_not_held() -> None:
    world = World({"action": "defer"})
    assert world.refused(ANN._replace(message=""), said(verb=Verb.DOT), SPAM).reply is None


def test_what_is_4xx_anyway_is_not_held() -> None:
    world = World({"action": "defer"})
    assert world.refused(ANN, said(450), LISTED).action == ""
    assert world.refused(ANN, said(550), LISTED, passes_5xx=False).action == ""
    assert world.standing.is_idle


# --- throttle --------------------------------------------------------------------------------------------------

THROTTLE = {"category": "rate.limited", "action": "throttle", "initial": "30s", "max": "10m"}


def test_a_throttle_answers_here_then_lets_one_attempt_through() -> None:
    world = World(THROTTLE)
    verdict = world.refused(ANN, said(421, "slow down"), SLOW)
    assert (verdict.action, verdict.reply) == ("throttle", None)  # a 4xx passes as it is
    world.now += 119
    assert answer(world.at_rcpt(BEN)) == "450 4.7.1 slowed down until t+120: 421 4.7.1 slow down"
    world.now += 1
    assert world.at_rcpt(BEN) is None
    assert world.at_rcpt(ANN) is not None
    world.standing.accepted(BEN)
    assert world.at_rcpt(ANN) is None


def test_mail_that_was_under_way_opens_no_throttle() -> None:
    world = World(THROTTLE)
    world.refused(ANN, said(421, "slow down"), SLOW)
    world.standing.accepted(BEN)
    assert world.at_rcpt(ANN) is not None


def test_an_attempt_that_settled_nothing_makes_room_for_the_next() -> None:
    world = World(THROTTLE)
    world.refused(ANN, said(421, "slow down"), SLOW)
    world.now += 120
    mine: set[str] = set()
    assert world.at_rcpt(ANN, mine) is None
    assert world.refused(ANN, said(), UNKNOWN).action == ""
    assert world.at_rcpt(BEN) is not None
    world.standing.ended(mine)
    assert world.at_rcpt(BEN) is None
    assert world.at_rcpt(ANN) is not None


def test_a_throttled_5xx_is_deferred() -> None:
    reply = World(THROTTLE).refused(ANN, said(550, "too much", Verb.DOT), SLOW).reply
    assert reply is not None
    assert reply.code == 451


# --- suppress --------------------------------------------------------------------------------------------------

SUPPRESS = {"class": 5, "category": "recipient.*", "action": "suppress"}
PATH: dict[str, Any] = {"path": b"ann@b.example", "shown": "a***@b.example"}


def test_the_second_strike_a_day_later_suppresses() -> None:
    world = World(SUPPRESS)
    first = world.refused(ANN, said(text="no such user"), UNKNOWN, **PATH)
    assert (first.action, first.reply, first.suppressed) == ("suppress", None, None)
    world.now += DAY
    assert world.refused(ANN, said(), UNKNOWN, **PATH).suppressed is None  # the same message
    second = world.refused(ANN._replace(message="5AbC"), said(text="no such user"), UNKNOWN, **PATH)
    assert second.suppressed is not None
    assert second.suppressed.address == "a***@b.example"
    local = world.at_rcpt(ANN)
    assert answer(local) == "550 5.7.1 suppressed since t+86400: 550 5.7.1 no such user"
    assert local is not None
    assert local.source == "suppression"
    assert world.at_rcpt(BEN) is None
    world.now += 90 * DAY
    assert world.at_rcpt(ANN) is None


def test_an_acceptance_between_clears_the_strikes() -> None:
    world = World(SUPPRESS)
    world.refused(ANN, said(), UNKNOWN, **PATH)
    world.standing.accepted(ANN)
    world.now += DAY
    assert world.refused(ANN._replace(message="5AbC"), said(), UNKNOWN, **PATH).suppressed is None


@pytest.mark.parametrize("how", [{"path": None}, {"path": b"postmaster@b.example"}])
def test_who_is_never_suppressed(how: dict[str, Any]) -> None:
    world = World(SUPPRESS, strikes=1)
    assert world.refused(ANN, said(), UNKNOWN, **how).suppressed is None
    assert world.standing.is_idle


# --- reroute and the rest ----------------------------------------------------------------------------------------

REROUTE = {"category": "reputation.ip_listed", "action": "reroute", "to": "backup"}


def test_a_detour_is_named_and_a_mixed_transaction_takes_it_at_its_retry() -> None:
    world = World(REROUTE)
    assert world.standing.reroutes
    assert world.standing.detour(ANN, said(), LISTED) == "backup"
    assert world.standing.detour(ANN, said(), UNKNOWN) == ""
    assert world.standing.detour(ANN._replace(next_hop="backup"), said(), LISTED) == ""
    assert world.refused(ANN, said(), LISTED).reply is None
    mixed = world.refused(ANN, said(text="blocked"), LISTED, is_mixed=True)
    assert str(mixed.reply) == "450 4.7.1 blocked"
    assert world.standing.route(ANN) == "backup"
    assert world.standing.route(BEN) == ""
    assert world.standing.has_routes_of("example.org")
    assert not world.standing.has_routes_of("example.com")
    world.now += 3600
    assert world.standing.route(ANN) == ""


def test_without_policies_a_refusal_passes() -> None:
    world = World()
    assert not world.standing.is_governed
    assert not world.standing.reroutes
    assert world.refused(ANN, said(), LISTED) == Verdict()


def test_an_alert_is_raised_whatever_is_done() -> None:
    assert World({"alert": True}).refused(ANN, said(), LISTED) == Verdict(alert=True)
    assert World({**DEFER, "alert": True}).refused(ANN, said(), LISTED).alert


# --- an attempt that more than one thing bars ------------------------------------------------------------------------

HOLD_ALL = {"action": "defer", "hold": "24h", "probe": "15m"}


def test_an_attempt_that_one_hold_bars_takes_no_probe_of_another() -> None:
    world = World(HOLD_ALL)
    world.refused(ANN, said(), LISTED)
    world.now += 890
    world.refused(ANN, said(), UNKNOWN)
    world.now += 10
    assert world.at_rcpt(ANN) is not None  # her own hold has 890 s to go
    assert world.at_rcpt(BEN) is None


def test_what_a_throttle_lets_through_a_hold_still_bars_for_each_recipient() -> None:
    world = World(THROTTLE, HOLD_ALL)
    world.refused(ANN, said(421, "slow down"), SLOW)
    world.now += 120
    world.refused(ANN, said(), LISTED)
    mine: set[str] = set()
    assert world.at_rcpt(ANN, mine) is not None
    assert world.at_rcpt(BEN, mine) is not None
    assert mine == set()


def test_what_no_policy_asks_for_any_more_is_not_heeded() -> None:
    world = World(DEFER, THROTTLE)
    world.refused(ANN, said(), LISTED)
    world.refused(BEN._replace(next_hop="backup"), said(421), SLOW)
    without = World(SUPPRESS, state=world.state)
    assert without.at_rcpt(ANN) is None
    assert without.at_rcpt(BEN._replace(next_hop="backup")) is None
    assert World(DEFER, state=world.state).at_rcpt(ANN) is not None
    assert World(THROTTLE, state=world.state).at_rcpt(BEN._replace(next_hop="backup")) is not None
