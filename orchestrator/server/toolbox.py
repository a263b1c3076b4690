"""Running tools on the server: checked once more, at most once where they change something, and never raising.

The order for what changes something: the arguments are checked, the tool ledger has the intent, the request leaves,
the ledger has the result, the call is told. What may have run and cannot be told is not run again.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
from tenacity import AsyncRetrying, RetryCallState, stop_after_attempt
from tenacity.wait import wait_random

from orchestrator.core.actions import RunTool
from orchestrator.core.tools import Kind, Result, Runs, Tool, ToolOutcome, Toolset
from orchestrator.server.store import Store, StoreUnavailable
from orchestrator.server.tool_ledger import Entry, ToolLedger, speakable_part, store_key
from orchestrator.server.tool_runners import (
    THREADS,
    Doubtful,
    Function,
    NotSent,
    Run,
    Runner,
    Webhook,
    brief,
    open_client,
)
from orchestrator.signing import key_of
from orchestrator.tool_checks import name_problems, properties, wrong_schema
from orchestrator.tooling import ToolContext, ToolError
from tiers.pipeline.worker import Worker

if TYPE_CHECKING:
    from orchestrator.config import Settings
    from orchestrator.server.calls import CallInfo
    from orchestrator.server.guardrails import Verdict
    from orchestrator.server.tool_mcp import Listed, McpServer

log = logging.getLogger(__name__)

ATTEMPTS = 2
"""Of a tool that changes nothing, or that can be asked again without harm."""
PAUSE_S = (0.05, 0.25)
"""Between two attempts, so that all calls do not come back at once."""
GRACE_S = 10.0
"""How long runs in progress are waited for when the process ends."""

Called = Callable[["CallInfo", str, Mapping[str, Any]], Awaitable["Verdict"]]
"""A guardrail on a tool's call, by its name and arguments."""


class Toolbox:
    """The tools of this process. `start` connects to MCP servers; without it those tools are away.

    `called` is asked about every run before anything else happens.
    """

    def __init__(self, settings: Settings, store: Store, called: Called | None = None) -> None:
        self._settings = settings
        self._called = called
        self._ledger = ToolLedger(store, settings.tool_policy.ledger_ttl_s)
        self._threads = Worker("tool", THREADS)
        self._tools = dict(settings.tool_list())
        self._servers = self._open_servers()
        self._clients: dict[bool, httpx.AsyncClient] = {}
        self._runners = {
            name: runner for name, tool in self._tools.items() if (runner := self._runner(tool)) is not None
        }
        self.problems: dict[str, str] = {}
        """Tools that no call may use, and why."""
        self._running: set[asyncio.Task[ToolOutcome]] = set()
        self._closing = False
        for server in self._servers.values():
            self._learn(server)

    # --- life ---

    async def start(self) -> None:
        """Connects to MCP servers, each for as long as it may take; one that is away is tried again."""
        await asyncio.gather(*(server.start() for server in self._servers.values()))

    async def close(self, grace_s: float = GRACE_S) -> None:
        """Waits for what runs, so that its results are written down, and closes everything but the store."""
        self._closing = True
        if self._running:
            await asyncio.wait(self._running, timeout=grace_s)
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._ledger.close()
        await asyncio.gather(*(server.close() for server in self._servers.values()))
        await asyncio.gather(*(client.aclose() for client in self._clients.values()))
        self._threads.close()

    # --- what there is ---

    @property
    def tools(self) -> Mapping[str, Tool]:
        """Those that work, with what their MCP servers say of them."""
        return {name: tool for name, tool in self._tools.items() if name not in self.problems}

    def toolset(self, purpose: str, bucket: str, asked: Iterable[str] | None = None) -> Toolset:
        """What a call may use now; see `Settings.toolset`."""
        return self._settings.toolset(purpose, bucket, asked, self.tools)

    # --- running ---

    async def run(self, info: CallInfo, action: RunTool) -> ToolOutcome:
        """Runs a tool to its end, whatever becomes of the caller's task: cancelled, it goes on unheard.

        Raises nothing but `asyncio.CancelledError`.
        """
        if self._closing:
            return ToolOutcome(Result.DECLINED, message="the process is about to end")
        task = asyncio.create_task(self._run_safely(info, action), name=f"tool {action.tool}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _run_safely(self, info: CallInfo, action: RunTool) -> ToolOutcome:
        tool = self.tools.get(action.tool)
        try:
            return await self._run(tool, info, action)
        except Exception:
            log.exception("running the tool %r failed", action.tool)
            doubtful = tool is not None and tool.mutating
            return ToolOutcome(
                Result.UNKNOWN if doubtful else Result.FAILED, message="it failed in an unexpected way"
            )

    async def _run(self, tool: Tool | None, info: CallInfo, action: RunTool) -> ToolOutcome:
        if tool is None or not self._settings.tools[tool.name].allowed(info.purpose, info.bucket):
            reason = self.problems.get(action.tool, "this call may not use it")
            return ToolOutcome(Result.FAILED, message=f"there is no tool {action.tool!r}: {reason}")
        runner = self._runners.get(tool.name)
        if runner is None:
            return ToolOutcome(Result.FAILED, message=f"{tool.name!r} does not run on the server")
        if wrong := tool.wrong(dict(action.arguments)):
            return ToolOutcome(Result.FAILED, message="; ".join(wrong[:3]))
        if self._called is not None:
            permitted = await self._permitted(self._called, tool, info, action)
            if isinstance(permitted, ToolOutcome):
                return permitted
            action = permitted
        if tool.mutating:
            return await self._once(tool, runner, info, action)
        return await _attempts(runner, _run_of(tool, info, action, secrets.token_hex(20)))

    @staticmethod
    async def _permitted(
        called: Called, tool: Tool, info: CallInfo, action: RunTool
    ) -> RunTool | ToolOutcome:
        """What may run. Other arguments than those that were agreed to are none for a tool that changes something."""
        verdict = await called(info, tool.name, action.arguments)
        if verdict.allowed or (not verdict.vetoed and verdict.arguments == action.arguments):
            return action
        if verdict.vetoed or tool.mutating:
            return ToolOutcome(Result.VETOED, message=verdict.reason or "this is not allowed")
        if wrong := tool.wrong(dict(verdict.arguments)):
            return ToolOutcome(Result.VETOED, message="; ".join(wrong[:3]))
        return replace(action, arguments=verdict.arguments)

    async def _once(self, tool: Tool, runner: Runner, info: CallInfo, action: RunTool) -> ToolOutcome:
        try:
            begun = await self._ledger.begin(tool, action.key)
        except StoreUnavailable as error:
            log.warning("the tool %r was not run: %s", tool.name, error)
            return ToolOutcome(Result.DECLINED, message="the tool ledger cannot be written at the moment")
        if not isinstance(begun, Entry):
            return begun
        run = _run_of(tool, info, action, store_key(action.key))
        outcome = ToolOutcome(Result.UNKNOWN, message="the process ended while it was running")
        try:
            outcome = await _attempts(runner, run)
        finally:
            kept = speakable_part(tool, outcome.output)
            await self._ledger.finish(action.key, begun, outcome, kept)
        return outcome

    # --- where they run ---

    def _open_servers(self) -> dict[str, McpServer]:
        if not self._settings.mcp:
            return {}
        # Takes a second to import, which nobody without such a server should wait for.
        from orchestrator.server.tool_mcp import McpServer

        return {name: McpServer(name, section, self._learn) for name, section in self._settings.mcp.items()}

    def _runner(self, tool: Tool) -> Runner | None:
        section = self._settings.tools[tool.name]
        match tool.runs:
            case Runs.WEBHOOK:
                assert section.url is not None
                secret = self._settings.tool_policy.webhook_secret
                key = None if secret is None else key_of(secret.get_secret_value())
                if tool.mutating not in self._clients:
                    self._clients[tool.mutating] = open_client(mutating=tool.mutating)
                return Webhook(section.url, key, self._clients[tool.mutating])
            case Runs.PYTHON:
                assert section.entry_point is not None
                return Function(section.entry_point, self._threads)
            case Runs.MCP:
                assert section.mcp is not None
                return self._servers[section.mcp].runner(section.mcp_tool or tool.name)
            case _:
                return None

    # --- what MCP servers say ---

    def _learn(self, server: McpServer) -> None:
        """Takes what a server says of its tools: those it has not, or that do not fit the settings, are left out."""
        for name, section in self._settings.tools.items():
            if section.mcp != server.name:
                continue
            problem = ""
            if server.tools is not None:
                listed = server.tools.get(section.mcp_tool or name)
                problem = f"the MCP server {server.name!r} has no such tool"
                if listed is not None:
                    problem = self._adopt(name, listed)
            elif section.schema_is_the_servers:
                problem = f"the MCP server {server.name!r} has not said what it takes"
            if problem:
                self.problems[name] = problem
                if server.tools is not None:
                    log.error("the tool %r cannot be used: %s", name, problem)
            else:
                self.problems.pop(name, None)

    def _adopt(self, name: str, listed: Listed) -> str:
        """What is wrong with a tool, given what its server says of it; empty if it can be used."""
        section, tool = self._settings.tools[name], self._tools[name]
        if listed.changes and section.kind is Kind.READ_ONLY:
            return 'its server says that it changes something; set kind = "mutating"'
        if problem := wrong_schema(listed.schema):
            return f"its server says what it takes wrongly: {problem}"
        if section.schema_is_the_servers:
            for field, problem in name_problems(section, listed.schema):
                return f"{field}: {problem}"
            tool = replace(tool, parameters=dict(listed.schema))
        elif missing := sorted(set(listed.schema.get("required", ())) - set(properties(tool.parameters))):
            return f"its server needs an argument {missing[0]!r}, which is not in parameters"
        self._tools[name] = replace(tool, description=section.description or listed.description)
        return ""


def _run_of(tool: Tool, info: CallInfo, action: RunTool, key: str) -> Run:
    context = ToolContext(info.call_id, info.user, info.bucket, info.purpose, key, 1)
    return Run(tool, dict(action.arguments), context)


async def _attempts(runner: Runner, run: Run) -> ToolOutcome:
    """Tries within the tool's timeout, again only where that is safe."""
    tool, doubt = run.tool, False

    def again(state: RetryCallState) -> bool:
        nonlocal doubt
        error = state.outcome.exception() if state.outcome is not None else None
        doubt = doubt or isinstance(error, Doubtful)
        if isinstance(error, NotSent):
            return True
        return isinstance(error, Doubtful) and (tool.honours_key or not tool.mutating)

    retrying = AsyncRetrying(
        stop=stop_after_attempt(ATTEMPTS), retry=again, wait=wait_random(*PAUSE_S), reraise=True
    )
    run_now = run
    try:
        async with asyncio.timeout(tool.timeout_s):
            async for attempt in retrying:
                with attempt:
                    number = attempt.retry_state.attempt_number
                    run_now = Run(tool, run.arguments, replace(run.context, attempt=number))
                    return ToolOutcome(Result.DONE, await runner(run_now))
        raise AssertionError("tenacity either returns or raises")
    except ToolError as error:
        return ToolOutcome(Result.FAILED, message=brief(error))
    except (NotSent, Doubtful) as error:
        message = str(error)
    except TimeoutError:
        doubt = run_now.attempt.give_up() or doubt
        message = f"it took longer than {tool.timeout_s:g} s"
    except Exception as error:
        log.exception("the tool %r failed", tool.name)
        doubt = run_now.attempt.give_up() or doubt
        message = type(error).__name__
    return ToolOutcome(Result.UNKNOWN if doubt and tool.mutating else Result.FAILED, message=message)
