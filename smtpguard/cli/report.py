"""`smtpguard report`: the history summed up: how much was refused, why, by whom, and how well lint foresaw it.

`--by category|provider|sender|code` counts refusals, a recipient each; `--by rule` sets each rule of lint against what
the next hop then said; `--would-reject` is what enforcing would have done, and what every rule would have done as
`reject` in `[lint.rules]`. Counts are kept in slots of ten minutes: a period begins at the slot that holds its
beginning. Exit codes: 0; 2 and 75 as with `store`.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from shutil import get_terminal_size
from typing import Any, Final, Literal, get_args

from smtpguard.cli.options import EXIT_FINE
from smtpguard.cli.store import asked, failed
from smtpguard.cli.summary import percent
from smtpguard.cli.tally import many, rfc3339
from smtpguard.cli.width import columns, folded
from smtpguard.history import Database, StoreError, report
from smtpguard.mail.reply import clean

By = Literal["category", "provider", "sender", "rule", "code"]
Format = Literal["table", "json", "csv", "md"]
BYS: Final[tuple[By, ...]] = get_args(By)
FORMATS: Final[tuple[Format, ...]] = get_args(Format)

MAX_SHOWN: Final = 40
"""Lines of a table on a terminal or in a pipe; the other formats give all."""
_BAR: Final = 30
_LEAST_BAR: Final = 4
_WIDTH: Final = 100
_RED, _PLAIN = "\x1b[31m", "\x1b[0m"
_UNKNOWN: Final = "(none)"  # the null sender has no domain

Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class Sheet:
    """A report before it is drawn: what it says in a sentence a line, columns, rows; `machine` is the whole for JSON.

    `weights` give each row's bar its length; empty: no bars.
    """

    sentence: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    machine: dict[str, Any]
    weights: tuple[int, ...] = ()


def run(url: str, *, since_s: float, now: float, by: By, would_reject: bool, format: Format, color: bool) -> int:
    """Report on the last `since_s` seconds before `now`; the exit code."""
    try:
        with asked(url) as database:
            sheet = _sheet(database, max(0.0, now - since_s), now, by, would_reject=would_reject)
    except StoreError as error:
        return failed("report", error)
    match format:
        case "json":
            print(json.dumps(sheet.machine, ensure_ascii=False))
        case "csv":
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(sheet.columns)
            writer.writerows(sheet.rows)
        case "md":
            print("\n".join(_markdown(sheet)))
        case "table":
            print("\n".join(_table(sheet, color=color)))
    return EXIT_FINE


# --- what is reported ------------------------------------------------------------------------------------------------


def _sheet(database: Database, since: float, until: float, by: By, *, would_reject: bool) -> Sheet:
    if would_reject:
        return _of_enforcing(report.would_reject(database, since, until))
    if by == "rule":
        return _of_rules(report.rules(database, since, until), since, until)
    return _of_refusals(report.summary(database, since, until, by))


def _of_refusals(found: report.Summary) -> Sheet:
    tried = found.accepted + found.refused
    share = f" ({percent(found.refused, tried)})" if tried else ""
    sentence = (
        f"{_period(found.since, found.until)}: {found.refused:,} of {tried:,} recipients refused{share}, "
        f"{found.rejected:,} rejected, {found.deferred:,} deferred"
    )
    rated = found.by in ("provider", "sender")
    columns = (found.by, "rejected", "deferred", *(("accepted", "refused %") if rated else ()), "mostly")
    columns = columns if found.by != "category" else columns[:-1]
    rows = tuple(
        (
            clean(line.name, utf8=True) or _UNKNOWN,
            line.rejected,
            line.deferred,
            *((line.accepted, _share(line.refused, line.refused + (line.accepted or 0))) if rated else ()),
            line.most,
        )[: len(columns)]
        for line in found.lines
    )
    machine = {
        **found._asdict(),
        "since": rfc3339(found.since),
        "until": rfc3339(found.until),
        "lines": [_told(line._asdict()) for line in found.lines],
    }
    return Sheet(sentence, columns, rows, machine, tuple(line.refused for line in found.lines))


def _of_rules(lines: Sequence[report.RuleLine], since: float, until: float) -> Sheet:
    findings = sum(line.findings for line in lines)
    sentence = (
        f"{_period(since, until)}: {findings:,} findings of {len(lines):,} rules"
        if lines
        else (f"{_period(since, until)}: lint found nothing")
    )
    machine = {"since": rfc3339(since), "until": rfc3339(until), "by": "rule", "lines": _rule_objects(lines)}
    return Sheet(sentence, _RULE_COLUMNS, _rule_rows(lines), machine, tuple(line.findings for line in lines))


def _of_enforcing(found: report.WouldReject) -> Sheet:
    sentence = (
        f"{_period(found.since, found.until)}: enforcing would have refused {_messages(found.enforcing)}\n"
        f"every rule as reject in [lint.rules] would have refused {_messages(found.every)}"
    )
    lines = zip(found.by_rule, _rule_objects(found.by_rule), strict=True)
    machine = {
        "since": rfc3339(found.since),
        "until": rfc3339(found.until),
        "enforcing": found.enforcing._asdict(),
        **found.every._asdict(),
        "by_rule": [{**told, "certain": line.is_certain} for line, told in lines],
    }
    rows = tuple(
        (*row, "enforce" if line.is_certain else "reject")
        for line, row in zip(found.by_rule, _rule_rows(found.by_rule), strict=True)
    )
    weights = tuple(line.would_reject for line in found.by_rule)
    return Sheet(sentence, (*_RULE_COLUMNS, "by"), rows, machine, weights)


def _messages(found: report.Messages) -> str:
    """`2 messages; the next hop rejected 1 of them, and took 1`."""
    is_told = found.rejected or found.accepted
    right = f"; the next hop rejected {found.rejected:,} of them, and took {found.accepted:,}" if is_told else ""
    return f"{many(found.messages, 'message')}{right}"


_RULE_COLUMNS: Final = ("rule", "severity", "findings", "rejected", "accepted", "right %", "would reject")


def _rule_rows(lines: Sequence[report.RuleLine]) -> tuple[tuple[Cell, ...], ...]:
    return tuple(
        (
            line.rule,
            line.severity,
            line.findings,
            line.rejected,
            line.accepted,
            _share(line.rejected, line.rejected + line.accepted),
            line.would_reject,
        )
        for line in lines
    )


def _rule_objects(lines: Sequence[report.RuleLine]) -> list[dict[str, Any]]:
    return [_told({**asdict(line), "precision": line.precision}) for line in lines]


def _told(whole: dict[str, Any]) -> dict[str, Any]:
    """Absent rather than null; the null sender's domain is no name, but there."""
    return {key: value for key, value in whole.items() if value is not None and (value != "" or key == "name")}


def _share(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 1) if whole else None


def _period(since: float, until: float) -> str:
    first, last = (datetime.fromtimestamp(at).astimezone() for at in (since, until))
    return f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} {last:%Z}"


# --- how it looks ----------------------------------------------------------------------------------------------------


def _cell(value: Cell) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _table(sheet: Sheet, *, color: bool) -> Iterator[str]:
    for sentence in sheet.sentence.splitlines():
        text = folded(sentence, columns())
        yield f"\x1b[1m{text}\x1b[0m" if color else text
    if not sheet.rows:
        return
    shown = [tuple(map(_cell, row)) for row in sheet.rows[:MAX_SHOWN]]
    widths = [max(map(len, column)) for column in zip(sheet.columns, *shown, strict=True)]
    is_number = [not isinstance(value, str) for value in sheet.rows[0]]
    room = min(_BAR, get_terminal_size((_WIDTH, 0)).columns - sum(widths) - 2 * len(widths))
    room = room if room >= _LEAST_BAR else 0  # shorter ones say nothing, and would break the lines
    most = max((*sheet.weights, 1))
    # a pipe's encoding may lack blocks
    block = "\u2588" if "utf" in (getattr(sys.stdout, "encoding", "") or "").lower() else "#"

    def line(cells: Sequence[str]) -> str:
        padded = zip(cells, widths, is_number, strict=True)
        return "  ".join(f"{cell:>{width}}" if right else f"{cell:<{width}}" for cell, width, right in padded)

    yield ""
    yield line(sheet.columns).rstrip()
    for cells, weight in zip(shown, sheet.weights[:MAX_SHOWN], strict=True):
        bar = block * (max(1, round(room * weight / most)) if weight and room else 0)
        yield f"{line(cells)}  {f'{_RED}{bar}{_PLAIN}' if color and bar else bar}".rstrip()
    if (rest := len(sheet.rows) - MAX_SHOWN) > 0:
        yield f"and {rest:,} more (--format json has all)"


def _markdown(sheet: Sheet) -> Iterator[str]:
    yield sheet.sentence
    yield ""
    yield f"| {' | '.join(sheet.columns)} |"
    yield f"|{' --- |' * len(sheet.columns)}"
    for row in sheet.rows:
        yield "| " + " | ".join(_cell(value).replace("\\", "\\\\").replace("|", "\\|") for value in row) + " |"
