"""The same with a real MTA: Postfix submits, retries and bounces; smtpguard is killed; the next hop misbehaves.

Nobody's word is taken but Postfix's queue, bounces and log, and the next hop's own count of what it took.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from smtpguard.sandbox import Message
from tests.chaos.guard import QUICK, Guard
from tests.chaos.hop import VERBS, Dice, Hop
from tests.chaos.ledger import Ledger
from tests.e2e.mta import SENDER_DOMAIN
from tests.e2e.postfix import Postfix, missing

SHARE: Final = 0.1  # at each point: about every second attempt meets a fault
KILLS: Final = 10
WITHIN_S: Final = 600.0
_FINAL: Final = re.compile(r"^Final-Recipient: rfc822; *(\S+)$", re.MULTILINE)
_FAULTY: Final = tuple(verb for verb in VERBS if verb not in ("STARTTLS", "AUTH"))


class _Counting(Hop):
    """How often each recipient's mail was taken, and whose answer was then cut off on purpose."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self.taken: Counter[str] = Counter()
        self.unanswered: set[str] = set()

    def accept(self, message: Message) -> None:
        """Count it."""
        super().accept(message)
        rcpts = [path.decode() for path, _ in message.rcpts]
        self.taken.update(rcpts)
        if self.is_cut:
            self.unanswered.update(rcpts)


async def play(messages: int, seed: int) -> tuple[Ledger, dict[str, object]]:
    """One run with so many messages: its ledger, with what was broken, and figures."""
    ledger = Ledger()
    rng = random.Random(seed)
    rcpts = [f"n{number}@r.example" for number in range(messages)]
    with tempfile.TemporaryDirectory(prefix="smtpguard-chaos-") as name:
        directory = Path(name)
        os.chmod(name, 0o755)  # Postfix runs as several users
        async with _Counting(ledger) as hop:
            guard = Guard(directory, hop.port, ledger, next_hop=QUICK + "connections = 60\n")
            await guard.start()
            postfix = Postfix(directory, door="lmtp", next_hop_port=guard.ports["lmtp"])
            try:
                await asyncio.to_thread(postfix.start)
                hop.script = Dice(hop, rng, SHARE, _FAULTY)
                began = time.monotonic()
                queue_ids = await _submit(postfix, rcpts, guard)
                await _emptied(postfix, ledger)
                seconds = time.monotonic() - began
                hop.script = None
                _judge(ledger, hop, rcpts, queue_ids, await asyncio.to_thread(postfix.bounces), postfix.ambiguous())
            finally:
                await asyncio.to_thread(postfix.stop)
                await guard.process.kill()
            figures: dict[str, object] = {"messages": messages, "kills": KILLS, "seconds": round(seconds)}
            return ledger, figures | dict(sorted(ledger.counts.items()))


async def _submit(postfix: Postfix, rcpts: list[str], guard: Guard) -> dict[str, str]:
    """Hand all mail to Postfix, and kill smtpguard now and then meanwhile; recipient to queue id."""
    loop = asyncio.get_running_loop()

    def one(rcpt: str) -> tuple[str, str]:
        return rcpt, postfix.send(f"list@{SENDER_DOMAIN}", [rcpt], f"Subject: {rcpt}\r\n\r\n{rcpt}\r\n")

    with ThreadPoolExecutor(4) as senders:
        sent = [loop.run_in_executor(senders, one, rcpt) for rcpt in rcpts]
        for _ in range(KILLS):
            await asyncio.sleep(1.0)
            await guard.kill()
            await guard.start()
        return dict(await asyncio.gather(*sent))


async def _emptied(postfix: Postfix, ledger: Ledger) -> None:
    until = time.monotonic() + WITHIN_S
    while left := await asyncio.to_thread(postfix.queue):
        if time.monotonic() > until:
            ledger.broke("V", f"{len(left)} messages still wait in Postfix's queue: {left[:3]}")
            return
        await asyncio.sleep(0.5)


def _judge(
    ledger: Ledger, hop: _Counting, rcpts: list[str], queue_ids: dict[str, str], bounces: list[str], ambiguous: set[str]
) -> None:
    bounced = Counter(rcpt for bounce in bounces for rcpt in _FINAL.findall(bounce))
    ledger.counts["delivered"] = len(hop.taken)
    ledger.counts["bounced"] = len(bounced)
    for rcpt in rcpts:
        times, is_ambiguous = hop.taken[rcpt], queue_ids[rcpt] in ambiguous or rcpt in hop.unanswered
        if times + bounced[rcpt] == 0:
            ledger.broke("L", f"{rcpt} was neither delivered nor returned")
        if times > 1:
            ledger.counts["delivered again in the window of RFC 1047"] += 1
        if bounced[rcpt] > 1 or (times + bounced[rcpt] > 1 and not is_ambiguous):
            ledger.broke("D", f"{rcpt} was delivered {times} times and returned {bounced[rcpt]} times")


__all__ = ["missing", "play"]
