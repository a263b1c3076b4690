"""The OpenAI Python SDK's `realtime.connect`, used as an application uses it.

Every scenario is a connection of its own and fails on any `error` event, and on any event that the SDK does not
know: it turns those into an object of some other event's class.
"""

from __future__ import annotations

import asyncio
import json
import typing
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection
from openai.types.realtime import RealtimeServerEvent
from stock import QUESTION, STATUS, Facts, Failed, Target, expect, main, speak

KNOWN = {
    typing.get_args(model.model_fields["type"].annotation)[0]: model
    for model in typing.get_args(typing.get_args(RealtimeServerEvent)[0])
}
TOOL: Any = {
    "type": "function",
    "name": "get_order_status",
    "description": "Look up where an order is.",
    "parameters": {
        "type": "object",
        "properties": {"order_id": {"type": "string"}},
        "required": ["order_id"],
    },
}
WRITTEN: Any = {"output_modalities": ["text"]}


class Call:
    """A connection and everything that came on it."""

    def __init__(self, connection: AsyncRealtimeConnection) -> None:
        self.connection = connection
        self.seen: list[Any] = []

    async def until(self, kind: str, forgiven: str = "") -> Any:
        """Read on to the next event of a type. An error with the code `forgiven` fails nothing."""
        while True:
            event = await self.connection.recv()
            expect(event.type in KNOWN, f"the SDK does not know {event.type!r}")
            expect(isinstance(event, KNOWN[event.type]), f"{event.type} was read as {type(event).__name__}")
            self.seen.append(event)
            if event.type == "error" and event.error.code != forgiven:
                raise Failed(f"error event: {event.error.code}: {event.error.message}")
            if event.type == kind:
                return event

    async def write(self, text: str) -> None:
        item: Any = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
        await self.connection.conversation.item.create(item=item)

    def kinds(self) -> list[str]:
        return [event.type for event in self.seen]

    def audio(self, response_id: str) -> bytes:
        """Audio of a response so far."""
        return b"".join(
            b64decode(event.delta)
            for event in self.seen
            if event.type == "response.output_audio.delta" and event.response_id == response_id
        )


@asynccontextmanager
async def calling(target: Target) -> AsyncIterator[Call]:
    base = target.url.removesuffix("/realtime")
    client = AsyncOpenAI(
        api_key=target.api_key, base_url=base.replace("ws", "http", 1), websocket_base_url=base
    )
    patience = {"close_timeout": 1}  # a call that is left in the middle need not be read to its end
    manager = client.realtime.connect(model=target.model, websocket_connection_options=patience)
    async with client, manager as connection:
        call = Call(connection)
        created = await call.until("session.created")
        expect(call.seen == [created], "session.created is not the first event")
        yield call


def spoken(response: Any) -> str:
    """The words of a response's message items."""
    return " ".join(
        part.transcript or part.text or ""
        for item in response.output
        if item.type == "message"
        for part in item.content
    )


async def text_turn(target: Target) -> Facts:
    async with calling(target) as call:
        await call.write("Hello")
        await call.connection.response.create(response={**WRITTEN, "metadata": {"topic": "hello"}})
        done = (await call.until("response.done")).response
    deltas = "".join(event.delta for event in call.seen if event.type == "response.output_text.delta")
    expect(done.status == "completed", f"the response is {done.status}")
    expect(deltas and deltas == spoken(done), f"deltas say {deltas!r}, the response {spoken(done)!r}")
    expect(done.metadata["topic"] == "hello", f"metadata came back as {done.metadata}")
    expect(done.usage and done.usage.total_tokens is not None, "a completed response without usage")
    return {"text": deltas}


async def audio_turn(target: Target) -> Facts:
    vad = {"type": "server_vad", "silence_duration_ms": 600, "create_response": True}
    transcription = {"model": "gpt-live-transcribe"}
    async with calling(target) as call:
        audio: Any = {"input": {"turn_detection": vad, "transcription": transcription}}
        await call.connection.session.update(session={"type": "realtime", "audio": audio})
        session = (await call.until("session.updated")).session
        expect(session.audio.input.turn_detection.silence_duration_ms == 600, "the update is not shown")
        async with talking(call, target):
            started = await call.until("input_audio_buffer.speech_started")
            stopped = await call.until("input_audio_buffer.speech_stopped")
            committed = await call.until("input_audio_buffer.committed")
            done = (await call.until("response.done")).response
            if "conversation.item.input_audio_transcription.completed" not in call.kinds():
                await call.until("conversation.item.input_audio_transcription.completed")
    expect(started.item_id == stopped.item_id == committed.item_id, "the turn changes its item id")
    expect(done.status == "completed", f"the response is {done.status}")
    ms = len(call.audio(done.id)) / 48
    expect(ms >= 100, f"only {ms:.0f} ms of audio")
    expect(spoken(done), "an answer without a transcript")
    heard = next(e.transcript for e in call.seen if e.type.endswith("transcription.completed"))
    return {"heard": heard, "said": spoken(done), "audio_ms": round(ms)}


@asynccontextmanager
async def talking(call: Call, target: Target) -> AsyncIterator[None]:
    async def send(data: bytes) -> None:
        await call.connection.input_audio_buffer.append(audio=b64encode(data).decode())

    task = asyncio.create_task(speak(target.audio, send))
    try:
        yield
    finally:
        task.cancel()


async def tool_round_trip(target: Target) -> Facts:
    async with calling(target) as call:
        await call.connection.session.update(session={"type": "realtime", "tools": [TOOL]})
        await call.until("session.updated")
        await call.write(QUESTION)
        await call.connection.response.create(response=WRITTEN)
        asked = (await call.until("response.done")).response
        calls = [item for item in asked.output if item.type == "function_call"]
        expect(len(calls) == 1, f"expected one function call, got {[item.type for item in asked.output]}")
        arguments = json.loads(calls[0].arguments)
        expect(arguments == {"order_id": "4172"}, f"arguments are {arguments}")
        expect(calls[0].status == "completed", f"the call is {calls[0].status}")
        output = json.dumps({"order_id": "4172", "status": STATUS})
        result: Any = {"type": "function_call_output", "call_id": calls[0].call_id, "output": output}
        await call.connection.conversation.item.create(item=result)
        await call.connection.response.create(response=WRITTEN)
        answer = (await call.until("response.done")).response
    expect(STATUS in spoken(answer), f"the answer does not tell the result: {spoken(answer)!r}")
    return {"call_id": calls[0].call_id, "said": spoken(answer)}


async def cancel(target: Target) -> Facts:
    """Cancel at the first audio. A short answer may have been sent in full by then: the refusal says so."""
    async with calling(target) as call:
        await call.write("Tell me everything about your delivery times, please.")
        await call.connection.response.create()
        await call.until("response.output_audio.delta")
        await call.connection.response.cancel()
        done = (await call.until("response.done")).response
        await call.write("Hello again")
        await call.connection.response.create(response=WRITTEN)
        late = "response_cancel_not_active" if done.status == "completed" else ""
        after = (await call.until("response.done", forgiven=late)).response
    if done.status != "completed":
        reason = done.status_details.reason if done.status_details else None
        expect(
            (done.status, reason) == ("cancelled", "client_cancelled"), f"it ended {done.status}, {reason}"
        )
    expect(after.status == "completed", f"the response after it is {after.status}")
    return {"ended": done.status, "audio_ms": round(len(call.audio(done.id)) / 48)}


async def items(target: Target) -> Facts:
    """truncate, retrieve and delete an item of the assistant."""
    async with calling(target) as call:
        await call.write("Hello")
        await call.connection.response.create()
        done = (await call.until("response.done")).response
        item_id = done.output[-1].id
        item = call.connection.conversation.item
        await item.truncate(item_id=item_id, content_index=0, audio_end_ms=100)
        truncated = await call.until("conversation.item.truncated")
        expect((truncated.item_id, truncated.audio_end_ms) == (item_id, 100), "another truncation came back")
        await item.retrieve(item_id=item_id)
        retrieved = await call.until("conversation.item.retrieved")
        expect(retrieved.item.id == item_id, f"{retrieved.item.id} came back for {item_id}")
        await item.delete(item_id=item_id)
        deleted = await call.until("conversation.item.deleted")
        expect(deleted.item_id == item_id, f"{deleted.item_id} was deleted instead of {item_id}")
    return {"item_id": item_id}


async def out_of_band(target: Target) -> Facts:
    """A response beside the conversation, with an input of its own."""
    async with calling(target) as call:
        question: Any = {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "Hello"}],
        }
        response: Any = {
            **WRITTEN,
            "conversation": "none",
            "metadata": {"purpose": "side"},
            "input": [question],
        }
        await call.connection.response.create(response=response)
        done = (await call.until("response.done")).response
    expect(done.conversation_id is None, f"it belongs to conversation {done.conversation_id}")
    expect(done.metadata["purpose"] == "side", f"metadata came back as {done.metadata}")
    added = [kind for kind in call.kinds() if kind.startswith("conversation.item")]
    expect(not added, f"the conversation was touched: {added}")
    expect(spoken(done), "an answer without words")
    return {"text": spoken(done)}


if __name__ == "__main__":
    main(
        f"openai {openai.__version__}",
        {
            "text_turn": text_turn,
            "audio_turn": audio_turn,
            "tool_round_trip": tool_round_trip,
            "cancel": cancel,
            "items": items,
            "out_of_band": out_of_band,
        },
    )
