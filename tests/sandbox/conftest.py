"""The sandbox is tested on both loops, for they differ in how they end, pause and shake hands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loops by name, for the test ids."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
