"""BLK rules, which mail counts as bulk, and honest newsletters."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpguard.lint import RULES, Action, Finding, Hit, Report, Ruleset, Severity
from smtpguard.lint.bulk import is_bulk
from smtpguard.lint.facts import Signatures
from smtpguard.mail.message import Message
from smtpguard.mailauth.dkim_field import Signature
from tests.lint.letters import hits, is_at, letter, letter_of, newsletter, part, severities

UNSUBSCRIBE = "<https://shop.example/u/1>, <mailto:u@shop.example?subject=1>"
ONE_CLICK = "List-Unsubscribe=One-Click"
GOOD = {"List-Unsubscribe": UNSUBSCRIBE, "List-Unsubscribe-Post": ONE_CLICK}


def only(found: list[Hit]) -> Hit:
    """The one hit."""
    assert len(found) == 1
    return found[0]


def asked(message: Message, *, bulk: bool) -> list[Finding]:
    """What all BLK rules say of a message, asked as the program asks them."""
    report = Report()
    Ruleset("observe", {"ALL": Action.OFF, "BLK": Action.OBSERVE}).run(
        RULES["BLK001"].stage, {Message: message}, report, is_bulk=bulk
    )
    return report.findings


# --- which mail is bulk ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"Precedence": "bulk"},
        {"Precedence": " Bulk"},
        {"List-Unsubscribe": UNSUBSCRIBE},
        {"List-Id": "<news.shop.example>"},
        {"List-Id": "<news.shop.example>", "List-Post": "NO"},
        {"Feedback-ID": "1:2:3:shop"},
        {"Precedence": "bulk", "Auto-Submitted": "no"},
        {"List-Unsubscribe": UNSUBSCRIBE, "Auto-Submitted": "auto-generated"},
    ],
)
def test_mail_that_counts_as_bulk(fields: dict[str, str]) -> None:
    assert is_bulk(letter("x", **fields))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"Precedence": "first-class"},
        {"Precedence": "bulk", "Auto-Submitted": "auto-replied (vacation)"},
        {"Precedence": "bulk", "Auto-Submitted": "auto-generated", "RT-Ticket": "example.com #1"},
        {"Feedback-ID": "reset:app", "Auto-Submitted": "auto-generated"},
        {"Precedence": "list", "List-Id": "<dev.example>", "List-Post": "<mailto:dev@lists.example>"},
        {"Precedence": "bulk", "Content-Type": "multipart/report; report-type=delivery-status; boundary=b"},
    ],
)
def test_mail_that_does_not(fields: dict[str, str]) -> None:
    assert not is_bulk(letter("x", **fields))


def test_rules_are_asked_of_bulk_mail_only() -> None:
    message = letter("Hello\n")
    assert asked(message, bulk=False) == []
    assert [finding.rule for finding in asked(message, bulk=True)] == ["BLK001", "BLK005"]


# --- BLK001, BLK002 --------------------------------------------------------------------------------------------------


def test_no_list_unsubscribe() -> None:
    hit = only(hits("BLK001", letter("x")))
    assert (hit.evidence.line, hit.evidence.offset) == (1, 0)
    assert hits("BLK001", letter("x", **GOOD)) == []
    marked = letter("x", Feedback_ID="1:2:3:shop")
    hit = only(hits("BLK001", marked))
    assert "Feedback-ID: marks the message" in hit.message
    assert is_at(marked, hit, b"Feedback-ID")
    assert hit.severity is Severity.WARNING


@pytest.mark.parametrize(
    ("fields", "at", "words"),
    [
        ({"List-Unsubscribe": UNSUBSCRIBE}, b"List-Unsubscribe:", "no List-Unsubscribe-Post"),
        ({**GOOD, "List-Unsubscribe": "<mailto:u@shop.example>"}, b"List-Unsubscribe:", "no https"),
        ({**GOOD, "List-Unsubscribe": "<http://shop.example/u>"}, b"List-Unsubscribe:", "no https"),
        ({**GOOD, "List-Unsubscribe-Post": "list-unsubscribe=one-click"}, b"List-Unsubscribe-Post", "is not"),
        ({**GOOD, "List-Unsubscribe-Post": "One-Click"}, b"List-Unsubscribe-Post", "is not"),
    ],
)
def test_no_one_click(fields: dict[str, str], at: bytes, words: str) -> None:
    message = letter("x", **fields)
    hit = only(hits("BLK002", message))
    assert words in hit.message
    assert is_at(message, hit, at)


@pytest.mark.parametrize(
    "fields",
    [
        GOOD,
        {"List-Unsubscribe": "<HTTPS://shop.example/u>", "List-Unsubscribe-Post": "\r\n List-Unsubscribe=One-Click "},
        {},  # BLK001's
    ],
)
def test_one_click(fields: dict[str, str]) -> None:
    assert hits("BLK002", letter("x", **fields)) == []


# --- BLK003 ----------------------------------------------------------------------------------------------------------

BOTH = (b"from", b"list-unsubscribe", b"list-unsubscribe-post")


def signed(*signatures: tuple[str, tuple[bytes, ...], str], **fields: str) -> tuple[Message, Signatures]:
    """A message and signatures of it: domain, covered names, problem."""
    message = letter("x", **fields, **{f"DKIM-Signature-{domain}": "v=1" for domain, _, _ in signatures})
    if not signatures:
        return message, Signatures(())
    return message, Signatures(
        tuple(
            Signature(field, domain, headers=headers, problem=problem)
            for field, (domain, headers, problem) in zip(message.fields[-len(signatures) :], signatures, strict=True)
        )
    )


@pytest.mark.parametrize(
    ("signatures", "words"),
    [
        ([("shop.example", BOTH[:2], "")], "both List-Unsubscribe fields"),
        ([("esp.example", BOTH, "")], "no signature is of the From domain"),
        ([("shop.example", BOTH, "bad b=")], "no signature is of the From domain"),
        ([("esp.example", BOTH, ""), ("mail.shop.example", (b"from",), "")], "both List-Unsubscribe fields"),
    ],
)
def test_one_click_that_is_not_signed(signatures: list[tuple[str, tuple[bytes, ...], str]], words: str) -> None:
    message, found = signed(*signatures, **GOOD)
    hit = only(list(RULES["BLK003"].check(message, found)))
    assert words in hit.message
    assert hit.evidence.text.startswith("DKIM-Signature")


def test_one_click_that_is_signed() -> None:
    check = RULES["BLK003"].check
    assert list(check(*signed(("shop.example", BOTH, ""), **GOOD))) == []
    assert list(check(*signed(("esp.example", (), ""), ("mail.shop.example", BOTH, ""), **GOOD))) == []
    assert list(check(*signed(**GOOD))) == []  # DKM001's
    assert list(check(*signed(("shop.example", (), ""), **{"List-Unsubscribe": UNSUBSCRIBE}))) == []  # BLK002's


# --- BLK004 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "at", "words"),
    [
        ("https://shop.example/u", b"List-Unsubscribe", "no URI in < >"),
        ("<https://shop.example/a b>", b"https:", "a space in it"),
        ("<https://shop.example/a\r\n b>", b"https:", "folded within"),
        ("<http://shop.example/u>", b"http:", "neither https: nor mailto: (http)"),
        ("<shop.example/u>", b"shop.example/u", "(no scheme)"),
        ("<https://shop.example/u>, <https://shop.example/v>", b"https://shop.example/v", "more than one https"),
        ("<mailto:u@shop.example>, https://shop.example/u", b"List-Unsubscribe", "text outside"),
    ],
)
def test_list_unsubscribe_that_is_malformed(value: str, at: bytes, words: str) -> None:
    message = letter("x", **{"List-Unsubscribe": value})
    hit = only(hits("BLK004", message))
    assert words in hit.message
    assert is_at(message, hit, at)
    assert severities("BLK004", message) == [Severity.WARNING]


def test_two_fields_of_which_a_reader_takes_one() -> None:
    message = letter("x", **GOOD, **{"list-unsubscribe": "<https://shop.example/u>"})
    hit = only(hits("BLK004", message))
    assert "2 List-Unsubscribe: fields" in hit.message
    assert is_at(message, hit, b"list-unsubscribe: ")
    mixed = letter(
        "x", **{**GOOD, "List-Unsubscribe": "<mailto:u@x.example>", "list-unsubscribe": "<https://x.example>"}
    )
    assert hits("BLK002", mixed) == []


@pytest.mark.parametrize(
    "value",
    [UNSUBSCRIBE, "<https://shop.example/u?a=1,2>,\r\n\t<MAILTO:u@shop.example>", "(by mail) <mailto:u@x.example>"],
)
def test_list_unsubscribe_that_is_not(value: str) -> None:
    assert hits("BLK004", letter("x", **{"List-Unsubscribe": value})) == []


# --- BLK005 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "html",
    [
        '<p>Sale!</p><a href="https://shop.example/x">Unsubscribe</a>',
        '<a href="https://shop.example/x">un\n subscribe</a><a href="https://shop.example/unsubscribe?u=1">here</a>',
        "<a>Newsletter abbestellen</a>",
        "<a>Se d&eacute;sabonner</a>",
        "<a>Отписаться</a>",
        "<a>配信停止はこちら</a>",
        "<a>إلغاء الاشتراك</a>",
        "<a>ABONELİKTEN ÇIK</a>",
        "<a>Darse\n de baja</a>",
    ],
)
def test_texts_that_tell_how_to_unsubscribe(html: str) -> None:
    assert hits("BLK005", newsletter(html)) == []


def test_texts_that_do_not() -> None:
    message = newsletter("<p>Sale! Subscribe to our channel.</p>")
    hit = only(hits("BLK005", message))
    assert is_at(message, hit, b"Our offers")
    assert severities("BLK005", message) == [Severity.INFO]
    encoded = letter_of(part("PGEgaHJlZj0iIj5VbnN1YnNjcmliZTwvYT4=", "text/html", Content_Transfer_Encoding="base64"))
    assert hits("BLK005", encoded) == []
    assert hits("BLK005", letter_of(part("x", "image/png"))) == []


# --- any octets ------------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        b"\r\n",
        b"List-Unsubscribe: ",
        b"List-Unsubscribe-Post: ",
        b"<",
        b">",
        b"https:",
        b"mailto:",
        b",",
        b"(",
        b" ",
        b"\xe9",
    ]
)


@settings(max_examples=200)
@given(st.lists(PIECES, max_size=20).map(b"".join))
def test_any_octets_give_findings_or_none(raw: bytes) -> None:
    message = Message(raw)
    assert is_bulk(message) in (True, False)
    for finding in asked(message, bulk=True):
        assert finding.evidence.offset is not None
        assert 0 <= finding.evidence.offset <= len(raw)
        assert finding.evidence.text.isprintable()
