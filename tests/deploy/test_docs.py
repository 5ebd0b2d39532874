"""What README.md and the pages of deploy/ and config/ speak of exists: files, keys, metrics, commands, their output."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Final

import pytest
from typer.testing import CliRunner

from smtpguard.cli import app
from smtpguard.config.section import keys
from smtpguard.config.settings import Settings, field_at, table_at
from tests.deploy.programs import DEPLOY, ROOT
from tests.deploy.test_prometheus import declared

PAGES: Final = sorted([*DEPLOY.rglob("*.md"), ROOT / "config" / "README.md", ROOT / "README.md"])
PATTERNS: Final = re.compile(r"`smtpguard_\w*\.\.\.`|smtpguard_(?:password|token)")  # names that are no metrics
NOT_METRICS: Final = {"smtpguard_smtp", "smtpguard_lmtp"}  # Exim's transports


@pytest.fixture(params=PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def page(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_keys_exist(page: Path) -> None:
    """`listen.allow`, `relay.drain`: whatever begins with a section's name is a key."""
    sections = "|".join(keys(Settings))
    named = re.findall(rf"(?<![\w./-])((?:{sections})\.[a-z0-9_.]+)", page.read_text())
    wrong = []
    for name in named:
        path = tuple(name.rstrip(".").split("."))
        if path[-1] in ("toml", "password", "token"):  # a file; secrets are no keys of the file
            continue
        if field_at(path) is None and table_at(path) is None:
            wrong.append(name)
    assert wrong == []


def test_metrics_exist(page: Path) -> None:
    text = PATTERNS.sub("", page.read_text())
    used = {name for name in re.findall(r"\bsmtpguard_[a-z_]+", text) if not name.startswith("smtpguard_destination")}
    assert used - NOT_METRICS <= declared().keys()


def test_commands_exist(page: Path) -> None:
    text = page.read_text()
    blocks = "\n".join(re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    used = set(re.findall(r"(?:^|\| |bin/)smtpguard (?!unix )([a-z]+)", blocks, re.MULTILINE))  # not master.cf's
    used |= set(re.findall(r"`smtpguard ([a-z]+)", text))
    known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    known |= {group.name for group in app.registered_groups if group.name}
    for group in app.registered_groups:
        inner = group.typer_instance.registered_commands if group.typer_instance and not group.name else []
        known |= {command.name or command.callback.__name__ for command in inner if command.callback}
    assert used - known == set()


def test_explain_prints_what_readme_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each `explain` of README.md's that stands alone in its block, and the block after it."""
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("COLUMNS", raising=False)
    shown = re.findall(
        r"^```\n\.venv/bin/smtpguard (explain [^\n]*)\n```\n```\n(.*?)^```$",
        (ROOT / "README.md").read_text(),
        re.M | re.S,
    )
    assert shown
    for command, printed in shown:
        assert CliRunner().invoke(app, shlex.split(command)).output == printed


def test_every_section_has_its_words() -> None:
    text = (ROOT / "config" / "README.md").read_text()
    headings = " ".join(re.findall(r"^## .*", text, re.MULTILINE))
    assert [name for name in keys(Settings) if f"[{name}" not in headings] == []
