"""BLK: what Google, Yahoo and Microsoft ask of those who send to many (RFC 2369, RFC 8058; sender guidelines of 2024).

Asked only of mail that counts as bulk: `is_bulk` reads the marks that the sender himself has put on it; a sender's
volume is known to others. Discussion lists, automatic replies and reports carry some of the same marks and are not
bulk. How many messages a domain sends a day no single message tells: that is not asked here.
"""

from __future__ import annotations

import html
import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from itertools import islice
from typing import Final, NamedTuple

from smtpguard.lint.evidence import in_field, of_field
from smtpguard.lint.facts import Signatures
from smtpguard.lint.finding import Evidence, Hit, Severity, Stage
from smtpguard.lint.rule import Hits, rule
from smtpguard.mail.message import Message
from smtpguard.mailauth.domains import organizational

_CATEGORY: Final = "content.spam"
_GUIDELINES: Final = "support.google.com/a/answer/81126, 2026-03-21"

_LISTS: Final = frozenset((b"list-unsubscribe", b"list-unsubscribe-post", b"list-id"))
_PRECEDENCES: Final = (b"bulk", b"list")


def is_bulk(message: Message) -> bool:
    """Whether a message is marked as sent to many: by `List-*`, `Precedence` or `Feedback-ID`.

    Not what people write to a discussion list (RFC 2369 3.4: `List-Post` with an address), nor what a program answers
    or reports (RFC 3834 5: `Auto-Submitted`; `multipart/report`). The last two are also put on a monitor's or a ticket
    system's mail, to keep automatic replies away: with `Auto-Submitted` they mean nothing.
    """
    named = message.by_name
    is_list = not _LISTS.isdisjoint(named)
    if not (is_list or b"feedback-id" in named or _precedence(message) in _PRECEDENCES):
        return False
    submitted = message.first(b"auto-submitted")
    how = b"no" if submitted is None else submitted.unfolded.lower()
    if how.startswith(b"auto-replied") or not (is_list or how == b"no"):
        return False
    post = message.first(b"list-post")
    if post is not None and b"mailto:" in post.value.lower():
        return False
    return message.root.content_type != "multipart/report"


def _precedence(message: Message) -> bytes:
    field = message.first(b"precedence")
    return b"" if field is None else field.unfolded.lower()


@rule(
    "BLK001",
    "unsubscribe-missing",
    Severity.ERROR,
    Stage.DATA,
    category=_CATEGORY,
    reference="https://support.google.com/a/answer/81126",
    predicts=[("Google", f"spam folder, 421 4.7.28 ({_GUIDELINES})"), ("Yahoo", "spam folder")],
    answer="550 5.7.1",
    bulk=True,
)
def unsubscribe_missing(message: Message) -> Hits:
    """Bulk mail has a List-Unsubscribe: field.

    Gmail and Yahoo require it of everyone who sends 5,000 messages a day. They show an unsubscribe button for it; where
    it is missing, people press the spam button instead.

    Fix: add `List-Unsubscribe: <https://example.com/u/TOKEN>, <mailto:unsubscribe@example.com?subject=TOKEN>` and
    `List-Unsubscribe-Post: List-Unsubscribe=One-Click`; or, if the message was not sent to many, leave out the field
    that says so (Precedence, Feedback-ID, List-ID).
    """
    if message.first(b"list-unsubscribe") is None:
        mark = next(filter(None, map(message.first, (b"list-id", b"precedence", b"feedback-id"))), None)
        if mark is None:
            yield Hit("bulk mail without a List-Unsubscribe: field", Evidence("", 1, 0))
        else:
            words = f"{mark.name.decode()}: marks the message as bulk mail, but it has no List-Unsubscribe: field"
            is_unsure = mark.name.lower() == b"feedback-id"  # receipts bear it, too
            yield Hit(words, of_field(mark), severity=Severity.WARNING if is_unsure else None)


_ONE_CLICK: Final = b"List-Unsubscribe=One-Click"


@rule(
    "BLK002",
    "one-click-missing",
    Severity.ERROR,
    Stage.DATA,
    category=_CATEGORY,
    reference="RFC 8058 3.1",
    predicts=[("Google", f"spam folder, 421 4.7.28 ({_GUIDELINES})"), ("Yahoo", "spam folder, unless by mailto:")],
    bulk=True,
)
def one_click_missing(message: Message) -> Hits:
    """Bulk mail can be unsubscribed from with one click.

    That takes an https address in List-Unsubscribe:, and exactly `List-Unsubscribe-Post: List-Unsubscribe=One-Click`
    beside it. With a page that asks again, or with mailto: alone, Gmail shows no button and counts the mail as breaking
    its rules. Yahoo accepts mailto: too.

    Fix: have the https address unsubscribe on POST, without a question or a login, and add
    `List-Unsubscribe-Post: List-Unsubscribe=One-Click`.
    """
    fields = message.all(b"list-unsubscribe")
    if not fields:
        return
    field = fields[0]
    if not any(uri.scheme == b"https" for each in fields for uri in _uris(each.value)):
        yield Hit("List-Unsubscribe: has no https address", of_field(field))
    post = message.first(b"list-unsubscribe-post")
    if post is None:
        yield Hit("there is no List-Unsubscribe-Post: field", of_field(field))
    elif post.unfolded != _ONE_CLICK:
        yield Hit(f"List-Unsubscribe-Post: is not {_ONE_CLICK.decode()}", of_field(post))


_SIGNED: Final = frozenset((b"list-unsubscribe", b"list-unsubscribe-post"))


@rule(
    "BLK003",
    "one-click-unsigned",
    Severity.WARNING,
    Stage.DATA,
    category=_CATEGORY,
    reference="RFC 8058 4",
    predicts=[("Google, Yahoo", "no button to unsubscribe")],
    bulk=True,
)
def one_click_unsigned(message: Message, signatures: Signatures) -> Hits:
    """A DKIM signature of the sender's domain covers List-Unsubscribe: and List-Unsubscribe-Post:.

    Unless both are named in its h=, anyone on the way could have added them, and receivers must not offer the button.

    Fix: add `List-Unsubscribe:List-Unsubscribe-Post` to the header fields that the signer covers (OpenDKIM:
    OversignHeaders; rspamd: sign_headers).
    """
    if not all(map(message.first, _SIGNED)) or not signatures.signatures:  # no signature at all is DKM001's
        return
    own = {organizational(box.domain) for box in message.mailboxes(b"from") if box.domain}
    aligned = [each for each in signatures.signatures if not each.problem and organizational(each.domain) in own]
    if not any(_SIGNED.issubset(each.headers) for each in aligned):
        where = of_field(aligned[0].field if aligned else signatures.signatures[0].field)
        words = "no signature of the From domain names both List-Unsubscribe fields in its h="
        yield Hit(words if aligned else "no signature is of the From domain", where)


class _Uri(NamedTuple):
    """A URI of List-Unsubscribe between < and >: where it stands in the value, its scheme in lower case."""

    text: bytes
    start: int
    scheme: bytes


_MOST_URIS: Final = 10
"""URIs that are judged; two are of use."""
_BRACKETED = re.compile(rb"<([^<>]*)>")
_COMMENT = re.compile(rb"\([^()]*\)")


def _uris(value: bytes) -> Iterator[_Uri]:
    for found in _BRACKETED.finditer(value):
        yield _Uri(found[1], found.start(1), found[1].partition(b":")[0].strip().lower())


@rule(
    "BLK004",
    "unsubscribe-malformed",
    Severity.WARNING,
    Stage.DATA,
    category=_CATEGORY,
    reference="RFC 2369 2",
    predicts=[("Google, Yahoo", "the field is ignored")],
    bulk=True,
)
def unsubscribe_malformed(message: Message) -> Hits:
    """There is one List-Unsubscribe: field, a list of URIs in angle brackets with commas between them.

    Without the brackets, with a space or a fold inside a URI, with a scheme other than https: and mailto: or two of
    either, programs ignore the field or follow half an address. Of two fields they read one.

    Fix: write `List-Unsubscribe: <https://example.com/u/TOKEN>, <mailto:unsubscribe@example.com>`, and fold the line
    only between the two.
    """
    fields = message.all(b"list-unsubscribe")
    if not fields:
        return
    if len(fields) > 1:
        yield Hit(f"there are {len(fields)} List-Unsubscribe: fields", of_field(fields[1]), _JOIN)
    field = fields[0]
    schemes: set[bytes] = set()
    uris = list(islice(_uris(field.value), _MOST_URIS))
    for uri in uris:
        where = in_field(field, uri.start, uri.start + len(uri.text))
        if any(blank in uri.text for blank in (b" ", b"\t", b"\r", b"\n")):
            what = "is folded within a URI" if b"\r\n" in uri.text else "has a URI with a space in it"
            yield Hit(f"List-Unsubscribe: {what}", where)
        elif uri.scheme not in (b"https", b"mailto"):
            yield Hit(f"List-Unsubscribe: has a URI that is neither https: nor mailto: ({_scheme(uri)})", where)
        elif uri.scheme in schemes:
            yield Hit(f"List-Unsubscribe: has more than one {uri.scheme.decode()}: URI", where)
        schemes.add(uri.scheme)
    if not uris:
        yield Hit("List-Unsubscribe: has no URI in < >", of_field(field))
    elif _COMMENT.sub(b"", _BRACKETED.sub(b"", field.value)).strip(b" \t\r\n,"):
        yield Hit("List-Unsubscribe: has text outside of < >", of_field(field))


_JOIN: Final = "put all URIs into one List-Unsubscribe: field, with commas between them"


def _scheme(uri: _Uri) -> str:
    return (uri.scheme if b":" in uri.text else b"no scheme")[:20].decode("ascii", "replace")


def _read_words() -> tuple[str, ...]:
    text = files(__package__).joinpath("unsubscribe.toml").read_text(encoding="utf-8")
    by_language: Mapping[str, list[str]] = tomllib.loads(text)
    return tuple(dict.fromkeys(word for words in by_language.values() for word in words))


_WORDS: Final = _read_words()
"""What a link to unsubscribe is called, in lower case (unsubscribe.toml)."""
_TEXT_LIMIT: Final = 512 << 10
_MOST_TEXTS: Final = 10


@rule(
    "BLK005",
    "body-unsubscribe-link",
    Severity.INFO,
    Stage.DATA,
    category=_CATEGORY,
    reference="https://support.google.com/a/answer/81126",
    predicts=[("Google, Yahoo, Microsoft", "complaints, and by them the spam folder")],
    bulk=True,
)
def body_unsubscribe_link(message: Message) -> Hits:
    """Bulk mail says in its text how to unsubscribe.

    Google, Yahoo and Microsoft ask for a visible link besides the header field, as many programs show no button. The
    words for it are known here in forty languages (unsubscribe.toml); mail in another language may well be in order.

    Fix: put a link with the word Unsubscribe, in the language of the mail, at its end.
    """
    texts = [part for part in message.walk() if part.content_type in ("text/html", "text/plain")]
    # the page first, which stands behind its text: words that are not there are what takes time
    if texts and not any(_says_so(part.text(_TEXT_LIMIT)) for part in texts[:_MOST_TEXTS][::-1]):
        start = texts[0].start
        yield Hit("the text names no way to unsubscribe", Evidence("", message.line_of(start), start))


def _says_so(text: str) -> bool:
    lowered = text.lower()
    if _WORDS[0] in lowered:  # as in most mail; what follows reads the text word by word
        return True
    lowered = " ".join(lowered.replace("\u0307", "").split())  # a Turkish capital I leaves its dot behind
    if any(word in lowered for word in _WORDS):
        return True
    unescaped = html.unescape(lowered) if "&" in lowered else lowered
    return unescaped != lowered and any(word in unescaped for word in _WORDS)
