"""The wheel and the sdist: what is inside, and that the wheel installs from nothing into a new venv and runs there."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import Final

import pytest

from tests.deploy.programs import ROOT

PACKAGE: Final = ROOT / "smtpguard"
DATA: Final = {
    str(path.relative_to(ROOT))
    for pattern in ("**/*.toml", "**/*.py", "**/*.sql", "**/*.txt", "py.typed")
    for path in PACKAGE.glob(pattern)
}
SAYS_OFFLINE: Final = (
    "Could not find a version",
    "No matching distribution",
    "Connection",
    "Name or service not known",
)


def run(*words: str | Path, cwd: Path | None = None, timeout_s: float = 180) -> subprocess.CompletedProcess[str]:
    """Without the variables that would lend it modules of ours."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "SMTPGUARD"))}
    return subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=timeout_s, cwd=cwd, env=environ)


def skip_if_offline(done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode != 0 and any(word in done.stderr + done.stdout for word in SAYS_OFFLINE):
        pytest.skip(f"no package index here: {done.stderr.splitlines()[-1]}")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel, built from the sdist as an index would have it, and the sdist."""
    pytest.importorskip("hatchling", reason="the build backend, hatchling, is not here (pip install hatchling)")
    folder = tmp_path_factory.mktemp("dist")
    build = "import hatchling.build as b, os, sys; print(getattr(b, sys.argv[2])(sys.argv[1]))"
    done = run(sys.executable, "-c", build, folder, "build_sdist", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    source = folder / "source"
    with tarfile.open(next(folder.glob("*.tar.gz"))) as sdist:
        sdist.extractall(source, filter="data")
    (unpacked,) = source.iterdir()
    done = run(sys.executable, "-c", build, folder, "build_wheel", cwd=unpacked)
    assert done.returncode == 0, done.stderr
    return folder


def test_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        licences = [name for name in wheel.namelist() if name.endswith("licenses/LICENSE")]
    assert names == DATA
    assert {"smtpguard/py.typed", "smtpguard/classify/categories.toml"} <= names
    assert any(name.startswith("smtpguard/classify/rules/") for name in names)
    assert licences


def test_sdist_holds_what_builds_and_documents_it(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    wanted = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "config/smtpguard.toml"}
    assert wanted <= names
    assert names >= DATA
    assert not [name for name in names if name.startswith((".cache/", ".venv/", ".git/"))]


def test_it_installs_from_nothing(built: Path, tmp_path: Path) -> None:
    """In a new venv with no other path: the command says its version, explains, and has its rules."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    wheel = next(built.glob("*.whl"))
    done = run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--prefer-binary", wheel)
    skip_if_offline(done)
    assert done.returncode == 0, done.stderr
    command = home / "bin" / "smtpguard"
    version = run(command, "--version", cwd=tmp_path)
    assert version.stdout.startswith("smtpguard "), version.stderr
    explained = run(command, "explain", "550 5.1.1 <ann@example.net>: no such user here", cwd=tmp_path)
    assert explained.returncode == 0, explained.stderr
    assert "recipient.unknown" in explained.stdout
    assert run(command, "config", "sample", cwd=tmp_path).stdout == (ROOT / "config" / "smtpguard.toml").read_text()
    assert run(python, "-m", "pip", "check").returncode == 0
