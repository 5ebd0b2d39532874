"""One message on its way: MAIL and its recipients, the dot, the answers. What the ways of both doors share.

On the SMTP door the next hop answers MAIL and RCPT itself (`direct`); on the LMTP door both are answered here and the
whole transaction is walked after the dot, so that each recipient gets its own answer (`walked`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from smtpguard import policy
from smtpguard.flow.account import Account, Declined, objection
from smtpguard.flow.rooms import Body, Client, Exchange, NextHop, Relay, is_taken
from smtpguard.lint import Finding
from smtpguard.mail.reply import Answer, EnhancedCode, Hop, HopFailure, Reply, Verb
from smtpguard.mail.session import Envelope, Recipient, Session

Asked = Recipient | Declined
T = TypeVar("T")

MAIL_OK: Final = Reply(250, ("Ok",), EnhancedCode(2, 1, 0), Verb.MAIL)
"""MAIL answered here, where no next hop is known yet."""
_NO_MAIL: Final = Reply(503, ("need MAIL before RCPT",), EnhancedCode(5, 5, 1), Verb.RCPT)


class Transaction(ABC):
    """`mail`, then `rcpts` as often as they come, then `receiving` and `body`; or `abort` at any time.

    Answers go to `client`, in the order of what was asked. Its record has been written, and `over` is true, before the
    last of them.
    """

    over = False
    _data_started = 0.0
    _dead: HopFailure | None = None
    _hop: Hop | None = None
    _sending = 0  # messages whose answer is still out
    _is_diverted = False  # once a message
    _handed_over: float | None = None  # when the message went on its way to the next hops

    def __init__(self, relay: Relay, session: Session, envelope: Envelope, client: Client) -> None:
        self.relay = relay
        self.envelope = envelope
        self._client = client
        self.account = Account(relay, session, envelope)
        self._record = self.account.record
        self._epitaphs: dict[Verb, Reply] = {}
        self._claimed: set[str] = set()  # what this transaction is the attempt for
        self._inspection = relay.inspect(envelope, self._first_hop()) if relay.inspect is not None else None
        relay.under_way += 1

    @property
    def id(self) -> str:
        """The event id."""
        return self.account.id

    # -- the way -------------------------------------------------------------------------------------------------

    def mail(self, asked: Sequence[Asked]) -> None:
        """Open it, with the recipients that came in the same packet; MAIL's answer, then theirs."""
        if self._inspection is None:
            self._open(asked)
        else:
            self._inspection.at_mail(partial(self._inspected, partial(self._mail_inspected, asked)))

    def _mail_inspected(self, asked: Sequence[Asked], finding: Finding | None) -> None:
        if finding is None:
            self._open(asked)
        else:
            self._refuse_mail(self.account.object(finding, Verb.MAIL, count=0), asked)

    def rcpts(self, asked: Sequence[Asked]) -> None:
        """Further recipients, those of one packet together; their answers in order."""
        if self._inspection is None and self.relay.standing.is_idle:
            self._ask(asked)
        else:
            self._judge(asked, self._ask)

    @abstractmethod
    def _open(self, asked: Sequence[Asked]) -> None:
        """MAIL is fine here: answer it or have it answered, then the recipients."""

    @abstractmethod
    def _ask(self, asked: Sequence[Asked]) -> None:
        """Have recipients answered that are fine here."""

    @abstractmethod
    def _hand_over(self, head: bytes, body: Body, deadline: float) -> None:
        """Hand the message over; `_answer_dot` ends it."""

    def _judge(self, asked: Sequence[Asked], go: Callable[[Sequence[Asked]], None]) -> None:
        """Decline whom memory or lint refuse, then go on with all; perhaps later, when DNS has answered."""
        if not self.relay.standing.is_idle:
            asked = [self._remembered(item) if isinstance(item, Recipient) else item for item in asked]
        wanted = [item for item in asked if isinstance(item, Recipient)] if self._inspection is not None else ()
        if self._inspection is None or not wanted:
            go(asked)
        else:
            self._inspection.at_rcpts(wanted, partial(self._inspected, partial(_rcpts_inspected, asked, go)))

    def _inspected(self, go: Callable[[T], None], inspected: T) -> None:
        """Go on after an inspection, if the transaction is not over; DNS may have taken its time."""
        if self.over:
            return
        try:
            go(inspected)
        except Exception as error:
            self._client.broke(error)

    def _remembered(self, rcpt: Recipient) -> Asked:
        """The recipient, or what is remembered against it."""
        subject = self.account.subject(rcpt.path, self.next_hop_of(rcpt))
        local = self.relay.standing.at_rcpt(subject, self._claimed)
        if local is None:
            return rcpt
        return Declined(rcpt.path, policy.Said(local.reply, local.classification), local.source, local.action)

    def next_hop_of(self, rcpt: Recipient) -> NextHop:
        """Where a recipient goes: as remembered of an earlier attempt, else by `[[route]]`."""
        relay, sender = self.relay, self.envelope.sender_domain
        usual = relay.hops[relay.routes.of(sender, rcpt.domain)]
        if not relay.standing.has_routes:
            return usual
        return relay.hops.get(relay.standing.route(self.account.subject(rcpt.path, usual)), usual)

    def receiving(self) -> None:
        """354 was said: the stage `receive` begins."""
        self._data_started = self.relay.clock()

    def body(self, body: Body, head: bytes, message_id: str) -> None:
        """After the dot: hand the message over; one answer, or on the LMTP door one a recipient taken.

        `head` is the trace field to put in front. The body stays the caller's, to be closed when it is `over`.
        """
        dot = self.relay.clock()
        record = self._record
        record.size = body.size
        record.message_id = message_id
        record.receive_s = dot - self._data_started
        deadline = dot + self.relay.answer_within_s
        if self._inspection is None:
            self._handed_over = dot
            self._hand_over(head, body, deadline)
        else:
            go = partial(self._body_inspected, head, body, deadline, dot)
            self._inspection.at_dot(body, partial(self._inspected, go))

    def _body_inspected(self, head: bytes, body: Body, deadline: float, dot: float, finding: Finding | None) -> None:
        now = self.relay.clock()
        self._record.lint_s = now - dot
        if finding is None:
            self._handed_over = now
            self._hand_over(head, body, deadline)
            return
        reply = self.account.object(finding, Verb.DOT, count=len(self.envelope.rcpts))
        self._forget(client_gone=False)
        self._answer_dot([reply] * self.answers_due)

    def send(self, exchange: Exchange, head: bytes, body: Body, deadline: float) -> bool:
        """Send the message itself, if there is time; False: the exchange is over, and nothing will be heard."""
        if deadline - self.relay.clock() < self.relay.reserve_s:
            exchange.abort()
            return False
        self._sending += 1
        exchange.message(head, body, deadline)
        return True

    def _first_hop(self) -> str:
        """The next hop that all of this sender's mail goes by; "" where recipients decide."""
        return self.relay.routes.by_sender(self.envelope.sender_domain) or ""

    def heard(self) -> None:
        """The answer to a message that was sent."""
        self._sending -= 1

    def settle(self, said: Answer, rcpts: Sequence[Recipient], hop: Hop) -> Reply:
        """The answer to the message, for the recipients it was for."""
        if is_taken(said):
            self.account.accept(rcpts, said, hop)
            return said
        verb = said.verb if said.verb in (Verb.DATA, Verb.BDAT) else Verb.DOT
        return self.account.refuse(said, verb, hop=hop, count=len(rcpts))

    def _answer_dot(self, replies: Sequence[Reply]) -> None:
        if self._handed_over is not None:
            self._record.next_hop_s += self.relay.clock() - self._handed_over
        self._end()
        for reply in replies:
            self._client.serve(reply)

    # -- refusals of ours ------------------------------------------------------------------------------------------

    def dead(self, verb: Verb) -> Reply | None:
        """The answer to any further command once the next hop died in this transaction; else None.

        At DATA it is the refusal of the recipients that were taken before. Said again, it is recorded once.
        """
        if self._dead is None:
            return None
        said = self._epitaphs.get(verb)
        if said is None:
            count = len(self.envelope.rcpts) if verb is Verb.DATA else 0
            said = self._epitaphs[verb] = self.account.refuse(self._dead, verb, count=count, hop=self._hop)
        return said

    @property
    def is_deferred(self) -> bool:
        """Whether one of the refusals so far was a 4xx."""
        return self.account.is_deferred

    def refuse_mail(self, own: policy.Said) -> None:
        """MAIL is refused by the door itself: the transaction never opens."""
        self._refuse_mail(self.account.state(own, Verb.MAIL, count=0), ())

    def _refuse_mail(self, reply: Reply, asked: Sequence[Asked]) -> None:
        """The transaction never opens; a deferred MAIL defers what was pipelined behind it."""
        behind = reply if reply.klass == 4 else _NO_MAIL
        self._end()
        self._client.serve(reply)
        for item in asked:
            self._client.serve(behind if isinstance(item, Recipient) else item.said.reply)

    def refuse_message(self, reason: policy.Own, *, size: int) -> None:
        """The door refuses the message for its octets: the answer to the dot, once a recipient on the LMTP door."""
        self._record.size = size
        self._record.receive_s = self.relay.clock() - self._data_started
        count = len(self.envelope.rcpts)
        reply = self.account.state(policy.own(reason, Verb.DOT), Verb.DOT, count=count)
        self._forget(client_gone=False)
        self._end()
        for _ in range(self.answers_due):
            self._client.serve(reply)

    @property
    @abstractmethod
    def answers_due(self) -> int:
        """How many answers the dot gets."""

    # -- the end -------------------------------------------------------------------------------------------------

    def abort(self, *, client_gone: bool = False) -> None:
        """The client gave it up, or it was cut off: the next hop forgets it."""
        if not self.over:
            self._record.client_gone = client_gone
            self._forget(client_gone=client_gone)
            self._end(is_aborted=bool(self.envelope.rcpts) and self._dead is None)

    def client_gone(self) -> bool:
        """The client left after the dot: whether the next hop's answer is still waited for, to be recorded.

        Not while the lint has the message: it would be sent for nobody, and once more at the retry (law D).
        """
        self._record.client_gone = True
        return self._handed_over is not None

    def broke(self, error: Exception) -> None:
        """rooms.Hears."""
        self._client.broke(error)

    @abstractmethod
    def _forget(self, *, client_gone: bool) -> None:
        """Nothing more will be sent in this transaction."""

    def _end(self, *, is_aborted: bool = False) -> None:
        if not self.over:
            self.over = True
            self.relay.under_way -= 1
            if self._claimed:
                self.relay.standing.ended(self._claimed)
            if self._inspection is not None:
                self._inspection.finish()
                report = self._inspection.report
                self._record.findings, self._record.skipped = report.findings, report.skipped
            self.account.close(is_aborted=is_aborted, is_unknown=self._sending > 0)


def _rcpts_inspected(
    asked: Sequence[Asked], go: Callable[[Sequence[Asked]], None], findings: Sequence[Finding | None]
) -> None:
    found = iter(findings)
    go([_objected(item, next(found)) if isinstance(item, Recipient) else item for item in asked])


def _objected(rcpt: Recipient, finding: Finding | None) -> Asked:
    """The recipient, or the finding that refuses it."""
    if finding is None:
        return rcpt
    return Declined(rcpt.path, objection(finding, Verb.RCPT), "lint", rule=finding.rule)
