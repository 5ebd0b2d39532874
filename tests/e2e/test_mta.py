"""What a real MTA makes of our answers: mail it may forget, must keep, must return.

Each test runs with Postfix over LMTP and over SMTP and with Exim over SMTP. The MTA's queue, its bounces and its log
are read, never our own word for them.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from smtpguard.sandbox import Delay, Ok, Say, Script
from tests.e2e.hop import Hop
from tests.e2e.mta import SENDER_DOMAIN, Mta, until
from tests.e2e.relay import Relay

SENDER: Final = f"list@{SENDER_DOMAIN}"
TEXT: Final = "Subject: minutes\r\nFrom: list@sender.example\r\n\r\nAll went well.\r\n"

LOAD: Final = 200
ENOUGH: Final = 40  # taken by the next hop when the signal comes: the load is in full flow then


def reasons(mta: Mta) -> str:
    """Why what waits in the MTA's queue waits."""
    return " ".join(reason for queued in mta.queue() for reason in queued.rcpts.values())


def test_one_of_three_recipients_is_refused(mta: Mta, relay: Relay, hop: Hop) -> None:
    rcpts = ["ann@rcpt.example", "550-5.1.1@rcpt.example", "bob@rcpt.example"]
    queue_id = mta.send(SENDER, rcpts, TEXT)
    until(lambda: len(hop.deliveries()) == 2 and mta.bounces() and not mta.queue(), 20, mta.log)

    assert hop.deliveries() == {"ann@rcpt.example": 1, "bob@rcpt.example": 1}
    (bounce,) = mta.bounces()
    said = " ".join(bounce.split())  # a bounce breaks lines where it likes
    assert "550-5.1.1@rcpt.example" in said
    assert "[smtpguard] Fix:" in said
    explained = re.search(r"\[smtpguard\] Cause: recipient\.unknown \(.+?\) Id: (\w+)", said)
    assert explained is not None, bounce

    refused = relay.wait_for("recipient-refused", smtp_rcpt__to="550-5.1.1@rcpt.example")
    assert refused["event.id"] == explained[1]
    assert refused["smtp.reply.code"] == 550
    assert refused["smtpguard.category"] == "recipient.unknown"
    if mta.name == "postfix":  # Exim does not speak XFORWARD
        assert refused["smtp.queue_id"] == queue_id
    assert relay.metric('smtpguard_recipients_total{outcome="accepted"}') == 2
    assert relay.metric('smtpguard_recipients_total{outcome="rejected"}') == 1
    assert relay.metric('smtpguard_rejections_total{category="recipient.unknown"}') == 1


def test_message_refused_after_the_dot_comes_back_for_each_recipient(mta: Mta, relay: Relay, hop: Hop) -> None:
    mta.send(SENDER, ["data-554-5.7.1@rcpt.example", "ann@rcpt.example"], TEXT)
    until(lambda: mta.bounces() and not mta.queue(), 20, mta.log)

    said = " ".join(" ".join(mta.bounces()).split())
    assert "[smtpguard] Cause:" in said
    assert "data-554-5.7.1@rcpt.example" in said
    assert not hop.messages
    assert relay.wait_for("recipient-refused")["smtp.verb"] == "DOT"


def test_deferred_recipient_stays_queued_and_goes_out_later(mta: Mta, relay: Relay, hop: Hop) -> None:
    hop.stop()
    hop.start(script=Script({"RCPT": [Say("452 4.2.2 Mailbox full")]}))
    mta.send(SENDER, ["ann@rcpt.example"], TEXT)
    until(lambda: "Mailbox full" in reasons(mta), 20, mta.log)
    assert relay.wait_for("recipient-refused")["smtp.reply.code"] == 452
    assert not hop.messages

    hop.stop()
    hop.start(script=None)
    until(lambda: not mta.queue(), 30, mta.log)
    assert hop.deliveries() == {"ann@rcpt.example": 1}
    assert not mta.bounces()


def test_one_of_two_recipients_is_deferred(mta: Mta, relay: Relay, hop: Hop) -> None:
    """The other is delivered once, however often the deferred one is tried."""
    hop.stop()
    hop.start(script=Script({"RCPT": [Ok(), Say("450 4.2.1 Try later"), Say("450 4.2.1 Try later"), Ok()]}))
    mta.send(SENDER, ["ann@rcpt.example", "bob@rcpt.example"], TEXT)
    until(lambda: len(hop.deliveries()) == 2 and not mta.queue(), 30, mta.log)
    assert set(hop.deliveries().values()) == {1}
    assert not mta.bounces()
    assert relay.wait_for("recipient-refused")["smtp.reply.code"] == 450


def test_null_sender_passes(mta: Mta, hop: Hop) -> None:
    mta.send("", ["ann@rcpt.example"], "Subject: Undelivered\r\n\r\nA DSN is mail too.\r\n")
    until(lambda: hop.messages and not mta.queue(), 20, mta.log)
    (message,) = hop.messages
    assert message.mail_from == b""
    assert message.rcpts[0][0] == b"ann@rcpt.example"


def test_next_hop_down_keeps_mail_queued(mta: Mta, relay: Relay, hop: Hop) -> None:
    hop.stop()
    mta.send(SENDER, ["ann@rcpt.example", "bob@rcpt.example"], TEXT)
    until(lambda: "4.4.1" in reasons(mta), 20, mta.log)
    assert not mta.bounces()
    assert relay.wait_for("next-hop-failed")["smtpguard.next_hop"] == "default"

    hop.start()
    until(lambda: not mta.queue(), 60, mta.log)  # the breaker may hold its probe back for some time
    assert hop.deliveries() == {"ann@rcpt.example": 1, "bob@rcpt.example": 1}
    assert not mta.bounces()


class TestLogin:
    """The next hop wants a login, and the password in our configuration is wrong."""

    @pytest.fixture
    def password(self, directory: Path) -> Path:
        file = directory / "password"
        file.write_text("wrong\n")
        return file

    @pytest.fixture
    def relay(self, directory: Path, hop: Hop, password: Path) -> Iterator[Relay]:
        hop.stop()
        hop.start(users={"guard": "right"})
        settings = f'tls = "none"\nusername = "guard"\npassword_file = "{password}"'
        process = Relay(directory, next_hop_port=hop.port, next_hop=settings)
        yield process
        assert process.stop() == 0
        assert not process.faults()

    def test_refused_login_keeps_mail_queued(self, mta: Mta, relay: Relay, hop: Hop, password: Path) -> None:
        mta.send(SENDER, ["ann@rcpt.example"], TEXT)
        until(lambda: "451" in reasons(mta), 20, mta.log)
        assert not mta.bounces()
        assert not hop.messages

        password.write_text("right\n")
        relay.reload()
        until(lambda: not mta.queue(), 60, mta.log)
        assert hop.deliveries() == {"ann@rcpt.example": 1}
        assert hop.messages[0].login == "guard"
        assert not mta.bounces()


@pytest.mark.parametrize("signal", ["SIGKILL", "SIGTERM"])
def test_ending_under_load_loses_nothing(mta: Mta, relay: Relay, hop: Hop, signal: str) -> None:
    """None lost; twice only what the MTA itself calls ambiguous: its answer was lost after the final dot (RFC 1047)."""
    hop.stop()
    hop.start(script=Script({"DOT": Delay(0.2, Ok())}))  # so that the signal finds many between dot and answer
    rcpts = {number: f"n{number}@rcpt.example" for number in range(LOAD)}
    queue_ids: dict[str, str] = {}
    flowing = threading.Event()

    def submit(number: int) -> None:
        queue_ids[rcpts[number]] = mta.send(SENDER, [rcpts[number]], f"Subject: {number}\r\n\r\n{number}\r\n")
        if number == LOAD // 2:
            flowing.set()

    with ThreadPoolExecutor(16) as senders:
        submitted = [senders.submit(submit, number) for number in rcpts]
        assert flowing.wait(60)
        until(lambda: len(hop.messages) >= ENOUGH, 60, mta.log)
        taken = len(hop.messages)
        if signal == "SIGKILL":
            relay.kill()
        else:
            assert relay.stop() == 0
        relay.start()
        for submission in submitted:
            submission.result(60)

    assert taken < LOAD, "the signal came too late to prove anything"
    until(lambda: not mta.queue(), 120, mta.log)
    deliveries = hop.deliveries()
    assert set(deliveries) == set(rcpts.values())
    assert not mta.bounces()
    twice = {rcpt for rcpt, times in deliveries.items() if times > 1}
    assert max(deliveries.values()) <= 2
    ambiguous = mta.ambiguous()
    assert {queue_ids[rcpt] for rcpt in twice} <= ambiguous
    # a gentle end waits for the next hop's answers; a sudden one must have cut some off, or the test proves nothing
    assert bool(ambiguous) == (signal == "SIGKILL")
