"""`smtpguard init --from-postfix` with a real Postfix whose relayhost wants TLS and a login, and the way back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from tests.certs import ca_and_server, server_context
from tests.e2e import postfix
from tests.e2e.hop import Hop
from tests.e2e.mta import SENDER_DOMAIN, free_port, listening, until

USER: Final = "mail@example.com"
PASSWORD: Final = "s3:cret marker"
SENDER: Final = f"someone@{SENDER_DOMAIN}"
MESSAGE: Final = "Subject: hello\n\nhello\n"

pytestmark = [pytest.mark.postfix, pytest.mark.skipif(bool(postfix.missing()), reason=postfix.missing())]


class Guard:
    """The command line, and the relay it configures, on ports of the test's own."""

    def __init__(self, directory: Path, mta: postfix.Postfix, environ: Mapping[str, str] | None = None) -> None:
        self.config = directory / "etc" / "smtpguard.toml"
        self.lmtp = free_port()
        self._mta = mta
        self._log = directory / "smtpguard.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._environ = {
            **os.environ,
            "SMTPGUARD__LISTEN__LMTP": f"127.0.0.1:{self.lmtp}",
            "SMTPGUARD__LISTEN__SMTP": "",
            "SMTPGUARD__HTTP__LISTEN": "127.0.0.1:0",
            **(environ or {}),
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`smtpguard ARGUMENTS`, with the configuration of this test."""
        return subprocess.run(
            [sys.executable, "-m", "smtpguard", "--config", str(self.config), *arguments],
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def init(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`smtpguard init ARGUMENTS`, for the test's Postfix."""
        return self.run("init", "--postfix-config", str(self._mta.config), *arguments)

    def serve(self) -> None:
        """Run the relay; returns when it takes mail."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "smtpguard", "serve", "--config", str(self.config)],
                env=self._environ,
                stdout=log,
                stderr=log,
            )
        until(lambda: listening(self.lmtp), 20, self._log.read_text)

    def stop(self) -> None:
        """End the relay."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(timeout=20)

    def accepted(self) -> list[dict[str, Any]]:
        """What it logged of accepted recipients."""
        events = [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]
        return [event for event in events if event.get("event.action") == "recipient-accepted"]


@pytest.fixture
def hop(directory: Path) -> Iterator[Hop]:
    """The provider: TLS, and no mail without a login."""
    made = ca_and_server(["127.0.0.1"], directory=directory)
    sandbox = Hop(tls=server_context(made.cert, made.key), users={USER: PASSWORD})
    sandbox.start()
    yield sandbox
    sandbox.close()


class Own(postfix.Postfix):
    """As an operator has it: no service of ours in master.cf, TLS, and files that a start does not write anew."""

    def configure(self) -> None:
        """Write main.cf and master.cf, once."""
        master = self.config / "master.cf"
        if not master.exists():
            super().configure()
            lines = [line for line in master.read_text().splitlines() if not line.startswith("smtpguard")]
            own = ["# the operator's own words", *lines, "tlsmgr unix - - n 1000? 1 tlsmgr"]
            master.write_text("\n".join(own) + "\n")


@pytest.fixture
def mta(directory: Path, hop: Hop) -> Iterator[postfix.Postfix]:
    """A Postfix, not started, that sends to the provider by itself."""
    table = directory / "sasl_passwd"
    table.write_text(f"[127.0.0.1]:{hop.port} {USER}:{PASSWORD}\n")
    table.chmod(0o600)
    instance = Own(
        directory,
        door="smtp",
        next_hop_port=hop.port,
        settings={
            "smtp_send_xforward_command": "no",
            "smtp_tls_security_level": "encrypt",
            "smtp_tls_CAfile": str(directory / "ca.cert.pem"),
            "smtp_sasl_auth_enable": "yes",
            "smtp_sasl_password_maps": f"texthash:{table}",
            "smtp_sasl_security_options": "noanonymous",
            "smtp_generic_maps": "inline:{ root@mta.test=postmaster@example.com }",
        },
    )
    instance.configure()
    yield instance
    if listening(instance.port):
        instance.stop()


@pytest.fixture
def guard(directory: Path, mta: postfix.Postfix) -> Iterator[Guard]:
    """smtpguard, not configured yet."""
    made = Guard(directory, mta)
    yield made
    made.stop()


def files(mta: postfix.Postfix) -> dict[str, tuple[bytes, int]]:
    """Name, content and mode of all that is in Postfix's configuration folder."""
    return {
        str(path.relative_to(mta.config)): (path.read_bytes(), path.stat().st_mode)
        for path in mta.config.rglob("*")
        if path.is_file()
    }


def deliver(mta: postfix.Postfix, hop: Hop, rcpt: str, sender: str = SENDER) -> None:
    """Send a message, wait until the provider has it."""
    mta.send(sender, [rcpt], MESSAGE)
    until(lambda: hop.deliveries()[rcpt] == 1, 30, mta.log)


def test_there_and_back(mta: postfix.Postfix, guard: Guard, hop: Hop) -> None:
    mta.start()
    deliver(mta, hop, "before@example.net")
    before = files(mta)

    told = guard.init("--from-postfix")
    assert told.returncode == 0, told.stderr
    assert files(mta) == before
    assert f"postconf -c {mta.config} -e 'default_transport=smtpguard:inet:[127.0.0.1]:{guard.lmtp}'" in told.stdout

    guard.serve()
    done = guard.init("--from-postfix", "--apply")
    assert done.returncode == 0, done.stderr
    assert "Done in Postfix, which has taken it over:" in done.stdout
    assert "does not answer" not in done.stdout
    deliver(mta, hop, "through@example.net", "root@mta.test")
    until(guard.accepted, 10)
    [event] = guard.accepted()
    assert event["smtp.queue_id"]  # Postfix's own, by XFORWARD
    assert hop.messages[-1].mail_from == b"postmaster@example.com"  # smtp_generic_maps still holds

    back = guard.init("--undo")
    assert back.returncode == 0, back.stderr
    assert files(mta) == before
    deliver(mta, hop, "after@example.net")
    assert len(guard.accepted()) == 1

    password = guard.config.with_name("password")
    assert password.read_text() == PASSWORD + "\n"
    assert password.stat().st_mode & 0o777 == 0o600
    for said in (told, done, back):
        assert PASSWORD not in said.stdout + said.stderr
    assert PASSWORD not in guard.config.read_text()


def test_the_printed_lines_do_the_same(mta: postfix.Postfix, guard: Guard) -> None:
    before = files(mta)
    told = json.loads(guard.init("--from-postfix", "--json").stdout)
    for command in told["commands"]:
        subprocess.run([command[0], "-c", str(mta.config), *command[1:]], check=True)
    by_hand = files(mta)
    for command in told["back"]:
        subprocess.run([command[0], "-c", str(mta.config), *command[1:]], check=True)
    assert files(mta) == before
    done = guard.init("--from-postfix", "--apply")
    assert done.returncode == 0, done.stderr
    assert f"smtpguard does not answer at 127.0.0.1:{guard.lmtp} yet" in done.stdout
    applied = {name: found for name, found in files(mta).items() if not name.startswith("smtpguard-undo/")}
    assert applied == by_hand
    again = guard.init("--from-postfix", "--apply")
    assert again.returncode == 2
    assert "smtpguard already" in again.stderr


def test_a_failure_half_way_undoes_all(mta: postfix.Postfix, guard: Guard) -> None:
    before = files(mta)
    (mta.config / "main.cf.tmp").mkdir()  # where postconf writes main.cf anew: master.cf it has changed by then
    done = guard.init("--from-postfix", "--apply")
    assert done.returncode == 2
    assert "all is as it was before" in done.stderr
    assert "Traceback" not in done.stderr
    assert files(mta) == before
    assert not (mta.config / "smtpguard-undo").exists()


def test_a_postfix_that_is_not_in_order_is_left_alone(mta: postfix.Postfix, guard: Guard) -> None:
    with (mta.config / "main.cf").open("a") as main:
        main.write("inet_protocols = ipv5\n")
    before = files(mta)
    done = guard.init("--from-postfix", "--apply", "--unchecked")
    assert done.returncode == 2
    assert 'unknown inet_protocols value "ipv5"' in done.stderr
    assert files(mta) == before


def test_a_next_hop_that_does_not_take_us_stops_it(mta: postfix.Postfix, guard: Guard, hop: Hop) -> None:
    (mta.config.parent / "sasl_passwd").write_text(f"[127.0.0.1]:{hop.port} {USER}:wrong\n")
    before = files(mta)
    done = guard.init("--from-postfix", "--apply")
    assert done.returncode == 1
    assert "refuses AUTH: 535 5.7.8" in done.stderr
    assert files(mta) == before


def test_what_was_changed_since_is_not_written_over(mta: postfix.Postfix, guard: Guard) -> None:
    before = files(mta)
    assert guard.init("--from-postfix", "--apply").returncode == 0
    subprocess.run(["postconf", "-c", str(mta.config), "-e", "delay_warning_time=4h"], check=True)
    changed = files(mta)
    refused = guard.init("--undo")
    assert refused.returncode == 2
    assert f"postconf -c {mta.config} -MX smtpguard/unix" in refused.stderr
    assert files(mta) == changed
    assert guard.init("--undo", "--force").returncode == 0
    assert files(mta) == before
    assert "was not run, or was undone" in guard.init("--undo").stderr
