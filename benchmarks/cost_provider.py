"""A Realtime provider without sockets: it is given a call core's events and answers in simulated time, and bills.

The bill is that of the simulator (`orchestrator/simulate`): the whole conversation again for every response, its
unchanged prefix cached in blocks, truncation as the session has it, output by what was made before a barge-in.
Audio goes out in a few large pieces, faster than it plays, so that ten thousand calls take minutes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

import orjson

from benchmarks.cost_clock import Clock
from orchestrator.protocol.audio import AudioFormat
from orchestrator.simulate import usage
from orchestrator.simulate.conversation import Conversation, Item, client_item
from orchestrator.simulate.session_config import (
    Invalid,
    default_session,
    response_settings,
    updated_session,
)
from orchestrator.simulate.truncation import dropped_of

Event = dict[str, Any]
FORMAT = AudioFormat.PCMU
PACE = 4.0
"""How many times faster than it plays audio is made."""
PIECES = 2
CREATED_S = 0.12
FIRST_AUDIO_S = 0.35
OPENS_S = 0.2
CHARACTERS_PER_S = 14.0
TOOL_NAME = "look_up"
WORDS = (
    "the number that you gave me belongs to a parcel which left us on monday and is on its way to you now "
)
SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model says: so many seconds of speech, or (None) a call of the function."""

    seconds: float | None


class Caller(Protocol):
    """The call that this session belongs to."""

    clock: Clock

    def cached(self) -> bool:
        """Whether the provider still has the prefix of the next response in its cache."""
        ...

    def reply(self, instructions: str) -> Reply: ...

    def answer_begins(self, seconds: float, rung: str) -> None:
        """So long an answer is spoken from now on, by this rung."""
        ...

    def from_provider(self, attempt: int, frame: bytes, item_id: str = "", ms: float = 0.0) -> None:
        """One frame; for audio also whose and how long it plays."""
        ...


def words(seconds: float) -> str:
    """So much text as is spoken in that time."""
    size = round(seconds * CHARACTERS_PER_S)
    return (WORDS * (size // len(WORDS) + 1))[:size]


def audio(ms: int) -> str:
    """Base64 of so much silence. Mu-law silence is all ones, and so is "/": nothing has to be encoded."""
    triples, rest = divmod(ms * FORMAT.bytes_per_ms, 3)
    return "////" * triples + ("", "/w==", "//8=")[rest]


@dataclass(slots=True)
class _Response:
    id: str
    settings: Event
    prompt: list[usage.Part]
    item: Item | None = None
    seconds: float = 0.0
    """How long its speech is to be."""
    sent_s: float = 0.0
    began_at: float = 0.0
    """When its audio began to be made."""
    text: str = ""
    cut: bool = False
    """The output limit ended it."""
    tool: bool = False


@dataclass(slots=True)
class Bill:
    """What the provider will ask for: usage objects, with the model they are priced by."""

    responses: list[tuple[str, Event]] = field(default_factory=list)
    transcripts: list[Event] = field(default_factory=list)


class Provider:
    """One session of `model`."""

    def __init__(self, caller: Caller, attempt: int, model: str, bill: Bill) -> None:
        self.model = model
        self.heard_ms = 0.0
        """Audio received so far: the session's own clock."""
        self._caller = caller
        self._attempt = attempt
        self._bill = bill
        self._closed = False
        self._ids = count(1)
        expires = int(caller.clock.now) + SECONDS
        self._config = default_session(self._id("sess"), model, expires, transcription=False)
        self._talk = Conversation()
        self._dropped: set[str] = set()
        self._calls: set[str] = set()
        self._before: list[usage.Part] = []
        self._active: _Response | None = None
        self._turn_item = ""
        self._turn_from = 0.0
        self._spoke = False
        self._after(OPENS_S, lambda: self._send("session.created", session=self._config))

    def _id(self, prefix: str) -> str:
        return f"{prefix}_{self._attempt}x{next(self._ids)}"

    def _after(self, seconds: float, do: Callable[[], None]) -> None:
        def unless_closed() -> None:
            if not self._closed:
                do()

        self._caller.clock.after(seconds, unless_closed)

    def _send(self, kind: str, **fields: Any) -> None:
        event = {"type": kind, "event_id": self._id("event"), **fields}
        self._caller.from_provider(self._attempt, orjson.dumps(event))

    def close(self) -> None:
        """The socket is gone. What was made of an answer is billed all the same."""
        if self._active is not None and not self._closed:
            self._charge(self._active, cancelled=True)
        self._closed = True

    # --- what the client sends ---

    def receive(self, event: Event) -> None:
        """One event; what is refused becomes an error event."""
        try:
            self._dispatch(event)
        except Invalid as refused:
            error = {"type": "invalid_request_error", "code": refused.code, "message": refused.message}
            self._send("error", error={**error, "param": refused.param, "event_id": event.get("event_id")})

    def _dispatch(self, event: Event) -> None:
        match event["type"]:
            case "session.update":
                self._config = updated_session(self._config, event["session"], voice_locked=self._spoke)
                config = self._config
                self._after(0.03, lambda: self._send("session.updated", session=config))
            case "conversation.item.create":
                item = client_item(event["item"], self._id("item"), self._calls, FORMAT.bytes_per_ms)
                if item.wire["type"] == "function_call":
                    self._calls.add(item.wire["call_id"])
                previous = self._talk.insert(item, event.get("previous_item_id"))
                self._after(0.02, lambda: self._tell_item(item, previous))
            case "conversation.item.truncate":
                where = {name: event[name] for name in ("item_id", "content_index", "audio_end_ms")}
                self._talk.truncate(**where)
                self._after(0.02, lambda: self._send("conversation.item.truncated", **where))
            case "conversation.item.delete":
                self._talk.delete(event["item_id"])
                self._after(0.02, lambda: self._send("conversation.item.deleted", item_id=event["item_id"]))
            case "response.create":
                self._respond(event.get("response"))
            case "response.cancel":
                if self._active is None:
                    raise Invalid("response_cancel_not_active", "There is no active response.")
                self._cancel("client_cancelled")
            case other:
                raise Invalid("invalid_value", f"This provider does not know {other!r}.", "type")

    def _tell_item(self, item: Item, previous: str | None) -> None:
        for which in ("added", "done"):
            self._send(f"conversation.item.{which}", item=item.wire, previous_item_id=previous)

    # --- the caller's turns ---

    def speech_started(self) -> None:
        self._turn_item, self._turn_from = self._id("item"), max(0.0, self.heard_ms - 160.0 - 300.0)
        self._send(
            "input_audio_buffer.speech_started",
            audio_start_ms=int(self._turn_from),
            item_id=self._turn_item,
        )
        if self._active is not None and self._detection.get("interrupt_response"):
            self._cancel("turn_detected")

    def speech_stopped(self, said: str) -> None:
        """The turn is over and heard; `said` are its words."""
        if not self._turn_item:
            self.speech_started()
        item_id, self._turn_item = self._turn_item, ""
        audio_ms = self.heard_ms - self._turn_from
        self._send("input_audio_buffer.speech_stopped", audio_end_ms=int(self.heard_ms), item_id=item_id)
        self._send("input_audio_buffer.committed", item_id=item_id, previous_item_id=self._talk.last_id())
        content = [{"type": "input_audio", "transcript": None}]
        wire = {"id": item_id, "object": "realtime.item", "type": "message", "role": "user"}
        item = Item({**wire, "status": "completed", "content": content}, audio_ms=audio_ms)
        self._tell_item(item, self._talk.append(item))
        if self._config["audio"]["input"]["transcription"]:
            self._after(0.25, lambda: self._transcribed(item, said))
        if self._detection.get("create_response"):
            try:
                self._respond(None)
            except Invalid as refused:
                self._send("error", error={"type": "invalid_request_error", "code": refused.code})

    @property
    def _detection(self) -> Event:
        return self._config["audio"]["input"]["turn_detection"] or {}

    def _transcribed(self, item: Item, said: str) -> None:
        bill = usage.transcription("whisper-1", item.audio_ms, said)
        self._bill.transcripts.append(bill)
        kind = "conversation.item.input_audio_transcription.completed"
        self._send(kind, item_id=item.id, content_index=0, transcript=said, usage=bill)

    # --- responses ---

    def _respond(self, change: Event | None) -> None:
        settings = response_settings(self._config, change)
        if self._active is not None:
            raise Invalid("conversation_already_has_active_response", "There is an active response.")
        items = [item for item in self._talk if item.id not in self._dropped]
        head = settings["instructions"] or "", settings["tools"] or []
        prompt = usage.prompt(*head, items)
        if drop := dropped_of(prompt, self._config["truncation"], self.model):
            self._dropped.update(item.id for item in items[:drop])
            prompt = [*prompt[:2], *prompt[2 + drop :]]
        response = self._active = _Response(self._id("resp"), settings, prompt)
        self._after(CREATED_S, lambda: self._created(response))

    def _created(self, response: _Response) -> None:
        if self._active is not response:
            return
        self._send("response.created", response=self._describe(response, "in_progress"))
        self._after(FIRST_AUDIO_S - CREATED_S, lambda: self._answer(response))

    def _answer(self, response: _Response) -> None:
        if self._active is not response:
            return
        reply = self._caller.reply(str(response.settings["instructions"] or ""))
        if reply.seconds is None:
            self._call_tool(response)
            return
        limit = response.settings["max_output_tokens"]
        response.seconds = reply.seconds
        if isinstance(limit, int):
            per_s = 1000 / usage.OUTPUT_AUDIO_MS_PER_TOKEN + CHARACTERS_PER_S / usage.CHARS_PER_TOKEN
            response.cut = reply.seconds * per_s > limit
            response.seconds = min(reply.seconds, limit / per_s)
        response.began_at = self._caller.clock.now
        response.item = item = self._open(response, {"type": "message", "role": "assistant", "content": []})
        self._spoke = True
        self._caller.answer_begins(response.seconds, self.model)
        empty = {"type": "audio", "transcript": ""}
        self._send("response.content_part.added", **self._place(response, item), part=empty)
        self._speak(response, item, 0)

    def _speak(self, response: _Response, item: Item, piece: int) -> None:
        if self._active is not response:
            return
        if piece == PIECES:
            self._finish(response, "incomplete" if response.cut else "completed")
            return
        ms = int(response.seconds * 1000 / PIECES)
        place = self._place(response, item)
        text = words(response.seconds)
        step = len(text) // PIECES + 1
        delta = text[piece * step : (piece + 1) * step]
        response.text += delta
        self._send("response.output_audio_transcript.delta", **place, delta=delta)
        response.sent_s += ms / 1000
        item.audio_ms += ms
        head = {"type": "response.output_audio.delta", "event_id": self._id("event"), **place}
        frame = orjson.dumps({**head, "delta": audio(ms)})
        self._after(ms / 1000 / PACE, lambda: self._speak(response, item, piece + 1))
        self._caller.from_provider(self._attempt, frame, item.id, ms)

    def _call_tool(self, response: _Response) -> None:
        arguments = json.dumps({"reference": "41 72 90"})
        call_id = self._id("call")
        self._calls.add(call_id)
        response.tool, response.text = True, arguments
        wire = {"type": "function_call", "name": TOOL_NAME, "call_id": call_id, "arguments": ""}
        response.item = item = self._open(response, wire)
        place = {"response_id": response.id, "item_id": item.id, "output_index": 0, "call_id": call_id}
        item.wire["arguments"] = arguments
        kind = "response.function_call_arguments"
        self._send(f"{kind}.delta", **place, delta=arguments)
        self._send(f"{kind}.done", **place, name=TOOL_NAME, arguments=arguments)
        self._finish(response, "completed")

    def _open(self, response: _Response, wire: Event) -> Item:
        item = Item({"id": self._id("item"), "object": "realtime.item", "status": "in_progress", **wire})
        previous = self._talk.append(item)
        shown = dict(item.wire)
        self._send("response.output_item.added", response_id=response.id, output_index=0, item=shown)
        self._send("conversation.item.added", item=shown, previous_item_id=previous)
        return item

    @staticmethod
    def _place(response: _Response, item: Item) -> Event:
        return {"response_id": response.id, "item_id": item.id, "output_index": 0, "content_index": 0}

    def _cancel(self, reason: str) -> None:
        response = self._active
        assert response is not None
        self._finish(response, "cancelled", reason)

    def _finish(self, response: _Response, status: str, reason: str = "") -> None:
        self._active = None
        item = response.item
        if item is not None:
            self._close_item(response, item, status)
        bill = self._charge(response, cancelled=status == "cancelled")
        reason = reason or ("max_output_tokens" if status == "incomplete" else "")
        details = None if status == "completed" else {"type": status, "reason": reason}
        shown = {**self._describe(response, status), "status_details": details, "usage": bill}
        self._send("response.done", response=shown)

    def _close_item(self, response: _Response, item: Item, status: str) -> None:
        item.wire["status"] = "completed" if status == "completed" else "incomplete"
        if not response.tool:
            place = self._place(response, item)
            self._send("response.output_audio.done", **place)
            self._send("response.output_audio_transcript.done", **place, transcript=response.text)
            part = {"type": "audio", "transcript": response.text}
            self._send("response.content_part.done", **place, part=part)
            item.wire["content"] = [{"type": "output_audio", "transcript": response.text}]
        previous = self._talk.before(item)
        self._send("conversation.item.done", item=item.wire, previous_item_id=previous)
        self._send("response.output_item.done", response_id=response.id, output_index=0, item=item.wire)

    def _charge(self, response: _Response, *, cancelled: bool) -> Event:
        """The bill of a response. One that is cut off is billed for what had been made, not for what was sent."""
        made = response.sent_s
        if cancelled and response.item is not None:
            since = self._caller.clock.now - response.began_at
            made = min(made, max(0.0, since) * PACE)
        tokens = int(made * 1000 / usage.OUTPUT_AUDIO_MS_PER_TOKEN)
        before = self._before if self._caller.cached() else []
        bill = usage.usage(response.prompt, before, usage.text_tokens(response.text), tokens)
        self._before = response.prompt
        self._bill.responses.append((self.model, bill))
        return bill

    def _describe(self, response: _Response, status: str) -> Event:
        settings = response.settings
        output = settings["output"]
        return {
            "object": "realtime.response",
            "id": response.id,
            "status": status,
            "status_details": None,
            "output": [] if response.item is None else [response.item.wire],
            "conversation_id": "conv_provider",
            "output_modalities": settings["output_modalities"],
            "max_output_tokens": settings["max_output_tokens"],
            "audio": {"output": {"format": output["format"], "voice": output["voice"]}},
            "metadata": settings["metadata"],
            "usage": None,
        }
