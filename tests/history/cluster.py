"""A PostgreSQL of the tests' own: a cluster in a temporary folder, reached by a Unix socket only.

The server refuses to run as root: there it runs as `postgres`, Debian's user for it.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from itertools import count
from pathlib import Path
from typing import Any, Final

USER: Final = "smtpguard"
_OPTIONS: Final = "-c listen_addresses= -c fsync=off -c max_connections=40 -c shared_buffers=16MB"


def _binaries() -> str:
    """The folder of `postgres`; "" where there is none."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parts[-2].zfill(4), reverse=True)
    found = shutil.which("postgres", path=os.pathsep.join([*map(str, folders), os.environ.get("PATH", "")]))
    return str(Path(found).resolve().parent) if found else ""


def missing() -> str:
    """Why there is no cluster to be had; "" if there is."""
    if not importlib.util.find_spec("psycopg") or not importlib.util.find_spec("psycopg_pool"):
        return "psycopg is not installed: pip install 'smtpguard[postgres]'"
    if not _binaries():
        return "PostgreSQL is not here (as root on Debian: sh tests/history/install.sh)"
    if os.geteuid() == 0 and not any(entry.pw_name == "postgres" for entry in pwd.getpwall()):
        return "PostgreSQL does not run as root, and there is no user postgres"
    return ""


class Cluster:
    """A server. `database()` gives the `store.url` of a new, empty database; `runs_as` is for Popen, its user."""

    def __init__(self) -> None:
        self._bin = Path(_binaries())
        self.folder = Path(tempfile.mkdtemp(prefix="sg-"))  # short: it holds a socket
        self._numbers = count(1)
        self.runs_as: dict[str, Any] = {}
        if os.geteuid() == 0:
            entry = pwd.getpwnam("postgres")
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
            self.runs_as = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        self.folder.chmod(0o755)
        self._run("initdb", "-D", self._data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        self.start()

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._bin / program), *arguments],
            stdout=subprocess.DEVNULL,  # pg_ctl's child keeps what it inherits: a pipe would never end
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            timeout=60,
            check=False,
            **self.runs_as,
        )
        assert done.returncode == 0, f"{program}: see {self.folder}/log"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-k {self.folder} {_OPTIONS}"
        self._run("pg_ctl", "-D", self._data, "-l", str(self.folder / "log"), "-o", options, "-w", "start")

    def stop(self) -> None:
        """Stop it in the middle of whatever it does."""
        self._run("pg_ctl", "-D", self._data, "-m", "fast", "-w", "stop")

    def database(self) -> str:
        import psycopg

        name = f"test{next(self._numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)

    def url(self, name: str) -> str:
        return f"postgresql:///{name}?host={self.folder}&user={USER}"

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)
