"""`orchestrator calls`, `call` and `budget` against a server of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from orchestrator.calls_cli import bar, projected
from orchestrator.cli import main
from orchestrator.client.answers import Bucket
from orchestrator.server.calls import CallInfo
from tests.test_cli import RunningApi

NOON = 1_800_014_400.0 - 1_800_014_400.0 % 86_400 + 43_200


@pytest.fixture(scope="module")
def api() -> Iterator[RunningApi]:
    api = RunningApi(budget={"buckets": {"acme": {"usd_per_day": 5}}})
    records, events = api.server.records, api.server.events
    events.listeners.append(records.row)
    for number, bucket in enumerate(("acme", "[other]")):
        id = f"call_{number}"
        records.began(CallInfo(id, "gpt-realtime", bucket=bucket))
        events.add("call_started", tier="A", call_id=id, rung="gpt-realtime", reason="default")
        events.add("charge", tier="A", call_id=id, nanodollars=(number + 1) * 1_000_000_000)
        events.add("caller_said", tier="A", call_id=id, text="my name is [Ada]")
        events.add("handover", tier="B", call_id=id, to_tier="B", to_rung="kokoro", cause="closed")
    yield api
    api.stop()


def run(api: RunningApi, *args: str) -> Result:
    env = {"ORCHESTRATOR_API_KEY": "", "COLUMNS": "160"}
    return CliRunner().invoke(main, [*args, "--url", api.url], env=env)


def test_calls_are_shown_sorted_and_filtered(api: RunningApi) -> None:
    done = run(api, "calls", "--sort", "cost")
    assert done.exit_code == 0
    assert done.output.index("call_1") < done.output.index("call_0")
    assert "A>B" in done.output
    assert "[other]" in done.output
    told = json.loads(run(api, "calls", "--bucket", "acme", "--json").output)
    assert [call["call_id"] for call in told["calls"]] == ["call_0"]
    assert "No such call" in run(api, "calls", "--tier", "C").output


def test_a_call_is_told_without_words_unless_asked(api: RunningApi) -> None:
    done = run(api, "call", "call_1")
    assert done.exit_code == 0
    assert "tier A > B (kokoro)" in done.output
    assert "$2.0000" in done.output
    assert "Ada" not in done.output
    assert "my name is [Ada]" in run(api, "call", "call_1", "--text").output
    unknown = run(api, "call", "call_9")
    assert (unknown.exit_code, "knows no call" in unknown.output) == (1, True)


def test_budgets_have_bars_and_where_they_go(api: RunningApi) -> None:
    told = json.loads(run(api, "budget", "--json").output)
    assert "acme" in [bucket["bucket"] for bucket in told["buckets"]]
    assert "Buckets today" in run(api, "budget").output


def test_a_day_is_projected_from_what_it_was_so_far() -> None:
    assert projected(2.0, NOON) == 4.0
    assert projected(2.0, NOON - 43_100) is None


@pytest.mark.parametrize(
    ("spent", "held", "cap", "shown"),
    [(5, 0, 10, "█" * 10), (12, 3, 10, "█" * 20), (1, 19, 10, "█" * 2 + "▒" * 18), (0, 0, 0, "█" * 20)],
)
def test_a_bar_is_never_longer_than_it_may_be(spent: float, held: float, cap: float, shown: str) -> None:
    made = bar(Bucket(bucket="acme", spent_usd=spent, reserved_usd=held, cap_usd=cap))
    assert shown in made
    assert made.count("█") + made.count("▒") + made.count("·") == 20
