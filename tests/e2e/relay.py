"""The real program, `python -m smtpguard serve`, as a process of the test's own.

`Relay` writes its configuration, reads its JSON log line by line as it comes, asks its metrics over HTTP, runs the
command line beside it, and ends it gently (SIGTERM) or not (SIGKILL). After `kill`, `start` brings it back on the same
ports, as a supervisor would.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any, Final

from tests.e2e.mta import until

Event = dict[str, Any]

_START_S: Final = 20.0
_DRAIN_S: Final = 20.0

_CONFIG: Final = """\
[listen]
lmtp = "127.0.0.1:{lmtp}"
smtp = "127.0.0.1:{smtp}"

[relay]
hostname = "guard.test"
drain = "5s"

[next_hop.default]
host = "127.0.0.1"
port = {next_hop_port}
{next_hop}

[privacy]
addresses = "full"

[lint]
{lint}
[store]
url = "{store}"
[http]
listen = "127.0.0.1:{http}"
{more}
"""


class Relay:
    """One smtpguard process in front of `next_hop_port`; several may share a `directory` under a `name` each.

    `next_hop` holds further lines of `[next_hop.default]`, `lint` those of `[lint]`, `store` is `store.url`, and `more`
    is further sections.
    """

    def __init__(
        self,
        directory: Path,
        *,
        next_hop_port: int,
        next_hop: str = 'tls = "none"',
        lint: str = 'mode = "off"',
        store: str = "",
        more: str = "",
        name: str = "smtpguard",
    ) -> None:
        self.ports = {"lmtp": 0, "smtp": 0, "http": 0}
        self.config = directory / f"{name}.toml"
        self._directory = directory
        self._settings = {
            "next_hop_port": next_hop_port,
            "next_hop": next_hop,
            "lint": lint,
            "store": store,
            "more": more,
        }
        self._process: subprocess.Popen[str] | None = None
        self._events: list[Event] = []
        self._stderr = directory / f"{name}.stderr"

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, wait until it says what it listens on. The first start takes free ports, later ones the same."""
        self.config.write_text(_CONFIG.format(**self._settings, **self.ports))
        known = len(self._events)
        with self._stderr.open("a") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "smtpguard", "serve", "--config", str(self.config)],
                cwd=self._directory,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()
        until(lambda: self._started(known) or self._ended(), _START_S, self.transcript)
        assert not self._ended(), self.transcript()
        started = self._started(known)[0]
        for door in self.ports:
            self.ports[door] = _port(started[f"smtpguard.listen.{door}"])

    def stop(self) -> int:
        """SIGTERM; the exit code. No effect if it does not run."""
        return self._end(signal.SIGTERM)

    def reload(self) -> None:
        """SIGHUP; returns when the new settings are in force."""
        assert self._process is not None
        known = len(self.events("config-reloaded"))
        self._process.send_signal(signal.SIGHUP)
        until(lambda: len(self.events("config-reloaded")) > known, _START_S, self.transcript)

    def kill(self) -> None:
        """SIGKILL: it can say nothing more."""
        self._end(signal.SIGKILL)

    def run(self, *words: str) -> str:
        """What `smtpguard WORDS` prints, given the same configuration; it must end well."""
        done = subprocess.run(
            [sys.executable, "-m", "smtpguard", *words, "--config", str(self.config)],
            cwd=self._directory,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def events(self, action: str, **fields: object) -> list[Event]:
        """Log lines so far with this `event.action` and these fields; `_` in a name stands for a dot."""
        wanted = {"event.action": action, **{_key(name): value for name, value in fields.items()}}
        return [event for event in list(self._events) if wanted.items() <= event.items()]

    def wait_for(self, action: str, timeout_s: float = 10.0, **fields: object) -> Event:
        """The first log line with this `event.action` and these fields, when it has come."""
        until(lambda: self.events(action, **fields), timeout_s, self.transcript)
        return self.events(action, **fields)[0]

    def faults(self) -> list[Event]:
        """Log lines of level error, and lines that are not of the log: there are none, whatever the next hop does."""
        return [event for event in list(self._events) if event.get("log.level", "error") == "error"]

    def metric(self, sample: str) -> float:
        """A sample of `/metrics` by its name and labels as written there; 0 where it is not shown."""
        url = f"http://127.0.0.1:{self.ports['http']}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        found = re.search(rf"^{re.escape(sample)} (\S+)", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def transcript(self) -> str:
        """What it said last: for the message of a failed test."""
        stderr = self._stderr.read_text() if self._stderr.exists() else ""
        return "\n".join(json.dumps(event) for event in self._events[-20:]) + "\n" + stderr[-3000:]

    def _started(self, known: int) -> list[Event]:
        return [event for event in self._events[known:] if event.get("event.action") == "service-started"]

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(number)
        try:
            return process.wait(_DRAIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"still there {_DRAIN_S} s after {number.name}\n{self.transcript()}") from None

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._events.append(json.loads(line) if line.startswith("{") else {"not json": line})


def _key(name: str) -> str:
    # event_outcome -> event.outcome; a field with an underscore of its own is named in full: smtp_mail__from
    return name.replace("__", "\0").replace("_", ".").replace("\0", "_")


def _port(bound: str | list[str]) -> int:
    """The port of "host:port", or of the first of several."""
    address = bound if isinstance(bound, str) else bound[0]
    return int(address.rpartition(":")[2])
