"""DMARC in an audit: the policy, its two readings, and who may get its reports."""

from __future__ import annotations

from typing import Any

import pytest

from smtpguard.audit import Line
from smtpguard.audit.dmarc import ask, lines
from tests.audit.world import told
from tests.mailauth.zone import Zone


async def audited(text: str | None, zone: dict[str, Any] | None = None, domain: str = "a.test") -> list[Line]:
    records: dict[str, Any] = {"a.test": [{"A": "192.0.2.1"}], **(zone or {})}
    if text is not None:
        records["_dmarc.a.test"] = [{"TXT": text}]
    return list(lines(await ask(Zone(records), domain)))


RUA = "rua=mailto:d@a.test"


@pytest.mark.parametrize(
    ("text", "expected", "words"),
    [
        (f"v=DMARC1; p=reject; {RUA}", [("ok", "")], "reject for mail that fails"),
        (f"v=DMARC1; p=none; {RUA}", [("warn", "")], "anybody may use the domain"),
        (f"v=DMARC1; p=reject; t=y; {RUA}", [("warn", ""), ("warn", "DMA006")], "lowered by t=y"),
        (f"v=DMARC1; p=reject; pct=50; {RUA}", [("warn", "")], "50 % of it"),
        ("v=DMARC1; p=reject", [("ok", ""), ("warn", "")], "reject"),
        (f"v=DMARC1; p=rejct; {RUA}", [("warn", ""), ("warn", "DMA004")], "none for mail"),
        (None, [("warn", "DMA003")], "has no DMARC policy"),
    ],
    ids=["reject", "none", "test", "percent", "silent", "typo", "missing"],
)
async def test_a_policy(text: str | None, expected: list[Any], words: str) -> None:
    found = await audited(text)
    assert told(found)[: len(expected)] == expected
    assert words in found[0].message


async def test_without_a_policy_there_is_a_record_to_publish() -> None:
    (line,) = await audited(None)
    assert line.records == ('_dmarc.a.test. TXT "v=DMARC1; p=none; rua=mailto:dmarc@a.test"',)


async def test_nothing_is_to_be_published_before_the_reports_were_read() -> None:
    (line,) = await audited(f"v=DMARC1; p=none; {RUA}")
    assert "p=quarantine" in line.fix
    assert line.records == ()


async def test_a_subdomain_has_the_policy_of_the_domain() -> None:
    (line,) = await audited(f"v=DMARC1; p=reject; sp=quarantine; {RUA}", domain="b.a.test")
    assert "quarantine for mail that fails (sp= of a.test)" in line.message


@pytest.mark.parametrize("tag", ["rua", "ruf"])
async def test_reports_to_strangers_need_their_word(tag: str) -> None:
    text = f"v=DMARC1; p=reject; {RUA if tag == 'ruf' else ''}; {tag}=mailto:x@sub.a.test,mailto:x@b.test!10m"
    name = "a.test._report._dmarc.b.test"
    *_, refused = await audited(text)
    assert refused.state == "warn"
    assert "reports to b.test are not sent" in refused.message
    assert f'{name}. TXT "v=DMARC1"' in refused.fix
    assert refused.records == ()  # it is b.test's to publish
    *_, agreed = await audited(text, {name: [{"TXT": "v=DMARC1"}]})
    assert (agreed.state, agreed.message) == ("ok", "b.test takes reports about a.test")
    *_, other = await audited(text, {"*._report._dmarc.b.test": [{"TXT": "v=DMARC10"}]})
    assert other.state == "warn"
    *_, late = await audited(text, {name: ["TIMEOUT"]})
    assert (late.state, late.is_temporary) == ("skip", True)


async def test_reports_to_oneself_need_nobodys() -> None:
    assert told(await audited("v=DMARC1; p=reject; rua=mailto:x@mail.a.test")) == [("ok", "")]


async def test_two_readings_that_differ_are_told() -> None:
    zone = {"_dmarc.b.co.uk": [{"TXT": f"v=DMARC1; p=reject; psd=y; {RUA}"}]}
    found = await audited(None, zone, domain="c.b.co.uk")
    assert ("warn", "DMA006") in told(found)


async def test_the_dns_away() -> None:
    (line,) = await audited(None, {"_dmarc.a.test": ["SERVFAIL"]})
    assert (line.state, line.is_temporary) == ("skip", True)
    assert "TXT of _dmarc.a.test" in line.message
