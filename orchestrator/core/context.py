"""What the parts of one call share, and the settings they go by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from orchestrator.core.actions import Action, Record, StopAnswer, ToClient, Transcribe
from orchestrator.core.budget import CallBudget
from orchestrator.core.conversation import Conversation
from orchestrator.core.granted import Granted, Refused
from orchestrator.core.grants import Grant, narrowed, tighter
from orchestrator.core.input_audio import InputAudio
from orchestrator.core.outcomes import Outcome, Outcomes
from orchestrator.core.pace import PROVIDER_STEPS, DeadlinePolicy, HedgeCap, Pace, Paces
from orchestrator.core.playback import Playback
from orchestrator.core.prices import Context
from orchestrator.core.purse import Purse
from orchestrator.core.responses import OpenResponse, ResponseWriter
from orchestrator.core.steps import Share, Stepper, StepPolicy
from orchestrator.core.tool_desk import Desk
from orchestrator.core.tools import Toolset
from orchestrator.protocol.answers import AnswerRequest, Charge, HistoryItem
from orchestrator.protocol.audio import AudioFormat
from orchestrator.protocol.session import Session, upstream_update
from orchestrator.protocol.wire import Event, Ids

Clips = Callable[[str, AudioFormat, str, str], tuple[str, bytes]]
"""``clips(prompt, format, voice, language)``: its words and wire audio, from memory; must not block."""


class Bridge(StrEnum):
    """Which line bridges a handover: by what the caller has just lived through."""

    DEFAULT = "default"
    INTERRUPTED = "interrupted"
    """An answer broke off in the middle."""
    LATE = "late"
    """The answer did not come, and the caller has waited for it."""
    PLANNED = "planned"
    """Nothing broke: an operator or the budget moved the call."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How a call behaves; lengths in seconds. Built from the settings, where the defaults are documented."""

    deadlines: DeadlinePolicy = field(
        default_factory=lambda: DeadlinePolicy(dict.fromkeys(PROVIDER_STEPS, 1.0))
    )
    """Of the provider's steps; they follow each rung's own pace."""
    next_audio_s: float = 0.4
    """How much silence an answer may hold because its audio is late."""
    answer_s: float = 8.0
    """How long Tier B may be silent before Tier C takes its answer over."""
    hedge_share: float = 0.5
    """Share of a deadline after which Tier B may start on the same turn in silence."""
    bridge_lead_s: float = 0.15
    """How long before the client's buffer runs dry a bridge is sent."""
    promote: bool = True
    quiet_s: float = 1.0
    """The caller must have been quiet this long before a promotion."""
    promotion_interval_s: float = 5.0
    session_limit_s: float = 3600.0
    """How long a provider lets a session live, where it does not say so itself."""
    renew_before_s: float = 300.0
    """How long before its end a provider session is replaced, if the caller is quiet; at most a fifth of its life."""
    transcription_model: str | None = None
    max_output_tokens: int = 4096
    retention: Event | None = None
    """The provider's `truncation` with "retention"."""
    history_tokens: int = 6_000
    """With "text": tokens of audio in the history from which on it is told again as text."""
    concise: str = "From now on answer in one or two short sentences."
    """What the model is told when answers have to be shorter."""
    goodbye: str = "budget_goodbye"
    """Prompt with which a call is ended whose money is gone."""
    bridges: Mapping[str, str] = field(default_factory=lambda: {Bridge.DEFAULT: "one_moment"})
    """Prompt names by `Bridge`; a cause without one has the default's."""
    apology: str = "offer_choice"
    """What a caller hears when no tier could answer: ready in memory, so that it cannot fail."""
    commit_min_ms: float = 100.0
    speculate: bool = True
    """Whether Tiers B and C begin an answer at the first pause of a turn."""
    guarded: frozenset[str] = frozenset()
    """What guardrails are asked about in Tier A: "heard", "said"."""
    call_s: float | None = None
    """How long a call may last; None: for ever."""

    def bridge(self, kind: Bridge) -> str:
        return self.bridges.get(kind) or self.bridges[Bridge.DEFAULT]


@dataclass(slots=True)
class Turn:
    """The caller's utterance as it is announced to the client, in ms of the call's input."""

    item_id: str
    start_ms: float
    stop_ms: float | None = None
    committed: bool = False
    awaits_response: bool = False
    ended_at: float = 0.0
    number: int = 0
    """Its number in the call's `Outcomes`, once an answer to it is owed."""


@dataclass(slots=True)
class Owed:
    """An answer that is owed. `response`: the one the client already saw opened, to be carried on."""

    request: Event
    client_asked: bool
    since: float
    response: OpenResponse | None = None
    bridge: Bridge | None = None
    """The line that may be heard before it; None for none."""
    turn: int = 0
    """Its number in the call's `Outcomes`."""
    key: str = ""
    """Under which its money was set aside."""
    say: str | None = None
    """Words that are the answer, exactly."""
    rounds: int = 0
    """How often the answer has gone on after tools."""
    results: tuple[HistoryItem, ...] = ()
    """What its tools have said: for an answer that is not to know the conversation."""

    @property
    def out_of_band(self) -> bool:
        opened = self.response is not None and self.response.out_of_band
        return opened or self.request.get("conversation") == "none"


@dataclass(slots=True)
class Unfinished:
    """What a tier leaves behind for the next one."""

    owed: list[Owed] = field(default_factory=list)
    speaking: Turn | None = None
    """The caller is in the middle of this turn."""
    loud_from_ms: float | None = None
    """Where the caller became loud and the tier has not said so: a turn may have begun there, or be over already."""
    requests: list[Event] = field(default_factory=list)
    """Client events about items or the input buffer that were passed on and not yet carried out."""
    bills: dict[str, int] = field(default_factory=dict)
    """What may still be billed, by the key it was set aside under, with the turn it is for."""


class Costs(Protocol):
    """What things cost at worst, in nano-dollars; no I/O, in microseconds."""

    def response(self, rung: str, max_output_tokens: int, context: Context) -> int:
        """One response of a Tier A rung."""
        ...

    def transcription(self, model: str, seconds: float) -> int:
        """Writing down so much audio with a provider's model."""
        ...

    def answer(self, tier: str, request: AnswerRequest) -> tuple[int, int]:
        """One answer of Tier B or C, and of that what is billed even if it is cut off: the agent's part."""
        ...

    def writing_down(self, seconds: float) -> int:
        """So much audio by Tier B's own transcription."""
        ...

    def spoken(self, rung: str, ms: float) -> int:
        """What so much of an answer's audio was billed as."""
        ...


class _Free:
    def response(self, rung: str, max_output_tokens: int, context: Context) -> int:
        return 0

    def transcription(self, model: str, seconds: float) -> int:
        return 0

    def answer(self, tier: str, request: AnswerRequest) -> tuple[int, int]:
        return 0, 0

    def writing_down(self, seconds: float) -> int:
        return 0

    def spoken(self, rung: str, ms: float) -> int:
        return 0


FREE: Costs = _Free()
"""Where nothing costs anything."""


@dataclass(frozen=True, slots=True)
class Closing:
    """An answer that was stopped and has not ended: whose it was, and what its agent may have used."""

    rung: str
    turn: int
    agent_worst: int


HEARD = "heard "


def heard_key(item_id: str) -> str:
    """Under which the money for writing a turn down is set aside."""
    return HEARD + item_id


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
    costs: Costs = field(default_factory=lambda: FREE)
    stepper: Stepper = field(default_factory=lambda: Stepper(StepPolicy()))
    tools: Toolset = field(default_factory=Toolset)
    """What the server's policy lets this call use."""
    grant: Grant | None = None
    """What the call's client may make of it, where it came with a credential; None: what the settings let it."""
    history: str = "provider"
    """What becomes of a long history: "provider", "retention" or "text"."""
    paces: Paces = field(default_factory=Paces)
    """How fast the rungs are; shared by the calls of a process."""
    hedge_cap: HedgeCap = field(default_factory=HedgeCap)
    """How many turns may be answered twice; shared likewise."""
    wall_offset: float = 0.0
    """Unix seconds at second 0 of the call's clock: a provider says in Unix seconds when its session ends."""
    outcomes: Outcomes = field(default_factory=Outcomes)
    tier: str = "A"
    rung: str = ""
    reason: str = ""
    conversation: Conversation = field(default_factory=Conversation)
    playback: Playback = field(default_factory=Playback)
    responses: dict[str, OpenResponse] = field(default_factory=dict)
    """Responses the client saw created and not yet done."""
    closing: dict[str, Closing] = field(default_factory=dict)
    """Answers that were stopped and have not ended."""
    hidden: set[str] = field(default_factory=set)
    """Items that a provider was given by us: the client never hears of them."""
    started_at: float = 0.0
    bucket: Share = field(default_factory=lambda: Share(0, None))
    """How the call's bucket stands, as last heard."""
    buffer_from_ms: float = 0.0
    """Where the uncommitted input audio begins."""
    refused: list[Refused] = field(default_factory=list)
    """What the client may not have of its session, to be told with the next ``session.updated``."""
    quiet_ms: float = 0.0
    """How long the caller had been quiet when the last turn was found to be over."""
    out: list[Action] = field(default_factory=list)
    granted: Granted | None = field(init=False)
    """What the grant lets through, where there is one."""
    writer: ResponseWriter = field(init=False)
    purse: Purse = field(init=False)
    desk: Desk = field(init=False)

    def __post_init__(self) -> None:
        self.tools = narrowed(self.tools, self.grant)
        if self.grant is not None and self.grant.cap is not None:
            cap = self.budget.cap
            self.budget.cap = self.grant.cap if cap is None else min(cap, self.grant.cap)
        self.purse = Purse(self.budget)
        self.desk = Desk(
            self.tools,
            self.call_id,
            self.ids,
            self.conversation,
            self.do,
            self.record,
            lambda: self.session.language,
            lambda: self.send({"type": "session.updated", "session": self.describe_session()}),
        )
        self.writer = ResponseWriter(self.ids, self.conversation, self.playback, self.send)
        self.granted = None if self.grant is None else Granted(self.grant, self.session, self.desk)
        if self.granted is not None:
            self.session.begin(self.granted.initial())
            self.heed_format(self.session.input_format)

    def heed_format(self, fmt: AudioFormat) -> bool:
        """The caller's audio is in this format from here on; True where that is another one than before."""
        changed = fmt is not self.input.format
        if changed:
            self.input.change_format(fmt)
        return changed

    def voice_to_voice(self, ttfa_ms: float | None, client_asked: bool) -> dict[str, float]:
        """What a row of an answer says of that: with how long the caller had been quiet when the turn ended."""
        if ttfa_ms is None or client_asked:
            return {}
        return {"voice_to_voice_ms": round(ttfa_ms + self.quiet_ms, 1)}

    def wall(self, at: float) -> float:
        """A time of the call's clock in Unix seconds."""
        return round(at + self.wall_offset, 3)

    def send(self, event: Event) -> None:
        self.out.append(ToClient({"event_id": self.ids.new("event"), **event}))

    def do(self, *actions: Action) -> None:
        self.out.extend(actions)

    def record(self, type: str, **fields: Any) -> None:
        self.out.append(Record(type, fields))

    def charge(self, charge: Charge, rung: str, turn: int = 0, *, key: str = "", **more: Any) -> None:
        """Something was paid for: it counts, and stands in the timeline with what its price was worked out from.

        `key`: what it was set aside under.
        """
        if not charge.nanodollars and not charge.usage:
            return
        self.purse.charge(key, charge.nanodollars)
        self.budget.spend(charge.nanodollars)
        self.record(
            "charge",
            what=charge.what,
            model=charge.model,
            rung=rung,
            turn=turn,
            nanodollars=charge.nanodollars,
            usage=charge.usage,
            estimated=charge.estimated,
            **more,
        )

    def end_turn(self, turn: int, outcome: Outcome, reason: str = "") -> None:
        """Every turn that was asked ends once; the timeline says how."""
        if self.outcomes.end(turn, outcome):
            self.record(
                "turn_ended", turn=turn, outcome=outcome.value, **({"reason": reason} if reason else {})
            )

    def stop_answer(self, answer_id: str, rung: str, turn: int, agent_worst: int) -> None:
        """Have a tier stop. What it had cost and could not tell is known when it has (`answer_closed`).

        `agent_worst`: what its agent has used, at worst, if that does not come to light then either.
        """
        self.do(StopAnswer(answer_id))
        if self.purse.worst(answer_id):
            self.closing[answer_id] = Closing(rung, turn, agent_worst)

    def answer_closed(self, answer_id: str, charges: Sequence[Charge]) -> None:
        """An answer that was stopped has ended, with these charges that nobody was told of."""
        closing = self.closing.pop(answer_id, None) or Closing(self.rung, 0, 0)
        for charge in charges:
            self.charge(charge, closing.rung, closing.turn, key=answer_id, answer_id=answer_id)
        worst = min(closing.agent_worst, self.purse.worst(answer_id))
        if worst and not any(charge.what == "agent" for charge in charges):
            estimated = Charge("agent", closing.rung, worst, {}, estimated=True)
            self.charge(estimated, closing.rung, closing.turn, key=answer_id, answer_id=answer_id)
        if answer_id not in self.closing:
            self.purse.end(answer_id)

    def write_down(self, item_id: str, audio: bytes) -> bool | None:
        """Have a turn written down by Tier B's transcription; False where that cannot be paid for, None: not yet."""
        fmt = self.session.input_format
        worst = self.costs.writing_down(fmt.ms(len(audio)) / 1000.0)
        if not self.purse.start(heard_key(item_id), worst):
            self.purse.want(worst, "hearing")
            if self.purse.pending:
                return None
            if not self.purse.start(heard_key(item_id), worst):
                return False
        self.purse.want(0, "hearing")
        self.do(Transcribe(item_id, audio, fmt, self.session.language))
        return True

    def written_down(self, item_id: str, charges: Sequence[Charge]) -> None:
        for charge in charges:
            self.charge(charge, self.rung, key=heard_key(item_id), item_id=item_id)
        self.purse.end(heard_key(item_id))

    def give_up_writing(self) -> None:
        """What is still being written down will not be told any more: it is charged at its worst."""
        for key in [key for key in self.purse.running if key.startswith(HEARD)]:
            charge = Charge("transcription", self.rung, self.purse.worst(key), {}, estimated=True)
            self.charge(charge, self.rung, key=key)
            self.purse.end(key)

    @property
    def output_limit(self) -> int:
        """The most output tokens of an answer, whatever the client would like."""
        limit = self.policy.max_output_tokens
        return min(limit, self.stepper.policy.concise_tokens) if self.stepper.concise else limit

    @property
    def transcribes_with(self) -> str:
        """The model that writes down the caller's words in Tier A; nothing where none does."""
        configured = self.session.fields["audio"]["input"]["transcription"] or {}
        return str(configured.get("model") or self.policy.transcription_model or "")

    def for_provider(self, changes: Event, *, gated: bool) -> Event:
        """What a ``session.update`` of the client's, or of ours, is to tell the provider."""
        retention = self.policy.retention if self.history == "retention" else None
        return upstream_update(
            self.session,
            changes,
            transcription_model=self.policy.transcription_model,
            max_output_tokens=self.output_limit,
            gated=gated,
            truncation=retention,
            model=self.for_model(),
        )

    def for_model(self) -> Event:
        """What a model is told in place of the client's own tools and instructions; empty where that is the same."""
        desk, session = self.desk, self.session
        if not desk.toolset:
            return {}
        told: Event = {"tools": desk.toolset.offered(session.tools, desk.agent)}
        if desk.agent:
            told["instructions"] = desk.toolset.instructions(desk.agent, session.instructions)
        return told

    @property
    def longest_s(self) -> float | None:
        """How long the call may last; None: for ever."""
        return tighter(self.policy.call_s, None if self.grant is None else self.grant.max_s)

    @property
    def pace(self) -> Pace:
        """Of the rung that serves the call."""
        return self.paces.of(self.rung)

    def tags(self) -> dict[str, str]:
        """What `response.metadata` tells of the tier."""
        return {"tier": self.tier, "rung": self.rung}

    def opening(self, *, gated: bool) -> Event:
        """What a fresh provider session is told first: the fields that the call was opened with, as they are."""
        fields, now = {} if self.granted is None else self.granted.initial(), self.session.fields
        told: Event = {name: now[name] for name in fields if name != "audio"}
        for side, values in (fields.get("audio") or {}).items():
            told.setdefault("audio", {})[side] = {name: now["audio"][side][name] for name in values or {}}
        if gated:
            hears = told.setdefault("audio", {}).setdefault("input", {})
            hears["turn_detection"] = self.session.turn_detection
        return told

    def describe_session(self) -> Event:
        level = self.stepper.level
        told: Event = {"call_id": self.call_id, "tier": self.tier, "rung": self.rung, "reason": self.reason}
        if level is not None:
            told["budget_step"] = level.value
        if self.desk.transferred:
            told["transfer"] = self.desk.transferred
        if self.refused:
            told["refused"] = [each.wire() for each in self.refused]
            self.refused = []
        return self.session.describe(told)

    def concise_item(self) -> Event:
        """The word to a provider's model that answers have to be short from now on."""
        item_id = self.ids.new("item")
        self.hidden.add(item_id)
        content = [{"type": "input_text", "text": self.policy.concise}]
        return {"id": item_id, "type": "message", "role": "system", "content": content}

    def speaks(self, request: Event) -> bool:
        """Whether a response asked for in this way is to be heard."""
        return "audio" in (request.get("output_modalities") or self.session.fields["output_modalities"])

    def speaks_to(self, owed: Owed) -> bool:
        """Whether the answer owed is one for the caller's ears."""
        spoken = owed.response.speaks if owed.response is not None else self.speaks(owed.request)
        return spoken and not owed.out_of_band

    def default_response(self) -> OpenResponse | None:
        return next((r for r in self.responses.values() if not r.out_of_band), None)

    def forget_audio(self) -> None:
        """The call is over. What is left of it may stay in memory for a while, its audio not."""
        self.input.forget()
        for item in self.conversation:
            item.audio = None

    def note_barge_in(self, now: float) -> bool:
        """The client drops what it has not played: cut the items to what was heard. True if anything was cut."""
        cut = self.playback.interrupt(now)
        for item_id, heard in cut:
            item = self.conversation.get(item_id)
            if item is not None:
                item.heard_ms, item.cut_off = heard, True
                self._note_waste(item_id, heard)
        return bool(cut)

    def _note_waste(self, item_id: str, heard_ms: float) -> None:
        """What was spoken and nobody heard was billed all the same."""
        sent_ms, item = self.playback.sent_ms(item_id), self.conversation.get(item_id)
        self.record(
            "waste",
            item_id=item_id,
            response_id=item.response_id if item is not None else "",
            rung=self.rung,
            sent_ms=round(sent_ms),
            heard_ms=round(heard_ms),
            unheard_ms=round(sent_ms - heard_ms),
            nanodollars=self.costs.spoken(self.rung, sent_ms - heard_ms),
        )

    def hold_input(self, turn: Turn | None) -> None:
        """Keep the audio of turns whose words are not known, and of the one under way."""
        starts = [item.audio_span[0] for item in self.conversation if item.audio_span is not None]
        if turn is not None:
            starts.append(turn.start_ms)
        if self.session.turn_detection is None:
            starts.append(self.buffer_from_ms)
        self.input.hold(min(starts) if starts else None)
