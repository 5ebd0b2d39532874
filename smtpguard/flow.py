"""One message through the rooms; nobody else knows their order (architecture: "One message's way").

`Transaction` is used by both doors. Hop and journal are the protocols stated here; what a next hop says is a value
(`Reply` or `HopFailure`), so that nothing but a fault of ours is an exception on this way. Laws L, D, B and T of the
design are kept here: a 2xx leaves only as the next hop's own answer, one attempt a transaction, a fault of the set-up
is 451.
"""

from __future__ import annotations

from asyncio import Future, TaskGroup
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeGuard

from smtpguard import policy
from smtpguard.classify import Classifier
from smtpguard.config import ReplySettings
from smtpguard.mail.reply import Answer, EnhancedCode, FailureKind, Hop, HopFailure, Reply, Verb
from smtpguard.mail.session import Envelope, Recipient, Session
from smtpguard.record import Accepted, Outcome, Record, Refusal
from smtpguard.routes import Routes


class Body(Protocol):
    """A received message, dot-stuffed as on the wire, without the final `.CRLF`. May be read several times at once."""

    size: int
    """Octets as received, dots unstuffed."""

    def wire(self) -> Iterator[bytes]:
        """The dot-stuffed octets in chunks of at most 256 KiB."""

    def content(self) -> Iterator[bytes]:
        """The octets of the message itself (dots unstuffed), in chunks of at most 256 KiB; `size` in all."""

    def close(self) -> None:
        """Give the memory or the file back."""


class Exchange(Protocol):
    """One transaction on one connection of a next hop. Never raises for what the hop does: answers are values."""

    hop: Hop
    mail: Answer
    """What it said to MAIL, or to what came before (see the reply's verb), or how it failed."""

    rcpts: list[Future[Answer]]
    """Answers to the recipients given to `begin`, in order."""

    def send(self, rcpts: Sequence[Recipient]) -> list[Future[Answer]]:
        """Send further recipients; their answers, in order."""

    async def message(self, head: bytes, body: Body, deadline: float) -> Answer:
        """Send `head` (our fields) and the body, by BDAT or DATA; the answer to it, by `deadline` (loop time)."""

    def finish(self) -> None:
        """Done: the connection goes back to the pool (after RSET where a transaction is still open)."""

    def abort(self) -> None:
        """Give it up at once: the socket is reset, nothing more is sent."""


class NextHop(Protocol):
    """A configured next hop: hosts in order, a pool each, a breaker each."""

    name: str

    def offers(self, keyword: str) -> bool | None:
        """Whether every host offered this EHLO keyword when last asked; None while none was asked."""

    def size_limit(self) -> int | None:
        """The SIZE it offered: 0 no fixed limit, None unknown or not offered."""

    async def begin(
        self, envelope: Envelope, rcpts: Sequence[Recipient], deadline: float, *, size: int | None = None
    ) -> Exchange:
        """Send MAIL and the given recipients to the first host that takes MAIL; answers at MAIL's answer.

        `size` (octets) goes out as SIZE= where it is offered.
        """


class Journal(Protocol):
    """Where finished records go. Never raises, never waits."""

    def write(self, record: Record) -> None:
        """Log it, count it, keep it."""


ServesAs = Callable[[Reply], None]
"""How an answer reaches the client: in order, at once, never waiting."""


@dataclass(frozen=True, slots=True)
class Declined:
    """A recipient that the door itself did not take: the path as given, our reply and what it means."""

    path: bytes
    said: policy.Said


Asked = Recipient | Declined

MAIL_WITHIN_S: Final = 270.0
"""RFC 5321 4.5.3.2.2: the client waits five minutes for the answer to MAIL; ours is there before."""

RESERVE_S: Final = 60.0
"""Contract 1.4: with less than that left of `answer_within`, the message is not sent any more."""

_MAIL_OK: Final = Reply(250, ("Ok",), EnhancedCode(2, 1, 0), Verb.MAIL)
_RCPT_OK: Final = Reply(250, ("Ok",), EnhancedCode(2, 1, 5), Verb.RCPT)
_NO_MAIL: Final = Reply(503, ("need MAIL before RCPT",), EnhancedCode(5, 5, 1), Verb.RCPT)


@dataclass(slots=True)
class Relay:
    """All that a transaction needs. A reload makes a new one; transactions under way keep theirs."""

    hops: Mapping[str, NextHop]
    routes: Routes
    classifier: Classifier
    journal: Journal
    hostname: str
    reply: ReplySettings
    answer_within_s: float
    received_header: bool
    clock: Callable[[], float]
    """Monotonic seconds, the scale of the loop's `time()`."""
    now: Callable[[], float]
    """Seconds since the epoch."""
    new_id: Callable[[], str]

    @property
    def reserve_s(self) -> float:
        """RESERVE_S, or half of `answer_within` where an operator set that to less than two minutes."""
        return min(RESERVE_S, self.answer_within_s / 2)


class Transaction:
    """One message on its way: `mail`, then `rcpts` as often as they come, then `body`; or `abort` at any time.

    On the SMTP door the next hop answers MAIL and RCPT itself; on the LMTP door both are answered here and the whole
    transaction is walked after the dot, to each next hop side by side. Answers go to `serve` in the order of what was
    asked. When it is over (`over`), its record has been written.
    """

    def __init__(self, relay: Relay, session: Session, envelope: Envelope) -> None:
        self.id = relay.new_id()
        self.over = False
        self._relay = relay
        self._envelope = envelope
        self._direct = session.door == "smtp"
        self._started = relay.clock()
        self._data_started = self._started
        self._exchange: Exchange | None = None
        self._hop: NextHop | None = None
        self._dead: HopFailure | None = None
        self._sending = False
        self._record = Record(self.id, relay.now(), session, envelope)

    # -- MAIL and RCPT -------------------------------------------------------------------------------------------

    async def mail(self, asked: Sequence[Asked], serve: ServesAs) -> None:
        """Open it, with the recipients that came in the same packet; MAIL's answer, then theirs."""
        name = self._relay.routes.by_sender(self._envelope.sender_domain) if self._direct else None
        if name is None:
            serve(_MAIL_OK)
            if asked:
                await self.rcpts(asked, serve)
            return
        exchange = await self._begin(self._relay.hops[name], asked)
        said = exchange.mail
        if _taken(said):
            serve(said)
            await self._serve_rcpts(asked, exchange.rcpts, serve)
            return
        reply = self._refuse(said, Verb.MAIL, hop=exchange.hop, count=0, own_parameters=bool(self._envelope.params))
        serve(reply)
        for item in asked:
            serve(
                reply if isinstance(said, HopFailure) else _NO_MAIL if isinstance(item, Recipient) else item.said.reply
            )
        self._end()

    async def rcpts(self, asked: Sequence[Asked], serve: ServesAs) -> None:
        """Further recipients, those of one packet together; their answers in order."""
        if not self._direct:
            for item in asked:
                serve(self._decline(item) if isinstance(item, Declined) else self._take(item, _RCPT_OK))
            return
        if self._dead is not None:
            for item in asked:
                serve(self._refuse(self._dead, Verb.RCPT, rcpt=item.path))
            return
        if self._hop is None:
            self._hop = self._relay.hops[self._route(asked)]
        asked = [self._held_to_one_hop(item) for item in asked]
        wanted = [item for item in asked if isinstance(item, Recipient)]
        if self._exchange is None and wanted:
            exchange = await self._begin(self._hop, wanted)
            futures = exchange.rcpts
        elif self._exchange is not None:
            futures = self._exchange.send(wanted) if _taken(self._exchange.mail) else []
        else:
            futures = []
        await self._serve_rcpts(asked, futures, serve)

    def _route(self, asked: Sequence[Asked]) -> str:
        """The next hop of the first recipient that has one: it becomes the whole transaction's."""
        domain = next((item.domain for item in asked if isinstance(item, Recipient)), "")
        return self._relay.routes.of(self._envelope.sender_domain, domain)

    def _held_to_one_hop(self, item: Asked) -> Asked:
        if isinstance(item, Declined) or self._hop is None:
            return item
        if self._relay.routes.of(self._envelope.sender_domain, item.domain) == self._hop.name:
            return item
        return Declined(item.path, policy.own(policy.Own.OTHER_NEXT_HOP, Verb.RCPT))

    async def _begin(self, hop: NextHop, asked: Sequence[Asked]) -> Exchange:
        self._hop = hop
        started = self._relay.clock()
        wanted = [item for item in asked if isinstance(item, Recipient)]
        deadline = started + min(MAIL_WITHIN_S, self._relay.answer_within_s)
        self._exchange = await hop.begin(self._envelope, wanted, deadline, size=self._envelope.size)
        self._record.next_hop_s += self._relay.clock() - started
        self._record.next_hop = hop.name
        return self._exchange

    async def _serve_rcpts(self, asked: Sequence[Asked], futures: Sequence[Future[Answer]], serve: ServesAs) -> None:
        assert self._exchange is not None or not futures
        started = self._relay.clock()
        waiting = iter(futures)
        for item in asked:
            if isinstance(item, Declined):
                serve(self._decline(item))
                continue
            exchange = self._exchange
            assert exchange is not None
            # Where the recipient decided the next hop, a refusal of MAIL is each recipient's answer (contract 1.1).
            said = await next(waiting) if _taken(exchange.mail) else exchange.mail
            if isinstance(said, HopFailure):
                self._dead = said
            if _taken(said):
                serve(self._take(item, said))
            else:
                verb = Verb.RCPT if _taken(exchange.mail) else Verb.MAIL
                own = bool(item.params) or (verb is Verb.MAIL and bool(self._envelope.params))
                serve(self._refuse(said, verb, rcpt=item.path, hop=exchange.hop, own_parameters=own))
        self._record.next_hop_s += self._relay.clock() - started

    def _take(self, rcpt: Recipient, reply: Reply) -> Reply:
        self._envelope.rcpts.append(rcpt)
        return reply

    # -- DATA and the dot ----------------------------------------------------------------------------------------

    def dead(self, verb: Verb) -> Reply | None:
        """The answer to any further command once the next hop died in this transaction; else None.

        At DATA it is the refusal of the recipients that were taken before.
        """
        if self._dead is None:
            return None
        return self._refuse(self._dead, verb, count=len(self._envelope.rcpts) if verb is Verb.DATA else 0)

    @property
    def is_deferred(self) -> bool:
        """Whether one of the refusals so far was a 4xx."""
        return any(refusal.answer.klass == 4 for refusal in self._record.refusals)

    def receiving(self) -> None:
        """354 was said: the stage `receive` begins."""
        self._data_started = self._relay.clock()

    def refuse_message(self, reason: policy.Own, serve: ServesAs, *, size: int) -> None:
        """The door refuses the message for its octets: the answer to the dot, once a recipient on the LMTP door."""
        self._record.size = size
        self._record.receive_s = self._relay.clock() - self._data_started
        count = len(self._envelope.rcpts)
        reply = self._state(policy.own(reason, Verb.DOT), Verb.DOT, count=count)
        for _ in range(1 if self._direct else count):
            serve(reply)
        self._finish_exchange()
        self._end()

    async def body(self, body: Body, head: bytes, message_id: str, serve: ServesAs) -> None:
        """After the dot: hand the message over; one answer, or on the LMTP door one a recipient taken.

        `head` is the trace field to put in front. The body stays the caller's, to be closed after this returned.
        """
        dot = self._relay.clock()
        deadline = dot + self._relay.answer_within_s
        self._record.size = body.size
        self._record.message_id = message_id
        self._record.receive_s = dot - self._data_started
        if self._direct:
            assert self._exchange is not None
            rcpts = self._envelope.rcpts
            said = await self._message(self._exchange, head, body, deadline)
            serve(self._settle(said, rcpts, self._exchange.hop))
        else:
            for reply in await self._walk(head, body, deadline):
                serve(reply)
        self._record.next_hop_s += self._relay.clock() - dot
        self._end()

    async def _walk(self, head: bytes, body: Body, deadline: float) -> list[Reply]:
        """The LMTP door's whole transaction: to each next hop side by side; the answers in the recipients' order."""
        groups: dict[str, list[int]] = {}
        for index, rcpt in enumerate(self._envelope.rcpts):
            groups.setdefault(self._relay.routes.of(self._envelope.sender_domain, rcpt.domain), []).append(index)
        self._record.next_hop = ",".join(groups)
        replies: list[Reply] = [_RCPT_OK] * len(self._envelope.rcpts)

        async def one(name: str, indexes: list[int]) -> None:
            rcpts = [self._envelope.rcpts[index] for index in indexes]
            answers = await self._deliver(self._relay.hops[name], rcpts, head, body, deadline)
            for index, answer in zip(indexes, answers, strict=True):
                replies[index] = answer

        if len(groups) == 1:
            await one(*groups.popitem())
        else:
            async with TaskGroup() as side_by_side:
                for name, indexes in groups.items():
                    side_by_side.create_task(one(name, indexes))
        return replies

    async def _deliver(
        self, hop: NextHop, rcpts: Sequence[Recipient], head: bytes, body: Body, deadline: float
    ) -> list[Reply]:
        """The message to one next hop, for these recipients; an answer for each."""
        relay = self._relay
        size = len(head) + body.size
        exchange = await hop.begin(self._envelope, rcpts, deadline - relay.reserve_s, size=size)
        try:
            if not _taken(exchange.mail):
                own = bool(self._envelope.params)
                reply = self._refuse(exchange.mail, Verb.MAIL, hop=exchange.hop, count=len(rcpts), own_parameters=own)
                return [reply] * len(rcpts)
            replies: list[Reply] = []
            taken: list[int] = []
            for index, (rcpt, future) in enumerate(zip(rcpts, exchange.rcpts, strict=True)):
                said = await future
                if _taken(said):
                    taken.append(index)
                    replies.append(said)
                else:
                    own = bool(rcpt.params)
                    replies.append(self._refuse(said, Verb.RCPT, rcpt=rcpt.path, hop=exchange.hop, own_parameters=own))
            if taken:
                said = await self._message(exchange, head, body, deadline)
                reply = self._settle(said, [rcpts[index] for index in taken], exchange.hop)
                for index in taken:
                    replies[index] = reply
            return replies
        except BaseException:
            exchange.abort()
            raise
        finally:
            exchange.finish()

    async def _message(self, exchange: Exchange, head: bytes, body: Body, deadline: float) -> Answer:
        if deadline - self._relay.clock() < self._relay.reserve_s:
            exchange.abort()
            return _LATE
        self._sending = True
        try:
            said = await exchange.message(head, body, deadline)
        except BaseException:
            exchange.abort()
            raise
        self._sending = False
        exchange.finish()
        return said

    def _settle(self, said: Answer, rcpts: Sequence[Recipient], hop: Hop) -> Reply:
        """The answer to the message, for the recipients it was for."""
        if _taken(said):
            self._record.accepted += [Accepted(rcpt.path, said, hop) for rcpt in rcpts]
            return said
        verb = said.verb if said.verb in (Verb.DATA, Verb.BDAT) else Verb.DOT
        return self._refuse(said, verb, hop=hop, count=len(rcpts))

    # -- refusals ------------------------------------------------------------------------------------------------

    def _refuse(
        self,
        said: Answer,
        verb: Verb,
        *,
        rcpt: bytes | None = None,
        count: int = 1,
        hop: Hop | None = None,
        own_parameters: bool = False,
    ) -> Reply:
        """What the MTA gets for this answer of the next hop, written into the record."""
        hop = hop or (self._exchange.hop if self._exchange else None)
        if isinstance(said, HopFailure):
            reason = policy.own(policy.Own.LATE, verb) if said is _LATE else None
            own = reason or policy.of_failure(said, verb, hop.host if hop else "")
            return self._state(own, verb, rcpt=rcpt, count=count, hop=hop, failure=said)
        meaning = self._relay.classifier.match(said, hop.host if hop else "")
        settings = self._relay.reply
        reply = policy.after(said, greeting_5xx=settings.greeting_5xx, own_parameters=own_parameters)
        answer = policy.explained(
            reply,
            meaning,
            id=self.id,
            host=hop.host if hop else "",
            explain=settings.explain,
            contact=settings.contact,
        )
        self._record.refusals.append(Refusal(said.verb, answer, "next_hop", meaning, rcpt, count, said, None, hop))
        return answer

    def _decline(self, item: Declined) -> Reply:
        return self._state(item.said, Verb.RCPT, rcpt=item.path)

    def _state(
        self,
        own: policy.Said,
        verb: Verb,
        *,
        rcpt: bytes | None = None,
        count: int = 1,
        hop: Hop | None = None,
        failure: HopFailure | None = None,
    ) -> Reply:
        """A refusal of our own, explained and written into the record."""
        settings = self._relay.reply
        answer = policy.explained(
            own.reply, own.classification, id=self.id, explain=settings.explain, contact=settings.contact
        )
        self._record.refusals.append(
            Refusal(verb, answer, "internal", own.classification, rcpt, count, None, failure, hop)
        )
        return answer

    # -- the end -------------------------------------------------------------------------------------------------

    def refuse_mail(self, own: policy.Said, serve: ServesAs) -> None:
        """MAIL is refused by the door itself: the transaction never opens."""
        serve(self._state(own, Verb.MAIL, count=0))
        self._end()

    def abort(self, *, client_gone: bool = False) -> None:
        """The client gave it up, or it was cut off: the next hop forgets it."""
        if self.over:
            return
        self._record.client_gone = client_gone
        if self._exchange is not None and client_gone:
            self._exchange.abort()
        self._finish_exchange()
        self._end(given_up=True)

    def client_gone(self) -> None:
        """The client left after the dot: the next hop's answer is still waited for, and recorded."""
        self._record.client_gone = True

    def _finish_exchange(self) -> None:
        if self._exchange is not None:
            self._exchange.finish()

    def _end(self, *, given_up: bool = False) -> None:
        if self.over:
            return
        self.over = True
        record = self._record
        record.outcome = self._outcome(given_up)
        record.duration_s = self._relay.clock() - self._started
        self._relay.journal.write(record)

    def _outcome(self, given_up: bool) -> Outcome:
        record = self._record
        failures = [refusal.failure for refusal in record.refusals]
        if self._sending or any(failure.unknown for failure in failures if failure):
            return "unknown"
        if record.accepted:
            return "partial" if record.refusals else "accepted"
        if given_up and (not record.refusals or (self._envelope.rcpts and self._dead is None)):
            return "aborted"
        return "refused" if any(refusal.answer.klass == 5 for refusal in record.refusals) else "deferred"


_LATE: Final = HopFailure(FailureKind.TIMEOUT, Verb.DOT, "answer_within is used up")


def _taken(said: Answer) -> TypeGuard[Reply]:
    return isinstance(said, Reply) and said.klass == 2
