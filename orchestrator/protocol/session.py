"""The session object: defaults, merging of updates, and what is sent upstream in its place.

`Session` holds what the client set and sees. `upstream_update` is what a provider gets instead: input
transcription switched on, output bounded. Field names and defaults: ``openai.types.realtime``.
"""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from typing import Any

from orchestrator.protocol.audio import AudioFormat
from orchestrator.protocol.client_events import ClientError
from orchestrator.protocol.wire import Event

_DETECTION_DEFAULTS: dict[str, Event] = {
    "server_vad": {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 500,
        "idle_timeout_ms": None,
        "create_response": True,
        "interrupt_response": True,
    },
    "semantic_vad": {
        "type": "semantic_vad",
        "eagerness": "auto",
        "create_response": True,
        "interrupt_response": True,
    },
}

SEMANTIC_SILENCE_MS = {"high": 400, "auto": 700, "medium": 700, "low": 1200}
"""Silence that ends a turn under semantic_vad, by eagerness, where turn detection is ours."""


def default_session(model: str) -> Event:
    return {
        "type": "realtime",
        "object": "realtime.session",
        "model": model,
        "output_modalities": ["audio"],
        "instructions": "",
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "truncation": "auto",
        "tracing": None,
        "prompt": None,
        "include": None,
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "transcription": None,
                "noise_reduction": None,
                "turn_detection": dict(_DETECTION_DEFAULTS["server_vad"]),
            },
            "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "marin", "speed": 1.0},
        },
    }


class Session:
    """What the client set, merged; the typed views are what turn taking and speech need of it."""

    def __init__(self, session_id: str, model: str, expires_at: int) -> None:
        self.id = session_id
        self.expires_at = expires_at
        self.fields = default_session(model)
        self.granted = self.fields
        """The fields as the call began with them, before its client changed any."""
        self._initial: Event = {}
        self.spoke = False
        """True once assistant audio was sent: the voice is locked from then on."""

    def begin(self, initial: Event) -> None:
        """The call begins with these fields, whatever a provider has for defaults. ClientError as `update`."""
        self.update(initial)
        self._initial, self.granted = initial, self.fields

    def update(self, changes: Event) -> None:
        """Merge a checked ``session.update``; ClientError leaves everything as it was."""
        merged = deepcopy(self.fields)
        audio = changes.get("audio") or {}
        for name, value in changes.items():
            if name not in ("audio", "type", "model", "id", "object", "expires_at"):
                merged[name] = deepcopy(value)
        _merge_input(merged["audio"]["input"], audio.get("input") or {})
        _merge_output(merged["audio"]["output"], audio.get("output") or {})
        before = self.fields["audio"]["output"]["voice"]
        if self.spoke and merged["audio"]["output"]["voice"] != before:
            raise ClientError(
                f"The voice cannot change from {before!r} once the assistant has spoken; use a new session.",
                code="cannot_update_voice",
                param="session.audio.output.voice",
            )
        for missing, empty in (("instructions", ""), ("tools", []), ("tool_choice", "auto")):
            if merged.get(missing) is None:
                merged[missing] = empty
        self.fields = merged

    def adopt(self, provider: Event) -> None:
        """Take the defaults of a provider's ``session.created``: until the client sets something, they are in force."""
        audio = provider.get("audio") or {}
        known = {name: value for name, value in provider.items() if name in self.fields and name != "audio"}
        changes: Event = {
            **known,
            "audio": {side: _known_audio(audio.get(side)) for side in ("input", "output")},
        }
        with suppress(
            ClientError, TypeError, AttributeError
        ):  # a default we cannot serve stays the provider's own
            self.update(changes)
        if self._initial:
            self.update(self._initial)
        self.granted = self.fields

    def describe(self, orchestrator: Event) -> Event:
        """The full effective session as the client sees it; `orchestrator` is the extra key."""
        return {
            **self.fields,
            "id": self.id,
            "expires_at": self.expires_at,
            "orchestrator": orchestrator,
        }

    @property
    def instructions(self) -> str:
        return str(self.fields["instructions"])

    @property
    def tools(self) -> list[Event]:
        return list(self.fields["tools"])

    @property
    def input_format(self) -> AudioFormat:
        return AudioFormat.parse(self.fields["audio"]["input"]["format"])

    @property
    def output_format(self) -> AudioFormat:
        return AudioFormat.parse(self.fields["audio"]["output"]["format"])

    @property
    def turn_detection(self) -> Event | None:
        detection = self.fields["audio"]["input"]["turn_detection"]
        return detection if detection is None else dict(detection)

    @property
    def creates_response(self) -> bool:
        return bool(self.turn_detection and self.turn_detection.get("create_response", True))

    @property
    def interrupts_response(self) -> bool:
        return bool(self.turn_detection and self.turn_detection.get("interrupt_response", True))

    @property
    def wants_transcripts(self) -> bool:
        return self.fields["audio"]["input"]["transcription"] is not None

    @property
    def voice(self) -> str:
        voice = self.fields["audio"]["output"]["voice"]
        return str(voice.get("id", "")) if isinstance(voice, dict) else str(voice)

    @property
    def speed(self) -> float:
        return float(self.fields["audio"]["output"].get("speed") or 1.0)

    @property
    def language(self) -> str:
        """The caller's, a tag in small letters (es, es-mx), as the input transcription has it; en where it has none."""
        transcription = self.fields["audio"]["input"]["transcription"] or {}
        told = str(transcription.get("language") or "").strip().lower().replace("_", "-")
        return "en" if told in ("", "auto") else told


def _known_audio(side: Any) -> Event:
    """Of a provider's audio settings those that this service follows; its own transcription is not the client's."""
    names = ("format", "noise_reduction", "turn_detection", "voice", "speed")
    return {name: value for name, value in (side or {}).items() if name in names}


def _merge_input(into: Event, changes: Event) -> None:
    for name, value in changes.items():
        if name == "format" and value is not None:
            into["format"] = _format(value, "session.audio.input.format")
        elif name == "turn_detection":
            into["turn_detection"] = _detection(value, into["turn_detection"])
        elif name != "format":
            into[name] = deepcopy(value)


def _merge_output(into: Event, changes: Event) -> None:
    for name, value in changes.items():
        if name == "format" and value is not None:
            into["format"] = _format(value, "session.audio.output.format")
        elif name == "speed" and value is not None and not 0.25 <= value <= 1.5:
            raise ClientError(
                f"session.audio.output.speed must be 0.25 to 1.5, got {value}.",
                param="session.audio.output.speed",
            )
        elif value is not None:
            into[name] = deepcopy(value)


def _format(value: Any, param: str) -> Event:
    try:
        return AudioFormat.parse(value).describe()
    except ValueError as error:
        raise ClientError(f"Invalid {param}: {error}.", param=param) from None


def _detection(value: Event | None, current: Event | None) -> Event | None:
    if value is None:
        return None
    kind = value.get("type") or (current or {}).get("type", "server_vad")
    if kind not in _DETECTION_DEFAULTS:
        raise ClientError(
            f"turn_detection.type must be 'server_vad' or 'semantic_vad', got {kind!r}.",
            param="session.audio.input.turn_detection.type",
        )
    base = current if current and current["type"] == kind else _DETECTION_DEFAULTS[kind]
    merged = {
        **base,
        **{k: v for k, v in value.items() if v is not None or k == "idle_timeout_ms"},
        "type": kind,
    }
    threshold = merged.get("threshold")
    if threshold is not None and not 0.0 <= threshold <= 1.0:
        raise ClientError(
            f"turn_detection.threshold must be 0.0 to 1.0, got {threshold}.",
            param="session.audio.input.turn_detection.threshold",
        )
    return merged


def upstream_update(
    session: Session,
    changes: Event,
    *,
    transcription_model: str | None,
    max_output_tokens: int,
    gated: bool = False,
    truncation: Event | None = None,
    model: Event | None = None,
) -> Event:
    """`changes` as the provider is to get them: the client's own fields, some masked by the service.

    `model`: tools and instructions that stand in the place of the client's. `gated`: whatever turn detection the client
    set, the provider starts no response on its own.
    """
    update = {k: deepcopy(v) for k, v in changes.items() if k not in ("model", "id", "object", "expires_at")}
    update |= {"type": "realtime", **deepcopy(model or {})}
    wanted = session.fields["max_output_tokens"]
    update["max_output_tokens"] = (
        min(wanted, max_output_tokens) if isinstance(wanted, int) else max_output_tokens
    )
    if truncation is not None and session.fields["truncation"] == "auto":
        update["truncation"] = truncation
    if transcription_model and not session.wants_transcripts:
        audio = update["audio"] = update.get("audio") or {}  # a client may say null
        audio["input"] = {**(audio.get("input") or {}), "transcription": {"model": transcription_model}}
    detection = ((update.get("audio") or {}).get("input") or {}).get("turn_detection")
    if gated and detection is not None:
        detection["create_response"] = False
        if "idle_timeout_ms" in detection:
            detection["idle_timeout_ms"] = None
    return update
