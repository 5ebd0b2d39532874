"""A message under the lint with DNS, as the relay would inspect it: the same gathered facts, rules and stages.

Nothing is counted as volume, no next hop is asked what it offers, and there is more time for the DNS than mail has.
"""

from __future__ import annotations

import time
from asyncio import Future, get_running_loop
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from smtpguard.cli.asking import asking
from smtpguard.config import Settings
from smtpguard.edge.background import background
from smtpguard.edge.gather import Gather
from smtpguard.edge.inspection import Inspections
from smtpguard.edge.volume import Volume
from smtpguard.lint import Action, Finding, Report, Ruleset
from smtpguard.lint.facts import Signing
from smtpguard.mail.domain import to_ascii
from smtpguard.mail.octets import Buffer
from smtpguard.mail.session import Envelope
from smtpguard.mailauth.dns import IpAddress

DNS_WITHIN_S: Final = 15.0
_OF_OUR_NAME: Final = dict.fromkeys(("NET004", "NET005", "SPF005"), Action.OFF)
"""Off where `relay.hostname` is not set: this machine's name need not be the relay's."""
_NEVER: Final = 1 << 62  # messages that make a bulk sender


@dataclass(slots=True)
class _Whole:
    """flow.Body over a file that was read."""

    octets: Buffer

    @property
    def size(self) -> int:
        return len(self.octets)

    @size.setter
    def size(self, value: int) -> None:
        raise AttributeError(value)

    def wire(self) -> Iterator[bytes]:
        return self.content()

    def content(self) -> Iterator[bytes]:
        yield self.octets[:]

    def raw(self) -> Buffer:
        return self.octets


async def inspected(octets: Buffer, envelope: Envelope, addresses: Sequence[IpAddress], settings: Settings) -> Report:
    """What every rule says of a message that would leave from these addresses. FileError as `asking`."""
    ruleset = Ruleset(chosen={} if settings.relay.hostname else _OF_OUR_NAME)
    async with asking(settings) as given:
        gather = Gather(given.resolver, given.lists, helo=given.helo.lower(), clock=time.monotonic, on_fault=_ignore)
        inspections = Inspections(
            ruleset,
            gather,
            Volume(_NEVER, time.monotonic),
            signing=Signing(settings.lint.dkim.signed),
            budget_s=DNS_WITHIN_S,
            now=time.time,
            clock=time.monotonic,
            on_fault=_ignore,
        )
        try:
            inspection = inspections.open(envelope, None, tuple(addresses))
            inspection.at_mail(_ignore)
            inspection.at_rcpts(envelope.rcpts, _ignore)
            done: Future[Finding | None] = get_running_loop().create_future()
            inspection.at_dot(_Whole(octets), done.set_result)
            await done
            domain = to_ascii(envelope.sender_domain)
            of_us = await background(
                gather, ruleset, tuple(addresses), [domain] if domain else [], within_s=DNS_WITHIN_S
            )
        finally:
            inspections.close()
            await gather.close()
        report = inspection.report
        return Report([*report.findings, *of_us.findings], [*report.skipped, *of_us.skipped])


def _ignore(_: object) -> None:
    """Nothing is refused here: what was found, and what failed, is in the report."""
