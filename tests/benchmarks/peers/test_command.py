"""The command, and one small run of what needs no peer installed: the provider itself, its processes and all."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.caller import Utterance
from benchmarks.peers import contenders
from benchmarks.peers import measure as measuring
from benchmarks.peers.__main__ import environments, main
from benchmarks.peers.cases import CASES, Planned, schedule
from benchmarks.peers.contenders import CONTENDERS, Hall, Running
from benchmarks.peers.environments import LITELLM, LIVEKIT
from benchmarks.peers.figures import FORMAT, Outcome
from benchmarks.peers.measure import measure
from benchmarks.processes import BenchmarkError
from orchestrator.simulate.voices import tone

pytestmark = pytest.mark.long


def test_help_tells_contenders_and_faults() -> None:
    found = CliRunner().invoke(main, ["--help"])
    assert found.exit_code == 0
    assert all(name in found.output for name in (*CONTENDERS, *CASES))


def test_only_what_is_compared_is_installed() -> None:
    assert environments(["orchestrator", "direct"]) == []
    assert environments(list(CONTENDERS)) == [LIVEKIT, LITELLM]


def test_a_wrong_contender_is_refused() -> None:
    found = CliRunner().invoke(main, ["--only", "nobody"])
    assert found.exit_code == 2
    assert "orchestrator" in found.output


async def test_calls_on_the_provider_itself(tmp_path: Path) -> None:
    told: list[tuple[Planned, list[str]]] = []
    utterance = Utterance(tone(0.4, FORMAT), "Hello there.")
    planned = list(schedule(("abort",), 1, random.Random(1)))
    rows = await measure(["direct"], planned, utterance, tmp_path, 5.0, lambda *lot: told.append(lot))
    assert [(row.fault, row.figures.outcome) for row in rows] == [
        ("none", Outcome.ANSWERED),
        ("abort", Outcome.LOST),
    ]
    assert rows[0].figures.silence_ms is not None
    assert rows[1].closed == "closed with 1006"
    assert told == [(plan, []) for plan in planned], "nobody is out"


async def test_a_call_that_cannot_be_placed_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never() -> None:
        raise BenchmarkError("the orchestrator does not go back to Tier A")

    @asynccontextmanager
    async def unwilling(name: str, shared: Hall) -> AsyncIterator[Running]:
        async with contenders.running(name, shared) as found:
            yield replace(found, settled=never)

    monkeypatch.setattr(measuring, "running", unwilling)
    utterance = Utterance(tone(0.4, FORMAT), "Hello there.")
    planned = list(schedule(("none",), 1, random.Random(1)))
    rows = await measure(["direct"], planned, utterance, tmp_path, 5.0, lambda *lot: None)
    assert [row.figures.outcome for row in rows] == [Outcome.ERROR]
    assert "does not go back" in rows[0].closed
