"""Guessing passwords: a hundred guesses get nowhere, cost ever more time, and tell nothing of who exists."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from smtpguard.edge import auth
from tests.edge.test_auth import guarded, plain
from tests.harness import Client, code


async def test_a_hundred_guesses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three a session, then 421; each failure waits longer than the one before, up to the limit."""
    monkeypatch.setattr(auth, "MAX_DELAY_S", 0.02)
    waited: list[float] = []
    sleep = asyncio.sleep

    async def count(delay: float) -> None:
        if delay > auth.MAX_DELAY_S:  # not the delay of a failure
            await sleep(delay)
            return
        waited.append(delay)

    monkeypatch.setattr("smtpguard.edge.auth.asyncio.sleep", count)
    heard: list[str] = []
    async with guarded(tmp_path) as (guard, _, context):
        while len(heard) < 100:
            async with Client(guard.smtp) as client:
                await client.greet()
                await client.start_tls(context)
                await client.say("EHLO client.example")
                for _ in range(3):
                    name = ("ann", "bob", "nobody")[len(heard) % 3]
                    heard.append(code(await client.say(f"AUTH PLAIN {plain(name, f'guess-{len(heard)}')}")))
                assert await client.ended()
        assert set(heard) == {"535 5.7.8", "421 4.7.0"}
        assert heard[:3] == ["535 5.7.8", "535 5.7.8", "421 4.7.0"]
        assert len(waited) == len(heard)
        assert waited[-1] == max(waited)
        assert not [line for line in guard.hop.commands if line.startswith(b"MAIL")]
