"""`classify.rules`: the files behind it, and a mistake in one of them as a mistake of the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from smtpguard.config import ConfigError, load, load_tables, rule_files

RULE = '[[rule]]\nid = "{0}"\ncategory = "rate.limited"\npattern = "{0}"\nexamples = ["550 {0}"]\n'
HOP = '[next_hop.default]\nhost = "smtp.example.net"\n'


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rules").mkdir()
    for name in ("b", "a"):
        Path("rules", f"{name}.toml").write_text(RULE.format(name))
    Path("rules", "notes.txt").write_text("no rules")
    Path("c.toml").write_text(RULE.format("c"))


@pytest.mark.parametrize(
    ("names", "files"),
    [
        ([], []),
        (["c.toml"], ["c.toml"]),
        (["rules"], ["rules/a.toml", "rules/b.toml"]),
        (["rules/*.toml"], ["rules/a.toml", "rules/b.toml"]),
        (["c.toml", "rules/b*", "rules", "c.toml"], ["c.toml", "rules/b.toml", "rules/a.toml"]),
        (["nothing/*.toml"], []),
        (["absent.toml"], ["absent.toml"]),
    ],
)
def test_files_folders_and_patterns(names: list[str], files: list[str]) -> None:
    assert rule_files(names) == tuple(map(Path, files))


@pytest.mark.parametrize("written", ['"c.toml"', '["c.toml"]'])
def test_one_or_many(written: str) -> None:
    Path("smtpguard.toml").write_text(f"{HOP}[classify]\nrules = {written}\n")
    assert load(None, {}).settings.classify.rules == ("c.toml",)


def test_the_environment_may_say_so() -> None:
    environ = {"SMTPGUARD__CLASSIFY__RULES": '["rules", "c.toml"]'}
    assert load(None, environ, sandbox=True).settings.classify.rules == ("rules", "c.toml")


def mistakes(config: str) -> list[str]:
    Path("smtpguard.toml").write_text(config)
    with pytest.raises(ConfigError) as caught:
        load(None, {})
    return [str(problem) for problem in caught.value.problems]


def test_a_mistake_in_a_rule_names_line_file_rule_and_remedy() -> None:
    Path("c.toml").write_text(RULE.format("c").replace("limited", "limitd"))
    assert mistakes(f'{HOP}[classify]\nrules = "c.toml"\n') == [
        "smtpguard.toml:4: classify.rules: c.toml: c: unknown category 'rate.limitd'; did you mean 'rate.limited'?"
    ]


def test_a_rule_file_that_is_named_must_be_there() -> None:
    (only,) = mistakes(f'{HOP}[classify]\nrules = ["rules", "absent.toml"]\n')
    assert only.startswith("smtpguard.toml:4: classify.rules: absent.toml: -: cannot be read: ")


def test_an_id_of_two_files_is_a_mistake() -> None:
    Path("rules", "a.toml").write_text(RULE.format("b"))
    (only,) = mistakes(f'{HOP}[classify]\nrules = "rules"\n')
    assert "rules/b.toml: b: id already used in rules/a.toml" in only


def test_a_value_that_is_no_list_of_files() -> None:
    assert "classify.rules: 1 is neither a string nor a list of strings" in mistakes(f"{HOP}[classify]\nrules = 1\n")[0]


# --- what commands read that handle no mail --------------------------------------------------------------------------


def test_other_tables_may_be_wrong() -> None:
    Path("smtpguard.toml").write_text(
        '[classify]\nrules = "c.toml"\n[listen]\nlmpt = 1\n[next_hop.default]\ntls = "x"\n'
    )
    found = load_tables(None, {"SMTPGUARD__LISTEN__SMTP": "nonsense"}, ("classify", "privacy"))
    assert found.settings.classify.rules == ("c.toml",)
    assert found.settings.privacy.addresses == "mask"


def test_their_own_tables_may_not() -> None:
    Path("smtpguard.toml").write_text('[classify]\nrule = "c.toml"\n[privacy]\naddresses = "none"\n')
    with pytest.raises(ConfigError) as caught:
        load_tables(None, {}, ("classify", "privacy"))
    assert [problem.line for problem in caught.value.problems] == [2, 4]


def test_no_file_is_no_mistake_but_one_that_was_asked_for() -> None:
    assert load_tables(None, {}, ("classify",)).settings.classify.rules == ()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_tables(Path("absent"), {}, ("classify",))
    with pytest.raises(ConfigError, match="cannot be read"):
        load_tables(None, {"SMTPGUARD_CONFIG": "absent"}, ("classify",))
