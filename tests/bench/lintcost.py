"""What the lint costs by family of rules: microseconds a message, for each of `letters.LETTERS`.

    python -m tests.bench.lintcost [--json FILE]

No load, no relay: transactions are inspected one after another as the relay does it, with the DNS known already. Each
letter goes in several copies that differ in Message-ID and signature: what is remembered of one is of no use to the
next. The rows: `parse` reads the header section; `facts` is all before a rule is asked (parsing, signatures, what DNS
says of it, which rules there are to ask); each family is what its rules add to that when they alone are on; `all` is
everything at once. Parts of a message are read when first asked for, and are charged to each family that asks: the
families add up to more than `all`. The figures are CPU, of the quickest of several rounds, because what disturbs only
adds; below 10 us they are noise.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

from smtpguard.config import LintSettings
from smtpguard.edge.blocklist import Blocklists
from smtpguard.edge.gather import Gather
from smtpguard.edge.inspection import Inspections
from smtpguard.edge.resolver import Resolver
from smtpguard.edge.spool import Memory, SpooledBody
from smtpguard.edge.volume import Volume
from smtpguard.flow import Body
from smtpguard.lint import RULES, Action, Report, Ruleset
from smtpguard.lint.facts import Signing
from smtpguard.mail.message import Message
from smtpguard.mail.session import Envelope, Recipient
from smtpguard.service.program import GC_THRESHOLD
from tests.bench import letters
from tests.bench.names import EGRESS, HOST, Names
from tests.bench.report import table

ROUND_S: Final = 0.02
ROUNDS: Final = 15
COPIES_OCTETS: Final = 64 << 10
"""Of all copies of a letter together, at least two of them."""
_PATIENCE_S: Final = 30.0


def chosen(family: str) -> Mapping[str, Action]:
    """`[lint.rules]` where the rules of one family are on, as by default; "" is none, `all` is all of them."""
    codes = (rule.code for rule in RULES.values() if rule.by_default and family in (rule.family, "all"))
    return {"ALL": Action.OFF, **dict.fromkeys(codes, Action.OBSERVE)}


def _raise(fault: Exception) -> None:
    """A load that meets a fault of ours measures nothing."""
    raise fault


class Here(Inspections):
    """Large messages are read here too: a thread's hand-over is not the lint's cost."""

    def reads_here(self, body: Body) -> bool:
        """Always."""
        return True


class Cost:
    """Inspections over a warm DNS. `gather` asks the name server of the load."""

    def __init__(self, gather: Gather) -> None:
        self._gather = gather

    def inspections(self, family: str) -> Inspections:
        """With the rules of one family."""
        return Here(
            Ruleset(chosen=chosen(family)),
            self._gather,
            Volume(sys.maxsize, time.monotonic),
            signing=Signing(),
            budget_s=_PATIENCE_S,
            now=time.time,
            clock=time.monotonic,
            on_fault=_raise,
        )

    async def warm(self, body: SpooledBody) -> Report:
        """Ask for all that this message wants to know; what the rules say of it."""
        inspections = self.inspections("all")
        done = asyncio.get_running_loop().create_future()
        _inspect(inspections, [body], done.set_result)
        report: Report = await done
        inspections.close()
        return report

    def of(self, bodies: Sequence[SpooledBody]) -> dict[str, float]:
        """Microseconds a message by row; the bodies are copies of one letter."""
        families = tuple(dict.fromkeys(rule.family for rule in RULES.values()))
        opened = {family: self.inspections(family) for family in ("", *families, "all")}
        work: dict[str, Callable[[], object]] = {
            family: partial(_inspect, inspections, bodies, lambda _: None) for family, inspections in opened.items()
        }
        octets = [bytes(body.raw()) for body in bodies]
        taken = _quickest({**work, "parse": lambda: list(map(Message, octets))}, each=len(bodies))
        for inspections in opened.values():
            inspections.close()
        added = {family: taken[family] - taken[""] for family in families}
        return {"parse": taken["parse"], "facts": taken[""], **added, "all": taken["all"]}


def _inspect(inspections: Inspections, bodies: Sequence[SpooledBody], then: Callable[[Report], None]) -> None:
    """A transaction each, as `flow` has them inspected."""
    for body in bodies:
        _transact(inspections, body, then)


def _transact(inspections: Inspections, body: SpooledBody, then: Callable[[Report], None]) -> None:
    rcpt = Recipient(letters.RCPT.encode())
    envelope = Envelope(letters.SENDER.encode(), rcpts=[rcpt])
    inspection = inspections.open(envelope, None, (EGRESS,))
    inspection.at_mail(lambda _: None)
    inspection.at_rcpts([rcpt], lambda _: None)

    def judged(_: object) -> None:
        inspection.finish()
        then(inspection.report)

    inspection.at_dot(body, judged)


def _quickest(work: Mapping[str, Callable[[], object]], *, each: int) -> dict[str, float]:
    """Microseconds of CPU, in the quickest of the rounds; a round goes once through all. A run does it `each` times."""
    rounds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(ROUNDS):
        for name, run in work.items():
            count, begun, spent = 0, time.thread_time(), 0.0
            while spent < ROUND_S:
                run()
                count += 1
                spent = time.thread_time() - begun
            rounds[name].append(spent / count / each)
    return {name: 1e6 * min(each) for name, each in rounds.items()}


@asynccontextmanager
async def gathering(port: int) -> AsyncIterator[Gather]:
    """Facts as the service finds them, with the name server at this port of loopback, and its default blocklists."""
    settings = LintSettings().blocklists
    resolver = Resolver([f"127.0.0.1:{port}"], clock=time.monotonic, count=lambda *_: None)
    lists = Blocklists(
        resolver.about("blocklist"), (*settings.ip, *settings.domain), clock=time.monotonic, on_change=lambda _: None
    )
    gather = Gather(resolver, lists, helo=HOST, clock=time.monotonic, on_fault=_raise)
    try:
        yield gather
    finally:
        await gather.close()
        await lists.close()
        await resolver.close()


def held(octets: bytes) -> SpooledBody:
    """A message as it was received; in memory, or in a file where it is large."""
    body = SpooledBody(Memory(len(octets)), None)
    body.write(octets)
    body.complete(len(octets))
    return body


def copies(octets: bytes) -> list[bytes]:
    """A letter as it would be written again and again: another Message-ID each time, and so another signature."""
    bare = octets[octets.index(b"From:") :]
    unsigned = [
        bare.replace(b"<1@", b"<%d@" % number, 1) for number in range(1, 1 + max(2, COPIES_OCTETS // len(bare)))
    ]
    return unsigned if len(bare) == len(octets) else list(map(letters.KEY.sign, unsigned))


async def measure(port: int) -> dict[str, dict[str, float]]:
    """Microseconds by letter and row."""
    found: dict[str, dict[str, float]] = {}
    async with gathering(port) as gather:
        for name, write in letters.LETTERS.items():
            bodies = list(map(held, copies(write())))
            cost = Cost(gather)
            await cost.warm(bodies[0])
            found[name] = cost.of(bodies)
            for body in bodies:
                body.close()
    return found


def main(arguments: Sequence[str]) -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.lintcost", description="What the lint costs.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    asked = parser.parse_args(arguments)
    names = Names()
    names.start()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)  # as in the service
    try:
        found = asyncio.run(measure(names.port))
    finally:
        names.stop()
    rows = list(next(iter(found.values())))
    body = [[row, *(f"{found[letter][row]:,.0f}" for letter in found)] for row in rows]
    sys.stdout.write(table(["us a message", *found], body))
    if asked.json is not None:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
