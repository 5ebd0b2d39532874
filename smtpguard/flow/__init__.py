"""One message through the rooms; nobody else knows their order (architecture: "One message's way").

rooms.py        the protocols of hop, body, client and journal, and `Relay`: all that a transaction needs
account.py      what was said and what the MTA got: refusals become answers and a record
transaction.py  what both doors' transactions share: the stages, the refusals of ours, the end
direct.py       the SMTP door's way: the next hop answers each command itself
walked.py       the LMTP door's way: the whole transaction after the dot, to each next hop side by side

Nothing here waits: a door calls in with what the client asks, a next hop with what it answers, and each call does all
that can be done with it. What a next hop says is a value (`Reply` or `HopFailure`), so that nothing but a fault of
ours is an exception here. Laws L, D, B and T of the design are kept here: a 2xx leaves only as the next hop's own
answer, one attempt a transaction, a fault of the set-up is 451.
"""

from smtpguard.flow.account import Declined
from smtpguard.flow.direct import Direct
from smtpguard.flow.rooms import Body, Client, Exchange, Hears, Journal, NextHop, Relay
from smtpguard.flow.transaction import Asked, Transaction
from smtpguard.flow.walked import Walked
from smtpguard.mail.session import Envelope, Session


def begin(relay: Relay, session: Session, envelope: Envelope, client: Client) -> Transaction:
    """The transaction that a MAIL with this envelope opens, as its door needs it."""
    return (Walked if session.door == "lmtp" else Direct)(relay, session, envelope, client)


__all__ = [
    "Asked",
    "Body",
    "Client",
    "Declined",
    "Exchange",
    "Hears",
    "Journal",
    "NextHop",
    "Relay",
    "Transaction",
    "begin",
]
