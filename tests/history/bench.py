"""What the history costs, measured; a program, run by hand: python -m tests.history.bench [EVENTS] [URL]

Events (a refused recipient each: two rows) over 24 hours go through a store at work, as the relay gives them. Then the
questions that people ask. Times are of one machine and hour.
"""

# ruff: noqa: T201

from __future__ import annotations

import gc
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final, get_args

from smtpguard.history import Database, Store, engine_of, report, upkeep
from smtpguard.record import Record
from smtpguard.service.program import GC_THRESHOLD
from tests.history.stores import AT, DAY, SEED, numbered
from tests.records import UNKNOWN, refusal

CATEGORIES: Final = ("recipient.unknown", "reputation.ip_listed", "auth.dmarc", "content.spam", "rate.limited")
PROVIDERS: Final = ("google", "microsoft", "yahoo", "other")
SENDERS: Final = 40
ROUND: Final = 5_000  # records given at once: what waits stays within the store's bounds


def records(count: int) -> Iterator[Record]:
    """`count` refusals, evenly over a day before AT."""
    kinds = [
        numbered(0, refusal(meaning=UNKNOWN._replace(category=category, provider=provider)), mail_from=sender)
        for category in CATEGORIES
        for provider in PROVIDERS
        for sender in (f"a@sender{number}.example".encode() for number in range(SENDERS))
    ]
    for number in range(count):
        yield replace(kinds[number % len(kinds)], id=f"{number:012d}", at=AT - DAY + number * DAY / count)


def write(store: Store, count: int) -> None:
    """Give them, and say what it took."""
    made = records(count)
    given_s = wall_s = cpu_s = 0.0
    for _ in range(count // ROUND):
        batch = [next(made) for _ in range(ROUND)]
        wall, cpu = time.perf_counter(), time.process_time()
        for record in batch:
            store.write(record)
        given_s += time.perf_counter() - wall
        assert store.flush(600)
        wall_s += time.perf_counter() - wall
        cpu_s += time.process_time() - cpu
    assert store.standing.dropped == 0
    rows = store.standing.written
    print(f"write() on the answer's path  {given_s / count * 1e6:8.2f} us a record")
    print(
        f"rows made and written         {cpu_s / rows * 1e6:8.2f} us of CPU a row, {wall_s / rows * 1e6:.2f} us in all"
    )


def ask(database: Database, what: str, question: Callable[[Database], object]) -> None:
    """Ask three times, and say the best."""
    best = float("inf")
    for _ in range(3):
        begun = time.perf_counter()
        question(database)
        best = min(best, time.perf_counter() - begun)
    print(f"{what:<30}{best * 1e3:8.1f} ms")


def main() -> None:
    gc.freeze()  # as the service does it
    gc.set_threshold(*GC_THRESHOLD)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        url = sys.argv[2] if len(sys.argv) > 2 else f"sqlite:///{folder}/history.db"
        store = Store(engine_of(url), seed=SEED, mode="mask", retention_s=30 * DAY, clock=lambda: AT)
        assert store.start(60)
        print(f"{count:,} events in {engine_of(url).name}")
        write(store, count)
        with store.reading() as database:
            for by in get_args(report.By):
                question = partial(report.summary, since=AT - DAY, until=AT, by=by)
                ask(database, f"report --since 24h --by {by}", question)
            ask(database, "the last hundred refusals", report.rejections)
            ask(database, "... of a category", lambda each: report.rejections(each, category="auth.dmarc"))
            ask(database, "... of one that never was", lambda each: report.rejections(each, category="account"))
            ask(database, "an event by its id", lambda each: report.event(each, f"{count // 2:012d}"))
            ask(database, "rules of lint", lambda each: report.rules(each, AT - DAY, AT))
            print(f"size                          {upkeep.stats(database).size_bytes / 2**20:8.1f} MiB")
        begun = time.perf_counter()
        pruned = upkeep.prune(engine_of(url).connect(), AT + 10 * DAY, retention_s=9.5 * DAY, max_size=0)
        print(f"half of it pruned             {time.perf_counter() - begun:8.1f} s, {pruned:,} rows")
        store.close()


if __name__ == "__main__":
    main()
