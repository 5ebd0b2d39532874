"""`/api/v1/events`: what the log says, as it says it, by server-sent events (contract 6).

https://html.spec.whatwg.org/multipage/server-sent-events.html. An event's type is `event.action`, its data the line of
the log as JSON. What was said before somebody listened is in the log and the history: `Last-Event-ID` is not looked at.

Who logs never waits: an event is put into each listener's queue, and a listener whose queue is full is dropped. It
connects again by itself, as a browser does, and knows that it missed something.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from aiohttp import web

from smtpguard.edge.log import json_line, record_lines
from smtpguard.record import Event
from smtpguard.web import query
from smtpguard.web.answers import RETRY_AFTER_S, Refused
from smtpguard.web.routes import V1, Route

MAX_LISTENERS: Final = 16
MAX_WAITING: Final = 5_000  # events of one listener: a transaction may have a thousand recipients
MAX_OCTETS: Final = 4 << 20  # of them
HEARTBEAT_S: Final = 15.0  # a comment, so that proxies and listeners see that the other side lives
WRITE_S: Final = 10.0  # for what waits to get out of our hands; then the listener is dropped
_BEGIN: Final = f"retry: {RETRY_AFTER_S * 1000}\n\n".encode()
_HEARTBEAT: Final = b":\n\n"


class _Listener:
    """One who listens: what waits for it, and whether it was dropped."""

    def __init__(self) -> None:
        self.waiting: deque[bytes] = deque()
        self.octets = 0
        self.dropped = asyncio.Event()
        self.news = asyncio.Event()

    def put(self, frame: bytes) -> None:
        if self.dropped.is_set():
            return
        if len(self.waiting) >= MAX_WAITING or self.octets + len(frame) > MAX_OCTETS:
            self.drop()
            return
        self.waiting.append(frame)
        self.octets += len(frame)
        self.news.set()

    def take(self) -> bytes:
        frames = b"".join(self.waiting)
        self.waiting.clear()
        self.octets = 0
        self.news.clear()
        return frames

    def drop(self) -> None:
        self.take()
        self.dropped.set()
        self.news.set()


class Events:
    """Who listens to the log of a process. `heartbeat_s` and `write_s` in seconds."""

    def __init__(self, *, heartbeat_s: float = HEARTBEAT_S, write_s: float = WRITE_S) -> None:
        self._heartbeat_s = heartbeat_s
        self._write_s = write_s
        self._listeners: set[_Listener] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0

    def put(self, at: float, event: Event) -> None:
        """Tell an event of the service to all who listen; returns at once, and costs nothing while nobody does.

        `at` is in seconds since the epoch. From any thread, as `write`.
        """
        if self._listeners:
            line = json_line(at, event.level, event.action, event.message, event.fields)
            self._spread([_frame(event.action, line)])

    def write(self, at: float, told: Sequence[Event]) -> None:
        """The same of a record's events (record.events)."""
        if self._listeners:
            lines = record_lines(at, told)
            self._spread([_frame(event.action, line) for event, line in zip(told, lines, strict=True)])

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._listeners)

    def routes(self) -> tuple[Route, ...]:
        """What is served."""
        return (Route("GET", f"{V1}/events", "The log as it is written: text/event-stream.", self._listen),)

    def close(self) -> None:
        """Let all listeners go."""
        for listener in self._listeners:
            listener.drop()

    def _spread(self, frames: list[bytes]) -> None:
        if threading.get_ident() == self._thread:
            for listener in self._listeners:
                for frame in frames:
                    listener.put(frame)
        elif self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._spread, frames)

    async def _listen(self, request: web.Request) -> web.StreamResponse:
        query.asked(request, (), 0.0)
        if len(self._listeners) >= MAX_LISTENERS:
            headers = {"Retry-After": str(RETRY_AFTER_S)}
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, f"{MAX_LISTENERS} listen already", headers)
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        listener = _Listener()
        self._listeners.add(listener)
        try:
            await response.prepare(request)
            await self._tell(response, listener)
        except (ConnectionError, TimeoutError):
            pass  # gone, or too slow: either way it hears no more
        finally:
            self._listeners.discard(listener)
        if request.transport is not None:
            request.transport.abort()  # what is not sent yet would hold a close
        return response

    async def _tell(self, response: web.StreamResponse, listener: _Listener) -> None:
        """Until the listener is dropped; TimeoutError or ConnectionError where it does not take what it is told."""
        frames = _BEGIN
        while not listener.dropped.is_set():
            async with asyncio.timeout(self._write_s):
                await response.write(frames)
            try:
                async with asyncio.timeout(self._heartbeat_s):
                    await listener.news.wait()
                frames = listener.take()
            except TimeoutError:
                frames = _HEARTBEAT


def _frame(action: str, line: bytes) -> bytes:
    """JSON has no raw line end, so the data is one line; the name of an action is ours, or a library's."""
    name = action if action.isprintable() else ""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), line.rstrip(b"\n"))
