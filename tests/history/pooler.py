"""PgBouncer in front of the tests' PostgreSQL, reached by a Unix socket only; it does not run as root either."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

from tests.history.cluster import USER, Cluster, missing

Mode = Literal["session", "transaction", "statement"]
UNPACKED: Final = Path(__file__).parents[2] / ".cache" / "history" / "root"
_PORT: Final = 6432  # a part of the socket's name
_LISTENING: Final = b"process up"


def _binary() -> str:
    folders = ["/usr/sbin", "/usr/local/sbin", str(UNPACKED / "usr" / "sbin")]
    return shutil.which("pgbouncer", path=os.pathsep.join([*folders, os.environ.get("PATH", "")])) or ""


def missing_pooler() -> str:
    """Why there is no pooler to be had; "" if there is."""
    return missing() or ("" if _binary() else "PgBouncer is not here (as root on Debian: sh tests/history/install.sh)")


@dataclass
class Pooler:
    """`url` is the `store.url` of the same database through it."""

    url: str
    _settings: Path
    _text: str
    _process: subprocess.Popen[bytes]

    def change(self, mode: Mode) -> None:
        """Give it another mode; it takes it up by itself."""
        self._settings.write_text(self._text.format(mode=mode))
        self._process.send_signal(signal.SIGHUP)


@contextmanager
def pooled(cluster: Cluster, url: str, mode: Mode, *, options: str = "") -> Iterator[Pooler]:
    """A pooler in front of the database `url`. `options`: further lines of its configuration."""
    folder = Path(tempfile.mkdtemp(prefix="sg-"))  # short: it holds a socket
    if cluster.runs_as:
        os.chown(folder, cluster.runs_as["user"], cluster.runs_as["group"])
    folder.chmod(0o755)
    settings = folder / "pgbouncer.ini"
    text = (
        f"[databases]\n* = host={cluster.folder} user={USER}\n"
        f"[pgbouncer]\nlisten_addr =\nlisten_port = {_PORT}\nunix_socket_dir = {folder}\nauth_type = any\n"
        "log_connections = 0\nlog_disconnections = 0\npool_mode = {mode}\n" + options
    )
    settings.write_text(text.format(mode=mode))
    program = _binary()
    libraries = os.pathsep.join(map(str, UNPACKED.glob("usr/lib/*-linux-gnu*")))
    process = subprocess.Popen(
        [program, str(settings)],
        stderr=subprocess.PIPE,
        cwd=folder,
        env={**os.environ, "LD_LIBRARY_PATH": libraries} if program.startswith(str(UNPACKED)) else None,
        **cluster.runs_as,
    )
    assert process.stderr is not None
    try:
        said = b""
        while _LISTENING not in (line := process.stderr.readline()):
            said += line
            assert line, f"PgBouncer ended: {said.decode()}"
        name = url.partition("?")[0].rpartition("/")[2]
        there = f"postgresql:///{name}?host={quote(str(folder))}&port={_PORT}&user={USER}"
        yield Pooler(there, settings, text, process)
    finally:
        process.terminate()
        process.stderr.close()
        process.wait(20)
        shutil.rmtree(folder)
