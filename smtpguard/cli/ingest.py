"""`smtpguard ingest`: bounces and complaints become log lines, `event.action` "notice-received" (contract 4).

Where a provider takes all mail and refuses later, its DSNs are the only refusals there are; this reads them, one line a
recipient, with the same fields as `recipient-refused`, and those of `FIELDS` beside them. Made to be the end of a pipe
in an alias: a log that cannot be written is "try again", and all lines of a message are written at once.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from smtpguard.classify import Classification, Classifier, RuleError, load
from smtpguard.classify.notice import REFUSED, Notice, read_message
from smtpguard.cli.options import EXIT_FINE, EXIT_FOUND, EXIT_TEMPORARY, EXIT_USAGE
from smtpguard.cli.source import Source, Unreadable
from smtpguard.cli.tally import many, rfc3339
from smtpguard.config import ConfigError, host_key, load_tables, rule_files
from smtpguard.edge.log import LEVELS, Render, console_line, json_line
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
        settings = load_tables(config, environ, ("classify", "privacy", "log")).settings
        classifier = load(rule_files(settings.classify.rules))
    except (ConfigError, RuleError) as error:
        return _failed(str(error), EXIT_USAGE)
    render = console_line if settings.log.format == "console" and not as_json else json_line
    writer = _Writer(
        classifier, Masker(settings.privacy.addresses, host_key()), render, LEVELS[settings.log.level], log
    )
    count = _Count()
    try:
        for name in names:
            with Source(name, sys.stdin.buffer if name == "-" else None) as source:
                if source.kind not in ("message", "mbox", "folder"):
                    count.others += 1
                for octets in source.messages():
                    count.add(notices := read_message(octets))
                    writer.write(notices)
    except Unreadable as error:
        return _failed(str(error), EXIT_USAGE)
    except OSError as error:  # no room, a log that was taken away: the message is kept by who has it
        return _failed(f"{log or 'standard output'}: {error.strerror or error}", EXIT_TEMPORARY)
    finally:
        writer.close()
    if not quiet:
        print(count, file=sys.stderr)
    return EXIT_FINE if count.actions else EXIT_FOUND


class _Count:
    """What was read."""

    def __init__(self) -> None:
        self.messages = 0
        self.others = 0
        self.actions: Counter[str] = Counter()

    def add(self, notices: Sequence[Notice]) -> None:
        self.messages += 1
        self.others += not notices
        self.actions.update(notice.action for notice in notices)

    def __str__(self) -> str:
        told = ", ".join(f"{action} {count:,}" for action, count in self.actions.most_common()) or "none"
        others = f"; {self.others:,} that told nothing" if self.others else ""
        return f"{many(self.actions.total(), 'notice')} in {many(self.messages, 'message')} ({told}){others}"


class _Writer:
    """Writes the lines of a message together, so that many processes may share a log."""

    def __init__(
        self, classifier: Classifier, masker: Masker, render: Render, threshold: int, log: Path | None
    ) -> None:
        self._classifier = classifier
        self._masker = masker
        self._render = render
        self._threshold = threshold
        self._log = log
        self._descriptor: int | None = None

    def write(self, notices: Sequence[Notice]) -> None:
        """OSError where the log cannot be written."""
        lines = b"".join(self._line(notice) for notice in notices)
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

    def _line(self, notice: Notice) -> bytes:
        meaning: Classification | None = None
        if notice.reply is not None and notice.action in REFUSED:
            meaning = self._classifier.match(notice.reply, notice.host, verb_known=notice.verb is not None)
        level: Level = "info" if meaning is None and notice.action != "complaint" else "warning"
        if LEVELS[level] < self._threshold:
            return b""
        words, fields = _message(notice, meaning), event(notice, meaning, self._masker)
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
