"""The audit of a whole domain: what the verdict comes to, and the second opinion."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest

from smtpguard.audit import Audit, Line, Terms, audit, own_addresses
from smtpguard.audit.line import judged, unknown
from smtpguard.lint.facts import Listing
from tests.audit.test_dkim import rsa
from tests.audit.world import GOOD, Files, Lists, but
from tests.mailauth.zone import Zone

OURS = IPv4Address("203.0.113.7")
KEY = {"s._domainkey.good.test": [{"TXT": rsa(2048)}]}


def terms(changes: dict[str, Any], **given: Any) -> Terms:
    basis = Terms(Zone(but({**KEY, **changes})), Lists(), Files(), (OURS,), "mail.good.test", ("s",))
    return basis._replace(**given)


async def test_a_good_domain_is_well_and_so_are_we() -> None:
    found = await audit("Good.TEST", terms({}))
    assert (found.domain, found.verdict, found.summary) == ("good.test", "ok", "all is well")
    assert {"spf", "dkim", "dmarc", "mx", "blocklist"} <= {line.about for line in found.lines}
    assert {line.state for line in await own_addresses(terms({}))} == {"ok"}
    assert await own_addresses(terms({}, addresses=())) == ()


async def test_the_verdict_is_the_worst() -> None:
    found = await audit("good.test", terms({"_dmarc.good.test": None}))
    assert (found.verdict, found.summary) == ("warn", "mail passes; 1 thing to mend")
    both = {"_dmarc.good.test": None, "good.test": [{"TXT": "v=spf1 -all"}, {"MX": [10, "mx1.good.test"]}]}
    found = await audit("good.test", terms(both))
    assert found.verdict == "fail"
    assert found.summary.startswith("mail is refused, or will be: SPF of good.test forbids 203.0.113.7")


async def test_a_listed_domain_fails() -> None:
    entry = Listing("dbl.spamhaus.org", "seen in spam")
    assert (await audit("good.test", terms({}, lists=Lists({"good.test": (entry,)})))).verdict == "fail"


async def test_of_a_domain_that_does_not_exist_nothing_more_is_said() -> None:
    found = await audit("gone.test", terms({}))
    assert [line.rule for line in found.lines] == ["ENV002"]
    assert found.verdict == "fail"


async def test_where_the_dns_is_away_nothing_can_be_said() -> None:
    away = {name: ["TIMEOUT"] for name in ("good.test", "_dmarc.good.test", "s._domainkey.good.test")}
    found = await audit("good.test", terms(away))
    assert (found.verdict, found.is_temporary) == ("unknown", True)
    assert found.summary == "nothing can be said: the DNS does not answer"


async def test_one_answer_that_is_missing_is_told() -> None:
    found = await audit("good.test", terms({"_dmarc.good.test": ["SERVFAIL"]}))
    assert (found.verdict, found.is_temporary) == ("ok", True)
    assert found.summary == "all is well; 1 question the DNS did not answer"


@pytest.mark.parametrize("name", ["", "localhost", "a..b", "a b"])
async def test_what_is_no_domain_is_not_asked(name: str) -> None:
    with pytest.raises(ValueError, match="no domain name"):
        await audit(name, terms({}))


# --- the second opinion ----------------------------------------------------------------------------------------------


async def test_two_resolvers_that_agree() -> None:
    found = await audit("good.test", terms({}, second=Zone(but(KEY)), second_name="192.0.2.53"))
    assert [line.message for line in found.lines if line.about == "dns"] == ["192.0.2.53 says the same"]


async def test_what_the_world_sees_and_we_do_not() -> None:
    world = Zone(but({**KEY, "_dmarc.good.test": [{"TXT": "v=DMARC1; p=none"}], "_spf.good.test": ["TIMEOUT"]}))
    found = await audit("good.test", terms({}, second=world, second_name="192.0.2.53"))
    (line,) = [line for line in found.lines if line.about == "dns"]
    assert line.state == "warn"
    assert line.message == (
        'TXT of _dmarc.good.test is "v=DMARC1; p=reject; rua=mailto:dmarc@good.test" here, '
        '"v=DMARC1; p=none" at 192.0.2.53'
    )


async def test_other_peoples_names_are_not_compared() -> None:
    ours = terms(
        {"good.test": [{"TXT": "v=spf1 include:x.test -all"}], "x.test": [{"TXT": "v=spf1 ip4:203.0.113.7 -all"}]}
    )
    same = {"good.test": [{"TXT": "v=spf1 include:x.test -all"}], "x.test": [{"TXT": "v=spf1 -all"}]}
    found = await audit("good.test", ours._replace(second=Zone(but({**KEY, **same})), second_name="x"))
    assert [line.message for line in found.lines if line.about == "dns"] == ["x says the same"]


async def test_mail_hosts_that_differ_are_named_and_so_is_what_is_not_there() -> None:
    world = Zone(but({**KEY, "good.test": [{"TXT": GOOD["good.test"][0]["TXT"]}]}))
    found = await audit("good.test", terms({}, second=world, second_name="x"))
    said = [line.message for line in found.lines if line.about == "dns"]
    assert said == ["MX of good.test is 10 mx1.good.test here, not there at x"]


async def test_private_addresses_tell_an_inner_view() -> None:
    found = await audit("good.test", terms({"mx1.good.test": [{"A": "10.0.0.25"}, {"A": "203.0.113.25"}]}))
    (line,) = [line for line in found.lines if line.about == "dns"]
    assert "private addresses at mx1.good.test" in line.message


# --- lines -----------------------------------------------------------------------------------------------------------


def test_only_complete_records_are_to_be_published() -> None:
    def records(fix: str) -> tuple[str, ...]:
        return Line("spf", "warn", "", fix).records

    assert records('publish a.test. TXT "v=spf1 -all", with more') == ('a.test. TXT "v=spf1 -all"',)
    assert records("publish m.a.test. A 192.0.2.1; m.a.test. AAAA 2001:db8::1") == (
        "m.a.test. A 192.0.2.1",
        "m.a.test. AAAA 2001:db8::1",
    )
    assert records('"a.test. MX 10 mail.a.test." and an A record') == ("a.test. MX 10 mail.a.test.",)
    assert records('publish s._domainkey.a.test. TXT "v=DKIM1; k=rsa; p=..."') == ()
    assert records("have somebody publish 1.in-addr.arpa. PTR a.test.") == ()


def test_a_rule_that_has_nothing_to_go_by_says_nothing() -> None:
    assert list(judged("spf", ("SPF002",))) == []


def test_the_verdict_of_nothing() -> None:
    assert Audit("a.test", (unknown("mx", "MX of a.test", "timeout"),)).verdict == "unknown"
