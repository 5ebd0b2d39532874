"""Programs that are no part of smtpguard: installed, or unpacked by tests/deploy/install.sh."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"
UNPACKED: Final = ROOT / ".cache" / "deploy" / "root"


def found(name: str) -> str:
    """Where it is; "" if it is not there."""
    folders = ("usr/local/bin", "usr/bin", "usr/sbin")
    unpacked = os.pathsep.join(str(UNPACKED / folder) for folder in folders)
    return shutil.which(name) or shutil.which(name, path=unpacked) or ""


def environ() -> dict[str, str]:
    """The environment for what is unpacked: its libraries are beside it."""
    libraries = os.pathsep.join(str(path) for path in UNPACKED.glob("usr/lib/*-linux-gnu"))
    return {**os.environ, "LD_LIBRARY_PATH": libraries}


def without(name: str) -> str:
    """Why a test cannot run without this program; "" if it can."""
    return "" if found(name) else f"{name} is not here (as root on Debian: sh tests/deploy/install.sh)"
