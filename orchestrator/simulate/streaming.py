"""HTTP answers that can break off: bodies sent piece by piece, reset or silent where a fault says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from orchestrator.simulate.sockets import reset


class Cut(Exception):
    """Raised inside a streamed body: the connection is reset here."""


async def forever() -> None:
    """Never comes back; ends with the task that waits for it."""
    await asyncio.Event().wait()


def hang_up(scope: Scope) -> None:
    """Reset the TCP connection that a request came on."""
    for connection in list(scope["app"].state.connections):
        if getattr(connection, "client", None) == scope["client"]:
            reset(connection.transport)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class HangUp(Response):
    """No answer at all: the connection is reset."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hang_up(scope)
        await _disconnected(receive)


class Silence(Response):
    """No answer at all, with the connection left open."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _disconnected(receive)


class Stream(Response):
    """A body sent as `parts` come, until the client goes away. `Cut` raised in it resets the connection."""

    def __init__(self, parts: AsyncGenerator[bytes, None], media_type: str) -> None:
        self._parts = parts
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self.init_headers({"cache-control": "no-cache"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and isinstance(sending.exception(), Cut):
                hang_up(scope)
                await leaving
            elif sending.done():
                sending.result()
        finally:
            for task in (sending, leaving):
                task.cancel()

    async def _send(self, send: Send) -> None:
        head: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        async with aclosing(self._parts) as parts:
            async for part in parts:
                if head:
                    await send(head)
                    head = {}
                await send({"type": "http.response.body", "body": part, "more_body": True})
        if head:
            await send(head)
        await send({"type": "http.response.body", "body": b""})


def bearer(request: Request) -> str | None:
    """The request's bearer token."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None
