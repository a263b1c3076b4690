"""Answers that Tiers B and C give in a call, from the moment one is owed to its end.

An answer goes through its stages: the words of the turns before it are awaited (WORDS), what it may cost is set
aside (MONEY, where that is not there already), the tier is asked (ANSWERING), and it is done. One answer in the
default conversation runs at a time, out-of-band ones beside it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from orchestrator.core.actions import Report, StartAnswer
from orchestrator.core.asking import ask, history_for, nothing_said
from orchestrator.core.context import Bridge, CallContext, Owed, Turn
from orchestrator.core.conversation import Item, text_of
from orchestrator.core.health import Cause
from orchestrator.core.hedge import Hedge, SilentAnswer
from orchestrator.core.hedge import Stage as HedgeStage
from orchestrator.core.outcomes import Outcome
from orchestrator.core.pace import Step
from orchestrator.core.responses import OpenItem, OpenResponse, local_usage
from orchestrator.core.speculation import Speculation
from orchestrator.core.tool_desk import Pending
from orchestrator.core.veto import line_for, say_line
from orchestrator.protocol.answers import (
    AnsweredBy,
    AnswerEvent,
    AnswerRequest,
    AudioDelta,
    Charge,
    Charged,
    Failed,
    Finished,
    TextDelta,
    ToolCallReady,
    Transcript,
)
from orchestrator.protocol.wire import Event

CHUNK_MS = 200
LONG_TURN_S = 60.0
"""How long a turn may be whose writing down is set aside before it has begun."""
WORTH_WAITING_S = 0.6
"""An answer that is this close is better waited for than put off by a bridge."""
READY_MARGIN_S = 0.35


class Stage(Enum):
    WORDS = "words"
    MONEY = "money"
    """It is to be paid for: the bucket has been asked."""
    ANSWERING = "answering"
    TOOLS = "tools"
    """Tools are at work for it."""


@dataclass(slots=True)
class Answering:
    """One answer under way."""

    id: str
    owed: Owed
    tier: str
    stage: Stage = Stage.WORDS
    response: OpenResponse | None = None
    item: OpenItem | None = None
    begun_at: float = 0.0
    due: float | None = None
    """When the tier will have been silent for too long."""
    bridge_at: float | None = None
    """When a bridge is to be heard, unless the answer's own audio is there by then."""
    audio_at: float | None = None
    """When the answer's own first audio went out; a bridge may have been heard before."""
    by: dict[str, str] = field(default_factory=dict)
    """Tier and rung the audio came from, where not the call's own."""
    cost: int = 0
    """What it has cost so far, in nano-dollars."""
    agent_worst: int = 0
    """What the agent may bill even if the answer is cut off; 0 once that is known."""
    calls: list[Pending] = field(default_factory=list)
    """Tools that it has asked for since the tier was last asked, of those that the server keeps."""
    preamble_at: float | None = None
    """When the caller is told that a tool takes its time."""


class Answers:
    """The answers owed and under way. `Local` adds who asks for them: the caller and the client."""

    def __init__(self, ctx: CallContext) -> None:
        self.ctx = ctx
        self.turn: Turn | None = None
        """Announced by ``speech_started`` and not yet stopped."""
        self.quiet_since = 0.0
        self.racing = False
        """Another tier may give the answer as well: no response is opened before there is something to hear."""
        self._ahead: Speculation | None = None
        """The answer to the turn under way, begun before it is over."""
        self._queue: deque[Owed] = deque()
        self._active: Answering | None = None
        self._beside: dict[str, Answering] = {}
        """Out-of-band answers, by answer id."""
        self._awaited: set[str] = set()
        """Items whose transcription is under way."""
        self._idle_due: float | None = None
        self._bridge_due: tuple[float, Bridge] | None = None
        """A bridge that is still to come, though the answer so far was a tool call: the tool may take its time."""
        self._usual_worst = 0
        """The most that an answer of this tier has needed."""
        self._interrupted = False
        """The caller's turn cut an answer off: if it turns out to hold no words, the answer is still owed."""

    # --- an answer is owed ---

    def _owe(self, owed: Owed, now: float, hedge: Hedge | None = None) -> None:
        self._idle_due = None
        if owed.out_of_band:
            answering = Answering(self.ctx.ids.new("answer"), owed, self.ctx.tier, response=owed.response)
            self._beside[answering.id] = answering
            self._begin(answering, now)
            return
        owed.turn = owed.turn or self.ctx.outcomes.ask()
        self._queue.append(owed)
        self._advance(now, hedge)

    def _advance(self, now: float, hedge: Hedge | None = None) -> None:
        if self._active is None and self._queue:
            owed = self._queue.popleft()
            self._active = Answering(self.ctx.ids.new("answer"), owed, self.ctx.tier, response=owed.response)
            self._begin(self._active, now, hedge)

    def _begin(self, answering: Answering, now: float, hedge: Hedge | None = None) -> None:
        ctx, owed = self.ctx, answering.owed
        answering.begun_at = now if hedge is None else hedge.started_at
        if owed.client_asked:
            self._open(answering)
        if self._bridge_due is not None and not owed.out_of_band:
            owed.bridge, self._bridge_due = owed.bridge or self._bridge_due[1], None
        if owed.bridge is not None and ctx.speaks_to(owed):
            answering.bridge_at = self._bridge_time(hedge, now)
        if hedge is not None and hedge.adoptable:
            self._adopt(answering, hedge, now)
        self._bridge_if_due(answering, now)
        if answering.stage is Stage.ANSWERING:
            return
        for item in ctx.conversation:
            self._write_down(item, now)
        self._ask_when_known(answering, now)

    def _adopt(self, answering: Answering, hedge: SilentAnswer, now: float) -> None:
        """What was made in silence is said now, and the tier goes on under the same answer."""
        hedge.adopted = True
        answering.id, answering.stage = hedge.id, Stage.ANSWERING
        answering.agent_worst = hedge.agent_worst
        answering.due = now + self.ctx.policy.answer_s
        if (
            hedge.stage is not HedgeStage.READY
        ):  # a tool call, say: the caller has nothing to hear from it yet
            self._bridge_if_due(answering, now)
        for event in hedge.kept:
            self.answer_event(answering.id, event, now)

    def _open(self, answering: Answering) -> OpenResponse:
        if answering.response is None:
            ctx, owed = self.ctx, answering.owed
            answering.response = ctx.writer.create(
                owed.request,
                ctx.session.fields,
                ctx.conversation_id,
                ctx.tags(),
                client_asked=owed.client_asked,
                owed_since=owed.since,
            )
        self.ctx.responses[answering.response.id] = answering.response
        return answering.response

    def _write_down(self, item: Item, now: float) -> None:
        ctx = self.ctx
        if item.id in self._awaited or not item.needs_transcript:
            return
        if item.audio is None and item.audio_span is not None:
            item.audio = ctx.input.slice(*item.audio_span)
            item.audio_span = None
        written = ctx.write_down(item.id, item.audio or b"")
        if written:
            self._awaited.add(item.id)
        elif written is False:
            item.transcript, item.unheard, item.audio = "", True, None

    def _tell_transcript(self, item: Item, transcript: Transcript | None) -> None:
        item.words_told = True
        event: Event = {"item_id": item.id, "content_index": 0}
        kind = "conversation.item.input_audio_transcription"
        if transcript is None:
            error = {
                "type": "server_error",
                "code": "transcription_failed",
                "message": "The audio was not understood.",
            }
            self.ctx.send({"type": f"{kind}.failed", **event, "error": error})
            return
        usage = {"type": "duration", "seconds": transcript.seconds}
        self.ctx.send({"type": f"{kind}.completed", **event, "transcript": transcript.text, "usage": usage})

    def _ask_when_known(self, answering: Answering, now: float) -> None:
        ctx = self.ctx
        if any(item.needs_transcript for item in ctx.conversation):
            answering.due = now + ctx.policy.answer_s
            return
        history = history_for(ctx, answering.owed)
        if not answering.owed.client_asked and answering.response is None and nothing_said(history):
            if any(item.unheard for item in list(ctx.conversation)[-1:]):
                self._close_unheard(answering, now)
                return
            if not self._interrupted:
                ctx.record("turn_closed", reason="nothing_said")
                ctx.end_turn(answering.owed.turn, Outcome.CLOSED, "nothing_said")
                self._drop(answering, now)
                return
            ctx.record("false_interruption")
            ctx.playback.await_again(answering.owed.since, "interruption")
        self._interrupted = False
        if line := line_for(ctx, answering.owed):
            self._refuse(answering, line, now)
            return
        if self._waits_for_tools(answering, now):
            return
        request = ask(ctx, answering.id, answering.owed, history_for(ctx, answering.owed))
        if not self._take_ahead(answering, request, now):
            self._start(answering, request, now)

    # --- tools that the server runs: `ToolAnswers` ---

    def _waits_for_tools(self, answering: Answering, now: float) -> bool:
        """Whether tools are to be waited for before the tier is asked."""
        return False

    def _goes_on(self, answering: Answering, now: float) -> bool:
        """Whether the tier has only asked for tools, and the answer goes on after them."""
        return False

    def _overdue_tools(self, answering: Answering, now: float) -> None:
        """Tools that are waited for have not said in time what came of them."""

    # --- an answer begun before its turn was over ---

    def _take_ahead(self, answering: Answering, request: AnswerRequest, now: float) -> bool:
        """Go on with what was begun at a pause, if it answers just this."""
        ahead = self._ahead
        if ahead is None or answering is not self._active or not ahead.is_the_answer_to(request):
            return False
        self._ahead = ahead.next
        saved_ms = ahead.saved_ms(now)
        answering.begun_at = now - saved_ms / 1000.0
        self.ctx.record("speculation", result="used", saved_ms=round(saved_ms, 1), answer_id=ahead.id)
        if not self.racing:
            self._open(answering)
        self._adopt(answering, ahead, now)
        return True

    def _drop_ahead(self, reason: str) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.throw_away(reason)

    def answer_closed(self, answer_id: str) -> bool:
        """An answer's task has ended; True where what it had set aside is still to be charged to it."""
        ahead = self._ahead.find(answer_id) if self._ahead is not None else None
        if ahead is not None:
            ahead.closed = True
        return ahead is not None

    # --- money ---

    def fund(self, now: float) -> None:
        """What the next answer may need is set aside; an answer that waits for it may start, or goes to Tier C."""
        if self._active is None or self._active.stage is not Stage.MONEY:
            self._set_aside()
        for answering in [*([self._active] if self._active else []), *self._beside.values()]:
            if answering.stage is Stage.WORDS:
                for item in self.ctx.conversation:
                    self._write_down(item, now)
            if answering.stage is Stage.MONEY or (answering.stage is Stage.WORDS and not self._awaited):
                self._ask_when_known(answering, now)

    def _set_aside(self) -> None:
        self.ctx.purse.want(self._usual_worst + self.ctx.costs.writing_down(LONG_TURN_S))

    def _start(self, answering: Answering, request: AnswerRequest, now: float) -> None:
        """Ask the tier, once the answer is paid for; one that cannot be is given by Tier C."""
        ctx = self.ctx
        worst, agent = ctx.costs.answer(answering.tier, request)
        self._usual_worst = max(self._usual_worst, worst)
        answering.due = now + ctx.policy.answer_s
        if not ctx.purse.start(answering.id, worst):
            answering.stage = Stage.MONEY
            ctx.purse.want(worst)
            if not ctx.purse.pending and not ctx.purse.start(answering.id, worst):
                self._unpaid(answering, now)
                return
            if not ctx.purse.worst(answering.id):
                return
        answering.stage, answering.agent_worst = Stage.ANSWERING, agent
        if not self.racing:
            self._open(answering)
        ctx.do(StartAnswer(answering.tier, request))

    def _unpaid(self, answering: Answering, now: float) -> None:
        """It cannot be paid for: Tier C gives it, or where that is not free either, a line that is in memory."""
        if answering.tier == "C":
            answering.stage = Stage.ANSWERING
            self._on_failed(answering, "budget_spent", "nothing is left to say it with", now)
        else:
            self._pass_to_tier_c(answering, now)

    def _halt(self, answering: Answering) -> None:
        """Have the tier stop; its bill is waited for."""
        rung = answering.by.get("rung") or self.ctx.rung
        self.ctx.stop_answer(answering.id, rung, answering.owed.turn, answering.agent_worst)

    def _settle(self, answering: Answering) -> None:
        """An answer is over: what it did not need is free again, unless it is still to say what it had cost."""
        if answering.id not in self.ctx.closing:
            self.ctx.purse.end(answering.id)

    def _go_without_words(self, answering: Answering, now: float) -> None:
        """Transcription does not come: the tier is asked with what is known."""
        for item in self.ctx.conversation:
            if item.needs_transcript:
                item.transcript, item.unheard = "", True
                self.ctx.record("transcription_late", item_id=item.id)
        self._ask_when_known(answering, now)

    # --- bridges ---

    def _bridge_time(self, hedge: Hedge | None, now: float) -> float:
        """When the client's audio runs out; a little later where a hedge usually has the answer by then."""
        out = max(now, self.ctx.playback.dry_at - self.ctx.policy.bridge_lead_s)
        usual = self.ctx.pace.usual(Step.ANSWER) if hedge is not None and hedge.adoptable else None
        if hedge is None or usual is None:
            return out
        ready = hedge.started_at + usual
        return max(out, ready + READY_MARGIN_S) if ready - out <= WORTH_WAITING_S else out

    def _bridge_if_due(self, answering: Answering, now: float) -> None:
        """A bridge is sent when the client's audio runs out, unless the answer itself is there."""
        if answering.bridge_at is not None and now >= answering.bridge_at and answering.item is None:
            self._bridge(answering, now)

    def _put_bridge_off(self, answering: Answering) -> None:
        """Not a sound of the answer yet: the bridge may still be needed before the tool's result is spoken."""
        if answering.bridge_at is not None and answering.owed.bridge is not None:
            self._bridge_due = answering.bridge_at, answering.owed.bridge
            answering.bridge_at = None

    def _bridge_alone(self, now: float) -> None:
        """The client's audio runs out while its tool is still at work: the bridge is a response of its own."""
        if self._bridge_due is None or now < self._bridge_due[0] or self._active is not None:
            return
        owed = Owed({}, client_asked=False, since=now, bridge=self._bridge_due[1])
        self._bridge_due = None
        alone = Answering("", owed, self.ctx.tier)
        self._bridge(alone, now)
        assert alone.response is not None
        self._end_bridge(alone.response)

    def _end_bridge(self, response: OpenResponse) -> None:
        """A bridge that is a response of its own is no answer: some clients take the first completed one for it."""
        self.ctx.writer.finish(response, "incomplete")
        self.ctx.responses.pop(response.id, None)

    def _bridge(self, answering: Answering, now: float) -> None:
        """The short line a caller hears while the answer is being made: once a handover, and no model knows of it."""
        ctx, response, session = self.ctx, self._open(answering), self.ctx.session
        kind = answering.owed.bridge or Bridge.DEFAULT
        answering.bridge_at = answering.owed.bridge = None
        name = ctx.policy.bridge(kind)
        words, audio = ctx.clips(name, session.output_format, session.voice, session.language)
        item = ctx.writer.open_message(response, bridge=True)
        if words:
            ctx.writer.words(response, item, words)
        self._audio(response, item, audio, now)
        ctx.writer.close_item(response, item, "completed")
        ctx.record("bridge", response_id=response.id, text=words, kind=kind.value)

    # --- what a tier says ---

    def answer_event(self, answer_id: str, event: AnswerEvent, now: float) -> None:
        """What a tier says; news of answers that were stopped is ignored."""
        ahead = self._ahead.find(answer_id) if self._ahead is not None else None
        if ahead is not None:
            ahead.keep(event, now)
            return
        answering = self._find(answer_id)
        if answering is None or answering.stage is not Stage.ANSWERING:
            return
        answering.due = now + self.ctx.policy.answer_s
        match event:
            case AnsweredBy(tier, rung):
                answering.by = {"tier": tier, "rung": rung}
            case Charged(charge):
                self._charge(answering, charge)
            case Failed(cause, message):
                answering.agent_worst = 0  # it has told all it knows
                self._on_failed(answering, cause, message, now)
            case Finished():
                self._on_finished(answering, event, now)
            case _:
                self._on_output(answering, event, now)

    def _on_output(
        self, answering: Answering, event: TextDelta | AudioDelta | ToolCallReady, now: float
    ) -> None:
        match event:
            case TextDelta(text):
                message = self._message(answering)
                self.ctx.writer.words(self._open(answering), message, text)
            case AudioDelta(data):
                self._note_first_audio(answering, now)
                message = self._message(answering)
                self._audio(self._open(answering), message, data, now)
            case ToolCallReady():
                self._end_message(answering)
                self._tool_called(answering, event, now)

    def _tool_called(self, answering: Answering, call: ToolCallReady, now: float) -> None:
        """The client runs it."""
        self._put_bridge_off(answering)
        self.ctx.writer.function_call(self._open(answering), call.call_id, call.name, call.arguments)

    def _note_first_audio(self, answering: Answering, now: float) -> None:
        if answering.audio_at is None:
            answering.audio_at, answering.bridge_at = now, None
            if answering.tier == self.ctx.tier and not answering.owed.out_of_band:
                self.ctx.pace.note(Step.ANSWER, now - answering.begun_at)

    def _find(self, answer_id: str) -> Answering | None:
        if self._active is not None and self._active.id == answer_id:
            return self._active
        return self._beside.get(answer_id)

    def _message(self, answering: Answering) -> OpenItem:
        if answering.item is None:
            answering.item = self.ctx.writer.open_message(self._open(answering))
        return answering.item

    def _end_message(self, answering: Answering) -> None:
        if answering.item is not None and answering.response is not None:
            self.ctx.writer.close_item(answering.response, answering.item, "completed")
            answering.item = None

    def _audio(self, response: OpenResponse, item: OpenItem, data: bytes, now: float) -> None:
        fmt = self.ctx.session.output_format
        step = CHUNK_MS * fmt.bytes_per_ms
        for start in range(0, len(data), step):
            self.ctx.writer.audio(response, item, data[start : start + step], fmt, now)
        self.ctx.session.spoke = True

    # --- how an answer ends ---

    def _on_finished(self, answering: Answering, done: Finished, now: float) -> None:
        ctx = self.ctx
        self._end_message(answering)
        answering.agent_worst = 0
        if answering.calls and self._goes_on(answering, now):
            return
        response = self._open(answering)
        self.ctx.stepper.note_answer(answering.cost)
        usage = local_usage(done.input_tokens, done.output_tokens)
        tags = answering.by or {"tier": answering.tier, "rung": done.rung or ctx.rung}
        ctx.writer.finish(response, "completed", usage=usage, extra_metadata=tags)
        if answering.tier == ctx.tier:
            ctx.do(Report(ctx.rung))
        self._record(answering, "completed", done.parts)
        quiet = bool(answering.calls) and answering.audio_at is None and not response.finished
        outcome = (Outcome.CLOSED, "wait_for_user") if quiet else (Outcome.ANSWERED, "")
        ctx.end_turn(answering.owed.turn, *outcome)
        self._drop(answering, now)

    def _on_failed(self, answering: Answering, cause: str, message: str, now: float) -> None:
        """Tier C takes an answer over that Tier B could not give; if it cannot either, the turn is lost and said so."""
        ctx = self.ctx
        ctx.record("answer_failed", cause=cause, message=message)
        if ctx.speaks_to(answering.owed):
            ctx.playback.await_again(now, "retry")
        if answering.tier == "B":
            ctx.do(Report(ctx.rung, Cause.RESPONSE_FAILED.id))
            self._halt(answering)
            self._pass_to_tier_c(answering, now)
            return
        self._apologise(answering, now)
        self._record(answering, "incomplete", {})
        ctx.record("turn_closed", reason="answer_failed")
        ctx.end_turn(answering.owed.turn, Outcome.CLOSED, "answer_failed")
        self._drop(answering, now)

    def _pass_to_tier_c(self, answering: Answering, now: float) -> None:
        ctx = self.ctx
        self._settle(answering)
        if answering.response is not None and answering.item is not None:
            ctx.writer.close_item(answering.response, answering.item, "incomplete")
            answering.item = None
        answering.id, answering.tier, answering.stage = ctx.ids.new("answer"), "C", Stage.WORDS
        answering.by = {"tier": "C", "rung": "prompts"}
        if answering is not self._active:
            self._beside = {a.id: a for a in self._beside.values()}
        self._ask_when_known(answering, now)

    def hand_down(self, now: float) -> None:
        """The call goes on in Tier C in the middle of something: that gives what Tier B has begun to answer."""
        self._drop_ahead("another tier serves the call")
        for answering in [*([self._active] if self._active else []), *self._beside.values()]:
            if answering.tier == "C":
                continue
            if answering.stage in (Stage.ANSWERING, Stage.MONEY):
                self._halt(answering)
                self._pass_to_tier_c(answering, now)
            else:  # its words or tools are waited for: Tier C is asked once they are there
                answering.tier = "C"

    def _close_unheard(self, answering: Answering, now: float) -> None:
        """Something may have been said, and nobody could write it down: not silence, but a word about it."""
        self._interrupted = False
        self._apologise(answering, now)
        self.ctx.record("turn_closed", reason="not_transcribed")
        self.ctx.end_turn(answering.owed.turn, Outcome.CLOSED, "not_transcribed")
        self._drop(answering, now)

    def _refuse(self, answering: Answering, line: str, now: float) -> None:
        """The turn's words were vetoed: no agent gets them, and a line that is in memory answers it."""
        ctx, response = self.ctx, self._open(answering)
        self._end_message(answering)
        answering.by, answering.audio_at = {"tier": "C", "rung": "prompts"}, now
        say_line(ctx, response, line, now)
        ctx.writer.finish(response, "completed", usage=local_usage(0, 0), extra_metadata=dict(answering.by))
        self._record(answering, "completed", {})
        ctx.end_turn(answering.owed.turn, Outcome.ANSWERED)
        self._drop(answering, now)

    def _apologise(self, answering: Answering, now: float) -> None:
        """No tier could answer: the caller is told so in a line that is in memory."""
        ctx, response = self.ctx, self._open(answering)
        self._end_message(answering)
        session = ctx.session
        words, audio = ctx.clips(ctx.policy.apology, session.output_format, session.voice, session.language)
        item = ctx.writer.open_message(response)
        if words:
            ctx.writer.words(response, item, words)
        if response.speaks:
            self._audio(response, item, audio, now)
        ctx.writer.finish(response, "incomplete")

    def _stop(self, answering: Answering, reason: str | None, now: float) -> None:
        """`reason` is the protocol's, None where it has none for what happened."""
        ctx = self.ctx
        self._halt(answering)
        response = answering.response
        if response is not None:
            item = ctx.conversation.get(answering.item.id) if answering.item is not None else None
            if item is not None:
                item.cut_off = True
            ctx.writer.finish(response, "cancelled", reason=reason)
            self._record(answering, "cancelled", {})
        ctx.end_turn(answering.owed.turn, Outcome.STOPPED, reason or "")
        self._drop(answering, now, advance=False)

    def _drop(self, answering: Answering, now: float, *, advance: bool = True) -> None:
        self._settle(answering)
        if answering.response is not None:
            self.ctx.responses.pop(answering.response.id, None)
        answering.bridge_at = None
        self._beside.pop(answering.id, None)
        self.quiet_since = max(now, self.ctx.playback.dry_at)
        if answering is self._active:
            self._active = None
            self._arm_idle(now)
            if advance:
                self._advance(now)

    def _charge(self, answering: Answering, charge: Charge) -> None:
        ctx = self.ctx
        answering.cost += charge.nanodollars
        if charge.what == "agent":
            answering.agent_worst = 0
        rung = answering.by.get("rung") or ctx.rung
        ctx.charge(charge, rung, answering.owed.turn, key=answering.id, answer_id=answering.id)

    def _record(self, answering: Answering, status: str, parts: dict[str, float]) -> None:
        response = answering.response
        if response is None:
            return
        since, first = response.owed_since, answering.audio_at
        ttfa_ms = None if first is None else round((first - since) * 1000, 1)
        self.ctx.record(
            "answer",
            response_id=response.id,
            status=status,
            text=" ".join(
                filter(None, (text_of(i) for i in response.finished if i.get("type") == "message"))
            ),
            owed_at=self.ctx.wall(since),
            ttfa_ms=ttfa_ms,
            cost_usd=answering.cost / 1e9,
            parts=parts,
            **self.ctx.voice_to_voice(ttfa_ms, response.client_asked),
            **(answering.by or {"tier": answering.tier}),
        )

    def _arm_idle(self, now: float) -> None:
        detection = self.ctx.session.turn_detection or {}
        idle_ms = detection.get("idle_timeout_ms")
        self._idle_due = max(now, self.ctx.playback.dry_at) + idle_ms / 1000 if idle_ms else None

    # --- racing with Tier A ---

    @property
    def yieldable(self) -> bool:
        """Whether another tier may still give the answer owed: unheard, and not asked for by the client."""
        active = self._active
        if active is None or self._beside or self.turn is not None or active.audio_at is not None:
            return False
        waits = active.stage is Stage.TOOLS or active.owed.rounds
        return active.item is None and not (active.owed.client_asked or self._queue or waits)

    def race_over(self) -> None:
        """Nobody else answers any more."""
        self.racing = False
        if self._active is not None and self._active.stage is Stage.ANSWERING:
            self._open(self._active)

    def yield_answer(self) -> Owed:
        """Another tier answers: what was begun here stops, and a bridge ends as a response of its own."""
        active = self._active
        assert active is not None
        self._halt(active)
        if active.response is not None:
            self._end_bridge(active.response)
        self._active = None
        return active.owed

    # --- time ---

    def _answers_due(self) -> list[float]:
        """When something is due of the answers under way."""
        dues = [a.due for a in self._beside.values() if a.due is not None]
        if self._active is not None:
            active = self._active
            dues += [due for due in (active.due, active.bridge_at, active.preamble_at) if due is not None]
        elif self._bridge_due is not None:
            dues.append(self._bridge_due[0])
        return dues

    def _tick_answers(self, now: float) -> None:
        if self._active is not None:
            self._bridge_if_due(self._active, now)
        self._bridge_alone(now)
        late = [a for a in [self._active, *self._beside.values()] if a is not None and a.due is not None]
        for answering in late:
            if answering.due is None or now < answering.due:
                continue
            if answering.stage is Stage.WORDS:
                self._go_without_words(answering, now)
            elif answering.stage is Stage.TOOLS:
                self._overdue_tools(answering, now)
            else:
                self._on_failed(answering, "silent", f"no word for {self.ctx.policy.answer_s:g} s", now)
