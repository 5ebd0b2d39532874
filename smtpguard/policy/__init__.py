"""What the MTA gets, and what is done about a refusal. Pure; tables, not ifs.

words.py     our own refusals
replies.py   how one is said; which of a next hop's may not be passed as they are; how a refusal reads
rules.py     `[[policy]]`: which rule a refusal falls under, and what it is remembered by
standing.py  what is remembered of refusals (held, throttled, suppressed, routed), and how time and answers change it
"""

from smtpguard.policy.replies import Said, after, explained, of_failure, own, stated, unexplained
from smtpguard.policy.rules import PASS, Policies, Refused, Scope, Subject
from smtpguard.policy.standing import Hold, Route, Strike, Suppression, Throttle
from smtpguard.policy.words import Own

__all__ = [
    "PASS",
    "Hold",
    "Own",
    "Policies",
    "Refused",
    "Route",
    "Said",
    "Scope",
    "Strike",
    "Subject",
    "Suppression",
    "Throttle",
    "after",
    "explained",
    "of_failure",
    "own",
    "stated",
    "unexplained",
]
