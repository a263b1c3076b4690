"""Where tools run: webhooks of the calling service, and functions of one's own. MCP servers are in `tool_mcp.py`.

A runner makes one attempt. It returns what the tool returned, or raises what is known of the failure:

    ToolError    the tool did nothing, and says so
    NotSent      nothing was sent, so that it may be tried again
    Doubtful     it may have run
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from threading import Lock
from typing import Any, Protocol

import httpx

from orchestrator.core.tools import Tool
from orchestrator.entry_points import load
from orchestrator.signing import signed_headers
from orchestrator.tooling import ToolContext, ToolError
from tiers.pipeline.worker import Worker

log = logging.getLogger(__name__)

BODY_LIMIT = 1 << 18
"""Bytes of a webhook's answer."""
MESSAGE_LIMIT = 200
"""Characters of what a tool says of its failure."""
CONNECT_S = 3.0
"""Nothing is sent before a connection is there: to wait long for one only takes time from the next attempt."""
THREADS = 16
"""For functions that are not async: one that hangs keeps its thread, and no more than these."""
CONTEXT = "context"
"""Parameter of a function that gets the `ToolContext`."""


class NotSent(Exception):
    """The request did not leave: the tool knows nothing of it."""


class Doubtful(Exception):
    """The tool may have run, or not."""


class Attempt:
    """Whether a request has left. It leaves once, and not at all after it was given up; for any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._begun = self._given_up = False

    @property
    def begun(self) -> bool:
        return self._begun

    def begin(self) -> None:
        """It leaves now. Raises `NotSent` if nobody waits for it any more."""
        with self._lock:
            if self._given_up:
                raise NotSent("it was given up before it began")
            self._begun = True

    def give_up(self) -> bool:
        """It does not leave any more; True if it has."""
        with self._lock:
            self._given_up = True
            return self._begun


@dataclass(frozen=True, slots=True)
class Run:
    tool: Tool
    arguments: Mapping[str, Any]
    context: ToolContext
    attempt: Attempt = field(default_factory=Attempt)


class Runner(Protocol):
    async def __call__(self, run: Run) -> Any: ...


def brief(text: object) -> str:
    """One line of a tool's own words, for people."""
    return " ".join(str(text).split())[:MESSAGE_LIMIT]


# Webhooks


def open_client(*, mutating: bool) -> httpx.AsyncClient:
    """For the webhooks of all tools of a kind: one takes 40 ms to make."""
    # A kept connection may be dead without our knowing. What is sent on it may have arrived or not, which
    # for a change must not be left open: each has a connection of its own.
    limits = httpx.Limits(max_keepalive_connections=0 if mutating else 10)
    timeout = httpx.Timeout(None, connect=CONNECT_S)
    return httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=False, follow_redirects=False)


class Webhook:
    """Asks a tool by POST. `key` signs the requests; None where they go to this machine and are not signed."""

    def __init__(self, url: str, key: bytes | None, client: httpx.AsyncClient) -> None:
        self._url, self._key, self._client = url, key, client

    async def __call__(self, run: Run) -> Any:
        body = _question(run)
        headers = {
            "content-type": "application/json",
            # What is packed may unpack to any size.
            "accept-encoding": "identity",
            "idempotency-key": run.context.idempotency_key,
        }
        if self._key is not None:
            headers |= signed_headers(self._key, body, message_id=run.context.idempotency_key)

        async def watch(event: str, _: Any) -> None:
            if event.endswith("send_request_headers.started"):
                run.attempt.begin()

        try:
            async with self._client.stream(
                "POST", self._url, content=body, headers=headers, extensions={"trace": watch}
            ) as response:
                return judge(response.status_code, await _read(response))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = f"the request failed: {type(error).__name__}"
            raise (Doubtful if run.attempt.begun else NotSent)(reason) from error


def _question(run: Run) -> bytes:
    call = asdict(run.context)
    told = {
        "tool": run.tool.name,
        "arguments": dict(run.arguments),
        "idempotency_key": call.pop("idempotency_key"),
        "attempt": call.pop("attempt"),
        "call": call,
    }
    try:
        return json.dumps(told, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, TypeError):  # surrogates that are none, NaN
        raise ToolError("the arguments cannot be written as JSON") from None


async def _read(response: httpx.Response) -> bytes | None:
    """The body; None if it is longer than allowed."""
    read = bytearray()
    async for piece in response.aiter_raw():
        read += piece
        if len(read) > BODY_LIMIT:
            return None
    return bytes(read)


def judge(status: int, body: bytes | None) -> Any:
    """What an answer says: the tool's result, or an exception as above. `body` None: too long to be read."""
    told = _parsed(body)
    success = 200 <= status < 300
    if success and not isinstance(told, _Unreadable):
        return told
    ran = told.get("ran") if isinstance(told, Mapping) else None
    if success:
        raise Doubtful(
            f"expected JSON of at most {BODY_LIMIT} bytes with status {status}, got something else"
        )
    message = _message(told) or f"status {status}"
    if ran is False or (400 <= status < 500 and status != 409 and ran is not True):
        raise ToolError(message)
    raise Doubtful(message)


class _Unreadable:
    pass


def _parsed(body: bytes | None) -> Any:
    if body is None:
        return _Unreadable()
    if not body.strip():
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return _Unreadable()


def _message(told: Any) -> str:
    """What an error says of itself, wherever services usually put that."""
    if not isinstance(told, Mapping):
        return ""
    for name in ("error", "message", "detail"):
        found = told.get(name)
        if isinstance(found, Mapping):
            found = found.get("message")
        if isinstance(found, str) and found.strip():
            return brief(found)
    return ""


# Functions


class Function:
    """Calls ``package.module:function`` with the arguments by name; not an async one in a thread."""

    def __init__(self, entry_point: str, threads: Worker) -> None:
        self._function = load(entry_point)
        self._threads = threads
        called = getattr(self._function, "__call__", None)  # noqa: B004  (an object may have an async one)
        self._is_async = any(map(inspect.iscoroutinefunction, (self._function, called)))
        try:
            self._signature: inspect.Signature | None = inspect.signature(self._function)
        except (ValueError, TypeError):
            self._signature = None

    async def __call__(self, run: Run) -> Any:
        arguments = dict(run.arguments)
        if self._signature is not None:
            if CONTEXT in self._signature.parameters:
                arguments.setdefault(CONTEXT, run.context)
            try:
                self._signature.bind(**arguments)
            except TypeError as error:
                raise ToolError(f"the function takes other arguments: {brief(error)}") from None
        if self._is_async:
            run.attempt.begin()
            return jsonable(await _apart(self._function(**arguments)))

        def work() -> Any:
            run.attempt.begin()
            try:
                return self._function(**arguments)
            except ToolError:
                raise
            except BaseException as error:
                raise _raised(error) from error

        result = await self._threads.run(work)
        return jsonable(await _apart(result) if inspect.isawaitable(result) else result)


async def _apart(awaitable: Any) -> Any:
    """In a task of its own, so that what it does to its task is not done to ours."""
    task = asyncio.ensure_future(awaitable)
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        task.cancel()
        raise
    if task.cancelled():
        raise Doubtful("it was cancelled from within")
    error = task.exception()
    if isinstance(error, ToolError):
        raise error
    if error is not None:
        raise _raised(error) from error
    return task.result()


def _raised(error: BaseException) -> Doubtful:
    log.warning("a tool raised %s", type(error).__name__, exc_info=error)
    return Doubtful(f"it raised {type(error).__name__}")


def jsonable(value: Any) -> Any:
    """A result as JSON has it. The tool has run by now: what JSON does not know becomes text, not an error."""
    try:
        return json.loads(json.dumps(value, default=str))
    except (ValueError, TypeError, RecursionError):
        return brief(value)
