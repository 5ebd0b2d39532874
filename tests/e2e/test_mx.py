"""A real Postfix, its mail straight to the receivers: delivered, bounced and deferred exactly as each of them says."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from smtpguard.sandbox import Hang, Sandbox, Say, Script
from tests.dns.server import serving
from tests.dns.zones import Zone
from tests.e2e import postfix
from tests.e2e.mta import SENDER_DOMAIN, until
from tests.e2e.postfix import Postfix
from tests.e2e.relay import Relay

pytestmark = [pytest.mark.postfix, pytest.mark.skipif(bool(postfix.missing()), reason=postfix.missing())]

SENDER: Final = f"news@{SENDER_DOMAIN}"
MESSAGE: Final = (
    f"From: <{SENDER}>\r\nTo: everybody\r\nMessage-ID: <1@{SENDER_DOMAIN}>\r\nSubject: all\r\n\r\nhello\r\n"
)

# One message to 12 recipients in 6 domains: what their mail hosts do
HOSTS: Final[Mapping[str, Script | None]] = {
    "takes.test": None,
    "dead.test": Script({"CONNECT": Hang()}),
    "shut.test": Script({"CONNECT": Say("554 5.7.1 not from there")}),
    "grey.test": Script({"RCPT": Say("450 4.2.0 greylisted, come back")}),
    "never.test": Script({"DOT": Say("550 5.7.1 we do not want it")}),
}
DELIVERED: Final = ("takes.test",)
DEFERRED: Final = {"dead.test": "4.4.1", "shut.test": "4.7.1", "grey.test": "4.2.0"}
BOUNCED: Final = {"never.test": "5.7.1", "null.test": "5.1.10"}
SAID: Final = {"shut.test": "not from there", "grey.test": "greylisted, come back"}  # and the MTA has it from there
USERS: Final = ("one", "two")
CONNECT_S: Final = 2


class Everywhere:
    """Mail hosts at 127.0.0.1, 127.0.0.2 and so on, and the DNS that names them, in a thread of their own.

    `receivers` are further domains, whose mail host is that of takes.test.
    """

    def __init__(self, receivers: Sequence[str] = ()) -> None:
        self._receivers = receivers
        self.hosts = {domain: Sandbox(script=script) for domain, script in HOSTS.items()}
        self.port = 0
        self.dns = ""
        self._stack = AsyncExitStack()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="everywhere", daemon=True)
        self._thread.start()

    def start(self) -> None:
        self._run(self._start())

    async def _start(self) -> None:
        zone: dict[str, Any] = {"null.test": [{"MX": [0, "."]}]}
        for number, (domain, host) in enumerate(self.hosts.items(), start=1):
            self.port = await host.start(f"127.0.0.{number}", self.port)
            self._stack.push_async_callback(host.stop)
            zone |= {domain: [{"MX": [10, f"mx.{domain}"]}], f"mx.{domain}": [{"A": f"127.0.0.{number}"}]}
        zone |= {domain: [{"MX": [10, "mx.takes.test"]}] for domain in self._receivers}
        self.dns = (await self._stack.enter_async_context(serving(Zone(zone)))).address

    def close(self) -> None:
        self._run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)


@pytest.fixture
def everywhere() -> Iterator[Everywhere]:
    world = Everywhere()
    world.start()
    yield world
    world.close()


@pytest.fixture
def relay(everywhere: Everywhere, directory: Path) -> Iterator[Relay]:
    """smtpguard before everywhere."""
    more = (
        f'[lint.dns]\nresolvers = ["{everywhere.dns}"]\n[[route]]\nnext_hop = "everywhere"\n'
        f'[next_hop.everywhere]\nhost = "mx"\nport = {everywhere.port}\nallow_private = true\n'
        f'timeout = {{ connect = "{CONNECT_S}s", command = "5s", data = "5s", final = "5s" }}\n'
    )
    process = Relay(directory, next_hop_port=everywhere.port, more=more)
    process.start()
    yield process
    assert process.stop() == 0
    assert not process.faults(), process.transcript()


@pytest.fixture
def mta(relay: Relay, directory: Path) -> Iterator[Postfix]:
    """Postfix before smtpguard."""
    instance = Postfix(directory, door="lmtp", next_hop_port=relay.ports["lmtp"])
    try:
        instance.start()
        yield instance
    finally:
        instance.stop()


def test_each_recipient_has_its_own_fate(mta: Postfix, everywhere: Everywhere) -> None:
    has_each_its_own_fate(mta, everywhere)


def has_each_its_own_fate(mta: Postfix, everywhere: Everywhere) -> None:
    """Send one message to all of them, and see it delivered, deferred and bounced as their mail hosts have it."""
    rcpts = [f"{user}@{domain}" for user in USERS for domain in (*DELIVERED, *DEFERRED, *BOUNCED)]
    id = mta.send(SENDER, rcpts, MESSAGE)

    # master(8) runs one lmtp(8) for the one next hop that it sees: all recipients share a transaction
    until(lambda: mta.bounces() and mta.queue() and not mta.queue()[0].rcpts.keys() - at(DEFERRED), 30, mta.log)
    assert mta.queue()[0].rcpts.keys() == at(DEFERRED)
    for rcpt, reason in mta.queue()[0].rcpts.items():
        domain = rcpt.partition("@")[2]
        assert f" {DEFERRED[domain]} " in reason, (rcpt, reason)
        assert SAID.get(domain, "") in reason, (rcpt, reason)

    [bounce] = mta.bounces()
    failed = re.findall(r"^Final-Recipient: rfc822; *(\S+)", bounce, re.MULTILINE)
    statuses = re.findall(r"^Status: (\S+)", bounce, re.MULTILINE)
    assert dict(zip(failed, statuses, strict=True)) == {
        f"{user}@{domain}": status for domain, status in BOUNCED.items() for user in USERS
    }

    [message] = everywhere.hosts["takes.test"].messages
    assert {path.decode() for path, _ in message.rcpts} == at(DELIVERED)
    sent = re.findall(rf"{id}: to=<(\S+)>.* delay=([\d.]+).*status=(\w+)", mta.log())
    first = {rcpt: status for rcpt, _, status in reversed(sent)}
    waits = {rcpt: float(delay) for rcpt, delay, _ in reversed(sent)}
    assert max(waits.values()) < CONNECT_S + 5  # the dead one's time-out is the longest
    assert {rcpt for rcpt, status in first.items() if status == "sent"} == at(DELIVERED)
    assert {rcpt for rcpt, status in first.items() if status == "deferred"} == at(DEFERRED)
    assert {rcpt for rcpt, status in first.items() if status == "bounced"} == at(BOUNCED)

    everywhere.hosts["grey.test"].script = None
    until(lambda: everywhere.hosts["grey.test"].accepted, 30, mta.log)
    until(lambda: mta.queue()[0].rcpts.keys() == at(("dead.test", "shut.test")), 30, mta.log)
    assert everywhere.hosts["takes.test"].accepted == 1
    assert len(mta.bounces()) == 1


def at(domains: Iterable[str]) -> set[str]:
    """All recipients of these domains."""
    return {f"{user}@{domain}" for user in USERS for domain in domains}
