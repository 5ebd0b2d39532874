"""Processes and what they cost: CPU time and memory of a whole tree, from the kernel's own books.

`Tree` counts a process, its children and theirs. Where a cgroup (version 2) can be made below our own, the tree is put
into one: `cpu.stat` counts to the microsecond and forgets no child that died. Else proc(5) is read: utime and stime of
all that live, cutime and cstime for those that died and were waited for, in ticks of 10 ms. Memory is PSS (shared pages
by share), because peers of many processes share most of theirs.

Only processes that the benchmark started are ever signalled, each by its id.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Final

PROC: Final = Path("/proc")
_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
_PATIENCE_S: Final = 20.0
_LOOKS: Final = 20
_serial = count(1)


# --- texts of the kernel: pure ----------------------------------------------------------------------------------


def stat_fields(text: str) -> tuple[int, int]:
    """(parent's pid, ticks of CPU, dead children's included) of /proc/PID/stat; proc(5), fields 4 and 14-17."""
    # The name, field 2, stands in parentheses and may hold anything, also ")" and blanks.
    fields = text[text.rindex(")") + 2 :].split()
    return int(fields[1]), sum(int(ticks) for ticks in fields[11:15])


def kilobytes(text: str, name: str) -> int:
    """A line `Name:  123 kB` of /proc/PID/status or smaps_rollup; 0 if it is not there."""
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) if found else 0


def usage_s(text: str) -> float:
    """Seconds of CPU in a cgroup's cpu.stat."""
    found = re.search(r"^usage_usec (\d+)", text, re.MULTILINE)
    if found is None:
        raise ValueError("no usage_usec")
    return int(found[1]) / 1e6


def descendants(parents: Mapping[int, int], root: int) -> set[int]:
    """`root` and all below it; `parents` has each process's parent."""
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found and pid not in found}:
        found |= more
    return found


# --- a tree of processes ----------------------------------------------------------------------------------------


class Tree:
    """The processes at and below `root`. `close` when they are gone."""

    def __init__(self, root: int) -> None:
        self.root = root
        self._group = _new_group()
        if self._group is not None and not self._moved(self._group):
            self.close()

    def _moved(self, group: Path) -> bool:
        """Put all of the tree into the group; False if that is not allowed.

        A child that was born between our look and its parent's move stays outside, and the cost of a whole process
        with it: so look again until none is outside.
        """
        for _ in range(_LOOKS):
            inside = {int(pid) for pid in (group / "cgroup.procs").read_text().split()}
            outside = self.pids() - inside
            if not outside:
                return True
            for pid in outside:
                with suppress(OSError):  # it ended meanwhile
                    (group / "cgroup.procs").write_text(str(pid))
        return False

    def pids(self) -> set[int]:
        """Who lives."""
        parents = {}
        for entry in PROC.iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    parents[int(entry.name)] = stat_fields((entry / "stat").read_text())[0]
        return {pid for pid in descendants(parents, self.root) if pid in parents}

    def cpu_s(self) -> float:
        """Seconds of CPU spent so far; only differences mean something."""
        if self._group is not None:
            return usage_s((self._group / "cpu.stat").read_text())
        ticks = 0
        for pid in self.pids():
            with suppress(OSError):
                ticks += stat_fields((PROC / str(pid) / "stat").read_text())[1]
        return ticks * _TICK_S

    def pss_kb(self) -> int:
        """Kilobytes of memory."""
        total = 0
        for pid in self.pids():
            with suppress(OSError):
                total += kilobytes((PROC / str(pid) / "smaps_rollup").read_text(), "Pss")
        return total

    def close(self) -> None:
        """Forget the cgroup; the processes are not touched."""
        group, self._group = self._group, None
        if group is not None:
            with suppress(OSError, RuntimeError):
                # The last of many processes may still be on its way out.
                wait_until(lambda: not (group / "cgroup.procs").read_text(), "an empty cgroup", 2.0)
                group.rmdir()


def _new_group() -> Path | None:
    """A cgroup of version 2 below our own; None where we may not make one."""
    for mount in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")):
        if (mount / "cgroup.controllers").exists():
            own = re.search(r"^0::/(.*)$", Path("/proc/self/cgroup").read_text(), re.MULTILINE)
            group = mount / (own[1] if own else "") / f"smtpguard-bench-{os.getpid()}-{next(_serial)}"
            with suppress(OSError):
                group.mkdir()
                return group
    return None


def peak_kb(pid: int) -> int:
    """The most memory that a process ever had (RSS), or since `forget_peak`."""
    return kilobytes((PROC / str(pid) / "status").read_text(), "VmHWM")


def forget_peak(pid: int) -> None:
    """Begin `peak_kb` anew; proc(5), clear_refs, value 5."""
    (PROC / str(pid) / "clear_refs").write_text("5")


# --- starting, waiting, ending ----------------------------------------------------------------------------------


def spawn(arguments: Sequence[str | Path], **options: Any) -> subprocess.Popen[bytes]:
    """A process of ours with nothing to read; what it prints is thrown away unless `options` say otherwise."""
    quiet: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    process: subprocess.Popen[bytes] = subprocess.Popen([str(word) for word in arguments], **(quiet | options))
    return process


def end(process: subprocess.Popen[bytes] | None, *, number: int = signal.SIGTERM) -> None:
    """Ask it to end, and insist after a while."""
    if process is None:
        return
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def wait_until(is_true: Callable[[], object], what: str, timeout_s: float = _PATIENCE_S) -> None:
    """Return when `is_true` says so; RuntimeError if it never does."""
    deadline = time.monotonic() + timeout_s
    while not is_true():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.002)


def listening(port: int) -> bool:
    """Whether somebody accepts connections on loopback there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for_port(process: subprocess.Popen[bytes], port: int, what: str) -> None:
    """Return when it listens; RuntimeError if it ends before, or never does."""
    wait_until(lambda: listening(port) or process.poll() is not None, what)
    if process.poll() is not None:
        raise RuntimeError(f"{what}: ended at once, code {process.returncode}")
