"""python -m tests.soak [--minutes N] [--sessions N] [--rate N] [--seed N] [--json FILE]

Rounds of a minute: both doors, 1 % faults at each point of the dialogue, large messages among small ones, a reload and
scrapes of /metrics in each. Every few seconds the program's memory (PSS, proc(5)) and descriptors are read. Exit code 1
where a law of the ledger was broken, memory grew, or descriptors did not come back.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import secrets
import signal
import statistics
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from tests.bench.processes import kilobytes
from tests.chaos.guard import QUICK, Guard
from tests.chaos.hop import Dice, Hop
from tests.chaos.ledger import Ledger
from tests.chaos.mta import Mta, mails
from tests.chaos.stage import STORM_VERBS, WORST_S

ROUND_S: Final = 60.0
LOOK_S: Final = 5.0
SHARE: Final = 0.002  # at each of five points of a transaction: one in a hundred meets a fault
MAY_GROW_KB: Final = 8 << 10  # from the first half to the second, caches that fill included
MAX_PSS_KB: Final = 300 << 10  # reliability: load
SPARE_DESCRIPTORS: Final = 8


@dataclass(slots=True)
class Found:
    """What the soak found. Samples are (seconds, PSS in KB, descriptors)."""

    seed: int
    minutes: float
    sessions: int
    samples: list[tuple[float, int, int]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    descriptors: tuple[int, int] = (0, 0)
    """At the start, and when the load was over."""
    growth_kb: int = 0
    """Median of the second half less that of the first, the first round of each left out."""

    def judge(self) -> None:
        """Memory and descriptors."""
        memory = [pss for at, pss, _ in self.samples if at > ROUND_S] or [pss for _, pss, _ in self.samples]
        half = len(memory) // 2
        if half:
            self.growth_kb = round(statistics.median(memory[half:]) - statistics.median(memory[:half]))
        if self.growth_kb > MAY_GROW_KB:
            self.violations.append(f"R: memory grew by {self.growth_kb} KB from the first half to the second")
        if memory and max(memory) > MAX_PSS_KB:
            self.violations.append(f"R: {max(memory)} KB of memory")
        before, after = self.descriptors
        if after > before + SPARE_DESCRIPTORS:
            self.violations.append(f"R: {after} descriptors are open, {before} were at the start")

    def told(self) -> str:
        """The report."""
        pss = [pss for _, pss, _ in self.samples]
        lines = [
            f"soak: {self.minutes:g} minutes, {self.sessions} sessions, seed {self.seed}",
            f"PSS {pss[0]} KB at the start, {max(pss)} at most, {pss[-1]} at the end; growth {self.growth_kb} KB",
            f"descriptors {self.descriptors[0]} at the start, {max(count for *_, count in self.samples)} at most, "
            f"{self.descriptors[1]} at the end",
            "; ".join(f"{name} {count}" for name, count in sorted(self.counts.items())),
            *(f"! {violation}" for violation in self.violations),
        ]
        return "\n".join(lines) + "\n"


async def soak(found: Found, rate: float) -> None:
    """Play it."""
    rng = random.Random(found.seed)
    ledger = Ledger()
    more = f"connections = {max(10, found.sessions * 2 // 5)}\nmessages_per_connection = 100\n"
    with tempfile.TemporaryDirectory(prefix="smtpguard-soak-") as name:
        async with Hop(ledger) as hop:
            store = f'[store]\nurl = "sqlite:///{name}/history.db"'
            limits = f"max_sessions = {found.sessions + 50}\nmax_sessions_per_client = {found.sessions + 50}\n"
            guard = Guard(Path(name), hop.port, ledger, listen=limits, next_hop=QUICK + more, more=store)
            await guard.start()
            watch = None
            try:
                before = len(guard.process.descriptors())
                watch = asyncio.create_task(_watch(guard, found))
                hop.script = dice = Dice(hop, rng, SHARE, STORM_VERBS)
                until, number = time.monotonic() + found.minutes * 60, 0
                while time.monotonic() < until:
                    count = round(rate * min(ROUND_S, max(1.0, until - time.monotonic())))
                    hop.ledger = guard.ledger = ledger = Ledger()
                    mta = Mta(guard.ports, ledger, rng, WORST_S, pause_s=found.sessions / rate)
                    await mta.run(mails(count, rng, first=number), found.sessions)
                    number += count
                    ledger.close()
                    found.counts += ledger.counts
                    found.violations += ledger.violations
                    guard.process.signal(signal.SIGHUP)
                hop.script = None
                await asyncio.sleep(ROUND_S / 2)  # kept connections grow old
                found.descriptors = before, len(guard.process.descriptors())
                found.counts["faults played"] = sum(dice.played.values())
                if await guard.stop() != 0:
                    found.violations.append("V: a gentle stop ended with another code than 0")
            finally:
                if watch is not None:
                    watch.cancel()
                await guard.process.kill()
    found.judge()


async def _watch(guard: Guard, found: Found) -> None:
    began = time.monotonic()
    pid = guard.process.pid
    while True:
        pss = _pss_kb(pid)
        found.samples.append((round(time.monotonic() - began, 1), pss, len(guard.process.descriptors())))
        with suppress(OSError):
            await asyncio.to_thread(_scrape, guard.http)
        await asyncio.sleep(LOOK_S)


def _pss_kb(pid: int) -> int:
    return kilobytes(Path(f"/proc/{pid}/smaps_rollup").read_text(), "Pss")


def _scrape(port: int) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        answer.read()


def main(arguments: Sequence[str]) -> int:
    """Soak; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Memory and descriptors over time.")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--sessions", type=int, default=500)
    parser.add_argument("--rate", type=float, default=100.0, help="messages a second (default 100)")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the samples there")
    asked = parser.parse_args(arguments)
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # the next hop writes on connections that were reset: its job
    seed = asked.seed if asked.seed is not None else secrets.randbits(32)
    found = Found(seed, asked.minutes, asked.sessions)
    asyncio.run(soak(found, asked.rate))
    sys.stdout.write(found.told())
    if asked.json is not None:
        document = asdict(found) | {"counts": dict(found.counts)}  # asdict makes pairs of a Counter's items
        asked.json.write_text(json.dumps(document, indent=1) + "\n")
    return 1 if found.violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
