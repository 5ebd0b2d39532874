"""An HTML part as a reader sees it: its links, the text in sight, and the text that is hidden (WHATWG HTML, CSS 2).

Parsed once, by lexbor; the questions are answered when they are asked. Nothing is fetched, run or rendered: only
inline styles and attributes are looked at, and where a style sheet of the page speaks of an element's class or id, the
page is given the benefit of the doubt. So is text that a client shows or hides on purpose: microdata, preheaders.

Lexbor is fast on anything that people write, and quadratic on two things that they do not: deep nesting and tags with
thousands of attributes. Hence the bounds below; a page beyond them is cut, or not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from selectolax.lexbor import LexborHTMLParser, LexborNode

from smtpguard.mail.links import TextLink, Url, links_in, parse
from smtpguard.mail.once import once

if TYPE_CHECKING:
    from smtpguard.mail.mime import Part

PAGE_LIMIT: Final = 1 << 20
"""Octets of a part that are read."""
TAGS_LIMIT: Final = 10_000
"""Of a page; a newsletter of 100 KB, where Gmail clips, has some 4,000. 10,000 nested tags take 0.1 s."""
LINKS_LIMIT: Final = 1000
LINK_NODES: Final = 100
LINK_LETTERS: Final = 500
"""Of the text of one link that is looked at."""
STYLE_LIMIT: Final = 1024
COLOR_LIMIT: Final = 32
"""Characters of attributes that are looked at, and kept in caches."""
BODIES_LIMIT: Final = 8
"""Text parts of a message that are looked at."""


class Text:
    """A text/plain part that is shown."""

    def __init__(self, part: Part) -> None:
        self.part: Final = part
        self.text: Final = part.text(PAGE_LIMIT)

    @once
    def links(self) -> tuple[TextLink, ...]:
        """The URLs in it, in order."""
        return tuple(islice(links_in(self.text), LINKS_LIMIT))


class Bodies(NamedTuple):
    """What a message shows by itself, without attachments and forwarded messages."""

    texts: tuple[Text, ...]
    pages: tuple[Page, ...]


def bodies(root: Part) -> Bodies:
    """The text parts that are shown, in order."""
    texts: list[Text] = []
    pages: list[Page] = []
    for part in _shown(root):
        if len(texts) + len(pages) == BODIES_LIMIT:
            break
        if part.content_type == "text/html":
            pages.append(Page(part))
        else:
            texts.append(Text(part))
    return Bodies(tuple(texts), tuple(pages))


def _shown(part: Part) -> Iterator[Part]:
    if part.disposition == "attachment" or part.content_type.startswith("message/"):
        return
    if part.content_type in ("text/plain", "text/html"):
        yield part
    for inner in part.parts:
        yield from _shown(inner)


class Link(NamedTuple):
    """A link of a page: where it leads, as it is written; the text that a reader clicks; what a browser makes of it."""

    url: str
    text: str
    to: Url


class Hidden(NamedTuple):
    """Text out of sight: how it is hidden, and the text without what only fills space."""

    how: str
    text: str
    is_lead: bool
    """It stands before the text in sight, as a preheader does."""
    is_plain: bool
    """Hidden openly (`display: none`), not painted over or shrunk to nothing."""


# HTML 13.2.5, start tags as a browser reads them. Names and unquoted values beyond 2,000 characters do not match.
_BLANK = r"[\t\n\f\r /]"
ATTRIBUTE: Final = (
    rf"(?:{_BLANK}*+[^\t\n\f\r />][^\t\n\f\r />=]{{0,2000}}+(?![^\t\n\f\r />=])"
    r"(?:[\t\n\f\r ]*+=[\t\n\f\r ]*+(?:\"[^\"]*+\"|'[^']*+'|(?![\"'])[^\t\n\f\r >]{0,2000}+(?![^\t\n\f\r >])))?+)"
)
# Searched at each `<`, whatever stands around it: what lexbor takes for a tag is among what is tried here. 100
# attributes, or what does not match: no program that writes mail makes such a tag.
_STRANGE_TAG = re.compile(
    rf"<[A-Za-z](?:[^\t\n\f\r />]{{100}}|[^\t\n\f\r />]{{0,99}}+{ATTRIBUTE}{{0,99}}+{_BLANK}*+(?:{ATTRIBUTE}"
    r"|[^\t\n\f\r />]{2000}|[^\t\n\f\r />=]{0,2000}+[\t\n\f\r ]*+=[\t\n\f\r ]*+[^\t\n\f\r >]{2000}))"
)
_SELECTED = re.compile(r"[.#]([A-Za-z_-][\w-]*)")

_UNREAD: Final = frozenset({"style", "script", "title", "head", "template", "noscript", "textarea", "select"})
_QUOTED: Final = frozenset({"pre", "code", "samp", "kbd", "tt", "blockquote"})
_TELLING: Final = _QUOTED | {"a"}
_LINES: Final = """
address article aside blockquote br center dd div dl dt footer h1 h2 h3 h4 h5 h6 header hr li main ol p pre section
table tbody td th thead tr ul
"""
_BLOCKS: Final = frozenset(_LINES.split())
# What fills a preheader up, and what stands between letters unseen.
_FILLER = re.compile(r"[\s\u00ad\u034f\u061c\u115f\u17b4\u180e\u2000-\u200f\u2028-\u202f\u205f-\u2064\u3164\ufeff]+")
LEAD_LETTERS: Final = 200
"""Letters in sight after which hidden text is no preheader any more: mail often begins with `view in browser`."""


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """What an element hands down to the text in it; one and the same where the same was said around it."""

    hidden: str = ""
    """How it is hidden openly, for all that is below it."""
    is_tiny: bool = False
    color: str = ""
    background: str = ""
    is_quoted: bool = False
    is_exempt: bool = False
    covered: str = ""
    """How text is there and cannot be seen; "" where it can, or where that is not known."""


class Page:
    """A text/html part. `tree` is None where lexbor would take too long over it (`is_strange`)."""

    def __init__(self, part: Part) -> None:
        self.part: Final = part
        html = part.text(PAGE_LIMIT)
        is_over = html.count("<") > TAGS_LIMIT
        self.is_cut: Final = is_over or len(html) >= PAGE_LIMIT
        """Whether there is more than was read."""
        self.html: Final = "<".join(html.split("<", TAGS_LIMIT + 1)[:-1]) if is_over else html
        self.is_strange: Final = _STRANGE_TAG.search(self.html) is not None

    @once
    def tree(self) -> LexborHTMLParser | None:
        """The page as a browser understands it."""
        return None if self.is_strange else LexborHTMLParser(self.html)

    @once
    def links(self) -> tuple[Link, ...]:
        """What can be clicked (`a`, `area`), in order."""
        if self.tree is None:
            return ()
        found = self.tree.css("a[href], area[href]")[:LINKS_LIMIT]
        links = []
        for node in found:
            url: str = node.attrs.sget("href")
            links.append(Link(url, _text_of(node), parse(url)))
        return tuple(links)

    @property
    def text(self) -> str:
        """The text in sight, a line for each block; without quotations and code."""
        return self._read[0]

    @property
    def hidden(self) -> tuple[Hidden, ...]:
        """The text out of sight, in order."""
        return self._read[1]

    @once
    def _read(self) -> tuple[str, tuple[Hidden, ...]]:
        if self.tree is None or self.tree.body is None:
            return "", ()
        styled = frozenset(name for sheet in self.tree.css("style") for name in _SELECTED.findall(sheet.text()))
        speaking = {node.mem_id for node in self.tree.css(_SPEAKING_STYLED if styled else _SPEAKING)}
        seen: list[str] = []
        hidden: list[Hidden] = []
        letters = 0
        above: _State | None = _TOP
        passed: list[tuple[LexborNode, _State | None]] = []  # the elements around, with what was handed down to each
        node: LexborNode | None = self.tree.body
        while True:
            while node is None:
                if not passed:
                    return "".join(seen), tuple(hidden)
                node, above = passed.pop()
                node = node.next if passed else None  # the body is the first, and what stands behind it is not read
            if node.is_element_node:
                tag = node.tag or ""
                if tag in _BLOCKS:
                    seen.append("\n")
                passed.append((node, above))
                if above is None or tag in _UNREAD:
                    above = None  # nothing of it is text to read
                elif node.mem_id in speaking:
                    above = _state_of(node, tag, above, styled)
                elif tag in _TELLING:
                    above = _told_by(tag, above)
                node = node.first_child
                continue
            if above is not None and node.is_text_node:
                text = node.text_content or ""
                if how := above.hidden or above.covered:
                    if not above.is_exempt and (bare := _FILLER.sub(" ", text).strip()):
                        hidden.append(Hidden(how, bare, letters < LEAD_LETTERS, is_plain=bool(above.hidden)))
                else:
                    if not above.is_quoted:
                        seen.append(text)
                    if letters < LEAD_LETTERS:
                        letters += len(_FILLER.sub("", text))
            node = node.next


def _text_of(node: LexborNode) -> str:
    """The beginning of a link's text, on one line. A link may be nested in another's table: all of each is too much."""
    first = node.first_child
    if first is None:
        return ""
    if first.next is None and first.first_child is None:  # as in most: a text, or a picture
        return " ".join((first.text_content or "")[:LINK_LETTERS].split()) if first.is_text_node else ""
    nodes = islice(node.traverse(include_text=True), LINK_NODES)
    text = "".join((each.text_content or "")[:LINK_LETTERS] for each in nodes if each.is_text_node)
    return " ".join(text[:LINK_LETTERS].split())


_TOP: Final = _State()
_SPEAKING: Final = "[style], [color], [bgcolor], [background], [hidden], [itemprop], [itemscope]"
"""Elements that may say something of how their text is seen."""
_SPEAKING_STYLED: Final = f"{_SPEAKING}, [class], [id]"
"""The same where there is a style sheet."""


def _state_of(node: LexborNode, tag: str, above: _State, styled: frozenset[str]) -> _State:
    """What holds within an element."""
    given = node.attributes
    is_styled = False
    if styled and ("class" in given or "id" in given):
        names = f"{given.get('class') or ''} {given.get('id') or ''}".split()
        is_styled = not styled.isdisjoint(names)
    return _handed_down(
        above,
        tag if tag in _TELLING else "",
        (given.get("style") or "")[:STYLE_LIMIT],
        (given.get("color") or "")[:COLOR_LIMIT],
        (given.get("bgcolor") or "")[:COLOR_LIMIT],
        is_styled=is_styled,
        is_hidden="hidden" in given,
        has_image="background" in given,
        is_data="itemprop" in given or "itemscope" in given,
    )


@lru_cache(maxsize=4096)
def _told_by(tag: str, above: _State) -> _State:
    """What holds within an element that says something by its name alone."""
    said = {"is_styled": False, "is_hidden": False, "has_image": False, "is_data": False}
    return _handed_down(above, tag, "", "", "", **said)


@lru_cache(maxsize=4096)
def _handed_down(
    above: _State,
    tag: str,
    style: str,
    color: str,
    bgcolor: str,
    *,
    is_styled: bool,
    is_hidden: bool,
    has_image: bool,
    is_data: bool,
) -> _State:
    """What an element with these attributes makes of what is handed down to it."""
    own = _style_of(style)
    is_exempt = above.is_exempt or is_data  # schema.org: openly for programs
    open_how = above.hidden
    if not open_how and (how := own.hides or ("hidden" if is_hidden else "")):
        open_how = how
        is_exempt |= is_styled  # its style sheet may show it, on a telephone for one
    # a style sheet may say anything of sizes and colours, and a link has a colour of its own
    inherited = "" if is_styled or tag == "a" else above.color
    ground = "" if is_styled else above.background
    is_tiny = own.is_tiny if own.is_tiny is not None else above.is_tiny and not is_styled
    paint = own.color or _color(color) or inherited
    # of an image nobody knows the colour
    ground = own.background or ("?" if has_image else _color(bgcolor) or ground)
    is_quoted = above.is_quoted or tag in _QUOTED
    return _State(open_how, is_tiny, paint, ground, is_quoted, is_exempt, _covered(is_tiny, paint, ground))


def _covered(is_tiny: bool, color: str, background: str) -> str:
    if is_tiny:
        return "font-size:0"
    if color == "transparent" or _is_same(color, background):
        return f"color:{color} on {background or 'any ground'}"
    return ""


class _Style(NamedTuple):
    hides: str
    is_tiny: bool | None
    color: str
    background: str


_ZERO = re.compile(r"[+-]?0*(?:\.0*)?(?:px|pt|em|rem|%|ex|vw|vh)?")
_TINY = re.compile(r"0*[01]?(?:\.0+)?px|0*(?:\.0*)?(?:px|pt|em|rem|%|ex|vw|vh)?|0*\.[0-9]+(?:px|pt)")
_FAR = re.compile(r"-[0-9]{3,}(?:px|pt|em|rem|%)?")
_SHORTHAND_SIZE = re.compile(r"(?:^|\s)(0(?:px|pt|em|%)?)(?:\s*/|\s)")


@lru_cache(maxsize=4096)
def _style_of(style: str) -> _Style:
    """What a `style` attribute says of being seen. CSS 2.2: display, visibility, fonts, colours, positions."""
    if not style:
        return _Style("", None, "", "")
    says: dict[str, str] = {}
    for declaration in style.lower().split(";"):
        name, _, value = declaration.partition(":")
        says[name.strip()] = value.removesuffix("!important").strip()
    tiny: bool | None = None
    if size := says.get("font-size"):
        tiny = _TINY.fullmatch(size) is not None
    elif font := says.get("font"):
        tiny = _SHORTHAND_SIZE.search(font) is not None
    background = says.get("background-color") or says.get("background") or ""
    if "background-image" in says or "url(" in background or "gradient" in background:
        background = "?"
    elif background:
        background = _color(background) or _color(background.split()[0]) or "?"
    return _Style(_hides(says), tiny, _color(says.get("color", "")), background)


def _hides(says: dict[str, str]) -> str:
    """The declaration that takes an element out of sight; "" where none does."""
    for name, value in (("display", "none"), ("visibility", "hidden")):
        if says.get(name) == value:
            return f"{name}:{value}"
    if _is_zero(says.get("opacity", "")):
        return "opacity:0"
    if says.get("overflow") == "hidden":
        for name in ("max-height", "height", "max-width", "width"):
            if _is_zero(says.get(name, "")):
                return f"{name}:0"
    for name in ("text-indent", *(("left", "top") if says.get("position") in ("absolute", "fixed") else ())):
        if _FAR.fullmatch(says.get(name, "")):
            return f"{name}:{says[name]}"
    return ""


def _is_zero(value: str) -> bool:
    return bool(value) and _ZERO.fullmatch(value) is not None


_HEX = re.compile(r"#?([0-9a-f]{6}|[0-9a-f]{3})")
_RGB = re.compile(r"rgba?\(\s*(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\d{1,3})(?:[\s,/]+([\d.]+%?))?\s*\)")
_NAMED: Final = {"white": "#ffffff", "black": "#000000", "transparent": "transparent", "red": "#ff0000"}


def _color(value: str) -> str:
    """`#rrggbb`, `transparent`, or "" for what is no colour that we know."""
    value = value.strip().lower()
    if value in _NAMED:
        return _NAMED[value]
    if found := _HEX.fullmatch(value):
        digits = found[1]
        return "#" + (digits if len(digits) == 6 else "".join(digit * 2 for digit in digits))
    if found := _RGB.fullmatch(value):
        if found[4] is not None and _is_zero(found[4]):
            return "transparent"
        return "#" + "".join(f"{min(int(part), 255):02x}" for part in found.groups()[:3])
    return ""


_NEAR: Final = 8
"""Of 255, in each of red, green and blue: a difference that no eye sees in letters."""


def _is_same(color: str, background: str) -> bool:
    if not (color.startswith("#") and background.startswith("#")):
        return False
    return all(abs(int(color[at : at + 2], 16) - int(background[at : at + 2], 16)) <= _NEAR for at in (1, 3, 5))
