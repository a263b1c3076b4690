"""The port that every text-to-speech engine fills: the pipeline (B) and the prompts (C) speak through it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from orchestrator.protocol.audio import Pcm16


class SpeechFailed(Exception):
    """An engine could not say the text. The message is for people and holds no secret."""


class Speech(Protocol):
    """Text in, 24 kHz int16 mono out."""

    @property
    def rung(self) -> str:
        """The engine's short name, for routing, breakers and metrics."""
        ...

    def speak(
        self, text: str, *, voice: str = "", speed: float = 1.0, language: str = "en"
    ) -> AsyncIterator[Pcm16]:
        """The audio of `text`, in chunks as they are ready; closing the iterator cancels the rest.

        `voice` is an engine's or a Realtime voice name; an engine takes its nearest, its default for "".
        `speed` 1.0 is natural. Raises `SpeechFailed`, or `orchestrator.models.ModelMissing` without weights.
        """
        ...


@runtime_checkable
class Versioned(Protocol):
    """An engine that knows which version of its code and weights it speaks with."""

    @property
    def version(self) -> str:
        """Changes whenever the same words would sound different."""
        ...


@runtime_checkable
class Voices(Protocol):
    """An engine that knows which languages its voices speak."""

    async def voice_for(self, voice: str, language: str) -> str | None:
        """Its own voice of `language` that is nearest to `voice`; None where it has none of that language.

        Raises `orchestrator.models.ModelMissing` without weights.
        """
        ...


@runtime_checkable
class RendersAhead(Protocol):
    """An engine that callers share and that can tell when none of them needs it."""

    async def render_ahead(self, text: str, *, voice: str = "", language: str = "en") -> Pcm16:
        """The whole audio of `text`, made while nobody is spoken to: who comes meanwhile goes first.

        Raises as `Speech.speak` does.
        """
        ...


class Parts(NamedTuple):
    """A text's sound, and where its parts meet: for each two, the samples in which one ends and the next begins."""

    pcm: Pcm16
    between: tuple[tuple[int, int], ...]


@runtime_checkable
class TellsParts(Protocol):
    """An engine that can tell its words apart, so that some can be cut out."""

    async def speak_parts(
        self, parts: Sequence[str], *, voice: str = "", speed: float = 1.0, language: str = "en"
    ) -> Parts | None:
        """`parts` said as one sentence; words, or a mark by itself. None where it cannot tell after all.

        Raises as `Speech.speak` does.
        """
        ...


def engine_id(speech: Speech) -> str:
    """The engine and its version, as cache keys have it: ``kokoro 1.0``."""
    return f"{speech.rung} {speech.version}" if isinstance(speech, Versioned) else speech.rung
