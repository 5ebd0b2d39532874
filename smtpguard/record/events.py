"""A record as flat log lines (contract 4): keys of the Elastic Common Schema, `smtp.*` and `smtpguard.*` beside them.

Nothing here raises on foreign text. What a line holds of the world outside went through `mail.reply.clean`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from smtpguard.classify import Classification, provider_of
from smtpguard.mail.reply import Hop, Reply
from smtpguard.mail.trouble import readable
from smtpguard.policy import Suppression
from smtpguard.record.masker import MARKS, TEXT_LIMIT, Masker, plain
from smtpguard.record.record import Outcome, Record, Refusal

Level = Literal["debug", "info", "warning", "error"]
Deliveries = Literal["all", "problems"]


_NONE: Final[Mapping[str, object]] = MappingProxyType({})


class Event(NamedTuple):
    """One log line: `action` is contract 4's `event.action`, beside it flat keys, never null.

    The keys come in three parts, none of which has a key of another. `common` and `shared` are the same objects in
    lines that say the same: a thousand recipients are one line a thousand times, and need be written out but once.
    """

    action: str
    level: Level
    message: str
    shared: Mapping[str, object]
    own: Mapping[str, object] = _NONE
    common: Mapping[str, object] = _NONE

    @property
    def fields(self) -> dict[str, object]:
        """All keys of the line."""
        return {**self.common, **self.shared, **self.own}


FIELDS: Final[Mapping[str, str]] = {
    "event.id": "the transaction, as in the reply's Id",
    "event.outcome": "success, failure; unknown: the next hop may have the message or not (RFC 1047)",
    "event.duration": "nanoseconds from MAIL to the end",
    "source.ip": "the MTA; absent on a Unix socket",
    "source.port": "",
    "server.address": "the next hop's host that answered",
    "server.port": "",
    "error.type": "of a hop failure: its kind",
    "error.code": "the EHLO keyword that the next hop lacks",
    "error.message": "what went wrong, for a person",
    "rule.id": "the classification rule that matched",
    "rule.reference": "where it is documented",
    "email.message_id": "",
    "smtp.verb": "the command that was answered",
    "smtp.mail_from": "as privacy.addresses allows; <> is the null sender",
    "smtp.rcpt_to": "as privacy.addresses allows",
    "smtp.rcpt_id": "keyed hash of the recipient: stays searchable",
    "smtp.queue_id": "the MTA's, by XFORWARD",
    "smtp.next_hop_queue_id": "the next hop's, out of its 2xx text",
    "smtp.reply.code": "what the next hop said; absent where it said nothing usable",
    "smtp.reply.enhanced": "",
    "smtp.reply.text": "",
    "smtp.size": "octets of the message",
    "smtp.rcpt.accepted": "how many",
    "smtp.rcpt.refused": "how many; 0: refused before any RCPT",
    "tls.version": "of the connection the line is about: the MTA's in transaction, the next hop's in recipient-*",
    "smtpguard.session": "the connection from the MTA",
    "smtpguard.source": "who refused: next_hop, lint, suppression, policy, internal",
    "smtpguard.category": "",
    "smtpguard.permanence": "",
    "smtpguard.confidence": "0 to 1",
    "smtpguard.provider": "",
    "smtpguard.responsible": "who can fix it",
    "smtpguard.cause": "",
    "smtpguard.fix": "",
    "smtpguard.retry_after": "seconds, where the next hop named them",
    "smtpguard.action": "what policy made of a refusal: defer, throttle, suppress, reroute",
    "smtpguard.findings": "codes of the lint rules that found something",
    "smtpguard.answer": "the code that the MTA got where it is not the next hop's",
    "smtpguard.next_hop": "its name in the configuration; several in transaction are joined by commas",
    "smtpguard.ms.receive": "milliseconds",
    "smtpguard.ms.lint": "milliseconds",
    "smtpguard.ms.next_hop": "milliseconds",
}
"""Every key that `events` may write, and what it holds where the name does not say. All are contract 4's but
`error.message` and `smtpguard.ms.receive`, which it has no name for."""

# ECS event.outcome knows three words. `unknown` is RFC 1047's case alone: the next hop may have the message or not.
_OUTCOMES: Final[Mapping[Outcome, str]] = {
    "accepted": "success",
    "refused": "failure",
    "deferred": "failure",
    "partial": "failure",
    "aborted": "failure",
    "unknown": "unknown",
}


# Where the 2xx of well-known servers holds their queue id. RFC 5321 leaves that text free.
_ID: Final = r"([0-9A-Za-z][0-9A-Za-z_.=+/@-]{2,127})"
_QUEUED_AS: Final = re.compile(rf"ueued as {_ID}")  # Postfix, KumoMTA: "2.0.0 Ok: queued as 4XyZ1a2b3c"
_QUEUE_ID: Final = re.compile(
    rf"\bid={_ID}"  # Exim: "OK id=1tEabc-0000000Dxy-2aBc"
    rf"|\[InternalId={_ID}"  # Exchange: "2.6.0 <...> [InternalId=8125, Hostname=mb.example.org] Queued mail"
    rf"|(?:^|\s){_ID} - gsmtp"  # Google: "2.0.0 OK  1732270000 af79cd13be357-7b2 - gsmtp"
    rf"|(?:^|\s){_ID} Message accepted for delivery"  # Sendmail, OpenSMTPD
    rf"|\bqp {_ID}"  # qmail: "ok 1732270000 qp 21345"
)


def next_hop_queue_id(reply: Reply) -> str:
    """The queue id that the next hop's 2xx text names; "" where it names none we know how to find."""
    if reply.klass != 2:
        return ""
    text = reply.text[:TEXT_LIMIT]
    found = _QUEUED_AS.search(text) or _QUEUE_ID.search(text)
    return found[found.lastindex or 0].rstrip(".") if found else ""


def events(record: Record, masker: Masker, *, deliveries: Deliveries = "all") -> list[Event]:
    """The log lines of one transaction: one a recipient, those of refused messages, and `transaction` at the end.

    With `deliveries` = "problems" accepted recipients have no line of their own.
    """
    common = _common(record, masker)
    lines: list[Event] = []
    if deliveries == "all" and record.accepted:
        _accepted_events(record, masker, common, lines)
    for refusal in record.refusals:
        lines.append(_refused_event(record, refusal, masker, common))
        if refusal.action and refusal.source == "next_hop":  # what is answered here of a hold was told when it began
            lines.append(_applied_event(record, refusal, masker, common))
        if refusal.suppressed is not None:
            lines.append(_suppressed_event(refusal.suppressed, common))
    for refusal in record.diverted:
        lines.append(_applied_event(record, refusal, masker, common))
    lines.append(_transaction_event(record, common))
    return lines


def _common(record: Record, masker: Masker) -> dict[str, object]:
    """What all lines of a transaction say."""
    session, envelope = record.session, record.envelope
    common: dict[str, object] = {
        "event.id": record.id,
        "smtpguard.session": session.id,
        "smtp.mail_from": masker.show(envelope.mail_from),
    }
    if session.peer_ip:
        common["source.ip"] = session.peer_ip
    if session.peer_port:
        common["source.port"] = session.peer_port
    if envelope.queue_id:
        common["smtp.queue_id"] = plain(envelope.queue_id)
    if record.message_id:
        common["email.message_id"] = plain(record.message_id)
    return common


def _transaction_event(record: Record, common: Mapping[str, object]) -> Event:
    accepted, refused, outcome = len(record.accepted), record.refused, record.outcome
    fields: dict[str, object] = {
        "event.outcome": _OUTCOMES[outcome],
        "event.duration": round(record.duration_s * 1e9),  # ECS: nanoseconds
        "smtp.size": record.size,
        "smtp.rcpt.accepted": accepted,
        "smtp.rcpt.refused": refused,
        "smtpguard.ms.receive": round(record.receive_s * 1e3, 3),
        "smtpguard.ms.next_hop": round(record.next_hop_s * 1e3, 3),
    }
    if record.findings:
        fields["smtpguard.findings"] = sorted({finding.rule for finding in record.findings})
    if record.lint_s:
        fields["smtpguard.ms.lint"] = round(record.lint_s * 1e3, 3)
    if record.next_hop:
        fields["smtpguard.next_hop"] = record.next_hop
    if record.session.tls_version:
        fields["tls.version"] = record.session.tls_version
    gone = ", client gone" if record.client_gone else ""
    message = f"{outcome}: {accepted} accepted, {refused} refused{gone}"
    return Event("transaction", "info", message, fields, common=common)


def _accepted_events(record: Record, masker: Masker, common: Mapping[str, object], lines: list[Event]) -> None:
    """A line a recipient; what recipients with one reply share is put together once."""
    said: Reply | None = None
    by: Hop | None = None
    shared: dict[str, object] = {}
    names_somebody, message = False, ""
    for rcpt, reply, hop in record.accepted:
        if reply is not said or hop is not by:
            said, by = reply, hop
            shared, names_somebody = _taken(reply, hop, masker)
            message = f"accepted by {plain(hop.host)}"
        own: dict[str, object] = {"smtp.rcpt_to": masker.show(rcpt), "smtp.rcpt_id": masker.id(rcpt)}
        if names_somebody:
            own["smtp.reply.text"] = masker.text(reply.text, (rcpt, record.envelope.mail_from))
        if len(record.accepted) == 1:  # nobody to share with
            shared.update(own)
            own = {}
        lines.append(Event("recipient-accepted", "info", message, shared, own, common))


def _taken(reply: Reply, hop: Hop, masker: Masker) -> tuple[dict[str, object], bool]:
    """What is said of all who were taken with one reply, and whether its text, left out then, names somebody."""
    text = reply.text
    names_somebody = masker.mode != "full" and MARKS.search(text) is not None
    shared = {**_about(hop), "event.outcome": "success", "smtp.verb": reply.verb.value, "smtp.reply.code": reply.code}
    if reply.enhanced:
        shared["smtp.reply.enhanced"] = str(reply.enhanced)
    if text and not names_somebody:
        shared["smtp.reply.text"] = plain(text)
    shared["smtpguard.provider"] = provider_of(hop.host)
    if queue_id := next_hop_queue_id(reply):
        shared["smtp.next_hop_queue_id"] = queue_id
    return shared, names_somebody


def _refused_event(record: Record, refusal: Refusal, masker: Masker, common: Mapping[str, object]) -> Event:
    said, failure, meaning, rcpt = refusal.said, refusal.failure, refusal.classification, refusal.rcpt
    paths = _about_whom(record, rcpt)
    fields = {
        "event.outcome": "unknown" if failure is not None and failure.unknown else "failure",
        "smtp.verb": refusal.verb.value,
        "smtpguard.answer": refusal.answer.code if said is None or said.code != refusal.answer.code else None,
        "smtpguard.next_hop": record.next_hop,
        "smtpguard.source": refusal.source,
        "smtpguard.action": refusal.action,
        **meant(meaning, masker, paths),
    }
    if rcpt is None:
        fields["smtp.rcpt.refused"] = refusal.count
    else:
        fields["smtp.rcpt_to"] = masker.show(rcpt)
        fields["smtp.rcpt_id"] = masker.id(rcpt)
    if said is not None:
        fields |= said_fields(said, masker, paths)
    if refusal.rule:
        fields["rule.id"] = refusal.rule
    if failure is not None:
        fields["error.type"] = failure.kind.value
        fields["error.code"] = failure.keyword
        fields["error.message"] = masker.text(readable(failure.detail), paths)
    if refusal.hop is not None:
        fields |= _about(refusal.hop)
    return Event("recipient-refused", "warning", _refused_message(refusal), _present(fields), common=common)


def _applied_event(record: Record, refusal: Refusal, masker: Masker, common: Mapping[str, object]) -> Event:
    """What policy made of a refusal. A reroute is told here alone: the MTA was not."""
    rcpt, said = refusal.rcpt, refusal.said
    paths = _about_whom(record, rcpt)
    fields: dict[str, object] = {
        "smtp.verb": refusal.verb.value,
        "smtpguard.action": refusal.action,
        "smtpguard.category": refusal.classification.category,
        "smtpguard.provider": refusal.classification.provider,
    }
    if rcpt is not None:
        fields |= {"smtp.rcpt_to": masker.show(rcpt), "smtp.rcpt_id": masker.id(rcpt)}
    if said is not None:
        fields |= said_fields(said, masker, paths)
    if refusal.hop is not None:
        fields |= _about(refusal.hop)
    code = f"{said.code if said else refusal.answer.code} at {refusal.verb.value}"
    message = f"{refusal.action}: {code} ({refusal.classification.category})"
    return Event("policy-applied", "warning", message, fields, common=common)


def _suppressed_event(added: Suppression, common: Mapping[str, object]) -> Event:
    address = plain(added.address)
    fields = {"smtp.rcpt_to": address, "smtp.rcpt_id": added.key, "smtpguard.category": added.category}
    return Event("suppression-added", "warning", f"{address} is suppressed ({added.category})", fields, common=common)


def _about_whom(record: Record, rcpt: bytes | None) -> tuple[bytes, ...]:
    """Whose addresses a refusal of this recipient may quote; None: of all."""
    rcpts = (rcpt,) if rcpt is not None else tuple(recipient.path for recipient in record.envelope.rcpts)
    return (*rcpts, record.envelope.mail_from)


def _refused_message(refusal: Refusal) -> str:
    """As in `rejected at RCPT by mx.example.net: 550 5.1.1 (recipient.unknown)`; the text is a field of its own."""
    what = "deferred" if refusal.answer.klass == 4 else "rejected"
    by = f" by {plain(refusal.hop.host)}" if refusal.hop and refusal.said else ""
    why = f", {refusal.failure.kind.value} at {refusal.failure.verb.value}" if refusal.failure else ""
    code = f"{refusal.answer.code} {refusal.answer.enhanced or ''}".rstrip()
    return f"{what} at {refusal.verb.value}{by}: {code} ({refusal.classification.category}{why})"


def meant(meaning: Classification, masker: Masker, paths: tuple[bytes, ...]) -> dict[str, object]:
    """What a refusal means, as log fields; the addresses `paths` masked in the texts. Absent values are None or ""."""
    return {
        "smtpguard.category": meaning.category,
        "smtpguard.permanence": meaning.permanence,
        "smtpguard.confidence": round(meaning.confidence, 3),
        "smtpguard.provider": meaning.provider,
        "smtpguard.responsible": meaning.responsible,
        "smtpguard.cause": masker.text(meaning.cause, paths),
        "smtpguard.fix": masker.text(meaning.fix, paths),
        "smtpguard.retry_after": meaning.retry_after,
        "rule.id": meaning.rule,
        "rule.reference": plain(meaning.reference),
    }


def said_fields(reply: Reply, masker: Masker, paths: tuple[bytes, ...]) -> dict[str, object]:
    """What was said, as log fields; the addresses `paths` masked in the text."""
    fields: dict[str, object] = {"smtp.reply.code": reply.code}
    if reply.enhanced:
        fields["smtp.reply.enhanced"] = str(reply.enhanced)
    text = masker.text(reply.text, paths)
    if text:
        fields["smtp.reply.text"] = text
    return fields


@lru_cache(maxsize=256)
def _about(hop: Hop) -> Mapping[str, object]:
    return _present(
        {
            "server.address": plain(hop.host),
            "server.port": hop.port or None,
            "tls.version": hop.tls_version,
            "smtpguard.next_hop": hop.next_hop,
        }
    )


def _present(fields: Mapping[str, object]) -> dict[str, object]:
    """Absent rather than null (contract 4); nothing is said by an empty text either."""
    return {key: value for key, value in fields.items() if value is not None and value != ""}
