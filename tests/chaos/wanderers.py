"""Clients that wander: commands in any order, cut off anywhere, while the next hop misbehaves.

The MTA of mta.py speaks as RFC 5321 wants it. These do not, and do not care: they open transactions and leave them,
repeat themselves, talk nonsense, vanish within a word. What they must never bring about is a recipient taken without a
MAIL, a message of a transaction that was left, an answer too many or too few.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from itertools import count
from typing import Final

from tests.chaos.hop import Dice
from tests.chaos.ledger import Copy, Ledger
from tests.chaos.mta import HELLO, Gone, Mail, Session, mails
from tests.chaos.stage import STORM_VERBS, WORST_S, Effort, Row, calm, client, stage

STEPS: Final = 25  # a session has as many commands at most
VANISHES: Final = 0.02
_NONSENSE: Final = (b"NOOP", b"HELP", b"VRFY a", b"FROB", b"RCPT TO:<>", b"MAIL FROM:<a b>", b"DATA now", b"BODY\tx")


async def clients(effort: Effort, seed: int) -> Row:
    """Sessions without sense, thirty at a time."""
    row = Row("clients", "client misbehaviour: nothing of a transaction that was left, each command its one answer")
    rng = random.Random(seed)
    numbers = count()
    async with stage() as (guard, hop, ledger, _):
        descriptors = len(guard.process.descriptors())
        hop.script = Dice(hop, rng, 0.02, STORM_VERBS)

        async def wander(left: Iterator[int]) -> None:
            for _ in left:
                door = rng.choice(tuple(guard.ports))
                session = Session(door, guard.ports[door], ledger, WORST_S)
                try:
                    await session.open()
                    await _Wanderer(session, ledger, rng, numbers).run()
                except Gone:
                    pass
                finally:
                    session.close()

        left = iter(range(effort.few * 5))
        await asyncio.gather(*(wander(left) for _ in range(30)))
        row.figures["sessions"] = effort.few * 5
        hop.script = None
        await calm(guard, hop, descriptors)
        await client(guard, ledger, rng).run(mails(20, rng, first=next(numbers)), 4)
    return row.settle(ledger)


class _Wanderer:
    """One session, with what it knows of its transaction: whether MAIL was taken, and which recipients."""

    def __init__(self, session: Session, ledger: Ledger, rng: random.Random, numbers: Iterator[int]) -> None:
        self._session = session
        self._ledger = ledger
        self._rng = rng
        self._numbers = numbers
        self._has_mail = False
        self._rcpts: list[bytes] = []

    async def run(self) -> None:
        """Say this and that; Gone where it ended by itself."""
        for _ in range(self._rng.randrange(3, STEPS)):
            await self._rng.choice(
                (self._mail, self._rcpt, self._rcpt, self._data, self._data, self._reset, self._babble)
            )()
        await self._ask(b"QUIT")

    async def _ask(self, line: bytes) -> bytes:
        """The code of its answer."""
        if self._rng.random() < VANISHES:
            await self._session.send(line[: self._rng.randrange(len(line))])
            self._session.vanish()
        return (await self._session.ask(line + b"\r\n", line.decode()))[0][:3]

    async def _mail(self) -> None:
        if (await self._ask(b"MAIL FROM:<chaos@s.example>"))[:1] == b"2":
            if self._has_mail:
                self._ledger.broke("T", "MAIL was taken within a transaction")
            self._has_mail, self._rcpts = True, []

    async def _rcpt(self) -> None:
        rcpt = b"w%d@r.example" % next(self._numbers)
        if (await self._ask(b"RCPT TO:<%b>" % rcpt))[:1] == b"2":
            if not self._has_mail:
                self._ledger.broke("T", "RCPT was taken without MAIL")
            self._rcpts.append(rcpt)

    async def _reset(self) -> None:
        line = self._rng.choice((b"RSET", HELLO[self._session.door].rstrip()))
        if (await self._ask(line))[:1] == b"2":
            self._has_mail, self._rcpts = False, []

    async def _babble(self) -> None:
        await self._ask(self._rng.choice(_NONSENSE))

    async def _data(self) -> None:
        if await self._ask(b"DATA") != b"354":
            return
        rcpts, self._has_mail, self._rcpts = self._rcpts, False, []
        if not rcpts:
            self._ledger.broke("T", "DATA was taken without a recipient")
        mail = Mail(next(self._numbers), rcpts, b"x" * 76 + b"\r\n")
        octets = mail.octets()
        self._ledger.sends(mail.number, mail.attempt, octets)
        whim = self._rng.random()
        if whim < VANISHES:
            await self._session.send(octets[: self._rng.randrange(len(octets))])
            self._session.vanish()
        copies = [Copy(mail.number, mail.attempt, rcpt) for rcpt in rcpts]
        self._ledger.unsure.update(copies)
        await self._session.send(octets + b".\r\n")
        if whim > 1 - VANISHES:
            self._ledger.cut.update(copies)  # by us
            self._session.vanish()
        for index, copy in enumerate(copies):
            if self._session.door == "lmtp" or not index:
                reply = await self._session.reply("the dot")
            if reply[0][:1] == b"2":
                self._ledger.told.add(copy)
            if reply[0][:1] in (b"2", b"5"):
                self._ledger.unsure.discard(copy)
            if reply[0][:1] == b"5":
                self._ledger.bounced(reply, "the dot")
        if await self._ask(b"NOOP") not in (b"250", b"421"):
            self._ledger.broke("W", f"an answer too many after {len(rcpts)} recipients on {self._session.door}")
