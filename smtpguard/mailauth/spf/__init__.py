"""SPF (RFC 7208): whether a domain lets an address send for it, as a receiver will find.

`record` reads a record, `macro` its macros, `evaluation` walks it over a `dns.Resolver`. For a sender's own check the
record is evaluated for every address that mail may leave from, and each step is kept for the person who has to mend it.
"""

from smtpguard.mailauth.spf.evaluation import check
from smtpguard.mailauth.spf.record import MECHANISMS, Mechanism, Modifier, Record, SpfSyntaxError, parse
from smtpguard.mailauth.spf.result import Result, SpfStatus, Step

__all__ = [
    "MECHANISMS",
    "Mechanism",
    "Modifier",
    "Record",
    "Result",
    "SpfStatus",
    "SpfSyntaxError",
    "Step",
    "check",
    "parse",
]
