"""One message through the rooms; nobody else knows their order (architecture: "One message's way").

rooms.py        the protocols of hop, body and journal, and `Relay`: all that a transaction needs
account.py      what was said and what the MTA got: refusals become answers and a record
transaction.py  the way itself, for the SMTP door and for the LMTP door

What a next hop says is a value (`Reply` or `HopFailure`), so that nothing but a fault of ours is an exception here.
Laws L, D, B and T of the design are kept here: a 2xx leaves only as the next hop's own answer, one attempt a
transaction, a fault of the set-up is 451.
"""

from smtpguard.flow.account import Declined
from smtpguard.flow.rooms import Body, Exchange, Journal, NextHop, Relay, ServesAs
from smtpguard.flow.transaction import Asked, Transaction, transaction

__all__ = [
    "Asked",
    "Body",
    "Declined",
    "Exchange",
    "Journal",
    "NextHop",
    "Relay",
    "ServesAs",
    "Transaction",
    "transaction",
]
