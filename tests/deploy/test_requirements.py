"""deploy/requirements.txt: the same packages as pyproject.toml, at versions that it allows, each known by hash."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.programs import DEPLOY, ROOT

_PINNED: Final = re.compile(r"([\w.\[\],-]+)==([\w.+!-]+)( ; [^\n\\]+)? \\")
_HASH: Final = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")


def locked() -> Mapping[str, list[str]]:
    """The versions by canonical name: more than one where the platform decides."""
    versions: dict[str, list[str]] = {}
    has_hash = True
    for line in (DEPLOY / "requirements.txt").read_text().splitlines():
        if pinned := _PINNED.fullmatch(line):
            assert has_hash, f"no hash before {line}"
            has_hash = False
            versions.setdefault(canonicalize_name(pinned[1].split("[")[0]), []).append(pinned[2])
        elif _HASH.fullmatch(line):
            has_hash = True
        else:
            assert line.lstrip().startswith("#"), line  # and so neither an index nor a file of somewhere else
    assert has_hash
    return versions


def needed() -> list[Requirement]:
    """What pyproject.toml asks for, PostgreSQL's driver included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(each) for each in (*project["dependencies"], *project["optional-dependencies"]["postgres"])]


@pytest.mark.parametrize("requirement", needed(), ids=lambda requirement: requirement.name)
def test_what_is_needed_is_locked_at_a_version_that_is_allowed(requirement: Requirement) -> None:
    versions = locked()[canonicalize_name(requirement.name)]
    assert all(requirement.specifier.contains(version) for version in versions)


def test_the_image_takes_no_package_but_these() -> None:
    installs = re.findall(r"pip install ([^&\n]+)", (DEPLOY / "docker/Dockerfile").read_text())
    assert installs
    for arguments in installs:
        assert "--require-hashes" in arguments or {"--no-deps", "--no-index"} <= set(arguments.split()), arguments
