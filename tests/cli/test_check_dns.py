"""What `check` says of the DNS: name servers, blocklists, our own addresses, and the domains that we send for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from smtpguard.cli.egress import NOWHERE, dns_findings
from smtpguard.cli.finding import Finding, exit_code
from smtpguard.cli.outward import sources
from smtpguard.config import Settings, load
from smtpguard.mailauth.dns import IpAddress
from tests.audit.test_dkim import rsa
from tests.audit.world import GOOD
from tests.dns.server import Server, bound, serving
from tests.dns.zones import load as load_zones

KEY = {"s._domainkey.good.test": [{"TXT": rsa(2048)}]}
BASIS = """
[relay]
hostname = "mail.good.test"
[next_hop.default]
host = "mx.test"
egress_ips = ["203.0.113.7"]
[next_hop.other]
host = "smtp.provider.test"
[next_hop.none]
host = "sandbox"
[sender]
domains = ["good.test", "*.good.test"]
dkim_selectors = ["s"]
"""


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    zone = load_zones("lists")
    for name, said in {**GOOD, **KEY}.items():
        zone.put(name, *said)
    async with serving(zone) as server:
        yield server


def settings(directory: Path, *servers: str, more: str = "") -> Settings:
    file = directory / "s.toml"
    file.write_text(f"{BASIS}[lint.dns]\nresolvers = {list(servers)}\n{more}".replace("'", '"'))
    return load(file, {}).settings


def of(found: list[Finding], name: str) -> list[tuple[str, str]]:
    return [(finding.state, finding.message) for finding in found if finding.name == name]


async def test_all_is_well(server: Server, tmp_path: Path) -> None:
    found = await dns_findings(settings(tmp_path, server.address))
    assert exit_code(found) == 0
    ((state, message),) = of(found, "resolver")
    assert (state, message.endswith(" ms, by UDP and TCP")) == ("ok", True)
    assert of(found, "blocklists")[0][0] == "ok"
    # lists are asked about addresses of the whole internet only, and this is one for documentation
    assert [state for state, _ in of(found, "egress.default")] == ["ok", "skip", "ok"]
    assert of(found, "egress.default")[0][1].startswith("203.0.113.7 is mail.good.test")
    assert of(found, "egress.other")[0][0] == "skip"
    assert of(found, "egress.none") == []
    assert of(found, "sender.good.test") == [("ok", "all is well")]


async def test_a_sender_and_an_address_in_trouble(server: Server, tmp_path: Path) -> None:
    server.zone.put("_dmarc.good.test")
    server.zone.put("7.113.0.203.in-addr.arpa")
    found = await dns_findings(settings(tmp_path, server.address))
    assert exit_code(found) == 1
    assert ("fail", "203.0.113.7 has no PTR record") in of(found, "egress.default")
    sender = next(finding for finding in found if finding.name == "sender.good.test")
    assert sender.state == "warn"
    assert sender.message == "dmarc: the From domain good.test has no DMARC policy"
    assert sender.remedy.startswith("publish _dmarc.good.test. TXT")


@pytest.mark.parametrize(
    ("said", "words"),
    [([{"A": "192.0.2.1"}], f"lies: {NOWHERE} is 192.0.2.1"), (["SERVFAIL"], "gives no answer (servfail)")],
)
async def test_a_server_that_lies_or_fails(server: Server, said: list[Any], words: str, tmp_path: Path) -> None:
    server.zone.put(NOWHERE, *said)
    found = await dns_findings(settings(tmp_path, server.address))
    assert found[0].state == "fail"
    assert words in found[0].message
    assert exit_code(found) == (1 if "lies" in words else 75)


async def test_nobody_answers_is_temporary_and_one_of_two_is_a_warning(server: Server, tmp_path: Path) -> None:
    datagram, stream = bound()
    port = datagram.getsockname()[1]
    datagram.close()
    stream.close()
    found = await dns_findings(settings(tmp_path, f"127.0.0.1:{port}"))
    assert (len(found), exit_code(found)) == (1, 75)
    found = await dns_findings(settings(tmp_path, f"127.0.0.1:{port}", server.address))
    assert [finding.state for finding in found if finding.name == "resolver"] == ["warn", "ok"]
    assert exit_code(found) == 0


async def test_a_slow_server(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smtpguard.cli.egress.SLOW_S", 0.0)
    found = await dns_findings(settings(tmp_path, server.address))
    assert (found[0].state, found[0].message.endswith(": slow")) == ("warn", True)


async def test_a_server_without_tcp(tmp_path: Path) -> None:
    async with serving(load_zones("lists"), tcp=False) as server:
        found = await dns_findings(settings(tmp_path, server.address))
    assert found[0].state == "warn"
    assert "not by TCP" in found[0].message


async def test_lists_that_refuse_us(server: Server, tmp_path: Path) -> None:
    server.zone.put("2.0.0.127.zen.spamhaus.org", {"A": "127.255.255.254"})
    server.zone.put("2.0.0.127.bl.spamcop.net")
    found = await dns_findings(settings(tmp_path, server.address))
    said = of(found, "blocklists")
    assert [state for state, _ in said] == ["warn", "warn", "ok"]
    assert said[0][1].startswith("zen.spamhaus.org is not used: error")
    assert said[1][1].startswith("bl.spamcop.net is not used: broken")
    assert "zen.spamhaus.org" not in said[2][1]


async def test_where_nothing_asks_the_dns_nothing_is_asked(server: Server, tmp_path: Path) -> None:
    given = settings(tmp_path, server.address, more='[lint]\nmode = "off"\n')
    quiet = given.model_copy(update={"sender": given.sender.model_copy(update={"domains": ()})})
    (finding,) = await dns_findings(quiet)
    assert (finding.name, finding.state) == ("resolver", "skip")
    assert server.questions == []


async def test_a_key_that_cannot_be_read(server: Server, tmp_path: Path) -> None:
    given = settings(tmp_path, server.address)
    lists = given.lint.blocklists.model_copy(update={"spamhaus_key_file": str(tmp_path / "none")})
    found = await dns_findings(given.model_copy(update={"lint": given.lint.model_copy(update={"blocklists": lists})}))
    assert (found[-1].name, found[-1].state) == ("lint.blocklists", "fail")
    assert str(tmp_path / "none") in found[-1].message


# -- host = "mx"

STRAIGHT = """
[relay]
hostname = "mail.good.test"
[next_hop.default]
host = "mx"
"""
KNOWN = 'egress_ips = ["203.0.113.7"]\n'
SENDER = '[sender]\ndomains = ["good.test"]\ndkim_selectors = ["s"]\n'


async def straight(server: Server, directory: Path, toml: str = "", *leaves_from: str) -> list[Finding]:
    """What is found of an "mx" whose mail leaves from these addresses."""
    file = directory / "s.toml"
    file.write_text(f'{STRAIGHT}{toml}[lint]\nmode = "off"\n[lint.dns]\nresolvers = ["{server.address}"]\n')
    own: Sequence[IpAddress] = [ip_address(text) for text in leaves_from]
    return await dns_findings(load(file, {}).settings, lambda bind: own)


def wrong(found: list[Finding]) -> list[tuple[str, str, str]]:
    return [(each.name, each.state, each.message) for each in found if each.state in ("fail", "warn")]


async def test_straight_to_the_receivers_all_is_well_though_the_lint_is_off(server: Server, tmp_path: Path) -> None:
    found = await straight(server, tmp_path, KNOWN + SENDER, "203.0.113.7")
    assert wrong(found) == []
    assert "203.0.113.7 is mail.good.test" in of(found, "egress.default")[0][1]
    assert of(found, "egress.default")[-1][1] == "HELO mail.good.test leads to every address"
    assert of(found, "sender.good.test") == [("ok", "all is well")]


async def test_an_address_that_is_not_configured_is_found_out_and_looked_at(server: Server, tmp_path: Path) -> None:
    found = await straight(server, tmp_path, SENDER, "192.0.2.8")
    said = of(found, "egress.default")
    assert said[0] == ("warn", "mail leaves from 192.0.2.8, which is not configured")
    assert next(each.remedy for each in found if each.name == "egress.default").startswith(
        'set next_hop.default.egress_ips = ["192.0.2.8"]'
    )
    assert ("fail", "192.0.2.8 has no PTR record") in said
    assert [each for each in wrong(found) if each[0] == "sender.good.test" and "192.0.2.8" in each[2]]


async def test_behind_nat_the_operator_is_asked(server: Server, tmp_path: Path) -> None:
    found = await straight(server, tmp_path, SENDER)
    [(state, message)] = of(found, "egress.default")
    assert (state, "NAT" in message) == ("warn", True)
    assert wrong(await straight(server, tmp_path, KNOWN + SENDER)) == []


async def test_a_second_address_that_nobody_named(server: Server, tmp_path: Path) -> None:
    found = await straight(server, tmp_path, KNOWN + SENDER, "203.0.113.7", "2001:db8::5")
    [(name, state, message)] = wrong(found)
    assert (name, state) == ("egress.default", "warn")
    assert message == "mail leaves from 2001:db8::5 too, which next_hop.default.egress_ips does not name"


@pytest.mark.parametrize(
    ("name", "entries", "words"),
    [
        ("7.113.0.203.in-addr.arpa", [], "has no PTR record"),
        ("7.113.0.203.in-addr.arpa", [{"PTR": "other.test"}], "other.test"),
        ("mail.good.test", [{"A": "203.0.113.9"}], "HELO"),
        ("good.test", [{"MX": [10, "mx1.good.test"]}, {"TXT": "v=spf1 ip4:203.0.113.9 -all"}], "203.0.113.7"),
    ],
    ids=["no PTR", "PTR that does not lead back", "HELO", "SPF"],
)
async def test_each_of_what_receivers_want_is_looked_at_and_has_a_remedy(
    name: str, entries: list[Any], words: str, server: Server, tmp_path: Path
) -> None:
    server.zone.put(name, *entries)
    found = [each for each in await straight(server, tmp_path, KNOWN + SENDER) if each.state in ("fail", "warn")]
    assert [each for each in found if words in each.message]
    assert all(each.remedy for each in found)


async def test_without_a_sender_spf_cannot_be_looked_at(server: Server, tmp_path: Path) -> None:
    [(name, state, _)] = wrong(await straight(server, tmp_path, KNOWN))
    assert (name, state) == ("sender", "warn")


def test_an_address_to_send_from_that_is_chosen_is_the_only_one() -> None:
    assert sources("198.41.0.99") == (ip_address("198.41.0.99"),)
    assert sources("10.0.0.1") == ()
    assert {address.version for address in sources("0.0.0.0")} <= {4}
    assert all(address.is_global for address in sources(""))
