"""What is demanded, and whether it holds: pure, over the rows of a run.

The limits are the design's (its document "Performance", budgets). One that was not measured in this run is neither met
nor missed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from tests.bench.figures import Row, find

Verdict = Literal["met", "missed", "not measured"]
Figure = Callable[[Sequence[Row]], float | None]


@dataclass(frozen=True, slots=True)
class Budget:
    """One demand. `limit` is the most that `value` may be, or with `at_least` the least."""

    text: str
    unit: str
    limit: float
    value: Figure
    at_least: bool = False

    def judge(self, rows: Sequence[Row]) -> tuple[Verdict, float | None]:
        """The verdict, and the figure it was made from."""
        value = self.value(rows)
        if value is None:
            return "not measured", None
        return ("met" if (value >= self.limit if self.at_least else value <= self.limit) else "missed"), value


def of(peer: str, case: str, figure: str) -> Figure:
    """A figure of smtpguard: `full` is all but the lint, `lint` everything."""
    return lambda rows: find(rows, case, peer, figure)


def full(case: str, figure: str) -> Figure:
    """A figure without the lint."""
    return of("full", case, figure)


def everything(case: str, figure: str) -> Figure:
    """A figure with everything on."""
    return of("lint", case, figure)


def beside(case: str, other: str) -> Figure:
    """CPU of smtpguard with everything on to that of another peer, by way of the ratios of both to the yardstick."""

    def value(rows: Sequence[Row]) -> float | None:
        ours, theirs = find(rows, case, "lint", "cpu_ratio"), find(rows, case, other, "cpu_ratio")
        return ours / theirs if ours is not None and theirs else None

    return value


def _cost(
    text: str, case: str, cpu: float, rate: float, of_peer: Callable[[str, str], Figure] = full
) -> tuple[Budget, Budget]:
    return (
        Budget(f"{text}: CPU", "of Postfix's", cpu, of_peer(case, "cpu_ratio")),
        Budget(f"{text}: messages/s", "of Postfix's", rate, of_peer(case, "rate_ratio"), at_least=True),
    )


BUDGETS: Final[tuple[Budget, ...]] = (
    *_cost("2 KB, kept connections, lint off", "2 KB", 0.5, 1.5),
    *_cost("2 KB, new connection each", "2 KB, new connection", 0.5, 1.5),
    *_cost("50 KB", "50 KB", 0.4, 1.5),
    *_cost("2 KB, 10 recipients", "2 KB, 10 rcpt", 0.6, 1.2),
    *_cost("2 KB with lint", "2 KB, lint", 0.8, 1.0, everything),
    *_cost("50 KB with lint", "50 KB, lint", 1.1, 1.0, everything),
    Budget(
        "30 % of the recipients refused, with lint: CPU",
        "of Postfix's",
        0.9,
        everything("10 rcpt, 30 % refused", "cpu_ratio"),
    ),
    Budget("Haraka smtp_proxy, 2 KB with lint: CPU", "of Haraka's", 0.25, beside("2 KB, lint", "haraka")),
    Budget("50 x 25 MB at once with lint: RSS over idle", "MB", 64, everything("50 x 25 MB at once", "over_idle_mb")),
    Budget("p99 added with lint, 10 connections, paced", "ms", 5, everything("latency, paced", "added_p99_ms")),
    Budget("p99 added with lint, 10 connections, flat out", "ms", 5, everything("latency, flat out", "added_p99_ms")),
    Budget("2,000 idle sessions", "KB each", 20, full("2,000 idle sessions", "kb_each")),
    Budget("10 recipients, CHUNKING", "round trips", 2, full("round trips with CHUNKING", "round_trips")),
    Budget("10 recipients, no CHUNKING", "round trips", 3, full("round trips without CHUNKING", "round_trips")),
    Budget("start to listening", "ms", 1000, full("start to listening", "ms")),
    Budget("/metrics under load: stall", "ms", 10, full("/metrics under load", "stall_ms")),
)
