"""`smtpguard check`: can smtpguard work here? A line for each thing looked at, the remedy below what is not well.

The order is that of the questions an operator has: is the file right, can we listen, does this machine do, can the
history be kept, does the next hop take our mail, does the DNS say of us what receivers want. Nothing is changed and no
mail is sent; the longest check ends after about half a minute.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from smtpguard.cli import machine, store
from smtpguard.cli.egress import dns_findings
from smtpguard.cli.finding import Finding, exit_code, line
from smtpguard.cli.outward import probe_mx
from smtpguard.cli.probe import probe
from smtpguard.cli.width import columns
from smtpguard.config import ConfigError, Settings, load
from smtpguard.edge.host import own_name, spool_dir
from smtpguard.mail.address import SyntaxRefused, parse_rcpt
from smtpguard.mail.session import Recipient
from smtpguard.service.memory import place


def run(
    path: Path | None,
    environ: Mapping[str, str],
    *,
    offline: bool,
    rcpt: str,
    as_json: bool,
    color: bool,
    quiet: bool,
) -> int:
    """The exit code: 0 fine or warnings, 1 a problem, 2 a configuration that cannot be used, 75 it may pass by itself.

    `as_json`: one object, `{"ok", "checks": [{"name", "state", "message", "remedy"}]}`; else a line each as it is
    found, with `quiet` only what is not ok.
    """
    try:
        recipient = parse_rcpt(f"TO:<{rcpt}>".encode()) if rcpt else None
    except SyntaxRefused:
        print(f"smtpguard check: --rcpt: {rcpt!r} is no address", file=sys.stderr)
        return 2
    found: list[Finding] = []
    is_usable = True
    for finding in _findings(path, environ, offline=offline, rcpt=recipient):
        found.append(finding)
        is_usable &= not (finding.name == "config" and finding.state == "fail")
        if not as_json and not (quiet and finding.state in ("ok", "skip")):
            print(line(finding, color=color, width=columns()), flush=True)
    code = exit_code(found) if is_usable else 2
    if as_json:
        checks = [{k: v for k, v in finding._asdict().items() if k != "is_temporary"} for finding in found]
        print(json.dumps({"ok": code == 0, "checks": checks}))
    elif not quiet:
        counts = {state: sum(finding.state == state for finding in found) for state in ("fail", "warn")}
        print(
            "\n"
            + ("All is well." if not any(counts.values()) else f"{counts['fail']} failed, {counts['warn']} to mind.")
        )
    return code


def _findings(
    path: Path | None, environ: Mapping[str, str], *, offline: bool, rcpt: Recipient | None
) -> Iterator[Finding]:
    try:
        loaded = load(path, environ)
    except ConfigError as error:
        for problem in error.problems:
            yield Finding("config", "fail", str(problem), "correct it; `smtpguard config sample` shows every key")
        return
    yield Finding("config", "ok", str(loaded.path or "no file: defaults and environment"))
    for warning in loaded.warnings:
        yield Finding("config", "warn", str(warning))
    settings = loaded.settings
    hostname = settings.relay.hostname or own_name()
    yield from machine.ports(settings)
    yield from machine.names(hostname, is_set=bool(settings.relay.hostname), offline=offline)
    yield from machine.spool(spool_dir(settings.relay.spool_dir), settings)
    yield store.looked_at(*place(settings), offline=offline)
    yield from machine.descriptors(settings)
    yield from machine.clock()
    if offline:
        for name in settings.next_hop:
            yield Finding(f"next_hop.{name}", "skip", "was not asked")
        yield Finding("resolver", "skip", "was not asked")
    else:
        yield from asyncio.run(next_hops(settings, hostname, rcpt=rcpt))
        yield from asyncio.run(dns_findings(settings))


async def next_hops(settings: Settings, hostname: str, *, rcpt: Recipient | None = None) -> list[Finding]:
    """All next hops, side by side."""
    size = settings.listen.max_message_size
    resolvers = settings.lint.dns.resolvers
    asked = (
        probe_mx(name, hop, hostname, resolvers, rcpt=rcpt, max_size=size)
        if hop.is_mx
        else probe(name, hop, hostname, rcpt=rcpt, max_size=size)
        for name, hop in settings.next_hop.items()
    )
    return [finding for found in await asyncio.gather(*asked) for finding in found]
