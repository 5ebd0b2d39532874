"""The command: cases, a table on standard output, JSON with --json, and the seed with which it can be had again.

Exit code 0: no law was broken; 1: one was; 2: nothing could be played.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.chaos.cases import CASES
from tests.chaos.stage import Effort, Row

QUICK = Effort(messages=1_000, few=150)
ROUND = Effort(messages=4_000)  # of a run that is measured in seconds


def main(arguments: Sequence[str]) -> int:
    """Play; the exit code."""
    asked = _arguments(arguments)
    seed = asked.seed if asked.seed is not None else secrets.randbits(32)
    effort = QUICK if asked.quick else ROUND if asked.seconds else Effort()
    if asked.messages is not None:
        effort.messages = asked.messages
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # the next hop writes on connections that were reset: its job
    sys.stdout.write(f"chaos: seed {seed}\n")
    rows = asyncio.run(play(asked.only or list(CASES), effort, seed, asked.seconds))
    sys.stdout.write(table(rows))
    if asked.json is not None:
        asked.json.write_text(json.dumps({"seed": seed, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    if any(row.violations for row in rows):
        sys.stdout.write(f"chaos: broken; again with --seed {seed}\n")
        return 1
    return 0 if any(not row.skipped for row in rows) else 2


async def play(names: Sequence[str], effort: Effort, seed: int, seconds: float) -> list[Row]:
    """The cases by name, once, or round after round (each with a seed of its own) until `seconds` are over."""
    rows: list[Row] = []
    until = time.monotonic() + seconds
    while True:
        for name in names:
            began = time.monotonic()
            row = await CASES[name](effort, seed)
            row.figures["took, s"] = round(time.monotonic() - began, 1)
            row.figures["seed"] = seed
            rows.append(row)
            sys.stdout.write(f"{row.case}: {_verdict(row)} ({row.figures['took, s']} s)\n")
            sys.stdout.flush()
        seed += 1
        if time.monotonic() > until:
            return rows


def _verdict(row: Row) -> str:
    return f"skipped: {row.skipped}" if row.skipped else "broken" if row.violations else "held"


def table(rows: Sequence[Row]) -> str:
    """A block a row: goal, verdict, figures, violations."""
    blocks = []
    for row in rows:
        figures = "; ".join(f"{name} {value}" for name, value in row.figures.items())
        violations = "".join(f"    ! {violation}\n" for violation in row.violations[:20])
        blocks.append(f"{row.case:<14}{_verdict(row)}: {row.goal}\n    {figures}\n{violations}")
    return "\n" + "\n".join(blocks)


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="What breaks it, played by chance.")
    parser.add_argument("--quick", action="store_true", help="a few minutes in all")
    parser.add_argument("--seconds", type=float, default=0.0, metavar="N", help="rounds until so much time is over")
    parser.add_argument("--messages", type=int, metavar="N", help="of the storm")
    parser.add_argument("--only", action="append", choices=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--seed", type=int, metavar="N", help="as an earlier run printed it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
