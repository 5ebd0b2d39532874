"""Where log lines leave the process: a bounded queue, and a thread that writes what gathers in a moment at once.

That moment is longer while lines keep coming: a thread that wakes up beside a busy loop costs both more than the
writing, for they take turns with the interpreter.

A pipe that nobody reads, a full disk, a closed stdout are met with a drop that is counted: they never make mail wait.
A line goes out whole or, where the other side broke off, ends where it was torn and the next begins on a line of its
own.
"""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import IO, Any, Final

MAX_LINES: Final = 20_000  # in the queue: some seconds of full load
MAX_OCTETS: Final = 16 << 20
GATHER_S: Final = 0.01  # after a pause
BUSY_S: Final = 0.05  # while lines keep coming: some percent of a message's CPU less than with GATHER_S
FLUSH_S: Final = 2.0  # how long `close` waits for a slow reader


class Sink:
    """Lines on their way out: at most MAX_LINES and MAX_OCTETS of them wait, the rest is dropped and counted.

    `write` takes octets and says how many it took; it may block, fail (OSError) or take a part. It is called in a
    thread of the sink's own, which no line waits for; so is `release`, when nothing more will be written. `on_drop` is
    told how many lines were lost, from any thread.
    """

    def __init__(
        self,
        write: Callable[[bytes | memoryview], int | None],
        on_drop: Callable[[int], None],
        *,
        release: Callable[[], None] = lambda: None,
        max_lines: int = MAX_LINES,
        max_octets: int = MAX_OCTETS,
    ) -> None:
        self._write = write
        self._on_drop = on_drop
        self._release = release
        self._max_lines, self._max_octets = max_lines, max_octets
        self._lock = threading.Lock()  # held for the time of an append, by either side
        self._waiting: list[bytes] = []
        self._lines = 0  # in what waits
        self._octets = 0
        self._is_closed = False
        self._in_hand = 0  # lines of the batch that is being written
        self._torn = False  # the last octet that got out was inside a line
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._give_up = False
        self._thread = threading.Thread(target=self._run, name="smtpguard-log", daemon=True)
        self._thread.start()

    def put(self, octets: bytes, lines: int = 1) -> None:
        """Queue so many lines (each with its line end), or drop them; returns at once. From any thread."""
        with self._lock:
            kept = (
                not self._is_closed
                and self._lines + lines <= self._max_lines
                and self._octets + len(octets) <= self._max_octets
            )
            if kept:
                is_first = not self._waiting
                self._waiting.append(octets)
                self._lines += lines
                self._octets += len(octets)
                if is_first:
                    self._wake.set()
        if not kept:
            self._on_drop(lines)

    def close(self, timeout_s: float = FLUSH_S) -> None:
        """Write what waits, for at most `timeout_s`; the rest counts as dropped, as does all that is put later."""
        with self._lock:
            self._is_closed = True
            self._closing.set()
            self._wake.set()
        self._thread.join(timeout_s)
        with self._lock:
            lost = 0 if self._give_up else self._lines + self._in_hand
            self._waiting, self._lines = [], 0
            self._give_up = self._give_up or lost > 0
        if lost:
            self._on_drop(lost)

    @property
    def done(self) -> bool:
        """Whether the writer has ended: after `close`, unless its `write` still blocks."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        closing = False
        written = -BUSY_S  # when
        while not closing:
            self._wake.wait()
            is_busy = time.monotonic() - written < BUSY_S
            self._closing.wait(BUSY_S if is_busy else GATHER_S)  # further lines join; only a close is in a hurry
            with self._lock:
                batch, self._waiting, self._octets = self._waiting, [], 0
                self._in_hand, self._lines = self._lines, 0
                self._wake.clear()
                closing = self._closing.is_set()
            lost = self._write_all(batch) if batch else 0
            written = time.monotonic()
            with self._lock:
                self._in_hand = 0
                lost = 0 if self._give_up else lost  # `close` has counted them
            if lost:
                self._on_drop(lost)
        self._release()

    def _write_all(self, batch: list[bytes]) -> int:
        """Write a batch, in one call where the other side takes it; how many of its lines did not get out whole."""
        head = b"\n" if self._torn else b""  # what follows half a line must not become its end
        octets = memoryview(head + b"".join(batch))
        taken = 0
        try:
            while taken < len(octets) and not self._give_up:
                try:
                    count = self._write(octets[taken:])
                except BlockingIOError:  # a pipe that somebody made non-blocking, full
                    count = None
                taken += count or 0
                if not count:
                    time.sleep(GATHER_S)
        except (OSError, ValueError):  # reader gone, disk full; file closed
            pass
        if taken:
            self._torn = octets[taken - 1] != 0x0A
        return bytes(octets[max(taken, len(head)) :]).count(b"\n")


def open_sink(stream: IO[Any] | None, on_drop: Callable[[int], None]) -> Sink:
    """A sink into a stream: by a descriptor of our own where it has one, else by its `write`.

    None, which `sys.stdout` is when it was closed before the start, and a closed stream take nothing: all is dropped.
    """
    if stream is None or stream.closed:
        return Sink(_nowhere, on_drop)
    try:
        # A copy: after a close of stdout its number may become that of a socket
        descriptor = os.dup(stream.fileno())
    except (OSError, io.UnsupportedOperation):
        taker = getattr(stream, "buffer", stream)
        return Sink(lambda octets: int(taker.write(bytes(octets))), on_drop)
    return Sink(partial(os.write, descriptor), on_drop, release=partial(os.close, descriptor))


def _nowhere(_: bytes | memoryview) -> int:
    raise OSError("stdout is closed")
