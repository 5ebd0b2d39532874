"""A transaction's account: a next hop's answer becomes the one that the MTA gets, and is written into the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from smtpguard import policy
from smtpguard.flow.rooms import Relay
from smtpguard.mail.reply import Answer, FailureKind, Hop, HopFailure, Reply, Verb
from smtpguard.mail.session import Envelope, Recipient, Session
from smtpguard.record import Accepted, Outcome, Record, Refusal

LATE: Final = HopFailure(FailureKind.TIMEOUT, Verb.DOT, "answer_within is used up")
"""The message was not sent, for want of time."""


@dataclass(frozen=True, slots=True)
class Declined:
    """A recipient that the door itself did not take: the path as given, our reply and what it means."""

    path: bytes
    said: policy.Said


class Account:
    """What was said in one transaction, and what the MTA got."""

    def __init__(self, relay: Relay, session: Session, envelope: Envelope) -> None:
        self.id = relay.new_id()
        self.record = Record(self.id, relay.now(), session, envelope)
        self._relay = relay
        self._started = relay.clock()

    def accept(self, rcpts: Sequence[Recipient], reply: Reply, hop: Hop) -> None:
        """The next hop took the message for these."""
        self.record.accepted += [Accepted(rcpt.path, reply, hop) for rcpt in rcpts]

    def refuse(
        self,
        said: Answer,
        verb: Verb,
        *,
        rcpt: bytes | None = None,
        count: int = 1,
        hop: Hop | None = None,
        own_parameters: bool = False,
    ) -> Reply:
        """What the MTA gets at `verb` for this refusal or failure of the next hop `hop`.

        `rcpt` is whom it is about; None: all of `count` recipients. `own_parameters` as in `policy.after`.
        """
        host = hop.host if hop else ""
        if isinstance(said, HopFailure):
            own = policy.own(policy.Own.LATE, verb, host) if said is LATE else policy.of_failure(said, verb, host)
            return self.state(own, verb, rcpt=rcpt, count=count, hop=hop, failure=said)
        settings = self._relay.reply
        meaning = self._relay.classifier.match(said, host)
        answer = policy.explained(
            policy.after(said, greeting_5xx=settings.greeting_5xx, own_parameters=own_parameters),
            meaning,
            id=self.id,
            host=host,
            explain=settings.explain,
            contact=settings.contact,
        )
        self.record.refusals.append(Refusal(said.verb, answer, "next_hop", meaning, rcpt, count, said, None, hop))
        return answer

    def state(
        self,
        own: policy.Said,
        verb: Verb,
        *,
        rcpt: bytes | None = None,
        count: int = 1,
        hop: Hop | None = None,
        failure: HopFailure | None = None,
    ) -> Reply:
        """A refusal of our own."""
        settings = self._relay.reply
        answer = policy.explained(
            own.reply, own.classification, id=self.id, explain=settings.explain, contact=settings.contact
        )
        refusal = Refusal(verb, answer, "internal", own.classification, rcpt, count, None, failure, hop)
        self.record.refusals.append(refusal)
        return answer

    def decline(self, item: Declined) -> Reply:
        """A recipient that the door did not take."""
        return self.state(item.said, Verb.RCPT, rcpt=item.path)

    @property
    def is_deferred(self) -> bool:
        """Whether one of the refusals so far was a 4xx."""
        return any(refusal.answer.klass == 4 for refusal in self.record.refusals)

    def close(self, *, is_aborted: bool, is_unknown: bool) -> None:
        """The transaction is over: the record goes to the journal.

        `is_aborted`: recipients that had been taken were given up. `is_unknown`: we were cut off while sending.
        """
        record = self.record
        record.outcome = self._outcome(is_aborted, is_unknown)
        record.duration_s = self._relay.clock() - self._started
        self._relay.journal.write(record)

    def _outcome(self, is_aborted: bool, is_unknown: bool) -> Outcome:
        record = self.record
        if is_unknown or any(refusal.failure is not None and refusal.failure.unknown for refusal in record.refusals):
            return "unknown"
        if record.accepted:
            return "partial" if record.refusals else "accepted"
        if is_aborted or not record.refusals:
            return "aborted"
        return "refused" if any(refusal.answer.klass == 5 for refusal in record.refusals) else "deferred"
