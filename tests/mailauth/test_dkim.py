"""DKIM against the RFCs' own examples, a plain signer, and two other verifiers (dkimpy, Debian's Mail::DKIM)."""

from __future__ import annotations

import base64
import hashlib
import mmap
import random
import re
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smtpguard.mail.fields import Field
from smtpguard.mail.message import Message
from smtpguard.mailauth.dkim import Cause, DkimStatus, Verdict, judge, signatures, verify
from smtpguard.mailauth.dkim_canon import Body, body_sums, canonical_body, relaxed_field, relaxed_fields, simple_field
from smtpguard.mailauth.dkim_field import Signature
from smtpguard.mailauth.dkim_key import parse_key
from smtpguard.mailauth.dns import Answer, Status
from smtpguard.mailauth.tags import TagError, from_base64, parse_tags
from tests.mailauth import signing
from tests.mailauth.signing import BODY, FIELDS, ed25519_key, message, record, rsa_key, signature_field
from tests.mailauth.zone import Zone

NOW = 1_700_000_000.0
KEY = rsa_key()


def answer(*records: bytes) -> Answer[bytes]:
    return Answer(Status.POSITIVE, records, 300) if records else Answer(Status.NXDOMAIN, ttl=60)


def verdict(raw: bytes, *records: bytes, now: float = NOW) -> Verdict:
    """Of the topmost signature, with those TXT records as answer."""
    parsed = Message(raw)
    return judge(parsed, signatures(parsed)[0], answer(*records), now)


def signed(**how: Any) -> bytes:
    key = how.pop("key", KEY)
    return message(signature_field(key, **how), *FIELDS)


# --- canonical forms --------------------------------------------------------------------------------------------------


def body_of(raw: bytes, *, is_relaxed: bool, size: int = 131_072) -> bytes:
    return b"".join(canonical_body(raw, 0, is_relaxed=is_relaxed, size=size))


def test_rfc_6376_3_4_5() -> None:
    raw = Message(b"A: X\r\nB : Y\t\r\n\tZ  \r\n\r\n C \r\nD \t E\r\n\r\n\r\n")
    a, b = raw.fields
    assert [relaxed_field(f.name, f.value) for f in (a, b)] == [b"a:X", b"b:Y Z"]
    assert [simple_field(raw, f) for f in (a, b)] == [b"A: X", b"B : Y\t\r\n\tZ  "]
    body = raw.raw[raw.body_offset :]
    assert body_of(body, is_relaxed=True) == b" C\r\nD E\r\n"
    assert body_of(body, is_relaxed=False) == b" C \r\nD \t E\r\n"


@pytest.mark.parametrize(
    ("body", "simple", "relaxed"),
    [
        (b"", b"\r\n", b""),
        (b"\r\n\r\n", b"\r\n", b""),
        (b" \t\r\n", b" \t\r\n", b""),
        (b"a", b"a\r\n", b"a\r\n"),
        (b"a \r\n \r\n\t\r\nb\r\n", b"a \r\n \r\n\t\r\nb\r\n", b"a\r\n\r\n\r\nb\r\n"),
        (b"a\n\r\n\r\n", b"a\n\r\n", b"a\n\r\n"),
        (b"a\r\n\r", b"a\r\n\r\r\n", b"a\r\n\r\r\n"),
        (b"a\r\n\n\r\n", b"a\r\n\n\r\n", b"a\r\n\n\r\n"),
    ],
)
def test_bodies(body: bytes, simple: bytes, relaxed: bytes) -> None:
    assert body_of(body, is_relaxed=False) == simple
    assert body_of(body, is_relaxed=True) == relaxed


def test_hashes_of_the_empty_body_as_in_rfc_6376() -> None:
    """3.4.3 and 3.4.4 print them."""
    for form, sha256 in (
        ("simple", "frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY="),
        ("relaxed", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
    ):
        raw = message(signature_field(KEY, body=b"", canonical=f"relaxed/{form}"), *FIELDS, body=b"")
        found = signatures(Message(raw))[0]
        assert base64.b64encode(found.body_sum).decode() == sha256
        assert found.body_matches


SMTP_BODIES = st.lists(st.text(alphabet="ab \t", max_size=6).map(str.encode), max_size=8).map(
    lambda lines: b"".join(line + b"\r\n" for line in lines)
)


@given(SMTP_BODIES, st.integers(1, 7))
def test_a_body_in_pieces_is_the_body_as_told_line_by_line(body: bytes, size: int) -> None:
    assert body_of(body, is_relaxed=True, size=size) == signing.relaxed_body(body)
    assert body_of(body, is_relaxed=False, size=size) == signing.simple_body(body)


@given(st.text(alphabet="a \t\r\n", max_size=30).map(str.encode), st.integers(1, 7))
@example(b" \r", 1)
@example(b"a \r \r\n", 2)
def test_where_a_piece_ends_makes_no_difference(body: bytes, size: int) -> None:
    for is_relaxed in (True, False):
        assert body_of(body, is_relaxed=is_relaxed, size=size) == body_of(body, is_relaxed=is_relaxed)


@settings(max_examples=300)
@given(SMTP_BODIES, st.sampled_from([b"", b"a", b"\r\n", b"\r\n\r\n", b"a b\r\n"]), st.sampled_from([None, 0, 3, 1000]))
def test_the_sum_of_a_body_is_that_of_its_canonical_form(body: bytes, end: bytes, length: int | None) -> None:
    """Whether the body is plain or not."""
    parsed = Message(b"A: b\r\n\r\n" + body + end)
    for form in ("simple", "relaxed"):
        canonical = body_of(body + end, is_relaxed=form == "relaxed")
        wanted = Body(form, "sha256", length)
        digest = hashlib.sha256(canonical if length is None else canonical[:length]).digest()
        assert body_sums(parsed, [wanted]) == {wanted: (digest, len(canonical))}


@pytest.mark.parametrize("start", [b"", b"a", b"a" * 131_072])
def test_the_sum_of_a_body_that_ends_in_many_blank_lines(start: bytes) -> None:
    parsed = Message(b"A: b\r\n\r\n" + start + b"\r\n" * 200_000)
    for form, end in (("simple", b"\r\n"), ("relaxed", b"\r\n" if start else b"")):
        wanted = Body(form, "sha1", None)
        digest = hashlib.sha1(start + end, usedforsecurity=False).digest()
        assert body_sums(parsed, [wanted]) == {wanted: (digest, len(start + end))}


VALUES = st.text(alphabet="ab \t", max_size=6).map(str.encode)


@given(st.lists(st.tuples(st.sampled_from([b"from", b"to"]), VALUES, VALUES), min_size=1, max_size=4))
def test_fields_of_a_tidy_header_are_made_relaxed_together(fields: list[tuple[bytes, bytes, bytes]]) -> None:
    folded = [(name, Field(name, before + b"\r\n " + behind, 0, 0, 0)) for name, before, behind in fields]
    each = b"\r\n".join(relaxed_field(name, field.value) for name, field in folded)
    assert relaxed_fields(folded, is_tidy=True) == each
    assert relaxed_fields(folded, is_tidy=False) == each


def test_many_blank_lines_are_given_out_in_pieces() -> None:
    body = b"a" + b"\r\n" * 300_000
    pieces = list(canonical_body(body + b"b", 0, is_relaxed=True))
    assert b"".join(pieces) == body + b"b\r\n"
    assert max(map(len, pieces)) < 300_000
    assert body_of(body, is_relaxed=True) == b"a\r\n"


# --- signatures that pass ---------------------------------------------------------------------------------------------

RFC8463_KEYS = (
    b"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
    b"v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16J"
    b"Yi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3"
    b"QIDAQAB",
)
RFC8463_A3 = b"""\
DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
""".replace(b"\n", b"\r\n")


def test_rfc_8463_a_3() -> None:
    parsed = Message(RFC8463_A3)
    found = signatures(parsed)
    verdicts = [judge(parsed, one, answer(key), NOW) for one, key in zip(found, RFC8463_KEYS, strict=True)]
    assert [(v.status, v.key_type, v.key_bits) for v in verdicts] == [
        (DkimStatus.PASS, "ed25519", 256),
        (DkimStatus.PASS, "rsa", 1024),
    ]
    assert [one.key_name for one in found] == [
        "brisbane._domainkey.football.example.com",
        "test._domainkey.football.example.com",
    ]
    assert found[0].headers[-2:] == (b"subject", b"date")
    assert (found[0].timestamp, found[0].identity) == (1528637909, "@football.example.com")


FORMS = ["simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed", "relaxed", "simple"]


@pytest.mark.parametrize("canonical", FORMS)
@pytest.mark.parametrize("key", [KEY, ed25519_key()], ids=["rsa", "ed25519"])
def test_every_form(canonical: str, key: signing.PrivateKey) -> None:
    assert verdict(signed(key=key, canonical=canonical), record(key)).status is DkimStatus.PASS


@pytest.mark.parametrize(
    "how",
    [
        {"more": b"q=dns/foo : dns/txt; "},
        {"more": b"x_unknown=1; z=From:a|To:b; "},
        {"more": b"t=1600000000; x=1800000000; "},
        {"more": b"i=joe=20x@mail.example.com; "},
        {"length": 5},
        {"length": 0},
        {"names": b"From : Subject:to:\r\n\tsubject:x-none:from:dkim-signature"},
        {"template": b"dkim-signature : v=1; a=%s; c=%s; d=%s; s=sel; %sh=%s; bh=%s; b="},
        {"template": b"DKIM-Signature:v=1;\r\n\ta=%s;c=%s; d=%s; s=sel; %sh=%s;bh=%s;\r\n\t b\t="},
        {"pad": b"\r\n\t ", "tail": b"; t=5"},
        {"pad": b" ", "tail": b";"},
        {"domain": b"Example.COM"},
    ],
    ids=str,
)
@pytest.mark.parametrize("canonical", ["simple/simple", "relaxed/relaxed"])
def test_what_a_signature_may_hold(canonical: str, how: dict[str, Any]) -> None:
    got = verdict(signed(canonical=canonical, **how), record(KEY))
    assert (got.status, got.problem) == (DkimStatus.PASS, "")


def test_the_lowest_of_a_name_is_taken_first_and_the_signature_itself_never() -> None:
    fields = (b"Subject: two", b"Subject: one", b"From: a@example.com")
    field = signature_field(KEY, fields, names=b"subject:from:dkim-signature")
    assert verdict(message(field, *fields), record(KEY)).status is DkimStatus.PASS
    assert verdict(message(field, b"Subject: above", *fields), record(KEY)).status is DkimStatus.PASS
    assert verdict(message(field, *fields, b"Subject: below"), record(KEY)).cause is Cause.SIGNATURE


def test_a_field_that_was_signed_as_missing_may_not_be_added() -> None:
    field = signature_field(KEY, names=signing.NAMES + b":reply-to:from")
    assert verdict(message(field, *FIELDS), record(KEY)).status is DkimStatus.PASS
    assert verdict(message(field, b"Reply-To: x@y.example", *FIELDS), record(KEY)).cause is Cause.SIGNATURE
    assert verdict(message(field, b"From: x@y.example", *FIELDS), record(KEY)).cause is Cause.SIGNATURE


def test_another_signature_may_be_signed() -> None:
    inner = signature_field(KEY)
    outer = signature_field(KEY, (inner, *FIELDS), names=b"dkim-signature:from")
    assert verdict(message(outer, inner, *FIELDS), record(KEY)).status is DkimStatus.PASS
    assert verdict(message(outer, inner + b" ", *FIELDS), record(KEY)).status is DkimStatus.PASS
    assert verdict(message(outer, inner + b"x", *FIELDS), record(KEY)).cause is Cause.SIGNATURE


def test_an_internationalized_domain_is_asked_for_in_a_labels() -> None:
    got = verdict(signed(domain="bücher.example".encode(), more="i=@post.bücher.example; ".encode()), record(KEY))
    assert got.status is DkimStatus.PASS
    assert got.signature.key_name == "sel._domainkey.xn--bcher-kva.example"
    assert got.signature.identity == "@post.xn--bcher-kva.example"


def test_a_mapped_file_is_read_like_octets() -> None:
    raw = message(signature_field(KEY, body=b"x  y \r\n" * 60_000), *FIELDS, body=b"x  y \r\n" * 60_000)
    with tempfile.TemporaryFile() as file:
        file.write(raw)
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            found = signatures(Message(mapped))
    assert found[0].body_matches
    assert found[0].body_octets == len(b"x y\r\n") * 60_000


def test_a_signature_without_more_is_of_the_identity_of_its_domain() -> None:
    assert signatures(Message(signed()))[0].identity == "@example.com"
    assert Signature(Message(b"A: b\r\n\r\n").fields[0]).body_matches is None


# --- signatures that do not -------------------------------------------------------------------------------------------


def test_a_changed_body() -> None:
    got = verdict(message(signature_field(KEY), *FIELDS, body=BODY + b"-- \r\nfooter\r\n"), record(KEY))
    assert (got.status, got.cause, got.key_records) == (DkimStatus.FAIL, Cause.BODY, 0)
    assert not got.signature.needs_key
    assert got.problem.startswith("the body was changed: its hash is ")
    assert signatures(Message(signed()))[0].body_problem == ""


def test_a_length_that_covers_what_was_signed_and_no_more() -> None:
    field = signature_field(KEY, length=12)
    assert verdict(message(field, *FIELDS, body=BODY + b"more\r\n"), record(KEY)).status is DkimStatus.PASS
    field = signature_field(KEY, length=len(signing.relaxed_body(BODY)))
    cut = verdict(message(field, *FIELDS, body=BODY[:5]), record(KEY))
    assert cut.cause is Cause.BODY
    field = field.replace(b"l=", b"l=9")  # the hash is of the whole body, but l= says it was longer
    assert "l=9" in verdict(message(field, *FIELDS), record(KEY)).problem


def test_a_changed_field() -> None:
    raw = signed().replace(b"Lunch", b"Brunch")
    got = verdict(raw, record(KEY))
    assert (got.status, got.cause) == (DkimStatus.FAIL, Cause.SIGNATURE)
    assert "sel._domainkey.example.com" in got.problem
    assert verdict(signed(), record(rsa_key(1024))).cause is Cause.SIGNATURE


def test_an_expired_signature() -> None:
    raw = signed(more=b"x=1600000000; ")
    assert verdict(raw, record(KEY)).cause is Cause.EXPIRED
    assert verdict(raw, record(KEY), now=1_600_000_000).status is DkimStatus.PASS


def test_a_short_key_is_policy_and_names_its_bits() -> None:
    short = rsa_key(768)
    got = verdict(signed(key=short), record(short))
    assert (got.status, got.cause, got.key_bits) == (DkimStatus.POLICY, Cause.SHORT, 768)
    assert "768 bits" in got.problem
    wrong = verdict(signed(key=short).replace(b"Lunch", b"Brunch"), record(short))
    assert (wrong.status, wrong.cause) == (DkimStatus.FAIL, Cause.SHORT)
    tiny = b"v=DKIM1; p=MAowBQICAPsCAQM="  # of 8 bits, as no library would make one
    assert verdict(signed(), tiny).status is not DkimStatus.PASS


def test_rsa_sha1_counts_as_none_but_is_computed() -> None:
    raw = signed(algorithm="rsa-sha1")
    right, wrong = (verdict(text, record(KEY)) for text in (raw, raw.replace(b"Lunch", b"Brunch")))
    assert (right.status, right.cause) == (wrong.status, wrong.cause) == (DkimStatus.PERMERROR, Cause.HASH)
    assert right.problem.endswith("right")
    assert wrong.problem.endswith("wrong")


GOOD = b"v=1; a=rsa-sha256; c=relaxed; d=example.com; s=sel; h=from:to; bh=AAAA; b=AAAA"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b"v=1; ", b"", "no v="),
        (b"v=1", b"v=2", "v= is not 1"),
        (b"bh=AAAA; ", b"", "no bh="),
        (b" b=AAAA", b" b= ", "no b="),
        (b"s=sel; ", b"", "no s="),
        (b"rsa-sha256", b"rsa-md5", "a=rsa-md5 is no"),
        (b"rsa-sha256", b"RSA-SHA256", "a=RSA-SHA256 is no"),
        (b"c=relaxed", b"c=relaxed/", "c= is not of"),
        (b"c=relaxed", b"c=nofws", "c= is not of"),
        (b"h=from:to", b"h=to", "h= lacks from"),
        (b"h=from:to", b"h=from::to", "h= is no list"),
        (b"h=from:to", b"h=from to", "h= is no list"),
        (b"d=example.com", b"d=com", "d= is no domain"),
        (b"d=example.com", b"d=example..com", "d= is no domain"),
        (b"d=example.com", b"d=\xc3\x28.com", "d= is no domain"),
        (b"s=sel", b"s=s/l", "s= is no selector"),
        (b"bh=AAAA", b"bh=AAA", "bh= is not base64"),
        (b" b=AAAA", b" b=A*AA", "b= is not base64"),
        (b"h=from", b"l=-1; h=from", "l= is no number"),
        (b"h=from", b"x=1.5; h=from", "x= is no number"),
        (b"h=from", b"t=5; x=5; h=from", "x= is not after t="),
        (b"h=from", b"q=http; h=from", "q= has no method"),
        (b"h=from", b"i=joe; h=from", "i= is not of"),
        (b"h=from", b"i=@other.com; h=from", "i= is not of"),
        (b"h=from", b"i=@notexample.com; h=from", "i= is not of"),
        (b"h=from", b"v=1; h=from", "v= stands twice"),
        (b"h=from", b"novalue; h=from", "'novalue' is not tag=value"),
        (b"h=from", b"1=1; h=from", "'1' is not tag=value"),
        (b"h=from", b"n=\x01; h=from", "control character"),
        (b"h=from", b"a\r\n b; h=from", "'a   b' is not tag=value"),
        (b"rsa-sha256", b"rsa\r\n -sha256", "a=rsa   -sha256 is no"),
    ],
)
def test_what_is_no_signature(old: bytes, new: bytes, problem: str) -> None:
    assert old in GOOD
    for text, why in ((GOOD, ""), (GOOD.replace(old, new), problem)):
        found = signatures(Message(b"DKIM-Signature: " + text + b"\r\nFrom: a@example.com\r\n\r\n"))[0]
        assert why in found.problem
        assert bool(why) == bool(found.problem)
        assert found.body_matches is (None if why else False)
    got = judge(Message(b"\r\n"), found, None, NOW)
    assert (got.status, got.cause) == (DkimStatus.PERMERROR, Cause.SYNTAX)


def test_only_so_many_signatures_are_looked_at() -> None:
    raw = message(*[signature_field(KEY)] * 12, *FIELDS)
    assert len(signatures(Message(raw))) == 10
    assert len(signatures(Message(raw), limit=3)) == 3
    assert signatures(Message(message(*FIELDS))) == ()


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_whatever_the_octets_nothing_is_raised(value: bytes, record_: bytes) -> None:
    parsed = Message(b"DKIM-Signature:" + value + b"\r\nDKIM-Signature: v=1;" + value + b"\r\n\r\n" + record_)
    for found in signatures(parsed):
        got = judge(parsed, found, answer(record_), NOW)
        assert got.status is not DkimStatus.PASS
        assert got.problem.isprintable()


# --- keys -------------------------------------------------------------------------------------------------------------

P = record(KEY, b"").removeprefix(b"p=")


@pytest.mark.parametrize(
    ("key_record", "problem"),
    [
        (b"p=" + P, ""),
        (b"v=DKIM1; h=sha1:sha256; s=email:tlsrpt; t=y:s; n=note; p=" + P[:80] + b" \r\n " + P[80:] + b" ;", ""),
        (record(KEY, form=PublicFormat.PKCS1), ""),
        (b"v=DKIM1; p=", "revoked"),
        (b"v=DKIM2; p=" + P, "v= is not DKIM1"),
        (b"p=" + P + b"; v=DKIM1", "not first"),
        (b"v=DKIM1; h=sha1; p=" + P, "h= does not allow sha256"),
        (b"v=DKIM1; s=tlsrpt; p=" + P, "s= does not allow"),
        (b"v=DKIM1; k=ed25519; p=" + P, "32 octets"),
        (b"v=DKIM1; k=dsa; p=" + P, "k=dsa"),
        (b"v=DKIM1; k=r\nsa; p=" + P, "k=r sa"),
        (b"v=DKIM1; p=" + P[:-8], "no RSA key"),
        (b"v=DKIM1; p=" + P[:-1] + b"*", "not base64"),
        (b"v=DKIM1; p=" + P + b"; p=" + P, "cannot be read"),
        (record(ed25519_key()), "the key is for ed25519, the signature is rsa"),
        (b"v=spf1 -all", "no key at sel._domainkey.example.com: the TXT records there have no p="),
    ],
)
def test_key_records(key_record: bytes, problem: str) -> None:
    got = verdict(signed(), key_record)
    if problem:
        assert (got.status, got.cause) == (DkimStatus.PERMERROR, Cause.KEY)
        assert problem in got.problem
    else:
        assert (got.status, got.key_bits) == (DkimStatus.PASS, 2048)


def test_an_elliptic_or_odd_key_is_no_rsa_key() -> None:
    x25519 = b"MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    assert "no RSA key" in parse_key(b"p=" + x25519).problem
    numbers = KEY.public_key().public_numbers()
    huge = type(numbers)((1 << 100) + 1, numbers.n).public_key().public_bytes
    assert "exponent" in parse_key(b"p=" + base64.b64encode(huge(Encoding.DER, PublicFormat.PKCS1))).problem


def test_flags_of_a_key() -> None:
    strict = record(KEY, b"v=DKIM1; t=y:s; ")
    assert verdict(signed(), strict).is_testing
    assert not verdict(signed(), record(KEY)).is_testing
    got = verdict(signed(more=b"i=@mail.example.com; "), strict)
    assert (got.cause, "t=s" in got.problem) == (Cause.KEY, True)
    assert parse_key(b"p=").is_revoked


def test_several_keys_at_one_selector() -> None:
    got = verdict(signed(), b"v=spf1 -all", record(rsa_key(1024)), record(KEY))
    assert (got.status, got.key_records, got.key_bits) == (DkimStatus.PASS, 2, 2048)
    got = verdict(signed(), b"p=", record(rsa_key(1024)))
    assert (got.cause, got.key_records) == (Cause.KEY, 2)


def test_tags() -> None:
    assert parse_tags(b" a = b c ;\r\n d=;") == {b"a": b"b c", b"d": b""}
    assert parse_tags(b"") == {}
    for wrong in (b";", b"a=1;;b=2", b"a b=1"):
        with pytest.raises(TagError):
            parse_tags(wrong)


# --- asking for keys --------------------------------------------------------------------------------------------------


NAME = "sel._domainkey.example.com"
OTHER = "sel._domainkey.other.example"


@pytest.mark.parametrize(
    ("zone", "status", "cause", "ttl"),
    [
        ({NAME: [{"TXT": record(KEY).decode()}]}, DkimStatus.PASS, Cause.NONE, 300),
        ({}, DkimStatus.PERMERROR, Cause.KEY, 300),
        ({NAME: [{"A": "192.0.2.1"}]}, DkimStatus.PERMERROR, Cause.KEY, 300),
        ({NAME: [{"CNAME": OTHER}], OTHER: [{"TXT": record(KEY).decode()}]}, DkimStatus.PASS, Cause.NONE, 300),
        ({NAME: ["SERVFAIL"]}, DkimStatus.TEMPERROR, Cause.DNS, None),
    ],
)
async def test_what_the_dns_says_of_a_key(
    zone: dict[str, Any], status: DkimStatus, cause: Cause, ttl: int | None
) -> None:
    parsed = Message(signed())
    got = (await verify(Zone(zone), parsed, signatures(parsed), NOW))[0]
    assert (got.status, got.cause, got.ttl) == (status, cause, ttl)
    assert got.cause is not Cause.DNS or "servfail" in got.problem


async def test_each_key_is_asked_for_once_and_only_where_it_is_needed() -> None:
    first, second = signature_field(KEY), signature_field(KEY, domain=b"other.example")
    broken = signature_field(KEY, domain=b"broken.example", body=b"other\r\n")
    parsed = Message(message(first, broken, second, first, b"DKIM-Signature: v=1", *FIELDS))
    zone = Zone({NAME: [{"TXT": record(KEY).decode()}, "STALE"]})
    got = await verify(zone, parsed, signatures(parsed), NOW)
    assert [v.cause for v in got] == [Cause.NONE, Cause.BODY, Cause.KEY, Cause.NONE, Cause.SYNTAX]
    assert got[0].is_stale
    assert sorted(zone.asked) == [("TXT", NAME), ("TXT", OTHER)]


def test_a_key_that_was_not_asked_for_is_no_missing_key() -> None:
    parsed = Message(signed())
    got = judge(parsed, signatures(parsed)[0], None, NOW)
    assert (got.status, got.cause) == (DkimStatus.TEMPERROR, Cause.DNS)


# --- other verifiers --------------------------------------------------------------------------------------------------

WORDS = st.text(alphabet="abz \t.-", min_size=0, max_size=12).map(str.encode)
VALUES = st.lists(WORDS.map(lambda text: b"x" + text), min_size=1, max_size=3).map(lambda parts: b"\r\n ".join(parts))
NAMED = st.sampled_from([b"Subject", b"to", b"X-A", b"X-B", b"Received", b"DATE"])
MESSAGES = st.tuples(
    st.lists(st.tuples(NAMED, VALUES).map(lambda pair: pair[0] + b": " + pair[1]), max_size=6), SMTP_BODIES
).map(lambda parts: message(b"From: Joe <joe@example.com>", *parts[0], body=parts[1]))
CANONICAL = st.tuples(st.sampled_from([b"simple", b"relaxed"]), st.sampled_from([b"simple", b"relaxed"]))


def by_dkimpy(raw: bytes, key_record: bytes) -> bool:
    dkim = pytest.importorskip("dkim")
    try:
        return bool(dkim.DKIM(raw).verify(dnsfunc=lambda _name, timeout=5: key_record))
    except dkim.DKIMException:
        return False


@settings(max_examples=60, deadline=None)
@given(MESSAGES, CANONICAL, st.randoms(use_true_random=False))
def test_what_dkimpy_signs_passes_and_both_agree_when_it_is_changed(
    raw: bytes, canonical: tuple[bytes, bytes], chance: random.Random
) -> None:
    dkim = pytest.importorskip("dkim")
    field = dkim.sign(raw, b"sel", b"example.com", signing.pem(KEY), canonicalize=canonical)
    whole = field + raw
    assert verdict(whole, record(KEY)).status is DkimStatus.PASS
    at = chance.randrange(len(field), len(whole))
    for changed in (whole[:at] + b"y" + whole[at + 1 :], whole[:at] + b" " + whole[at:], whole + b"\r\n", whole[:-2]):
        if re.search(rb"\r(?!\n)|(?<!\r)\n", changed) or not changed.endswith(b"\r\n"):
            continue  # what no SMTP server lets in; the two read it differently
        if Message(changed).strays:
            continue  # dkimpy reads no field with a blank before its colon, and no header with a line that is no field
        ours = verdict(changed, record(KEY)).status is DkimStatus.PASS
        assert ours is by_dkimpy(changed, record(KEY)), changed


@pytest.mark.parametrize("canonical", FORMS[:4])
def test_dkimpy_takes_what_the_plain_signer_signs(canonical: str) -> None:
    raw = message(signature_field(KEY, canonical=canonical, names=b"from:to:subject"), *FIELDS)
    assert by_dkimpy(raw, record(KEY))


PERL = r"""
use strict; use warnings; use Mail::DKIM::Verifier; use Net::DNS;
my $record = shift @ARGV;
{ no warnings 'redefine';
  *Mail::DKIM::DNS::query = sub { my ($name) = @_;
    return Net::DNS::RR->new(owner => $name, type => 'TXT', txtdata => [unpack('(a255)*', $record)]); }; }
binmode STDIN;
while (defined(my $size = <STDIN>)) {
  read(STDIN, my $text, $size);
  my $dkim = Mail::DKIM::Verifier->new();
  $dkim->PRINT($text); $dkim->CLOSE;
  print $dkim->result, "\n";
}
"""


def variants() -> Iterator[bytes]:
    """Signed messages and what may become of them.

    Left out is where Mail::DKIM reads otherwise than RFC 6376 3.5: it takes l=0 for no l=, and an l= beyond the body.
    """
    for canonical in FORMS[:4]:
        for body in (BODY, b"", b"\r\n", b" \r\n", b"a \tb\r\n\r\n \r\n\r\n"):
            for length in (None, 3):
                if length and len(body) < 5:
                    continue
                raw = message(signature_field(KEY, body=body, canonical=canonical, length=length), *FIELDS, body=body)
                yield raw
                yield raw + b"\r\n \r\n"
                yield raw + b"x\r\n"
                yield raw.replace(b"Subject:  Lunch", b"SUBJECT:\tLunch")
                yield raw.replace(b"Lunch", b"Brunch")
                yield raw.replace(b"From: Joe", b"From: Jim <jim@example.com>\r\nFrom: Joe")
                yield raw.replace(b"c=", b"c =\t").replace(b"b=", b"b=\r\n ")


def test_mail_dkim_agrees() -> None:
    """Debian: libmail-dkim-perl."""
    try:
        subprocess.run(["perl", "-MMail::DKIM::Verifier", "-e", "1"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no Mail::DKIM (Debian: libmail-dkim-perl)")
    raws = list(variants())
    fed = b"".join(b"%d\n%s" % (len(raw), raw) for raw in raws)
    said = subprocess.run(
        ["perl", "-e", PERL, record(KEY).decode()], input=fed, check=True, capture_output=True
    ).stdout.decode()
    theirs = [line == "pass" for line in said.split()]
    ours = [verdict(raw, record(KEY)).status is DkimStatus.PASS for raw in raws]
    assert len(theirs) == len(raws)
    differ = [raw for raw, our, their in zip(raws, ours, theirs, strict=True) if our != their]
    assert differ == []
    assert 0 < sum(ours) < len(ours)


# --- read once --------------------------------------------------------------------------------------------------------

TAGS = [
    *(b"v=1", b"a=rsa-sha256", b"c=relaxed/relaxed", b"d=example.com", b"s=sel", b"h=from:to", b"bh=YWJj", b"b=YWI="),
    *(b" t=12", b"x=20", b"i=@a.example.com", b"q=dns/txt", b"l=3"),
]
ODD_TAGS = [
    *(
        b"v=2",
        b"a=md5",
        b"c=x",
        b"d=example",
        b"s=",
        b"h=to",
        b"h=from:from",
        b"bh=YW",
        b"bh=",
        b"b=Y W\r\n I =",
        b"b=!",
    ),
    *(b"t=a", b"t=", b"t=30", b"x=1234567890123", b"x = 9", b"\r\n\tx=25", b"i=@b.example", b"q=x", b"l=-1", b"z=a|b"),
    *(b"", b" ", b"=", b"b", b"B=YWI=", b"n=\x01", b"c=simple", b"t=1\xe9", b"b=YWI=\x00", b"s=other"),
]


@settings(max_examples=500)
@given(
    st.lists(st.sampled_from(ODD_TAGS), max_size=3),
    st.booleans(),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_what_is_known_of_a_signer_changes_nothing(
    odd: list[bytes], is_short: bool, ends: bool, random: random.Random
) -> None:
    """With a blank before the = of b= a signature is read anew, whatever is known."""
    names = {tag.partition(b"=")[0].strip() for tag in odd}
    tags = [tag for tag in TAGS if tag.partition(b"=")[0].strip() not in names] + odd
    random.shuffle(tags)
    value = b";".join(tags[is_short:]) + (b";" if ends else b"")
    anew = re.sub(rb"(^|;)b=", rb"\1b =", value)
    found, again = (signatures(Message(b"DKIM-Signature: " + text + b"\r\n\r\nx\r\n"))[0] for text in (value, anew))
    assert found[1:] == again[1:]


def test_a_long_signature_is_not_remembered() -> None:
    names = b":".join([NAMES_OF_MANY, *[b"x-%d" % number for number in range(1000)]])
    raw = signed(names=names)
    assert verdict(raw, record(KEY)).status is DkimStatus.PASS


NAMES_OF_MANY = b"from:from:to:subject:date"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"A",
        b"AA",
        b"AAA",
        b"AAA==",
        b"AAAA=",
        b"AAAA====",
        b"AA=A",
        b"A===",
        b"====",
        b"AA==AAAA",
        b"AA!=",
        b"AA A",
    ],
)
def test_what_is_no_base64(value: bytes) -> None:
    assert from_base64(value) is None


@pytest.mark.parametrize(
    ("value", "octets"), [(b"AA==", b"\0"), (b"AAA=", b"\0\0"), (b"AAAA", b"\0\0\0"), (b"+/+/", b"\xfb\xff\xbf")]
)
def test_base64(value: bytes, octets: bytes) -> None:
    assert from_base64(value) == octets
