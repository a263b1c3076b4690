"""What a call may be and do, as whoever opened the door for it decided; its client cannot widen that.

A call without a grant was opened with a key, and may do what the settings let its purpose and bucket do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.core.tools import Runs, Toolset

AUDIO_FIELDS = frozenset(
    {
        "audio.input.format",
        "audio.input.noise_reduction",
        "audio.input.transcription",
        "audio.input.turn_detection",
        "audio.output.format",
        "audio.output.speed",
        "audio.output.voice",
    }
)
FIELDS = frozenset(
    {
        "include",
        "instructions",
        "max_output_tokens",
        "model",
        "output_modalities",
        "parallel_tool_calls",
        "prompt",
        "reasoning",
        "tool_choice",
        "tools",
        "tracing",
        "truncation",
    }
)
LOCKABLE = FIELDS | AUDIO_FIELDS | {"audio", "audio.input", "audio.output"}
"""What may stand in `Grant.locked`. "audio" and "audio.input" lock all that is below them."""


@dataclass(frozen=True, slots=True)
class Grant:
    """The policy of one call. None in a field restricts nothing there.

    `session`: fields of the Realtime session, as `session.update` has them, that the call begins with. Those in
    `locked`, of `LOCKABLE`, stay as they are whatever the client sends; it may still narrow them: fewer tools, a lower
    output limit.
    """

    call_id: str
    user: str = ""
    purpose: str = "conversation"
    bucket: str = "default"
    model: str | None = None
    tools: tuple[str, ...] | None = None
    """Names of those the call may use: the server's, and functions that the client declares."""
    session: Mapping[str, Any] = field(default_factory=dict)
    locked: frozenset[str] = frozenset()
    cap: int | None = None
    """Nano-dollars that the call may cost, where that is less than what its bucket allows a call."""
    max_s: float | None = None
    """Seconds after which the call is ended, with a word of goodbye."""
    recording_consent: bool = False
    """Whether the caller has agreed to be recorded."""

    def locks(self, name: str) -> bool:
        """Whether a field, its name in `FIELDS` or `AUDIO_FIELDS`, stays as it is."""
        parts = name.split(".")
        if any(".".join(parts[:n]) in self.locked for n in range(1, len(parts) + 1)):
            return True
        # A provider's stored prompt brings instructions and tools of its own.
        return name == "prompt" and (
            self.tools is not None or not self.locked.isdisjoint({"instructions", "tools"})
        )

    def allows_tool(self, name: str) -> bool:
        return self.tools is None or name in self.tools


def narrowed(toolset: Toolset, grant: Grant | None) -> Toolset:
    """Of the tools that the settings let a call use, those that its grant names; and those every call has."""
    if grant is None or grant.tools is None:
        return toolset
    names = frozenset(grant.tools)
    kept = {name: tool for name, tool in toolset.tools.items() if name in names or tool.runs is Runs.BUILT_IN}
    client = names if toolset.client_tools is None else names & toolset.client_tools
    return replace(toolset, tools=kept, client_tools=client)


def tighter(one: float | None, other: float | None) -> float | None:
    """The lower of two limits; None is none."""
    return other if one is None else one if other is None else min(one, other)
