"""The part of a bounce that is written for people: what it says of one recipient.

Mailers agree on nothing here but on habits: an address at the head of a line and its account below it, a transcript
with `>>>` and `<<<`, a copy of the message after a ruled line. `about` reads by those habits. Linear in texts of at
most mime.MAX_TEXT octets; nothing here raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from smtpguard.classify.notice.said import Said, said, verb_of
from smtpguard.mail.reply import EnhancedCode, Verb

MAX_WORDS: Final = 500
"""Characters of a paragraph without a code that count as the reply."""

ADDRESS: Final = r"[^\s<>()\[\]\",;:@']{1,64}@(?:[\w-]{1,63}\.){1,8}[\w-]{2,63}"
_HEAD = re.compile(
    rf"^[ \t>*•-]{{0,12}}(?:(?:To|Recipient|Failed address|Failed recipient|Address)(?: address)?:? {{0,4}})?"
    rf"<?(?:mailto:)?({ADDRESS})>?(?=:|,?[ \t]*$| on | \(|\.\.\. |[ \t]{{2,}})",
    re.M | re.I,
)
_ANY: Final = re.compile(ADDRESS)

# what stands between the account and the message it returns
_RETURNED = re.compile(
    r"^[ \t]*(?:-{2,8} ?(?:Below this line is a copy|This is a copy of|The body of|Original message|Undelivered message"
    r"|Your original message|Start of returned|Returned message|Message header|The header of|Unsent message)"
    r"|Original message headers|-{5,}Original Message-{5,}|The original message (?:follows|headers)"
    r"|Reporting-MTA:|Return-Path: <|Received: from )",
    re.M | re.I,
)
# what closes an account
_CLOSED = re.compile(r"^[ \t]*(?:Giving up on |I'm not going to try again|No further attempts|Final-Recipient:)", re.M)
# what follows a reply without an empty line between
_SERVER = re.compile(
    r"(?:while talking to|remote server at|response from the remote server|the server|connected to|\bhost:?"
    r"|remote server:?|connection to|transferring to|<(?=[^ >]{4,255} #\d))"
    r"[ \n]{0,4}'?\"?([a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63}){1,8})",
    re.I,
)


class Exchange(NamedTuple):
    """A command that was refused, out of a transcript; `rcpt` is the recipient of a RCPT."""

    verb: Verb | None
    rcpt: str
    host: str
    reply: str


def account(text: str) -> str:
    """The text without the message that it returns."""
    # the first lines are never a copy: "Received: from" there would be the whole of a bare account
    found = _RETURNED.search(text, min(len(text), 40))
    return text[: found.start()] if found is not None else text


def heads(text: str) -> list[str]:
    """The addresses that stand at the head of a line, in order, once each."""
    return list(dict.fromkeys(found[1].rstrip(".") for found in _HEAD.finditer(text)))


def addresses(text: str) -> list[str]:
    """All addresses in a text, in order, once each."""
    return list(dict.fromkeys(found[0].rstrip(".") for found in _ANY.finditer(text)))


def about(text: str, address: str, status: EnhancedCode | None = None) -> Said | None:
    """What a text says of the refusal of one recipient; None where it says nothing. `status` as in `said`."""
    section = _section(text, address)
    server = _SERVER.search(section)
    host = server[1] if server is not None else ""
    for exchange in _transcript(text):
        if not exchange.rcpt or exchange.rcpt.lower() == address.lower():
            found = said(exchange.reply, verb=exchange.verb, status=status)
            return found._replace(host=exchange.host or found.host or host)
    words: Said | None = None
    for paragraph in _paragraphs(section):
        found = said(paragraph, status=status)
        if found.has_code:
            return found._replace(host=found.host or host)
        if words is None and any(map(str.isalpha, paragraph)):
            words = said(paragraph[:MAX_WORDS], status=status)
            words = words._replace(host=words.host or host)
    return words


def _section(text: str, address: str) -> str:
    """From the address to the next one's head; the address at the head of a line before one within a line."""
    wanted = address.lower()
    begin = -1
    for found in _HEAD.finditer(text):
        head = found[1].rstrip(".").lower()
        if begin >= 0 and head != wanted:
            return _opened(text[begin : found.start()])
        if begin < 0 and head == wanted:
            begin = found.end()
    if begin < 0:
        at = text.lower().find(wanted) if wanted else -1
        begin = at + len(wanted) if at >= 0 else 0
    return _opened(text[begin:])


def _opened(section: str) -> str:
    closed = _CLOSED.search(section)
    return (section[: closed.start()] if closed is not None else section).lstrip(">: \t")


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n[ \t]*\n", text)[:60]:
        if paragraph := paragraph.strip():
            yield paragraph


# sendmail, Courier, docomo: ">>> RCPT To:<a@b>" and "<<< 550 ..."; MDaemon: "--> " and "<-- " behind a time
_LINE = re.compile(r"^.{0,60}?(>>>|<<<|-->|<--|while talking to) {0,4}(.{0,2000})$", re.M)
_COMMAND = re.compile(rf"(MAIL FROM|RCPT TO|[A-Z]{{4,8}})\b[: ]*<?({ADDRESS})?", re.I)


def _transcript(text: str) -> Iterator[Exchange]:
    """The commands of a transcript that were refused, in order."""
    verb: Verb | None = None
    rcpt = host = ""
    lines: list[str] = []
    for found in [*_LINE.finditer(text), None]:
        mark, rest = found.groups() if found is not None else (">>>", "")
        if mark in ("<<<", "<--"):
            if rest[:1] in "45" and rest[:3].isdigit() and (not lines or rest[:3] == lines[0][:3]):
                lines.append(rest.rstrip())
            continue
        if lines:
            yield Exchange(verb, rcpt, host, "\n".join(lines))
            lines = []
        if mark == "while talking to":
            host, verb, rcpt = rest.strip().rstrip(".:"), None, ""
            host = host.split()[0].rstrip(".:") if host else ""
        elif rest.strip() == ".":
            verb, rcpt = Verb.DOT, ""
        elif (command := _COMMAND.match(rest)) is not None:
            verb = verb_of(command[1].replace(":", " "))
            rcpt = command[2] or "" if verb is Verb.RCPT else ""
