"""Which rule a refusal falls under, and what it is remembered by."""

from __future__ import annotations

from typing import Any

import pytest

from smtpguard.config import PolicySettings
from smtpguard.mail.reply import Verb
from smtpguard.policy import PASS, Policies, Refused, Scope, Subject

LISTED = Refused(5, "reputation.ip_listed", "until_fixed", "google", "default", Verb.RCPT, "example.org")


def rule(**keys: Any) -> PolicySettings:
    return PolicySettings.model_validate({"action": "defer", **keys})


@pytest.mark.parametrize(
    ("keys", "matches"),
    [
        ({}, True),
        ({"class": 5}, True),
        ({"class": 4}, False),
        ({"category": "reputation.ip_listed"}, True),
        ({"category": "reputation.*"}, True),
        ({"category": "*"}, True),
        ({"category": ["auth.*", "reputation.poor"]}, False),
        ({"category": "reputation"}, False),
        ({"permanence": "until_fixed"}, True),
        ({"permanence": "permanent"}, False),
        ({"provider": ["yahoo", "google"]}, True),
        ({"provider": "yahoo"}, False),
        ({"from_hop": "default"}, True),
        ({"from_hop": "backup"}, False),
        ({"verb": ["rcpt", "DOT"]}, True),
        ({"verb": "MAIL"}, False),
        ({"sender_domain": "example.org"}, True),
        ({"sender_domain": "*.example.org"}, False),
        ({"class": 5, "category": "reputation.*", "provider": "yahoo"}, False),
    ],
)
def test_a_rule_holds_where_all_its_conditions_do(keys: dict[str, Any], matches: bool) -> None:
    wanted = rule(**keys)
    assert Policies([wanted]).match(LISTED) is (wanted if matches else PASS)


def test_the_first_rule_wins_and_none_is_pass() -> None:
    first, second = rule(category="reputation.*"), rule(action="suppress")
    assert Policies([first, second]).match(LISTED) is first
    assert Policies([second, first]).match(LISTED) is second
    assert Policies().match(LISTED).action == "pass"
    assert not Policies()


@pytest.mark.parametrize(
    ("scope", "key"),
    [
        ("recipient", "recipient r1"),
        ("sender", "sender example.org google"),
        ("egress", "egress default google"),
        ("session", "egress default google"),
        ("account", "egress default google"),
        ("message", "message 4XyZ"),
    ],
)
def test_what_a_refusal_is_remembered_by(scope: str, key: str) -> None:
    assert Subject("r1", "example.org", "default", "google", "4XyZ").key(Scope.of(scope)) == key


def test_what_cannot_be_said_has_no_key() -> None:
    nobody = Subject("", "", "default", "other")
    assert nobody.key(Scope.RECIPIENT) == nobody.key(Scope.MESSAGE) == ""
    assert nobody.every_key() == ("egress default other", "sender  other")
