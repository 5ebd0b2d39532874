"""Replies out of octets: whole, octet by octet, with octets behind them; and whatever octets there are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpguard.edge.reader import MAX_LINE_OCTETS, MAX_LINES, ReplyReader
from smtpguard.mail.reply import Reply, ReplyError, Verb

GOOD = [
    (b"250 ok\r\n", [[b"250 ok"]]),
    (b"250\r\n", [[b"250"]]),
    (b"250-a\r\n250-b\r\n250 c\r\n", [[b"250-a", b"250-b", b"250 c"]]),
    (b"250-a\r\n250\r\n", [[b"250-a", b"250"]]),
    (b"250 ok\n", [[b"250 ok"]]),
    (b"250 a\r\n550 5.1.1 b\r\n354 c\r\n", [[b"250 a"], [b"550 5.1.1 b"], [b"354 c"]]),
    (b"571 odd\r\n", [[b"571 odd"]]),
    (b"250 " + b"x" * (MAX_LINE_OCTETS - 4) + b"\r\n", [[b"250 " + b"x" * (MAX_LINE_OCTETS - 4)]]),
]
BAD = [
    b"\r\n",
    b"25\r\n",
    b"2500 x\r\n",
    b"250x\r\n",
    b"250_x\r\n",
    b"-1 x\r\n",
    b"000 x\r\n",
    b"199 x\r\n",
    b"600 x\r\n",
    b"999 x\r\n",
    b" 250 x\r\n",
    b"+25 x\r\n",
    b"HTTP/1.1 400 Bad Request\r\n",
    b"250-a\r\n550 b\r\n",
    b"250-a\r\nb\r\n",
    b"250 " + b"x" * MAX_LINE_OCTETS + b"\r\n",
    b"250 " + b"x" * (2 * MAX_LINE_OCTETS),
    b"250-x\r\n" * (MAX_LINES + 1),
    b"250-" + b"x" * 2000 + b"\r\n" + (b"250-" + b"x" * 2000 + b"\r\n") * 40,
]


@pytest.mark.parametrize(("octets", "replies"), GOOD)
def test_replies_are_the_same_however_they_arrive(octets: bytes, replies: list[list[bytes]]) -> None:
    assert list(ReplyReader().feed(octets)) == replies
    slow = ReplyReader()
    assert [reply for at in range(len(octets)) for reply in slow.feed(octets[at : at + 1])] == replies
    assert slow.is_between
    more = ReplyReader()
    assert list(more.feed(octets + b"25")) == replies
    assert not more.is_between
    assert list(more.feed(b"0 late\r\n")) == [[b"250 late"]]


@pytest.mark.parametrize("octets", BAD)
def test_what_is_no_reply_ends_the_reading(octets: bytes) -> None:
    with pytest.raises(ReplyError):
        list(ReplyReader().feed(octets))
    slow = ReplyReader()
    with pytest.raises(ReplyError):
        [reply for at in range(len(octets)) for reply in slow.feed(octets[at : at + 1])]


def test_a_reply_comes_out_before_the_rubbish_behind_it() -> None:
    replies = ReplyReader().feed(b"250 taken\r\nrubbish\r\n")
    assert next(replies) == [b"250 taken"]
    with pytest.raises(ReplyError):
        next(replies)


def _read(chunks: list[bytes]) -> tuple[list[list[bytes]], bool]:
    reader, seen = ReplyReader(), []
    try:
        for chunk in chunks:
            for lines in reader.feed(chunk):
                Reply.parse(lines, Verb.DOT)
                seen.append(lines)
    except ReplyError:
        return seen, True
    return seen, False


_soup = st.lists(
    st.one_of(st.binary(max_size=12), st.sampled_from([b"250 ok\r\n", b"250-", b"\r\n", b"\n", b"55", b"0 x"]))
)


@given(_soup)
def test_any_octets_give_only_replies_that_are_there_and_no_other_error(chunks: list[bytes]) -> None:
    seen, _ = _read(chunks)
    lines = b"".join(chunks).replace(b"\r\n", b"\n").split(b"\n")
    assert [line.removesuffix(b"\r") for line in lines[: sum(map(len, seen))]] == [
        line for reply in seen for line in reply
    ]
    assert all(b"2" <= reply[0][:1] <= b"5" and reply[-1][3:4] in b" " for reply in seen)


@given(_soup)
def test_how_octets_are_cut_changes_nothing(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    assert _read(chunks) == _read([whole]) == _read([whole[at : at + 1] for at in range(len(whole))])
