"""What a call asks of Tier B or C, and what comes back: the contract between core and tiers.

A tier that answers is anything with ``answer(request) -> async iterator of AnswerEvent``. It is given a
snapshot, never the live conversation, and may vanish at any byte. Cancelling is closing the iterator.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from orchestrator.protocol.audio import AudioFormat, Float32, Pcm16


@dataclass(frozen=True, slots=True)
class Message:
    """Something said or written. `cut_off`: the caller heard no more than `text` of a longer answer."""

    role: Literal["system", "user", "assistant"]
    text: str
    cut_off: bool = False


@dataclass(frozen=True, slots=True)
class ToolCall:
    call_id: str
    name: str
    arguments: str
    """A JSON object as text, as on the wire."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    call_id: str
    output: str


HistoryItem = Message | ToolCall | ToolResult


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """One answer to give. `history` ends with what is to be answered: a user message or a tool result."""

    answer_id: str
    history: tuple[HistoryItem, ...]
    instructions: str = ""
    tools: tuple[dict[str, Any], ...] = ()
    """Function tools in the Realtime shape: ``{"type": "function", "name", "description", "parameters"}``."""
    tool_choice: str | dict[str, Any] = "auto"
    speak: bool = True
    """False: text only, no audio is wanted."""
    format: AudioFormat = AudioFormat.PCM
    """Audio is to come back as bytes of this format."""
    voice: str = "marin"
    """The Realtime voice in use; the engine picks its nearest."""
    speed: float = 1.0
    language: str = "en"
    max_output_tokens: int | None = None
    say: str | None = None
    """These words are the answer, to be spoken exactly: no agent is asked."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next words, at the moment their audio follows (or, with `speak` off, when they are known)."""

    text: str


@dataclass(frozen=True, slots=True)
class AudioDelta:
    """The next audio, in the request's format; at most 200 ms in one."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ToolCallReady:
    """The answer asks for a tool. The call decides who runs it."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class AnsweredBy:
    """Which tier and rung the audio that follows comes from, where that differs from the call's own tier."""

    tier: str
    rung: str


@dataclass(frozen=True, slots=True)
class Charge:
    """Something that costs money, in integer nano-dollars, priced and rounded up once.

    `usage` is what the price was worked out from: a provider's usage object, or ``{"characters": …}``,
    ``{"seconds": …}``, ``{"prompt_tokens": …, "completion_tokens": …}``.
    """

    what: Literal["response", "transcription", "agent", "speech"]
    model: str
    nanodollars: int
    usage: Mapping[str, Any] = field(default_factory=dict)
    estimated: bool = False
    """What was used never came to light: the worst case counts."""


@dataclass(frozen=True, slots=True)
class Charged:
    """A part of the answer was paid for. Told as soon as it is known: an answer may be cut off at any moment."""

    charge: Charge


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is complete."""

    input_tokens: int = 0
    output_tokens: int = 0
    rung: str = ""
    parts: dict[str, float] = field(default_factory=dict)
    """Latency of each part in seconds (``agent_first_token``, ``tts_first_audio``, …)."""
    end_call: bool = False
    """The answer was a goodbye: the call may end once it was heard."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The answer cannot be completed; `cause` is a short id, `message` is for people and holds no secret."""

    cause: str
    message: str


AnswerEvent = TextDelta | AudioDelta | ToolCallReady | AnsweredBy | Charged | Finished | Failed


class Answerer(Protocol):
    """Tier B or C."""

    def answer(self, request: AnswerRequest) -> AsyncIterator[AnswerEvent]: ...

    def untold(self, answer_id: str) -> Sequence[Charge]:
        """What an answer that was cut off had cost and could not tell any more; asked once, after it has ended."""
        ...


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said. `text` is empty where nothing intelligible was. `seconds` is the audio's length."""

    text: str
    seconds: float
    language: str = "en"
    charges: tuple[Charge, ...] = ()
    """One of each service that was asked and bills for it, whether its words are these or not."""
    veto: str = ""
    """The prompt that is said in answer, where a guardrail vetoed the words: `text` does not hold them then."""


class Transcriber(Protocol):
    async def transcribe(self, audio: Float32, language: str | None = None) -> Transcript:
        """`audio` is 16 kHz mono float32 in [-1, 1]."""
        ...


@dataclass(frozen=True, slots=True)
class SpokenPrompt:
    """A catalogue prompt, rendered: its words and 24 kHz samples; `cached` tells whether it was ready."""

    name: str
    text: str
    pcm: Pcm16
    cached: bool


class PromptSource(Protocol):
    """Where Tier B gets the fixed prompts of Tier C from."""

    async def prompt(self, name: str, variables: dict[str, str], language: str = "en") -> SpokenPrompt: ...
