"""`smtpguard audit` against a name server on loopback: what a person reads, what a program reads, exit codes."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from rich.console import Console
from typer.testing import CliRunner

from smtpguard.audit import Audit, Branch, Line
from smtpguard.cli import sender
from smtpguard.cli.audit import as_object, drawn, exit_code, plain, run
from tests.audit.test_dkim import rsa
from tests.audit.world import GOOD
from tests.dns.server import Server, serving
from tests.dns.zones import load

KEY = {"s._domainkey.good.test": [{"TXT": rsa(2048)}]}


class Bench(NamedTuple):
    """A name server, and a configuration that names it."""

    server: Server
    config: Path

    async def audit(self, *domains: str, **given: Any) -> int:
        """The command, in a thread: it has a loop of its own."""
        options = {"egress": (), "selectors": (), "public_resolver": "", "as_json": False, "color": False, "loud": 0}
        return await asyncio.to_thread(run, domains, self.config, {}, **{**options, **given})


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    zone = load("lists")
    for name, said in {**GOOD, **KEY}.items():
        zone.put(name, *said)
    async with serving(zone) as server:
        config = tmp_path / "s.toml"
        config.write_text(
            '[relay]\nhostname = "mail.good.test"\n[sender]\ndomains = ["good.test", "*.good.test"]\n'
            f'dkim_selectors = ["s"]\n[lint.dns]\nresolvers = ["{server.address}"]\n'
            '[next_hop.default]\nhost = "mx.test"\negress_ips = ["203.0.113.7"]\n'
        )
        yield Bench(server, config)


async def test_a_good_domain(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert await bench.audit("good.test") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "ok    good.test: all is well"
    assert any(line.startswith("  ok    dkim       s._domainkey.good.test: RSA, 2048 bits") for line in said)
    assert any("203.0.113.7 passes by ip4:203.0.113.0/24" in line for line in said)
    assert any(line.startswith("  ok    egress     203.0.113.7 is mail.good.test") for line in said)
    assert "include:_spf.good.test  [1/10]" in "\n".join(said)


async def test_without_a_configuration_this_machines_name_is_nobodys(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setattr("smtpguard.config.PLACES", (Path("smtpguard.toml"),))
    environ = {"SMTPGUARD__LINT__DNS__RESOLVERS": f'["{bench.server.address}"]'}
    given = {"egress": ("203.0.113.7",), "selectors": ("s",), "public_resolver": "", "color": False, "loud": 0}
    assert await asyncio.to_thread(run, ("good.test",), None, environ, as_json=False, **given) == 0  # type: ignore[arg-type]
    said = capsys.readouterr().out
    assert "skip  egress     the name that it says in EHLO is not known" in said
    assert "203.0.113.7 is mail.good.test" in said
    assert "HELO" not in said
    environ["SMTPGUARD__RELAY__HOSTNAME"] = "mail.good.test"
    assert await asyncio.to_thread(run, ("good.test",), None, environ, as_json=False, **given) == 0  # type: ignore[arg-type]
    assert "HELO mail.good.test leads to every address" in capsys.readouterr().out


async def test_the_configurations_own_domains_but_for_patterns(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await bench.audit(as_json=True) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["domain"] == "good.test"


async def test_an_error_is_exit_code_1_with_the_fix_and_the_record(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await bench.audit("good.test", egress=("192.0.2.99",), loud=0) == 1
    said = capsys.readouterr().out
    assert said.startswith("fail  good.test: mail is refused, or will be: SPF of good.test forbids 192.0.2.99")
    tail = said.split("\nRecords to publish:\n")[1].splitlines()
    assert '  good.test. TXT "v=spf1 ip4:203.0.113.0/24 include:_spf.good.test ip4:192.0.2.99 -all"' in tail
    assert "  mail.good.test. A 192.0.2.99" in tail


async def test_one_object_a_domain(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert await bench.audit("good.test", "gone.test", as_json=True) == 1
    good, gone = map(json.loads, capsys.readouterr().out.splitlines())
    assert (good["verdict"], good["summary"]) == ("ok", "all is well")
    spf = next(each for each in good["findings"] if each["about"] == "spf")
    assert spf["tree"][0] == {"depth": 0, "text": "good.test", "note": ""}
    assert "fix" not in spf
    assert gone["verdict"] == "fail"
    assert gone["findings"][0]["rule"] == "ENV002"
    assert {each["about"] for each in gone["findings"]} == {"mx", "egress"}


async def test_our_own_addresses_are_told_once_and_quiet_leaves_problems(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    await bench.audit("good.test", "_spf.good.test")
    assert capsys.readouterr().out.count("203.0.113.7 is mail.good.test") == 1
    assert await bench.audit("good.test", loud=-1) == 0
    assert capsys.readouterr().out == "ok    good.test: all is well\n\n"


async def test_selectors_that_are_named(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert await bench.audit("good.test", selectors=("other",)) == 1
    assert "no key at other._domainkey.good.test" in capsys.readouterr().out


async def test_the_selectors_of_the_configuration_are_of_our_own_domains(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await bench.audit("_spf.good.test") == 1  # one of *.good.test, without that key
    assert "no key at s._domainkey._spf.good.test" in capsys.readouterr().out
    bench.server.zone.put("other.test", *GOOD["good.test"])
    assert await bench.audit("other.test") == 0
    assert "other.test has no DKIM key" in capsys.readouterr().out


async def test_the_command_and_its_options(bench: Bench) -> None:
    words = ["good.test", "--egress", "192.0.2.99", "--selector", "other", "--json", "--config", str(bench.config)]
    done = await asyncio.to_thread(CliRunner().invoke, sender.app, words)
    found = json.loads(done.stdout)
    assert (done.exit_code, found["verdict"]) == (1, "fail")
    assert {"SPF003", "DKM004"} <= {each.get("rule") for each in found["findings"]}


async def test_the_dns_away_is_exit_code_75(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.server.fault = "SERVFAIL"
    assert await bench.audit("good.test") == 75
    assert capsys.readouterr().out.startswith("unknown good.test: nothing can be said: the DNS does not answer")


async def test_a_second_opinion(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    world = load("lists")
    for name, said in {**GOOD, **KEY, "_dmarc.good.test": [{"TXT": "v=DMARC1; p=none"}]}.items():
        world.put(name, *said)
    async with serving(world) as other:
        assert await bench.audit("good.test", public_resolver=other.address) == 0
    assert f'"v=DMARC1; p=none" at {other.address}' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("domains", "given", "words"),
    [
        (("localhost",), {}, "'localhost' is no domain name"),
        (("good.test",), {"egress": ("mail.good.test",)}, "--egress: 'mail.good.test'"),
        (("good.test",), {"public_resolver": "dns.test"}, "--public-resolver: 'dns.test'"),
    ],
)
async def test_what_cannot_be_used(
    domains: tuple[str, ...], given: dict[str, Any], words: str, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await bench.audit(*domains, **given) == 2
    assert words in capsys.readouterr().err
    assert bench.server.questions == []


async def test_settings_that_cannot_be_used(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.config.write_text('[lint.blocklists]\nspamhaus_key_file = "/nonexistent/key"\n')
    assert await bench.audit("good.test") == 2
    bench.config.write_text("[lint.dns]\nresolver = 1\n")
    assert await bench.audit("good.test") == 2
    bench.config.write_text("")
    assert await bench.audit() == 2
    said = capsys.readouterr().err
    assert "/nonexistent/key" in said
    assert "resolvers" in said
    assert "name a domain" in said


# --- how it reads ----------------------------------------------------------------------------------------------------

TREE = (Branch(0, "a.test"), Branch(1, "include:b.test", "1/10"), Branch(2, "-all"), Branch(1, "~all"))
FOUND = Audit(
    "a.test",
    (
        Line("spf", "warn", "near a limit", "take some out", "SPF006", TREE),
        Line("spf", "fail", "listed \x1b[2J", "take some out"),
        Line("dmarc", "skip", "TXT of x could not be looked up (timeout)", is_temporary=True),
    ),
)


def test_lines_for_a_pipe() -> None:
    assert list(plain(FOUND, FOUND.lines)) == [
        "fail  a.test: mail is refused, or will be: listed  [2J; 1 question the DNS did not answer",
        "  warn  spf        near a limit",
        "                     a.test",
        "                       include:b.test  [1/10]",
        "                         -all",
        "                       ~all",
        "                   > take some out",
        "  fail  spf        listed  [2J",
        "  skip  dmarc      TXT of x could not be looked up (timeout)",
    ]


def test_a_tree_for_a_terminal() -> None:
    out = io.StringIO()
    Console(file=out, width=100, color_system=None).print(drawn(FOUND, FOUND.lines))
    assert [line.rstrip() for line in out.getvalue().splitlines()] == [
        "a.test: mail is refused, or will be: listed  [2J; 1 question the DNS did not answer",
        "├── SPF",
        "│   ├── warn near a limit",
        "│   │   ├── a.test",
        "│   │   │   ├── include:b.test  1/10",
        "│   │   │   │   └── -all",
        "│   │   │   └── ~all",
        "│   │   └── > take some out",
        "│   └── fail listed  [2J",
        "└── DMARC",
        "    └── skip TXT of x could not be looked up (timeout)",
    ]


def test_an_object_leaves_out_what_is_empty() -> None:
    assert as_object(FOUND)["findings"][2] == {
        "about": "dmarc",
        "state": "skip",
        "message": "TXT of x could not be looked up (timeout)",
        "temporary": True,
    }


def test_exit_codes() -> None:
    good = Audit("a.test", (Line("mx", "warn", "x"),))
    late = Audit("a.test", (Line("mx", "ok", "x"), Line("spf", "skip", "x", is_temporary=True)))
    assert [exit_code(given) for given in ([good], [good, late], [late, FOUND], [])] == [0, 75, 1, 0]
