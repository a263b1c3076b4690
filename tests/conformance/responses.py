"""State machines of what a server streams: a response, its items, their parts, the streams of a part.

Each record has a phase, open or closed. Handlers are called with events whose references are in place
(`shapes.can_follow`), move the records on, and report what must not happen in the phase they find.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from tests.conformance import shapes
from tests.conformance.rules import Rule

Report = Callable[[Rule, str], None]
JsonObject = dict[str, Any]

CALL_ID_LIMIT = 32
"""A call_id that is longer cannot be replayed into a provider session."""


class Phase(Enum):
    OPEN = auto()
    CLOSED = auto()


@dataclass(slots=True)
class Stream:
    """The deltas of one thing: audio, transcript, text or arguments. Audio keeps no bytes."""

    phase: Phase = Phase.OPEN
    text: str = ""


@dataclass(slots=True)
class Part:
    kind: str
    streams: dict[str, Stream]
    phase: Phase = Phase.OPEN


@dataclass(slots=True)
class OutputItem:
    id: str
    type: str
    output_index: int
    first: JsonObject
    phase: Phase = Phase.OPEN
    announced: bool = False
    settled: bool = False
    """conversation.item.done came."""
    parts: dict[int, Part] = field(default_factory=dict)
    arguments: Stream = field(default_factory=Stream)


@dataclass(slots=True)
class Response:
    id: str
    conversation_id: str | None
    metadata: JsonObject
    pcm: bool
    cancels_seen: int
    speech_seen: int
    phase: Phase = Phase.OPEN
    items: dict[str, OutputItem] = field(default_factory=dict)

    @property
    def out_of_band(self) -> bool:
        return self.conversation_id is None


@dataclass(slots=True)
class Surroundings:
    """What responses need to know of the rest of the connection; the checker keeps it."""

    hears_client: bool = False
    """Whether what the client sent is in the log."""
    cancels: int = 0
    speech_starts: int = 0
    speaking: bool = False
    pcm_output: bool = True
    tell_tier: bool = False
    item_ids: set[str] = field(default_factory=set)
    """Every item id seen so far."""


PARTS = {"audio": ("audio", "transcript"), "text": ("text",)}
ITEM_CONTENT = {"audio": ("output_audio", "transcript"), "text": ("output_text", "text")}

STREAMS = {
    "response.output_audio": ("audio", "audio", ""),
    "response.output_audio_transcript": ("audio", "transcript", "transcript"),
    "response.output_text": ("text", "text", "text"),
}
"""Event stem to part kind, stream, and the field of its `.done` that repeats the whole."""


class Responses:
    def __init__(self, report: Report, around: Surroundings) -> None:
        self._report = report
        self._around = around
        self._responses: dict[str, Response] = {}
        self._owners: dict[str, Response] = {}
        self._call_ids: set[str] = set()
        self._conversation_id: str | None = None

    def owner(self, item_id: str) -> tuple[Response, OutputItem] | None:
        """The response that streams or streamed this item."""
        response = self._owners.get(item_id)
        return (response, response.items[item_id]) if response else None

    def open_at_end(self) -> Iterator[tuple[Rule, str]]:
        for response in self._responses.values():
            if response.phase is Phase.OPEN:
                yield Rule.RESPONSE_OPEN, f"{response.id} never had its response.done"

    # Responses

    def on_created(self, event: JsonObject) -> None:
        body = event["response"]
        self._check_body(body)
        if body.get("status", "in_progress") != "in_progress":
            self._report(Rule.RESPONSE_STATUS, f"{body['id']} is created as {body['status']!r}")
        if body["id"] in self._responses:
            self._report(Rule.RESPONSE_ID, f"response id {body['id']} was used before")
            return
        response = Response(
            id=body["id"],
            conversation_id=body.get("conversation_id"),
            metadata=body.get("metadata") or {},
            pcm=self._is_pcm(body),
            cancels_seen=self._around.cancels,
            speech_seen=self._around.speech_starts,
        )
        self._check_conversation(response)
        self._responses[response.id] = response

    def _check_conversation(self, response: Response) -> None:
        if response.out_of_band:
            return
        if self._conversation_id not in (None, response.conversation_id):
            self._report(
                Rule.RESPONSE_CONVERSATION,
                f"{response.id} is in {response.conversation_id}, the conversation is {self._conversation_id}",
            )
        self._conversation_id = response.conversation_id
        for other in self._responses.values():
            if other.phase is Phase.OPEN and not other.out_of_band:
                self._report(Rule.RESPONSE_OVERLAP, f"{response.id} is created while {other.id} is active")

    def _is_pcm(self, body: JsonObject) -> bool:
        audio_format = ((body.get("audio") or {}).get("output") or {}).get("format") or {}
        return audio_format.get("type") == "audio/pcm" if "type" in audio_format else self._around.pcm_output

    def _check_body(self, body: JsonObject) -> None:
        for sentence in shapes.response_faults(body):
            self._report(Rule.RESPONSE_SHAPE, sentence)
        for sentence in shapes.metadata_faults(body.get("metadata")):
            self._report(Rule.METADATA, f"metadata of {body['id']}: {sentence}")
        if self._around.tell_tier:
            for sentence in shapes.tier_faults(body.get("metadata")):
                self._report(Rule.TIER_METADATA, f"{body['id']}: {sentence}")

    def on_done(self, event: JsonObject) -> None:
        body = event["response"]
        response = self._responses.get(body["id"])
        if response is None:
            self._report(Rule.RESPONSE_UNKNOWN, f"response.done for {body['id']}, which was never created")
            return
        if response.phase is Phase.CLOSED:
            self._report(Rule.RESPONSE_DONE_AGAIN, f"a second response.done for {response.id}")
            return
        response.phase = Phase.CLOSED
        self._check_body(body)
        self._check_end(response, body)
        for item in response.items.values():
            self._check_item_ended(response, item)
        self._check_output(response, body)

    def _check_end(self, response: Response, body: JsonObject) -> None:
        status = body.get("status")
        if "status" in body and status not in shapes.FINAL_STATUSES:
            self._report(Rule.RESPONSE_STATUS, f"{response.id} ends as {status!r}")
        if body.get("conversation_id") != response.conversation_id and "conversation_id" in body:
            self._report(
                Rule.RESPONSE_CONVERSATION,
                f"{response.id} began in {response.conversation_id} and ends in {body['conversation_id']}",
            )
        for sentence in shapes.reason_faults(body):
            self._report(Rule.STATUS_REASON, f"{response.id}: {sentence}")
        self._check_reason_true(response, body)
        self._check_usage(response, body)
        lost = [
            key
            for key, value in response.metadata.items()
            if key not in ("tier", "rung") and (body.get("metadata") or {}).get(key) != value
        ]
        if lost:
            self._report(Rule.METADATA_LOST, f"{response.id} ends without its metadata {', '.join(lost)}")

    def _check_reason_true(self, response: Response, body: JsonObject) -> None:
        around, reason = self._around, (body.get("status_details") or {}).get("reason")
        if reason == "client_cancelled" and around.hears_client and around.cancels == response.cancels_seen:
            self._report(
                Rule.REASON_FALSE, f"{response.id} says client_cancelled, the client never cancelled"
            )
        quiet = around.speech_starts == response.speech_seen and not around.speaking
        if reason == "turn_detected" and quiet:
            self._report(Rule.REASON_FALSE, f"{response.id} says turn_detected, nobody began to speak")

    def _check_usage(self, response: Response, body: JsonObject) -> None:
        usage = body.get("usage")
        if body.get("status") == "completed" and not usage:
            self._report(Rule.USAGE_MISSING, f"{response.id} is completed and has no usage")
        if isinstance(usage, dict):
            for sentence in shapes.usage_faults(usage):
                self._report(Rule.USAGE_SUM, f"{response.id}: {sentence}")

    def _check_item_ended(self, response: Response, item: OutputItem) -> None:
        if item.phase is Phase.OPEN:
            self._report(Rule.ITEM_OPEN, f"{response.id} is done, its item {item.id} was never closed")
        elif not response.out_of_band and not item.settled:
            self._report(Rule.ITEM_OPEN, f"{response.id} is done, {item.id} had no conversation.item.done")

    def _check_output(self, response: Response, body: JsonObject) -> None:
        output = body.get("output")
        if not isinstance(output, list):
            return
        listed = [item.get("id") for item in output if isinstance(item, dict)]
        streamed = [item.id for item in response.items.values()]
        if listed != streamed:
            self._report(Rule.RESPONSE_OUTPUT, f"{response.id} lists {listed}, streamed were {streamed}")
            return
        for item in output:
            self.check_final(response.items[item["id"]], item)

    # Items

    def on_item_added(self, event: JsonObject) -> None:
        response, body = self._active(event), event["item"]
        if response is None:
            return
        for sentence in shapes.item_faults(body, streamed=True):
            self._report(Rule.ITEM_SHAPE, sentence)
        if body["id"] in response.items:
            self._report(Rule.ITEM_AGAIN, f"{body['id']} is opened twice in {response.id}")
            return
        if body["id"] in self._around.item_ids:
            self._report(Rule.ITEM_ID, f"item id {body['id']} was used before")
            return
        if body.get("status", "in_progress") != "in_progress":
            self._report(Rule.ITEM_STATUS, f"{body['id']} is opened as {body['status']!r}")
        last = max((item.output_index for item in response.items.values()), default=-1)
        if event["output_index"] <= last:
            self._report(Rule.OUTPUT_INDEX, f"{body['id']} has index {event['output_index']}, after {last}")
        item = OutputItem(body["id"], body.get("type", ""), event["output_index"], body)
        response.items[item.id] = item
        self._owners[item.id] = response
        self._around.item_ids.add(item.id)
        if item.type == "function_call":
            self._check_call_id(body)

    def _check_call_id(self, body: JsonObject) -> None:
        call_id = body.get("call_id")
        if not isinstance(call_id, str):
            return
        if call_id in self._call_ids:
            self._report(Rule.CALL_ID, f"call_id {call_id} was used before")
        if len(call_id) > CALL_ID_LIMIT:
            self._report(
                Rule.CALL_ID, f"call_id {call_id} has {len(call_id)} characters, over {CALL_ID_LIMIT}"
            )
        self._call_ids.add(call_id)

    def on_item_done(self, event: JsonObject) -> None:
        response, body = self._active(event), event["item"]
        if response is None:
            return
        item = response.items.get(body["id"])
        if item is None:
            self._report(Rule.ITEM_UNKNOWN, f"{body['id']} is closed in {response.id}, it was never opened")
            return
        self._check_index(item, event)
        for sentence in shapes.item_faults(body, streamed=True):
            self._report(Rule.ITEM_SHAPE, sentence)
        if item.phase is Phase.CLOSED:
            self._report(Rule.ITEM_AGAIN, f"{item.id} is closed twice")
            return
        item.phase = Phase.CLOSED
        if not item.announced and not response.out_of_band:
            self._report(Rule.ITEM_UNANNOUNCED, f"{item.id} is closed before its conversation.item.added")
        self._check_call(item, body)
        self.check_final(item, body)

    def _check_call(self, item: OutputItem, body: JsonObject) -> None:
        if item.type != "function_call":
            return
        done = item.arguments.phase is Phase.CLOSED
        if body.get("status") == "incomplete" and done:
            self._report(Rule.CALL_ACTED, f"call {item.id} ends incomplete after its arguments.done")
        if body.get("status") != "completed":
            return
        if not done:
            self._report(Rule.CALL_ARGUMENTS, f"call {item.id} is completed without arguments.done")
        if not _is_json_object(body.get("arguments")):
            self._report(Rule.CALL_ARGUMENTS, f"arguments of {item.id} are {body.get('arguments')!r}")

    def check_final(self, item: OutputItem, body: JsonObject) -> None:
        """`body` is the item as an event shows it when it has ended."""
        if body.get("status") not in ("completed", "incomplete", None):
            self._report(Rule.ITEM_STATUS, f"{item.id} ends as {body['status']!r}")
        for key in ("type", "role", "name", "call_id"):
            if body.get(key) != item.first.get(key):
                self._report(
                    Rule.ITEM_CHANGED,
                    f"{item.id} was opened with {key} {item.first.get(key)!r}, is now {body.get(key)!r}",
                )
        for index, part in item.parts.items():
            if part.phase is Phase.OPEN:
                self._report(Rule.PART_OPEN, f"{item.id} ends, its part {index} was never closed")
        if item.type == "message":
            self._check_content(item, body.get("content") or [])
        elif item.type == "function_call":
            self._compare(item.id, item.arguments.text, body.get("arguments"))

    def _check_content(self, item: OutputItem, content: list[JsonObject]) -> None:
        if len(content) != len(item.parts):
            self._report(
                Rule.CONTENT_MISMATCH,
                f"{item.id} shows {len(content)} parts, {len(item.parts)} were streamed",
            )
            return
        for part, shown in zip(item.parts.values(), content, strict=True):
            kind, words = ITEM_CONTENT[part.kind]
            if shown.get("type") != kind:
                self._report(Rule.PART_TYPE, f"{item.id} shows a part {shown.get('type')!r}, not {kind!r}")
            else:
                self._compare(item.id, part.streams[words].text, shown.get(words))

    def _compare(self, item_id: str, streamed: str, shown: Any) -> None:
        if isinstance(shown, str) and shown != streamed:
            self._report(Rule.CONTENT_MISMATCH, f"{item_id} streamed {streamed!r}, now shows {shown!r}")

    # Parts

    def on_part_added(self, event: JsonObject) -> None:
        if (item := self._open_item(event, Rule.PART_OUTSIDE_ITEM)) is None:
            return
        if item.type != "message":
            self._report(Rule.PART_OUTSIDE_ITEM, f"a part is added to {item.id}, which is a {item.type}")
            return
        self._check_announced(item)
        index, kind = event["content_index"], event["part"].get("type")
        if index in item.parts:
            self._report(Rule.PART_AGAIN, f"part {index} of {item.id} is opened twice")
            return
        if index != len(item.parts):
            self._report(
                Rule.CONTENT_INDEX, f"part {index} of {item.id} comes where {len(item.parts)} should"
            )
        kind = kind if kind in PARTS else "audio"
        item.parts[index] = Part(kind, {name: Stream() for name in PARTS[kind]})

    def on_part_done(self, event: JsonObject) -> None:
        if (item := self._open_item(event, Rule.PART_OUTSIDE_ITEM)) is None:
            return
        index, kind = event["content_index"], event["part"].get("type")
        part = item.parts.get(index)
        if part is None:
            self._report(Rule.PART_OUTSIDE_ITEM, f"part {index} of {item.id} is closed, it was never opened")
            return
        if part.phase is Phase.CLOSED:
            self._report(Rule.PART_AGAIN, f"part {index} of {item.id} is closed twice")
            return
        part.phase = Phase.CLOSED
        if kind in PARTS and kind != part.kind:
            self._report(Rule.PART_TYPE, f"part {index} of {item.id} opened as {part.kind}, closes as {kind}")
            return
        for name, stream in part.streams.items():
            if stream.phase is Phase.OPEN:
                self._report(Rule.STREAM_OPEN, f"part {index} of {item.id} closes, its {name} had no done")
        words = ITEM_CONTENT[part.kind][1]
        self._compare(item.id, part.streams[words].text, event["part"].get(words))

    def on_stream(self, event: JsonObject) -> None:
        """Deltas and dones of audio, transcript and text."""
        stem, _, ending = event["type"].rpartition(".")
        kind, name, whole = STREAMS[stem]
        if (item := self._open_item(event, Rule.DELTA_OUTSIDE_PART)) is None:
            return
        index = event["content_index"]
        part = item.parts.get(index)
        if part is None or part.phase is Phase.CLOSED:
            self._report(Rule.DELTA_OUTSIDE_PART, f"{event['type']} for part {index} of {item.id}: not open")
            return
        if part.kind != kind:
            self._report(Rule.PART_TYPE, f"{event['type']} in the {part.kind} part {index} of {item.id}")
            return
        self._feed(item, part.streams[name], event, ending, whole)
        if name == "audio" and ending == "delta":
            self._check_audio(event)

    def _feed(self, item: OutputItem, stream: Stream, event: JsonObject, ending: str, whole: str) -> None:
        if stream.phase is Phase.CLOSED:
            self._report(Rule.STREAM_AGAIN, f"{event['type']} for {item.id} after the stream's done")
        elif ending == "done":
            stream.phase = Phase.CLOSED
            if whole:
                self._compare(item.id, stream.text, event.get(whole))
        elif event["type"] != "response.output_audio.delta" and isinstance(event.get("delta"), str):
            stream.text += event["delta"]

    def _check_audio(self, event: JsonObject) -> None:
        if not isinstance(event.get("delta"), str):
            return
        try:
            data = base64.b64decode(event["delta"], validate=True)
        except binascii.Error as error:
            self._report(Rule.DELTA_BASE64, f"audio of {event['item_id']} does not decode: {error}")
            return
        if len(data) % 2 and self._responses[event["response_id"]].pcm:
            self._report(Rule.DELTA_ODD, f"a PCM delta of {event['item_id']} has {len(data)} bytes")

    # Function calls

    def on_arguments(self, event: JsonObject) -> None:
        if (item := self._open_item(event, Rule.ITEM_OVER)) is None:
            return
        if item.type != "function_call":
            self._report(Rule.CALL_KIND, f"{event['type']} for {item.id}, which is a {item.type}")
            return
        self._check_announced(item)
        for key in ("call_id", "name"):
            first, here = item.first.get(key), event.get(key)
            if isinstance(first, str) and isinstance(here, str) and first != here:
                self._report(Rule.ITEM_CHANGED, f"{item.id} has {key} {first!r}, here {here!r}")
        self._feed(item, item.arguments, event, event["type"].rpartition(".")[2], "arguments")

    # Finding what an event is about

    def on_other(self, event: JsonObject) -> None:
        """Events of a response that carry no state here (MCP)."""
        if "response_id" in event:
            self._active(event)

    def _active(self, event: JsonObject) -> Response | None:
        response = self._responses.get(event["response_id"])
        if response is None:
            self._report(Rule.RESPONSE_UNKNOWN, f"{event['type']} for {event['response_id']}: never created")
        elif response.phase is Phase.CLOSED:
            self._report(Rule.RESPONSE_OVER, f"{event['type']} for {response.id} after its response.done")
            return None
        return response

    def _open_item(self, event: JsonObject, closed: Rule) -> OutputItem | None:
        """The open item of an event; `closed` is the rule broken when it is not open any more."""
        if (response := self._active(event)) is None:
            return None
        item = response.items.get(event["item_id"])
        if item is None:
            self._report(Rule.ITEM_UNKNOWN, f"{event['type']} for {event['item_id']}: not in {response.id}")
            return None
        self._check_index(item, event)
        if item.phase is Phase.CLOSED or item.settled:
            self._report(closed, f"{event['type']} for {item.id}, which is closed")
            return None
        return item

    def _check_index(self, item: OutputItem, event: JsonObject) -> None:
        if event["output_index"] != item.output_index:
            self._report(
                Rule.OUTPUT_INDEX, f"{item.id} has index {item.output_index}, here {event['output_index']}"
            )

    def _check_announced(self, item: OutputItem) -> None:
        if not item.announced and not self._owners[item.id].out_of_band:
            self._report(Rule.ITEM_UNANNOUNCED, f"{item.id} has content before its conversation.item.added")


def _is_json_object(text: Any) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (TypeError, ValueError):
        return False
