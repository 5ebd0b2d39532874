"""The registry of rules against the catalogue, and each rule's words against what they are for."""

from __future__ import annotations

import re
from itertools import groupby

import pytest

from smtpguard.classify.categories import CATEGORIES
from smtpguard.lint import Severity, Stage
from smtpguard.lint.rule import RULES, Rule, rule

CATALOGUE = """
ENV001R sender-syntax error MAIL 553 5.1.7
ENV002 sender-domain-missing error MAIL 550 5.1.8
ENV003 sender-null-mx warning MAIL 550 5.7.27
ENV004 sender-not-fqdn error MAIL 553 5.1.8
ENV005 null-sender-many-rcpts warning RCPT 452 4.5.3
RCP001R rcpt-syntax error RCPT 553 5.1.3
RCP002 rcpt-domain-missing error RCPT 550 5.1.2
RCP003 rcpt-null-mx error RCPT 556 5.1.10
RCP004 rcpt-no-mail-host error RCPT 550 5.4.4
RCP005 rcpt-mx-unusable warning RCPT 550 5.4.4
RCP006 rcpt-needs-smtputf8 error RCPT 553 5.6.7
RCP007 rcpt-domain-typo info RCPT -
SPF001 spf-none warning MAIL 550 5.7.23
SPF002 spf-permerror error MAIL 550 5.7.24
SPF003 spf-fail error MAIL 550 5.7.23
SPF004 spf-softfail-neutral warning MAIL 550 5.7.23
SPF005 spf-helo-fail info BG -
SPF006 spf-near-limit info BG -
SPF007 spf-deprecated-or-open warning BG -
SPF008 spf-egress-partial error BG -
DKM001 dkim-none warning DATA 550 5.7.20
DKM002 dkim-body-hash error DATA 550 5.7.20
DKM003 dkim-signature-bad error DATA 550 5.7.20
DKM004 dkim-key-missing error DATA 550 5.7.20
DKM005 dkim-weak warning DATA 550 5.7.21
DKM006 dkim-coverage warning DATA -
DKM007 dkim-time warning DATA -
DKM008 dkim-fragile warning DATA -
DMA001 dmarc-will-fail error DATA 550 5.7.26
DMA002 dmarc-unaligned warning DATA 550 5.7.26
DMA003 dmarc-none warning DATA 550 5.7.26
DMA004 dmarc-record-bad warning BG -
DMA005 dmarc-single-leg info DATA -
DMA006 dmarc-orgdomain-divergence warning BG -
DMA007 from-impersonates-freemail error DATA 550 5.7.26
NET001 ptr-missing error BG 550 5.7.25
NET002 ptr-not-forward-confirmed error BG 550 5.7.25
NET003 ptr-generic warning BG -
NET004 helo-invalid error BG -
NET005 helo-mismatch info BG -
NET006 egress-no-tls warning BG -
RBL001 egress-listed error BG 451 4.7.1
RBL002 egress-policy-listed warning BG -
RBL003 egress-listed-minor info BG -
RBL004 domain-listed error DATA 550 5.7.1
RBL005 url-domain-listed warning DATA 550 5.7.1
HDR001R from-missing-or-many error DATA 550 5.6.0
HDR002R singleton-duplicated error DATA 550 5.6.0
HDR003 date-missing-or-off warning DATA 550 5.6.0
HDR004 message-id-missing-or-bad warning DATA 550 5.6.0
HDR005R header-syntax error DATA 550 5.6.0
HDR006 raw-8bit-header error DATA 550 5.6.7
HDR007 encoded-word-bad warning DATA -
HDR008 header-limits error DATA 552 5.3.4
HDR009 leak-or-forged info DATA -
MIM001 line-too-long error DATA 550 5.6.0
MIM002R bare-newline error DATA 550 5.5.2
MIM003 8bit-undeclared error DATA 554 5.6.3
MIM004 mime-structure warning DATA 550 5.6.0
MIM005R too-large error DATA 552 5.3.4
MIM006 large-for-provider warning DATA -
CNT001 blocked-attachment error DATA 552 5.7.0
CNT002 html-only info DATA -
CNT003 html-broken warning DATA -
CNT004 html-hidden-text warning DATA -
CNT005 link-deceptive warning DATA -
CNT006 html-clipped info DATA -
CNT007 template-leftover warning DATA -
CNT008 display-name-deceptive warning DATA -
BLK001 unsubscribe-missing error DATA 550 5.7.1
BLK002 one-click-missing error DATA -
BLK003 one-click-unsigned warning DATA -
BLK004 unsubscribe-malformed warning DATA -
BLK005 body-unsubscribe-link info DATA -
DNS001 dns-temperror info DATA 451 4.4.3
"""
"""Every code there ever was: none may be used for anything else, or renamed. The last column is what we answer."""

LATER = {"CNT008"}
"""Not made yet."""

ALL = pytest.mark.parametrize("one", RULES.values(), ids=RULES)


def told(one: Rule) -> str:
    """A rule as the catalogue writes it."""
    mark = "R" if one.is_certain else ""
    return f"{one.code}{mark} {one.name} {one.severity} {one.stage} {one.answer or '-'}"


def test_every_rule_is_in_the_catalogue_as_it_is() -> None:
    lines = CATALOGUE.strip().splitlines()
    wanted = {line for line in lines if line[:6] not in LATER}
    assert {told(one) for one in RULES.values()} ^ wanted == set()


def test_names_are_used_once_and_a_files_codes_stand_in_order() -> None:
    assert len({one.name for one in RULES.values()}) == len(RULES)
    for _, rules in groupby(RULES.values(), key=lambda one: one.check.__module__):
        codes = [one.code for one in rules]
        for family in {code[:3] for code in codes}:
            own = [code for code in codes if code.startswith(family)]
            assert own == sorted(own)


@ALL
def test_words(one: Rule) -> None:
    assert re.fullmatch(r"[A-Z`].{15,110}\.", one.title), one.title
    assert one.title.count(". ") == 0
    assert len(one.reason) > 60
    assert len(one.fix) > 40
    assert one.reason.endswith(".")
    for text in (one.title, one.reason, one.fix):
        assert "TODO" not in text
    assert one.reference


@ALL
def test_what_a_rule_predicts_is_a_category(one: Rule) -> None:
    assert one.category in CATEGORIES
    assert all(predicted.by and predicted.says for predicted in one.predicts)


@ALL
def test_an_answer_is_of_one_class_and_only_an_error_is_certain(one: Rule) -> None:
    if one.answer is not None:
        assert one.answer.code // 100 == one.answer.enhanced.klass
        assert one.answer.enhanced.klass in (4, 5)
    if one.is_certain:
        assert one.answer is not None
        assert one.severity is Severity.ERROR
        assert one.stage is not Stage.BACKGROUND


def test_a_rule_without_words_or_with_a_used_code_is_not_taken() -> None:
    def bare() -> list[object]:
        return []

    before = dict(RULES)
    for code, name in (
        ("XYZ001", "some-name"),
        ("ENV001", "other-name"),
        ("XYZ001", "spf-none"),
        ("XY1", "a"),
        ("XYZ001", "A"),
    ):
        with pytest.raises(ValueError, match=r"docstring|taken|kebab-case"):
            rule(code, name, Severity.INFO, Stage.DATA, category="unknown", reference="x")(bare)  # type: ignore[arg-type]
    assert before == RULES
