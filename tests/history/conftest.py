"""Stores to test with: each test of `url` runs with a file and with PostgreSQL, of `any_url` with memory too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.history.cluster import Cluster, missing

POSTGRES = pytest.param("postgres", marks=pytest.mark.skipif(bool(missing()), reason=missing()))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.close()


def _url(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if kind == "postgres":
        found: Cluster = request.getfixturevalue("cluster")
        return found.database()
    return f"sqlite:///{tmp_path}/history.db" if kind == "file" else ""


@pytest.fixture(params=["file", POSTGRES])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that several can share."""
    return _url(request.param, request, tmp_path)


@pytest.fixture(params=["file", "memory", POSTGRES])
def any_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return _url(request.param, request, tmp_path)


@pytest.fixture(params=[POSTGRES])
def postgres_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return _url(request.param, request, tmp_path)
