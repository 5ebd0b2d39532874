"""A server at work for a test, and who asks it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from smtpguard.edge.metrics import Metrics
from smtpguard.web import Http

READY = {"listening": True, "config": True}


@dataclass
class Client:
    """Asks a server: `await ask(path, method="GET", body=b"", **headers)` is (status, headers, body)."""

    port: int
    session: aiohttp.ClientSession

    async def __call__(
        self, path: str, method: str = "GET", body: bytes | None = None, /, **headers: str
    ) -> tuple[int, Mapping[str, str], bytes]:
        async with self.session.request(method, path, data=body, headers=headers) as response:
            return response.status, response.headers, await response.read()

    async def json(
        self, path: str, method: str = "GET", given: object = None, /, **headers: str
    ) -> tuple[int, dict[str, Any]]:
        """The same with JSON both ways: (status, object)."""
        kind = {"Content-Type": "application/json"} if given is not None else {}
        body = orjson.dumps(given) if given is not None else None
        status, got, octets = await self(path, method, body, **kind, **headers)
        assert got["Content-Type"] == "application/json"
        found = orjson.loads(octets)
        assert isinstance(found, dict)
        return status, found


@asynccontextmanager
async def served(
    *,
    exposition: Callable[[str], tuple[bytes, str]] | None = None,
    ready: Callable[[], Mapping[str, bool]] = lambda: READY,
    token: str = "",
    host: str = "127.0.0.1",
    **more: Any,
) -> AsyncIterator[Client]:
    """A running server, and who asks it."""
    http = Http(
        exposition=exposition or Metrics().exposition, ready=ready, token=token, names=["Relay.example.org"], **more
    )
    _, port = await http.start(host)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            yield Client(port, session)
    finally:
        await http.stop()


def error(body: bytes | Mapping[str, Any]) -> dict[str, Any]:
    """The error that an answer is."""
    found = orjson.loads(body) if isinstance(body, bytes) else body
    assert found.keys() == {"error"}
    assert isinstance(found["error"], dict)
    return dict(found["error"])
