"""All that a rule may ask for, by type. `edge/gather.py` fills them in; a test writes them by hand.

A value of these types holds only what DNS, configuration and the message said: no rule asks anything itself. Where one
could not be had, `Missing` stands in its place and the rules that need it are skipped.

Besides those below, a rule may name `mail.session.Envelope`, `mail.session.Recipient` (a rule at RCPT is asked once a
recipient) and `mail.message.Message`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from smtpguard.mail.once import once
from smtpguard.mailauth.dmarc import aligned
from smtpguard.mailauth.dns import Answer, IpAddress, Mx, Status
from smtpguard.mailauth.domains import organizational
from smtpguard.mailauth.spf import SpfStatus

if TYPE_CHECKING:
    from smtpguard.mailauth.dkim import Verdict
    from smtpguard.mailauth.dkim_field import Signature
    from smtpguard.mailauth.dmarc import Discovered
    from smtpguard.mailauth.spf import Result


class Missing(NamedTuple):
    """A fact that could not be had, and why: `dns` (with what went wrong), `budget`, `unknown egress`, ..."""

    why: str


@dataclass(frozen=True, slots=True)
class MailDomain:
    """What the DNS says of a domain as a place for mail. `hosts`: for each MX host, its A and AAAA answers."""

    name: str
    mx: Answer[Mx]
    addresses: tuple[Answer[IpAddress], ...] = ()
    """A and AAAA of the domain itself, asked where there is no MX."""
    hosts: Mapping[str, tuple[Answer[IpAddress], ...]] = field(default_factory=dict)

    @property
    def is_missing(self) -> bool:
        """No such name, whatever was asked (RFC 5321 5.1). NODATA of one type, or a fault of the DNS, is not that."""
        return all(answer.status is Status.NXDOMAIN for answer in (self.mx, *self.addresses))

    @property
    def is_hostless(self) -> bool:
        """There is such a name, but neither MX nor A nor AAAA; False where the DNS could not say so of all three."""
        answers = (self.mx, *self.addresses)
        is_empty = all(answer.is_known and not answer.records for answer in answers)
        return is_empty and bool(self.addresses) and not self.is_missing

    @property
    def is_null_mx(self) -> bool:
        """It takes no mail, and says so (RFC 7505 3)."""
        return len(self.mx.records) == 1 and not self.mx.records[0].host

    @property
    def ttl(self) -> int:
        """Seconds for which this holds."""
        return min(answer.ttl for answer in (self.mx, *self.addresses))

    @property
    def is_stale(self) -> bool:
        """Whether any of it is past its time."""
        return any(answer.is_stale for answer in (self.mx, *self.addresses))


class SenderDomain(MailDomain):
    """MAIL FROM's."""


class RcptDomain(MailDomain):
    """A recipient's."""


@dataclass(frozen=True)
class Spf:
    """SPF of one identity, by each of our egress addresses (RFC 7208)."""

    identity: Literal["mailfrom", "helo"]
    domain: str
    results: Mapping[IpAddress, Result]

    @once
    def passing(self) -> str:
        """The domain, where it passes for every address; else ""."""
        return self.domain if all(result.status is SpfStatus.PASS for result in self.results.values()) else ""


class HeloSpf(Spf):
    """SPF of the name that we say EHLO with, whatever the sender: mail without one (<>) is judged by it."""


class Dkim(NamedTuple):
    """The message's signatures, each parsed and, as far as keys could be had, verified (RFC 6376)."""

    verdicts: tuple[Verdict, ...]


class Signatures(NamedTuple):
    """The message's signatures as parsed, their body hashes checked: no DNS."""

    signatures: tuple[Signature, ...]


class Legs(NamedTuple):
    """What stands for the From domain."""

    spf: bool
    dkim: bool


@dataclass(frozen=True)
class Dmarc:
    """The policy that holds for the From domain, by tree walk and by public suffix list (RFC 9989, RFC 7489).

    Missing where SPF or a key could not be had: "not known" is no "does not pass".
    """

    header_from: str
    walked: Discovered
    suffixed: Discovered
    spf_domain: str
    """The domain that SPF passed for from every egress address; "" for none."""
    dkim_domains: tuple[str, ...]
    """The d= of the signatures that pass."""
    organizational: Mapping[str, str] = field(default_factory=dict)
    """By tree walk (`dmarc.org`), of the domains above; where one is not here, the public suffix list is asked."""

    @once
    def legs(self) -> Legs:
        """Which of SPF and DKIM pass for an aligned domain, in the view of RFC 9989."""

        def of(name: str) -> str:
            return self.organizational.get(name) or organizational(name)

        policy = self.walked.policy
        strict_spf, strict_dkim = (policy.aspf, policy.adkim) if policy else ("r", "r")
        return Legs(
            bool(self.spf_domain) and aligned(self.spf_domain, self.header_from, strict_spf, of),
            any(aligned(domain, self.header_from, strict_dkim, of) for domain in self.dkim_domains),
        )


class Listing(NamedTuple):
    """An entry in a blocklist: the list's name, what the code means, a page to look it up and be delisted."""

    list: str
    meaning: str
    url: str = ""
    kind: Literal["listed", "policy", "minor", "grey"] = "listed"


@dataclass(frozen=True, slots=True)
class EgressAddress:
    """One of our public addresses as the world sees it; None where it is not known yet."""

    address: IpAddress
    ptr: Answer[str] | None = None
    forward: Mapping[str, tuple[Answer[IpAddress], ...]] = field(default_factory=dict)
    """A and AAAA of each PTR name."""
    listings: tuple[Listing, ...] | None = ()
    """None where no list could be asked."""


@dataclass(frozen=True, slots=True)
class Egress:
    """Where this message leaves from: all addresses that the next hop may use, and the name it says EHLO with."""

    addresses: tuple[EgressAddress, ...]
    helo: str = ""
    helo_addresses: tuple[Answer[IpAddress], ...] = ()
    tls: Literal["verified", "unverified", "none", "unknown"] = "unknown"
    """How the connection to the next hop is secured."""


class SenderListings(NamedTuple):
    """Blocklist entries of the domains that stand for the sender: MAIL FROM, From, d= (organizational domains)."""

    by_domain: Mapping[str, tuple[Listing, ...]]


class LinkListings(NamedTuple):
    """Blocklist entries of the hosts that links of the message lead to."""

    by_domain: Mapping[str, tuple[Listing, ...]]


@dataclass(frozen=True, slots=True)
class Offers:
    """What the next hop offered when last asked: keywords in upper case, SIZE in octets (None: no limit known)."""

    keywords: frozenset[str]
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Signing:
    """`lint.dkim.signed`: whether we see the signature, or a later host adds it."""

    signed: Literal["before", "after", "either"] = "either"


class DnsFaults(NamedTuple):
    """Questions that the DNS could not answer for this message: (`TXT of example.com`, `servfail`)."""

    faults: tuple[tuple[str, str], ...]


class Now(float):
    """Seconds since the epoch."""


class ByProvider(NamedTuple):
    """The recipients' providers (classify/providers.toml), for limits that differ: name to number of recipients."""

    recipients: Mapping[str, int]
