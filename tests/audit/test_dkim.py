"""DKIM in an audit: keys at selectors that are named, at the usual ones, and what their absence means."""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from smtpguard.audit import Line
from smtpguard.audit.dkim import USUAL, ask, lines
from tests.audit.world import told
from tests.mailauth.zone import Zone

ED25519 = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="  # RFC 8463 A.2


@cache
def rsa(bits: int) -> str:
    """A key record."""
    public = generate_private_key(65537, bits).public_key()
    return "v=DKIM1; p=" + b64encode(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


async def audited(zone: dict[str, Any], *selectors: str) -> list[Line]:
    return list(lines(await ask(Zone({"a.test": [{"A": "192.0.2.1"}], **zone}), "a.test", selectors)))


def at(selector: str, *entries: Any) -> dict[str, Any]:
    return {f"{selector}._domainkey.a.test": list(entries)}


@pytest.mark.parametrize(
    ("text", "expected", "words"),
    [
        (rsa(2048), ("ok", ""), "RSA, 2048 bits"),
        (rsa(1024), ("warn", "DKM005"), "1024 bits: 2048 are recommended"),
        ("v=DKIM1; p=", ("warn", "DKM004"), "revoked"),
        ("v=DKIM1; p=AAAA", ("fail", "DKM004"), "no RSA key"),
        ("v=spf1 -all", ("fail", "DKM004"), "it is no key"),
        (rsa(2048) + "; s=other", ("fail", "DKM004"), "s= does not allow"),
        (rsa(2048) + "; t=y", ("warn", ""), "t=y"),
    ],
    ids=["good", "short", "revoked", "broken", "other", "service", "test"],
)
async def test_a_key_at_a_named_selector(text: str, expected: tuple[str, str], words: str) -> None:
    (line,) = await audited(at("s", {"TXT": text}), "s")
    assert (line.state, line.rule) == expected
    assert words in line.message
    assert "s._domainkey.a.test" in line.message


async def test_a_key_too_short_for_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    # such keys can no longer be made here: the limit is raised instead
    monkeypatch.setattr("smtpguard.audit.dkim.MIN_BITS", 1536)
    (line,) = await audited(at("s", {"TXT": rsa(1024)}), "s")
    assert (line.state, line.rule) == ("fail", "DKM005")
    assert "receivers ignore it" in line.message


async def test_a_named_selector_without_a_key_and_one_that_does_not_answer() -> None:
    gone, late = await audited(at("late", "TIMEOUT"), "gone", "late")
    assert (gone.state, gone.rule) == ("fail", "DKM004")
    assert "there is no such name" in gone.message
    assert gone.records == ()  # it has yet to be completed
    assert (late.state, late.is_temporary) == ("skip", True)


async def test_two_keys_at_one_name() -> None:
    (line,) = await audited(at("s", {"TXT": rsa(2048)}, {"TXT": rsa(1024)}), "s")
    assert line.state == "fail"
    assert "2 keys stand at one name" in line.message


async def test_the_usual_selectors_are_tried_and_an_alias_is_named() -> None:
    zone = at("selector1", {"CNAME": "s1.provider.test"}) | {"s1.provider.test": [{"TXT": rsa(2048)}]}
    (line,) = await audited(zone)
    assert line.state == "ok"
    assert "selector1._domainkey.a.test" in line.message
    assert "(behind s1.provider.test)" in line.message


async def test_no_name_below_domainkey_means_no_key_and_nothing_more_is_asked() -> None:
    zone = Zone({"a.test": [{"A": "192.0.2.1"}]})
    (line,) = lines(await ask(zone, "a.test", ()))
    assert (line.state, line.rule) == ("warn", "DKM001")
    assert zone.asked == [("TXT", "_domainkey.a.test")]


async def test_keys_that_nobody_can_guess_are_no_reproach() -> None:
    (line,) = await audited(at("20260101-xyz", {"TXT": rsa(2048)}))
    assert (line.state, line.is_temporary) == ("skip", False)
    assert "--selector" in line.message


async def test_a_wildcard_is_seen_through() -> None:
    (line,) = await audited({"*._domainkey.a.test": [{"TXT": rsa(2048)}]})
    assert line.state == "skip"
    assert "wildcard" in line.message


async def test_ed25519_alone_is_too_new_for_many() -> None:
    assert told(await audited(at("s", {"TXT": ED25519}), "s")) == [("ok", ""), ("warn", "DKM005")]
    both = at("s", {"TXT": ED25519}) | at("t", {"TXT": rsa(2048)})
    assert told(await audited(both, "s", "t")) == [("ok", ""), ("ok", "")]


async def test_the_dns_away() -> None:
    (line,) = await audited({"_domainkey.a.test": ["SERVFAIL"], **at("x", {"TXT": rsa(2048)})})
    assert (line.state, line.is_temporary) == ("skip", True)


def test_each_usual_selector_stands_once() -> None:
    assert len(set(USUAL)) == len(USUAL)
