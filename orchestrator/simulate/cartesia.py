"""A Cartesia text-to-speech server: `/tts/websocket`, `/tts/bytes`, `/tts/sse`, and `/control/*` for faults."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from cartesia.types.generation_request import GenerationRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from orchestrator.protocol.audio import AudioFormat
from orchestrator.simulate import cartesia_wire as wire
from orchestrator.simulate.cartesia_contexts import Connection, Speaking
from orchestrator.simulate.cartesia_faults import CATALOGUE, FaultId, Moment
from orchestrator.simulate.control import control_routes
from orchestrator.simulate.fault_board import Fault, FaultBoard
from orchestrator.simulate.serving import running
from orchestrator.simulate.sockets import Accept, Hang, Refuse, Reset, Socket, Upgrade, Verdict
from orchestrator.simulate.streaming import Cut, HangUp, Silence, Stream, bearer, forever
from orchestrator.simulate.voices import Voice

WEBSOCKET = "/tts/websocket"
KEPT_CONNECTIONS = 1000
CONTAINERS = ("raw", "wav")
HTTP_STATUS: dict[StrEnum, int] = {FaultId.HTTP_401: 401, FaultId.HTTP_429: 429, FaultId.HTTP_5XX: 503}


@dataclass(frozen=True, slots=True)
class Options:
    """How the server behaves."""

    voice: Voice
    first_audio_ms: int = 90
    pace: float = 4.0
    """How many times faster than it plays audio is sent."""
    concurrency: int | None = None
    """How many contexts may be active at once; ten times as many sockets. None sets no limit."""
    idle_seconds: float = 300.0
    api_key: str | None = field(default=None, repr=False)
    """The only bearer taken; None takes any."""


class CartesiaSimulator:
    """The server's state. Serve `app` with `decide` for its upgrades, or use `async with simulator.start()`."""

    def __init__(self, options: Options, board: FaultBoard | None = None) -> None:
        self.options = options
        self.faults = board or FaultBoard()
        self.active = 0
        self.connections: deque[Connection] = deque(maxlen=KEPT_CONNECTIONS)
        self.app = Starlette(
            routes=[
                Route("/tts/bytes", self._bytes, methods=["POST"]),
                Route("/tts/sse", self._sse, methods=["POST"]),
                *control_routes(self.faults, CATALOGUE, self.state),
            ],
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def start(self, port: int = 0) -> AsyncIterator[str]:
        """Serve on loopback in this event loop; gives the origin."""
        async with running(self.app, decide=self.decide, port=port) as origin:
            yield origin

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        await self.options.voice.warm()
        yield

    def state(self) -> dict[str, Any]:
        return {
            "active_contexts": self.active,
            "connections": [
                {
                    "received": connection.received,
                    "contexts": list(connection.contexts),
                    "closed": connection.closed,
                }
                for connection in self.connections
            ],
        }

    # -- websocket -------------------------------------------------------------------------------

    def decide(self, upgrade: Upgrade) -> Verdict:
        """What to do with a websocket upgrade."""
        if upgrade.path != WEBSOCKET:
            return Verdict(_refusal(404, "not_found", f"Nothing at {upgrade.path}; the path is {WEBSOCKET}."))
        fault = self.faults.take(Moment.CONNECTING, "")
        if fault is not None:
            return Verdict(_struck(fault), fault.after_ms / 1000)
        token = upgrade.headers.get("authorization", "").removeprefix("Bearer ") or upgrade.query.get(
            "access_token"
        )
        version = upgrade.headers.get("cartesia-version") or upgrade.query.get("cartesia_version")
        refusal = self._unwelcome(token, version)
        if refusal is not None:
            return Verdict(refusal)
        limit = self.options.concurrency
        if (
            limit is not None
            and sum(connection.closed is None for connection in self.connections) >= 10 * limit
        ):
            return Verdict(_refusal(429, "concurrency_limited", "Too many connections."))
        return Verdict(self._accept())

    def _accept(self) -> Accept:
        socket = Socket()
        connection = Connection(self, socket)
        self.connections.append(connection)
        socket.on_open, socket.on_text, socket.on_closed = (
            connection.begin,
            connection.receive,
            connection.end,
        )
        return Accept(socket)

    def _unwelcome(self, token: str | None, version: str | None) -> Refuse | None:
        if not token or (self.options.api_key is not None and token != self.options.api_key):
            return _refusal(401, "unauthorized", "The API key is missing or wrong.")
        if not version:
            return _refusal(400, "version_required", "The Cartesia-Version header is missing.")
        return None

    # -- HTTP ------------------------------------------------------------------------------------

    async def _bytes(self, request: Request) -> Response:
        return await self._answer(request, sse=False)

    async def _sse(self, request: Request) -> Response:
        return await self._answer(request, sse=True)

    async def _answer(self, request: Request, *, sse: bool) -> Response:
        refused = self._refused(request)
        if refused is not None:
            return refused
        try:
            body = await request.json()
            container = ((body if isinstance(body, dict) else {}).get("output_format") or {}).get("container")
            parsed = _http_request(body, ("raw",) if sse else CONTAINERS)
        except (ValueError, wire.BadRequest) as error:
            return _json_error(_refusal(400, "invalid_request", str(error)))
        fault = self.faults.take(Moment.CONTEXT, parsed.llm_model_id)
        if fault is not None:
            return _context_fault(fault)
        if sse:
            return Stream(self._events(parsed, body.get("context_id")), "text/event-stream")
        if container == "wav":
            return Response(await self._wav(parsed), media_type="audio/wav")
        return Stream(self._audio(parsed), "application/octet-stream")

    def _refused(self, request: Request) -> Response | None:
        fault = self.faults.take(Moment.CONNECTING, "")
        if fault is not None:
            what = _struck(fault)
            return (
                HangUp()
                if isinstance(what, Reset)
                else Silence()
                if isinstance(what, Hang)
                else _json_error(what)
            )
        refusal = self._unwelcome(bearer(request), request.headers.get("cartesia-version"))
        if (
            refusal is None
            and self.options.concurrency is not None
            and self.active >= self.options.concurrency
        ):
            refusal = _refusal(429, "concurrency_limited", "You have reached your concurrency limit.")
        return _json_error(refusal) if refusal is not None else None

    async def _spoken(self, request: GenerationRequest) -> AsyncGenerator[dict[str, Any], None]:
        """The events of a whole text; a fault in the middle ends the connection or the audio."""
        speaking = Speaking(self, request)
        self.active += 1
        try:
            async with contextlib.aclosing(speaking.say(request.transcript)) as events:
                async for event in events:
                    if isinstance(event, Fault):
                        if event.id is not FaultId.STALL:
                            raise Cut
                        await forever()
                    else:
                        yield event
            tail = speaking.tail()
            if tail:
                yield wire.chunk(tail, 0.0)
        finally:
            self.active -= 1

    async def _audio(self, request: GenerationRequest) -> AsyncGenerator[bytes, None]:
        async with contextlib.aclosing(self._spoken(request)) as events:
            async for event in events:
                if event["type"] == "chunk":
                    yield wire.decoded(event)

    async def _events(
        self, request: GenerationRequest, context_id: str | None
    ) -> AsyncGenerator[bytes, None]:
        named = {"context_id": context_id} if context_id else {}
        async with contextlib.aclosing(self._spoken(request)) as events:
            async for event in events:
                if event["type"] == "chunk" or request.add_timestamps:
                    yield _sse_event({**event, **named})
        yield _sse_event({"type": "done", "done": True, "status_code": 200, **named})

    async def _wav(self, request: GenerationRequest) -> bytes:
        voice, speed = self.options.voice, wire.speed_of(request)
        pieces = [piece.audio async for piece in voice.speak([request.transcript], AudioFormat.PCM, speed)]
        await asyncio.sleep(self.options.first_audio_ms / 1000)
        return wire.wav(np.frombuffer(b"".join(pieces), dtype="<i2"), request.output_format.sample_rate)


def _http_request(body: Any, containers: tuple[str, ...]) -> GenerationRequest:
    """An HTTP request as a websocket one: the same fields, another container allowed."""
    form = (body if isinstance(body, dict) else {}).get("output_format")
    if not isinstance(form, dict) or form.get("container") not in containers:
        raise wire.BadRequest(
            f"output_format.container: expected {' or '.join(containers)} here, not {form!r}"
        )
    if form["container"] == "wav" and form.get("encoding") != "pcm_s16le":
        raise wire.BadRequest(
            f"output_format.encoding: wav is made as pcm_s16le here, not {form.get('encoding')!r}"
        )
    return wire.parse_request({"context_id": "http", **body, "output_format": {**form, "container": "raw"}})


def _struck(fault: Fault) -> Refuse | Reset | Hang:
    if fault.id in HTTP_STATUS:
        status = HTTP_STATUS[fault.id]
        code = "concurrency_limited" if status == 429 else fault.id.value
        return _refusal(status, code, f"simulated fault {fault.id}")
    return Reset() if fault.id is FaultId.REFUSED else Hang()


def _context_fault(fault: Fault) -> Response:
    if fault.id is FaultId.SILENT:
        return Silence()
    if fault.id in (FaultId.DROP, FaultId.CLOSE_1011):
        return HangUp()
    if fault.id is FaultId.RATE_LIMITED:
        return _json_error(_refusal(429, "concurrency_limited", "You have reached your concurrency limit."))
    return _json_error(_refusal(500, "internal_error", "The model failed."))


def _refusal(status: int, code: str, message: str) -> Refuse:
    told = wire.error(status, code, code.replace("_", " ").capitalize(), message)
    return Refuse(status, json.dumps(told).encode())


def _json_error(refusal: Refuse) -> Response:
    return JSONResponse(json.loads(refusal.body), refusal.status)


def _sse_event(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
