"""What the parts of one call share, and the settings they go by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.core.actions import Action, Record, Spend, ToClient
from orchestrator.core.budget import CallBudget
from orchestrator.core.conversation import Conversation
from orchestrator.core.input_audio import InputAudio
from orchestrator.core.playback import Playback
from orchestrator.core.responses import OpenResponse, ResponseWriter
from orchestrator.protocol.audio import AudioFormat
from orchestrator.protocol.session import Session
from orchestrator.protocol.wire import Event, Ids

Clips = Callable[[str, AudioFormat, str, str], tuple[str, bytes]]
"""``clips(prompt, format, voice, language)``: its words and wire audio, from memory; must not block."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How a call behaves; lengths in seconds. Built from the settings, where the defaults are documented."""

    session_s: float = 1.0
    """From connecting to ``session.created``."""
    response_s: float = 1.0
    """From the end of the caller's turn, or the client's request, to ``response.created``."""
    first_audio_s: float = 1.0
    """From ``response.created`` to the first audio."""
    next_audio_s: float = 0.4
    """How long a client's buffer may be dry within an answer."""
    answer_s: float = 8.0
    """How long Tier B may be silent before Tier C takes its answer over."""
    promote: bool = True
    quiet_s: float = 1.0
    """The caller must have been quiet this long before a promotion."""
    promotion_interval_s: float = 5.0
    transcription_model: str | None = None
    max_output_tokens: int = 4096
    bridge: str = "one_moment"
    apology: str = "offer_choice"
    """What a caller hears when no tier could answer: ready in memory, so that it cannot fail."""
    commit_min_ms: float = 100.0


@dataclass(slots=True)
class Turn:
    """The caller's utterance as it is announced to the client, in ms of the call's input."""

    item_id: str
    start_ms: float
    stop_ms: float | None = None
    committed: bool = False
    awaits_response: bool = False
    ended_at: float = 0.0


@dataclass(slots=True)
class Owed:
    """An answer that is owed. `response`: the one the client already saw opened, to be carried on."""

    request: Event
    client_asked: bool
    since: float
    response: OpenResponse | None = None
    bridge: bool = False


@dataclass(slots=True)
class Unfinished:
    """What a tier leaves behind for the next one."""

    owed: list[Owed] = field(default_factory=list)
    speaking: Turn | None = None
    """The caller is in the middle of this turn."""
    requests: list[Event] = field(default_factory=list)
    """Client events about items or the input buffer that were passed on and not yet carried out."""


@dataclass(slots=True)
class CallContext:
    call_id: str
    ids: Ids
    session: Session
    input: InputAudio
    policy: Policy
    clips: Clips
    price: Callable[[str, Event], int]
    """Nano-dollars for a model's usage object (a response's or a transcription's)."""
    conversation_id: str
    budget: CallBudget
    tier: str = "A"
    rung: str = ""
    reason: str = ""
    conversation: Conversation = field(default_factory=Conversation)
    playback: Playback = field(default_factory=Playback)
    responses: dict[str, OpenResponse] = field(default_factory=dict)
    """Responses the client saw created and not yet done."""
    buffer_from_ms: float = 0.0
    """Where the uncommitted input audio begins."""
    out: list[Action] = field(default_factory=list)
    writer: ResponseWriter = field(init=False)

    def __post_init__(self) -> None:
        self.writer = ResponseWriter(self.ids, self.conversation, self.playback, self.send)

    def send(self, event: Event) -> None:
        self.out.append(ToClient({"event_id": self.ids.new("event"), **event}))

    def do(self, *actions: Action) -> None:
        self.out.extend(actions)

    def record(self, type: str, **fields: Any) -> None:
        self.out.append(Record(type, fields))

    def spend(self, nanodollars: int, rung: str) -> None:
        if nanodollars:
            self.budget.spend(nanodollars)
            self.out.append(Spend(nanodollars, rung))

    def tags(self) -> dict[str, str]:
        """What `response.metadata` tells of the tier."""
        return {"tier": self.tier, "rung": self.rung}

    def describe_session(self) -> Event:
        return self.session.describe(
            {"call_id": self.call_id, "tier": self.tier, "rung": self.rung, "reason": self.reason}
        )

    def default_response(self) -> OpenResponse | None:
        return next((r for r in self.responses.values() if not r.out_of_band), None)

    def note_barge_in(self, now: float) -> bool:
        """The client drops what it has not played: cut the items to what was heard. True if anything was cut."""
        cut = self.playback.interrupt(now)
        for item_id, heard in cut:
            item = self.conversation.get(item_id)
            if item is not None:
                item.heard_ms, item.cut_off = heard, True
        return bool(cut)

    def hold_input(self, turn: Turn | None) -> None:
        """Keep the audio of turns whose words are not known, and of the one under way."""
        starts = [item.audio_span[0] for item in self.conversation if item.audio_span is not None]
        if turn is not None:
            starts.append(turn.start_ms)
        if self.session.turn_detection is None:
            starts.append(self.buffer_from_ms)
        self.input.hold(min(starts) if starts else None)
