"""DKM: each rule with a signature that hits and one that must not; all are made by a signer of the tests' own."""

from __future__ import annotations

from typing import Any

import pytest

from smtpguard.lint.facts import Dkim, Now, Offers, Signatures, Signing
from smtpguard.mail.message import Message
from smtpguard.mailauth.dkim import signatures, verify
from tests.lint.asking import ask, severities
from tests.mailauth.signing import BODY, FIELDS, ed25519_key, message, record, rsa_key, signature_field
from tests.mailauth.zone import Zone

NOW = Now(1_700_000_000)
KEY = rsa_key()
NAME = "sel._domainkey.example.com"
OTHER = "sel._domainkey.other.example"
SOUND = b"from:from:to:subject:date:message-id"
PLAIN = FIELDS[1:]


def signed(*more: bytes, body: bytes = BODY, fields: tuple[bytes, ...] = PLAIN, **how: Any) -> Message:
    """A message under `more` signatures and one of example.com."""
    how = {"names": SOUND, "body": body} | how
    return Message(message(*more, signature_field(how.pop("key", KEY), fields, **how), *fields, body=body))


def parsed(text: Message) -> Signatures:
    return Signatures(signatures(text))


async def judged(text: Message, *records: bytes | str, other: bytes = b"") -> Dkim:
    """The verdicts with these TXT records (or a fault) at the selector of example.com."""
    zone = Zone(
        {
            NAME: [entry if isinstance(entry, str) else {"TXT": entry.decode()} for entry in records],
            OTHER: [{"TXT": other.decode()}] if other else [],
        }
    )
    return Dkim(await verify(zone, text, signatures(text), float(NOW)))


def test_dkim_none() -> None:
    bare = Message(message(*PLAIN))
    assert [severities("DKM001", parsed(bare), Signing(how)) for how in ("before", "either", "after")] == [
        ["warning"],
        ["warning"],
        [],
    ]
    assert ask("DKM001", parsed(signed()), Signing("before")) == []


def test_dkim_body_hash() -> None:
    assert ask("DKM002", parsed(signed())) == []
    field = signature_field(KEY, PLAIN)
    changed = Message(message(field, *PLAIN, body=BODY + b"-- \r\nfooter\r\n"))
    (finding,) = ask("DKM002", parsed(changed))
    assert finding.severity == "error"
    assert "the signature of example.com (s=sel)" in finding.message
    assert (finding.evidence.line, finding.evidence.offset) == (1, 0)
    list_post = signed(field, body=BODY + b"-- \r\nfooter\r\n", domain=b"lists.example")
    assert severities("DKM002", parsed(list_post)) == ["info"]


async def test_dkim_signature_bad() -> None:
    right = signed()
    wrong = Message(bytes(right.raw).replace(b"Lunch", b"Brunch"))
    malformed = Message(message(b"DKIM-Signature: v=1; a=rsa-sha256", *PLAIN))
    assert ask("DKM003", await judged(right, record(KEY))) == []
    (finding,) = ask("DKM003", await judged(wrong, record(KEY)))
    assert (finding.severity, finding.ttl, finding.source) == ("error", 300, "dns")
    assert severities("DKM003", await judged(wrong, "SERVFAIL")) == []
    (finding,) = ask("DKM003", await judged(malformed))
    assert "no b=" in finding.message
    beside = signed(b"DKIM-Signature: v=1; a=rsa-sha256")
    assert severities("DKM003", await judged(beside, record(KEY))) == ["info"]


@pytest.mark.parametrize(
    ("records", "expected", "words"),
    [
        ([record(KEY)], [], ""),
        (["SERVFAIL"], [], ""),
        ([], ["error"], "no key at"),
        ([b"v=DKIM1; p="], ["error"], "revoked"),
        ([record(ed25519_key())], ["error"], "for ed25519"),
        ([record(KEY, b"v=DKIM1; s=tlsrpt; ")], ["error"], "s= does not allow"),
        ([record(KEY), record(rsa_key(1024))], ["warning"], "there are 2 keys at"),
        ([record(KEY, b"v=DKIM1; t=y; ")], ["info"], "t=y"),
        ([b"v=spf1 -all", record(KEY)], [], ""),
    ],
)
async def test_dkim_key_missing(records: list[bytes | str], expected: list[str], words: str) -> None:
    findings = ask("DKM004", await judged(signed(), *records))
    assert [finding.severity.value for finding in findings] == expected
    for finding in findings:
        assert words in finding.message
        assert NAME in finding.fix


async def test_a_missing_key_beside_a_signature_that_passes_is_a_note() -> None:
    text = signed(signature_field(KEY, PLAIN, domain=b"other.example"))
    assert severities("DKM004", await judged(text, record(KEY))) == ["info"]
    assert severities("DKM004", await judged(text, record(KEY), other=record(KEY))) == []


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, []),
        ({"key": rsa_key(1024)}, ["info"]),
        ({"key": rsa_key(768)}, ["error"]),
        ({"algorithm": "rsa-sha1"}, ["warning"]),
        ({"key": ed25519_key()}, ["warning"]),
    ],
)
async def test_dkim_weak(how: dict[str, Any], expected: list[str]) -> None:
    assert severities("DKM005", await judged(signed(**how), record(how.get("key", KEY)))) == expected


async def test_ed25519_beside_rsa_is_what_rfc_8463_wants() -> None:
    text = signed(signature_field(ed25519_key(), PLAIN, domain=b"other.example"))
    assert severities("DKM005", await judged(text, record(KEY), other=record(ed25519_key()))) == []


@pytest.mark.parametrize(
    ("names", "fields", "length", "expected"),
    [
        (SOUND, (), None, []),
        (b"from:from:to:date", (), None, ["warning Subject"]),
        (b"from:to:subject:date", (), None, ["info lets a second From:"]),
        (SOUND, (b"List-Unsubscribe: <https://a.example>",), None, ["warning List-Unsubscribe"]),
        (SOUND + b":list-unsubscribe", (b"List-Unsubscribe: <https://a.example>",), None, []),
        (SOUND, (b"Content-Type: text/html", b"MIME-Version: 1.0"), None, ["info Content-Type, MIME-Version"]),
        (SOUND, (), 5, ["warning l=: the body may be continued (20 octets are not signed)"]),
    ],
)
def test_dkim_coverage(names: bytes, fields: tuple[bytes, ...], length: int | None, expected: list[str]) -> None:
    text = signed(fields=PLAIN + fields, names=names, length=length)
    findings = ask("DKM006", text, parsed(text))
    assert len(findings) == len(expected)
    for finding, wanted in zip(findings, expected, strict=True):
        severity, _, words = wanted.partition(" ")
        assert finding.severity == severity
        assert words in finding.message


def test_the_signature_that_covers_most_is_judged() -> None:
    text = signed(signature_field(KEY, PLAIN, names=b"from", length=0))
    assert ask("DKM006", text, parsed(text)) == []
    bare = Message(message(b"DKIM-Signature: v=1", *PLAIN))
    assert ask("DKM006", bare, parsed(bare)) == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (b"", ""),
        (b"t=1699999999; x=1700604800; ", ""),
        (b"x=1700003600; ", "expires in 1 h"),
        (b"x=1699999970; ", "expired 30 s ago"),
        (b"t=1700000200; ", ""),
        (b"t=1700172800; ", "is dated 2 d in the future"),
        (b"x=1700000600; ", "expires in 10 min"),
    ],
)
def test_dkim_time(more: bytes, words: str) -> None:
    findings = ask("DKM007", parsed(signed(more=more)), NOW)
    assert bool(findings) is bool(words)
    assert all(words in finding.message for finding in findings)


PLAIN_HOP = Offers(frozenset())
MODERN_HOP = Offers(frozenset({"8BITMIME", "SIZE"}))


@pytest.mark.parametrize(
    ("body", "canonical", "offers", "expected"),
    [
        (BODY, "relaxed/relaxed", PLAIN_HOP, []),
        (BODY, "relaxed/simple", PLAIN_HOP, []),
        (b"gr\xc3\xbc\xc3\x9fe\r\n", "relaxed/relaxed", PLAIN_HOP, ["warning"]),
        (b"gr\xc3\xbc\xc3\x9fe\r\n", "relaxed/relaxed", MODERN_HOP, []),
        (b"a" * 1200 + b"\r\n", "relaxed/relaxed", MODERN_HOP, ["warning"]),
        (BODY, "simple/relaxed", MODERN_HOP, ["info"]),
    ],
)
def test_dkim_fragile(body: bytes, canonical: str, offers: Offers, expected: list[str]) -> None:
    text = signed(body=body, canonical=canonical)
    assert severities("DKM008", text, parsed(text), offers) == expected


def test_a_message_that_is_broken_or_unsigned_is_not_fragile() -> None:
    for fields in (PLAIN, (signature_field(KEY, PLAIN, body=b"x"), *PLAIN)):
        text = Message(message(*fields, body=b"\xff\r\n"))
        assert ask("DKM008", text, parsed(text), PLAIN_HOP) == []
