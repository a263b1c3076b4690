"""`orchestrator estimate` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import main
from tests.estimate.invented import calls


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "CARTESIA_API_KEY", "ORCHESTRATOR_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["estimate", *map(str, arguments)], catch_exceptions=False)


def figures(*arguments: str | Path) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_tables() -> None:
    done = run("--calls", "200", "--call-usd", "0.5", "--outage-share", "0.1")
    assert done.exit_code == 0
    for word in ("200 simulated calls, seed 1", "cap $0.50", "a month", "waste in a call", "step concise", "in Tier B",
                 "audio spoken", "transport, mean", "reasoning, p95", "recovery in a call"):  # fmt: skip
        assert word in done.output


def test_flags_are_columns_and_plan() -> None:
    found = figures(
        "--calls", "50", "--call-s", "120", "--caller-share", "0.2", "--assistant-share", "0.5", "--tool-delay-s", "2",
        "--abandon-rate", "0", "--prompt-tokens", "500", "--tool-tokens", "0", "--calls-per-day", "300",
        "--call-usd", "none", "--day-usd", "40", "--outage-share", "0.2", "--rung", "gpt-realtime-2.1-mini",
        "--set", "columns.barge_in=0", "--set", "plan.history=text", "--set", "latencies.network_ms=80",
    )  # fmt: skip
    columns, plan = found["columns"], found["plan"]
    assert (columns["call_s"], columns["caller_share"], columns["tool_delay_s"]) == (120, 0.2, 2)
    assert (columns["prompt_tokens"], columns["barge_in"]) == (500, 0)
    assert (plan["call_usd"], plan["day_usd"], plan["rungs"]) == (None, 40, ["gpt-realtime-2.1-mini"])
    assert (plan["calls_per_day"], plan["history"], plan["outage_share"]) == (300, "text", 0.2)
    assert found["latencies"]["network_ms"] == 80
    assert found["waste"]["usd_per_call"] == 0
    assert found["usd_per_month"] == pytest.approx(found["cost_usd"]["mean"] * 300 * 30)


def test_the_settings_are_the_plan(tmp_path: Path) -> None:
    config = write(
        tmp_path / "orchestrator.toml",
        '[budget.buckets.acme]\ncall_usd = 0.25\n[[budget.buckets.acme.steps]]\nat = 0.5\naction = "tier_b"\n'
        '[tier_a]\nrungs = ["gpt-realtime-2.1-mini"]\n',
    )
    found = figures("--config", config, "--bucket", "acme", "--calls", "20")["plan"]
    assert (found["call_usd"], found["rungs"]) == (0.25, ["gpt-realtime-2.1-mini"])
    assert found["steps"] == [{"at": 0.5, "action": "tier_b"}]
    assert figures("--config", config, "--calls", "20")["plan"]["call_usd"] == 2.0


def test_a_plan_file_and_what_is_stronger(tmp_path: Path) -> None:
    plan = write(tmp_path / "line.toml", "[columns]\ncall_s = 90\nbarge_in = 0.3\n[plan]\ncall_usd = 0.7\n")
    found = figures("--plan", plan, "--call-s", "100", "--calls", "20")
    assert (found["columns"]["call_s"], found["columns"]["barge_in"]) == (100, 0.3)
    assert found["plan"]["call_usd"] == 0.7


def test_from_a_log(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in calls(seed=3, count=120)))
    found = figures("--from-log", log, "--calls", "500", "--call-usd", "none")
    assert found["columns"]["prompt_tokens"] == 740
    assert figures("--from-log", log, "--calls", "20", "--call-s", "60")["columns"]["call_s"] == 60
    shown = run("--from-log", log, "--calls", "50").output
    assert "The 120 recorded calls cost $0." in shown


def test_two_policies_side_by_side(tmp_path: Path) -> None:
    first = write(tmp_path / "today.toml", "[plan]\ncall_usd = 0.4\nsteps = []\n")
    second = write(tmp_path / "cheaper.toml", '[plan]\ncall_usd = 0.4\nrungs = ["gpt-realtime-2.1-mini"]\n')
    done = run("compare", first, second, "--calls", "100")
    assert done.exit_code == 0
    assert "difference" in done.output
    assert "cheaper: 100 simulated calls" in done.output
    found = json.loads(run("compare", first, second, "--calls", "100", "--json").stdout)
    one, two = (found[name]["cost_usd"]["mean"] for name in ("first", "second"))
    assert found["comparison"]["Money: a call, mean"]["difference"] == pytest.approx(two - one)
    assert found["comparison"]["Money: a call, mean"]["ratio"] == pytest.approx(two / one)
    assert two < one / 2


def test_two_configurations_side_by_side(tmp_path: Path) -> None:
    first = write(tmp_path / "one.toml", "[budget]\ncall_usd = 0.1\n")
    second = write(tmp_path / "two.toml", "[budget]\ncall_usd = 0.3\n")
    found = json.loads(run("compare", first, second, "--calls", "20", "--json").stdout)
    assert [found[name]["plan"]["call_usd"] for name in ("first", "second")] == [0.1, 0.3]


def test_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plan = write(tmp_path / "line.toml", "[columns]\ncall_s = 90\n")
    alone, both = tmp_path / "alone.png", tmp_path / "both.png"
    assert run("--calls", "30", "--plot", alone).exit_code == 0
    assert run("compare", plan, plan, "--calls", "30", "--plot", both).exit_code == 0
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (alone, both))
    done = run("--calls", "5", "--plot", tmp_path / "no" / "where.png")
    assert done.exit_code == 1
    assert "give --plot another file" in done.output


@pytest.mark.parametrize(
    ("arguments", "teaches"),
    [
        (["--call-s", "-4"], "columns.call_s: expected greater than or equal to 1, not -4"),
        (["--caller-share", "much"], "columns.caller_share: expected a valid number"),
        (["--caller-share", "0.7", "--assistant-share", "0.6"], "expected at most 1 together, not 1.3"),
        (["--set", "barge_in=1"], "expected TABLE.FIELD=VALUE"),
        (["--set", "columns.barge=1"], "columns.barge: there is no such field; there are call_s"),
        (
            ["--set", "plan.history=long"],
            "plan.history: expected 'provider', 'retention' or 'text', not 'long'",
        ),
        (["--rung", "gpt-unheard-of"], "the model 'gpt-unheard-of' has no price"),
        (["--from-log", "nowhere.jsonl"], "give the file that server.events_path names"),
        (["--plan", "nowhere.toml"], "give a plan file or a configuration"),
        (["--config", "nowhere.toml"], "no such configuration file"),
        (
            ["--set", "columns.utterance_s=0.01", "--calls", "9999"],
            "lower calls or call_s, or raise utterance_s",
        ),
    ],
)
def test_what_is_wrong_is_explained(arguments: list[str], teaches: str) -> None:
    done = run("--calls", "5", *arguments)
    assert done.exit_code == 1, done.output
    assert teaches in done.output


def test_a_plan_file_that_is_wrong(tmp_path: Path) -> None:
    broken = write(tmp_path / "broken.toml", "[columns\n")
    assert "not valid TOML" in run("--plan", broken).output
    wrong = write(tmp_path / "wrong.toml", "[columns]\nabandon_rate = 4\n")
    assert (
        "wrong.toml: columns.abandon_rate: expected less than or equal to 1, not 4"
        in run("--plan", wrong).output
    )
