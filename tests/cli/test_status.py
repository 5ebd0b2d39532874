"""`smtpguard status`: what a real relay says of itself, and what is said where there is none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from smtpguard.cli.status import Status, _shown, run
from smtpguard.config import ListenAddress
from smtpguard.edge.metrics import Metrics
from smtpguard.sandbox import Close, Ok, Say, Script
from smtpguard.web import Http
from tests.e2e.mta import free_port
from tests.harness import Client, Guard, relay


def status(
    http: str, *, as_json: bool = False, path: Path | None = None, environ: Mapping[str, str] | None = None
) -> int:
    return run(path, environ or {}, http=http, as_json=as_json, color=False)


async def asked(guard: Guard, *, as_json: bool = False) -> int:
    return await asyncio.to_thread(status, f"127.0.0.1:{guard.http}", as_json=as_json)


async def send(guard: Guard, *rcpts: str) -> None:
    """A transaction through the SMTP door, to the end."""
    async with Client(guard.smtp) as client:
        await client.greet()
        await client.say("MAIL FROM:<a@example.com>")
        for rcpt in rcpts:
            await client.say(f"RCPT TO:<{rcpt}>")
        if (await client.say("DATA"))[0].startswith("354"):
            client.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
            await client.reply()


async def test_what_was_done_and_refused(capsys: pytest.CaptureFixture[str]) -> None:
    async with relay() as guard:
        assert await asked(guard) == 0
        assert "refused       nothing" in capsys.readouterr().out
        await send(guard, "b@example.org", "550-5.1.1@example.org")
        await send(guard, "550-5.1.1@example.org")
        await guard.events("transaction", 2)
        assert await asked(guard, as_json=True) == 0
        found = json.loads(capsys.readouterr().out)
        assert await asked(guard) == 0
    assert (found["running"], found["ready"], found["problems"]) == (True, True, [])
    assert found["recipients"] == {"accepted": 1, "rejected": 2, "deferred": 0}
    assert found["refused"] == {"recipient.unknown": {"rejected": 2, "deferred": 0}}
    assert found["next_hops"]["default"]["given_up"] == 0
    said = capsys.readouterr().out
    assert "runs, ready" in said
    assert "3: 1 accepted, 2 rejected" in said
    assert "     2 recipient.unknown            2 rejected" in said


async def test_a_next_hop_that_is_given_up_is_a_problem(capsys: pytest.CaptureFixture[str]) -> None:
    async with relay(script=Script({"CONNECT": [Ok(), *[Close()] * 50]})) as guard:
        for _ in range(8):
            await send(guard, "b@example.org")
            if guard.sample("next_hop_breaker_open", next_hop="default"):
                break
            await guard.hop.stop()
        assert await asked(guard) == 1
    assert "next hop default is given up for now" in capsys.readouterr().out


async def test_a_next_hop_that_lets_nobody_in_is_a_problem(capsys: pytest.CaptureFixture[str]) -> None:
    async with relay(script=Script({"CONNECT": Say("554 5.7.1 not you")})) as guard:
        await send(guard, "b@example.org")
        assert await asked(guard) == 1
    assert "next hop default has let nobody in yet" in capsys.readouterr().out


async def test_a_reload_that_was_refused_is_a_problem(capsys: pytest.CaptureFixture[str]) -> None:
    async with relay(script=Script({"MAIL": Say("250 2.1.0 Ok")})) as guard:
        guard.config.write_text("nonsense")
        assert await guard.service.reload() is False
        assert await asked(guard, as_json=True) == 1
    [problem] = json.loads(capsys.readouterr().out)["problems"]
    assert "the last reload was refused" in problem


async def test_with_a_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    http = Http(exposition=Metrics().exposition, ready=lambda: {"listening": True}, token="t0ken")
    _, port = await http.start()
    try:
        assert await asyncio.to_thread(status, f"127.0.0.1:{port}") == 2  # nobody told us the token
        assert "answers 401" in capsys.readouterr().err
        config = tmp_path / "s.toml"
        (tmp_path / "token").write_text("t0ken\n")
        config.write_text(f'[http]\nlisten = "127.0.0.1:{port}"\ntoken_file = "{tmp_path}/token"\n')
        assert await asyncio.to_thread(status, "", path=config) == 0
    finally:
        await http.stop()
    said = capsys.readouterr()
    assert "t0ken" not in said.out + said.err


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    assert status(f"127.0.0.1:{port}") == 1
    assert capsys.readouterr().out == f"smtpguard does not run: nobody answers at 127.0.0.1:{port}\n"
    assert status(f"127.0.0.1:{port}", as_json=True) == 1
    assert json.loads(capsys.readouterr().out) == {"running": False}


async def test_somebody_else_there(capsys: pytest.CaptureFixture[str]) -> None:
    async with relay() as guard:  # a port of ours, but no HTTP
        assert await asyncio.to_thread(status, f"127.0.0.1:{guard.smtp}") == 2
    assert "speaks no HTTP" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("http", "environ", "words"),
    [
        ("nonsense", {}, "not host:port"),
        ("", {"SMTPGUARD__HTTP__LISTEN": ""}, "http.listen is off"),
        ("", {"SMTPGUARD__HTTP__LISTEN": "127.0.0.1:0"}, "port 0"),
        ("", {"SMTPGUARD__HTTP__LISTEN": "x"}, "SMTPGUARD__HTTP__LISTEN"),
    ],
)
def test_where_it_cannot_ask(
    http: str, environ: dict[str, str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "empty.toml").write_text("")
    assert status(http, path=tmp_path / "empty.toml", environ=environ) == 2
    assert words in capsys.readouterr().err


def test_all_that_is_wrong_with_the_settings_is_told_one_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "s.toml"
    path.write_text('[http]\nlisten = "x"\ntokn_file = "y"\n')
    assert status("", path=path) == 2
    first, second, remedy = capsys.readouterr().err.splitlines()
    assert first.startswith("smtpguard status: ")
    assert "http.listen" in first
    assert second.endswith("did you mean 'token_file'?")
    assert remedy == "smtpguard status: give --http HOST:PORT"


async def test_a_bad_file_does_not_keep_from_asking(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.toml"
    async with relay() as guard:
        path.write_text(f'[http]\nlisten = "127.0.0.1:{guard.http}"\n[lint]\nmode = "enforced"\n')
        assert await asyncio.to_thread(status, "", path=path) == 0
        path.write_text("[http\n")
        assert await asyncio.to_thread(status, "", path=path) == 2
        assert await asyncio.to_thread(status, f"127.0.0.1:{guard.http}", path=path) == 0
    assert capsys.readouterr().out.count("runs, ready") == 2


def test_doors_are_in_a_fixed_order() -> None:
    doors = [{"smtp": 1, "lmtp": 2}, {"lmtp": 2, "smtp": 1}]
    shown = []
    for each in doors:
        known = Status()
        for door, now in each.items():
            known.sessions[door]["now"] = now
        shown.append("\n".join(_shown(known, ListenAddress("127.0.0.1", 1), color=False)))
    assert shown[0] == shown[1]
    assert shown[0].index("lmtp door") < shown[0].index("smtp door")
