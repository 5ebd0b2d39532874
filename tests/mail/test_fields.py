"""A header section taken apart: fields with their places, strays, bounds."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from smtpguard.mail.fields import LINES_LIMIT, Fields

HEADER = b"From: a@b.example\r\nSubject: one\r\n two\r\n\tthree\r\nno field\r\nTo : c@d.example\r\nsubject:x"


def test_fields_and_strays_tell_their_places() -> None:
    found = Fields(HEADER, offset=100)
    assert [field.name for field in found.fields] == [b"From", b"Subject", b"To", b"subject"]
    assert [field.line for field in found.fields] == [1, 2, 6, 7]
    for field in found.fields:
        assert HEADER[field.offset - 100 :].startswith(field.name)
        assert HEADER[field.value_offset - 100 :].startswith(field.value)
    assert [(stray.text, stray.line) for stray in found.strays] == [(b"no field", 5), (b"To : c@d.example", 6)]
    assert all(HEADER[stray.offset - 100 :].startswith(stray.text) for stray in found.strays)


def test_fields_by_name() -> None:
    found = Fields(HEADER)
    assert [field.unfolded for field in found.all(b"subject")] == [b"one two\tthree", b"x"]
    first = found.first(b"subject")
    assert first is not None
    assert first.line == 2
    assert found.first(b"cc") is None
    assert found.all(b"cc") == ()


def test_a_header_that_begins_with_a_blank() -> None:
    found = Fields(b" From: a@b.example\r\nTo: c@d.example")
    assert [stray.line for stray in found.strays] == [1]
    assert [field.name for field in found.fields] == [b"To"]


def test_lines_over_the_limit_are_not_looked_at() -> None:
    assert not Fields(b"\r\n".join([b"a:"] * LINES_LIMIT)).is_cut
    found = Fields(b"\r\n".join([b"a:"] * (LINES_LIMIT + 2)))
    assert found.is_cut
    assert len(found.fields) == LINES_LIMIT


@settings(max_examples=150)
@given(
    st.lists(st.sampled_from([b"\r\n", b" ", b"\t", b":", b"a", b"\n", b"\r", b"\0", b"\xff"]), max_size=30).map(
        b"".join
    )
)
def test_any_octets_are_fields_and_strays_that_stand_where_they_say(header: bytes) -> None:
    found = Fields(header, offset=7)
    for field in found.fields:
        assert header[field.value_offset - 7 :].startswith(field.value)
        assert field.line == header.count(b"\r\n", 0, field.offset - 7) + 1
    for stray in found.strays:
        assert header[stray.offset - 7 :].startswith(stray.text)
    assert found.is_tidy is (not any(mark in header.replace(b"\r\n", b"") for mark in b"\r\n\0"))
    assert found.longest == max((len(text) for text in re.split(rb"\r\n(?![ \t])", header)), default=0)


def test_a_name_is_a_name_only_before_a_colon() -> None:
    assert [field.name for field in Fields(b"From: x\r\nFromm\r\nFrom").fields] == [b"From"]
