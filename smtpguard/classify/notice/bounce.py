"""Bounces that are no DSN: qmail, older Exim and Exchange, Domino, Yahoo, MDaemon, carriers and many more.

flufl.bounce knows whose they are about (its detectors name the recipients); the words for people say why (human.py).
What no detector knows is read by the habits of such texts. A message that does not look sent by a mail system is none.
"""

from __future__ import annotations

import re
from typing import Final

from smtpguard.classify.notice import dsn, human, mime
from smtpguard.classify.notice.mime import Part
from smtpguard.classify.notice.notice import Notice
from smtpguard.mail.header import decoded

MAX_FOR_DETECTORS: Final = 16 << 10
MAX_LINES: Final = 500
"""Lines for detectors: each may be a part of its own, and every detector walks through all of them."""
MAX_LINE: Final = 998
"""RFC 5322 2.1.1. Some detectors take a time that grows with the square of a line."""
MAX_RECIPIENTS: Final = 100

_DAEMON = re.compile(
    r"\b(?:mailer[-_.]?daemon|mail[-_.]?daemon|mdaemon|postmaster|mail[- ]?delivery[- ]?(?:sub)?system|mailsys|mmdf"
    r"|smtp-gateway|system administrator)\b",
    re.I,
)
_SUBJECT = re.compile(
    r"undeliver|deliver(?:y|ed)[ :-].*(?:fail|delay|notif|error|problem)|(?:fail|delay|error|problem).*deliver(?:y|ed)"
    r"|returned mail|failure notice|mail system error|could not (?:be|send)|couldn't be delivered|message blocked"
    r"|not (?:been )?delivered|non[- ]?deliver|unzustellbar|nicht zugestellt|non remis|impossible de remettre"
    r"|mancato recapito|no se (?:ha )?(?:puede|podido)|no entregado|n[aã]o (?:foi )?entreg|niedoręcz|доставлен|недостав"
    r"|配信|送信でき|宛先|退信|投递失败",
    re.I,
)
_DELAY = re.compile(
    r"\b(?:delayed|not yet been delivered|not been delivered yet|still (?:being|trying)|will (?:continue|keep)"
    r"|will be retried|warning:? message|temporarily deferred|no action is required|do not need to resend|verzögert)",
    re.I,
)


def is_bounce(message: Part) -> bool:
    """Whether a mail system wrote it to say that mail was not delivered, as far as its header tells."""
    header = message.header
    if "x-failed-recipients" in header:
        return True
    if _DAEMON.search(_words(header.get("from", ""))):
        return True
    # what people have their programs answer with comes from <> too, but not under such a subject
    has_subject = _SUBJECT.search(_words(header.get("subject", ""))) is not None
    return has_subject and header.get("return-path", "<>").strip() in ("<>", "")


def notices(message: Part, octets: bytes) -> list[Notice]:
    """One a recipient that the message names; none where it names nobody. `octets` is the same message."""
    account = human.Account(dsn.explanation(message))
    returned = dsn.returned(message)
    sender = dsn.address_of(message.header.get("to", ""))
    delayed = bool(_DELAY.search(account.text) or _DELAY.search(_words(message.header.get("subject", ""))))
    seen = []
    for recipient in _recipients(message, account, octets, sender)[:MAX_RECIPIENTS]:
        told = account.about(recipient)
        seen.append(
            Notice(
                "bounce",
                "delayed" if delayed and (told is None or not told.has_code or told.reply.klass == 4) else "failed",
                reply=told.reply if told is not None else None,
                recipient=recipient,
                sender=sender,
                host=told.host if told is not None else "",
                verb=told.verb if told is not None else None,
                when=mime.when(message.header.get("date", "")),
                message_id=returned.get("message-id", ""),
                id=told.id if told is not None else "",
                has_code=told is not None and told.has_code,
            )
        )
    return seen


def _recipients(message: Part, account: human.Account, octets: bytes, sender: str) -> list[str]:
    """By the surest source that names any: a header field of Exim and Gmail, detectors, heads of lines, the text."""
    not_these = {sender.lower(), dsn.address_of(message.header.get("from", "")).lower(), ""}

    def others(found: list[str]) -> list[str]:
        return [one for one in found if one.lower() not in not_these and not _DAEMON.match(one)]

    named = human.addresses(message.header.get("x-failed-recipients", ""))
    return named or others(_detected(octets)) or others(account.heads) or others(human.addresses(account.text))[:1]


def _detected(octets: bytes) -> list[str]:
    """The recipients that flufl.bounce finds, delayed and failed; sorted, for it keeps no order."""
    # here, not above: 14 ms and the email package, which a mail log does not need
    from email import message_from_bytes

    from flufl.bounce import all_failures

    try:
        lines = octets[:MAX_FOR_DETECTORS].splitlines(keepends=True)[:MAX_LINES]
        message = message_from_bytes(b"".join(line if len(line) <= MAX_LINE else line[:MAX_LINE] for line in lines))
        found = set().union(*all_failures(message))
    except Exception:  # its detectors are not made for any octets
        return []
    texts = {one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one) for one in found}
    return sorted(text.strip("<>")[:320] for text in texts if "@" in text)


def _words(value: str) -> str:
    """A header field with its encoded words decoded (RFC 2047), as far as they can be."""
    return decoded(value[:2000].replace("\n", "\r\n ").encode("utf-8", "replace"))
