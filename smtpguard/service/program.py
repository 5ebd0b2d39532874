"""The program: one service until a signal ends it; what systemd is told; SIGHUP (contract 1.6)."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from smtpguard.config import Loaded, load
from smtpguard.edge.notify import Supervisor
from smtpguard.service.service import CannotStart, Service

STOP_S: Final = 15.0  # the most that a stop may take besides `relay.drain`
GC_THRESHOLD: Final = (10_000, 20, 50)
"""A transaction leaves no cycles: the collector is for the odd ones, and may come seldom."""

EXIT_FINE: Final = 0
EXIT_CANNOT: Final = 2


def run(loaded: Loaded, *, sandbox: bool, maildir: Path | None = None) -> int:
    """The program: until SIGTERM or SIGINT, or its terminal is closed; SIGHUP reloads. The exit code (contract 3)."""
    try:
        import uvloop

        factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    except ImportError:
        factory = asyncio.new_event_loop
    again = partial(load, loaded.path, os.environ, sandbox=sandbox)
    with asyncio.Runner(loop_factory=factory) as runner:
        try:
            runner.run(
                _serve(Service(loaded, maildir=maildir, reload=again, stream=sys.stdout), Supervisor(os.environ))
            )
        except CannotStart as reason:
            print(f"smtpguard: {reason}", file=sys.stderr)  # noqa: T201 (the log may be what is wrong)
            return EXIT_CANNOT
    return EXIT_FINE


async def _serve(service: Service, supervisor: Supervisor) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    hangup = asyncio.Event()
    has_terminal = os.isatty(0)

    def hung_up() -> None:
        # A terminal that is closed sends SIGHUP too (POSIX, 11.1.10): nobody would read the log, or find us to stop us
        (stop if has_terminal and not os.isatty(0) else hangup).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, hung_up)
    await service.start()
    gc.collect()
    gc.freeze()  # what was built until here stays: later collections need not look at it
    gc.set_threshold(*GC_THRESHOLD)
    supervisor.ready(service.status)

    async def reloads() -> None:
        while True:
            await hangup.wait()
            hangup.clear()
            supervisor.reloading()
            try:
                taken = await service.reload()
            except Exception as error:  # a fault of ours: the settings in force stay, and the next SIGHUP is heard
                taken = False
                service.log.event("config-reloaded", "a fault of ours", level="error", error=error)
            supervisor.ready(service.status if taken else f"{service.status}; the last reload was refused, see the log")

    async def alive(every_s: float) -> None:
        while True:
            supervisor.alive()
            await asyncio.sleep(every_s)

    tasks = [loop.create_task(reloads())]
    if supervisor.alive_every_s is not None:
        tasks.append(loop.create_task(alive(supervisor.alive_every_s)))
    await stop.wait()
    supervisor.stopping(service.settings.relay.drain + STOP_S)
    for task in tasks:
        task.cancel()
    await service.stop()
