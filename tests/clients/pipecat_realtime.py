"""Pipecat's OpenAI Realtime service in a pipeline, as its guide puts one together; runs in `.venv-clients`.

The service goes deaf for good at the first `error` event, and shows an application nothing of a session. What came on
the wire is noted beside it. Here any `ErrorFrame` fails a scenario.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from answers import Answers
from loguru import logger
from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.frames.frames import (
    ErrorFrame,
    InputAudioRawFrame,
    LLMRunFrame,
    LLMSetToolsFrame,
    LLMUpdateSettingsFrame,
    TTSAudioRawFrame,
)
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.services.openai.realtime import events
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.workers.runner import WorkerRunner
from stock import QUESTION, RATE, Facts, Failed, Target, expect, main, speak

Settings = OpenAIRealtimeLLMService.Settings
TURNS = events.TurnDetection(type="server_vad", silence_duration_ms=600)


class Call(BaseObserver):
    """A pipeline with the service in it, and everything that the service was told and pushed."""

    def __init__(self) -> None:
        super().__init__()
        self.worker: PipelineWorker
        self.wire: list[dict[str, Any]] = []
        self.audio = bytearray()
        self._problem = ""
        self._news = asyncio.Condition()
        self._frames: set[int] = set()

    async def on_push_frame(self, data: FramePushed) -> None:
        """A frame is noted once, wherever it passes."""
        frame = data.frame
        if frame.id in self._frames:
            return
        self._frames.add(frame.id)
        if isinstance(frame, ErrorFrame):
            await self.complain(f"error frame: {frame.error}")
        elif isinstance(frame, TTSAudioRawFrame):
            self.audio += frame.audio
            await self._tell()

    async def note(self, event: dict[str, Any]) -> None:
        self.wire.append(event)
        await self._tell()

    async def complain(self, problem: str) -> None:
        self._problem = self._problem or problem
        await self._tell()

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on what was told holds; `Failed` as soon as anything went wrong."""
        async with self._news:
            await self._news.wait_for(lambda: self._problem or condition())
        if self._problem:
            raise Failed(self._problem)

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.wire if event["type"] == kind]


class Service(OpenAIRealtimeLLMService):
    """The stock one; only its socket is read along."""

    def __init__(self, call: Call, target: Target, settings: Settings) -> None:
        super().__init__(api_key=target.api_key, base_url=target.url, settings=settings)
        self._call = call

    async def _connect(self) -> None:
        await super()._connect()
        socket = self._websocket
        receive = socket.recv

        async def noted(*args: Any, **kwargs: Any) -> Any:
            message = await receive(*args, **kwargs)
            await self._call.note(json.loads(message))
            return message

        socket.recv = noted

    async def _receive_task_handler(self) -> None:
        await super()._receive_task_handler()
        await self._call.complain("the service reads no more")


def function(name: str) -> ToolsSchema:
    order = {"order_id": {"type": "string"}}
    return ToolsSchema([FunctionSchema(name, "Look up where an order is.", order, ["order_id"])])


@asynccontextmanager
async def calling(target: Target) -> AsyncIterator[Call]:
    call = Call()
    heard = events.AudioConfiguration(input=events.AudioInput(turn_detection=TURNS))
    settings = Settings(
        model=target.model,
        system_instruction="You answer for a shop.",
        session_properties=events.SessionProperties(audio=heard),
    )
    context = LLMContext([{"role": "user", "content": QUESTION}], function("get_order_status"))
    turns = LLMUserAggregatorParams(user_turn_strategies=ExternalUserTurnStrategies())
    aggregators = LLMContextAggregatorPair(context, user_params=turns)
    parts = [aggregators.user(), Service(call, target, settings), aggregators.assistant()]
    call.worker = PipelineWorker(
        Pipeline(parts),
        params=PipelineParams(audio_in_sample_rate=RATE, audio_out_sample_rate=RATE),
        observers=[call],
        idle_timeout_secs=None,
    )
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(call.worker)
    running = asyncio.create_task(runner.run())
    try:
        yield call
        await call.until(lambda: True)  # whatever went wrong meanwhile
    finally:
        await call.worker.cancel()
        await running


async def refused_update(target: Target) -> Facts:
    """The service sets instructions and tools that are locked, at the beginning and between two turns."""
    async with calling(target) as call:
        await call.worker.queue_frames([LLMRunFrame()])
        await call.until(lambda: len(call.told("response.done")) == 1 and bool(call.audio))
        before = len(call.told("session.updated"))
        other = Settings(system_instruction="You answer for another shop.")
        await call.worker.queue_frames([LLMUpdateSettingsFrame(delta=other)])
        await call.worker.queue_frames([LLMSetToolsFrame(tools=function("cancel_order"))])
        await call.until(lambda: len(call.told("session.updated")) == before + 2)
        first = len(call.audio)

        async def say(data: bytes) -> None:
            frame = InputAudioRawFrame(audio=data, sample_rate=RATE, num_channels=1)
            await call.worker.queue_frames([frame])

        talking = asyncio.create_task(speak(target.audio, say))
        try:
            await call.until(lambda: len(call.told("response.done")) == 2)
        finally:
            talking.cancel()
        await call.until(lambda: len(call.audio) > first)
    expect(not call.told("error"), "an error on the wire")
    answers = Answers()
    for event in call.wire:
        answers.note(event)
    sessions = [event["session"] for event in call.told("session.updated")]
    return {**answers.report(), "sessions": sessions[:before], "later": sessions[before:]}


if __name__ == "__main__":
    logger.remove()  # it writes every frame's way to the error output
    main(f"pipecat-ai {version('pipecat-ai')}", {"refused_update": refused_update})
