"""The end of data: fed in any cut, against a reference; every published smuggling sequence; dots; hops."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpguard.mail.framing import END, DataScanner, FramingFault, unstuff

PIECES = st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\r\n.\r\n", b"a", b"..", b"\0", b"Received:", b"\r\n\r\n"])
STREAMS = st.lists(PIECES, max_size=14).map(b"".join)


def scan(stream: bytes, *, cut: int = 0, normalize: bool = False) -> tuple[DataScanner, bytes, bytes | None]:
    """Feed `stream` in pieces of `cut` octets (0: whole): scanner, wire octets given back, what was left over."""
    scanner = DataScanner(normalize=normalize)
    wire = b""
    step = cut or max(1, len(stream))
    for start in range(0, len(stream), step):
        chunk, rest = scanner.feed(stream[start : start + step])
        wire += chunk
        if rest is not None:
            return scanner, wire, rest + stream[start + step :]
    return scanner, wire, None


def message_of(stream: bytes) -> tuple[bytes, bytes] | None:
    """The reference: what stands before the first CRLF.CRLF of a stream that begins behind a CRLF, and behind it."""
    whole = b"\r\n" + stream
    end = whole.find(END)
    return None if end < 0 else (whole[2 : end + 2], whole[end + 5 :])


@given(STREAMS, st.integers(0, 7))
def test_any_stream_in_any_cut_ends_where_the_reference_says(stream: bytes, cut: int) -> None:
    scanner, wire, rest = scan(stream, cut=cut)
    wanted = message_of(stream)
    if wanted is None:
        assert rest is None
        return
    assert (wire, rest) == wanted
    bare = wire.replace(b"\r\n", b"")
    assert (scanner.fault is None) == (not set(b"\r\n\0") & set(bare))


@given(STREAMS, st.integers(0, 7))
def test_the_size_is_that_of_the_unstuffed_message(stream: bytes, cut: int) -> None:
    scanner, wire, rest = scan(stream, cut=cut)
    if rest is not None and scanner.fault is None:
        assert scanner.size == len(b"".join(unstuff([wire])))


@given(STREAMS, st.integers(0, 7))
def test_normalized_octets_have_no_end_of_data_within_and_only_whole_line_ends(stream: bytes, cut: int) -> None:
    scanner, wire, rest = scan(stream, cut=cut, normalize=True)
    if rest is None:
        return
    assert END not in b"\r\n" + wire
    assert not set(b"\r\n") & set(wire.replace(b"\r\n", b""))
    assert scanner.size == len(b"".join(unstuff([wire])))


@given(STREAMS)
def test_normalizing_changes_nothing_but_newlines(stream: bytes) -> None:
    _, wire, rest = scan(stream, normalize=True)
    wanted = message_of(stream)
    if wanted is None or rest is None:
        return
    before = b"".join(unstuff([wanted[0]])) if not re.search(rb"(?<!\r)\n|\r(?!\n)", wanted[0]) else None
    if before is not None:
        assert b"".join(unstuff([wire])) == before


@given(STREAMS, st.lists(st.integers(1, 5), min_size=1, max_size=30))
def test_unstuffing_does_not_depend_on_the_cut(stream: bytes, cuts: list[int]) -> None:
    whole = b"".join(unstuff([stream]))
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(stream[at : at + cut])
        at += cut
    pieces.append(stream[at:])
    assert b"".join(unstuff(pieces)) == whole


# Published end-of-data variants (SEC Consult 2023, "SMTP smuggling"; Postfix and Exim advisories of 2023-12 and later):
# what a lenient receiver takes for CRLF.CRLF.
VARIANTS = [
    left + b"." + right
    for left in (b"\r\n", b"\n", b"\r", b"\n\r", b"\r\r\n", b"\r\n\0", b"\0\r\n", b"\r\0\n")
    for right in (b"\r\n", b"\n", b"\r", b"\r\r\n", b"\r\n\0"[:3], b"\r\0\n", b"\0\r\n", b"\0\n")
    if left + b"." + right != END and not (left.endswith(b"\r\n") and right.startswith(b"\r\n"))
]


@pytest.mark.parametrize("variant", VARIANTS, ids=[repr(v) for v in VARIANTS])
@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_no_variant_ends_the_data(variant: bytes, cut: int) -> None:
    smuggled = b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<x@example.com>\r\nDATA\r\nSubject: b\r\n\r\nb"
    stream = b"Subject: a\r\n\r\na" + variant + smuggled + END + b"QUIT\r\n"
    scanner, wire, rest = scan(stream, cut=cut)
    assert rest == b"QUIT\r\n"
    assert smuggled in wire
    assert scanner.fault is not None


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "line",
    [b"a\rb\nc", b"a\r.\nc", b"a\n\rc", b"\r\r\n\n", b"\n\r\n\r", b"a\r\r\n", b"\n", b"\r", b"a\rb\rc", b"a\nb\nc\r\r"],
)
def test_a_cr_and_an_lf_that_do_not_stand_together_are_no_line_end(line: bytes, cut: int) -> None:
    scanner, _, rest = scan(b"one\r\n" + line + b"\r\ntwo\r\n.\r\n", cut=cut)
    assert rest == b""
    assert scanner.fault is FramingFault.BARE_NEWLINE


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b".a\r\n.\r\n", b"a\r\n"),
        (b"a\r\n..\r\n...b\r\n.\r\n", b"a\r\n.\r\n..b\r\n"),
        (b"a.\r\n.\r\n", b"a.\r\n"),
    ],
)
def test_dots(stream: bytes, message: bytes, cut: int) -> None:
    scanner, wire, rest = scan(stream + b"NOOP\r\n", cut=cut)
    assert rest == b"NOOP\r\n"
    assert b"".join(unstuff([wire])) == message
    assert scanner.size == len(message)
    assert scanner.fault is None


@pytest.mark.parametrize("cut", [0, 1, 9, 10, 11, 64])
def test_received_fields_are_counted_in_the_header_section_only(cut: int) -> None:
    header = b"Received: a\r\nX-Received: no\r\nRECEIVED: b\r\n\tby c\r\nreceived:d\r\nSubject: Received: x\r\n"
    scanner, _, _ = scan(header + b"\r\nReceived: body\r\n.\r\n", cut=cut)
    assert scanner.received == 3


def test_a_body_without_header_section_has_no_received_fields() -> None:
    scanner, _, _ = scan(b"\r\nReceived: body\r\n.\r\n")
    assert scanner.received == 0


def test_the_first_fault_is_kept() -> None:
    scanner, _, rest = scan(b"a\nb\0c\r\n.\r\n")
    assert scanner.fault is FramingFault.BARE_NEWLINE
    assert rest == b""
