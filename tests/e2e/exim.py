"""An Exim of one test's own, with smtpguard's SMTP door as its smarthost.

Debian's Exim and Postfix packages exclude each other, so Exim is not installed: `make test` unpacks the packages into
`.cache/exim`, and this file runs the program from there. Its user does not exist then; libnss_wrapper (the Samba
project's stand-in for /etc/passwd) tells the program that it does, so that nothing of the machine changes. Exim then
runs as root for its port and as nobody for everything else (`deliver_drop_privilege`).
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Final

from tests.e2e.mta import SENDER_DOMAIN, Queued, free_port, listening, read_maildir, submit, until

UNPACKED: Final = Path(__file__).parents[2] / ".cache" / "exim" / "root"

_NOBODY: Final = 65534

# spec.txt of Exim 4.96, chapters 14 (main), 15 (ACL), 20 (manualroute), 30 (smtp), 32 (retry).
_CONFIG: Final = """\
keep_environment = LD_LIBRARY_PATH : LD_PRELOAD : ^NSS_WRAPPER_
exim_path = {program}
spool_directory = {directory}/spool
log_file_path = {directory}/log/%slog
pid_file_path = {directory}/exim.pid
primary_hostname = mta.test
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
deliver_drop_privilege = true
tls_advertise_hosts =
rfc1413_hosts =
host_lookup =
acl_smtp_rcpt = accept
remote_max_parallel = 1
queue_run_max = 5
smtp_accept_max = 100
smtp_accept_queue_per_connection = 0
log_selector = +smtp_confirmation

begin routers

bounces:
  driver = accept
  domains = {sender_domain}
  transport = maildir

smtpguard:
  driver = manualroute
  route_list = * 127.0.0.1::{next_hop_port} byname
  self = send
  transport = smtpguard

begin transports

smtpguard:
  driver = smtp
  hosts_avoid_tls = *
  dnssec_request_domains =

maildir:
  driver = appendfile
  maildir_format
  directory = {directory}/bounces
  user = nobody
  group = nogroup

begin retry

* * F,1h,1s
"""


def missing() -> str:
    """Why this machine cannot run the tests with Exim; "" if it can."""
    if os.geteuid() != 0:
        return "an Exim that is not installed needs root"
    if not (UNPACKED / "usr/sbin/exim4").exists():
        return "Exim is not unpacked (as root on Debian: make .cache/exim/ready)"
    return ""


class Exim:
    """One instance, sending everything to the SMTP door at `next_hop_port`.

    `program` is the unpacked packages' `usr`. It and `directory` must be open to user nobody.
    """

    name = "exim"

    def __init__(self, directory: Path, *, program: Path, next_hop_port: int) -> None:
        self.directory = directory
        self.port = free_port()
        self._config = directory / "exim.conf"
        self._next_hop_port = next_hop_port
        self._daemon: subprocess.Popen[bytes] | None = None
        self._program = program / "sbin/exim4"
        libraries = next(program.glob("lib/*/libnss_wrapper.so")).parent
        self._environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LD_LIBRARY_PATH": str(libraries),
            "LD_PRELOAD": "libnss_wrapper.so",
            "NSS_WRAPPER_PASSWD": str(directory / "passwd"),
            "NSS_WRAPPER_GROUP": str(directory / "group"),
        }

    def start(self) -> None:
        """Write the configuration, start, wait until mail is taken. May be called again after `stop`."""
        for name in ("spool", "log", "bounces"):
            (self.directory / name).mkdir(exist_ok=True)
            os.chown(self.directory / name, _NOBODY, _NOBODY)
        users = "".join(
            f"{name}:x:{_NOBODY}:{_NOBODY}::/nonexistent:/bin/false\n" for name in ("Debian-exim", "nobody")
        )
        (self.directory / "passwd").write_text("root:x:0:0::/root:/bin/sh\n" + users)
        (self.directory / "group").write_text(f"root:x:0:\nDebian-exim:x:{_NOBODY}:\nnogroup:x:{_NOBODY}:\n")
        self._config.write_text(
            _CONFIG.format(
                program=self._program,
                directory=self.directory,
                port=self.port,
                next_hop_port=self._next_hop_port,
                sender_domain=SENDER_DOMAIN,
            )
        )
        # -bdf: a daemon in the foreground, so that it is ours to end; -q1s: a queue run every second
        self._daemon = subprocess.Popen(
            [str(self._program), "-C", str(self._config), "-bdf", "-q1s"],
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        until(lambda: listening(self.port), 15, self.log)

    def stop(self) -> None:
        """Stop it and the deliveries it runs; the queue stays."""
        if self._daemon is None:
            return
        self._daemon.terminate()
        self._daemon.wait(timeout=15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._daemon.pid, signal.SIGKILL)  # what it started, all in the session it leads
        self._daemon = None

    def send(self, mail_from: str, rcpts: list[str], data: bytes | str) -> str:
        """Submit one message; Exim's id of it. `mail_from` "" is the null sender."""
        return submit(self.port, mail_from, rcpts, data)

    def queue(self) -> list[Queued]:
        """What waits (`exim -bp`), with the last reason found in the main log."""
        waiting: list[Queued] = []
        for line in self._run("-bp").splitlines():
            if found := re.match(r"\s*\d+[mhd]\s+\S+\s+(\w{6}-\w{6,11}-\w{2,4}) <", line):
                waiting.append(Queued(found[1]))
            elif waiting and (rcpt := line.strip()) and not rcpt.startswith("D "):
                waiting[-1].rcpts[rcpt] = self._reason(waiting[-1].queue_id, rcpt)
        return waiting

    def flush(self) -> None:
        """Try everything again now: `exim -qff`."""
        self._run("-qff")

    def bounces(self) -> list[str]:
        """The messages that came back to `SENDER_DOMAIN`, as text, header fields and all."""
        return read_maildir(self.directory / "bounces")

    def log(self) -> str:
        """Its main and panic log so far."""
        files = sorted((self.directory / "log").glob("*log"))
        return "".join(file.read_text(errors="replace") for file in files)

    def ambiguous(self) -> set[str]:
        """Ids of the messages whose answer was lost after the final dot: Exim names the command it waited on.

        "SMTP error from remote mail server after end of data: 421 ..." is no such case: that is an answer.
        """
        lost = re.compile(r"(end of data|sending data block|after sending)")
        lines = [line for line in self.log().splitlines() if "SMTP error from remote mail server" not in line]
        return {line.split()[2] for line in lines if lost.search(line)}

    def _reason(self, queue_id: str, rcpt: str) -> str:
        lines = [line for line in self.log().splitlines() if f" {queue_id} == {rcpt} " in line]
        return lines[-1].partition(" defer ")[2] if lines else ""

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(self._program), "-C", str(self._config), *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"exim {arguments}: {done.stdout}{done.stderr}\n{self.log()}")
        return done.stdout
