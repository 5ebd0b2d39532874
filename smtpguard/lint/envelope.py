"""ENV: the envelope sender, MAIL FROM (RFC 5321 4.1.1.2): can it be written to, and can a stranger read it.

Receivers look at it before anything else, and a bounce has nowhere else to go. The null sender `<>` of bounces is
right as it is: only how many it is sent to is asked. What cannot be framed the door refuses, whatever is set here.
"""

from __future__ import annotations

from typing import Final

from smtpguard.lint import marks
from smtpguard.lint.facts import MailDomain, SenderDomain
from smtpguard.lint.finding import Evidence, Hit, Severity, Stage
from smtpguard.lint.names import path_fault, why_local
from smtpguard.lint.rule import Hits, rule
from smtpguard.mail.reply import clean
from smtpguard.mail.session import Envelope

_SENDER: Final = "sender.invalid"


def shown_path(path: bytes) -> Evidence:
    """A path as evidence."""
    return Evidence(f"<{clean(path[:320].decode('utf-8', 'replace'), utf8=True)}>")


def of_domain(domain: MailDomain, message: str, record: str = "", fix: str = "") -> Hit:
    """A hit that rests on what the DNS says of a domain; its name is the evidence where there is no record."""
    return Hit(message, Evidence(record or domain.name), fix, ttl=domain.ttl, is_stale=domain.is_stale)


@rule(
    "ENV001",
    "sender-syntax",
    Severity.ERROR,
    Stage.MAIL,
    category=_SENDER,
    reference="RFC 5321 4.1.2, 4.5.3.1; RFC 6531 3.3",
    predicts=[
        ("Google", "553 5.1.7 (support.google.com/a/answer/3726730, 2026-02-15)"),
        ("Yahoo", "553 exotic characters (senders.yahooinc.com/smtp-error-codes, 2026-02-15)"),
    ],
    answer="553 5.1.7",
    certain=True,
    when=marks.PATH,
)
def sender_syntax(envelope: Envelope) -> Hits:
    """The envelope sender is a mailbox in the grammar of SMTP.

    A sender that breaks the grammar or a size limit is refused at MAIL by strict servers, and where it is accepted, a
    bounce cannot come back. Local parts with two dots in a row, or a dot at one end, exist and are mostly accepted:
    those are a warning.

    Fix: correct the sender address in the program that submits the mail: at most 64 octets before the @ and 63 in each
    label of the domain; letters, digits and hyphens in the domain; double quotes around a local part with characters
    beyond those of a name.
    """
    if not envelope.mail_from:
        return
    fault = path_fault(envelope.mail_from, utf8=envelope.smtputf8)
    if fault is not None:
        yield Hit(
            f"the envelope sender is not a valid mailbox: {fault.words}",
            shown_path(envelope.mail_from),
            severity=Severity.WARNING if fault.is_odd else None,
        )


@rule(
    "ENV002",
    "sender-domain-missing",
    Severity.ERROR,
    Stage.MAIL,
    category=_SENDER,
    reference="RFC 5321 2.3.5, 5.1",
    predicts=[
        ("Postfix", "450 4.1.8 Sender address rejected: Domain not found (postconf(5))"),
        ("Yahoo", "451/554 unresolvable sender domain (senders.yahooinc.com/smtp-error-codes, 2026-02-15)"),
    ],
    answer="550 5.1.8",
)
def sender_domain_missing(domain: SenderDomain) -> Hits:
    """The domain of the envelope sender exists and has an MX, A or AAAA record.

    A bounce to it could not be delivered, so most servers refuse such a sender. Said only when the DNS has answered for
    every type; a failing name server does not count.

    Fix: correct the sender's domain, or register it and publish an MX record: `example.com. MX 10 mail.example.com.`.
    """
    if domain.is_missing:
        what = "does not exist"
    elif domain.is_hostless:
        what = "has no MX, A or AAAA record"
    else:
        return
    yield of_domain(
        domain,
        f"the envelope sender's domain {domain.name} {what}",
        fix=f"correct the domain {domain.name}, or publish where its mail goes: "
        f'"{domain.name}. MX 10 mail.{domain.name}." and an A record for that host',
    )


@rule(
    "ENV003",
    "sender-null-mx",
    Severity.WARNING,
    Stage.MAIL,
    category=_SENDER,
    reference="RFC 7505 4.2",
    predicts=[
        ("RFC 7505", "550 5.7.27 Sender address has null MX"),
        ("Yahoo", "550/554 (senders.yahooinc.com/smtp-error-codes, 2026-02-15)"),
    ],
    answer="550 5.7.27",
)
def sender_null_mx(domain: SenderDomain) -> Hits:
    """The domain of the envelope sender does not declare that it takes no mail.

    A null MX (`MX 0 .`) says that nobody reads mail there: a receiver may refuse a sender that cannot be answered.

    Fix: send with an envelope sender in a domain that takes mail, or replace the null MX with a real one.
    """
    if domain.is_null_mx:
        yield of_domain(
            domain,
            f"the envelope sender's domain {domain.name} has a null MX: it takes no bounces",
            f"{domain.name}. MX 0 .",
            f'replace the record by "{domain.name}. MX 10 mail.{domain.name}.", or use a sender in a domain with mail',
        )


@rule(
    "ENV004",
    "sender-not-fqdn",
    Severity.ERROR,
    Stage.MAIL,
    category=_SENDER,
    reference="RFC 5321 2.3.5; RFC 6761 6; RFC 6762 3",
    predicts=[
        ("Postfix", "504 5.5.2 Sender address rejected: need fully-qualified address (postconf(5))"),
        ("Postfix", "450 4.1.8 Sender address rejected: Domain not found (postconf(5))"),
    ],
    answer="553 5.1.8",
    when=marks.LOCAL,
)
def sender_not_fqdn(envelope: Envelope) -> Hits:
    """The envelope sender has a domain name that means something outside this network.

    `root@localhost`, `www-data@web1` and names below `.local` come from programs that took the machine's name for a
    mail domain. No stranger can write back to them, so the mail is refused.

    Fix: set the mail domain where the mail is made: `myorigin = example.com` in Postfix, `qualify_domain` in Exim, the
    envelope sender (`sendmail -f`, Return-Path) in the application.
    """
    domain = clean(envelope.sender_domain, utf8=True)
    why = why_local(domain) if domain else ""
    if why:
        yield Hit(f"the envelope sender cannot be answered: {why}", shown_path(envelope.mail_from))


@rule(
    "ENV005",
    "null-sender-many-rcpts",
    Severity.WARNING,
    Stage.RCPT,
    category="rate.too_many_recipients",
    reference="RFC 5321 6.1; RFC 3464 2",
    predicts=[("mox", "452 4.5.3")],
    answer="452 4.5.3",
    when=marks.NULL,
)
def null_sender_many_rcpts(envelope: Envelope) -> Hits:
    """Mail without an envelope sender goes to one recipient.

    `MAIL FROM:<>` is for bounces and receipts, each of which answers one message of one sender. With several recipients
    it looks like a campaign that hides where it comes from.

    Fix: give the mail a real envelope sender whose bounces are read; send only DSNs, MDNs and automatic answers with
    `<>`, each in a transaction of its own.
    """
    if not envelope.mail_from and len(envelope.rcpts) > 1:
        yield Hit(f"the null sender <> is used for {len(envelope.rcpts)} recipients", Evidence("<>"))
