"""`smtpguard init`: write a configuration, and say what to change in the MTA and how to change it back.

    init --next-hop HOST          writes smtpguard.toml from the options
    init --next-hop mx            the same for straight to the receivers, and says the MTA's lines (straight.py)
    init --from-postfix           makes Postfix's relayhost our next hop (plan.py), of none "mx"; changes nothing there
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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

from pydantic import SecretStr

from smtpguard.cli import apply, straight
from smtpguard.cli.account import USUAL_CONFIG, Done, account, as_object, files, next_steps, way_back
from smtpguard.cli.machine import is_our_door
from smtpguard.cli.plan import CannotPlan, Key, Plan, hand_over, plan, shell
from smtpguard.cli.postfix import Postfix, PostfixError, host_and_port
from smtpguard.config import ConfigError, ListenAddress, Loaded, load
from smtpguard.config.section import Tls

PASSWORD: Final = "password"  # noqa: S105 - the name of the file, beside smtpguard.toml
# Where deploy/systemd/smtpguard.service loads it from; its user cannot read /etc/smtpguard/password (systemd.exec(5))
CREDENTIAL: Final = Path("/etc/credstore/smtpguard.next_hop.default.password")
_SYSTEMD: Final = Path("/run/systemd/system")  # sd_booted(3)
_COLUMN: Final = 44


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
    egress: tuple[str, ...] = ()
    force: bool = False
    unchecked: bool = False
    as_json: bool = False


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
        hint = "; are you root?" if "denied" in str(error) and os.geteuid() else ""
        print(f"smtpguard init: {error}{hint}", file=sys.stderr)
        return error.code if isinstance(error, CannotInit) else 2
    except BrokenPipeError:  # who read our output has seen enough: typer ends it quietly
        raise
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
    if not (named := _split(options)):
        raise CannotInit(
            "--next-hop HOST[:PORT] says who takes the mail, --next-hop mx the receivers themselves; or --from-postfix "
            "takes what Postfix has"
        )
    done = Done(config=str(_place(options, environ)))
    if straight.is_straight(",".join(named)):
        done.plan = Plan(is_mx=True, needs=straight.NEEDS, keys=[straight.HOST])
    else:
        _named(done.plan, named)
    _with_options(done.plan, options, done)
    _write(done, options, environ, header=f"# Written by `smtpguard init --next-hop {options.next_hop}`.")
    if done.plan.is_mx:
        done.door = str(_lmtp_door(load(Path(done.config), environ)))
        hand_over(done.plan, straight.UNTOUCHED, done.door)
    if options.as_json:
        print(json.dumps(as_object(done)))
    else:
        print("\n".join([*files(done), "", *next_steps(done)]))
    return 0


def _named(made: Plan, named: Sequence[str]) -> None:
    """The hosts of --next-hop, as keys."""
    found = [host_and_port(text, "0") if ":" in text or text[:1] == "[" else (text, 0, True) for text in named]
    made.hosts = [host for host, _, _ in found]
    ports = {port for _, port, _ in found if port}
    if len(ports) > 1:
        raise CannotInit("a next hop has one port: give the same for all its hosts")
    written = made.hosts[0] if len(made.hosts) == 1 else made.hosts
    made.keys.append(Key("next_hop.default", "host", written, "who takes all mail"))
    made.keys += [Key("next_hop.default", "port", port, "") for port in ports]


def _split(options: Options) -> list[str]:
    """The hosts of --next-hop, in order."""
    hosts = [host for text in options.next_hop.split(",") if (host := text.strip())]
    for host in hosts:
        if len(host.split()) > 1:
            raise CannotInit(f"--next-hop: {host!r} is not a host: several have commas between them, or are repeated")
        if host.partition(":")[0] == straight.MX and hosts != [straight.MX]:
            raise CannotInit("--next-hop: mx stands alone, and has port 25")
    return hosts


def _with_options(made: Plan, options: Options, done: Done) -> None:
    """Lay the other options over the keys."""
    given: dict[tuple[str, str], object] = {
        ("next_hop.default", "tls"): options.tls,
        ("next_hop.default", "username"): options.username,
        ("next_hop.default", "password_file"): str(options.password_file.absolute()) if options.password_file else "",
        ("next_hop.default", "egress_ips"): list(options.egress),
        ("relay", "hostname"): options.hostname,
    }
    if options.tls and options.tls not in get_args(Tls):
        raise CannotInit(f"--tls: {options.tls} is not one of {', '.join(get_args(Tls))}")
    for (table, name), value in given.items():
        if value:
            made.keys = [key for key in made.keys if (key.table, key.name) != (table, name)]
            made.keys.append(
                Key(table, name, value, "--egress" if name == "egress_ips" else f"--{name.replace('_', '-')}")
            )
    names = {key.name for key in made.keys if key.table == "next_hop.default"}
    if options.password_file or (options.username and made.password):
        made.password = None  # another user's, or kept elsewhere
    if "username" in names and not options.password_file:
        file = str(_password_place(Path(done.config)))
        after = next(index for index, key in enumerate(made.keys, 1) if key.name == "username")
        made.keys.insert(after, Key("next_hop.default", "password_file", file, "one line, for smtpguard's user only"))


# --- from Postfix ----------------------------------------------------------------------------------------------


def _from_postfix(options: Options, environ: Mapping[str, str]) -> int:
    postfix = Postfix(options.postfix_config)
    next_hop = ",".join(_split(options))
    facts = postfix.facts(next_hop)
    done = Done(config=str(_place(options, environ)))
    is_kept = Path(done.config).exists() and not options.force
    if is_kept:  # its next hop counts, whatever Postfix had
        default = load(Path(done.config), environ).settings.next_hop["default"]
        if default.is_mx:
            next_hop = straight.MX
        elif straight.is_straight(next_hop, facts):
            next_hop = default.host[0]
    done.plan = straight.plan(facts) if straight.is_straight(next_hop, facts) else plan(facts, next_hop=next_hop)
    _with_options(done.plan, options, done)
    if is_kept:
        done.kept.append(done.config)
    else:
        _write(done, options, environ, header=f"# Written by `smtpguard init --from-postfix`, from {facts.directory}.")
    loaded = load(Path(done.config), environ)
    door = _lmtp_door(loaded)
    by_sender = any(route.sender_domain for route in loaded.settings.route)
    hand_over(done.plan, facts, str(door), by_sender=by_sender)
    if options.apply:
        _refuse(done.plan.against)
        if not options.unchecked:
            _ask_next_hop(loaded)
        done.running = apply.apply(postfix, done.plan.commands, "\n".join(way_back(done.plan, facts.directory)) + "\n")
        done.applied = True
        if not is_our_door(door):
            done.plan.notes.insert(0, f"smtpguard does not answer at {door} yet: mail waits in Postfix until it does.")
    if options.as_json:
        print(json.dumps(as_object(done)))
    else:
        print("\n".join(account(done, facts)))
    return 0


def _refuse(against: list[str]) -> None:
    if against:
        raise CannotInit("Postfix was not changed:\n" + "\n".join(f"- {reason}" for reason in against), 1)


def _ask_next_hop(loaded: Loaded) -> None:
    """Mail would wait in Postfix's queue for a next hop that does not take us: better it never gets there."""
    from smtpguard.cli.check import next_hops
    from smtpguard.cli.finding import exit_code, line
    from smtpguard.edge.host import own_name

    found = asyncio.run(next_hops(loaded.settings, loaded.settings.relay.hostname or own_name()))
    if code := exit_code(found):
        failed = [line(finding, color=False) for finding in found if finding.state == "fail"]
        what = (
            "mail cannot leave this machine"
            if loaded.settings.next_hop["default"].is_mx
            else "the next hop does not take us"
        )
        why = f"{what}, so Postfix was not changed (--unchecked does it all the same):"
        raise CannotInit("\n".join([why, *failed]), code)


def _lmtp_door(loaded: Loaded) -> ListenAddress:
    doors = loaded.settings.listen.lmtp
    if not doors:
        raise CannotInit(f"{loaded.path}: listen.lmtp is off, and Postfix is to use it")
    return next((door for door in doors if not door.path), doors[0])


# --- files -----------------------------------------------------------------------------------------------------


def _place(options: Options, environ: Mapping[str, str]) -> Path:
    given = environ.get("SMTPGUARD_CONFIG")
    return options.config or (Path(given) if given else USUAL_CONFIG)


def _write(done: Done, options: Options, environ: Mapping[str, str], *, header: str) -> None:
    """smtpguard.toml and the password's file; what was written is loaded once, so that it is known to be good."""
    place = Path(done.config)
    if place.exists() and not options.force:
        raise CannotInit(f"{place} is there already: --force writes over it")
    place.parent.mkdir(parents=True, exist_ok=True)
    password = _password_place(place)
    is_new = not password.exists()
    if done.plan.password is not None:
        if password.exists() and not options.force:
            raise CannotInit(f"{password} is there already: --force writes over it")
        password.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_secret(password, done.plan.password)
        done.wrote.append(f"{password} (mode 0600)")
    waiting = place.with_name(f".{place.name}.new")
    waiting.write_text(text(done.plan.keys, header), encoding="utf-8")
    try:
        load(waiting, environ)
    except ConfigError as error:
        if options.password_file or not _is_only_missing_password(error):
            waiting.unlink()
            if is_new:
                password.unlink(missing_ok=True)
            raise CannotInit(str(error).replace(str(waiting), str(place))) from None
        done.plan.notes.append(f"First put the password into its file (type it, Enter, Ctrl-D):\n{_typing(password)}")
    os.replace(waiting, place)
    done.wrote.insert(0, str(place))


def _password_place(config: Path) -> Path:
    return CREDENTIAL if config == USUAL_CONFIG and _SYSTEMD.is_dir() else config.with_name(PASSWORD).absolute()


def _typing(password: Path) -> str:
    return shell(("install", "-D", "-m", "0600", "/dev/stdin", str(password)))


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
        "# What is not here has its default. All keys: smtpguard config sample. In force: smtpguard config show.",
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
