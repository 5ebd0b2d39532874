"""Peers that no package of ours brings: fetched once into `.cache/bench`, which git ignores.

Haraka comes from npm, nginx with its stream module from Debian's packages, unpacked and not installed, so that nothing
of the machine changes. What cannot be had is a RuntimeError with the reason; its row then says so, and the rest runs.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

CACHE: Final = Path(__file__).resolve().parents[2] / ".cache" / "bench"

_FETCH_S: Final = 180.0
_HARAKA: Final = "Haraka@3"
_NGINX: Final = ("nginx", "libnginx-mod-stream")


def haraka_package() -> Path:
    """Haraka's folder, with its modules beside it."""
    folder = CACHE / "haraka"
    package = folder / "node_modules" / "Haraka"
    if not (package / "package.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        # Install scripts compile optional speed-ups of other plugins: not wanted here.
        quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--omit=optional"]
        _run(["npm", "install", *quiet, "--prefix", str(folder), _HARAKA], folder)
    return package


def nginx_root() -> Path:
    """A folder that holds nginx as Debian lays it out."""
    folder = CACHE / "nginx"
    root = folder / "root"
    if not (root / "usr" / "lib" / "nginx" / "modules" / "ngx_stream_module.so").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _run(["apt-get", "-qq", "download", *_NGINX], folder)
        for package in folder.glob("*.deb"):
            _run(["dpkg", "-x", str(package), str(root)], folder)
    return root


def _run(command: list[str], folder: Path) -> None:
    if shutil.which(command[0]) is None:
        raise RuntimeError(f"{command[0]} is not installed")
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_FETCH_S, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{command[0]}: no answer within {_FETCH_S:g} s") from None
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]}: {(done.stderr or done.stdout).strip()[-200:]}")
