"""The life of the service: start, reload, drain, stop, a sudden end (contract 1.6, 3, 6).

What belongs to signals and exit codes is shown on a process of its own (`tests.program`); what is left behind inside of
a process, on a relay in the test's loop.
"""

from __future__ import annotations

import asyncio
import gc
import os
import pty
import re
import signal
import socket
import time
from pathlib import Path

import pytest

from smtpguard.sandbox import Delay, Hang, Ok, Sandbox, Script
from tests.harness import MESSAGE, PATIENT, Client, Guard, code, open_descriptors, relay
from tests.program import config, launch, program, until
from tests.test_octets import hello


async def envelope(client: Client, door: str = "smtp", rcpt: str = "b@r.example") -> None:
    """Greeting, hello, MAIL and RCPT, taken."""
    await client.greet(hello(door))
    assert code(await client.say("MAIL FROM:<a@s.example>", f"RCPT TO:<{rcpt}>")) == "250 2.1.5"


async def message(client: Client) -> str:
    """DATA and a message; the code of the answer."""
    assert (await client.say("DATA"))[0].startswith("354")
    client.send(MESSAGE + b".\r\n")
    return code(await client.reply())


async def get(where: int, path: str) -> tuple[int, str]:
    """GET from the service: status and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", where)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), body


def rewrite(guard: Guard, old: str, new: str) -> None:
    """Change the relay's configuration file."""
    text = guard.config.read_text()
    assert old in text
    guard.config.write_text(text.replace(old, new))


# -- nothing is left -------------------------------------------------------------------------------------------------


async def test_what_was_opened_is_closed(tmp_path: Path) -> None:
    """Descriptors and tasks after the end are those before the start, whatever was under way. Warnings are errors."""
    where = f'lmtp = ["127.0.0.1:0", "unix:{tmp_path}/lmtp.sock"]'
    hop = Sandbox(script=Script({"RCPT": [Ok(), Hang()], "DOT": [Ok(), Hang()]}))
    async with relay():  # what is opened once a process
        pass
    descriptors, tasks = open_descriptors(), len(asyncio.all_tasks())
    async with relay(
        hop=hop, listen=where, next_hop=PATIENT, more='[relay]\nhostname = "g.test"\ndrain = "0s"'
    ) as guard:
        clients = [Client(guard.smtp), Client(guard.smtp), Client(guard.smtp), Client(f"{tmp_path}/lmtp.sock")]
        done, at_rcpt, at_dot, over_unix = clients
        for client in clients:
            await client.__aenter__()
        await envelope(done)
        assert await message(done) == "250 2.0.0"
        await at_rcpt.greet()
        assert code(await at_rcpt.say("MAIL FROM:<a@s.example>")) == "250 2.1.0"
        at_rcpt.send(b"RCPT TO:<b@r.example>\r\n")
        await envelope(over_unix, "lmtp")
        assert (await over_unix.say("DATA"))[0].startswith("354")
        over_unix.send(b"x" * 1_000_000)
        guard.hop.script = Script({"DOT": Hang()})
        await envelope(at_dot)
        await at_dot.say("DATA")
        at_dot.send(MESSAGE + b".\r\n")
        await until(lambda: any(line.startswith(b"BDAT") for line in guard.hop.commands[-1:]))
        await get(guard.http, "/metrics")
    for client in clients:
        await client.ended()
        await client.__aexit__(None, None, None)
    gc.collect()
    await until(lambda: len(asyncio.all_tasks()) <= tasks)
    assert open_descriptors() <= descriptors
    assert not (tmp_path / "lmtp.sock").exists()


# -- start -----------------------------------------------------------------------------------------------------------


async def test_the_sandbox_needs_no_configuration(tmp_path: Path) -> None:
    ports = {f"SMTPGUARD__LISTEN__{door}": "127.0.0.1:0" for door in ("SMTP", "LMTP")}
    running = await launch(
        "serve",
        "--sandbox",
        "--maildir",
        str(tmp_path / "mail"),
        environ={**ports, "SMTPGUARD__HTTP__LISTEN": "127.0.0.1:0"},
    )
    try:
        [started] = await running.events("service-started")
        assert {"smtpguard.listen.smtp", "smtpguard.listen.lmtp", "smtpguard.listen.http"} <= set(started)
        assert started["log.level"] == "info"
        async with Client(running.port("smtp")) as client:
            await envelope(client)
            assert await message(client) == "250 2.0.0"
            assert (await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<google.dmarc@r.example>", "DATA"))[0][
                :3
            ] == "354"
            client.send(MESSAGE + b".\r\n")
            reply = await client.reply()
        assert reply[0].startswith("550-5.7.26 ")
        assert reply[-2].startswith("550-5.7.26 [smtpguard] Fix: ")
        assert reply[-1].startswith("550 5.7.26 [smtpguard] Cause: auth.dmarc (")
        [refused] = await running.events("recipient-refused")
        assert reply[-1].endswith(f"Id: {refused['event.id']}")
        [kept] = (tmp_path / "mail" / "new").iterdir()
        assert kept.read_bytes().endswith(MESSAGE)
        status, text = await get(running.port("http"), "/metrics")
        assert status == 200
        assert 'smtpguard_rejections_total{category="auth.dmarc"} 1.0' in text
        assert (await get(running.port("http"), "/readyz"))[0] == 200
        assert (await get(running.port("http"), "/livez"))[0] == 200
        running.signal(signal.SIGINT)
        assert await running.ended() == 0
        assert [line["event.action"] for line in running.lines[-2:]] == ["service-stopping", "service-stopped"]
        assert await running.complaint() == ""
    finally:
        await running.kill()


async def test_a_bad_configuration_is_exit_code_2(tmp_path: Path) -> None:
    path = config(tmp_path, 1, next_hop='tlss = "none"')
    running = await launch("serve", "--config", str(path))
    assert await running.ended() == 2
    said = await running.complaint()
    assert re.search(r"smtpguard\.toml:\d+: next_hop\.default\.tlss: ", said)
    assert "Traceback" not in said
    assert not running.lines


@pytest.mark.parametrize("door", ["smtp", "lmtp", "http"])
async def test_a_port_that_is_taken_is_exit_code_2_with_the_remedy(door: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        path = config(tmp_path, 1)
        key = "HTTP__LISTEN" if door == "http" else f"LISTEN__{door.upper()}"
        running = await launch("serve", "--config", str(path), environ={f"SMTPGUARD__{key}": where})
        assert await running.ended() == 2
        said = await running.complaint()
        assert where in said
        assert "is another smtpguard running, or the port taken?" in said
        assert "Traceback" not in said


# -- reload ----------------------------------------------------------------------------------------------------------


async def test_a_reload_changes_the_next_transaction_and_leaves_those_under_way() -> None:
    """On the SMTP door the old next hop has the envelope already, on the LMTP door it is first spoken to at the dot."""
    async with Sandbox() as second, relay(next_hop=PATIENT) as guard:
        async with (
            Client(guard.smtp) as begun,
            Client(guard.lmtp) as not_begun,
            Client(guard.smtp) as to_come,
        ):
            await envelope(begun)
            await envelope(not_begun, "lmtp")
            await to_come.greet()
            rewrite(guard, f"port = {guard.hop.port}", f"port = {second.port}")
            assert await guard.service.reload()
            [event] = await guard.events("config-reloaded")
            assert event["event.outcome"] == "success"
            assert guard.sample("config_last_reload_successful") == 1
            assert code(await begun.say("RCPT TO:<c@r.example>")) == "250 2.1.5"
            for client in (begun, not_begun):
                assert await message(client) == "250 2.0.0"
            assert sorted(len(each.rcpts) for each in guard.hop.messages) == [1, 2]
            assert not second.messages
            for client in (begun, not_begun, to_come):
                assert code(await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>")) == "250 2.1.5"
                assert await message(client) == "250 2.0.0"
            assert (len(guard.hop.messages), len(second.messages)) == (2, 3)
        await until(lambda: guard.hop.open_connections == 0)  # the old next hop is let go


async def test_a_new_hostname_counts_in_greeting_and_ehlo() -> None:
    async with relay() as guard:
        rewrite(guard, 'hostname = "guard.test"', 'hostname = "renamed.test"')
        assert await guard.service.reload()
        async with Client(guard.smtp) as client:
            assert (await client.reply())[0].startswith("220 renamed.test ")
            await client.say("EHLO client.example")
            assert code(await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>")) == "250 2.1.5"
            assert await message(client) == "250 2.0.0"
        assert guard.hop.messages[0].helo == b"renamed.test"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('tls = "none"', 'tls = "sometimes"'),
        ("[privacy]", "[privacy"),
        ("[privacy]", '[[route]]\nsender_domain = ["x"]\nnext_hop = "nowhere"\n[privacy]'),
        ('tls = "none"', 'tls = "required"\ntls_ca_file = "{dir}/not-a-certificate.pem"'),
    ],
    ids=["a bad value", "no TOML", "a route to nowhere", "a certificate that is none"],
)
async def test_a_bad_file_changes_nothing(old: str, new: str) -> None:
    files = {"not-a-certificate.pem": "-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n"}
    async with relay(files=files) as guard, Client(guard.smtp) as client:
        await envelope(client)
        before = guard.service.settings
        rewrite(guard, old, new.replace("{dir}", str(guard.config.parent)))
        guard.config.write_text(guard.config.read_text() + "\n[reply]\nexplain = false\n")
        assert not await guard.service.reload()
        [event] = await guard.events("config-reloaded")
        assert (event["event.outcome"], event["log.level"]) == ("failure", "error")
        assert guard.sample("config_last_reload_successful") == 0
        assert guard.service.settings == before
        assert await message(client) == "250 2.0.0"
        assert code(await client.say("MAIL FROM:<a@s.example>")) == "250 2.1.0"
        assert "[smtpguard]" in (await client.say("RCPT TO:<550-5.1.1@r.example>"))[-1]
        assert (await get(guard.http, "/readyz"))[0] == 200


async def test_a_reload_after_a_bad_one_is_good_again() -> None:
    async with relay() as guard:
        rewrite(guard, 'tls = "none"', 'tls = "sometimes"')
        assert not await guard.service.reload()
        rewrite(guard, 'tls = "sometimes"', 'tls = "none"')
        assert await guard.service.reload()
        assert guard.sample("config_last_reload_successful") == 1
        async with Client(guard.smtp) as client:
            await envelope(client)
            assert await message(client) == "250 2.0.0"


async def test_keys_that_need_a_restart_are_named_and_the_rest_counts() -> None:
    async with relay() as guard:
        rewrite(guard, "[listen]\n", "[listen]\nmax_sessions = 7\nidle_timeout = '7s'\n")
        guard.config.write_text(guard.config.read_text() + "\n[reply]\nexplain = false\n")
        assert await guard.service.reload()
        [event] = await guard.events("config-reloaded")
        assert "a restart is needed for listen.idle_timeout, listen.max_sessions" in event["message"]
        assert guard.service.settings.listen.max_sessions == 500
        async with Client(guard.smtp) as client:
            await client.greet()
            reply = await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<550-5.1.1@r.example>")
            assert not [line for line in reply if "[smtpguard]" in line]


async def test_sighup_reloads(tmp_path: Path) -> None:
    async with Sandbox() as hop, Sandbox() as second, program(tmp_path, hop.port) as running:
        path = tmp_path / "smtpguard.toml"
        text = path.read_text()
        for number, (content, outcome) in enumerate(
            [("nonsense", "failure"), (text.replace(str(hop.port), str(second.port)), "success")], 1
        ):
            path.write_text(content)
            running.signal(signal.SIGHUP)
            assert (await running.events("config-reloaded", number))[-1]["event.outcome"] == outcome
            async with Client(running.port("smtp")) as client:
                await envelope(client)
                assert await message(client) == "250 2.0.0"
            assert (len(hop.messages), len(second.messages)) == (1, number - 1)
            _, metrics = await get(running.port("http"), "/metrics")
            assert f"smtpguard_config_last_reload_successful {number - 1}.0" in metrics


async def test_a_closed_terminal_stops_it_and_an_open_one_reloads(tmp_path: Path) -> None:
    ours, its = pty.openpty()
    try:
        async with Sandbox() as hop:
            running = await launch("serve", "--config", str(config(tmp_path, hop.port)), stdin=its)
            try:
                await running.events("service-started")
                running.signal(signal.SIGHUP)
                await running.events("config-reloaded")
                os.close(ours)
                running.signal(signal.SIGHUP)
                assert await running.ended() == 0
                assert await running.events("service-stopped")
            finally:
                await running.kill()
    finally:
        os.close(its)


# -- stop ------------------------------------------------------------------------------------------------------------


async def test_sigterm_says_421_before_the_dot_and_waits_for_the_hop_behind_it(tmp_path: Path) -> None:
    async with (
        Sandbox(script=Script({"DOT": Delay(1.0)})) as hop,
        program(tmp_path, hop.port, relay='drain = "9s"', next_hop=PATIENT) as running,
        Client(running.port("smtp")) as idle,
        Client(running.port("smtp")) as in_envelope,
        Client(running.port("lmtp")) as in_data,
        Client(running.port("smtp")) as after_dot,
        Client(running.port("lmtp")) as after_lmtp_dot,
    ):
        await idle.greet()
        await envelope(in_envelope)
        await envelope(in_data, "lmtp")
        assert (await in_data.say("DATA"))[0].startswith("354")
        in_data.send(MESSAGE)
        for client, door in ((after_dot, "smtp"), (after_lmtp_dot, "lmtp")):
            await envelope(client, door)
            await client.say("DATA")
            client.send(MESSAGE + b".\r\n")
        await until(lambda: sum(line.startswith(b"BDAT") for line in hop.commands) == 2)
        running.signal(signal.SIGTERM)
        for client in (idle, in_envelope, in_data):
            assert code(await client.reply()) == "421 4.3.2"
            assert await client.ended()
        assert not hop.messages  # those were told at once
        for client in (after_dot, after_lmtp_dot):
            assert code(await client.reply()) == "250 2.0.0"
            assert await client.ended()
        with pytest.raises(ConnectionRefusedError):
            await Client(running.port("smtp")).__aenter__()
        assert await running.ended() == 0
        assert len(hop.messages) == 2
        outcomes = [line["event.outcome"] for line in running.lines if line["event.action"] == "transaction"]
        assert outcomes.count("success") == 2
        assert "unknown" not in outcomes
        assert await running.complaint() == ""


async def test_after_the_drain_what_is_left_is_cut(tmp_path: Path) -> None:
    async with (
        Sandbox(script=Script({"DOT": Hang()})) as hop,
        program(tmp_path, hop.port, relay='drain = "300ms"', next_hop=PATIENT) as running,
        Client(running.port("smtp")) as client,
    ):
        await envelope(client)
        await client.say("DATA")
        client.send(MESSAGE + b".\r\n")
        await until(lambda: any(line.startswith(b"BDAT") for line in hop.commands))
        begun = time.monotonic()
        running.signal(signal.SIGTERM)
        assert await client.ended()
        assert await running.ended() == 0
        assert 0.25 < time.monotonic() - begun < 5.0
        [transaction] = await running.events("transaction")
        assert transaction["event.outcome"] == "unknown"  # the hop may have it
        assert "1 session" in (await running.events("service-stopped"))[0]["message"]


async def test_a_second_sigterm_changes_nothing(tmp_path: Path) -> None:
    async with (
        Sandbox(script=Script({"DOT": Delay(0.5)})) as hop,
        program(tmp_path, hop.port, next_hop=PATIENT) as running,
        Client(running.port("smtp")) as client,
    ):
        await envelope(client)
        await client.say("DATA")
        client.send(MESSAGE + b".\r\n")
        await until(lambda: any(line.startswith(b"BDAT") for line in hop.commands))
        running.signal(signal.SIGTERM)
        await running.events("service-stopping")
        running.signal(signal.SIGTERM)
        running.signal(signal.SIGHUP)
        assert code(await client.reply()) == "250 2.0.0"
        assert await running.ended() == 0


async def test_sigkill_leaves_no_file(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    async with (
        Sandbox() as hop,
        program(tmp_path, hop.port, relay=f'spool_dir = "{spool}"') as running,
        Client(running.port("smtp")) as client,
    ):
        await envelope(client)
        await client.say("DATA")
        client.send((b"x" * 998 + b"\r\n") * 2_000)
        await client.writer.drain()

        def is_spooled() -> bool:
            return any(name.startswith(str(spool)) for name in running.descriptors())

        await until(is_spooled)
        running.signal(signal.SIGKILL)
        assert await running.ended() == -signal.SIGKILL
        assert not list(spool.iterdir())
        assert not hop.messages


async def test_a_history_that_comes_back_leaves_transactions_their_next_hop_at_a_reload() -> None:
    async with relay() as guard, Client(guard.smtp) as client:
        await client.greet()
        await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>")
        guard.service._tell_store("")
        guard.config.write_text(guard.config.read_text().replace("20s", "21s"))
        assert await guard.service.reload()
        assert [former.under_way for former in guard.service._former.relays] == [1]
        await client.say("DATA")
        client.send(MESSAGE + b".\r\n")
        assert code(await client.reply()) == "250 2.0.0"
