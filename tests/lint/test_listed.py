"""RBL: a listing is told by its kind, with the page to ask at; no listing, no finding."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from smtpguard.lint.facts import Egress, EgressAddress, LinkListings, Listing, SenderListings
from tests.lint.asking import ask

SBL = Listing("zen.spamhaus.org", "SBL", "https://check.spamhaus.org/query/ip/203.0.113.7")
PBL = Listing("zen.spamhaus.org", "PBL", "https://check.spamhaus.org/query/ip/203.0.113.7", "policy")
MINOR = Listing("psbl.surriel.com", "spam trap", "", "minor")
GREY = Listing("multi.uribl.com", "grey", "", "grey")


@pytest.mark.parametrize(("code", "meant"), [("RBL001", SBL), ("RBL002", PBL), ("RBL003", MINOR), ("RBL003", GREY)])
def test_our_addresses(code: str, meant: Listing) -> None:
    clean = EgressAddress(ip_address("203.0.113.8"))
    for listing in (SBL, PBL, MINOR, GREY):
        findings = ask(code, Egress((clean, EgressAddress(ip_address("203.0.113.7"), listings=(listing,)))))
        is_meant = listing is meant or {listing, meant} == {MINOR, GREY}
        assert [finding.message for finding in findings] == (
            [f"203.0.113.7 is listed by {listing.list}: {listing.meaning}"] if is_meant else []
        )
        assert all(listing.url in finding.fix for finding in findings)


def test_the_senders_domains() -> None:
    listings = SenderListings({"example.com": (SBL, GREY), "example.net": ()})
    findings = ask("RBL004", listings)
    assert [finding.severity.value for finding in findings] == ["error", "info"]
    assert findings[0].message == "the sender's domain example.com is listed by zen.spamhaus.org: SBL"
    assert ask("RBL004", SenderListings({"example.net": ()})) == []


def test_hosts_of_links() -> None:
    (finding,) = ask("RBL005", LinkListings({"bad.example": (SBL,), "good.example": ()}))
    assert finding.message == "bad.example, to which a link of the message leads, is listed by zen.spamhaus.org: SBL"
    assert finding.fix.startswith("remove the link to bad.example")
    assert ask("RBL005", LinkListings({})) == []
