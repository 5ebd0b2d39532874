"""The bench itself: what a case is given. It starts peers before a hop, runs a load through them in turns, keeps rows.

A peer that cannot be had, or fails, costs its own row and nothing else. Turns are interleaved: each repetition goes
once round all peers, beginning with another one each time, so that a disturbance of the machine hits all alike.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from tests.bench.figures import Row, Sample, summary
from tests.bench.peers import Peer, make

_SETTLE_S: Final = 0.05  # for what a peer does after its last answer: logs, counters
_MOST: Final = 30_000  # messages in one turn, at most
_REASON: Final = 160  # characters of a reason


class Hop(Protocol):
    """A next hop: the sink or the sandbox."""

    port: int

    def start(self) -> None:
        """Listen."""

    def stop(self) -> None:
        """End."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is done: repetitions, and the seconds that one turn of one peer takes, about."""

    repetitions: int = 5
    turn_s: float = 1.0


QUICK: Final = Effort(repetitions=3, turn_s=0.2)

Drive = Callable[[int, int], float]
"""(port, messages) -> seconds: a load, run once."""


@dataclass(slots=True)
class Stand:
    """A run of the benchmark: its folder (open to other users), its effort, what was found so far."""

    directory: Path
    effort: Effort = field(default_factory=Effort)
    rows: list[Row] = field(default_factory=list)
    absent: set[str] = field(default_factory=set)

    def add(self, *rows: Row) -> None:
        """Keep results, and say them as they come."""
        for row in rows:
            shown = "  ".join(f"{name} {value:.3g}" for name, value in row.figures.items())
            self.say(f"  {row.case:24} {row.peer:15} {shown} {row.note}".rstrip())
        self.rows += rows

    def fail(self, case: str, peer: str, error: Exception) -> None:
        """A row of what could not be measured, and why, on one line."""
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        self.add(Row(case, peer, note=f"failed: {reason[:_REASON]}"))

    def letter(self, name: str, octets: bytes) -> Path:
        """A message as a file for smtp-source, which ends lines and stuffs dots itself."""
        path = self.directory / f"{name}.eml"
        path.write_bytes(octets.replace(b"\r\n", b"\n"))
        path.chmod(0o644)
        return path

    def say(self, text: str) -> None:
        """A line on standard error, where progress belongs."""
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    @contextmanager
    def peers(self, names: Sequence[str], hop: Hop) -> Iterator[dict[str, Peer]]:
        """These peers running before that hop, which is started here too; those that can be had."""
        running: dict[str, Peer] = {}
        hop.start()
        try:
            for name in names:
                if name in self.absent:
                    continue
                try:
                    peer = make(name, self.directory)
                    peer.start(hop.port)
                except (RuntimeError, OSError, AssertionError) as error:
                    self.fail("start of a peer", name, error)
                else:
                    running[name] = peer
            yield running
        finally:
            for peer in running.values():
                peer.stop()
            hop.stop()

    def lack(self, name: str, error: Exception) -> None:
        """A peer is left out from now on."""
        self.absent.add(name)
        self.fail("peers", name, error)

    def measure(self, case: str, peers: dict[str, Peer], drive: Drive, *, least: int = 10, cpu: bool = True) -> None:
        """Run a load through the peers by turns; add the case's rows."""
        counts = {name: self._warm(case, peer, drive, least) for name, peer in peers.items()}
        names = [name for name, count in counts.items() if count]
        samples: dict[str, list[Sample]] = {name: [] for name in names}
        failed: dict[str, Exception] = {}
        for repetition in range(self.effort.repetitions):
            shift = repetition % len(names) if names else 0
            for name in names[shift:] + names[:shift]:
                if name in failed:
                    continue
                try:
                    samples[name].append(_turn(peers[name], drive, counts[name]))
                except (RuntimeError, OSError) as error:
                    failed[name] = error
        for name, reason in failed.items():
            del samples[name]
            self.fail(case, name, reason)
        self.add(*summary(case, samples, cpu=cpu))

    def _warm(self, case: str, peer: Peer, drive: Drive, least: int) -> int:
        """Run a little; how many messages make a turn. 0 if it fails."""
        try:
            tried = _turn(peer, drive, least)
            tried = _turn(peer, drive, max(least, min(_MOST, round(tried.rate * self.effort.turn_s / 5))))
        except (RuntimeError, OSError) as error:
            self.fail(case, peer.name, error)
            return 0
        return max(least, min(_MOST, round(tried.rate * self.effort.turn_s)))


def _turn(peer: Peer, drive: Drive, messages: int) -> Sample:
    """One turn of one peer. What was taken is handed on before the clock stops."""
    before = peer.tree.cpu_s() if peer.tree else 0.0
    elapsed = drive(peer.port, messages)
    begun = time.perf_counter()
    peer.drained()
    elapsed += time.perf_counter() - begun
    time.sleep(_SETTLE_S)
    spent = peer.tree.cpu_s() - before if peer.tree else 0.0
    return Sample(messages, spent, elapsed)
