"""deploy/prometheus and deploy/grafana: their metrics are ours, their alerts can fire, a real Prometheus takes them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from smtpguard.edge.metrics import Metrics
from smtpguard.edge.tally import Family
from tests.deploy.programs import DEPLOY, found, without

DASHBOARD: Final = DEPLOY / "grafana" / "dashboards" / "smtpguard.json"
RULES: Final = DEPLOY / "prometheus" / "smtpguard.rules.yml"
CASES: Final = Path(__file__).with_name("rules_test.yml")
SUFFIXES: Final = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
NOT_LABELS: Final = {"instance", "job", "le", "alertname"}  # Prometheus's own

needs_promtool = pytest.mark.skipif(bool(without("promtool")), reason=without("promtool"))


def declared() -> dict[str, set[str]]:
    """Each series' name -> its labels, as smtpguard.edge.metrics declares them."""
    names: dict[str, set[str]] = {}
    for collector in set(Metrics().registry._collector_to_names):
        labels = set(collector.label_names if isinstance(collector, Family) else getattr(collector, "_labelnames", ()))
        for family in collector.collect():
            for suffix in SUFFIXES[family.type]:
                names[family.name + suffix] = labels
    return names


def expressions(node: Any) -> Iterator[str]:
    """Every PromQL expression of a dashboard."""
    if isinstance(node, dict):
        yield from (node[key] for key in ("expr", "query") if isinstance(node.get(key), str))
        node = list(node.values())
    if isinstance(node, list):
        for inner in node:
            yield from expressions(inner)


def dashboard() -> list[str]:
    return [text for text in expressions(json.loads(DASHBOARD.read_text())) if "smtpguard_" in text]


def rules() -> list[str]:
    """Each rule's text; YAML is left to promtool."""
    return RULES.read_text().split("- alert: ")[1:]


@pytest.mark.parametrize("where", [dashboard, rules])
def test_every_metric_and_label_exists(where: Any) -> None:
    known = declared()
    texts = where()
    assert len(texts) > 8
    for text in texts:
        used = set(re.findall(r"\bsmtpguard_\w+", text))
        assert used <= known.keys(), f"{used - known.keys()} in {text}"
        asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", text))
        asked |= {name.strip() for by in re.findall(r"\bby \(([^)]*)\)", text) for name in by.split(",")}
        labels = set().union(*(known[name] for name in used)) | NOT_LABELS | {""}
        assert asked <= labels, f"{asked - labels} in {text}"


def test_every_metric_is_on_the_dashboard() -> None:
    shown = " ".join(dashboard())
    families = {re.sub(r"_(total|bucket|count|sum)$", "", name) for name in declared()}
    assert {family for family in families if family not in shown} == set()


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_panels_stand_in_rows_under_the_questions_they_answer() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    rows = [panel for panel in panels if panel["type"] == "row"]
    assert [row["title"] for row in rows] == ["Now", "Why", "Who", "Lint", "Policy and suppression", "Relay health"]
    tops = [row["gridPos"]["y"] for row in rows]
    assert tops == sorted(tops)
    assert panels[0] is rows[0]


@needs_promtool
def test_prometheus_takes_the_files() -> None:
    for arguments in (
        ("check", "rules", RULES),
        ("check", "config", DEPLOY / "prometheus" / "prometheus.yml"),
        ("check", "config", "--syntax-only", DEPLOY / "docker" / "prometheus.yml"),
    ):
        done = subprocess.run([found("promtool"), *map(str, arguments)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_alerts_fire_and_keep_quiet(tmp_path: Path) -> None:
    cases = tmp_path / "cases.yml"
    cases.write_text(CASES.read_text().replace("@rules@", str(RULES)))
    done = subprocess.run([found("promtool"), "test", "rules", str(cases)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    names = {text.split()[0] for text in rules()}
    for spelled in ('alertname="{}"', "{{alertname: {},"):  # loud, quiet
        assert {name for name in names if spelled.format(name) not in CASES.read_text()} == set()


@needs_promtool
def test_each_panel_is_promql(tmp_path: Path) -> None:
    """As recording rules, which promtool parses; Grafana's variables replaced."""
    lines = ["groups:", "  - name: panels", "    rules:"]
    for number, text in enumerate(text for text in dashboard() if not text.startswith("label_values")):
        expr = text.replace("$__rate_interval", "5m").replace("$instance", ".*")
        lines += [f"      - record: panel:{number}", f"        expr: {json.dumps(expr)}"]
    file = tmp_path / "panels.yml"
    file.write_text("\n".join(lines) + "\n")
    done = subprocess.run([found("promtool"), "check", "rules", str(file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
