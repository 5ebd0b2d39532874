"""CNT: what a message carries: attachments, links, and what a template left in it. The rules about HTML: html.py.

None of these rejects by default: filters weigh content against reputation, and only the attachment types are published
as refused outright. What is judged is what a reader is shown, not attached or forwarded messages; attachments are
judged wherever they are. Nothing is fetched, unpacked or looked up.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Final

from smtpguard.lint import leftovers, marks
from smtpguard.lint.attachments import BLOCKED, ending_of, is_disguised, is_turned, is_zip, listing_of
from smtpguard.lint.bulk import is_bulk
from smtpguard.lint.evidence import of_field
from smtpguard.lint.finding import Evidence, Hit, Severity, Stage
from smtpguard.lint.links import is_harmless, judged_text, judged_url
from smtpguard.lint.place import in_part
from smtpguard.lint.rule import Hits, rule
from smtpguard.mail.header import decoded
from smtpguard.mail.links import ip_literal
from smtpguard.mail.message import Message
from smtpguard.mail.mime import Part
from smtpguard.mail.reply import clean

_MOST: Final = 5
"""Hits of one rule for one message: who has read five knows."""
_GUIDELINES: Final = "Google sender guidelines (support.google.com/a/answer/81126, 2026-03-21)"


# --- attachments -----------------------------------------------------------------------------------------------------


@rule(
    "CNT001",
    "blocked-attachment",
    Severity.ERROR,
    Stage.DATA,
    category="content.attachment",
    reference="Gmail, file types blocked (support.google.com/mail/answer/6590)",
    predicts=[("Google", "552 5.7.0"), ("Outlook", "hides the file from its users")],
    answer="552 5.7.0",
    when=marks.NAMED,
)
def blocked_attachment(message: Message) -> Hits:
    """Attachments are of types that receivers accept.

    Gmail refuses programs, scripts, installers and disk images by the ending of the file's name, also inside a zip
    archive or before .gz, whatever they contain. Outlook accepts the message and keeps its users from opening such
    files. Names that hide the true type, with a second ending or a character that reverses the text, are what malware
    uses.

    Fix: put the file where the reader can download it and send the link; another ending or an archive does not help.
    """
    return islice(_attachment_hits(message), _MOST)


def _attachment_hits(message: Message) -> Iterator[Hit]:
    for part in message.walk():
        if part.is_multipart or part.content_type.startswith("message/"):
            continue
        if name := part.filename:
            place = _named(message, part, name)
            yield from _judged_name(name, "", place)
            if is_zip(part):
                yield from _judged_archive(part, name, place)


def _judged_archive(part: Part, archive: str, place: Evidence) -> Iterator[Hit]:
    listing = listing_of(part)
    if listing is None:
        return
    if listing.is_masked:
        yield Hit(f"the names of the files in {_quoted(archive)} are encrypted, which Google refuses", place)
    for name in listing.names:
        yield from _judged_name(name.rpartition("/")[2], archive, place)


def _judged_name(name: str, archive: str, place: Evidence) -> Iterator[Hit]:
    """A file by its name, which stands in an archive or (archive "") is the attachment's."""
    within = f" in {_quoted(archive)}" if archive else ""
    blocked = BLOCKED.get(ending_of(name))
    if blocked is not None and (blocked.is_refused or not archive):
        disguise = " behind another ending" if is_disguised(name) else ""
        does = "refuses" if blocked.is_refused else "hides from its users"
        words = f"{_quoted(name)}{within} is a .{ending_of(name)} file{disguise}, which {blocked.by} {does}"
        yield Hit(words, place, severity=None if blocked.is_refused else Severity.WARNING)
    elif is_turned(name):
        words = f"the name {_quoted(name)}{within} has a character that reverses the text: it looks like another type"
        fix = "take the character U+202E or U+202D out of the name"
        yield Hit(words, place, fix, Severity.WARNING)


def _quoted(name: str) -> str:
    """A name that is safe to print, at most 60 characters of it."""
    text = clean(name, utf8=True)
    return f'"{text if len(text) <= 60 else text[:30] + "..." + text[-27:]}"'


def _named(message: Message, part: Part, name: str) -> Evidence:
    """Where a part says its name."""
    field = part.header.first(b"content-disposition") or part.header.first(b"content-type")
    offset = field.offset if field is not None else part.start
    return Evidence(_quoted(name), message.line_of(offset), offset)


# --- links -----------------------------------------------------------------------------------------------------------


@rule(
    "CNT005",
    "link-deceptive",
    Severity.WARNING,
    Stage.DATA,
    category="content.spam",
    reference=_GUIDELINES,
    predicts=[
        ("Google", "421 4.7.0 (support.google.com/a/answer/3726730, 2026-02-15)"),
        ("Yahoo", "554 [PH01] (senders.yahooinc.com/smtp-error-codes, 2026-02-15)"),
    ],
    when=marks.LINK,
)
def link_deceptive(message: Message) -> Hits:
    """A link leads where it seems to lead.

    Phishing shows one host and leads to another, hides the host behind an @, an address of digits, look-alike letters
    or a public link shortener, or runs a script. Filters refuse such links whoever sends them. Click tracking makes
    them too, where the text of a link is itself a URL and the click goes through the tracker's host.

    Fix: let the text of a link be words, or the host that it leads to; track clicks under a domain of your own; use
    the whole URL in place of a short one.
    """
    seen: set[str] = set()
    for hit in _link_hits(message):
        if hit.message not in seen:
            seen.add(hit.message)
            yield hit
            if len(seen) == _MOST:
                return


def _link_hits(message: Message) -> Iterator[Hit]:
    for body in message.bodies.texts:
        for link in body.links:
            for words, severity in judged_url(link.to):
                yield Hit(words, in_part(message, body.part, link.text), severity=severity)
    for page in message.bodies.pages:
        for url, text, to in page.links:
            if not is_harmless(to):
                for words, severity in judged_url(to):
                    yield Hit(words, in_part(message, page.part, url), severity=severity)
            if "." in text and (found := judged_text(message, to, text)) is not None:
                words, severity = found
                yield Hit(words, in_part(message, page.part, url, shown=f"{text} -> {url}"), severity=severity)


# --- what a template left --------------------------------------------------------------------------------------------


@rule(
    "CNT007",
    "template-leftover",
    Severity.WARNING,
    Stage.DATA,
    category="content.spam",
    reference="RFC 5322 3.6.5 (Subject); the merge tags of Liquid, Handlebars, Jinja, Mailchimp",
    predicts=[("readers", "complaints, which lower the reputation")],
    when=marks.TEMPLATE,
)
def template_leftover(message: Message) -> Hits:
    """The template of a message was filled in.

    Merge tags such as {{first_name}}, `Hello undefined`, placeholder text, links to a test machine or an empty Subject
    show the reader that nobody looked, and readers who complain lower the reputation of the sender. Such mail cannot be
    called back.

    Fix: stop the run and give the template the value that it lacks, or a default for it; preview a message with the
    data of the person of whom the least is known.
    """
    return islice(_leftover_hits(message), _MOST)


def _leftover_hits(message: Message) -> Iterator[Hit]:
    subject = message.first(b"subject")
    text = "" if subject is None else decoded(subject.unfolded)
    if not text.strip():
        where = Evidence("", 1, 0) if subject is None else of_field(subject)
        # a person may leave it out, a mailing may not
        yield Hit("the Subject is empty", where, "write a Subject", None if is_bulk(message) else Severity.INFO)
    if any(map(message.first, (b"in-reply-to", b"list-post"))) and not is_bulk(message):
        return  # written by a person, who may write about templates
    if subject is not None and (found := next(leftovers.in_page(text), "")):
        yield Hit(f"the Subject was not filled in: {_quoted(found)}", of_field(subject))
    shown = [body for body in message.bodies.texts if not leftovers.is_patch(body.text)]
    texts = ((body.part, words) for body in shown for words in leftovers.in_text(body.text))
    pages = ((page.part, words) for page in message.bodies.pages for words in leftovers.in_page(page.text))
    said: set[str] = set()
    for part, words in chain(texts, pages):
        if words not in said:
            said.add(words)
            yield Hit(f"the text was not filled in: {_quoted(words)}", in_part(message, part, words))
    yield from _test_links(message)


def _test_links(message: Message) -> Iterator[Hit]:
    said: set[str] = set()
    for page in message.bodies.pages:
        is_filled_in = not leftovers.may_be_in_url("\n".join([link.url for link in page.links]))
        for url, _text, to in page.links:
            if not is_filled_in and (words := leftovers.in_url(url)) and words not in said:
                said.add(words)
                yield Hit(f"a link was not filled in: {_quoted(words)}", in_part(message, page.part, url))
            if to.host and to.host not in said:
                said.add(to.host)
                yield from _test_link(message, page.part, to.host, url)
    for body in message.bodies.texts:
        for link in body.links:
            host = link.to.host
            if host and host not in said:
                said.add(host)
                yield from _test_link(message, body.part, host, link.text)


def _test_link(message: Message, part: Part, host: str, written: str) -> Iterator[Hit]:
    """A link to a test machine; in plain text it may be a log's."""
    shown = clean(host, utf8=True)
    if leftovers.is_of_a_test(host):
        severity = Severity.INFO if part.content_type == "text/plain" else None
        yield Hit(f"a link leads to {shown}, a test machine", in_part(message, part, written), severity=severity)
    elif leftovers.is_private(host) and ip_literal(host) is None:  # an address is CNT005's
        words = f"a link leads to {shown}, which only your network reaches"
        yield Hit(words, in_part(message, part, written), severity=Severity.INFO)
