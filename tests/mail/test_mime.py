"""The MIME outline: parts by their octets, decoded content, faults, bounds; and any octets have an outline."""

from __future__ import annotations

import base64
import mmap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpguard.mail.message import Message
from smtpguard.mail.mime import (
    MAX_DELIMITERS,
    MAX_DEPTH,
    MAX_HEADERS,
    MAX_PART_HEADER,
    MAX_PARTS,
    FaultKind,
    Part,
    walk,
)


def mail(text: str) -> Message:
    """A message with MIME-Version, written with line feeds."""
    return Message(b"MIME-Version: 1.0\r\n" + text.replace("\n", "\r\n").encode("latin-1"))


def kinds(part: Part) -> list[str]:
    return [fault.kind for each in walk(part) for fault in each.faults]


def bodies(message: Message) -> list[bytes]:
    return [message.raw[part.start : part.end] for part in message.walk() if not part.parts]


# --- parts -----------------------------------------------------------------------------------------------------------


def test_a_message_without_mime_is_plain_text() -> None:
    message = Message(b"Subject: x\r\n\r\nHello\r\n")
    root = message.root
    assert (root.content_type, root.charset, root.encoding) == ("text/plain", "us-ascii", "7bit")
    assert (root.disposition, root.filename, root.depth) == ("", "", 0)
    assert root.content() == b"Hello\r\n"
    assert kinds(root) == []
    assert root is message.root


NESTED = """Content-Type: multipart/mixed; boundary="out"

preamble
--out
Content-Type: multipart/alternative; boundary=in

--in
Content-Type: text/plain; charset=utf-8

one
--in
Content-Type: text/html

<p>two
--in--
epilogue
--out\x20\x20
Content-Type: text/calendar; method=REQUEST; name=invite.ics
Content-Disposition: attachment

BEGIN:VCALENDAR

--out--
epilogue
"""


def test_nested_parts_lie_between_their_delimiters() -> None:
    message = mail(NESTED)
    parts = list(message.walk())
    assert [(part.depth, part.content_type) for part in parts] == [
        (0, "multipart/mixed"),
        (1, "multipart/alternative"),
        (2, "text/plain"),
        (2, "text/html"),
        (1, "text/calendar"),
    ]
    assert bodies(message) == [b"one", b"<p>two", b"BEGIN:VCALENDAR\r\n"]
    assert parts[0].is_multipart
    assert not parts[2].is_multipart
    assert (parts[4].disposition, parts[4].filename, parts[4].params["method"]) == (
        "attachment",
        "invite.ics",
        "REQUEST",
    )
    assert kinds(message.root) == []


def test_fields_of_a_part_tell_their_place_in_the_message() -> None:
    message = mail(NESTED)
    field = list(message.walk())[4].header.first(b"content-disposition")
    assert field is not None
    assert message.raw[field.offset :].startswith(b"Content-Disposition")


def test_a_message_within_a_message_is_its_only_part() -> None:
    message = mail("Content-Type: message/rfc822\n\nSubject: inner\nContent-Type: text/html\n\n<p>")
    [inner] = message.root.parts
    assert (inner.content_type, inner.depth, inner.content()) == ("text/html", 1, b"<p>")
    assert inner.header.first(b"subject") is not None


def test_parts_of_a_digest_are_messages() -> None:
    message = mail("Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: one\n\nbody\n--b--\n")
    assert [part.content_type for part in message.walk()] == ["multipart/digest", "message/rfc822", "text/plain"]
    assert bodies(message) == [b"body"]


@pytest.mark.parametrize(
    ("body", "pieces"),
    [
        ("--b\n\none\n--b--", [b"one"]),
        ("--b\n\none\n\n--b--", [b"one\r\n"]),
        ("--b\n\n--b\n\n--b--", [b"", b""]),
        ("--b\nX: 1\n\n--b--", [b""]),
        ("--b\n\n--bc\nx --b\n--b x\n--b--", [b"--bc\r\nx --b\r\n--b x"]),
        ("--b \t\n\none\n--b-- \nthe end", [b"one"]),
        ("--b\n\none\n--b--\n--b\n\nnot a part", [b"one"]),
    ],
)
def test_what_a_delimiter_is(body: str, pieces: list[bytes]) -> None:
    message = mail("Content-Type: multipart/mixed; boundary=b\n\n" + body)
    assert bodies(message) == pieces
    assert kinds(message.root) == []


def test_an_outer_delimiter_ends_an_inner_part_that_is_open() -> None:
    message = mail(
        "Content-Type: multipart/mixed; boundary=out\n\n--out\nContent-Type: multipart/mixed; boundary=in\n\n"
        "--in\n\none\n--out\n\ntwo\n--out--\n"
    )
    assert bodies(message) == [b"one", b"two"]
    assert kinds(message.root) == [FaultKind.OPEN]


# --- content ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "body", "content"),
    [
        ("base64", "aGVs\nbG8=\n", b"hello"),
        ("BASE64", "aGVs!bG8", b"hello"),
        ("quoted-printable", "caf=C3=A9 =\nau lait=\n", b"caf\xc3\xa9 au lait"),
        ("quoted-printable", "a=zzb", b"a=zzb"),
        ("8bit", "caf\xe9", b"caf\xe9"),
        ("x-unknown", "a=41", b"a=41"),
        ("7bit (comment)", "a", b"a"),
    ],
)
def test_content_is_decoded(encoding: str, body: str, content: bytes) -> None:
    assert mail(f"Content-Transfer-Encoding: {encoding}\n\n{body}").root.content() == content


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable", "7bit"])
def test_content_is_bounded(encoding: str) -> None:
    body = base64.encodebytes(b"abc" * 1000).decode() if encoding == "base64" else "abc" * 1000
    root = mail(f"Content-Transfer-Encoding: {encoding}\n\n{body}").root
    assert root.content(10) == b"abcabcabca"


@pytest.mark.parametrize(
    ("charset", "body", "text"),
    [("utf-8", "caf\xc3\xa9", "café"), ("x-none", "caf\xe9", "café"), ("us-ascii", "caf\xe9", "caf\ufffd")],
)
def test_text_in_its_charset(charset: str, body: str, text: str) -> None:
    assert mail(f"Content-Type: text/plain; charset={charset}\n\n{body}").root.text() == text


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ('Content-Disposition: attachment; filename="a b.pdf"', "a b.pdf"),
        ("Content-Disposition: attachment; filename*=utf-8''%e2%82%ac.pdf", "€.pdf"),
        ('Content-Disposition: inline; filename="=?utf-8?Q?=E2=82=AC=2Epdf?="', "€.pdf"),
        ('Content-Type: application/pdf; name="x.pdf"', "x.pdf"),
        ("Content-Disposition: attachment", ""),
    ],
)
def test_file_names(fields: str, name: str) -> None:
    assert mail(f"{fields}\n\nx").root.filename == name


def test_dispositions_that_are_unknown_are_attachments() -> None:
    assert mail("Content-Disposition: signal\n\nx").root.disposition == "attachment"


# --- faults ----------------------------------------------------------------------------------------------------------

MULTI = "Content-Type: multipart/mixed; boundary=b\n"


@pytest.mark.parametrize(
    ("text", "kind", "at"),
    [
        ("Content-Type: multipart/mixed\n\nx", FaultKind.BOUNDARY, "Content-Type"),
        (f"{MULTI}\nno delimiter", FaultKind.ABSENT, "Content-Type"),
        (f"{MULTI}\n--b\n\nopen", FaultKind.OPEN, "Content-Type"),
        (f"{MULTI}Content-Transfer-Encoding: base64\n\n--b\n\n--b--", FaultKind.ENCODING, "Content-Transfer"),
        (
            "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nx",
            FaultKind.ENCODING,
            "Content-Transfer",
        ),
        ("Content-Transfer-Encoding: 8bits\n\nx", FaultKind.ENCODING, "Content-Transfer"),
        ("Content-Type: text\n\nx", FaultKind.TYPE, "Content-Type"),
        ("Content-Type: text/ plain\n\nx", FaultKind.TYPE, "Content-Type"),
        ("Content-Type: text/plain; charset=x-none\n\nx", FaultKind.CHARSET, "Content-Type"),
        (f"{MULTI}\n--b\nContent-Type: text/plain\nCONTENT-type: text/html\n\n--b--", FaultKind.DUPLICATE, "CONTENT"),
    ],
)
def test_faults_tell_what_and_where(text: str, kind: FaultKind, at: str) -> None:
    message = mail(text)
    faults = [fault for part in message.walk() for fault in part.faults]
    assert [fault.kind for fault in faults] == [kind]
    assert message.raw.find(at.encode()) == faults[0].offset
    assert faults[0].text


def test_mime_fields_need_mime_version() -> None:
    assert kinds(Message(b"Content-Type: text/plain\r\n\r\n").root) == [FaultKind.NO_VERSION]
    assert kinds(Message(b"MIME-version: 1.0 (x)\r\nContent-Type: text/plain\r\n\r\n").root) == []


def test_a_multipart_is_read_as_it_stands() -> None:
    message = mail(f"{MULTI}Content-Transfer-Encoding: base64\n\n--b\n\none\n--b--\n")
    assert bodies(message) == [b"one"]


def test_a_message_in_base64_is_not_looked_into() -> None:
    inner = base64.b64encode(b"Subject: x\r\n\r\nbody").decode()
    message = mail(f"Content-Type: message/global\nContent-Transfer-Encoding: base64\n\n{inner}")
    assert message.root.parts == ()
    assert kinds(message.root) == []  # RFC 6532 3.5 allows it
    assert message.root.content() == b"Subject: x\r\n\r\nbody"


# --- bounds ----------------------------------------------------------------------------------------------------------


def test_parts_are_counted() -> None:
    message = mail(MULTI + "\n" + "--b\n\nx\n" * (MAX_PARTS + 50) + "--b--\n")
    assert len(list(message.walk())) == MAX_PARTS
    assert kinds(message.root) == [FaultKind.PARTS]


def test_as_many_parts_as_there_may_be() -> None:
    message = mail(MULTI + "\n" + "--b\n\nx\n" * (MAX_PARTS - 1) + "--b--\n")
    assert len(list(message.walk())) == MAX_PARTS
    assert kinds(message.root) == []


def test_nesting_is_cut() -> None:
    deep = "".join(f"Content-Type: multipart/mixed; boundary=x{n}y\n\n--x{n}y\n" for n in range(30_000))
    message = mail(deep)
    assert max(part.depth for part in message.walk()) == MAX_DEPTH
    assert FaultKind.DEPTH in kinds(message.root)
    message = mail("Content-Type: message/rfc822\n\n" * 30_000)
    assert max(part.depth for part in message.walk()) == MAX_DEPTH
    assert kinds(message.root) == [FaultKind.DEPTH]


def test_lines_that_are_like_a_delimiter_are_counted() -> None:
    message = mail(MULTI + "\n--b\n\n" + "--bx\n" * (MAX_DELIMITERS + 10) + "--b--\n")
    assert kinds(message.root) == [FaultKind.PARTS]
    assert len(message.root.parts) == 1


def test_the_header_of_a_part_is_bounded() -> None:
    message = mail(MULTI + "\n--b\n" + "X: y\n" * MAX_PART_HEADER + "\nbody\n--b--\n")
    [part] = message.root.parts
    assert len(part.header.header) <= MAX_PART_HEADER
    assert [fault.kind for fault in part.faults] == [FaultKind.HEADER]


def test_the_headers_of_all_parts_together_are_bounded() -> None:
    part = "\n--b\nX-Long: " + "y" * (MAX_PART_HEADER - 100) + "\n\nbody"
    message = mail(MULTI + part * 10 + "\n--b--\n")
    parts = message.root.parts
    assert len(parts) == 10
    assert sum(len(part.header.header) for part in parts) <= MAX_HEADERS
    assert [bool(part.faults) for part in parts] == [False] * 4 + [True] * 6


def test_a_memory_mapped_message_has_the_same_outline(tmp_path: Path) -> None:
    path = tmp_path / "message"
    path.write_bytes(mail(NESTED).raw)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        message = Message(mapped)
        assert bodies(message) == bodies(mail(NESTED))
        assert [part.text() for part in message.walk()] == [part.text() for part in mail(NESTED).walk()]


# --- any octets ------------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        b"--b\r\n",
        b"--b--\r\n",
        b"--c\r\n",
        b"\r\n",
        b"\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n",
        b"Content-Type: multipart/digest; boundary=c\r\n",
        b"Content-Type: message/rfc822\r\n",
        b"Content-Type: text/html; charset=x\r\n",
        b"Content-Transfer-Encoding: base64\r\n",
        b"Content-Transfer-Encoding: quoted-printable\r\n",
        b"Content-Disposition: attachment; filename==?utf-8?b?\xff?=\r\n",
        b"=",
        b"\xff\0",
    ]
)


@settings(max_examples=250)
@given(st.lists(PIECES, max_size=25).map(b"".join))
def test_any_octets_have_an_outline(raw: bytes) -> None:
    message = Message(raw)
    assert message.root.start <= message.root.end == message.size
    for part in message.walk():
        assert 0 <= part.start <= part.end <= message.size
        for below, following in zip(part.parts, part.parts[1:], strict=False):
            assert part.start <= below.start <= below.end <= following.start <= following.end <= part.end
        assert len(part.content(5)) <= 5
        assert isinstance(part.text(5) + part.filename + part.disposition, str)
        assert all(0 <= fault.offset <= message.size for fault in part.faults)
