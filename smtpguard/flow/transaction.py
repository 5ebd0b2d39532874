"""One message on its way: MAIL and its recipients, the dot, the answers.

On the SMTP door the next hop answers MAIL and RCPT itself; on the LMTP door both are answered here and the whole
transaction is walked after the dot, to each next hop side by side, so that each recipient gets its own answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from asyncio import Future, TaskGroup
from collections.abc import Sequence
from typing import Final, TypeGuard

from smtpguard import policy
from smtpguard.flow.account import LATE, Account, Declined
from smtpguard.flow.rooms import Body, Exchange, NextHop, Relay, ServesAs
from smtpguard.mail.reply import Answer, EnhancedCode, Hop, HopFailure, Reply, Verb
from smtpguard.mail.session import Envelope, Recipient, Session

Asked = Recipient | Declined

MAIL_WITHIN_S: Final = 270.0
"""RFC 5321 4.5.3.2.2: the client waits five minutes for the answer to MAIL; ours is there before."""

_MAIL_OK: Final = Reply(250, ("Ok",), EnhancedCode(2, 1, 0), Verb.MAIL)
_RCPT_OK: Final = Reply(250, ("Ok",), EnhancedCode(2, 1, 5), Verb.RCPT)
_NO_MAIL: Final = Reply(503, ("need MAIL before RCPT",), EnhancedCode(5, 5, 1), Verb.RCPT)


def transaction(relay: Relay, session: Session, envelope: Envelope) -> Transaction:
    """The transaction that a MAIL with this envelope opens, as its door needs it."""
    return (_Walked if session.door == "lmtp" else _Direct)(relay, session, envelope)


class Transaction(ABC):
    """`mail`, then `rcpts` as often as they come, then `body`; or `abort` at any time.

    Answers go to `serve` in the order of what was asked. When it is over (`over`), its record has been written.
    """

    def __init__(self, relay: Relay, session: Session, envelope: Envelope) -> None:
        self.over = False
        relay.under_way += 1
        self._relay = relay
        self._envelope = envelope
        self._account = Account(relay, session, envelope)
        self._record = self._account.record
        self._data_started = 0.0
        self._dead: HopFailure | None = None
        self._hop: Hop | None = None
        self._sending = 0  # messages whose answer is still out

    @property
    def id(self) -> str:
        """The event id."""
        return self._account.id

    # -- the way -------------------------------------------------------------------------------------------------

    @abstractmethod
    async def mail(self, asked: Sequence[Asked], serve: ServesAs) -> None:
        """Open it, with the recipients that came in the same packet; MAIL's answer, then theirs."""

    @abstractmethod
    async def rcpts(self, asked: Sequence[Asked], serve: ServesAs) -> None:
        """Further recipients, those of one packet together; their answers in order."""

    @abstractmethod
    async def _relayed(self, head: bytes, body: Body, deadline: float) -> Sequence[Reply]:
        """Hand the message over; the answers to the dot."""

    async def body(self, body: Body, head: bytes, message_id: str, serve: ServesAs) -> None:
        """After the dot: hand the message over; one answer, or on the LMTP door one a recipient taken.

        `head` is the trace field to put in front. The body stays the caller's, to be closed after this returned.
        """
        dot = self._relay.clock()
        self._record.size = body.size
        self._record.message_id = message_id
        self._record.receive_s = dot - self._data_started
        for reply in await self._relayed(head, body, dot + self._relay.answer_within_s):
            serve(reply)
        self._record.next_hop_s += self._relay.clock() - dot
        self._end()

    def receiving(self) -> None:
        """354 was said: the stage `receive` begins."""
        self._data_started = self._relay.clock()

    def _take(self, rcpt: Recipient, reply: Reply) -> Reply:
        self._envelope.rcpts.append(rcpt)
        return reply

    async def _message(self, exchange: Exchange, head: bytes, body: Body, deadline: float) -> Answer:
        """The message itself, if there is time; the exchange is over then."""
        if deadline - self._relay.clock() < self._relay.reserve_s:
            exchange.abort()
            return LATE
        self._sending += 1
        try:
            said = await exchange.message(head, body, deadline)
        except BaseException:
            exchange.abort()
            raise
        self._sending -= 1
        exchange.finish()
        return said

    def _settle(self, said: Answer, rcpts: Sequence[Recipient], hop: Hop) -> Reply:
        """The answer to the message, for the recipients it was for."""
        if _taken(said):
            self._account.accept(rcpts, said, hop)
            return said
        verb = said.verb if said.verb in (Verb.DATA, Verb.BDAT) else Verb.DOT
        return self._account.refuse(said, verb, hop=hop, count=len(rcpts))

    # -- refusals of ours ------------------------------------------------------------------------------------------

    def dead(self, verb: Verb) -> Reply | None:
        """The answer to any further command once the next hop died in this transaction; else None.

        At DATA it is the refusal of the recipients that were taken before.
        """
        if self._dead is None:
            return None
        count = len(self._envelope.rcpts) if verb is Verb.DATA else 0
        return self._account.refuse(self._dead, verb, count=count, hop=self._hop)

    @property
    def is_deferred(self) -> bool:
        """Whether one of the refusals so far was a 4xx."""
        return self._account.is_deferred

    def refuse_mail(self, own: policy.Said, serve: ServesAs) -> None:
        """MAIL is refused by the door itself: the transaction never opens."""
        serve(self._account.state(own, Verb.MAIL, count=0))
        self._end()

    def refuse_message(self, reason: policy.Own, serve: ServesAs, *, size: int) -> None:
        """The door refuses the message for its octets: the answer to the dot, once a recipient on the LMTP door."""
        self._record.size = size
        self._record.receive_s = self._relay.clock() - self._data_started
        count = len(self._envelope.rcpts)
        reply = self._account.state(policy.own(reason, Verb.DOT), Verb.DOT, count=count)
        for _ in range(self.answers_due):
            serve(reply)
        self._forget(client_gone=False)
        self._end()

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
            self._end(is_aborted=bool(self._envelope.rcpts) and self._dead is None)

    def client_gone(self) -> None:
        """The client left after the dot: the next hop's answer is still waited for, and recorded."""
        self._record.client_gone = True

    @abstractmethod
    def _forget(self, *, client_gone: bool) -> None:
        """Nothing more will be sent in this transaction."""

    def _end(self, *, is_aborted: bool = False) -> None:
        if not self.over:
            self.over = True
            self._relay.under_way -= 1
            self._account.close(is_aborted=is_aborted, is_unknown=self._sending > 0)


class _Direct(Transaction):
    """The SMTP door's: one next hop, which answers each command itself.

    Where `[[route]]` makes the next hop depend on the recipient, MAIL is answered here, the first recipient decides,
    and a refusal of MAIL becomes each recipient's answer (contract 1.1).
    """

    def __init__(self, relay: Relay, session: Session, envelope: Envelope) -> None:
        super().__init__(relay, session, envelope)
        self._next_hop: NextHop | None = None
        self._exchange: Exchange | None = None

    @property
    def answers_due(self) -> int:
        return 1

    async def mail(self, asked: Sequence[Asked], serve: ServesAs) -> None:
        name = self._relay.routes.by_sender(self._envelope.sender_domain)
        if name is None:
            serve(_MAIL_OK)
            await self.rcpts(asked, serve)
            return
        exchange = await self._begin(self._relay.hops[name], asked)
        said = exchange.mail
        if _taken(said):
            serve(said)
            await self._serve_rcpts(asked, exchange, exchange.rcpts, serve)
            return
        own = bool(self._envelope.params)
        reply = self._account.refuse(said, Verb.MAIL, hop=exchange.hop, count=0, own_parameters=own)
        serve(reply)
        behind = reply if reply.klass == 4 else _NO_MAIL  # a deferred MAIL defers what was pipelined behind it
        for item in asked:
            serve(behind if isinstance(item, Recipient) else item.said.reply)
        self._end()

    async def rcpts(self, asked: Sequence[Asked], serve: ServesAs) -> None:
        if self._dead is not None:
            at_mail = self._exchange is not None and self._dead is self._exchange.mail
            for item in asked:
                verb = Verb.MAIL if at_mail else Verb.RCPT
                serve(self._account.refuse(self._dead, verb, rcpt=item.path, hop=self._hop))
            return
        if self._next_hop is None:
            self._next_hop = self._first_hop(asked)
        asked = [self._held_to_one_hop(item) for item in asked]
        wanted = [item for item in asked if isinstance(item, Recipient)]
        futures: Sequence[Future[Answer]] = ()
        exchange = self._exchange
        if exchange is not None:
            futures = exchange.send(wanted) if _taken(exchange.mail) else ()
        elif self._next_hop is not None and wanted:
            exchange = await self._begin(self._next_hop, wanted)
            futures = exchange.rcpts
        await self._serve_rcpts(asked, exchange, futures, serve)

    def _first_hop(self, asked: Sequence[Asked]) -> NextHop | None:
        """The next hop of the first recipient: it becomes the whole transaction's."""
        for item in asked:
            if isinstance(item, Recipient):
                return self._relay.hops[self._relay.routes.of(self._envelope.sender_domain, item.domain)]
        return None

    def _held_to_one_hop(self, item: Asked) -> Asked:
        if isinstance(item, Declined) or self._next_hop is None:
            return item
        if self._relay.routes.of(self._envelope.sender_domain, item.domain) == self._next_hop.name:
            return item
        return Declined(item.path, policy.own(policy.Own.OTHER_NEXT_HOP, Verb.RCPT))

    async def _begin(self, hop: NextHop, asked: Sequence[Asked]) -> Exchange:
        self._next_hop = hop
        self._record.next_hop = hop.name
        started = self._relay.clock()
        wanted = [item for item in asked if isinstance(item, Recipient)]
        deadline = started + min(MAIL_WITHIN_S, self._relay.answer_within_s)
        exchange = await hop.begin(self._envelope, wanted, deadline, size=self._envelope.size)
        self._record.next_hop_s += self._relay.clock() - started
        self._exchange, self._hop = exchange, exchange.hop
        return exchange

    async def _serve_rcpts(
        self, asked: Sequence[Asked], exchange: Exchange | None, futures: Sequence[Future[Answer]], serve: ServesAs
    ) -> None:
        started = self._relay.clock()
        waiting = iter(futures)
        for item in asked:
            if isinstance(item, Declined):
                serve(self._account.decline(item))
                continue
            assert exchange is not None  # there is a recipient, so there was a hop to begin with
            mail = exchange.mail
            said = await next(waiting) if _taken(mail) else mail
            if isinstance(said, HopFailure):
                self._dead = said
            if _taken(said):
                serve(self._take(item, said))
                continue
            own = bool(item.params or (said is mail and self._envelope.params))
            verb = Verb.MAIL if said is mail else Verb.RCPT
            serve(self._account.refuse(said, verb, rcpt=item.path, hop=exchange.hop, own_parameters=own))
        self._record.next_hop_s += self._relay.clock() - started

    async def _relayed(self, head: bytes, body: Body, deadline: float) -> Sequence[Reply]:
        assert self._exchange is not None  # DATA was taken, so a recipient was
        said = await self._message(self._exchange, head, body, deadline)
        return [self._settle(said, self._envelope.rcpts, self._exchange.hop)]

    def _forget(self, *, client_gone: bool) -> None:
        if self._exchange is not None:
            if client_gone:
                self._exchange.abort()
            self._exchange.finish()

    def _end(self, *, is_aborted: bool = False) -> None:
        self._forget(client_gone=False)
        super()._end(is_aborted=is_aborted)


class _Walked(Transaction):
    """The LMTP door's: envelope and body are kept until the dot and then walked in one go."""

    @property
    def answers_due(self) -> int:
        return len(self._envelope.rcpts)

    async def mail(self, asked: Sequence[Asked], serve: ServesAs) -> None:
        serve(_MAIL_OK)
        await self.rcpts(asked, serve)

    async def rcpts(self, asked: Sequence[Asked], serve: ServesAs) -> None:
        for item in asked:
            serve(self._account.decline(item) if isinstance(item, Declined) else self._take(item, _RCPT_OK))

    async def _relayed(self, head: bytes, body: Body, deadline: float) -> Sequence[Reply]:
        """To each next hop side by side; the answers in the recipients' order."""
        rcpts = self._envelope.rcpts
        groups: dict[str, list[int]] = {}
        for index, rcpt in enumerate(rcpts):
            groups.setdefault(self._relay.routes.of(self._envelope.sender_domain, rcpt.domain), []).append(index)
        self._record.next_hop = ",".join(groups)
        if len(groups) == 1:
            [name] = groups
            return await self._deliver(self._relay.hops[name], rcpts, head, body, deadline)
        async with TaskGroup() as side_by_side:
            tasks = {
                name: side_by_side.create_task(
                    self._deliver(self._relay.hops[name], [rcpts[index] for index in indexes], head, body, deadline)
                )
                for name, indexes in groups.items()
            }
        answers = {
            index: answer
            for name, indexes in groups.items()
            for index, answer in zip(indexes, tasks[name].result(), strict=True)
        }
        return [answers[index] for index in range(len(rcpts))]

    async def _deliver(
        self, next_hop: NextHop, rcpts: Sequence[Recipient], head: bytes, body: Body, deadline: float
    ) -> list[Reply]:
        """The message to one next hop, for these recipients; an answer for each."""
        account = self._account
        size = len(head) + body.size
        exchange = await next_hop.begin(self._envelope, rcpts, deadline - self._relay.reserve_s, size=size)
        hop = exchange.hop
        try:
            if not _taken(exchange.mail):
                own = bool(self._envelope.params)
                reply = account.refuse(exchange.mail, Verb.MAIL, hop=hop, count=len(rcpts), own_parameters=own)
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
                    replies.append(account.refuse(said, Verb.RCPT, rcpt=rcpt.path, hop=hop, own_parameters=own))
            if taken:
                said = await self._message(exchange, head, body, deadline)
                reply = self._settle(said, [rcpts[index] for index in taken], hop)
                for index in taken:
                    replies[index] = reply
            return replies
        except BaseException:
            exchange.abort()
            raise
        finally:
            exchange.finish()

    def _forget(self, *, client_gone: bool) -> None:
        """Nothing was sent before the dot."""


def _taken(said: Answer) -> TypeGuard[Reply]:
    return isinstance(said, Reply) and said.klass == 2
