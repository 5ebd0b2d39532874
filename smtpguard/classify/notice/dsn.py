"""Delivery status notifications: RFC 3464, and RFC 6533 for addresses that are not ASCII.

Each recipient's fields are believed before the words for people; those fill what the fields leave out: the verb (no DSN
has a field for it), and the reply where Diagnostic-Code is missing or cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from smtpguard.classify.notice import human, mime
from smtpguard.classify.notice.mime import Header, Part
from smtpguard.classify.notice.notice import REFUSED, Action, Notice
from smtpguard.classify.notice.said import Said, said
from smtpguard.mail.reply import EnhancedCode, parse_enhanced

STATUS_TYPES: Final = ("message/delivery-status", "message/global-delivery-status")
RETURNED_TYPES: Final = ("message/rfc822", "message/global", "text/rfc822-headers", "message/global-headers")
MAX_RECIPIENTS: Final = 1000

_ACTIONS: Final[dict[str, Action]] = {
    "failed": "failed",
    "delayed": "delayed",
    "delivered": "delivered",
    "relayed": "relayed",
    "expanded": "expanded",
}
_BY_CLASS: Final[dict[int, Action]] = {2: "delivered", 4: "delayed", 5: "failed"}


def notices(report: Part, status: Part) -> list[Notice]:
    """One a recipient of `status`, the delivery-status part of `report`."""
    texts = re.split(rb"\r?\n[ \t]*\r?\n", _body(status), maxsplit=MAX_RECIPIENTS + 1)[: MAX_RECIPIENTS + 1]
    blocks = [mime.fields(block) for block in texts]
    blocks = [block for block in blocks if block]
    # RFC 3464 2.1: the first block is of the message; some mailers leave it out, some write all in one
    first = blocks[0] if blocks else {}
    own = [block for block in blocks if block.keys() & {"final-recipient", "original-recipient", "action"}]
    account = human.Account(explanation(report))
    sender = _address(first.get("x-postfix-sender", "")) or address_of(report.header.get("to", ""))
    message_id = returned(report).get("message-id", "")
    at = mime.when(report.header.get("date", ""))
    arrival = mime.when(first.get("arrival-date", ""))
    seen: list[Notice] = []
    for block in own:
        last = mime.when(block.get("last-attempt-date", ""))
        told = _recipient(block, account)
        when = next((time for time in (last, at, arrival) if time is not None), None)
        action = _action(block)
        seen.append(
            Notice(
                "dsn",
                action,
                reply=told.reply if action in REFUSED else None,
                recipient=_recipient_address(block),
                sender=sender,
                host=told.host,
                verb=told.verb,
                when=when,
                message_id=message_id,
                queue_id=first.get("x-postfix-queue-id", ""),
                id=told.id,
                has_code=told.has_code,
            )
        )
    return seen


def _body(status: Part) -> bytes:
    """Some mailers put the fields in a part of their own type within a transfer encoding, or in a nested message."""
    if status.header.get("content-transfer-encoding", "7bit").lower() in ("base64", "quoted-printable"):
        return status.text().encode()
    return status.body


def explanation(report: Part) -> str:
    """The words for people: the first text part that is not the returned message; plain before HTML."""
    texts = [part for part in _before_returned(report) if part.type in ("text/plain", "text/html", "")]
    texts.sort(key=lambda part: part.type == "text/html")
    return next((text for part in texts if (text := part.text()).strip()), "")


def returned(report: Part) -> Header:
    """The header fields of the message that is returned; none if it is not there."""
    for part in report.walk():
        if part.type in RETURNED_TYPES:
            return part.parts[0].header if part.parts else mime.fields(part.body)
    return {}


def _before_returned(report: Part) -> Iterator[Part]:
    if report.type in RETURNED_TYPES:
        return
    yield report
    for part in report.parts:
        yield from _before_returned(part)


def _recipient(block: Header, account: human.Account) -> Said:
    """The reply of one recipient, the host and the verb."""
    status = status_of(block.get("status", ""))
    address = _address(block.get("final-recipient", "")) or _recipient_address(block)
    told = account.about(address, status)
    diagnostic = block.get("diagnostic-code", "")
    kind, typed, text = diagnostic.partition(";")
    best = said(text if typed and " " not in kind.strip() else diagnostic, status=status) if diagnostic else None
    if best is None or not best.reply.text or (told is not None and _says_more(told, best)):
        best = told or best or said("", status=status)
    host = best.host
    if told is not None and told.reply.klass == best.reply.klass:
        host = host or told.host
        if best.verb is None and told.verb is not None:
            best = best._replace(verb=told.verb, reply=replace(best.reply, verb=told.verb))
        best = best._replace(id=best.id or told.id)
    if best.is_relayed:  # Remote-MTA is smtpguard then
        return best
    return best._replace(host=_host(block.get("remote-mta", "")) or host)


def _says_more(told: Said, field: Said) -> bool:
    """Whether the words for people give a reply that the field lacks, or the whole of one that it cuts."""
    if not told.has_code:
        return False
    if not field.has_code:
        return told.reply.klass == field.reply.klass and not field.host
    head = field.reply.text.rstrip(" .\u2026")
    return told.reply.code == field.reply.code and len(told.reply.text) > len(head) and told.reply.text.startswith(head)


def _action(block: Header) -> Action:
    word = re.match(r"[a-z]*", block.get("action", "").strip().lower())
    if word is not None and (action := _ACTIONS.get(word[0])):
        return action
    status = status_of(block.get("status", ""))
    return _BY_CLASS[status.klass] if status is not None else "failed"


def status_of(value: str) -> EnhancedCode | None:
    """RFC 3464 2.3.4; mailers write comments behind it."""
    return parse_enhanced(value.strip())[0]


def _recipient_address(block: Header) -> str:
    """The address that the sender wrote, else the one at the end of forwarding."""
    original = _address(block.get("original-recipient", ""))
    return original if "@" in original else _address(block.get("final-recipient", "")) or original


_ESCAPED = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")  # RFC 6533 3: EmbeddedUnicodeChar


def _address(value: str) -> str:
    """RFC 3464 2.3.1: `rfc822; a@example.com`; without its type and brackets."""
    kind, typed, address = value.partition(";")
    address = (address if typed else kind if "@" in kind else "").strip()
    address = address.removeprefix("<").removesuffix(">").strip()
    return _ESCAPED.sub(lambda found: chr(min(int(found[1], 16), 0xD7FF)), address)[:320]


def _host(value: str) -> str:
    """RFC 3464 2.3.5: `dns; mx.example.com`; some add `(192.0.2.1, ...)` or brackets. An address is no name."""
    name = value.rpartition(";")[2].split()
    host = re.sub(r"\[.*|\(.*", "", name[0]).strip("<>.,") if name else ""
    return host[:255]


def address_of(value: str) -> str:
    """The address in a header field; "" without."""
    found = human.addresses(value[:4000])
    return found[-1] if found else ""
