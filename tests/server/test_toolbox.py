"""Running tools on the server: in what order, how often, and what is told of it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.config import WELL_KNOWN, Settings, load_settings
from orchestrator.core.actions import RunTool
from orchestrator.core.tools import Result, ToolOutcome
from orchestrator.server import tool_ledger
from orchestrator.server.calls import CallInfo
from orchestrator.server.store import EmbeddedStore, RedisStore, Store
from orchestrator.server.tool_ledger import PREFIX, Entry, State, store_key
from orchestrator.server.tool_runners import THREADS
from orchestrator.server.toolbox import Toolbox
from orchestrator.tooling import ToolError
from tests.server.fleets import until
from tests.server.hooks import Hook, answer, hang_up, say_nothing, says
from tests.server.test_store import RedisServer
from tests.server.test_tool_mcp import SHOP, noted

SCHEMA = {
    "type": "object",
    "properties": {"order_id": {"type": "string", "pattern": "^[0-9]+$"}},
    "required": ["order_id"],
}
INFO = CallInfo("call_1", "gpt-realtime", user="ana", purpose="support", bucket="acme")
KEY = 'cancel call_1 {"order_id": "42"}'
NAME = PREFIX + store_key(KEY)
CANCELLED = {"status": "cancelled", "card": "4111"}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("ORCHESTRATOR_") or name in WELL_KNOWN:
            monkeypatch.delenv(name)


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    async with Hook().serving() as hook:
        hook.acts = [says(200, CANCELLED)]
        yield hook


def settings_of(url: str, **more: Any) -> Settings:
    """Two tools at a webhook: one that changes something, and one that does not."""
    shared = {"url": url, "parameters": SCHEMA, "speakable": ["status"]}
    tools = {
        "cancel": {**shared, "kind": "mutating", **more},
        "lookup": {**shared, "kind": "read_only", **more},
        "theirs": {"kind": "mutating", "runs": "client"},
    }
    return load_settings(**{f"tools__{name}": tool for name, tool in tools.items()})


def action(tool: str = "cancel", key: str = KEY, **arguments: Any) -> RunTool:
    return RunTool("call_tool_1", tool, arguments or {"order_id": "42"}, key)


async def run(toolbox: Toolbox, told: RunTool | None = None, info: CallInfo = INFO) -> ToolOutcome:
    return await asyncio.wait_for(toolbox.run(info, told or action()), 20)


async def entry(store: Store) -> Entry | None:
    text = await store.get(NAME)
    return None if text is None else Entry.parse(text)


# In good order


async def test_what_only_looks_something_up_leaves_no_trace(hook: Hook) -> None:
    store = EmbeddedStore()
    toolbox = Toolbox(settings_of(hook.url), store)
    outcomes = [await run(toolbox, action("lookup")) for _ in range(2)]
    assert outcomes == [ToolOutcome(Result.DONE, CANCELLED)] * 2
    assert await store.keys("") == []
    keys = {asked.headers["idempotency-key"] for asked in hook.asked}
    assert len(keys) == 2
    await toolbox.close()


async def test_the_intent_is_written_down_before_the_request_leaves(hook: Hook) -> None:
    store = EmbeddedStore()
    toolbox = Toolbox(settings_of(hook.url), store)
    seen: list[Entry | None] = []

    async def look(writer: asyncio.StreamWriter) -> None:
        seen.append(await entry(store))
        await says(200, CANCELLED)(writer)

    hook.acts = [look]
    assert await run(toolbox) == ToolOutcome(Result.DONE, CANCELLED)
    assert [at.state for at in seen if at] == [State.STARTED]
    after = await entry(store)
    assert after is not None
    assert (after.state, after.output) == (State.DONE, {"status": "cancelled"})
    assert "4111" not in after.text()
    # The same again gets the same, and the tool is not asked.
    assert await run(toolbox) == ToolOutcome(Result.DONE, {"status": "cancelled"}, known=True)
    assert len(hook.asked) == 1
    assert hook.asked[0].told["idempotency_key"] == store_key(KEY)
    await toolbox.close()


async def test_another_key_is_another_run(hook: Hook) -> None:
    toolbox = Toolbox(settings_of(hook.url), EmbeddedStore())
    for key in ("a", "b"):
        assert not (await run(toolbox, action(key=key))).known
    assert len({asked.headers["idempotency-key"] for asked in hook.asked}) == 2
    await toolbox.close()


# What is not run at all


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (action(order_id="4 2"), "order_id: '4 2' does not match"),
        (action(other="x"), "'order_id' is a required property"),
        (action("absent"), "there is no tool 'absent'"),
        (action("theirs"), "'theirs' does not run on the server"),
    ],
)
async def test_what_cannot_be_run_is_not(told: RunTool, message: str, hook: Hook) -> None:
    store = EmbeddedStore()
    toolbox = Toolbox(settings_of(hook.url), store)
    outcome = await run(toolbox, told)
    assert outcome.result is Result.FAILED
    assert message in outcome.message
    assert not hook.asked
    assert await store.keys("") == []
    await toolbox.close()


async def test_a_call_runs_only_what_it_may_use(hook: Hook) -> None:
    toolbox = Toolbox(settings_of(hook.url, buckets=["other"], purposes=["support"]), EmbeddedStore())
    assert "may not use it" in (await run(toolbox)).message
    assert "may not use it" in (await run(toolbox, info=CallInfo("c", "m", bucket="other"))).message
    allowed = CallInfo("c", "m", bucket="other", purpose="support")
    assert (await run(toolbox, info=allowed)).result is Result.DONE
    assert len(hook.asked) == 1
    await toolbox.close()


async def test_without_the_store_a_change_is_declined_and_a_question_is_not(hook: Hook) -> None:
    store = RedisStore("redis://127.0.0.1:1/0", timeout_s=0.2)
    toolbox = Toolbox(settings_of(hook.url), store)
    outcome = await run(toolbox)
    assert outcome == ToolOutcome(Result.DECLINED, message="the tool ledger cannot be written at the moment")
    assert not hook.asked
    assert (await run(toolbox, action("lookup"))).result is Result.DONE
    await toolbox.close()
    await store.close()


# Failures, and what is tried again


@pytest.mark.parametrize("act", [hang_up, answer(500), answer(200, b"<html>")])
async def test_a_question_is_asked_once_more(act: Any, hook: Hook) -> None:
    toolbox = Toolbox(settings_of(hook.url), EmbeddedStore())
    hook.acts = [act, says(200, CANCELLED)]
    assert (await run(toolbox, action("lookup"))).result is Result.DONE
    assert [asked.told["attempt"] for asked in hook.asked] == [1, 2]
    assert len({asked.headers["idempotency-key"] for asked in hook.asked}) == 1
    await toolbox.close()


@pytest.mark.parametrize("act", [answer(404), says(503, {"ran": False})])
async def test_an_answer_that_is_certain_is_not_asked_for_again(act: Any, hook: Hook) -> None:
    toolbox = Toolbox(settings_of(hook.url), EmbeddedStore())
    hook.acts = [act]
    assert (await run(toolbox, action("lookup"))).result is Result.FAILED
    assert len(hook.asked) == 1
    await toolbox.close()


async def test_a_question_is_asked_no_more_than_twice(hook: Hook) -> None:
    toolbox = Toolbox(settings_of(hook.url), EmbeddedStore())
    hook.acts = [says(500, {"error": "out of order"})]
    outcome = await run(toolbox, action("lookup"))
    assert (outcome.result, outcome.message, len(hook.asked)) == (Result.FAILED, "out of order", 2)
    await toolbox.close()


async def test_a_refusal_is_certain(hook: Hook) -> None:
    toolbox = Toolbox(settings_of(hook.url), EmbeddedStore())
    hook.acts = [says(422, {"error": "it has been shipped"}), says(200, CANCELLED)]
    assert await run(toolbox) == ToolOutcome(Result.FAILED, message="it has been shipped")
    # Nothing has changed: when the caller says yes again, it is tried again.
    assert await run(toolbox) == ToolOutcome(Result.DONE, CANCELLED)
    assert len(hook.asked) == 2
    await toolbox.close()


@pytest.mark.parametrize("act", [hang_up, answer(500), answer(409), answer(200, b"<html>"), answer(302)])
async def test_a_change_whose_answer_was_lost_is_not_made_again(act: Any, hook: Hook) -> None:
    toolbox = Toolbox(settings_of(hook.url), EmbeddedStore())
    hook.acts = [act, says(200, CANCELLED)]
    first = await run(toolbox)
    assert (first.result, first.known) == (Result.UNKNOWN, False)
    again = await run(toolbox)
    assert (again.result, again.known, again.message) == (Result.UNKNOWN, True, first.message)
    assert len(hook.asked) == 1
    await toolbox.close()


async def test_a_tool_that_honours_the_key_is_asked_again_with_the_same(hook: Hook) -> None:
    toolbox = Toolbox(settings_of(hook.url, honours_key=True), EmbeddedStore())
    hook.acts = [hang_up, says(200, CANCELLED)]
    assert await run(toolbox) == ToolOutcome(Result.DONE, CANCELLED)
    assert [asked.told["attempt"] for asked in hook.asked] == [1, 2]
    assert {asked.headers["idempotency-key"] for asked in hook.asked} == {store_key(KEY)}
    await toolbox.close()


async def test_one_that_honours_the_key_may_be_asked_again_in_a_later_run(hook: Hook) -> None:
    toolbox = Toolbox(settings_of(hook.url, honours_key=True), EmbeddedStore())
    hook.acts = [hang_up, hang_up, says(200, CANCELLED)]
    assert (await run(toolbox)).result is Result.UNKNOWN
    assert await run(toolbox) == ToolOutcome(Result.DONE, CANCELLED)
    assert {asked.headers["idempotency-key"] for asked in hook.asked} == {store_key(KEY)}
    await toolbox.close()


async def test_what_reached_nobody_is_tried_again_and_may_run_later() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        toolbox = Toolbox(settings_of(f"http://127.0.0.1:{taken.getsockname()[1]}/x"), EmbeddedStore())
        for tool in ("cancel", "lookup"):
            outcome = await run(toolbox, action(tool))
            assert (outcome.result, outcome.message) == (Result.FAILED, "the request failed: ConnectError")
        taken.listen()
        # Somebody listens now, and hangs up.
        task = asyncio.create_task(run(toolbox))
        connection, _ = await asyncio.to_thread(taken.accept)
        assert await asyncio.to_thread(connection.recv, 4) == b"POST"
        connection.close()
        assert (await task).result is Result.UNKNOWN
    await toolbox.close()


async def test_one_that_is_there_at_the_second_attempt_is_asked_once(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    toolbox = Toolbox(settings_of(hook.url), EmbeddedStore())
    runner: Any = toolbox._runners["cancel"]
    url, attempts = runner._url, []

    async def refuse_first(told: Any) -> Any:
        attempts.append(told.context.attempt)
        runner._url = url if len(attempts) > 1 else "http://127.0.0.1:1/"
        return await runner(told)

    monkeypatch.setitem(toolbox._runners, "cancel", refuse_first)
    assert await run(toolbox) == ToolOutcome(Result.DONE, CANCELLED)
    assert (attempts, len(hook.asked)) == ([1, 2], 1)
    monkeypatch.setitem(toolbox._runners, "cancel", runner)
    await toolbox.close()


async def test_a_slow_tool_is_not_waited_for(hook: Hook) -> None:
    toolbox = Toolbox(settings_of(hook.url, timeout_s=1), EmbeddedStore())
    hook.acts = [say_nothing]
    changed, asked = await asyncio.gather(run(toolbox), run(toolbox, action("lookup")))
    assert changed == ToolOutcome(Result.UNKNOWN, message="it took longer than 1 s")
    assert asked == ToolOutcome(Result.FAILED, message="it took longer than 1 s")
    assert (await run(toolbox)).known
    await toolbox.close()


# Functions


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    module = SimpleNamespace(cancel=None)
    monkeypatch.setitem(sys.modules, "shop_box", module)  # type: ignore[arg-type]
    return module


def python_settings(**more: Any) -> Settings:
    given = {"kind": "mutating", "entry_point": "shop_box:cancel", "parameters": SCHEMA, "timeout_s": 5}
    return load_settings(tools__cancel={**given, **more})


@pytest.mark.parametrize(
    ("error", "result"),
    [(ToolError("it has been shipped"), Result.FAILED), (ValueError("4111"), Result.UNKNOWN)],
)
async def test_what_a_function_raises(error: Exception, result: Result, shop: SimpleNamespace) -> None:
    ran = []

    def cancel(order_id: str) -> str:
        ran.append(order_id)
        if len(ran) == 1:
            raise error
        return "cancelled"

    shop.cancel = cancel
    toolbox = Toolbox(python_settings(), EmbeddedStore())
    first, second = await run(toolbox), await run(toolbox)
    assert first.result is result
    assert "4111" not in first.message
    assert (second.result, len(ran)) == ((Result.DONE, 2) if result is Result.FAILED else (Result.UNKNOWN, 1))
    await toolbox.close()


async def test_a_function_that_never_began_in_time_never_does(shop: SimpleNamespace) -> None:
    release, ran = threading.Event(), []

    def cancel(order_id: str) -> None:
        ran.append(order_id)
        release.wait(20)

    shop.cancel = cancel
    toolbox = Toolbox(python_settings(timeout_s=1), EmbeddedStore())
    outcomes = await asyncio.gather(*(run(toolbox, action(key=str(n), order_id=str(n))) for n in range(20)))
    begun = len(ran)
    results = [outcome.result for outcome in outcomes]
    assert 0 < begun <= THREADS
    assert (results.count(Result.UNKNOWN), results.count(Result.FAILED)) == (begun, 20 - begun)
    # Those that have failed may run, once the threads are free again.
    release.set()
    failed = results.index(Result.FAILED)
    assert (await run(toolbox, action(key=str(failed), order_id="42"))).result is Result.DONE
    assert len(ran) == begun + 1
    await toolbox.close()


# Ending


async def test_a_caller_who_hangs_up_does_not_stop_it(hook: Hook) -> None:
    store, release = EmbeddedStore(), asyncio.Event()
    toolbox = Toolbox(settings_of(hook.url), store)

    async def wait(writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await says(200, CANCELLED)(writer)

    hook.acts = [wait]
    task = asyncio.create_task(toolbox.run(INFO, action()))
    await until(lambda: hook.asked)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    closing = asyncio.create_task(toolbox.close())
    await asyncio.sleep(0)
    # Nothing new is begun by then.
    assert (await run(toolbox, action(key="another"))).result is Result.DECLINED
    release.set()
    await asyncio.wait_for(closing, 10)
    after = await entry(store)
    assert after is not None
    assert after.state is State.DONE


async def test_a_run_that_outlasts_the_process_is_written_down_as_unknown(hook: Hook) -> None:
    store = EmbeddedStore()
    toolbox = Toolbox(settings_of(hook.url), store)
    hook.acts = [say_nothing]
    task = asyncio.create_task(toolbox.run(INFO, action()))
    await until(lambda: hook.asked)
    await toolbox.close(grace_s=0.01)
    await asyncio.wait([task])
    after = await entry(store)
    assert after is not None
    assert after.state is State.UNKNOWN
    hook.acts = [says(200, CANCELLED)]
    other = Toolbox(settings_of(hook.url), store)
    assert (await run(other)).result is Result.UNKNOWN
    assert len(hook.asked) == 1
    await other.close()


# Replicas


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


async def test_two_replicas_ask_once(server: RedisServer, hook: Hook) -> None:
    stores = [RedisStore(server.url, 2.0, "race:") for _ in range(2)]
    toolboxes = [Toolbox(settings_of(hook.url), store) for store in stores]
    for n in range(50):
        told = action(key=f"race {n}")
        outcomes = await asyncio.gather(*(run(toolbox, told) for toolbox in toolboxes))
        assert [outcome.result for outcome in outcomes] == [Result.DONE] * 2
        assert len(hook.asked) == n + 1
    for toolbox, store in zip(toolboxes, stores, strict=True):
        await toolbox.close()
        await store.close()


REPLICA = """
import asyncio, sys
from orchestrator.server.store import RedisStore
from orchestrator.server.tool_runners import THREADS
from orchestrator.server.toolbox import Toolbox
from tests.server.test_toolbox import INFO, action, settings_of

async def main():
    url, redis, honours = sys.argv[1:]
    settings = settings_of(url, honours_key=honours == "True", timeout_s=0.5)
    await Toolbox(settings, RedisStore(redis, 2.0, f"crash {honours}:")).run(INFO, action())

asyncio.run(main())
"""


def start_replica(*args: str) -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.Popen([sys.executable, "-c", REPLICA, *args], cwd=root, env=env)


@pytest.mark.parametrize("honours", [False, True])
async def test_a_replica_that_is_killed_in_the_middle(
    honours: bool, server: RedisServer, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool_ledger, "LOOK_AGAIN_S", 0.01)
    hook.acts = [say_nothing, says(200, CANCELLED)]
    replica = start_replica(hook.url, server.url, str(honours))
    try:
        async with asyncio.timeout(60):
            while not hook.asked:
                assert replica.poll() is None
                await asyncio.sleep(0.01)
    finally:
        replica.kill()
        replica.wait()
    store = RedisStore(server.url, 2.0, f"crash {honours}:")
    toolbox = Toolbox(settings_of(hook.url, honours_key=honours, timeout_s=15), store)
    outcome = await run(toolbox)
    if honours:
        assert outcome == ToolOutcome(Result.DONE, CANCELLED)
        assert {asked.headers["idempotency-key"] for asked in hook.asked} == {store_key(KEY)}
        assert len(hook.asked) == 2
    else:
        assert outcome == ToolOutcome(Result.UNKNOWN, message="it may have run before", known=True)
        assert len(hook.asked) == 1
    await toolbox.close()
    await store.close()


# MCP servers


def mcp_settings(log: Path, **tools: Any) -> Settings:
    given = {"cancel": {"mcp_tool": "cancel_order"}} | tools
    return load_settings(
        mcp__shop={"command": sys.executable, "args": [SHOP, str(log)], "connect_s": 30},
        **{f"tools__{name}": {"kind": "mutating", "mcp": "shop", **tool} for name, tool in given.items()},
    )


async def test_tools_of_an_mcp_server(tmp_path: Path) -> None:
    log = tmp_path / "log"
    settings = mcp_settings(
        log,
        described={"mcp_tool": "cancel_order", "description": "Ours.", "parameters": SCHEMA},
        absent={},
        change={"kind": "read_only"},
        lookup={"kind": "read_only", "parameters": {"type": "object"}},
        readback={"mcp_tool": "cancel_order", "readback": "cancel {order}"},
        die={},
        refuse={},
    )
    toolbox = Toolbox(settings, EmbeddedStore())
    # Before the server has said anything, only what the settings describe themselves can be offered.
    assert set(toolbox.tools) == {"described", "lookup"}
    await toolbox.start()
    assert set(toolbox.toolset("support", "acme").tools) == {"cancel", "described", "die", "refuse"}
    assert toolbox.problems == {
        "absent": "the MCP server 'shop' has no such tool",
        "change": 'its server says that it changes something; set kind = "mutating"',
        "lookup": "its server needs an argument 'order_id', which is not in parameters",
        "readback": "readback: there is no argument 'order'; there are order_id",
    }
    assert toolbox.tools["cancel"].description == "Cancel an order."
    assert toolbox.tools["cancel"].parameters["required"] == ["order_id"]
    assert toolbox.tools["described"].description == "Ours."
    assert "has no such tool" in (await run(toolbox, action("absent"))).message

    done = await run(toolbox)
    assert (done.result, done.output["status"]) == (Result.DONE, "cancelled")
    assert noted(log)[0]["idempotency_key"] == store_key(KEY)
    assert (await run(toolbox)).known
    assert (await run(toolbox, action(other="x"))).result is Result.FAILED
    refused = await run(toolbox, action("refuse", key="r"))
    assert refused.result is Result.FAILED
    assert "the order has been shipped" in refused.message
    for _ in range(2):
        assert (await run(toolbox, action("die", key="d"))).result is Result.UNKNOWN
    assert (await run(toolbox, action(key="other"))).result is Result.DONE
    assert [line["tool"] for line in noted(log)] == ["cancel_order", "die", "cancel_order"]
    await toolbox.close()


async def test_an_mcp_server_that_is_away_keeps_nobody_waiting(tmp_path: Path) -> None:
    settings = load_settings(
        mcp__shop={"url": "http://127.0.0.1:1/mcp"},
        tools__cancel={"kind": "mutating", "mcp": "shop", "parameters": SCHEMA, "timeout_s": 5},
    )
    toolbox = Toolbox(settings, EmbeddedStore())
    await asyncio.wait_for(toolbox.start(), 10)
    assert set(toolbox.tools) == {"cancel"}
    outcome = await run(toolbox)
    assert outcome.result is Result.FAILED
    assert "the MCP server 'shop' is away" in outcome.message
    await toolbox.close()


def test_outcomes_fit_into_json() -> None:
    entry = Entry(State.DONE, "r", "t", 0.0, 1.0, output={"a": [1, None, "ü"]})
    assert json.loads(entry.text())["output"] == {"a": [1, None, "ü"]}
    assert Entry.parse(entry.text()) == entry
