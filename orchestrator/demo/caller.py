"""The demo's client: an ordinary application of the `openai` SDK on one WebSocket connection.

A microphone that never closes, a loudspeaker, and one tool. Nothing here knows of tiers but to write them down.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from orchestrator.demo.recording import WIRE, Heard, Recording, Row
from orchestrator.listening import Arrival

if TYPE_CHECKING:
    from openai.resources.realtime.realtime import AsyncRealtimeConnection

FRAME_MS = 20
FRAME = FRAME_MS * WIRE.bytes_per_ms
VOICE = "marin"
MODEL = "gpt-realtime-2.1"
TOOL: Any = {
    "type": "function",
    "name": "get_order_status",
    "description": "Look up where an order is.",
    "parameters": {
        "type": "object",
        "properties": {"order_id": {"type": "string", "description": "The order number, digits only."}},
        "required": ["order_id"],
    },
}

CONFIGURED_S = 10.0

Event = dict[str, Any]


class CallLost(Exception):
    """The connection ended, and it was not the caller who hung up."""


@asynccontextmanager
async def calling(
    base_url: str, api_key: str, recording: Recording, look_up: Callable[[str], str | None]
) -> AsyncIterator[Caller]:
    """A call: connected on entering, hung up on leaving. `look_up` is what the tool knows of an order number."""
    from openai import AsyncOpenAI

    client = AsyncOpenAI(api_key=api_key, base_url=base_url)
    options: Any = {"proxy": None}
    async with (
        client,
        client.realtime.connect(model=MODEL, websocket_connection_options=options) as connection,
    ):
        caller = Caller(connection, recording, look_up)
        tasks = [asyncio.create_task(caller.receive()), asyncio.create_task(caller.microphone())]
        try:
            yield caller
        finally:
            caller.hung_up = True
            for task in reversed(tasks):
                task.cancel()
            await asyncio.wait(tasks)
    recording.add(_now(), "hung_up", by="server" if caller.lost else "caller")


class Caller:
    def __init__(
        self,
        connection: AsyncRealtimeConnection,
        recording: Recording,
        look_up: Callable[[str], str | None],
    ) -> None:
        self.recording = recording
        self.hung_up = False
        self.lost = ""
        """Why the connection ended, if the caller did not hang up."""
        self._connection = connection
        self._look_up = look_up
        self._speech = b""
        self._said = asyncio.Event()
        self._said_at = 0.0
        self._items: set[str] = set()
        """Items whose audio has begun."""
        self._flushed: set[str] = set()
        self._tiers: dict[str, str] = {}
        """Tier by response id."""

    async def configure(self, instructions: str) -> None:
        """Set the session up, and wait until the server confirms it."""
        session: Any = {
            "type": "realtime",
            "instructions": instructions,
            "tools": [TOOL],
            "audio": {
                "input": {
                    "format": WIRE.describe(),
                    "turn_detection": {"type": "server_vad"},
                    "transcription": {"model": "gpt-transcribe"},
                },
                "output": {"format": WIRE.describe(), "voice": VOICE},
            },
        }
        await self._wait_for("session.created")
        await self._connection.session.update(session=session)
        await self._wait_for("session.updated")

    async def _wait_for(self, kind: str) -> None:
        await self.recording.wait(kind, lambda row: row.type == kind, seconds=CONFIGURED_S)

    # The caller's mouth

    async def say(self, audio: bytes, words: str, voice: str) -> Row:
        """Speak into the open microphone; returns when the last sample has left it."""
        self.recording.add(
            _now(), "caller_speaks", text=words, voice=voice, seconds=WIRE.ms(len(audio)) / 1000
        )
        self._said.clear()
        self._speech = audio
        await self._said.wait()
        if self.lost:
            raise CallLost(self.lost)
        return self.recording.add(self._said_at, "caller_spoke", text=words)

    async def microphone(self) -> None:
        """20 ms frames in real time, for ever: speech while there is some, else silence."""
        due = _now()
        try:
            while True:
                frame, self._speech = self._speech[:FRAME].ljust(FRAME, b"\0"), self._speech[FRAME:]
                await self._connection.input_audio_buffer.append(audio=b64encode(frame).decode())
                self.recording.sent.append(Arrival(due, frame))
                if not self._speech and not self._said.is_set():
                    self._said_at = _now()
                    self._said.set()
                due += FRAME_MS / 1000
                await asyncio.sleep(max(0.0, due - _now()))
        finally:
            self._said.set()

    # The caller's ear

    async def receive(self) -> None:
        """Every event until the connection ends."""
        why = "the server hung up"
        try:
            async for event in self._connection:
                await self._on_event(event.type, event.to_dict())
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
        if not self.hung_up:
            self.lost = why
            self.recording.add(_now(), "connection_lost", why=why)

    async def _on_event(self, kind: str, event: Event) -> None:
        now, add = _now(), self.recording.add
        if kind == "response.output_audio.delta":
            self._hear(event, now)
        elif kind in ("session.created", "session.updated"):
            session = event["session"]
            told = session.get("orchestrator") or {}
            add(now, kind, session_id=session["id"], **told)
        elif kind == "input_audio_buffer.speech_started":
            self._on_barge_in(now)
        elif kind == "response.created":
            tier = self._note_tier(event["response"])
            add(now, kind, tier, response_id=event["response"]["id"])
        elif kind == "response.output_item.done" and event["item"]["type"] == "message":
            self._on_message(event, now)
        elif kind == "response.done":
            await self._on_done(event["response"], now)
        elif kind == "conversation.item.input_audio_transcription.completed":
            add(now, "understood", text=event["transcript"].strip())
        elif kind == "error":
            add(now, kind, message=event["error"].get("message"))

    def _note_tier(self, response: Event) -> str:
        tier = str((response.get("metadata") or {}).get("tier", ""))
        self._tiers[response["id"]] = tier
        return tier

    def _hear(self, event: Event, now: float) -> None:
        item_id, response_id = event["item_id"], event["response_id"]
        if item_id in self._flushed:
            return
        self.recording.heard.append(Heard(now, response_id, item_id, b64decode(event["delta"])))
        if item_id not in self._items:
            self._items.add(item_id)
            self.recording.add(
                now, "first_audio", self._tiers.get(response_id, ""), response_id=response_id, item_id=item_id
            )

    def _on_barge_in(self, now: float) -> None:
        """Who speaks does not want to hear the rest."""
        if self.recording.dry_at() > now:
            self.recording.flushes.append(now)
            self._flushed |= self._items

    def _on_message(self, event: Event, now: float) -> None:
        item = event["item"]
        words = " ".join(part.get("transcript") or part.get("text") or "" for part in item["content"])
        self.recording.add(
            now,
            "said",
            self._tiers.get(event["response_id"], ""),
            response_id=event["response_id"],
            item_id=item["id"],
            status=item["status"],
            text=words.strip(),
        )

    async def _on_done(self, response: Event, now: float) -> None:
        tier = self._note_tier(response)
        metadata = response.get("metadata") or {}
        calls = [item for item in response["output"] if item["type"] == "function_call"]
        self.recording.add(
            now,
            "response.done",
            tier,
            response_id=response["id"],
            status=response["status"],
            rung=metadata.get("rung", ""),
            tool_calls=len(calls),
            usage=response.get("usage"),
        )
        for call in calls:
            if call["status"] == "completed":
                await self._run_tool(call, tier)

    async def _run_tool(self, call: Event, tier: str) -> None:
        order = str(json.loads(call["arguments"]).get("order_id", ""))
        status = self._look_up(order)
        output = {"order_id": order, "status": status} if status else {"error": "no such order"}
        self.recording.add(_now(), "tool", tier, name=call["name"], order_id=order, output=output)
        item: Any = {"type": "function_call_output", "call_id": call["call_id"], "output": json.dumps(output)}
        await self._connection.conversation.item.create(item=item)
        await self._connection.response.create()


def _now() -> float:
    return asyncio.get_running_loop().time()
