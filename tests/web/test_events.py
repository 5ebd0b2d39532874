"""`/api/v1/events`: what is said is heard, in order; who does not listen is dropped, and nobody waits for it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import orjson
import pytest

from smtpguard.edge.log import record_lines
from smtpguard.record import Event, Masker
from smtpguard.record import events as record_events
from smtpguard.web.events import MAX_LISTENERS, MAX_WAITING, Events
from tests.records import record, refusal
from tests.web.served import Client, error, served

AT = 1_700_000_000.0


def said(action: str = "recipient-refused", **fields: object) -> Event:
    return Event(action, "warning", "rejected at RCPT", dict(fields))


async def listening(ask: Client, *, headers: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection whose listener is there: the first frame has come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", ask.port, limit=1 << 24)
    writer.write(f"GET /api/v1/events HTTP/1.0\r\nHost: localhost\r\n{headers}\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"200 OK" in head
    assert b"text/event-stream" in head
    assert await reader.readuntil(b"\n\n") == b"retry: 5000\n\n"
    return reader, writer


async def frame(reader: asyncio.StreamReader) -> tuple[str, Any]:
    async with asyncio.timeout(20):
        event, data = (await reader.readuntil(b"\n\n")).decode().rstrip("\n").split("\n")
    assert event.startswith("event: ")
    assert data.startswith("data: ")
    return event[7:], orjson.loads(data[6:])


async def test_each_event_is_heard_as_the_log_has_it() -> None:
    events = Events()
    async with served(events=events) as ask:
        reader, writer = await listening(ask, headers="Last-Event-ID: 7\r\n")
        hostile = "550\r\n\r\nevent: x\ndata: \x1b[2J\u2028<script>"
        events.put(AT, said(**{"smtp.reply.text": hostile, "smtpguard.category": "recipient.unknown"}))
        events.put(AT + 1, said("transaction"))
        action, line = await frame(reader)
        assert action == "recipient-refused"
        assert line == {
            "@timestamp": "2023-11-14T22:13:20.000Z",
            "log.level": "warning",
            "message": "rejected at RCPT",
            "event.action": "recipient-refused",
            "smtp.reply.text": "550    event: x data:  [2J <script>",
            "smtpguard.category": "recipient.unknown",
        }
        assert (await frame(reader))[0] == "transaction"
        writer.close()


async def test_the_events_of_a_record_are_heard_whole() -> None:
    """As many as a transaction may have, at once."""
    events = Events()
    refused = record(*(refusal(rcpt=b"u%d@example.org" % number) for number in range(1000)), outcome="refused")
    told = record_events(refused, Masker("mask", b"k"))
    async with served(events=events) as ask:
        reader, writer = await listening(ask)
        events.write(AT, told)
        heard = [await frame(reader) for _ in range(len(told))]
        assert [action for action, _ in heard] == ["recipient-refused"] * 1000 + ["transaction"]
        assert heard[0][1] == orjson.loads(record_lines(AT, told)[0])
        writer.close()


async def test_events_of_another_thread_are_heard() -> None:
    events = Events()
    async with served(events=events) as ask:
        reader, writer = await listening(ask)
        thread = threading.Thread(target=events.put, args=(AT, said("suppression-added")))
        thread.start()
        assert (await frame(reader))[0] == "suppression-added"
        thread.join()
        writer.close()


async def test_silence_is_broken_by_a_heartbeat() -> None:
    async with served(events=Events(heartbeat_s=0.01)) as ask:
        reader, writer = await listening(ask)
        assert await reader.readuntil(b"\n\n") == b":\n\n"
        writer.close()


async def test_a_listener_that_falls_behind_is_dropped_and_others_are_not() -> None:
    events = Events()
    async with served(events=events) as ask:
        slow, slow_writer = await listening(ask)
        for number in range(MAX_WAITING + 1):  # without a turn of the loop: nobody can take them
            events.put(AT, said(number=number))
        quick, quick_writer = await listening(ask)
        events.put(AT, said("transaction"))
        assert (await frame(quick))[0] == "transaction"
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await frame(slow)
        slow_writer.close()
        quick_writer.close()


async def test_a_listener_that_takes_nothing_is_dropped() -> None:
    """Its socket is full, so that a write of ours waits."""
    events = Events(write_s=0.05)
    async with served(events=events) as ask:
        _, writer = await listening(ask)
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # of a transport that reads
        text = "x" * 16_000
        async with asyncio.timeout(20):
            while events.listeners:
                for _ in range(50):
                    events.put(AT, said(text=text))
                await asyncio.sleep(0)
        writer.close()


async def test_so_many_may_listen_and_who_goes_makes_room() -> None:
    events = Events()
    async with served(events=events) as ask:
        connections = [await listening(ask) for _ in range(MAX_LISTENERS)]
        async with asyncio.timeout(20):
            status, headers, body = await ask("/api/v1/events")
        assert (status, headers["Retry-After"], error(body)["code"]) == (503, "5", "service_unavailable")
        connections.pop()[1].close()
        async with asyncio.timeout(20):
            while events.listeners == MAX_LISTENERS:
                events.put(AT, said())
                await asyncio.sleep(0)
        connections.append(await listening(ask))
        for _, writer in connections:
            writer.close()


async def test_nobody_listens_without_the_token_or_from_another_page() -> None:
    async with served(events=Events(), token="t") as ask:
        assert (await ask("/api/v1/events"))[0] == 401
        assert (await ask("/api/v1/events", Authorization="Bearer t", Origin="https://evil.example"))[0] == 403
        assert (await ask("/api/v1/events?x=1", Authorization="Bearer t"))[0] == 400


async def test_a_stop_does_not_wait_for_listeners() -> None:
    events = Events()
    async with asyncio.timeout(20):
        async with served(events=events) as ask:
            reader, writer = await listening(ask)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await frame(reader)
    events.put(AT, said())
    writer.close()
