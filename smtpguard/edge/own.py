"""What a message says of itself, and so what must be asked for it: signatures, the From domain, the domains of links.

Reading takes a while where a message is large: it is done in a thread then, and touches nothing but the message.
"""

from __future__ import annotations

from typing import NamedTuple

from smtpguard.flow import Body
from smtpguard.lint.links import link_domains
from smtpguard.mail.domain import to_ascii
from smtpguard.mail.message import Message
from smtpguard.mailauth import dkim
from smtpguard.mailauth.dkim_field import Signature


class Own(NamedTuple):
    """Domains are A-labels; `header_from` "" where there is none."""

    signatures: tuple[Signature, ...]
    header_from: str
    links: tuple[str, ...]


class Read(NamedTuple):
    """A message that was read."""

    message: Message
    own: Own


def reading(body: Body) -> Read:
    """Read it. OSError where the body cannot be had; nothing that a message holds is an error."""
    message = Message(body.raw())
    found = message.mailboxes(b"from")
    header_from = to_ascii(found[0].domain) if found else ""
    return Read(message, Own(dkim.signatures(message), header_from, link_domains(message)))
