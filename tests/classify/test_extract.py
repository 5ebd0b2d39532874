"""What is read out of a reply besides its cause: each value in its forms, and what only looks like one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpguard.classify import extract
from smtpguard.classify.regex import any_of


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Message temporarily deferred - [TSS04]; see https://postmaster.yahooinc.com/error-codes", "TSS04"),
        ("refused by policy [BL21]", "BL21"),
        ("part of their network is on our block list (S3150).", "S3150"),
        ("http://postmaster.info.aol.com/errors/421rlyb1.html (RLY:B1)", "RLY:B1"),
        ("Access denied, banned sender AS(42004)", "AS(42004)"),
        ("https://support.google.com/mail/?p=UnsolicitedRateLimitError x - gsmtp", "p=UnsolicitedRateLimitError"),
        ("https://example.com/?a=b&p=NoSuchUser", "p=NoSuchUser"),
        ("blocked. See AUP#1260", "AUP#1260"),
        ("DY-001 (COL004) Unfortunately, messages from 192.0.2.1", "DY-001"),
        ("ESMTP server not available IPBL0001", "IPBL0001"),
        ("IB607. Connection refused", "IB607"),
        ("Service refuse. Veuillez essayer plus tard. OFR_416 [416]", "OFR_416"),
        ("LPN007_510 Trop de connexions", "LPN007_510"),
        ("DT:SPM 163 smtp1", "DT:SPM"),
        ("MXIN506 MailFrom domain is listed", "MXIN506"),
        ("from 192.0.2.1 [192.0.2.7] (#5.7.1) see (TLS) http://x.example/?page=1", ""),
        ("LIBRARY IBMX OFRX XIB607 aAS(4)", ""),
    ],
)
def test_the_provider_s_own_code(text: str, code: str) -> None:
    assert extract.provider_code(text) == code


@pytest.mark.parametrize(
    ("text", "ip"),
    [
        ("Client host [192.0.2.7] blocked", "192.0.2.7"),
        ("version 4.2.0.999 then 198.51.100.255.", "198.51.100.255"),
        ("010.1.1.1 is no address, 203.0.113.9 is", "203.0.113.9"),
        ("[2001:DB8::7] is listed", "2001:db8::7"),
        ("at 12:30:45 nobody", ""),
        ("1.2.3", ""),
    ],
)
def test_the_first_address(text: str, ip: str) -> None:
    assert extract.sending_ip(text) == ip


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("blocked using ZEN.SPAMHAUS.ORG", "zen.spamhaus.org"),
        ("spamhaus says, see https://www.spamhaus.org/query/domain/x", "dbl.spamhaus.org"),  # the longest name
        ("rejected (SORBS)", "dnsbl.sorbs.net"),
        ("it absorbs mail", ""),
        ("Blocked by Rbl.Example.Net", "rbl.example.net"),
        ("listed in the bl.example.org list", "bl.example.org"),
        ("denied by RBL: listed at bl.example.org", "bl.example.org"),
        ("terrible.example.net", ""),
        ("enlisted at bl.example.org", ""),
    ],
)
def test_the_block_list(text: str, name: str) -> None:
    assert extract.blocklist(text)[0] == name


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("sending domain [EXAMPLE.COM] does not pass", "example.com"),
        ("Unauthenticated email from example.org is not accepted due to domain's DMARC policy", "example.org"),
        ("Sender address <ann@example.net> rejected", "example.net"),
        ("Domain of sender address ann@example.org does not resolve", "example.org"),
        ("Domain of sender address example.org does not exist", "example.org"),
        ("the domain is unknown", ""),
    ],
)
def test_the_sender_s_domain(text: str, domain: str) -> None:
    assert extract.sender_domain(text) == domain


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("message size exceeds fixed Maximum of 25 MB here", "25 MB"),
        ("SIZE LIMIT 10,485,760 BYTES", "10,485,760 BYTES"),
        ("\u0130\u0130 limit of 5 kB", "5 kb"),  # longer in lower case than as written
        ("the limit was reached on the day", ""),
    ],
)
def test_the_limit_as_written(text: str, limit: str) -> None:
    assert extract.limit(text) == limit


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("see Https://Example.com/Why?p=Abc.", "Https://Example.com/Why?p=Abc"),
        ("(http://example.com/a)", "http://example.com/a"),
        ("xhttp://example.com https://", ""),
    ],
)
def test_the_page(text: str, url: str) -> None:
    assert extract.url(text) == url


def test_what_was_found_of_each_method() -> None:
    assert extract.auth_results("Spf= Fail , Dkim= Pass , DMARC= Fail") == "SPF fail, DKIM pass, DMARC fail"
    assert extract.auth_results("DKIM = did not pass SPF [example.com] with ip: [192.0.2.7] = did not pass") == (
        "DKIM fail, SPF fail"
    )
    assert extract.auth_results("spf policy, nodkim = pass") == ""


_TEXT = st.text("ab.*", max_size=8)


@given(st.lists(_TEXT.filter(bool), min_size=1, max_size=6), _TEXT)
def test_a_tree_of_characters_finds_what_any_word_is_in(words: list[str], text: str) -> None:
    assert (re.search(any_of(words), text) is not None) == any(word in text for word in words)
