"""What `check` finds: one thing looked at, how it is, and what to do; and how that reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from smtpguard.cli.width import folded
from smtpguard.mail.reply import clean

State = Literal["ok", "warn", "fail", "skip"]

_PAINT: Final = {"ok": "\x1b[32m", "warn": "\x1b[33m", "fail": "\x1b[31m", "skip": "\x1b[2m"}
_COLUMN: Final = 24


class Finding(NamedTuple):
    """`name` is what was looked at, as `listen.smtp` or `next_hop.default.tls`. `remedy` is for warn and fail.

    `is_temporary`: a failure that may pass by itself, DNS away or a 4xx.
    """

    name: str
    state: State
    message: str
    remedy: str = ""
    is_temporary: bool = False


def line(finding: Finding, *, color: bool, width: int = 0) -> str:
    """One line, and the remedy on a second, both folded to `width` columns (0: not); foreign text is made harmless."""
    word = f"{finding.state:<5}"
    text = folded(f"{word} {finding.name:<{_COLUMN}} {clean(finding.message, utf8=True)}", width, _COLUMN + 7)
    if color:
        text = f"{_PAINT[finding.state]}{word}\x1b[0m{text.removeprefix(word)}"
    if not finding.remedy:
        return text
    return f"{text}\n" + folded(f"{'':5} {'':{_COLUMN}} > {clean(finding.remedy, utf8=True)}", width, _COLUMN + 9)


def exit_code(findings: Iterable[Finding]) -> int:
    """Contract 3: 0 fine (warnings too), 1 a problem, 75 where all that failed may pass by itself."""
    failed = [finding for finding in findings if finding.state == "fail"]
    if not failed:
        return 0
    return 75 if all(finding.is_temporary for finding in failed) else 1
