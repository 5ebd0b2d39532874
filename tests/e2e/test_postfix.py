"""README.md's lines for Postfix, run as they stand there: Postfix understands them, and the way back leads back."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from smtpguard.config.settings import NextHopSettings
from tests.e2e import postfix

README: Final = Path(__file__).parents[2] / "README.md"
SMARTHOST: Final = "[smtp.example.net]:587"  # README's name for what relayhost was
CONNECTIONS: Final = NextHopSettings(host=("smtp.example.net",)).connections  # more at once would wait there

pytestmark = [pytest.mark.postfix, pytest.mark.skipif(bool(postfix.missing()), reason=postfix.missing())]


def block(word: str) -> str:
    """README's only fenced block of commands in which `word` occurs."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    (found,) = (text for text in blocks if "postconf " in text and word in text)
    return str(found)


@pytest.fixture
def instance(directory: Path) -> postfix.Postfix:
    """A Postfix, configured but not started, that sends to the smarthost by itself."""
    instance = postfix.Postfix(directory, door="smtp", next_hop_port=587, settings={"relayhost": SMARTHOST})
    instance.configure()
    run(instance, "postconf -X smtp_send_xforward_command")
    return instance


def run(instance: postfix.Postfix, script: str) -> str:
    """Run a block against the instance's configuration; what Postfix complained of."""
    functions = (
        f'postconf() {{ command postconf -c {instance.config} "$@"; }}\npostfix() {{ :; }}\npostqueue() {{ :; }}\n'
    )
    done = subprocess.run(["sh", "-ec", functions + script], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def settings(instance: postfix.Postfix) -> dict[str, str]:
    """What main.cf sets; `postconf -n` complains of parameters that nothing uses."""
    shown = run(instance, "postconf -n")
    assert "warning" not in shown
    return dict(re.findall(r"^(\w+) = ?(.*)$", shown, re.MULTILINE))


@pytest.mark.parametrize(
    ("door", "word", "changed"),
    [
        ("lmtp", "default_transport = ", {"default_transport": "smtpguard:inet:[127.0.0.1]:10724"}),
        ("smtp", "relayhost = [127.0.0.1]", {"relayhost": "[127.0.0.1]:10725", "smtp_send_xforward_command": "yes"}),
    ],
)
def test_lines_and_the_way_back(instance: postfix.Postfix, door: str, word: str, changed: dict[str, str]) -> None:
    before = settings(instance)
    assert run(instance, block(word)) == ""
    after = settings(instance)
    assert changed.items() <= after.items()
    transport = "smtpguard" if door == "lmtp" else "smtp"
    assert after[f"{transport}_destination_concurrency_limit"] == str(CONNECTIONS)
    assert after[f"{transport}_destination_concurrency_failed_cohort_limit"] == "10"

    assert run(instance, block("postconf -X")) == ""
    assert settings(instance) == before
    assert "smtpguard" not in (instance.config / "master.cf").read_text()


def test_transport_of_master_cf_is_one(instance: postfix.Postfix) -> None:
    lines = re.search(r"^smtpguard unix.*?(?=^```$)", README.read_text(), re.MULTILINE | re.DOTALL)
    assert lines is not None
    master = instance.config / "master.cf"
    without = re.sub(r"^smtpguard .*\n", "", master.read_text(), flags=re.MULTILINE)
    master.write_text(without + lines[0])
    ours = run(instance, "postconf -M smtpguard/unix")
    deployed = (README.parent / "deploy" / "postfix" / "lmtp" / "master.cf").read_text()
    master.write_text(without + deployed)
    assert ours.split() == run(instance, "postconf -M smtpguard/unix").split() != []
