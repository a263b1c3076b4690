"""What single objects must look like, whatever came before them.

The fields and types are the OpenAI SDK's own models, read strictly. The functions here add what the SDK leaves
optional and real clients rely on; each yields one sentence for every fault.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

from openai.types.realtime import RealtimeServerEvent
from pydantic import BaseModel, ValidationError

from tests.conformance.rules import Rule

JsonObject = dict[str, Any]


def _models() -> dict[str, type[BaseModel]]:
    union = typing.get_args(RealtimeServerEvent)[0]
    return {
        typing.get_args(model.model_fields["type"].annotation)[0]: model for model in typing.get_args(union)
    }


MODELS = _models()
"""Event type to the SDK's model of it."""

RETIRED = {"conversation.item.created"}
"""Still typed by the SDK; the GA service sends conversation.item.added and .done."""
OTHER_TRANSPORTS = {
    "output_audio_buffer.started",
    "output_audio_buffer.stopped",
    "output_audio_buffer.cleared",
    "input_audio_buffer.dtmf_event_received",
}

SKELETON: dict[str, type] = {
    "response_id": str,
    "item_id": str,
    "output_index": int,
    "content_index": int,
    "response": dict,
    "item": dict,
    "part": dict,
    "session": dict,
    "error": dict,
}
"""Without these of its fields an event cannot be followed, and is left out of the state machines."""

FINAL_STATUSES = {"completed", "cancelled", "failed", "incomplete"}
REASONS: dict[str, set[str | None]] = {
    "completed": {None},
    "cancelled": {None, "turn_detected", "client_cancelled"},
    "incomplete": {None, "max_output_tokens", "content_filter"},
    "failed": {None},
}
MAX_PAIRS, MAX_KEY, MAX_VALUE = 16, 64, 512
TIERS = {"A", "B", "C"}


def field_errors(event: JsonObject) -> list[tuple[Rule, str]]:
    """Missing and ill-typed fields by the SDK's model, each with the rule that names it best."""
    try:
        MODELS[event["type"]].model_validate(event, strict=True)
    except ValidationError as error:
        return [(_rule(event["type"], loc), f"{_path(loc)}: {message}") for loc, message in _relevant(error)]
    return []


def _relevant(error: ValidationError) -> list[tuple[tuple[Any, ...], str]]:
    """The errors of the union members that the object's own `type` and `role` select."""
    found = [(detail["loc"], detail["type"], detail["msg"]) for detail in error.errors(include_url=False)]
    dead = {
        loc[:-1]
        for loc, kind, _ in found
        if kind == "literal_error" and loc[-1] in ("type", "role") and len(loc) > 1 and _is_member(loc[-2])
    }
    alive = [
        (loc, message)
        for loc, _, message in found
        if not any(loc[: len(branch)] == branch for branch in dead)
    ]
    return alive or [((), "no known kind of object fits")]


def _is_member(part: object) -> bool:
    """Whether a step of a location is the name of a union's member and not of a field."""
    return isinstance(part, str) and part[:1].isupper()


def _path(loc: tuple[Any, ...]) -> str:
    return ".".join(str(part) for part in loc if not _is_member(part)) or "event"


def _rule(kind: str, loc: tuple[Any, ...]) -> Rule:
    last = loc[-1] if loc else ""
    if kind == "error" and loc[:1] == ("error",):
        return Rule.ERROR_SHAPE
    if kind.startswith("session.") and loc[:1] == ("session",):
        return Rule.SESSION_SHAPE
    if kind.endswith("transcription.completed") and "usage" in loc:
        return Rule.TRANSCRIPTION_USAGE
    if kind == "response.function_call_arguments.done" and last == "name":
        return Rule.CALL_NAME
    if kind.startswith("response.content_part.") and loc == ("part", "type"):
        return Rule.PART_TYPE
    for part, rule in (("metadata", Rule.METADATA), ("status_details", Rule.STATUS_REASON)):
        if part in loc:
            return rule
    return Rule.SCHEMA


def can_follow(event: JsonObject) -> bool:
    """Whether the fields that say what an event is about are there, so that state can be kept."""
    for name, field in MODELS[event["type"]].model_fields.items():
        if name not in SKELETON or not field.is_required():
            continue
        if not isinstance(event.get(name), SKELETON[name]):
            return False
        if name in ("item", "response"):
            named = event[name].get("id")
            if not isinstance(named, str) or not named:
                return False
    return True


SESSION_PATHS = {
    "realtime": (
        "id",
        "object",
        "model",
        "expires_at",
        "output_modalities",
        "instructions",
        "tools",
        "tool_choice",
        "max_output_tokens",
        "audio.input.format",
        "audio.input.turn_detection",
        "audio.input.transcription",
        "audio.output.format",
        "audio.output.voice",
    ),
    "transcription": ("id", "object", "expires_at", "audio.input.format", "audio.input.transcription"),
}
NULLABLE = {"audio.input.turn_detection", "audio.input.transcription"}
_ABSENT = object()


def _at(session: JsonObject, path: str) -> Any:
    value: Any = session
    for key in path.split("."):
        value = value.get(key, _ABSENT) if isinstance(value, dict) else _ABSENT
    return value


def session_faults(session: JsonObject) -> Iterator[str]:
    for path in SESSION_PATHS.get(session.get("type", ""), ()):
        value = _at(session, path)
        if value is _ABSENT:
            yield f"session.{path} is missing: the object is always the full effective one"
        elif value is None and path not in NULLABLE:
            yield f"session.{path} is null"
    for side in ("input", "output"):
        audio_format = _at(session, f"audio.{side}.format")
        if isinstance(audio_format, dict) and "type" not in audio_format:
            yield f"session.audio.{side}.format has no type"
    if session.get("output_modalities", ["audio"]) not in (["audio"], ["text"]):
        yield f"output_modalities is ['audio'] or ['text'], not {session['output_modalities']!r}"
    if session.get("object", "realtime.session") not in (
        "realtime.session",
        "realtime.transcription_session",
    ):
        yield f"session.object is {session['object']!r}"


def orchestrator_faults(session: JsonObject) -> Iterator[str]:
    told = session.get("orchestrator")
    if not isinstance(told, dict):
        yield f"session.orchestrator is {told!r}, not an object"
        return
    for key in ("call_id", "tier", "rung", "reason"):
        if not isinstance(told.get(key), str) or not told[key]:
            yield f"session.orchestrator.{key} is {told.get(key)!r}, not a string that says something"
    if told.get("tier") not in TIERS:
        yield f"session.orchestrator.tier is {told.get('tier')!r}"


def tier_faults(metadata: Any) -> Iterator[str]:
    metadata = metadata if isinstance(metadata, dict) else {}
    if len(metadata) >= MAX_PAIRS:
        return  # the client's own pairs come first, and fill it
    if metadata.get("tier") not in TIERS:
        yield f"response.metadata.tier is {metadata.get('tier')!r}, not A, B or C"
    if not isinstance(metadata.get("rung"), str) or not metadata["rung"]:
        yield f"response.metadata.rung is {metadata.get('rung')!r}, not the name of a rung"


def metadata_faults(metadata: Any) -> Iterator[str]:
    """Limits of a metadata object; that its values are strings is the SDK's own rule."""
    if not isinstance(metadata, dict):
        return
    if len(metadata) > MAX_PAIRS:
        yield f"{len(metadata)} pairs, more than {MAX_PAIRS}"
    for key, value in metadata.items():
        if len(key) > MAX_KEY:
            yield f"key {key[:20]!r}… has {len(key)} characters, more than {MAX_KEY}"
        if isinstance(value, str) and len(value) > MAX_VALUE:
            yield f"value of {key!r} has {len(value)} characters, more than {MAX_VALUE}"


def response_faults(response: JsonObject) -> Iterator[str]:
    for key in ("object", "status", "output", "conversation_id"):
        if key not in response:
            yield f"response.{key} is missing"
    if not isinstance(response.get("output", []), list):
        yield "response.output is not a list"


def settings_faults(response: JsonObject, session: JsonObject, request: JsonObject) -> Iterator[str]:
    """Where a new response does not show what its request asked for, or else what its session is set to."""
    for path in ("max_output_tokens", "output_modalities", "audio.output.voice", "audio.output.format"):
        shown, wanted = _at(response, path), _at(request, path)
        wanted = _at(session, path) if wanted in (_ABSENT, None) else wanted
        if shown not in (_ABSENT, None) and wanted is not _ABSENT and shown != wanted:
            yield f"response.{path} is {shown!r}, the client was told {wanted!r}"


def item_faults(item: JsonObject, *, streamed: bool) -> Iterator[str]:
    """`streamed`: the item belongs to a response, so status and content have to be there."""
    if not item.get("id"):
        yield "the item has no id"
    if streamed and item.get("status") is None:
        yield f"item {item.get('id')} has no status"
    if item.get("type") == "function_call" and not item.get("call_id"):
        yield f"function call item {item.get('id')} has no call_id"


def reason_faults(response: JsonObject) -> Iterator[str]:
    """Whether status_details contradicts the status; the allowed set as such is the SDK's own rule."""
    status, details = response.get("status"), response.get("status_details")
    if not isinstance(details, dict) or status not in FINAL_STATUSES:
        return
    if details.get("type") not in (None, status):
        yield f"status_details.type is {details['type']!r} in a response that is {status}"
    if details.get("reason") not in REASONS[status]:
        yield f"reason {details['reason']!r} does not go with status {status}"
    if details.get("error") and status != "failed":
        yield f"status_details.error in a response that is {status}"


def usage_faults(usage: JsonObject) -> Iterator[str]:
    """Sums of a response's usage, in tokens; cached tokens are a subset of input."""
    total, into, out = (_count(usage, key) for key in ("total_tokens", "input_tokens", "output_tokens"))
    if total != into + out:
        yield f"total_tokens {total} is not input {into} + output {out}"
    inputs, outputs = usage.get("input_token_details"), usage.get("output_token_details")
    if isinstance(inputs, dict):
        yield from _sum_fault("input_tokens", into, inputs, ("text_tokens", "audio_tokens", "image_tokens"))
        cached = _count(inputs, "cached_tokens")
        if cached > into:
            yield f"cached_tokens {cached} is more than input_tokens {into}"
        parts = inputs.get("cached_tokens_details")
        if isinstance(parts, dict):
            yield from _sum_fault(
                "cached_tokens", cached, parts, ("text_tokens", "audio_tokens", "image_tokens")
            )
    if isinstance(outputs, dict):
        yield from _sum_fault("output_tokens", out, outputs, ("text_tokens", "audio_tokens"))


def _sum_fault(name: str, total: int, details: JsonObject, keys: tuple[str, ...]) -> Iterator[str]:
    parts = sum(_count(details, key) for key in keys)
    if parts != total:
        yield f"{name} is {total}, its details add up to {parts}"


def _count(values: JsonObject, key: str) -> int:
    value = values.get(key)
    return value if isinstance(value, int) else 0


FIXED = {"type", "id", "object", "model", "expires_at"}
"""Fields of a session that an update may carry and that it cannot change."""
CLEARED = ("turn_detection", "transcription", "noise_reduction")
"""Fields whose null means off; elsewhere it stands for the default."""


def differences(wanted: Any, seen: Any, path: str = "session") -> Iterator[str]:
    """Where `seen` does not hold what `wanted` asks for; keys that `wanted` does not name are free."""
    if isinstance(wanted, dict) and isinstance(seen, dict):
        for key, value in wanted.items():
            if not (path == "session" and key in FIXED):
                yield from differences(value, seen.get(key), f"{path}.{key}")
    elif isinstance(wanted, list) and isinstance(seen, list) and len(wanted) == len(seen):
        for index, (want, see) in enumerate(zip(wanted, seen, strict=True)):
            yield from differences(want, see, f"{path}[{index}]")
    elif wanted != seen and (wanted is not None or path.endswith(CLEARED)):
        yield f"{path} was set to {wanted!r}, the session shows {seen!r}"
