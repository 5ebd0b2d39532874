"""What is measured through all peers by turns: cost by kind of message, connections, refusals, distance; latency.

Each case is a function of the stand that adds rows; `CASES` names them for `--only`. What concerns smtpguard alone is
in `singles`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from typing import Final

from tests.bench import letters, singles
from tests.bench.client import Run, Stage
from tests.bench.figures import YARDSTICK, Row, percentile
from tests.bench.hop import FarHop
from tests.bench.load import Load, Sink
from tests.bench.peers import ALL, OURS, Peer
from tests.bench.stand import Stand

KB: Final = 1024
MB: Final = 1024 * KB

MAIN: Final[Mapping[str, Load]] = {
    "2 KB": Load(),
    "2 KB, new connection": Load(kept=False),
    "50 KB": Load(size=50 * KB),
    "2 KB, 10 rcpt": Load(rcpts=10),
}
"""The cases of the budgets without the lint: through every peer that is not judged with it."""

LINTED: Final[Mapping[str, Callable[[], bytes]]] = {
    "2 KB, lint": lambda: letters.signed(2 * KB),
    "50 KB, lint": lambda: letters.signed(50 * KB),
    "50 KB newsletter, lint": lambda: letters.newsletter(50 * KB),
}
"""Those with the lint, which wants real messages."""

UNLINTED: Final = tuple(name for name in OURS if name != "lint")
"""Before these stands what smtp-source makes up, which is no message in order: the lint is not measured with it."""

SIZES: Final = {"256 KB": 256 * KB, "1 MB": MB, "5 MB": 5 * MB, "25 MB": 25_000_000}
SESSIONS: Final = (1, 50, 200)
REFUSED: Final = (0, 3, 10)  # of ten recipients
DISTANCES_MS: Final = (0, 20, 50)

# Below what any peer here can do, so that latency is the peer's and not the queue's before it.
PACE: Final = 300.0
_LATENCY_TURNS: Final = 2  # turns' worth of time: a p99 wants many messages
_LATENCIES: Final = 4000
_LEAST: Final = 20


def main(stand: Stand) -> None:
    """The budgets' cases without the lint: every peer but `lint`, smtp-source and smtp-sink."""
    with stand.peers([name for name in ALL if name != "lint"], Sink()) as peers:
        for name, load in MAIN.items():
            stand.measure(name, peers, load.run, least=5 * load.sessions)


def lint(stand: Stand) -> None:
    """Everything on: signed messages, the DNS known after the first of them. `full` is the same without the lint."""
    with stand.peers((YARDSTICK, "lint", "full", "haraka"), Sink()) as peers:
        for name, letter in LINTED.items():
            load = Load(letter=stand.letter(name, letter()))
            stand.measure(name, peers, load.run, least=5 * load.sessions)


def sizes(stand: Stand) -> None:
    """Cost by message size, over what `main` has."""
    with stand.peers(UNLINTED, Sink()) as peers:
        for name, size in SIZES.items():
            sessions = 4 if size > MB else 10
            stand.measure(name, peers, Load(size=size, sessions=sessions).run, least=sessions)


def recipients(stand: Stand) -> None:
    """Cost by number of recipients."""
    with stand.peers(UNLINTED, Sink()) as peers:
        stand.measure("2 KB, 100 rcpt", peers, Load(rcpts=100).run, least=20)


def connections(stand: Stand) -> None:
    """Cost by number of connections at once."""
    with stand.peers(UNLINTED, Sink()) as peers:
        for sessions in SESSIONS:
            load = Load(sessions=sessions)
            stand.measure(f"2 KB, {sessions} connections", peers, load.run, least=max(20, 2 * sessions))


def refusals(stand: Stand) -> None:
    """Cost by share of refused recipients: ten a message; 0, 3 or all 10 of them get a 550 from the next hop."""
    with stand.peers(OURS, FarHop()) as peers:
        for refused in REFUSED:
            rcpts = [f"550-5.7.1.{n}@sink.test" if n < refused else f"rcpt{n}@sink.test" for n in range(10)]

            def drive(port: int, messages: int, stage: Stage = Stage(rcpts=rcpts), wanted: int = refused) -> float:  # noqa: B008 - a value
                seen = stage.flat_out(port, messages)
                if seen.codes[550] != wanted * messages:
                    raise RuntimeError(f"{seen.codes[550]} refusals, not {wanted * messages}: {dict(seen.codes)}")
                return seen.elapsed_s

            stand.measure(f"10 rcpt, {10 * refused} % refused", peers, drive, least=20)


def latency(stand: Stand) -> None:
    """Milliseconds from MAIL to the answer to the dot, over those of `direct`: 10 pipelining connections.

    Paced at 300 messages a second, and flat out, where a message also waits for those of the nine other connections.
    """
    names = ("direct", *OURS, "nginx", "haraka")
    with stand.peers(names, Sink()) as peers:
        _latency(stand, "latency, flat out", peers, Stage().flat_out)
        _latency(stand, "latency, paced", peers, partial(Stage().paced, rate=PACE), pace=PACE)


def distances(stand: Stand) -> None:
    """The same where the next hop is 0, 20 and 50 ms away: 10 connections, 10 recipients, flat out."""
    rcpts = [f"rcpt{n}@sink.test" for n in range(10)]
    for distance in DISTANCES_MS:
        with stand.peers(("direct", *OURS), FarHop(distance)) as peers:
            _latency(stand, f"next hop {distance} ms away", peers, Stage(rcpts=rcpts).flat_out)


def _latency(
    stand: Stand, case: str, peers: Mapping[str, Peer], run: Callable[[int, int], Run], *, pace: float = 0
) -> None:
    """Rows with p50, p95 and p99 in ms, less those of `direct`, and messages a second; medians of the repetitions.

    `run` is given a port and a count; a peer that cannot keep the `pace` is left out, and its row says so.
    """
    counts: dict[str, int] = {}
    taken: dict[str, list[Run]] = {}
    for name, peer in peers.items():
        try:
            warm = run(peer.port, _LEAST)
        except (OSError, RuntimeError) as error:
            stand.fail(case, name, error)
            continue
        rate = _LEAST / warm.elapsed_s
        if rate < pace / 2:
            stand.add(Row(case, name, note=f"cannot keep {pace:g} messages a second"))
            continue
        counts[name] = max(_LEAST, min(_LATENCIES, round(rate * _LATENCY_TURNS * stand.effort.turn_s)))
        taken[name] = []
    for _ in range(stand.effort.repetitions):
        for name, count in counts.items():
            taken[name].append(run(peers[name].port, count))
    shares = {"p50_ms": 0.50, "p95_ms": 0.95, "p99_ms": 0.99}
    nothing = dict.fromkeys(shares, 0.0)
    measured = {
        name: {
            figure: median(1000 * percentile(one.latencies_s, share) for one in runs)
            for figure, share in shares.items()
        }
        for name, runs in taken.items()
    }
    base = measured.get("direct", nothing)
    for name, figures in measured.items():
        added = {f"added_{figure}": value - base[figure] for figure, value in figures.items()}
        rate = median(len(one.latencies_s) / one.elapsed_s for one in taken[name])
        stand.add(Row(case, name, {**(figures if name == "direct" else added), "rate": rate}))


CASES: Final[Mapping[str, Callable[[Stand], None]]] = {
    "main": main,
    "lint": lint,
    "sizes": sizes,
    "recipients": recipients,
    "connections": connections,
    "refusals": refusals,
    "latency": latency,
    "distances": distances,
    **singles.SINGLES,
}

assert YARDSTICK in OURS
