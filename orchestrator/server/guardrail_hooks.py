"""How a guardrail is asked: a signed request to a webhook, or a call of a function."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Protocol

import httpx
import orjson

from orchestrator.config_sections import Guardrail
from orchestrator.entry_points import load
from orchestrator.signing import key_of, signed_headers
from tiers.pipeline.worker import Worker

ANSWER_LIMIT = 1 << 20
"""Bytes of a webhook's answer."""
THREADS = 4
"""For functions that are not async: one that hangs keeps its thread, and no more than these."""


class HookFailed(Exception):
    """It gave no answer that counts. The text says why, and holds nothing that was said in the call."""


class Ask(Protocol):
    """Takes what docs/guardrails.md says a hook is sent, gives what it answered. May raise anything."""

    async def __call__(self, question: dict[str, Any]) -> Any: ...

    async def close(self) -> None: ...


def open_hook(settings: Guardrail) -> Ask:
    """The hook of checked settings."""
    if settings.url is not None:
        assert settings.secret is not None
        return Webhook(settings.url, settings.secret.get_secret_value(), settings.timeout_s)
    assert settings.entry_point is not None
    return Function(load(settings.entry_point))


class Webhook:
    """Asked by POST; its connections are kept."""

    def __init__(self, url: str, secret: str, timeout_s: float) -> None:
        self._url, self._key = url, key_of(secret)
        self._client = httpx.AsyncClient(timeout=timeout_s, trust_env=False, follow_redirects=False)

    async def __call__(self, question: dict[str, Any]) -> Any:
        body = orjson.dumps(question)
        headers = {"content-type": "application/json", **signed_headers(self._key, body)}
        try:
            async with self._client.stream("POST", self._url, content=body, headers=headers) as response:
                if response.status_code != 200:
                    raise HookFailed(f"expected status 200, got {response.status_code}")
                return orjson.loads(await _read(response))
        except httpx.HTTPError as error:
            raise HookFailed(f"the request failed: {type(error).__name__}") from error
        except orjson.JSONDecodeError:
            raise HookFailed("expected JSON, got something else") from None

    async def close(self) -> None:
        await self._client.aclose()


async def _read(response: httpx.Response) -> bytes:
    read = bytearray()
    async for piece in response.aiter_bytes():
        read += piece
        if len(read) > ANSWER_LIMIT:
            raise HookFailed(f"expected at most {ANSWER_LIMIT} bytes")
    return bytes(read)


class Function:
    """A function of the operator's own; one that is not async runs in a thread, off the event loop."""

    def __init__(self, function: Callable[[Mapping[str, Any]], Any]) -> None:
        self._function = function
        called = getattr(function, "__call__", None)  # noqa: B004  (an object may have an async one)
        self._is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)
        self._threads = Worker("guardrail", THREADS)

    async def __call__(self, question: dict[str, Any]) -> Any:
        try:
            if self._is_async:
                made: Awaitable[Any] = self._function(question)
                return await made
            return await self._threads.run(partial(self._function, question))
        except Exception as error:
            raise HookFailed(f"it raised {type(error).__name__}") from error

    async def close(self) -> None:
        self._threads.close()
