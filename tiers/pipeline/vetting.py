"""What an agent says is looked at by somebody before it is heard: how the pipeline asks, and what may come back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from orchestrator.protocol.answers import AnswerRequest


@dataclass(frozen=True, slots=True)
class Veto:
    """Not to be said. `line`: the prompt that is said instead."""

    line: str


Vet = Callable[[AnswerRequest, str], Awaitable["str | Veto"]]
"""The words that may be said for these (as they are, others, or none at all: ""), or a veto. Raises nothing."""
