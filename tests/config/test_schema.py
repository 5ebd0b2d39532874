"""What there is to write (`config schema`), what is in force (`config show`), and the examples: all from one source."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from smtpguard.cli import app
from smtpguard.config import load
from smtpguard.config.sample import sample
from smtpguard.config.schema import schema
from smtpguard.config.settings import RESTART_KEYS
from smtpguard.config.show import SET, Shown, as_json, shown, toml
from tests.certs import ca_and_server

EXAMPLES = sorted((Path(__file__).parents[2] / "config" / "examples").glob("*.toml"))


def faults(value: Any, rule: dict[str, Any], at: str = "") -> list[str]:
    """Where `value` breaks a schema of the few words that ours uses; an unknown word is a fault of the test."""
    known = {"$schema", "title", "description", "default", "type", "properties", "additionalProperties", "items"}
    known |= {"anyOf", "enum", "const", "pattern", "minimum", "maximum", "maxLength"}
    assert known.issuperset(rule), rule
    if "anyOf" in rule:
        return [] if any(not faults(value, one, at) for one in rule["anyOf"]) else [f"{at}: none of anyOf"]
    types = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
    if "type" in rule and (type(value) is not types[rule["type"]]):
        return [f"{at}: {value!r} is no {rule['type']}"]
    found = []
    if isinstance(value, dict):
        for key, inner in value.items():
            inside = rule.get("properties", {}).get(key, rule.get("additionalProperties"))
            found += faults(inner, inside, f"{at}.{key}") if inside else [f"{at}.{key}: unknown key"]
    if isinstance(value, list):
        found += [fault for one in value for fault in faults(one, rule["items"], f"{at}[]")]
    if "pattern" in rule and not re.search(rule["pattern"], value):
        found.append(f"{at}: {value!r} does not match")
    if "enum" in rule and value not in rule["enum"]:
        found.append(f"{at}: {value!r} is not one of {rule['enum']}")
    low, high = rule.get("minimum", float("-inf")), rule.get("maximum", float("inf"))
    if isinstance(value, int) and not isinstance(value, bool) and not low <= value <= high:
        found.append(f"{at}: {value!r} is out of bounds")
    return found


# --- the schema ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [sample(), *(path.read_text() for path in EXAMPLES)])
def test_good_files_pass(text: str) -> None:
    assert faults(tomllib.loads(text), schema()) == []


@pytest.mark.parametrize(
    "text",
    [
        "[listen]\nlmpt = 'x'",
        "[listen]\nmax_sessions = 0",
        "[listen]\nmax_sessions = '5'",
        "[listen]\nidle_timeout = 300",
        "[listen]\nidle_timeout = '300'",
        "[listen]\nmax_message_size = '1XB'",
        "[listen]\nsocket_mode = '0999'",
        "[next_hop.default]\ntls = 'sometimes'",
        "[next_hop.default]\nport = 70000",
        "[next_hop.default]\npassword = 'x'",
        "[next_hop.default.timeout]\nconnect = 3",
        "[route]\nnext_hop = 'a'",
        "[reply]\nexplain = 'yes'",
    ],
)
def test_what_a_schema_can_know_it_tells(text: str) -> None:
    assert faults(tomllib.loads(text), schema())


def test_every_default_obeys_it_and_every_key_says_what_it_is() -> None:
    seen = 0

    def walk(rule: dict[str, Any], at: str) -> None:
        nonlocal seen
        assert rule["description"], at
        if "default" in rule:
            seen += 1
            assert faults(rule["default"], rule, at) == []
            assert rule["description"].endswith("(needs a restart)") is (at in RESTART_KEYS)
        table = rule if "properties" in rule else rule.get("additionalProperties") or rule.get("items") or {}
        for key, inner in table.get("properties", {}).items() if isinstance(table, dict) else ():
            walk(inner, f"{at}.{key}".lstrip("."))

    walk({"description": "all", **schema()}, "")
    assert seen > 50
    json.dumps(schema())


# --- what is in force ------------------------------------------------------------------------------------------

FILE = """\
[listen]
max_message_size = "30MB"
[next_hop.default]
host = ["a.example", "b.example"]
username = "user"
timeout = { connect = "1500ms", final = "2m" }
[next_hop."odd.name"]
host = "c.example"
tls = "implicit"
[[route]]
recipient_domain = "*.example.org"
next_hop = "odd.name"
"""
ENVIRON = {
    "SMTPGUARD__LISTEN__SMTP": '["127.0.0.1:2525", "[::1]:2525"]',
    "SMTPGUARD__NEXT_HOP__DEFAULT__PASSWORD": "marker-secret",
    "SMTPGUARD__HTTP__LISTEN": "",
}


@pytest.fixture
def found(tmp_path: Path) -> list[Shown]:
    (tmp_path / "s.toml").write_text(FILE)
    loaded = load(tmp_path / "s.toml", ENVIRON)
    return list(shown(loaded.settings, loaded.origin))


def test_each_key_says_where_it_comes_from(found: list[Shown], tmp_path: Path) -> None:
    told = as_json(found)
    file = tmp_path / "s.toml"
    assert told["listen.max_message_size"] == {"value": 30_000_000, "origin": f"{file}:2"}
    assert told["listen.smtp"] == {
        "value": ["127.0.0.1:2525", "[::1]:2525"],
        "origin": "environment SMTPGUARD__LISTEN__SMTP",
    }
    assert told["http.listen"] == {"value": "", "origin": "environment SMTPGUARD__HTTP__LISTEN"}
    assert told["next_hop.default.timeout.connect"] == {"value": "1500ms", "origin": f"{file}:6"}
    assert told["next_hop.default.timeout.final"] == {"value": "120s", "origin": f"{file}:6"}
    assert told['next_hop."odd.name".port'] == {"value": 465, "origin": "default"}
    assert told["route[0].recipient_domain"] == {"value": ["*.example.org"], "origin": f"{file}:11"}
    assert told["listen.socket_mode"] == {"value": "0660", "origin": "default"}


def test_a_secret_is_said_to_be_set_and_no_more(found: list[Shown]) -> None:
    told = as_json(found)["next_hop.default.password"]
    assert told == {"value": SET, "origin": "environment SMTPGUARD__NEXT_HOP__DEFAULT__PASSWORD"}
    assert "marker-secret" not in toml(found) + json.dumps(as_json(found))


def test_what_is_shown_is_a_file_with_the_same_effect(found: list[Shown], tmp_path: Path) -> None:
    again = tmp_path / "again.toml"
    again.write_text(toml(found))
    secret = {name: value for name, value in ENVIRON.items() if "PASSWORD" in name}
    assert load(again, secret).settings == load(tmp_path / "s.toml", ENVIRON).settings


def test_the_defaults_are_shown_as_the_sample_writes_them(tmp_path: Path) -> None:
    (tmp_path / "sample.toml").write_text(sample())
    loaded = load(tmp_path / "sample.toml", {})
    written = tomllib.loads(sample())
    for one in shown(loaded.settings, loaded.origin):
        value: Any = written
        for step in one.path:
            value = value[step]
        assert one.value in (value, value[0] if isinstance(value, list) and len(value) == 1 else value), one
        assert not one.is_default


# --- the commands ----------------------------------------------------------------------------------------------


def command(*arguments: str, environ: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(app, ["config", *arguments], env=environ, prog_name="smtpguard")


def test_sample_and_schema_are_printed() -> None:
    assert command("sample").stdout == sample()
    assert json.loads(command("schema").stdout) == schema()


def test_show_prints_the_file_or_json_and_only_what_was_written(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(FILE)
    all_of_it = command("show", "-c", str(file), environ=ENVIRON)
    assert (all_of_it.exit_code, all_of_it.stderr) == (0, "")
    assert 'socket_mode = "0660"' in all_of_it.stdout
    few = command("show", "-n", "-c", str(file), environ=ENVIRON)
    assert "default\n" not in few.stdout
    assert len(few.stdout.splitlines()) < 30
    assert tomllib.loads(few.stdout)["next_hop"]["odd.name"] == {"host": ["c.example"], "tls": "implicit"}
    told = json.loads(command("show", "-n", "--json", "-c", str(file), environ=ENVIRON).stdout)
    assert told["next_hop.default.username"]["value"] == "user"
    assert all(one["origin"] != "default" for one in told.values())


def test_show_of_a_bad_file_shows_its_mistakes(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("[listen]\nlmpt = 1\n")
    found = command("show", "-c", str(tmp_path / "s.toml"))
    assert (found.exit_code, found.stdout) == (2, "")
    assert "did you mean 'lmtp'?" in found.stderr


# --- the examples ----------------------------------------------------------------------------------------------


def test_there_are_examples() -> None:
    assert {path.stem for path in EXAMPLES} >= {"postfix-smarthost", "exim", "routes", "haproxy"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_each_example_loads_without_a_warning(path: Path, tmp_path: Path) -> None:
    text = path.read_text()
    named = set(re.findall(r'"/etc/smtpguard/([^"]+)"', text))
    certificate = ca_and_server(["gw1.partner.example"], directory=tmp_path).ca.read_text()
    for name in named:
        (tmp_path / name).write_text(certificate if name.endswith(".pem") else "secret\n")
    here = tmp_path / path.name
    here.write_text(text.replace("/etc/smtpguard/", f"{tmp_path}/"))
    assert load(here, {}).warnings == ()
