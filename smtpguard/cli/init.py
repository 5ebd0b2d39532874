"""`smtpguard init`: write a configuration, and say what to change in the MTA and how to change it back.

    init --next-hop HOST          writes smtpguard.toml from the options
    init --from-postfix           makes Postfix's relayhost our next hop (plan.py); changes nothing in Postfix
    init --from-postfix --apply   asks the next hop whether it takes us (probe.py), then changes Postfix (apply.py)
    init --undo                   gives Postfix its files back

Nothing is asked on the terminal. A file that is there is kept unless --force is given; with --from-postfix it is then
used as it is. Passwords go from Postfix's table into a file of mode 0600, and nowhere else.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import fill
from typing import Final, get_args

from pydantic import SecretStr

from smtpguard.cli import apply
from smtpguard.cli.plan import CannotPlan, Command, Key, Plan, hand_over, plan, shell
from smtpguard.cli.postfix import Facts, Postfix, PostfixError, host_and_port
from smtpguard.config import ConfigError, Loaded, load
from smtpguard.config.settings import Tls

PLACE: Final = Path("/etc/smtpguard/smtpguard.toml")
PASSWORD: Final = "password"  # noqa: S105 - the name of the file, beside smtpguard.toml
_COLUMN: Final = 44
_WIDTH: Final = 100


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line."""

    config: Path | None = None
    from_postfix: bool = False
    apply: bool = False
    undo: bool = False
    postfix_config: Path | None = None
    next_hop: str = ""
    tls: str = ""
    username: str = ""
    password_file: Path | None = None
    hostname: str = ""
    force: bool = False
    unchecked: bool = False
    as_json: bool = False


@dataclass(slots=True)
class Done:
    """What came of it, as it is printed or given as JSON."""

    config: str = ""
    wrote: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    plan: Plan = field(default_factory=Plan)
    applied: bool = False
    running: bool = False


class CannotInit(Exception):
    """Nothing was changed that is not said; the text says why, and what to do. `code` is the exit code."""

    def __init__(self, why: str, code: int = 2) -> None:
        super().__init__(why)
        self.code = code


def run(options: Options, environ: Mapping[str, str]) -> int:
    """The exit code: 0, 1 where `--apply` found a reason not to, 2 where it could not be done, 75 try again."""
    try:
        if options.undo:
            return _undo(options)
        return _from_postfix(options, environ) if options.from_postfix else _from_options(options, environ)
    except (CannotInit, CannotPlan, PostfixError, ConfigError, apply.NotApplied, ValueError) as error:
        print(f"smtpguard init: {error}", file=sys.stderr)
        return error.code if isinstance(error, CannotInit) else 2
    except OSError as error:
        print(f"smtpguard init: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2


def _undo(options: Options) -> int:
    postfix = Postfix(options.postfix_config)
    is_running = apply.undo(postfix, force=options.force)
    if options.as_json:
        print(json.dumps({"undone": True, "running": is_running}))
    else:
        print(f"{postfix.directory}: main.cf and master.cf are what they were before.")
        print(
            "Postfix has taken them over; `postqueue -f` sends what waits." if is_running else "Postfix does not run."
        )
    return 0


# --- from options ----------------------------------------------------------------------------------------------


def _from_options(options: Options, environ: Mapping[str, str]) -> int:
    if not options.next_hop:
        raise CannotInit("--next-hop HOST[:PORT] says who takes the mail; or --from-postfix takes what Postfix has")
    done = Done(config=str(_place(options, environ)))
    found = [
        host_and_port(text, "0") if ":" in text or text[:1] == "[" else (text, 0, True) for text in _split(options)
    ]
    made = done.plan
    made.hosts = [host for host, _, _ in found]
    ports = {port for _, port, _ in found if port}
    if len(ports) > 1:
        raise CannotInit("a next hop has one port: give the same for all its hosts")
    written = made.hosts[0] if len(made.hosts) == 1 else made.hosts
    made.keys.append(Key("next_hop.default", "host", written, "who takes all mail"))
    made.keys += [Key("next_hop.default", "port", port, "") for port in ports]
    _with_options(made, options, done)
    _write(done, options, environ, header=f"# Written by `smtpguard init --next-hop {options.next_hop}`.")
    if options.as_json:
        print(json.dumps(_as_object(done)))
    else:
        print("\n".join([*_files(done), "", *_next_steps(done)]))
    return 0


def _split(options: Options) -> list[str]:
    return options.next_hop.replace(",", " ").split()


def _with_options(made: Plan, options: Options, done: Done) -> None:
    """Lay the other options over the keys."""
    given: dict[tuple[str, str], object] = {
        ("next_hop.default", "tls"): options.tls,
        ("next_hop.default", "username"): options.username,
        ("next_hop.default", "password_file"): str(options.password_file.absolute()) if options.password_file else "",
        ("relay", "hostname"): options.hostname,
    }
    if options.tls and options.tls not in get_args(Tls):
        raise CannotInit(f"--tls: {options.tls} is not one of {', '.join(get_args(Tls))}")
    for (table, name), value in given.items():
        if value:
            made.keys = [key for key in made.keys if (key.table, key.name) != (table, name)]
            made.keys.append(Key(table, name, value, f"--{name.replace('_', '-')}"))
    names = {key.name for key in made.keys if key.table == "next_hop.default"}
    if options.password_file or (options.username and made.password):
        made.password = None  # another user's, or kept elsewhere
    if "username" in names and not options.password_file:
        file = str(Path(done.config).with_name(PASSWORD).absolute())
        made.keys.append(Key("next_hop.default", "password_file", file, "one line, for smtpguard's user only"))


# --- from Postfix ----------------------------------------------------------------------------------------------


def _from_postfix(options: Options, environ: Mapping[str, str]) -> int:
    postfix = Postfix(options.postfix_config)
    facts = postfix.facts(options.next_hop)
    done = Done(config=str(_place(options, environ)))
    is_kept = Path(done.config).exists() and not options.force
    done.plan = plan(facts, next_hop=options.next_hop)
    _with_options(done.plan, options, done)
    if is_kept:
        done.kept.append(done.config)
    else:
        _write(done, options, environ, header=f"# Written by `smtpguard init --from-postfix`, from {facts.directory}.")
    loaded = load(Path(done.config), environ)
    hand_over(done.plan, facts, _lmtp_door(loaded))
    if options.apply:
        _refuse(done.plan.against)
        if not options.unchecked:
            _ask_next_hop(loaded)
        done.running = apply.apply(postfix, done.plan.commands, done.plan.back)
        done.applied = True
    if options.as_json:
        print(json.dumps(_as_object(done)))
    else:
        print("\n".join(_account(done, facts)))
    return 0


def _refuse(against: list[str]) -> None:
    if against:
        raise CannotInit("Postfix was not changed:\n" + "\n".join(f"- {reason}" for reason in against), 1)


def _ask_next_hop(loaded: Loaded) -> None:
    """Mail would wait in Postfix's queue for a next hop that does not take us: better it never gets there."""
    from smtpguard.cli.check import next_hops
    from smtpguard.cli.finding import exit_code, line
    from smtpguard.service import _own_name

    found = asyncio.run(next_hops(loaded.settings, loaded.settings.relay.hostname or _own_name()))
    if code := exit_code(found):
        failed = [line(finding, color=False) for finding in found if finding.state == "fail"]
        why = "\n".join(
            ["the next hop does not take us, so Postfix was not changed (--unchecked does it all the same):"]
        )
        raise CannotInit("\n".join([why, *failed]), code)


def _lmtp_door(loaded: Loaded) -> str:
    doors = loaded.settings.listen.lmtp
    if not doors:
        raise CannotInit(f"{loaded.path}: listen.lmtp is off, and Postfix is to use it")
    return str(next((door for door in doors if not door.path), doors[0]))


# --- files -----------------------------------------------------------------------------------------------------


def _place(options: Options, environ: Mapping[str, str]) -> Path:
    given = environ.get("SMTPGUARD_CONFIG")
    return options.config or (Path(given) if given else PLACE)


def _write(done: Done, options: Options, environ: Mapping[str, str], *, header: str) -> None:
    """smtpguard.toml and the password's file; what was written is loaded once, so that it is known to be good."""
    place = Path(done.config)
    if place.exists() and not options.force:
        raise CannotInit(f"{place} is there already: --force writes over it")
    place.parent.mkdir(parents=True, exist_ok=True)
    password = place.with_name(PASSWORD)
    if done.plan.password is not None:
        if password.exists() and not options.force:
            raise CannotInit(f"{password} is there already: --force writes over it")
        _write_secret(password, done.plan.password)
        done.wrote.append(f"{password} (mode 0600)")
    waiting = place.with_name(f".{place.name}.new")
    waiting.write_text(text(done.plan.keys, header), encoding="utf-8")
    try:
        load(waiting, environ)
    except ConfigError as error:
        if not _is_only_missing_password(error):
            waiting.unlink()
            if done.plan.password is not None:
                password.unlink()
            raise CannotInit(str(error).replace(str(waiting), str(place))) from None
        done.plan.notes.append(
            f"Put the password, alone on its line, into {password}: install -m 0600 /dev/stdin {password}"
        )
    os.replace(waiting, place)
    done.wrote.insert(0, str(place))


def _write_secret(path: Path, secret: SecretStr) -> None:
    waiting = path.with_name(f".{path.name}.new")
    waiting.unlink(missing_ok=True)
    with os.fdopen(os.open(waiting, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(secret.get_secret_value() + "\n")
    os.replace(waiting, path)


def _is_only_missing_password(error: ConfigError) -> bool:
    return all(problem.key == "next_hop.default.password_file" for problem in error.problems)


def text(keys: Iterable[Key], header: str) -> str:
    """The configuration: what was found, each key with its reason; all else has its default."""
    lines = [
        header,
        "# What is not here has its default. All keys: smtpguard config sample; what is in force: smtpguard config show.",
        "# After a change: smtpguard config test, then systemctl reload smtpguard.",
    ]
    tables: dict[str, list[Key]] = {}
    for key in keys:
        tables.setdefault(key.table, []).append(key)
    for table, its in tables.items():
        lines += ["", f"[{table}]"]
        for key in its:
            setting = f"{key.name} = {json.dumps(key.value, ensure_ascii=False)}"
            lines.append(f"{setting:<{_COLUMN - 1}} # {key.why}" if key.why else setting)
    return "\n".join(lines) + "\n"


# --- what is said ----------------------------------------------------------------------------------------------


def _as_object(done: Done) -> dict[str, object]:
    made = done.plan
    return {
        "config": done.config,
        "wrote": done.wrote,
        "kept": done.kept,
        "commands": [list(command) for command in made.commands],
        "back": [list(command) for command in made.back],
        "notes": made.notes,
        "against": made.against,
        "applied": done.applied,
    }


def _item(text: str) -> str:
    return fill(
        text, _WIDTH, initial_indent="- ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def _files(done: Done) -> Iterator[str]:
    yield from (f"wrote {name}" for name in done.wrote)
    yield from (f"kept  {name}, as it is (--force writes it anew)" for name in done.kept)


def _next_steps(done: Done) -> Iterator[str]:
    yield from map(_item, done.plan.notes)
    where = "" if Path(done.config) == PLACE else f" --config {done.config}"
    yield f"Next: smtpguard check{where}"
    yield f"then: smtpguard serve{where}, and send your MTA's mail to LMTP 127.0.0.1:10724 or SMTP 127.0.0.1:10725"


def _commands(commands: Iterable[Command], directory: Path) -> Iterator[str]:
    where = [] if directory == Path("/etc/postfix") else ["-c", str(directory)]
    for program, *arguments in commands:
        yield "  " + shell((program, *where, *arguments))


def _account(done: Done, facts: Facts) -> Iterator[str]:
    """What was found and done, what to do, what to know, and the way back."""
    made = done.plan
    chroot = (facts.service(facts.transport) or ["?"] * 8)[4]
    yield f"Found in {facts.directory}"
    for name in (
        "relayhost",
        "default_transport",
        "smtp_tls_security_level",
        "message_size_limit",
        "myhostname",
        "mynetworks",
    ):
        yield f"  {name:<24} {facts[name] or '(empty)'}"
    yield f"  {'login':<24} {facts.login[0] if facts.login else '(none)'}"
    yield f"  {'smtp service':<24} {'not chrooted' if chroot == 'n' else 'chrooted in ' + facts['queue_directory']}"
    yield ""
    yield from _files(done)
    yield ""
    where = [] if facts.directory == Path("/etc/postfix") else ["-c", str(facts.directory)]
    reload = shell(("postfix", *where, "reload"))
    if done.applied:
        yield "Done in Postfix" + (", which has taken it over:" if done.running else ", which does not run:")
    else:
        yield "Start smtpguard, see that `smtpguard check` is content, then, or let `--apply` do it:"
    yield from _commands(made.commands, facts.directory)
    if not done.applied:
        yield f"  {shell(('postfix', *where, 'check'))} && {reload}"
    if made.against:
        yield ""
        yield "But first, or mail goes other ways than it did (--apply will not):"
        yield from map(_item, made.against)
    yield ""
    yield "Know that"
    yield from map(_item, (*made.notes, *_ALWAYS))
    yield ""
    if done.applied:
        options = f" --postfix-config {facts.directory}" if where else ""
        yield f"The way back, octet by octet: smtpguard init --undo{options}"
        yield "or by hand:"
    else:
        yield "The way back:"
    yield from _commands(made.back, facts.directory)
    yield f"  {reload} && {shell(('postqueue', *where, '-f'))}"


_ALWAYS: Final = (
    "Local delivery, transport maps and relay_transport (relay_domains) are not touched: their mail does not pass "
    "smtpguard. relayhost stays: relay_transport and probes use it.",
    "address_verify_default_transport keeps recipient probes where they were; the LMTP door would say yes to all.",
    "While smtpguard is down, mail waits in Postfix's queue. smtp_fallback_relay is no bypass here: it is the SMTP "
    "client's, and lmtp_fallback_relay wants an LMTP server. The bypass is the way back.",
    "mynetworks stays Postfix's business: smtpguard's doors listen on loopback, to Postfix alone.",
    "More at once: raise smtpguard_destination_concurrency_limit and next_hop.default.connections together.",
)
