"""A message as raw octets: its fields, its parts, and the field that we put in front (RFC 5322, RFC 5321 4.4)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from mmap import MADV_DONTNEED, mmap
from typing import TYPE_CHECKING, Final

from smtpguard.mail.fields import HEADER_LIMIT, Fields, unfolded
from smtpguard.mail.header import codec_of, structured, to_text
from smtpguard.mail.links import may_have_links
from smtpguard.mail.mailbox import Mailbox, mailboxes
from smtpguard.mail.mime import Part, outline, walk
from smtpguard.mail.octets import Buffer, LongLines, first_8bit, first_bare_newline, is_plain, long_lines, newlines
from smtpguard.mail.once import once
from smtpguard.mail.reply import clean
from smtpguard.mail.session import Session

if TYPE_CHECKING:
    from smtpguard.mail.page import Bodies

WORDS_LIMIT: Final = 1 << 18
"""Octets of a message that may be looked at as nothing but text."""
HEAD_OCTETS: Final = 65_536
"""How much of a message is kept at hand for reading header fields."""

# RFC 5321 4.1.2 Domain and address-literal, and what XFORWARD may bring: enough for a comment-free token.
_TOKEN = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")


def header_fields(head: bytes, *names: bytes) -> list[str]:
    """The first field of each name (lower case, without colon) in `head`, unfolded, cleaned; "" if there is none.

    `head` is the beginning of a message with CRLF line ends, as sent on the wire (a field never begins with a dot).
    """
    end = head.find(b"\r\n\r\n")
    section = head if end < 0 else head[:end]
    lowered = section.lower()
    return [_first(section, lowered, name + b":") for name in names]


def _first(section: bytes, lowered: bytes, needle: bytes) -> str:
    if lowered.startswith(needle):
        start = 0
    else:
        start = lowered.find(b"\n" + needle) + 1
        if start == 0:
            return ""
    start += len(needle)
    stop = start
    while True:  # to the first CRLF that no blank follows
        stop = section.find(b"\r\n", stop)
        if stop < 0 or section[stop + 2 : stop + 3] not in (b" ", b"\t"):
            break
        stop += 2
    value = section[start:] if stop < 0 else section[start:stop]
    return clean(unfolded(value).decode("utf-8", "replace"), utf8=True)


# RFC 5321 4.4: Id = CFWS "ID" FWS ( Atom / msg-id ); Postfix, Exim and sendmail write their queue id there.
_QUEUE_ID = re.compile(r"\bid ([0-9A-Za-z-]{6,32})(?=[\s;]|$)", re.IGNORECASE)


def queue_id_in(received: str) -> str:
    """The queue id in the topmost `Received:` of a message, which the MTA that hands it to us has written; "" if none.

    For MTAs that tell no IDENT by XFORWARD: Exim, and Postfix for mail of its own (sendmail(1), bounces).
    """
    found = _QUEUE_ID.search(received) if received else None
    return found[1] if found else ""


def received_field(session: Session, *, hostname: str, id: str, date: str, utf8: bool) -> bytes:
    """Our trace field (RFC 5321 4.4, protocol names of RFC 3848), folded, made of validated tokens only.

    `date` is an RFC 5322 date-time.
    """
    kind = "LMTP" if session.door == "lmtp" else "ESMTP" if session.esmtp else "SMTP"
    if utf8:
        kind = {"LMTP": "UTF8LMTP", "ESMTP": "UTF8SMTP"}.get(kind, kind)  # RFC 6531 4.3
    if kind != "SMTP":
        kind += ("S" if session.tls_version else "") + ("A" if session.login else "")
    helo = session.helo if _TOKEN.fullmatch(session.helo) else "unknown"
    if not session.peer_ip:
        source = f"from {helo} (local)"
    elif ":" in session.peer_ip:
        source = f"from {helo} ([IPv6:{session.peer_ip}])"
    else:
        source = f"from {helo} ([{session.peer_ip}])"
    return f"Received: {source}\r\n\tby {hostname} (smtpguard) with {kind} id {id};\r\n\t{date}\r\n".encode()


class Message(Fields):
    """A message over its raw octets (CRLF line ends, dots unstuffed): header fields at once, the rest when asked for.

    `raw` is bytes, or a memory-mapped file where the message is large; it is only read. A header section that does not
    end within HEADER_LIMIT octets is cut there.
    """

    def __init__(self, raw: Buffer) -> None:
        self.raw: Final = raw
        self.size: Final = len(raw)
        end = 0 if raw[:2] == b"\r\n" else raw.find(b"\r\n\r\n", 0, HEADER_LIMIT)
        if end >= 0:
            self.body_offset = end + (4 if end else 2)
            super().__init__(raw[:end])
        else:  # no body (RFC 5322 2.1), or no header that ends
            self.body_offset = min(self.size, HEADER_LIMIT)
            super().__init__(raw[: self.body_offset].removesuffix(b"\r\n"))
        self._mailboxes: dict[bytes, tuple[Mailbox, ...]] = {}

    @once
    def root(self) -> Part:
        """The message as a MIME part, with the parts below it."""
        return outline(self)

    def walk(self) -> Iterator[Part]:
        """The root and all parts below it, in the order of their octets."""
        return walk(self.root)

    def mailboxes(self, name: bytes) -> tuple[Mailbox, ...]:
        """What the fields of a name (lower case) list (RFC 5322 3.4), with entries that are no address."""
        found = self._mailboxes.get(name)
        if found is None:
            fields = self.by_name.get(name, ())
            if len(fields) == 1:
                found = mailboxes(fields[0].value)
            else:
                found = tuple([box for field in fields for box in mailboxes(field.value)])
            self._mailboxes[name] = found
        return found

    @once
    def bodies(self) -> Bodies:
        """The texts and pages that a reader is shown, each read once."""
        from smtpguard.mail.page import bodies  # brings the HTML parser with it, which most commands do without

        return bodies(self.root)

    @once
    def words(self) -> str | None:
        """The text of a message that is nothing but text, of a known charset, as it stands and without links.

        None for any other. Of such a message `root` and `bodies` say no more: no part, no fault, no page, no file.
        """
        named, raw = self.by_name, self.raw
        if not isinstance(raw, bytes) or self.size > WORDS_LIMIT or b"content-disposition" in named:
            return None
        typed, encoded = named.get(b"content-type"), named.get(b"content-transfer-encoding")
        charset = "us-ascii"
        if typed is not None:
            kind, params = structured(typed[0].value)
            charset = params.get("charset") or charset
            if len(typed) > 1 or kind != "text/plain" or "name" in params or not codec_of(charset):
                return None
        if encoded is not None and (len(encoded) > 1 or structured(encoded[0].value).value not in ("7bit", "8bit")):
            return None
        if b"mime-version" not in named and (typed is not None or encoded is not None):
            return None
        text = to_text(raw[self.body_offset :], charset)
        return None if may_have_links(text) else text

    @once
    def body_8bit_at(self) -> int | None:
        """Where the body's first octet above 127 stands; None: it is US-ASCII."""
        if isinstance(self.raw, bytes) and self.raw.isascii():
            return None
        return first_8bit(self.raw, self.body_offset, self.size)

    @once
    def is_plain(self) -> bool:
        """Whether the body is plain text, as `octets.is_plain` has it."""
        return is_plain(self.raw, self.body_offset)

    @once
    def body_bare_at(self) -> int | None:
        """Where the body's first CR or LF stands that is not part of a CRLF; None: there is none."""
        return None if self.is_plain else first_bare_newline(self.raw, self.body_offset, self.size)

    @once
    def long_lines(self) -> LongLines | None:
        """The lines, of header and body, that are longer than SMTP takes; None where none is."""
        return long_lines(self.raw)

    def rest(self) -> None:
        """Give back the memory that reading a mapped file took; what is asked for later is read again."""
        if isinstance(self.raw, mmap):
            self.raw.madvise(MADV_DONTNEED)

    def let_go(self) -> None:
        """Forget what was read of the body: parts hold their message, which else waits for the garbage collector."""
        for read in ("root", "bodies", "words"):
            self.__dict__.pop(read, None)

    def line_of(self, offset: int) -> int:
        """The number of the line, from 1, that holds the octet at `offset`."""
        return newlines(self.raw, offset) + 1
