"""`smtpguard ingest`: bounces and complaints become log lines and a part of the history.

Where a provider takes all mail and refuses later, its DSNs are the only refusals there are; this reads them, one line a
recipient, `event.action` "notice-received" (contract 4), with the same fields as `recipient-refused`, and those of
`FIELDS` beside them. The history keeps a notice once, however often it is read (rows.py). Made to be the end of a pipe
in an alias: a log or a history that cannot be written now is "try again", and all lines of a message are written at
once. A history that is not there (a host that only logs, store.url = "") is none: it is said, and the log is all.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from smtpguard.classify import Classification, Classifier, RuleError, load
from smtpguard.classify.notice import REFUSED, Notice, read_message
from smtpguard.cli.options import EXIT_FINE, EXIT_FOUND, EXIT_TEMPORARY, EXIT_USAGE
from smtpguard.cli.source import Source, Unreadable
from smtpguard.cli.store import opened
from smtpguard.cli.tally import many, rfc3339
from smtpguard.config import ConfigError, Settings, host_key, load_tables, rule_files
from smtpguard.edge.log import LEVELS, Render, console_line, json_line
from smtpguard.history import Away, Database, Engine, StoreError, engine_of, schema
from smtpguard.history.database import Unfit
from smtpguard.history.rows import of_notice
from smtpguard.history.writing import keep
from smtpguard.mail.reply import clean
from smtpguard.record import Level, Masker, meant, said_fields

FIELDS: Final[Mapping[str, str]] = {
    "smtpguard.notice.kind": "dsn, bounce (of another form than RFC 3464) or arf",
    "smtpguard.notice.action": "failed, delayed, delivered, relayed, expanded; complaint",
    "smtpguard.notice.at": "when it happened, as the notice says; @timestamp is when it was read",
    "smtpguard.notice.feedback": "of a complaint: its Feedback-Type (RFC 5965 3.1)",
}


def run(
    names: Sequence[str],
    config: Path | None,
    environ: Mapping[str, str],
    *,
    log: Path | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Read each of `names` ("-": standard input); the exit code.

    Lines go to `log`, appended, else to standard output, in JSON unless [log] format is "console"; a summary goes to
    standard error unless `quiet`.
    """
    try:
        settings = load_tables(config, environ, ("classify", "privacy", "log", "store")).settings
        classifier = load(rule_files(settings.classify.rules))
    except (ConfigError, RuleError) as error:
        return _failed(str(error), EXIT_USAGE)
    render = console_line if settings.log.format == "console" and not as_json else json_line
    writer = _Writer(render, LEVELS[settings.log.level], log)
    count = _Count()
    try:
        with _history(settings) as history:
            count.not_kept = history.why_not
            masker = Masker(settings.privacy.addresses, history.key)
            for name in names:
                with Source(name, sys.stdin.buffer if name == "-" else None) as source:
                    if source.kind not in ("message", "mbox", "folder"):
                        count.others += 1
                    for octets in source.messages():
                        heard = [Heard(notice, _meaning(classifier, notice)) for notice in read_message(octets)]
                        count.add(heard, history.keep(heard, masker))
                        writer.write(heard, masker)
    except Unreadable as error:
        return _failed(str(error), EXIT_USAGE)
    except StoreError as error:  # the message is kept by who has it, and read again; what is kept already stays once
        return _failed(str(error), EXIT_TEMPORARY)
    except OSError as error:  # no room, a log that was taken away
        return _failed(f"{log or 'standard output'}: {error.strerror or error}", EXIT_TEMPORARY)
    finally:
        writer.close()
    if not quiet:
        print(count, file=sys.stderr)
    return EXIT_FINE if count.actions else EXIT_FOUND


class Heard(NamedTuple):
    """A notice, and what its refusal means; None where it is none."""

    notice: Notice
    meaning: Classification | None


def _meaning(classifier: Classifier, notice: Notice) -> Classification | None:
    if notice.reply is None or notice.action not in REFUSED:
        return None
    return classifier.match(notice.reply, notice.host, verb_known=notice.verb is not None)


class _History:
    """Where notices are kept, if anywhere, or why not; `key` is that of hashed addresses."""

    def __init__(self, database: Database | None, key: bytes, why_not: str = "") -> None:
        self._database = database
        self.key = key
        self.why_not = why_not

    def keep(self, heard: Sequence[Heard], masker: Masker) -> int:
        """Keep the notices of a message; how many were not kept before. StoreError where that cannot be done now."""
        if self._database is None or not heard:
            return 0
        now = time.time()
        try:
            return keep(self._database, [of_notice(*each, masker, now) for each in heard])
        except Unfit:  # not later either: the log has it
            return 0


@contextmanager
def _history(settings: Settings) -> Iterator[_History]:
    """The history of the configuration, where this user may write it; Away where it cannot be had now."""
    url, key = settings.store.url, host_key()
    database: Database | None = None
    why_not = ""
    with ExitStack() as stack:
        try:
            if url:
                _must_be_ours(engine_of(url))
                database = stack.enter_context(opened(url))
                key = schema.address_key(database, key)
        except Away:
            raise
        except StoreError as error:
            why_not = clean(str(error), utf8=True)
        yield _History(database, key, why_not)


def _must_be_ours(engine: Engine) -> None:
    """StoreError for a file that is not there, or another user's: a pipe of an MTA's may run as anybody."""
    if engine.name == "sqlite" and not os.access(engine.where, os.W_OK):
        raise StoreError(f"{engine.where}: there is none yet, or this user may not write it")


class _Count:
    """What was read."""

    def __init__(self) -> None:
        self.messages = 0
        self.others = 0
        self.kept = 0
        self.not_kept = ""
        self.actions: Counter[str] = Counter()

    def add(self, heard: Sequence[Heard], kept: int) -> None:
        self.messages += 1
        self.others += not heard
        self.kept += kept
        self.actions.update(notice.action for notice, _ in heard)

    def __str__(self) -> str:
        told = ", ".join(f"{action} {count:,}" for action, count in self.actions.most_common()) or "none"
        others = f"; {self.others:,} that told nothing" if self.others else ""
        kept = f"; {self.kept:,} new in the history" if self.kept else ""
        kept = f"; not in the history: {self.not_kept}" if self.not_kept else kept
        return f"{many(self.actions.total(), 'notice')} in {many(self.messages, 'message')} ({told}){others}{kept}"


class _Writer:
    """Writes the lines of a message together, so that many processes may share a log."""

    def __init__(self, render: Render, threshold: int, log: Path | None) -> None:
        self._render = render
        self._threshold = threshold
        self._log = log
        self._descriptor: int | None = None

    def write(self, heard: Sequence[Heard], masker: Masker) -> None:
        """OSError where the log cannot be written."""
        lines = b"".join(self._line(*each, masker) for each in heard)
        if not lines:
            return
        if self._log is None:
            sys.stdout.buffer.write(lines)
            sys.stdout.flush()
            return
        if self._descriptor is None:
            self._descriptor = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        while lines:
            lines = lines[os.write(self._descriptor, lines) :]

    def close(self) -> None:
        """Let go of the log."""
        if self._descriptor is not None:
            os.close(self._descriptor)

    def _line(self, notice: Notice, meaning: Classification | None, masker: Masker) -> bytes:
        level: Level = "info" if meaning is None and notice.action != "complaint" else "warning"
        if LEVELS[level] < self._threshold:
            return b""
        words, fields = _message(notice, meaning), event(notice, meaning, masker)
        return self._render(time.time(), level, "notice-received", words, fields)


def _message(notice: Notice, meaning: Classification | None) -> str:
    """As in `failed by mx.example.net: 550 5.1.1 (recipient.unknown)`."""
    if notice.action == "complaint":
        return f"complaint: {clean(notice.feedback)}"
    by = f" by {clean(notice.host)}" if notice.host else ""
    if notice.reply is None or meaning is None:
        return f"{notice.action}{by}"
    code = f"{notice.reply.code} " if notice.has_code else ""
    return f"{notice.action}{by}: {code}{notice.reply.enhanced or ''}".rstrip() + f" ({meaning.category})"


def event(notice: Notice, meaning: Classification | None, masker: Masker) -> dict[str, object]:
    """The flat fields of a notice's line (record.FIELDS and FIELDS); never null."""
    recipient, sender = (text.encode("utf-8", "replace") for text in (notice.recipient, notice.sender))
    paths = tuple(path for path in (recipient, sender) if path)
    fields: dict[str, object] = {
        "event.id": clean(notice.id),
        "event.outcome": "failure" if notice.action in REFUSED else "success",
        "smtpguard.notice.kind": notice.kind,
        "smtpguard.notice.action": notice.action,
        "smtpguard.notice.at": rfc3339(notice.when),
        "smtpguard.notice.feedback": clean(notice.feedback),
        "smtp.verb": notice.verb.value if notice.verb is not None else None,
        "smtp.rcpt_to": masker.show(recipient) if recipient else None,
        "smtp.rcpt_id": masker.id(recipient) if recipient else None,
        "smtp.mail_from": masker.show(sender) if sender else None,
        "smtp.queue_id": clean(notice.queue_id),
        "email.message_id": clean(notice.message_id[:1000]),
        "server.address": clean(notice.host),
    }
    if notice.reply is not None and meaning is not None:
        fields |= said_fields(notice.reply, masker, paths) | meant(meaning, masker, paths)
        if not notice.has_code:
            del fields["smtp.reply.code"]
    return {key: value for key, value in fields.items() if value not in (None, "")}


def _failed(problem: str, code: int) -> int:
    for line in problem.splitlines():
        print(f"smtpguard ingest: {clean(line, utf8=True)}", file=sys.stderr)
    return code
