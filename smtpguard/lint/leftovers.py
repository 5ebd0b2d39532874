"""What a template leaves in a message when it was not filled in: merge tags, `undefined`, blind text, test links.

The forms are those of the usual template languages and mail services. Much of it may stand in honest mail about
programs and templates: in plain text only tags that name a person's data count, and the rules look at no quotation, no
code and no reply.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from smtpguard.mail.links import ip_literal
from smtpguard.mail.octets import seeker

# What a form letter puts in: in any delimiters; and what is too common a word for single brackets.
_NAMES: Final = (
    r"(?:first|last|full|sur|given|user|customer|client|recipient|contact|subscriber|member|company|your)[ _.-]?name"
    r"|[fl]name|vorname|nachname|prenom|pr\u00e9nom"
)
_LOOSE: Final = rf"{_NAMES}|name|email|e-mail|unsubscribe(?:[ _.-]?(?:url|link))?|recipient|subject"
_PATH: Final = r"(?:\w{1,30}\.){0,3}"
_FILTER: Final = r"(?:\s*\|[^{}\[\]\n]{0,60})?"

# In text and pages alike: a person's data in the delimiters of some template language, by what each begins with.
_PERSONAL: Final = {
    mark: re.compile(re.escape(mark) + rest, re.IGNORECASE)
    for mark, rest in {
        "{{": rf"\s{{0,9}}{_PATH}(?:{_LOOSE}){_FILTER}\s*\}}\}}",  # {{ user.first_name | default }}: Liquid, Jinja, ...
        "${": rf"\s{{0,9}}{_PATH}(?:{_LOOSE})\s*\}}",
        "[[": rf"\s{{0,9}}{_PATH}(?:{_LOOSE})\s*\]\]",
        "<<": rf"\s{{0,9}}(?:{_LOOSE})\s*>>",
        "\u00ab": rf"(?:{_NAMES})\u00bb",  # word processors; with blanks, or around one word, it may be a quotation
        "##": rf"(?:{_LOOSE})##",  # with blanks a heading
        "%%": r"[A-Z_][\w.-]{0,40}%%",  # %%FNAME%%
        "*|": r"[A-Z][A-Z0-9_:]{0,40}\|\*",  # *|FNAME|*
        "{": rf"(?<![\w$#{{].)\s*(?:{_NAMES})\s*\}}(?!\}})",
        "[": rf"(?<![\w\[].)\s*(?:{_NAMES})\s*\](?![\](])",
    }.items()
}
# In pages, whose text in sight is hardly code.
_ANY_TAG: Final = {
    mark: re.compile(re.escape(mark) + rest)
    for mark, rest in {
        "{{": r"[^{}\n]{1,80}\}\}",
        "{%": r"-?\s*(?:if|else|elif|elsif|endif|for|endfor|set|include|block|endblock|unless|case)\b[^%\n]{0,80}%\}",
        "<%": r"=?[^%\n]{1,80}%>",
    }.items()
}
_OBJECT: Final = "[object Object]"
GREETING_REACH: Final = 600
"""Characters of a text among which it greets its reader."""
_NOTHINGS: Final = ("undefined", "null", "NaN", "None")
_NOTHING = re.compile(
    r"\b(?i:hi|hello|hey|dear|hallo|liebe|lieber|bonjour|hola|ciao|ol\u00e1|beste)\s+\(?"
    rf"(?:{'|'.join(_NOTHINGS)})\)?(?=\s*(?:[,!.:;]|$))",
    re.MULTILINE,
)
_NOBODY = re.compile(r"^[ \t]*(?:Dear|Hi|Hello) +,\s*$", re.MULTILINE)
_BLIND = re.compile(r"\blorem\s+ipsum\s+dolor\b", re.IGNORECASE)


def in_text(text: str, *, reach: int = GREETING_REACH) -> Iterator[str]:
    """What was left over in plain text: the words as they stand."""
    for mark, tag in _PERSONAL.items():
        if mark[0] in text and mark in text:  # one character is found twenty times as fast as two
            yield from (found[0] for found in tag.finditer(text))
    if "[" in text and _OBJECT in text:
        yield _OBJECT
    head = text[:reach]
    if any(nothing in head for nothing in _NOTHINGS) and (found := _NOTHING.search(head)):
        yield found[0]
    if " ," in head and (found := _NOBODY.search(head)):
        yield found[0].strip()
    if _has_blind_text(text.encode("utf-8", "surrogatepass")) and (found := _BLIND.search(text)):
        yield found[0]


def may_be_in_text(text: str, *, reach: int = GREETING_REACH) -> bool:
    """Whether a closer look is worth it: False where `in_text` finds nothing, and mostly then."""
    head = text[:reach]
    return (
        "{" in text  # one character is found twenty times as fast as two
        or "[" in text
        or "\u00ab" in text
        or ("<" in text and "<<" in text)
        or ("#" in text and "##" in text)
        or ("%" in text and "%%" in text)
        or ("*" in text and "*|" in text)
        or "undefined" in head
        or "null" in head
        or ("N" in head and ("NaN" in head or "None" in head))
        or ("," in head and " ," in head)
        or _has_blind_text(text.encode("utf-8", "surrogatepass"))
    )


_has_blind_text = seeker(b"psum")
# What each piece of a patch begins with, as git and diff -u write it.
_PATCH = re.compile(r"^@@ -\d+(?:,\d+)? \+\d+(?:,\d+)? @@", re.MULTILINE)


def is_patch(text: str) -> bool:
    """Whether a text is code: a patch on its way to a maintainer."""
    return "@@ -" in text and _PATCH.search(text) is not None


def may_be_in_page(text: str) -> bool:
    """The same of `in_page`."""
    return may_be_in_text(text, reach=len(text)) or ("<" in text and "<%" in text)


def in_page(text: str) -> Iterator[str]:
    """What was left over in the text of a page that is in sight."""
    yield from in_text(text, reach=len(text))  # layout, menus and logos come before the greeting
    for mark, tag in _ANY_TAG.items():
        if mark[0] in text and mark in text:
            yield from (found[0] for found in tag.finditer(text))


# `{{`, `%7B%7B`, `*|`, `[object Object]` and `undefined` as a value or a step of a path
_IN_URL = re.compile(
    r"(?:\{|%7[Bb]){2}[^{}]{1,80}?(?:\}|%7[Dd]){2}|\*\|\w{1,40}\|\*|%%[A-Za-z_]{1,40}%%|\[object(?: |%20)Object\]"
    r"|(?<=[=/])(?:undefined|NaN)(?=[&/?#]|$)|<%=?[^%]{1,80}%>|\$(?:\{|%7[Bb])\w[\w.]{0,40}(?:\}|%7[Dd])"
)


_URL_MARKS: Final = ("{", "%7", "%%", "[", "*", "<", "undefined", "NaN")


def may_be_in_url(url: str) -> bool:
    """Whether a closer look is worth it; also at many links at once."""
    return any(mark in url for mark in _URL_MARKS)


def in_url(url: str) -> str:
    """What was left over in a link; "" for nothing."""
    if not may_be_in_url(url):
        return ""
    found = _IN_URL.search(url[:4096])
    return found[0] if found else ""


# RFC 6761 6 and what people name networks of their own; a reader elsewhere reaches nothing there.
_LOCAL_TOPS: Final = frozenset({"localhost", "test", "invalid"})
_PRIVATE_TOPS: Final = frozenset({"local", "internal", "lan", "intranet", "home", "corp"})
_STAGES: Final = frozenset({"staging", "stage", "preprod", "uat", "localhost"})


@lru_cache(maxsize=4096)
def is_of_a_test(host: str) -> bool:
    """Whether a host is the writer's own machine, or a stage before production."""
    if (address := ip_literal(host)) is not None:
        return address.is_loopback or address.is_unspecified
    *labels, top = host.split(".")
    return top in _LOCAL_TOPS or not _STAGES.isdisjoint(labels)


@lru_cache(maxsize=4096)
def is_private(host: str) -> bool:
    """Whether only the writer's own network reaches a host."""
    if (address := ip_literal(host)) is not None:
        return address.is_private and not address.is_loopback and not address.is_unspecified
    return host.rpartition(".")[2] in _PRIVATE_TOPS
