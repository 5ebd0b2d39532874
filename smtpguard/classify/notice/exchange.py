"""Exchange's logs: message tracking (MSGTRK*.LOG) and the SMTP protocol log (SEND*.LOG, RECV*.LOG).

Both are CSV whose columns a `#Fields:` line names; a `#Log-type:` line says which log it is. Columns come and go with
versions, so all are found by name.
"""

from __future__ import annotations

import csv
import re
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from smtpguard.classify.notice.notice import Action, Notice
from smtpguard.classify.notice.said import said, verb_of
from smtpguard.classify.notice.stamps import rfc3339
from smtpguard.mail.reply import Verb

MAX_SESSIONS: Final = 1000
MAX_WAITING: Final = 1000

# event-id of message tracking: what it says of the recipients
_TRACKED: Final[dict[str, Action]] = {
    "FAIL": "failed",
    "DEFER": "delayed",
    "SENDEXTERNAL": "delivered",
    "DELIVER": "delivered",
}


class ExchangeLog:
    """Reads one or more logs; `head` takes their comment lines, `line` the others."""

    def __init__(self) -> None:
        self._fields: list[str] = []
        self._is_received = False
        # session id: what was sent last, the recipient of the last RCPT, the sender
        self._sessions: OrderedDict[str, _Session] = OrderedDict()

    @property
    def has_fields(self) -> bool:
        """Whether the lines of an Exchange log are being read."""
        return bool(self._fields)

    def head(self, line: str) -> None:
        """A line that begins with `#`."""
        key, colon, value = line.lstrip("\ufeff").strip().partition(":")
        match key.lower() if colon else "":
            case "#fields":
                names = [name.strip().lower() for name in value.split(",")]
                self._fields = names if "date-time" in names else []
            case "#log-type":
                self._is_received = "receive" in value.lower()
            case "#software":
                self._fields, self._is_received = [], False

    def line(self, line: str) -> Iterator[Notice]:
        """A row."""
        try:
            row = next(csv.reader([line]), [])
        except csv.Error:
            return
        given = dict(zip(self._fields, row, strict=False))
        if "event-id" in given:
            yield from _tracked(given)
        elif "session-id" in given:
            yield from self._protocol(given)

    def _protocol(self, given: dict[str, str]) -> Iterator[Notice]:
        key, data = given["session-id"], given.get("data", "").strip()
        session = self._sessions.get(key)
        if session is None:
            session = self._sessions[key] = _Session()
            if len(self._sessions) > MAX_SESSIONS:
                self._sessions.popitem(last=False)
        asked, answered = ("<", ">") if self._is_received else (">", "<")
        event = given.get("event", "")
        if event == "-":
            self._sessions.pop(key, None)
        elif event == asked:
            session.asked(data)
        elif event == answered:
            if (verb := session.answered(data)) is None:
                return
            told = said(data, verb=verb)
            yield Notice(
                "log",
                "delayed" if told.reply.klass == 4 else "failed",
                reply=told.reply,
                recipient=session.rcpt if verb is not Verb.MAIL else "",
                sender=session.sender,
                host="" if self._is_received else told.host if told.is_relayed else session.host,
                verb=verb,
                when=rfc3339(given.get("date-time", "")),
                id=told.id,
                has_code=told.has_code,
                inbound=self._is_received,
            )


class _Session:
    """One SMTP session of a protocol log: the commands whose replies are to come."""

    def __init__(self) -> None:
        self.sender = ""
        self.rcpt = ""
        self.host = ""
        self._waiting: list[tuple[Verb, str]] = [(Verb.CONNECT, "")]

    def asked(self, data: str) -> None:
        found = _COMMAND.match(data)
        if found is not None and (verb := verb_of(found[1])) is not None and len(self._waiting) < MAX_WAITING:
            self._waiting.append((verb, found[2]))

    def answered(self, data: str) -> Verb | None:
        """The verb that a refusal answered; None for a reply that is none, or not the last line of one."""
        if not data[:3].isdigit() or data[3:4] == "-":
            return None
        verb, address = self._waiting.pop(0) if self._waiting else (Verb.DOT, "")
        match verb:
            case Verb.CONNECT:
                self.host = data[4:].partition(" ")[0]
            case Verb.MAIL:
                self.sender = address
            case Verb.RCPT:
                self.rcpt = address
            case Verb.DATA if data.startswith("3"):
                self._waiting.insert(0, (Verb.DOT, ""))
        return verb if data[0] in "45" else None


_COMMAND = re.compile(r"(MAIL FROM|RCPT TO|[A-Z]{4,8})\b[: ]*<?([^\s<>]{0,320})", re.I)
# "[{LED=550 5.1.10 RESOLVER...};{MSG=};{FQDN=mx.example.com};{IP=192.0.2.1};{LRT=...}]"
# one a recipient, with semicolons in them too
_STATUSES = re.compile(r";(?=[45]\d\d |\[\{)")
_FQDN = re.compile(r"\{FQDN=([^}]{1,255})\}")
_LED = re.compile(r"\{LED=(.*?)\};?\{MSG=|\{LED=([^}]{1,2000})\}")


def _tracked(given: dict[str, str]) -> Iterator[Notice]:
    action = _TRACKED.get(given.get("event-id", "").upper())
    if action is None:
        return
    statuses = _STATUSES.split(given.get("recipient-status", ""))
    recipients = given.get("recipient-address", "").split(";")[:1000]
    for index, recipient in enumerate(recipients):
        status = statuses[min(index, len(statuses) - 1)]
        led = _LED.search(status)
        told = said((led[1] or led[2]) if led is not None else status)
        host = _FQDN.search(status)
        yield Notice(
            "log",
            action,
            reply=told.reply if action != "delivered" else None,
            recipient=recipient,
            sender=given.get("sender-address", ""),
            host=told.host or (host[1] if host is not None else ""),
            verb=told.verb,
            when=rfc3339(given.get("date-time", "")),
            message_id=given.get("message-id", ""),
            queue_id=given.get("internal-message-id", ""),
            id=told.id,
            has_code=told.has_code,
        )
