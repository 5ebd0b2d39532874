"""Lines on their way out: bounded, whole, counted when lost, and nobody waits."""

from __future__ import annotations

import fcntl
import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smtpguard.edge.sink import Sink, open_sink


class Drops:
    """Counts lost lines; `wait` returns once there are so many."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = threading.Condition()

    def __call__(self, lines: int) -> None:
        with self._changed:
            self.count += lines
            self._changed.notify_all()

    def wait(self, lines: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.count >= lines, 5), self.count


@pytest.fixture
def pipe() -> Iterator[tuple[int, io.FileIO]]:
    """A pipe: the descriptor to read, and a file to write to."""
    reader, writer = os.pipe()
    with io.FileIO(writer, "w") as stream:
        yield reader, stream
    os.close(reader)


def fill(descriptor: int) -> int:
    """Fill a pipe to the brim; how many octets it took."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    taken = 0
    try:
        while True:
            taken += os.write(descriptor, b"." * 4096)
    except BlockingIOError:
        pass
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)
    return taken


def drain(descriptor: int, octets: int) -> bytes:
    got = b""
    while len(got) < octets:
        got += os.read(descriptor, octets - len(got))
    return got


def test_lines_arrive_in_order_and_whole(tmp_path: Path) -> None:
    lines = [b'{"n":%d}\n' % number for number in range(5000)]
    drops = Drops()
    with (tmp_path / "log").open("wb") as stream:
        sink = open_sink(stream, drops)
        for line in lines:
            sink.put(line)
        sink.close()
    assert (tmp_path / "log").read_bytes() == b"".join(lines)
    assert sink.done
    assert drops.count == 0


def test_lines_that_gather_leave_in_one_write() -> None:
    writes: list[bytes] = []
    entered, release = threading.Event(), threading.Event()

    def write(octets: bytes | memoryview) -> int:
        writes.append(bytes(octets))
        entered.set()
        assert release.wait(5)
        return len(octets)

    sink = Sink(write, Drops())
    sink.put(b"first\n")
    assert entered.wait(5)
    for _ in range(100):
        sink.put(b"later\n")
    release.set()
    sink.close()
    assert writes == [b"first\n", b"later\n" * 100]


def test_lines_put_together_are_kept_or_dropped_together() -> None:
    entered, release = threading.Event(), threading.Event()
    written: list[bytes] = []

    def write(octets: bytes | memoryview) -> int:
        written.append(bytes(octets))
        entered.set()
        assert release.wait(5)
        return len(octets)

    drops = Drops()
    sink = Sink(write, drops, max_lines=4)
    sink.put(b"a\n")
    assert entered.wait(5)
    sink.put(b"b\nc\nd\n", 3)
    sink.put(b"e\nf\n", 2)
    sink.put(b"g\n")
    release.set()
    sink.close()
    assert written == [b"a\n", b"b\nc\nd\ng\n"]
    assert drops.count == 2


def test_a_full_pipe_blocks_nobody(pipe: tuple[int, io.FileIO]) -> None:
    reader, stream = pipe
    before = fill(stream.fileno())
    drops = Drops()
    sink = open_sink(stream, drops)
    started = time.monotonic()
    for _ in range(50_000):
        sink.put(b"x" * 199 + b"\n")
    assert time.monotonic() - started < 5  # a blocked write would take for ever
    assert drops.count >= 50_000 - 2 * 20_000  # at most a queue and a batch are kept
    kept = 50_000 - drops.count
    drain(reader, before)
    closer = threading.Thread(target=sink.close)
    closer.start()
    assert drain(reader, kept * 200) == (b"x" * 199 + b"\n") * kept  # what was kept goes out when the reader is back
    closer.join(5)
    assert drops.count == 50_000 - kept
    assert sink.done


def test_close_gives_up_on_a_reader_that_does_not_read(pipe: tuple[int, io.FileIO]) -> None:
    reader, stream = pipe
    before = fill(stream.fileno())
    drops = Drops()
    sink = open_sink(stream, drops)
    for _ in range(10):
        sink.put(b"line\n")
    sink.close(0.05)
    assert drops.count == 10
    sink.close(0.05)
    sink.put(b"late\n")
    assert drops.count == 11  # counted once, and what comes later too
    drain(reader, before + 5)  # let the blocked thread go


def test_a_pipe_made_non_blocking_is_waited_for() -> None:
    """Whoever shares our stdout may have made it non-blocking: full is EAGAIN then, or None from a raw file."""
    out = bytearray()
    answers: list[BaseException | int | None] = [BlockingIOError(), None, 2, BlockingIOError(), 3]

    def write(octets: bytes | memoryview) -> int | None:
        answer = answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        out.extend(octets[: answer or 0])
        return answer

    drops = Drops()
    sink = Sink(write, drops)
    sink.put(b"line\n")
    sink.close()
    assert (bytes(out), answers, drops.count) == (b"line\n", [], 0)


def test_the_bound_counts_octets_too() -> None:
    entered, release = threading.Event(), threading.Event()

    def write(octets: bytes | memoryview) -> int:
        entered.set()
        assert release.wait(5)
        return len(octets)

    drops = Drops()
    sink = Sink(write, drops, max_octets=100)
    sink.put(b"x" * 10)
    assert entered.wait(5)
    sink.put(b"x" * 60)
    sink.put(b"x" * 41)
    assert drops.count == 1
    sink.put(b"x" * 40)
    assert drops.count == 1
    release.set()
    sink.close()


def test_a_reader_that_went_away_costs_lines_only(pipe: tuple[int, io.FileIO]) -> None:
    _, stream = pipe
    lonely, writer = os.pipe()
    os.close(lonely)
    drops = Drops()
    with io.FileIO(writer, "w") as broken:
        sink = open_sink(broken, drops)
        sink.put(b"one\n")
        drops.wait(1)
        sink.put(b"two\n")
        drops.wait(2)
        sink.close()
    assert drops.count == 2
    assert not stream.closed


def test_a_torn_line_ends_before_the_next_begins() -> None:
    """A disk that is full in the middle of a line, then has room again."""
    out = bytearray()
    room = [6, 0, 100]
    drops = Drops()

    def write(octets: bytes | memoryview) -> int:
        if not room[0]:
            room.pop(0)
            raise OSError("no space left on device")
        taken = bytes(octets[: room[0]])
        room[0] -= len(taken)
        out.extend(taken)
        return len(taken)

    sink = Sink(write, drops)
    sink.put(b"one\ntwo\n")
    drops.wait(1)
    sink.put(b"lost\n")
    drops.wait(2)
    sink.put(b"three\n")
    sink.close()
    assert bytes(out) == b"one\ntw\nthree\n"
    assert drops.count == 2


@pytest.mark.parametrize("make", [lambda: None, lambda: _closed()])
def test_a_closed_stdout_drops_all(make: Callable[[], io.BytesIO | None]) -> None:
    drops = Drops()
    sink = open_sink(make(), drops)
    sink.put(b"line\n")
    drops.wait(1)
    sink.close()


def _closed() -> io.BytesIO:
    stream = io.BytesIO()
    stream.close()
    return stream


def test_a_stream_without_a_descriptor_is_written_to() -> None:
    octets = io.BytesIO()
    text = io.TextIOWrapper(io.BytesIO())
    for stream in (octets, text):
        sink = open_sink(stream, Drops())
        sink.put(b"line\n")
        sink.close()
    assert octets.getvalue() == b"line\n"
    text.seek(0)
    assert text.read() == "line\n"


def test_the_descriptor_is_our_own_and_given_back(tmp_path: Path) -> None:
    """A stdout closed under us must not lead log lines into whatever gets its number next."""
    before = set(os.listdir("/proc/self/fd"))
    stream = (tmp_path / "log").open("wb", buffering=0)
    sink = open_sink(stream, Drops())
    stream.close()
    with (tmp_path / "other").open("wb", buffering=0):
        sink.put(b"line\n")
        sink.close()
    assert (tmp_path / "log").read_bytes() == b"line\n"
    assert (tmp_path / "other").read_bytes() == b""
    assert set(os.listdir("/proc/self/fd")) == before
