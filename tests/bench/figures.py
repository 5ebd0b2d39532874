"""The arithmetic of the benchmark: pure, so that it can be tested without a load.

A `Sample` is one repetition of one case with one peer. `summary` makes a case's rows of the samples: medians, and the
median of the ratios to the yardstick, repetition by repetition, because what disturbs a machine disturbs both
measurements of one repetition alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

YARDSTICK: Final = "postfix-proxy"
"""The peer that all ratios are to: Postfix's smtpd_proxy_filter, the relay without a queue that everybody has."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One repetition: messages handed over, CPU seconds of the peer's processes, seconds by the clock."""

    messages: int
    cpu_s: float
    elapsed_s: float

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds a message."""
        return 1000 * self.cpu_s / self.messages

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.elapsed_s


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the results: a case, a peer, its figures by name (the unit is in the name), a word on what is odd."""

    case: str
    peer: str
    figures: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """The median of ours/theirs, pair by pair; None without a pair, or where theirs is nothing."""
    pairs = [one / other for one, other in zip(ours, theirs, strict=False) if other > 0]
    return median(pairs) if pairs else None


def summary(case: str, samples: Mapping[str, Sequence[Sample]], *, cpu: bool = True) -> list[Row]:
    """A case's rows, one a peer: `cpu_ms`, `rate`, and, where the yardstick ran too, `cpu_ratio` and `rate_ratio`."""
    rows = []
    yard = samples.get(YARDSTICK, ())
    for peer, taken in samples.items():
        figures: dict[str, float] = {}
        if not taken:
            rows.append(Row(case, peer, figures, "no sample"))
            continue
        costs = cpu and any(sample.cpu_s for sample in taken)  # `direct` has no processes
        if costs:
            figures["cpu_ms"] = median(sample.cpu_ms for sample in taken)
        figures["rate"] = median(sample.rate for sample in taken)
        cpu_ratio = ratios([one.cpu_ms for one in taken], [one.cpu_ms for one in yard]) if costs else None
        rate_ratio = ratios([one.rate for one in taken], [one.rate for one in yard])
        figures |= {} if cpu_ratio is None else {"cpu_ratio": cpu_ratio}
        figures |= {} if rate_ratio is None else {"rate_ratio": rate_ratio}
        rows.append(Row(case, peer, figures))
    return rows


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie, by the nearest rank; ValueError of none."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered)) - 1))]


def find(rows: Sequence[Row], case: str, peer: str, figure: str) -> float | None:
    """A figure of the results; None if it was not measured."""
    for row in rows:
        if row.case == case and row.peer == peer:
            return row.figures.get(figure)
    return None
