"""What README.md and the pages of deploy/ and config/ speak of exists: files, keys, metrics, commands, their output."""

from __future__ import annotations

import re
import shlex
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import pytest
from typer.testing import CliRunner

from smtpguard.classify.categories import BY_NAME
from smtpguard.cli import app
from smtpguard.config.section import keys
from smtpguard.config.settings import Settings, field_at, table_at
from smtpguard.lint import RULES
from smtpguard.policy import Scope
from tests.deploy.programs import DEPLOY, ROOT
from tests.deploy.test_prometheus import declared

GENERATED: Final = {"classification.md", "lint.md"}  # compared with what makes them by `make check`
PAGES: Final = sorted(
    page
    for page in (*DEPLOY.rglob("*.md"), *(ROOT / "config").glob("*.md"), ROOT / "README.md")
    if page.name not in GENERATED
)
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
        if path[-1] in ("toml", "md", "password", "token"):  # files; secrets are no keys of the file
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


def test_rules_exist(page: Path) -> None:
    """`SPF003`: whatever looks like a rule of the lint is one."""
    families = {rule.family for rule in RULES.values()}
    named = set(re.findall(r"\b([A-Z]{3}\d{3})\b", page.read_text()))
    assert {name for name in named if name[:3] in families} - RULES.keys() == set()


def test_the_rules_that_enforcing_refuses_by_are_named() -> None:
    text = (ROOT / "config" / "lint-guide.md").read_text()
    said = re.search(r"the (\w+) \(R\)\s+rules alone: ([A-Z0-9, ]+)\.", text)
    assert said is not None
    certain = {rule.code for rule in RULES.values() if rule.is_certain}
    assert (said[1], set(said[2].split(", "))) == ("seven", certain)
    assert len(certain) == 7


def test_every_number_of_rules_is_right() -> None:
    for path, words in (("config/lint-guide.md", r"(\d+) rules, listed"), ("CHANGELOG.md", r"(\d+) rules over SPF")):
        said = re.search(words, (ROOT / path).read_text())
        assert said is not None, path
        assert int(said[1]) == len(RULES), path


def test_what_a_refusal_is_remembered_by() -> None:
    """The table of config/policy.md names each category, in the row of its scope."""
    text = (ROOT / "config" / "policy.md").read_text()
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \| [^|]+ \|$", text[text.index("## What one refusal") :], re.M))
    known = {
        "next hop and provider": Scope.EGRESS,
        "sender domain and provider": Scope.SENDER,
        "recipient": Scope.RECIPIENT,
        "message": Scope.MESSAGE,
    }
    for key, scope in known.items():
        listed, _, without = rows[key].partition("(without")
        patterns, excepted = re.findall(r"`([^`]+)`", listed + without.partition(")")[2]), without.partition(")")[0]
        meant = {
            name for name in BY_NAME for pattern in patterns if fnmatchcase(name, pattern) and name not in excepted
        }
        assert meant == {name for name, category in BY_NAME.items() if Scope.of(category.scope) is scope}, key


def test_explain_and_lint_print_what_readme_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each `explain` and `lint` of README.md's that stands alone in its block, and the block after it."""
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("COLUMNS", raising=False)
    shown = re.findall(
        r"^```\n\.venv/bin/smtpguard ((?:explain|lint) [^\n]*)\n```\n```\n(.*?)^```$",
        (ROOT / "README.md").read_text(),
        re.M | re.S,
    )
    assert {command.split()[0] for command, _ in shown} == {"explain", "lint"}
    for command, printed in shown:
        assert CliRunner().invoke(app, shlex.split(command)).output == printed


def test_every_section_has_its_words() -> None:
    text = (ROOT / "config" / "README.md").read_text()
    headings = " ".join(re.findall(r"^## .*", text, re.MULTILINE))
    assert [name for name in keys(Settings) if f"[{name}" not in headings] == []
