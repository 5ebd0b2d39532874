"""Counters, gauges and histograms as plain numbers, given out to prometheus_client when it asks.

Its own take a lock and three calls to add one, and the mail path adds a dozen times a message. These belong to the
loop's thread, where one after the other counts; whoever reads them from another thread may see a number a moment old,
never a wrong one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.utils import floatToGoString


class Tally:
    """One series of a counter or a gauge; whoever is in a hurry adds to `value`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1) -> None:
        """Add."""
        self.value += amount

    def dec(self, amount: float = 1) -> None:
        """Take away; for gauges."""
        self.value -= amount

    def set(self, value: float) -> None:
        """Say anew; for gauges."""
        self.value = value


class Spread:
    """One labelled histogram: how many observations fell between `bounds`, and what they sum up to."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one; a value on a bound is below it (`le`)."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


_Series = TypeVar("_Series", Tally, Spread)


class Family(Generic[_Series]):
    """All series of one metric: a prometheus_client collector. `give` puts them into words for it."""

    def __init__(
        self, labels: Sequence[str], make: Callable[[], _Series], give: Callable[[Family[_Series]], Metric]
    ) -> None:
        self.label_names = labels
        self.series: dict[tuple[str, ...], _Series] = {}
        self._make: Callable[[], _Series] = make
        self._give: Callable[[Family[_Series]], Metric] = give

    def labels(self, *values: str) -> _Series:
        """The series of these label values, in the order of the labels; it is there from now on."""
        found = self.series.get(values)
        if found is None:
            found = self.series[values] = self._make()
        return found

    def collect(self) -> Iterator[Metric]:
        """prometheus_client's Collector."""
        yield self._give(self)


def counter(name: str, words: str, *labels: str) -> Family[Tally]:
    """A counter, without the `_total` behind its name."""

    def give(family: Family[Tally]) -> Metric:
        metric = CounterMetricFamily(name, words, labels=labels)
        for values, tally in list(family.series.items()):
            metric.add_metric(values, tally.value)
        return metric

    return Family(labels, Tally, give)


def gauge(name: str, words: str, *labels: str) -> Family[Tally]:
    """A gauge."""

    def give(family: Family[Tally]) -> Metric:
        metric = GaugeMetricFamily(name, words, labels=labels)
        for values, tally in list(family.series.items()):
            metric.add_metric(values, tally.value)
        return metric

    return Family(labels, Tally, give)


def histogram(name: str, words: str, bounds: Sequence[float], *labels: str) -> Family[Spread]:
    """A histogram with these upper bounds, and one more without."""
    upper = [*map(floatToGoString, bounds), "+Inf"]

    def give(family: Family[Spread]) -> Metric:
        metric = HistogramMetricFamily(name, words, labels=labels)
        for values, spread in list(family.series.items()):
            metric.add_metric(values, list(zip(upper, accumulate(spread.counts), strict=True)), spread.total)
        return metric

    return Family(labels, lambda: Spread(bounds), give)
