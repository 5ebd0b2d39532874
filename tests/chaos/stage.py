"""What every case stands on: its effort, its row of the report, and the program between a next hop and a client."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from smtpguard.sandbox import DEFAULT_KEYWORDS
from tests.chaos.guard import LIMIT_S, Guard
from tests.chaos.hop import Hop
from tests.chaos.ledger import Ledger
from tests.chaos.mta import Mta

GRACE_S: Final = 2.0
"""Beyond a time-out an answer may take so long (reliability: V)."""

# The stages that one command of the client may run through, each to its limit: a kept connection that died, a slot, a
# new connection's greeting, EHLO, MAIL, and RCPT behind it.
WORST_S: Final = 8 * LIMIT_S + GRACE_S
STORM_VERBS: Final = ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "BODY", "DOT", "RSET", "QUIT")


@dataclass(slots=True)
class Effort:
    """How much is done: messages of the storm, and of the smaller cases."""

    messages: int = 20_000
    few: int = 600
    sessions: int = 40


@dataclass(slots=True)
class Row:
    """What a case found. `skipped` says why it was not played."""

    case: str
    goal: str
    figures: dict[str, Any] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    skipped: str = ""

    def settle(self, ledger: Ledger) -> Row:
        """Close the books into the row."""
        ledger.close()
        self.figures |= dict(sorted(ledger.counts.items()))
        self.figures["longest answer, s"] = round(ledger.longest_s, 2)
        self.violations += ledger.violations
        return self


@asynccontextmanager
async def stage(
    *, keywords: Sequence[str] = DEFAULT_KEYWORDS, **options: Any
) -> AsyncIterator[tuple[Guard, Hop, Ledger, Path]]:
    """A next hop, and the program before it; `{dir}` in the options is a folder of theirs."""
    ledger = Ledger()
    with tempfile.TemporaryDirectory(prefix="smtpguard-chaos-") as name:
        options = {
            key: value.replace("{dir}", name) if isinstance(value, str) else value for key, value in options.items()
        }
        async with Hop(ledger, keywords=keywords) as hop:
            guard = Guard(Path(name), hop.port, ledger, **options)
            await guard.start()
            try:
                yield guard, hop, ledger, Path(name)
                if await guard.stop() != 0:
                    ledger.broke("V", "a gentle stop ended with another code than 0")
            finally:
                await guard.process.kill()


def client(
    guard: Guard, ledger: Ledger, rng: random.Random, *, within_s: float = 600.0, limit_s: float = WORST_S
) -> Mta:
    """An MTA before both doors, with a time by which it must be done and a limit for each answer (s)."""
    return Mta(guard.ports, ledger, rng, limit_s, deadline=time.monotonic() + within_s)


async def calm(guard: Guard, hop: Hop, descriptors: int) -> None:
    """Law R: after the storm descriptors come back to where they were, kept connections aside."""
    deadline = time.monotonic() + 10
    while (left := len(guard.process.descriptors()) - hop.open_connections) > descriptors + 8:
        if time.monotonic() > deadline:
            guard.ledger.broke("R", f"{left} descriptors are open, {descriptors} were at the start")
            return
        await asyncio.sleep(0.1)
