"""`smtpguard check`: each thing it looks at, found well and found wanting, against real sockets and the sandbox."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from smtpguard.cli import machine
from smtpguard.cli.check import run
from smtpguard.cli.finding import Finding, exit_code, line
from smtpguard.cli.probe import probe
from smtpguard.config import NextHopSettings, load
from smtpguard.config.settings import TimeoutSettings
from smtpguard.edge.host import is_in_memory
from smtpguard.mail.session import Recipient
from smtpguard.sandbox import Hang, Sandbox, Say, Script
from tests.certs import CaAndServer, ca_and_server, self_signed, server_context
from tests.edge.hopping import silent
from tests.harness import relay

BOB = Recipient(b"bob@example.org")


PATIENT = TimeoutSettings.model_validate({"connect": "20s", "command": "20s"})
QUICK = TimeoutSettings.model_validate({"connect": "500ms", "command": "500ms"})


def hop(port: int, **options: Any) -> NextHopSettings:
    given = {"host": ("127.0.0.1",), "port": port, "tls": "none", "timeout": PATIENT, **options}
    return NextHopSettings().model_copy(update=given)


def told(findings: list[Finding], name: str) -> Finding:
    """The first finding of this name, under `next_hop.default`."""
    return next(one for one in findings if one.name == f"next_hop.default{name}")


async def ask(settings: NextHopSettings, rcpt: Recipient | None = None, max_size: int = 1) -> list[Finding]:
    return await probe("default", settings, "guard.test", rcpt=rcpt, max_size=max_size)


# --- the next hop ----------------------------------------------------------------------------------------------


async def test_a_good_next_hop_and_nothing_is_sent(tmp_path: Path) -> None:
    made = ca_and_server(["127.0.0.1"], directory=tmp_path)
    async with Sandbox(tls=server_context(made.cert, made.key), users={"u": "p"}) as sandbox:
        loaded = load(_file(tmp_path, sandbox.port, made), {"SMTPGUARD__NEXT_HOP__DEFAULT__PASSWORD": "p"})
        found = await ask(loaded.settings.next_hop["default"], BOB, max_size=100 * 2**20)
    states = {one.name.removeprefix("next_hop.default"): one.state for one in found}
    # the certificate of these tests lasts a day
    assert states == {
        "": "ok",
        ".tls": "warn",
        ".login": "ok",
        ".ehlo": "ok",
        ".size": "ok",
        ".mail": "ok",
        ".rcpt": "ok",
    }
    assert "TLSv1.3, certificate for 127.0.0.1 until 2" in told(found, ".tls").message
    assert "takes 50 MiB: the doors offer that, not 100 MiB" in told(found, ".size").message
    assert (sandbox.messages, sandbox.connections) == ([], 1)
    assert [command.split(b":")[0] for command in sandbox.commands[-4:]] == [b"MAIL FROM", b"RCPT TO", b"RSET", b"QUIT"]


def _file(directory: Path, port: int, made: CaAndServer) -> Path:
    path = directory / "s.toml"
    path.write_text(
        f'[next_hop.default]\nhost = "127.0.0.1"\nport = {port}\nusername = "u"\ntls_ca_file = "{made.ca}"\n'
    )
    return path


@pytest.mark.parametrize(
    ("script", "name", "state", "message", "remedy"),
    [
        ({"CONNECT": Say("554 5.7.1 go away")}, "", "fail", "refuses CONNECT: 554 5.7.1 go away", "("),
        ({"EHLO": Say("550 5.7.1 bad name")}, ".ehlo", "fail", "refuses EHLO: 550", "relay.hostname"),
        ({"MAIL": Say("550 5.7.1 no null sender")}, ".mail", "warn", "MAIL FROM:<>: 550", "bounces"),
        ({"MAIL": Say("530 5.7.0 log in")}, ".mail", "fail", "MAIL FROM:<>: 530", "set username and password_file"),
        ({"MAIL": Say("451 4.3.0 later")}, ".mail", "fail", "MAIL FROM:<>: 451", "bounces"),
        (
            {"RCPT": Say("550 5.1.1 unknown user")},
            ".rcpt",
            "fail",
            "RCPT TO:<bob@example.org>: 550 5.1.1",
            "(recipient.",
        ),
        ({"CONNECT": Hang()}, "", "fail", "timeout", "465"),
        ({"RCPT": Hang()}, ".rcpt", "fail", "timeout at RCPT", "log"),
    ],
)
async def test_what_it_refuses(script: dict[str, Any], name: str, state: str, message: str, remedy: str) -> None:
    timeout = QUICK if any(isinstance(does, Hang) for does in script.values()) else PATIENT
    async with Sandbox(script=Script(script)) as sandbox:
        finding = told(await ask(hop(sandbox.port, timeout=timeout), BOB), name)
    assert finding.state == state
    assert message in finding.message
    assert remedy in finding.remedy


async def test_a_port_that_a_firewall_drops() -> None:
    with silent("127.0.0.88", 2525):
        finding = told(await ask(hop(2525, host=("127.0.0.88",), timeout=QUICK)), "")
    assert (finding.state, finding.message) == ("fail", "127.0.0.88:2525 connect: 127.0.0.88: no answer")
    assert "a firewall drops port 2525" in finding.remedy


async def test_nobody_there_and_each_host_by_itself() -> None:
    async with Sandbox() as sandbox:
        found = await ask(hop(sandbox.port, host=("127.0.0.2", "127.0.0.1", "127.0.0.3")))
    first = [one for one in found if one.name == "next_hop.default"]
    assert [one.state for one in first] == ["fail", "ok", "fail"]
    assert "127.0.0.2: Connection refused" in first[0].message
    assert "nothing listens there" in first[0].remedy


@pytest.mark.parametrize(
    ("names", "expired", "trusted", "options", "remedy"),
    [
        (["other.example"], False, True, {"tls_name": "mail.example"}, "set tls_name"),
        (["127.0.0.1"], True, True, {}, "past its date"),
        (["127.0.0.1"], False, False, {}, "tls_ca_file"),
    ],
)
async def test_a_bad_certificate(
    names: list[str], expired: bool, trusted: bool, options: dict[str, Any], remedy: str, tmp_path: Path
) -> None:
    made = ca_and_server(names, directory=tmp_path, expired=expired)
    (tmp_path / "other").mkdir()
    other, _ = self_signed(["x.example"], directory=tmp_path / "other")
    async with Sandbox(tls=server_context(made.cert, made.key)) as sandbox:
        ca = made.ca if trusted else other
        finding = told(await ask(hop(sandbox.port, tls="required", tls_ca_file=str(ca), **options)), ".tls")
    assert finding.state == "fail"
    assert remedy in finding.remedy


async def test_tls_and_login_that_are_not_offered(tmp_path: Path) -> None:
    async with Sandbox() as sandbox:
        assert "offers no STARTTLS" in told(await ask(hop(sandbox.port, tls="required")), ".tls").remedy
        assert "take username out" in told(await ask(hop(sandbox.port, username="u")), ".login").remedy
        opportunistic = await ask(hop(sandbox.port, tls="opportunistic"))
        assert told(opportunistic, ".tls").state == "ok"  # this machine
        implicit = await ask(hop(sandbox.port, tls="implicit"))
        assert "speaks no TLS at once" in told(implicit, ".tls").remedy


async def test_a_wrong_password_is_not_shown_nor_tried_on_a_second_connection(tmp_path: Path) -> None:
    made = ca_and_server(["127.0.0.1"], directory=tmp_path)
    async with Sandbox(tls=server_context(made.cert, made.key), users={"u": "p"}) as sandbox:
        path = _file(tmp_path, sandbox.port, made)
        loaded = load(path, {"SMTPGUARD__NEXT_HOP__DEFAULT__PASSWORD": "marker-secret"})
        found = await ask(loaded.settings.next_hop["default"])
    [finding] = found
    assert (finding.name, finding.state, finding.is_temporary) == ("next_hop.default.login", "fail", False)
    assert "535 5.7.8" in finding.message
    assert "marker-secret" not in repr(found)
    assert sandbox.connections == 1  # each try counts against the account


async def test_what_it_lacks_is_said_with_what_that_costs() -> None:
    async with Sandbox(keywords=("SIZE 1000", "PIPELINING")) as sandbox:
        found = await ask(hop(sandbox.port, discard_keywords=("PIPELINING",)), max_size=2000)
    ehlo = [(one.state, one.message.split(" ", 1)[1]) for one in found if one.name.endswith(".ehlo")]
    assert ehlo[0] == ("ok", "offers nothing")
    assert [state for state, _ in ehlo[1:]] == ["warn", "ok", "ok", "ok", "ok"]
    assert any(message.startswith("discard_keywords hides PIPELINING") for _, message in ehlo)


async def test_a_name_without_an_address_and_files_that_are_none(tmp_path: Path) -> None:
    [finding] = await ask(hop(25, host=("nobody.invalid",)))
    assert finding.state == "fail"
    assert "name" in finding.remedy
    [finding] = await ask(hop(25, tls="required", tls_ca_file=str(tmp_path / "none.pem")))
    assert finding.state == "fail"
    [finding] = await ask(hop(25, host=("sandbox",)))
    assert finding.state == "ok"


# --- this machine ----------------------------------------------------------------------------------------------


@contextmanager
def taken() -> Iterator[int]:
    """A port where somebody listens who says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def settings(tmp_path: Path, toml: str) -> Any:
    path = tmp_path / "machine.toml"
    path.write_text(f'[next_hop.default]\nhost = "a.example"\n{toml}')
    return load(path, {}).settings


def test_a_free_port_a_taken_one_and_one_that_is_not_ours_to_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_GREETING_S", 0.05)
    with taken() as port:
        found = list(
            machine.ports(
                settings(
                    tmp_path,
                    f'[listen]\nlmtp = ["127.0.0.1:{port}", "unix:{tmp_path}/none/s", "unix:{tmp_path}/s"]\n'
                    'smtp = "192.0.2.1:10725"\n[http]\nlisten = "127.0.0.1:0"\n',
                )
            )
        )
    assert [(one.name, one.state) for one in found] == [
        ("http.listen", "ok"),
        ("listen.lmtp", "fail"),
        ("listen.lmtp", "fail"),
        ("listen.lmtp", "ok"),
        ("listen.smtp", "fail"),
    ]
    assert f"ss -ltnp 'sport = :{port}'" in found[1].remedy
    assert "there is no folder" in found[2].message
    assert "no address of this machine" in found[4].message
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("listen", ["", "proxy_protocol = true\n"])
async def test_ports_held_by_smtpguard_itself_are_fine(listen: str, tmp_path: Path) -> None:
    import asyncio

    async with relay(listen=listen) as guard:
        same = settings(
            tmp_path,
            f'[listen]\nlmtp = "127.0.0.1:{guard.lmtp}"\nsmtp = "127.0.0.1:{guard.smtp}"\n{listen}'
            f'[http]\nlisten = "127.0.0.1:{guard.http}"\n',
        )
        found = await asyncio.to_thread(lambda: list(machine.ports(same)))
    assert [one.state for one in found] == ["ok", "ok", "ok"]
    assert all("held by smtpguard" in one.message for one in found)


def test_the_spool(tmp_path: Path) -> None:
    [good] = machine.spool(tmp_path, settings(tmp_path, ""))
    assert good.state in ("ok", "warn")  # how much room there is, is this machine's affair
    [missing] = machine.spool(tmp_path / "none", settings(tmp_path, ""))
    assert (missing.state, "give it to the user" in missing.remedy) == ("fail", True)
    [small] = machine.spool(tmp_path, settings(tmp_path, '[listen]\nmax_message_size = "900000GB"\n'))
    assert (small.state, "not one message" in small.remedy) == ("fail", True)


SHM = Path("/dev/shm")


@pytest.mark.skipif(not SHM.is_dir() or not is_in_memory(SHM.stat().st_dev), reason="no tmpfs at /dev/shm")
def test_a_spool_in_memory_has_no_more_room_than_relay_memory(tmp_path: Path) -> None:
    text = '[relay]\nmemory = "{}"\n[listen]\nmax_message_size = "25MiB"\n'
    [small] = machine.spool(SHM, settings(tmp_path, text.format("20MiB")))
    assert (small.state, "is memory (tmpfs)" in small.message) == ("fail", True)
    [fair] = machine.spool(SHM, settings(tmp_path, text.format("256MiB")))
    assert (fair.state, fair.remedy) == ("warn", "make room, or set relay.spool_dir to a larger place")


def test_descriptors(tmp_path: Path) -> None:
    [few] = machine.descriptors(settings(tmp_path, "[listen]\nmax_sessions = 1000000\n"))
    assert few.state == "warn"
    assert "LimitNOFILE=" in few.remedy
    [enough] = machine.descriptors(settings(tmp_path, "[listen]\nmax_sessions = 5\n"))
    assert enough.state == "ok"


def test_the_clock() -> None:
    [early] = machine.clock(lambda: 0.0)
    assert (early.state, "1970-01-01" in early.message) == ("fail", True)
    [now] = machine.clock()
    assert now.state == "ok"


def test_names() -> None:
    [bare] = machine.names("mail", is_set=False, offline=False)
    assert (bare.state, "from this host" in bare.message) == ("warn", True)
    [offline] = machine.names("mail.example.com", is_set=True, offline=True)
    assert offline.state == "skip"
    [unknown] = machine.names("mail.invalid", is_set=True, offline=False)
    assert unknown.state == "warn"
    [local] = machine.names("localhost.localdomain", is_set=True, offline=False)
    assert local.state in ("ok", "warn")  # where the hosts file has it: not seen from outside


# --- the command -----------------------------------------------------------------------------------------------


def command(path: Path, **options: Any) -> int:
    given = {"offline": True, "rcpt": "", "as_json": False, "color": False, "quiet": False, **options}
    return run(path, {}, **given)


def test_a_bad_configuration_is_all_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.toml").write_text("[listen]\nlmpt = 1\nmax_sessions = 0\n")
    assert command(tmp_path / "s.toml") == 2
    said = capsys.readouterr().out.splitlines()
    assert sum(one.startswith("fail  config") for one in said) == 3
    assert any("did you mean 'lmtp'?" in one for one in said)


def test_offline_skips_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with taken() as port:  # nothing may connect here
        (tmp_path / "s.toml").write_text(f'{NO_PORTS}[next_hop.default]\nhost = "127.0.0.1"\nport = {port}\n')
        code = command(tmp_path / "s.toml", as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (code, found["ok"]) == (0, True)
    assert found["checks"][-2:] == [
        {"name": name, "state": "skip", "message": "was not asked", "remedy": ""}
        for name in ("next_hop.default", "resolver")
    ]


def test_the_history_is_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "s.toml"
    said = {}
    for url in ("", f"sqlite:///{tmp_path}/h.db", f"sqlite:///{tmp_path}/none/h.db"):
        file.write_text(f'{NO_PORTS}[next_hop.default]\nhost = "127.0.0.1"\n[store]\nurl = "{url}"\n')
        code = command(file, as_json=True)
        checks = json.loads(capsys.readouterr().out)["checks"]
        said[url] = (code, *[each["state"] for each in checks if each["name"] == "store.url"])
    assert list(said.values()) == [(0, "warn"), (0, "ok"), (1, "fail")]


# and nothing that the DNS would be asked for
NO_PORTS = '[lint]\nmode = "off"\n[listen]\nlmtp = "127.0.0.1:0"\nsmtp = ""\n[http]\nlisten = ""\n'


def test_a_problem_is_exit_code_1_and_quiet_leaves_only_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as bound:  # not listening: refused
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        file = tmp_path / "s.toml"
        file.write_text(f'{NO_PORTS}[next_hop.default]\nhost = "127.0.0.1"\nport = {port}\ntls = "none"\n')
        assert command(file, offline=False, quiet=True) == 1
    said = capsys.readouterr().out
    assert "Connection refused" in said
    assert not re.search("^ok", said, re.MULTILINE)


def test_an_address_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(tmp_path / "s.toml", rcpt="a b>\r\nRSET") == 2
    assert "is no address" in capsys.readouterr().err


def test_exit_codes() -> None:
    ok, warn = Finding("a", "ok", ""), Finding("a", "warn", "")
    fail, later = Finding("a", "fail", ""), Finding("a", "fail", "", is_temporary=True)
    assert [exit_code(found) for found in ([ok, warn], [later, ok], [later, fail], [])] == [0, 75, 1, 0]


def test_foreign_text_cannot_write_to_the_terminal() -> None:
    shown = line(Finding("a", "fail", "550 \x1b[2Jboo\r\nok    all", "do\x07"), color=False)
    assert shown.count("\n") == 1
    assert not set("\x1b\r\x07").intersection(shown)


def test_a_narrow_terminal_gets_lines_that_fit() -> None:
    found = Finding("next_hop.default.tls", "warn", "a message of many words " * 4, "mend it, and ask once more " * 3)
    whole, narrow = line(found, color=False), line(found, color=False, width=60)
    assert whole.count("\n") == 1
    assert max(map(len, narrow.splitlines())) <= 60
    assert narrow.split() == whole.split()
    assert line(found, color=True, width=60).replace("\x1b[33m", "").replace("\x1b[0m", "") == narrow
