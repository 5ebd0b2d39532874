"""A transaction that is over is free at once: nothing of it waits for the garbage collector (performance: memory)."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from smtpguard.edge.inspection import Inspection
from smtpguard.flow import Transaction
from smtpguard.flow.delivery import Delivery
from smtpguard.mail.message import Message
from smtpguard.sandbox import Say, Script
from tests.harness import Client, relay
from tests.test_policy_live import BEN, CAT, LISTED, REROUTE, SENDER, world
from tests.test_routes_live import deliver

OURS = (Transaction, Delivery, Inspection, Message)


@contextmanager
def uncollected() -> Iterator[list[str]]:
    """The kinds of those things of a transaction that only the collector freed."""
    found: list[str] = []
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        found += [type(each).__name__ for each in gc.garbage if isinstance(each, OURS)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("lmtp", [False, True])
@pytest.mark.parametrize("verb", ["", "RCPT", "DOT"])
async def test_nothing_is_left_to_the_collector(lmtp: bool, verb: str) -> None:
    script = Script({verb: Say("550 5.7.1 no")} if verb else {})
    lint = '[lint]\nbudget = "0ms"\n[lint.dns]\ninternal_zones = ["example"]\n[lint.blocklists]\nip = []\ndomain = []\n'
    async with relay(script=script, more=lint) as guard, Client(guard.lmtp if lmtp else guard.smtp) as client:
        await client.greet("LHLO c.example" if lmtp else "EHLO c.example")
        await deliver(client, SENDER, BEN, lmtp=lmtp)
        with uncollected() as found:
            for _ in range(3):
                await deliver(client, SENDER, BEN, CAT, lmtp=lmtp)
                await client.say(f"MAIL FROM:<{SENDER}>", "RSET", "NOOP")
        assert found == []


@pytest.mark.parametrize("lmtp", [False, True])
async def test_nor_of_one_that_took_a_detour(lmtp: bool) -> None:
    async with (
        world(REROUTE, one=Script({"DOT": LISTED})) as (guard, _, _clock),
        Client(guard.lmtp if lmtp else guard.smtp) as client,
    ):
        await client.greet("LHLO c.example" if lmtp else "EHLO c.example")
        with uncollected() as found:
            for _ in range(3):
                assert (await deliver(client, SENDER, BEN, CAT, lmtp=lmtp))[-1].startswith("250")
        assert found == []
