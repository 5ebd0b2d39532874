"""Runs as nobody, with a root file system that cannot be written, no home, no shell and no capability (issue 9, 4)."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import smtpguard
from smtpguard.sandbox import Sandbox
from tests.harness import MESSAGE, Client, code

NOBODY: Final = 65534

# In a mount namespace of its own: everything read-only but the one folder, then nobody without capabilities.
PREPARE: Final = """
set -e
mount --make-rprivate /
mount --bind "$1" "$1"
mount -o remount,bind,ro /
for place in $(awk '$2 ~ "^/(tmp|var|home|root|dev/shm|work|run)" && $2 != dir {print $2}' dir="$1" /proc/mounts); do
    mount -o remount,bind,ro "$place" 2>/dev/null || true
done
exec setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \
    env -i PATH=/nowhere PYTHONPATH="$3" PYTHONDONTWRITEBYTECODE=1 "$2" -m smtpguard serve --config "$1/smtpguard.toml"
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that nobody may write, the only one that stays writable."""
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("setpriv") is None:
        pytest.skip("needs root, unshare(1) and setpriv(1)")
    with tempfile.TemporaryDirectory(prefix="smtpguard-nobody-") as name:
        os.chown(name, NOBODY, NOBODY)
        yield Path(name)


async def test_nobody_with_a_read_only_root(place: Path) -> None:
    if not _is_readable_by_nobody(Path(sys.executable)) or not _is_readable_by_nobody(Path(smtpguard.__file__)):
        pytest.skip("the interpreter or the source lies where nobody may not read")
    async with Sandbox() as hop:
        (place / "smtpguard.toml").write_text(
            '[listen]\nlmtp = "127.0.0.1:0"\nsmtp = "127.0.0.1:0"\n'
            f'[relay]\nhostname = "guard.test"\nspool_dir = "{place}"\n'
            f'[next_hop.default]\nhost = "127.0.0.1"\nport = {hop.port}\ntls = "none"\n'
            f'[store]\nurl = "sqlite:///{place}/history.db"\n[http]\nlisten = "127.0.0.1:0"\n'
        )
        source = os.pathsep.join([str(Path(smtpguard.__file__).parent.parent), *filter(None, sys.path)])
        process = await asyncio.create_subprocess_exec(
            *("unshare", "--mount", "sh", "-c", PREPARE, "sh", str(place), sys.executable, source),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            port = await _port(process)
            status = status_of(process.pid)
            assert f"Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}" in status
            assert "CapEff:\t0000000000000000" in status
            assert "NoNewPrivs:\t1" in status
            async with Client(port) as client:
                await client.greet()
                for body in (MESSAGE, b"Subject: large\r\n\r\n" + (b"x" * 998 + b"\r\n") * 600):
                    await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<b@r.example>", "DATA")
                    client.send(body + b".\r\n")
                    assert code(await client.reply()) == "250 2.0.0"
            process.terminate()
            assert await asyncio.wait_for(process.wait(), 20) == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert len(hop.messages) == 2
        left = set(os.listdir(place))
        assert all(name == "smtpguard.toml" or name.startswith("history.db") for name in left), left


def status_of(pid: int) -> str:
    """proc(5): whose process it is, and what it may."""
    return Path(f"/proc/{pid}/status").read_text()


async def _port(process: asyncio.subprocess.Process) -> int:
    """The SMTP door's port, from the log."""
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(30):
        async for line in process.stdout:
            event = json.loads(line)
            if event.get("event.action") == "service-started":
                return int(str(event["smtpguard.listen.smtp"]).rpartition(":")[2])
        raise AssertionError((await process.stderr.read()).decode())


def _is_readable_by_nobody(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o005 == 0o005 for folder in path.resolve().parents)
