"""`smtpguard rules`: what is listed and shown, an operator's own files put to the test, and what no rule explains."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from smtpguard.classify import load
from smtpguard.cli import rules
from smtpguard.cli.rules import show_list, show_rule
from smtpguard.cli.unmatched import unmatched
from smtpguard.history import Store, engine_of
from smtpguard.lint import RULES as LINT_RULES
from smtpguard.mail.reply import Reply, Verb
from tests.history.stores import started
from tests.records import record, refusal

OWN = """
[[rule]]
id = "partner.quota"
category = "rate.limited"
pattern = 'daily quota of our partner'
examples = ["550 5.7.1 the daily quota of our partner is used up"]
reference = "https://partner.example/quota"
"""
RULES = load().rules


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    return path


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


# --- list and show ---------------------------------------------------------------------------------------------------


def test_the_list_has_every_rule_and_ours_first(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show_list([own], category="", provider="", family="", as_json=False, color=False) == 0
    lines = said(capsys).splitlines()
    assert len(lines) == len(RULES) + 1 + len(LINT_RULES)
    assert lines[0].split()[:2] == ["partner.quota", "rate.limited"]
    assert lines[0].endswith("(yours)")


@pytest.mark.parametrize("category", ["auth", "auth.spf", "unknown"])
def test_the_list_of_a_category_or_group(category: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert show_list([], category=category, provider="", family="", as_json=True, color=False) == 0
    found = json.loads(said(capsys))
    assert {rule["id"] for rule in found} == {
        rule.id for rule in RULES if rule.category == category or rule.category.startswith(f"{category}.")
    }


def test_the_list_of_a_provider(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_list([], category="", provider="google", family="", as_json=True, color=False) == 0
    found = json.loads(said(capsys))
    assert found
    assert all("google" in rule["provider"] for rule in found)


def test_the_list_of_a_lint_family(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_list([], category="", provider="", family="dma", as_json=True, color=False) == 0
    found = json.loads(said(capsys))
    assert {rule["id"] for rule in found} == {code for code in LINT_RULES if code.startswith("DMA")}
    assert all(rule["kind"] == "lint" and rule["fix"] for rule in found)
    assert show_list([], category="", provider="", family="XXX", as_json=True, color=False) == 2


@pytest.mark.parametrize("id", ["SPF003", "spf003", "spf-fail"])
def test_a_rule_of_the_lint_is_shown_by_code_and_name(id: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert show_rule([], id, as_json=False, color=False) == 0
    text = said(capsys)
    for words in ("SPF003 spf-fail", "Fix", "We would say   550 5.7.23", "Category       auth.spf"):
        assert words in text
    assert show_rule([], id, as_json=True, color=False) == 0
    assert json.loads(said(capsys))["answer"] == "550 5.7.23"


@pytest.mark.parametrize(("category", "provider"), [("spf", ""), ("", "gmail.com")])
def test_a_wrong_name_is_2(category: str, provider: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert show_list([], category=category, provider=provider, family="", as_json=False, color=False) == 2
    assert "is n" in capsys.readouterr().err


def test_a_rule_is_shown_with_all_its_knowledge(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show_rule([own], "partner.quota", as_json=False, color=False) == 0
    text = said(capsys)
    for words in (
        "rate.limited",
        "daily quota of our partner",
        "https://partner.example/quota",
        "own.toml",
        "Who acts",
    ):
        assert words in text


def test_any_rule_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    for rule in RULES[::5]:
        assert show_rule([], rule.id, as_json=True, color=False) == 0
        assert json.loads(said(capsys))["examples"]
        assert show_rule([], rule.id, as_json=False, color=True) == 0
        lines = said(capsys).splitlines()
        assert rule.id in lines[0]
        assert not [line for line in lines if "{" in line and line.split()[0] in ("Cause", "What")]


def test_codes_are_shown_as_a_rule_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        '[[rule]]\nid = "x"\ncategory = "unknown"\nenhanced = ["5.7.606-649", "x.1.1", "5.7.x"]\ncode = ["5xx", 421]\n'
        'verb = ["RCPT", "MAIL"]\nexamples = ["550 5.7.610 x"]\n'
    )
    assert show_rule([path], "x", as_json=True, color=False) == 0
    found = json.loads(said(capsys))
    assert found["enhanced"] == ["5.7.606-649", "x.1.1", "5.7.x"]
    assert found["code"] == ["5xx", "421"]
    assert found["verb"] == ["MAIL", "RCPT"]


def test_no_such_rule_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_rule([], "nonsense", as_json=False, color=False) == 2
    assert "no rule 'nonsense'" in capsys.readouterr().err


# --- test ------------------------------------------------------------------------------------------------------------


def test_a_sound_file(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rules.test([own], as_json=False, quiet=False) == 0
    assert said(capsys) == "ok: 1 rule, 1 example, 1 file\n"
    assert rules.test([own], as_json=False, quiet=True) == 0
    assert said(capsys) == ""


def test_faults_of_all_files_are_told_with_file_rule_and_remedy(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.toml").write_text(OWN.replace("rate.limited", "rate.limitd"))
    (tmp_path / "b.toml").write_text("[[rule]\n")
    (tmp_path / "c.toml").write_text(OWN.replace("partner.quota", "c").replace('"550 5.7.1 the daily', '"550 5.7.1 my'))
    assert rules.test([tmp_path], as_json=False, quiet=False) == 1
    faults = capsys.readouterr().err.splitlines()
    assert len(faults) == 3
    assert "a.toml: partner.quota: unknown category 'rate.limitd'; did you mean 'rate.limited'?" in faults[0]
    assert "b.toml: -: not TOML" in faults[1]
    assert "c.toml: c: example '550 5.7.1 my quota of our partner is used up' is " in faults[2]


def test_one_id_in_two_files_is_a_fault(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "twin.toml").write_text(OWN)
    assert rules.test([own, tmp_path / "twin.toml"], as_json=True, quiet=False) == 1
    (fault,) = json.loads(said(capsys))["faults"]
    assert (fault["rule"], fault["remedy"]) == ("partner.quota", "give one of the two another id")


def test_what_is_taken_from_the_built_in_rules_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "greedy.toml"
    path.write_text(
        '[[rule]]\nid = "own.greedy"\ncategory = "rate.limited"\ncode = ["5xx"]\nexamples = ["550 5.1.1 no user"]\n'
    )
    assert rules.test([path], as_json=True, quiet=False) == 0
    takes = json.loads(said(capsys))["takes"]
    assert {each["rule"] for each in takes} == {"own.greedy"}
    assert len(takes) > 100
    assert rules.test([path], as_json=False, quiet=False) == 0
    lines = said(capsys).splitlines()
    assert lines[0].startswith("note: own.greedy (rate.limited) takes from ")
    assert len(lines) < 20


def test_a_file_that_is_not_there_is_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rules.test([tmp_path / "absent.toml"], as_json=False, quiet=False) == 2
    assert "absent.toml: no such file" in capsys.readouterr().err


# --- unmatched -------------------------------------------------------------------------------------------------------


ODD = "550 5.9.9 {}@r.example: the flux of ab12cd34ef{} is not aligned to Jupiter"


def test_unmatched_replies_are_grouped_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "replies.txt"
    lines = [ODD.format(f"u{number}", number) for number in range(3)]
    path.write_text("\n".join(["550 xyzzy plugh", *lines, "550 5.1.1 User unknown"]) + "\n")
    assert unmatched([], [str(path)], as_json=True) == 0
    found = json.loads(said(capsys))
    assert (found["refused"], found["unmatched"]) == (5, 4)
    assert [(group["count"], group["reply"]) for group in found["replies"]] == [
        (3, ODD.format("u0", 0)),
        (1, "550 xyzzy plugh"),
    ]
    assert unmatched([], [str(path)], as_json=False) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0] == f"      3  {ODD.format('u0', 0)}"
    assert captured.err == "4 of 5 refusals are explained by no rule\n"


def test_an_own_rule_explains_the_unmatched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN.replace("daily quota of our partner", "aligned to Jupiter").replace("the aligned", "aligned"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(ODD.format("a", 1).encode())))
    assert unmatched([path], ["-"], as_json=True) == 0
    assert json.loads(said(capsys))["unmatched"] == 0


LIKELY = "421 you open more sessions than we like"


def test_what_was_only_likely_is_unmatched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "replies.txt"
    path.write_text(f"{LIKELY}\n550 5.1.1 User unknown\n")
    assert load().match(Reply.of(LIKELY, Verb.CONNECT)).rule == "likely"
    assert unmatched([], [str(path)], as_json=True) == 0
    assert [group["reply"] for group in json.loads(said(capsys))["replies"]] == [LIKELY]
    assert show_rule([], "likely", as_json=False, color=False) == 0
    first, second = said(capsys).splitlines()
    assert first.startswith("likely: no rule")
    assert "rules unmatched" in second
    assert show_rule([], "likely", as_json=True, color=False) == 0
    assert json.loads(said(capsys))["kind"] == "reader"


def test_unmatched_of_nothing_is_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert unmatched([], [str(tmp_path / "absent")], as_json=False) == 2
    assert "absent: No such file" in capsys.readouterr().err


def test_without_a_file_the_history_is_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path}/history.db"
    store = Store(engine_of(url), seed=b"seed", mode="mask", retention_s=1e9)
    assert store.start(20)
    for number, text in enumerate(("550 blorp gizmo", "550 blorp gizmo", "550 5.1.1 no such user", LIKELY)):
        verb = Verb.CONNECT if text == LIKELY else Verb.RCPT
        meaning = load().match(Reply.of(text, verb), "mx.example.net")
        written = record(refusal(text, verb=verb, meaning=meaning))
        written.id = f"01JD5Z8Q7KX{number}"
        store.write(written)
    store.close()
    assert unmatched([], [], as_json=True, store_url=url) == 0
    found = json.loads(said(capsys))
    assert (found["refused"], found["unmatched"]) == (3, 3)
    assert [(group["count"], group["reply"]) for group in found["replies"]] == [(2, "550 blorp gizmo"), (1, LIKELY)]
    assert unmatched([], [], as_json=False, store_url=url) == 0
    assert capsys.readouterr().err == "3 of 3 refusals that came without a rule have none now either\n"
    with started(f"sqlite:///{tmp_path}/empty.db"):
        pass
    assert unmatched([], [], as_json=False, store_url=f"sqlite:///{tmp_path}/empty.db") == 0
    assert capsys.readouterr().err == "every refusal in the history has a rule\n"
    assert unmatched([], [], as_json=True, store_url=f"sqlite:///{tmp_path}/none.db") == 2
