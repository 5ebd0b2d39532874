"""The audit of a sender's domain: what receivers will find in the DNS, said before they do (`smtpguard audit`).

Each file asks about one thing over a passed-in resolver (`ask`) and judges what came (`lines`, pure). `report.py` does
all of them. Nothing is sent, nothing is changed; the one file that is fetched is an MTA-STS policy, by a function that
the caller brings.
"""

from smtpguard.audit.line import Branch, Line, State
from smtpguard.audit.report import Audit, Terms, Verdict, audit, own_addresses

__all__ = ["Audit", "Branch", "Line", "State", "Terms", "Verdict", "audit", "own_addresses"]
