"""A line of three, or of four: Postfix, smtpguard, a next hop and a second one; and who has which mail in the end.

    with line("lmtp", directory, policy=DEFER, script=Script({"RCPT": LISTED})) as it:
        it.mta.send(...)
        it.hop.play(HEALED)

A `Letter` is one recipient of one message, by its Message-ID: what was taken and what came back is counted in letters,
because the laws are about them (reliability: L, D, B).
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

import pytest

from smtpguard.sandbox import Say, Script
from tests.e2e import postfix
from tests.e2e.hop import Hop
from tests.e2e.mta import SENDER_DOMAIN
from tests.e2e.postfix import Postfix
from tests.e2e.relay import Relay

Door = Literal["lmtp", "smtp"]

SENDER: Final = f"list@{SENDER_DOMAIN}"
HEALED: Final = Script({"RCPT": Say("250 2.1.5 Ok"), "DOT": Say("250 2.0.0 Ok: queued as 4XyZ")})
"""Takes everything, whatever the address asks for."""
POSTFIX: Final = [pytest.mark.postfix, pytest.mark.skipif(bool(postfix.missing()), reason=postfix.missing())]

_MESSAGE_ID: Final = re.compile(r"^Message-ID: <(\w+)@", re.MULTILINE | re.IGNORECASE)
_FINAL: Final = re.compile(r"^Final-Recipient: rfc822; *(\S+)", re.MULTILINE)


class Letter(NamedTuple):
    """One recipient of one message."""

    message: str
    rcpt: str


@dataclass(slots=True)
class Line:
    """What runs; `other` is `[next_hop.other]`."""

    mta: Postfix
    relay: Relay
    hop: Hop
    other: Hop

    def send(self, message: str, *rcpts: str) -> str:
        """Submit one message known by this word; its queue id."""
        return self.mta.send(SENDER, list(rcpts), letter(message))

    def delivered(self) -> Counter[Letter]:
        """What the next hops took."""
        return taken(self.hop) + taken(self.other)

    def bounced(self) -> Counter[Letter]:
        """What Postfix gave back."""
        return Counter(
            Letter(_MESSAGE_ID.findall(bounce)[-1], rcpt)  # the first is the bounce's own
            for bounce in self.mta.bounces()
            for rcpt in _FINAL.findall(bounce)
        )

    def state(self) -> str:
        """For the message of a failed test."""
        return self.mta.log() + self.relay.transcript()


def letter(message: str) -> str:
    """A message with this word in its Message-ID."""
    return (
        f"From: list <{SENDER}>\r\nTo: somebody@rcpt.example\r\nSubject: {message}\r\n"
        f"Date: Sun, 22 Nov 2026 13:00:00 +0000\r\nMessage-ID: <{message}@{SENDER_DOMAIN}>\r\n\r\nAll went well.\r\n"
    )


def taken(hop: Hop) -> Counter[Letter]:
    """What one next hop took."""
    return Counter(
        Letter(found[1], path.decode())
        for message in hop.messages
        if (found := _MESSAGE_ID.search(message.data.decode()))
        for path, _ in message.rcpts
    )


@contextmanager
def line(
    door: Door,
    directory: Path,
    *,
    script: Script | None = None,
    policy: str = "",
    lint: str = 'mode = "off"',
    next_hop: str = "",
    store: str = "",
) -> Iterator[Line]:
    """A line at work. `policy` is further sections, `next_hop` further lines of both next hops; `store` is a URL.

    Whatever the test did, smtpguard ends well and without a fault of ours.
    """
    hop, other = Hop(script=script), Hop(script=HEALED)
    hop.start()
    other.start()
    second = f'[next_hop.other]\nhost = "127.0.0.1"\nport = {other.port}\ntls = "none"\n{next_hop}\n'
    relay = Relay(
        directory,
        next_hop_port=hop.port,
        next_hop=f'tls = "none"\n{next_hop}',
        lint=lint,
        store=store,
        more=second + policy,
    )
    try:
        relay.start()
        mta = Postfix(directory, door=door, next_hop_port=relay.ports[door])
        try:
            mta.start()
            yield Line(mta, relay, hop, other)
        finally:
            mta.stop()
    finally:
        code = relay.stop()
        sys.stderr.write(relay.transcript())  # shown if the test failed
        hop.close()
        other.close()
    assert code == 0
    assert not relay.faults()
