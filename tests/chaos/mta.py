"""The client: what an MTA does with our answers, with an account of each.

Sessions on both doors take messages from one queue. A recipient that was answered 2xx or 5xx is done; any other is
tried again in a later attempt, as is what was lost with the connection. Some sessions pipeline, some go step by step,
some stay for several messages; some messages are large, and some lines begin with dots.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal

from tests.chaos.ledger import Copy, Ledger

Door = Literal["smtp", "lmtp"]
HELLO: Final[Mapping[Door, bytes]] = {"smtp": b"EHLO mta.example\r\n", "lmtp": b"LHLO mta.example\r\n"}
PATIENCE_S: Final = 30.0  # for an answer; the ledger's limit is shorter
RETRY_S: Final = 0.05
VANISHES: Final = 0.005
"""The share of messages within which the client resets the connection, and of those after which it does."""

GIVE_UP_AFTER: Final = 60  # attempts; by chance that many never fail


class Gone(Exception):
    """The connection ended."""


@dataclass(slots=True)
class Mail:
    """One message in the queue, with the recipients that are not done."""

    number: int
    rcpts: list[bytes]
    body: bytes
    attempt: int = 0

    def octets(self) -> bytes:
        """This attempt's message, dots not stuffed."""
        return (
            b"From: <chaos@s.example>\r\nMessage-ID: <%d@chaos.example>\r\nX-Attempt: %d.%d\r\nSubject: chaos\r\n\r\n%b"
            % (self.number, self.number, self.attempt, self.body)
        )


def mails(count: int, rng: random.Random, *, large: float = 0.03, first: int = 0) -> list[Mail]:
    """So many messages of 1 to 3 recipients; a share of `large` ones is sent in pieces, or waits in a file."""
    made = []
    for number in range(first, first + count):
        size = rng.choice((70_000, 300_000)) if rng.random() < large else rng.randrange(0, 2_000)
        line = bytes(rng.choices(b"abcdefghijklmnop .", k=76))
        body = b"".join((b"." if n % 5 == 0 else b"") + line + b"\r\n" for n in range(size // 78 + 1))
        rcpts = [b"n%d.%d@r.example" % (number, index) for index in range(rng.choice((1, 1, 1, 2, 3)))]
        made.append(Mail(number, rcpts, body))
    return made


class Session:
    """One connection to a door, with a limit for each answer."""

    def __init__(self, door: Door, port: int, ledger: Ledger, limit_s: float) -> None:
        self.door = door
        self._port = port
        self._ledger = ledger
        self._limit_s = limit_s
        self._is_over = False

    async def open(self) -> None:
        """Connect, greeting, hello; Gone if that fails."""
        try:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError as error:
            raise Gone from error
        if (await self.reply("the connection"))[0][:1] != b"2":
            raise Gone
        if (await self.ask(HELLO[self.door], "EHLO"))[0][:1] != b"2":
            raise Gone

    def close(self) -> None:
        """At once."""
        with suppress(AttributeError):  # never opened
            self._writer.close()

    def vanish(self) -> None:
        """Reset the connection: Gone."""
        self._writer.transport.abort()
        raise Gone

    async def reply(self, at: str) -> list[bytes]:
        """The next reply's lines, each with its CRLF; Gone at the end of the connection."""
        if self._is_over:
            raise Gone
        began = time.monotonic()
        lines: list[bytes] = []
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not lines or lines[-1][3:4] == b"-":
                    line = await self._reader.readline()
                    if not line.endswith(b"\n"):
                        raise Gone
                    lines.append(line)
        except TimeoutError:
            self._ledger.broke("V", f"no answer to {at} within {PATIENCE_S:g} s")
            raise Gone from None
        except OSError as error:
            raise Gone from error
        self._ledger.reply(lines, time.monotonic() - began, self._limit_s, at)
        self._is_over = lines[0][:3] == b"421"
        return lines

    async def send(self, octets: bytes) -> None:
        """Send; Gone where nobody takes it."""
        self._writer.write(octets)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._writer.drain()
        except (OSError, TimeoutError) as error:
            raise Gone from error

    async def ask(self, line: bytes, at: str) -> list[bytes]:
        """Send a line, read its answer."""
        await self.send(line)
        return await self.reply(at)


@dataclass(slots=True)
class Mta:
    """The queue and its sessions. `run` returns when nothing waits any more."""

    ports: Mapping[Door, int]
    ledger: Ledger
    rng: random.Random
    limit_s: float
    """How long an answer may take."""
    sender: bytes = b"chaos@s.example"
    pause_s: float = 0.0
    """How long a session rests before each message, on average."""
    queue: list[Mail] = field(default_factory=list)
    under_way: int = 0
    deadline: float = float("inf")

    async def run(self, mails: Sequence[Mail], sessions: int) -> None:
        """Send them all, over so many sessions at a time."""
        self.queue += reversed(mails)
        doors: tuple[Door, ...] = tuple(self.ports)
        await asyncio.gather(*(self._worker(doors[number % len(doors)]) for number in range(sessions)))
        for mail in self.queue:
            self.ledger.broke("V", f"message {mail.number} still waits after {mail.attempt} attempts")
        self.queue.clear()

    async def _worker(self, door: Door) -> None:
        while (self.queue or self.under_way) and time.monotonic() < self.deadline:
            if not self.queue:
                await asyncio.sleep(RETRY_S)
                continue
            session = Session(door, self.ports[door], self.ledger, self.limit_s)
            try:
                await session.open()
                for _ in range(self.rng.choice((1, 1, 2, 5))):
                    if self.pause_s:
                        await asyncio.sleep(min(self.rng.expovariate(1 / self.pause_s), 5 * self.pause_s))
                    if not self.queue:
                        break
                    await self._carry(session, self.queue.pop())
                with suppress(Gone):
                    await session.ask(b"QUIT\r\n", "QUIT")
            except Gone:
                await asyncio.sleep(RETRY_S)
            finally:
                session.close()

    async def _carry(self, session: Session, mail: Mail) -> None:
        self.under_way += 1
        mail.attempt += 1
        self.ledger.counts["attempts"] += 1
        try:
            await self.attempt(session, mail)
        finally:
            self.under_way -= 1
            if mail.rcpts and mail.attempt < GIVE_UP_AFTER:
                asyncio.get_running_loop().call_later(RETRY_S * mail.attempt, self._again, mail)
                self.under_way += 1
            elif mail.rcpts:
                self.ledger.broke("V", f"message {mail.number} got no last word in {mail.attempt} attempts")

    def _again(self, mail: Mail) -> None:
        self.under_way -= 1
        self.queue.insert(0, mail)

    async def attempt(self, session: Session, mail: Mail) -> None:
        """One transaction; the recipients that are done leave `mail.rcpts`."""
        lines = [b"MAIL FROM:<%b>\r\n" % self.sender, *(b"RCPT TO:<%b>\r\n" % rcpt for rcpt in mail.rcpts)]
        is_pipelined = self.rng.random() < 0.5
        if is_pipelined:
            await session.send(b"".join(lines))
        else:
            await session.send(lines[0])
        said = await session.reply("MAIL")
        taken: list[bytes] = []
        rcpts = list(mail.rcpts)
        if said[0][:1] == b"5":
            self._bounce(mail, rcpts, said, "MAIL")
        for line, rcpt in zip(lines[1:], rcpts, strict=True):
            if said[0][:1] != b"2" and not is_pipelined:
                break
            reply = await (session.reply("RCPT") if is_pipelined else session.ask(line, "RCPT"))
            if said[0][:1] != b"2":
                continue  # MAIL's answer was theirs
            if reply[0][:1] == b"2":
                taken.append(rcpt)
            elif reply[0][:1] == b"5":
                self._bounce(mail, [rcpt], reply, "RCPT")
        if taken and self.rng.random() < 0.02:
            taken = []  # an MTA may think better of it
        if not taken or (await session.ask(b"DATA\r\n", "DATA"))[0][:1] != b"3":
            await session.ask(b"RSET\r\n", "RSET")
            return
        octets = mail.octets()
        self.ledger.sends(mail.number, mail.attempt, octets)
        stuffed = octets.replace(b"\r\n.", b"\r\n..")
        whim = self.rng.random()
        if whim < VANISHES:
            await session.send(stuffed[: len(stuffed) // 2])
            session.vanish()
        unanswered = {Copy(mail.number, mail.attempt, rcpt) for rcpt in taken}
        self.ledger.unsure |= unanswered
        await session.send(stuffed + b".\r\n")
        if whim > 1 - VANISHES:
            self.ledger.cut |= unanswered  # by us
            session.vanish()
        for index, rcpt in enumerate(taken):
            if session.door == "lmtp" or not index:
                reply = await session.reply("the dot")
            copy = Copy(mail.number, mail.attempt, rcpt)
            if reply[0][:1] == b"2":
                self.ledger.told.add(copy)
                self.ledger.unsure.discard(copy)
                mail.rcpts.remove(rcpt)
            elif reply[0][:1] == b"5":
                self.ledger.unsure.discard(copy)
                self._bounce(mail, [rcpt], reply, "the dot")

    def _bounce(self, mail: Mail, rcpts: Sequence[bytes], said: list[bytes], at: str) -> None:
        for rcpt in rcpts:
            mail.rcpts.remove(rcpt)
            self.ledger.bounced(said, at)
