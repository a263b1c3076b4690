"""Session updates: merged as OpenAI merges them, refused with a reason, masked towards the provider."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.protocol.audio import AudioFormat
from orchestrator.protocol.client_events import ClientError, parse_client_event
from orchestrator.protocol.session import Session, upstream_update
from orchestrator.protocol.wire import dump


@pytest.fixture
def session() -> Session:
    return Session("sess_1", "gpt-realtime-2.1", 4000)


def audio_in(**fields: Any) -> dict[str, Any]:
    return {"audio": {"input": fields}}


def test_updates_merge_and_empty_values_clear(session: Session) -> None:
    session.update({"instructions": "Be kind.", "tools": [{"type": "function", "name": "t"}]})
    session.update({"tools": [], "instructions": None})
    assert (session.instructions, session.tools) == ("", [])
    session.update(audio_in(turn_detection={"type": "server_vad", "threshold": 0.7}))
    session.update(audio_in(turn_detection={"silence_duration_ms": 900}))
    assert session.turn_detection is not None
    assert session.turn_detection["threshold"] == 0.7
    assert session.turn_detection["silence_duration_ms"] == 900
    session.update(audio_in(turn_detection={"type": "semantic_vad", "eagerness": "high"}))
    assert "threshold" not in session.turn_detection
    session.update(audio_in(turn_detection=None))
    assert session.turn_detection is None
    assert not session.creates_response


@pytest.mark.parametrize(
    ("told", "language"),
    [
        ("es", "es"),
        ("es-ES", "es-es"),
        (" PT_br ", "pt-br"),
        ("", "en"),
        ("auto", "en"),
        (None, "en"),
        ("tlh", "tlh"),
    ],
)
def test_the_language_is_a_tag_however_it_was_written(
    session: Session, told: str | None, language: str
) -> None:
    assert session.language == "en"
    session.update(audio_in(transcription={"model": "whisper-1", "language": told}))
    assert session.language == language


@pytest.mark.parametrize("fmt", list(AudioFormat))
def test_every_audio_format_goes_in_and_out(session: Session, fmt: AudioFormat) -> None:
    session.update({"audio": {"input": {"format": {"type": fmt.wire}}, "output": {"format": fmt.describe()}}})
    assert session.input_format is session.output_format is fmt


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        (audio_in(format={"type": "audio/pcm", "rate": 16000}), "session.audio.input.format"),
        (audio_in(turn_detection={"type": "server_vad", "threshold": 2}), "threshold"),
        ({"audio": {"output": {"speed": 9}}}, "speed"),
    ],
)
def test_a_refused_update_changes_nothing(session: Session, changes: dict[str, Any], param: str) -> None:
    before = session.fields
    with pytest.raises(ClientError) as caught:
        session.update({"instructions": "x", **changes})
    assert param in (caught.value.param or "")
    assert session.fields is before


def test_the_voice_is_locked_once_the_assistant_has_spoken(session: Session) -> None:
    session.update({"audio": {"output": {"voice": "cedar"}}})
    session.spoke = True
    session.update({"audio": {"output": {"voice": "cedar"}}})
    with pytest.raises(ClientError) as caught:
        session.update({"audio": {"output": {"voice": "alloy"}}})
    assert caught.value.code == "cannot_update_voice"


def test_the_provider_gets_bounded_output_and_a_transcription(session: Session) -> None:
    sent = upstream_update(session, {"instructions": "x"}, transcription_model="t", max_output_tokens=4096)
    assert sent == {
        "type": "realtime",
        "instructions": "x",
        "max_output_tokens": 4096,
        "audio": {"input": {"transcription": {"model": "t"}}},
    }
    session.update({"max_output_tokens": 100, **audio_in(transcription={"model": "whisper-1"})})
    changes = audio_in(transcription={"model": "whisper-1"})
    sent = upstream_update(session, changes, transcription_model="t", max_output_tokens=4096)
    assert sent["max_output_tokens"] == 100
    assert sent["audio"]["input"]["transcription"] == {"model": "whisper-1"}


@pytest.mark.parametrize(
    "changes",
    [
        {name: None}
        for name in ("audio", "tools", "instructions", "tool_choice", "max_output_tokens", "truncation")
    ]
    + [{"audio": {side: None}} for side in ("input", "output")]
    + [audio_in(**{name: None}) for name in ("format", "transcription", "turn_detection", "noise_reduction")],
)
@pytest.mark.parametrize("gated", [True, False])
def test_null_is_no_more_than_nothing(session: Session, changes: dict[str, Any], gated: bool) -> None:
    event = parse_client_event(dump({"type": "session.update", "session": {"type": "realtime", **changes}}))
    session.update(event["session"])
    sent = upstream_update(
        session, event["session"], transcription_model="t", max_output_tokens=4096, gated=gated
    )
    assert sent["audio"]["input"]["transcription"] == {"model": "t"}
    assert sent["max_output_tokens"] == 4096


@pytest.mark.parametrize(
    ("event", "code", "says"),
    [
        (b"{", "invalid_json", "JSON"),
        (b"3", "invalid_json", "object"),
        ({"type": "nope"}, "invalid_event", "Supported: session.update"),
        ({"type": "session.update"}, "invalid_value", "session"),
        ({"type": "session.update", "session": {"type": "transcription"}}, "invalid_value", "not served"),
        (
            {"type": "session.update", "session": {"voice": "x"}},
            "unknown_parameter",
            "session.audio.output.voice",
        ),
        ({"type": "session.update", "session": {"max_output_tokens": 9999}}, "invalid_value", "1 to 4096"),
        (
            {"type": "session.update", "session": {"output_modalities": ["text", "audio"]}},
            "invalid_value",
            "audio",
        ),
        (
            {"type": "conversation.item.create", "item": {"type": "song"}},
            "invalid_value",
            "function_call_output",
        ),
        (
            {"type": "conversation.item.create", "item": {"type": "message", "role": "robot", "content": []}},
            "invalid_value",
            "assistant",
        ),
        (
            {"type": "conversation.item.create", "item": {"type": "function_call_output"}},
            "invalid_value",
            "call_id",
        ),
        ({"type": "conversation.item.delete"}, "invalid_value", "item_id"),
        ({"type": "response.create", "response": {"metadata": {"a": "x" * 600}}}, "invalid_value", "512"),
        ({"type": "response.create", "response": {"conversation": "mine"}}, "invalid_value", "none"),
        ({"type": "input_audio_buffer.append"}, "invalid_value", "audio"),
    ],
)
def test_a_clients_mistake_is_explained(event: Any, code: str, says: str) -> None:
    frame = event if isinstance(event, bytes) else dump({"event_id": "mine", **event})
    with pytest.raises(ClientError) as caught:
        parse_client_event(frame)
    assert caught.value.code == code
    assert says in caught.value.message
    if not isinstance(event, bytes):
        assert caught.value.event()["error"]["event_id"] == "mine"


def test_a_long_wrong_value_is_shortened_in_the_error() -> None:
    with pytest.raises(ClientError) as caught:
        parse_client_event(dump({"type": "response.cancel", "response_id": ["x" * 500]}))
    assert len(caught.value.message) < 250
