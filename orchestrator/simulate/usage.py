"""Token counts as the provider bills them: the whole conversation again for every response.

User audio is 1 token per 100 ms, assistant audio 1 per 50 ms, text about one per four characters. Cached tokens
are the part of the input that is the same prefix as in the response before, in whole blocks of 64 tokens; they are a
subset of the input.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.simulate.conversation import Item

INPUT_AUDIO_MS_PER_TOKEN = 100
OUTPUT_AUDIO_MS_PER_TOKEN = 50
CHARS_PER_TOKEN = 4
CACHE_BLOCK = 64


def text_tokens(text: str) -> int:
    return -(-len(text) // CHARS_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of a prompt; two prompts share a cached prefix as long as their parts are equal."""

    key: tuple[str, int]
    text: int = 0
    audio: int = 0


def _item_part(item: Item) -> Part:
    heard = item.role != "assistant" and item.audio_ms > 0
    per_token = INPUT_AUDIO_MS_PER_TOKEN if heard else OUTPUT_AUDIO_MS_PER_TOKEN
    # A transcript of the caller's audio is for the client only: the model takes the audio itself.
    words = 0 if heard else text_tokens(item.text)
    return Part((item.id, item.revision), words, int(item.audio_ms / per_token))


def prompt(instructions: str, tools: list[dict[str, Any]], items: list[Item]) -> list[Part]:
    """What one response takes as its input."""
    tools_text = json.dumps(tools) if tools else ""
    head = [
        Part((f"instructions:{hash(instructions)}", 0), text=text_tokens(instructions)),
        Part((f"tools:{hash(tools_text)}", 0), text=text_tokens(tools_text)),
    ]
    return head + [_item_part(item) for item in items]


def cached(parts: list[Part], before: list[Part]) -> tuple[int, int]:
    """Text and audio tokens of the prefix that `parts` has in common with `before`, in whole blocks."""
    same = 0
    while same < min(len(parts), len(before)) and parts[same] == before[same]:
        same += 1
    left = sum(part.text + part.audio for part in parts[:same])
    left -= left % CACHE_BLOCK
    text = audio = 0
    for part in parts[:same]:
        text += min(part.text, left)
        left -= min(part.text, left)
        audio += min(part.audio, left)
        left -= min(part.audio, left)
    return text, audio


def usage(parts: list[Part], before: list[Part], text_out: int, audio_out: int) -> dict[str, Any]:
    """The `usage` object of a response whose input was `parts`, after one whose input was `before`."""
    text_in, audio_in = sum(part.text for part in parts), sum(part.audio for part in parts)
    text_cached, audio_cached = cached(parts, before)
    return {
        "total_tokens": text_in + audio_in + text_out + audio_out,
        "input_tokens": text_in + audio_in,
        "output_tokens": text_out + audio_out,
        "input_token_details": {
            "text_tokens": text_in,
            "audio_tokens": audio_in,
            "image_tokens": 0,
            "cached_tokens": text_cached + audio_cached,
            "cached_tokens_details": {
                "text_tokens": text_cached,
                "audio_tokens": audio_cached,
                "image_tokens": 0,
            },
        },
        "output_token_details": {"text_tokens": text_out, "audio_tokens": audio_out},
    }


def no_usage() -> dict[str, Any]:
    """A failed response costs nothing."""
    return usage([], [], 0, 0)


def transcription(model: str | None, audio_ms: float, text: str) -> dict[str, Any]:
    """The `usage` of an input transcription, which the transcription model bills beside the response."""
    if model == "whisper-1":
        return {"type": "duration", "seconds": round(audio_ms / 1000, 2)}
    audio, words = int(audio_ms / INPUT_AUDIO_MS_PER_TOKEN), text_tokens(text)
    return {
        "type": "tokens",
        "total_tokens": audio + words,
        "input_tokens": audio,
        "input_token_details": {"text_tokens": 0, "audio_tokens": audio},
        "output_tokens": words,
    }
