"""Abuse reports: RFC 5965 (ARF), and RFC 6591 for reports of failed authentication.

A complaint has no reply: somebody pressed a button, or a receiver's policy asked for the report.
"""

from __future__ import annotations

from typing import Final

from smtpguard.classify.notice import dsn, mime
from smtpguard.classify.notice.mime import Part
from smtpguard.classify.notice.notice import Notice

REPORT_TYPE: Final = "message/feedback-report"


def notice(report: Part, feedback: Part) -> Notice:
    """What `feedback`, the machine-readable part of `report`, tells."""
    block = mime.fields(feedback.text().encode("utf-8", "replace"))
    original = dsn.returned(report)
    times = (mime.when(given) for given in (block.get("arrival-date", ""), report.header.get("date", "")))
    return Notice(
        "arf",
        "complaint",
        recipient=dsn.address_of(block.get("original-rcpt-to", "") or original.get("to", "")),
        sender=dsn.address_of(block.get("original-mail-from", "") or original.get("from", "")),
        host=block.get("reporting-mta", "").rpartition(";")[2].strip()[:255],
        when=next((time for time in times if time is not None), None),
        message_id=original.get("message-id", ""),
        feedback=block.get("feedback-type", "abuse").split()[0].lower()[:40],
    )
