"""`smtpguard audit`: what receivers will find of a sender's domain, the verdict first, then what it rests on.

    warn  example.com: mail passes; 1 thing to mend
      ok    spf        v=spf1 ip4:203.0.113.0/24 -all: 0 of 10 look-ups, 0 of 2 that find nothing
      warn  dmarc      v=DMARC1; p=none: none for mail that fails: anybody may use the domain in From
                     > read the reports; when all your mail passes, set p=quarantine ...

A tree on a terminal, lines in a pipe, with --json one object a domain and line. What is judged and how: `audit/`. Exit
codes: 0, warnings too; 1 for an error; 2 for what is no domain; 75 where the DNS did not answer and no error was found
(contract 3).
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from rich.text import Text
from rich.tree import Tree

from smtpguard.audit import Audit, Branch, Line, audit, own_addresses
from smtpguard.audit.line import About
from smtpguard.cli.asking import Asking, asking, own_addresses_of
from smtpguard.cli.options import EXIT_FINE, EXIT_FOUND, EXIT_TEMPORARY, EXIT_USAGE
from smtpguard.cli.summary import console
from smtpguard.config import ConfigError, load_tables
from smtpguard.config.secrets import FileError
from smtpguard.edge.dnsquery import server
from smtpguard.mail.domain import to_ascii
from smtpguard.mail.reply import clean
from smtpguard.mailauth.dns import IpAddress

TABLES: Final = ("sender", "lint", "next_hop", "relay")
_COLUMN: Final = 10
_TITLES: Final[Mapping[About, str]] = {
    "spf": "SPF",
    "dkim": "DKIM",
    "dmarc": "DMARC",
    "mx": "Mail hosts",
    "mta-sts": "MTA-STS",
    "tlsrpt": "TLSRPT",
    "dane": "DANE",
    "bimi": "BIMI",
    "egress": "Our own addresses",
    "blocklist": "Blocklists",
    "dns": "DNS",
}
_STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "bold red", "skip": "dim", "unknown": "yellow"}


class Unusable(Exception):
    """What cannot be audited; the text says why."""


def run(
    domains: Sequence[str],
    path: Path | None,
    environ: Mapping[str, str],
    *,
    egress: Sequence[str],
    selectors: Sequence[str],
    public_resolver: str,
    as_json: bool,
    color: bool,
    loud: int,
) -> int:
    """Audit the domains, or those of [sender] where none is given; the exit code.

    `egress`: our addresses, none: those of the next hops. `selectors`: of DKIM. `public_resolver`: asked as well, "":
    none. `loud`: -1 and less leaves verdict and problems.
    """
    try:
        loaded = load_tables(path, environ, TABLES)
        settings = loaded.settings
        names = named_domains(domains, settings.sender.domains)
        addresses = _addresses(egress) or own_addresses_of(settings)
        _check_server(public_resolver)
        show = _print_object if as_json else _Printer(color=color, loud=loud).show
        given = partial(asking, settings, public_resolver=public_resolver, is_here=loaded.path is not None)
        return asyncio.run(_audits(given, names, addresses, selectors, show))
    except ConfigError as error:
        print(error, file=sys.stderr)
    except (Unusable, FileError) as error:
        print(f"smtpguard audit: {clean(str(error), utf8=True)}", file=sys.stderr)
    return EXIT_USAGE


async def _audits(
    asking: Callable[[], AbstractAsyncContextManager[Asking]],
    names: Sequence[str],
    addresses: Sequence[IpAddress],
    selectors: Sequence[str],
    show: Callable[[Audit], object],
) -> int:
    """Audit one after the other, and show each as soon as it is done; the exit code."""
    done: list[Audit] = []
    async with asking() as given:
        own = await own_addresses(given.terms(names[0], addresses))
        for name in names:
            found = await audit(name, given.terms(name, addresses, selectors))
            done.append(replace(found, lines=found.lines + own))
            show(done[-1])
    return exit_code(done)


def exit_code(audits: Iterable[Audit]) -> int:
    """1 for an error; 75 where some answer is not there and nothing else is wrong."""
    audits = list(audits)
    if any(each.verdict == "fail" for each in audits):
        return EXIT_FOUND
    return EXIT_TEMPORARY if any(each.is_temporary for each in audits) else EXIT_FINE


def named_domains(given: Sequence[str], own: Sequence[str]) -> list[str]:
    """The domains to audit, in A-labels: those given, else our own but for patterns; Unusable where there is none."""
    names = [to_ascii(each) for each in given] or [each for each in own if "*" not in each]
    wrong = next((each for each, name in zip(given, names, strict=False) if "." not in name), None)
    if wrong is not None:
        raise Unusable(f"{wrong!r} is no domain name such as example.com")
    if not names:
        raise Unusable("name a domain, as in: smtpguard audit example.com; or set [sender] domains")
    return list(dict.fromkeys(names))


def _addresses(texts: Sequence[str]) -> tuple[IpAddress, ...]:
    try:
        return tuple(dict.fromkeys(map(ip_address, texts)))
    except ValueError as error:
        raise Unusable(f"--egress: {error}") from None


def _check_server(text: str) -> None:
    try:
        if text:
            server(text)
    except ValueError as error:
        raise Unusable(f"--public-resolver: {error}") from None


# --- for a person ----------------------------------------------------------------------------------------------------


class _Printer:
    """Prints audits one after the other; of our own addresses only once. `loud` -1: verdict and problems."""

    def __init__(self, *, color: bool, loud: int) -> None:
        self._color = color
        self._loud = loud
        self._told: set[Line] = set()

    def show(self, found: Audit) -> None:
        """Print one: a tree on a terminal, lines in a pipe."""
        lines = [line for line in found.lines if line not in self._told]
        self._told.update(line for line in found.lines if line.about == "egress")
        if self._loud < 0:
            lines = [line for line in lines if line.state in ("warn", "fail")]
        if sys.stdout.isatty():
            console(color=self._color).print(drawn(found, lines))
        else:
            for text in plain(found, lines):
                print(text)
        records = list(dict.fromkeys(record for line in lines for record in line.records))
        if records and self._loud >= 0:
            print("\nRecords to publish:")
            for record in records:  # whole, to be copied
                print(f"  {clean(record, utf8=True)}")
        print(flush=True)


def plain(found: Audit, lines: Iterable[Line]) -> Iterator[str]:
    """A line for each thing, fix and tree below it; the verdict above all."""
    yield clean(f"{found.verdict:<5} {found.domain}: {found.summary}", utf8=True)
    told = {""}
    for line in lines:
        yield f"  {line.state:<5} {line.about:<{_COLUMN}} {clean(line.message, utf8=True)}"
        for branch in line.tree:
            yield f"{'':{_COLUMN + 9}}{'  ' * (branch.depth + 1)}{_branch(branch)}"
        if line.fix not in told:  # what mends several is told once
            told.add(line.fix)
            yield f"{'':{_COLUMN + 9}}> {clean(line.fix, utf8=True)}"


def _branch(branch: Branch) -> str:
    return clean(f"{branch.text}  [{branch.note}]" if branch.note else branch.text, utf8=True)


def drawn(found: Audit, lines: Iterable[Line]) -> Tree:
    """The same as a tree: verdict, topics, what was found of each, and below it the records that it rests on."""
    head = Text.assemble((found.domain, "bold"), ": ", (clean(found.summary, utf8=True), _STYLES[found.verdict]))
    root = Tree(head, guide_style="dim")
    told = {""}
    for about, group in groupby(lines, key=lambda line: line.about):
        topic = root.add(Text(_TITLES[about], "bold"))
        for line in group:
            state = (f"{line.state:<4} ", _STYLES[line.state])
            below = topic.add(Text.assemble(state, clean(line.message, utf8=True)))
            _grow(below, line.tree)
            if line.fix not in told:
                told.add(line.fix)
                below.add(Text(f"> {clean(line.fix, utf8=True)}", "cyan"))
    return root


def _grow(below: Tree, branches: Iterable[Branch]) -> None:
    at = [below]
    for branch in branches:
        del at[branch.depth + 1 :]
        note = (f"  {clean(branch.note, utf8=True)}", "dim")
        at.append(at[-1].add(Text.assemble(clean(branch.text, utf8=True), note)))


# --- for a program ---------------------------------------------------------------------------------------------------


def _print_object(found: Audit) -> None:
    print(json.dumps(as_object(found)), flush=True)


def as_object(found: Audit) -> dict[str, Any]:
    """Contract 3: what is empty is left out of a finding."""
    return {
        "domain": found.domain,
        "verdict": found.verdict,
        "summary": found.summary,
        "findings": [_described(line) for line in found.lines],
    }


def _described(line: Line) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "about": line.about,
        "state": line.state,
        "message": line.message,
        "fix": line.fix,
        "publish": list(line.records),
        "rule": line.rule,
        "temporary": line.is_temporary,
        "tree": [branch._asdict() for branch in line.tree],
    }
    return {name: value for name, value in whole.items() if value}
