"""Refusals in mail logs: Postfix, Exim, sendmail, Exchange (exchange.py), and smtpguard's own.

One pass, one line at a time, in whatever mix of these a file holds. A line is looked at closely only if it contains
what such a line must contain. Sender and Message-ID stand on other lines than the refusal; they are remembered by
queue id, the last MAX_KNOWN of them. A line that is not understood is no notice; nothing here raises.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final

from smtpguard.classify.notice import own
from smtpguard.classify.notice.exchange import ExchangeLog
from smtpguard.classify.notice.notice import Action, Notice
from smtpguard.classify.notice.said import Said, said, verb_of
from smtpguard.classify.notice.stamps import Dates
from smtpguard.mail.reply import Reply, Verb, parse_enhanced

MAX_LINE: Final = 32768
MAX_KNOWN: Final = 20_000


def read_log(lines: Iterable[bytes], today: datetime) -> Iterator[Notice]:
    """The notices in the lines of a log, deliveries too (`action` "delivered").

    `today`, with a time zone, dates the stamps of syslog: stamps.Dates.
    """
    log = _Log(today)
    for line in lines:
        yield from log.line(line[:MAX_LINE])


class _Log:
    """What a log told so far."""

    def __init__(self, today: datetime) -> None:
        self._dates = Dates(today)
        self._exchange = ExchangeLog()
        # queue id: [sender, Message-ID]
        self._known: OrderedDict[str, list[str]] = OrderedDict()

    def line(self, line: bytes) -> Iterator[Notice]:
        if line.startswith((b"#", b"\xef\xbb\xbf#")):
            self._exchange.head(_text(line))
        elif line.startswith(b"{"):
            if (notice := own.notice(line)) is not None:
                yield notice
        elif self._exchange.has_fields:
            yield from self._exchange.line(_text(line))
        else:
            for mark, read in _READERS:
                if mark in line:
                    yield from read(self, _text(line))
                    return

    # -- Postfix ----------------------------------------------------------------------------------------------------

    def postfix(self, line: str) -> Iterator[Notice]:
        found = _POSTFIX.search(line)
        if found is None:
            return
        queue_id, to, original, relay, dsn, status, text = found.groups()
        action = _POSTFIX_ACTIONS.get(status)
        if action is None:
            return
        told = _nothing
        if action != "delivered":
            told = said(text or status, status=parse_enhanced(dsn)[0])
        host = "" if relay in ("none", "local", "virtual") else relay.partition("[")[0]
        sender, message_id = self._known.get(queue_id, ("", ""))
        yield Notice(
            "log",
            action,
            reply=told.reply if action != "delivered" else None,
            recipient=original or to,
            sender=sender,
            host=told.host or host,
            verb=told.verb,
            when=self._dates.of(line),
            message_id=message_id,
            queue_id=queue_id,
            id=told.id,
            has_code=told.has_code,
        )

    def postfix_reject(self, line: str) -> Iterator[Notice]:
        """smtpd refuses a client: "NOQUEUE: reject: RCPT from NAME[ADDRESS]: REPLY; from=<> to=<> proto=ESMTP"."""
        found = _POSTFIX_REJECT.search(line)
        if found is None:
            yield from self.exim_rejected(line)
            return
        queue_id, verb, text, sender, to = found.groups()
        told = said(text, verb=verb_of(verb))
        yield Notice(
            "log",
            "delayed" if told.reply.klass == 4 else "failed",
            reply=told.reply,
            recipient=to or "",
            sender=sender or "",
            verb=told.verb,
            when=self._dates.of(line),
            queue_id="" if queue_id == "NOQUEUE" else queue_id,
            has_code=told.has_code,
            inbound=True,
        )

    def remember(self, line: str) -> Iterator[Notice]:
        """Postfix and sendmail tell the sender at `from=`, the Message-ID at `message-id=` or `msgid=`."""
        if (found := _FROM.search(line)) is not None:
            self._learn(found[1], found[2], found[3] or "")
        elif (found := _MESSAGE_ID.search(line)) is not None:
            self._learn(found[1], "", found[2])
        return iter(())

    def _learn(self, queue_id: str, sender: str, message_id: str) -> None:
        known = self._known.setdefault(queue_id, ["", ""])
        known[0], known[1] = sender or known[0], message_id or known[1]
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    # -- Exim ---------------------------------------------------------------------------------------------------------

    def exim(self, line: str) -> Iterator[Notice]:
        found = _EXIM.search(line)
        if found is None:
            return
        queue_id, flag, rest = found.groups()
        if flag == "<=":
            message_id = re.search(r" id=(\S+)", rest)
            sender = rest.partition(" ")[0]
            self._learn(queue_id, "" if sender == "<>" else sender, f"<{message_id[1]}>" if message_id else "")
            return
        if rest.startswith("/") or (fate := _EXIM_ACTIONS.get(flag)) is None:
            return  # to a file
        head, _, text = rest.partition(": ")
        address = head.partition(" ")[0].rstrip(":")
        host = _EXIM_HOST.search(head)
        sender = _EXIM_SENDER.search(head)
        known_sender, message_id_ = self._known.get(queue_id, ("", ""))
        # the words before the colon name the host that the text may not name
        words = f"{head}: {text}" if "SMTP error" in text else text or head
        told = said(words, klass=4 if fate == "delayed" else 5) if fate != "delivered" else _nothing
        yield Notice(
            "log",
            fate,
            reply=told.reply if fate != "delivered" else None,
            recipient=address if "@" in address else "",
            sender=sender[1] if sender else known_sender,
            host=told.host or (host[1] if host else ""),
            verb=told.verb,
            when=self._dates.of(line),
            message_id=message_id_,
            queue_id=queue_id,
            id=told.id,
            has_code=told.has_code,
        )

    def exim_rejected(self, line: str) -> Iterator[Notice]:
        """Exim refuses a client: "H=NAME [ADDRESS] F=<sender> rejected RCPT <to>: words"."""
        found = _EXIM_REJECTED.search(line)
        if found is None:
            return
        sender, temporary, verb, to, text = found.groups()
        told = said(
            text,
            verb=verb_of({"after DATA": "DOT", "connection": "CONNECT"}.get(verb, verb)),
            klass=4 if temporary else 5,
        )
        yield Notice(
            "log",
            "delayed" if temporary else "failed",
            reply=told.reply,
            recipient=to or "",
            sender=sender or "",
            verb=told.verb,
            when=self._dates.of(line),
            has_code=told.has_code,
            inbound=True,
        )

    # -- sendmail -----------------------------------------------------------------------------------------------------

    def sendmail(self, line: str) -> Iterator[Notice]:
        found = _SENDMAIL.search(line)
        if found is None:
            return
        given = dict(_SENDMAIL_FIELD.findall(line[found.start(2) - 1 :]))
        stat = found[3].strip()
        word = re.match(r"[A-Za-z]*", stat)
        action = _SENDMAIL_ACTIONS.get(word[0] if word else "", "failed")
        if action is None:
            return
        text = given.get("reply", "")
        if text[:1] not in "45" or not text[:3].isdigit():  # "reply=read error from mx.example.com."
            text = stat.partition("Deferred: ")[2] or stat
        told = said(text, status=parse_enhanced(given.get("dsn", ""))[0]) if action != "delivered" else _nothing
        sender, message_id = self._known.get(found[1], ("", ""))
        for recipient in found[2].split(",")[:100]:
            yield Notice(
                "log",
                action,
                reply=told.reply if action != "delivered" else None,
                recipient=recipient.strip("<> "),
                sender=sender,
                host=told.host if told.is_relayed else given.get("relay", "").partition(" ")[0].rstrip("."),
                verb=told.verb,
                when=self._dates.of(line),
                message_id=message_id,
                queue_id=found[1],
                id=told.id,
                has_code=told.has_code,
            )

    def sendmail_ruleset(self, line: str) -> Iterator[Notice]:
        """sendmail refuses a client: "ruleset=check_rcpt, arg1=<to>, relay=..., reject=REPLY"."""
        found = _SENDMAIL_RULESET.search(line)
        if found is None:
            return
        ruleset, argument, text = found.groups()
        verb = {"check_rcpt": Verb.RCPT, "check_mail": Verb.MAIL, "check_relay": Verb.CONNECT}.get(ruleset)
        told = said(text, verb=verb)
        yield Notice(
            "log",
            "delayed" if told.reply.klass == 4 else "failed",
            reply=told.reply,
            recipient=argument.strip("<>") if verb is Verb.RCPT else "",
            sender=argument.strip("<>") if verb is Verb.MAIL else "",
            verb=verb,
            when=self._dates.of(line),
            has_code=told.has_code,
            inbound=True,
        )


_nothing: Final = Said(Reply(250), "", None, True)
"""Of a delivery nothing is asked."""

# what a line must contain, and who reads it then; the first that fits
_READERS: Final = (
    (b" status=", _Log.postfix),
    (b"reject: ", _Log.postfix_reject),
    (b" stat=", _Log.sendmail),
    (b"from=<", _Log.remember),
    (b"message-id=", _Log.remember),
    (b" ** ", _Log.exim),
    (b" == ", _Log.exim),
    (b" <= ", _Log.exim),
    (b" => ", _Log.exim),
    (b" -> ", _Log.exim),
    (b" rejected ", _Log.exim_rejected),
    (b"ruleset=", _Log.sendmail_ruleset),
)

_QUEUE_ID: Final = r"\b([0-9A-Za-z]{5,20})"
# Postfix global/log_adhoc.c
_POSTFIX = re.compile(
    _QUEUE_ID + r": to=<([^>]{0,320})>,(?: orig_to=<([^>]{0,320})>,)? relay=([^,]{1,300}), .{0,300}?"
    r"dsn=(\d\.\d{1,3}\.\d{1,3}), status=([a-z-]{1,20})(?: \((.*)\))?"
)
_POSTFIX_ACTIONS: Final[Mapping[str, Action]] = {
    "bounced": "failed",
    "expired": "failed",
    "undeliverable": "failed",
    "deferred": "delayed",
    "sent": "delivered",
    "deliverable": "delivered",
}
_POSTFIX_REJECT = re.compile(
    r"\b(NOQUEUE|[0-9A-Za-z]{5,20}): (?:milter-)?reject: ([A-Z-]{4,20}) from [^ ]{1,300}: "
    r"(.*?)(?=; (?:from|to|proto)=|$)(?:; (?:from=<([^>]{0,320})> ?)?(?:to=<([^>]{0,320})>)?)?"
)
# Postfix qmgr; sendmail puts msgid on the same line
_FROM = re.compile(_QUEUE_ID + r": from=<?([^>,]{0,320})>?, size=(?:.{0,200}? msgid=(<[^>]{1,300}>))?")
_MESSAGE_ID = re.compile(_QUEUE_ID + r": (?:resent-)?message-id=(\S{1,300})")

# Exim specification, "Log files"; message ids are of three parts, 6-6-2 characters before 4.97, 6-11-4 since
_EXIM = re.compile(r"(?:^|[ \]])([0-9A-Za-z]{6}-[0-9A-Za-z]{6,11}-[0-9A-Za-z]{2,4}) (\*\*|==|=>|->|<=) (.*)")
_EXIM_ACTIONS: Final[Mapping[str, Action]] = {
    "**": "failed",
    "==": "delayed",
    "=>": "delivered",
    "->": "delivered",
}
_EXIM_HOST = re.compile(r" H=(\S{1,255}) \[")
_EXIM_SENDER = re.compile(r" [FP]=<([^>]{0,320})>")
_EXIM_REJECTED = re.compile(
    r" H=[^<>]{1,400}? (?:F=<([^>]{0,320})> )?(temporarily )?rejected "
    r"(RCPT|MAIL|EHLO|HELO|DATA|after DATA|connection)\b ?(?:<?([^>: ]{0,320})>?)?: (.*)"
)

# sendmail deliver.c logdelivery()
_SENDMAIL = re.compile(r"\b([0-9A-Za-z]{8,20}): to=(.{1,2000}?), (?:ctladdr|delay)=.*?\bstat=(.*)")
_SENDMAIL_FIELD = re.compile(r", (relay|dsn|reply)=(.*?)(?=, [a-z]{2,12}=|$)")
_SENDMAIL_ACTIONS: Final[Mapping[str, Action | None]] = {
    "Sent": "delivered",
    "Deferred": "delayed",
    "queued": None,
    "Queued": None,
}
_SENDMAIL_RULESET = re.compile(r"\bruleset=(\w{1,40}), arg1=([^,]{1,400}), .*?\breject=(.*)")


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r\n")
