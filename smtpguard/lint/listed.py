"""RBL: blocklist entries of our addresses, of the sender's domains, and of the hosts that links lead to (RFC 5782).

What a list's answer means, and which answers mean nothing, is decided where lists are read (`lists.py`): a listing
that arrives here is one. RBL001 to RBL003 are about our own addresses: they act on mail only where they are named.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Final

from smtpguard.lint import marks
from smtpguard.lint.facts import Egress, LinkListings, Listing, SenderListings
from smtpguard.lint.finding import Evidence, Hit, Severity, Stage
from smtpguard.lint.rule import Hits, rule

_IP: Final = "reputation.ip_listed"
_DOMAIN: Final = "reputation.domain_listed"


def _hits(
    words: str, subject: str, listings: Iterable[Listing], kinds: Container[str], *, cure: str = "stop what caused it"
) -> Hits:
    """One hit for each listing of those kinds, with the page to ask at. `words` name the subject in the message."""
    for listing in listings:
        if listing.kind in kinds:
            where = f" at {listing.url}" if listing.url else ""
            yield Hit(
                f"{words} is listed by {listing.list}: {listing.meaning}",
                Evidence(f"{subject} {listing.list}"),
                f"{cure}, then ask {listing.list} for delisting{where}",
                Severity.INFO if listing.kind in _SLIGHT else None,
            )


_SLIGHT: Final = ("minor", "grey")
_ALL: Final = ("listed", "policy", *_SLIGHT)


def _of_egress(egress: Egress, kinds: Container[str]) -> Hits:
    for one in egress.addresses:
        yield from _hits(str(one.address), str(one.address), one.listings or (), kinds)


@rule(
    "RBL001",
    "egress-listed",
    Severity.ERROR,
    Stage.BACKGROUND,
    category=_IP,
    reference="RFC 5782 2.1",
    predicts=[
        ("Yahoo", "553 5.7.1 [BL21] [BL23] (senders.yahooinc.com/smtp-error-codes, 2026-02-15)"),
        ("Microsoft", "550 OU-001 (olcsupport.office.com, 2026-06-15)"),
        ("Google", "550 5.7.1 (support.google.com/a/answer/3726730, 2026-02-15)"),
    ],
    answer="451 4.7.1",
)
def egress_listed(egress: Egress) -> Hits:
    """No address that mail leaves from is on a blocklist that large receivers use.

    Spamhaus lists addresses that were seen sending spam or malware. Most receivers refuse them outright.

    Fix: find out what was sent (an infected host, a stolen login, an open form), stop it, then ask for delisting; or
    send by another route until it is done.
    """
    yield from _of_egress(egress, ("listed",))


@rule(
    "RBL002",
    "egress-policy-listed",
    Severity.WARNING,
    Stage.BACKGROUND,
    category=_IP,
    reference="spamhaus.org/blocklists/policy-blocklist; RFC 5782 2.1",
    predicts=[("Microsoft", "550 DY-001 (olcsupport.office.com, 2026-06-15)")],
)
def egress_policy_listed(egress: Egress) -> Hits:
    """No address that mail leaves from is in a range that should send none.

    The policy blocklist holds the ranges of customers' lines, as the provider declares them or as their names show. It
    is no accusation: such an address just should not deliver mail itself.

    Fix: set a proper PTR record and have the address removed on the list's page, if the provider allows mail servers;
    else send through the provider's smarthost.
    """
    yield from _of_egress(egress, ("policy",))


@rule(
    "RBL003",
    "egress-listed-minor",
    Severity.INFO,
    Stage.BACKGROUND,
    category=_IP,
    reference="RFC 5782 2.1",
    predicts=[("smaller receivers", "554 5.7.1 with the list's name")],
)
def egress_listed_minor(egress: Egress) -> Hits:
    """No address that mail leaves from is on one of the smaller blocklists.

    Few receivers refuse by these alone, but an entry is often the first sign of something that larger lists will see
    next.

    Fix: look the reason up on the list's page; most entries end by themselves when the cause has gone.
    """
    yield from _of_egress(egress, _SLIGHT)


@rule(
    "RBL004",
    "domain-listed",
    Severity.ERROR,
    Stage.DATA,
    category=_DOMAIN,
    reference="RFC 5782 2.3; spamhaus.org/blocklists/domain-blocklist",
    predicts=[("receivers that use domain lists", "550 5.7.1 with the list's name")],
    answer="550 5.7.1",
    when=marks.LISTED,
)
def domain_listed(listings: SenderListings) -> Hits:
    """No domain that stands for the sender is on a domain blocklist.

    Receivers look up the domains of the envelope sender, of From and of DKIM wherever the mail comes from: another IP
    address does not help.

    Fix: ask for delisting on the list's page after stopping the cause; a new domain clears by itself after some weeks
    of little mail.
    """
    for domain, entries in listings.by_domain.items():
        yield from _hits(f"the sender's domain {domain}", domain, entries, _ALL)


@rule(
    "RBL005",
    "url-domain-listed",
    Severity.WARNING,
    Stage.DATA,
    category=_DOMAIN,
    reference="RFC 5782 2.3; surbl.org/guidelines",
    predicts=[
        ("Google", "421 4.7.0 suspicious links (support.google.com/a/answer/3726730, 2026-02-15)"),
        ("Yahoo", "553/554 [PH01] (senders.yahooinc.com/smtp-error-codes, 2026-02-15)"),
    ],
    answer="550 5.7.1",
    when=marks.LISTED,
)
def url_domain_listed(listings: LinkListings) -> Hits:
    """No link in a message leads to a domain that is on a blocklist.

    Receivers look up the hosts of links. A link to a hacked page, or to a shortener that spammers use, is enough for a
    refusal.

    Fix: remove the link, or link to a page of your own; if the domain is yours, clean it up and ask for delisting.
    """
    for domain, entries in listings.by_domain.items():
        words = f"{domain}, to which a link of the message leads,"
        yield from _hits(words, domain, entries, _ALL, cure=f"remove the link to {domain}, or clean the page up")
