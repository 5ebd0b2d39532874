"""A tally as a person reads it: how much was refused, why, by whom, and what to do first.

Drawn by rich for a terminal, and by the same code in plain text for a pipe. Texts from outside are made harmless here.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from smtpguard.cli.tally import Cause, Tally, many
from smtpguard.mail.reply import clean

PIPE_WIDTH: Final = 100
MAX_PROVIDERS: Final = 8
MAX_TO_DO: Final = 6
MAX_EXAMPLE: Final = 300

_STYLES: Final = {0: "red", 1: "red", 2: "yellow"}  # by urgency


def console(*, color: bool) -> Console:
    """For standard output: as wide as the terminal, or $COLUMNS, or PIPE_WIDTH."""
    width = None if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal() else PIPE_WIDTH
    return Console(no_color=not color, highlight=False, width=width, force_terminal=color or None)


def show(tally: Tally, name: str, *, color: bool) -> None:
    """Print the summary of what was read from `name`."""
    out = console(color=color)
    width = min(out.width, 120)
    # a pipe's encoding may lack blocks
    bar = "\u2588" if "utf" in (getattr(sys.stdout, "encoding", "") or "").lower() else "#"
    parts: list[RenderableType] = [_head(tally, name)]
    if tally.causes:
        parts += [_title("Causes"), _causes(tally, width, bar)]
        if to_do := tally.to_do():
            parts += [_title("What to do first"), *_to_do(to_do)]
        parts += [_title("Who refused"), _providers(tally)]
    if tally.inbound:
        parts += [_title("Refused by this server itself (mail that came in)"), _inbound(tally)]
    if tally.complaints:
        said = ", ".join(f"{clean(kind)} {count:,}" for kind, count in tally.complaints.most_common(8))
        parts += [_title("Complaints"), Padding(Text(said), (0, 2))]
    if sys.stdout.isatty():
        out.print(Group(*parts), width=width)
        return
    with out.capture() as drawn:  # without the blanks that fill a table's lines
        out.print(Group(*parts), width=width)
    print("\n".join(line.rstrip() for line in drawn.get().rstrip("\n").split("\n")))


def _head(tally: Tally, name: str) -> Text:
    head = Text(f"{clean(name, utf8=True)}: ", style="bold")
    refused, tried = tally.refused, tally.tried
    if not tally.notices:
        head.append("no delivery, refusal or complaint found", style="not bold")
    elif not tried:
        head.append("no delivery found", style="not bold")
    else:
        head.append(f"{refused:,} of {tried:,} deliveries refused" if tally.delivered else many(refused, "refusal"))
        if tally.delivered:
            head.append(f" ({percent(refused, tried)})", style="not bold")
        if refused:
            later = refused - tally.failed
            head.append(f", {tally.failed:,} for good, {later:,} to be tried again", style="not bold")
    if span := _span(tally):
        head.append(f"\n{span}", style="dim")
    return head


def _span(tally: Tally) -> str:
    if tally.first is None or tally.last is None:
        return ""
    try:
        first, last = (datetime.fromtimestamp(when).astimezone() for when in (tally.first, tally.last))
    except (ValueError, OverflowError, OSError):
        return ""
    return f"from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} {last:%Z}"


def percent(part: int, whole: int) -> str:
    """With a decimal where it is needed: 46 %, 3.1 %, under 0.1 %."""
    share = 100 * part / whole
    if 0 < share < 0.1:
        return "under 0.1 %"
    return f"{share:.0f} %" if share >= 10 or share == 0 else f"{share:.1f} %"


def _title(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _grid(*columns: str) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(width=0)
    for justify in columns:
        table.add_column(
            justify="right" if justify == "right" else "left",
            no_wrap=justify != "fold",
            overflow="fold" if justify == "fold" else "ellipsis",
        )
    return table


def _causes(tally: Tally, width: int, bar: str) -> Table:
    table = _grid("left", "right", "right", "left", "left")
    most = max(cause.count for cause in tally.causes.values())
    taken = [
        max(map(len, tally.causes)),
        len(f"{most:,}"),
        len("0.0 %"),
        max(len(cause.meaning.responsible) for cause in tally.causes.values()),
    ]
    room = max(4, min(30, width - sum(taken) - 2 * (len(taken) + 1)))
    for category, cause in tally.by_count():
        length = max(1, round(room * cause.count / most))
        table.add_row(
            "",
            Text(category, style=_STYLES.get(cause.urgency, "")),
            f"{cause.count:,}",
            percent(cause.count, tally.refused),
            Text(bar * length, style=_STYLES.get(cause.urgency, "dim")),
            Text(cause.meaning.responsible, style="dim"),
        )
    return table


def _to_do(found: list[tuple[str, Cause]]) -> list[RenderableType]:
    lines: list[RenderableType] = []
    for number, (category, cause) in enumerate(found[:MAX_TO_DO], 1):
        meaning = cause.meaning
        step = Table.grid(padding=(0, 1))
        step.add_column(width=4, justify="right", style="bold")
        step.add_column(overflow="fold")
        step.add_row(f"{number}.", Text(clean(meaning.fix, utf8=True), style="bold"))
        where = _counted(cause.providers)
        step.add_row("", Text(f"{category}: {many(cause.count, 'refusal')}{f', {where}' if where else ''}"))
        step.add_row("", Text(_example(cause), style="dim"))
        if meaning.reference:
            step.add_row("", Text(f"see {clean(meaning.reference)}", style="dim"))
        lines.append(step)
    if (rest := len(found) - MAX_TO_DO) > 0:
        lines.append(Text(f"     and {many(rest, 'more cause')} (--json has all)", style="dim"))
    return lines


def _example(cause: Cause) -> str:
    notice, reply = cause.example, cause.example.reply
    text = (str(reply) if notice.has_code else reply.text) if reply is not None else ""
    text = clean(" ".join(text.split()), utf8=True)
    if len(text) > MAX_EXAMPLE:
        text = f"{text[: MAX_EXAMPLE - 4]} ..."
    return f"{clean(notice.host)}: {text}" if notice.host else text


def _counted(providers: dict[str, int]) -> str:
    """`google 9, yahoo 2`; nothing where none is known by name."""
    named = sorted(((name, count) for name, count in providers.items() if name != "other"), key=lambda each: -each[1])
    return ", ".join(f"{name} {count:,}" for name, count in named[:4])


def _providers(tally: Tally) -> Table:
    table = _grid("left", "right", "fold")
    for name, counts in tally.providers()[:MAX_PROVIDERS]:
        causes = ", ".join(f"{category} {count:,}" for category, count in counts.most_common(4))
        more = f" and {len(counts) - 4} more" if len(counts) > 4 else ""
        table.add_row("", name, f"{counts.total():,}", Text(causes + more, style="dim"))
    return table


def _inbound(tally: Tally) -> Table:
    table = _grid("left", "right")
    for category, cause in sorted(tally.inbound.items(), key=lambda item: -item[1].count)[:MAX_PROVIDERS]:
        table.add_row("", category, f"{cause.count:,}")
    return table
