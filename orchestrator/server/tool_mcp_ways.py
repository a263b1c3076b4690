"""The ways to MCP servers, watched.

The SDK says "connection closed" whether a request had left or not. For a change that is all the difference:
`Watched` sees each message leave, and `_Reaching` sees that there was no connection.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import httpx2
from mcp import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from orchestrator.server.tool_runners import CONNECT_S
from orchestrator.tool_sections import McpSection

NOT_REACHED, FORGOTTEN = -32099, -32098
"""Error codes of ours: a request found no connection; its session is unknown to the server, maybe a new one."""


def way_to(section: McpSection) -> AbstractAsyncContextManager[Any]:
    """The SDK's transport to a server: a command that is started, or an address."""
    if section.url is not None:
        return _http(section.url, section.api_key.get_secret_value() if section.api_key else "")
    env = {name: value.get_secret_value() for name, value in section.env.items()}
    command = StdioServerParameters(command=section.command or "", args=list(section.args), env=env)
    # The standard error of this moment: a test's or a supervisor's may have come since the SDK was imported.
    return stdio_client(command, errlog=sys.stderr)


@asynccontextmanager
async def _http(url: str, api_key: str) -> AsyncIterator[Any]:
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    # No connection is kept: one that died unnoticed would leave open whether a request has arrived.
    transport = _Reaching(limits=httpx2.Limits(max_keepalive_connections=0), trust_env=False)
    timeout = httpx2.Timeout(None, connect=CONNECT_S)
    async with (
        httpx2.AsyncClient(transport=transport, headers=headers, timeout=timeout) as http,
        streamable_http_client(url, http_client=http) as streams,
    ):
        yield streams


class _Reaching(httpx2.AsyncHTTPTransport):
    """Answers for a server that cannot be reached, so that the request fails and the session does not.

    It also tells apart what the SDK does not: a 404 to a request with a session means, by the protocol, that the
    session is gone and nothing was done; servers put it in various words.
    """

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            response = await super().handle_async_request(request)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            return _error(request, NOT_REACHED, f"no connection ({type(error).__name__})")
        if response.status_code == 404 and "mcp-session-id" in request.headers:
            await response.aclose()
            return _error(request, FORGOTTEN, "the session is unknown")
        return response


def _error(request: httpx2.Request, code: int, message: str) -> httpx2.Response:
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
    return httpx2.Response(503, json=body, request=request)


class Watched:
    """A transport whose messages are seen as they leave, and whose end is noticed."""

    def __init__(
        self,
        transport: AbstractAsyncContextManager[Any],
        leaves: Callable[[Any], None],
        ended: Callable[[], None],
    ) -> None:
        self._transport, self._leaves, self._ended = transport, leaves, ended

    async def __aenter__(self) -> tuple[_Read, _Write]:
        read, write = await self._transport.__aenter__()
        return _Read(read, self._ended), _Write(write, self._leaves)

    async def __aexit__(self, *error: Any) -> bool | None:
        return await self._transport.__aexit__(*error)


class _Stream:
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.aclose()


class _Read(_Stream):
    def __init__(self, stream: Any, ended: Callable[[], None]) -> None:
        super().__init__(stream)
        self._ended = ended

    @property
    def last_context(self) -> Any:
        return getattr(self._stream, "last_context", None)

    async def receive(self) -> Any:
        try:
            return await self._stream.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            self._ended()
            raise

    def __aiter__(self) -> _Read:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None


class _Write(_Stream):
    def __init__(self, stream: Any, leaves: Callable[[Any], None]) -> None:
        super().__init__(stream)
        self._leaves = leaves

    async def send(self, item: Any) -> None:
        self._leaves(item.message)
        await self._stream.send(item)
