"""CNT002-004, CNT006: what mail programs strip, hide and clip; and what ordinary newsletters do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpguard.lint import Severity
from smtpguard.lint.html import CLIPPED_OCTETS, COVERT_LETTERS, PREHEADER_LETTERS
from smtpguard.mail.message import Message
from smtpguard.mail.page import LINKS_LIMIT, TAGS_LIMIT
from tests.lint.letters import file, hits, is_at, letter, letter_of, newsletter, part, severities

TEXT = part("Hello\n", "text/plain")
PAGE = part("<p>Hello</p>\n", "text/html")

# What builders of newsletters make: MJML, Mailchimp, Outlook's conditional comments, a preheader with its filler.
NEWSLETTER = (
    """<!doctype html>
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:v="urn:schemas-microsoft-com:vml"><head>
<title>Autumn offers</title><meta http-equiv="Content-Type" content="text/html; charset=utf-8">
<meta http-equiv="X-UA-Compatible" content="IE=edge"><meta name="viewport" content="width=device-width">
<!--[if mso]><xml><o:OfficeDocumentSettings><o:AllowPNG/></o:OfficeDocumentSettings></xml><![endif]-->
<!--[if !mso]><!--><link href="https://fonts.googleapis.com/css?family=Lato" rel="stylesheet" type="text/css">
<style>@import url(https://fonts.googleapis.com/css?family=Lato);</style><!--<![endif]-->
<style type="text/css">.dark{background:#111111} #foot{color:#fff} @media only screen and (max-width:480px){
.phone{display:block!important;max-height:none!important} .wide{display:none!important}}</style>
<script type="application/ld+json">{"@context": "http://schema.org", "@type": "EmailMessage"}</script>
<base target="_blank"></head>
<body style="background-color:#ffffff" bgcolor="#ffffff">
<div style="display:none;font-size:1px;color:#ffffff;line-height:1px;max-height:0;opacity:0;overflow:hidden">
Up to half off on everything that is warm."""
    + "&nbsp;&zwnj;&#847;&shy;&#8199;" * 150
    + """</div>
<!--[if mso | IE]><table align="center"><tr><td style="line-height:0px"><![endif]-->
<table role="presentation"><tbody><tr><td style="font-size:0px;padding:20px 0;text-align:center">
<div style="font-size:13px;color:#000000">Hello Ann, here is what we have for the cold months of the year, all of it \
from sheep that we know by name, and delivered within three days wherever you live.</div></td></tr>
<tr><td class="dark" style="color:#ffffff">"""
    + "White letters on a dark ground, by a class. " * 20
    + """</td></tr>
<tr><td background="https://cdn.example/a.png" bgcolor="#ffffff" style="color:#ffffff">"""
    + "White letters on an image. " * 20
    + """</td></tr>
<tr><td style="background:#222 url(https://cdn.example/b.png) no-repeat;color:#222222">On an image as well, this is</td>
</tr><tr style="display:none" class="phone"><td>"""
    + "The same again, for telephones. " * 40
    + """</td></tr></tbody></table>
<div itemscope itemtype="http://schema.org/Order" style="display:none">"""
    + "<span itemprop='x'>data for programs</span>" * 60
    + """</div>
<p>سلام می‌خواهم، क्‍ष, \N{MAN}\u200d\N{WOMAN}\u200d\N{GIRL} Silben&shy;tren&shy;nung example\u200b.com</p>
<p><a href="https://click.tracker.example/c/1"><img src="https://cdn.example/1.png" alt="Shop"></a>
<a href="#top">Up</a> <a href="mailto:ann@shop.example">Write</a> <a href="">x</a></p>
<div id="foot" style="background-color:#ffffff">"""
    + "An address, an imprint, a way out. " * 10
    + """</div><span style="color:#fff;background:#ffffff">2026-11-22 10:00 #4711</span>
<img src="https://shop.example/open.gif" width="1" height="1" style="display:none">
<!--[if mso | IE]></td></tr></table><![endif]-->
</body></html>
"""
)


@pytest.mark.parametrize("code", ["CNT001", "CNT002", "CNT003", "CNT004", "CNT005", "CNT006", "CNT007"])
def test_an_ordinary_newsletter_has_nothing(code: str) -> None:
    assert hits(code, newsletter(NEWSLETTER)) == []


# --- CNT002: HTML only -----------------------------------------------------------------------------------------------


def test_html_only() -> None:
    message = letter("<p>Hello</p>\n", "text/html")
    assert severities("CNT002", message) == [Severity.INFO]
    assert is_at(message, hits("CNT002", message)[0], b"<p>")
    assert len(hits("CNT002", letter_of(PAGE, file("a.pdf")))) == 1
    text_file = part("x", "text/plain", Content_Disposition="attachment; filename=a.txt")
    assert len(hits("CNT002", letter_of(PAGE, text_file))) == 1


@pytest.mark.parametrize(
    "message",
    [
        newsletter("<p>Hello</p>"),
        letter("Hello\n"),
        letter_of(TEXT, PAGE),
        letter_of(file("a.pdf")),
        letter_of(TEXT, part("<p>x</p>", "text/html", Content_Disposition="attachment; filename=a.html")),
        letter_of(TEXT, part(bytes(letter("<p>x</p>", "text/html").raw), "message/rfc822")),
    ],
)
def test_text_beside_it(message: Message) -> None:
    assert hits("CNT002", message) == []


# --- CNT003: form ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("html", "words", "at"),
    [
        ("<p>x</p><table><tr><td>x</td></tr>", "<table> is not closed: 1 opened in the HTML, 0 closed", "<table"),
        ("<p>x</p><TABLE><table></table>", "<table> is not closed: 2 opened", ""),
        ("<p>x</p><!-- note <p>y</p>", "a comment in the HTML is not closed", "<!-- note"),
        ("<style>.a{}<p>x</p>", "<style> is not closed", "<style"),
        ("<p>x</p><a href='https://a.example", "the last tag of the HTML, <a, is not closed", "<a href"),
        ("<p>x</p><script>go()</script>", "<script> is stripped", "<script"),
        ("<form action='https://a.example'><input></form>", "<form> is stripped", "<form action"),
        ("<object data='x'></object>", "<object> is stripped", "<object data"),
        ("<iframe src='https://a.example'></iframe>", "<iframe> is stripped", "<iframe src"),
        ("<meta http-equiv='refresh' content='0'>", "refresh> is stripped", "<meta http-equiv"),
        ("<base href='https://a.example/'><a href='b.html'>x</a>", "a link depends on <base href>", "b.html"),
        ("<p " + "".join(f"a{n}=1 " for n in range(200)) + ">x</p>", "a hundred attributes or more", "<p a0"),
    ],
)
def test_broken_html(html: str, words: str, at: str) -> None:
    message = newsletter(html)
    assert severities("CNT003", message) == [Severity.WARNING]
    (hit,) = hits("CNT003", message)
    assert words in hit.message
    assert not at or is_at(message, hit, at.encode())


@pytest.mark.parametrize(
    "html",
    ["<link rel='stylesheet' href='https://cdn.example/a.css'>", "<a href='/shop'>x</a>", "<a href='shop.html'>x</a>"],
)
def test_html_that_is_worth_a_note(html: str) -> None:
    assert severities("CNT003", newsletter(html)) == [Severity.INFO]


@pytest.mark.parametrize(
    "html",
    [
        "<p>x<p>y<li>z<br>",
        "<!-- <table> <script> --><p>x</p>",
        "<!--><p>x</p><!--->",
        "a < b, c > d",
        "<base href='https://a.example/'><a href='https://b.example/'>x</a>",
        "<a href='{{url}}'>x</a><a href=\"\">y</a><a name=z>z</a>",
        "<img alt='<table>'><p title=\"</table>\">x</p>",
        "<![if !mso]><p>x</p><![endif]>",
        "<table><tr><td>x</td></tr></table><script type='application/json'>{}</script>",
        "<o:p>&nbsp;</o:p><v:rect fill='x'></v:rect>",
        "",
    ],
)
def test_html_as_programs_write_it(html: str) -> None:
    assert hits("CNT003", newsletter(html)) == []


def test_what_is_stripped_is_told_once() -> None:
    found = hits("CNT003", newsletter("<script>a()</script><form></form><script>b()</script>"))
    assert [hit.message for hit in found] == ["<script> is stripped from mail", "<form> is stripped from mail"]


def test_a_page_that_is_cut_is_not_called_open() -> None:
    assert hits("CNT003", newsletter("<table>" + "<br>" * TAGS_LIMIT + "</table>")) == []
    assert len(hits("CNT003", newsletter("<table>" + "<br>" * (TAGS_LIMIT - 10)))) == 1


# --- CNT004: hidden text ---------------------------------------------------------------------------------------------

LONG = "casino bonus pills " * 60
SHORT = "your order is on its way to you "
SEEN = "<p>" + "This is what the reader sees of the message. " * 10 + "</p>"


@pytest.mark.parametrize(
    "style",
    ["display:none", "DISPLAY : None !important", "visibility:hidden", "opacity:0", "opacity:0.0",
     "max-height:0;overflow:hidden", "height:0px;overflow:hidden", "text-indent:-9999px",
     "position:absolute;left:-5000px", "font-size:0", "font-size:1px", "font:0/0 a", "color:transparent",
     "color:#fff;background-color:#FFFFFF", "color:white;background:rgb(254, 254, 254)"],
)  # fmt: skip
def test_hidden_text(style: str) -> None:
    message = newsletter(f'{SEEN}<div style="{style}"><b>{LONG}</b></div>')
    assert severities("CNT004", message) == [Severity.WARNING]
    (hit,) = hits("CNT004", message)
    assert is_at(message, hit, b"casino")
    assert hits("CNT004", newsletter(f'<div style="{style}">{SHORT}</div>{SEEN}')) == []  # a preheader


@pytest.mark.parametrize("style", ["font-size:0", "color:#fff;background-color:#fff", "color:rgba(0,0,0,0)"])
def test_a_little_covert_text_behind_the_first(style: str) -> None:
    covert = f'{SEEN}<span style="{style}">{"x" * (COVERT_LETTERS + 1)}</span>'
    assert len(hits("CNT004", newsletter(covert))) == 1
    assert hits("CNT004", newsletter(covert.replace("xx", "x", 1))) == []
    assert hits("CNT004", newsletter(f'{SEEN}<p style="display:none">{"x" * (COVERT_LETTERS + 1)}</p>')) == []


def test_how_long_a_preheader_may_be() -> None:
    def preheader(letters: int) -> Message:
        return newsletter(f'<a href="https://a.example">View</a><p style="display:none">{"x " * letters}</p>{SEEN}')

    assert hits("CNT004", preheader(PREHEADER_LETTERS)) == []
    assert len(hits("CNT004", preheader(PREHEADER_LETTERS + 1))) == 1


def test_attributes_hide_too() -> None:
    assert len(hits("CNT004", newsletter(f"{SEEN}<p hidden>{LONG}</p>"))) == 1
    font = f"<table bgcolor='#ffffff'><tr><td><font color=' #FFFFFE'>{LONG}</font></td></tr></table>"
    assert len(hits("CNT004", newsletter(SEEN + font))) == 1


@pytest.mark.parametrize(
    "html",
    [
        f"<p style='color:#fff'>{LONG}</p>",  # of its ground nothing is known
        f"<td style='background:#000;color:#fff'>{LONG}</td>",
        f"<div style='color:#fff;background:#fff'><div style='background:#000'>{LONG}</div></div>",
        f"<div style='color:#fff;background:#fff'><p style='color:#333'>{LONG}</p></div>",
        f"<div style='color:#fff;background:#fff'><a href='https://a.example'>{LONG}</a></div>",
        f"<div style='background:linear-gradient(red, blue);color:#fff'>{LONG}</div>",
        f"<div style='font-size:0'><div style='font-size:14px'>{LONG}</div></div>",
        f"<div style='font-size:0'><div style='font:14px/1 Arial'>{LONG}</div></div>",
        f"<style>.m{{display:block!important}}</style><div class='m' style='display:none'>{LONG}</div>",
        f"<style>.t{{font-size:14px}}</style><div style='font-size:0'><p class='t'>{LONG}</p></div>",
        f"<p style='mso-hide:all'>{LONG}</p>",
        f"<p style='height:0'>{LONG}</p>",
        f"<p style='height:10px;overflow:hidden'>{LONG}</p>",
        f"<p style='position:absolute;left:-5px;opacity:0.9'>{LONG}</p>",
        f"<p style='display:none'>{'&nbsp;&zwnj;&shy;&#847;' * 900}</p>",
        f"<div style='display:none'><style>{LONG}</style><script type='application/json'>{LONG}</script></div>",
        f"<p style='color:bisque;background:nonsense'>{LONG}</p>",
    ],
)
def test_text_in_sight_or_hidden_for_good_reasons(html: str) -> None:
    assert hits("CNT004", newsletter(SEEN + html)) == []


def test_words_split_by_unseen_characters() -> None:
    message = newsletter("<p>Buy v\u200bia\u200bgr\u200ba now</p>")
    (hit,) = hits("CNT004", message)
    assert is_at(message, hit, "v\u200bia".encode())
    assert len(hits("CNT004", newsletter("<p>Buy v&zwnj;ia&#8204;gr&#x200c;a now</p>"))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "example\u200b.com/a\u200b/b",
        "Stra\u00dfen&shy;bahn&shy;halte&shy;stelle",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian
        "\N{MAN}\u200d\N{WOMAN}\u200d\N{BOY}",
        "\u0915\u094d\u200d\u0937 \u0915\u094d\u200d\u0937",  # Hindi
        "averylong\u200bidentifier\u200bwithbreaks",
    ],
)
def test_unseen_characters_where_they_belong(text: str) -> None:
    assert hits("CNT004", newsletter(f"<p>{text}</p>")) == []


# --- CNT006: clipped -------------------------------------------------------------------------------------------------


def test_clipped() -> None:
    line = "<p>" + "x" * 91 + "</p>\n"  # 100 octets with its CRLF
    for count, clipped in ((CLIPPED_OCTETS // 100, 0), (CLIPPED_OCTETS // 100 + 1, 1)):
        found = hits("CNT006", newsletter(line * count))
        assert len(found) == clipped
    assert "102 KB" in found[0].message
    assert severities("CNT006", newsletter(line * 3000)) == [Severity.INFO]
    assert "or more" in hits("CNT006", newsletter(line * 12_000))[0].message


def test_what_counts_is_the_decoded_size() -> None:
    html = "<p>=3D=3D=3D=3D=3D=3D=3D=3D=3D=3D=3D=3D=3D=3D=3D=3D=3D=3D=3D=3D</p>\n" * 2000
    assert hits("CNT006", letter(html, "text/html", Content_Transfer_Encoding="quoted-printable")) == []


# --- hostile pages ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "html",
    [
        "<div>" * 100_000,
        "<div style='color:#fff'>" * 9_000 + "x",
        "<p " + " ".join(f"a{n}" for n in range(50_000)) + ">",
        "<p x='<' " + " ".join(f'a{n}=">"' for n in range(50_000)) + ">",
        "<a b=" + "<a/b=x" * 50_000,
        "<" + "a" * 300_000,
        "<a " + "=" * 300_000,
        "<a b=" + "x" * 300_000 + " c>",
        "<!--" + "<!--" * 50_000,
        "<a href=x>y" * (LINKS_LIMIT * 3),
        "<a href=x><table><tr><td>" * (TAGS_LIMIT // 4) + "word. " * 100_000,
        "<style>" + ".a" * 100_000,
        "{{" * 100_000,
        "a\u200b" * 100_000,
        "<p style='" + "color:red;" * 30_000 + "'>x",
    ],
    ids=lambda html: html[:12],
)
def test_pages_made_to_cost_time(html: str) -> None:
    """A minute would be a test that hangs; each takes well below a second. The hits are few whatever is there."""
    message = newsletter(html)
    for code in ("CNT003", "CNT004", "CNT005", "CNT006", "CNT007"):
        assert len(hits(code, message)) <= 5


@settings(max_examples=150)
@given(
    st.lists(
        st.sampled_from([*"<>/='\"!- a", "<p", "style", "table", "<!--", "-->", "<a href", "color:#fff"]), max_size=60
    )
)
def test_any_markup_is_read(pieces: list[str]) -> None:
    page = newsletter("".join(pieces)).bodies.pages[0]
    assert page.tree is not None
    assert isinstance(page.text, str)
    assert all(link.url is not None for link in page.links)
    assert len(page.hidden) <= len(pieces)
