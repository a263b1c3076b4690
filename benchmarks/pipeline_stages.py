"""One turn of a voice pipeline, taken apart: from the caller's last sound to the agent's first.

Pure functions over what a call's client saw, and over what the service noted of its own steps.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from benchmarks.caller import FORMAT, Recorded
from benchmarks.heard import AUDIO
from orchestrator.listening import Arrival, first_sound, play

OVER = "input_audio_buffer.speech_stopped"
TRANSCRIPT = "conversation.item.input_audio_transcription.completed"
STEP = "step"
"""What a driver of another pipeline tells of its steps: ``{"type": "step", "step": …, "at": …}``."""


class Stage(StrEnum):
    """What a caller waits for, in this order. A stage that ended while an earlier one went on takes no time."""

    ENDPOINTING = "endpointing"
    """Until the turn counts as over."""
    STT = "stt"
    """From there until its words are known."""
    AGENT = "agent"
    """From there to the agent's first token, or to the words of a fixed prompt."""
    TTS = "tts"
    """From there to the first audio at the client."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The moments of one turn, in seconds of the monotonic clock."""

    end: float
    """The caller's last sound."""
    over: float
    """The silence was long enough."""
    words: float
    agent: float
    audio: float
    """The first audio of the answer is at the client, silence or not."""
    sound: float | None
    """The first of it that is heard, as the client plays it."""

    @property
    def voice_ms(self) -> float:
        return (self.audio - self.end) * 1000.0

    @property
    def after_turn_ms(self) -> float:
        """From the end of the turn, which is half a second of silence later than the last sound."""
        return (self.audio - self.over) * 1000.0

    @property
    def sound_ms(self) -> float | None:
        return None if self.sound is None else (self.sound - self.end) * 1000.0

    def stages(self) -> dict[Stage, float]:
        """Milliseconds of each stage; together they are `voice_ms`."""
        found, since = {}, self.end
        for stage, at in zip(Stage, (self.over, self.words, self.agent, self.audio), strict=True):
            until = min(max(at, since), self.audio)
            found[stage] = (until - since) * 1000.0
            since = until
        return found


def own_turn(call: Recorded, rows: Iterable[Mapping[str, Any]]) -> Turn | None:
    """A turn that the orchestrator answered; None where it did not. `rows` is its timeline of the call."""
    end = call.turn_end_at
    over = None if end is None else call.first(OVER, end)
    found = _first_audio(call, over)
    if end is None or over is None or found is None:
        return None
    audio, response_id = found
    parts = next((row["parts"] for row in rows if row.get("response_id") == response_id), {})
    begun = parts.get("agent_first_token", parts.get("prompt", parts.get("first_audio", 0.0)))
    speaking = parts.get("first_audio", begun) - begun
    words = call.first(TRANSCRIPT, over) or over
    return Turn(end, over, words, audio - speaking, audio, _sound(call, audio))


def other_turn(call: Recorded, timeout: float) -> Turn | None:
    """The same of another pipeline, from what its driver told.

    It may wait for the words before it calls a turn over: what it waits beyond `timeout` seconds after its voice
    activity detection heard silence is speech to text.
    """
    end = call.turn_end_at
    over = None if end is None else call.first(OVER, end)
    found = _first_audio(call, over)
    if end is None or over is None or found is None:
        return None
    audio, _ = found
    silence = max((at for at in _steps(call, "silence") if at <= over), default=over)
    agent = min((at for at in _steps(call, "agent") if at >= over), default=audio)
    return Turn(end, min(over, silence + timeout), over, agent, audio, _sound(call, audio))


def heard_words(call: Recorded) -> str:
    """The caller's words as the service wrote them down."""
    events = (received.event for received in call.received)
    found = [
        event["transcript"] if event["type"] == TRANSCRIPT else event["text"]
        for event in events
        if event["type"] == TRANSCRIPT or (event["type"] == STEP and event["step"] == "transcript")
    ]
    return " ".join(text.strip() for text in found)


def _first_audio(call: Recorded, over: float | None) -> tuple[float, str] | None:
    """When the first audio came after the turn was over, and in which response."""
    if over is None:
        return None
    for received in call.received:
        if received.event["type"] == AUDIO and received.at >= over:
            return received.at, received.event.get("response_id", "")
    return None


def _sound(call: Recorded, since: float) -> float | None:
    pieces = (r for r in call.received if r.event["type"] == AUDIO and r.at >= since)
    return first_sound(play([Arrival(piece.at, b64decode(piece.event["delta"])) for piece in pieces], FORMAT))


def _steps(call: Recorded, step: str) -> list[float]:
    told = (received.event for received in call.received)
    return [event["at"] for event in told if event["type"] == STEP and event["step"] == step]
