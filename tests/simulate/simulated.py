"""A simulator in the test's own event loop, and a client that checks every event it receives."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from pathlib import Path
from typing import Any, get_args

import httpx
from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection
from openai.types.realtime import RealtimeServerEvent
from pydantic import BaseModel

from orchestrator.protocol.audio import AudioFormat
from orchestrator.simulate.brain import Brain
from orchestrator.simulate.ears import ToneEars
from orchestrator.simulate.faults import parse_fault
from orchestrator.simulate.realtime import RealtimeSimulator
from orchestrator.simulate.session import Options
from orchestrator.simulate.voices import ToneVoice, tone
from tests import planted

GOLDEN = Path(__file__).parent / "golden"
MODEL = "gpt-realtime-2.1"
PATIENCE = 5.0
"""Seconds a test waits for something that should come at once."""
UNORDERED = ("rate_limits.updated", "conversation.item.input_audio_transcription")
"""Events whose place among the others the protocol leaves open."""
WIRE_ONLY = {"session.id", "session.object", "session.expires_at"}
"""Fields that the provider sends and the SDK's types lack."""

EVENT_TYPES: dict[str, type[BaseModel]] = {
    get_args(event.model_fields["type"].annotation)[0]: event
    for event in get_args(get_args(RealtimeServerEvent)[0])
}
ORDER_TOOL = {
    "type": "function",
    "name": "get_order_status",
    "description": "Where an order is.",
    "parameters": {
        "type": "object",
        "properties": {"order_id": {"type": "string"}},
        "required": ["order_id"],
    },
}


def plain_http(**options: Any) -> httpx.AsyncClient:
    """A client without certificates: loading them would take longer than most tests, and nothing here is TLS."""
    return httpx.AsyncClient(verify=False, **options)


def extras(value: Any, path: str = "") -> set[str]:
    """Paths of every field that the SDK's type does not have."""
    if isinstance(value, list):
        return set().union(*(extras(part, path) for part in value)) if value else set()
    if not isinstance(value, BaseModel):
        return set()
    found = {f"{path}{name}" for name in value.model_extra or {}}
    for name in type(value).model_fields:
        found |= extras(getattr(value, name), f"{path}{name}.")
    return found


def check_event(text: bytes) -> dict[str, Any]:
    """Parse a server event strictly as the SDK's own type for it; no field may be unknown to that type."""
    event: dict[str, Any] = json.loads(text)
    parsed = EVENT_TYPES[event["type"]].model_validate_json(text, strict=True)
    assert extras(parsed) <= WIRE_ONLY, (event["type"], extras(parsed))
    return event


def speech(ms: int = 400, fmt: AudioFormat = AudioFormat.PCM, silence_ms: int = 600) -> bytes:
    """Something that turn detection takes for an utterance, and the silence that ends it."""
    return tone(ms / 1000, fmt) + fmt.silence(silence_ms)


class Client:
    """The SDK's connection. `events` holds what came, in order; each was parsed strictly."""

    def __init__(self, connection: AsyncRealtimeConnection) -> None:
        self.connection = connection
        self.events: list[dict[str, Any]] = []
        self.patience = PATIENCE

    async def send(self, kind: str, **fields: Any) -> None:
        await self.connection.send({"type": kind, **fields})  # type: ignore[arg-type]

    async def say(self, audio: bytes, chunk_ms: int = 20, fmt: AudioFormat = AudioFormat.PCM) -> None:
        """Append audio in frames, as fast as the socket takes them."""
        size = chunk_ms * fmt.bytes_per_ms
        for start in range(0, len(audio), size):
            part = base64.b64encode(audio[start : start + size]).decode()
            await self.send("input_audio_buffer.append", audio=part)

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(self.patience):
            event = check_event(await self.connection.recv_bytes())
        self.events.append(event)
        return event

    async def until(self, kind: str) -> dict[str, Any]:
        """The next event of that type."""
        while True:
            event = await self.next()
            if event["type"] == kind:
                return event

    async def configure(self, **session: Any) -> dict[str, Any]:
        await self.send("session.update", session={"type": "realtime", **session})
        return await self.until("session.updated")

    async def settle(self) -> None:
        """Wait until the server has dealt with all that was sent: an unknown item's error is the echo."""
        await self.send("conversation.item.retrieve", item_id="nobody", event_id="settle")
        while True:
            event = await self.next()
            if event["type"] == "error" and event["error"]["event_id"] == "settle":
                self.events.pop()
                return

    async def create(self, item: dict[str, Any], **fields: Any) -> dict[str, Any]:
        """Create an item; gives it as the server has it."""
        await self.send("conversation.item.create", item=item, **fields)
        return (await self.until("conversation.item.added"))["item"]

    async def refused(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Send something that is refused; gives the error."""
        await self.send(kind, event_id="refused", **fields)
        error: dict[str, Any] = (await self.until("error"))["error"]
        assert error["event_id"] == "refused"
        return error

    async def ended(self) -> Exception:
        """Receive until the connection ends; gives what the SDK raises."""
        try:
            while True:
                await self.next()
        except TimeoutError:
            raise
        except Exception as error:
            return error

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]

    def audio_ms(self, fmt: AudioFormat = AudioFormat.PCM) -> float:
        deltas = self.of("response.output_audio.delta")
        return sum(fmt.ms(len(base64.b64decode(event["delta"]))) for event in deltas)


def text_item(text: str, **fields: Any) -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    return {"type": "message", "role": "user", "content": content, **fields}


def check_golden(name: str, events: list[dict[str, Any]]) -> None:
    """Compare types with golden/<name>.txt: a type a line; `[a b]` is any mix, with at least one of each."""
    kinds = [event["type"] for event in events if not event["type"].startswith(UNORDERED)]
    position = 0
    for number, line in enumerate((GOLDEN / f"{name}.txt").read_text().splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        mixed = line.strip("[]").split()
        end = position
        while end < len(kinds) and kinds[end] in mixed and (line.startswith("[") or end == position):
            end += 1
        got = kinds[position:end]
        assert set(got) == set(mixed), (
            f"{name}.txt line {number}: expected {line}, got {kinds[position : position + 3]}"
        )
        position = end
    assert position == len(kinds), f"after {name}.txt came {kinds[position:]}"


class Bench:
    """A running simulator and the way to it."""

    def __init__(self, simulator: RealtimeSimulator, origin: str, stack: contextlib.AsyncExitStack) -> None:
        self.simulator = simulator
        self.origin = origin
        self.sdk = AsyncOpenAI(
            api_key=planted.PROVIDER, base_url=f"{origin}/v1", max_retries=0, http_client=plain_http()
        )
        self._stack = stack

    @property
    def url(self) -> str:
        return self.origin.replace("http", "ws", 1) + f"/v1/realtime?model={MODEL}"

    async def dial(self, model: str = MODEL, **options: Any) -> Client:
        """A connection whose `session.created` has not been received yet."""
        manager = self.sdk.realtime.connect(model=model, **options)
        return Client(await self._stack.enter_async_context(manager))

    async def connect(self, **session: Any) -> Client:
        """A connection that is up, with these session settings."""
        client = await self.dial()
        await client.until("session.created")
        if session:
            await client.configure(**session)
        return client

    def arm(self, fault: str, **fields: Any) -> None:
        self.simulator.faults.arm(parse_fault({"fault": fault, **fields}))

    def state(self) -> dict[str, Any]:
        return self.simulator.state()


def fast_options(**changes: Any) -> Options:
    """Tone speech, sent at fifty times real time, so that an answer takes milliseconds."""
    brain = Brain(changes.pop("rules", None), spoken_orders=changes.pop("spoken_orders", False))
    ears = ToneEars(changes.pop("heard", ("Hello, can you hear me?",)))
    voice = ToneVoice(changes.pop("answer_seconds", 1.0))
    return Options(ears, voice, brain, **{"first_audio_ms": 10, "transcript_ms": 5, "pace": 50.0, **changes})
