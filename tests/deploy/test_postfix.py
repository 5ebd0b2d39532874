"""deploy/postfix as it stands there, on a real Postfix that sent straight to its smarthost until then."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from smtpguard.sandbox import Ok, Say, Script
from tests.e2e import postfix
from tests.e2e.conftest import directory, hop, relay
from tests.e2e.hop import Hop
from tests.e2e.mta import SENDER_DOMAIN, until
from tests.e2e.relay import Relay

__all__ = ["directory", "hop", "relay"]  # fixtures of tests.e2e

FILES: Final = Path(__file__).parents[2] / "deploy" / "postfix"
SENDER: Final = f"list@{SENDER_DOMAIN}"
TEXT: Final = "Subject: minutes\r\n\r\nAll went well.\r\n"

pytestmark = [pytest.mark.postfix, pytest.mark.skipif(bool(postfix.missing()), reason=postfix.missing())]


class Former(postfix.Postfix):
    """A Postfix from before smtpguard: its relayhost is the next hop itself. Its files are written once."""

    def __init__(self, directory: Path, hop: Hop, relay: Relay, **settings: str) -> None:
        settings = {"relayhost": f"[127.0.0.1]:{hop.port}", "smtp_send_xforward_command": "no", **settings}
        super().__init__(directory, door="smtp", next_hop_port=hop.port, settings=settings)
        self.configure()
        master = self.config / "master.cf"
        lines = master.read_text().splitlines(keepends=True)
        master.write_text("".join(line for line in lines if not line.startswith("smtpguard")))
        self._copy = directory / "deploy"
        shutil.copytree(FILES, self._copy)
        for file in self._copy.rglob("*.cf"):
            text = file.read_text()
            file.write_text(text.replace("10724", str(relay.ports["lmtp"])).replace("10725", str(relay.ports["smtp"])))

    def configure(self) -> None:
        if not (self.config / "main.cf").exists():
            super().configure()

    def apply(self, door: str) -> str:
        """`apply.sh DOOR FILE`; what it writes there, the way back."""
        file = self.directory / "way-back.sh"
        self._shell(f"sh {self._copy}/apply.sh {door} {file}")
        return file.read_text()

    def go_back(self, script: str) -> None:
        """Run what `apply` wrote."""
        self._shell(script)

    def reload(self) -> None:
        """`postfix reload`, and no complaint about the configuration."""
        self._shell("postfix check && postfix reload 2>&1")

    def files(self) -> tuple[bytes, bytes]:
        """main.cf and master.cf."""
        return (self.config / "main.cf").read_bytes(), (self.config / "master.cf").read_bytes()

    def _shell(self, script: str) -> str:
        environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "MAIL_CONFIG": str(self.config)}
        done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, env=environ, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "unused parameter" not in done.stderr, done.stderr
        return done.stdout


@pytest.fixture
def former(request: pytest.FixtureRequest, directory: Path, relay: Relay, hop: Hop) -> Iterator[Former]:
    relay.start()
    instance = Former(directory, hop, relay, **getattr(request, "param", {}))
    try:
        instance.start()
        yield instance
    finally:
        instance.stop()


def passed_smtpguard(hop: Hop) -> list[bool]:
    """For each message the next hop took: whether it came by smtpguard."""
    return [b"by guard.test" in message.data.partition(b"\r\n\r\n")[0] for message in hop.messages]


@pytest.mark.parametrize("door", ["lmtp", "mx", "smtp"])
def test_there_and_back(door: str, former: Former, relay: Relay, hop: Hop) -> None:
    before = former.files()
    former.send(SENDER, ["ann@rcpt.example"], TEXT)
    until(lambda: len(hop.messages) == 1, 20, former.log)

    way_back = former.apply(door)
    former.reload()
    queue_id = former.send(SENDER, ["bob@rcpt.example"], TEXT)
    until(lambda: len(hop.messages) == 2 and not former.queue(), 20, former.log)
    assert passed_smtpguard(hop) == [False, True]
    assert relay.wait_for("recipient-accepted", smtp_rcpt__to="bob@rcpt.example")["smtp.queue_id"] == queue_id

    relay.kill()  # smtpguard is gone, and mail is wanted now
    former.send(SENDER, ["cid@rcpt.example"], TEXT)
    until(lambda: any(queued.rcpts.get("cid@rcpt.example") for queued in former.queue()), 20, former.log)
    former.go_back(way_back)
    until(lambda: len(hop.messages) == 3 and not former.queue(), 30, former.log)
    assert passed_smtpguard(hop) == [False, True, False]
    assert former.files() == before
    assert not former.bounces()


@pytest.mark.parametrize("former", [{"default_transport": "smtp:[quote'd.example]"}], indirect=True)
def test_the_way_back_restores_what_main_cf_said(former: Former) -> None:
    before = dict(line.split(" = ", 1) for line in former.files()[0].decode().splitlines())
    way_back = former.apply("lmtp")
    with pytest.raises(AssertionError, match="is there already"):  # a second time would lead back to the first
        former.apply("lmtp")
    former.go_back(way_back.replace("postfix reload", "true").replace("postqueue", "true"))
    assert dict(line.split(" = ", 1) for line in former.files()[0].decode().splitlines()) == before


def test_bypass_of_the_smtp_door(former: Former, relay: Relay, hop: Hop) -> None:
    """Mail flows while smtpguard is down; and a 4xx of the next hop is tried there at once, as README.md warns."""
    former.apply("smtp")
    former._shell(f"postconf -e 'smtp_fallback_relay = [127.0.0.1]:{hop.port}'")
    former.reload()
    former.send(SENDER, ["ann@rcpt.example"], TEXT)
    # killed before its answer is Postfix's, smtpguard would have it sent twice (RFC 1047)
    until(lambda: len(hop.messages) == 1 and not former.queue(), 20, former.log)
    hop.play(Script({"RCPT": [Say("450 4.2.1 Try later"), Ok()]}))
    former.send(SENDER, ["bob@rcpt.example"], TEXT)
    until(lambda: len(hop.messages) == 2 and not former.queue(), 20, former.log)
    relay.kill()
    former.send(SENDER, ["cid@rcpt.example"], TEXT)
    until(lambda: len(hop.messages) == 3 and not former.queue(), 20, former.log)
    assert passed_smtpguard(hop) == [True, False, False]


@pytest.mark.parametrize("former", [{"smtp_tls_security_level": "encrypt"}], indirect=True)
def test_tls_that_main_cf_demands_is_not_demanded_of_the_loopback(former: Former, hop: Hop) -> None:
    former.apply("smtp")
    former.reload()
    former.send(SENDER, ["ann@rcpt.example"], TEXT)
    until(lambda: hop.messages and not former.queue(), 20, former.log)
    assert passed_smtpguard(hop) == [True]
