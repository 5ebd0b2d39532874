"""`smtpguard config ...`: what is wrong with a configuration, what is in force and why, what there is to write.

Starts nothing and connects to nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from smtpguard.config import ConfigError, Loaded, NextHopSettings, Problem, load


def test(path: Path | None, environ: Mapping[str, str], *, as_json: bool, color: bool, quiet: bool) -> int:
    """`config test`: 0 with what will be used on stdout, or 2 with all mistakes on stderr; warnings on stderr.

    `as_json`: one object on stdout instead, `{"ok", "file", "problems": [{"file", "line", "key", "message"}],
    "warnings": [...]}`. `color` is for stderr; `quiet` leaves out warnings and what will be used.
    """
    loaded: Loaded | None = None
    problems: tuple[Problem, ...] = ()
    try:
        loaded = load(path, environ)
    except ConfigError as error:
        problems = error.problems
    warnings = loaded.warnings if loaded else ()
    if as_json:
        file = str(loaded.path) if loaded and loaded.path else None
        print(json.dumps({"ok": loaded is not None, "file": file, **_listed(problems=problems, warnings=warnings)}))
    else:
        for problem in problems:
            print(_marked("error", problem, "\x1b[31m", color=color), file=sys.stderr)
        for warning in () if quiet else warnings:
            print(_marked("warning", warning, "\x1b[33m", color=color), file=sys.stderr)
        if loaded and not quiet:
            print("\n".join(_summary(loaded)))
    return 0 if loaded else 2


def show(path: Path | None, environ: Mapping[str, str], *, written: bool, as_json: bool) -> int:
    """`config show`: 0 with every key in force on stdout, or 2 with all mistakes on stderr.

    As a TOML file with the origin of each key behind it; `as_json`: `{"listen.smtp": {"value", "origin"}}`. `written`
    leaves out what nobody has set.
    """
    from smtpguard.config import show

    try:
        loaded = load(path, environ)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    found = [one for one in show.shown(loaded.settings, loaded.origin) if not (written and one.is_default)]
    print(json.dumps(show.as_json(found), ensure_ascii=False) if as_json else show.toml(found), end="")
    if as_json:
        print()
    return 0


def schema() -> int:
    """`config schema`: 0 with the JSON Schema of the file on stdout."""
    from smtpguard.config.schema import schema

    print(json.dumps(schema(), indent=2, ensure_ascii=False))
    return 0


def _listed(**found: Iterable[Problem]) -> dict[str, list[dict[str, object]]]:
    return {name: [asdict(problem) for problem in problems] for name, problems in found.items()}


def _marked(word: str, problem: Problem, start: str, *, color: bool) -> str:
    """A mistake is its line alone, as compilers write it; a warning says that it is one."""
    lead = "" if word == "error" else f"{word}: "
    return f"{start}{lead}{problem}\x1b[0m" if color else f"{lead}{problem}"


def _summary(loaded: Loaded) -> Iterator[str]:
    """What will be used, a line each: doors, HTTP, next hops, routes."""
    settings = loaded.settings
    yield f"ok: {loaded.path or 'defaults and environment, no file'}"
    for name, addresses in (("lmtp", settings.listen.lmtp), ("smtp", settings.listen.smtp)):
        yield f"  {name:<9} {', '.join(map(str, addresses)) or 'off'}"
    yield f"  {'http':<9} {settings.http.listen or 'off'}"
    for name, hop in settings.next_hop.items():
        yield f"  {'next hop':<9} {name}: {_described(hop)}"
    for route in settings.route:
        conditions = [f"to {', '.join(route.recipient_domain)}"] if route.recipient_domain else []
        conditions += [f"from {', '.join(route.sender_domain)}"] if route.sender_domain else []
        yield f"  {'route':<9} {' '.join(conditions) or 'all'}: {route.next_hop}"


def _described(hop: NextHopSettings) -> str:
    if hop.host == ("sandbox",):
        return "the sandbox: no mail leaves this machine"
    login = f", login as {hop.username}" if hop.username else ""
    return f"{', '.join(hop.host)} port {hop.port}, tls {hop.tls}{login}"
