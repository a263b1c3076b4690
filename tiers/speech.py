"""The port that every text-to-speech engine fills: the pipeline (B) and the prompts (C) speak through it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from orchestrator.protocol.audio import Pcm16


class SpeechFailed(Exception):
    """An engine could not say the text. The message is for people and holds no secret."""


class Speech(Protocol):
    """Text in, 24 kHz int16 mono out."""

    @property
    def rung(self) -> str:
        """The engine and its version: part of every cache key, so it changes whenever the sound does."""
        ...

    def speak(
        self, text: str, *, voice: str = "", speed: float = 1.0, language: str = "en"
    ) -> AsyncIterator[Pcm16]:
        """The audio of `text`, in chunks as they are ready; closing the iterator cancels the rest.

        `voice` is an engine's or a Realtime voice name; an engine takes its nearest, its default for "".
        `speed` 1.0 is natural. Raises `SpeechFailed`, or `orchestrator.models.ModelMissing` without weights.
        """
        ...
