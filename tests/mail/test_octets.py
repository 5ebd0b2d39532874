"""Octets as SMTP counts them, in bytes and in a memory-mapped file, at the borders of the pieces too."""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpguard.mail import octets
from smtpguard.mail.octets import (
    Buffer,
    first_8bit,
    first_bare_newline,
    first_nul,
    is_plain,
    long_lines,
    newlines,
    seeker,
)


def as_bytes(content: bytes, _folder: Path) -> Buffer:
    return content


def as_map(content: bytes, folder: Path) -> Buffer:
    path = folder / "message"
    path.write_bytes(content)
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


@pytest.fixture(params=[as_bytes, as_map])
def given_as(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[bytes], Buffer]:
    return lambda content: request.param(content, tmp_path)


def test_octets_above_127(given_as: Callable[[bytes], Buffer]) -> None:
    raw = given_as(b"ab\r\nc\xe9\r\n\xff")
    assert first_8bit(raw, 0, len(raw)) == 5
    assert first_8bit(raw, 6, len(raw)) == 8
    assert first_8bit(raw, 0, 5) is None


def test_lines_before_an_offset(given_as: Callable[[bytes], Buffer]) -> None:
    raw = given_as(b"a\r\nb\r\nc")
    assert [newlines(raw, end) for end in (0, 2, 3, 6, 7)] == [0, 0, 1, 2, 2]


def test_nul(given_as: Callable[[bytes], Buffer]) -> None:
    raw = given_as(b"ab\0c")
    assert first_nul(raw, 0, 4) == 2
    assert first_nul(raw, 0, 2) is None


@pytest.mark.parametrize(
    ("content", "at"),
    [
        (b"a\r\nb\r\n", None),
        (b"\r\n\r\n", None),
        (b"a\nb\r\n", 1),
        (b"a\rb\r\n", 1),
        (b"a\rb\nc", 1),
        (b"\n", 0),
        (b"a\r\n\r", 3),
        (b"a\n\r\n", 1),
        (b"", None),
    ],
)
def test_newlines_that_are_no_crlf(content: bytes, at: int | None) -> None:
    assert first_bare_newline(content, 0, len(content)) == at


@pytest.mark.parametrize("before", range(-2, 3))
def test_the_border_of_a_piece(given_as: Callable[[bytes], Buffer], before: int) -> None:
    fill = octets._PIECE - 2 + before
    raw = given_as(b"a" * fill + b"\r\n" + b"b" * 10 + b"\r\n")
    assert first_bare_newline(raw, 0, len(raw)) is None
    raw = given_as(b"a" * fill + b"\r\n\n" + b"b" * 10)
    assert first_bare_newline(raw, 0, len(raw)) == fill + 2
    raw = given_as(b"a" * fill + b"\xe9" + b"b" * 10)
    assert first_8bit(raw, 0, len(raw)) == fill


@pytest.mark.parametrize("ends", [b"\r\n", b""])
def test_lines_over_the_limit(given_as: Callable[[bytes], Buffer], ends: bytes) -> None:
    assert long_lines(given_as(b"x\r\n" + b"a" * 998 + ends)) is None
    assert long_lines(given_as(b"x\r\n" + b"a" * 999 + ends)) == (1, 3, 999)
    two = b"b" * 2000 + b"\r\nx\r\n" + b"a" * 5000 + ends
    assert long_lines(given_as(two)) == (2, 0, 2000)


@settings(max_examples=150)
@given(st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"a", b"\xe9", b"\0"]), max_size=12).map(b"".join))
def test_as_a_plain_search_finds(content: bytes) -> None:
    def plain(pattern: bytes) -> int | None:
        found = re.search(pattern, content, re.DOTALL)
        return found.start() if found is not None else None

    size = len(content)
    assert first_bare_newline(content, 0, size) == plain(rb"(?<!\r)\n|\r(?!\n)")
    assert first_8bit(content, 0, size) == plain(rb"[\x80-\xff]")
    assert first_nul(content, 0, size) == plain(rb"\0")


@settings(max_examples=100)
@given(st.lists(st.integers(0, 1100), min_size=1, max_size=6))
def test_long_lines_as_splitting_finds(lengths: list[int]) -> None:
    content = b"\r\n".join(b"a" * length for length in lengths)
    long = [(sum(lengths[:n]) + 2 * n, length) for n, length in enumerate(lengths) if length > 998]
    assert long_lines(content) == ((len(long), *long[0]) if long else None)


@settings(max_examples=300)
@given(st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"a", b" ", b"\t", b"\xe9", b"\0"]), max_size=12).map(b"".join))
def test_plain_text_is_what_no_form_of_dkim_changes(content: bytes) -> None:
    assert is_plain(b"\r\n\r\n" + content, 4) is (
        re.search(rb"\t|  | \r\n| \Z| \r|(?<!\r)\n|\r(?!\n)", content) is None
    )


@settings(max_examples=300)
@given(
    st.sampled_from([b"www.", b"://", b"a", b"\xff\0", b"**"]),
    st.lists(
        st.sampled_from([b"w", b"www", b".", b":/", b"/", b"a", b"\xff", b"\0", b"*", b"\xc3\xa9"]), max_size=12
    ).map(b"".join),
)
def test_a_literal_is_found_where_it_stands(literal: bytes, content: bytes) -> None:
    assert seeker(literal)(content) is (literal in content)
