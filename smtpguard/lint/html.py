"""CNT: the form of HTML parts. What receivers strip, what hides text, what is clipped (Google 81126, HTML standard).

Each page is parsed once for all rules (mail/page.py), and only as far as its bounds let it be. What ordinary
newsletters do is let pass: conditional comments, preheaders, web fonts, structured data, blocks for telephones only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice, repeat
from typing import Final

from selectolax.lexbor import LexborHTMLParser, LexborNode

from smtpguard.lint import marks
from smtpguard.lint.finding import Hit, Severity, Stage
from smtpguard.lint.place import in_part
from smtpguard.lint.rule import Hits, rule
from smtpguard.mail.links import parse
from smtpguard.mail.message import Message
from smtpguard.mail.page import ATTRIBUTE, Hidden, Page
from smtpguard.mail.reply import clean

_MOST: Final = 5
_GUIDELINES: Final = "Google sender guidelines (support.google.com/a/answer/81126, 2026-03-21)"


@rule(
    "CNT002",
    "html-only",
    Severity.INFO,
    Stage.DATA,
    category="content.spam",
    reference="RFC 2046 5.1.4; SpamAssassin MIME_HTML_ONLY",
    predicts=[("SpamAssassin, rspamd", "points (MIME_HTML_ONLY)")],
    when=marks.PAGE,
)
def html_only(message: Message) -> Hits:
    """A message in HTML says the same in plain text.

    Mail programs write both, in a multipart/alternative; mail in HTML alone mostly comes from careless programs, and
    filters count it against the sender. Some readers, watches and screen readers need the text.

    Fix: have the mail library add a text/plain part before the HTML, in a multipart/alternative.
    """
    pages = message.bodies.pages
    if pages and not message.bodies.texts:
        yield Hit("there is HTML and no plain text", in_part(message, pages[0].part, "<", shown="text/html"))


# --- form ------------------------------------------------------------------------------------------------------------


@rule(
    "CNT003",
    "html-broken",
    Severity.WARNING,
    Stage.DATA,
    category="content.spam",
    reference=_GUIDELINES,
    predicts=[("mail programs", "strip it, and show the rest in another way than you saw it"), ("filters", "points")],
    when=marks.PAGE,
)
def html_broken(message: Message) -> Hits:
    """HTML in mail is whole, and without what mail programs strip.

    A table, comment or style sheet that is not closed swallows what follows it, and each program repairs it in its own
    way. Scripts, forms, frames, objects and external style sheets are removed by receivers; filters count them against
    the sender, and a base or relative address makes links that lead nowhere.

    Fix: close what is open, write styles inline, and link to a page that has the form or script; an HTML validator
    shows the place.
    """
    return islice(chain.from_iterable(map(_form_hits, repeat(message), message.bodies.pages)), _MOST)


# Comments, and tags as a browser reads them (HTML 13.2.5): where one ends, its name, its `>`.
_TOKEN = re.compile(
    rf"<!--(?:-?>|.*?(?P<end>--!?>|\Z))|<(?P<name>/?[A-Za-z][^\t\n\f\r />]*+){ATTRIBUTE}*+[\t\n\f\r /]*+(?P<close>>?)",
    re.DOTALL,
)
# An element that is open at the end takes everything behind it with it, out of sight or out of place.
_TO_CLOSE: Final = ("table", "style", "title", "script", "textarea", "select")


# classes of two letters instead of a flag: `re` passes over what begins with none of them
_TO_CLOSE_TAG = re.compile(rf"<(/?(?:{'|'.join(''.join(f'[{c}{c.upper()}]' for c in name) for name in _TO_CLOSE)}))\b")


def _form_hits(message: Message, page: Page) -> Iterator[Hit]:
    if page.tree is None:
        place = in_part(message, page.part, "<", shown="text/html")
        yield Hit("a tag in the HTML has a hundred attributes or more, or an extremely long one", place)
        return
    if not page.is_cut:
        for words, text in _unclosed(page.html):
            yield Hit(words, in_part(message, page.part, text))
    said: set[str] = set()
    for words, node, severity in _stripped(page.tree):
        if words not in said:
            said.add(words)
            yield Hit(words, in_part(message, page.part, _start_of(node), shown=_tag_of(node)), severity=severity)
    if relative := next((link.url for link in page.links if not link.to.scheme and _is_relative(link.url)), ""):
        base = page.tree.css_first("base[href]")
        words = "a link depends on <base href>" if base else "a relative link leads nowhere"
        yield Hit(words, in_part(message, page.part, relative), severity=None if base else Severity.INFO)


def _is_relative(link: str) -> bool:
    """Whether a link needs a base. Marks within the page do not, and a merge tag is CNT007's."""
    link = link.strip()
    if link.startswith(("https://", "http://", "mailto:")) or not link or link[0] in "#{%*[$<":
        return False
    url = parse(link)
    return not (url.scheme or url.host)


def _unclosed(html: str) -> Iterator[tuple[str, str]]:
    """What is open at the end of a page: in words, and as it begins."""
    if _seems_closed(html):
        return
    counts: Counter[str] = Counter()
    for found in _TOKEN.finditer(html):
        name = found["name"]
        if name is None:
            if found["end"] == "":
                yield "a comment in the HTML is not closed: nothing after it is shown", found[0]
        elif not found["close"]:
            yield f"the last tag of the HTML, <{clean(name)[:20]}, is not closed", found[0]
        else:
            counts[name.lower()] += 1
    for name in _TO_CLOSE:
        if counts[name] > counts[f"/{name}"]:
            closed = counts[f"/{name}"]
            yield f"<{name}> is not closed: {counts[name]} opened in the HTML, {closed} closed", f"<{name}"


def _seems_closed(html: str) -> bool:
    """Whether it is hardly worth to look closer: a page that opens as much as it closes, commented or not."""
    if html.count("<!--") != html.count("-->") or html.rfind("<") > html.rfind(">"):
        return False
    found = [name.lower() for name in _TO_CLOSE_TAG.findall(html)]
    return not found or all(found.count(name) == found.count(f"/{name}") for name in _TO_CLOSE)


_STRIPPED: Final = "script, form, object, embed, applet, iframe, frameset, meta[http-equiv], link[rel~=stylesheet]"
# JSON-LD and the like: what Gmail reads of an order or a flight (schema.org)
_IS_DATA = re.compile(r"(?:application|text)/(?:ld\+)?json", re.IGNORECASE)
# Fonts are what a style sheet from elsewhere may bring: programs that cannot load them take another.
_IS_FONT = re.compile(r"font|typekit|typography", re.IGNORECASE)


def _stripped(tree: LexborHTMLParser) -> Iterator[tuple[str, LexborNode, Severity | None]]:
    for node in tree.css(_STRIPPED):
        given = node.attributes
        match node.tag:
            case "script" if _IS_DATA.fullmatch((given.get("type") or "").strip()):
                continue
            case "meta":
                if (given.get("http-equiv") or "").strip().lower() == "refresh":
                    yield "<meta http-equiv=refresh> is stripped from mail", node, None
            case "link":
                if not _IS_FONT.search(given.get("href") or ""):
                    yield "an external style sheet is not loaded in mail", node, Severity.INFO
            case tag:
                yield f"<{tag}> is stripped from mail", node, None


def _tag_of(node: LexborNode) -> str:
    """A node's start tag as the parser writes it."""
    return (node.html or "").partition(">")[0] + ">"


def _start_of(node: LexborNode) -> str:
    """What its source most likely begins with."""
    first = next(iter(node.attributes), "")
    return f"<{node.tag} {first}" if first else f"<{node.tag}"


# --- hidden text -----------------------------------------------------------------------------------------------------

PREHEADER_LETTERS: Final = 500
"""Hidden text that is taken for a preheader; mail programs show 35 to 140 letters of it."""
COVERT_LETTERS: Final = 40
"""Text behind the first that is painted over or shrunk: a time or a number there keeps Gmail from folding a message."""
# Letters of a Latin word with something unseen between them, twice at least: no script, emoji or hyphenation needs it.
_UNSEEN: Final = "\u200b\u200c\u200d\u2060\ufeff"
_SPLIT_WORD = re.compile(f"(?:[A-Za-z]{{1,3}}[{_UNSEEN}]+){{2,}}[A-Za-z]")


@rule(
    "CNT004",
    "html-hidden-text",
    Severity.WARNING,
    Stage.DATA,
    category="content.spam",
    reference=_GUIDELINES,
    predicts=[("Google", "the spam folder")],
    when=marks.PAGE,
)
def html_hidden_text(message: Message) -> Hits:
    """The text of a page is visible.

    Text of size zero, in the colour of its background, far outside the window or simply not displayed is there for
    filters and not for readers, and Google asks senders not to use HTML and CSS to hide content. A preheader, the short
    text that an inbox shows below the subject, is in order; so are invisible characters in scripts that need them.

    Fix: remove the hidden text, or shorten the preheader to the 140 letters that are shown of it; hide what is meant
    for telephones only by a class of the style sheet.
    """
    return islice(chain.from_iterable(map(_hidden_hits, repeat(message), message.bodies.pages)), _MOST)


def _hidden_hits(message: Message, page: Page) -> Iterator[Hit]:
    open_texts = [text for text in page.hidden if text.is_plain or text.is_lead]
    covert = [text for text in page.hidden if not (text.is_plain or text.is_lead)]
    for texts, most in ((open_texts, PREHEADER_LETTERS), (covert, COVERT_LETTERS)):
        letters = _letters(texts)
        if letters > most:
            longest = max(texts, key=lambda text: len(text.text))
            words = f"{letters:,} letters of the page are hidden, most of them by {clean(longest.how)}"
            yield Hit(words, in_part(message, page.part, longest.text))
    if any(unseen in page.text for unseen in _UNSEEN) and (found := _SPLIT_WORD.search(page.text)):
        yield Hit("invisible characters split a word into pieces", in_part(message, page.part, found[0]))


def _letters(texts: Iterable[Hidden]) -> int:
    return sum(len(text.text) - text.text.count(" ") for text in texts)


# --- size ------------------------------------------------------------------------------------------------------------

CLIPPED_OCTETS: Final = 102 << 10
"""Of a decoded HTML part; Gmail shows no more, behind `Message clipped` (observed, not published)."""


@rule(
    "CNT006",
    "html-clipped",
    Severity.INFO,
    Stage.DATA,
    category="content.spam",
    reference="Gmail's clipping at 102 KB (observed)",
    predicts=[("Google", "shows the first 102 KB, [Message clipped]")],
    when=marks.PAGE,
)
def html_clipped(message: Message) -> Hits:
    """An HTML part has at most 102 KB.

    Gmail shows no more than that and a link to the rest. What comes last is not seen: the unsubscribe link, the imprint
    and the tracking pixel.

    Fix: shorten the HTML: repeated inline styles, comments, indentation, text that could stand on a web page.
    """
    for page in message.bodies.pages:
        if page.part.end - page.part.start > CLIPPED_OCTETS and (size := len(page.part.content())) > CLIPPED_OCTETS:
            words = f"the HTML has {size // 1024:,} KB{' or more' if page.is_cut else ''}"
            yield Hit(words, in_part(message, page.part, "<", shown="text/html"))
