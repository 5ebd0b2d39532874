"""`check` before `host = "mx"`: is port 25 open, would a recipient's mail hosts take mail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from smtpguard.cli.finding import Finding
from smtpguard.cli.outward import probe_mx
from smtpguard.mail.session import Recipient
from smtpguard.sandbox import Close, Sandbox, Say, Script
from tests.dns.server import serving
from tests.dns.zones import Zone
from tests.edge.hopping import OURSELVES, settings

RECEIVERS = ("one.test", "two.test")


class World:
    """Receivers, each with one mail host, at 127.0.0.1, 127.0.0.2 and so on, and their DNS."""

    def __init__(self, port: int, resolver: str, hosts: Mapping[str, Sandbox]) -> None:
        self.port = port
        self.resolver = resolver
        self.hosts = hosts

    async def probe(self, rcpt: bytes | None = None, **more: Any) -> list[Finding]:
        hop = settings("mx", port=self.port, allow_private=True, **more)
        asked = Recipient(rcpt) if rcpt else None
        return await probe_mx("default", hop, OURSELVES, [self.resolver], rcpt=asked, receivers=RECEIVERS)


@asynccontextmanager
async def world(*scripts: Script | None, gone: Sequence[str] = (), lost: Sequence[str] = ()) -> AsyncIterator[World]:
    """`gone`: domains that the DNS does not have; `lost`: those of which it does not answer."""
    async with AsyncExitStack() as stack:
        port, hosts = 0, {}
        zone: dict[str, Any] = {domain: ["SERVFAIL"] for domain in lost}
        for number, (domain, script) in enumerate(zip(RECEIVERS, scripts, strict=True), start=1):
            hosts[domain] = Sandbox(script=script)
            port = await hosts[domain].start(f"127.0.0.{number}", port)
            stack.push_async_callback(hosts[domain].stop)
            if domain not in gone:
                zone[domain] = [{"A": f"127.0.0.{number}"}]
        dns = await stack.enter_async_context(serving(Zone(zone)))
        yield World(port, dns.address, hosts)


async def test_one_that_answers_shows_that_the_port_is_open_and_hears_no_more() -> None:
    async with world(None, Script({"CONNECT": Close()})) as here:
        [found] = await here.probe()
        assert (found.state, found.message) == ("ok", f"port {here.port} is open: one.test answer")
        assert {command.partition(b" ")[0] for command in here.hosts["one.test"].commands} <= {b"EHLO", b"QUIT"}


async def test_one_that_refuses_us_is_no_closed_port() -> None:
    refuses = Script({"CONNECT": Say("554 5.7.1 not from there")})
    async with world(refuses, Script({"CONNECT": Close()})) as here:
        [found] = await here.probe()
        assert found.state == "warn"
        assert "one.test: 554 5.7.1 not from there" in found.message
        assert "PTR" in found.remedy


async def test_where_nobody_answers_the_port_is_closed() -> None:
    async with world(Script({"CONNECT": Close()}), None, gone=("two.test",)) as here:
        [found] = await here.probe()
        assert found.state == "fail"
        assert "two.test does not exist" in found.message
        assert "opened" in found.remedy


@pytest.mark.parametrize(
    ("lost", "words", "is_temporary"), [((), "does not exist", False), (RECEIVERS, "servfail", True)]
)
async def test_where_the_dns_knows_nobody_the_port_is_not_blamed(
    lost: Sequence[str], words: str, is_temporary: bool
) -> None:
    async with world(None, None, gone=RECEIVERS, lost=lost) as here:
        [found] = await here.probe()
        assert (found.state, found.is_temporary) == ("fail", is_temporary)
        assert "is not known, for no mail host is found: one.test: " in found.message
        assert words in found.message
        assert "resolver" in found.remedy


async def test_a_recipients_mail_hosts_are_asked() -> None:
    async with world(None, None) as here:
        found = await here.probe(b"550-5.1.1@[127.0.0.2]")
        assert found[0].message == "mail for [127.0.0.2] goes to 127.0.0.2"
        assert [each.state for each in found if "550 5.1.1" in each.message] == ["fail"]
        assert here.hosts["one.test"].connections == 0


async def test_a_recipient_of_no_domain_has_no_mail_hosts() -> None:
    async with world(None, None) as here:
        [found] = await here.probe(b"x@three.test")
        assert (found.state, found.message) == ("fail", "three.test does not exist")
