"""Replies to categories: what wins, what is filled in, and that nothing a server writes breaks it."""

from __future__ import annotations

import json
import random
import re
import sys
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpguard.classify import CATEGORIES, PROVIDERS, Classification, load, provider_of
from smtpguard.classify.notice import said, verb_of
from smtpguard.mail.reply import EnhancedCode, Reply, Verb

CLASSIFIER = load()


def match(text: str, host: str = "", verb: Verb | None = None) -> Classification:
    return CLASSIFIER.match(Reply.of(text, verb or Verb.MAIL), host, verb_known=verb is not None)


# --- what comes again ------------------------------------------------------------------------------------------------


def test_a_reply_that_comes_again_is_read_once() -> None:
    text = "550 5.7.1 <a@example.com>: Recipient address rejected: Access denied"
    assert match(text, verb=Verb.RCPT) is match(text, verb=Verb.RCPT)
    assert match(text, "mx.example.com", Verb.RCPT) == match(text, "mx.example.com", Verb.RCPT)


def test_what_is_kept_of_a_reply_is_of_its_host_and_verb() -> None:
    assert match("550 5.7.27 x").category != match("550 5.7.27 x", "aspmx.l.google.com").category
    assert match("552 x", verb=Verb.RCPT).category != match("552 x", verb=Verb.DOT).category
    assert (
        match("552 x", verb=Verb.RCPT).category
        != CLASSIFIER.match(Reply.of("552 x", Verb.RCPT), verb_known=False).category
    )


def test_a_long_reply_is_not_kept() -> None:
    text = f"550 5.1.1 no such user {'x' * 2000}"
    assert match(text) == match(text)
    assert match(text) is not match(text)


# --- who wins --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "host", "verb", "category"),
    [
        # text before codes
        (
            "550 5.1.1 <a@example.com>: Recipient address rejected: Greylisted for 5 minutes",
            "",
            None,
            "rate.greylisted",
        ),
        ("550 5.1.1 Your IP has no Reverse DNS", "", None, "identity.no_rdns"),
        # a plain reason before a vague one
        ("550 5.2.1 Mailbox unavailable. Your IP address 192.0.2.1 is blacklisted", "", None, "reputation.ip_listed"),
        # provider before text and before the registry
        ("550 5.7.27 x", "", None, "sender.invalid"),
        ("550 5.7.27 x", "aspmx.l.google.com", None, "auth.spf"),
        ("550 5.4.1 Access denied", "", None, "policy.unspecified"),
        ("550 5.1.10 x", "", None, "recipient.domain"),
        ("550 5.1.10 x", "example-com.mail.protection.outlook.com", None, "recipient.unknown"),
        # the verb decides where a code means two things
        ("552 x", "", Verb.RCPT, "recipient.full"),
        ("552 x", "", Verb.DOT, "message.too_large"),
        ("552 x", "", None, "unknown"),
        ("554 x", "", Verb.CONNECT, "reputation.ip_listed"),
        ("554 x", "", Verb.DOT, "unknown"),
        ("550 5.1.0 x", "", Verb.RCPT, "recipient.unknown"),
        ("550 5.1.0 x", "", Verb.MAIL, "sender.invalid"),
        # a code inside the text, as qmail and others write it
        ("553 computer says so (#5.2.2)", "", None, "recipient.full"),
        # a log's repetition of the code does not part the words
        ("550-5.1.1 The email account that you tried to reach 550 5.1.1 does not exist", "", None, "recipient.unknown"),
        # nothing is wrong with a recipient before there is one, whatever the code
        ("525 5.7.13 x", "", Verb.AUTH, "access.auth_required"),
        ("525 5.7.13 x", "", None, "recipient.disabled"),
        # of two rules as specific, the one that all words speak for
        ("553 5.7.1 Client host rejected: SPAM_CLIENT", "", None, "reputation.ip_listed"),
        # nothing known, nothing said
        ("599 gnarl", "", None, "unknown"),
        ("250 fine", "", None, "unknown"),
    ],
)
def test_the_most_specific_rule_wins(text: str, host: str, verb: Verb | None, category: str) -> None:
    assert match(text, host, verb).category == category


@pytest.mark.parametrize("words", ["Rejected", "Access denied", "Message not accepted", "Blocked by local policy"])
@pytest.mark.parametrize(
    ("code", "category"),
    [
        ("5.1.7", "sender.invalid"),
        ("5.2.2", "recipient.full"),
        ("5.3.4", "message.too_large"),
        ("5.4.6", "server.loop"),
        ("5.5.3", "rate.too_many_recipients"),
        ("5.7.8", "access.auth_required"),
        ("5.7.10", "access.tls_required"),
        ("5.7.20", "auth.dkim"),
        ("5.7.23", "auth.spf"),
        ("5.7.25", "identity.no_rdns"),
        # such a code stands for too much, or would make an address a dead one
        ("5.7.1", "policy.unspecified"),
        ("5.1.1", "policy.unspecified"),
        ("5.1.2", "policy.unspecified"),
        ("5.2.1", "policy.unspecified"),
    ],
)
def test_a_code_that_names_the_cause_is_believed_before_empty_words(words: str, code: str, category: str) -> None:
    assert match(f"550 {code} {words}").category == category


def test_but_words_that_hint_at_a_cause_are_believed_before_a_code() -> None:
    assert match("550 5.6.0 junk").category == "content.spam"
    assert match("450 4.2.2 try again later").category == "recipient.full"


@pytest.mark.parametrize(
    "around",
    [
        "{}. Please ask your postmaster, or send from another address.",
        "{}, please contact your administrator",
        "{} - see https://www.example.com/your-message for help with sending mail",
        "Your message was rejected: {}",
        "Sorry, {}",
        "Delivery failed: {}",
        "[192.0.2.1] {}",
        "mx1.example.com {}",
    ],
)
@pytest.mark.parametrize(
    ("said", "category"),
    [
        ("no such user here", "recipient.unknown"),
        ("mailbox is full", "recipient.full"),
        ("unroutable domain", "recipient.domain"),
        ("account has expired", "recipient.disabled"),
        ("only members may post to this list", "recipient.refused"),
        ("message exceeds the maximum size", "message.too_large"),
        ("too many connections", "rate.limited"),
        ("virus found", "content.virus"),
    ],
)
def test_what_a_server_says_besides_changes_nothing(around: str, said: str, category: str) -> None:
    assert match(f"550 {around.format(said)}").category == category


def test_lines_are_read_as_one() -> None:
    reply = Reply(
        550, ("The email account that you tried to reach", "does not exist."), EnhancedCode(5, 1, 1), Verb.RCPT
    )
    assert CLASSIFIER.match(reply, "gmail-smtp-in.l.google.com").rule == "google.no-such-user"


@pytest.mark.parametrize(
    "text",
    [
        "550 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using zen.spamhaus.org",
        "550 Your domain is blacklisted",
        "554 5.7.1 rejected by local policy",
        "550 5.7.26 Unauthenticated email from example.com is not accepted due to domain's DMARC policy.",
        "550 SPF check failed",
        "550 5.7.1 <user@example.com>: Recipient address rejected: Reverse DNS validation failed",
        "550 5.7.1 <user@example.com>: Recipient address rejected: Message rejected as spam",
        "553 5.7.1 <user@example.com>: Sender address rejected: not owned by user other@example.com",
        "550 5.7.1 Access denied",
        "554 rejected",
        "550 Authentication required",
        "550 cuda_nsu 5.7.1 <user@example.com>: Recipient address rejected: Policy Rejection- Abuse. Go away.",
        "451 cuda_nsu 4.4.3 Temporary server error. Please try again later",
    ],
)
def test_a_fault_of_ours_is_no_dead_address(text: str) -> None:
    for verb in (None, Verb.RCPT, Verb.DOT):
        assert not match(text, verb=verb).category.startswith("recipient."), verb


_DEAD = {"recipient.unknown", "recipient.disabled", "recipient.domain", "recipient.syntax"}
# what a refusal of ours may stand behind: the words of a dead address, and its code
_DEAD_ADDRESS = [
    "550 5.1.1 <user@example.com>: Recipient address rejected: {}",
    "550 Requested action not taken: mailbox unavailable. {}",
    "550 mailbox unavailable ({})",
    "550 5.1.1 User rejected: {}",
    "550 5.2.1 {}: mailbox unavailable",
    "550 5.1.1 {}",
]


@pytest.mark.parametrize("around", _DEAD_ADDRESS)
@pytest.mark.parametrize(
    "reason",
    [
        "Client host [192.0.2.7] blocked using zen.spamhaus.org",
        "your IP address is on our blacklist",
        "poor reputation of 192.0.2.7",
        "rejected by our policy",
        "message looks like spam",
        "SPF does not allow 192.0.2.7",
        "DMARC policy of example.org is reject",
        "no reverse DNS for 192.0.2.7",
        "invalid HELO name",
        "sender address is blocked here",
        "sender domain does not exist",
        "relaying denied",
        "authentication required",
        "must issue STARTTLS first",
        "too many connections from you",
        "sending from this account is disabled",
        "outgoing mail of example.org has been suspended",
        "service unavailable, try again later",
        "greylisted for 5 minutes",
        "message too large",
    ],
)
def test_no_words_around_a_fault_of_ours_make_a_dead_address(around: str, reason: str) -> None:
    text = around.format(reason)
    for verb in (None, Verb.RCPT, Verb.DOT):
        assert match(text, verb=verb).category not in _DEAD, verb


@pytest.mark.parametrize(
    ("text", "verb", "category"),
    [
        ("550 No such user", None, "recipient.unknown"),
        ("550 No such user", Verb.RCPT, "recipient.unknown"),
        ("550 No such user", Verb.MAIL, "sender.invalid"),
        ("550 Benutzername unbekannt", None, "recipient.unknown"),
        ("535 Benutzername unbekannt", Verb.AUTH, "access.auth_required"),
        ("550 Invalid domain name", Verb.RCPT, "recipient.domain"),
        ("550 Invalid domain name", Verb.EHLO, "identity.bad_helo"),
        ("554 Spam detected", Verb.DOT, "content.spam"),
        ("554 Spam detected", Verb.CONNECT, "reputation.ip_listed"),
        # words that name the cause itself are believed at any verb
        ("550 5.1.1 Recipient address rejected: User unknown", Verb.MAIL, "recipient.unknown"),
    ],
)
def test_nothing_is_at_fault_before_it_was_named(text: str, verb: Verb | None, category: str) -> None:
    assert match(text, verb=verb).category == category


def test_the_enhanced_code_decides_between_words_as_telling() -> None:
    words = "not enough storage space for the recipient, system busy"
    assert match(f"450 4.2.2 {words}").category == "recipient.full"
    assert match(f"450 4.3.1 {words}").category == "server.error"
    assert match("550 5.1.1 user unknown or account disabled").category == "recipient.disabled"  # 5.1.1 decides nothing


def test_what_nobody_knows_is_unknown_and_says_so() -> None:
    found = match("599 gnarl")
    assert (found.category, found.rule, found.confidence, found.group) == ("unknown", "", 0.0, "unknown")
    assert found.fix
    assert found.cause


def test_a_code_alone_is_less_sure_than_words_and_words_than_a_provider_s() -> None:
    code = match("550 5.1.1 x")
    words = match("550 5.1.1 no such user")
    provider = match("550 5.1.1 The email account that you tried to reach does not exist - gsmtp")
    assert code.confidence < words.confidence < provider.confidence


def test_an_ambiguous_text_names_the_other_reading() -> None:
    found = match("550 user unknown or account disabled")
    assert {found.category, *found.alternatives} == {"recipient.unknown", "recipient.disabled"}
    assert found.confidence < match("550 user unknown").confidence


# --- what is filled in -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("451 4.7.1 Greylisting in effect, try again in 300 seconds", 300),
        ("450 4.2.0 Greylisted, please retry in 5 minutes", 300),
        ("450 4.7.1 Greylisted, come back in 00:05:30", 330),
        ("450 4.2.0 greylisted for 60 seconds", 60),
        ("421 4.7.0 Too many connections, try again after 2 hours", 7200),
        ("421 4.7.0 Too many connections, try again in 1 day", 86400),
        ("450 4.7.1 Bitte versuchen Sie es nach: retry in 300 Sekunden", 300),
        ("450 4.7.1 Queued at 12:30:45, over 3 messages in 1 hour, retry in 5 minutes", 300),
        ("421 4.7.0 Too many connections, come in 2 minutes", 120),
        ("421 4.7.0 Too many connections, try again in 400 days", None),
        ("421 4.7.0 Too many connections, try again in 0 seconds", None),
        ("421 4.7.0 Too many connections, try again later", None),
        ("450 4.2.0 Greylisted, please retry in 5 \u017fec, 1 minute", None),
        ("550 5.1.1 no such user, retry in 5 minutes", None),  # no wait mends it
    ],
)
def test_the_wait_that_the_text_gives(text: str, seconds: float | None) -> None:
    assert match(text).retry_after == seconds


def test_the_wait_stands_in_the_guidance() -> None:
    assert "after 5 minutes" in match("450 4.2.0 Greylisted, please retry in 5 minutes").fix
    assert "after 5 to 15 minutes" in match("450 4.2.0 Greylisted").fix


@pytest.mark.parametrize(
    ("text", "name", "page"),
    [
        (
            "554 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using zen.spamhaus.org",
            "zen.spamhaus.org",
            True,
        ),
        ("550 Email blocked by SPAMHAUS", "Spamhaus", True),
        ("550 5.7.1 Client host [192.0.2.7] blocked using bl.example.net", "bl.example.net", False),
        ("550 Your IP has been blacklisted", "", False),
        ("554 5.7.1 Sender address [a@example.com] blocked using dbl.spamhaus.org", "dbl.spamhaus.org", True),
    ],
)
def test_the_list_and_where_to_ask(text: str, name: str, page: bool) -> None:
    found = match(text)
    assert found.blocklist == name
    assert bool(found.delisting) is page
    assert name in found.fix


def test_guidance_names_what_the_text_named() -> None:
    found = match("554 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using zen.spamhaus.org")
    assert "192.0.2.7" in found.cause
    assert "192.0.2.7" in found.fix
    found = match("550 5.7.509 Access denied, sending domain [EXAMPLE.COM] does not pass DMARC verification")
    assert "d=example.com" in found.fix
    assert "2001:db8::7" in match("550 Your IP [2001:db8::7] has been blacklisted").cause
    assert "999.1.1.1" not in match("550 Your IP 999.1.1.1 has been blacklisted").cause


def test_microsoft_s_results_are_read() -> None:
    text = (
        "550 5.7.515 Access denied, sending domain EXAMPLE.COM doesn't meet the required authentication level. "
        "Spf= Fail , Dkim= Pass , DMARC= Fail"
    )
    assert "(SPF fail, DKIM pass, DMARC fail)" in match(text).cause


def test_no_recipient_stands_in_cause_or_guidance() -> None:
    for text in ("550 5.1.1 <secret@example.com>: User unknown", "552 5.2.2 <secret@example.com>: Mailbox full"):
        found = match(text)
        assert "secret" not in found.cause + found.fix


def test_the_page_that_the_text_names_is_the_reference() -> None:
    assert match("550 refused, see https://example.net/why?p=Abc.").reference == "https://example.net/why?p=Abc"


# --- who answered ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("aspmx.l.google.com", "google"),
        ("GMAIL-SMTP-IN.L.GOOGLE.COM.", "google"),
        ("Google", "google"),
        ("example-com.mail.protection.outlook.com", "microsoft"),
        ("Outlook", "microsoft"),
        ("Exchange Online", "microsoft"),
        ("mta5.am0.yahoodns.net", "yahoo"),
        ("Yahoo Inc", "yahoo"),
        ("mx01.mail.icloud.com", "apple"),
        ("mx1.pphosted.com", "proofpoint"),
        ("us-smtp-inbound-1.mimecast.com", "mimecast"),
        ("inbound-smtp.us-west-2.amazonaws.com", "amazon"),
        ("mx00.web.de", "ionos"),
        ("notgoogle.com", "other"),
        ("google.com.example.net", "other"),
        ("mail.example.net", "other"),
        ("", "other"),
    ],
)
def test_the_provider_behind_a_host(host: str, provider: str) -> None:
    assert provider_of(host) == provider
    assert provider in PROVIDERS


def test_the_text_tells_the_provider_where_the_host_does_not() -> None:
    assert match("550 5.7.27 refused - gsmtp", "relay.example.net").provider == "google"
    assert match("550 5.7.27 refused - gsmtp", "mx.example.pphosted.com").provider == "proofpoint"


# --- whatever a server writes ----------------------------------------------------------------------------------------


@given(st.binary(max_size=300), st.text(max_size=40), st.sampled_from(Verb), st.integers(400, 599))
def test_any_octets_have_a_category(raw: bytes, host: str, verb: Verb, code: int) -> None:
    found = CLASSIFIER.match(
        Reply(code, (raw.decode("latin-1"), raw.decode("utf-8", "surrogateescape")), None, verb), host
    )
    assert found.category in CATEGORIES
    assert found.provider in PROVIDERS
    assert 0.0 <= found.confidence <= 1.0


_WORDS = st.one_of(
    st.sampled_from(["user", "unknown", "mailbox", "full", "spam", "blocked using", "zen.spamhaus.org", "[192.0.2.1]"]),
    st.sampled_from(["SPF", "DKIM", "DMARC", "=", "fail", "policy", "relay denied", "TLS", "HELO", "- gsmtp", "<a@b>"]),
    st.sampled_from(
        ["retry in", "99999999999", "00:99:00", "5.7.1", "#5.1.1", "\u0130", "\u017f", "\u212a", "\x00", "\ud800"]
    ),
)


@given(st.lists(_WORDS, max_size=40), st.integers(400, 599))
@settings(max_examples=200)
def test_any_words_in_any_order_have_a_category(words: list[str], code: int) -> None:
    assert match(f"{code} x").category in CATEGORIES
    found = CLASSIFIER.match(Reply(code, (" ".join(words),)))
    assert found.category in CATEGORIES


# texts that make careless patterns slow: repeated beginnings, long runs, all at once
_HOSTILE = [
    "a" * 4096,
    " " * 4096,
    "<" * 4096,
    "user " * 800,
    "user unknown " * 300,
    "mail from " * 400,
    "rejected by " * 340,
    "1.1.1.1 " * 500,
    "[1.2.3." * 600,
    "http://" * 580,
    "spf = " * 680,
    "in 1" * 1000,
    "5.1." * 1000,
    "the the the your ip is is is " * 140,
    "é" * 4096,
    "@" * 4096,
    "domain of sender address " * 160,
    "sender invalid, domain of sender address " + "1.2.3." * 680,
    "listed " + "rbl-" * 1024,
    "is is not not no user unknown address does not exist mail from " * 70,
    "".join(map(chr, range(0x4E00, 0x4E00 + 1300))),
    " ".join(f"{chr(0x3B1 + n % 20) * 3}{n}" for n in range(600)),
    " ".join(f"http://www.x{n}.example/spamhaus" for n in range(130)),
    " ".join(f"<a{n}@x{n}.example>:" for n in range(220)),
    # the rules' own words, in no order: most patterns are tried, and none is built for it
    " ".join(
        random.Random(3).choices(
            re.findall("[a-z@.]{2,}", " ".join(p for r in CLASSIFIER.rules for p in r.phrases)), k=800
        )
    ),
]


@pytest.mark.parametrize("text", _HOSTILE, ids=lambda text: text[:12])
def test_no_pattern_is_slow_on_any_text(text: str) -> None:
    reply = Reply(550, (text,), None, Verb.RCPT)
    # The best of some tries: what else the machine does is not the rules' fault. The bar is 1 ms (categories.md), and
    # 0.7 is what the worst costs; the rest is for slow machines.
    assert min(_seconds(lambda: CLASSIFIER.match(reply)) for _ in range(5)) < 5e-3


def _seconds(what: object) -> float:
    assert callable(what)
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def test_a_whole_flood_of_text_is_cut() -> None:
    assert match("550 " + "x" * 100_000 + " user unknown").category == "unknown"


# --- against the collected replies, where they are -------------------------------------------------------------------

_SHARED = Path(__file__).resolve().parents[3] / "shared"
_DEV = _SHARED / "data" / "replies.dev.jsonl"
_SCORER = _SHARED / "eval" / "score_replies.py"


def _scorer() -> ModuleType:
    spec = spec_from_file_location("score_replies", _SCORER)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not _DEV.exists() or not _SCORER.exists(), reason="the development replies are not here")
def test_the_score_on_the_development_replies() -> None:
    scorer = _scorer()
    coarse: dict[str, str] = scorer.COARSE
    rows = [json.loads(line) for line in _DEV.read_text(encoding="utf-8").splitlines() if line.strip()]
    right = wrong = false_suppress = dead = dead_found = 0
    for row in rows:
        question = said(row["reply"], host=row.get("next_hop", ""), verb=verb_of(row.get("verb", "")))
        got = CLASSIFIER.match(question.reply, question.host, verb_known=question.verb is not None).category
        allowed = [row["expected"], *row.get("also", [])]
        ok = coarse[got] in {coarse[name] for name in allowed}
        right += ok
        wrong += not ok and got not in scorer.UNSPECIFIC
        false_suppress += got in scorer.DEAD and not scorer.DEAD & set(allowed) and row["expected"] != "unknown"
        if row["expected"] in scorer.DEAD and row["reply"].startswith("5"):
            dead += 1
            dead_found += got in scorer.DEAD
    assert right / len(rows) >= 0.97
    assert wrong / len(rows) <= 0.02
    assert false_suppress / len(rows) <= 0.003
    assert dead_found / dead >= 0.97


HELD_BACK = {"wild-issues-logs", "crisp"}
"""Sources of a tenth of the development replies: of many servers, as their senders saw them."""


@pytest.mark.skipif(not _DEV.exists() or not _SCORER.exists(), reason="the development replies are not here")
def test_whole_sources_held_back_are_read_as_well_as_the_others() -> None:
    # rules that know replies by heart would be right on one part only; likely.py learns from neither
    coarse: dict[str, str] = _scorer().COARSE
    parts: dict[bool, list[bool]] = {True: [], False: []}
    for line in _DEV.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        question = said(row["reply"], host=row.get("next_hop", ""), verb=verb_of(row.get("verb", "")))
        got = CLASSIFIER.match(question.reply, question.host, verb_known=question.verb is not None).category
        allowed = {coarse[name] for name in (row["expected"], *row["also"])}
        parts[row["source"] in HELD_BACK].append(coarse[got] in allowed)
    back, others = (sum(parts[is_back]) / len(parts[is_back]) for is_back in (True, False))
    assert len(parts[True]) >= 80
    assert back >= 0.95
    assert abs(back - others) <= 0.03
