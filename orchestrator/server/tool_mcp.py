"""Tools of MCP servers, through the official SDK: one session to each server, opened again when it dies.

What is known of a request that failed comes from the ways to a server, which `tool_mcp_ways.py` watches.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass
from typing import Any

from mcp import Client, MCPError
from mcp.types import (
    CONNECTION_CLOSED,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    CallToolResult,
    Implementation,
    TextContent,
)

from orchestrator.core.redaction import Redactor
from orchestrator.server.known_secrets import secrets_of
from orchestrator.server.link import end_tasks
from orchestrator.server.tool_mcp_ways import FORGOTTEN, NOT_REACHED, Watched, way_to
from orchestrator.server.tool_runners import Attempt, Doubtful, NotSent, Run, brief, jsonable
from orchestrator.tool_sections import McpSection
from orchestrator.tooling import ToolError

log = logging.getLogger(__name__)

META = "voice-orchestrator/"
"""Before the names of what a call of a tool carries in ``_meta``."""
ATTEMPT = META + "attempt_id"
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 30.0
CLOSE_S = 10.0
"""Seconds for a session to end in."""
PAGES = 100
"""Pages of a server's list of tools that are read."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A tool as its server lists it. `changes`: None where it does not say."""

    description: str
    schema: Mapping[str, Any]
    changes: bool | None


class McpServer:
    """`on_list` is called whenever a session was opened and its tools are known."""

    def __init__(self, name: str, section: McpSection, on_list: Callable[[McpServer], None]) -> None:
        self.name = name
        self.tools: Mapping[str, Listed] | None = None
        """None until it has said."""
        self.problem = "it has not been reached yet"
        """Why there is no session; empty where there is one."""
        self._section = section
        self._without_secrets = Redactor((), secrets_of(section)).text
        self._on_list = on_list
        self._client: Client | None = None
        self._changed, self._wanted, self._lost = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._failures, self._closing = 0, False
        self._attempts: dict[str, Attempt] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when there is a session, or the first try has failed; it goes on trying."""
        self._task = asyncio.create_task(self._serve(), name=f"mcp {self.name}")
        with suppress(NotSent):
            await self._session()

    async def close(self) -> None:
        """Ends the session in good order: a command is given the time to end by itself."""
        if self._task is None:
            return
        self._closing = True
        if self._client is None:
            self._task.cancel()
        self._lost.set()
        # Cancelled again and again, as `end_tasks` does it, the SDK would leave the command behind.
        await asyncio.wait({self._task}, timeout=CLOSE_S)
        await end_tasks([self._task])

    def runner(self, tool: str) -> McpTool:
        return McpTool(self, tool)

    async def call(self, tool: str, run: Run) -> Any:
        """One attempt, as `tool_runners` has them."""
        client = await self._session()
        token = uuid.uuid4().hex
        self._attempts[token] = run.attempt
        try:
            result = await client.call_tool(tool, dict(run.arguments), meta=_meta(run, token))
        except MCPError as error:
            raise self._meaning(error, run.attempt, client) from error
        except (NotSent, Doubtful):
            raise
        except Exception as error:
            raise (Doubtful if run.attempt.begun else NotSent)(
                f"the MCP server's answer failed: {type(error).__name__}"
            ) from error
        finally:
            del self._attempts[token]
        return _output(tool, result)

    # --- the session ---

    async def _session(self) -> Client:
        """The session; one that is opened now, if there is none. Raises `NotSent` if that fails."""
        failures = self._failures
        while self._client is None:
            if self._failures > failures:
                raise NotSent(f"the MCP server {self.name!r} is away: {self.problem}")
            self._wanted.set()
            await self._changed.wait()
        return self._client

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE_S
        while not self._closing:
            began = loop.time()
            self._lost.clear()
            self._wanted.clear()
            try:
                await self._hold()
                self.problem = "the connection was lost"
            except Exception as error:
                self.problem = self._without_secrets(_reason(error))
                self._failures += 1
            finally:
                self._client = None
                self._change()
            if self._closing:
                return
            log.warning("the MCP server %r is away: %s", self.name, self.problem)
            if loop.time() - began > LONGEST_PAUSE_S:
                pause = FIRST_PAUSE_S
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wanted.wait()
            pause = min(pause * 2, LONGEST_PAUSE_S)

    async def _hold(self) -> None:
        """A session from its beginning until it is lost."""
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._section.connect_s):
                    transport = Watched(way_to(self._section), self._leaves, self._lost.set)
                    ours = Implementation(name="voice-orchestrator", version="1")
                    client = Client(transport, cache=None, client_info=ours)
                    await stack.enter_async_context(client)
                    self.tools = await _listed(client)
            except TimeoutError:
                raise NotSent(f"it took longer than {self._section.connect_s:g} s to start") from None
            self._on_list(self)
            self._client, self.problem = client, ""
            self._change()
            await self._lost.wait()

    def _change(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _leaves(self, message: Any) -> None:
        """A message is about to leave; raises `NotSent` where it shall not."""
        params = getattr(message, "params", None) or {}
        attempt = self._attempts.get((params.get("_meta") or {}).get(ATTEMPT, ""))
        if attempt is not None and getattr(message, "method", "") == "tools/call":
            attempt.begin()

    def _drop(self, client: Client) -> None:
        """Nothing can be called in this session any more: the next call opens another one."""
        if self._client is client:
            self._client = None
            self._lost.set()

    def _meaning(self, error: MCPError, attempt: Attempt, client: Client) -> Exception:
        message = brief(error.message)
        if error.code == CONNECTION_CLOSED and not attempt.begun:
            self._drop(client)
        if error.code == NOT_REACHED or not attempt.begun:
            return NotSent(f"the MCP server {self.name!r} is away: {message}")
        if error.code == FORGOTTEN:
            self._drop(client)
            return NotSent(f"the MCP server {self.name!r} has forgotten the session")
        if error.code in (INVALID_PARAMS, METHOD_NOT_FOUND):
            return ToolError(message)
        return Doubtful("the connection was lost" if error.code == CONNECTION_CLOSED else message)


class McpTool:
    """One tool of a server, as a `Runner`."""

    def __init__(self, server: McpServer, tool: str) -> None:
        self._server, self._tool = server, tool

    async def __call__(self, run: Run) -> Any:
        return await self._server.call(self._tool, run)


def _meta(run: Run, token: str) -> Any:
    told = asdict(run.context)
    return {ATTEMPT: token, **{META + name: value for name, value in told.items()}}


async def _listed(client: Client) -> dict[str, Listed]:
    found: dict[str, Listed] = {}
    cursor: str | None = None
    for _ in range(PAGES):
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            read_only = tool.annotations.read_only_hint if tool.annotations else None
            changes = None if read_only is None else not read_only
            found[tool.name] = Listed(tool.description or "", tool.input_schema, changes)
        cursor = page.next_cursor
        if cursor is None:
            break
    return found


def _output(tool: str, result: CallToolResult) -> Any:
    """The tool's result: structured if it gives one, else its text, as JSON where it is that."""
    texts = [block.text for block in result.content if isinstance(block, TextContent)]
    told = result.structured_content
    if result.is_error:
        message = brief(" ".join(texts)) or "it failed"
        ran = told.get("ran") if isinstance(told, Mapping) else None
        # So the SDK's own servers report an exception that the tool did not mean to raise.
        if ran is True or (ran is None and message == f"Error executing tool {tool}"):
            raise Doubtful(message)
        raise ToolError(message)
    if told is not None:
        return jsonable(told)
    if len(texts) == 1:
        with suppress(ValueError, RecursionError):
            return json.loads(texts[0])
    return "\n".join(texts) if texts else None


def _reason(error: BaseException) -> str:
    """Of the first thing that went wrong, in a few words."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, NotSent):
        return str(error)
    detail = error.message if isinstance(error, MCPError) else getattr(error, "strerror", None)
    return f"{type(error).__name__}: {brief(detail)}" if detail else type(error).__name__
