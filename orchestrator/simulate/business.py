"""Stands in for the calling service's own backend: a webhook for each tool, `/control/runs`, `/control/*`.

    POST /tools/cancel_order
    Idempotency-Key: …
    webhook-id, webhook-timestamp, webhook-signature     (Standard Webhooks; verified where there is a secret)
    {"tool": "cancel_order", "arguments": {"order_id": "4172"}, "idempotency_key": "…", "attempt": 1,
     "call": {"call_id": "…", "user": "…", "bucket": "…", "purpose": "…"}}

`GET /control/runs` is the business's own log: what has really been done, and how often. `GET /control/settings` are the
orchestrator's settings for these tools.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from jsonschema import Draft202012Validator
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from orchestrator.simulate.business_faults import CATALOGUE, Moment, error, struck
from orchestrator.simulate.business_settings import settings
from orchestrator.simulate.control import control_routes, loopback_only
from orchestrator.simulate.fault_board import FaultBoard
from orchestrator.simulate.records import BusinessTool, Record, Records, Refusal
from orchestrator.simulate.serving import running
from orchestrator.simulate.webhook_signature import refusal

KEPT_REQUESTS = 1000
CALL = ("call_id", "user", "bucket", "purpose")


@dataclass(frozen=True, slots=True)
class Options:
    """How the server behaves."""

    secret: str | None = field(default=None, repr=False)
    """The secret that requests must be signed with (``whsec_…`` or any text); None takes them unsigned."""
    honour_keys: bool = True
    """A repetition with the same idempotency key is given the first answer, and nothing runs again."""
    work_ms: int = 50
    """How long a tool takes."""


@dataclass(frozen=True, slots=True)
class _Asked:
    tool: BusinessTool
    arguments: dict[str, Any]
    key: str
    call: dict[str, Any]
    attempt: int


class _Unfit(Exception):
    """A request that is not a tool call as the orchestrator sends it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.response = error(status, code, message)


class BusinessSimulator:
    """The server's state. Serve `app`, or use `async with simulator.start()`.

    `runs` are what ``GET /control/runs`` shows, oldest first: `number`, `tool`, `mutating`, `arguments`,
    `idempotency_key`, `attempt`, `call`, `outcome` (``done``, or ``refused`` where nothing was changed), `at`
    (seconds of the monotonic clock) and `time`.
    """

    def __init__(self, options: Options = Options(), board: FaultBoard | None = None) -> None:
        self.options = options
        self.faults = board or FaultBoard()
        self.records = Records()
        self.runs: list[Record] = []
        self.requests: deque[Record] = deque(maxlen=KEPT_REQUESTS)
        self._tools = self.records.tools()
        self._answers: dict[str, tuple[str, Record]] = {}
        """By idempotency key: what was asked, and the answer it was given."""
        self._under_way: dict[str, asyncio.Lock] = {}
        self.app = Starlette(
            routes=[
                Route("/tools/{name}", self._call, methods=["POST"]),
                Route("/control/runs", loopback_only(self._show_runs)),
                Route("/control/records", loopback_only(self._forget), methods=["DELETE"]),
                Route("/control/settings", loopback_only(self._show_settings)),
                *control_routes(self.faults, CATALOGUE, self.state),
            ]
        )

    @contextlib.asynccontextmanager
    async def start(self, port: int = 0) -> AsyncIterator[str]:
        """Serve on loopback in this event loop; gives the origin."""
        async with running(self.app, port=port) as origin:
            yield origin

    def state(self) -> Record:
        tools = {
            tool.name: {"mutating": tool.mutating, "parameters": tool.schema} for tool in self._tools.values()
        }
        return {"requests": list(self.requests), "runs": self.runs, "tools": tools}

    async def _show_runs(self, request: Request) -> Response:
        return JSONResponse({"runs": self.runs})

    async def _forget(self, request: Request) -> Response:
        """Orders and appointments are as they were at the start; the log of runs stays."""
        self.records.forget()
        return JSONResponse({"orders": 0, "appointments": 0})

    async def _show_settings(self, request: Request) -> Response:
        origin = f"{request.url.scheme}://{request.url.netloc}"
        told = settings(self._tools.values(), origin, honour_keys=self.options.honour_keys)
        return PlainTextResponse(told)

    async def _call(self, request: Request) -> Response:
        body = await request.body()
        try:
            asked = self._asked(request, body)
        except _Unfit as unfit:
            self._note(request, body, unfit.response.status_code)
            return unfit.response
        response = await self._handle(asked)
        self._note(request, body, response.status_code)
        return response

    def _asked(self, request: Request, body: bytes) -> _Asked:
        secret = self.options.secret
        if secret is not None and (why := refusal(secret, request.headers, body)):
            raise _Unfit(401, "bad_signature", why)
        tool = self._tools.get(request.path_params["name"])
        if tool is None:
            known = ", ".join(self._tools)
            raise _Unfit(
                404, "no_such_tool", f"There is no tool {request.path_params['name']}; there are {known}."
            )
        try:
            told = json.loads(body)
        except ValueError as wrong:
            raise _Unfit(400, "invalid_json", f"The body is not JSON: {wrong}") from None
        if why := _misshapen(told, tool.name, request.headers.get("idempotency-key")):
            raise _Unfit(400, "invalid_request", why)
        return _Asked(tool, told["arguments"], told["idempotency_key"], told["call"], told["attempt"])

    async def _handle(self, asked: _Asked) -> Response:
        instead = await struck(self.faults, Moment.BEFORE_RUN, asked.tool.name)
        if instead is not None:
            return instead
        try:
            answer, replayed = await self._once(asked)
        except Refusal as refused:
            return error(422, refused.code, refused.message)
        instead = await struck(self.faults, Moment.AFTER_RUN, asked.tool.name)
        headers = {"idempotent-replayed": "true"} if replayed else {}
        return instead or JSONResponse(answer, headers=headers)

    async def _once(self, asked: _Asked) -> tuple[Record, bool]:
        """The answer, and whether it was known; with keys honoured, a repetition waits for the first to be done."""
        if not (self.options.honour_keys and asked.tool.mutating):
            return await self._run(asked), False
        wanted = json.dumps([asked.tool.name, asked.arguments], sort_keys=True)
        async with self._under_way.setdefault(asked.key, asyncio.Lock()):
            known = self._answers.get(asked.key)
            if known is None:
                answer = await self._run(asked)
                self._answers[asked.key] = wanted, answer
                return answer, False
        if known[0] != wanted:
            raise Refusal("key_reused", "This idempotency key belongs to another request.")
        return known[1], True

    async def _run(self, asked: _Asked) -> Record:
        await asyncio.sleep(self.options.work_ms / 1000)
        entry = {
            "number": len(self.runs) + 1,
            "tool": asked.tool.name,
            "mutating": asked.tool.mutating,
            "arguments": asked.arguments,
            "idempotency_key": asked.key,
            "attempt": asked.attempt,
            "call": asked.call,
            "outcome": "refused",
            "at": time.monotonic(),
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        self.runs.append(entry)
        for wrong in Draft202012Validator(asked.tool.schema).iter_errors(asked.arguments):
            raise Refusal("invalid_arguments", wrong.message[:200])
        answer = copy.deepcopy(asked.tool.run(asked.arguments))
        entry["outcome"] = "done"
        return answer

    def _note(self, request: Request, body: bytes, status: int) -> None:
        shown = ("idempotency-key", "webhook-id", "webhook-timestamp", "webhook-signature")
        headers = {name: request.headers[name] for name in shown if name in request.headers}
        text = body.decode(errors="replace")
        self.requests.append({"path": request.url.path, "headers": headers, "body": text, "status": status})


def _misshapen(told: Any, tool: str, key_header: str | None) -> str:
    """What is wrong with a request's body, empty where it is as the orchestrator sends it."""
    if not isinstance(told, dict):
        return "Expected a JSON object."
    if told.get("tool") != tool:
        return f"tool: expected {tool!r}, as in the path, not {told.get('tool')!r}."
    if not isinstance(told.get("arguments"), dict):
        return "arguments: expected an object."
    call = told.get("call")
    if not isinstance(call, dict) or any(name not in call for name in CALL):
        return f"call: expected an object with {', '.join(CALL)}."
    attempt = told.get("attempt")
    if isinstance(attempt, bool) or not isinstance(attempt, int) or attempt < 1:
        return f"attempt: expected a whole number from 1, not {attempt!r}."
    key = told.get("idempotency_key")
    if not isinstance(key, str) or not key:
        return "idempotency_key: expected a text."
    if key_header != key:
        return "The header Idempotency-Key is not the body's idempotency_key."
    return ""
