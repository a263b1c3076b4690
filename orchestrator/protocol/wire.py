"""Frames of the Realtime wire: finding out what a frame is at the price of a glance, ids, and server events.

Audio frames are nine tenths of a call's traffic. `ClientAudio` and `ServerAudio` recognise them without decoding
their JSON or their base64: the type stands at the front, the number of quotation marks proves that no other
key hides in the frame, and the length of the base64 tells how long it plays. Whatever does not match exactly is
parsed in full, so a miss costs time and never correctness.
"""

from __future__ import annotations

import re
from itertools import count
from typing import Any

import orjson

Event = dict[str, Any]

_APPEND = re.compile(
    rb'\s*\{\s*(?:"event_id"\s*:\s*("[^"\\]*")\s*,\s*)?'
    rb'"type"\s*:\s*"input_audio_buffer\.append"\s*,\s*"audio"\s*:\s*"'
)
_DELTA_TYPE = re.compile(
    rb'\s*\{\s*(?:"event_id"\s*:\s*"[^"\\]*"\s*,\s*)?"type"\s*:\s*"response\.output_audio\.delta"'
)


class Ids:
    """Ids of one call: ``item_<call><n>``. Counted, so that a call's log can be read in order."""

    def __init__(self, token: str) -> None:
        self.token = token
        self._numbers = count(1)

    def new(self, prefix: str) -> str:
        return f"{prefix}_{self.token}{next(self._numbers):05x}"


def dump(event: Event) -> bytes:
    return orjson.dumps(event)


def append_audio(frame: bytes) -> tuple[int, int] | None:
    """Where the base64 of an ``input_audio_buffer.append`` frame begins and ends; None when it is not plainly one."""
    found = _APPEND.match(frame)
    if found is None:
        return None
    start = found.end()
    end = frame.find(b'"', start)
    quotes = 12 if found.group(1) else 8
    if end < 0 or frame.count(b'"') != quotes or not frame.endswith(b"}"):
        return None
    return start, end


def base64_size(length: int, padding: int = 0) -> int:
    """Bytes that `length` base64 characters stand for; without `padding` at most 2 bytes too many."""
    return max(0, length * 3 // 4 - padding)


_FILLING = ord("=")


def padding(frame: bytes, end: int) -> int:
    """How many of the base64 characters before `end` are filling."""
    return 0 if frame[end - 1] != _FILLING else 2 if frame[end - 2] == _FILLING else 1


class AudioShape:
    """The exact outline of one response's audio deltas, learnt from its first one, which was parsed in full."""

    __slots__ = ("_item", "_quotes", "_response")

    def __init__(self, frame: bytes, event: Event) -> None:
        self._quotes = frame.count(b'"')
        self._response = b'"' + event["response_id"].encode() + b'"'
        self._item = b'"' + event["item_id"].encode() + b'"'

    def base64_length(self, frame: bytes) -> int | None:
        """Length of the frame's base64 if it is the next audio delta of this same item, else None."""
        if frame.count(b'"') != self._quotes or not frame.endswith(b"}") or not _DELTA_TYPE.match(frame):
            return None
        key = frame.find(b'"delta"')
        if key < 0 or frame.find(self._response, 0, key) < 0 or frame.find(self._item, 0, key) < 0:
            return None
        start = frame.find(b'"', key + 7) + 1
        end = frame.find(b'"', start)
        return end - start if 0 < start <= end else None


KNOWN_SERVER_EVENTS: dict[str, tuple[str, ...]] = {
    "session.created": ("session",),
    "session.updated": ("session",),
    "conversation.created": ("conversation",),
    "conversation.item.created": ("item",),
    "conversation.item.added": ("item",),
    "conversation.item.done": ("item",),
    "conversation.item.retrieved": ("item",),
    "conversation.item.deleted": ("item_id",),
    "conversation.item.truncated": ("item_id", "content_index", "audio_end_ms"),
    "conversation.item.input_audio_transcription.delta": ("item_id",),
    "conversation.item.input_audio_transcription.completed": (
        "item_id",
        "content_index",
        "transcript",
        "usage",
    ),
    "conversation.item.input_audio_transcription.failed": ("item_id", "content_index", "error"),
    "conversation.item.input_audio_transcription.segment": ("item_id", "content_index", "text"),
    "input_audio_buffer.speech_started": ("audio_start_ms", "item_id"),
    "input_audio_buffer.speech_stopped": ("audio_end_ms", "item_id"),
    "input_audio_buffer.committed": ("item_id",),
    "input_audio_buffer.cleared": (),
    "input_audio_buffer.timeout_triggered": ("item_id", "audio_start_ms", "audio_end_ms"),
    "response.created": ("response",),
    "response.done": ("response",),
    "response.output_item.added": ("response_id", "output_index", "item"),
    "response.output_item.done": ("response_id", "output_index", "item"),
    "response.content_part.added": ("response_id", "item_id", "output_index", "content_index", "part"),
    "response.content_part.done": ("response_id", "item_id", "output_index", "content_index", "part"),
    "response.output_audio.delta": ("response_id", "item_id", "output_index", "content_index", "delta"),
    "response.output_audio.done": ("response_id", "item_id", "output_index", "content_index"),
    "response.output_audio_transcript.delta": (
        "response_id",
        "item_id",
        "output_index",
        "content_index",
        "delta",
    ),
    "response.output_audio_transcript.done": (
        "response_id",
        "item_id",
        "output_index",
        "content_index",
        "transcript",
    ),
    "response.output_text.delta": ("response_id", "item_id", "output_index", "content_index", "delta"),
    "response.output_text.done": ("response_id", "item_id", "output_index", "content_index", "text"),
    "response.function_call_arguments.delta": ("response_id", "item_id", "output_index", "call_id", "delta"),
    "response.function_call_arguments.done": (
        "response_id",
        "item_id",
        "output_index",
        "call_id",
        "arguments",
        "name",
    ),
    "response.mcp_call_arguments.delta": ("response_id", "item_id", "output_index", "delta"),
    "response.mcp_call_arguments.done": ("response_id", "item_id", "output_index", "arguments"),
    "response.mcp_call.in_progress": ("item_id", "output_index"),
    "response.mcp_call.completed": ("item_id", "output_index"),
    "response.mcp_call.failed": ("item_id", "output_index"),
    "mcp_list_tools.in_progress": ("item_id",),
    "mcp_list_tools.completed": ("item_id",),
    "mcp_list_tools.failed": ("item_id",),
    "rate_limits.updated": ("rate_limits",),
    "error": ("error",),
}
"""Server events a client is prepared for, each with the fields that must be there (`event_id` and `type` besides)."""

_INTEGERS = frozenset({"output_index", "content_index", "audio_start_ms", "audio_end_ms"})
_OBJECTS = frozenset({"session", "conversation", "item", "response", "part", "error"})


def parse_server_event(frame: bytes) -> tuple[Event | None, str]:
    """An upstream frame as an event that may be shown to a client, or None and what is wrong with it."""
    try:
        event = orjson.loads(frame)
    except orjson.JSONDecodeError:
        return None, "garbage"
    if not isinstance(event, dict):
        return None, "garbage"
    required = KNOWN_SERVER_EVENTS.get(event.get("type", ""))
    if required is None:
        return None, "unknown"
    if not isinstance(event.get("event_id"), str):
        return None, "garbage"
    for name in required:
        value = event.get(name)
        kind: type = int if name in _INTEGERS else dict if name in _OBJECTS else object
        if value is None or not isinstance(value, kind):
            return None, "garbage"
    return event, ""


def error_event(
    message: str,
    *,
    code: str | None = None,
    param: str | None = None,
    client_event_id: str | None = None,
    kind: str = "invalid_request_error",
) -> Event:
    """The protocol's own ``error``; the caller of this adds the event's own id."""
    return {
        "type": "error",
        "error": {
            "type": kind,
            "code": code,
            "message": message,
            "param": param,
            "event_id": client_event_id,
        },
    }
