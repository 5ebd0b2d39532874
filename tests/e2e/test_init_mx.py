"""`smtpguard init --from-postfix` with a real Postfix that sends to the receivers by itself, and the way back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from smtpguard.cli.outward import RECEIVERS
from tests.e2e import postfix
from tests.e2e.mta import listening
from tests.e2e.test_init import Guard, Own, files
from tests.e2e.test_mx import CONNECT_S, Everywhere, has_each_its_own_fate

pytestmark = [pytest.mark.postfix, pytest.mark.skipif(bool(postfix.missing()), reason=postfix.missing())]


@pytest.fixture
def everywhere(request: pytest.FixtureRequest) -> Iterator[Everywhere]:
    """All receivers; RECEIVERS, whom `check` asks, among them, unless the test has others."""
    world = Everywhere(getattr(request, "param", RECEIVERS))
    world.start()
    yield world
    world.close()


@pytest.fixture
def mta(directory: Path) -> Iterator[Own]:
    """A Postfix, not started, without a relayhost."""
    instance = Own(
        directory, door="smtp", next_hop_port=0, settings={"relayhost": "", "smtp_tls_security_level": "may"}
    )
    instance.configure()
    yield instance
    if listening(instance.port):
        instance.stop()


@pytest.fixture
def guard(directory: Path, mta: Own, everywhere: Everywhere) -> Iterator[Guard]:
    """smtpguard, not configured but for where this world lies."""
    made = Guard(
        directory,
        mta,
        {
            "SMTPGUARD__LINT__MODE": "off",
            "SMTPGUARD__LINT__DNS__RESOLVERS": json.dumps([everywhere.dns]),
            "SMTPGUARD__NEXT_HOP__DEFAULT__PORT": str(everywhere.port),
            "SMTPGUARD__NEXT_HOP__DEFAULT__ALLOW_PRIVATE": "true",
            "SMTPGUARD__NEXT_HOP__DEFAULT__TIMEOUT__CONNECT": f"{CONNECT_S}s",
        },
    )
    yield made
    made.stop()


def test_there_and_back(mta: Own, guard: Guard, everywhere: Everywhere) -> None:
    mta.start()
    before = files(mta)
    told = guard.init("--from-postfix", "--egress", "203.0.113.7")
    assert told.returncode == 0, told.stderr
    assert files(mta) == before
    assert "Port 25 outwards is open" in told.stdout
    assert f"postconf -c {mta.config} -e 'default_transport=smtpguard:inet:[127.0.0.1]:{guard.lmtp}'" in told.stdout
    assert 'host = "mx"' in guard.config.read_text()

    guard.serve()
    done = guard.init("--from-postfix", "--apply")
    assert done.returncode == 0, done.stderr
    assert "Done in Postfix, which has taken it over:" in done.stdout
    has_each_its_own_fate(mta, everywhere)

    assert guard.init("--undo").returncode == 0
    assert files(mta) == before


@pytest.mark.parametrize("everywhere", [()], indirect=True, ids=["nobody is found"])
def test_a_machine_that_mail_cannot_leave_stops_it(mta: Own, guard: Guard) -> None:
    before = files(mta)
    done = guard.init("--from-postfix", "--apply")
    assert done.returncode == 1
    assert "mail cannot leave this machine, so Postfix was not changed" in done.stderr
    assert "no mail host is found" in done.stderr
    assert files(mta) == before


def test_the_printed_lines_are_what_is_applied(mta: Own, guard: Guard) -> None:
    told = json.loads(guard.init("--from-postfix", "--next-hop", "mx", "--json").stdout)
    assert guard.init("--from-postfix", "--next-hop", "mx", "--apply").returncode == 0
    main, master = ((mta.config / name).read_text() for name in ("main.cf", "master.cf"))
    for _, flag, given in told["commands"]:
        name, _, value = given.partition("=")
        if flag == "-e":
            assert f"{name} = {value}\n" in main
    assert " ".join(next(line for line in master.splitlines() if line.startswith("smtpguard")).split()[:8]) == (
        "smtpguard unix - - n - 250 lmtp"
    )


@pytest.mark.parametrize(
    ("written", "relayhost", "is_mx"),
    [("mx", "[a.example]:587", True), ("a.example", "", False)],
    ids=["mx", "smarthost"],
)
def test_a_file_that_is_there_counts_whatever_postfix_had(
    written: str, relayhost: str, is_mx: bool, mta: Own, guard: Guard
) -> None:
    assert guard.run("init", "--next-hop", written).returncode == 0
    subprocess.run(["postconf", "-c", str(mta.config), "-e", f"relayhost={relayhost}"], check=True)
    told = json.loads(guard.init("--from-postfix", "--json").stdout)
    assert told["kept"] == [str(guard.config)]
    assert bool(told["needs"]) is is_mx
    assert (["postconf", "-e", "smtpguard_destination_concurrency_limit=250"] in told["commands"]) is is_mx
