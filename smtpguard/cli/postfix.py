"""A Postfix as it is set, asked of its own programs: postconf(1), postmap(1), postfix(1). Nothing here reads main.cf.

    postfix = Postfix(None)
    facts = postfix.facts()
    facts["relayhost"], facts.transport

Every value is what its delivery agent would see: expanded, and with the `-o` options of master.cf laid over. Nothing is
changed here; apply.py does that.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pydantic import SecretStr

_PATIENCE_S: Final = 60.0
_SBIN: Final = "/usr/sbin"  # where Debian has it, and an ordinary user's PATH does not look


class PostfixError(Exception):
    """A program of Postfix's could not be had or did not do what it was asked; the text says which, and its words."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What init wants to know. `facts[name]` is a parameter as the agent of `default_transport` sees it, "" if unknown.

    `explicit`: what main.cf sets itself, not expanded. `services`: the lines of master.cf, their blanks single.
    `transport`: default_transport before its colon, `destination` what stands behind it.
    """

    directory: Path
    parameters: Mapping[str, str]
    explicit: Mapping[str, str]
    options: Mapping[str, str]
    services: tuple[str, ...]
    transport: str
    destination: str
    login: tuple[str, SecretStr] | None = None
    tls_policy: str = ""
    catch_all: str = ""

    def __getitem__(self, name: str) -> str:
        return self.options.get(name, self.parameters.get(name, ""))

    def says_yes(self, name: str) -> bool:
        """Whether a boolean parameter is on (postconf(5): yes or no)."""
        return self[name] == "yes"

    def service(self, name: str) -> list[str] | None:
        """The eight and more words of a Unix-domain service's line; None where there is none of that name."""
        lines = (line.split() for line in self.services)
        return next((words for words in lines if words[0] == name and words[1] == "unix"), None)


class Postfix:
    """The Postfix of a configuration folder; None: the one that postconf itself takes."""

    def __init__(self, directory: Path | None) -> None:
        directory = directory.absolute() if directory else None
        self._options = ["-c", str(directory)] if directory else []
        self.directory = directory or Path(self.run("postconf", "-xh", "config_directory").strip())

    def run(self, program: str, *arguments: str) -> str:
        """What a program prints; PostfixError where it fails. Its arguments stand in no message: they may be secret."""
        done = self._start(program, *arguments)
        if done.returncode != 0:
            raise PostfixError(f"{program} {arguments[0] if arguments else ''}: {_complaint(done)}")
        return done.stdout

    def is_running(self) -> bool:
        """`postfix status`."""
        return self._start("postfix", "status").returncode == 0

    def _start(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        where = shutil.which(program) or shutil.which(program, path=_SBIN)
        if where is None:
            raise PostfixError(f"{program} is not to be found: is Postfix installed here?")
        try:
            return subprocess.run(
                [where, *self._options, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_PATIENCE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PostfixError(f"{program} did not end within {_PATIENCE_S:g} s") from None
        except OSError as error:
            raise PostfixError(f"{program}: {error.strerror}") from None

    # -- questions -----------------------------------------------------------------------------------------------

    def facts(self, destination: str = "") -> Facts:
        """All of them. `destination` is who takes the mail, where that is not what relayhost says."""
        parameters = pairs(self.run("postconf", "-x"))
        transport, _, target = parameters.get("default_transport", "smtp").partition(":")
        prefix = f"{transport}/unix/"
        options = {
            name.removeprefix(prefix): value
            for name, value in pairs(self.run("postconf", "-Px")).items()
            if name.startswith(prefix)
        }
        facts = Facts(
            directory=self.directory,
            parameters=parameters,
            explicit=pairs(self.run("postconf", "-n")),
            options=options,
            services=tuple(" ".join(line.split()) for line in self.run("postconf", "-M").splitlines()),
            transport=transport,
            destination=target,
        )
        keys = _keys(destination) if destination else _first(target or facts["relayhost"])
        return replace(
            facts,
            login=self._login(facts, keys) if facts.says_yes("smtp_sasl_auth_enable") else None,
            tls_policy=self._look_up(facts["smtp_tls_policy_maps"], keys),
            catch_all=self._look_up(facts["transport_maps"], ["*"]),
        )

    def _login(self, facts: Facts, keys: list[str]) -> tuple[str, SecretStr] | None:
        # smtp_sasl_glue.c asks for the host's name first, then for the destination as it is written
        try:
            hosts = [host_and_port(key)[0] for key in keys]
        except ValueError:  # plan.py says so
            return None
        name, _, password = self._look_up(facts["smtp_sasl_password_maps"], [*hosts, *keys]).partition(":")
        return (name, SecretStr(password)) if name else None

    def _look_up(self, maps: str, keys: Iterable[str]) -> str:
        """The first answer, with the maps' order inside the keys'; "" for none."""
        names = [name.removeprefix("proxy:") for name in listed(maps)]
        for key in keys:
            for name in names:
                done = self._start("postmap", "-q", key, name)
                if done.returncode == 0:
                    return done.stdout.strip()
                if done.stderr.strip():  # not found is exit code 1 and silence
                    raise PostfixError(f"postmap -q {key} {name.partition(':')[0]}: {_complaint(done)}")
        return ""


def _complaint(done: subprocess.CompletedProcess[str]) -> str:
    """What a program that failed said, without its warnings where it was clear enough."""
    lines = (done.stderr or done.stdout).splitlines()
    grave = [line for line in lines if ": fatal: " in line or ": error: " in line]
    return " ".join(" ".join(grave or lines).split()) or f"exit code {done.returncode}"


def _first(destinations: str) -> list[str]:
    """The first of several: those that follow are its stand-ins."""
    return destinations.replace(",", " ").split()[:1]


def _keys(next_hop: str) -> list[str]:
    """How tables may name a next hop that main.cf does not know yet."""
    found = _first(next_hop)
    for text in list(found):
        host, port, _ = host_and_port(text, "submission")
        found += [f"[{host}]:{port}", f"[{host}]:submission", f"[{host}]"]
    return list(dict.fromkeys(found))


def pairs(text: str) -> dict[str, str]:
    """`name = value` lines."""
    split = (line.partition(" =") for line in text.splitlines())
    return {name: value.strip() for name, equals, value in split if equals}


def listed(maps: str) -> list[str]:
    """The names in a list of tables: separated by commas or blanks, but for those inside braces (postconf(5))."""
    found = [""]
    depth = 0
    for character in maps:
        depth += (character == "{") - (character == "}")
        if depth <= 0 and character in ", \t":
            found.append("")
        else:
            found[-1] += character
    return [one for one in found if one]


_PORTS: Final[Mapping[str, int]] = {"smtp": 25, "smtps": 465, "submissions": 465, "submission": 587}


def host_and_port(destination: str, default: str = "smtp") -> tuple[str, int, bool]:
    """Host, port and whether Postfix takes the host as it stands, of `[host]:port`, `host:port`, `[address]` or `host`.

    Without brackets Postfix asks for MX records (postconf(5), relayhost). ValueError where the port is none.
    """
    found = re.fullmatch(
        r"\[(?:ipv6:)?(?P<exact>[^\s\]]+)\](?::(?P<p>\w+))?|(?P<host>[^\s\[\]:]+)(?::(?P<q>\w+))?", destination
    )
    if found is None:
        raise ValueError(f"{destination} is not [host]:port")
    port = found["p"] or found["q"] or default
    number = int(port) if port.isdecimal() else _PORTS.get(port, 0)
    if not 0 < number < 65_536:
        raise ValueError(f"{destination}: {port} is not a port that is known here")
    return found["exact"] or found["host"], number, found["exact"] is not None
