"""What is demanded, and whether it holds: pure, over the rows of a run.

The limits are the design's (its document "Performance", budgets). A budget whose subject does not exist yet says so
instead of being judged on something easier; one that was not measured in this run is neither met nor missed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from tests.bench.figures import Row, find

Verdict = Literal["met", "missed", "not measured", "not yet"]
Figure = Callable[[Sequence[Row]], float | None]


@dataclass(frozen=True, slots=True)
class Budget:
    """One demand. `limit` is the most that `value` may be, or with `at_least` the least; `waits_for` is what must be
    built first; `aside` says what of the demand is not in the figure yet."""

    text: str
    unit: str
    limit: float
    value: Figure
    at_least: bool = False
    waits_for: str = ""
    aside: str = ""

    def judge(self, rows: Sequence[Row]) -> tuple[Verdict, float | None]:
        """The verdict, and the figure it was made from."""
        if self.waits_for:
            return "not yet", None
        value = self.value(rows)
        if value is None:
            return "not measured", None
        return ("met" if (value >= self.limit if self.at_least else value <= self.limit) else "missed"), value


def full(case: str, figure: str) -> Figure:
    """A figure of smtpguard with everything on."""
    return lambda rows: find(rows, case, "full", figure)


def beside(case: str, other: str) -> Figure:
    """CPU of smtpguard with everything on to that of another peer, by way of the ratios of both to the yardstick."""

    def value(rows: Sequence[Row]) -> float | None:
        ours, theirs = find(rows, case, "full", "cpu_ratio"), find(rows, case, other, "cpu_ratio")
        return ours / theirs if ours is not None and theirs else None

    return value


def _cost(text: str, case: str, cpu: float, rate: float, aside: str = "") -> tuple[Budget, Budget]:
    return (
        Budget(f"{text}: CPU", "of Postfix's", cpu, full(case, "cpu_ratio"), aside=aside),
        Budget(f"{text}: messages/s", "of Postfix's", rate, full(case, "rate_ratio"), at_least=True, aside=aside),
    )


_NO_HISTORY: Final = "without history, which does not exist yet"

BUDGETS: Final[tuple[Budget, ...]] = (
    *_cost("2 KB, kept connections, lint off", "2 KB", 0.5, 1.5, _NO_HISTORY),
    *_cost("2 KB, new connection each", "2 KB, new connection", 0.5, 1.5, _NO_HISTORY),
    *_cost("50 KB", "50 KB", 0.4, 1.5, _NO_HISTORY),
    *_cost("2 KB, 10 recipients", "2 KB, 10 rcpt", 0.6, 1.2, _NO_HISTORY),
    Budget("2 KB with lint: CPU", "of Postfix's", 0.8, full("2 KB, lint", "cpu_ratio"), waits_for="lint"),
    Budget("50 KB with lint: CPU", "of Postfix's", 1.1, full("50 KB, lint", "cpu_ratio"), waits_for="lint"),
    Budget(
        "30 % of the recipients refused: CPU",
        "of Postfix's",
        0.9,
        full("10 rcpt, 30 % refused", "cpu_ratio"),
        aside="without lint and history",
    ),
    Budget("Haraka smtp_proxy, 2 KB: CPU", "of Haraka's", 0.25, beside("2 KB", "haraka"), aside="without lint"),
    Budget("50 x 25 MB at once: RSS over idle", "MB", 64, full("50 x 25 MB at once", "over_idle_mb")),
    Budget("p99 added latency, 10 connections, paced", "ms", 5, full("latency, paced", "added_p99_ms")),
    Budget("p99 added latency, 10 connections, flat out", "ms", 5, full("latency, flat out", "added_p99_ms")),
    Budget("2,000 idle sessions", "KB each", 20, full("2,000 idle sessions", "kb_each")),
    Budget("10 recipients, CHUNKING", "round trips", 2, full("round trips with CHUNKING", "round_trips")),
    Budget("10 recipients, no CHUNKING", "round trips", 3, full("round trips without CHUNKING", "round_trips")),
    Budget("start to listening", "ms", 1000, full("start to listening", "ms")),
    Budget("/metrics under load: stall", "ms", 10, full("/metrics under load", "stall_ms")),
)
