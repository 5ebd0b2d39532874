"""The wheel's build hook (hatchling): compiles the hot path with mypyc, where there is a C compiler.

The source stays plain Python, checked by `mypy --strict`: what runs from the checkout, and what the tests run, is that.
`pip install .` makes C of the modules below and puts it beside them; an import then takes the compiled one. It costs a
minute once and halves the CPU that a message takes. Where it cannot be done (no compiler, no Python.h, another
interpreter) the wheel is made of the source alone: everything works, slower. `smtpguard --version` says which it is.

A module belongs here if a profile of the relay under load shows it, not before: what is compiled is harder to look
into. Of mypyc's limits these were met: a parameter's default in a Protocol must be a value, not `...`; a function may
not have the name of a module beside it; an attribute `_thread` becomes a keyword of C.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE: Final = "smtpguard"

COMPILED: Final = (
    "mail/address.py",
    "mail/framing.py",
    "mail/message.py",
    "mail/reply.py",
    "mail/session.py",
    "policy/replies.py",
    "policy/rules.py",
    "policy/standing.py",
    "policy/words.py",
    "record/events.py",
    "record/masker.py",
    "record/record.py",
    "flow/account.py",
    "flow/delivery.py",
    "flow/direct.py",
    "flow/rooms.py",
    "flow/standing.py",
    "flow/transaction.py",
    "flow/walked.py",
    "edge/data.py",
    "edge/destination.py",
    "edge/entrance.py",
    "edge/exchange.py",
    "edge/lines.py",
    "edge/metrics.py",
    "edge/nexthop.py",
    "edge/pipeline.py",
    "edge/pool.py",
    "edge/reader.py",
    "edge/sending.py",
    "edge/slots.py",
    "edge/smtpd.py",
    "edge/spool.py",
    "edge/tally.py",
    "edge/walk.py",
)
"""Modules that a message passes, below the package."""

_FLAGS: Final = ("--ignore-missing-imports", "--disable-error-code=misc")
"""Of mypy: what the package depends on is not there while it is built, so its types are unknown."""


def compile_into(folder: Path, source: Path) -> list[Path]:
    """Compile a copy of the package `source` in `folder`; the extension modules, relative to it.

    subprocess.CalledProcessError where that is not possible, with what the compiler said.
    """
    shutil.copytree(source, folder / PACKAGE, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    subprocess.run(
        [sys.executable, "-c", _SETUP, "--quiet", "build_ext", "--inplace"],
        cwd=folder,
        env={**os.environ, "CFLAGS": os.environ.get("CFLAGS", "-O2 -g0")},
        check=True,
        capture_output=True,
        text=True,
    )
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    return sorted(
        path.relative_to(folder)
        for pattern in (f"*{suffix}", f"{PACKAGE}/**/*{suffix}")
        for path in folder.glob(pattern)
    )


_SETUP: Final = f"""
from mypyc.build import mypycify
from setuptools import setup
modules = mypycify([*{_FLAGS!r}, *({PACKAGE!r} + "/" + name for name in {COMPILED!r})], opt_level="2", debug_level="0")
setup(name={PACKAGE!r}, packages=[], ext_modules=modules)
"""


class Compile(BuildHookInterface[Any]):
    """Called by hatchling around the making of a wheel."""

    _folder: tempfile.TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and tell what is to go into the wheel. An editable wheel shows the source, as it is."""
        if version == "editable" or sys.implementation.name != "cpython":
            return
        self._folder = tempfile.TemporaryDirectory(prefix="smtpguard-build-")
        folder = Path(self._folder.name)
        try:
            made = compile_into(folder, Path(self.root) / PACKAGE)
        except (OSError, subprocess.CalledProcessError) as error:
            said = (getattr(error, "stderr", "") or getattr(error, "stdout", "") or str(error)).strip()
            self.app.display_warning(f"not compiled, the wheel is plain Python: {said[-2000:]}")
            return
        build_data["force_include"].update({str(folder / path): str(path) for path in made})
        build_data["infer_tag"] = True
        build_data["pure_python"] = False

    def finalize(self, *_: object) -> None:
        """The wheel is made."""
        if self._folder is not None:
            self._folder.cleanup()
