"""deploy/exim as it stands there, in a real Exim: both transports, each recipient's own answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.e2e import exim
from tests.e2e.conftest import directory, exim_program, hop, relay
from tests.e2e.hop import Hop
from tests.e2e.mta import SENDER_DOMAIN, until
from tests.e2e.relay import Relay
from tests.e2e.test_mx import BOUNCED, DEFERRED, DELIVERED, USERS, at, everywhere
from tests.e2e.test_mx import Everywhere as World
from tests.e2e.test_mx import relay as straight

__all__ = ["directory", "everywhere", "exim_program", "hop", "relay", "straight"]  # fixtures of tests.e2e

FILES: Final = Path(__file__).parents[2] / "deploy" / "exim"
SENDER: Final = f"list@{SENDER_DOMAIN}"

pytestmark = [pytest.mark.exim, pytest.mark.skipif(bool(exim.missing()), reason=exim.missing())]


def configuration(door: str) -> str:
    """The harness's own configuration, with deploy/exim in place of its router and transport."""
    router = (FILES / "router").read_text().replace("127.0.0.1::10724", "127.0.0.1::@port@")
    router = router.replace("transport = smtpguard_lmtp", f"transport = smtpguard_{door}")
    assert "@port@" in router
    assert f"smtpguard_{door}" in router
    ours = {"routers": router, "transports": (FILES / "transport").read_text()}

    def with_ours(section: re.Match[str]) -> str:
        theirs = re.sub(r"^smtpguard:\n(?:  .*\n)+", "", section[2], flags=re.MULTILINE)
        added = ours[section[1]].replace("{", "{{").replace("}", "}}").replace("@port@", "{next_hop_port}")
        return f"begin {section[1]}\n{theirs}\n{added}\n"

    whole = re.sub(r"^begin (routers|transports)\n(.*?)(?=^begin )", with_ours, exim._CONFIG, flags=re.M | re.S)
    assert whole.count("\nsmtpguard:\n") == 1
    return "domainlist local_domains = @\n" + whole


@pytest.fixture(params=["lmtp", "smtp"])
def mta(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    directory: Path,
    exim_program: Path,
    relay: Relay,
) -> Iterator[exim.Exim]:
    relay.start()
    monkeypatch.setattr(exim, "_CONFIG", configuration(request.param))
    instance = exim.Exim(directory, program=exim_program, next_hop_port=relay.ports[request.param])
    try:
        instance.start()
        yield instance
    finally:
        instance.stop()


def test_each_recipient_gets_its_own_answer(mta: exim.Exim, relay: Relay, hop: Hop) -> None:
    mta.send(SENDER, ["ann@rcpt.example", "550-5.1.1@rcpt.example"], "Subject: minutes\r\n\r\nAll went well.\r\n")
    until(lambda: hop.messages and mta.bounces() and not mta.queue(), 20, mta.log)
    assert hop.deliveries() == {"ann@rcpt.example": 1}
    (bounce,) = mta.bounces()
    assert "[smtpguard] Cause: recipient.unknown" in " ".join(bounce.split())
    assert relay.wait_for("recipient-refused")["smtp.reply.code"] == 550


def test_what_is_deferred_waits(mta: exim.Exim, relay: Relay, hop: Hop) -> None:
    hop.stop()
    mta.send(SENDER, ["ann@rcpt.example"], "Subject: minutes\r\n\r\nAll went well.\r\n")
    until(lambda: any("451" in why for queued in mta.queue() for why in queued.rcpts.values()), 20, mta.log)
    assert not mta.bounces()
    hop.start()
    until(lambda: hop.messages and not mta.queue(), 60, mta.log)
    assert relay.wait_for("recipient-accepted")["smtp.reply.code"] == 250


@pytest.fixture
def straight_mta(
    monkeypatch: pytest.MonkeyPatch, directory: Path, exim_program: Path, straight: Relay
) -> Iterator[exim.Exim]:
    """Exim before a smtpguard with `host = "mx"`."""
    monkeypatch.setattr(exim, "_CONFIG", configuration("lmtp"))
    instance = exim.Exim(directory, program=exim_program, next_hop_port=straight.ports["lmtp"])
    try:
        instance.start()
        yield instance
    finally:
        instance.stop()


def test_straight_to_the_receivers_each_recipient_has_its_own_fate(straight_mta: exim.Exim, everywhere: World) -> None:
    mta = straight_mta
    rcpts = [f"{user}@{domain}" for user in USERS for domain in (*DELIVERED, *DEFERRED, *BOUNCED)]
    mta.send(SENDER, rcpts, "Subject: minutes\r\n\r\nAll went well.\r\n")
    until(lambda: mta.bounces() and mta.queue() and not mta.queue()[0].rcpts.keys() - at(DEFERRED), 30, mta.log)
    assert mta.queue()[0].rcpts.keys() == at(DEFERRED)
    for rcpt, reason in mta.queue()[0].rcpts.items():
        assert f" {DEFERRED[rcpt.partition('@')[2]]} " in reason, (rcpt, reason)
    [bounce] = mta.bounces()
    assert set(re.findall(r"^Final-Recipient: rfc822;(\S+)", bounce, re.MULTILINE)) == at(BOUNCED)
    [message] = everywhere.hosts["takes.test"].messages
    assert {path.decode() for path, _ in message.rcpts} == at(DELIVERED)
