"""How what is remembered changes with answers and time."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpguard.classify import Classification, load
from smtpguard.config import PolicySettings, SuppressionSettings
from smtpguard.mail.reply import EnhancedCode, Reply, Verb
from smtpguard.policy.standing import (
    PROBE_WITHIN_S,
    Hold,
    Strike,
    Suppression,
    Throttle,
    held,
    is_out,
    is_strike,
    may_suppress,
    meaning_of,
    reply_for,
    throttled,
)

DAY = 86_400.0
CATEGORY = "reputation.ip_listed"
MEANING = Classification(CATEGORY, provider="google", cause="listed by zen", fix="ask zen to delist 192.0.2.1")
WORDS = (550, "5.7.1", "blocked using zen.spamhaus.org", CATEGORY)
SAID = Reply(550, (WORDS[2],), EnhancedCode(5, 7, 1), Verb.RCPT)
DEFER = PolicySettings.model_validate({"action": "defer", "hold": "24h", "probe": "15m"})
THROTTLE = PolicySettings.model_validate({"action": "throttle", "initial": "30s", "max": "5m"})


# --- held ------------------------------------------------------------------------------------------------------


def test_a_hold_keeps_its_beginning_and_moves_its_probe() -> None:
    first = held(None, "k", SAID, MEANING, DEFER, 1000.0)
    assert (first.since, first.until, first.probe_at) == (1000.0, 1000.0 + DAY, 1900.0)
    again = held(first, "k", SAID, MEANING, DEFER, 2000.0)
    assert (again.since, again.until, again.probe_at) == (1000.0, 1000.0 + DAY, 2900.0)
    assert again.probe_s == 900.0


def test_a_hold_is_spent_after_its_time_and_forgotten_after_as_long_again() -> None:
    first = held(None, "k", SAID, MEANING, DEFER, 0.0)
    assert not first.is_spent(DAY - 1)
    assert first.is_spent(DAY)
    assert held(first, "k", SAID, MEANING, DEFER, DAY + 5).is_spent(DAY + 5)  # the true 5xx goes on passing
    anew = held(first, "k", SAID, MEANING, DEFER, 2 * DAY)
    assert anew.since == 2 * DAY
    assert not anew.is_spent(2 * DAY)


# --- throttled -------------------------------------------------------------------------------------------------


def test_pauses_double_up_to_the_longest() -> None:
    now, throttle, delays = 0.0, None, []
    for _ in range(6):
        throttle = throttled(throttle, "k", SAID, MEANING, THROTTLE, now)
        delays.append(throttle.delay)
        now = throttle.until
        throttle = throttle._replace(probe_at=now + PROBE_WITHIN_S)
    assert delays == [30, 60, 120, 240, 300, 300]


def test_a_refusal_of_mail_that_was_under_way_does_not_double_the_pause() -> None:
    first = throttled(None, "k", SAID, MEANING, THROTTLE, 100.0)
    assert throttled(first, "k", SAID, MEANING, THROTTLE, 101.0) is first


def test_a_pause_long_over_begins_anew() -> None:
    late = throttled(
        Throttle("k", 760.0, 1000.0, 0.0, 240, *WORDS), "k", SAID, MEANING, THROTTLE, 1000.0 + THROTTLE.max
    )
    assert late.delay == 30


@pytest.mark.parametrize(("asked", "delay"), [(10.0, 30), (120.0, 120), (10_000.0, 300)])
def test_the_time_that_the_text_asks_for_is_honoured(asked: float, delay: float) -> None:
    assert throttled(None, "k", SAID, MEANING._replace(retry_after=asked), THROTTLE, 0.0).delay == delay


def test_one_attempt_opens_a_throttle() -> None:
    throttle = throttled(None, "k", SAID, MEANING, THROTTLE, 0.0)
    assert throttle.is_barred(29.0)
    assert not throttle.is_barred(30.0)
    under_way = throttle._replace(probe_at=30.0 + PROBE_WITHIN_S)
    assert under_way.is_barred(31.0)
    assert not under_way.is_barred(90.0)  # it did not come back


@given(st.floats(0, 1), st.floats(0, 1e6))
def test_jitter_lengthens_by_a_fifth_at_most(jitter: float, now: float) -> None:
    throttle = throttled(None, "k", SAID, MEANING, THROTTLE, now, jitter=jitter)
    assert now + 30 <= throttle.until <= now + 36.001


# --- struck and suppressed ---------------------------------------------------------------------------------------

SUPPRESSION = SuppressionSettings()


@pytest.mark.parametrize(
    ("strikes", "count"),
    [
        ([(0, "a")], 1),
        ([(0, "a"), (2 * DAY, "a")], 1),  # the retry of one message
        ([(0, "a"), (DAY - 1, "b")], 1),  # too soon
        ([(0, "a"), (DAY, "b")], 2),
    ],
)
def test_which_strikes_count(strikes: list[tuple[float, str]], count: int) -> None:
    assert len(counted(strikes)) == count


def counted(refusals: list[tuple[float, str]]) -> list[Strike]:
    """The refusals that are strikes."""
    kept: list[Strike] = []
    for at, message in refusals:
        new = Strike("r", message, at)
        if is_strike(kept, new, SUPPRESSION):
            kept.append(new)
    return kept


@pytest.mark.parametrize(
    ("at", "now", "out"), [([0], 0, False), ([0, DAY], DAY, True), ([0, 91 * DAY], 91 * DAY, False), ([], 0, False)]
)
def test_how_many_strikes_suppress(at: list[float], now: float, out: bool) -> None:
    assert is_out([Strike("r", str(each), each) for each in at], now, SUPPRESSION) is out


@given(st.lists(st.tuples(st.floats(0, 1e7), st.sampled_from("abc"))))
def test_strikes_that_count_lie_apart_and_are_of_different_messages(given: list[tuple[float, str]]) -> None:
    strikes = counted(sorted(given))
    assert all(later.at - earlier.at >= SUPPRESSION.strike_gap for earlier, later in pairwise(strikes))
    assert len({strike.message for strike in strikes}) == len(strikes)


@pytest.mark.parametrize(
    ("path", "may"),
    [(b"a@b.example", True), (b"postmaster@b.example", False), (b"Abuse@B.example", False), (b"\xff@b.example", True)],
)
def test_who_is_never_suppressed(path: bytes, may: bool) -> None:
    assert may_suppress(path, SUPPRESSION) is may


# --- answers ---------------------------------------------------------------------------------------------------

HOLD = held(None, "k", SAID, MEANING, DEFER, 0.0)


@pytest.mark.parametrize(
    ("kept", "verb", "said"),
    [
        (HOLD, Verb.RCPT, "450 4.7.1 held until noon: 550 5.7.1 blocked using zen.spamhaus.org"),
        (HOLD, Verb.MAIL, "451 4.7.1 held until noon: 550 5.7.1 blocked using zen.spamhaus.org"),
        (Throttle("k", 0, 2, 0, 2, *WORDS), Verb.DOT, "451 4.7.1 slowed down until noon: 550 5.7.1 blocked using zen."),
        (
            Suppression("k", 0, 9, "a@b", *WORDS, "policy"),
            Verb.RCPT,
            "550 5.7.1 suppressed since noon: 550 5.7.1 blocked using",
        ),
    ],
)
def test_an_answer_quotes_the_refusal(kept: Any, verb: Verb, said: str) -> None:
    reply = reply_for(kept, verb, "noon")
    assert f"{reply.code} {reply.enhanced} {reply.text}".startswith(said)
    assert reply.verb is verb


def test_as_much_is_kept_as_is_quoted() -> None:
    long = Reply(550, ("x" * 5000,), None, Verb.RCPT)
    hold = held(None, "k", long, MEANING._replace(cause="y" * 5000), DEFER, 0.0)
    assert len(hold.text) == len(hold.cause) == 300
    assert hold.enhanced == ""
    assert reply_for(hold, Verb.RCPT, "x").enhanced == (4, 0, 0)
    assert isinstance(hold, Hold)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (
            "Unauthenticated email from shop.example is not accepted due to domain's DMARC policy",
            ("auth.dmarc", "google", "shop.example"),
        ),
        (
            "Service unavailable, client host 192.0.2.1 blocked using zen.spamhaus.org",
            (CATEGORY, "google", "192.0.2.1"),
        ),
    ],
)
def test_an_answer_means_what_the_refusal_meant(text: str, names: tuple[str, str, str]) -> None:
    said = Reply(550, (text,), EnhancedCode(5, 7, 26), Verb.DOT)
    true = load().match(said, "gmail-smtp-in.l.google.com")
    slow = throttled(None, "k", said, true, THROTTLE, 0.0)
    for kept in (held(None, "k", said, true, DEFER, 0.0), slow):
        again = meaning_of(kept)
        assert (again.category, again.provider) == (true.category, true.provider) == names[:2]
        assert (again.cause, again.fix) == (true.cause, true.fix)
        assert names[2] in again.cause + again.fix


@pytest.mark.parametrize("provider", ["", "a name of a later version"])
def test_what_an_older_or_a_newer_version_kept_means_what_its_category_does(provider: str) -> None:
    again = meaning_of(HOLD._replace(provider=provider, cause="", fix=""))
    assert (again.category, again.provider) == (CATEGORY, "other")
    assert again.cause
    assert again.fix
    assert meaning_of(Suppression("k", 0, 9, "a@b", *WORDS, "policy")) == again
