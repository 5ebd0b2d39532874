"""The LMTP door's way (RFC 2033): envelope and body are kept until the dot, then walked in one go.

Each next hop gets its recipients in a transaction of its own, side by side (`delivery`); each recipient taken gets its
own answer after the dot, in the order of the RCPTs, when all next hops have answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from smtpguard.flow.account import Declined
from smtpguard.flow.delivery import Delivery
from smtpguard.flow.rooms import Body, Client, Relay
from smtpguard.flow.transaction import MAIL_OK, Asked, Transaction
from smtpguard.mail.reply import EnhancedCode, Reply, Verb
from smtpguard.mail.session import Envelope, Recipient, Session

_RCPT_OK: Final = Reply(250, ("Ok",), EnhancedCode(2, 1, 5), Verb.RCPT)


class Walked(Transaction):
    """Everything is answered here but the dot."""

    def __init__(self, relay: Relay, session: Session, envelope: Envelope, client: Client) -> None:
        super().__init__(relay, session, envelope, client)
        self._delivery: Delivery | None = None

    @property
    def answers_due(self) -> int:
        return len(self.envelope.rcpts)

    def _open(self, asked: Sequence[Asked]) -> None:
        self._client.serve(MAIL_OK)
        self.rcpts(asked)

    def _ask(self, asked: Sequence[Asked]) -> None:
        for item in asked:
            if isinstance(item, Declined):
                self._client.serve(self.account.decline(item))
            else:
                self.envelope.rcpts.append(item)
                self._client.serve(_RCPT_OK)

    def _hand_over(self, head: bytes, body: Body, deadline: float) -> None:
        """Recipients whose message is held are answered here, the others by their next hops."""
        rcpts = self.envelope.rcpts
        kept = {place: reply for place, rcpt in enumerate(rcpts) if (reply := self._held_message(rcpt)) is not None}
        going = [rcpt for place, rcpt in enumerate(rcpts) if place not in kept]

        def answered(replies: Sequence[Reply]) -> None:
            self._delivery = None  # each holds the other
            answers = iter(replies)
            self._answer_dot([kept[place] if place in kept else next(answers) for place in range(len(rcpts))])

        if not going:
            answered(())
            return
        self._delivery = delivery = Delivery(self, going, head, body, deadline, answered)
        delivery.start(self.next_hop_of)

    def _held_message(self, rcpt: Recipient) -> Reply | None:
        """The answer to a message that is held for this recipient, or for all since it was refused as a whole."""
        standing = self.relay.standing
        if standing.is_idle:
            return None
        next_hop = self.next_hop_of(rcpt)
        for whom in dict.fromkeys((rcpt.path, self.account.only(None))):
            local = standing.at_dot(self.account.subject(whom, next_hop), self._claimed)
            if local is not None:
                return self.account.answer_locally(local, Verb.DOT, rcpt=rcpt.path)
        return None

    def _forget(self, *, client_gone: bool) -> None:  # noqa: ARG002 (all the same here)
        """Nothing was sent before the dot; after it, we were cut off."""
        if self._delivery is not None:
            self._delivery.abort()
            self._delivery = None
