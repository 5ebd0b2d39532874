"""Configuration: a TOML file, the environment over it, and files with secrets become one frozen `Settings`.

    loaded = load(None, os.environ)      # the first file found, else defaults
    loaded.settings.next_hop["default"].host

All that is wrong is told at once (`ConfigError`), each with its file and line. The rooms:
settings.py  every key: type, default, doc        values.py    how a value is written
lines.py     on which line a key stands           overlay.py   SMTPGUARD__SECTION__KEY
problems.py  the wording of mistakes              checks.py    contradictions, missing files, open doors
secrets.py   passwords, tokens, users             sample.py    the annotated sample file
show.py      settings as written, with origins    schema.py    the JSON Schema of the file
rule_files.py  an operator's own classification rules
Nothing here is kept between two calls, so a reload is a second `load`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr, ValidationError

from smtpguard.config.checks import MISTAKES, WARNINGS, Remark
from smtpguard.config.lines import key_lines
from smtpguard.config.lint_settings import LintSettings, SenderSettings
from smtpguard.config.overlay import overlay
from smtpguard.config.policy_settings import AlertSettings, PolicySettings, StoreSettings, SuppressionSettings
from smtpguard.config.problems import ConfigError, Origin, Problem, wording
from smtpguard.config.rule_files import own_rules, rule_files
from smtpguard.config.secrets import FileError, credential, host_key, load_users, read_secret
from smtpguard.config.section import KeyPath
from smtpguard.config.settings import (
    RESTART_KEYS,
    ClassifySettings,
    HttpSettings,
    ListenSettings,
    LogSettings,
    NextHopSettings,
    PrivacySettings,
    RelaySettings,
    ReplySettings,
    RouteSettings,
    Settings,
    TimeoutSettings,
    needs_restart,
)
from smtpguard.config.values import ListenAddress, Network

__all__ = [
    "RESTART_KEYS",
    "AlertSettings",
    "ClassifySettings",
    "ConfigError",
    "FileError",
    "HttpSettings",
    "LintSettings",
    "ListenAddress",
    "ListenSettings",
    "Loaded",
    "LogSettings",
    "Network",
    "NextHopSettings",
    "PolicySettings",
    "PrivacySettings",
    "Problem",
    "RelaySettings",
    "ReplySettings",
    "RouteSettings",
    "SenderSettings",
    "Settings",
    "StoreSettings",
    "SuppressionSettings",
    "TimeoutSettings",
    "defaults_for_sandbox",
    "host_key",
    "load",
    "load_tables",
    "load_users",
    "needs_restart",
    "rule_files",
]

PLACES: Final = (Path("smtpguard.toml"), Path("/etc/smtpguard/smtpguard.toml"))
_MAX_FILE: Final = 2**20  # octets; a configuration of a thousand routes is a tenth of it


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings that can be used, the file they came from (None: defaults and environment), what is odd in them, and
    where each key was written."""

    settings: Settings
    path: Path | None
    warnings: tuple[Problem, ...] = ()
    origin: Origin = field(default_factory=Origin)


def load(path: Path | None, environ: Mapping[str, str], *, sandbox: bool = False) -> Loaded:
    """The settings of `path`, else of $SMTPGUARD_CONFIG, else of the first of PLACES, else the defaults.

    With `sandbox` every next hop becomes the embedded one, and none need be configured: no mail leaves the machine.
    Raises ConfigError with all mistakes. Reads files; opens no socket.
    """
    path = _find(path, environ)
    origin = Origin(str(path or ""))
    data = _read(path, origin) if path else {}
    problems = _refuse_secrets(data, origin)
    problems += overlay(data, environ, origin)
    settings, more, bad = _validate(data, origin)
    problems += more
    if sandbox:
        settings = _with_sandbox(settings)
    settings, remarks, warned = _with_secrets(settings, environ, origin)
    remarks += [remark for check in MISTAKES for remark in check(settings)]
    problems += [origin.problem(*remark) for remark in remarks if not _follows(remark[0], bad)]
    if problems:
        raise ConfigError(sorted(problems, key=lambda problem: problem.line or 0))
    warned += [remark for check in WARNINGS for remark in check(settings)]
    return Loaded(settings, path, tuple(origin.problem(*remark) for remark in warned), origin)


def load_tables(path: Path | None, environ: Mapping[str, str], tables: Collection[str]) -> Loaded:
    """As `load`, but of these tables alone; all else is at its default and may be wrong.

    For commands that handle no mail and run as anybody: a file that was not asked for by name and may not be read
    counts as none.
    """
    named = path is not None or bool(environ.get("SMTPGUARD_CONFIG"))
    path = _find(path, environ)
    if path is not None and not named and not os.access(path, os.R_OK):
        path = None
    origin = Origin(str(path or ""))
    data = {name: table for name, table in (_read(path, origin) if path else {}).items() if name in tables}
    prefixes = tuple(f"SMTPGUARD__{name.upper()}__" for name in tables)
    problems = overlay(data, {name: value for name, value in environ.items() if name.startswith(prefixes)}, origin)
    settings, more, _ = _validate(data, origin)
    problems += more
    problems += [origin.problem(*remark) for remark in own_rules(settings)]
    if problems:
        raise ConfigError(sorted(problems, key=lambda problem: problem.line or 0))
    return Loaded(settings, path, origin=origin)


def defaults_for_sandbox() -> Settings:
    """The settings of `serve --sandbox` without file and environment."""
    return _with_sandbox(Settings())


# --- from file to data -----------------------------------------------------------------------------------------


def _find(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    if path is None and environ.get("SMTPGUARD_CONFIG"):
        path = Path(environ["SMTPGUARD_CONFIG"])
    return path or next((place for place in PLACES if place.exists()), None)


def _read(path: Path, origin: Origin) -> dict[str, Any]:
    """The file as tomllib gives it, its lines noted in `origin`; ConfigError where it is no TOML."""

    def stop(message: str, line: int | None = None) -> ConfigError:
        return ConfigError([Problem(str(path), line, "", message)])

    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_FILE + 1)
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno or 0).lower() if isinstance(error, OSError) else "not a file name"
        raise stop(f"cannot be read: {reason}") from None
    if len(raw) > _MAX_FILE:
        raise stop(f"is larger than {_MAX_FILE} octets")
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise stop("is not UTF-8 text", raw.count(b"\n", 0, error.start) + 1) from None
    try:
        data = tomllib.loads(text)
        origin.lines = key_lines(text)
    except RecursionError:
        raise stop("is nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError is one; so is a number of more digits than Python takes
        message, _, place = str(error).partition(" (at ")
        found = re.match(r"line ([0-9]+), column ([0-9]+)", place)
        if message == "Invalid value":  # tls = required
            message += ", text is written in quotes"
        if found:
            raise stop(f"not TOML: {message} (column {found[2]})", int(found[1])) from None
        raise stop(f"not TOML: {message}", text.rstrip("\n").count("\n") + 1 if place else None) from None
    return data


def _refuse_secrets(data: dict[str, Any], origin: Origin) -> list[Problem]:
    """Take secrets out of what the file gave: it is read by more people than should know them."""
    hops = data.get("next_hop")
    named = hops.items() if isinstance(hops, dict) else ()
    places: list[tuple[KeyPath, Any]] = [(("next_hop", name, "password"), hop) for name, hop in named]
    places += [(("http", "token"), data.get("http")), (("alerts", "secret"), data.get("alerts"))]
    return [
        origin.problem(path, f"does not belong in this file: use {path[-1]}_file")
        for path, table in places
        if isinstance(table, dict) and table.pop(path[-1], None) is not None
    ]


# --- from data to settings -------------------------------------------------------------------------------------


def _validate(data: dict[str, Any], origin: Origin) -> tuple[Settings, list[Problem], set[KeyPath]]:
    """The settings, what is wrong with single keys, and where. A bad key counts as not written, so that the checks
    still see the rest: all mistakes are told at once."""
    problems: list[Problem] = []
    bad: set[KeyPath] = set()  # keys that exist, with values that will not do
    dropped: set[KeyPath] = set()
    while True:
        try:
            return Settings.model_validate(data), problems, bad
        except ValidationError as failure:
            before = len(dropped)
            for error in failure.errors(include_url=False):
                path = tuple(error["loc"])
                if path in dropped or error["type"] == "default_factory_not_called":  # follows from another
                    continue
                dropped.add(path)
                if error["type"] == "extra_forbidden":
                    problems.append(origin.unknown_key(path))
                else:
                    bad.add(path)
                    problems.append(origin.problem(path, wording(error, path, _at(data, path))))
            if len(dropped) == before:
                raise  # dropping does not mend it: a fault of ours
            for path in dropped:
                _drop(data, path)


def _at(data: Any, path: KeyPath) -> object:
    for step in path:
        data = data[step]
    return data


def _drop(data: Any, path: KeyPath) -> None:
    """Take a key out; an element of a list becomes an empty table, so that the others keep their places."""
    try:
        table = _at(data, path[:-1])
    except (KeyError, IndexError, TypeError):
        return  # a table above it went before
    if isinstance(table, dict):
        table.pop(path[-1], None)
    elif isinstance(table, list) and isinstance(path[-1], int):
        table[path[-1]] = {}


def _follows(path: KeyPath, bad: set[KeyPath]) -> bool:
    """Whether a remark is but the consequence of a key that was dropped: made at it, or below it."""
    return any(path[: len(other)] == other for other in bad)


def _with_sandbox(settings: Settings) -> Settings:
    """Each next hop is the sandbox: what its configuration says of limits stays, how to reach it does not."""
    reach = {name: NextHopSettings.model_fields[name].get_default() for name in _REACH}
    reach |= {"host": ("sandbox",), "tls": "none"}
    hops = {"default": NextHopSettings(), **settings.next_hop}
    return settings.model_copy(update={"next_hop": {n: hop.model_copy(update=reach) for n, hop in hops.items()}})


_REACH: Final = ("tls_name", "tls_ca_file", "tls_cert", "tls_key", "username", "password_file", "password", "bind")


def _with_secrets(
    settings: Settings, environ: Mapping[str, str], origin: Origin
) -> tuple[Settings, list[Remark], list[Remark]]:
    """The settings with passwords and token read; what could not be, and what is odd.

    Each comes from the systemd credential of its name, else from its file, else from the environment: a service that
    may not read the file is given the credential, and one configuration serves both it and root's `check`.
    """
    wrong: list[Remark] = []
    odd: list[Remark] = []

    def secret(path: KeyPath, file: str) -> SecretStr | None:
        name = ".".join(map(str, path))
        who = f"systemd credential {name} "
        try:
            given = credential(environ, name)
            who = ""
            return given or (read_secret(file) if file else None)
        except FileError as error:
            wrong.append(((*path[:-1], f"{path[-1]}_file"), f"{who}{error}"))
            return None

    hops: dict[str, NextHopSettings] = {}
    for name, hop in settings.next_hop.items():
        path = ("next_hop", name, "password")
        found = secret(path, hop.password_file)
        if found and path in origin.variables:
            odd.append((path, "has no effect: the password comes from a file or a credential"))
        hops[name] = hop.model_copy(update={"password": found or hop.password})
    lists = settings.lint.blocklists
    spamhaus = secret(("lint", "blocklists", "spamhaus_key"), lists.spamhaus_key_file)
    lists = lists.model_copy(update={"spamhaus_key": spamhaus or lists.spamhaus_key})
    lint = settings.lint.model_copy(update={"blocklists": lists})
    alerts = settings.alerts
    signing = secret(("alerts", "secret"), alerts.secret_file)
    alerts = alerts.model_copy(update={"secret": signing or alerts.secret})
    token = secret(("http", "token"), settings.http.token_file)
    http = settings.http.model_copy(update={"token": token or settings.http.token})
    return settings.model_copy(update={"next_hop": hops, "http": http, "lint": lint, "alerts": alerts}), wrong, odd
