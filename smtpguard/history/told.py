"""The history as JSON: the same objects in `/api/v1/*` and in `--json` of the command line.

What is unknown is left out; times are RFC 3339 in UTC. Texts from outside were made harmless when they were kept
(rows.py), and are for JSON alone: whoever puts them into a page escapes them.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from smtpguard.edge.log import timestamp
from smtpguard.history.account import Account, Remembered
from smtpguard.history.report import Rejection, RuleLine, Summary
from smtpguard.history.tables import FindingRow, NoticeRow, RefusalRow
from smtpguard.policy import Hold, Route, Suppression, Throttle


def rejection(found: Rejection) -> dict[str, Any]:
    """A refusal with whose mail it was."""
    row = found.refusal
    return _known(
        {
            "id": row.id,
            "at": timestamp(row.at),
            "queue_id": found.queue_id,
            "message_id": found.message_id,
            "sender": found.sender,
            **_refusal(row),
        }
    )


def account(found: Account) -> dict[str, Any]:
    """A transaction with its refusals, findings and notices."""
    row = found.event.transaction
    return _known(
        {
            "id": row.id,
            "at": timestamp(row.at),
            "outcome": row.outcome,
            "door": row.door,
            "queue_id": row.queue_id,
            "message_id": row.message_id,
            "sender": row.sender,
            "sender_id": row.sender_id,
            "next_hop": row.next_hop,
            "accepted": row.accepted,
            "refused": row.refused,
            "size": row.size,
            "ms": {"total": row.ms, "receive": row.ms_receive, "next_hop": row.ms_next_hop},
            "client_gone": bool(row.client_gone),
            "refusals": [
                {**_refusal(refusal), **_standing(standing), "lately": lately}
                for refusal, lately, standing in zip(found.event.refusals, found.lately, found.standings, strict=True)
            ],
            "findings": list(map(_finding, found.event.findings)),
            "notices": list(map(notice, found.notices)),
        }
    )


def notice(row: NoticeRow) -> dict[str, Any]:
    """What a DSN or a complaint told."""
    return _known({**row._asdict(), "at": timestamp(row.at), "code": row.code or None})


def suppression(row: Suppression) -> dict[str, Any]:
    """A suppressed recipient."""
    return _known({**row._asdict(), "since": timestamp(row.since), "until": timestamp(row.until)})


def summary(found: Summary) -> dict[str, Any]:
    """Sums of a period, a line each."""
    return {
        "since": timestamp(found.since),
        "until": timestamp(found.until),
        "by": found.by,
        "accepted": found.accepted,
        "rejected": found.rejected,
        "deferred": found.deferred,
        # the null sender's domain is no name, but there
        "lines": [{"name": line.name, **_known(line._asdict())} for line in found.lines],
    }


def rules(lines: tuple[RuleLine, ...], since: float, until: float) -> dict[str, Any]:
    """The rules of lint and how well they foresaw, a line each."""
    told = [_known({**asdict(line), "precision": line.precision}) for line in lines]
    return {"since": timestamp(since), "until": timestamp(until), "by": "rule", "lines": told}


def _refusal(row: RefusalRow) -> dict[str, Any]:
    said = _known({"code": row.code or None, "enhanced": row.enhanced, "text": row.text})
    return _known(
        {
            "verb": row.verb,
            "reply": said,
            "answer": row.answer or None,
            "source": row.source,
            "action": row.action,
            "detour": row.detour,
            "category": row.category,
            "confidence": row.confidence,
            "cause": row.cause,
            "fix": row.fix,
            "rule": row.rule,
            "reference": row.reference,
            "provider": row.provider,
            "rcpt": row.rcpt,
            "rcpt_id": row.rcpt_id,
            "rcpts": row.rcpts,
            "host": row.host,
            "next_hop": row.next_hop,
            "failure": row.failure,
        }
    )


def _standing(row: Remembered | None) -> dict[str, Any]:
    """What policy remembers of it still."""
    if row is None:
        return {}
    kept: dict[str, Any] = {"since": timestamp(row.since), "until": timestamp(row.until)}
    if isinstance(row, Hold | Throttle) and row.probe_at:
        kept["probe_at"] = timestamp(row.probe_at)
    if isinstance(row, Route):
        kept["next_hop"] = row.next_hop
    return {"standing": kept}


def _finding(row: FindingRow) -> dict[str, Any]:
    whole = {name: value for name, value in row._asdict().items() if name not in ("id", "position", "at")}
    return _known({**whole, "answer": row.answer or None})


def _known(whole: dict[str, Any]) -> dict[str, Any]:
    """Without what is unknown: null, an empty text, nothing in a list."""
    return {key: value for key, value in whole.items() if value is not None and value not in ("", [], {})}
