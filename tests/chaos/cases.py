"""What is done to it: each case is a row of the report, with its figures and whatever law was broken.

A case is given its effort and a seed; it starts a next hop, the program, and a client, and closes the books.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import socket
import sqlite3
import statistics
import tempfile
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from smtpguard.sandbox import DEFAULT_KEYWORDS, Delay, Drip, FalseTls, Garbage, Ok, Say, Script
from tests.certs import CaAndServer, ca_and_server, server_context
from tests.chaos import real
from tests.chaos.guard import LIMIT_S, QUICK, Guard
from tests.chaos.hop import FAULTS, Dice, Hop, at
from tests.chaos.ledger import Ledger
from tests.chaos.mta import Door, Gone, Mail, Mta, Session, mails

GRACE_S: Final = 2.0
"""Beyond a time-out an answer may take so long (reliability: V)."""

RECOVERS_WITHIN_S: Final = 6.0
# The stages that one command of the client may run through, each to its limit: a kept connection that died, a slot, a
# new connection's greeting, EHLO, MAIL, and RCPT behind it.
WORST_S: Final = 8 * LIMIT_S + GRACE_S
STORM_VERBS: Final = ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "BODY", "DOT", "RSET", "QUIT")
WITHOUT_CHUNKING: Final = tuple(word for word in DEFAULT_KEYWORDS if word != "CHUNKING")
HELD_OCTETS: Final = 24 << 20
"""More than the sockets on the way hold: what is answered early is answered before we have sent it."""

FAKETIME: Final = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"


@dataclass(slots=True)
class Effort:
    """How much is done: messages of the storm, and of the smaller cases."""

    messages: int = 20_000
    few: int = 600
    sessions: int = 40


@dataclass(slots=True)
class Row:
    """What a case found. `skipped` says why it was not played."""

    case: str
    goal: str
    figures: dict[str, Any] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    skipped: str = ""

    def settle(self, ledger: Ledger) -> Row:
        """Close the books into the row."""
        ledger.close()
        self.figures |= dict(sorted(ledger.counts.items()))
        self.figures["longest answer, s"] = round(ledger.longest_s, 2)
        self.violations += ledger.violations
        return self


@asynccontextmanager
async def _stage(
    *, keywords: Sequence[str] = DEFAULT_KEYWORDS, **options: Any
) -> AsyncIterator[tuple[Guard, Hop, Ledger, Path]]:
    """A next hop, and the program before it; `{dir}` in the options is a folder of theirs."""
    ledger = Ledger()
    with tempfile.TemporaryDirectory(prefix="smtpguard-chaos-") as name:
        options = {
            key: value.replace("{dir}", name) if isinstance(value, str) else value for key, value in options.items()
        }
        async with Hop(ledger, keywords=keywords) as hop:
            guard = Guard(Path(name), hop.port, ledger, **options)
            await guard.start()
            try:
                yield guard, hop, ledger, Path(name)
                if await guard.stop() != 0:
                    ledger.broke("V", "a gentle stop ended with another code than 0")
            finally:
                await guard.process.kill()


def _mta(guard: Guard, ledger: Ledger, rng: random.Random, *, within_s: float = 600.0, limit_s: float = WORST_S) -> Mta:
    return Mta(guard.ports, ledger, rng, limit_s, deadline=time.monotonic() + within_s)


# -- the storm ----------------------------------------------------------------------------------------------------


async def storm(effort: Effort, seed: int) -> Row:
    """Faults by chance everywhere, on both doors, with DATA and with BDAT."""
    row = Row("storm", "no loss, no duplicate, no false bounce: 0 violations with 30 % faults")
    total = Counter[str]()
    for keywords, number in ((DEFAULT_KEYWORDS, 0), (WITHOUT_CHUNKING, 1)):
        rng = random.Random(seed + number)
        more = "connections = 60\nmessages_per_connection = 20\n"
        async with _stage(keywords=keywords, next_hop=QUICK + more) as (guard, hop, ledger, _):
            descriptors = len(guard.process.descriptors())
            dice = Dice(hop, rng, 0.062, STORM_VERBS)
            hop.script = dice
            began = time.monotonic()
            await _mta(guard, ledger, rng, within_s=3600).run(mails(effort.messages // 2, rng), effort.sessions)
            seconds = time.monotonic() - began
            hop.script = None
            await _calm(guard, hop, descriptors)
        part = Row("", "").settle(ledger)
        row.violations += part.violations
        total.update({key: value for key, value in part.figures.items() if isinstance(value, int)})
        total["faults played"] += sum(dice.played.values())
        row.figures[f"messages/s {'BDAT' if number == 0 else 'DATA'}"] = round(effort.messages // 2 / seconds)
        row.figures["kinds of fault"] = len(dice.played)
        row.figures["longest answer, s"] = part.figures["longest answer, s"]
    row.figures = {"messages": effort.messages // 2 * 2, **total, **row.figures}
    row.figures["faults an attempt"] = round(total["faults played"] / max(1, total["attempts"]), 2)
    return row


async def _calm(guard: Guard, hop: Hop, descriptors: int) -> None:
    """Law R: after the storm descriptors come back to where they were, kept connections aside."""
    deadline = time.monotonic() + 10
    while (left := len(guard.process.descriptors()) - hop.open_connections) > descriptors + 8:
        if time.monotonic() > deadline:
            guard.ledger.broke("R", f"{left} descriptors are open, {descriptors} were at the start")
            return
        await asyncio.sleep(0.1)


# -- one fault at a time --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Point:
    door: Door
    verb: str
    fault: str


async def faults(_: Effort, seed: int) -> Row:
    """Each fault once at each point on each door: an answer in time, and the next message passes."""
    row = Row(
        "faults", "each fault at each point: 4xx, 421 or close within the time-out + 2 s, next message within 6 s"
    )
    points = [
        _Point(door, verb, fault)
        for verb in ("CONNECT", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "BODY", "DOT", "RSET", "QUIT")
        for fault in at(verb)
        for door in ("smtp", "lmtp")
    ]
    random.Random(seed).shuffle(points)
    waiting = deque(points)
    ledger = Ledger()
    slowest = Counter[str]()
    with tempfile.TemporaryDirectory(prefix="smtpguard-chaos-") as name:
        certs = ca_and_server(["localhost"], directory=Path(name))
        (Path(name) / "password").write_text("right")
        hops = [
            Hop(
                ledger,
                keywords=DEFAULT_KEYWORDS if number % 2 else WITHOUT_CHUNKING,
                tls=server_context(certs.cert, certs.key) if number % 3 == 0 else None,
                users={"guard": "right"} if number % 3 == 0 else None,
            )
            for number in range(12)
        ]
        try:
            for hop in hops:
                await hop.start()
            brief = QUICK + 'idle = "100ms"\n'
            guard = Guard(Path(name), hops[0].port, ledger, next_hop=brief, more=_routes(hops, certs, name))
            await guard.start()
            try:
                numbers = iter(range(10**9))
                await asyncio.gather(
                    *(_play(waiting, number, hop, guard, numbers, slowest) for number, hop in enumerate(hops))
                )
                await guard.stop()
            finally:
                await guard.process.kill()
        finally:
            for hop in hops:
                await hop.stop()
    row.figures = {"points": len(points), "slowest, s": {key: value / 1000 for key, value in slowest.most_common(3)}}
    return row.settle(ledger)


def _routes(hops: Sequence[Hop], certs: CaAndServer, directory: str) -> str:
    login = f'{_verified(certs)}username = "guard"\npassword_file = "{directory}/password"\n'
    return "".join(
        f'[next_hop.hop{number}]\nhost = "127.0.0.1"\nport = {hop.port}\nmessages_per_connection = 1\nidle = "100ms"\n'
        + (QUICK.replace('tls = "none"\n', login) if hop.settings.tls is not None else QUICK)
        + f'[[route]]\nsender_domain = ["s{number}.example"]\nnext_hop = "hop{number}"\n'
        for number, hop in enumerate(hops)
    )


def _verified(certs: CaAndServer) -> str:
    return f'tls = "required"\ntls_ca_file = "{certs.ca}"\ntls_name = "localhost"\n'


async def _play(waiting: deque[_Point], own: int, hop: Hop, guard: Guard, numbers: Any, slowest: Counter[str]) -> None:
    """Points from the heap that this next hop can play, one after the other."""
    while True:
        point = next((p for p in waiting if p.verb not in ("STARTTLS", "AUTH") or hop.settings.tls is not None), None)
        if point is None:
            return
        waiting.remove(point)
        until = time.monotonic() + 3 * LIMIT_S
        # Of the ask at the start, and of the point before
        while hop.open_connections and time.monotonic() < until:  # noqa: ASYNC110 (nobody tells when one ends)
            await asyncio.sleep(0.02)
        if hop.open_connections:  # who reads no more does not see that the other side is gone
            await hop.stop()
            await hop.start(port=hop.port)
        hop.script = Script({point.verb: [FAULTS[point.fault](point.verb, hop), Ok()]})
        hit = await _one(guard, point, own, next(numbers), limit_s=2 * LIMIT_S + GRACE_S)
        slowest[f"{point.verb} {point.fault} ({point.door})"] = round(hit * 1000)
        hop.script = None
        deadline = time.monotonic() + RECOVERS_WITHIN_S
        while True:
            number = next(numbers)
            await _one(guard, point, own, number, limit_s=2 * LIMIT_S + GRACE_S)
            if any(copy.message == number for copy in guard.ledger.told):
                break
            if time.monotonic() > deadline:
                guard.ledger.broke("V", f"after {point} no message passed within {RECOVERS_WITHIN_S:g} s")
                break
            await asyncio.sleep(0.1)


async def _one(guard: Guard, point: _Point, own: int, number: int, *, limit_s: float) -> float:
    """One message through one next hop; the seconds of its longest answer. For RSET the client changes its mind."""
    body = b"x" * 998 + b"\r\n"
    mail = Mail(number, [b"n%d@r.example" % number], body * (200 if point.verb == "BODY" else 1))
    books = Ledger()
    books.told, books.unsure, books.taken, books.cut = (
        guard.ledger.told,
        guard.ledger.unsure,
        guard.ledger.taken,
        guard.ledger.cut,
    )
    books._digests = guard.ledger._digests
    sender = b"chaos@s%d.example" % own
    session = Session(point.door, guard.ports[point.door], books, limit_s)
    try:
        await session.open()
        if point.verb == "RSET":
            await session.ask(b"MAIL FROM:<%b>\r\n" % sender, "MAIL")
            await session.ask(b"RCPT TO:<b@r.example>\r\n", "RCPT")
            await session.ask(b"RSET\r\n", "RSET")
        await Mta(guard.ports, books, random.Random(1), limit_s, sender=sender).attempt(session, mail)
        await session.ask(b"QUIT\r\n", "QUIT")
    except Gone:
        pass
    finally:
        session.close()
    for violation in books.violations:
        guard.ledger.broke(violation[:1], f"{point}: {violation[3:]}")
    guard.ledger.counts.update(books.counts)
    guard.ledger.longest_s = max(guard.ledger.longest_s, books.longest_s)
    return books.longest_s


# -- large messages -------------------------------------------------------------------------------------------------


async def large(effort: Effort, seed: int) -> Row:
    """Early answers to messages that are sent in pieces, an early yes among them, and a next hop that stops reading."""
    row = Row("large", "an early answer ends the transfer; a yes before the end is none")
    early = [name for name in FAULTS if name.startswith("early")] + ["close", "reset", "hang"]
    rng = random.Random(seed)
    for keywords in (DEFAULT_KEYWORDS, WITHOUT_CHUNKING):
        async with _stage(keywords=keywords) as (guard, hop, ledger, _):
            hop.script = _Choice(hop, rng, early)
            queue = mails(effort.few // 30, rng, large=1.0)
            for mail in queue:
                mail.body *= 1 + HELD_OCTETS // len(mail.body)
            await _mta(guard, ledger, rng).run(queue, 5)
        part = Row("", "").settle(ledger)
        row.violations += part.violations
        row.figures = part.figures
    return row


class _Choice(Dice):
    """Dice for BODY alone, of a given choice."""

    def __init__(self, hop: Hop, rng: random.Random, names: Sequence[str]) -> None:
        super().__init__(hop, rng, 0.5, ("BODY",))
        self._choices["BODY"] = tuple(names)


# -- signals --------------------------------------------------------------------------------------------------------


async def _under_signals(
    row: Row, effort: Effort, seed: int, trouble: Callable[[Guard, asyncio.Task[None]], Awaitable[int]]
) -> Row:
    """A load with some delays and faults while `trouble` goes on; it says how often it struck."""
    rng = random.Random(seed)
    async with _stage() as (guard, hop, ledger, _):
        hop.script = _Slow(hop, rng)
        load = asyncio.create_task(_mta(guard, ledger, rng).run(mails(effort.few * 3, rng), 30))
        try:
            row.figures["times"] = await trouble(guard, load)
            await load
        finally:
            load.cancel()
    return row.settle(ledger)


class _Slow(Dice):
    """A few faults, and an answer to the message that takes a while: a signal finds many behind the dot."""

    def __init__(self, hop: Hop, rng: random.Random) -> None:
        super().__init__(hop, rng, 0.01, STORM_VERBS)

    def action(self, verb: str, occurrence: int) -> Any:
        """By chance; else slowly."""
        found = super().action(verb, occurrence)
        return Delay(0.1, Ok()) if found is None and verb == "DOT" else found


async def sigterm(effort: Effort, seed: int) -> Row:
    """Stopped gently and begun again, again and again."""

    async def trouble(guard: Guard, load: asyncio.Task[None]) -> int:
        times, longest = 0, 0.0
        while not load.done() and times < 6:
            await asyncio.sleep(0.7)
            began = time.monotonic()
            if await guard.stop() != 0:
                guard.ledger.broke("V", "SIGTERM: another exit code than 0")
            longest = max(longest, time.monotonic() - began)
            await guard.start()
            times += 1
        row.figures["longest stop, s"] = round(longest, 2)
        if longest > 3 + GRACE_S:
            guard.ledger.broke("V", f"a stop took {longest:.1f} s, the drain is 3 s")
        return times

    row = Row("sigterm", "SIGTERM: exit within the drain; 0 ambiguous where the next hop answers within it")
    return await _under_signals(row, effort, seed, trouble)


async def sigkill(effort: Effort, seed: int) -> Row:
    """Killed and begun again."""
    in_flight = 30

    async def trouble(guard: Guard, load: asyncio.Task[None]) -> int:
        times = 0
        while not load.done() and times < 6:
            await asyncio.sleep(0.7)
            await guard.kill()
            await guard.start()
            times += 1
        return times

    row = Row("sigkill", "SIGKILL under load: 0 lost after the retry, ambiguous at most the sessions in flight")
    await _under_signals(row, effort, seed, trouble)
    ambiguous = row.figures.get("copies in the window of RFC 1047", 0)
    if ambiguous > row.figures["times"] * in_flight * 3:  # a message has up to three recipients
        row.violations.append(f"D: {ambiguous} ambiguous copies after {row.figures['times']} kills")
    return row


async def sighup(effort: Effort, seed: int) -> Row:
    """Reloads without end, of good files and of bad ones."""

    async def trouble(guard: Guard, load: asyncio.Task[None]) -> int:
        times, good = 0, guard.config.read_text()
        while not load.done():
            port = next(line for line in good.splitlines() if line.startswith("port = "))
            other = good.replace(port, f'{port}\nidle = "{times % 20 + 1}s"')  # a new next hop each time
            guard.config.write_text(other)
            guard.process.signal(signal.SIGHUP)
            times += 1
            await asyncio.sleep(0.05)
        guard.config.write_text(good)
        row.figures["reloads"] = guard.logged["config-reloaded"]
        return times

    row = Row("sighup", "SIGHUP storms: reloads change nothing for mail under way")
    return await _under_signals(row, effort, seed, trouble)


# -- scarcity -------------------------------------------------------------------------------------------------------


async def descriptors(effort: Effort, seed: int) -> Row:
    """48 descriptors for 60 clients and their next hop; then enough again."""
    row = Row("descriptors", "48 descriptors, 60 clients: 4xx, 421 or accepted; recovers alone")
    rng = random.Random(seed)
    async with _stage() as (guard, hop, ledger, _):
        before = len(guard.process.descriptors())
        guard.limit(resource.RLIMIT_NOFILE, 48)
        hop.script = _Slow(hop, rng)
        # A client that waits for its greeting waits for others to leave: no limit but the run's
        await _mta(guard, ledger, rng, limit_s=25.0).run(mails(effort.few, rng, large=0.2), 60)
        row.figures["descriptors before, after"] = (before, len(guard.process.descriptors()))
        await _calm(guard, hop, before)
        hop.script = None
        await _mta(guard, ledger, rng).run(mails(20, rng, first=10**6), 4)
    return row.settle(ledger)


async def disk(effort: Effort, seed: int) -> Row:
    """No file may grow beyond 100 KB: bodies over 256 KiB find no room, smaller ones pass; then it is lifted."""
    row = Row("disk", "spool full: 452 4.3.1 for what needs it, no effect on the rest; recovers alone")
    rng = random.Random(seed)
    async with _stage(relay='spool_dir = "{dir}"') as (guard, _, ledger, _):
        guard.limit(resource.RLIMIT_FSIZE, 100_000)
        queue = mails(effort.few // 3, rng, large=0.3)
        mta = _mta(guard, ledger, rng, within_s=120)
        load = asyncio.create_task(mta.run(queue, 10))
        await asyncio.sleep(2)
        row.figures["refused for want of room"] = guard.logged["no-room"]
        if not guard.logged["no-room"]:
            ledger.broke("R", "the limit was never met")
        guard.limit(resource.RLIMIT_FSIZE, resource.prlimit(guard.process.pid, resource.RLIMIT_FSIZE)[1])
        await load
    return row.settle(ledger)


async def locked_store(effort: Effort, seed: int) -> Row:
    """The history's file is locked by somebody else for seconds."""
    row = Row("locked store", "store locked: no effect on replies")
    rng = random.Random(seed)
    async with _stage(more='[store]\nurl = "sqlite:///{dir}/history.db"') as (guard, _, ledger, directory):
        file = directory / "history.db"
        if not file.exists():
            row.skipped = "the program opens no store yet"
            return row.settle(ledger)
        await _pace(guard, ledger, rng, 30, first=2 * 10**6)
        quiet = await _pace(guard, ledger, rng, effort.few // 3, first=0)
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            locked = await _pace(guard, ledger, rng, effort.few // 3, first=10**6)
            other.execute("ROLLBACK")
        row.figures |= {"p99 free, ms": quiet, "p99 locked, ms": locked}
        if locked - quiet > 50:
            ledger.broke("V", f"p99 moved from {quiet} to {locked} ms")
    return row.settle(ledger)


async def dead_dns(effort: Effort, seed: int) -> Row:
    """A name server that takes questions and never answers."""
    row = Row("dead DNS", "DNS dead: lint skipped within its budget; unrelated mail's p99 moves by less than 50 ms")
    rng = random.Random(seed)
    figures: dict[str, float] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hole:
        hole.bind(("127.0.0.1", 0))
        dead = f'resolvers = ["127.0.0.1:{hole.getsockname()[1]}"]'
        for name, more in (
            ("lint off", '[lint]\nmode = "off"'),
            ("DNS dead", f'[lint]\nmode = "observe"\nbudget = "200ms"\n[lint.dns]\n{dead}'),
        ):
            async with _stage(more=more) as (guard, _, ledger, _):
                await _pace(guard, ledger, rng, 30, first=10**6)
                figures[name] = await _pace(guard, ledger, rng, effort.few // 3, first=0)
            row.violations += Row("", "").settle(ledger).violations
    row.figures = {f"p99 {name}, ms": value for name, value in figures.items()}
    # The budget is awaited after the dot: by design that is what a message without any answer costs at most
    if figures["DNS dead"] - figures["lint off"] > 200 + 50:
        row.violations.append("V: mail waits longer than the budget of the lint")
    return row


async def _pace(guard: Guard, ledger: Ledger, rng: random.Random, count: int, *, first: int) -> float:
    """So many small messages one after another; the 99th percentile of their answers after the dot, in ms."""
    times: list[float] = []
    queue = mails(count, rng, large=0.0, first=first)
    for door in guard.ports:
        session = Session(door, guard.ports[door], ledger, WORST_S)
        await session.open()
        mta = _mta(guard, ledger, rng)
        for mail in queue[:: 2 if door == "smtp" else 1][: count // 2]:
            if not mail.rcpts:
                continue
            began = time.monotonic()
            with suppress(Gone):
                await mta.attempt(session, mail)
            times.append(time.monotonic() - began)
        session.close()
    return round(statistics.quantiles(times, n=100)[98] * 1000, 1)


async def clock(effort: Effort, seed: int) -> Row:
    """The clock of the day jumps a day to and fro under load (libfaketime)."""
    row = Row("clock", "clock a day off: no effect on replies")
    if not os.path.exists(FAKETIME):  # noqa: ASYNC240 (before anything runs)
        row.skipped = "libfaketime is not installed (apt-get install libfaketime)"
        return row
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="smtpguard-chaos-") as name:
        stamp = Path(name) / "stamp"
        stamp.write_text("+0")
        environ = {
            "LD_PRELOAD": FAKETIME,
            "FAKETIME_TIMESTAMP_FILE": str(stamp),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        async with _stage(environ=environ) as (guard, hop, ledger, _):
            hop.script = _Slow(hop, rng)
            load = asyncio.create_task(_mta(guard, ledger, rng).run(mails(effort.few, rng), 20))
            for shift in ("+1d", "-1d", "+0", "+1d"):
                await asyncio.sleep(0.4)
                stamp.write_text(shift)
                row.figures["jumps"] = row.figures.get("jumps", 0) + 1
            await load
    return row.settle(ledger)


# -- a real MTA ---------------------------------------------------------------------------------------------------


async def postfix(effort: Effort, seed: int) -> Row:
    """Postfix in front, over LMTP, with 50 % faults behind and ten kills between."""
    row = Row("postfix", "a real MTA: queue empties, exactly once outside the window, one bounce a refused message")
    row.skipped = real.missing()
    if not row.skipped:
        ledger, row.figures = await real.play(effort.messages // 2, seed)
        row.violations = ledger.violations
    return row


# -- TLS ------------------------------------------------------------------------------------------------------------


async def tls(_: Effort, __: int) -> Row:
    """TLS that is required and not to be had: 4xx, and nothing of the mail in clear."""
    row = Row("TLS", "TLS failure (not offered, 454, garbage, expired, wrong name): 4xx; 0 octets of mail in clear")
    with tempfile.TemporaryDirectory(prefix="smtpguard-chaos-") as name:
        good = ca_and_server(["localhost"], directory=_folder(name, "good"))
        expired = ca_and_server(["localhost"], directory=_folder(name, "expired"), expired=True)
        wrong = ca_and_server(["elsewhere.example"], directory=_folder(name, "wrong"))
        ways: Mapping[str, tuple[CaAndServer | None, Script | None]] = {
            "not offered": (None, None),
            "454": (good, Script({"STARTTLS": Say("454 4.7.0 chaos in the set-up")})),
            "554": (good, Script({"STARTTLS": Say("554 5.7.0 chaos in the set-up")})),
            "garbage": (good, Script({"STARTTLS": Garbage()})),
            "false TLS": (good, Script({"STARTTLS": FalseTls()})),
            "drip": (good, Script({"STARTTLS": Drip(interval_s=0.4)})),
            "expired": (expired, None),
            "wrong name": (wrong, None),
        }
        for way, (certs, script) in ways.items():
            for door in ("smtp", "lmtp"):
                ledger = Ledger()
                context = server_context(certs.cert, certs.key) if certs else None
                hop = Hop(ledger, tls=context)
                await hop.start()
                hop.script = script
                required = QUICK.replace('tls = "none"\n', _verified(certs or good))
                guard = Guard(Path(name), hop.port, ledger, next_hop=required)
                await guard.start()
                try:
                    session = Session(door, guard.ports[door], ledger, 2 * LIMIT_S + GRACE_S)
                    await session.open()
                    mail = Mail(1, [b"n@r.example"], b"x\r\n")
                    with suppress(Gone):
                        await _mta(guard, ledger, random.Random(1)).attempt(session, mail)
                    session.close()
                    if ledger.taken or not mail.rcpts:
                        ledger.broke("T", f"{way}: the message went out")
                    if any(line[:4].upper() == b"MAIL" for line in hop.commands):
                        ledger.broke("T", f"{way}: MAIL in clear")
                    await guard.stop()
                finally:
                    await guard.process.kill()
                    await hop.stop()
                row.violations += Row("", "").settle(ledger).violations
        row.figures = {"ways": len(ways) * 2}
    return row


def _folder(name: str, inner: str) -> Path:
    folder = Path(name) / inner
    folder.mkdir()
    return folder


CASES: Final[Mapping[str, Callable[[Effort, int], Awaitable[Row]]]] = {
    "storm": storm,
    "faults": faults,
    "large": large,
    "sigterm": sigterm,
    "sigkill": sigkill,
    "sighup": sighup,
    "descriptors": descriptors,
    "disk": disk,
    "locked-store": locked_store,
    "dead-dns": dead_dns,
    "clock": clock,
    "tls": tls,
    "postfix": postfix,
}
