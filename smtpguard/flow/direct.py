"""The SMTP door's way: one next hop, which answers MAIL, RCPT and the dot itself.

Where the way depends on the recipient (`[[route]]`, `host = "mx"`, a detour that is remembered), MAIL is answered here,
the first recipient decides, and a refusal of MAIL becomes each recipient's answer (contract 1.1).

A refusal may be tried by another next hop before the client is told (`[[policy]] reroute`): of MAIL or of what came
before, of all recipients, or of the message. Refusals of recipients wait for that until one is taken or all have been
answered that came together; once some are taken, a detour is for the retry.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

from smtpguard import policy
from smtpguard.flow.account import LATE, Declined
from smtpguard.flow.delivery import Delivery
from smtpguard.flow.rooms import Body, Client, Exchange, NextHop, Relay, is_taken, way_of
from smtpguard.flow.transaction import MAIL_OK, Asked, Transaction
from smtpguard.mail.reply import Answer, HopFailure, Reply, Verb
from smtpguard.mail.session import Envelope, Recipient, Session

MAIL_WITHIN_S: Final = 270.0
"""RFC 5321 4.5.3.2.2: the client waits five minutes for the answer to MAIL; ours is there before."""


class _Refused(NamedTuple):
    """A recipient's refusal that the client was not told yet, and the detour that it may take."""

    rcpt: Recipient
    answer: Reply
    detour: NextHop | None


class Direct(Transaction):
    """rooms.Hears of its one exchange. `_asked` are the recipients not answered yet, in order."""

    _next_hop: NextHop | None = None
    _way = ("", "")
    _exchange: Exchange | None = None
    _mail: Answer | None = None
    _takes_rcpts = False  # that was a 2xx
    _passes_mail = False  # the next hop's answer to MAIL is the client's
    _asked_at = 0.0
    _head = b""
    _body: Body | None = None
    _deadline = 0.0
    _delivery: Delivery | None = None

    def __init__(self, relay: Relay, session: Session, envelope: Envelope, client: Client) -> None:
        super().__init__(relay, session, envelope, client)
        self._asked: deque[Asked | Reply] = deque()
        self._waiting: list[_Refused | Declined] = []  # until it is known whether a detour is open

    @property
    def answers_due(self) -> int:
        return 1

    # -- what the client asks

    def _open(self, asked: Sequence[Asked]) -> None:
        standing, name = self.relay.standing, self.relay.routes.only
        if name is None or not standing.is_idle:
            sender = self.envelope.sender_domain
            name = None if standing.has_routes_of(sender) else self.relay.routes.by_sender(sender)
        if name is None or self.relay.hops[name].is_by_domain:
            self._client.serve(MAIL_OK)
            self.rcpts(asked)
            return
        next_hop = self.relay.hops[name]
        if not standing.is_idle:
            local = standing.at_mail(self.account.subject(None, next_hop), self._claimed)
            if local is not None:
                self._refuse_mail(self.account.answer_locally(local, Verb.MAIL, count=0), asked)
                return
        self._passes_mail = True
        self._next_hop = next_hop
        if asked:
            self._judge(asked, partial(self._begin, next_hop))
        else:
            self._begin(next_hop, asked)

    def _ask(self, asked: Sequence[Asked]) -> None:
        if self._dead is not None:
            verb = Verb.MAIL if self._dead is self._mail else Verb.RCPT
            for item in asked if self._passes_mail else self._of_one_hop(asked):
                if isinstance(item, Declined) and self._is_by_domain:  # what holds for one domain holds for no other
                    self._client.serve(self.account.decline(item))
                else:
                    self._client.serve(self.account.refuse(self._dead, verb, rcpt=item.path, hop=self._hop))
            return
        if not self._passes_mail:
            asked = self._of_one_hop(asked)
        exchange = self._exchange
        if exchange is None:
            if self._next_hop is not None and any(isinstance(item, Recipient) for item in asked):
                self._begin(self._next_hop, asked)
            else:
                self._asked.extend(asked)
                self._serve_answered()
            return
        self._asked.extend(asked)
        self._asked_at = self.relay.clock()
        wanted = [item for item in asked if isinstance(item, Recipient)]
        if len(wanted) < len(asked):
            self._serve_answered()
        if self._takes_rcpts:
            exchange.send(wanted)
        else:
            self._refuse_asked()

    @property
    def _is_by_domain(self) -> bool:
        return self._next_hop is not None and self._next_hop.is_by_domain

    def _of_one_hop(self, asked: Sequence[Asked]) -> list[Asked]:
        """The first recipient's way is the whole transaction's; recipients that go another way are declined."""
        held: list[Asked] = []
        for item in asked:
            if isinstance(item, Recipient):
                next_hop = self.next_hop_of(item)
                if self._next_hop is None:
                    self._next_hop, self._way = next_hop, way_of(next_hop, item)
                elif way_of(next_hop, item) != self._way and not self._is_diverted:
                    item = Declined(item.path, policy.own(policy.Own.OTHER_NEXT_HOP, Verb.RCPT))
            held.append(item)
        return held

    def _begin(self, next_hop: NextHop, asked: Sequence[Asked]) -> None:
        self._asked.extend(asked)
        self._next_hop = next_hop
        self._record.next_hop = next_hop.name
        self._asked_at = now = self.relay.clock()
        wanted = [item for item in self._asked if isinstance(item, Recipient)] if self._asked else ()
        deadline = now + min(MAIL_WITHIN_S, self.relay.answer_within_s)
        self._exchange = next_hop.begin(self.envelope, wanted, deadline, self, size=self.envelope.size)

    def dead(self, verb: Verb) -> Reply | None:
        """As Transaction.dead; the next hop may have left while the client made up its mind."""
        if self._dead is None and self.envelope.rcpts:
            assert self._exchange is not None  # it took them
            if (failure := self._exchange.failure) is not None:
                self._dead = replace(failure, verb=verb)
        return super().dead(verb)

    def _hand_over(self, head: bytes, body: Body, deadline: float) -> None:
        assert self._exchange is not None  # DATA was taken, so a recipient was
        assert self._next_hop is not None
        if not self.relay.standing.is_idle:
            subject = self.account.subject(self.account.only(None), self._next_hop)
            local = self.relay.standing.at_dot(subject, self._claimed)
            if local is not None:
                count = len(self.envelope.rcpts)
                self._answer_dot([self.account.answer_locally(local, Verb.DOT, count=count)])
                return
        self._head, self._body, self._deadline = head, body, deadline
        if not self.send(self._exchange, head, body, deadline):
            self._answer_dot([self.settle(LATE, self.envelope.rcpts, self._exchange.hop)])

    # -- what the next hop answers

    def at_mail(self, exchange: Exchange, answer: Answer) -> None:
        """rooms.Hears."""
        self._exchange, self._hop, self._mail = exchange, exchange.hop, answer
        if not self._asked:
            self._record.next_hop_s += self.relay.clock() - self._asked_at
        if is_taken(answer):
            self._takes_rcpts = True
            if self._passes_mail:
                self._client.serve(answer)
            if self._asked:
                self._serve_answered()
        elif (detour := self._detour(answer)) is not None:
            assert isinstance(answer, Reply)
            self.account.divert(answer, exchange.hop, count=sum(isinstance(item, Recipient) for item in self._asked))
            self._take(detour)
        elif not self._passes_mail:
            self._refuse_asked()
        else:
            own = bool(self.envelope.params)
            reply = self.account.refuse(answer, Verb.MAIL, hop=exchange.hop, count=0, own_parameters=own)
            self._refuse_mail(reply, [item for item in self._asked if not isinstance(item, Reply)])

    def at_rcpt(self, answer: Answer) -> None:
        """rooms.Hears."""
        item = self._asked.popleft()
        assert isinstance(item, Recipient)  # those with an answer are served as soon as they are the first
        if not self._asked:
            self._record.next_hop_s += self.relay.clock() - self._asked_at
        if is_taken(answer):
            if self._waiting:
                self._tell_waiting()
            self.envelope.rcpts.append(item)
            self._client.serve(answer)
        else:
            detour = self._detour(answer, item.path) if not self.envelope.rcpts else None
            if isinstance(answer, Reply) and (detour is not None or self._waiting):
                self._waiting.append(_Refused(item, answer, detour))
            else:
                self._tell_waiting()
                self._refuse(item, answer, Verb.RCPT, own_parameters=bool(item.params))
        if self._asked:
            self._serve_answered()
        elif self._waiting:
            self._divert_waiting()

    def at_message(self, answer: Answer) -> None:
        """rooms.Hears."""
        assert self._exchange is not None
        assert self._body is not None
        self.heard()
        rcpts, hop = self.envelope.rcpts, self._exchange.hop
        detour = None if is_taken(answer) else self._detour(answer)
        if detour is None or not isinstance(answer, Reply):
            self._answer_dot([self.settle(answer, rcpts, hop)])
            return
        self._exchange.finish()
        self.account.divert(answer, hop, count=len(rcpts))
        self._is_diverted = True
        self._delivery = Delivery(
            self,
            rcpts,
            self._head,
            self._body,
            self._deadline,
            lambda replies: self._answer_dot([min(replies, key=lambda reply: reply.code)]),  # 4xx if any is
            is_whole=True,
            is_diverted=True,
        )
        self._delivery.start(lambda _: detour)

    def _refuse(self, item: Recipient, said: Answer, verb: Verb, *, own_parameters: bool) -> None:
        if isinstance(said, HopFailure):
            self._dead = said
        is_mixed = bool(self.envelope.rcpts) and not self._is_diverted
        self._client.serve(
            self.account.refuse(
                said, verb, rcpt=item.path, hop=self._hop, own_parameters=own_parameters, is_mixed=is_mixed
            )
        )

    def _refuse_asked(self) -> None:
        """The next hop took no MAIL: that is the answer to each recipient."""
        assert self._mail is not None
        while self._asked:
            item = self._asked.popleft()
            if isinstance(item, Recipient):
                own = bool(item.params or self.envelope.params)
                self._refuse(item, self._mail, Verb.MAIL, own_parameters=own)
            else:
                self._client.serve(item if isinstance(item, Reply) else self.account.decline(item))

    def _serve_answered(self) -> None:
        """Those that the next hop is not asked about, as far as it is their turn."""
        while self._asked and not isinstance(item := self._asked[0], Recipient):
            self._asked.popleft()
            if self._waiting and isinstance(item, Declined):
                self._waiting.append(item)
            else:
                self._client.serve(item if isinstance(item, Reply) else self.account.decline(item))
        if self._waiting and not self._asked:
            self._divert_waiting()

    # -- detours

    def _detour(self, answer: Answer, rcpt: bytes | None = None) -> NextHop | None:
        detour = None if self._is_diverted else self.account.detour(answer, self._hop, rcpt=rcpt)
        # A detour takes all recipients together, and one answer stands for all: not where domains go ways of their own
        return detour if detour is not None and not detour.is_by_domain else None

    def _take(self, detour: NextHop) -> None:
        """The whole transaction goes by another next hop from here on: nothing of it was taken yet."""
        assert self._exchange is not None
        self._is_diverted = True
        self._takes_rcpts = False
        self._exchange.finish()
        self._begin(detour, ())

    def _divert_waiting(self) -> None:
        """All were refused that came together: those with a detour take it, and the others are told in their turn."""
        waiting, self._waiting = self._waiting, []
        detour = next(item.detour for item in waiting if isinstance(item, _Refused) and item.detour is not None)
        assert self._hop is not None
        for item in waiting:
            if isinstance(item, Declined):
                self._asked.append(item)
            elif item.detour is not None:
                self.account.divert(item.answer, self._hop, rcpt=item.rcpt.path)
                self._asked.append(item.rcpt)
            else:
                own = bool(item.rcpt.params)
                refusal = self.account.refuse(
                    item.answer, Verb.RCPT, rcpt=item.rcpt.path, hop=self._hop, own_parameters=own
                )
                self._asked.append(refusal)
        self._passes_mail = False
        self._take(detour)

    def _tell_waiting(self) -> None:
        """One is taken, so there is no detour now: the refusals are told, and their retry takes it."""
        waiting, self._waiting = self._waiting, []
        for item in waiting:
            if isinstance(item, Declined):
                reply = self.account.decline(item)
            else:
                own = bool(item.rcpt.params)
                reply = self.account.refuse(
                    item.answer, Verb.RCPT, rcpt=item.rcpt.path, hop=self._hop, own_parameters=own, is_mixed=True
                )
            self._client.serve(reply)

    # -- the end

    def _forget(self, *, client_gone: bool) -> None:
        if self._delivery is not None:
            self._delivery.abort()
            self._delivery = None  # each holds the other
        if self._exchange is not None:
            if client_gone or self._sending:
                self._exchange.abort()
            self._exchange.finish()

    def _end(self, *, is_aborted: bool = False) -> None:
        self._forget(client_gone=False)
        super()._end(is_aborted=is_aborted)
