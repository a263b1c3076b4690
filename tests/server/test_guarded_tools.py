"""A guardrail before tools: what it forbids does not run, and what the caller agreed to is what runs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from orchestrator.config import WELL_KNOWN
from orchestrator.core.tools import Result, ToolOutcome
from orchestrator.server.calls import CallInfo
from orchestrator.server.guardrails import ALLOW, Ruling, Verdict
from orchestrator.server.store import EmbeddedStore
from orchestrator.server.toolbox import Toolbox
from tests.server.hooks import Hook, says
from tests.server.test_toolbox import INFO, action, run, settings_of

FOUND = {"status": "shipped"}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("ORCHESTRATOR_") or name in WELL_KNOWN:
            monkeypatch.delenv(name)


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    async with Hook().serving() as hook:
        hook.acts = [says(200, FOUND)]
        yield hook


class Judge:
    def __init__(self, verdict: Verdict, store: EmbeddedStore) -> None:
        self.verdict, self._store = verdict, store
        self.asked: list[tuple[str, str, Mapping[str, Any]]] = []
        self.written: list[list[str]] = []
        """What the store held when it was asked."""

    async def __call__(self, info: CallInfo, tool: str, arguments: Mapping[str, Any]) -> Verdict:
        self.asked.append((info.call_id, tool, arguments))
        self.written.append(await self._store.keys(""))
        return self.verdict


async def ran(
    hook: Hook, verdict: Verdict, tool: str, **arguments: Any
) -> tuple[ToolOutcome, Judge, list[str]]:
    """What came of it, who was asked, and what the tool ledger holds afterwards."""
    store = EmbeddedStore()
    judge = Judge(verdict, store)
    toolbox = Toolbox(settings_of(hook.url), store, judge)
    outcome = await run(toolbox, action(tool, **arguments))
    await toolbox.close()
    return outcome, judge, await store.keys("")


@pytest.mark.parametrize("tool", ["lookup", "cancel"])
async def test_what_is_allowed_runs_and_is_asked_about_before_the_ledger(hook: Hook, tool: str) -> None:
    outcome, judge, _ = await ran(hook, ALLOW, tool)
    assert (outcome.result, outcome.output) == (Result.DONE, FOUND)
    assert judge.asked == [(INFO.call_id, tool, {"order_id": "42"})]
    assert judge.written == [[]]


@pytest.mark.parametrize("tool", ["lookup", "cancel"])
async def test_what_is_vetoed_does_not_run_and_leaves_no_trace(hook: Hook, tool: str) -> None:
    outcome, _, written = await ran(hook, Verdict(Ruling.VETO, reason="not on Sundays"), tool)
    assert outcome == ToolOutcome(Result.VETOED, message="not on Sundays")
    assert (hook.asked, written) == ([], [])


async def test_a_look_up_runs_with_other_arguments(hook: Hook) -> None:
    outcome, _, _ = await ran(hook, Verdict(Ruling.REWRITE, arguments={"order_id": "43"}), "lookup")
    assert outcome.result is Result.DONE
    assert [asked.told["arguments"] for asked in hook.asked] == [{"order_id": "43"}]


async def test_what_changes_something_does_not_run_with_other_arguments(hook: Hook) -> None:
    outcome, _, written = await ran(hook, Verdict(Ruling.REWRITE, arguments={"order_id": "43"}), "cancel")
    assert outcome == ToolOutcome(Result.VETOED, message="this is not allowed")
    assert (hook.asked, written) == ([], [])
    # The same arguments are no others.
    outcome, _, _ = await ran(hook, Verdict(Ruling.REWRITE, arguments={"order_id": "42"}), "cancel")
    assert outcome.result is Result.DONE


async def test_other_arguments_have_to_fit_the_tool(hook: Hook) -> None:
    outcome, _, _ = await ran(hook, Verdict(Ruling.REWRITE, arguments={"order_id": "x"}), "lookup")
    assert outcome.result is Result.VETOED
    assert outcome.message.startswith("order_id: ")
    assert hook.asked == []


async def test_a_call_that_could_not_run_anyway_is_nobodys_to_judge(hook: Hook) -> None:
    outcome, judge, _ = await ran(hook, ALLOW, "cancel", order_id="x")
    assert (outcome.result, judge.asked) == (Result.FAILED, [])
