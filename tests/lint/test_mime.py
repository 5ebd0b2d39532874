"""MIM rules: for each, messages that it must find, with the line and the octet, and twins that it must not."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpguard.classify.providers import PROVIDERS
from smtpguard.lint import RULES, Hit, Severity
from smtpguard.lint.facts import ByProvider, Offers
from smtpguard.lint.mime import LARGEST
from smtpguard.mail.message import Message
from smtpguard.mail.mime import MAX_DEPTH
from smtpguard.mail.session import Envelope, Recipient
from tests.lint.asking import ask
from tests.lint.letters import hits, is_at, letter, letter_of, part

MB = 1 << 20
TAKES_8BIT = Offers(frozenset({"8BITMIME", "SIZE"}), 10_000)
DECLARED = Envelope(b"a@b.example", eight_bit=True)


def only(found: list[Hit]) -> Hit:
    """The one hit."""
    assert len(found) == 1
    return found[0]


# --- MIM001 ----------------------------------------------------------------------------------------------------------


def test_a_line_that_is_too_long() -> None:
    given_ = letter("one\n" + "x" * 999 + "\ntwo\n" + "y" * 2000 + "\n")
    hit = only(hits("MIM001", given_))
    assert is_at(given_, hit, b"xxx")
    assert "999 octets" in hit.message
    assert "1 more" in hit.message


def test_a_header_line_that_is_too_long() -> None:
    given_ = letter("one\n", X_List="a" * 999)
    assert is_at(given_, only(hits("MIM001", given_)), b"X-List")


def test_lines_of_the_greatest_length() -> None:
    assert hits("MIM001", letter("x" * 998 + "\n" + "y" * 998)) == []


# --- MIM002 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "at", "octet"),
    [
        (b"one\r\ntwo\nthree\r\n", b"\nthree", "LF"),
        (b"one\r\ntwo\rthree\r\n", b"\rthree", "CR"),
        (b"one\n.\nMAIL FROM:<a@b.example>\r\n", b"\n.\n", "LF"),
        (b"one\r\n.\r\r\n", b"\r\r\n", "CR"),
    ],
)
def test_newlines_that_stand_alone(body: bytes, at: bytes, octet: str) -> None:
    given_ = letter(body)
    hit = only(hits("MIM002", given_))
    assert f"bare {octet}" in hit.message
    assert is_at(given_, hit, at)


def test_a_nul_in_the_body() -> None:
    given_ = letter(b"one\r\ntwo\0three\r\n")
    hit = only(hits("MIM002", given_))
    assert hit.message == "the body has a NUL"
    assert is_at(given_, hit, b"\0")


def test_newlines_that_do_not() -> None:
    assert hits("MIM002", letter(b"one\r\n\r\n.\r\ntwo")) == []
    assert hits("MIM002", Message(b"X: a\nb\r\n\r\nbody\r\n")) == []  # HDR005's


# --- MIM003 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("envelope", "offers", "encoding", "words", "severity"),
    [
        (Envelope(b""), TAKES_8BIT, "8bit", "MAIL did not say", Severity.ERROR),
        (DECLARED, Offers(frozenset({"SIZE"})), "8bit", "does not offer 8BITMIME", Severity.ERROR),
        (DECLARED, TAKES_8BIT, "7bit", "declared as '7bit'", Severity.WARNING),
        (DECLARED, TAKES_8BIT, "-", "without a Content-Transfer-Encoding", Severity.WARNING),
        (DECLARED, TAKES_8BIT, "quoted-printable", "declared as 'quoted-printable'", Severity.WARNING),
    ],
)
def test_octets_above_127(envelope: Envelope, offers: Offers, encoding: str, words: str, severity: Severity) -> None:
    given_ = letter(b"one\r\ncaf\xc3\xa9\r\n", Content_Transfer_Encoding=encoding)  # "-" is none
    [finding] = ask("MIM003", given_, envelope, offers)
    assert words in finding.message
    assert finding.severity is severity
    assert given_.raw.find(b"\xc3") == finding.evidence.offset
    assert finding.evidence.line == given_.line_of(given_.raw.find(b"\xc3"))


def test_octets_above_127_that_are_declared() -> None:
    assert ask("MIM003", letter("café", Content_Transfer_Encoding="8bit"), DECLARED, TAKES_8BIT) == []
    assert ask("MIM003", letter("coffee"), Envelope(b""), Offers(frozenset())) == []
    nested = letter_of(part("a", "text/plain"), part("café", "text/html", Content_Transfer_Encoding="8bit"))
    assert ask("MIM003", nested, DECLARED, TAKES_8BIT) == []
    bounced = letter_of(part(b"Subject: x\r\n\r\ncaf\xe9", "message/rfc822"))
    assert ask("MIM003", bounced, DECLARED, TAKES_8BIT) == []
    between = letter(b"pre\xe9amble\r\n--b\r\n\r\none\r\n--b--\r\n", "multipart/mixed; boundary=b")
    assert ask("MIM003", between, DECLARED, TAKES_8BIT) == []


# --- MIM004 ----------------------------------------------------------------------------------------------------------

BASE64 = base64.encodebytes(b"some octets of a file" * 9).replace(b"\n", b"\r\n")


@pytest.mark.parametrize(
    ("given_", "at", "words"),
    [
        (letter("x", MIME_Version="-"), b"Content-Type", "no MIME-Version"),
        (letter("x", "multipart/mixed"), b"Content-Type", "has no boundary"),
        (letter("x", "multipart/mixed; boundary=b"), b"Content-Type", "does not occur"),
        (letter("--b\n\nx\n", "multipart/mixed; boundary=b"), b"Content-Type", "closing delimiter"),
        (letter_of(b"Content-Type: text/html\r\n<p>x"), b"<p>", "empty line below the header missing?"),
        (
            letter_of(part("x", "text/plain"), Content_Transfer_Encoding="base64"),
            b"Content-Transfer",
            "may not be base64",
        ),
        (letter("x", Content_Transfer_Encoding="8-bit"), b"Content-Transfer", "'8-bit' is unknown"),
        (letter("x", "text/plain; charset=x-none"), b"Content-Type", "'x-none' is unknown"),
        (letter("x", "plain"), b"Content-Type", "'plain' is not a type"),
        (
            letter(BASE64 + b"_____\r\nFooter\r\n", Content_Transfer_Encoding="base64"),
            b"_____",
            "octets that are not Base64",
        ),
        (letter(b"YWI=\r\nYWM=\r\n", Content_Transfer_Encoding="base64"), b"YWM=", "padding"),
    ],
)
def test_structures_that_are_broken(given_: Message, at: bytes, words: str) -> None:
    hit = only(hits("MIM004", given_))
    assert words in hit.message
    assert is_at(given_, hit, at)


def test_parts_nested_too_deep() -> None:
    deep = letter("Content-Type: message/rfc822\n\n" * (MAX_DEPTH + 1), "message/rfc822")
    assert "20 deep" in only(hits("MIM004", deep)).message
    assert (
        hits("MIM004", letter("Content-Type: message/rfc822\n\n" * (MAX_DEPTH - 1) + "X: 1\n", "message/rfc822")) == []
    )


def test_faults_of_one_kind_are_one_hit() -> None:
    parts = [part("x", "text/plain; charset=x-none") for _ in range(4)]
    assert "(and 3 more like it)" in only(hits("MIM004", letter_of(*parts))).message


def test_a_message_that_is_only_quoted_is_not_judged() -> None:
    cut = b"Content-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!!"
    assert hits("MIM004", letter_of(part("x", "text/plain"), part(cut, "message/rfc822"))) == []
    assert (
        "closing delimiter" in only(hits("MIM004", Message(b"MIME-Version: 1.0\r\n" + cut.replace(b"!", b"")))).message
    )


def test_structures_that_are_sound() -> None:
    assert hits("MIM004", Message(b"Subject: x\r\n\r\nno MIME at all")) == []
    assert hits("MIM004", letter(BASE64, Content_Transfer_Encoding="base64")) == []
    assert hits("MIM004", letter(BASE64 + b" \r\n\r\n", Content_Transfer_Encoding="Base64")) == []
    assert hits("MIM004", letter_of(part("x", "text/plain; charset=KOI8-R"), part("x", "message/rfc822"))) == []


# --- MIM005, MIM006 --------------------------------------------------------------------------------------------------


def test_what_the_next_hop_takes() -> None:
    given_ = letter("x" * 900)
    [finding] = ask("MIM005", given_, Offers(frozenset(), given_.size - 1))
    assert f"{given_.size:,} octets" in finding.message
    for size in (given_.size, 0, None):
        assert ask("MIM005", given_, Offers(frozenset(), size)) == []


@pytest.fixture(scope="module")
def large() -> Message:
    """A message of 26 MB."""
    return Message(b"Subject: x\r\n\r\n" + (b"x" * 510 + b"\r\n") * (26 * 2048))


def test_what_providers_take(large: Message) -> None:
    providers = ByProvider({"google": 1, "yahoo": 2, "apple": 1, "microsoft": 1, "other": 5})
    findings = ask("MIM006", large, providers, Envelope(b""))
    assert [finding.message.split(", ")[1] for finding in findings] == ["yahoo takes 25 MB", "apple takes 20 MB"]
    rcpts = [Recipient(b"a@Outlook.com"), Recipient(b"b@hotmail.com"), Recipient(b"c@company.example")]
    findings = ask("MIM006", large, ByProvider({"microsoft": 3}), Envelope(b"", rcpts=rcpts))
    assert [finding.message.split(", ")[1] for finding in findings] == [
        "outlook.com takes 25 MB",
        "hotmail.com takes 25 MB",
    ]
    assert ask("MIM006", letter("small"), providers, Envelope(b"", rcpts=rcpts)) == []


def test_limits_are_of_providers_that_there_are() -> None:
    assert set(LARGEST) <= set(PROVIDERS)


# --- any octets ------------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b"--b\r\n",
        b"--b--\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n",
        b"Content-Type: message/rfc822\r\n",
        b"Content-Transfer-Encoding: base64\r\n",
        b"YWI=",
        b"\xff\0",
        b"x" * 999,
    ]
)


@settings(max_examples=200)
@given(st.lists(PIECES, max_size=20).map(b"".join))
def test_any_octets_give_findings_or_none(raw: bytes) -> None:
    for code in [code for code in RULES if code.startswith("MIM")]:
        message = Message(raw)
        facts = [fact for fact in (message, DECLARED, TAKES_8BIT, ByProvider({})) if type(fact) in RULES[code].needs]
        for finding in ask(code, *facts):
            assert finding.evidence.offset is None or 0 <= finding.evidence.offset <= len(raw)
            assert finding.evidence.text.isprintable()
