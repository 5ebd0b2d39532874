"""SPF in an audit: the tree with its count, the record's faults, and each of our addresses."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from smtpguard.audit import Branch, Line
from smtpguard.audit.spf import ask, lines
from tests.audit.world import told
from tests.mailauth.zone import Zone


async def audited(zone: dict[str, Any], *addresses: str, domain: str = "a.test") -> list[Line]:
    return list(lines(await ask(Zone(zone), domain, [ip_address(each) for each in addresses], "mail.a.test")))


def record(text: str) -> dict[str, Any]:
    return {"a.test": [{"TXT": text}, {"A": "192.0.2.1"}], "x.test": [{"A": "192.0.2.2"}]}


async def test_the_tree_shows_each_record_with_the_running_count() -> None:
    zone = {
        "a.test": [
            {"TXT": "v=spf1 include:b.test ip4:10.1.1.1 ip4:10.1.1.2 ip4:10.1.1.3 ip4:10.1.1.4 ip4:10.1.1.5 a ~all"}
        ],
        "b.test": [{"TXT": "v=spf1 exists:gone.b.test redirect=c.test"}],
        "c.test": [{"TXT": "v=spf1 ip6:2001:db8::/32 -all"}],
    }
    (line,) = await audited(zone)
    assert line.tree == (
        Branch(0, "a.test"),
        Branch(1, "include:b.test", "1/10"),
        Branch(2, "exists:gone.b.test", "2/10, finds nothing"),
        Branch(2, "redirect=c.test", "3/10"),
        Branch(3, "ip6:2001:db8::/32"),
        Branch(3, "-all"),
        Branch(1, "ip4:10.1.1.1"),
        Branch(1, "ip4:10.1.1.2"),
        Branch(1, "ip4:10.1.1.3"),
        Branch(1, "and 2 more networks"),
        Branch(1, "a", "4/10, finds nothing"),
        Branch(1, "~all"),
    )


async def test_a_good_record_is_counted_and_each_address_named_with_its_term() -> None:
    zone = record("v=spf1 ip4:203.0.113.0/24 include:b.test -all") | {
        "b.test": [{"TXT": "v=spf1 ip6:2001:db8::/32 -all"}]
    }
    first, v4, v6 = await audited(zone, "203.0.113.7", "2001:db8::1")
    assert (first.state, first.rule) == ("ok", "")
    assert "1 of 10 look-ups, 0 of 2 that find nothing" in first.message
    assert v4.message.startswith("203.0.113.7 passes by ip4:203.0.113.0/24 (0 of 10")
    assert v6.message.startswith("2001:db8::1 passes by ip6:2001:db8::/32 in record of b.test (1 of 10")


async def test_a_record_over_the_limit_is_counted_to_its_end() -> None:
    zone = {
        "a.test": [
            {"TXT": "v=spf1 mx include:b.test include:c.test include:%{d}.x.test include:e.t -all a redirect=b.test"}
        ],
        "b.test": [{"TXT": "v=spf1 " + "a:x.test " * 8 + "?all"}, {"A": "192.0.2.1"}],
        "c.test": [{"TXT": "v=spf1 a a redirect=d.test"}, {"A": "192.0.2.1"}],
        "d.test": [{"TXT": "v=spf1 include:c.test"}, {"A": "192.0.2.1"}],
        "x.test": [{"A": "192.0.2.1"}],
        "e.t": [{"TXT": "v=spf1 ipv4:192.0.2.1"}],
        "a.test.x.test": [{"TXT": "v=spf1 a -all"}],
    }
    (line,) = await audited(zone)
    assert (line.state, line.rule) == ("fail", "SPF002")
    assert line.tree[-1] == Branch(1, "include:c.test", "11/10, ends it here")
    # a loop is followed once, what stands behind `all` is never asked for
    assert line.message.endswith(
        "; it takes 17: include:b.test 9, include:c.test 5, mx 1, include:%{d}.x.test 1, include:e.t 1"
    )


async def test_a_record_that_names_very_many_is_not_read_for_ever() -> None:
    zone = {f"{number}.test": [{"TXT": f"v=spf1 {f'include:{number + 1}.test ' * 4}-all"}] for number in range(30)}
    asked = Zone({**zone, "30.test": [{"TXT": "v=spf1 -all"}]})
    await ask(asked, "0.test", [], "mail.test")
    assert len(asked.asked) < 200


async def test_the_tree_goes_on_behind_what_our_own_addresses_match() -> None:
    first, ours = await audited(record("v=spf1 ip4:203.0.113.0/24 a:x.test -all"), "203.0.113.7")
    assert [branch.text for branch in first.tree] == ["a.test", "ip4:203.0.113.0/24", "a:x.test", "-all"]
    assert "1 of 10 look-ups" in first.message
    assert "0 of 10 look-ups" in ours.message


@pytest.mark.parametrize(
    ("text", "addresses", "expected"),
    [
        ("v=spf1 ptr -all", (), [("warn", "SPF007")]),
        ("v=spf1 include:none.test -all", (), [("fail", "SPF002")]),
        ("v=spf1 ip4:192.0.2.1 -all", ("203.0.113.7",), [("ok", ""), ("fail", "SPF003")]),
        ("v=spf1 ip4:192.0.2.1 ~all", ("203.0.113.7",), [("ok", ""), ("warn", "SPF004")]),
        (
            "v=spf1 ip4:203.0.113.7 -all",
            ("203.0.113.7", "203.0.113.8"),
            [("ok", ""), ("ok", ""), ("fail", "SPF008")],
        ),
        ("v=spf1 " + "a:x.test " * 8 + "-all", (), [("warn", "SPF006")]),
        ("v=spf1 " + "a:x.test " * 11 + "-all", ("203.0.113.7",), [("fail", "SPF002")]),
    ],
)
async def test_the_rules_of_the_lint_judge(text: str, addresses: tuple[str, ...], expected: list[Any]) -> None:
    found = await audited(record(text), *addresses)
    assert told(found) == expected
    assert found[0].tree  # whatever is wrong, the tree is shown


async def test_without_a_record_the_one_to_publish_names_our_addresses() -> None:
    (line,) = await audited({"a.test": [{"A": "192.0.2.1"}]}, "203.0.113.7")
    assert (line.state, line.rule) == ("warn", "SPF001")
    assert line.records == ('a.test. TXT "v=spf1 ip4:203.0.113.7 ~all"',)
    (line,) = await audited({"a.test": [{"A": "192.0.2.1"}]})
    assert line.records == ('a.test. TXT "v=spf1 mx ~all"',)
    assert "0.0.0.0" not in line.fix


async def test_a_domain_that_sends_nothing_and_one_that_asks_for_the_sender() -> None:
    (line,) = await audited(record("v=spf1 -all"))
    assert line.state == "ok"
    assert line.message.endswith("; no host sends mail for it")
    (line,) = await audited(record("v=spf1 exists:%{l}.x.test -all"))
    assert "postmaster was taken" in line.message


async def test_an_address_whose_term_cannot_be_looked_up() -> None:
    zone = record("v=spf1 a:x.test -all") | {"x.test": [{"A": "192.0.2.2"}, {"SERVFAIL": "AAAA"}]}
    first, v6 = await audited(zone, "2001:db8::1")
    assert (first.state, v6.state, v6.is_temporary) == ("ok", "skip", True)
    assert "SPF for 2001:db8::1" in v6.message


async def test_what_the_dns_does_not_answer_is_not_judged() -> None:
    (line,) = await audited({"a.test": ["TIMEOUT"]}, "203.0.113.7")
    assert (line.state, line.is_temporary) == ("skip", True)
    zone = {"a.test": [{"TXT": "v=spf1 ip4:203.0.113.7 mx -all"}, {"SERVFAIL": "MX"}]}
    (line,) = await audited(zone)
    assert (line.state, line.is_temporary) == ("skip", True)
