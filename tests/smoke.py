"""The README's first steps, as a newcomer takes them: `make run`, then the lines below it, then an end.

Runs with the standard library alone. The lines are taken from README.md itself, so that it cannot grow wrong; only the
ports are free ones and the history a passing file, so that a running smtpguard is in nobody's way. Prints what it did;
exit code 0 if the refusal came back explained, the program ended in order, and the history knows the refusal by its id.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
_START_S: Final = 60  # "set up and listening on the sandbox within a minute"


def main() -> int:
    """Exit code 0: all as README.md says; 1: what was not is on stderr."""
    with tempfile.TemporaryDirectory() as folder:
        return _walk(f"sqlite:///{folder}/history.db")


def _walk(store_url: str) -> int:
    environment = {f"SMTPGUARD__LISTEN__{door}": "127.0.0.1:0" for door in ("SMTP", "LMTP")}
    environment["SMTPGUARD__STORE__URL"] = store_url
    environment["SMTPGUARD__HTTP__LISTEN"] = "127.0.0.1:0"
    run = subprocess.Popen(
        ["make", "--no-print-directory", "run"],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that the clock below can end make and all it started
    )
    late = threading.Timer(_START_S, os.killpg, [run.pid, signal.SIGKILL])
    late.start()
    try:
        started = _started(run)
        late.cancel()
        if started is None:
            return _fail("no service-started line")
        port = _port(started["smtpguard.listen.smtp"])
        print(f"make run: listening on port {port}")
        refusal = _send(port)
        print(refusal, end="")
        explained = re.search(r"\[smtpguard\] Fix: .+\n.*\[smtpguard\] Cause: (\S+) \(.+\) Id: (\w+)", refusal)
        if explained is None:
            return _fail("the refusal came back without Fix, Cause and Id")
        # make ends with its program's exit code, unless the signal is its own
        os.kill(_child(run.pid), signal.SIGTERM)
        rest, code = _actions(run), run.wait(30)
        if code != 0 or "service-stopped" not in rest:
            return _fail(f"no orderly end: exit code {code}, {rest}")
        print("SIGTERM: exit code 0")
        category, event_id = explained.groups()
        told = _explain(event_id, store_url)
        print(told, end="")
        if category not in told:
            return _fail(f"the history does not know {event_id}")
        return 0
    finally:
        late.cancel()
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait(30)


def _started(run: subprocess.Popen[str]) -> dict[str, Any] | None:
    assert run.stdout is not None
    for line in run.stdout:
        event = _event(line)
        if event.get("event.action") == "service-started":
            return event
    return None


def _child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])  # proc(5)


def _actions(run: subprocess.Popen[str]) -> list[str]:
    assert run.stdout is not None
    return [str(_event(line).get("event.action", "")) for line in run.stdout]


def _event(line: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _send(port: str) -> str:
    """Run the README's `python3 - <<'END'` block against this port; what it printed."""
    readme = (ROOT / "README.md").read_text()
    block = re.search(r"^python3 - <<'END'\n(.*?)^END$", readme, re.MULTILINE | re.DOTALL)
    assert block is not None, "README.md sends no message"
    program = block[1].replace("10725", port)
    sent: subprocess.CompletedProcess[str] = subprocess.run(
        [sys.executable, "-"], input=program, capture_output=True, text=True, timeout=30, check=False
    )
    return sent.stdout + sent.stderr


def _explain(event_id: str, store_url: str) -> str:
    """What `smtpguard explain ID` prints."""
    told: subprocess.CompletedProcess[str] = subprocess.run(
        [str(ROOT / ".venv" / "bin" / "smtpguard"), "explain", event_id],
        env=os.environ | {"SMTPGUARD__STORE__URL": store_url},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return told.stdout + told.stderr


def _port(bound: str | list[str]) -> str:
    return (bound if isinstance(bound, str) else bound[0]).rpartition(":")[2]


def _fail(reason: str) -> int:
    print(f"smoke: {reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
