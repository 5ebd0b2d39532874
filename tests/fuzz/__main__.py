"""The long run: every target for its share of the time, by atheris where it is installed, else by hypothesis.

atheris ends its process at a finding, so each target has one of its own (guided.py); the octets of a finding are left
in `.cache/fuzz/`. Exit code 0: nothing was found; 1: something was.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hypothesis import HealthCheck, given, settings

from tests.fuzz.targets import TARGETS
from tests.fuzz.test_targets import octets_of

KEPT: Final = Path(".cache/fuzz")
_CASES: Final = re.compile(r"number_of_executed_units:\s+(\d+)")


def main(arguments: Sequence[str]) -> int:
    """Fuzz; the exit code."""
    asked = _arguments(arguments)
    names = asked.only or list(TARGETS)
    share = max(1, round(asked.seconds / len(names)))
    broken = []
    for name in names:
        began = time.monotonic()
        cases, finding = (by_atheris if asked.engine == "atheris" else by_hypothesis)(name, share)
        broken += [name] if finding else []
        verdict = "FOUND" if finding else "nothing found"
        sys.stdout.write(f"{name}: {verdict} in {cases} cases ({asked.engine}, {time.monotonic() - began:.0f} s)\n")
        sys.stdout.write(finding)
        sys.stdout.flush()
    if broken:
        sys.stdout.write(f"broken: {', '.join(broken)}\n")
    return 1 if broken else 0


def by_atheris(name: str, seconds: int) -> tuple[int, str]:
    """One target for so long: the cases played, and what was said of a finding ("" for none)."""
    KEPT.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.fuzz.guided", name, str(seconds), str(KEPT)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    said = done.stdout + done.stderr
    found = _CASES.search(said)
    return int(found[1]) if found else 0, said[-4000:] if done.returncode else ""


def by_hypothesis(name: str, seconds: int) -> tuple[int, str]:
    """The same, in rounds."""
    target = TARGETS[name]
    cases = 0

    @settings(max_examples=2_000, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(octets_of(target.language))
    def play(octets: bytes) -> None:
        nonlocal cases
        cases += 1
        target.read(octets)

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            play()
        except Exception as error:
            return cases, "\n".join([repr(error), *getattr(error, "__notes__", ())]) + "\n"
    return cases, ""


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Hostile octets for every reader.")
    engine = "atheris" if importlib.util.find_spec("atheris") is not None else "hypothesis"
    parser.add_argument("--seconds", type=float, default=600.0, metavar="N", help="in all (default 600)")
    parser.add_argument("--only", action="append", choices=list(TARGETS), metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--engine", choices=["atheris", "hypothesis"], default=engine, help=f"default: {engine}")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
