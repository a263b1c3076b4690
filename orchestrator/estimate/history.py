"""What a Realtime provider is sent with every response and bills: the whole conversation again, its prefix cached.

Tokens as the provider counts them (guides/realtime-costs): the caller's audio 1 per 100 ms, the assistant's 1 per
50 ms; what is cached is a prefix in whole blocks of 64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.estimate.columns import Columns, Plan

TOKENS_PER_S_IN = 10
TOKENS_PER_S_OUT = 20
CACHE_BLOCK = 64
_LARGE_WINDOW = 128_000 - 32_000
_SMALL_WINDOW = 32_000 - 4_096


def window(model: str) -> int:
    """The most tokens a response's input can have: the model's window without its longest answer."""
    return _LARGE_WINDOW if model.startswith("gpt-realtime-2") else _SMALL_WINDOW


@dataclass(slots=True)
class Tokens:
    """Of one response, or of many: input is ``fresh`` or ``cached``."""

    text_fresh: int = 0
    text_cached: int = 0
    audio_fresh: int = 0
    audio_cached: int = 0
    text_out: int = 0
    audio_out: int = 0

    def add(self, other: Tokens) -> None:
        self.text_fresh += other.text_fresh
        self.text_cached += other.text_cached
        self.audio_fresh += other.audio_fresh
        self.audio_cached += other.audio_cached
        self.text_out += other.text_out
        self.audio_out += other.audio_out

    def usage(self) -> dict[str, Any]:
        """The `usage` object of a response's ``response.done``."""
        text, audio = self.text_fresh + self.text_cached, self.audio_fresh + self.audio_cached
        return {
            "input_tokens": text + audio,
            "output_tokens": self.text_out + self.audio_out,
            "input_token_details": {
                "text_tokens": text,
                "audio_tokens": audio,
                "cached_tokens": self.text_cached + self.audio_cached,
                "cached_tokens_details": {
                    "text_tokens": self.text_cached,
                    "audio_tokens": self.audio_cached,
                },
            },
            "output_token_details": {"text_tokens": self.text_out, "audio_tokens": self.audio_out},
        }


class History:
    """The conversation of one call as a provider session has it. `rung`: whose session; "" for none yet."""

    def __init__(self, columns: Columns, plan: Plan) -> None:
        self.rung = ""
        self._columns = columns
        self._plan = plan
        self._head = round(columns.prompt_tokens + columns.tool_tokens)
        self._written = 0.0
        """Text tokens after the head: tools, and what was told again."""
        self._kept = 0.0
        """Text tokens that stand beside the assistant's audio."""
        self._heard_s = self._spoken_s = 0.0
        """Talk of the caller and of the assistant that is there as audio."""
        self._tail = 0.0
        """Text tokens written since anybody talked: the end of the history."""
        self._prefix_text = self._prefix_audio = 0
        """What the next response may find cached."""
        self._prefix_tail = 0
        """Text tokens at the end of that, which a part of a block takes first."""

    @property
    def text(self) -> int:
        return self._head + round(self._written + self._kept)

    @property
    def audio(self) -> int:
        return round(self._heard_s * TOKENS_PER_S_IN + self._spoken_s * TOKENS_PER_S_OUT)

    @property
    def words(self) -> int:
        """Text tokens of the whole conversation, where all of it is text."""
        talk = (self._heard_s + self._spoken_s) * self._columns.text_per_s
        return self._head + round(self._written + talk)

    def serve(self, rung: str) -> None:
        """This rung answers next: a session that is not the one before is told everything as text."""
        if self.rung and rung != self.rung:
            self._tell_again()
        self.rung = rung

    def _tell_again(self) -> None:
        self._written = float(self.words - self._head)
        self._kept = self._heard_s = self._spoken_s = 0.0
        self._prefix_text = self._prefix_audio = self._prefix_tail = 0

    def hear(self, seconds: float) -> None:
        """A turn of the caller's is there to be answered. Where the history has grown too long, it is cut first."""
        plan = self._plan
        if plan.history == "text" and self.audio > plan.history_tokens:
            self._tell_again()
        self._heard_s += seconds
        if seconds:
            self._tail = 0.0
        if plan.history == "retention":
            self._cut(plan.history_tokens, plan.retention_ratio)
        self._cut(window(self.rung) - self._head, 1.0)

    def _cut(self, limit: int, ratio: float) -> None:
        """The oldest goes, so that `ratio` of `limit` is left. What was cached behind the head is lost."""
        behind = self.text + self.audio - self._head
        limit = max(limit, 0)  # the head alone may be more than fits
        if behind <= limit:
            return
        share = ratio * limit / behind
        self._written *= share
        self._kept *= share
        self._heard_s *= share
        self._spoken_s *= share
        self._prefix_text, self._prefix_audio, self._prefix_tail = self._head, 0, 0

    def input(self) -> Tokens:
        """The input of the next response."""
        text, audio = self.text, self.audio
        there = self._prefix_text + self._prefix_audio
        found = int(self._columns.cache_hit * there)
        found -= found % CACHE_BLOCK
        # What is missing of a prefix is its end.
        missing = there - found
        of_tail = min(missing, self._prefix_tail)
        audio_cached = max(0, self._prefix_audio - (missing - of_tail))
        text_cached = found - audio_cached
        self._prefix_text, self._prefix_audio, self._prefix_tail = text, audio, round(self._tail)
        return Tokens(text - text_cached, text_cached, audio - audio_cached, audio_cached)

    def say(self, seconds: float, *, cut: bool) -> None:
        """An answer of which the caller heard so much."""
        columns = self._columns
        before_text, before_audio = self.text, self.audio
        self._spoken_s += seconds
        self._tail = 0.0
        self._kept += seconds * columns.text_per_s * columns.text_kept
        if not cut:
            self._prefix_text += int(columns.cache_output * (self.text - before_text))
            self._prefix_audio += int(columns.cache_output * (self.audio - before_audio))
            if columns.cache_output:
                self._prefix_tail = 0

    def write(self, tokens: float) -> None:
        """A tool call and its result."""
        self._written += tokens
        self._tail += tokens
