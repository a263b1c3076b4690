"""Tools of real MCP servers, over stdin and stdout and over HTTP: what is known when they fail, and coming back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from orchestrator.core.tools import Kind, Tool
from orchestrator.server import tool_mcp
from orchestrator.server.tool_mcp import McpServer
from orchestrator.server.tool_runners import Doubtful, NotSent, Run
from orchestrator.tool_sections import McpSection
from orchestrator.tooling import ToolContext, ToolError
from tests import planted
from tests.server.fleets import until
from tests.server.hooks import Hook, answer

SHOP = str(Path(__file__).with_name("mcp_shop.py"))
TOOL = Tool("cancel", kind=Kind.MUTATING)
CONTEXT = ToolContext("call_1", "ana", "acme", "support", "k" * 40, 2)


class Served:
    """The shop over HTTP, in a process that can be killed and started again."""

    def __init__(self, log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, SHOP, str(self._log), str(self.port)]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        give_up = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except ConnectionRefusedError:
                assert time.monotonic() < give_up, "the MCP server did not start"

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "shop.jsonl"


@pytest.fixture
def served(log: Path) -> Iterator[Served]:
    served = Served(log)
    served.start()
    yield served
    served.kill()


def noted(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def stdio(log: Path, **more: Any) -> McpSection:
    return McpSection(command=sys.executable, args=(SHOP, str(log)), connect_s=30, **more)


@pytest.fixture(params=["stdio", "http"])
async def shop(request: pytest.FixtureRequest, log: Path) -> AsyncIterator[McpServer]:
    if request.param == "stdio":
        section = stdio(log)
    else:
        section = McpSection(url=request.getfixturevalue("served").url, connect_s=30)
    server = McpServer("shop", section, lambda _: None)
    await server.start()
    assert server.problem == ""
    yield server
    await server.close()


def run_of(order_id: str = "42") -> Run:
    return Run(TOOL, {"order_id": order_id}, CONTEXT)


async def call(server: McpServer, tool: str, run: Run | None = None) -> Any:
    async with asyncio.timeout(30):
        return await server.call(tool, run or run_of())


async def test_a_server_in_good_order_and_what_its_failures_mean(shop: McpServer, log: Path) -> None:
    assert shop.tools is not None
    assert shop.tools["cancel_order"].description == "Cancel an order."
    assert shop.tools["cancel_order"].schema["required"] == ["order_id"]
    assert [shop.tools[name].changes for name in ("cancel_order", "lookup", "change")] == [None, False, True]

    done = await call(shop, "cancel_order")
    assert done == {"status": "cancelled", "order_id": "42", "token": ""}
    (line,) = noted(log)
    told = {
        name: line[name] for name in ("call_id", "user", "bucket", "purpose", "idempotency_key", "attempt")
    }
    assert told == {
        "call_id": "call_1",
        "user": "ana",
        "bucket": "acme",
        "purpose": "support",
        "idempotency_key": "k" * 40,
        "attempt": 2,
    }
    assert await call(shop, "lookup") == {"result": "order 42 is on its way"}

    with pytest.raises(ToolError, match="the order has been shipped"):
        await call(shop, "refuse")
    with pytest.raises(ToolError, match="absent"):
        await call(shop, "absent")
    # An exception that was not meant comes back as an error too: what it had done by then is not known.
    with pytest.raises(Doubtful):
        await call(shop, "crash")

    run = run_of()
    run.attempt.give_up()
    with pytest.raises(NotSent):
        await call(shop, "cancel_order", run)
    assert [line["tool"] for line in noted(log)] == ["cancel_order", "lookup", "crash"]


async def test_one_that_hangs_can_be_given_up_and_serves_others(shop: McpServer, log: Path) -> None:
    run = run_of("1")
    task = asyncio.create_task(shop.call("hang", run))
    await until(lambda: noted(log))
    assert (await call(shop, "cancel_order"))["status"] == "cancelled"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert run.attempt.begun
    assert (await call(shop, "cancel_order"))["status"] == "cancelled"


async def test_a_command_that_dies_in_the_middle_is_started_again(log: Path) -> None:
    server = McpServer("shop", stdio(log), lambda _: None)
    await server.start()
    run = run_of()
    with pytest.raises(Doubtful):
        await call(server, "die", run)
    assert run.attempt.begun
    await until(lambda: server.problem)
    assert (await call(server, "cancel_order"))["status"] == "cancelled"
    assert [line["tool"] for line in noted(log)] == ["die", "cancel_order"]
    assert noted(log)[0]["pid"] != noted(log)[1]["pid"]
    await server.close()


async def test_a_command_that_is_killed_between_two_calls_costs_none_of_them(log: Path) -> None:
    server = McpServer("shop", stdio(log), lambda _: None)
    await server.start()
    await call(server, "cancel_order")
    pid = noted(log)[0]["pid"]
    os.kill(pid, signal.SIGKILL)
    await until(lambda: server.problem)
    await call(server, "cancel_order")
    await server.close()
    pids = [line["pid"] for line in noted(log)]
    assert len(set(pids)) == 2
    # Nothing is left behind.
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_server_that_went_away_was_not_reached_and_comes_back(served: Served, log: Path) -> None:
    server = McpServer("shop", McpSection(url=served.url, connect_s=30), lambda _: None)
    await server.start()
    await call(server, "cancel_order")
    served.kill()
    with pytest.raises(NotSent, match="no connection"):
        await call(server, "cancel_order")
    served.start()
    await call(server, "cancel_order")
    with pytest.raises(Doubtful):
        await call(server, "die")
    assert [line["tool"] for line in noted(log)] == ["cancel_order", "cancel_order", "die"]
    await server.close()


async def test_a_session_of_the_older_protocol_that_was_forgotten_is_opened_again(
    served: Served, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool_mcp, "Client", partial(tool_mcp.Client, mode="legacy"))
    server = McpServer("shop", McpSection(url=served.url, connect_s=30), lambda _: None)
    await server.start()
    await call(server, "cancel_order")
    served.kill()
    served.start()
    with pytest.raises(NotSent, match="has forgotten the session"):
        await call(server, "cancel_order")
    await call(server, "cancel_order")
    assert len(noted(log)) == 2
    await server.close()


async def test_a_server_that_is_not_there_at_the_start(log: Path) -> None:
    served = Served(log)
    server = McpServer("shop", McpSection(url=served.url), lambda _: None)
    await server.start()
    assert server.tools is None
    assert "no connection" in server.problem
    with pytest.raises(NotSent, match=r"the MCP server 'shop' is away: .*no connection"):
        await call(server, "cancel_order")
    served.start()
    assert (await call(server, "cancel_order"))["status"] == "cancelled"
    assert server.problem == ""
    await server.close()
    served.kill()


@pytest.mark.parametrize(
    ("command", "args", "connect_s", "says"),
    [
        ("/absent/shop", (), 30, "FileNotFoundError: No such file"),
        (sys.executable, ("-c", "pass"), 30, "Connection closed"),
        (sys.executable, ("-c", "import time; time.sleep(60)"), 0.5, "it took longer than 0.5 s to start"),
    ],
    ids=["absent", "ends", "hangs"],
)
async def test_a_command_that_does_not_serve(
    command: str, args: tuple[str, ...], connect_s: float, says: str
) -> None:
    server = McpServer("shop", McpSection(command=command, args=args, connect_s=connect_s), lambda _: None)
    async with asyncio.timeout(60):
        await server.start()
        assert says in server.problem
        with pytest.raises(NotSent):
            await server.call("cancel_order", run_of())
        await server.close()


async def test_a_command_gets_its_variables_and_a_server_its_key(log: Path) -> None:
    server = McpServer("shop", stdio(log, env={"SHOP_TOKEN": planted.MCP}), lambda _: None)
    await server.start()
    assert (await call(server, "cancel_order"))["token"] == planted.MCP
    await server.close()
    async with Hook().serving() as hook:
        hook.acts = [answer(401)]
        refused = McpServer("shop", McpSection(url=hook.url, api_key=SecretStr(planted.MCP)), lambda _: None)
        await refused.start()
        assert hook.asked[0].headers["authorization"] == f"Bearer {planted.MCP}"
        assert refused.problem
        assert planted.MCP not in refused.problem
        await refused.close()


async def test_a_server_that_repeats_its_key_does_not_get_it_shown() -> None:
    async with Hook().serving() as hook:

        async def repeat(writer: asyncio.StreamWriter) -> None:
            error = {"code": -32600, "message": f"no: {planted.MCP}"}
            told = {"jsonrpc": "2.0", "id": json.loads(hook.asked[-1].body).get("id"), "error": error}
            await answer(200, json.dumps(told).encode(), "content-type: application/json")(writer)

        hook.acts = [repeat]
        refused = McpServer("shop", McpSection(url=hook.url, api_key=SecretStr(planted.MCP)), lambda _: None)
        await refused.start()
        assert refused.problem == "MCPError: no: [redacted]"
        await refused.close()
