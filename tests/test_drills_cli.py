"""`orchestrator drill` against a server of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import main
from tests.test_cli import RunningApi


@pytest.fixture(scope="module")
def api() -> Iterator[RunningApi]:
    api = RunningApi()
    yield api
    api.stop()


def run(api: RunningApi, *args: str) -> Result:
    return CliRunner().invoke(
        main, ["drill", *args, "--url", api.url], env={"ORCHESTRATOR_API_KEY": "", "COLUMNS": "160"}
    )


def test_from_its_start_to_its_report(api: RunningApi) -> None:
    assert "There were no drills" in run(api, "status").output
    started = run(api, "start", "lose_provider", "--share", "20", "--for", "1h", "--reason", "a [drill]")
    assert started.exit_code == 0, started.output
    assert "practises lose_provider on 20% of the new calls of all for 1h" in started.output
    id = started.output.strip().rpartition(" ")[2]

    listed = run(api, "status").output
    assert id in listed
    assert "a [drill]" in listed
    assert "59m" in listed or "1h 0m still" in listed
    report = run(api, "status", id).output
    assert report.startswith(f"Drill {id}: lose_provider on 20% of all, running\n")
    assert "calls handed over  0 of at most 100; 0 to come, 0 left alone" in report
    assert "gaps heard         none" in report

    assert run(api, "stop", id).output == f"Drill {id} is over.\n"
    assert "over (stopped)" in run(api, "status", id).output
    again = run(api, "stop", id)
    assert (again.exit_code, "there is no drill" in again.output) == (1, True)


def test_for_programs(api: RunningApi) -> None:
    made = json.loads(run(api, "start", "degrade", "--reason", "x", "--who", "ann", "--json").output)
    assert (made["practice"], made["typed"], made["running"]) == ("degrade", "ann", True)
    listed = json.loads(run(api, "status", "--json").output)
    assert made["id"] in [each["id"] for each in listed["drills"]]
    assert json.loads(run(api, "stop", made["id"], "--json").output) == {"stopped": made["id"]}
    told = json.loads(run(api, "status", made["id"], "--json").output)
    assert (told["ended"], told["report"]["calls"], told["report"]["gap_ms"]["p50"]) == ("stopped", 0, None)


@pytest.mark.parametrize(
    ("arguments", "code", "teaches"),
    [
        (["start", "nothing", "--reason", "x"], 2, "'lose_provider', 'degrade'"),
        (["start", "degrade"], 2, "--reason"),
        (["start", "degrade", "--reason", "x", "--share", "0"], 1, "share"),
        (["start", "degrade", "--reason", "x", "--for", "soon"], 1, "90s"),
        (["status", "drl_none"], 1, "there is no drill 'drl_none'; there are: drl_"),
        (["stop", "drl_none"], 1, "there is no drill 'drl_none' that goes on; there are: none"),
    ],
)
def test_wrong_orders_teach(api: RunningApi, arguments: list[str], code: int, teaches: str) -> None:
    done = run(api, *arguments)
    assert done.exit_code == code
    assert teaches in done.output
