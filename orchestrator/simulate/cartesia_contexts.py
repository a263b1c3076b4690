"""One websocket of the Cartesia simulator, and the contexts that are spoken on it."""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import numpy as np
from cartesia.types.generation_request import GenerationRequest

from orchestrator.protocol.audio import AudioFormat, Pcm16
from orchestrator.simulate import cartesia_wire as wire
from orchestrator.simulate.cartesia_faults import FaultId, Moment
from orchestrator.simulate.fault_board import Fault
from orchestrator.simulate.sockets import Socket
from orchestrator.simulate.streaming import forever

if TYPE_CHECKING:
    from orchestrator.simulate.cartesia import CartesiaSimulator

_SENTENCE_END = re.compile(r"[.!?]\s*$")
SLOW_PACE = 0.4


class Speaking:
    """The audio of a text, paced, with its words' times. Faults in the middle of a context strike here."""

    def __init__(
        self, simulator: CartesiaSimulator, request: GenerationRequest, opened: float = math.inf
    ) -> None:
        self._simulator = simulator
        self._opened = opened
        self._pace = simulator.options.pace
        self._model = request.llm_model_id
        self._speed = wire.speed_of(request)
        form = request.output_format
        self._encoder = wire.RawEncoder(form.encoding, form.sample_rate)
        self.sent_ms = 0.0

    async def say(self, text: str) -> AsyncGenerator[dict[str, Any] | Fault, None]:
        """Chunk and timestamps events; a fault where one is due, and the consumer decides about it."""
        loop, asked, options = asyncio.get_running_loop(), time.monotonic(), self._simulator.options
        await asyncio.sleep(options.first_audio_ms / 1000)
        start, base = loop.time(), self.sent_ms
        async with aclosing(options.voice.speak([text], AudioFormat.PCM, self._speed)) as pieces:
            async for piece in pieces:
                fault = self._due()
                if fault is not None and fault.id is FaultId.SLOW:
                    self._pace, start, base = SLOW_PACE, loop.time(), self.sent_ms
                elif fault is not None:
                    yield fault
                await asyncio.sleep(max(0.0, start + (self.sent_ms - base) / 1000 / self._pace - loop.time()))
                samples: Pcm16 = np.frombuffer(piece.audio, dtype="<i2")
                yield wire.chunk(self._encoder.encode(samples), (time.monotonic() - asked) * 1000)
                if piece.text.split():
                    yield wire.timestamps(piece.text.split(), self.sent_ms, piece.ms)
                self.sent_ms += piece.ms
                asked = time.monotonic()

    def tail(self) -> bytes:
        """What the resampler still holds at the end."""
        return self._encoder.encode(np.zeros(0, dtype=np.int16), last=True)

    def _due(self) -> Fault | None:
        board = self._simulator.faults
        fault = board.peek(Moment.MID_CONTEXT, self._model, self._opened)
        if fault is None or self.sent_ms == 0 or self.sent_ms < fault.after_ms:
            return None
        return fault if board.claim(fault) else None


class Context:
    """Text in pieces, spoken in order on one connection."""

    def __init__(self, connection: Connection, request: GenerationRequest) -> None:
        self.id = request.context_id
        self._connection = connection
        self._speaking = Speaking(connection.simulator, request, connection.opened)
        self._requests: asyncio.Queue[GenerationRequest] = asyncio.Queue()
        self._task = asyncio.create_task(self._run())
        self._flushes = 0

    def add(self, request: GenerationRequest) -> None:
        self._requests.put_nowait(request)

    def cancel(self) -> None:
        self._task.cancel()

    async def _run(self) -> None:
        simulator = self._connection.simulator
        simulator.active += 1
        try:
            await self._speak_all()
        finally:
            simulator.active -= 1
            self._connection.contexts.pop(self.id, None)

    async def _speak_all(self) -> None:
        text = ""
        request = await self._requests.get()
        while True:
            text += request.transcript
            delay = request.max_buffer_delay_ms or 0
            complete = not delay or bool(_SENTENCE_END.search(text)) or request.flush or not request.continue_
            following = None if complete else await self._within(delay)
            if following is None:
                await self._say(text, request)
                text = ""
            if not request.continue_:
                break
            request = following or await self._requests.get()
        tail = self._speaking.tail()
        if tail:
            self._send(wire.chunk(tail, 0.0))
        self._send({"type": "done", "done": True, "status_code": 200})

    async def _within(self, delay_ms: int) -> GenerationRequest | None:
        try:
            async with asyncio.timeout(delay_ms / 1000):
                return await self._requests.get()
        except TimeoutError:
            return None

    async def _say(self, text: str, request: GenerationRequest) -> None:
        if text.strip():
            async with aclosing(self._speaking.say(text)) as events:
                async for event in events:
                    if isinstance(event, Fault):
                        await self._connection.strike(event, self.id)
                    elif event["type"] == "chunk" or request.add_timestamps:
                        self._send({**event, "flush_id": self._flushes + 1})
        if request.flush:
            self._flushes += 1
            flushed = {"flush_id": self._flushes, "flush_done": True, "done": False, "status_code": 206}
            self._send({"type": "flush_done", **flushed})

    def _send(self, event: dict[str, Any]) -> None:
        self._connection.send({**event, "context_id": self.id})


class Connection:
    """One websocket: routes requests to contexts."""

    def __init__(self, simulator: CartesiaSimulator, socket: Socket) -> None:
        self.simulator = simulator
        self.opened = time.monotonic()
        self.contexts: dict[str, Context] = {}
        self.received: list[dict[str, Any]] = []
        self.closed: dict[str, Any] | None = None
        self._socket = socket
        self._idle: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        self._restart_idle_clock()

    def end(self, code: int, reason: str, by: str) -> None:
        self.closed = {"code": code, "reason": reason, "by": by}
        if self._idle is not None:
            self._idle.cancel()
        for context in list(self.contexts.values()):
            context.cancel()

    def send(self, event: dict[str, Any]) -> None:
        self._socket.send(json.dumps(event).encode())
        self._restart_idle_clock()

    def receive(self, text: bytes) -> None:
        self._restart_idle_clock()
        body: Any = None
        try:
            body = json.loads(text)
            self.received.append(body)
            if isinstance(body, dict) and body.get("cancel"):
                self._cancel(str(body.get("context_id")))
            else:
                self._generate(wire.parse_request(body))
        except (ValueError, wire.BadRequest) as refused:
            context_id = body.get("context_id") if isinstance(body, dict) else None
            told = wire.error(400, "invalid_request", "Invalid request", str(refused))
            self.send(told | ({"context_id": context_id} if context_id else {}))

    def _cancel(self, context_id: str) -> None:
        context = self.contexts.get(context_id)
        if context is not None:
            context.cancel()

    def _generate(self, request: GenerationRequest) -> None:
        context = self.contexts.get(request.context_id)
        if context is None:
            if self._refused(request):
                return
            context = self.contexts[request.context_id] = Context(self, request)
        context.add(request)

    def _refused(self, request: GenerationRequest) -> bool:
        """Whether a new context goes no further, by its fault or by the concurrency limit."""
        limit = self.simulator.options.concurrency
        if limit is not None and self.simulator.active >= limit:
            self.send({**wire.too_many(), "context_id": request.context_id})
            return True
        fault = self.simulator.faults.take(Moment.CONTEXT, request.llm_model_id, self.opened)
        if fault is None or fault.id is FaultId.SILENT:
            return fault is not None
        self._do(fault, request.context_id)
        return True

    async def strike(self, fault: Fault, context_id: str) -> None:
        """A fault in the middle of a context: the context ends here, or says nothing more."""
        self._do(fault, context_id)
        await forever()

    def _do(self, fault: Fault, context_id: str) -> None:
        if fault.id is FaultId.DROP:
            self._socket.reset()
        elif fault.id is FaultId.CLOSE_1011:
            self._socket.close(1011, "internal error")
        elif fault.id is FaultId.RATE_LIMITED:
            self.send({**wire.too_many(), "context_id": context_id})
        elif fault.id in (FaultId.ERROR, FaultId.ERROR_WITHOUT_CONTEXT):
            told = wire.error(500, "internal_error", "Internal error", "The model failed.")
            self.send(told | ({"context_id": context_id} if fault.id is FaultId.ERROR else {}))

    def _restart_idle_clock(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(self.simulator.options.idle_seconds, self._socket.close, 1000, "idle")
