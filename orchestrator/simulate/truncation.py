"""What the provider leaves out of a conversation that has grown too long: its oldest items, and for good.

By the documentation of the session's `truncation` (guides/realtime-costs): a limit on the tokens after the
instructions and tools, by default what the model's window has left, and how much of it is kept when it is passed.
No event tells the client. The prefix after the instructions changes, so that the cache behind it is lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.simulate.session_config import Invalid
from orchestrator.simulate.usage import Part

HEAD = 2
"""Parts at the front of every prompt, instructions and tools, that are never dropped."""
_LARGE_WINDOW = (128_000, 32_000)
_SMALL_WINDOW = (32_000, 4_096)


def input_limit(model: str) -> int:
    """The most tokens a prompt can have: the model's window without its longest answer."""
    window, answer = _LARGE_WINDOW if model.startswith("gpt-realtime-2") else _SMALL_WINDOW
    return window - answer


@dataclass(frozen=True, slots=True)
class Truncation:
    """Tokens after the instructions: `limit` is the most there may be, `kept` what is left once it is passed.

    `kept` None where nothing may be dropped.
    """

    limit: int
    kept: int | None

    @classmethod
    def parse(cls, settings: Any, model: str, head: int) -> Truncation:
        """From a session's `truncation`, where instructions and tools take `head` tokens."""
        limit = max(0, input_limit(model) - head)
        if settings == "disabled":
            return cls(limit, None)
        if not isinstance(settings, Mapping):
            return cls(limit, limit)
        own = (settings.get("token_limits") or {}).get("post_instructions")
        limit = limit if own is None else min(limit, own)
        return cls(limit, int(limit * settings["retention_ratio"]))

    def dropped(self, items: Sequence[Part]) -> int:
        """How many of the oldest items go; never the latest, which is what is being answered."""
        left = sum(part.text + part.audio for part in items)
        if left <= self.limit:
            return 0
        if self.kept is None:
            message = f"The conversation has {left} tokens after the instructions, and {self.limit} fit."
            raise Invalid("context_length_exceeded", message)
        for count, part in enumerate(items):
            if left <= self.kept or count == len(items) - 1:
                return count
            left -= part.text + part.audio
        return 0


def dropped_of(prompt: Sequence[Part], settings: Any, model: str) -> int:
    """How many of the oldest items of a prompt are dropped under a session's `truncation`."""
    head = sum(part.text + part.audio for part in prompt[:HEAD])
    return Truncation.parse(settings, model, head).dropped(prompt[HEAD:])
