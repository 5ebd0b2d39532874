"""Which rules are on, what is done about their hits, and for which mail they are off (`[lint.rules]`, exceptions)."""

from __future__ import annotations

import pytest

from smtpguard.lint import RULES, Action, Exemption, Ruleset, Stage, can_refuse

LISTS = Exemption(("SPF",), (), ("*.lists.example", "lists.example"))


@pytest.mark.parametrize(
    ("chosen", "rule", "action"),
    [
        ({"ALL": Action.OFF, "SPF": Action.DEFER, "SPF003": Action.REJECT}, "SPF003", Action.REJECT),
        ({"ALL": Action.OFF, "SPF": Action.DEFER}, "SPF003", Action.DEFER),
        ({"ALL": Action.OFF}, "SPF003", Action.OFF),
        ({"HDR": Action.REJECT}, "HDR007", Action.OBSERVE),  # it has no answer
        ({"NET": Action.REJECT}, "NET001", Action.OBSERVE),  # it is asked in the background, not of mail
        ({"HDR": Action.OFF}, "HDR007", Action.OFF),
    ],
)
def test_the_most_specific_selector_wins_and_only_what_can_refuse_refuses(
    chosen: dict[str, Action], rule: str, action: Action
) -> None:
    assert Ruleset("observe", chosen).actions[rule] is action


def test_whatever_is_set_to_refuse_has_an_answer() -> None:
    for mode in ("observe", "enforce"):
        for action in (Action.DEFER, Action.REJECT):
            refusing = [code for code, done in Ruleset(mode, {"ALL": action}).actions.items() if done is action]
            assert refusing
            assert all(RULES[code].answer is not None for code in refusing)


def test_what_can_be_refused_for() -> None:
    assert can_refuse("ALL")
    assert can_refuse("RBL")
    assert not can_refuse("NET")
    assert not can_refuse("HDR007")


def test_an_exception_for_recipients_holds_where_all_of_them_are_meant() -> None:
    ruleset = Ruleset(exemptions=[LISTS])
    assert "SPF003" in ruleset.exempt("s.example", ["lists.example", "a.lists.example"])
    assert ruleset.exempt("s.example", ["lists.example", "b.example"]) == frozenset()
    assert ruleset.exempt("s.example", []) == frozenset()  # nobody knows yet


def test_a_rule_of_mail_with_such_an_exception_waits_for_the_recipients() -> None:
    spf = {"SPF003": Action.REJECT}
    assert Ruleset("observe", spf).acts(Stage.MAIL)
    assert not Ruleset("observe", spf, [LISTS]).acts(Stage.MAIL)
    assert Ruleset("observe", spf, [Exemption(("SPF",), ("s.example",))]).acts(Stage.MAIL)
    assert Ruleset("observe", spf, [Exemption(("HDR",), (), ("lists.example",))]).acts(Stage.MAIL)
