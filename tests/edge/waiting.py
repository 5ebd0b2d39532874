"""Waiting for what must come: a test says what, never how long it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.harness import PATIENCE_S, Guard


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until it is so; TimeoutError if it never is."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if is_so():
                return
            await asyncio.sleep(0.005)


async def all_ended(guard: Guard) -> None:
    """Wait until no session is left at either door."""
    await until(lambda: not any(guard.sample("sessions_in_progress", door=door) for door in ("smtp", "lmtp")))
