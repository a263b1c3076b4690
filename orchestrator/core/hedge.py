"""Tier B's answer to a turn that Tier A still owes, made in silence: nothing of it reaches the client.

    stage       what is going on                                       then
    WORDS       the turn is being written down                         ANSWERING
    ANSWERING   the tier was asked; what it says is kept               READY, STUCK
    READY       its first audio is there: it may speak
    STUCK       it wants a tool, or failed: kept for the deadline at most

A hedge stops before any tool that the client runs or that changes something: a call it asks for is kept, and reaches
whoever runs it only if the turn is handed over. A tool of the server's that changes nothing is begun at once.
"""

from __future__ import annotations

from enum import Enum

from orchestrator.core.actions import StartAnswer
from orchestrator.core.asking import ask, history_for, nothing_said
from orchestrator.core.context import CallContext, Owed
from orchestrator.core.conversation import Item
from orchestrator.core.tool_desk import Pending
from orchestrator.core.veto import line_for
from orchestrator.protocol.answers import (
    AnswerEvent,
    AnswerRequest,
    AudioDelta,
    Charge,
    Charged,
    Failed,
    Finished,
    ToolCallReady,
    Transcript,
)

TIER = "B"


class Stage(Enum):
    WORDS = "words"
    ANSWERING = "answering"
    READY = "ready"
    STUCK = "stuck"


class SilentAnswer:
    """An answer that is made and kept, for `owed`. `rung`: which rung of Tier B makes it."""

    def __init__(self, ctx: CallContext, owed: Owed, rung: str, now: float) -> None:
        self.ctx = ctx
        self.owed = owed
        self.rung = rung
        self.id = ctx.ids.new("answer")
        self.started_at = now
        self.stage = Stage.WORDS
        self.adopted = False
        """It is given, and whoever took it goes on with this answer."""
        self.kept: list[AnswerEvent] = []
        """What the tier has said so far, for whoever takes the answer over."""
        self._asked = False
        self.agent_worst = 0
        """What the agent may bill even if the answer is thrown away; 0 once that is known."""
        self.calls: list[Pending] = []
        """Tools that were begun for it: of the server's, and changing nothing."""

    def _ask(self, tier: str, request: AnswerRequest) -> bool:
        """Ask the tier, if that can be paid for."""
        worst, self.agent_worst = self.ctx.costs.answer(tier, request)
        if not self.ctx.purse.start(self.id, worst):
            self.stage = Stage.STUCK
            return False
        self.stage, self._asked = Stage.ANSWERING, True
        self.ctx.do(StartAnswer(tier, request))
        return True

    def answer_event(self, event: AnswerEvent) -> None:
        """Keep what the tier says. After this `stage` tells whether it may speak."""
        self.kept.append(event)
        if isinstance(event, ToolCallReady):
            self._begin_tool(event)
        if self.stage is not Stage.ANSWERING:
            return
        if isinstance(event, AudioDelta):
            self.stage = Stage.READY
        elif isinstance(event, ToolCallReady | Failed):
            self.stage = Stage.STUCK

    def _begin_tool(self, call: ToolCallReady) -> None:
        begun = self.ctx.desk.begin_ahead(call.call_id, call.name, call.arguments, self.started_at)
        if begun is not None:
            self.calls.append(begun)

    @property
    def adoptable(self) -> bool:
        """Whether another can go on with what was begun."""
        return self._asked and not any(isinstance(event, Failed) for event in self.kept)

    def drop(self) -> list[Charge]:
        """It is not wanted: stop, and say what was paid for."""
        charges = [event.charge for event in self.kept if isinstance(event, Charged)]
        over = any(isinstance(event, Finished | Failed) for event in self.kept)
        for call in self.calls:
            self.ctx.desk.throw_away(call.call_id)
        told = over or any(charge.what == "agent" for charge in charges)
        self.ctx.stop_answer(self.id, self.rung, self.owed.turn, 0 if told else self.agent_worst)
        return charges


class Hedge(SilentAnswer):
    """Beside Tier A: for a turn whose answer is late."""

    def __init__(self, ctx: CallContext, owed: Owed, rung: str, now: float) -> None:
        super().__init__(ctx, owed, rung, now)
        self.awaited: set[str] = set()
        """Items that are being written down for it."""
        self.transcripts: dict[str, Transcript | None] = {}
        """What was written down, by item."""
        for item in ctx.conversation:
            if item.needs_transcript:
                self._write_down(item)
        self.words_known()

    def _write_down(self, item: Item) -> None:
        ctx, span = self.ctx, item.audio_span
        audio = item.audio if span is None else ctx.input.slice(*span)
        self.awaited.add(item.id)
        if not ctx.write_down(item.id, audio or b""):
            self.awaited.discard(item.id)
            self.stage = Stage.STUCK

    def transcribed(self, item_id: str, transcript: Transcript | None) -> None:
        """The words of an item, or None if they could not be had. The provider's own, if they came, are kept."""
        self.awaited.discard(item_id)
        item = self.ctx.conversation.get(item_id)
        if item is not None and item.needs_transcript:
            self.transcripts[item_id] = transcript
            item.transcript, item.audio, item.audio_span = transcript.text if transcript else "", None, None
            item.veto = transcript.veto if transcript else ""
        self.words_known()

    def words_known(self) -> None:
        """Ask the tier, once every turn before the answer is written down."""
        ctx = self.ctx
        if self.stage is not Stage.WORDS or any(item.needs_transcript for item in ctx.conversation):
            return
        history = history_for(ctx, self.owed)
        if nothing_said(history) or line_for(ctx, self.owed):
            self.stage = Stage.STUCK
            return
        self._ask(TIER, ask(ctx, self.id, self.owed, history))

    def is_for(self, owed: Owed) -> bool:
        """Whether this is the answer that is owed."""
        same = owed.request == self.owed.request and owed.client_asked == self.owed.client_asked
        same = same and owed.say == self.owed.say
        return same and not owed.out_of_band
