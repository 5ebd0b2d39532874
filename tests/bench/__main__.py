"""The benchmark's command: fidelity, then the cases, then tables on standard output and, with --json, a file.

Exit code 0: measured, and every budget that was judged is met; 1: one is missed; 2: nothing could be measured, because
the load is not there or mail did not arrive as it was sent.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.bench import load, report
from tests.bench.budgets import BUDGETS
from tests.bench.cases import CASES
from tests.bench.fidelity import check
from tests.bench.figures import Row
from tests.bench.peers import ALL, OURS, make
from tests.bench.stand import QUICK, Effort, Stand

FAITHFUL: Final = OURS
"""What must not change mail, nor answer before it is handed on: else nothing is timed."""


def main(arguments: Sequence[str]) -> int:
    """Run it; the exit code."""
    asked = _arguments(arguments)
    if reason := load.missing():
        sys.stderr.write(f"bench: {reason}\n")
        return 2
    on = report.machine()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="smtpguard-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # Postfix runs as several users
        stand = Stand(directory, QUICK if asked.quick else Effort())
        if not fidelity(stand):
            return 2
        for case in asked.only or CASES:
            stand.say(f"{case} ({time.monotonic() - begun:.0f} s)")
            try:
                CASES[case](stand)
            except (RuntimeError, OSError, TimeoutError) as error:
                stand.fail(case, "", error)
    seconds = time.monotonic() - begun
    sys.stdout.write(f"{report.tables(stand.rows)}\n{report.budgets(stand.rows)}\n")
    sys.stdout.write("; ".join(f"{what} {which}" for what, which in on.items()) + f"; {seconds:.0f} s\n")
    if asked.json is not None:
        document = report.document(stand.rows, on, quick=asked.quick, seconds=seconds)
        asked.json.write_text(json.dumps(document, indent=1) + "\n")
    return 1 if any(budget.judge(stand.rows)[0] == "missed" for budget in BUDGETS) else 0


def fidelity(stand: Stand) -> bool:
    """Whether those that must hand on mail as it came do so; a row for each peer."""
    stand.say("fidelity")
    right = True
    for name in (name for name in ALL if name != "direct"):
        try:
            found = check(make(name, stand.directory))
        except (RuntimeError, OSError, AssertionError) as error:
            stand.lack(name, error)
            right = right and name not in FAITHFUL
            continue
        stand.add(Row("fidelity", name, note="; ".join(found) or "octet for octet"))
        right = right and not (found and name in FAITHFUL)
    return right


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="What smtpguard costs, beside others.")
    parser.add_argument("--quick", action="store_true", help="shorter and coarser: under three minutes")
    parser.add_argument("--only", action="append", choices=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
