"""Importing LiteLLM without anybody noticing.

The import takes 5 to 10 seconds of CPU, and the first call, the first tool and the first failure import hundreds of
modules more, inside the call and therefore on the event loop. So all of it is rehearsed once, in a thread, on an
event loop of its own, without any provider.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from threading import Lock
from typing import Any

_NOWHERE = "http://127.0.0.1:1/v1"
"""Nothing listens there: the connection is refused at once."""
_HELLO = [{"role": "user", "content": "hello"}]
_TOOL = {"type": "function", "function": {"name": "t", "parameters": {"type": "object", "properties": {}}}}

_loading = Lock()
_rehearsed: set[str] = set()


def load(*, hosted: bool) -> Any:
    """The `litellm` module, ready for use. Call it in a thread. `hosted`: providers over HTTP are used, too."""
    with _loading:
        litellm = _import()
        if "stream" not in _rehearsed:
            asyncio.run(_rehearse_stream(litellm))
            _rehearsed.add("stream")
        if hosted and "hosted" not in _rehearsed:
            asyncio.run(_rehearse_failure(litellm))
            _rehearsed.add("hosted")
    return litellm


def _import() -> Any:
    """Configured: no price map from the network, no .env files, no callbacks, no advertising on stdout."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_MODE", "PRODUCTION")
    import litellm

    litellm.telemetry = False
    litellm.suppress_debug_info = True
    litellm.drop_params = True
    return litellm


async def _rehearse_stream(litellm: Any) -> None:
    """A streamed answer from a provider that is a function, and its price."""

    class Rehearsal(litellm.CustomLLM):  # type: ignore[misc]
        async def astreaming(self, *args: Any, **kwargs: Any) -> AsyncIterator[dict[str, Any]]:
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            chunk = {"text": "hello", "tool_use": None, "is_finished": False, "finish_reason": "", "index": 0}
            yield {**chunk, "usage": None}
            yield {**chunk, "text": "", "is_finished": True, "finish_reason": "stop", "usage": usage}

    providers = litellm.custom_provider_map
    litellm.custom_provider_map = [*providers, {"provider": "rehearsal", "custom_handler": Rehearsal()}]
    try:
        stream = await litellm.acompletion(
            model="rehearsal/x", messages=_HELLO, stream=True, stream_options={"include_usage": True}
        )
        async for _ in stream:
            pass
    finally:
        litellm.custom_provider_map = providers
    usage = litellm.Usage(prompt_tokens=1, completion_tokens=1)
    litellm.completion_cost(completion_response=litellm.ModelResponse(usage=usage), model="gpt-4.1-mini")


async def _rehearse_failure(litellm: Any) -> None:
    """A request with a tool, over HTTP, to where nobody is."""
    with contextlib.suppress(Exception):  # to fail is what it is for
        await litellm.acompletion(
            model="openai/rehearsal",
            api_key="none",
            api_base=_NOWHERE,
            messages=_HELLO,
            tools=[_TOOL],
            stream=True,
            num_retries=0,
            max_retries=0,
            timeout=2,
        )
