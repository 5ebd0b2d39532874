"""`smtpguard lint`: the lint's rules on one message in a file, before it is sent.

    letter.eml:7: CNT005 link-deceptive: a link shows bank.example and leads to evil.example [warning]
      fix: let the text of a link be words ...

Findings go to standard output, in the order of their lines; those that are about no line (the envelope, the DNS) come
first, without one. All else is said on standard error: where sender and recipients were taken from, and the sum. With
--json it is one object. Exit codes: 0, warnings too; 1 for errors; 2 for a message that cannot be read; 75 where the
DNS could not be asked (contract 3).

A file is taken as the message that would be sent: one whose lines all end with LF as if they ended with CRLF. Lines are
those of the file, and so are offsets.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, NamedTuple

from smtpguard.classify import provider_of
from smtpguard.cli.options import EXIT_FINE, EXIT_FOUND, EXIT_TEMPORARY, EXIT_USAGE
from smtpguard.cli.width import columns, folded
from smtpguard.config import ConfigError, FileError
from smtpguard.lint import Finding, Report, Ruleset, Severity, Skipped, Stage
from smtpguard.lint.bulk import is_bulk
from smtpguard.lint.facts import (
    ByProvider,
    Dkim,
    Dmarc,
    DnsFaults,
    Egress,
    HeloSpf,
    LinkListings,
    Missing,
    Now,
    Offers,
    RcptDomain,
    SenderDomain,
    SenderListings,
    Signatures,
    Signing,
    Spf,
)
from smtpguard.mail.message import Message
from smtpguard.mail.reply import clean
from smtpguard.mail.session import Envelope, Recipient
from smtpguard.mailauth import dkim
from smtpguard.mailauth.dns import IpAddress

MAX_OCTETS: Final = 256 << 20
"""Of a file; the largest providers take 150 MB."""


class Unusable(Exception):
    """What cannot be linted; the text says why."""


class Letter(NamedTuple):
    """A message with its envelope. `notes`: where the envelope was taken from."""

    message: Message
    envelope: Envelope
    notes: tuple[str, ...]
    is_lf: bool
    """Its lines end with LF in the file."""


def run(
    name: str,
    *,
    sender: str | None,
    to: Sequence[str],
    egress: Sequence[str],
    as_json: bool,
    color: bool,
    loud: int,
    config: Path | None = None,
    offline: bool = False,
) -> int:
    """Lint the file `name` ("-": standard input); the exit code.

    `sender` None and `to` empty: as the message says. `egress`: addresses that it leaves from, none: those of the
    configuration. `offline`: the DNS is not asked. `loud`: 1 and more adds evidence and predictions, -1 and less leaves
    only the findings.
    """
    try:
        letter = letter_of(_octets(name), sender, to)
        addresses = _addresses(egress)
        report = judged(letter, facts_of(letter, addresses)) if offline else _with_dns(letter, addresses, config)
    except (Unusable, ConfigError, FileError) as error:
        print(f"smtpguard lint: {clean(str(error), utf8=True)}", file=sys.stderr)
        return EXIT_USAGE
    findings = sorted(report.findings, key=lambda finding: (finding.evidence.line or 0, finding.rule))
    if as_json:
        print(json.dumps(_as_object(name, letter, findings, report.skipped)))
    else:
        width = columns()
        for line in lines(clean(name, utf8=True), findings, color=color, loud=loud, width=width):
            print(line)
        if loud >= 0:
            for note in (*letter.notes, *_skips(report.skipped, loud), summary(findings, report.skipped)):
                print(folded(note, width), file=sys.stderr)
    return exit_code(report)


def exit_code(report: Report) -> int:
    """1 for an error; 75 where the DNS could not be asked and nothing else is wrong."""
    if any(finding.severity is Severity.ERROR for finding in report.findings):
        return EXIT_FOUND
    return EXIT_TEMPORARY if any(skipped.why.startswith("dns: ") for skipped in report.skipped) else EXIT_FINE


# --- the message -----------------------------------------------------------------------------------------------------


def _octets(name: str) -> bytes:
    """The file as it is; Unusable where it is no one message."""
    shown = "standard input" if name == "-" else name
    try:
        if name == "-":
            octets = sys.stdin.buffer.read(MAX_OCTETS + 1)
        else:
            with Path(name).open("rb") as file:
                octets = file.read(MAX_OCTETS + 1)
    except OSError as error:
        raise Unusable(f"{shown}: {error.strerror or error}") from None
    if not octets.strip():
        raise Unusable(f"{shown}: is empty")
    if len(octets) > MAX_OCTETS:
        raise Unusable(f"{shown}: is larger than {MAX_OCTETS >> 20} MB")
    if octets.startswith(b"From "):
        raise Unusable(f"{shown}: is a mailbox; give one message, without the line that begins with `From `")
    return octets


def letter_of(octets: bytes, sender: str | None, to: Sequence[str]) -> Letter:
    """A message as it would be sent. `sender` None and `to` empty: taken from its own fields."""
    is_lf = b"\r" not in octets
    message = Message(octets.replace(b"\n", b"\r\n") if is_lf else octets)
    notes: list[str] = []
    if sender is None:
        sender, field = _own_sender(message)
        notes.append(f"note: sender <{sender}>, as {field} says (--from)" if field else "note: no sender (--from)")
    rcpts = list(to)
    if not rcpts:
        named = [box.address for field in (b"to", b"cc", b"bcc") for box in message.mailboxes(field)]
        rcpts = list(dict.fromkeys(filter(None, named)))
        who = f"{len(rcpts)} recipient{'' if len(rcpts) == 1 else 's'}, as To and Cc say" if rcpts else "no recipient"
        notes.append(f"note: {who} (--to)")
    paths = [path.strip().removeprefix("<").removesuffix(">").encode("utf-8", "replace") for path in (sender, *rcpts)]
    envelope = Envelope(paths[0], smtputf8=not all(path.isascii() for path in paths))
    envelope.rcpts = [Recipient(path) for path in paths[1:]]
    return Letter(message, envelope, tuple(clean(note, utf8=True) for note in notes), is_lf)


def _own_sender(message: Message) -> tuple[str, str]:
    """The sender that a message names, and the field that names it; "" for both where none does."""
    path = message.first(b"return-path")
    if path is not None:
        return path.unfolded.decode("utf-8", "replace").strip("<> \t"), "Return-Path"
    for name in ("Sender", "From"):
        for box in message.mailboxes(name.lower().encode()):
            if box.address:
                return box.address, name
    return "", ""


# --- facts and rules -------------------------------------------------------------------------------------------------

NOT_ASKED: Final = Missing("DNS not asked")
NO_EGRESS: Final = Missing("no --egress")
NO_NEXT_HOP: Final = Missing("no next hop")
NO_RECIPIENT: Final = Missing("no recipient")
_BY_DNS: Final = (SenderDomain, RcptDomain, Dkim, Dmarc, SenderListings, LinkListings, DnsFaults)
_BY_EGRESS: Final = (Spf, HeloSpf, Egress)


def _addresses(egress: Sequence[str]) -> tuple[IpAddress, ...]:
    """Unusable where one is no IP address."""
    found: list[IpAddress] = []
    for address in egress:
        try:
            found.append(ip_address(address))
        except ValueError:
            raise Unusable(f"--egress: {address!r} is no IP address") from None
    return tuple(found)


def _with_dns(letter: Letter, addresses: Sequence[IpAddress], config: Path | None) -> Report:
    """As the relay would inspect it; name servers and blocklists are the configuration's."""
    import asyncio

    from smtpguard.cli.asking import own_addresses_of
    from smtpguard.cli.inspecting import inspected
    from smtpguard.config import load_tables

    settings = load_tables(config, os.environ, ("lint", "relay", "next_hop")).settings
    leaving = tuple(addresses) or own_addresses_of(settings)
    report = asyncio.run(inspected(letter.message.raw, letter.envelope, leaving, settings))
    if not leaving:
        report.skipped = [each._replace(why=NO_EGRESS.why) if "egress" in each.why else each for each in report.skipped]
    report.skipped = list(dict.fromkeys(report.skipped))
    return report


def facts_of(letter: Letter, egress: Sequence[IpAddress]) -> dict[type, Any]:
    """What the rules may ask for offline: what needs neither the DNS nor a next hop, and why the rest is missing."""
    facts: dict[type, Any] = dict.fromkeys(_BY_DNS, NOT_ASKED)
    facts |= dict.fromkeys(_BY_EGRESS, NOT_ASKED if egress else NO_EGRESS)
    facts |= {
        Offers: NO_NEXT_HOP,
        Message: letter.message,
        Envelope: letter.envelope,
        Now: Now(time.time()),
        Signing: Signing(),
        Signatures: Signatures(dkim.signatures(letter.message)),
        ByProvider: ByProvider(Counter(provider_of(rcpt.domain) for rcpt in letter.envelope.rcpts)),
    }
    return facts


def judged(letter: Letter, facts: Mapping[type, Any]) -> Report:
    """Every rule asked, those of RCPT once for each recipient; a rule that was skipped for many is named once."""
    ruleset = Ruleset()
    report = Report()
    is_many = is_bulk(letter.message)
    ruleset.run(Stage.MAIL, facts, report)
    for rcpt in letter.envelope.rcpts:
        ruleset.run(Stage.RCPT, {**facts, Recipient: rcpt}, report, rcpt=rcpt.path)
    if not letter.envelope.rcpts:
        ruleset.run(Stage.RCPT, {**facts, Recipient: NO_RECIPIENT}, report)
    for stage in (Stage.DATA, Stage.BACKGROUND):
        ruleset.run(stage, facts, report, is_bulk=is_many)
    report.skipped = list(dict.fromkeys(report.skipped))
    return report


# --- for a person ----------------------------------------------------------------------------------------------------

_WORDS: Final = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
_PAINT: Final = {Severity.ERROR: "\x1b[1;31m", Severity.WARNING: "\x1b[33m", Severity.INFO: "\x1b[36m"}
_DIM: Final = "\x1b[2m"
_PLAIN: Final = "\x1b[0m"


def lines(name: str, findings: Sequence[Finding], *, color: bool, loud: int = 0, width: int = 0) -> Iterator[str]:
    """What is printed of the findings; a fix only with the first that it mends.

    A finding is one line for a program to split; what is below it is folded at `width` columns; 0 folds nothing.
    """
    told: set[str] = set()
    for finding in findings:
        where = name if finding.evidence.line is None else f"{name}:{finding.evidence.line}"
        text = clean(finding.message, utf8=True)
        code, word = finding.rule, f"[{_WORDS[finding.severity]}]"
        if color:
            paint = _PAINT[finding.severity]
            code, word = f"{paint}{code}{_PLAIN}", f"{paint}{word}{_PLAIN}"
        yield f"{where}: {code} {finding.name}: {text} {word}"
        if loud < 0:
            continue
        more: list[tuple[str, str]] = []
        if loud > 0:
            more.append(("seen", finding.evidence.text))
            more += [("says", f"{each.by}: {each.says}") for each in finding.predicts]
            more.append(("see", finding.reference))
        if finding.fix not in told:
            told.add(finding.fix)
            more.append(("fix", finding.fix))
        for label, value in more:
            if value:
                line = folded(f"  {label}: {clean(value, utf8=True)}", width, indent=4 + len(label))
                yield f"{_DIM}{line}{_PLAIN}" if color else line


def summary(findings: Sequence[Finding], skipped: Sequence[Skipped]) -> str:
    """`3 errors, 1 warning, 2 notes; 12 rules skipped: no --egress`."""
    counts = Counter(finding.severity for finding in findings)
    told = ", ".join(_many(counts[severity], word) for severity, word in _WORDS.items() if counts[severity])
    if not skipped:
        return told or "nothing found"
    reasons = Counter(each.why.partition(":")[0] for each in skipped)
    if len(reasons) == 1:
        why = next(iter(reasons))
    else:
        why = ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
    return clean(f"{told or 'nothing found'}; {_many(len({each.rule for each in skipped}), 'rule')} skipped: {why}")


def _skips(skipped: Sequence[Skipped], loud: int) -> Iterator[str]:
    """Which rules were skipped, by reason; told where more is wanted."""
    reasons: dict[str, list[str]] = {}
    for each in skipped if loud > 0 else ():
        reasons.setdefault(each.why, []).append(each.rule)
    for why, codes in reasons.items():
        yield clean(f"note: skipped, {why}: {' '.join(sorted(codes))}", utf8=True)


def _many(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


# --- for a program ---------------------------------------------------------------------------------------------------


def _as_object(name: str, letter: Letter, findings: Sequence[Finding], skipped: Sequence[Skipped]) -> dict[str, Any]:
    """Contract 3: what is not known is left out."""
    return {
        "file": name,
        "mail_from": letter.envelope.mail_from.decode("utf-8", "replace"),
        "rcpts": [rcpt.path.decode("utf-8", "replace") for rcpt in letter.envelope.rcpts],
        "findings": [_described(finding, is_lf=letter.is_lf) for finding in findings],
        "skipped": [{"rule": each.rule, "why": each.why} for each in skipped],
    }


def _described(finding: Finding, *, is_lf: bool) -> dict[str, Any]:
    line, offset = finding.evidence.line, finding.evidence.offset
    if is_lf and line is not None and offset is not None:
        offset -= line - 1  # the file has no CR at the end of the lines before
    whole: dict[str, Any] = {
        "rule": finding.rule,
        "name": finding.name,
        "severity": finding.severity.value,
        "message": finding.message,
        "fix": finding.fix,
        "line": line,
        "offset": offset,
        "evidence": finding.evidence.text or None,
        "rcpt": finding.rcpt.decode("utf-8", "replace") if finding.rcpt is not None else None,
        "category": finding.category,
        "predicts": [{"by": each.by, "says": each.says} for each in finding.predicts],
        "reference": finding.reference,
        "source": finding.source,
        "ttl": finding.ttl,
    }
    return {key: value for key, value in whole.items() if value is not None}
