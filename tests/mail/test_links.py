"""URLs as a reader of mail follows them, and hosts that deceive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpguard.mail.links import Shown, Url, ip_literal, is_shortener, links_in, mixed_scripts, parse, shown_host

# --- parse -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://www.shop.example/a?b#c", Url("https", "", "www.shop.example", "/a?b#c")),
        ("HTTP://Shop.Example.:8080/", Url("http", "", "shop.example", "/")),
        ("http://bank.example@evil.example/", Url("http", "bank.example", "evil.example", "/")),
        ("http://a@b@evil.example", Url("http", "a@b", "evil.example", "")),
        ("https://social.example/@ann", Url("https", "", "social.example", "/@ann")),
        ("https:\\\\evil.example\\@bank.example", Url("https", "", "evil.example", "\\@bank.example")),
        (" ht\ntps://shop.ex\tample ", Url("https", "", "shop.example", "")),
        ("https:shop.example/x", Url("https", "", "shop.example", "/x")),
        ("//cdn.example/x", Url("", "", "cdn.example", "/x")),
        ("/path?q", Url("", rest="/path?q")),
        ("", Url("")),
        ("mailto:a@b.example", Url("mailto", rest="a@b.example")),
        ("javascript:alert('//x.example')", Url("javascript", rest="alert('//x.example')")),
        ("http://[2001:db8::1]:80/x", Url("http", "", "[2001:db8::1]", "/x")),
        ("http://sh%6fp.example", Url("http", "", "shop.example", "")),
        ("https://xn--mnchen-3ya.example/", Url("https", "", "münchen.example", "/")),
        ("https://MÜNCHEN.example/", Url("https", "", "münchen.example", "/")),
        ("https://\uff53\uff48\uff4f\uff50\uff0eexample/", Url("https", "", "shop.example", "/")),
        ("https://xn--\N{LATIN SMALL LETTER E WITH ACUTE}.example", Url("https", "", "xn--é.example", "")),
    ],
)
def test_parse(text: str, url: Url) -> None:
    assert parse(text) == url


@given(
    st.text(alphabet=st.sampled_from("htps:/\\@?#[]%.xn-\u00e9\uff11\u0430\u04100\u0661\t\0 "), max_size=40) | st.text()
)
def test_whatever_stands_there_is_some_url(text: str) -> None:
    url = parse(text)
    ip_literal(url.host)
    mixed_scripts(url.host)
    shown_host(text)
    assert url.host == url.host.lower()
    assert all(link.url for link in links_in(text))


# --- links in text ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("see https://a.example/x, or (http://b.example/y).", ["https://a.example/x", "http://b.example/y"]),
        ("www.a.example! and <https://b.example/?c=1&d>", ["http://www.a.example", "https://b.example/?c=1&d"]),
        ("no link: ann@a.example, a.example/x, xwww.a.example", []),
        ("HTTPS://A.EXAMPLE/", ["HTTPS://A.EXAMPLE/"]),
        ("nothing at all", []),
    ],
)
def test_links_in_text(text: str, urls: list[str]) -> None:
    assert [link.url for link in links_in(text)] == urls


def test_a_link_is_found_where_it_begins() -> None:
    assert [link.at for link in links_in("to www.a.example and https://b.example")] == [3, 21]


# --- hosts that a text shows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://www.bank.example/login", Shown("www.bank.example", True)),
        ("www.bank.example", Shown("www.bank.example", True)),
        ("bank.example/login", Shown("bank.example", True)),
        (" Bank.example ", Shown("bank.example", False)),
        ("bank\u200b.example", Shown("bank.example", False)),
        ("https://shop.example/very/lon\u2026", Shown("shop.example", True)),
        ("Read more", None),
        ("Visit bank.example now", None),
        ("ann@bank.example", None),
        ("notes.md", None),
        ("report.PDF", None),
        ("12.50", None),
        ("e.g.", None),
        ("v1.2.3", None),
        ("", None),
    ],
)
def test_what_a_text_shows(text: str, shown: Shown | None) -> None:
    assert shown_host(text) == shown


# --- hosts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("0xc0.0.2.1", "192.0.2.1"),
        ("0300.0.2.1", "192.0.2.1"),
        ("3221225985", "192.0.2.1"),
        ("127.1", "127.0.0.1"),
        ("192.0.513", "192.0.2.1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("0x", "0.0.0.0"),
    ],
)
def test_addresses_in_all_their_forms(host: str, address: str) -> None:
    assert str(ip_literal(host)) == address


@pytest.mark.parametrize("host", ["1.2.3.4.5", "256.1.1.1", "08.1", "4294967296", "1.example", "[x]", ""])
def test_no_addresses(host: str) -> None:
    assert ip_literal(host) is None


@pytest.mark.parametrize(
    ("host", "label"),
    [
        ("p\u0430ypal.example", "p\u0430ypal"),  # a Cyrillic a
        ("g\u03bf\u03bfgle.example", "g\u03bf\u03bfgle"),  # Greek omicrons
        ("www.\u0430\u0440\u0440\u04cf\u0435.com", "\u0430\u0440\u0440\u04cf\u0435"),  # all Cyrillic
        ("\u03b1\u0434.example", "\u03b1\u0434"),  # Greek and Cyrillic
        ("\u0e01\u05d0.example", "\u0e01\u05d0"),  # Thai and Hebrew
    ],
)
def test_look_alikes(host: str, label: str) -> None:
    assert mixed_scripts(host) == label


@pytest.mark.parametrize(
    "host",
    [
        "shop.example",
        "b\u00fccher.example",
        "\u043f\u0440\u0438\u043c\u0435\u0440.\u0440\u0444",  # Russian under a Russian domain
        "\u0441\u043e\u0441\u043d\u0430.ru",  # looks nearly Latin, where Cyrillic is written
        "\u044f\u043d\u0434\u0435\u043a\u0441.com",  # letters that have no Latin twin
        "\u6771\u4eac\u30bf\u30ef\u30fc.jp",
        "\u6771\u4eactower\u306e\u30bf.jp",
        "\uc11c\uc6b8seoul.kr",
        "ti\u1ebfngvi\u1ec7t.vn",
        "\u03b5\u03bb\u03bb\u03ac\u03b4\u03b1.gr",
        "\u0926\u093f\u0932\u094d\u0932\u0940.\u092d\u093e\u0930\u0924",
        "shop\u05d0\u05d1.example",  # Latin with one script that has no look-alikes
        "",
    ],
)
def test_names_as_languages_write_them(host: str) -> None:
    assert mixed_scripts(host) == ""


def test_shorteners() -> None:
    assert is_shortener("bit.ly")
    assert is_shortener("www.tinyurl.com")
    assert not is_shortener("youtu.be")
    assert not is_shortener("maps.app.goo.gl")
    assert not is_shortener("rabbit.ly")
