"""Where a message's links lead, for the blocklists; and where in a message its words stand."""

from __future__ import annotations

from base64 import encodebytes

import pytest

from smtpguard.lint.evidence import TEXT_LIMIT
from smtpguard.lint.links import MAX_DOMAINS, link_domains
from smtpguard.lint.place import in_part
from tests.lint.letters import letter, letter_of, newsletter, part


def test_hosts_of_text_and_pages_each_once_in_order() -> None:
    text = part("https://b.example/x and www.a.example, https://b.example/y\n", "text/plain")
    page = part("<a href='http://C.example./'>x</a><map><area href='//d.example/'></map>", "text/html")
    assert link_domains(letter_of(text, page)) == ("b.example", "www.a.example", "c.example", "d.example")


def test_names_are_those_of_the_dns() -> None:
    assert link_domains(letter("https://b\u00fccher.example/ https://\u6771\u4eac.jp/\n")) == (
        "xn--bcher-kva.example",
        "xn--1lqs71d.jp",
    )


@pytest.mark.parametrize(
    "url",
    ["http://192.0.2.1/", "http://2130706433/", "http://[2001:db8::1]/", "http://intranet/x", "https://www.google.com/",
     "https://maps.google.com/", "mailto:a@b.example", "/x", "javascript:a.example", f"https://{'a' * 300}.example/",
     "https://a..example/"],
)  # fmt: skip
def test_what_no_list_has(url: str) -> None:
    assert link_domains(newsletter(f'<a href="{url}">x</a>')) == ()


def test_many_links_are_cut() -> None:
    text = " ".join(f"https://h{number}.example/" for number in range(100))
    assert link_domains(letter(text)) == tuple(f"h{number}.example" for number in range(MAX_DOMAINS))


# --- places ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "encoding", "text", "needle"),
    [
        ("one\ntwo words\n", "7bit", "two words", "two words"),
        ("one\n\u00fcber=3D\n", "8bit", "\u00fcber", "\u00fcber"),
        ("one\n=C3=BCber a=3Db\n", "quoted-printable", "\u00fcber a=b", "=C3=BCber a"),
        ("one\nhttps://a.exam=\nple/\n", "quoted-printable", "https://a.example/", "https://a.ex"),
        ("one\n", "7bit", "absent", "one"),
    ],
)
def test_a_place_in_a_part(body: str, encoding: str, text: str, needle: str) -> None:
    message = letter_of(part("two words \u00fcber https://a.example/", "text/plain"), part(
        body, "text/plain; charset=utf-8", Content_Transfer_Encoding=encoding))  # fmt: skip
    second = message.root.parts[1]
    at = message.raw.find(needle.encode(), second.start)
    found = in_part(message, second, text)
    assert (found.offset, found.line) == (at, message.line_of(at))
    assert found.text == text


def test_a_place_in_base64_is_where_the_part_begins() -> None:
    message = letter(encodebytes(b"one\ntwo\n"), Content_Transfer_Encoding="base64")
    assert in_part(message, message.root, "two").offset == message.body_offset


def test_evidence_is_short_and_harmless() -> None:
    message = letter("x\n")
    assert len(in_part(message, message.root, "x" * 1000).text) == TEXT_LIMIT
    assert in_part(message, message.root, "a\x1b[1m\r\n  b").text == "a [1m b"
    assert in_part(message, message.root, "x", shown="y").text == "y"
    assert in_part(message, message.root, "").offset == message.body_offset
