"""The compiled build: that it is compiled. `make test-compiled` runs this and the tests of the mail path on it."""

from __future__ import annotations

import importlib
import importlib.util
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import smtpguard

ROOT = Path(__file__).resolve().parents[1]


def compiled_modules() -> tuple[str, ...]:
    """The list of the build hook."""
    pytest.importorskip("hatchling", reason="the build backend, hatchling, is not here (pip install hatchling)")
    spec = importlib.util.spec_from_file_location("compile_hook", ROOT / "deploy" / "compile.py")
    assert spec is not None
    assert spec.loader is not None
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    listed: tuple[str, ...] = hook.COMPILED
    return listed


def test_what_is_listed_exists() -> None:
    listed = compiled_modules()
    assert [path for path in listed if not (ROOT / "smtpguard" / path).is_file()] == []
    assert len(set(listed)) == len(listed) > 0


@pytest.mark.skipif(smtpguard.build() == "plain", reason="the source is tested here: make test-compiled")
def test_all_that_is_listed_is_compiled() -> None:
    for path in compiled_modules():
        module = importlib.import_module("smtpguard." + path.removesuffix(".py").replace("/", "."))
        assert str(module.__file__).endswith(tuple(EXTENSION_SUFFIXES)), path
