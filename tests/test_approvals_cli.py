"""`orchestrator approvals` against a real server on a free port."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import main
from orchestrator.core.actions import AskApproval
from orchestrator.server.business_events import BusinessEvents
from orchestrator.server.calls import CallInfo
from orchestrator.server.outlets import Outlet, StreamSink
from orchestrator.server.store import EmbeddedStore
from tests.test_cli import RunningApi

INFO = CallInfo("call_1f2e3d", "gpt-realtime-2.1", user="[bold]42")
Answers = list[tuple[bool, str, str]]


@pytest.fixture(scope="module")
def api() -> Iterator[RunningApi]:
    api = RunningApi()
    yield api
    api.stop()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, api: RunningApi) -> None:
    for name in list(os.environ):
        if name.startswith(("ORCHESTRATOR_", "OPENAI_", "CARTESIA_", "REDIS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ORCHESTRATOR_URL", api.url)
    monkeypatch.setenv("LOGNAME", "ann")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["approvals", *arguments])


def asked(api: RunningApi) -> tuple[str, Answers]:
    """A call of the running server asks: the approval's id, and where the answer will be."""
    answers: Answers = []
    action = AskApproval("call_a", "refund", {"amount": 20}, "refund 20 dollars")

    async def ask() -> str:
        api.server.approvals.ask(INFO, action, lambda *answer: answers.append(answer))
        return api.server.approvals.pending()[-1].id

    return asyncio.run_coroutine_threadsafe(ask(), api.loop).result(10), answers


def test_help_teaches() -> None:
    text = run("--help").output
    for command in ("list", "approve", "reject", "Examples:", "approvals.timeout_s"):
        assert command in text
    assert "approvals" in CliRunner().invoke(main, ["--help"]).output


def test_list_and_approve(api: RunningApi) -> None:
    assert run("list").output == "Nothing waits for approval.\n"
    id, answers = asked(api)
    shown = run("list").output
    for text in (id, "refund 20 dollars", "[bold]42", '{"amount": 20}'):
        assert text in shown
    assert "Tool calls wait for a person: 1" in CliRunner().invoke(main, ["status"]).output
    assert json.loads(run("list", "--json").output)["approvals"][0]["id"] == id
    done = run("approve", id)
    assert done.output == "Approved: refund in call call_1f2e3d (refund 20 dollars).\n"
    assert answers == [(True, "ann", "")]
    again = run("reject", id, "--reason", "no", "--who", "bob")
    assert again.exit_code == 1
    assert f"{id} was approved by ann already" in again.output


def test_reject_says_why(api: RunningApi) -> None:
    id, answers = asked(api)
    assert "Missing option '--reason'" in run("reject", id).output
    assert run("reject", id, "--reason", "over the limit", "--who", "bob").exit_code == 0
    assert answers == [(False, "bob", "over the limit")]
    unknown = run("approve", "apr_unknown")
    assert unknown.exit_code == 1
    assert "there is no approval 'apr_unknown'; there are: none" in unknown.output


def test_status_says_when_business_events_are_not_delivered(api: RunningApi) -> None:
    assert "Business events" not in CliRunner().invoke(main, ["status"]).output
    outlet = Outlet(StreamSink(EmbeddedStore(), "s", 1), limit=1, retry_s=1.0)
    outlet.dropped, outlet.failing = 3, "it answered 503"
    api.server.business = BusinessEvents("r1", [outlet])
    shown = CliRunner().invoke(main, ["status"]).output
    api.server.business = BusinessEvents("r1", [])
    assert "Business events to redis (it answered 503): 0 wait, 3 dropped" in shown
