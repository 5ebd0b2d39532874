"""A marker password and a marker token: found nowhere that the program speaks (reply, log, metrics, HTTP, output)."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
from asyncio import to_thread
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path

import pytest

from smtpguard.sandbox import Close, Garbage, Sandbox, Say, Script
from tests.harness import MESSAGE, Client, code
from tests.program import config, launch

MARKER = "Marker-7f3a9c-Secret"
PLAIN = b64encode(b"\0guard\0" + MARKER.encode()).decode()


def fetch(port: int, path: str, token: str) -> str:
    """A page, or the error page."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            text: str = answer.read().decode()
            return text
    except urllib.error.HTTPError as refused:
        return f"{refused.code} {refused.headers} {refused.read().decode()}"


@pytest.mark.parametrize(
    "script",
    [
        Script({}),
        Script({"AUTH": Say("535 5.7.8 bad password")}),
        Script({"AUTH": Close()}),
        Script({"AUTH": Garbage()}),
        Script({"AUTH": Say(f"535 5.7.8 not {MARKER}")}),
        Script({"AUTH": Say(f"500 5.5.1 AUTH PLAIN {PLAIN}")}),
        Script({"AUTH": Say(f"250 {PLAIN}")}),
    ],
    ids=["wrong password", "refused", "closed", "garbage", "repeated", "repeated as sent", "repeated in a false reply"],
)
async def test_the_marker_is_nowhere(script: Script, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(MARKER)
    (tmp_path / "token").write_text(MARKER + "-token")
    async with Sandbox(users={"guard": "right"}, script=script) as hop:
        login = f'username = "guard"\npassword_file = "{tmp_path}/password"'
        path = config(tmp_path, hop.port, next_hop=login)
        path.write_text(path.read_text().replace("[http]", f'[http]\ntoken_file = "{tmp_path}/token"'))
        environ: Mapping[str, str] = {**os.environ, "SMTPGUARD__LOG__LEVEL": "debug"}
        running = await launch("serve", "--config", str(path), environ=environ)
        try:
            assert await running.events("service-started"), await running.complaint()
            async with Client(running.port("lmtp")) as client:
                await client.greet("LHLO client.example")
                await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>", "DATA")
                client.send(MESSAGE + b".\r\n")
                reply = await client.reply()
                assert code(reply).startswith("451 ")
            assert await running.events("recipient-refused")
            pages = [
                await to_thread(fetch, running.port("http"), path, token)
                for path in ("/metrics", "/readyz", "/nothing")
                for token in (MARKER + "-token", "wrong")
            ]
            running.signal(signal.SIGHUP)
            await running.events("config-reloaded")
            running.signal(signal.SIGTERM)
            assert await running.ended() == 0
            said = "\n".join([*reply, *pages, json.dumps(running.lines), await running.complaint()])
        finally:
            await running.kill()
        assert "smtpguard_recipients_total" in said  # the pages were read
        assert MARKER not in said
        assert PLAIN not in said
