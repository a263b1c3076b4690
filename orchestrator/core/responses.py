"""A response under way, and the events that open, fill and close one in the protocol's own order.

`OpenResponse` is state: Tier A's follower fills it from what the provider sends, the local tiers from what they
say. `ResponseWriter` turns changes of it into server events. Because both share the state, a response that a
provider left half open can be closed, or carried on, by the next tier.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.core.conversation import Conversation, Item
from orchestrator.core.playback import Playback
from orchestrator.protocol.audio import AudioFormat
from orchestrator.protocol.wire import Event, Ids

MAX_METADATA = 16


@dataclass(slots=True)
class OpenPart:
    index: int
    kind: str
    """``audio`` or ``text``."""
    words: str = ""
    audio_ms: float = 0.0
    audio_done: bool = False
    words_done: bool = False
    looked_at: int = 0
    """Characters of `words` that guardrails were asked about."""


@dataclass(slots=True)
class OpenItem:
    id: str
    output_index: int
    kind: str
    """``message`` or ``function_call``."""
    parts: dict[int, OpenPart] = field(default_factory=dict)
    name: str = ""
    call_id: str = ""
    arguments: str = ""
    announced: bool = False
    """``conversation.item.added`` was sent (never for out-of-band responses)."""
    item_done: bool = False
    """``conversation.item.done`` was sent."""


@dataclass(slots=True)
class OpenResponse:
    id: str
    wire: Event
    """The response object of ``response.created``, as the client saw it."""
    out_of_band: bool = False
    client_asked: bool = False
    """The client's own ``response.create`` started it; else the server's turn detection did."""
    request: Event = field(default_factory=dict)
    """The `response` object of that ``response.create``."""
    items: dict[int, OpenItem] = field(default_factory=dict)
    """Items not yet done, by output_index."""
    finished: list[Event] = field(default_factory=list)
    """Items that are done, as `response.done` lists them."""
    next_index: int = 0
    owed_since: float = 0.0
    """When the caller's turn ended, or the client asked: latency is counted from here."""
    first_audio_at: float | None = None
    handed_tool: bool = False
    """A complete function call was shown to the client."""
    turn: int = 0
    """Its number in the call's `Outcomes`."""
    held: Event | None = None
    """The ``response.created`` that the client has not been shown: the response may be none of its business."""
    hidden: dict[int, list[Event]] = field(default_factory=dict)
    """Calls of tools that the server runs, by output_index: what the provider said of them."""
    say: str | None = None
    """Its words, where they are not the model's to choose."""
    rounds: int = 0
    """How often its answer has gone on after tools."""
    veto: str = ""
    """The prompt that is said instead of it: a guardrail has vetoed it, or the turn it answers."""

    @property
    def speaks(self) -> bool:
        return "audio" in (self.wire.get("output_modalities") or ["audio"])


class ResponseWriter:
    """Writes responses for one call. `send` takes an event without its ``event_id``."""

    def __init__(
        self, ids: Ids, conversation: Conversation, playback: Playback, send: Callable[[Event], None]
    ) -> None:
        self._ids = ids
        self._conversation = conversation
        self._playback = playback
        self._send = send

    def create(
        self,
        request: Event,
        session: Event,
        conversation_id: str,
        extra_metadata: dict[str, str],
        *,
        client_asked: bool,
        owed_since: float,
    ) -> OpenResponse:
        """Open a response of our own and tell the client."""
        out_of_band = request.get("conversation") == "none"
        output = session["audio"]["output"]
        wire: Event = {
            "id": self._ids.new("resp"),
            "object": "realtime.response",
            "status": "in_progress",
            "status_details": None,
            "output": [],
            "conversation_id": None if out_of_band else conversation_id,
            "output_modalities": request.get("output_modalities") or session["output_modalities"],
            "max_output_tokens": request.get("max_output_tokens") or session["max_output_tokens"],
            "audio": {"output": {"format": output["format"], "voice": output["voice"]}},
            "metadata": merge_metadata(request.get("metadata"), extra_metadata),
            "usage": None,
        }
        response = OpenResponse(
            wire["id"],
            wire,
            out_of_band=out_of_band,
            client_asked=client_asked,
            request=request,
            owed_since=owed_since,
        )
        self._send({"type": "response.created", "response": wire})
        return response

    def open_message(self, response: OpenResponse, *, bridge: bool = False) -> OpenItem:
        item = OpenItem(self._ids.new("item"), response.next_index, "message")
        part = item.parts[0] = OpenPart(0, "audio" if response.speaks else "text")
        wire: Event = {
            "id": item.id,
            "object": "realtime.item",
            "type": "message",
            "status": "in_progress",
            "role": "assistant",
            "content": [],
        }
        self._open_item(response, item, wire, bridge=bridge)
        empty = {"type": "audio", "transcript": ""} if part.kind == "audio" else {"type": "text", "text": ""}
        self._send(
            {
                "type": "response.content_part.added",
                **_place(response, item),
                "content_index": 0,
                "part": empty,
            }
        )
        return item

    def _open_item(
        self, response: OpenResponse, item: OpenItem, wire: Event, *, bridge: bool = False
    ) -> None:
        response.items[item.output_index] = item
        response.next_index = item.output_index + 1
        self._send(
            {
                "type": "response.output_item.added",
                "response_id": response.id,
                "output_index": item.output_index,
                "item": wire,
            }
        )
        if response.out_of_band:
            return
        previous = self._conversation.last_shown
        said = Item(item.id, wire, transcript="", bridge=bridge, response_id=response.id)
        self._conversation.insert(said)
        item.announced = True
        self._send({"type": "conversation.item.added", "previous_item_id": previous, "item": wire})

    def words(self, response: OpenResponse, item: OpenItem, delta: str) -> None:
        part = item.parts[0]
        part.words += delta
        kind = "output_audio_transcript" if part.kind == "audio" else "output_text"
        self._send(
            {
                "type": f"response.{kind}.delta",
                **_place(response, item),
                "content_index": 0,
                "delta": delta,
            }
        )
        self._note_words(item)

    def audio(
        self, response: OpenResponse, item: OpenItem, data: bytes, fmt: AudioFormat, now: float
    ) -> None:
        ms = fmt.ms(len(data))
        item.parts[0].audio_ms += ms
        self._playback.add(item.id, ms, now)
        if response.first_audio_at is None:
            response.first_audio_at = now
        kept = self._conversation.get(item.id)
        if kept is not None:
            kept.sent_ms += ms
        self._send(
            {
                "type": "response.output_audio.delta",
                **_place(response, item),
                "content_index": 0,
                "delta": b64encode(data).decode(),
            }
        )

    def _note_words(self, item: OpenItem) -> None:
        kept = self._conversation.get(item.id)
        if kept is not None:
            kept.transcript = item.parts[0].words

    def function_call(self, response: OpenResponse, call_id: str, name: str, arguments: str) -> None:
        """A whole function call, from its opening to its end."""
        item = OpenItem(self._ids.new("item"), response.next_index, "function_call")
        item.name, item.call_id, item.arguments = name, call_id, arguments
        self._open_item(response, item, _function_wire(item, "in_progress", ""))
        place = {**_place(response, item), "call_id": call_id}
        self._send({"type": "response.function_call_arguments.delta", **place, "delta": arguments})
        self._send(
            {"type": "response.function_call_arguments.done", **place, "arguments": arguments, "name": name}
        )
        response.handed_tool = True
        self._finish_item(response, item, _function_wire(item, "completed", arguments))

    def close_item(self, response: OpenResponse, item: OpenItem, status: str) -> None:
        """Close an open item with what it holds. A half-open function call never gets its ``arguments.done``."""
        if item.kind == "function_call":
            self._finish_item(response, item, _function_wire(item, status, item.arguments))
            return
        if item.kind != "message":
            return
        for part in item.parts.values():
            self._close_part(response, item, part)
        self._finish_item(response, item, _message_wire(item, status))

    def _close_part(self, response: OpenResponse, item: OpenItem, part: OpenPart) -> None:
        place = {**_place(response, item), "content_index": part.index}
        if part.kind == "audio":
            if not part.audio_done:
                self._send({"type": "response.output_audio.done", **place})
            if not part.words_done:
                self._send(
                    {"type": "response.output_audio_transcript.done", **place, "transcript": part.words}
                )
            done = {"type": "audio", "transcript": part.words}
        else:
            if not part.words_done:
                self._send({"type": "response.output_text.done", **place, "text": part.words})
            done = {"type": "text", "text": part.words}
        self._send({"type": "response.content_part.done", **place, "part": done})

    def _finish_item(self, response: OpenResponse, item: OpenItem, wire: Event) -> None:
        response.items.pop(item.output_index, None)
        response.finished.append(wire)
        kept = self._conversation.get(item.id)
        if kept is not None:
            kept.wire = wire
        if not response.out_of_band and not item.item_done:
            previous = self._conversation.previous(item.id) if kept is not None else None
            if not item.announced:
                self._send({"type": "conversation.item.added", "previous_item_id": previous, "item": wire})
            self._send({"type": "conversation.item.done", "previous_item_id": previous, "item": wire})
            if kept is not None:
                kept.done = True
        self._send(
            {
                "type": "response.output_item.done",
                "response_id": response.id,
                "output_index": item.output_index,
                "item": wire,
            }
        )

    def finish(
        self,
        response: OpenResponse,
        status: str,
        *,
        reason: str | None = None,
        usage: Event | None = None,
        extra_metadata: dict[str, str] | None = None,
    ) -> None:
        """``response.done``. A cut-off response carries no reason rather than a false one."""
        for item in list(response.items.values()):
            self.close_item(response, item, "completed" if status == "completed" else "incomplete")
        details: Event | None = None
        if status != "completed":
            details = {"type": status, "reason": reason} if reason else {"type": status}
        metadata = response.wire.get("metadata")
        self._send(
            {
                "type": "response.done",
                "response": {
                    **response.wire,
                    "status": status,
                    "status_details": details,
                    "output": response.finished,
                    "usage": usage,
                    "metadata": merge_metadata(metadata, extra_metadata or {}),
                },
            }
        )


def merge_metadata(metadata: dict[str, str] | None, extra: dict[str, str]) -> dict[str, str] | None:
    """The client's pairs, and ours as far as there is room beside them."""
    merged = dict(metadata or {})
    for key, value in extra.items():
        if key in merged or len(merged) < MAX_METADATA:
            merged[key] = value
    return merged or None


def local_usage(input_tokens: int, output_tokens: int) -> Event:
    """Usage of an answer made without OpenAI: the text agent's own tokens; no audio token was billed."""
    return {
        "total_tokens": input_tokens + output_tokens,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "input_token_details": {
            "text_tokens": input_tokens,
            "audio_tokens": 0,
            "image_tokens": 0,
            "cached_tokens": 0,
            "cached_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0},
        },
        "output_token_details": {"text_tokens": output_tokens, "audio_tokens": 0},
    }


def _place(response: OpenResponse, item: OpenItem) -> Event:
    return {"response_id": response.id, "item_id": item.id, "output_index": item.output_index}


def _message_wire(item: OpenItem, status: str) -> Event:
    content = [
        {"type": "output_audio", "transcript": part.words}
        if part.kind == "audio"
        else {"type": "output_text", "text": part.words}
        for part in item.parts.values()
    ]
    return {
        "id": item.id,
        "object": "realtime.item",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def _function_wire(item: OpenItem, status: str, arguments: str) -> Event:
    return {
        "id": item.id,
        "object": "realtime.item",
        "type": "function_call",
        "status": status,
        "call_id": item.call_id,
        "name": item.name,
        "arguments": arguments,
    }
