"""What is told of a finished transaction, when, and that nothing of it is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import ClientSession

from smtpguard.record import Record
from smtpguard.service import journal
from smtpguard.service.journal import GATHER_S, Journal
from tests.harness import Client, relay
from tests.records import record, refusal


class Ears:
    """Log, metrics, history and alerts in one: who was told what."""

    def __init__(self) -> None:
        self.told: list[Record] = []

    def write(self, record: Record, *_: object) -> None:
        self.told.append(record)


def _journal(due: list[tuple[float, Callable[[], None]]]) -> tuple[Journal, Ears, Ears]:
    ears: Any = Ears()
    alerts: Any = Ears()
    return Journal(ears, ears, ears, alerts, lambda seconds, call: due.append((seconds, call))), ears, alerts


def test_what_comes_together_is_told_together_and_once() -> None:
    due: list[tuple[float, Callable[[], None]]] = []
    written, ears, alerts = _journal(due)
    first, second = record(), record(refusal())
    written.write(first)
    written.write(second)
    assert ears.told == []
    ((seconds, call),) = due
    assert seconds == GATHER_S
    call()
    assert ears.told == [first] * 3 + [second] * 3
    assert alerts.told == [second]
    written.flush()
    assert len(ears.told) == 6


def test_no_more_than_so_many_wait() -> None:
    due: list[tuple[float, Callable[[], None]]] = []
    written, ears, _ = _journal(due)
    records = [record() for _ in range(journal.MOST)]
    for each in records:
        assert ears.told == []
        written.write(each)
    assert ears.told[::3] == records
    due[0][1]()  # the timer of before finds nothing
    assert len(ears.told) == 3 * len(records)


async def test_what_still_waits_is_told_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "GATHER_S", 3600.0)
    async with relay() as guard, Client(guard.smtp) as client:
        await client.greet()
        await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>", "DATA")
        client.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
        assert (await client.reply())[0].startswith("250")
        await guard.service.stop()
        assert len(await guard.events("transaction")) == 1


async def test_the_metrics_have_what_still_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "GATHER_S", 3600.0)
    async with relay() as guard, Client(guard.smtp) as client, ClientSession() as http:
        await client.greet()
        await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>", "DATA")
        client.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
        await client.reply()
        async with http.get(f"http://127.0.0.1:{guard.http}/metrics") as answer:
            assert 'smtpguard_recipients_total{outcome="accepted"} 1.0' in await answer.text()
