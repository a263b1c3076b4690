"""An OpenAI-compatible text model: `/v1/chat/completions`, `/v1/models`, and `/control/*` for faults.

What it says is scripted, the same rules as the realtime simulator's (`brain`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from orchestrator.simulate.brain import Brain
from orchestrator.simulate.control import control_routes, manners_route
from orchestrator.simulate.dialogue import Call, Heard, Noted, Question, Returned, Say, of_chat
from orchestrator.simulate.fault_board import FaultBoard
from orchestrator.simulate.http_faults import CATALOGUE, StreamFault, error, struck
from orchestrator.simulate.serving import running
from orchestrator.simulate.streaming import Stream, bearer
from orchestrator.simulate.usage import text_tokens

KEPT_REQUESTS = 1000
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_TOKEN = re.compile(r"\s*\S+")
_ARGUMENT_PART = 12


@dataclass(frozen=True, slots=True)
class Options:
    """How the server behaves."""

    brain: Brain
    first_token_ms: int = 150
    tokens_per_second: float = 100.0
    api_key: str | None = field(default=None, repr=False)
    """The only bearer taken; None takes any, or none at all."""
    models: tuple[str, ...] = ()
    """The models that exist; every one does where this is empty."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What a request is answered with: words, or one tool call, cut where the token limit says so."""

    id: str
    model: str
    text: str
    call: Call | None
    finish_reason: str
    prompt_tokens: int

    @property
    def arguments(self) -> str:
        return json.dumps(self.call.arguments) if self.call is not None else ""

    @property
    def usage(self) -> dict[str, int]:
        out = text_tokens(self.text + self.arguments)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": out,
            "total_tokens": self.prompt_tokens + out,
        }


class LlmSimulator:
    """The server's state. Serve `app`, or use `async with simulator.start()`."""

    def __init__(self, options: Options, board: FaultBoard | None = None) -> None:
        self.options = options
        self.faults = board or FaultBoard()
        self.requests: deque[dict[str, Any]] = deque(maxlen=KEPT_REQUESTS)
        self.app = Starlette(
            routes=[
                Route("/v1/chat/completions", self._complete, methods=["POST"]),
                Route("/v1/models", self._models),
                manners_route(options.brain),
                *control_routes(self.faults, CATALOGUE, self.state),
            ]
        )

    @contextlib.asynccontextmanager
    async def start(self, port: int = 0) -> AsyncIterator[str]:
        """Serve on loopback in this event loop; gives the origin."""
        async with running(self.app, port=port) as origin:
            yield origin

    def state(self) -> dict[str, Any]:
        return {"requests": list(self.requests)}

    async def _models(self, request: Request) -> Response:
        names = self.options.models or ("simulated",)
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "simulator"} for name in names]
        return JSONResponse({"object": "list", "data": data})

    async def _complete(self, request: Request) -> Response:
        if self.options.api_key is not None and bearer(request) != self.options.api_key:
            return error(401, "invalid_api_key", "Incorrect API key provided.")
        try:
            body = await request.json()
        except ValueError as wrong:
            return error(400, "invalid_json", f"The body is not JSON: {wrong}")
        self.requests.append(body)
        refusal = _unfit(body) or await self._refused(str(body["model"]))
        if refusal is not None:
            return refusal
        completion = self._answer(body)
        if body.get("stream"):
            usage = bool((body.get("stream_options") or {}).get("include_usage"))
            return Stream(self._stream(completion, usage), "text/event-stream")
        await asyncio.sleep(self.options.first_token_ms / 1000 + self._seconds(completion))
        return JSONResponse(_whole(completion))

    async def _refused(self, model: str) -> Response | None:
        if self.options.models and model not in self.options.models:
            return error(404, "model_not_found", f"The model '{model}' does not exist.", "model")
        return await struck(self.faults, model)

    def _seconds(self, completion: Completion) -> float:
        return completion.usage["completion_tokens"] / self.options.tokens_per_second

    def _answer(self, body: dict[str, Any]) -> Completion:
        reply = self.options.brain.reply(_question(body))
        text = " ".join(reply.sentences) if isinstance(reply, Say) else ""
        call = reply if isinstance(reply, Call) else None
        finish = "tool_calls" if call is not None else "stop"
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        if limit is not None and text_tokens(text) > limit:
            text, finish = text[: limit * 4], "length"
        prompt = text_tokens(json.dumps([body["messages"], body.get("tools")]))
        return Completion(f"chatcmpl-{secrets.token_hex(12)}", str(body["model"]), text, call, finish, prompt)

    async def _stream(self, completion: Completion, usage: bool) -> AsyncGenerator[bytes, None]:
        fault = StreamFault(self.faults, completion.model)
        await asyncio.sleep(self.options.first_token_ms / 1000)
        for delta in _deltas(completion):
            if await fault.before_chunk():
                yield b'data: {"id": "chatcmpl-broken", "choices": [{"delta": {\n\n'
            yield _sse(_chunk(completion, delta, None))
            await asyncio.sleep(fault.slowness / self.options.tokens_per_second)
        await fault.before_chunk()
        yield _sse(_chunk(completion, {}, completion.finish_reason))
        if usage:
            yield _sse({**_chunk(completion, None, None), "usage": completion.usage})
        yield b"data: [DONE]\n\n"


def _unfit(body: Any) -> Response | None:
    """Why a request is refused, as far as its shape goes."""
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        return error(400, "missing_required_parameter", "Missing required parameter: 'model'.", "model")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return error(
            400, "invalid_value", "Invalid 'messages': expected a list with a message in it.", "messages"
        )
    for number, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ROLES:
            told = f"Invalid 'messages[{number}].role': {role!r}. Supported values are: {', '.join(ROLES)}."
            return error(400, "invalid_value", told, f"messages[{number}].role")
    if body.get("n") not in (None, 1):
        return error(400, "invalid_value", "Only n=1 is supported here.", "n")
    return None


def _question(body: dict[str, Any]) -> Question:
    tools = [
        {"type": "function", **tool["function"]}
        for tool in body.get("tools") or []
        if tool.get("type") == "function"
    ]
    choice = body.get("tool_choice") or "auto"
    if isinstance(choice, dict):
        choice = {"type": "function", **choice.get("function", {})}
    past = of_chat(body["messages"])
    asked = next((entry for entry in reversed(past) if isinstance(entry, Heard | Returned)), None)
    told = [entry.words for entry in past if isinstance(entry, Noted)]
    heard = asked.words if isinstance(asked, Heard) else None
    output = asked.output if isinstance(asked, Returned) else None
    return Question(heard, output, tools, choice, past, told[-1] if told else "")


def _tool_call(completion: Completion, arguments: str) -> dict[str, Any]:
    assert completion.call is not None
    function = {"name": completion.call.name, "arguments": arguments}
    return {"id": f"call_{completion.id[-12:]}", "type": "function", "function": function}


def _deltas(completion: Completion) -> list[dict[str, Any]]:
    """The `delta` of each chunk but the last."""
    if completion.call is None:
        words = [{"content": word} for word in _TOKEN.findall(completion.text)]
        return [{"role": "assistant", "content": ""}, *words]
    first = {"role": "assistant", "content": None, "tool_calls": [{"index": 0, **_tool_call(completion, "")}]}
    arguments = completion.arguments
    parts = [arguments[start : start + _ARGUMENT_PART] for start in range(0, len(arguments), _ARGUMENT_PART)]
    return [first, *({"tool_calls": [{"index": 0, "function": {"arguments": part}}]} for part in parts)]


def _chunk(completion: Completion, delta: dict[str, Any] | None, finish: str | None) -> dict[str, Any]:
    """One chunk; without a delta the one that carries usage alone."""
    choices = (
        [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}] if delta is not None else []
    )
    return {
        "id": completion.id,
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": completion.model,
        "choices": choices,
    }


def _whole(completion: Completion) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": completion.text or None, "refusal": None}
    if completion.call is not None:
        message["tool_calls"] = [_tool_call(completion, completion.arguments)]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": completion.finish_reason}
    return {
        "id": completion.id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": completion.model,
        "choices": [choice],
        "usage": completion.usage,
    }


def _sse(event: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(event)}\n\n".encode()
