"""How large, how slow and how deep a request may be, all of it found out before anything is done with it.

`RequestLimits` is middleware: it reads a body, within its limits, and hands on what it read. `http_protocol` makes
uvicorn's own protocol keep to limits of the part before the body, which httptools would read for ever.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as AsgiScope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from orchestrator.access_sections import Limits
from orchestrator.server.api_errors import ApiError

MANY_BRACKETS = 4_000
"""More than these are counted in a thread, so that no call waits for it."""
LINGER_S = 2.0
LINGER_BYTES = 8 * 1024 * 1024
"""How long, and how much, is read of a body that was refused: a client that is still sending would not see why."""

# A text that does not end goes on to the end of the body: looked for again at each of its quotation marks, it would
# take the square of its length.
_BRACKETS = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[{\]}]', re.DOTALL)


class RequestLimits:
    """ASGI middleware. `wrong_status(path)` is what the path answers to a request that is not as it should be."""

    def __init__(self, app: ASGIApp, limits: Limits, wrong_status: Callable[[str], int]) -> None:
        self._app, self._limits, self._wrong_status = app, limits, wrong_status

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        length = _length(scope) if scope["type"] == "http" else 0
        if length == 0:
            await self._app(scope, receive, send)
            return
        try:
            if length is not None and length > self._limits.body_bytes:
                raise self._too_large()
            async with asyncio.timeout(self._limits.request_s):
                messages = await self._read(receive)
            if await self._is_too_deep(messages):
                raise self._too_deep(scope)
        except TimeoutError:
            await _answer(self._too_slow(), scope, send)
        except ApiError as error:
            await _answer(error, scope, send, receive)
        else:
            await self._app(scope, _again(messages, receive), send)

    async def _read(self, receive: Receive) -> list[Message]:
        """All of the body, or what came of it before the client went. Raises `ApiError`."""
        messages, size = [await receive()], 0
        while True:
            size += len(messages[-1].get("body", b""))
            if size > self._limits.body_bytes:
                raise self._too_large()
            if not messages[-1].get("more_body"):
                return messages
            messages.append(await receive())

    async def _is_too_deep(self, messages: list[Message]) -> bool:
        most = self._limits.json_depth
        pieces = [message.get("body", b"") for message in messages]
        brackets = sum(piece.count(b"[") + piece.count(b"{") for piece in pieces)
        if brackets <= most:
            return False
        body = b"".join(pieces)
        if brackets <= MANY_BRACKETS:
            return is_deeper(body, most)
        return await asyncio.to_thread(is_deeper, body, most)

    def _too_large(self) -> ApiError:
        most = self._limits.body_bytes
        message = f"the body has more than {most:,} bytes (limits.body_bytes); send less at once"
        return ApiError(413, "request_too_large", message, headers={"Connection": "close"})

    def _too_slow(self) -> ApiError:
        message = (
            f"the body was not there after {self._limits.request_s:g} s (limits.request_s); send it at once"
        )
        return ApiError(408, "request_timeout", message, headers={"Connection": "close"})

    def _too_deep(self, scope: AsgiScope) -> ApiError:
        most = self._limits.json_depth
        message = f"body: expected JSON nested at most {most} deep (limits.json_depth); send it flatter"
        return ApiError(self._wrong_status(scope["path"]), "too_nested", message, "body")


def is_deeper(body: bytes, most: int) -> bool:
    """Whether JSON has more than `most` arrays and objects within each other. Of what is no JSON anything may come."""
    depth = 0
    for found in _BRACKETS.finditer(body):
        if found[0] in (b"[", b"{"):
            depth += 1
            if depth > most:
                return True
        elif found[0] in (b"]", b"}"):
            depth -= 1
    return False


def _length(scope: AsgiScope) -> int | None:
    """How many bytes a request's body is said to have; None where that is not said, as in one that comes in chunks."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else None
        if name == b"transfer-encoding":
            return None
    return 0


def _again(messages: list[Message], receive: Receive) -> Receive:
    """A `receive` that gives the messages once more, and then what comes."""
    messages = messages[::-1]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again


async def _answer(error: ApiError, scope: AsgiScope, send: Send, rest: Receive | None = None) -> None:
    """Answers, and goes on reading for a little where there is a `rest` of the body."""
    response = error.response()
    await send({"type": "http.response.start", "status": error.status, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": rest is not None})
    if rest is None:
        return
    left, more = LINGER_BYTES, True
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while more and left > 0:
                message = await rest()
                left -= len(message.get("body", b""))
                more = bool(message.get("more_body"))
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def http_protocol(limits: Limits) -> type[asyncio.Protocol]:
    """The class that uvicorn's ``http`` setting wants."""
    return type("LimitedProtocol", (_LimitedProtocol,), {"limits": limits})


class _HeadRefused(Exception):
    """The part before the body is not as it may be."""


class _LimitedProtocol(HttpToolsProtocol):
    """One connection of uvicorn's, with limits for the part before the body, and errors in the API's shape."""

    limits: Limits

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = False
        self._began = False
        self._size = 0
        self._refusal: ApiError | None = None
        self._lingering: int | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._lingering is not None:
            self._lingering -= len(data)
            if self._lingering < 0:
                self.transport.close()
            return
        self._began = False
        super().data_received(data)
        # What the parser holds back of a header that does not end. Not counted: what came together with the
        # request's beginning, which may be the body of the request before it.
        if self._in_head and not self._began and self._lingering is None:
            self._size += len(data)
            if self._size > self.limits.header_bytes:
                self._refusal = self._headers_too_large()
                self.send_400_response("")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._began, self._size = True, True, 0
        self._wait()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self.limits.url_bytes:
            most = self.limits.url_bytes
            message = f"the address has more than {most:,} bytes (limits.url_bytes); send a shorter one"
            self._refuse(ApiError(414, "url_too_long", message))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._size += len(name) + len(value)
        if self._size > self.limits.header_bytes:
            self._refuse(self._headers_too_large())
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_waiting()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls for a request that it cannot read, whoever found that out."""
        message = "this is no HTTP request as RFC 9112 has them; correct that, or use an HTTP library"
        error = self._refusal or ApiError(400, "bad_http", message)
        body = orjson.dumps(error.body)
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(
            body
        )
        self._stop_waiting()
        self._lingering = LINGER_BYTES
        self._timer = self.loop.call_later(LINGER_S, self.transport.close)
        self.transport.write(STATUS_LINE[error.status] + head + body)
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _headers_too_large(self) -> ApiError:
        most = self.limits.header_bytes
        message = (
            f"the headers have more than {most:,} bytes (limits.header_bytes); send fewer, or shorter ones"
        )
        return ApiError(431, "headers_too_large", message)

    def _refuse(self, error: ApiError) -> None:
        """Raises what makes the parser stop."""
        self._refusal = error
        raise _HeadRefused

    def _wait(self) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(self.limits.request_s, self._too_slow)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if not self._in_head:
            self.transport.close()  # nothing was asked, so that nothing is answered
            return
        limit = f"{self.limits.request_s:g} s (limits.request_s)"
        self._refusal = ApiError(
            408, "request_timeout", f"the request was not there after {limit}; send it at once"
        )
        self.send_400_response("")
