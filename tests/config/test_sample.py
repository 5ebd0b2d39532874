"""The sample file: the one in the repository is the one the program makes, and it says the defaults."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from smtpguard.config import NextHopSettings, Settings, load
from smtpguard.config.sample import sample
from smtpguard.config.section import Section, keys, table_of

KEPT = Path(__file__).parents[2] / "config" / "smtpguard.toml"


def test_the_sample_in_the_repository_is_up_to_date() -> None:
    assert KEPT.read_text(encoding="utf-8") == sample()


def test_the_module_prints_it() -> None:
    run = subprocess.run([sys.executable, "-m", "smtpguard.config.sample"], capture_output=True, text=True, check=True)
    assert run.stdout == sample()


def test_the_sample_loads_without_a_warning_and_sets_the_defaults() -> None:
    found = load(KEPT, {})
    assert found.warnings == ()
    expected = {"default": NextHopSettings(host=("smtp.example.net",))}
    assert found.settings == Settings().model_copy(update={"next_hop": expected})


def every_key(table: type[Section], above: str = "") -> list[str]:
    found = []
    for name, field in keys(table).items():
        inner = table_of(field.annotation)
        found += every_key(inner, name) if inner else [name]
        assert field.description, f"{above}.{name} has no doc"
    return found


def test_the_sample_has_every_key() -> None:
    text = sample()
    for name in every_key(Settings):
        assert f"{name} = " in text


def test_the_route_of_the_sample_can_be_made_active(tmp_path: Path) -> None:
    head, mark, rest = sample().partition("# [[route]]\n")
    assert mark
    table, _, behind = rest.partition("\n\n")
    active = "\n".join(line.removeprefix("# ") for line in table.split("\n")) + "\n\n" + behind
    file = tmp_path / "smtpguard.toml"
    file.write_text(f"{head}[[route]]\n{active}\n[next_hop.other]\nhost = 'b.example'\n")
    assert tomllib.loads(file.read_text())["route"][0]["next_hop"] == "other"
    assert load(file, {}).settings.route[0].recipient_domain == ("*.example.org",)


@pytest.mark.parametrize("line", sample().splitlines())
def test_no_line_of_the_sample_is_too_long(line: str) -> None:
    assert len(line) <= 120
