"""A Postfix of one test's own, in a folder of its own, with smtpguard as its smarthost.

Nothing of the machine's Postfix is touched: configuration, queue, data, log and ports are the instance's. It takes mail
on a loopback port, hands everything to the given port over LMTP or SMTP, and delivers what comes back to
`SENDER_DOMAIN` (its bounces) into a Maildir that the test reads. Its retries are two seconds apart, so that a test sees
mail leave the queue without waiting for a human's patience.

It needs root (master(8) changes users) and Debian's package, which makes the user `postfix`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from tests.e2e.mta import SENDER_DOMAIN, Queued, free_port, listening, read_maildir, submit, until

# master(5): private, unprivileged, chroot, wakeup, maxproc. Nothing is chrooted: the folder holds no /etc.
_MASTER: Final = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
proxymap  unix  - - n - - proxymap
smtp      unix  - - n - - smtp
smtpguard unix  - - n - - lmtp
showq     unix  n - n - - showq
error     unix  - - n - - error
retry     unix  - - n - - error
virtual   unix  - n n - - virtual
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
"""

# What README.md tells an operator to set for each door.
DOORS: Final[Mapping[str, Mapping[str, str]]] = {
    "lmtp": {"default_transport": "smtpguard:inet:[127.0.0.1]:{port}", "lmtp_send_xforward_command": "yes"},
    "smtp": {"relayhost": "[127.0.0.1]:{port}", "smtp_send_xforward_command": "yes"},
}

_NOBODY: Final = 65534


def missing() -> str:
    """Why this machine cannot run the tests with Postfix; "" if it can."""
    if os.geteuid() != 0:
        return "Postfix's master(8) needs root"
    if shutil.which("postfix") is None:
        return "Postfix is not installed (Debian: apt-get install postfix)"
    return ""


class Postfix:
    """One instance. `door` says how it reaches `next_hop_port`; `settings` are further lines of main.cf.

    `directory` must be open to other users down to the root: Postfix runs as several.
    """

    name = "postfix"

    def __init__(
        self,
        directory: Path,
        *,
        door: Literal["lmtp", "smtp"],
        next_hop_port: int,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.port = free_port()
        self.config = directory / "config"
        self._log = directory / "maillog"
        self._bounces = directory / "bounces"
        self._settings = {
            "compatibility_level": "3.6",
            "mail_owner": "postfix",
            "config_directory": str(self.config),
            "queue_directory": str(directory / "queue"),
            "data_directory": str(directory / "data"),
            "maillog_file": str(self._log),
            "maillog_file_prefixes": str(directory),
            "myhostname": "mta.test",
            "mydestination": "",
            "mynetworks": "127.0.0.0/8",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "smtpd_relay_restrictions": "permit_mynetworks, reject",
            "smtpd_peername_lookup": "no",
            "smtp_host_lookup": "native",
            "smtp_tls_security_level": "none",
            "message_size_limit": "52428800",
            "virtual_mailbox_limit": "0",
            "alias_maps": "",
            "alias_database": "",
            "local_recipient_maps": "",
            "fast_flush_domains": "",
            "notify_classes": "",
            "in_flow_delay": "0",
            "virtual_mailbox_domains": SENDER_DOMAIN,
            "virtual_mailbox_base": str(self._bounces),
            "virtual_mailbox_maps": "static:all/",
            "virtual_uid_maps": f"static:{_NOBODY}",
            "virtual_gid_maps": f"static:{_NOBODY}",
            "queue_run_delay": "1s",
            # Not 1s: qmgr(8) may then come back for a message while smtp(8) still closes its file, finds it locked,
            # and leaves it alone for minutes ("skipped, still being delivered").
            "minimal_backoff_time": "2s",
            "maximal_backoff_time": "2s",
            "transport_retry_time": "1s",
            **{key: value.format(port=next_hop_port) for key, value in DOORS[door].items()},
            **(settings or {}),
        }

    def start(self) -> None:
        """Start, wait until mail is taken. May be called again after `stop`."""
        self.configure()
        self._run("postfix", "start")
        until(lambda: listening(self.port), 15, self.log)

    def configure(self) -> None:
        """Make its folders, write main.cf and master.cf into `config`."""
        for folder in (self.config, self._bounces):
            folder.mkdir(exist_ok=True)
        (self.directory / "queue").mkdir(exist_ok=True)
        os.chown(self._bounces, _NOBODY, _NOBODY)
        (self.config / "main.cf").write_text("".join(f"{key} = {value}\n" for key, value in self._settings.items()))
        (self.config / "master.cf").write_text(_MASTER.format(port=self.port))

    def stop(self) -> None:
        """Stop it; the queue stays. Nothing of it runs afterwards."""
        pid_file = self.directory / "queue" / "pid" / "master.pid"
        pid = int(pid_file.read_text()) if pid_file.exists() else 0
        stopped = subprocess.run(
            ["postfix", "-c", str(self.config), "stop"], capture_output=True, text=True, timeout=30, check=False
        )
        if stopped.returncode != 0 and pid and Path(f"/proc/{pid}").exists():
            os.killpg(pid, signal.SIGKILL)  # master(8) leads its own process group
        until(lambda: not listening(self.port), 15, self.log)

    def send(self, mail_from: str, rcpts: list[str], data: bytes | str) -> str:
        """Submit one message; its queue id. `mail_from` "" is the null sender."""
        return submit(self.port, mail_from, rcpts, data)

    def queue(self) -> list[Queued]:
        """What waits: `postqueue -j`.

        Nothing does if it says so twice: it reads one folder after another, and may miss what moves meanwhile.
        """
        return self._listed() or self._listed()

    def _listed(self) -> list[Queued]:
        return [_queued(json.loads(line)) for line in self._run("postqueue", "-j").splitlines()]

    def flush(self) -> None:
        """Try everything again now: `postqueue -f`."""
        self._run("postqueue", "-f")

    def bounces(self) -> list[str]:
        """The messages that came back to `SENDER_DOMAIN`, as text, header fields and all."""
        return read_maildir(self._bounces / "all")

    def log(self) -> str:
        """Its mail log so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def ambiguous(self) -> set[str]:
        """Queue ids of the messages whose answer was lost after the final dot, as Postfix itself says."""
        lines = [line for line in self.log().splitlines() if "message may be sent more than once" in line]
        # error(8) repeats the last reason for mail that was not even tried
        return {line.split(": ")[1] for line in lines if "delivery temporarily suspended" not in line}

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [program, "-c", str(self.config), *arguments], capture_output=True, text=True, timeout=30, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program} {arguments}: {done.stdout}{done.stderr}\n{self.log()}")
        return done.stdout


def _queued(entry: dict[str, Any]) -> Queued:
    return Queued(
        entry["queue_id"],
        {rcpt["address"]: rcpt.get("delay_reason", "") for rcpt in entry["recipients"]},
    )
