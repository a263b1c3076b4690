"""Metrics, the log and what is made of them, of a server that has had calls: one that went well, one handed over."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.clients.recorder import Recorder
from tests.e2e.stack import SERVER_KEY, Engines, Stack, speech, stack

DEPLOY = Path(__file__).parents[2] / "deploy"
DOC = Path(__file__).parents[2] / "docs" / "monitoring.md"
AGENT_KEY = "sk-agent"
CERTIFICATE = "orchestrator_certificate_expires_timestamp_seconds"
_METRIC = re.compile(r"\borchestrator_\w+")
_BY = re.compile(r"\bby \(([^)]*)\)")
_MATCH = re.compile(r"(\w+)=~?\"")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, tier_b: Engines) -> Iterator[Stack]:
    provider = ("--speech", "tone", "--answer-seconds", "1", "--first-audio-ms", "50")
    settings = {
        "server__log_format": "json",
        "server__log_level": "debug",
        "breaker__failures": "1000",
        "budget__buckets": '{"default": {"usd_per_day": 50}}',
    }
    with stack(tmp_path_factory.mktemp("monitoring"), *provider, **tier_b.settings, **settings) as running:
        yield running


async def a_call(live: Stack, fault: bool) -> str:
    live.heal()
    async with Recorder(live.realtime, orchestrator=True) as caller:
        await caller.update()
        call_id = str(caller.session["orchestrator"]["call_id"])
        if fault:
            live.arm("refused", "connecting", count=20)
            live.arm("abort", "answer_owed")
        async with caller.microphone():
            await caller.say(speech("cards-001.wav"))
            await caller.wait_for("response.done", _completed, timeout=20)
    live.disarm()
    return call_id


def _completed(event: dict[str, Any]) -> bool:
    return bool(event["response"]["status"] == "completed")


@pytest.fixture(scope="module")
def scraped(live: Stack) -> dict[str, set[str]]:
    """Names of samples with the labels that they have, after two calls."""
    for fault in (False, True):
        call_id = asyncio.run(a_call(live, fault))
        assert call_id
    text = httpx.get(f"{live.service.url}/metrics", timeout=10).text
    assert call_id not in text
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        if family.name.startswith("orchestrator_"):
            suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
            for suffix in suffixes.get(family.type, [""]):
                found.setdefault(family.name + suffix, set())
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def expressions() -> list[tuple[str, str]]:
    dashboard = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    panels = [(p["title"], t["expr"]) for p in dashboard["panels"] for t in p["targets"]]
    return [*panels, *((r["alert"], r["expr"]) for g in rules["groups"] for r in g["rules"])]


def test_dashboard_and_alerts_name_what_is_there(scraped: dict[str, set[str]]) -> None:
    assert len(expressions()) > 25
    for met in ("gap_seconds_bucket", "handovers_total", "turns_total", "charged_usd_total"):
        assert scraped[f"orchestrator_{met}"], met
    served = set().union(*scraped.values()) | {"instance", "le"}
    for where, expression in expressions():
        names = _METRIC.findall(expression)
        assert names, where
        assert set(names) <= scraped.keys(), where
        labels = {label.strip() for by in _BY.findall(expression) for label in by.split(",")}
        labels |= set(_MATCH.findall(expression))
        # A family without a series yet tells nothing of its labels.
        known = set().union(*(scraped[name] for name in names))
        if known:
            assert labels <= known | {"instance", "le"}, where
        assert labels <= served | {
            "code",
            "where",
            "result",
            "kind",
            "cause",
            "trigger",
            "sink",
            "outcome",
            "rung",
        }


def test_every_metric_is_explained(scraped: dict[str, set[str]]) -> None:
    explained = set(re.findall(r"^\| `(orchestrator_\w+)`", DOC.read_text(), re.MULTILINE))
    there = {
        re.sub(r"_(bucket|sum|count|created)$", "", name)
        for name in scraped
        if name.startswith("orchestrator_")
    }
    assert explained == there


def test_every_alert_is_explained() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    assert alerts == set(re.findall(r"^\| `([A-Z]\w+)` \|", DOC.read_text(), re.MULTILINE))


def test_prometheus_takes_the_rules() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; Debian has it in the package prometheus")
    rules = DEPLOY / "prometheus" / "alerts.yml"
    found = subprocess.run([promtool, "check", "rules", str(rules)], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_every_line_of_the_log_is_json(live: Stack, scraped: dict[str, set[str]]) -> None:
    text = live.service.log.read_text()
    lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    assert len(lines) > 20
    for line in lines:
        assert line.keys() >= {"time", "level", "logger", "message"}
    assert SERVER_KEY not in text
    assert f'"{AGENT_KEY}' not in text
    calls = {line["call_id"] for line in lines if "call_id" in line}
    assert calls, "Tier B's answer is done for a call, and its lines name it"
    assert all(line.get("tier") for line in lines if "call_id" in line)
