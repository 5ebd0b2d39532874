"""The part of a bounce that is written for people: what it says of one recipient.

Mailers agree on nothing here but on habits: an address at the head of a line and its account below it, a transcript
with `>>>` and `<<<`, a copy of the message after a ruled line. `Account.about` reads by those habits. Linear in texts
of at most mime.MAX_TEXT octets; nothing here raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from smtpguard.classify.notice.said import Said, said, verb_of
from smtpguard.mail.reply import EnhancedCode, Verb

MAX_WORDS: Final = 500
"""Characters of a paragraph without a code that count as the reply."""
MAX_SECTION: Final = 8192
"""Characters that are looked at for one recipient."""
MAX_PARAGRAPHS: Final = 60
MAX_TRANSCRIPT: Final = 2000

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


# sendmail, Courier, docomo: ">>> RCPT To:<a@b>" and "<<< 550 ..."; MDaemon: "--> " and "<-- " behind a time
_LINE = re.compile(r"^.{0,60}?(>>>|<<<|-->|<--|while talking to) {0,4}(.{0,2000})$", re.M)
_COMMAND = re.compile(rf"(MAIL FROM|RCPT TO|[A-Z]{{4,8}})\b[: ]*<?({ADDRESS})?", re.I)


class Exchange(NamedTuple):
    """A command that was refused, out of a transcript; `rcpt` is the recipient of a RCPT."""

    verb: Verb | None
    rcpt: str
    host: str
    reply: str

    def is_about(self, address: str) -> bool:
        """Whether it can be that recipient's: it names them, or nobody."""
        named = {self.rcpt.lower()} if self.rcpt else {one.lower() for one in addresses(self.reply)}
        return not named or address.lower() in named


class Account:
    """The words for people of one bounce, without the message that they return; read once for all recipients."""

    def __init__(self, text: str) -> None:
        # the first lines are never a copy: "Received: from" there would be the whole of a bare account
        returned = _RETURNED.search(text, min(len(text), 40))
        self.text: Final = text[: returned.start()] if returned is not None else text
        self._heads: Final = [(found.start(), found.end(), found[1].rstrip(".")) for found in _HEAD.finditer(self.text)]
        self._exchanges: Final = list(_transcript(self.text))

    @property
    def heads(self) -> list[str]:
        """The addresses that stand at the head of a line, in order, once each."""
        return list(dict.fromkeys(address for _, _, address in self._heads))

    def about(self, address: str, status: EnhancedCode | None = None) -> Said | None:
        """What is said of the refusal of one recipient; None where nothing is. `status` as in `said`."""
        section = self._section(address.lower())
        server = _SERVER.search(section)
        host = server[1] if server is not None else ""
        for exchange in self._exchanges:
            if exchange.is_about(address):
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

    def _section(self, wanted: str) -> str:
        """From the address to the next one's head; the address at the head of a line before one within a line."""
        begin, end = -1, len(self.text)
        for start, after, head in self._heads:
            if begin < 0 and head.lower() == wanted:
                begin = after
            elif begin >= 0 and head.lower() != wanted:
                end = start
                break
        if begin < 0:
            at = self.text.lower().find(wanted) if wanted else -1
            begin = at + len(wanted) if at >= 0 else 0
        section = self.text[begin : min(end, begin + MAX_SECTION)]
        closed = _CLOSED.search(section)
        return (section[: closed.start()] if closed is not None else section).lstrip(">: \t")


def addresses(text: str) -> list[str]:
    """All addresses in a text, in order, once each."""
    return list(dict.fromkeys(found[0].rstrip(".") for found in _ANY.finditer(text)))


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n[ \t]*\n", text)[:MAX_PARAGRAPHS]:
        if paragraph := paragraph.strip():
            yield paragraph


def _transcript(text: str) -> Iterator[Exchange]:
    """The commands of a transcript that were refused, in order."""
    verb: Verb | None = None
    rcpt = host = ""
    lines: list[str] = []
    for found in islice(_LINE.finditer(text), MAX_TRANSCRIPT):
        mark, rest = found[1], found[2].strip()
        if mark in ("<<<", "<--"):
            if rest[:1] in "45" and rest[:3].isdigit():
                lines.append(rest)
                if rest[3:4] != "-":  # RFC 5321 4.2.1: the last line of a reply
                    yield Exchange(verb, rcpt, host, "\n".join(lines))
                    lines = []
            continue
        lines = []
        if mark == "while talking to":
            host, verb, rcpt = rest.partition(" ")[0].rstrip(".:"), None, ""
        elif rest == ".":
            verb, rcpt = Verb.DOT, ""
        elif (command := _COMMAND.match(rest)) is not None:
            verb = verb_of(command[1])
            rcpt = command[2] or "" if verb is Verb.RCPT else ""
