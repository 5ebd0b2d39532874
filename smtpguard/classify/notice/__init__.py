"""Notices: what MTAs tell, after the fact, of mail that was refused.

    for notice in read_message(octets): ...          # a DSN, an odd mailer's bounce, an abuse report
    for notice in read_log(lines, today): ...        # Postfix, Exim, sendmail, Exchange, smtpguard's own log

The rooms:
said.py      the reply in a text that tells of it    human.py     what a bounce's words say of a recipient
mime.py      a message taken apart; mbox             dsn.py       RFC 3464
bounce.py    mailers with a form of their own        arf.py       RFC 5965
maillog.py   Postfix, Exim, sendmail                 exchange.py  message tracking, protocol logs
own.py       our log                                 stamps.py    dates of log lines
All of it takes any octets and raises nothing; logs are read line by line, an mbox message by message.
"""

from __future__ import annotations

from typing import Final

from smtpguard.classify.notice import arf, bounce, dsn
from smtpguard.classify.notice.maillog import read_log
from smtpguard.classify.notice.mime import Part, messages, parse
from smtpguard.classify.notice.notice import REFUSED, Action, Kind, Notice
from smtpguard.classify.notice.said import NO_CODE, Said, said, verb_of

__all__ = [
    "NO_CODE",
    "REFUSED",
    "Action",
    "Kind",
    "Notice",
    "Said",
    "messages",
    "read_log",
    "read_message",
    "said",
    "verb_of",
]


def read_message(octets: bytes) -> list[Notice]:
    """The notices in one message (RFC 5322): one a recipient; none where it is ordinary mail.

    A notice that somebody forwards as an attachment is found too, but never one within the mail that a DSN returns.
    """
    return _read(parse(octets), octets)


def _read(message: Part, octets: bytes) -> list[Notice]:
    parts = list(_without_returned(message))
    for part in parts:
        if part.type == arf.REPORT_TYPE:
            return [arf.notice(message, part)]
    for part in parts:
        if part.type in dsn.STATUS_TYPES and (found := dsn.notices(message, part)):
            return found
    inner = [part.parts[0] for part in message.walk() if part.type in _MESSAGES and part.parts]
    for forwarded in inner:
        if any(part.type in (arf.REPORT_TYPE, *dsn.STATUS_TYPES) for part in _without_returned(forwarded)):
            return _read(forwarded, b"")
    if bounce.is_bounce(message):
        return bounce.notices(message, octets)
    return next((bounce.notices(forwarded, b"") for forwarded in inner if bounce.is_bounce(forwarded)), [])


_MESSAGES: Final = ("message/rfc822", "message/global")


def _without_returned(message: Part) -> list[Part]:
    """The parts of a message, but not of messages within it."""
    if message.type in _MESSAGES:
        return [message]
    return [message, *(part for inner in message.parts for part in _without_returned(inner))]
