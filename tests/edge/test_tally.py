"""Plain numbers that prometheus_client reads: what it makes of them is what its own would give out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from smtpguard.edge import tally

BOUNDS = (0.5, 1.0, 10.0)


@pytest.fixture(autouse=True)
def _no_created(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prometheus_client.metrics._use_created", False)


def page(*families: tally.Family[tally.Tally] | tally.Family[tally.Spread]) -> bytes:
    registry = CollectorRegistry()
    for family in families:
        registry.register(family)
    return generate_latest(registry)


def test_counters_and_gauges_read_as_prometheus_clients_own() -> None:
    registry = CollectorRegistry()
    theirs, level = Counter("c", "Words.", ("a", "b"), registry=registry), Gauge("g", "Level.", registry=registry)
    ours, ours_level = tally.counter("c", "Words.", "a", "b"), tally.gauge("g", "Level.")
    for values in (("x", "y"), ("x", 'quo"te\\')):
        theirs.labels(*values).inc(2)
        ours.labels(*values).inc(2)
        ours.labels(*values).inc(0)
    level.set(3)
    level.dec()
    ours_level.labels().set(3)
    ours_level.labels().dec()
    assert page(ours, ours_level) == generate_latest(registry)


@given(st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.75, 1.0, 2.0, 10.0, 11.0])))
def test_histograms_read_as_prometheus_clients_own(values: list[float]) -> None:
    registry = CollectorRegistry()
    theirs = Histogram("h", "Words.", ("a",), registry=registry, buckets=BOUNDS)
    ours = tally.histogram("h", "Words.", BOUNDS, "a")
    for value in values:
        theirs.labels("x").observe(value)
        ours.labels("x").observe(value)
    assert page(ours) == generate_latest(registry)


def test_a_series_is_there_from_the_first_mention() -> None:
    family = tally.counter("c", "Words.", "a")
    assert b"c_total{" not in page(family)
    assert family.labels("x") is family.labels("x")
    assert b'c_total{a="x"} 0.0' in page(family)
