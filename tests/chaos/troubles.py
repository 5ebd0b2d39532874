"""What its machine does to it: signals, too few descriptors, a full disk, a locked store, dead DNS, a clock that jumps.

A case is given its effort and a seed; it starts a next hop, the program, and a client, and closes the books.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import socket
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from smtpguard.sandbox import Delay, Ok
from tests.chaos.guard import Guard
from tests.chaos.hop import Dice, Hop
from tests.chaos.ledger import Ledger
from tests.chaos.mta import Gone, Session, mails
from tests.chaos.stage import GRACE_S, STORM_VERBS, WORST_S, Effort, Row, calm, client, stage

FAKETIME: Final = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"


# -- signals --------------------------------------------------------------------------------------------------------


async def _under_signals(
    row: Row, effort: Effort, seed: int, trouble: Callable[[Guard, asyncio.Task[None]], Awaitable[int]]
) -> Row:
    """A load with some delays and faults while `trouble` goes on; it says how often it struck."""
    rng = random.Random(seed)
    async with stage() as (guard, hop, ledger, _):
        hop.script = _Slow(hop, rng)
        load = asyncio.create_task(client(guard, ledger, rng).run(mails(effort.few * 3, rng), 30))
        try:
            row.figures["times"] = await trouble(guard, load)
            await load
        finally:
            load.cancel()
    return row.settle(ledger)


class _Slow(Dice):
    """A few faults, and an answer to the message that takes a while: a signal finds many behind the dot."""

    def __init__(self, hop: Hop, rng: random.Random) -> None:
        super().__init__(hop, rng, 0.01, STORM_VERBS)

    def action(self, verb: str, occurrence: int) -> Any:
        """By chance; else slowly."""
        found = super().action(verb, occurrence)
        return Delay(0.1, Ok()) if found is None and verb == "DOT" else found


async def sigterm(effort: Effort, seed: int) -> Row:
    """Stopped gently and begun again, again and again."""

    async def trouble(guard: Guard, load: asyncio.Task[None]) -> int:
        times, longest = 0, 0.0
        while not load.done() and times < 6:
            await asyncio.sleep(0.7)
            began = time.monotonic()
            if await guard.stop() != 0:
                guard.ledger.broke("V", "SIGTERM: another exit code than 0")
            longest = max(longest, time.monotonic() - began)
            await guard.start()
            times += 1
        row.figures["longest stop, s"] = round(longest, 2)
        if longest > 3 + GRACE_S:
            guard.ledger.broke("V", f"a stop took {longest:.1f} s, the drain is 3 s")
        return times

    row = Row("sigterm", "SIGTERM: exit within the drain; 0 ambiguous where the next hop answers within it")
    return await _under_signals(row, effort, seed, trouble)


async def sigkill(effort: Effort, seed: int) -> Row:
    """Killed and begun again."""
    in_flight = 30

    async def trouble(guard: Guard, load: asyncio.Task[None]) -> int:
        times = 0
        while not load.done() and times < 6:
            await asyncio.sleep(0.7)
            await guard.kill()
            await guard.start()
            times += 1
        return times

    row = Row("sigkill", "SIGKILL under load: 0 lost after the retry, ambiguous at most the sessions in flight")
    await _under_signals(row, effort, seed, trouble)
    ambiguous = row.figures.get("copies in the window of RFC 1047", 0)
    if ambiguous > row.figures["times"] * in_flight * 3:  # a message has up to three recipients
        row.violations.append(f"D: {ambiguous} ambiguous copies after {row.figures['times']} kills")
    return row


async def sighup(effort: Effort, seed: int) -> Row:
    """Reloads without end, of good files and of bad ones."""

    async def trouble(guard: Guard, load: asyncio.Task[None]) -> int:
        times, good = 0, guard.config.read_text()
        while not load.done():
            port = next(line for line in good.splitlines() if line.startswith("port = "))
            other = good.replace(port, f'{port}\nidle = "{times % 20 + 1}s"')  # a new next hop each time
            guard.config.write_text(other)
            guard.process.signal(signal.SIGHUP)
            times += 1
            await asyncio.sleep(0.05)
        guard.config.write_text(good)
        row.figures["reloads"] = guard.logged["config-reloaded"]
        return times

    row = Row("sighup", "SIGHUP storms: reloads change nothing for mail under way")
    return await _under_signals(row, effort, seed, trouble)


# -- scarcity -------------------------------------------------------------------------------------------------------


async def descriptors(effort: Effort, seed: int) -> Row:
    """48 descriptors for 60 clients and their next hop; then enough again."""
    row = Row("descriptors", "48 descriptors, 60 clients: 4xx, 421 or accepted; recovers alone")
    rng = random.Random(seed)
    async with stage() as (guard, hop, ledger, _):
        before = len(guard.process.descriptors())
        guard.limit(resource.RLIMIT_NOFILE, 48)
        hop.script = _Slow(hop, rng)
        # A client that waits for its greeting waits for others to leave: no limit but the run's
        await client(guard, ledger, rng, limit_s=25.0).run(mails(effort.few, rng, large=0.2), 60)
        row.figures["descriptors before, after"] = (before, len(guard.process.descriptors()))
        await calm(guard, hop, before)
        hop.script = None
        await client(guard, ledger, rng).run(mails(20, rng, first=10**6), 4)
    return row.settle(ledger)


async def disk(effort: Effort, seed: int) -> Row:
    """No file may grow beyond 100 KB: bodies over 256 KiB find no room, smaller ones pass; then it is lifted."""
    row = Row("disk", "spool full: 452 4.3.1 for what needs it, no effect on the rest; recovers alone")
    rng = random.Random(seed)
    async with stage(relay='spool_dir = "{dir}"') as (guard, _, ledger, _):
        guard.limit(resource.RLIMIT_FSIZE, 100_000)
        queue = mails(effort.few // 3, rng, large=0.3)
        mta = client(guard, ledger, rng, within_s=120)
        load = asyncio.create_task(mta.run(queue, 10))
        await asyncio.sleep(2)
        row.figures["refused for want of room"] = guard.logged["no-room"]
        if not guard.logged["no-room"]:
            ledger.broke("R", "the limit was never met")
        guard.limit(resource.RLIMIT_FSIZE, resource.prlimit(guard.process.pid, resource.RLIMIT_FSIZE)[1])
        await load
    return row.settle(ledger)


async def locked_store(effort: Effort, seed: int) -> Row:
    """The history's file is locked by somebody else for seconds."""
    row = Row("locked store", "store locked: no effect on replies")
    rng = random.Random(seed)
    async with stage(more='[store]\nurl = "sqlite:///{dir}/history.db"') as (guard, _, ledger, directory):
        file = directory / "history.db"
        if not file.exists():
            row.skipped = "the program opens no store yet"
            return row.settle(ledger)
        await _pace(guard, ledger, rng, 30, first=2 * 10**6)
        quiet = await _pace(guard, ledger, rng, effort.few // 3, first=0)
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            locked = await _pace(guard, ledger, rng, effort.few // 3, first=10**6)
            other.execute("ROLLBACK")
        row.figures |= {"p99 free, ms": quiet, "p99 locked, ms": locked}
        if locked - quiet > 50:
            ledger.broke("V", f"p99 moved from {quiet} to {locked} ms")
    return row.settle(ledger)


async def dead_dns(effort: Effort, seed: int) -> Row:
    """A name server that takes questions and never answers."""
    row = Row("dead DNS", "DNS dead: lint skipped within its budget; unrelated mail's p99 moves by less than 50 ms")
    rng = random.Random(seed)
    figures: dict[str, float] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hole:
        hole.bind(("127.0.0.1", 0))
        dead = f'resolvers = ["127.0.0.1:{hole.getsockname()[1]}"]'
        for name, more in (
            ("lint off", '[lint]\nmode = "off"'),
            ("DNS dead", f'[lint]\nmode = "observe"\nbudget = "200ms"\n[lint.dns]\n{dead}'),
        ):
            async with stage(more=more) as (guard, _, ledger, _):
                await _pace(guard, ledger, rng, 30, first=10**6)
                figures[name] = await _pace(guard, ledger, rng, effort.few // 3, first=0)
            row.violations += Row("", "").settle(ledger).violations
    row.figures = {f"p99 {name}, ms": value for name, value in figures.items()}
    # The budget is awaited after the dot: by design that is what a message without any answer costs at most
    if figures["DNS dead"] - figures["lint off"] > 200 + 50:
        row.violations.append("V: mail waits longer than the budget of the lint")
    return row


async def _pace(guard: Guard, ledger: Ledger, rng: random.Random, count: int, *, first: int) -> float:
    """So many small messages one after another; the 99th percentile of their answers after the dot, in ms."""
    times: list[float] = []
    queue = mails(count, rng, large=0.0, first=first)
    for door in guard.ports:
        session = Session(door, guard.ports[door], ledger, WORST_S)
        await session.open()
        mta = client(guard, ledger, rng)
        for mail in queue[:: 2 if door == "smtp" else 1][: count // 2]:
            if not mail.rcpts:
                continue
            began = time.monotonic()
            with suppress(Gone):
                await mta.attempt(session, mail)
            times.append(time.monotonic() - began)
        session.close()
    return round(statistics.quantiles(times, n=100)[98] * 1000, 1)


async def clock(effort: Effort, seed: int) -> Row:
    """The clock of the day jumps a day to and fro under load (libfaketime)."""
    row = Row("clock", "clock a day off: no effect on replies")
    if not os.path.exists(FAKETIME):  # noqa: ASYNC240 (before anything runs)
        row.skipped = "libfaketime is not installed (apt-get install libfaketime)"
        return row
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="smtpguard-chaos-") as name:
        stamp = Path(name) / "stamp"
        stamp.write_text("+0")
        environ = {
            "LD_PRELOAD": FAKETIME,
            "FAKETIME_TIMESTAMP_FILE": str(stamp),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        async with stage(environ=environ) as (guard, hop, ledger, _):
            hop.script = _Slow(hop, rng)
            load = asyncio.create_task(client(guard, ledger, rng).run(mails(effort.few, rng), 20))
            for shift in ("+1d", "-1d", "+0", "+1d"):
                await asyncio.sleep(0.4)
                stamp.write_text(shift)
                row.figures["jumps"] = row.figures.get("jumps", 0) + 1
            await load
    return row.settle(ledger)
