"""Facts that are found once: a fault of ours in finding one is told, and the fact is missing."""

from __future__ import annotations

import asyncio

from smtpguard.edge.known import Found, Known
from smtpguard.lint.facts import Missing


async def test_a_fault_in_finding_is_told_and_the_fact_is_missing() -> None:
    async def find(key: str) -> Found[str]:
        if key == "broken":
            raise KeyError(key)
        return Found(key.upper(), 60)

    faults: list[Exception] = []
    known = Known(find, lambda: 0.0, faults.append)
    asked = known.ask("broken")
    assert isinstance(asked, asyncio.Task)
    assert await asked == Missing("fault: KeyError")
    assert [type(fault) for fault in faults] == [KeyError]
    assert known.peek("broken") == Missing("fault: KeyError")
    asked = known.ask("well")
    assert isinstance(asked, asyncio.Task)
    assert await asked == "WELL"
    assert len(faults) == 1
