"""RCP: the recipients, RCPT TO, each by itself: can it be an address, and does its domain take mail (RFC 5321 5.1).

Whether the mailbox exists only its host can say. Messages name the domain and never the mailbox: they are logged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from smtpguard.lint import marks
from smtpguard.lint.envelope import of_domain, shown_path
from smtpguard.lint.facts import Offers, RcptDomain
from smtpguard.lint.finding import Evidence, Hit, Severity, Stage
from smtpguard.lint.names import MEANT, is_inside, literal, path_fault
from smtpguard.lint.rule import Hits, rule
from smtpguard.mail.session import Envelope, Recipient
from smtpguard.mailauth.dns import Answer, IpAddress, Status

_DOMAIN: Final = "recipient.domain"


@rule(
    "RCP001",
    "rcpt-syntax",
    Severity.ERROR,
    Stage.RCPT,
    category="recipient.syntax",
    reference="RFC 5321 4.1.2, 4.5.3.1",
    predicts=[("Google", "553 5.1.3 (support.google.com/a/answer/3726730, 2026-02-15)")],
    answer="553 5.1.3",
    certain=True,
    when=marks.PATH,
)
def rcpt_syntax(recipient: Recipient, envelope: Envelope) -> Hits:
    """A recipient is a mailbox in the grammar of SMTP.

    No server has a mailbox for an address that cannot be one: it is a typing error that a form or an import let
    through. Local parts with two dots in a row, or with a dot at one end, exist and are mostly accepted: those are a
    warning.

    Fix: correct the address where it is kept, and check addresses when they are typed in (one @, a domain with a dot,
    no blanks).
    """
    if recipient.path.lower() == b"postmaster":  # RFC 5321 4.1.1.3: the one mailbox that needs no domain
        return
    fault = path_fault(recipient.path, utf8=envelope.smtputf8)
    if fault is not None:
        yield Hit(
            f"the recipient is not a valid mailbox: {fault.words}",
            shown_path(recipient.path),
            severity=Severity.WARNING if fault.is_odd else None,
        )


@rule(
    "RCP002",
    "rcpt-domain-missing",
    Severity.ERROR,
    Stage.RCPT,
    category=_DOMAIN,
    reference="RFC 5321 5.1",
    predicts=[("any sending MTA", "550 5.1.2, a bounce of its own (RFC 3463 3.2)")],
    answer="550 5.1.2",
)
def rcpt_domain_missing(domain: RcptDomain) -> Hits:
    """The domain of a recipient exists.

    Mail to a domain that does not exist is bounced by the next server that looks it up, and writing to such addresses
    again and again is the mark of a badly kept list.

    Fix: correct the part after the @, or take the address off the list.
    """
    if domain.is_missing:
        yield of_domain(domain, f"the recipient's domain {domain.name} does not exist")


@rule(
    "RCP003",
    "rcpt-null-mx",
    Severity.ERROR,
    Stage.RCPT,
    category=_DOMAIN,
    reference="RFC 7505 3",
    predicts=[("any sending MTA", "556 5.1.10, a bounce of its own (RFC 7505 4.1)")],
    answer="556 5.1.10",
)
def rcpt_null_mx(domain: RcptDomain) -> Hits:
    """The domain of a recipient takes mail.

    A null MX (`MX 0 .`) is its owner's word that no mailbox exists there. It will not change by trying again.

    Fix: take the address off the list, or ask the person for another one.
    """
    if domain.is_null_mx:
        words = f"the recipient's domain {domain.name} declares that it takes no mail"
        yield of_domain(domain, words, f"{domain.name}. MX 0 .")


@rule(
    "RCP004",
    "rcpt-no-mail-host",
    Severity.ERROR,
    Stage.RCPT,
    category=_DOMAIN,
    reference="RFC 5321 5.1",
    predicts=[("any sending MTA", "550 5.4.4, a bounce of its own (RFC 3463 3.5)")],
    answer="550 5.4.4",
)
def rcpt_no_mail_host(domain: RcptDomain) -> Hits:
    """The domain of a recipient has a host to deliver to.

    Without an MX record a domain's own address is its mail host; with neither MX nor A nor AAAA there is nowhere to
    deliver to. Mostly a domain bought and never used, or a subdomain typed wrong.

    Fix: correct the part after the @, or take the address off the list; if the domain is yours, publish an MX record.
    """
    if domain.is_hostless:
        yield of_domain(
            domain,
            f"the recipient's domain {domain.name} has no MX, A or AAAA record",
            fix=f'correct the part after the @; if the domain is yours: "{domain.name}. MX 10 mail.{domain.name}."',
        )


@rule(
    "RCP005",
    "rcpt-mx-unusable",
    Severity.WARNING,
    Stage.RCPT,
    category=_DOMAIN,
    reference="RFC 5321 5.1; RFC 6890 2.2",
    predicts=[("any sending MTA", "550 5.4.4 or 451 4.4.1 until it gives up (RFC 3463 3.5)")],
    answer="550 5.4.4",
)
def rcpt_mx_unusable(domain: RcptDomain) -> Hits:
    """At least one MX of a recipient's domain can be connected to.

    An MX that does not exist, is an address instead of a name, or has only private addresses cannot be reached from
    outside. Mail waits in the queue and bounces after days. An MX that is an alias (CNAME) is against RFC 2181 10.3,
    but mail is delivered to it.

    Fix: correct the part after the @ if it is misspelled; else tell the domain's owner which MX record is wrong.
    """
    if domain.is_null_mx or not domain.mx.records:
        return
    faults = []
    for mx in domain.mx.records:
        fault = unreachable(mx.host, domain.hosts.get(mx.host, ()))
        if not fault:
            return
        faults.append(f"{mx.host}: {fault}")
    yield of_domain(
        domain,
        f"no MX of the recipient's domain {domain.name} can be used: {'; '.join(faults[:3])}",
        "; ".join(f"{domain.name}. MX {mx.preference} {mx.host}." for mx in domain.mx.records[:5]),
    )


def mx_fault(host: str, answers: Sequence[Answer[IpAddress]]) -> str:
    """Why a host should not be named by an MX, "" where it may or the DNS did not say."""
    is_alias = any(answer.canonical for answer in answers)
    return unreachable(host, answers) or ("an alias (CNAME)" if is_alias else "")  # RFC 2181 10.3


def unreachable(host: str, answers: Sequence[Answer[IpAddress]]) -> str:
    """Why mail cannot be delivered to a host."""
    if literal(f"[{host}]") or literal(f"[IPv6:{host}]"):
        return "an address, not a name"
    if not answers or not all(answer.is_known for answer in answers):
        return ""
    addresses = [address for answer in answers for address in answer.records]
    if not addresses:
        return "no such name" if all(answer.status is Status.NXDOMAIN for answer in answers) else "no address"
    if all(map(is_inside, addresses)):
        return f"only private addresses ({addresses[0]})"
    return ""


@rule(
    "RCP006",
    "rcpt-needs-smtputf8",
    Severity.ERROR,
    Stage.RCPT,
    category="recipient.syntax",
    reference="RFC 6531 3.5",
    predicts=[("any server without SMTPUTF8", "553 5.6.7 (RFC 6531 3.5)")],
    answer="553 5.6.7",
    when=marks.FOREIGN,
)
def rcpt_needs_smtputf8(recipient: Recipient, offers: Offers) -> Hits:
    """A recipient with non-ASCII characters goes by a next hop that offers SMTPUTF8.

    Without that extension there is no way to name such a mailbox in SMTP, and it has no other spelling.

    Fix: use a next hop that offers SMTPUTF8 (in Postfix `smtputf8_enable = yes`), or ask the person for an ASCII
    address; a non-ASCII domain alone can be written in A-labels (`xn--...`).
    """
    if not recipient.path.isascii() and "SMTPUTF8" not in offers.keywords:
        yield Hit("the recipient's address is not ASCII, and the next hop lacks SMTPUTF8", shown_path(recipient.path))


@rule(
    "RCP007",
    "rcpt-domain-typo",
    Severity.INFO,
    Stage.RCPT,
    category=_DOMAIN,
    reference="RFC 5321 5.1",
    predicts=[("the misspelled domain", "a bounce, or a spam trap that takes it")],
    when=marks.TYPO,
)
def rcpt_domain_typo(recipient: Recipient) -> Hits:
    """The domain of a recipient is not a known misspelling of a large provider's.

    Some of these domains do not exist; others belong to people who collect what is sent there or use it as a spam trap.

    Fix: ask the person for the right address, and have the sign-up form point out such domains.
    """
    meant = MEANT.get(recipient.domain)
    if meant:
        yield Hit(f"the recipient's domain {recipient.domain} is probably meant to be {meant}", Evidence(meant))
