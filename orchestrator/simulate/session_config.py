"""The effective session object: its defaults, and how `session.update` and `response.create` change it.

Shapes are checked with the `openai` package's own types, values with what its documentation allows.
"""

from __future__ import annotations

import copy
from typing import Any

from openai.types.realtime import RealtimeSessionCreateRequest, RealtimeTranscriptionSessionCreateRequest
from openai.types.realtime.realtime_response_create_params import RealtimeResponseCreateParams
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

VOICES = ("alloy", "ash", "ballad", "cedar", "coral", "echo", "marin", "sage", "shimmer", "verse")
DEFAULT_INSTRUCTIONS = "You are a helpful, friendly assistant on a voice call. Keep your answers short."
PCM = {"type": "audio/pcm", "rate": 24000}
SERVER_VAD = {
    "type": "server_vad",
    "threshold": 0.5,
    "prefix_padding_ms": 300,
    "silence_duration_ms": 500,
    "idle_timeout_ms": None,
    "create_response": True,
    "interrupt_response": True,
}
SEMANTIC_VAD = {
    "type": "semantic_vad",
    "eagerness": "auto",
    "create_response": True,
    "interrupt_response": True,
}
MAX_METADATA = 16
MAX_METADATA_KEY = 64
MAX_METADATA_VALUE = 512


class Invalid(Exception):
    """A client event that is refused: becomes an `error` event."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


def default_session(session_id: str, model: str, expires_at: int, *, transcription: bool) -> dict[str, Any]:
    """The session object of a fresh session, complete, as `session.created` shows it."""
    head = {"object": "realtime.session", "id": session_id, "expires_at": expires_at, "include": None}
    detection = {
        name: value for name, value in SERVER_VAD.items() if not transcription or "response" not in name
    }
    audio_input = {
        "format": dict(PCM),
        "transcription": None,
        "noise_reduction": None,
        "turn_detection": detection,
    }
    if transcription:
        return {"type": "transcription", **head, "audio": {"input": audio_input}}
    return {
        "type": "realtime",
        **head,
        "model": model,
        "output_modalities": ["audio"],
        "instructions": DEFAULT_INSTRUCTIONS,
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "truncation": "auto",
        "tracing": None,
        "prompt": None,
        "audio": {"input": audio_input, "output": {"format": dict(PCM), "voice": "alloy", "speed": 1.0}},
    }


def check_shape(model: type[BaseModel], value: Any, where: str) -> None:
    """Parse `value` as the SDK's own type; Invalid names the first field that does not fit, or is unknown."""
    try:
        parsed = model.model_validate(value)
    except ValidationError as error:
        first = _meant(error.errors())
        path = ".".join(str(part) for part in (where, *first["loc"]) if part != "" and _is_field(part))
        code = "missing_required_parameter" if first["type"] == "missing" else "invalid_value"
        raise Invalid(code, f"Invalid '{path}': {first['msg']}.", path) from None
    for name in parsed.model_extra or {}:
        path = f"{where}.{name}" if where else name
        raise Invalid("unknown_parameter", f"Unknown parameter: '{path}'.", path)


def _meant(errors: list[ErrorDetails]) -> ErrorDetails:
    """The error worth telling: where several types were possible, one of the type that was meant."""

    def member(error: ErrorDetails) -> tuple[Any, ...]:
        return tuple(part for part in error["loc"] if not _is_field(part))

    misfits = [
        error for error in errors if error["type"] == "literal_error" and error["loc"][-1] in ("type", "role")
    ]
    not_meant = {member(error) for error in misfits}
    meant = [error for error in errors if member(error) not in not_meant]
    return max(meant or misfits, key=lambda error: len(error["loc"]))


def _is_field(part: Any) -> bool:
    """Pydantic puts the names of union members into its paths; they are no fields of ours."""
    return isinstance(part, int) or (str(part)[:1].islower() and "[" not in str(part))


def updated_session(current: dict[str, Any], change: dict[str, Any], *, voice_locked: bool) -> dict[str, Any]:
    """The session after `change`; Invalid when any part of it is refused, and then nothing is changed."""
    kind = change.get("type")
    if kind is None:
        raise Invalid(
            "missing_required_parameter", "Missing required parameter: 'session.type'.", "session.type"
        )
    if kind != current["type"]:
        message = f"Invalid value: '{kind}'. This is a session of type '{current['type']}'."
        raise Invalid("invalid_value", message, "session.type")
    # The SDKs send these back to us; a session's identity cannot be changed with them.
    change = {name: value for name, value in change.items() if name not in ("id", "object", "expires_at")}
    if kind == "transcription":
        check_shape(RealtimeTranscriptionSessionCreateRequest, change, "session")
    else:
        check_shape(RealtimeSessionCreateRequest, change, "session")
    _check_values(change, "session")
    result = copy.deepcopy(current)
    audio = change.pop("audio", None) or {}
    result.update({name: value for name, value in change.items() if name != "type"})
    for side in ("input", "output"):
        result["audio"].setdefault(side, {}).update(
            _merged_audio(result["audio"][side], audio.get(side) or {})
        )
    _fill_defaults(result)
    if voice_locked and result["audio"]["output"]["voice"] != current["audio"]["output"]["voice"]:
        message = "Cannot update a conversation's voice if assistant audio is present."
        raise Invalid("cannot_update_voice", message, "session.audio.output.voice")
    return result


def _merged_audio(current: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    change = dict(change)
    detection = change.get("turn_detection")
    if detection is not None:
        old = current.get("turn_detection") or {}
        defaults = SERVER_VAD if detection["type"] == "server_vad" else SEMANTIC_VAD
        base = old if old.get("type") == detection["type"] else defaults
        change["turn_detection"] = {**base, **detection}
    if (change.get("format") or {}).get("type") == "audio/pcm":
        change["format"] = dict(PCM)
    return change


def _fill_defaults(session: dict[str, Any]) -> None:
    """What a null clears to."""
    if session["type"] == "transcription":
        session["audio"].pop("output", None)
        return
    defaults = {"instructions": "", "tools": [], "tool_choice": "auto", "max_output_tokens": "inf"}
    for name, value in {**defaults, "output_modalities": ["audio"], "truncation": "auto"}.items():
        if session.get(name) is None:
            session[name] = value
    for side in ("input", "output"):
        session["audio"][side]["format"] = session["audio"][side].get("format") or dict(PCM)


def response_settings(session: dict[str, Any], change: dict[str, Any] | None) -> dict[str, Any]:
    """What one response goes by: the session's settings with those of `response.create` on top."""
    change = change or {}
    if "input" in change:
        # item_reference is documented for response input, and missing in the SDK's item type.
        items = [item for item in change["input"] or [] if item.get("type") != "item_reference"]
        check_shape(RealtimeResponseCreateParams, {**change, "input": items}, "response")
    else:
        check_shape(RealtimeResponseCreateParams, change, "response")
    if change.get("conversation") not in (None, "auto", "none"):
        message = f"Invalid value: '{change['conversation']}'. Supported values are: 'auto' and 'none'."
        raise Invalid("invalid_value", message, "response.conversation")
    _check_values(change, "response")
    names = ("instructions", "output_modalities", "tools", "tool_choice", "max_output_tokens")
    settings = {name: change[name] if change.get(name) is not None else session.get(name) for name in names}
    output = dict(session["audio"]["output"])
    override = (change.get("audio") or {}).get("output") or {}
    output.update({name: value for name, value in override.items() if value is not None})
    settings["output"] = output
    settings["metadata"] = change.get("metadata")
    settings["out_of_band"] = change.get("conversation") == "none"
    settings["input"] = change.get("input")
    return settings


def _check_values(change: dict[str, Any], where: str) -> None:
    modalities = change.get("output_modalities")
    if modalities is not None and modalities not in (["audio"], ["text"]):
        message = f"Invalid modalities: {modalities}. Supported combinations are: ['text'] and ['audio']."
        raise Invalid("invalid_value", message, f"{where}.output_modalities")
    limit = change.get("max_output_tokens")
    if isinstance(limit, int) and not 1 <= limit <= 4096:
        message = f"Invalid 'max_output_tokens': {limit}. Expected an integer from 1 to 4096, or 'inf'."
        raise Invalid("invalid_value", message, f"{where}.max_output_tokens")
    _check_truncation(change.get("truncation"), where)
    _check_audio(change.get("audio") or {}, where)
    _check_metadata(change.get("metadata"), where)


def _check_truncation(truncation: Any, where: str) -> None:
    if not isinstance(truncation, dict):
        return
    ratio = truncation["retention_ratio"]
    if not 0 <= ratio <= 1:
        message = f"Invalid 'retention_ratio': {ratio}. Expected 0.0 to 1.0."
        raise Invalid("invalid_value", message, f"{where}.truncation.retention_ratio")
    limit = (truncation.get("token_limits") or {}).get("post_instructions")
    if limit is not None and limit < 0:
        message = f"Invalid 'post_instructions': {limit}. Expected 0 or more."
        raise Invalid("invalid_value", message, f"{where}.truncation.token_limits.post_instructions")


def _check_audio(audio: dict[str, Any], where: str) -> None:
    output = audio.get("output") or {}
    voice = output.get("voice")
    if isinstance(voice, str) and voice not in VOICES:
        message = f"Invalid value: '{voice}'. Supported values are: {', '.join(map(repr, VOICES))}."
        raise Invalid("invalid_value", message, f"{where}.audio.output.voice")
    speed = output.get("speed")
    if speed is not None and not 0.25 <= speed <= 1.5:
        raise Invalid(
            "invalid_value", f"Invalid 'speed': {speed}. Expected 0.25 to 1.5.", f"{where}.audio.output.speed"
        )
    for side in ("input", "output"):
        form = (audio.get(side) or {}).get("format")
        if form is not None and form.get("type") not in ("audio/pcm", "audio/pcmu", "audio/pcma"):
            message = f"Invalid format: {form}. Supported types are: 'audio/pcm', 'audio/pcmu', 'audio/pcma'."
            raise Invalid("invalid_value", message, f"{where}.audio.{side}.format.type")
    detection = (audio.get("input") or {}).get("turn_detection")
    if detection is not None and detection.get("type") not in ("server_vad", "semantic_vad"):
        message = f"Invalid turn detection: {detection}. Supported types are: 'server_vad', 'semantic_vad'."
        raise Invalid("invalid_value", message, f"{where}.audio.input.turn_detection.type")


def _check_metadata(metadata: Any, where: str) -> None:
    if metadata is None:
        return
    if len(metadata) > MAX_METADATA:
        raise Invalid(
            "invalid_value", f"Expected at most {MAX_METADATA} metadata pairs.", f"{where}.metadata"
        )
    for key, value in metadata.items():
        if len(key) > MAX_METADATA_KEY or len(value) > MAX_METADATA_VALUE:
            message = (
                f"Metadata keys have at most {MAX_METADATA_KEY} characters, values {MAX_METADATA_VALUE}."
            )
            raise Invalid("invalid_value", message, f"{where}.metadata.{key}")
