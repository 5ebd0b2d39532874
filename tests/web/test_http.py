"""HTTP over loopback: what is served, who is turned away, and that every error is JSON."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading

import orjson
import pytest

from smtpguard.classify import load
from smtpguard.edge.metrics import Metrics
from smtpguard.web import HEADERS, Http, is_loopback
from tests.web.served import READY, error, served


async def raw(port: int, octets: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(octets)
    try:
        return await reader.read()
    finally:
        writer.close()


async def test_metrics_in_the_format_asked_for() -> None:
    async with served() as ask:
        status, headers, body = await ask("/metrics")
        assert status == 200
        assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert b"smtpguard_build_info" in body
        _, headers, body = await ask("/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert headers["Content-Type"].startswith("application/openmetrics-text")
        assert body.endswith(b"# EOF\n")
        status, _, body = await ask("/metrics", "HEAD")
        assert (status, body) == (200, b"")


async def test_metrics_are_rendered_off_the_loop_one_at_a_time() -> None:
    threads: list[int] = []
    busy = threading.Lock()
    overlaps: list[bool] = []

    def render(_: str) -> tuple[bytes, str]:
        overlaps.append(not busy.acquire(blocking=False))
        threads.append(threading.get_ident())
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(5)  # the loop is free to answer meanwhile
        busy.release()
        return b"", "text/plain"

    loop = asyncio.get_running_loop()
    async with served(exposition=render) as ask:
        assert [status for status, *_ in await asyncio.gather(*(ask("/metrics") for _ in range(5)))] == [200] * 5
    assert len(threads) == 5
    assert threading.get_ident() not in threads
    assert not any(overlaps)


async def test_alive_is_not_ready() -> None:
    state = {"listening": True, "config": False}
    async with served(ready=lambda: state) as ask:
        assert (await ask("/livez"))[0] == 200
        status, headers, body = await ask("/readyz")
        assert status == 503
        assert headers["Content-Type"] == "application/json"
        assert error(body) == {"code": "service_unavailable", "message": "not ready: config", "checks": state}
        state["config"] = True
        status, _, body = await ask("/readyz")
        assert (status, orjson.loads(body)) == (200, {"status": "ok", "checks": READY})


@pytest.mark.parametrize(
    ("path", "method", "status", "code"),
    [
        ("/", "GET", 404, "not_found"),
        ("/metrics/../etc/passwd", "GET", 404, "not_found"),
        ("/metrics", "POST", 405, "method_not_allowed"),
        ("/livez", "DELETE", 405, "method_not_allowed"),
        ("/readyz", "OPTIONS", 405, "method_not_allowed"),
    ],
)
async def test_errors_are_json(path: str, method: str, status: int, code: str) -> None:
    async with served() as ask:
        got, headers, body = await ask(path, method)
        assert (got, headers["Content-Type"], error(body)["code"]) == (status, "application/json", code)
        assert status != 405 or "GET" in headers["Allow"]


async def test_a_fault_of_ours_is_logged_and_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> dict[str, bool]:
        raise RuntimeError("the inside")

    async with served(ready=broken) as ask:
        status, headers, body = await ask("/readyz")
    assert (status, error(body)["code"]) == (500, "internal_server_error")
    assert b"inside" not in body
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "the inside" in caplog.text


async def test_every_answer_wears_the_security_headers() -> None:
    async with served(token="t") as ask:
        for path, sent in (("/livez", {"Authorization": "Bearer t"}), ("/livez", {}), ("/nowhere", {"Host": "evil"})):
            _, headers, _ = await ask(path, **sent)
            assert {name: headers[name] for name in HEADERS} == HEADERS


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("localhost", True),
        ("LOCALHOST:9125", True),
        ("127.0.0.1:9125", True),
        ("127.8.8.8", True),
        ("[::1]:9125", True),
        ("[::1]", True),
        ("relay.example.org.", True),
        ("evil.example", False),
        ("evil.example:9125", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("localhost:80@evil.example", False),
        ("192.0.2.1", False),
        ("[::1", False),
        ("[::1]x", False),
        ("2130706433", False),
        ("", False),
    ],
)
async def test_a_host_that_is_not_ours_is_turned_away(host: str, ours: bool) -> None:
    async with served() as ask:
        status, _, body = await ask("/livez", Host=host)
        assert status == (200 if ours else 421)
        assert ours or error(body)["code"] == "misdirected_request"
        assert (await raw(ask.port, b"GET /livez HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.0 421")


async def test_on_all_addresses_any_address_but_no_name_is_ours() -> None:
    async with served(host="0.0.0.0", token="t") as ask:
        assert (await ask("/livez", Host="192.0.2.1:9125", Authorization="Bearer t"))[0] == 200
        assert (await ask("/livez", Host="evil.example", Authorization="Bearer t"))[0] == 421


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("Bearer s3cret", 200),
        ("bearer  s3cret", 200),
        ("Bearer s3cre", 401),
        ("Bearer s3crett", 401),
        ("Bearer ", 401),
        ("Basic s3cret", 401),
        ("s3cret", 401),
        ("Bearer gehe\u00efm", 401),
        ("", 401),
    ],
)
async def test_a_token_is_asked_for_everywhere(authorization: str, status: int) -> None:
    async with served(token="s3cret") as ask:
        for path in ("/metrics", "/livez", "/readyz"):
            got, headers, body = await ask(path, Authorization=authorization)
            assert got == status
            if status == 401:
                assert headers["WWW-Authenticate"] == "Bearer"
                assert error(body)["code"] == "unauthorized"
                assert b"s3cret" not in body
        assert (await ask("/nowhere", Authorization=authorization))[0] == (404 if status == 200 else 401)


async def test_others_can_reach_nothing_without_a_token() -> None:
    http = Http(exposition=Metrics().exposition, ready=lambda: READY)
    for host in ("0.0.0.0", "::", "192.0.2.1", "", "relay.example.org"):
        with pytest.raises(ValueError, match="token"):
            await http.start(host)
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        with pytest.raises(ValueError, match="token"):
            await http.start(sock=taken)
    await http.stop()


@pytest.mark.parametrize(
    ("host", "alone"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("10.0.0.1", False)]
)
def test_loopback_is_what_only_we_reach(host: str, alone: bool) -> None:
    assert is_loopback(host) is alone


async def test_a_socket_may_be_handed_over_and_a_taken_port_is_an_error() -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    http = Http(exposition=Metrics().exposition, ready=lambda: READY)
    bound = await http.start(sock=listener)
    assert bound == listener.getsockname()
    answer = await raw(bound[1], b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    second = Http(exposition=Metrics().exposition, ready=lambda: READY)
    with pytest.raises(OSError, match="in use"):
        await second.start(*bound)
    await http.stop()
    await http.stop()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*bound)


async def test_requests_are_bounded() -> None:
    async with served() as ask:
        for octets in (
            b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        ):
            assert (await raw(ask.port, octets)).startswith(b"HTTP/1.")
        assert (await ask("/livez"))[0] == 200


async def test_what_is_no_http_is_refused_without_filling_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with served() as ask:
            await ask("/livez")
            for octets in (b"\x16\x03\x01\x00\r\n\r\n", b"EHLO x\r\n\r\n", b"GET / HTTP/1.1\r\nA\x00: b\r\n\r\n"):
                answer = await raw(ask.port, octets)
                assert answer == b"" or b" 400 " in answer.splitlines()[0]
            assert (await ask("/livez"))[0] == 200
    assert caplog.text == ""


async def test_localhost_is_an_address_to_listen_on() -> None:
    http = Http(exposition=Metrics().exposition, ready=lambda: READY)
    host, port = await http.start("localhost")
    assert is_loopback(host)
    assert port > 0
    await http.stop()


async def test_stop_does_not_wait_for_idle_clients() -> None:
    http = Http(exposition=Metrics().exposition, ready=lambda: READY)
    bound = await http.start()
    reader, writer = await asyncio.open_connection(*bound)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    async with asyncio.timeout(5):
        await http.stop()
        await reader.read()
    writer.close()


async def test_a_client_that_leaves_within_its_request_is_no_fault_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with served(classifier=load) as ask:
            _, writer = await asyncio.open_connection("127.0.0.1", ask.port)
            head = b"Host: localhost\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\n"
            writer.write(b"POST /api/v1/explain HTTP/1.1\r\n" + head)
            await writer.drain()
            assert (await ask("/livez"))[0] == 200  # by then it waits for the rest
            writer.close()
            await writer.wait_closed()
            assert (await ask("/livez"))[0] == 200  # by then it has seen the end
    assert caplog.text == ""
