"""A transaction as one record, and the log lines that tell it. Pure: no clock, no socket, no log.

record.py  what came, what was said, what the MTA got
masker.py  what of an address may be seen
events.py  the log lines
"""

from smtpguard.record.events import FIELDS, Deliveries, Event, Level, events, meant, next_hop_queue_id, said_fields
from smtpguard.record.masker import TEXT_LIMIT, AddressMode, Masker
from smtpguard.record.record import Accepted, Outcome, Record, Refusal, Source

__all__ = [
    "FIELDS",
    "TEXT_LIMIT",
    "Accepted",
    "AddressMode",
    "Deliveries",
    "Event",
    "Level",
    "Masker",
    "Outcome",
    "Record",
    "Refusal",
    "Source",
    "events",
    "meant",
    "next_hop_queue_id",
    "said_fields",
]
