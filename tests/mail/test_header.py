"""What header fields say: charsets, encoded words, parameters, dates; any octets say something or nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpguard.mail.header import codec_of, date, decoded, encoded_words, lenient_base64, structured, to_text

# --- charsets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("charset", "octets", "text"),
    [
        ("UTF-8", b"caf\xc3\xa9", "café"),
        ("us-ascii", b"a\xff", "a\ufffd"),
        ("ISO-8859-1", b"caf\xe9", "café"),
        ("iso-8859-15", b"\xa4", "€"),
        (" Windows-1252 ", b"\x80", "€"),
        ("koi8-r", b"\xf0\xd2\xc9\xd7\xc5\xd4", "Привет"),
        ("ISO-2022-JP", b"\x1b$B$3$s\x1b(B", "こん"),
        ("Shift_JIS", b"\x82\xb1", "こ"),
        ("gb2312", b"\xc4\xe3", "你"),
        ("big5", b"\xa7A", "你"),
        ("ks_c_5601-1987", b"\xbe\xc8", "안"),
        ("x-user-defined", b"\xe9", "é"),
        ("unknown-8bit", b"\xe9", "é"),
        ("csISO2022JP", b"\x1b$B$3$s\x1b(B", "こん"),
        ("ISO_8859-1:1987", b"caf\xe9", "café"),
    ],
)
def test_text_of_octets_in_a_charset(charset: str, octets: bytes, text: str) -> None:
    assert to_text(octets, charset) == text


def test_every_charset_has_a_codec_that_reads_text() -> None:
    from smtpguard.mail import header

    assert len(header._CODECS) > 100
    for charset, codec in header._CODECS.items():
        assert codec_of(charset.upper()) == codec
        assert "a" in "".join(b.decode(codec, "replace") for b in (b"a", b"a\0", b"\0a", b"a\0\0\0"))


@pytest.mark.parametrize("name", ["", "rot13", "hex", "zlib", "idna", "punycode", "raw_unicode_escape", "mbcs", "x-y"])
def test_what_python_knows_and_mail_does_not_is_no_charset(name: str) -> None:
    assert codec_of(name) == ""


# --- encoded words ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b" plain\r\n folded ", "plain folded"),
        (b"=?utf-8?Q?caf=C3=A9_au_lait?=", "café au lait"),
        (b"=?UTF-8?b?Y2Fmw6k=?= x", "café x"),
        (b"=?iso-8859-1*fr?q?caf=E9?=", "café"),
        # RFC 2047 8: blanks between two words go, those between a word and text stay
        (b"=?utf-8?q?a?= =?utf-8?q?b?=", "ab"),
        (b"=?utf-8?q?a?=\r\n =?utf-8?q?_b?=", "a b"),
        (b"a =?utf-8?q?b?= c", "a b c"),
        (b"=?iso-2022-jp?B?GyRCJDMkcxsoQg==?=", "こん"),
        (b"raw \xc3\xa9", "raw é"),
        (b"raw \xe9", "raw é"),
        (b"=?utf-8?q?not closed", "=?utf-8?q?not closed"),
        (b"2 =? 3 ?= 4", "2 =? 3 ?= 4"),
        (b"", ""),
    ],
)
def test_decoded(value: bytes, text: str) -> None:
    assert decoded(value) == text


@pytest.mark.parametrize(
    ("word", "fault"),
    [
        (b"=?utf-8?q?fine?=", ""),
        (b"=?utf-8?B?Zmluc?=", "Base64"),
        (b"=?utf-8?B?Zm9v!?=", "Base64"),
        (b"=?utf-8?q?a=zz?=", "hexadecimal"),
        (b"=?utf-8?q?a b?=", "space"),
        (b"=?utf-8?B?Zmlu\r\n ZQ==?=", "space"),
        (b"=?utf-8?q?=C3?=", "not utf-8"),
        (b"=?us-ascii?q?=C3?=", "not us-ascii"),
        (b"=?x-none?q?a?=", "unknown"),
        (b"=?utf-8?x?a?=", "X is not an encoding"),
    ],
)
def test_what_is_wrong_with_an_encoded_word(word: bytes, fault: str) -> None:
    [found] = encoded_words(b"ab " + word + b" c")
    assert (found.start, found.end) == (3, 3 + len(word))
    assert fault in found.fault
    assert bool(fault) == bool(found.fault)


@pytest.mark.parametrize(
    ("content", "octets"),
    [
        (b"YWJj", b"abc"),
        (b"YW\r\nJj\r\n", b"abc"),
        (b"YWI=YWI=", b"ab"),
        (b"YWI", b"ab"),
        (b"YW", b"a"),
        (b"Y", b""),
        (b"Y!W?J-j", b"abc"),
    ],
)
def test_base64_as_far_as_it_can_be_read(content: bytes, octets: bytes) -> None:
    assert lenient_base64(content) == octets


# --- parameters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "said", "params"),
    [
        (b" Text/HTML; charset=UTF-8", "text/html", {"charset": "UTF-8"}),
        (b"text/plain", "text/plain", {}),
        (b" text/plain (a comment); charset = us-ascii (ASCII)", "text/plain", {"charset": "us-ascii"}),
        (b'multipart/mixed;\r\n\tboundary="a;b=\\"c\\""; x=1', "multipart/mixed", {"boundary": 'a;b="c"', "x": "1"}),
        (b"a/b; name=one; NAME=two", "a/b", {"name": "one"}),
        (b'a/b; name="caf\xc3\xa9"', "a/b", {"name": "café"}),
        # RFC 2231 3, 4, 4.1
        (b"a/b; name*=utf-8'en'%e2%82%ac%20rates", "a/b", {"name": "€ rates"}),
        (b'a/b; name*0="one "; name*1=two', "a/b", {"name": "one two"}),
        (b"a/b; name*1*=%AC.txt; name*0*=utf-8''%e2%82", "a/b", {"name": "€.txt"}),
        (b"a/b; name*0*=utf-8''x; name*1*=a'b'c", "a/b", {"name": "xa'b'c"}),
        (b"a/b; name=plain; name*=utf-8''ext", "a/b", {"name": "ext"}),
        (b"a/b; name*0=a; name*2=c", "a/b", {"name": "a"}),
        (b"a/b; name*x=1", "a/b", {}),
        (b"a/b; =x; ; y", "a/b", {}),
        (b"", "", {}),
    ],
)
def test_parameters(value: bytes, said: str, params: dict[str, str]) -> None:
    assert structured(value) == (said, params)


def test_a_long_value_is_read_to_its_limit() -> None:
    value = b"a/b; x=1" + b";y=2" * 10_000 + b";z=3"
    assert structured(value).params == {"x": "1", "y": "2"}


# --- dates -----------------------------------------------------------------------------------------------------------

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("value", "after_noon"),
    [
        (b" Sun, 22 Nov 2026 12:00:00 +0000", 0),
        (b"Sun, 22 Nov 2026 13:30:05 +0130 (some (zone))", 5),
        (b"22 nov 2026 12:00 GMT", 0),
        (b"Sun, 22 Nov 2026\r\n 07:00:00 EST", 0),
        (b"Sun, 22 Nov 2026 05:00:00 -0700", 0),
        (b"Sun,22 Nov 26 12:00:00 Z", 0),
        (b"Sun, 22 Nov 126 12:00:00 -0000", 0),
        (b"Sun, 22 Nov 2026 11:59:60 +0000", -1),
        (b"Sun, 22 Nov 2026 12:00:00 CEST", 0),
    ],
)
def test_dates(value: bytes, after_noon: float) -> None:
    found = date(value)
    assert found is not None
    assert found - NOON == after_noon


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"2026-11-22 12:00:00 +0000",
        b"Sun, 22 Nov 2026 12:00:00",
        b"Sun, 31 Nov 2026 12:00:00 +0000",
        b"Sun, 22 Nov 2026 25:00:00 +0000",
        b"Sun, 22 Nov 2026 12:00:61 +0000",
        b"Sun, 22 Nov 2026 12:00:00 +0060",
        b"Sonntag, 22 Nov 2026 12:00:00 +0000",
        b"Sun, 22 November 2026 12:00:00 +0000",
    ],
)
def test_what_is_no_date(value: bytes) -> None:
    assert date(value) is None


@settings(max_examples=300)
@given(
    st.sampled_from(["Sun, ", "Mon, ", "", "Sonntag, ", "sun, "]),
    st.integers(0, 32),
    st.sampled_from(["Jan", "Feb", "Nov", "nov", "Mai"]),
    st.integers(1969, 2100),
    st.tuples(st.integers(0, 25), st.integers(0, 61), st.integers(0, 61)),
    st.sampled_from(["+0000", "-0730", "+1359", "+0060", "GMT", "+0100 (CET)", "+0100 (a (b))", ""]),
)
def test_the_usual_form_is_read_as_any_other(
    weekday: str, day: int, month: str, year: int, clock: tuple[int, int, int], zone: str
) -> None:
    value = f"{weekday}{day} {month} {year} {clock[0]:02}:{clock[1]:02}:{clock[2]:02} {zone}".encode()
    assert date(value) == date(b" \r\n " + value)  # which is none of the usual form


# --- any octets ------------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        b"=?utf-8?q?",
        b"?=",
        b"=?",
        b"?B?",
        b"; a*0*=",
        b'"',
        b"\\",
        b"(",
        b")",
        b"\r\n ",
        b"%e2",
        b"'",
        b"22 Nov ",
        b"\xff",
    ]
)


@settings(max_examples=150)
@given(st.lists(PIECES | st.binary(max_size=6), max_size=20).map(b"".join))
def test_any_octets_say_something_or_nothing(value: bytes) -> None:
    assert isinstance(decoded(value), str)
    assert all(0 <= word.start < word.end <= len(value) for word in encoded_words(value))
    assert isinstance(structured(value).value, str)
    assert date(value) is None or b"Nov" in value
    assert len(lenient_base64(value)) <= len(value)


@settings(max_examples=100)
@given(st.text(max_size=40))
def test_text_encoded_in_words_comes_back(text: str) -> None:
    octets = text.encode("utf-8", "ignore")
    word = b"=?utf-8?Q?" + b"".join(b"=%02X" % octet for octet in octets) + b"?="
    assert decoded(word) == octets.decode()
