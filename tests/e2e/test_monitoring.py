"""Metrics, the log and what is made of them, of a server that has had calls: one that went well, one handed over."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests import planted
from tests.clients.recorder import Recorder
from tests.e2e.stack import SERVER_KEY, Engines, Stack, speech, stack
from tests.promql import asked
from tests.server.test_deploy_files import expressions

DOC = Path(__file__).parents[2] / "docs" / "monitoring.md"
AGENT_KEY = planted.AGENT
Labels = dict[str, set[str]]
"""The values that each label has been seen with."""


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
def scraped(live: Stack) -> dict[str, Labels]:
    """Names of samples with the labels that they have, after two calls."""
    for fault in (False, True):
        call_id = asyncio.run(a_call(live, fault))
        assert call_id
    text = httpx.get(f"{live.service.url}/metrics", timeout=10).text
    assert call_id not in text
    found: dict[str, Labels] = {}
    for family in text_string_to_metric_families(text):
        if family.name.startswith("orchestrator_"):
            assert len(family.documentation) > 10, family.name
            suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
            for suffix in suffixes.get(family.type, [""]):
                found.setdefault(family.name + suffix, {})
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


def test_what_dashboard_and_alerts_ask_for_is_shown(scraped: dict[str, Labels]) -> None:
    for met in ("gap_seconds_bucket", "handovers_total", "turns_total", "charged_usd_total"):
        assert scraped[f"orchestrator_{met}"], met
    for where, expression in expressions():
        for each in asked(expression):
            assert each.metric in scraped, where
            labels = scraped[each.metric]
            # A family without a series yet tells nothing of its labels.
            for label, value in each.values if labels else ():
                assert value in labels[label], where


def test_every_metric_is_explained(scraped: dict[str, Labels]) -> None:
    explained = set(re.findall(r"^\| `(orchestrator_\w+)`", DOC.read_text(), re.MULTILINE))
    there = {
        re.sub(r"_(bucket|sum|count|created)$", "", name)
        for name in scraped
        if name.startswith("orchestrator_")
    }
    assert explained == there


def test_every_line_of_the_log_is_json(live: Stack, scraped: dict[str, Labels]) -> None:
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
