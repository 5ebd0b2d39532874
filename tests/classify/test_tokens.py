"""Tokens: the words that a run of signs without spaces is."""

from __future__ import annotations

import pytest

from smtpguard.classify.tokens import words_of


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("<a@example.com>:", ["@"]),
        ("user<a@example.com>", ["user", "@"]),
        ("[192.0.2.7]", ["#ip"]),
        ("2001:db8::5", ["#ip"]),
        ("mx.example.com.", ["#host"]),
        ("mx.example.com[192.0.2.7]:25", ["mx", "example", "com", "192", "0", "2", "7", "25"]),
        ("https://example.com/why?a=b", ["#url"]),
        ("(www.example.com/why)", ["#url"]),
        ("rbl.example.com/why.php?ip=192.0.2.7", ["#url"]),  # a page without its scheme
        ("5.7.1", []),
        ("554.30", ["554", "30"]),
        ("user's", ["users"]),
        ("i/o", ["i", "o"]),
        ("用户不存在", ["用", "户", "不", "存", "在"]),
        ("***", []),
    ],
)
def test_the_words_of_a_token(token: str, words: list[str]) -> None:
    assert words_of(token) == words
