"""What is measured of smtpguard alone: round trips, /metrics under load, start, help, idle sessions, peak memory."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Final

from smtpguard.sandbox import DEFAULT_KEYWORDS, Sandbox, lifelike
from tests.bench.client import Stage, connect, envelope, run
from tests.bench.figures import Row
from tests.bench.hop import FarHop
from tests.bench.letters import attachment, signed
from tests.bench.load import Load, Sink
from tests.bench.peers import ROOT, Linted, Program, guard
from tests.bench.processes import end, forget_peak, peak_kb, spawn
from tests.bench.stand import Hop, Stand
from tests.e2e.mta import free_port

IDLE_SESSIONS: Final = 2000
LARGE: Final = 25_000_000
LARGE_AT_ONCE: Final = 50
WINDOW_S: Final = 0.25
_DISTANCE_S: Final = 0.05


def full(stand: Stand, name: str, *, http_port: int = 0, discarded: Sequence[str] = ()) -> Program:
    """smtpguard with all but the lint, in a folder of this name; not started."""
    command = guard("full", http_port=http_port, discarded=discarded)
    return Program("full", stand.directory / name, command, piped=True)


@contextmanager
def running(program: Program, hop: Hop) -> Iterator[Program]:
    """Both of them started, and ended afterwards."""
    hop.start()
    try:
        program.start(hop.port)
        yield program
    finally:
        program.stop()
        hop.stop()


# --- round trips ------------------------------------------------------------------------------------------------


def round_trips(stand: Stand) -> None:
    """How often the next hop, 50 ms away, is waited for by a message with 10 recipients on an open connection."""
    for figure, discarded in (("with CHUNKING", ()), ("without CHUNKING", ("CHUNKING",))):
        program = full(stand, "round-trips")
        try:
            trips, waited_s = run(_round_trips(program, discarded))
        finally:
            program.stop()
        figures = {"round_trips": trips, "waited": waited_s / _DISTANCE_S}
        stand.add(Row(f"round trips {figure}", "full", figures))


async def _round_trips(program: Program, discarded: Sequence[str]) -> tuple[float, float]:
    keywords = [word for word in DEFAULT_KEYWORDS if word not in discarded]
    async with Sandbox(latency_s=_DISTANCE_S, keywords=keywords, keep=False) as hop:
        await asyncio.to_thread(program.start, hop.port)
        [connection] = await connect(program.port)
        rcpts = [f"rcpt{n}@sink.test" for n in range(10)]
        packet = envelope(rcpts), len(rcpts), signed(2048) + b".\r\n"
        await connection.hand_over(*packet)  # opens the connection to the next hop
        before, begun = hop.round_trips, time.perf_counter()
        codes = await connection.hand_over(*packet)
        waited_s = time.perf_counter() - begun
        connection.close()
        if set(codes) != {250}:
            raise RuntimeError(f"not all accepted: {codes}")
        return hop.round_trips - before, waited_s


# --- /metrics ---------------------------------------------------------------------------------------------------


def metrics(stand: Stand) -> None:
    """How long a session waits for the answer to NOOP while /metrics is read, over how long it waits otherwise.

    Under load, after refusals of every kind that the sandbox knows, so that there are series to show. Windows with one
    reading and windows without alternate; of each the worst wait counts, of these the median, and the worst of all.
    """
    port = free_port()
    with running(full(stand, "metrics", http_port=port), FarHop()) as guarded:
        for kind in lifelike():
            Stage(rcpts=[f"{kind}@sink.test"], sessions=1).flat_out(guarded.port, 1)
        words = Load(sessions=2).arguments(guarded.port, 1_000_000)
        load = spawn(words)
        try:
            read, otherwise, octets = run(_probe(guarded.port, port, 4 * stand.effort.repetitions))
        finally:
            end(load)
    figures = {
        "stall_ms": 1000 * (median(read) - median(otherwise)),
        "worst_ms": 1000 * max(read),
        "worst_otherwise_ms": 1000 * max(otherwise),
        "answer_kb": octets / 1024,
    }
    stand.add(Row("/metrics under load", "full", figures))


async def _probe(port: int, http_port: int, windows: int) -> tuple[list[float], list[float], int]:
    [connection] = await connect(port)
    worst: dict[bool, list[float]] = {True: [], False: []}
    octets = 0
    for number in range(2 * windows):
        reading = number % 2 == 0
        answer = asyncio.create_task(_read(http_port)) if reading else None
        waits = []
        until = time.perf_counter() + WINDOW_S
        while (begun := time.perf_counter()) < until:
            await connection.ask(b"NOOP\r\n")
            waits.append(time.perf_counter() - begun)
            await asyncio.sleep(0.001)
        worst[reading].append(max(waits))
        if answer is not None:
            octets = await answer
    connection.close()
    return worst[True], worst[False], octets


async def _read(http_port: int) -> int:
    """Read /metrics once; how many octets."""
    reader, writer = await asyncio.open_connection("127.0.0.1", http_port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    answer = await reader.read(-1)
    writer.close()
    if b" 200 " not in answer[:20]:
        raise RuntimeError(f"/metrics: {answer[:60]!r}")
    return len(answer)


# --- start and help ---------------------------------------------------------------------------------------------


def start(stand: Stand) -> None:
    """Milliseconds from the command to the open port, and of `--help`."""
    sink = Sink()
    sink.start()
    listening, helped = [], []
    try:
        for _ in range(stand.effort.repetitions):
            program = full(stand, "start")
            begun = time.perf_counter()
            program.start(sink.port)
            listening.append(time.perf_counter() - begun)
            program.stop()
            begun = time.perf_counter()
            subprocess.run([sys.executable, "-m", "smtpguard", "--help"], cwd=ROOT, capture_output=True, check=True)
            helped.append(time.perf_counter() - begun)
    finally:
        sink.stop()
    stand.add(Row("start to listening", "full", {"ms": 1000 * median(listening)}))
    stand.add(Row("--help", "full", {"ms": 1000 * median(helped)}))


# --- memory -----------------------------------------------------------------------------------------------------


def idle(stand: Stand) -> None:
    """Kilobytes (PSS) that each of 2,000 sessions costs which said EHLO and wait."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * IDLE_SESSIONS + 500
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, wanted), hard), hard))
    with running(full(stand, "idle"), Sink()) as guarded:
        assert guarded.tree is not None
        Stage().flat_out(guarded.port, 200)  # what is made once is made
        before = guarded.tree.pss_kb()
        pss = guarded.tree.pss_kb
        during = run(_hold(guarded.port, pss))
        stand.add(
            Row("2,000 idle sessions", "full", {"kb_each": (during - before) / IDLE_SESSIONS, "before_kb": before})
        )


async def _hold(port: int, pss: Callable[[], int]) -> int:
    held = await connect(port, IDLE_SESSIONS)
    try:
        return pss()
    finally:
        for connection in held:
            connection.close()


def memory(stand: Stand) -> None:
    """The most memory (RSS) during 50 messages of 25 MB at once, over the idle program's; read by the lint, and not."""
    letter = stand.letter("25 MB attachment", attachment(LARGE))
    for program in (full(stand, "memory"), Linted(stand.directory / "memory-lint")):
        _peak(stand, program, Load(letter=letter, sessions=LARGE_AT_ONCE, kept=False))


def _peak(stand: Stand, program: Program, load: Load) -> None:
    with running(program, Sink()) as guarded:
        assert guarded.process is not None
        pid = guarded.process.pid
        Stage().flat_out(guarded.port, 200)
        forget_peak(pid)
        before = peak_kb(pid)
        elapsed = load.run(guarded.port, LARGE_AT_ONCE)
        figures = {"over_idle_mb": (peak_kb(pid) - before) / 1024, "idle_mb": before / 1024}
        figures["mb_a_second"] = LARGE_AT_ONCE * LARGE / elapsed / 1e6
        stand.add(Row("50 x 25 MB at once", program.name, figures))


SINGLES: Final[Mapping[str, Callable[[Stand], None]]] = {
    "round-trips": round_trips,
    "metrics": metrics,
    "start": start,
    "idle": idle,
    "memory": memory,
}
