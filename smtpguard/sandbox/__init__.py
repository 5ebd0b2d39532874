"""The embedded next hop: an SMTP server that answers by address or by script, for `serve --sandbox`, tests, benchmarks.

It is byte-faithful (what was sent is what is kept), offers CHUNKING, PIPELINING and the rest, and can be made to fail
in every way that a next hop fails. It never listens beyond loopback and never sends mail.
"""

from smtpguard.sandbox.answers import Lifelike, lifelike
from smtpguard.sandbox.message import Message
from smtpguard.sandbox.script import (
    Action,
    After,
    Close,
    CloseAfter,
    CommitThenClose,
    Delay,
    Drip,
    EarlySay,
    FalseTls,
    Flood,
    Garbage,
    Half,
    Hang,
    Mixed,
    Ok,
    Reset,
    Say,
    Script,
    StopReading,
    Surplus,
    Turn,
)
from smtpguard.sandbox.server import DEFAULT_KEYWORDS, Sandbox

__all__ = [
    "DEFAULT_KEYWORDS",
    "Action",
    "After",
    "Close",
    "CloseAfter",
    "CommitThenClose",
    "Delay",
    "Drip",
    "EarlySay",
    "FalseTls",
    "Flood",
    "Garbage",
    "Half",
    "Hang",
    "Lifelike",
    "Message",
    "Mixed",
    "Ok",
    "Reset",
    "Sandbox",
    "Say",
    "Script",
    "StopReading",
    "Surplus",
    "Turn",
    "lifelike",
]
