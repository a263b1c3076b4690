"""The OpenAI Agents SDK's realtime session, used as an application uses it; runs in `.venv-clients`.

The SDK validates every event strictly and turns what fails into an error event while the session goes on. Here any
error or exception event ends a scenario as failed.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from agents import function_tool
from agents.realtime import RealtimeAgent, RealtimeRunner, RealtimeSession
from stock import QUESTION, STATUS, Facts, Failed, Target, expect, main, speak

VAD = {"type": "server_vad", "silence_duration_ms": 600, "create_response": True, "interrupt_response": True}


class Call:
    """A session and everything it told, read all the time as the SDK's queue wants it."""

    def __init__(self, session: RealtimeSession) -> None:
        self.session = session
        self.seen: list[Any] = []
        self.answers = 0
        """Turns of the assistant that have ended."""
        self.audio = bytearray()
        self.server_types: list[str] = []
        self._problem = ""
        self._news = asyncio.Condition()
        self._complaints = Complaints(self._complain)

    async def read(self) -> None:
        logger = logging.getLogger("openai.agents")
        logger.addHandler(self._complaints)
        try:
            async for event in self.session:
                self._note(event)
                await self._tell()
            self._complain("the session ended")
        except Exception as error:
            self._complain(f"{type(error).__name__}: {error}")
        finally:
            logger.removeHandler(self._complaints)
        await self._tell()

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    def _note(self, event: Any) -> None:
        self.seen.append(event)
        if event.type == "error":
            self._complain(f"error event: {event.error}")
        elif event.type == "audio":
            self.audio += event.audio.data
        elif event.type == "raw_model_event":
            data = event.data
            if data.type == "turn_ended":
                self.answers += 1
            elif data.type == "raw_server_event":
                self.server_types.append(data.data.get("type"))
            elif data.type in ("error", "exception"):
                self._complain(f"{data.type}: {getattr(data, 'error', None) or data.exception}")

    def _complain(self, problem: str) -> None:
        self._problem = self._problem or problem

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on what was told holds; `Failed` as soon as anything went wrong."""
        async with self._news:
            await self._news.wait_for(lambda: self._problem or condition())
        if self._problem:
            raise Failed(self._problem)

    def told(self, kind: str) -> list[Any]:
        """Session events of a type so far."""
        return [event for event in self.seen if event.type == kind]

    def words(self) -> str:
        """What the assistant said, by the last history the session told."""
        history = self.told("history_updated")[-1].history
        return " ".join(
            getattr(part, "transcript", None) or getattr(part, "text", None) or ""
            for item in history
            if item.type == "message" and item.role == "assistant"
            for part in item.content
        )


class Complaints(logging.Handler):
    """Errors that the SDK only logs, such as an event that it could not validate."""

    def __init__(self, complain: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._complain = complain

    def emit(self, record: logging.LogRecord) -> None:
        self._complain(f"the SDK logged: {record.getMessage()}")


@function_tool
def get_order_status(order_id: str) -> str:
    """Look up where an order is."""
    return json.dumps({"order_id": order_id, "status": STATUS})


@asynccontextmanager
async def calling(target: Target, *, tools: bool = True) -> AsyncIterator[Call]:
    functions: list[Any] = [get_order_status] if tools else []
    agent = RealtimeAgent(name="Desk", instructions="You answer for a shop.", tools=functions)
    settings = {
        "model_name": target.model,
        "turn_detection": VAD,
        "input_audio_transcription": {"model": "gpt-live-transcribe"},
    }
    config: Any = {
        "url": f"{target.url}?model={target.model}",
        "api_key": target.api_key,
        "initial_model_settings": settings,
    }
    session = await RealtimeRunner(agent).run(model_config=config)
    async with session:
        call = Call(session)
        reader = asyncio.create_task(call.read())
        try:
            await call.until(lambda: call.server_types.count("session.updated") > 0)
            yield call
            await call.until(lambda: True)  # whatever went wrong meanwhile
        finally:
            reader.cancel()


@asynccontextmanager
async def talking(call: Call, target: Target) -> AsyncIterator[None]:
    task = asyncio.create_task(speak(target.audio, call.session.send_audio))
    try:
        yield
    finally:
        task.cancel()


async def audio_turn(target: Target) -> Facts:
    async with calling(target) as call:
        async with talking(call, target):
            await call.until(lambda: call.answers == 1)
            expect(call.audio, "an answer without audio")
            await call.until(lambda: bool(heard(call)))
        await call.until(lambda: bool(call.told("history_updated")) and bool(call.words()))
    ms = len(call.audio) / 48
    expect(ms >= 100, f"only {ms:.0f} ms of audio")
    expect(call.told("audio_end"), "the audio never ended")
    return {"heard": heard(call), "said": call.words(), "audio_ms": round(ms)}


def heard(call: Call) -> str:
    """The caller's words as the server wrote them down."""
    events = [event.data for event in call.told("raw_model_event")]
    written = [data for data in events if data.type == "input_audio_transcription_completed"]
    return " ".join(data.transcript for data in written)


async def tool(target: Target) -> Facts:
    """A function that the SDK runs by itself, and an answer that tells its result."""
    async with calling(target) as call:
        await call.session.send_message(QUESTION)
        await call.until(lambda: bool(call.told("tool_end")))
        await call.until(lambda: call.answers == 2)
        await call.until(lambda: bool(call.told("history_updated")) and STATUS in call.words())
    ran = call.told("tool_end")
    expect(len(ran) == 1, f"the tool ran {len(ran)} times")
    expect(json.loads(ran[0].arguments) == {"order_id": "4172"}, f"arguments are {ran[0].arguments}")
    return {"said": call.words()}


async def interruption(target: Target) -> Facts:
    """The caller speaks into an answer: the SDK stops playing, truncates, and gets another answer."""
    async with calling(target) as call:
        await call.session.send_message("Tell me everything about your delivery times, please.")
        await call.until(lambda: len(call.audio) > 0)
        async with talking(call, target):
            await call.until(lambda: bool(call.told("audio_interrupted")))
            before = len(call.audio)
            await call.until(lambda: "conversation.item.truncated" in call.server_types)
            await call.until(lambda: call.answers == 2 and len(call.audio) > before)
    return {"interruptions": len(call.told("audio_interrupted"))}


async def stop_playback(target: Target) -> Facts:
    """The application stops an answer that has arrived in full and is still being played."""
    return await _stopped_by_hand(target, lambda call: call.answers == 1)


async def stop_answer(target: Target) -> Facts:
    """The application stops an answer that is still arriving."""
    return await _stopped_by_hand(target, lambda call: len(call.audio) > 0)


async def _stopped_by_hand(target: Target, ready: Callable[[Call], bool]) -> Facts:
    async with calling(target) as call:
        await call.session.send_message("Tell me everything about your delivery times, please.")
        await call.until(lambda: ready(call))
        await call.session.interrupt()
        await call.until(lambda: bool(call.told("audio_interrupted")))
        await call.until(lambda: "conversation.item.truncated" in call.server_types)
        await call.until(lambda: call.answers == 1)
        await call.session.send_message("Hello")
        await call.until(lambda: call.answers == 2)
    return {"interruptions": len(call.told("audio_interrupted"))}


if __name__ == "__main__":
    main(
        f"openai-agents {version('openai-agents')}",
        {
            "audio_turn": audio_turn,
            "tool": tool,
            "interruption": interruption,
            "stop_playback": stop_playback,
            "stop_answer": stop_answer,
        },
    )
