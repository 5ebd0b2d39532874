"""What a next hop does to it: faults by chance, each fault at each point, answers before their time, false TLS.

A case is given its effort and a seed; it starts next hops, the program, and a client, and closes the books.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from smtpguard.sandbox import DEFAULT_KEYWORDS, Drip, FalseTls, Garbage, Ok, Say, Script
from tests.certs import CaAndServer, ca_and_server, server_context
from tests.chaos.guard import LIMIT_S, QUICK, Guard
from tests.chaos.hop import FAULTS, Dice, Hop, at
from tests.chaos.ledger import Ledger
from tests.chaos.mta import Door, Gone, Mail, Mta, Session, mails
from tests.chaos.stage import GRACE_S, STORM_VERBS, Effort, Row, calm, client, stage

RECOVERS_WITHIN_S: Final = 6.0
WITHOUT_CHUNKING: Final = tuple(word for word in DEFAULT_KEYWORDS if word != "CHUNKING")
HELD_OCTETS: Final = 24 << 20
"""More than the sockets on the way hold: what is answered early is answered before we have sent it."""


# -- the storm ----------------------------------------------------------------------------------------------------


async def storm(effort: Effort, seed: int) -> Row:
    """Faults by chance everywhere, on both doors, with DATA and with BDAT."""
    row = Row("storm", "no loss, no duplicate, no false bounce: 0 violations with 30 % faults")
    total = Counter[str]()
    for keywords, number in ((DEFAULT_KEYWORDS, 0), (WITHOUT_CHUNKING, 1)):
        rng = random.Random(seed + number)
        more = "connections = 60\nmessages_per_connection = 20\n"
        async with stage(keywords=keywords, next_hop=QUICK + more) as (guard, hop, ledger, _):
            descriptors = len(guard.process.descriptors())
            dice = Dice(hop, rng, 0.062, STORM_VERBS)
            hop.script = dice
            began = time.monotonic()
            await client(guard, ledger, rng, within_s=3600).run(mails(effort.messages // 2, rng), effort.sessions)
            seconds = time.monotonic() - began
            hop.script = None
            await calm(guard, hop, descriptors)
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
        async with stage(keywords=keywords) as (guard, hop, ledger, _):
            hop.script = _Choice(hop, rng, early)
            queue = mails(effort.few // 30, rng, large=1.0)
            for mail in queue:
                mail.body *= 1 + HELD_OCTETS // len(mail.body)
            await client(guard, ledger, rng).run(queue, 5)
        part = Row("", "").settle(ledger)
        row.violations += part.violations
        row.figures = part.figures
    return row


class _Choice(Dice):
    """Dice for BODY alone, of a given choice."""

    def __init__(self, hop: Hop, rng: random.Random, names: Sequence[str]) -> None:
        super().__init__(hop, rng, 0.5, ("BODY",))
        self._choices["BODY"] = tuple(names)


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
                        await client(guard, ledger, random.Random(1)).attempt(session, mail)
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
