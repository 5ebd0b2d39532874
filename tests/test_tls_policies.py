"""MTA-STS policies in the history: they outlive the process, end with their max_age, and are not too many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from smtpguard.history import Store, engine_of
from smtpguard.history.state import State
from smtpguard.history.tables import TlsPolicyRow
from smtpguard.mailauth.mtasts import Policy
from smtpguard.service import tls_policies
from smtpguard.service.tls_policies import MAX_MX, TlsPolicies

ENFORCED = Policy("enforce", ("mx1.d.test", "*.d.test"), 86_400)
AT = 1_790_000_000.0


class Clock:
    """A clock on the wall."""

    def __init__(self) -> None:
        self.at = AT

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@contextmanager
def running(path: Path, clock: Clock) -> Iterator[Store]:
    store = Store(engine_of(f"sqlite:///{path}"), seed=b"key", mode="mask", retention_s=60.0, clock=clock)
    assert store.start(patience_s=10.0)
    try:
        yield store
    finally:
        store.close()


def test_what_is_kept_is_there_after_a_restart(tmp_path: Path, clock: Clock) -> None:
    with running(tmp_path / "s.db", clock) as store:
        TlsPolicies(store.state.tls_policies, clock).keep("d.test", "7", ENFORCED)
    clock.at += 3600
    with running(tmp_path / "s.db", clock) as store:
        kept = TlsPolicies(store.state.tls_policies, clock)
        assert kept.recall("d.test") == (ENFORCED, "7", 3600, 82_800)
        assert kept.recall("e.test") is None
        clock.at = AT + 86_400
        assert kept.recall("d.test") is None
        clock.at += 1
        store._prune_at = 0.0
        store.state.tls_policies.put(TlsPolicyRow("e.test", AT, AT + 90_000, "1", "enforce", "mx.test"))
        assert store.flush(10.0)
    with running(tmp_path / "s.db", clock) as store:
        assert [row.key for row in store.state.tls_policies] == ["e.test"]


def test_a_clock_that_was_set_back_makes_none_last_longer(clock: Clock) -> None:
    kept = TlsPolicies(State().tls_policies, clock)
    kept.keep("d.test", "7", ENFORCED)
    clock.at -= 7 * 86_400
    assert kept.recall("d.test") == (ENFORCED, "7", 0.0, 86_400)


def test_the_latest_counts(clock: Clock) -> None:
    kept = TlsPolicies(State().tls_policies, clock)
    kept.keep("d.test", "7", ENFORCED)
    kept.keep("d.test", "8", Policy("none", (), 60))
    assert kept.recall("d.test") == (Policy("none", (), 60), "8", 0.0, 60)
    kept.keep("d.test", "9", Policy("enforce", ("m" * (MAX_MX + 1),), 60))
    assert kept.recall("d.test") is None


def test_beyond_the_limit_the_oldest_goes(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_policies, "MOST", 2)
    state = State()
    kept = TlsPolicies(state.tls_policies, clock)
    for domain in ("a.test", "b.test", "a.test", "c.test"):  # mail to a.test goes on: its policy was renewed
        kept.keep(domain, "1", ENFORCED)
        clock.at += 1
    assert [row.key for row in state.tls_policies] == ["a.test", "c.test"]
    assert ("drop", "b.test") in [(change.what, change.key) for change in state.take()]


def test_what_had_to_give_way_is_forgotten(clock: Clock) -> None:
    state = State()
    kept = TlsPolicies(state.tls_policies, clock)
    kept.keep("a.test", "1", ENFORCED)
    kept.forget("a.test")
    kept.forget("b.test")
    assert kept.recall("a.test") is None
    assert [(change.what, change.key) for change in state.take()] == [("put", "a.test"), ("drop", "a.test")]


def test_a_mode_that_we_do_not_know_is_none(clock: Clock) -> None:
    state = State()
    state.tls_policies.put(TlsPolicyRow("d.test", AT, AT + 60, "1", "strict", "mx.test"))
    assert TlsPolicies(state.tls_policies, clock).recall("d.test") is None
