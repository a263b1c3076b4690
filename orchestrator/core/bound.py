"""The most that a response's input can come to, before the provider has counted it.

A token of text is at least one byte of it, and a caller's audio is one token per 100 ms. Once a response's usage is
known, the next one's input is that response's input and output, and what was said and written since.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.core.prices import Context
from orchestrator.protocol.wire import Event, dump

HEARD_MS_PER_TOKEN = 100
SPOKEN_MS_PER_TOKEN = 50
ITEM_TOKENS = 16
"""What the frame around an item may come to."""
IMAGE_TOKENS = 3_000
"""More than any image is counted as."""
PADDING_MS = 1_000.0
"""What turn detection may put in front of a turn and leave behind it."""


class Bound:
    """Of one provider session, in tokens: the input so far, and apart from it what came since an answer began."""

    def __init__(self, session: Event, items: Iterable[Event] = ()) -> None:
        self._base = self._since = Context()
        self.wrote_session(session)
        for item in items:
            self.wrote(item)

    def context(self, talk_ms: float = 0.0) -> Context:
        """The input of a response that would start after `talk_ms` more of the caller's talk."""
        return self._base + self._since + Context(audio_tokens=_heard(talk_ms))

    def wrote_session(self, fields: Event) -> None:
        """The session has these instructions and tools from now on."""
        for name in ("instructions", "tools"):
            if fields.get(name):
                self._add(text_tokens=len(dump({name: fields[name]})))

    def wrote(self, item: Event) -> None:
        """An item was added in writing."""
        parts = item.get("content") or []
        words = [part.get("text") or part.get("transcript") for part in parts]
        words += [item.get(name) for name in ("arguments", "output", "name")]
        # A second of audio has at least 8,000 bytes: 8 of them are a millisecond.
        audio_ms = sum(len(part.get("audio") or "") * 3 / 4 / 8 for part in parts)
        self._add(
            text_tokens=sum(len(str(text).encode()) for text in words if text),
            audio_tokens=_heard(audio_ms) if audio_ms else 0,
            image_tokens=IMAGE_TOKENS * sum(part.get("type") == "input_image" for part in parts),
        )

    def heard(self, ms: float) -> None:
        """A turn of the caller's was added."""
        self._add(audio_tokens=_heard(ms))

    def answered(self, limit: int) -> None:
        """An answer was added whose usage never came: it may have come to its output limit."""
        self._add(audio_tokens=limit)

    def answer_began(self) -> None:
        """A response in the conversation began: what is added from here on is not in its input."""
        self._base, self._since = self._base + self._since, Context()

    def counted(self, usage: Mapping[str, Any]) -> None:
        """The provider has counted that response, what came in and what it added."""
        into, out = usage.get("input_token_details") or {}, usage.get("output_token_details") or {}
        text, image = (
            _tokens(into, "text_tokens") + _tokens(out, "text_tokens"),
            _tokens(into, "image_tokens"),
        )
        total = _tokens(usage, "input_tokens") + _tokens(usage, "output_tokens")
        audio = max(total - text - image, _tokens(into, "audio_tokens") + _tokens(out, "audio_tokens"))
        self._base = Context(text + ITEM_TOKENS, audio, image)

    def _add(self, text_tokens: int = 0, audio_tokens: int = 0, image_tokens: int = 0) -> None:
        self._since += Context(text_tokens + ITEM_TOKENS, audio_tokens, image_tokens)


def _heard(ms: float) -> int:
    return math.ceil((ms + PADDING_MS) / HEARD_MS_PER_TOKEN)


def _tokens(usage: Mapping[str, Any], name: str) -> int:
    return max(0, int(usage.get(name) or 0))
