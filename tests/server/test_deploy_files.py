"""The alert rules and the dashboard of `deploy/`: what they ask for is what a server shows, and can be asked so.

`tests/e2e/test_monitoring.py` holds them against a server that has had calls.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Histogram

from orchestrator.config import Settings
from orchestrator.server.gauges import Gauges
from orchestrator.server.metrics import Family, Metrics
from tests.promql import EVERYWHERE, asked, kept
from tests.server.test_http import make_server, no_environment

__all__ = ["no_environment"]

ROOT = Path(__file__).parents[2]
_PLACE = re.compile(r"\$labels\.(\w+)")


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text())["panels"]
    return found


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> list[tuple[str, str]]:
    """All of both, each with the name of where it is."""
    shown = [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]
    return [*shown, *((rule["alert"], rule["expr"]) for rule in rules())]


def declared() -> dict[str, frozenset[str]]:
    """The names of all samples of a server, with the labels that they can have."""
    server = make_server()
    found: dict[str, frozenset[str]] = {}
    fed = vars(Metrics(Settings())).values()
    families = [each._metric if isinstance(each, Family) else each for each in fed]
    families = [each for each in families if isinstance(each, Counter | Histogram)]
    for metric in (*families, *Gauges(server, server.metrics).collect()):  # type: ignore[arg-type]
        name, labels = metric.describe()[0].name if metric in families else metric.name, metric._labelnames
        kind = metric._type if metric in families else metric.type
        endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(kind, ("",))
        for ending in endings:
            found[name + ending] = frozenset(labels) | ({"le"} if ending == "_bucket" else set())
    return found


def faults(expression: str, metrics: dict[str, frozenset[str]]) -> list[str]:
    """What of an expression no server shows, by its name."""
    found = []
    for each in asked(expression):
        if each.metric not in metrics:
            found.append(each.metric)
            continue
        found += sorted(each.labels - metrics[each.metric] - EVERYWHERE)
    return found


def test_all_that_is_asked_for_is_there() -> None:
    metrics = declared()
    assert len(expressions()) > 35
    for where, expression in expressions():
        assert asked(expression), where
        assert faults(expression, metrics) == [], where


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("sum(orchestrator_turn_total)", ["orchestrator_turn_total"]),
        ("rate(orchestrator_turns[5m])", ["orchestrator_turns"]),
        ("sum by (rungs) (orchestrator_breaker_state)", ["rungs"]),
        ('orchestrator_recordings_total{status="failed"} > 0', ["status"]),
        ("up == 0", ["up"]),
    ],
)
def test_a_name_that_is_misspelt_is_found(expression: str, fault: list[str]) -> None:
    assert faults(expression, declared()) == fault


@pytest.mark.parametrize(
    "expression",
    ["rate(orchestrator_turns_total)", "sum by (tier (orchestrator_calls)", "averages(orchestrator_calls)"],
)
def test_what_is_no_expression_is_found(expression: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        asked(expression)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_is_whole_and_names_what_it_has(rule: dict[str, Any]) -> None:
    assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert re.fullmatch(r"\d+[sm]", rule.get("for", "1m"))
    named = set(_PLACE.findall(rule["annotations"]["summary"]))
    left = kept(rule["expr"])
    if left is None:
        metrics = declared()
        left = EVERYWHERE.union(*(metrics[each.metric] for each in asked(rule["expr"])))
    assert named <= left


def test_there_is_an_alert_for_each_of_these() -> None:
    watched = {each.metric.removeprefix("orchestrator_") for rule in rules() for each in asked(rule["expr"])}
    assert watched >= {
        "recordings_total",
        "audit_waiting",
        "latency_breaches_total",
        "breaker_state",
        "bucket_cap_usd",
        "store_connected",
        "gap_seconds_bucket",
        "tier_ready",
    }


def test_every_alert_is_explained() -> None:
    doc = (ROOT / "docs/monitoring.md").read_text()
    alerts = [rule["alert"] for rule in rules()]
    assert alerts == re.findall(r"^\| `([A-Z]\w+)` \|", doc, re.MULTILINE)


def test_panels_have_names_and_places_of_their_own() -> None:
    ids = [panel["id"] for panel in panels()]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels()]
    assert len(set(ids)) == len(set(places)) == len(ids)
    for panel in panels():
        assert panel["description"], panel["title"]
        left = [kept(target["expr"]) for target in panel["targets"]]
        for target, labels in zip(panel["targets"], left, strict=True):
            shown = set(re.findall(r"{{(\w+)}}", target.get("legendFormat", "")))
            assert labels is None or shown <= labels, panel["title"]
