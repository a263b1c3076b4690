"""What a client may send, checked against the OpenAI SDK's own types, with errors that help.

Source of the shapes: ``openai.types.realtime``. A client event that is wrong raises `ClientError`, which becomes
the protocol's ``error`` event; the call goes on.
"""

from __future__ import annotations

from typing import Any

import orjson
from openai.types.realtime import (
    ConversationItemCreateEvent,
    ConversationItemDeleteEvent,
    ConversationItemRetrieveEvent,
    ConversationItemTruncateEvent,
    InputAudioBufferAppendEvent,
    InputAudioBufferClearEvent,
    InputAudioBufferCommitEvent,
    OutputAudioBufferClearEvent,
    ResponseCancelEvent,
    ResponseCreateEvent,
)
from openai.types.realtime.realtime_session_create_request import RealtimeSessionCreateRequest
from pydantic import BaseModel, ValidationError

from orchestrator.protocol.wire import Event, error_event

_MODELS: dict[str, type[BaseModel] | None] = {
    "session.update": None,  # checked by `check_session`: its union would hide the reason
    "input_audio_buffer.append": InputAudioBufferAppendEvent,
    "input_audio_buffer.commit": InputAudioBufferCommitEvent,
    "input_audio_buffer.clear": InputAudioBufferClearEvent,
    "output_audio_buffer.clear": OutputAudioBufferClearEvent,
    "conversation.item.create": ConversationItemCreateEvent,
    "conversation.item.retrieve": ConversationItemRetrieveEvent,
    "conversation.item.truncate": ConversationItemTruncateEvent,
    "conversation.item.delete": ConversationItemDeleteEvent,
    "response.create": ResponseCreateEvent,
    "response.cancel": ResponseCancelEvent,
}


MAX_DEPTH = 64
"""Of arrays and objects within each other: no schema of a tool is deeper, and copying what is much deeper fails."""


class ClientError(Exception):
    """A client event that cannot be carried out. `code` is OpenAI's where it has one for the case."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "invalid_value",
        param: str | None = None,
        event_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param
        self.event_id = event_id

    def event(self) -> Event:
        return error_event(self.message, code=self.code, param=self.param, client_event_id=self.event_id)


def parse_client_event(frame: bytes) -> Event:
    """A client's frame as a checked event; ClientError otherwise."""
    try:
        event = orjson.loads(frame)
    except orjson.JSONDecodeError as error:
        raise ClientError(
            f"The message is not valid JSON ({error}). Send one JSON object per text message.",
            code="invalid_json",
        ) from None
    if _too_deep(frame, event):
        raise ClientError(
            f"The message has arrays and objects more than {MAX_DEPTH} deep within each other; flatten it.",
            code="invalid_json",
        )
    if not isinstance(event, dict):
        raise ClientError(
            f"Expected a JSON object with a 'type', got {type(event).__name__}.", code="invalid_json"
        )
    event_id = event.get("event_id")
    if event_id is not None and not isinstance(event_id, str):
        raise ClientError("'event_id' must be a string of your choice.", param="event_id")
    try:
        _check(event)
    except ClientError as error:
        error.event_id = event_id
        raise
    return event


def _too_deep(frame: bytes, event: Any) -> bool:
    if frame.count(b"[") + frame.count(b"{") <= MAX_DEPTH:
        return False
    level = [event]
    for _ in range(MAX_DEPTH):
        nested = [list(v.values()) if isinstance(v, dict) else v for v in level if isinstance(v, dict | list)]
        level = [value for values in nested for value in values]
    return any(isinstance(value, dict | list) for value in level)


def _check(event: Event) -> None:
    kind = event.get("type")
    if kind not in _MODELS:
        raise ClientError(
            f"Unknown event type {kind!r}. Supported: {', '.join(_MODELS)}.",
            code="invalid_event",
            param="type",
        )
    if kind == "conversation.item.create":
        _check_item(event.get("item"))
    model = _MODELS[kind]
    if model is not None:
        _validate(model, event, "")
    if kind == "session.update":
        check_session(event.get("session"))
    elif kind == "response.create":
        _check_response(event.get("response") or {})


def check_session(session: Any) -> None:
    """The `session` of a ``session.update``; ClientError names the field, what came, and what is allowed."""
    if not isinstance(session, dict):
        raise ClientError('\'session\' must be an object, e.g. {"type": "realtime"}.', param="session")
    if session.get("type", "realtime") != "realtime":
        raise ClientError(
            f"session.type must be 'realtime', got {session['type']!r}; transcription sessions are not served here.",
            param="session.type",
        )
    for flat, nested in _BETA_NAMES.items():
        if flat in session:
            raise ClientError(
                f"session.{flat} is the beta name; the GA name is session.{nested}.",
                code="unknown_parameter",
                param=f"session.{flat}",
            )
    _validate(RealtimeSessionCreateRequest, {"type": "realtime", **session}, "session.")
    limit = session.get("max_output_tokens")
    if isinstance(limit, int) and not 1 <= limit <= 4096:
        raise ClientError(
            f"session.max_output_tokens must be 1 to 4096 or 'inf', got {limit}.",
            param="session.max_output_tokens",
        )
    if len(session.get("output_modalities") or []) > 1:
        raise ClientError(
            'session.output_modalities must be ["audio"] or ["text"]; audio always comes with a transcript.',
            param="session.output_modalities",
        )


_BETA_NAMES = {
    "modalities": "output_modalities",
    "voice": "audio.output.voice",
    "input_audio_format": "audio.input.format",
    "output_audio_format": "audio.output.format",
    "turn_detection": "audio.input.turn_detection",
    "input_audio_transcription": "audio.input.transcription",
    "max_response_output_tokens": "max_output_tokens",
}


_ITEM_TYPES = ("message", "function_call", "function_call_output")
_ROLES = ("system", "user", "assistant")


def _check_item(item: Any) -> None:
    """Said before the SDK's union is asked, whose answer would name only one of the allowed kinds."""
    if not isinstance(item, dict) or item.get("type") not in _ITEM_TYPES:
        came = item.get("type") if isinstance(item, dict) else item
        raise ClientError(
            f"item.type must be one of {', '.join(_ITEM_TYPES)}; got {came!r}.", param="item.type"
        )
    if item["type"] == "message" and item.get("role") not in _ROLES:
        raise ClientError(
            f"item.role must be one of {', '.join(_ROLES)}; got {item.get('role')!r}.", param="item.role"
        )
    if item.get("type") == "function_call_output" and not item.get("call_id"):
        raise ClientError(
            "A function_call_output needs the 'call_id' of its function_call.", param="item.call_id"
        )
    if item.get("type") == "message" and not item.get("content"):
        raise ClientError("A message needs at least one content part.", param="item.content")


def _check_response(response: Event) -> None:
    metadata = response.get("metadata") or {}
    if len(metadata) > 16 or any(
        not isinstance(value, str) or len(key) > 64 or len(value) > 512 for key, value in metadata.items()
    ):
        raise ClientError(
            "response.metadata holds at most 16 pairs; keys up to 64 characters, values strings up to 512.",
            param="response.metadata",
        )
    if response.get("conversation", "auto") not in ("auto", "none"):
        raise ClientError("response.conversation must be 'auto' or 'none'.", param="response.conversation")


def _validate(model: type[BaseModel], value: Any, prefix: str) -> None:
    try:
        model.model_validate(value)
    except ValidationError as error:
        first = _deepest(error)
        path = prefix + ".".join(str(part) for part in first["loc"] if not _names_a_kind(str(part)))
        came = repr(first.get("input"))
        came = came if len(came) <= 80 else came[:77] + "..."
        raise ClientError(
            f"Invalid {path or 'event'}: {first['msg']}; got {came}.", param=path or None
        ) from None


def _names_a_kind(part: str) -> bool:
    """Whether part of a place in a value is no field, but the member of a union that the value was held against."""
    return part[:1].isupper() or part in ("str", "int", "float", "bool") or part.startswith("literal[")


def _deepest(error: ValidationError) -> Any:
    """Of a union's many complaints the one that got furthest into the value: the likeliest to be meant."""
    return max(error.errors(include_url=False), key=lambda row: len(row["loc"]))
