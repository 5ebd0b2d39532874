"""The command line: options before and after the command, exit codes, what is imported, `config test`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from smtpguard import __version__
from smtpguard.cli import Common, app

GOOD = '[next_hop.default]\nhost = "smtp.example.net"\n[next_hop.b]\nhost = "sandbox"\n[[route]]\nnext_hop = "b"\n'
BAD = '[listen]\nlmpt = "x"\n[next_hop.default]\nhost = "a.example"\ntls = "sometimes"\n'


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder, and an environment without settings (what a command adds to it is taken back too)."""
    monkeypatch.chdir(tmp_path)
    for name in ("SMTPGUARD__LOG__LEVEL", "SMTPGUARD__LOG__FORMAT", "NO_COLOR", "SMTPGUARD_CONFIG"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def run(*arguments: str, environ: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(app, arguments, env=environ, prog_name="smtpguard")


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "smtpguard", *arguments], capture_output=True, text=True, check=False)


class Called(ModuleType):
    """Stands where a command's work is done, and keeps what it was asked to do."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.arguments: tuple[Any, ...] = ()
        self.options: dict[str, Any] = {}

    def run(self, *arguments: object, **options: object) -> int:
        self.arguments, self.options = arguments, options
        return 7


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Called:
    called = Called("smtpguard.service")
    monkeypatch.setitem(sys.modules, called.__name__, called)
    return called


@pytest.fixture
def explain(monkeypatch: pytest.MonkeyPatch) -> Called:
    called = Called("smtpguard.cli.explain")
    monkeypatch.setitem(sys.modules, called.__name__, called)
    return called


# --- the frame -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [[], ["serve"], ["explain"], ["ingest"], ["rules"], ["rules", "test"], ["config"], ["config", "test"]]
)
def test_help_is_plain_and_imports_nothing_heavy(command: list[str]) -> None:
    code = (
        "import sys, smtpguard.cli as cli\n"
        "try: cli.main()\n"
        "except SystemExit as end: print(end.code, *sys.modules, sep='\\n', file=sys.stderr)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, *command, "--help"],
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    assert found.stdout.startswith("Usage: smtpguard")
    assert "\x1b" not in found.stdout
    assert "Arguments:" not in found.stdout  # the usage names them; typer would add types of Python
    code, *modules = found.stderr.split()
    assert code == "0"
    heavy = {"aiohttp", "tomlkit", "tomllib", "re2", "rich", "asyncio", "aiosmtpd", "structlog", "ssl"}
    if not command:
        heavy.add("pydantic")  # typer itself needs it for the options before a command
    assert heavy.isdisjoint(modules), heavy.intersection(modules)


def test_the_version() -> None:
    assert program("--version").stdout == f"smtpguard {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["serve", "--nonsense"],
        ["explain"],
        ["explain", "x", "--jsonl", "-"],
        ["explain", "x", "--verb", "y"],
    ],
)
def test_wrong_use_is_exit_code_2(arguments: list[str]) -> None:
    found = run(*arguments)
    assert found.exit_code == 2
    assert "Usage: smtpguard" in found.stderr
    assert found.stdout == ""


def test_a_fault_of_ours_is_exit_code_2_with_its_traceback(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    from smtpguard import cli

    def fail(*_: object, **__: object) -> int:
        raise RuntimeError("a fault")

    module = ModuleType("smtpguard.cli.config")
    module.test = fail  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(sys, "argv", ["smtpguard", "config", "test"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert "RuntimeError: a fault" in capfd.readouterr().err


class Terminal:
    def __init__(self, *, is_one: bool) -> None:
        self.is_one = is_one

    def isatty(self) -> bool:
        return self.is_one


@pytest.mark.parametrize(
    ("no_color", "is_one", "environ", "colored"),
    [
        (False, True, {}, True),
        (False, True, {"NO_COLOR": ""}, True),  # no-color.org: when present and not an empty string
        (False, True, {"NO_COLOR": "1"}, False),
        (False, True, {"TERM": "dumb"}, False),
        (True, True, {}, False),
        (False, False, {}, False),
    ],
)
def test_when_to_colour(no_color: bool, is_one: bool, environ: dict[str, str], colored: bool) -> None:
    common = Common(no_color=no_color)
    assert common.color(Terminal(is_one=is_one), environ) is colored  # type: ignore[arg-type]


# --- config test -----------------------------------------------------------------------------------------------


def test_a_good_file_shows_what_will_be_used() -> None:
    Path("smtpguard.toml").write_text(GOOD)
    found = run("config", "test")
    assert found.exit_code == 0
    assert found.stderr == ""
    assert found.stdout.splitlines() == [
        "ok: smtpguard.toml",
        "  lmtp      127.0.0.1:10724",
        "  smtp      127.0.0.1:10725",
        "  http      127.0.0.1:9125",
        "  next hop  default: smtp.example.net port 587, tls required",
        "  next hop  b: the sandbox: no mail leaves this machine",
        "  route     all: b",
    ]


def test_a_bad_file_shows_all_mistakes() -> None:
    Path("bad.toml").write_text(BAD)
    found = program("config", "test", "--config", "bad.toml")
    assert found.returncode == 2
    assert found.stdout == ""
    assert found.stderr.splitlines() == [
        "bad.toml:2: listen.lmpt: unknown key; did you mean 'lmtp'?",
        "bad.toml:5: next_hop.default.tls: 'sometimes' is not one of none, opportunistic, required, implicit",
    ]


def test_both_as_json() -> None:
    Path("good.toml").write_text(GOOD.replace("smtp.example.net", "192.0.2.1"))
    Path("bad.toml").write_text(BAD)
    good, bad = run("--json", "-c", "good.toml", "config", "test"), run("config", "test", "-c", "bad.toml", "--json")
    assert (good.exit_code, bad.exit_code) == (0, 2)
    said = json.loads(good.stdout)
    assert (said["ok"], said["file"], said["problems"]) == (True, "good.toml", [])
    assert said["warnings"][0]["key"] == "next_hop.default.host"
    said = json.loads(bad.stdout)
    assert said["ok"] is False
    assert said["problems"][0] == {
        "file": "bad.toml",
        "line": 2,
        "key": "listen.lmpt",
        "message": "unknown key; did you mean 'lmtp'?",
    }


def test_warnings_are_fine_and_can_be_silenced() -> None:
    Path("smtpguard.toml").write_text(GOOD.replace("smtp.example.net", "192.0.2.1"))
    found = run("config", "test")
    assert found.exit_code == 0
    assert found.stderr.startswith("warning: smtpguard.toml:2: next_hop.default.host: ")
    quiet = run("config", "test", "-q")
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (0, "", "")


def test_colour_marks_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    from smtpguard.cli.config import test

    Path("smtpguard.toml").write_text(BAD)
    assert test(None, {}, as_json=False, color=True, quiet=False) == 2
    assert capsys.readouterr().err.startswith("\x1b[31msmtpguard.toml:2: listen.lmpt")


# --- what the other commands are asked to do -------------------------------------------------------------------


def test_serve_hands_over_the_settings(service: Called) -> None:
    Path("smtpguard.toml").write_text(GOOD)
    assert run("serve", "--maildir", "mail").exit_code == 7
    (loaded,) = service.arguments
    assert loaded.path == Path("smtpguard.toml")
    assert service.options == {"sandbox": False, "maildir": Path("mail")}


def test_serve_in_the_sandbox_needs_no_file(service: Called) -> None:
    assert run("serve", "--sandbox", environ={"SMTPGUARD__LISTEN__SMTP": "127.0.0.1:0"}).exit_code == 7
    (loaded,) = service.arguments
    assert loaded.settings.next_hop["default"].host == ("sandbox",)
    assert loaded.settings.listen.smtp[0].port == 0
    assert service.options == {"sandbox": True, "maildir": None}


@pytest.mark.parametrize(
    ("arguments", "level"),
    [
        (["serve", "-v"], "debug"),
        (["-v", "serve"], "debug"),
        (["serve", "-q"], "warning"),
        (["-q", "serve", "-v"], "error"),
    ],
)
def test_serve_says_more_or_less(service: Called, arguments: list[str], level: str) -> None:
    Path("smtpguard.toml").write_text(GOOD + '[log]\nlevel = "error"\nformat = "console"\n')
    assert run(*arguments).exit_code == 7
    assert service.arguments[0].settings.log.level == level
    assert service.arguments[0].settings.log.format == "console"
    assert run(*arguments, "--json").exit_code == 7
    assert service.arguments[0].settings.log.format == "json"


def test_serve_without_a_next_hop_says_what_to_do(service: Called) -> None:
    found = run("serve")
    assert (found.exit_code, service.arguments) == (2, ())
    assert "next_hop.default: no next hop: write [next_hop.default]" in found.stderr


def test_a_maildir_is_for_the_sandbox(service: Called) -> None:
    Path("smtpguard.toml").write_text('[next_hop.default]\nhost = "smtp.example.net"\n')
    assert run("serve", "--maildir", "mail").exit_code == 2
    assert service.arguments == ()


def test_explain_hands_over_a_reply(explain: Called) -> None:
    assert run("explain", "550", "5.1.1", "no such user", "--host", "mx.example", "--verb", "rcpt").exit_code == 7
    assert explain.arguments == (["550", "5.1.1", "no such user"], None)
    store = explain.options.pop("store_url")
    assert store.startswith("sqlite:///")
    options = {"rules": (), "host": "mx.example", "verb": "RCPT", "id": "", "as_json": False, "color": False}
    assert explain.options == options


def test_verbs_are_told_as_the_help_has_them() -> None:
    assert "'foo' is not one of CONNECT, EHLO, STARTTLS" in run("explain", "x", "--verb", "foo").stderr


def test_an_id_needs_a_history_or_a_log() -> None:
    found = run("explain", "--id", "4XyZ00002", environ={"SMTPGUARD__STORE__URL": "sqlite:///none.db"})
    assert found.exit_code == 2
    assert "there is no history yet" in " ".join(found.stderr.split())
    assert "smtpguard explain --id 4XyZ00002 /var/log" in " ".join(found.stderr.split())


@pytest.mark.parametrize("group", [(), ("rules",), ("config",), ("suppress",), ("store",)])
def test_no_summary_of_a_command_is_cut(group: tuple[str, ...]) -> None:
    _, _, commands = run(*group, "--help").stdout.partition("Commands:\n")
    assert commands
    assert "..." not in commands


def test_explain_hands_over_a_file_of_replies(explain: Called) -> None:
    assert run("--json", "explain", "--jsonl", "-").exit_code == 7
    assert explain.arguments == ((), Path("-"))
    assert explain.options["as_json"] is True


def test_explain_knows_the_rules_of_the_configuration(explain: Called) -> None:
    """Whatever else the configuration says, or lacks: explain handles no mail."""
    Path("own.toml").write_text("")
    Path("smtpguard.toml").write_text('[classify]\nrules = "own.toml"\n[listen]\nlmpt = "x"\n')
    assert run("explain", "550 x").exit_code == 7
    assert explain.options["rules"] == (Path("own.toml"),)
    assert run("explain", "550 x", environ={"SMTPGUARD__CLASSIFY__RULES": "absent.toml"}).exit_code == 2
    Path("other.toml").write_text("[classify]\nrule = 1\n")
    found = run("explain", "550 x", "--config", "other.toml")
    assert found.exit_code == 2
    assert "other.toml:2: classify.rule: unknown key; did you mean 'rules'?" in found.stderr
