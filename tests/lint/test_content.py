"""CNT001, CNT005, CNT007: attachments, links, what a template left; and honest mail that looks alike."""

from __future__ import annotations

import io
import zipfile
from base64 import encodebytes

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smtpguard.lint import RULES, Severity
from smtpguard.lint.attachments import LISTING_OCTETS
from smtpguard.mail.message import Message
from smtpguard.mail.page import BODIES_LIMIT
from tests.lint.letters import file, hits, is_at, letter, letter_of, newsletter, part, severities

TEXT = part("Find the file attached.\n", "text/plain")

# --- CNT001: attachments ---------------------------------------------------------------------------------------------


def zipped(*names: str, size: int = 0) -> bytes:
    """A zip archive of files with these names; `size`: octets of the first, which do not compress."""
    octets = io.BytesIO()
    with zipfile.ZipFile(octets, "w", zipfile.ZIP_STORED) as archive:
        for number, name in enumerate(names):
            archive.writestr(name, b"x" * (size if number == 0 else 1))
    return octets.getvalue()


@pytest.mark.parametrize(
    "name",
    [
        "setup.exe",
        "SETUP.EXE",
        "setup.exe. ",
        "setup.exe.gz",
        "invoice.pdf.js",
        "invoice.pdf                 .scr",
        "disk.iso",
        "=?utf-8?B?c2V0dXAuZXhl?=",
    ],
)
def test_types_that_gmail_refuses(name: str) -> None:
    message = letter_of(TEXT, file(name))
    assert severities("CNT001", message) == [Severity.ERROR]
    (hit,) = hits("CNT001", message)
    assert is_at(message, hit, b"Content-Disposition: attachment")
    assert "Google refuses" in hit.message


def test_the_name_of_the_type_field_counts_too() -> None:
    message = letter_of(TEXT, part("x", 'application/octet-stream; name="a.vbs"'))
    (hit,) = hits("CNT001", message)
    assert is_at(message, hit, b"Content-Type: application/octet-stream")


def test_a_name_by_rfc_2231() -> None:
    message = letter_of(TEXT, file("x", Content_Disposition="attachment; filename*0*=utf-8''a%2E; filename*1=bat"))
    assert len(hits("CNT001", message)) == 1


@pytest.mark.parametrize("name", ["key.reg", "tool.py", "site.url", "cert.cer"])
def test_types_that_outlook_hides(name: str) -> None:
    assert severities("CNT001", letter_of(TEXT, file(name))) == [Severity.WARNING]


@pytest.mark.parametrize(
    "name",
    ["report.pdf", "photo.JPG", "archive.zip", "smime.p7s", "invite.ics", "winmail.dat", "signature.asc", "README",
     "example.com.pdf", "exe", ".exe.txt", "v1.2", "bericht.docx", "a.tar.gz", "\u05e9\u05dc\u05d5\u05dd.pdf"],
)  # fmt: skip
def test_types_that_pass(name: str) -> None:
    assert hits("CNT001", letter_of(TEXT, file(name))) == []


def test_a_disguise_is_named() -> None:
    (hit,) = hits("CNT001", letter_of(TEXT, file("invoice.pdf.exe")))
    assert "behind another ending" in hit.message
    (hit,) = hits("CNT001", letter_of(TEXT, file("setup.exe")))
    assert "behind another ending" not in hit.message


def test_a_name_that_is_turned_around() -> None:
    message = letter_of(TEXT, file("x", Content_Disposition="attachment; filename*=utf-8''invoice%E2%80%AExcod.txt"))
    (hit,) = hits("CNT001", message)
    assert hit.severity is Severity.WARNING
    assert "\u202e" not in hit.message + hit.evidence.text


def test_a_forwarded_message_has_attachments_too() -> None:
    inner = letter_of(TEXT, file("a.exe")).raw
    assert len(hits("CNT001", letter_of(part(bytes(inner), "message/rfc822")))) == 1
    named = part(bytes(letter("hello").raw), 'message/rfc822; name="About example.com"')
    assert hits("CNT001", letter_of(named)) == []


# --- ... and archives


def test_a_listing_is_read_from_the_end_of_an_archive() -> None:
    for size in (0, 3 * LISTING_OCTETS):
        archive = zipped("readme.txt", "bin/setup.exe", "more.js", size=size)
        message = letter_of(TEXT, file("a.zip", archive, "application/zip"))
        assert [hit.message.partition(" is ")[0] for hit in hits("CNT001", message)] == [
            '"setup.exe" in "a.zip"',
            '"more.js" in "a.zip"',
        ]


def test_a_listing_in_another_encoding_or_under_another_name() -> None:
    archive = zipped("a.exe")
    assert len(hits("CNT001", letter_of(TEXT, file("a", archive, "application/zip")))) == 1
    binary = part(archive, "application/octet-stream; name=a.zip", Content_Transfer_Encoding="binary")
    assert len(hits("CNT001", letter_of(TEXT, binary))) == 1


@pytest.mark.parametrize("names", [["a.txt", "b/c.pdf"], ["tool.py", "key.reg"], ["inner.zip"], []])
def test_archives_that_pass(names: list[str]) -> None:
    """Outlook does not look into them."""
    assert hits("CNT001", letter_of(TEXT, file("a.zip", zipped(*names)))) == []


def test_a_document_is_no_archive() -> None:
    assert hits("CNT001", letter_of(TEXT, file("a.docx", zipped("word/a.bin", "word/x.vbs")))) == []


def test_encrypted_names() -> None:
    archive = bytearray(zipped("a.txt"))
    flags = archive.rfind(b"PK\1\2") + 8
    archive[flags : flags + 2] = (1 | 1 << 13).to_bytes(2, "little")
    (hit,) = hits("CNT001", letter_of(TEXT, file("a.zip", bytes(archive))))
    assert "encrypted" in hit.message
    archive[flags : flags + 2] = b"\1\0"  # its files are, its names are not
    assert hits("CNT001", letter_of(TEXT, file("a.zip", bytes(archive)))) == []


def test_an_archive_that_is_none() -> None:
    whole = zipped(*(f"{number}.exe" for number in range(4000)))  # its listing is longer than what is read
    for content in (b"", b"PK\5\6", b"x" * 1000, zipped("a.exe")[:-5], whole):
        assert hits("CNT001", letter_of(TEXT, file("a.zip", content))) == []


@settings(max_examples=60)
@given(st.binary(max_size=80), st.integers(0, 200), st.binary(min_size=1, max_size=4))
@example(b"\0", 122, b"\0")  # a.ex: blocked too
def test_broken_archives_break_nothing(front: bytes, at: int, change: bytes) -> None:
    archive = bytearray(front + zipped("a.exe", "b.txt"))
    archive[at : at + len(change)] = change
    message = letter_of(TEXT, file("a.zip", bytes(archive)))
    assert all(".ex" in hit.message or "encrypted" in hit.message for hit in hits("CNT001", message))


def test_many_attachments_give_few_hits() -> None:
    assert len(hits("CNT001", letter_of(*[file(f"{number}.exe") for number in range(20)]))) == 5


# --- CNT005: links ---------------------------------------------------------------------------------------------------


def linked(url: str, text: str) -> Message:
    return newsletter(f'<p>Hello</p>\n<p><a href="{url}">{text}</a></p>')


@pytest.mark.parametrize(
    ("url", "text", "words"),
    [
        ("https://evil.example/x", "https://www.bank.com/login", "shows www.bank.com and leads to evil.example"),
        ("https://evil.example/x", "<b>www.bank.com</b>", "shows www.bank.com and leads to evil.example"),
        ("http://www.bank.com@evil.example/", "Log in", "before an @ and leads to evil.example"),
        ("http://8.8.4.4/login", "Log in", "the address 8.8.4.4"),
        ("http://0x08080404/login", "Log in", "the address 8.8.4.4"),
        ("https://p\u0430ypal.com/", "Log in", "look-alike letters"),
        ("https://xn--pypal-4ve.com/", "Log in", "look-alike letters"),
        ("https://bit.ly/3abc", "Read more", "behind bit.ly"),
        ("javascript:go()", "Read more", "runs javascript:"),
        ("data:text/html,hello", "Read more", "runs data:"),
    ],
)
def test_deceptive_links(url: str, text: str, words: str) -> None:
    message = linked(url, text)
    assert severities("CNT005", message) == [Severity.WARNING]
    (hit,) = hits("CNT005", message)
    assert words in hit.message
    assert is_at(message, hit, url.encode())


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://click.tracker.example/ls/click?upn=abc", "Read more"),
        ("https://click.tracker.example/ls/click?upn=abc", "Visit www.shop.com today"),
        ("https://click.tracker.example/x", "<img src='https://cdn.example/a.png' alt='shop.com'>"),
        ("https://news.bank.com/c?x", "www.bank.com"),
        ("https://b\u00fccher.com/", "www.xn--bcher-kva.com"),
        ("mailto:ann@shop.com", "ann@shop.com"),
        ("mailto:ann@shop.com", "www.shop.com"),
        ("tel:+4912345", "shop.com"),
        ("#top", "www.shop.com"),
        ("https://social.example/@ann", "Ann"),
        ("https://eur01.safelinks.protection.outlook.com/?url=https%3A%2F%2Fwww.shop.com", "https://www.shop.com/"),
        ("https://urldefense.com/v3/__https://www.shop.com__;!!x", "https://www.shop.com/"),
        ("https://drive.example/d/1", "report.pdf"),
        ("https://drive.example/d/1", "Chapter 1.2"),
        ("https://youtu.be/x", "Watch"),
        ("http://127.0.0.1/", "CNT007 has it"),
        ("https://\u6771\u4eac\u30bf\u30ef\u30fc.jp/", "\u6771\u4eac"),
        ("", "www.shop.com"),
    ],
)
def test_honest_links(url: str, text: str) -> None:
    assert hits("CNT005", linked(url, text)) == []


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://click.tracker.example/x", "https://www.shop.example/offer"),  # the sender's own: a tracker
        ("https://click.tracker.example/x", "Brand.com"),  # a name of a brand
        ("http://192.168.1.10/alert", "Alert"),
    ],
)
def test_links_that_are_worth_a_note(url: str, text: str) -> None:
    assert severities("CNT005", linked(url, text)) == [Severity.INFO]


def test_links_in_plain_text() -> None:
    message = letter("Hello\n\nsee http://8.8.4.4/x or http://www.bank.com@evil.example/\n")
    assert [hit.evidence.line for hit in hits("CNT005", message)] == [11, 11]
    assert is_at(message, hits("CNT005", message)[0], b"http://8.8.4.4/x")
    assert hits("CNT005", letter("see https://shop.example/x, www.shop.example and ann@shop.example\n")) == []


def test_the_place_in_encoded_text() -> None:
    html = '<a href="https://bit.ly/3abc?x=1&y=2">x</a>'
    quoted = letter(html.replace("=", "=3D"), "text/html", Content_Transfer_Encoding="quoted-printable")
    assert is_at(quoted, hits("CNT005", quoted)[0], b"https://bit.ly/3abc?x=3D1")
    encoded = letter(encodebytes(html.encode()), "text/html", Content_Transfer_Encoding="base64")
    assert hits("CNT005", encoded)[0].evidence.offset == encoded.body_offset


def test_what_is_attached_or_forwarded_is_not_judged() -> None:
    html = '<a href="https://bit.ly/x">x</a>'
    attached = part(html, "text/html", Content_Disposition="attachment; filename=a.html")
    forwarded = part(bytes(letter(html, "text/html").raw), "message/rfc822")
    assert hits("CNT005", letter_of(TEXT, attached, forwarded)) == []


def test_of_many_parts_the_first_are_judged() -> None:
    parts = [TEXT] * (BODIES_LIMIT - 1)
    bad = part('<a href="https://bit.ly/x">x</a>', "text/html")
    assert len(hits("CNT005", letter_of(*parts, bad))) == 1
    assert hits("CNT005", letter_of(*parts, TEXT, bad)) == []


def test_a_fault_is_told_once_and_many_are_cut() -> None:
    assert len(hits("CNT005", newsletter('<a href="https://bit.ly/a">x</a>' * 30))) == 1
    many = "".join(f'<a href="http://8.8.4.{number}/">x</a>' for number in range(30))
    assert len(hits("CNT005", newsletter(many))) == 5


# --- CNT007: what a template left ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "left",
    ["{{first_name}}", "{{ user.firstName | default: 'x' }}", "${customer_name}", "%%FNAME%%", "*|FNAME|*",
     "[[name]]", "<<First Name>>", "##lastname##", "{firstname}", "[First Name]", "[object Object]", "Hello undefined",
     "Dear null", "Dear ,", "Lorem ipsum dolor", "\u00abVorname\u00bb"],
)  # fmt: skip
def test_leftovers_in_text(left: str) -> None:
    message = letter(f"Welcome.\n\n{left}\n\nregards\n")
    assert severities("CNT007", message) == [Severity.WARNING]
    (hit,) = hits("CNT007", message)
    assert left in hit.message
    assert is_at(message, hit, left.encode())


@pytest.mark.parametrize("left", ["{{ order }}", "{% if x %}", "&lt;%= total %&gt;", "<b>Hi NaN</b>,", "%%UNSUB%%"])
def test_leftovers_in_a_page(left: str) -> None:
    assert severities("CNT007", newsletter(f"<p>Welcome</p><p>{left}</p>")) == [Severity.WARNING]


@pytest.mark.parametrize(
    "text",
    [
        "Hello Undine, dear Nancy, hi None of you,",
        "Hello,\n\nDear Ann ,\n",
        "if the value is undefined or null it fails; [1] and {a} or {0}",
        'printf("%d%%"), 50%% off; 100%%\n',
        "a ## b ##\n[Name] [1](https://a.example) [[1]] [unsubscribe]\n",
        "{ color: red } $x ${HOME} {{x}} {{ .Values.image }}\n",
        "diff --git a/x b/x\n+  <p>{% if user %}{{ user }}{% endif %}</p>\n",
        "array[first name] of {name} at /users/{name}/x\n",
        "\u00abBonjour\u00bb, dit-il.\n",
        "Cliquez sur \u00ab Pr\u00e9nom \u00bb, puis sur \u00abEmail\u00bb.\n\n## Subject ##\n",
        "A patch.\n---\n@@ -1,2 +1,2 @@ void f()\n-Dear {{name}}\n+Dear {{first_name}}\n",
    ],
)
def test_honest_text(text: str) -> None:
    assert hits("CNT007", letter(text)) == []


@pytest.mark.parametrize(
    "html",
    [
        "<p>Use <code>{{ first_name }}</code> in it</p>",
        "<pre>{% if x %}</pre><blockquote>Hello undefined</blockquote>",
        "<style>.a{{color:red}}</style><script>{{x}}</script><title>{{x}}</title>",
        "<!-- {{ first_name }} *|MC|* --><p>Hello Ann,</p>",
        "<p style='display:none'>{{ x }}</p>",
        "<a href='https://a.example/?q=undefinedness&x=%7B1%7D'>x</a>",
    ],
)
def test_honest_pages(html: str) -> None:
    assert hits("CNT007", newsletter(html)) == []


def test_a_reply_may_speak_of_templates() -> None:
    text = "You wrote {{first_name}} there.\n"
    assert hits("CNT007", letter(text, In_Reply_To="<0@a.example>")) == []
    assert len(hits("CNT007", letter(text, In_Reply_To="<0@a.example>", List_Unsubscribe="<https://a.example>"))) == 1
    discussion = {"List_Post": "<mailto:talk@a.example>", "List_Unsubscribe": "<https://a.example>"}
    assert hits("CNT007", letter(text, **discussion)) == []


@pytest.mark.parametrize(
    ("subject", "severity"),
    [
        ("Hello {{first_name}}", [Severity.WARNING]),
        ("=?utf-8?Q?Hello_*|FNAME|*?=", [Severity.WARNING]),
        ("", [Severity.INFO]),
        ("-", [Severity.INFO]),
        ("=?utf-8?Q?_?=", [Severity.INFO]),
        ("Re: undefined is not a function", []),
        ("[list] {braces}", []),
    ],
)
def test_subjects(subject: str, severity: list[Severity]) -> None:
    assert severities("CNT007", letter("Hello\n", Subject=subject)) == severity


def test_a_mailing_without_a_subject_is_worse() -> None:
    assert severities("CNT007", letter("x\n", Subject="", List_Unsubscribe="<https://a.example/>")) == [
        Severity.WARNING
    ]


@pytest.mark.parametrize(
    ("url", "severity"),
    [
        ("http://localhost:3000/reset?token=1", [Severity.WARNING]),
        ("http://127.0.0.1/x", [Severity.WARNING]),
        ("https://staging.shop.com/x", [Severity.WARNING]),
        ("http://shop.test/", [Severity.WARNING]),
        ("https://shop.com/users/undefined/x", [Severity.WARNING]),
        ("https://shop.com/?id=[object Object]", [Severity.WARNING]),
        ("https://shop.com/?id=%7B%7Bid%7D%7D", [Severity.WARNING]),
        ("*|UNSUB|*", [Severity.WARNING]),
        ("http://wiki.corp/page", [Severity.INFO]),
        ("https://dev.to/x", []),
        ("https://test.shop.com/x", []),
        ("https://shop.com/?q=null&b=None", []),
        ("http://10.0.0.1/x", []),
    ],
)
def test_test_links(url: str, severity: list[Severity]) -> None:
    assert severities("CNT007", linked(url, "Click")) == severity


def test_a_test_link_in_plain_text_may_be_of_a_log() -> None:
    message = letter("GET http://localhost:8080/health failed\n")
    assert severities("CNT007", message) == [Severity.INFO]
    assert is_at(message, hits("CNT007", message)[0], b"http://localhost:8080/health")
    message = letter("see www.shop.test/a\n")
    assert is_at(message, hits("CNT007", message)[0], b"www.shop.test/a")


# --- any octets ------------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    ["<a href='", "'>", "</a>", "{{", "}}", "<table>", "<!--", "-->", "<p style='display:none'>", "http://", "@",
     "\u200b", "%%A%%", "[First Name]", "xn--", "1.2.3.4", "\x1b[31m", "\x00", " ", "<script>", "=3D", "www.a.example"]
)  # fmt: skip


@settings(max_examples=150)
@given(st.lists(PIECES | st.text(max_size=8), max_size=30), st.sampled_from(["html", "plain"]), st.binary(max_size=20))
def test_any_content_gives_findings_or_none(pieces: list[str], kind: str, tail: bytes) -> None:
    body = "".join(pieces).encode("utf-8", "replace") + tail
    message = letter_of(part(body, f"text/{kind}; charset=utf-8"), file("".join(pieces)[:20].replace('"', ""), body))
    for code in (code for code in RULES if code.startswith("CNT")):
        for hit in hits(code, message):
            assert hit.message.isprintable()
            assert hit.evidence.text.isprintable()
            assert hit.evidence.offset is None or 0 <= hit.evidence.offset < message.size
