"""`smtpguard explain`: what a refusal means, for a person or, line by line, for a program.

One reply gives a panel on a terminal, plain text in a pipe, an object with --json. `--jsonl` reads one reply a line
(plain text, or {"reply", "next_hop", "verb"}) and writes one JSON object a line, in order; a line that cannot be read
gives {"error", "category": "unknown"} in its place. Exit codes: 0, or 2 for input that is not there (contract 3).

A reply may stand as a server sent it, or in a line of a log or a DSN ("host mx.example.com[192.0.2.1] said: 550 ... (in
reply to RCPT TO command)"), whence host and verb are taken too. Text without a code is read as a 5xx, and that is said.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from smtpguard.mail.reply import Reply, ReplyError, Verb, clean, parse_enhanced

if TYPE_CHECKING:
    from smtpguard.classify import Classification, Classifier

_EXIT_FINE: Final = 0
_EXIT_USAGE: Final = 2

_MAX_PASTED: Final = 16384
"""Characters of one pasted text that are looked at; the classifier looks at 4,096 octets of the reply in it."""

NO_CODE: Final = 599
"""Stands for the missing code of a text: a 5xx that is no rule's."""

# what people and logs write for a verb
_VERBS: Final[Mapping[str, Verb]] = {
    **{verb.value: verb for verb in Verb},
    "HELO": Verb.EHLO,
    "LHLO": Verb.EHLO,
    "MAIL FROM": Verb.MAIL,
    "RCPT TO": Verb.RCPT,
    "END OF DATA": Verb.DOT,
    "END-OF-DATA": Verb.DOT,
    "EOM": Verb.DOT,
    ".": Verb.DOT,
    "CONNECTION": Verb.CONNECT,
    "GREETING": Verb.CONNECT,
    "INITIAL CONNECTION": Verb.CONNECT,
}

# Postfix: "host NAME[ADDRESS] said: REPLY (in reply to VERB command)"; Exim: "H=NAME [ADDRESS]: SMTP error from remote
# mail server after VERB:...: REPLY"
_POSTFIX = re.compile(r"\bhost ([^\s\[]+)\[[^\]]*\] (said|refused to talk to me): (.*)", re.S)
_IN_REPLY_TO = re.compile(r" ?\(in reply to (?:the )?([A-Za-z -]{1,20}?)(?: command)?\)\W{0,3}$")
_EXIM = re.compile(
    r"\bH=(\S+) .*?SMTP error from remote mail server after "
    r"(initial connection|end of data|[A-Z]+(?: FROM| TO)?)[^\n]*?: (?:host \S+ \[[^\]]*\]: )?([45]\d\d[ -].*)",
    re.S,
)


class Question(NamedTuple):
    """A reply to classify, and what is known of where it came from (`verb` None: not known)."""

    reply: Reply
    host: str
    verb: Verb | None
    has_code: bool


def run(text: str | None, jsonl: Path | None, *, host: str, verb: str | None, as_json: bool, color: bool) -> int:
    """Explain `text` ("-": standard input), or each line of `jsonl` (Path("-"): standard input); the exit code.

    `host` and `verb` are taken for replies that do not say their own. Output goes to standard output, complaints to
    standard error.
    """
    from smtpguard.classify import load

    known = None
    if verb and (known := verb_of(verb)) is None:
        return _unusable(f"--verb: {verb!r} is not one of {', '.join(Verb)}")
    try:
        if jsonl is not None:
            if str(jsonl) == "-":
                _explain_lines(_lines(sys.stdin.buffer), load(), host, known)
            else:
                with jsonl.open("rb") as file:
                    _explain_lines(_lines(file), load(), host, known)
            return _EXIT_FINE
        if text == "-":
            text = sys.stdin.buffer.read().decode("utf-8", "replace")
    except OSError as error:
        return _unusable(f"{jsonl or 'standard input'}: {error.strerror or error}")
    if text is None or not text.strip():
        return _unusable("no reply to explain: give its text, - for standard input, or --jsonl FILE")
    question = asked(text, host=host, verb=known)
    answer = load().match(question.reply, question.host, verb_known=question.verb is not None)
    if as_json:
        print(json.dumps(described(question, answer), ensure_ascii=False))
    elif sys.stdout.isatty():
        _panel(question, answer, color=color)
    else:
        for label, value in _account(question, answer):
            print(f"{label + ':':12} {value}")
    return _EXIT_FINE


def verb_of(word: str) -> Verb | None:
    """The verb that people call by this word ("rcpt to", "end of data"); None for no SMTP verb."""
    return _VERBS.get(" ".join(word.upper().split()))


def asked(text: str, *, host: str = "", verb: Verb | None = None) -> Question:
    """A reply out of what somebody pasted; `host` and `verb` win over what the text says. Never raises."""
    text = text[:_MAX_PASTED].strip()
    if (found := _EXIM.search(text)) is not None:
        host, verb, text = host or found[1], verb or verb_of(found[2]), found[3]
    else:
        if (found := _IN_REPLY_TO.search(text)) is not None:
            verb, text = verb or verb_of(found[1]), text[: found.start()]
        if (found := _POSTFIX.search(text)) is not None:
            refused = Verb.CONNECT if found[2].startswith("refused") else None
            host, verb, text = host or found[1], verb or refused, found[3]
    try:
        return Question(Reply.of(text, verb or Verb.MAIL), host, verb, True)
    except ReplyError:
        pass
    try:  # lines of different codes, or a tail that is none of the reply
        return Question(Reply.of(" ".join(text.split()), verb or Verb.MAIL), host, verb, True)
    except ReplyError:
        enhanced, rest = parse_enhanced(" ".join(text.split()))
        code = 499 if enhanced is not None and enhanced.klass == 4 else NO_CODE
        return Question(Reply(code, (rest,), enhanced, verb or Verb.MAIL), host, verb, False)


def described(question: Question, answer: Classification) -> dict[str, Any]:
    """All that is known, as one JSON object; what is unknown is left out."""
    reply = question.reply
    whole: dict[str, Any] = {
        "category": answer.category,
        "group": answer.group,
        "confidence": answer.confidence,
        "cause": answer.cause,
        "fix": answer.fix,
        "responsible": answer.responsible,
        "permanence": answer.permanence,
        "class": reply.klass,
        "retry": _should_retry(answer),
        "retry_after": answer.retry_after,
        "scope": answer.scope,
        "provider": answer.provider,
        "blocklist": answer.blocklist,
        "delisting": answer.delisting,
        "alternatives": list(answer.alternatives),
        "rule": answer.rule,
        "matched": answer.matched,
        "reference": answer.reference,
        "reply": {
            "code": reply.code if question.has_code else None,
            "enhanced": str(reply.enhanced) if reply.enhanced else None,
            "text": reply.text,
            "verb": question.verb,
        },
        "note": _note(question),
    }
    return {key: value for key, value in whole.items() if value not in (None, "", [])}


# --- one reply a line ------------------------------------------------------------------------------------------------


def _lines(file: Iterable[bytes]) -> Iterator[str]:
    for line in file:
        if line := line.strip():
            yield line.decode("utf-8", "replace")


def _explain_lines(lines: Iterable[str], classifier: Classifier, host: str, verb: Verb | None) -> None:
    for line in lines:
        print(json.dumps(_line_answer(line, classifier, host, verb), ensure_ascii=False))


def _line_answer(line: str, classifier: Classifier, host: str, verb: Verb | None) -> dict[str, Any]:
    try:
        question = _line_question(line, host, verb)
    except ValueError as error:
        return {"error": str(error), "category": "unknown"}
    began = perf_counter_ns()
    answer = classifier.match(question.reply, question.host, verb_known=question.verb is not None)
    taken_us = (perf_counter_ns() - began) / 1000
    return {**described(question, answer), "taken_us": round(taken_us, 1)}


def _line_question(line: str, host: str, verb: Verb | None) -> Question:
    """ValueError says what is wrong with the line."""
    if not line.startswith("{"):
        return asked(line, host=host, verb=verb)
    try:
        given = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    for key in ("reply", "next_hop", "verb"):
        if not isinstance(given.get(key) or "", str):
            raise ValueError(f"{key} is not a string")
    if not (given.get("reply") or "").strip():
        raise ValueError("no reply in it")
    # a verb that is none of SMTP's (QUIT in a log) is as good as none
    return asked(given["reply"], host=given.get("next_hop") or host, verb=verb_of(given.get("verb") or "") or verb)


# --- for a person ----------------------------------------------------------------------------------------------------


def _should_retry(answer: Classification) -> bool:
    """Whether the same message may get through later without anybody's doing."""
    return answer.permanence == "transient"


_ADVICE: Final[Mapping[str, str]] = {
    "transient": "yes, it passes by itself",
    "until_fixed": "only after the fix",
    "permanent": "no, it will be refused again",
    "message": "not this message as it is",
    "unknown": "the reply does not tell",
}


def _account(question: Question, answer: Classification) -> list[tuple[str, str]]:
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
        ("Block list", listed),
        ("Rule", answer.rule or "none matched"),
        ("Matched", answer.matched),
        ("Reference", answer.reference),
        ("Note", _note(question)),
    ]
    return [(label, clean(value, utf8=True)) for label, value in rows if value]


def _note(question: Question) -> str:
    if question.has_code:
        return ""
    read_as = "4xx, by its enhanced code" if question.reply.klass == 4 else "5xx"
    return f"the text has no reply code; it was read as a {read_as}"


def _panel(question: Question, answer: Classification, *, color: bool) -> None:
    from rich.console import Console
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for label, value in _account(question, answer):
        table.add_row(label, Text(value))
    reply = question.reply
    said = clean(str(reply) if question.has_code else reply.text, utf8=True)
    style = "yellow" if reply.klass == 4 else "red"
    console = Console(no_color=not color, highlight=False)
    console.print(Text(said, style=style))
    console.print(Panel(table, border_style=style, expand=False))


def _unusable(problem: str) -> int:
    print(f"smtpguard explain: {clean(problem, utf8=True)}", file=sys.stderr)
    return _EXIT_USAGE
