"""`smtpguard explain ID|QUEUE-ID`: what happened to a message, why, what to do, and whether we had warned.

Asked of the history that the configuration names; of a queue id each attempt is told, the newest first, and of mail
that was accepted what DSNs told later. Nothing is changed. With --json one object a transaction and line, as
`/api/v1/rejections/{id}` has it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from smtpguard.cli.store import asked
from smtpguard.cli.tally import many, rfc3339
from smtpguard.cli.width import folded
from smtpguard.history import told
from smtpguard.history.account import Account, Remembered, accounts, notices
from smtpguard.history.report import is_enforced
from smtpguard.history.tables import FindingRow, NoticeRow, RefusalRow, TransactionRow
from smtpguard.mail.reply import clean
from smtpguard.policy import Hold, Route, Suppression, Throttle

LATELY_S: Final = 86_400.0
MAX_SHOWN: Final = 20
"""Refusals of one transaction for a person; JSON has all."""

Row = tuple[str, str]
"""A label and a value; a row without a label is a heading."""


def tell(url: str, id: str, *, now: float, as_json: bool, color: bool, width: int = 0) -> bool:
    """Print what the history at `url` has of an id; whether it has any. StoreError where it cannot be asked.

    `width`: columns of the terminal, where lines are folded between words; 0 folds nothing.
    """
    with asked(url) as database:
        found = accounts(database, id, now - LATELY_S)
        later = () if found else notices(database, id)
    if as_json:
        for account in found:
            print(json.dumps(told.account(account), ensure_ascii=False))
        if later:
            print(json.dumps({"notices": list(map(told.notice, later))}, ensure_ascii=False))
    else:
        groups = [group for account in found for group in _told(account)]
        groups += [[("", f"{id}: nothing was refused"), *map(_later, later)]] if later else []
        print(
            "\n\n".join("\n".join(_lines(group, color=color, width=width)) for group in groups),
            end="\n" if groups else "",
        )
    return bool(found or later)


def _lines(group: list[Row], *, color: bool, width: int) -> Iterator[str]:
    for label, value in group:
        text = clean(value, utf8=True)
        if label:
            yield folded(f"{label + ':':12} {text}", width, indent=13)
        elif text:
            text = folded(text, width)
            yield f"\x1b[1m{text}\x1b[0m" if color else text


def _told(account: Account) -> Iterator[list[Row]]:
    row = account.event.transaction
    gone = "; the client was gone" if row.client_gone else ""
    hop = f", {row.ms_next_hop:,.0f} of them at next hop {row.next_hop}" if row.next_hop else ""
    yield _known(
        ("", f"{row.id}  {rfc3339(row.at)}  {row.outcome}"),
        ("From", row.sender),
        ("Queue id", row.queue_id),
        ("Message-ID", row.message_id),
        ("Recipients", f"{row.accepted:,} accepted, {row.refused:,} refused{gone}"),
        ("Took", f"{row.ms:,.0f} ms{hop}"),
    )
    refusals = list(zip(account.event.refusals, account.lately, account.standings, strict=True))
    for refusal, lately, standing in refusals[:MAX_SHOWN]:
        yield _refusal(refusal, lately, standing)
    if (rest := len(refusals) - MAX_SHOWN) > 0:
        yield [("", f"and {many(rest, 'refusal')} more (--json has all)")]
    if account.event.findings:
        yield [("We warned", _warned(finding, account.event.transaction)) for finding in account.event.findings]
    if account.notices:
        yield [_later(notice) for notice in account.notices]


def _refusal(row: RefusalRow, lately: int, standing: Remembered | None) -> list[Row]:
    code = row.code or (row.answer if not row.failure else 0)  # what we refused ourselves has our own words
    said = " ".join(part for part in (str(code or ""), row.enhanced, row.text) if part)
    to = row.rcpt or (many(row.rcpts, "recipient") if row.rcpts else "")
    by = row.host or ("smtpguard" if row.source != "next_hop" else row.next_hop or "the next hop")
    provider = f" ({row.provider})" if row.provider not in ("", "other") else ""
    rule = f", rule {row.rule}" if row.rule else ""
    ours = f", of {row.source}" if row.source != "next_hop" else ""
    got = f"{row.answer}{ours}" if row.answer and (ours or row.answer != row.code) else ""
    return _known(
        ("", said or row.failure),
        ("To", to),
        ("Refused", f"{by}{provider}, at {row.verb}"),
        ("Cause", row.cause),
        ("What to do", row.fix),
        ("Category", f"{row.category} ({row.confidence:.0%}{rule})"),
        ("Reference", row.reference),
        ("Fault", row.failure),
        ("The MTA got", got),
        ("Policy", f"{row.action}: {_done(row, standing)}" if row.action else ""),
        ("Lately", f"{many(lately, 'time')} in 24 hours, at this provider and for this sender domain"),
    )


def _done(row: RefusalRow, standing: Remembered | None) -> str:
    """What policy did, and what is left of it now."""
    if row.action == "reroute" and not row.answer:
        return f"tried at once by next hop {row.detour or '(none took it over)'}"
    if isinstance(standing, Route):
        return f"the retry goes by next hop {standing.next_hop}, till {rfc3339(standing.until)}"
    if standing is not None:
        times = f"since {rfc3339(standing.since)} till {rfc3339(standing.until)}"
        probe = f", the next attempt from {rfc3339(standing.probe_at)} on" if isinstance(standing, Hold) else ""
        return f"{_STANDS[type(standing)]} {times}{probe}"
    if row.action == "suppress" and row.source == "next_hop":
        return "a strike against the address, which is not suppressed now"
    return _OVER[row.action]


_STANDS: Final = {Hold: "held", Throttle: "slowed down", Suppression: "suppressed"}
_OVER: Final = {
    "defer": "held back; it is held no more",
    "throttle": "slowed down; that is over",
    "suppress": "refused here; it is suppressed no more",
    "reroute": "the retry was to go by another next hop",
}


def _warned(row: FindingRow, of: TransactionRow) -> str:
    """`HDR001 error: there is no From: field (observed; enforcing answers 550; the next hop rejected it)`."""
    acted = "observed" if row.action == "observe" else row.action
    whence = "enforcing" if is_enforced(row) else "reject in [lint.rules]"
    would = f"; {whence} answers {row.answer}" if row.action == "observe" and row.answer else ""
    what = f"{of.refused} of {of.accepted + of.refused}" if of.accepted and of.refused and not row.rcpt else "it"
    outcome = f"; the next hop {row.outcome} {what}" if row.outcome else ""
    return f"{row.rule} {row.severity}: {row.message} ({acted}{would}{outcome})"


def _later(row: NoticeRow) -> Row:
    said = " ".join(part for part in (str(row.code or ""), row.enhanced, row.text) if part)
    whom = f" for {row.rcpt}" if row.rcpt else ""
    by = f" by {row.host}" if row.host else ""
    about = f" ({row.category or row.feedback})" if row.category or row.feedback else ""
    return "Later", f"{rfc3339(row.at)} {row.kind}: {row.action}{whom}{by}{about}" + (f": {said}" if said else "")


def _known(*rows: Row) -> list[Row]:
    return [(label, value) for label, value in rows if value]
