"""smtpguard's own log (contract 4): what next hops refused and took, and what was ingested.

Addresses are as `privacy.addresses` left them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson

from smtpguard.classify.categories import BY_NAME
from smtpguard.classify.notice.notice import REFUSED, Action, Notice
from smtpguard.classify.notice.said import Said, said, verb_of
from smtpguard.classify.notice.stamps import rfc3339
from smtpguard.mail.reply import EnhancedCode, Reply, ReplyError, Verb, parse_enhanced

MAX_TEXT: Final = 4096
_ACTIONS: Final = ("recipient-refused", "recipient-accepted", "notice-received")
_MARKS: Final = tuple(action.encode() for action in _ACTIONS)
_NO_ANSWER: Final = EnhancedCode(4, 4, 2)
"""RFC 3463 3.5: what stands for a next hop that said nothing usable."""


def notice(line: bytes) -> Notice | None:
    """The notice in a JSON line; None where it is about no recipient."""
    if not any(mark in line for mark in _MARKS):
        return None
    try:
        given = orjson.loads(line)
    except ValueError:
        return None
    if not isinstance(given, dict):
        return None

    def text(key: str) -> str:
        value = given.get(key)
        return value[:MAX_TEXT] if isinstance(value, str) else ""

    told: Said | None = None
    category = ""
    match given.get("event.action"):
        case "recipient-accepted":
            action: Action = "delivered"
        case "recipient-refused":
            told = _ours(given)
            category = text("smtpguard.category") if told is not None else ""
            told = told or _told(given, text("smtp.reply.text") or _no_answer(text))
            action = "delayed" if told.reply.klass == 4 else "failed"
        case "notice-received" if (word := text("smtpguard.notice.action")) in REFUSED:
            told = _told(given, text("smtp.reply.text"))
            action = "delayed" if word == "delayed" else "failed"
        case _:
            return None
    return Notice(
        "log",
        action,
        reply=told.reply if told is not None else None,
        recipient=text("smtp.rcpt_to"),
        sender=text("smtp.mail_from"),
        host=text("server.address"),
        verb=told.verb if told is not None else None,
        when=rfc3339(text("smtpguard.notice.at") or text("@timestamp")),
        message_id=text("email.message_id"),
        queue_id=text("smtp.queue_id"),
        id=text("event.id"),
        has_code=told is None or told.has_code,
        category=category,
    )


def _ours(given: dict[str, Any]) -> Said | None:
    """What we refused ourselves, with why for its text; None where a next hop said it, or said nothing usable."""
    code, category, cause = (given.get(f"smtpguard.{name}") for name in ("answer", "category", "cause"))
    if "smtp.reply.code" in given or "error.type" in given or category not in BY_NAME:
        return None
    if not (isinstance(code, int) and 400 <= code <= 599 and isinstance(cause, str)):
        return None
    verb = verb_of(str(given.get("smtp.verb", "")))
    return Said(Reply(code, (cause[:MAX_TEXT],), None, verb or Verb.MAIL), "", verb, True)


def _no_answer(text: Callable[[str], str]) -> str:
    """In the words of an MTA's log, for those are what rules know: a hop failure is none of the receiver's."""
    host, why = text("server.address") or "the next hop", text("error.message") or text("error.type")
    return f"connect to {host}: {why}" if text("error.type") == "connect" else f"lost connection with {host}: {why}"


def _told(given: dict[str, Any], words: str) -> Said:
    verb = verb_of(str(given.get("smtp.verb", "")))
    enhanced = parse_enhanced(str(given.get("smtp.reply.enhanced", "")))[0]
    code = given.get("smtp.reply.code")
    if isinstance(code, int) and 400 <= code <= 599:
        lead = f"{code} {enhanced} " if enhanced is not None else f"{code} "
        try:
            return Said(Reply.of(lead + " ".join(words.split()), verb or Verb.MAIL), "", verb, True)
        except ReplyError:
            pass
    return said(words, verb=verb, status=enhanced or _NO_ANSWER)
