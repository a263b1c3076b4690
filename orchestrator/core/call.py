"""A call as a state machine: events in, actions out, the clock passed in. `states.py` has its states and moves.

Every public method takes `now` (monotonic seconds) and leaves what is to be done in `drain()`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from orchestrator.core.actions import (
    Action,
    CheckSpeech,
    CloseUpstream,
    Report,
    StopListening,
    ToUpstreamFrame,
)
from orchestrator.core.gate import ENOUGH_MS, first_needs
from orchestrator.core.handovers import LEAD_IN_MS, MONEY_POLL_S, POLL_S
from orchestrator.core.health import Cause, ProbeKind
from orchestrator.core.hedge import Stage as HedgeStage
from orchestrator.core.leash import Leash
from orchestrator.core.outcomes import Outcome
from orchestrator.core.pace import Step
from orchestrator.core.provider import TERMINAL_CODES, expiry
from orchestrator.core.relay import Relay
from orchestrator.core.states import Move, State
from orchestrator.core.steps import Share
from orchestrator.core.suspicion import SAMPLE_EVERY, patience_ms, rms
from orchestrator.core.tools import ToolOutcome
from orchestrator.protocol.answers import AnswerEvent, Charge, Transcript
from orchestrator.protocol.client_events import ClientError, parse_client_event
from orchestrator.protocol.wire import Event, append_audio, dump, parse_server_event


class Audio(Enum):
    """What the driver is to do with an audio frame."""

    FORWARD = "forward"
    """Send it upstream as it came."""
    HEAR = "hear"
    """Decode it for our own voice activity detection."""
    KEEP = "keep"
    """Nothing: it is kept until a tier is there."""


class Call(Leash):
    """One call, from connect to hang-up."""

    # --- beginning and end ---

    def start(self, now: float) -> None:
        """The client is connected; it hears ``session.created`` as soon as a tier is there."""
        self.ctx.started_at = now
        self._put_on_leash(now)
        self._begin(self._route(None, frozenset()), now)

    def client_closed(self, now: float) -> None:
        if self.state is State.ENDED:
            return
        ctx = self.ctx
        if self.hedge is not None:
            self._stand_down("hung up", now)
        if self.preparation is not None:
            self._abandon("hung up", now)
        if self._connecting is not None:
            ctx.do(CloseUpstream(self._connecting))
        if self.relay is not None:
            self.lingering.leave(self.relay.attempt, self.relay.rung, self.relay.bills(), now, alive=True)
        if self.local is not None:
            self.local.leave()
            ctx.do(StopListening())
        for turn in ctx.outcomes.open:
            ctx.end_turn(turn, Outcome.HUNG_UP)
        ctx.purse.give_up()
        ctx.give_up_writing()
        ctx.forget_audio()
        self.relay = self.local = self._connecting = None
        self._connect_due = self._poll_at = None
        self._forget_keys()
        self._take_off_leash()
        self._move(Move.END)
        self._end_if_billed()

    @property
    def over(self) -> bool:
        """The client is gone, and every bill is there."""
        return self.state is State.ENDED and not self.lingering and not self.ctx.closing

    def _end_if_billed(self) -> None:
        ctx = self.ctx
        if self.over and not self._told_end:
            self._told_end = True
            turns = {outcome.value: ctx.outcomes.count(outcome) for outcome in Outcome}
            ctx.record("call_ended", spent_usd=ctx.budget.spent / 1e9, turns=turns)

    # --- the client ---

    def client_audio(self, frame: bytes, now: float) -> Audio | None:
        """One client frame at a glance; None if it is not plainly audio and must go to `client_message`."""
        span = append_audio(frame)
        if span is None:
            return None
        ms = self.ctx.input.append(frame, span)
        if self.relay is not None:
            self._frames += 1
            if self._frames % SAMPLE_EVERY == 0:
                self._look_at_level(self.relay, frame, ms)
            return Audio.FORWARD
        return Audio.HEAR if self.local is not None else Audio.KEEP

    def _look_at_level(self, relay: Relay, frame: bytes, ms: float) -> None:
        ctx = self.ctx
        detection = ctx.session.turn_detection
        if detection is None:
            return
        suspicion, silence_ms = relay.suspicion, patience_ms(detection)
        level = rms(ctx.input.decode(frame), ctx.input.format)
        if suspicion.hear(level, ctx.input.total_ms, ms * SAMPLE_EVERY, silence_ms):
            since = ctx.input.total_ms - silence_ms if suspicion.in_turn else suspicion.loud_from_ms
            start = max(0.0, (since or 0.0) - LEAD_IN_MS)
            threshold = float(detection.get("threshold") or 0.5)
            ctx.do(CheckSpeech(ctx.input.slice(start), ctx.input.format, threshold))

    def speech_checked(self, found: bool, now: float) -> None:
        """Real voice activity detection has looked at what the provider ignored: speech, or the end of it."""
        relay = self.relay
        if relay is None or not relay.suspicion.raised:
            return
        if found is relay.suspicion.in_turn:
            relay.suspicion.dismissed()
            return
        self._fault(Cause.DEAF, now)

    def client_message(self, frame: bytes, now: float) -> bytes | None:
        """Any client frame that is not plainly audio. Audio of unusual shape is given back in the usual one."""
        try:
            event = parse_client_event(frame)
        except ClientError as error:
            self.ctx.send(error.event())
            return None
        if event["type"] == "input_audio_buffer.append":
            return dump({"type": "input_audio_buffer.append", "audio": event["audio"]})
        self._on_client_event(event, now)
        self.consider(now)
        return None

    def bad_audio(self) -> None:
        error = ClientError(
            "input_audio_buffer.append: 'audio' is not valid base64 of the session's input format.",
            param="audio",
        )
        self.ctx.send(error.event())

    # --- the provider ---

    def upstream_frame(self, attempt: int, frame: bytes, now: float) -> bool:
        """One frame of a provider session; True if it is to be passed to the client as it came."""
        relay, preparation = self.relay, self.preparation
        serves = relay is not None and attempt == relay.attempt
        prepares = preparation is not None and attempt == preparation.attempt
        if not (serves or prepares or attempt == self._connecting):
            self._hear_of_bills(attempt, frame, now)
            return False  # late news of a session that was given up
        if serves and self.drill is not None and self._drilled(now):
            return False
        if serves and relay is not None and relay.server_audio(frame, now):
            return True
        event, wrong = parse_server_event(frame)
        if event is None:
            self.ctx.record("provider_nonsense", kind=wrong)
        elif serves:
            self._on_served(event, frame, now)
        elif prepares:
            self._on_prepared(event, frame, now)
        else:
            self._on_connecting(event, now)
        return False

    def _hear_of_bills(self, attempt: int, frame: bytes, now: float) -> None:
        """A session that was given up says what it has billed, and maybe the words of a turn: they are worth having."""
        if attempt not in self.lingering:
            return
        written = self.lingering.frame(attempt, frame)
        # Where guardrails look at a caller's words, those count that we write down and have looked at.
        guarded = "heard" in self.ctx.policy.guarded
        if written is not None and self.state is not State.ENDED and not guarded:
            self.transcribed(*written, now)
        self._end_if_billed()

    def _on_connecting(self, event: Event, now: float) -> None:
        if event["type"] == "session.created":
            ctx, attempt = self.ctx, self._connecting
            assert attempt is not None
            self._connecting = self._connect_due = None
            self._move(Move.CREATED)
            ctx.do(Report(ctx.rung, proof=ProbeKind.SESSION))
            ctx.pace.note(Step.SESSION, now - self._connect_from)
            ctx.session.adopt(event["session"])
            gated = not ctx.purse.has(2 * first_needs(ctx, ctx.rung, talk_ms=ENOUGH_MS))
            relay = Relay(ctx, attempt, 0.0, expiry(ctx, event["session"], now), now, gated=gated)
            self._serve(relay, now)
            self._announce_session("session.created")
            relay.in_flight.open_session(ctx.opening(gated=gated))
            ctx.purse.hand_over()
            relay.gate.fund()
            self._replay_waiting(now)
            for frame in ctx.input.frames(0.0):
                ctx.do(ToUpstreamFrame(frame, attempt))
            if not self._out_of_money(now):
                self.consider(now)  # an operator may have ordered another tier meanwhile
        elif event["type"] == "error":
            code = str(event["error"].get("code") or "")
            self._refused(TERMINAL_CODES.get(code, Cause.REFUSED), now)

    def upstream_lost(self, attempt: int, cause: Cause, now: float, detail: str = "") -> None:
        """A provider session could not be opened, or is gone."""
        if attempt in self.lingering:
            self.lingering.lost(attempt)
            self._end_if_billed()
            return
        known = (self.serving, self._connecting, self.preparation and self.preparation.attempt)
        if attempt not in known:
            return
        self.ctx.record("provider_lost", cause=cause.id, detail=detail)
        if attempt == self._connecting:
            self._refused(cause, now)
        elif attempt == self.serving:
            self._fault(cause, now, alive=False)
        else:
            self._abandon(cause.id, now, cause, alive=False)

    # --- the caller's voice and the tiers' answers, in Tiers B and C ---

    def speech(self, probabilities: list[float], now: float) -> None:
        if self.local is None:
            return
        self.local.speech(probabilities, now)
        self._mind_local(now)

    def transcribed(
        self, item_id: str, transcript: Transcript | None, now: float, charges: Sequence[Charge] = ()
    ) -> None:
        """The words of a turn, or None if they could not be had; `charges`: what the attempt cost then."""
        self.ctx.written_down(item_id, transcript.charges if transcript is not None else charges)
        if self.hedge is not None and item_id in self.hedge.awaited:
            self.hedge.transcribed(item_id, transcript)
        elif self.local is not None:
            self.local.transcribed(item_id, transcript, now)
            self._mind_local(now)
        else:  # the call has moved on; the words are still worth having
            item = self.ctx.conversation.get(item_id)
            if item is not None and item.transcript is None:
                item.transcript = transcript.text if transcript else ""
                item.veto = transcript.veto if transcript else ""
            if self.relay is not None:
                self.relay.tools.words_known(now)
                if item is not None and item.veto:
                    self.relay.veto.refuse(item, now)

    def answer_event(self, answer_id: str, event: AnswerEvent, now: float) -> None:
        hedge = self.hedge
        if hedge is not None and answer_id == hedge.id:
            hedge.answer_event(event)
            if hedge.stage is HedgeStage.READY:
                self._hedge_wins(hedge, now)
        elif self.local is not None:
            self.local.answer_event(answer_id, event, now)
            self._mind_local(now)

    def answer_closed(self, answer_id: str, charges: Sequence[Charge], now: float) -> None:
        """An answer has ended, whether it was stopped or not; `charges`: what it had cost and could not tell."""
        if self.local is not None and self.local.answer_closed(answer_id):
            for charge in charges:
                self.ctx.charge(charge, self.ctx.rung, key=answer_id, answer_id=answer_id)
        else:
            self.ctx.answer_closed(answer_id, charges)
        self._end_if_billed()

    def judged(self, hook: str, id: str, line: str, now: float) -> None:
        """What came of a `Judge`. `line`: the prompt to be said instead; "" where nothing is wrong."""
        if self.relay is not None:
            self.relay.veto.judged(hook, id, line, now)

    # --- tools that the server runs ---

    def tool_done(self, tool_call_id: str, outcome: ToolOutcome, now: float) -> None:
        """What came of a `RunTool`, in whichever tier the call is by now, or after its end."""
        if self.ctx.desk.done(tool_call_id, outcome, now) is not None:
            self._tools_resolved(now)

    def approved(self, tool_call_id: str, yes: bool, who: str, reason: str, now: float) -> None:
        """A person has decided about an `AskApproval`."""
        if self.state is State.ENDED:
            return
        if self.ctx.desk.approved(tool_call_id, yes, who, reason, now) is not None:
            self._tools_resolved(now)

    def _tools_resolved(self, now: float) -> None:
        if self.relay is not None:
            self.relay.tools.resolved(now)
        elif self.local is not None:
            self.local.tools_resolved(now)
            self._mind_local(now)

    # --- money ---

    def granted(self, sequence: int, ahead: int | None, bucket: Share, now: float) -> None:
        """The bucket's answer to a claim: what is set aside, None where it could not be asked; and how it stands."""
        ctx = self.ctx
        if ahead is not None:
            ctx.bucket = bucket
        if not ctx.purse.granted(sequence, ahead):
            return
        if self.relay is not None:
            self.relay.gate.fund()
            self._out_of_money(now)
        elif self.local is not None:
            self.local.fund(now)
            self._mind_local(now)

    # --- time and what is to be done ---

    def drain(self) -> list[Action]:
        """The actions since it was last called, in order."""
        if (gap := self.ctx.playback.gap) is not None:
            self.ctx.playback.gap = None
            self.ctx.record("gap", trigger=gap[0], cause=gap[1], gap_ms=round(gap[2], 1))
        if (recovered := self.ctx.playback.recovered) is not None:
            self.ctx.playback.recovered = None
            self.ctx.record("recovery", what=recovered[0], took_ms=round(recovered[1], 1))
        out, self.ctx.out = self.ctx.out, []
        claim = self.ctx.purse.claim()
        return out if claim is None else [*out, claim]

    def next_due(self) -> float | None:
        dues = [self._connect_due, self._poll_at, self._keys_due, self._leash_due, self.lingering.next_due()]
        if self.relay is not None:
            dues += [self.relay.deadlines.next_due(), self.relay.deadlines.hedge_at]
            dues.append(self.relay.tools.next_due())
        if self.local is not None:
            dues.append(self.local.next_due())
        if self.preparation is not None:
            dues.append(self.preparation.due)
        known = [due for due in dues if due is not None]
        return min(known) if known else None

    def tick(self, now: float) -> None:
        """Whatever is due by `now`."""
        if self._connect_due is not None and now >= self._connect_due:
            self._refused(Cause.CONNECT_TIMEOUT, now)
        if self.relay is not None:
            cause = self.relay.deadlines.overdue(now)
            hedge_at = self.relay.deadlines.hedge_at
            if cause is not None:
                self._fault(cause, now)
            elif hedge_at is not None and now >= hedge_at:
                self._maybe_hedge(self.relay, now)
            if self.relay is not None:
                self.relay.tools.tick(now)
        if self.preparation is not None and now >= self.preparation.due:
            self._abandon("it took too long", now, Cause.CONNECT_TIMEOUT)
        self._tick_keys(now)
        self._tick_leash(now)
        if self.local is not None:
            self.local.tick(now)
            self._mind_local(now)
        if self.lingering:
            self.lingering.tick(now)
            self._end_if_billed()
        if self._poll_at is not None and now >= self._poll_at:
            self._poll_at = now + (POLL_S if self.relay is None else MONEY_POLL_S)
            self.ctx.playback.forget_played(now)
            if self.relay is not None:
                self.relay.look_after_money()
                self._out_of_money(now)
            self.consider(now)
