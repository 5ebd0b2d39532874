"""A transaction's account: a next hop's answer becomes the one that the MTA gets, and is written into the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from smtpguard import policy
from smtpguard.flow.rooms import NextHop, Relay
from smtpguard.flow.standing import PASSES, Local
from smtpguard.lint import Action, Finding
from smtpguard.mail.reply import Answer, FailureKind, Hop, HopFailure, Reply, Verb
from smtpguard.mail.session import Envelope, Recipient, Session, domain_of
from smtpguard.policy import Subject
from smtpguard.record import Accepted, Outcome, Record, Refusal, Source

LATE: Final = HopFailure(FailureKind.TIMEOUT, Verb.DOT, "answer_within is used up")
"""The message was not sent, for want of time."""


@dataclass(frozen=True, slots=True)
class Declined:
    """A recipient that is not taken here: the path as given, our reply and what it means, and who says so."""

    path: bytes
    said: policy.Said
    source: Source = "internal"
    action: str = ""
    rule: str = ""


class Account:
    """What was said in one transaction, and what the MTA got."""

    def __init__(self, relay: Relay, session: Session, envelope: Envelope) -> None:
        self.id = relay.new_id()
        self.record = Record(self.id, relay.now(), session, envelope)
        self._relay = relay
        self._envelope = envelope
        self._started = relay.clock()

    # -- what the next hop said --------------------------------------------------------------------------------------

    def accept(self, rcpts: Sequence[Recipient], reply: Reply, hop: Hop) -> None:
        """The next hop took the message for these."""
        self.record.accepted += [Accepted(rcpt.path, reply, hop) for rcpt in rcpts]
        standing = self._relay.standing
        if standing.remembers_refusals:
            for rcpt in rcpts:
                standing.accepted(self.subject(rcpt.path, self._relay.hops[hop.next_hop]))

    def refuse(
        self,
        said: Answer,
        verb: Verb,
        *,
        rcpt: bytes | None = None,
        count: int = 1,
        hop: Hop | None = None,
        own_parameters: bool = False,
        is_mixed: bool = False,
    ) -> Reply:
        """What the MTA gets at `verb` for this refusal or failure of the next hop `hop`.

        `rcpt` is whom it is about; None: all of `count` recipients. `own_parameters` as in `policy.after`, `is_mixed`
        as in `Standing.refused`.
        """
        host = hop.host if hop else ""
        if isinstance(said, HopFailure):
            own = policy.own(policy.Own.LATE, verb, host) if said is LATE else policy.of_failure(said, verb, host)
            return self.state(own, verb, rcpt=rcpt, count=count, hop=hop, failure=said)
        settings = self._relay.reply
        meaning = self._relay.classifier.match(said, host)
        answer = policy.after(said, greeting_5xx=settings.greeting_5xx, own_parameters=own_parameters)
        verdict = PASSES
        if self._relay.standing.is_governed:
            whom = self.only(rcpt)
            rcpts = [whom] if whom is not None else [each.path for each in self._envelope.rcpts]
            verdict = self._relay.standing.refused(
                self._subject_at(whom, hop),
                said,
                meaning,
                verb,
                passes_5xx=answer.klass == 5,
                path=whom if self._envelope.mail_from else None,
                shown=self._relay.shown(whom) if whom is not None else "",
                words=self._relay.masked(said.text, (*rcpts, self._envelope.mail_from)),
                is_mixed=is_mixed,
            )
        # What policy made of it begins with our words, `held until`: the next hop did not say those
        is_ours = verdict.reply is not None and verdict.action != "reroute"
        shown = policy.explained(
            verdict.reply or answer,
            meaning,
            id=self.id,
            host="" if is_ours else host,
            explain=settings.explain,
            contact=settings.contact,
        )
        self.record.refusals.append(
            Refusal(
                said.verb,
                shown,
                "next_hop",
                meaning,
                rcpt,
                count,
                said,
                None,
                hop,
                verdict.action,
                verdict.alert,
                verdict.suppressed,
            )
        )
        return shown

    def detour(self, said: Answer, hop: Hop | None, *, rcpt: bytes | None = None) -> NextHop | None:
        """The next hop that is tried before the MTA is told of this refusal; None: none."""
        standing = self._relay.standing
        if not standing.reroutes or isinstance(said, HopFailure) or hop is None:
            return None
        meaning = self._relay.classifier.match(said, hop.host)
        return self._relay.hops.get(standing.detour(self._subject_at(rcpt, hop), said, meaning))

    def divert(self, said: Reply, hop: Hop, *, rcpt: bytes | None = None, count: int = 1) -> None:
        """Another next hop is tried: this refusal is written down, and nobody is told."""
        meaning = self._relay.classifier.match(said, hop.host)
        alert = self._relay.standing.alerts(self._subject_at(rcpt, hop), said, meaning)
        diverted = Refusal(said.verb, said, "next_hop", meaning, rcpt, count, said, None, hop, "reroute", alert)
        self.record.diverted.append(diverted)

    def defer(self, said: Answer, hop: Hop, *, count: int) -> Reply:
        """451 to all, for the refusal of one where one answer stands for all: their retry gets each its own."""
        if isinstance(said, HopFailure):
            return self.refuse(said, Verb.DOT, hop=hop, count=count)
        settings = self._relay.reply
        meaning = self._relay.classifier.match(said, hop.host)
        enhanced = said.enhanced._replace(klass=4) if said.enhanced else None
        answer = policy.explained(
            Reply(451, said.lines, enhanced, Verb.DOT),
            meaning,
            id=self.id,
            host=hop.host,
            explain=settings.explain,
            contact=settings.contact,
        )
        refusal = Refusal(said.verb, answer, "next_hop", meaning, None, count, said, None, hop, "reroute")
        self.record.refusals.append(refusal)
        return answer

    def route(self, rcpt: Recipient, next_hop: NextHop) -> None:
        """The recipient's next attempt goes by this next hop."""
        self._relay.standing.remember_route(self.subject(rcpt.path, next_hop), next_hop.name)

    # -- whom it is about --------------------------------------------------------------------------------------------

    def subject(self, rcpt: bytes | None, next_hop: NextHop) -> Subject:
        """Whom an attempt is about. A message is known by its queue id, else by Message-ID and recipient."""
        id = self._relay.id_of(rcpt) if rcpt is not None else ""
        message = self._envelope.queue_id
        if not message and self.record.message_id:
            message = f"{self._relay.id_of(self.record.message_id.encode())} {id}"
        return Subject(
            id, self._envelope.sender_domain, next_hop.name, next_hop.provider_to(domain_of(rcpt or b"")), message
        )

    def _subject_at(self, rcpt: bytes | None, hop: Hop | None) -> Subject:
        next_hop = self._relay.hops.get(hop.next_hop) if hop is not None else None
        if next_hop is None:
            return Subject("", self._envelope.sender_domain, "", "other")
        return self.subject(rcpt, next_hop)

    def only(self, rcpt: bytes | None) -> bytes | None:
        """The one recipient that a refusal is about, also where it refuses the message."""
        if rcpt is None and len(self._envelope.rcpts) == 1:
            return self._envelope.rcpts[0].path
        return rcpt

    # -- what we say ourselves ---------------------------------------------------------------------------------------

    def state(
        self,
        own: policy.Said,
        verb: Verb,
        *,
        rcpt: bytes | None = None,
        count: int = 1,
        hop: Hop | None = None,
        failure: HopFailure | None = None,
        source: Source = "internal",
        action: str = "",
        rule: str = "",
    ) -> Reply:
        """A refusal of our own."""
        settings = self._relay.reply
        answer = policy.explained(
            own.reply, own.classification, id=self.id, explain=settings.explain, contact=settings.contact
        )
        meaning = own.classification
        self.record.refusals.append(
            Refusal(verb, answer, source, meaning, rcpt, count, None, failure, hop, action, rule=rule)
        )
        return answer

    def decline(self, item: Declined) -> Reply:
        """A recipient that is not taken here."""
        return self.state(item.said, Verb.RCPT, rcpt=item.path, source=item.source, action=item.action, rule=item.rule)

    def answer_locally(self, local: Local, verb: Verb, *, rcpt: bytes | None = None, count: int = 1) -> Reply:
        """What is remembered answers, for a recipient or for all of `count`."""
        said = policy.Said(local.reply, local.classification)
        return self.state(said, verb, rcpt=rcpt, count=count, source=local.source, action=local.action)

    def object(self, finding: Finding, verb: Verb, *, count: int) -> Reply:
        """A finding of the lint refuses MAIL or the message."""
        return self.state(objection(finding, verb), verb, count=count, source="lint", rule=finding.rule)

    # -- the end ---------------------------------------------------------------------------------------------------

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
        if not (record.refusals or is_unknown):
            return "accepted" if record.accepted else "aborted"
        if is_unknown or any(refusal.failure is not None and refusal.failure.unknown for refusal in record.refusals):
            return "unknown"
        if record.accepted:
            return "partial"
        if is_aborted:
            return "aborted"
        return "refused" if any(refusal.answer.klass == 5 for refusal in record.refusals) else "deferred"


def objection(finding: Finding, verb: Verb) -> policy.Said:
    """A finding as a refusal of ours: the rule's own answer, or that as a 4xx where it defers."""
    assert finding.answer is not None  # a rule without one cannot be set to refuse
    code, enhanced = finding.answer.code, finding.answer.enhanced
    if finding.action is Action.DEFER:
        code, enhanced = 451, enhanced._replace(klass=4)
    text = f"{finding.message} ({finding.rule} {finding.name})"
    meaning = policy.stated(finding.category, cause=finding.message, fix=finding.fix)
    return policy.Said(Reply(code, (text,), enhanced, verb), meaning)
