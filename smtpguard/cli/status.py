"""`smtpguard status`: how the running relay is, from its own /readyz and /metrics, in one look.

Counts are since its start. Exit code 0: it runs and is well; 1: it does not run, is not ready, has given up a next hop,
has none that let it in, or refused its last reload; 2: it could not be asked.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from smtpguard.cli.machine import reached
from smtpguard.config import ConfigError, HttpSettings, ListenAddress, load_tables
from smtpguard.config.secrets import FileError, credential, read_secret
from smtpguard.config.values import http_address
from smtpguard.mail.reply import clean

PATIENCE_S: Final = 5.0
TOP: Final = 10  # categories shown

Counts = dict[str, int]


@dataclass(slots=True)
class Status:
    """What /readyz and /metrics say. `refused`: by category, how often rejected (5xx) and deferred (4xx)."""

    version: str = ""
    ready: bool = False
    sessions: dict[str, Counts] = field(default_factory=lambda: defaultdict(lambda: {"now": 0, "ended": 0}))
    transactions: Counts = field(default_factory=dict)
    recipients: Counts = field(default_factory=dict)
    next_hops: dict[str, Counts] = field(default_factory=lambda: defaultdict(dict))
    refused: dict[str, Counts] = field(default_factory=lambda: defaultdict(lambda: {"rejected": 0, "deferred": 0}))
    unexplained: int = 0
    lost: int = 0
    reload_refused: bool = False

    @property
    def problems(self) -> list[str]:
        """What an operator should look at."""
        given_up = [name for name, its in self.next_hops.items() if its.get("given_up")]
        shut = [
            name
            for name, its in self.next_hops.items()
            if not its.get("opened") and (its.get("failed") or its.get("refused")) and name not in given_up
        ]
        return [
            *([] if self.ready else ["it is not ready to take mail"]),
            *(
                f"next hop {name} is given up for now: mail waits in the MTA; see `smtpguard check`"
                for name in given_up
            ),
            *(f"next hop {name} has let nobody in yet: mail waits in the MTA; see `smtpguard check`" for name in shut),
            *(
                ["the last reload was refused, the settings before it hold: `smtpguard config test`"]
                * self.reload_refused
            ),
        ]


class NotRunning(Exception):
    """Nobody answers there."""


class CannotAsk(Exception):
    """Somebody answers, but not as was hoped; the text says what to do."""


def run(path: Path | None, environ: Mapping[str, str], *, http: str, as_json: bool, color: bool) -> int:
    """The exit code; the status on stdout. `http` (`host:port`) is asked in place of what the settings say.

    `as_json`: `{"running", "problems", ...}` and the fields of Status.
    """
    try:
        given = http_address(http) if http else None
    except ValueError as error:
        return _cannot(f"{error}", "give --http HOST:PORT")
    try:
        settings = _settings(path, environ)
    except (ConfigError, FileError) as error:
        if given is None:
            return _cannot(f"{error}", "give --http HOST:PORT")
        settings = HttpSettings()
    where = given or settings.listen
    if where is None:
        return _cannot("http.listen is off", "switch it on to see more than `systemctl status smtpguard` tells")
    if not where.port:
        return _cannot("http.listen has port 0, any free one: the log's first line says which", "give --http HOST:PORT")
    token = settings.token.get_secret_value() if settings.token else ""
    try:
        status = ask(reached(where), token)
    except NotRunning:
        print(json.dumps({"running": False}) if as_json else f"smtpguard does not run: nobody answers at {where}")
        return 1
    except CannotAsk as error:
        return _cannot(f"{where} {error}", "give --http HOST:PORT, or http.token_file by --config")
    if as_json:
        print(
            json.dumps(
                {
                    "running": True,
                    "problems": status.problems,
                    **{each.name: getattr(status, each.name) for each in fields(status)},
                }
            )
        )
    else:
        print("\n".join(_shown(status, where, color=color)))
    return 1 if status.problems else 0


def _settings(path: Path | None, environ: Mapping[str, str]) -> HttpSettings:
    """[http] with its token, whatever is wrong elsewhere: the relay runs on after it refused a bad file."""
    settings = load_tables(path, environ, ("http",)).settings.http
    file = settings.token_file
    token = credential(environ, "http.token") or (read_secret(file) if file else settings.token)
    return settings.model_copy(update={"token": token})


def _cannot(why: str, remedy: str) -> int:
    lines = [clean(line, utf8=True) for line in why.splitlines()]
    # A configuration has several problems, each a line that ends with a remedy of its own
    said = [f"{lines[0]}; {remedy}"] if len(lines) == 1 else [*lines, remedy]
    for line in said:
        print(f"smtpguard status: {line}", file=sys.stderr)
    return 2


# --- asking ----------------------------------------------------------------------------------------------------


def ask(where: ListenAddress, token: str = "") -> Status:
    """The status of the relay whose HTTP listener is there. NotRunning, CannotAsk."""
    status = Status()
    code, _ = _get(where, "/readyz", token)
    status.ready = code == 200
    code, text = _get(where, "/metrics", token)
    if code != 200:
        raise CannotAsk(f"answers {code} to /metrics")
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                _note(status, sample.name.removeprefix("smtpguard_"), sample.labels, sample.value)
    except ValueError:
        raise CannotAsk("gives no metrics") from None
    if not status.version:
        raise CannotAsk("is not smtpguard")
    return status


def _get(where: ListenAddress, path: str, token: str) -> tuple[int, str]:
    asked = http.client.HTTPConnection(where.host, where.port, timeout=PATIENCE_S)
    try:
        with contextlib.closing(asked):
            asked.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
            answer = asked.getresponse()
            return answer.status, answer.read().decode("utf-8", "replace")
    except TimeoutError:
        raise CannotAsk(f"does not answer within {PATIENCE_S:g} s") from None
    except OSError:
        raise NotRunning from None
    except http.client.HTTPException:
        raise CannotAsk("speaks no HTTP") from None


def _note(status: Status, name: str, labels: Mapping[str, str], value: float) -> None:
    """Put one sample of contract 5 where it belongs."""
    count = int(value)
    match name:
        case "build_info":
            status.version = labels["version"]
        case "sessions_in_progress":
            status.sessions[labels["door"]]["now"] += count
        case "sessions_total":
            status.sessions[labels["door"]]["ended"] += count
        case "transactions_total":
            status.transactions[labels["outcome"]] = status.transactions.get(labels["outcome"], 0) + count
        case "recipients_total":
            status.recipients[labels["outcome"]] = count
        case "rejections_total" | "deferrals_total" if count:
            status.refused[labels["category"]]["rejected" if name == "rejections_total" else "deferred"] += count
        case "unclassified_replies_total":
            status.unexplained = count
        case "events_dropped_total":
            status.lost += count
        case "config_last_reload_successful":
            status.reload_refused = not count
        case "next_hop_connections_total":
            status.next_hops[labels["next_hop"]][labels["result"]] = count
        case "next_hop_connections_in_use":
            status.next_hops[labels["next_hop"]]["in_use"] = count
        case "next_hop_breaker_open":
            status.next_hops[labels["next_hop"]]["given_up"] = count
        case _:
            pass  # for graphs


# --- showing ---------------------------------------------------------------------------------------------------


def _shown(status: Status, where: ListenAddress, *, color: bool) -> Iterator[str]:
    """A line each; counts since the start."""
    well = "\x1b[32m" if not status.problems else "\x1b[31m"
    head = f"smtpguard {status.version} runs" + (", ready" if status.ready else ", not ready")
    yield (f"{well}{head}\x1b[0m" if color else head) + f" (asked at {where}; counts since its start)"
    for problem in status.problems:
        yield _row("problem", clean(problem, utf8=True))
    for door, its in sorted(status.sessions.items()):
        yield _row(f"{door} door", f"{its['now']} sessions now, {its['ended']} ended")
    yield _row("transactions", _sum(status.transactions))
    yield _row("recipients", _sum(status.recipients))
    for name, its in status.next_hops.items():
        state = "given up for now" if its.get("given_up") else f"{its.get('in_use', 0)} connections at work"
        made = ", ".join(
            f"{its[result]} {result}" for result in ("opened", "reused", "failed", "refused") if its.get(result)
        )
        yield _row("next hop", f"{clean(name)}: {state}" + (f" ({made})" if made else ""))
    causes = sorted(status.refused.items(), key=lambda item: -sum(item[1].values()))
    for index, (category, its) in enumerate(causes[:TOP]):
        total = sum(its.values())
        yield _row("" if index else "refused", f"{total:>6} {category:<28} {_parts(its)}")
    if len(causes) > TOP:
        yield _row("", f"{sum(sum(its.values()) for _, its in causes[TOP:]):>6} of {len(causes) - TOP} other causes")
    if not causes:
        yield _row("refused", "nothing")
    if status.unexplained:
        yield _row("unexplained", f"{status.unexplained} replies no rule knows")
    if status.lost:
        yield _row("lost", f"{status.lost} log lines could not be written")


def _row(label: str, text: str) -> str:
    return f"  {label:<13} {text}"


def _parts(counts: Counts) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def _sum(counts: Counts) -> str:
    total = sum(counts.values())
    return f"{total}: {_parts(counts)}" if total else "none"
