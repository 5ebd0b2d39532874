"""A transaction as one record: what came, what was said, what the MTA got; and the log lines that tell it.

`flow.py` fills a `Record`; log, metrics and history read it; it decides nothing. `events` turns it into the flat lines
of contract 4 (keys of the Elastic Common Schema, `smtp.*` and `smtpguard.*` beside them), and `Masker` is the one place
that knows what of an address may be seen (`privacy.addresses`). Pure: no clock, no socket, no log.

Nothing here raises on foreign text. What a line holds of the world outside went through `mail.reply.clean`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Final, Literal, NamedTuple

from smtpguard.classify import Classification
from smtpguard.mail.reply import Hop, HopFailure, Reply, Verb, clean
from smtpguard.mail.session import Envelope, Session

Outcome = Literal["accepted", "refused", "deferred", "partial", "aborted", "unknown"]
Source = Literal["next_hop", "lint", "suppression", "policy", "internal"]
Level = Literal["debug", "info", "warning", "error"]
AddressMode = Literal["full", "mask", "hash", "domain"]
Deliveries = Literal["all", "problems"]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A recipient that the next hop took, with its final 2xx."""

    rcpt: bytes
    reply: Reply
    hop: Hop


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refusal as the MTA got it (`answer`), and what was behind it.

    `rcpt` is None for a refusal of MAIL, DATA or the message; it then stands for `count` recipients (0: before any
    RCPT).
    `said` is the next hop's own reply; None where it gave no usable one (`failure`) or was not asked.
    """

    verb: Verb
    answer: Reply
    source: Source
    classification: Classification
    rcpt: bytes | None = None
    count: int = 1
    said: Reply | None = None
    failure: HopFailure | None = None
    hop: Hop | None = None


@dataclass(slots=True)
class Record:
    """A finished transaction. Times: `at` in seconds since the epoch, durations in seconds, sizes in octets."""

    id: str
    at: float
    session: Session
    envelope: Envelope
    outcome: Outcome = "aborted"
    accepted: list[Accepted] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    next_hop: str = ""
    size: int = 0
    message_id: str = ""
    client_gone: bool = False
    duration_s: float = 0.0
    receive_s: float = 0.0
    next_hop_s: float = 0.0

    @property
    def refused(self) -> int:
        """How many recipients were refused, one by one or with their message."""
        return sum(refusal.count for refusal in self.refusals)


class Event(NamedTuple):
    """One log line: `action` is contract 4's `event.action`, `fields` the flat keys beside it, never null."""

    action: str
    level: Level
    message: str
    fields: dict[str, object]


TEXT_LIMIT: Final = 2048  # characters of foreign text in one field; Postfix cuts a reply there too

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
    "smtpguard.answer": "the code that the MTA got where it is not the next hop's",
    "smtpguard.next_hop": "its name in the configuration; several in transaction are joined by commas",
    "smtpguard.ms.receive": "milliseconds",
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


class Masker:
    """Shows an address as `privacy.addresses` allows, and gives the keyed hash by which it stays searchable.

    | mode | `j.doe@Example.org` is shown as |
    | --- | --- |
    | full | `j.doe@Example.org` |
    | mask | `j***@example.org` |
    | hash | `0f7a...` (16 hex digits, the same as `id`) |
    | domain | `***@example.org` |

    The null sender is `<>` in each. `key` is a secret of the installation, at least one octet (ValueError): without it
    a hash could be looked up in a list of addresses, with another one old lines are no longer found.
    """

    def __init__(self, mode: AddressMode, key: bytes) -> None:
        if not key:
            raise ValueError("a masker needs a key")
        self.mode: Final = mode
        # blake2b takes 64 octets of key
        self._keyed = blake2b(key=key if len(key) <= 64 else blake2b(key).digest(), digest_size=8)

    def id(self, path: bytes) -> str:
        """16 hex digits: the keyed hash of a path, its domain in lower case (the local part's case may matter)."""
        local, at, domain = path.rpartition(b"@")
        keyed = self._keyed.copy()
        keyed.update(local + at + domain.lower() if at else path)
        return keyed.hexdigest()

    def show(self, path: bytes) -> str:
        r"""A path as it may be seen; octets that are not UTF-8 become `\xNN`, control characters spaces."""
        if not path:
            return "<>"
        if self.mode == "hash":
            return self.id(path)
        text = _shown(path)
        if self.mode == "full":
            return text
        local, at, domain = text.rpartition("@")
        head = (local if at else text)[:1] if self.mode == "mask" else ""
        return f"{head}***@{domain.lower()}" if at else f"{head}***"

    def text(self, text: str, paths: Sequence[bytes] = ()) -> str:
        """Foreign text made harmless and short, with the given addresses shown as `show` does, in whatever case.

        A local part alone is replaced only where it stands between brackets or quotes: many are common words.
        """
        if self.mode == "full" or not _MARKS.search(text):
            return clean(text[:TEXT_LIMIT], utf8=True)
        kept = clean(text[: 2 * TEXT_LIMIT], utf8=True)
        whole = 2 * TEXT_LIMIT - max(map(len, paths), default=0)  # half an address at the cut would not be found
        if len(text) > len(kept):
            kept = kept[:whole]
        for path in dict.fromkeys(paths):
            kept = self._hide(kept, path)
            if len(kept) > 2 * TEXT_LIMIT:  # what is shown may be longer than what it hides
                kept = kept[:whole]
        return kept[:TEXT_LIMIT]

    def _hide(self, text: str, path: bytes) -> str:
        local, at, _ = path.rpartition(b"@")
        if not at:
            local = path  # no domain: `postmaster`, or any word
        if not local or (text.isascii() and local.isascii() and local.decode().lower() not in text.lower()):
            return text  # the common case, and quick
        shown = self.show(path)
        # `Reply` decodes text as UTF-8, or as Latin-1 where any octet of a line does not fit: an address may be either
        for coding in ("utf-8",) if path.isascii() else ("utf-8", "latin-1"):
            if at:
                text = _replace(text, clean(path.decode(coding, "replace"), utf8=True), shown)
            word, hidden = clean(local.decode(coding, "replace"), utf8=True), shown.partition("@")[0]
            for opening, closing in _QUOTES:
                text = _replace(text, opening + word + closing, opening + hidden + closing)
        return text


_QUOTES: Final = (("<", ">"), ("'", "'"), ('"', '"'), ("(", ")"), ("[", "]"))
_MARKS: Final = re.compile(r"""[@<'"(\[]""")  # no address is found in a text that has none of these


def _shown(path: bytes) -> str:
    return clean(path.decode("utf-8", "backslashreplace"), utf8=True)[:TEXT_LIMIT]


def _replace(text: str, old: str, new: str) -> str:
    """`str.replace` without regard to case."""
    if not (text.isascii() and old.isascii()):  # lower() may change the length of other text
        return re.sub(re.escape(old), lambda _: new, text, flags=re.IGNORECASE)
    lowered, wanted = text.lower(), old.lower()
    found = lowered.find(wanted)
    if found < 0:
        return text
    pieces: list[str] = []
    start = 0
    while found >= 0:
        pieces += (text[start:found], new)
        start = found + len(old)
        found = lowered.find(wanted, start)
    return "".join((*pieces, text[start:]))


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
    session, envelope = record.session, record.envelope
    common = _present(
        {
            "event.id": record.id,
            "source.ip": session.peer_ip,
            "source.port": session.peer_port or None,
            "smtpguard.session": session.id,
            "smtp.queue_id": _plain(envelope.queue_id),
            "smtp.mail_from": masker.show(envelope.mail_from),
            "email.message_id": _plain(record.message_id),
        }
    )
    lines: list[Event] = []
    if deliveries == "all":
        lines += _accepted_events(record, masker, common)
    lines += [_refused_event(record, refusal, masker, common) for refusal in record.refusals]
    lines.append(_transaction_event(record, common))
    return lines


def _transaction_event(record: Record, common: Mapping[str, object]) -> Event:
    accepted, refused = len(record.accepted), record.refused
    gone = ", client gone" if record.client_gone else ""
    fields = {
        **common,
        "event.outcome": _OUTCOMES[record.outcome],
        "event.duration": round(record.duration_s * 1e9),  # ECS: nanoseconds
        "smtp.size": record.size,
        "smtp.rcpt.accepted": accepted,
        "smtp.rcpt.refused": refused,
        "smtpguard.ms.receive": round(record.receive_s * 1e3, 3),
        "smtpguard.ms.next_hop": round(record.next_hop_s * 1e3, 3),
    }
    if record.next_hop:
        fields["smtpguard.next_hop"] = record.next_hop
    if record.session.tls_version:
        fields["tls.version"] = record.session.tls_version
    message = f"{record.outcome}: {accepted} accepted, {refused} refused{gone}"
    return Event("transaction", "info", message, fields)


def _accepted_events(record: Record, masker: Masker, common: Mapping[str, object]) -> Iterator[Event]:
    """A line a recipient; what recipients with one reply share is put together once."""
    reply: Reply | None = None
    hop: Hop | None = None
    shared: dict[str, object] = {}
    names_somebody, message = False, ""
    for accepted in record.accepted:
        rcpt = accepted.rcpt
        if accepted.reply is not reply or accepted.hop is not hop:
            reply, hop = accepted.reply, accepted.hop
            queue_id = next_hop_queue_id(reply)
            shared = {
                **common,
                "event.outcome": "success",
                "smtp.verb": reply.verb.value,
                **({"smtp.next_hop_queue_id": queue_id} if queue_id else {}),
                **said_fields(reply, masker, ()),
                **_about(hop),
            }
            names_somebody = masker.mode != "full" and _MARKS.search(reply.text) is not None
            message = f"accepted by {_plain(hop.host)}"
        fields = {**shared, "smtp.rcpt_to": masker.show(rcpt), "smtp.rcpt_id": masker.id(rcpt)}
        if names_somebody:
            fields["smtp.reply.text"] = masker.text(reply.text, (rcpt, record.envelope.mail_from))
        yield Event("recipient-accepted", "info", message, fields)


def _refused_event(record: Record, refusal: Refusal, masker: Masker, common: Mapping[str, object]) -> Event:
    said, failure, meaning, rcpt = refusal.said, refusal.failure, refusal.classification, refusal.rcpt
    rcpts = (rcpt,) if rcpt is not None else tuple(recipient.path for recipient in record.envelope.rcpts)
    paths = (*rcpts, record.envelope.mail_from)
    fields = {
        **common,
        "event.outcome": "unknown" if failure is not None and failure.unknown else "failure",
        "smtp.verb": refusal.verb.value,
        "smtpguard.answer": refusal.answer.code if said is None or said.code != refusal.answer.code else None,
        "smtpguard.next_hop": record.next_hop,
        "smtpguard.source": refusal.source,
        **meant(meaning, masker, paths),
    }
    if rcpt is None:
        fields["smtp.rcpt.refused"] = refusal.count
    else:
        fields["smtp.rcpt_to"] = masker.show(rcpt)
        fields["smtp.rcpt_id"] = masker.id(rcpt)
    if said is not None:
        fields |= said_fields(said, masker, paths)
    if failure is not None:
        fields["error.type"] = failure.kind.value
        fields["error.code"] = failure.keyword
        fields["error.message"] = masker.text(failure.detail, paths)
    if refusal.hop is not None:
        fields |= _about(refusal.hop)
    return Event("recipient-refused", "warning", _refused_message(refusal), _present(fields))


def _refused_message(refusal: Refusal) -> str:
    """As in `rejected at RCPT by mx.example.net: 550 5.1.1 (recipient.unknown)`; the text is a field of its own."""
    what = "deferred" if refusal.answer.klass == 4 else "rejected"
    by = f" by {_plain(refusal.hop.host)}" if refusal.hop and refusal.said else ""
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
        "rule.reference": _plain(meaning.reference),
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
            "server.address": _plain(hop.host),
            "server.port": hop.port or None,
            "tls.version": hop.tls_version,
            "smtpguard.next_hop": hop.next_hop,
        }
    )


def _plain(text: str) -> str:
    return clean(text[:TEXT_LIMIT], utf8=True)


def _present(fields: Mapping[str, object]) -> dict[str, object]:
    """Absent rather than null (contract 4); nothing is said by an empty text either."""
    return {key: value for key, value in fields.items() if value is not None and value != ""}
