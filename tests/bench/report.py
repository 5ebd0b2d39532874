"""How results are shown: tables for a person, JSON for a program, and on what machine they came to be."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from tests.bench.budgets import BUDGETS
from tests.bench.fetch import CACHE
from tests.bench.figures import Row

_PACKAGES: Final = ("smtpguard", "aiosmtpd", "aiosmtplib", "uvloop", "orjson", "prometheus_client")
_TITLES: Final[Mapping[str, str]] = {
    "cpu_ms": "CPU ms",
    "rate": "msg/s",
    "cpu_ratio": "CPU / Postfix",
    "rate_ratio": "msg/s / Postfix",
    "kb_each": "KB each",
}


def shown(value: float) -> str:
    """Three digits that count, without an exponent."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def tables(rows: Sequence[Row]) -> str:
    """A Markdown table for each case, its peers below each other."""
    parts = []
    for case in dict.fromkeys(row.case for row in rows):
        lines = [row for row in rows if row.case == case]
        names = list(dict.fromkeys(name for row in lines for name in row.figures))
        parts.append(table([case, *(_TITLES.get(name, name.replace("_", " ")) for name in names), ""], [
            [row.peer, *(shown(row.figures[name]) if name in row.figures else "" for name in names), row.note]
            for row in lines
        ]))  # fmt: skip
    return "\n".join(parts)


def budgets(rows: Sequence[Row]) -> str:
    """The budgets, each met, missed, or not measured in this run."""
    body = []
    for budget in BUDGETS:
        verdict, value = budget.judge(rows)
        bound = f"{'>=' if budget.at_least else '<='} {budget.limit:g} {budget.unit}"
        body.append([budget.text, bound, "" if value is None else shown(value), verdict])
    return table(["budget", "limit", "measured", "verdict"], body)


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in (head, *body)) for column in range(len(head))]
    used = [column for column, width in enumerate(widths) if width]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cells[column].ljust(widths[column]) for column in used) + " |"

    rule = "| " + " | ".join("-" * widths[column] for column in used) + " |"
    return "\n".join([line(head), rule, *(line(cells) for cells in body)]) + "\n"


def machine() -> dict[str, str]:
    """What it ran on, and with which versions of what."""
    found = {
        "cores": str(os.cpu_count()),
        "processor": _first(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "postfix": _first(r"mail_version = (\S+)", _said(["postconf", "mail_version"])),
        "node": _said(["node", "--version"]).strip(),
        "haraka": _first(r'"version": "([^"]+)"', _text(CACHE / "haraka/node_modules/Haraka/package.json")),
        "nginx": _first(r"nginx/(\S+)", _said([str(CACHE / "nginx/root/usr/sbin/nginx"), "-v"])),
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = ""
    return {name: value for name, value in found.items() if value}


def document(rows: Sequence[Row], on: Mapping[str, str], *, quick: bool, seconds: float) -> dict[str, Any]:
    """All of it, for JSON."""
    judged = [(budget, *budget.judge(rows)) for budget in BUDGETS]
    return {
        "machine": dict(on),
        "quick": quick,
        "seconds": round(seconds, 1),
        "rows": [{"case": row.case, "peer": row.peer, **row.figures, "note": row.note} for row in rows],
        "budgets": [
            {"budget": budget.text, "limit": budget.limit, "unit": budget.unit, "value": value, "verdict": verdict}
            for budget, verdict, value in judged
        ],
    }


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1] if found else ""


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _said(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return ""
    return done.stdout + done.stderr
