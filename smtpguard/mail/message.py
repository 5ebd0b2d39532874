"""A message as raw bytes: its header section, and the one field that we put in front (RFC 5322 2.2, RFC 5321 4.4)."""

from __future__ import annotations

import re
from typing import Final

from smtpguard.mail.reply import clean
from smtpguard.mail.session import Session

HEAD_OCTETS: Final = 65_536
"""How much of a message is kept at hand for reading header fields."""

_FOLD = re.compile(rb"\r\n(?=[ \t])")
# RFC 5321 4.1.2 Domain and address-literal, and what XFORWARD may bring: enough for a comment-free token.
_TOKEN = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")


def header_field(head: bytes, name: bytes) -> str:
    """The first field of that name (lower case, without colon) in `head`, unfolded, cleaned; "" if there is none.

    `head` is the beginning of a message with CRLF line ends, as sent on the wire (a field never begins with a dot).
    """
    end = head.find(b"\r\n\r\n")
    section = head if end < 0 else head[:end]
    lowered = section.lower()
    needle = name + b":"
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
    return clean(_FOLD.sub(b"", value).strip().decode("utf-8", "replace"), utf8=True)


# RFC 5321 4.4: Id = CFWS "ID" FWS ( Atom / msg-id ); Postfix, Exim and sendmail write their queue id there.
_QUEUE_ID = re.compile(r"\bid ([0-9A-Za-z-]{6,32})(?=[\s;]|$)", re.IGNORECASE)


def queue_id_of(head: bytes) -> str:
    """The queue id in the topmost `Received:` of a message, which the MTA that hands it to us has written; "" if none.

    For MTAs that tell no IDENT by XFORWARD: Exim, and Postfix for mail of its own (sendmail(1), bounces).
    """
    found = _QUEUE_ID.search(header_field(head, b"received"))
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
