"""Who speaks and what is asked: session, envelope, recipients, as the wire gave them.

Paths and parameters are the client's octets (RFC 5321 4.1.2, RFC 3461, RFC 6531): they are passed on as they are or
refused, never written anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

DoorName = Literal["lmtp", "smtp"]


@dataclass(slots=True)
class Session:
    """One connection from the MTA. `client` is what XFORWARD said of the MTA's own client, by attribute name."""

    id: str
    door: DoorName
    peer_ip: str = ""  # "" on a Unix socket
    peer_port: int = 0
    helo: str = ""
    esmtp: bool = False
    tls_version: str = ""
    login: str = ""
    client: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Recipient:
    """A forward path (octets between the angle brackets) and its DSN parameters (NOTIFY, ORCPT) as given."""

    path: bytes
    params: tuple[bytes, ...] = ()

    @property
    def domain(self) -> str:
        """The part after the last `@`, lower case; "" where there is none."""
        return domain_of(self.path)


@dataclass(slots=True)
class Envelope:
    """A reverse path (b"" is the null sender), what was asked with it, and the recipients taken.

    `params` are the parameters that are passed on as given (RET, ENVID, BODY, SMTPUTF8); `size` is SIZE= or None.
    """

    mail_from: bytes
    params: tuple[bytes, ...] = ()
    size: int | None = None
    smtputf8: bool = False
    eight_bit: bool = False
    dsn: bool = False  # RET or ENVID here, or NOTIFY or ORCPT at a recipient
    queue_id: str = ""  # XFORWARD IDENT
    rcpts: list[Recipient] = field(default_factory=list)

    @property
    def sender_domain(self) -> str:
        """The reverse path's domain, lower case; "" for the null sender."""
        return domain_of(self.mail_from)


def domain_of(path: bytes) -> str:
    """The domain of a path: after the last `@`, lower case, decoded as UTF-8 (never fails)."""
    return path.rpartition(b"@")[2].decode("utf-8", "replace").lower() if b"@" in path else ""
