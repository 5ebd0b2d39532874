"""smtpguard: a smarthost that says why mail is refused.

One message's way through the rooms is told by `flow.py`; start reading there.
"""

__version__ = "0.1.0"
