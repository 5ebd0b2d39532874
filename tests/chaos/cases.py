"""The cases by name: each is a row of the report, with its figures and whatever law was broken."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from tests.chaos import real
from tests.chaos.misdeeds import faults, large, storm, tls
from tests.chaos.stage import Effort, Row
from tests.chaos.troubles import clock, dead_dns, descriptors, disk, locked_store, sighup, sigkill, sigterm
from tests.chaos.wanderers import clients


async def postfix(effort: Effort, seed: int) -> Row:
    """Postfix in front, over LMTP, with 50 % faults behind and ten kills between."""
    row = Row("postfix", "a real MTA: queue empties, exactly once outside the window, one bounce a refused message")
    row.skipped = real.missing()
    if not row.skipped:
        ledger, row.figures = await real.play(effort.messages // 2, seed)
        row.violations = ledger.violations
    return row


CASES: Final[Mapping[str, Callable[[Effort, int], Awaitable[Row]]]] = {
    "storm": storm,
    "faults": faults,
    "large": large,
    "clients": clients,
    "sigterm": sigterm,
    "sigkill": sigkill,
    "sighup": sighup,
    "descriptors": descriptors,
    "disk": disk,
    "locked-store": locked_store,
    "dead-dns": dead_dns,
    "clock": clock,
    "tls": tls,
    "postfix": postfix,
}
