"""Replies: parsed strictly, written so that no text can break a line or a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpguard.mail.reply import EnhancedCode, Reply, ReplyError, Verb, clean, fold, parse_enhanced


@pytest.mark.parametrize(
    ("text", "code", "enhanced", "lines"),
    [
        ("550 5.1.1 no such user", 550, (5, 1, 1), ("no such user",)),
        ("250", 250, None, ("",)),
        ("250 ", 250, None, ("",)),
        ("421 closing", 421, None, ("closing",)),
        ("571 Message refused", 571, None, ("Message refused",)),
        ("550-5.7.26 first\r\n550 5.7.26 second", 550, (5, 7, 26), ("first", "second")),
        ("550-first\n550 5.7.1 second", 550, (5, 7, 1), ("first", "second")),
        ("550 #5.1.0 Address rejected.", 550, (5, 1, 0), ("Address rejected.",)),
        ("550 5.1.1: gone", 550, (5, 1, 1), ("gone",)),
        ("550 4.1.1 wrong class", 550, None, ("4.1.1 wrong class",)),
        ("550-4.1.1 wrong class\n550 here too", 550, None, ("4.1.1 wrong class", "here too")),
        ("550 5.7.1.example.com is no code", 550, None, ("5.7.1.example.com is no code",)),
    ],
)
def test_parse(text: str, code: int, enhanced: tuple[int, int, int] | None, lines: tuple[str, ...]) -> None:
    reply = Reply.of(text, Verb.RCPT)
    assert (reply.code, reply.enhanced, reply.lines, reply.verb) == (code, enhanced, lines, Verb.RCPT)


@pytest.mark.parametrize(
    "raw",
    [
        [b"hello"],
        [b"99 x"],
        [b"650 x"],
        [b"199 x"],
        [b"2500 x"],
        [b""],
        [b"250-a", b"550 b"],
        [b"250-a", b"b"],
        [b"-50 x"],
    ],
)
def test_what_is_no_reply(raw: list[bytes]) -> None:
    with pytest.raises(ReplyError):
        Reply.parse(raw)


@given(st.lists(st.binary(max_size=80), min_size=1, max_size=4))
def test_octets_are_a_reply_of_one_code_or_an_error(raw: list[bytes]) -> None:
    try:
        reply = Reply.parse(raw)
    except ReplyError:
        return
    assert 200 <= reply.code <= 599
    assert len(reply.lines) == len(raw)


TEXTS = st.text(max_size=700)


@given(
    st.sampled_from([250, 354, 421, 550]),
    st.lists(TEXTS, min_size=1, max_size=3),
    st.sampled_from([None, EnhancedCode(5, 7, 1)]),
    st.booleans(),
)
def test_what_leaves_is_well_formed(code: int, lines: list[str], enhanced: EnhancedCode | None, utf8: bool) -> None:
    wire = Reply(code, tuple(lines), enhanced).wire(utf8=utf8)
    sent = wire.split(b"\r\n")
    assert sent.pop() == b""
    for index, line in enumerate(sent):
        assert len(line) <= 510
        assert line[:3] == b"%d" % code
        assert line[3:4] == (b" " if index == len(sent) - 1 else b"-")
        text = line.decode()  # never a cut character
        assert text.isprintable()
        if not utf8:
            assert text.isascii()
        if enhanced:
            assert text[4:].startswith(f"{enhanced} ")


def test_octets_that_are_not_utf8_are_read_as_latin_1() -> None:
    assert Reply.parse([b"550 Benutzer ung\xfcltig"]).text == "Benutzer ungültig"
    assert Reply.parse(["550 ungültig".encode()]).text == "ungültig"


@pytest.mark.parametrize(
    ("text", "utf8", "cleaned"),
    [
        ("plain", False, "plain"),
        ("a\r\n250 b", False, "a  250 b"),
        ("\x1b[31mred", False, " [31mred"),
        ("x\u2028y\u202ez", True, "x y z"),
        ("größer", False, "gr??er"),
        ("größer", True, "größer"),
    ],
)
def test_clean(text: str, utf8: bool, cleaned: str) -> None:
    assert clean(text, utf8=utf8) == cleaned


@given(st.text(max_size=300), st.integers(8, 60))
def test_fold_loses_nothing_but_blanks_at_the_breaks(text: str, room: int) -> None:
    pieces = fold(text, room)
    assert all(len(piece) <= room for piece in pieces)
    joined = b"".join(pieces).decode("utf-8")
    assert joined.replace(" ", "") == text.encode("utf-8", "replace").decode().replace(" ", "")


def test_enhanced_codes_have_at_most_three_digits_a_part() -> None:
    assert parse_enhanced("5.1234.1 x") == (None, "5.1234.1 x")
    assert parse_enhanced("5.7.509 x") == (EnhancedCode(5, 7, 509), "x")


def test_str_shows_code_enhanced_code_and_text() -> None:
    assert str(Reply.of("550-5.1.1 a\n550 5.1.1 b")) == "550 5.1.1 a b"
    assert str(Reply.of("250 ok")) == "250 ok"


def test_a_cut_never_falls_into_a_character() -> None:
    assert fold("ab\u00fcd", 3) == [b"ab", "\u00fcd".encode()]
