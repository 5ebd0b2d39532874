"""From a finished record, or a notice, to the rows and counts that are kept of it.

Addresses are kept as `privacy.addresses` shows them, beside their keyed hash; where even the domain may not be seen
(`hash`), its hash stands in its place, so that counts by domain stay possible. Texts went through `Masker.text` and are
at most TEXT_LIMIT characters long. A delivery that was simply accepted is a count, never a row. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, NamedTuple, Protocol

from smtpguard.classify import Classification, provider_of
from smtpguard.classify.notice import REFUSED, Notice
from smtpguard.history.tables import (
    ACCEPTANCES,
    FINDINGS,
    NOTICES,
    REFUSALS,
    TALLIES,
    TRANSACTIONS,
    VERDICTS,
    FindingRow,
    NoticeRow,
    RefusalRow,
    Table,
    TransactionRow,
    slot_of,
)
from smtpguard.mail.reply import clean
from smtpguard.mail.session import domain_of
from smtpguard.mail.trouble import readable
from smtpguard.policy import unexplained
from smtpguard.record import Masker, Record, Refusal
from smtpguard.record.masker import MARKS

TEXT_LIMIT: Final = 1024
NAME_LIMIT: Final = 255  # of a domain, a queue id, a host
ID_LIMIT: Final = 998  # of a Message-ID: RFC 5322 2.1.1
MAX_FINDINGS: Final = 100  # of one message


class Coded(Protocol):
    """An SMTP code in something."""

    @property
    def code(self) -> int: ...


class Finding(Protocol):
    """What the history keeps of a finding of lint."""

    @property
    def rule(self) -> str: ...
    @property
    def severity(self) -> str: ...
    @property
    def action(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def answer(self) -> Coded | None: ...
    @property
    def rcpt(self) -> bytes | None: ...


Counts = dict[tuple[Table[Any], tuple[Any, ...]], int]
"""(table, the row without its last column) -> how many."""


class Kept(NamedTuple):
    """What is kept of one thing that happened: rows with their tables, and what it adds to the counts."""

    rows: list[tuple[Table[Any], tuple[Any, ...]]]
    counts: Counts


def add(counts: Counts, more: Counts) -> None:
    """Add `more` to `counts`."""
    for key, count in more.items():
        counts[key] = counts.get(key, 0) + count


Taken = tuple[int, bytes, str]
"""Accepted mail as the mail path counts it: slot, the sender's domain as given, the host that took it."""


def count_taken(taken: dict[Taken, int], record: Record) -> None:
    """Count the accepted recipients of a transaction."""
    slot, sender = slot_of(record.at), record.envelope.mail_from
    domain = sender.rpartition(b"@")[2] if b"@" in sender else b""
    for accepted in record.accepted:
        key = (slot, domain, accepted.hop.host)
        taken[key] = taken.get(key, 0) + 1


def acceptances(taken: Mapping[Taken, int], masker: Masker) -> Counts:
    """What accepted mail adds to the counts."""
    counts: Counts = {}
    for (slot, domain, host), count in taken.items():
        key = (ACCEPTANCES, (slot, provider_of(host), shown_domain(masker, domain_of(b"@" + domain))))
        counts[key] = counts.get(key, 0) + count
    return counts


def of_record(record: Record, findings: Sequence[Finding], masker: Masker) -> Kept:
    """What is kept of a transaction. What was said before a detour counts too, with 0 for the MTA's answer."""
    slot = slot_of(record.at)
    sender = _who(masker, record.envelope.mail_from)
    taken: dict[Taken, int] = {}
    count_taken(taken, record)
    counts = acceptances(taken, masker)
    rows: list[tuple[Table[Any], tuple[Any, ...]]] = []
    if record.refusals or record.diverted or findings or (record.outcome != "accepted" and record.envelope.rcpts):
        rows.append((TRANSACTIONS, _transaction(record, sender)))
    diverted = len(record.diverted)
    for position, refusal in enumerate((*record.diverted, *record.refusals) if diverted else record.refusals):
        row = _refusal(record, refusal, position, masker, is_told=position >= diverted)
        rows.append((REFUSALS, row))
        code = row.code or row.answer
        enhanced = row.enhanced if row.code else str(refusal.answer.enhanced or "")
        tally = (slot, row.category, row.provider, sender.domain, code, enhanced, row.answer, row.source)
        refused = (TALLIES, tally)
        counts[refused] = counts.get(refused, 0) + (refusal.count or 1)
    for position, finding in enumerate(findings[:MAX_FINDINGS]):
        found = _finding(record, finding, position, masker)
        rows.append((FINDINGS, found))
        verdict = (VERDICTS, (slot, found.rule, found.severity, found.action, found.answer, found.outcome))
        counts[verdict] = counts.get(verdict, 0) + 1
    return Kept(rows, counts)


def shown_domain(masker: Masker, domain: str) -> str:
    """A domain as it may be kept."""
    if not domain:
        return ""
    if masker.mode == "hash":
        return masker.id(domain.encode("utf-8", "replace"))
    return _name(domain)


class _Who(NamedTuple):
    """An address as it is kept."""

    shown: str
    id: str
    domain: str


_NOBODY: Final = _Who("", "", "")


@lru_cache(maxsize=8192)  # senders come again and again
def _who(masker: Masker, path: bytes) -> _Who:
    return _Who(masker.show(path), masker.id(path), shown_domain(masker, domain_of(path)))


def _text(text: str, masker: Masker, paths: Sequence[bytes] = ()) -> str:
    """Foreign text as it is kept: harmless, short, its addresses shown as `privacy.addresses` allows."""
    return masker.text(text, paths)[:TEXT_LIMIT]


@lru_cache(maxsize=1024)
def _of_nobody(text: str) -> str | None:
    """The words of a rule as they are kept, which come again and again; None where they may name somebody."""
    return None if MARKS.search(text) else clean(text[:TEXT_LIMIT], utf8=True)


def as_kept(row: Any, masker: Masker) -> Any:
    """A row of what policy remembers as it is kept: what it quotes of what was said made fit, and what that meant."""
    quoted = {name: _text(getattr(row, name), masker) for name in ("text", "cause", "fix") if hasattr(row, name)}
    return row._replace(**quoted) if quoted else row


def _name(text: str) -> str:
    return clean(text[:NAME_LIMIT], utf8=True)


def _transaction(record: Record, sender: _Who) -> TransactionRow:
    envelope = record.envelope
    return TransactionRow(
        record.id,
        record.at,
        record.outcome,
        record.session.door,
        _name(envelope.queue_id),
        clean(record.message_id[:ID_LIMIT], utf8=True),
        *sender,
        record.next_hop,
        len(record.accepted),
        record.refused,
        record.size,
        round(record.duration_s * 1e3, 3),
        round(record.receive_s * 1e3, 3),
        round(record.next_hop_s * 1e3, 3),
        int(record.client_gone),
    )


def _refusal(record: Record, refusal: Refusal, position: int, masker: Masker, *, is_told: bool) -> RefusalRow:
    said, failure, meaning, rcpt = refusal.said, refusal.failure, refusal.classification, refusal.rcpt
    rcpts = (rcpt,) if rcpt is not None else tuple(recipient.path for recipient in record.envelope.rcpts)
    paths = (*rcpts, record.envelope.mail_from)
    if said is not None:
        text = said.text
    else:
        text = readable(failure.detail) if failure is not None else unexplained(refusal.answer)
    return RefusalRow(
        record.id,
        position,
        record.at,
        refusal.verb.value,
        said.code if said is not None else 0,
        str(said.enhanced or "") if said is not None else "",
        _text(text, masker, paths),
        refusal.answer.code if is_told else 0,
        meaning.category,
        meaning.rule,
        round(meaning.confidence, 3),
        meaning.provider,
        _of_nobody(meaning.cause) or _text(meaning.cause, masker, paths),
        _of_nobody(meaning.fix) or _text(meaning.fix, masker, paths),
        clean(meaning.reference[:TEXT_LIMIT]),
        refusal.source,
        *(_who(masker, rcpt) if rcpt is not None else _NOBODY),
        refusal.count,
        _name(refusal.hop.host) if refusal.hop is not None else "",
        refusal.hop.next_hop if refusal.hop is not None else record.next_hop,
        failure.kind.value if failure is not None else "",
        refusal.action,
        "" if is_told else _detour(record, refusal),
    )


def _detour(record: Record, refusal: Refusal) -> str:
    """The next hop that was tried instead: the other one that spoke of this recipient; "" where none came to it."""
    hops = (
        *(each.hop for each in record.accepted if refusal.rcpt in (None, each.rcpt)),
        *(each.hop for each in record.refusals if refusal.rcpt is None or each.rcpt in (None, refusal.rcpt)),
    )
    first = refusal.hop.next_hop if refusal.hop is not None else ""
    return next((hop.next_hop for hop in hops if hop is not None and hop.next_hop != first), "")


def _finding(record: Record, finding: Finding, position: int, masker: Masker) -> FindingRow:
    rcpt = finding.rcpt
    paths = (*((rcpt,) if rcpt is not None else ()), record.envelope.mail_from)
    return FindingRow(
        record.id,
        position,
        record.at,
        finding.rule,
        str(finding.severity),
        str(finding.action),
        finding.answer.code if finding.answer is not None else 0,
        _text(finding.message, masker, paths),
        *(_who(masker, rcpt) if rcpt is not None else _NOBODY)[:2],
        _outcome(record, rcpt),
    )


def _outcome(record: Record, rcpt: bytes | None) -> str:
    """What the next hop said to this mail, or to this recipient of it: a refusal of any weighs more than a 2xx."""
    said = {
        refusal.said.klass
        for refusal in (*record.refusals, *record.diverted)
        if refusal.source == "next_hop" and refusal.said is not None and (rcpt is None or refusal.rcpt in (None, rcpt))
    }
    if 5 in said:
        return "rejected"
    if 4 in said:
        return "deferred"
    taken = record.accepted if rcpt is None else [each for each in record.accepted if each.rcpt == rcpt]
    return "accepted" if taken else ""


# --- notices -------------------------------------------------------------------------------------------------------


def of_notice(notice: Notice, meaning: Classification | None, masker: Masker, now: float) -> Kept:
    """What is kept of a notice, read `now`; `meaning` is of its refusal, None where it is none.

    A refusal that bears an event id of ours, or that this server said itself, was counted when it happened.
    """
    rcpt, sender = (text.encode("utf-8", "replace") for text in (notice.recipient, notice.sender))
    paths = tuple(path for path in (rcpt, sender) if path)
    reply = notice.reply
    row = NoticeRow(
        _notice_id(notice),
        now if notice.when is None else min(notice.when, now),
        notice.kind,
        notice.action,
        _name(notice.id),
        _name(notice.queue_id),
        clean(notice.message_id[:ID_LIMIT], utf8=True),
        *(_who(masker, sender) if sender else _NOBODY)[:2],
        *(_who(masker, rcpt) if rcpt else _NOBODY),
        reply.code if reply is not None and notice.has_code else 0,
        str(reply.enhanced or "") if reply is not None else "",
        _text(reply.text, masker, paths) if reply is not None else "",
        meaning.category if meaning is not None else "",
        meaning.rule if meaning is not None else "",
        meaning.provider if meaning is not None else provider_of(notice.host),
        _name(notice.host),
        _name(notice.feedback),
    )
    counts: Counts = {}
    if meaning is not None and notice.action in REFUSED and not notice.id and not notice.inbound:
        domain = _who(masker, sender).domain
        code = reply.code if reply is not None else 0
        tally = (slot_of(row.at), row.category, row.provider, domain, code, row.enhanced, 0, "notice")
        counts[TALLIES, tally] = 1
    return Kept([(NOTICES, row)], counts)


def _notice_id(notice: Notice) -> str:
    """The same for the same notice, however often it is read."""
    said = str(notice.reply) if notice.reply is not None else ""
    parts = (notice.kind, notice.action, notice.recipient, notice.message_id, notice.queue_id, str(notice.when), said)
    return blake2b("\0".join(parts).encode("utf-8", "replace"), digest_size=12).hexdigest()
