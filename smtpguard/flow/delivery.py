"""A message after the dot, for recipients that are answered one by one: to each next hop its share, side by side.

The LMTP door's whole way, and the SMTP door's detour once the first next hop refused the message. A recipient that is
refused may be tried by another next hop once, where policy says so (`Account.detour`), before anybody is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from smtpguard.flow.account import LATE, Account
from smtpguard.flow.rooms import Body, Exchange, NextHop, Relay, is_taken, way_of
from smtpguard.mail.reply import Answer, Hop, HopFailure, Reply, Verb
from smtpguard.mail.session import Envelope, Recipient

if TYPE_CHECKING:
    from smtpguard.flow.transaction import Transaction


class Delivery:
    """One message on its way to its recipients. `then` gets their replies, in their order, when all are there.

    `is_whole`: one reply will stand for all of them, so that a next hop which does not take each of them gets none of
    it. `is_diverted`: this is the detour already, there is no other.
    """

    def __init__(
        self,
        transaction: Transaction,
        rcpts: Sequence[Recipient],
        head: bytes,
        body: Body,
        deadline: float,
        then: Callable[[Sequence[Reply]], None],
        *,
        is_whole: bool = False,
        is_diverted: bool = False,
    ) -> None:
        self.transaction = transaction
        self.rcpts = rcpts
        self.head = head
        self.body = body
        self.deadline = deadline
        self.is_whole = is_whole
        self.is_diverted = is_diverted
        self._then = then
        self._replies: list[Reply | None] = [None] * len(rcpts)
        self._shares: list[_Share] = []
        self._due = 0  # shares that have no answers yet

    def start(self, next_hop_of: Callable[[Recipient], NextHop]) -> None:
        """Hand each next hop its share."""
        places: dict[str, tuple[NextHop, list[int]]] = {}
        for place, rcpt in enumerate(self.rcpts):
            next_hop = next_hop_of(rcpt)
            places.setdefault(next_hop.name, (next_hop, []))[1].append(place)
        self.transaction.account.record.next_hop = ",".join(places)
        self._begin([share for each in places.values() for share in self._split(*each, is_diverted=self.is_diverted)])

    def _split(self, next_hop: NextHop, places: Sequence[int], *, is_diverted: bool) -> list[_Share]:
        """One for each transaction that the next hop needs for these."""
        ways: dict[tuple[str, str], list[int]] = {}
        for place in places:
            ways.setdefault(way_of(next_hop, self.rcpts[place]), []).append(place)
        return [_Share(self, next_hop, mine, is_diverted=is_diverted) for mine in ways.values()]

    def _begin(self, shares: Sequence[_Share]) -> None:
        self._shares += shares
        self._due += len(shares)
        for share in shares:
            if not self.transaction.over:  # an answer to the one before may have been the end
                share.begin()

    def done(self, share: _Share, replies: Sequence[Reply], detours: dict[str, tuple[NextHop, list[int]]]) -> None:
        """A share has its replies; those of its places that take a detour get theirs from there."""
        for place, reply in zip(share.places, replies, strict=True):
            self._replies[place] = reply
        self._begin([new for each in detours.values() for new in self._split(*each, is_diverted=True)])
        self._due -= 1
        if self._due == 0:
            self._shares.clear()  # each holds us
            self._then([reply for reply in self._replies if reply is not None])

    def abort(self) -> None:
        """Nobody is to get it any more."""
        for share in self._shares:
            share.abort()
        self._shares.clear()


class _Share:
    """The recipients of one next hop, by their `places` among all; rooms.Hears."""

    def __init__(self, whole: Delivery, next_hop: NextHop, places: list[int], *, is_diverted: bool) -> None:
        self.places = places
        self._whole = whole
        self._next_hop = next_hop
        self._is_diverted = is_diverted
        self._rcpts = [whole.rcpts[place] for place in places]
        self._answers: list[Answer] = []
        self._exchange: Exchange | None = None

    @property
    def _relay(self) -> Relay:
        return self._whole.transaction.relay

    @property
    def _account(self) -> Account:
        return self._whole.transaction.account

    @property
    def _envelope(self) -> Envelope:
        return self._whole.transaction.envelope

    def begin(self) -> None:
        """Send MAIL and RCPT."""
        until = self._whole.deadline - self._relay.reserve_s
        size = len(self._whole.head) + self._whole.body.size
        self._exchange = self._next_hop.begin(self._envelope, self._rcpts, until, self, size=size)

    def abort(self) -> None:
        """Nothing more is sent or heard."""
        if self._exchange is not None:
            self._exchange.abort()

    # -- what the next hop answers

    def at_mail(self, exchange: Exchange, answer: Answer) -> None:
        """rooms.Hears."""
        self._exchange = exchange
        if not is_taken(answer):
            self._refused(answer, Verb.MAIL, own_parameters=bool(self._envelope.params))

    def at_rcpt(self, answer: Answer) -> None:
        """rooms.Hears."""
        self._answers.append(answer)
        if len(self._answers) < len(self._rcpts):
            return
        taken = [is_taken(each) for each in self._answers]
        if all(taken) or (any(taken) and not self._whole.is_whole):
            assert self._exchange is not None
            if not self._whole.transaction.send(
                self._exchange, self._whole.head, self._whole.body, self._whole.deadline
            ):
                self._settle(LATE)
        else:
            self._settle(None)

    def at_message(self, answer: Answer) -> None:
        """rooms.Hears."""
        self._whole.transaction.heard()
        self._settle(answer)

    def broke(self, error: Exception) -> None:
        """rooms.Hears."""
        self._whole.transaction.broke(error)

    # -- what comes of it

    def _refused(self, answer: Answer, verb: Verb, *, own_parameters: bool) -> None:
        """All of them at once, before any was asked about."""
        assert self._exchange is not None
        hop, count = self._exchange.hop, len(self.places)
        self._exchange.finish()
        detour = None if self._is_diverted else self._account.detour(answer, hop)
        if detour is not None and isinstance(answer, Reply):
            self._account.divert(answer, hop, count=count)
            reply, detours = answer, {detour.name: (detour, self.places)}
        else:
            detours = {}
            reply = self._refuse(answer, verb, self._rcpts, own_parameters=own_parameters)
        self._whole.done(self, [reply] * count, detours)

    def _refuse(self, answer: Answer, verb: Verb, rcpts: Sequence[Recipient], *, own_parameters: bool = False) -> Reply:
        """One reply for these recipients: one refusal where they are all that there are, else one of each by name."""
        assert self._exchange is not None
        hop = self._exchange.hop
        if len(rcpts) == len(self._whole.rcpts):
            return self._account.refuse(answer, verb, hop=hop, count=len(rcpts), own_parameters=own_parameters)
        replies = [
            self._account.refuse(answer, verb, rcpt=rcpt.path, hop=hop, own_parameters=own_parameters) for rcpt in rcpts
        ]
        return replies[0]

    def _settle(self, message: Answer | None) -> None:
        """The recipients' own refusals, and what became of the message for the others; None: it was not sent."""
        assert self._exchange is not None
        hop = self._exchange.hop
        self._exchange.finish()
        replies: list[Reply] = []
        detours: dict[str, tuple[NextHop, list[int]]] = {}
        taken = [index for index, answer in enumerate(self._answers) if is_taken(answer)]
        reply = None
        if message is None:
            if taken:  # of a whole that was not taken whole: nobody got it
                self._whole.done(self, [self._partly(hop)] * len(self.places), {})
                return
        elif not is_taken(message) and (detour := self._detour(message, None)) is not None:
            assert isinstance(message, Reply)
            self._account.divert(message, hop, count=len(taken))
            detours[detour.name] = (detour, [self.places[index] for index in taken])
            reply = message
        else:
            reply = self._whole.transaction.settle(message, [self._rcpts[index] for index in taken], hop)
        for index, answer in enumerate(self._answers):
            rcpt = self._rcpts[index]
            if is_taken(answer):
                assert reply is not None
                replies.append(reply)
            elif isinstance(answer, Reply) and (detour := self._detour(answer, rcpt.path)) is not None:
                self._account.divert(answer, hop, rcpt=rcpt.path)
                detours.setdefault(detour.name, (detour, []))[1].append(self.places[index])
                replies.append(answer)
            else:
                own = bool(rcpt.params)
                replies.append(self._account.refuse(answer, Verb.RCPT, rcpt=rcpt.path, hop=hop, own_parameters=own))
        self._whole.done(self, replies, detours)

    def _detour(self, answer: Answer, rcpt: bytes | None) -> NextHop | None:
        assert self._exchange is not None
        is_open = not (self._is_diverted or isinstance(answer, HopFailure))
        return self._account.detour(answer, self._exchange.hop, rcpt=rcpt) if is_open else None

    def _partly(self, hop: Hop) -> Reply:
        """Some were refused where one answer stands for all: later, one by one, each will have its own."""
        refused = next(answer for answer in self._answers if not is_taken(answer))
        for rcpt in self._rcpts:
            self._account.route(rcpt, self._next_hop)
        return self._account.defer(refused, hop, count=len(self.places))
