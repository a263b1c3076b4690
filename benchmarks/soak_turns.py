"""What the callers of a soak do and what comes of it: kinds of turns, how a call is held, endings, and the tally."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Event = dict[str, Any]

TOOL_OUTPUT = '{"order_id": "4172", "status": "on its way"}'
TOOL = {
    "type": "function",
    "name": "get_order_status",
    "description": "Where an order is.",
    "parameters": {
        "type": "object",
        "properties": {"order_id": {"type": "string"}},
        "required": ["order_id"],
    },
}


class Kind(StrEnum):
    """How a caller asks."""

    VOICE = "voice"
    """Aloud; the server finds the end of the turn and answers by itself."""
    MANUAL = "manual"
    """Aloud; the client commits the audio and asks for the answer."""
    TEXT = "text"
    """In writing; the client asks for the answer."""
    TOOL = "tool"
    """In writing, about an order: the client has to run a function first."""


class Ending(StrEnum):
    """What became of a turn."""

    ANSWERED = "answered"
    CLOSED = "closed"
    """Its response ended without an answer, and nothing followed."""
    DROPPED = "dropped"
    """Nothing came, and the orchestrator has counted it as closed: told afterwards, from its own events."""
    STOPPED = "stopped"
    """Its caller talked over the answer."""
    HUNG_UP = "hung_up"
    """Its caller hung up before it was over."""
    LOST = "lost"
    """Nothing, for as long as a caller waits."""


@dataclass(slots=True, eq=False)
class Turn:
    number: int
    kind: Kind
    sound_at: float | None = None
    open: set[str] = field(default_factory=set)
    """Its responses that have not ended."""
    tools: int = 0
    answers: list[str] = field(default_factory=list)
    """The tier of each."""
    words: str = ""
    """All that was said to it, by whatever tier."""
    closed_at: float | None = None
    """A response ended, it was no answer, and nothing has followed yet."""
    ending: Ending | None = None

    def expected(self, caller: int) -> str:
        """What the scripted answer has in it, as a regular expression. Tier C says it in its own words."""
        if self.kind is Kind.TEXT:
            return f"Answer {self.number} for caller {caller}"
        return "4 ?1 ?7 ?2" if self.kind is Kind.TOOL else "noted your words|4 ?1 ?7 ?2"


@dataclass(slots=True)
class Tally:
    """All calls of a run together."""

    up: int = 0
    calls: int = 0
    asked: int = 0
    endings: Counter[Ending] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    handovers: int = 0
    tiers: Counter[str] = field(default_factory=Counter)
    """Answers by the tier that finished them."""
    lost: list[Lost] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Lost:
    """The turns of one call that got nothing, and how many of its turns were seen to be closed."""

    call_id: str
    file: str
    turns: list[str]
    closed: int


@dataclass(frozen=True, slots=True)
class Manner:
    """How one call is held. `hang_up`: the caller does not wait for the end of the last turn."""

    kinds: tuple[Kind, ...]
    """Of its turns."""
    vad: bool = False
    tools: bool = False
    transcripts: bool = False
    hang_up: bool = False
    talks_over: frozenset[int] = frozenset()
    """Turns whose answer the next turn talks over."""

    @classmethod
    def draw(cls, dice: random.Random) -> Manner:
        vad, tools, turns = dice.random() < 0.7, dice.random() < 0.5, dice.randint(2, 6)
        spoken = Kind.VOICE if vad else Kind.MANUAL
        choice = (spoken, spoken, Kind.TEXT, Kind.TOOL if tools else spoken)
        kinds = [dice.choice(choice) for _ in range(turns)]
        # Whoever talks over a function call would have its answer begin while they speak.
        over = {number for number in range(turns - 1) if vad and not tools and dice.random() < 0.15}
        for number in over:
            kinds[number + 1] = Kind.VOICE
        return cls(
            kinds=tuple(kinds),
            vad=vad,
            tools=tools,
            transcripts=dice.random() < 0.3,
            hang_up=dice.random() < 0.15,
            talks_over=frozenset(over),
        )

    def session(self) -> Event:
        into: Event = {} if self.vad else {"turn_detection": None}
        if self.transcripts:
            into["transcription"] = {"model": "gpt-4o-mini-transcribe"}
        session: Event = {"type": "realtime", "instructions": "Be brief.", "audio": {"input": into}}
        return session | ({"tools": [TOOL]} if self.tools else {})
