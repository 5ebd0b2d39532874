"""Policy files over https on loopback: what is taken, and all that is no policy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from smtpguard.audit.inbound import NoFile
from smtpguard.cli.policyfile import PolicyFiles
from smtpguard.mailauth.mtasts import MAX_POLICY, url_of
from tests.certs import ca_and_server, client_context, server_context
from tests.mailauth.zone import Zone

URL = url_of("a.test")
ZONE = {"mta-sts.a.test": [{"A": "127.0.0.1"}]}
BODY = b"version: STSv1\nmode: none\nmax_age: 86400\n"


class Site(NamedTuple):
    """A server that says the same to everybody; `heads` are the requests."""

    port: int
    heads: list[bytes]


@asynccontextmanager
async def site(
    directory: Path, reply: bytes, *names: str, expired: bool = False
) -> AsyncIterator[tuple[Site, PolicyFiles]]:
    """A site with a certificate for these names, and what fetches from it."""
    made = ca_and_server(names or ["mta-sts.a.test"], directory=directory, expired=expired)
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(reply)
            await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server_context(made.cert, made.key))
    port = server.sockets[0].getsockname()[1]
    try:
        yield Site(port, heads), PolicyFiles(Zone(ZONE), context=client_context(made.ca), port=port)
    finally:
        server.close()
        await server.wait_closed()


def http(body: bytes, status: str = "200 OK", *fields: str) -> bytes:
    """A reply that ends with the connection."""
    lines = [f"HTTP/1.1 {status}", "Content-Type: text/plain", "Connection: close", *fields, "", ""]
    return "\r\n".join(lines).encode() + body


async def test_a_policy_is_fetched_from_its_place(tmp_path: Path) -> None:
    async with site(tmp_path, http(BODY)) as (server, files):
        assert await files(URL) == BODY
    (head,) = server.heads
    assert head.startswith(b"GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: mta-sts.a.test")


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (http(b"", "404 Not Found"), "answers 404"),
        (http(b"", "301 Moved Permanently", "Location: https://mta-sts.a.test/x"), "answers 301"),
        (b"220 mail ESMTP\r\n", "mta-sts.txt"),
        (b"", "isconnect"),
    ],
    ids=["missing", "redirect", "no http", "silence"],
)
async def test_what_is_no_policy(reply: bytes, why: str, tmp_path: Path) -> None:
    async with site(tmp_path, reply) as (server, files):
        found = await files(URL)
    assert isinstance(found, NoFile)
    assert why in found.why
    assert len(server.heads) <= 2  # aiohttp may ask again where a connection was lost; a redirect is not followed


async def test_no_more_is_read_than_a_policy_may_have(tmp_path: Path) -> None:
    async with site(tmp_path, http(b"x" * (MAX_POLICY + 5000))) as (_, files):
        found = await files(URL)
    assert isinstance(found, bytes)
    assert len(found) == MAX_POLICY + 1


@pytest.mark.parametrize(
    ("names", "is_expired", "why"),
    [(("a.test",), False, "mta-sts.a.test"), (("mta-sts.a.test",), True, "expired")],
    ids=["other name", "expired"],
)
async def test_a_certificate_that_does_not_fit(
    names: tuple[str, ...], is_expired: bool, why: str, tmp_path: Path
) -> None:
    async with site(tmp_path, http(BODY), *names, expired=is_expired) as (server, files):
        found = await files(URL)
    assert isinstance(found, NoFile)
    assert why in found.why
    assert server.heads == []


async def test_nobody_there_and_no_address(tmp_path: Path) -> None:
    async with site(tmp_path, b"") as (server, _):
        pass
    found = await PolicyFiles(Zone(ZONE), port=server.port)(URL)
    assert isinstance(found, NoFile)
    assert "refused" in found.why.lower()
    for zone, why in (({}, "has no address"), ({"mta-sts.a.test": ["TIMEOUT"]}, "could not be looked up (timeout)")):
        found = await PolicyFiles(Zone(zone))(URL)
        assert isinstance(found, NoFile)
        assert why in found.why


async def test_one_who_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smtpguard.cli.policyfile.FETCH_S", 0.3)
    async with await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0) as server:
        found = await PolicyFiles(Zone(ZONE), port=server.sockets[0].getsockname()[1])(URL)
        for writer in held:
            writer.close()
    assert isinstance(found, NoFile)
    assert "does not answer" in found.why


held: list[asyncio.StreamWriter] = []
