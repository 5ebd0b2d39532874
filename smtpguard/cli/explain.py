"""`smtpguard explain`: what a refusal means, for a person or for a program; one reply, or a mail log of millions.

One refusal gives a panel on a terminal, plain text in a pipe, an object with --json. Many are summed up (tally.py,
summary.py). `--jsonl` reads one reply a line (plain text, or {"reply", "next_hop", "verb"}) and writes one JSON object
a line, in order; a line that cannot be read gives {"error", "category": "unknown"} in its place. An event id or a queue
id alone is looked up in the history (happened.py). Exit codes: 0; 1 for an id that is in neither; 2 for input that is
not there or tells of no refusal, 75 for a history that is away (contract 3).

An acceptance (2xx, 3xx) needs no explanation: that is said, with exit code 0. As JSON it has `"accepted": true` and no
category, but with --jsonl, whose every answer has one, `"category": "unknown"`.

A reply may stand as a server sent it, or in the words of a log or a DSN (classify/notice/said.py). Text without a code
is read as a 5xx, and that is said.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from io import BufferedReader
from pathlib import Path
from time import perf_counter_ns, time
from typing import TYPE_CHECKING, Any, Final, cast

from smtpguard.classify.notice import Notice, Said, said, verb_of
from smtpguard.classify.notice.asked import EVENT_ID, accepted, asked, described, note
from smtpguard.cli.options import EXIT_FINE, EXIT_FOUND, EXIT_USAGE
from smtpguard.cli.source import MAX_LINE, Source, Tick, Unreadable, size_of
from smtpguard.cli.tally import Tally, rfc3339, told
from smtpguard.cli.width import MOST, columns
from smtpguard.mail.reply import Verb, clean

if TYPE_CHECKING:
    from smtpguard.classify import Classification, Classifier

MAX_SHOWN: Final = 20
"""Panels for one id; a message to more recipients than that is summed up by leaving out --id."""

_USAGE: Final = (
    "give a bounce (.eml), a mailbox, a mail log or the text of a reply, as in: explain 550 5.1.1 no such user"
)

_PROGRESS_FROM: Final = 4 << 20
"""Octets; less is read before a bar would be seen."""

# Postfix: short, of hex digits, one in a hundred without a letter, or long (postconf(5), enable_long_queue_ids);
# sendmail; Exim: 1tEabc-0000000Dxy-2aBc
_QUEUE_ID = re.compile(r"(?=.*\d)(?:[0-9A-Za-z]{6,20}|[0-9A-Za-z]{6}-[0-9A-Za-z]{6,11}-[0-9A-Za-z]{2,4})")
_FILE_LIKE = re.compile(r"\S*/\S+|\S+\.(?:eml|msg|log|txt|gz|mbox|mbx|csv|json|jsonl)", re.I)


def run(
    given: Sequence[str],
    jsonl: Path | None,
    *,
    rules: Sequence[Path] = (),
    host: str = "",
    verb: str | None = None,
    id: str = "",
    store_url: str = "",
    as_json: bool = False,
    color: bool = False,
) -> int:
    """Explain the words `given`, or the files they name, or ["-"]: standard input; or each line of `jsonl`.

    `rules` are an operator's own rule files. `host` and `verb` are taken for replies that do not say their own. `id`:
    only what this event or queue id is about, in the files or, where none is named, in the history at `store_url`.
    Output goes to standard output, complaints to standard error; the exit code.
    """
    from smtpguard.classify import RuleError, load

    known = None
    if verb and (known := verb_of(verb)) is None:
        return _unusable(f"--verb: {verb!r} is not one of {', '.join(Verb)}")
    try:
        if jsonl is not None:
            return _explain_file_of_lines(jsonl, load(rules), host, known)
        names = _sources(given)
        if names is None:
            text = " ".join(given)
            if id and text:
                return _unusable(f"{text}: no such file; --id wants files, or alone the history")
            if id or _is_event_id(text):
                return _explain_kept(id or text, store_url, as_json=as_json, color=color)
            if problem := _no_reply(text):
                return _unusable(problem)
            question = said(text, host=host, verb=known)
            if _QUEUE_ID.fullmatch(text) and not _match(load(rules), question).rule:
                return _explain_kept(text, store_url, as_json=as_json, color=color)
            if question.reply.klass < 4:
                return _show_acceptance(question, as_json=as_json)
            _show_one(question, _match(load(rules), question), None, as_json=as_json, color=color)
            return EXIT_FINE
        tally = Tally(load(rules))
        if id:
            return _explain_id(names, id, tally, as_json=as_json, color=color)
        return _explain_sources(names, tally, host, known, as_json=as_json, color=color)
    except (Unreadable, RuleError) as error:
        return _unusable(str(error))
    except BrokenPipeError:  # who read our output has seen enough: typer ends it quietly
        raise
    except OSError as error:
        return _unusable(f"{jsonl or 'standard input'}: {error.strerror or error}")


def _sources(given: Sequence[str]) -> list[str] | None:
    """The words as names of files, if all of them are; None: they are a reply."""
    if list(given) == ["-"]:
        return ["-"]
    try:
        return list(given) if given and all(word and Path(word).exists() for word in given) else None
    except (OSError, ValueError):  # too long for a name
        return None


def _is_event_id(text: str) -> bool:
    """Whether this reads as the id that a reply of ours ends with; a word of twelve letters may be anything."""
    return EVENT_ID.fullmatch(text) is not None and not text.isalpha()


def _no_reply(text: str) -> str:
    """Why words that name no file are not taken for a reply either; "" where they may be one."""
    if not text.strip():
        return "no reply to explain: give its text, a file, - for standard input, an id, or --jsonl FILE"
    if _FILE_LIKE.fullmatch(text):
        return f"{text}: no such file"
    return ""


def _explain_kept(id: str, url: str, *, as_json: bool, color: bool) -> int:
    """What the history has of an id."""
    from smtpguard.cli.happened import tell
    from smtpguard.cli.store import failed
    from smtpguard.history import StoreError

    hint = f"with a log: smtpguard explain --id {clean(id)} /var/log/smtpguard.log"
    try:
        if tell(url, id, now=time(), as_json=as_json, color=color, width=columns()):
            return EXIT_FINE
    except StoreError as error:
        code = failed("explain", error)
        print(hint, file=sys.stderr)
        return code
    print(f"smtpguard explain: the history has no refusal with the id {clean(id)}; {hint}", file=sys.stderr)
    return EXIT_FOUND


# --- files -------------------------------------------------------------------------------------------------------


def _notices(names: Sequence[str], host: str = "", verb: Verb | None = None) -> Iterator[Notice]:
    """Of all the files, one after another, with a bar where they are large and somebody is looking."""
    today = datetime.now().astimezone()
    if names == ["-"]:
        with Source("-", sys.stdin.buffer) as source:
            yield from source.notices(today, host=host, verb=verb)
        return
    with _bar(size_of(names)) as tick:
        done = 0
        for name in names:
            begun = done
            with Source(name, tick=lambda octets, begun=begun: tick(begun + octets)) as source:  # type: ignore[misc]
                yield from source.notices(today, host=host, verb=verb)
            done += size_of([name])


@contextmanager
def _bar(size: int) -> Iterator[Tick]:
    if size < _PROGRESS_FROM or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Reading", total=size)
        yield lambda octets: progress.update(task, completed=octets)


def _explain_sources(
    names: Sequence[str], tally: Tally, host: str, verb: Verb | None, *, as_json: bool, color: bool
) -> int:
    for notice in _notices(names, host, verb):
        tally.add(notice)
    name = "standard input" if names == ["-"] else ", ".join(names)
    only = tally.only
    if only is not None and only.reply is not None and not tally.delivered:
        if not only.has_code and not only.reply.text.strip() and names == ["-"]:
            return _unusable("standard input: no reply to explain in it")
        question = Said(only.reply, only.host, only.verb, only.has_code, only.id)
        (cause,) = (tally.causes or tally.inbound).values()
        _show_one(question, cause.meaning, only, as_json=as_json, color=color)
    elif not tally.notices and not any(map(_is_many, names)):
        return _unusable(f"{name}: tells of no refusal, delivery or complaint; {_USAGE}")
    elif as_json:
        print(json.dumps(tally.described(), ensure_ascii=False))
    else:
        from smtpguard.cli.summary import show

        show(tally, name, color=color)
    return EXIT_FINE


def _is_many(name: str) -> bool:
    """Whether a source may well tell nothing: a log of a quiet day is no mistake, a folder without a notice is."""
    if name == "-":
        return False
    with Source(name) as source:
        return source.kind in ("log", "mbox") or (source.kind != "folder" and Path(name).stat().st_size == 0)


def _explain_id(names: Sequence[str], id: str, tally: Tally, *, as_json: bool, color: bool) -> int:
    shown = 0
    for notice in _notices(names):
        if id in (notice.id, notice.queue_id) and notice.reply is not None:
            answer = tally.add(notice)
            if answer is not None and (shown := shown + 1) <= MAX_SHOWN:
                question = Said(notice.reply, notice.host, notice.verb, notice.has_code, notice.id)
                _show_one(question, answer, notice, as_json=as_json, color=color)
    if not shown:
        print(f"smtpguard explain: no refusal with the id {clean(id)} in {', '.join(names)}", file=sys.stderr)
        return EXIT_FOUND
    if shown > MAX_SHOWN:
        print(f"smtpguard explain: {shown - MAX_SHOWN} more refusals have this id", file=sys.stderr)
    return EXIT_FINE


# --- one reply a line ------------------------------------------------------------------------------------------------


def _match(classifier: Classifier, question: Said) -> Classification:
    return classifier.match(question.reply, question.host, verb_known=question.verb is not None)


def _explain_file_of_lines(path: Path, classifier: Classifier, host: str, verb: Verb | None) -> int:
    if str(path) == "-":
        _explain_lines(cast(BufferedReader, sys.stdin.buffer), classifier, host, verb)
    else:
        with path.open("rb") as file:
            _explain_lines(file, classifier, host, verb)
    return EXIT_FINE


def _explain_lines(stream: BufferedReader, classifier: Classifier, host: str, verb: Verb | None) -> None:
    """Lines that came together are read, classified and answered together; who asks one waits for no other."""
    for lines in _arrived(stream):
        questions = [_asked(text, host, verb) for line in lines if (text := line.strip().decode("utf-8", "replace"))]
        answers = [_timed(classifier, question) for question in questions]
        for question, answer in zip(questions, answers, strict=True):
            print(json.dumps(_told(question, *answer), ensure_ascii=False))
        sys.stdout.flush()


def _arrived(stream: BufferedReader) -> Iterator[list[bytes]]:
    """The lines of a stream, as many at a time as have come; one beyond `MAX_LINE` is cut."""
    rest = b""
    while octets := stream.read1(MAX_LINE):
        *lines, rest = (rest + octets).split(b"\n")
        rest = rest[:MAX_LINE]
        yield lines
    yield [rest]


def _asked(line: str, host: str, verb: Verb | None) -> Said | str:
    """The question, or why there is none."""
    try:
        return asked(line, host, verb)
    except ValueError as error:
        return str(error)


def _timed(classifier: Classifier, question: Said | str) -> tuple[Classification | None, float]:
    """The answer, and how many microseconds it took."""
    if isinstance(question, str):
        return None, 0.0
    began = perf_counter_ns()
    answer = _match(classifier, question)
    return answer, (perf_counter_ns() - began) / 1000


def _told(question: Said | str, answer: Classification | None, taken_us: float) -> dict[str, Any]:
    if isinstance(question, str) or answer is None:
        return {"error": question, "category": "unknown"}
    if question.reply.klass < 4:
        return {"category": "unknown", **accepted(question), "taken_us": round(taken_us, 1)}
    return {**described(question, answer), "taken_us": round(taken_us, 1)}


# --- for a person ----------------------------------------------------------------------------------------------------


def _show_one(question: Said, answer: Classification, notice: Notice | None, *, as_json: bool, color: bool) -> None:
    """One refusal; `notice` is what is known of it besides the reply."""
    if as_json:
        more = {"notice": dict(told(notice))} if notice is not None else {}
        print(json.dumps({**described(question, answer), **more}, ensure_ascii=False))
    elif sys.stdout.isatty():
        _panel(question, answer, notice, color=color)
    else:
        for label, value in _account(question, answer, notice):
            print(f"{label + ':':12} {value}")


def _show_acceptance(question: Said, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps(accepted(question), ensure_ascii=False))
    else:
        print(f"{clean(str(question.reply), utf8=True)}: this is no refusal but an acceptance, nothing to explain")
    return EXIT_FINE


_ADVICE: Final[Mapping[str, str]] = {
    "transient": "yes, it passes by itself",
    "until_fixed": "only after the fix",
    "permanent": "no, it will be refused again",
    "message": "not this message as it is",
    "unknown": "the reply does not tell",
}


def _account(question: Said, answer: Classification, notice: Notice | None) -> list[tuple[str, str]]:
    """Labels and values for a person; foreign text made harmless."""
    retry = _ADVICE[answer.permanence]
    if answer.retry_after is not None:
        retry += f" (in {answer.retry_after:g} s)"
    sure = f"{answer.confidence:.0%}"
    if answer.alternatives:
        sure += f", or else {', '.join(answer.alternatives)}"
    listed = f"{answer.blocklist} ({answer.delisting})" if answer.delisting else answer.blocklist
    rows = [
        ("Cause", answer.cause),
        ("Category", answer.category),
        ("Confidence", sure),
        ("Who acts", answer.responsible),
        ("What to do", answer.fix),
        ("Retry", retry),
        ("Provider", answer.provider if answer.provider != "other" else ""),
        ("Their code", answer.provider_code),
        ("Block list", listed),
        ("Rule", answer.rule or "none matched"),
        ("Matched", answer.matched),
        ("Reference", answer.reference),
        ("Note", note(question)),
    ]
    if notice is not None:
        state = "not given up yet" if notice.action == "delayed" and notice.kind in ("dsn", "bounce") else ""
        rows += [
            ("Recipient", notice.recipient),
            ("Sender", notice.sender),
            ("Refused by", "this server itself" if notice.inbound else notice.host),
            ("Answer to", notice.verb.value if notice.verb is not None else ""),
            ("When", rfc3339(notice.when) or ""),
            ("Message-ID", notice.message_id),
            ("Queue id", notice.queue_id),
            ("State", state),
        ]
    rows.append(("Id", question.id))
    return [(label, clean(value, utf8=True)) for label, value in rows if value]


def _panel(question: Said, answer: Classification, notice: Notice | None, *, color: bool) -> None:
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    from smtpguard.cli.summary import console

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in _account(question, answer, notice):
        table.add_row(label, Text(value, style="bold" if label in ("Cause", "What to do") else ""))
    reply = question.reply
    text = clean(str(reply) if question.has_code else reply.text, utf8=True)
    style = "yellow" if reply.klass == 4 else "red"
    out = console(color=color)
    width = min(out.width, MOST)
    out.print(Text(text, style=style), width=width)
    out.print(Panel(table, border_style=style, expand=False), width=width)


def _unusable(problem: str) -> int:
    print(f"smtpguard explain: {clean(problem, utf8=True)}", file=sys.stderr)
    return EXIT_USAGE
