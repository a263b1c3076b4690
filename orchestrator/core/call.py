"""A call as a state machine: events in, actions out, the clock passed in.

    state        what is going on                              may become
    NEW          nothing yet                                   CONNECTING, LOCAL, ENDED
    CONNECTING   a provider session is being opened            RELAYING, LOCAL, ENDED
    RELAYING     Tier A serves the call                        LOCAL, ENDED
    LOCAL        Tier B or C serves the call                   PROMOTING, ENDED
    PROMOTING    as LOCAL; a provider session is prepared      RELAYING, LOCAL, ENDED
    ENDED        the client is gone                            -

`Call` decides who serves the call and moves it; `Relay` and `Local` serve it. Every public method takes `now`
(monotonic seconds) and leaves what is to be done in `drain()`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from orchestrator.core.actions import (
    Action,
    CheckSpeech,
    CloseUpstream,
    OpenUpstream,
    Report,
    StopListening,
    ToUpstreamFrame,
)
from orchestrator.core.context import CallContext, Unfinished
from orchestrator.core.health import Cause
from orchestrator.core.local import Local
from orchestrator.core.promotion import Promotion
from orchestrator.core.relay import TERMINAL_CODES, Relay
from orchestrator.core.routing import DecidedBy, Decision
from orchestrator.core.suspicion import SAMPLE_EVERY, rms
from orchestrator.protocol.answers import AnswerEvent, Transcript
from orchestrator.protocol.client_events import ClientError, parse_client_event
from orchestrator.protocol.wire import Event, append_audio, dump, parse_server_event

Route = Callable[[str | None, frozenset[str]], Decision]
"""``route(current tier, tiers to leave out)``: the router over the driver's view; no I/O."""

Trusted = Callable[[str, float], bool]
"""``trusted(rung, since)``: has the rung proved itself after that moment, and is its breaker closed?"""

POLL_S = 0.5
"""How often a call in Tier B or C looks whether it may move up."""
LEAD_IN_MS = 300.0
"""Input audio that a new provider session is given from before it took over."""


class State(Enum):
    NEW = "new"
    CONNECTING = "connecting"
    RELAYING = "relaying"
    LOCAL = "local"
    PROMOTING = "promoting"
    ENDED = "ended"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.NEW: frozenset({State.CONNECTING, State.LOCAL, State.ENDED}),
    State.CONNECTING: frozenset({State.RELAYING, State.LOCAL, State.ENDED}),
    State.RELAYING: frozenset({State.LOCAL, State.ENDED}),
    State.LOCAL: frozenset({State.PROMOTING, State.ENDED}),
    State.PROMOTING: frozenset({State.RELAYING, State.LOCAL, State.ENDED}),
    State.ENDED: frozenset(),
}


class Audio(Enum):
    """What the driver is to do with an audio frame."""

    FORWARD = "forward"
    """Send it upstream as it came."""
    HEAR = "hear"
    """Decode it for our own voice activity detection."""
    KEEP = "keep"
    """Nothing: it is kept until a tier is there."""


TRIGGERS = {DecidedBy.OVERRIDE: "operator", DecidedBy.HARD_CAP: "budget", DecidedBy.POLICY: "policy"}

DEADLINES = frozenset(
    {
        Cause.CONNECT_TIMEOUT,
        Cause.RESPONSE_TIMEOUT,
        Cause.FIRST_AUDIO_TIMEOUT,
        Cause.NEXT_AUDIO_TIMEOUT,
        Cause.DEAF,
    }
)


class Call:
    def __init__(self, ctx: CallContext, route: Route, trusted: Trusted) -> None:
        self.ctx = ctx
        self.state = State.NEW
        self.relay: Relay | None = None
        self.local: Local | None = None
        self.promotion: Promotion | None = None
        self._route = route
        self._trusted = trusted
        self._attempt = 0
        self._connect_due: float | None = None
        self._poll_at: float | None = None
        self._next_promotion = 0.0
        self._fault_at: dict[str, float] = {}
        """When a rung last failed this call; it must prove itself before the call goes back to it."""
        self._waiting: list[Event] = []
        """Client events that came before the call had a tier."""
        self._frames = 0

    def drain(self) -> list[Action]:
        out, self.ctx.out = self.ctx.out, []
        return out

    def _enter(self, state: State) -> None:
        if state not in TRANSITIONS[self.state]:
            raise RuntimeError(f"call {self.ctx.call_id}: {self.state.value} cannot become {state.value}")
        self.state = state

    # --- beginning and end ---

    def start(self, now: float) -> None:
        """The client is connected; it hears ``session.created`` as soon as a tier is there."""
        decision = self._route(None, frozenset())
        if decision.tier == "A":
            self._take(decision)
            self._enter(State.CONNECTING)
            self._open(decision.rung)
            self._connect_due = now + self.ctx.policy.session_s
        else:
            self._start_local(decision, now)

    def _take(self, decision: Decision) -> None:
        ctx = self.ctx
        ctx.tier, ctx.rung, ctx.reason = str(decision.tier), decision.rung, str(decision.reason)

    def _open(self, rung: str) -> int:
        self._attempt += 1
        self.ctx.do(OpenUpstream(self._attempt, rung))
        return self._attempt

    def _start_local(self, decision: Decision, now: float) -> None:
        self._take(decision)
        self._enter(State.LOCAL)
        self.local = Local(self.ctx)
        self._announce_session("session.created")
        self.local.take_over(Unfinished(), now, listen_from=0.0)
        self._replay_waiting(now)
        self._poll_at = now + POLL_S

    def _announce_session(self, kind: str) -> None:
        self.ctx.send({"type": kind, "session": self.ctx.describe_session()})
        if kind == "session.created":
            self.ctx.record("call_started", rung=self.ctx.rung, reason=self.ctx.reason)

    def _replay_waiting(self, now: float) -> None:
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            self._on_client_event(event, now)

    def client_closed(self, now: float) -> None:
        if self.state is State.ENDED:
            return
        if self.relay is not None or self.promotion is not None or self.state is State.CONNECTING:
            self.ctx.do(CloseUpstream(self._attempt))
        if self.local is not None:
            self.local.leave(now)
            self.ctx.do(StopListening())
        self.ctx.record("call_ended", spent_usd=self.ctx.budget.spent / 1e9)
        self._enter(State.ENDED)

    # --- the client ---

    def client_audio(self, frame: bytes, now: float) -> Audio | None:
        """One client frame at a glance; None if it is not plainly audio and must go to `client_message`."""
        span = append_audio(frame)
        if span is None:
            return None
        ms = self.ctx.input.append(frame, span)
        if self.state is State.RELAYING:
            self._frames += 1
            if self._frames % SAMPLE_EVERY == 0:
                self._look_at_level(frame, ms, now)
            return Audio.FORWARD
        return Audio.KEEP if self.state in (State.NEW, State.CONNECTING, State.ENDED) else Audio.HEAR

    def _look_at_level(self, frame: bytes, ms: float, now: float) -> None:
        ctx, relay = self.ctx, self.relay
        assert relay is not None
        if ctx.session.turn_detection is None:
            return
        level = rms(ctx.input.decode(frame), ctx.input.format)
        if relay.suspicion.hear(level, ctx.input.total_ms, ms * SAMPLE_EVERY):
            start = max(0.0, (relay.suspicion.loud_from_ms or 0.0) - LEAD_IN_MS)
            ctx.do(CheckSpeech(start, ctx.input.slice(start), ctx.input.format))

    def speech_checked(self, from_ms: float, found: bool, now: float) -> None:
        """Real voice activity detection has looked at what the provider ignored."""
        relay = self.relay
        if self.state is not State.RELAYING or relay is None or relay.suspicion.loud_from_ms is None:
            return
        if not found:
            relay.suspicion.provider_noticed()
            return
        self._fault(Cause.DEAF, now)
        if self.local is not None:
            self.local.bridge_next = True
            if self.local.turn is None:  # else the turn was announced, and is being heard from its beginning
                self.local.listen_again(from_ms)

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

    def _on_client_event(self, event: Event, now: float) -> None:
        if self.state in (State.NEW, State.CONNECTING):
            self._waiting.append(event)
            return
        try:
            if self.state is State.RELAYING and self.relay is not None:
                self.relay.client_event(event, now)
            elif self.local is not None:
                if self.promotion is not None:
                    self._abandon("the client was active", now)
                self.local.client_event(event, now)
        except ClientError as error:
            error.event_id = event.get("event_id")
            self.ctx.send(error.event())

    # --- the provider ---

    def upstream_frame(self, attempt: int, frame: bytes, now: float) -> bool:
        """One frame of a provider session; True if it is to be passed to the client as it came."""
        if attempt != self._attempt or self.state is State.ENDED:
            return False
        if self.state is State.RELAYING and self.relay is not None and self.relay.server_audio(frame, now):
            return True
        event, wrong = parse_server_event(frame)
        if event is None:
            self.ctx.record("provider_nonsense", kind=wrong)
            return False
        if self.state is State.CONNECTING:
            self._on_connecting(event, now)
        elif self.promotion is not None:
            self._on_promoting(self.promotion, event, now)
        elif self.relay is not None:
            cause = self.relay.server_event(event, frame, now)
            if cause is not None:
                self._fault(cause, now)
            elif event["type"] == "response.done":
                self.ctx.do(Report(self.ctx.rung))
                self.consider(now)
        return False

    def upstream_lost(self, attempt: int, cause: Cause, now: float, detail: str = "") -> None:
        """The provider session could not be opened, or is gone."""
        if attempt != self._attempt or self.state is State.ENDED:
            return
        self.ctx.record("provider_lost", cause=cause.id, detail=detail)
        if self.promotion is not None:
            self._abandon(cause.id, now, cause)
        elif self.state in (State.CONNECTING, State.RELAYING):
            self._fault(cause, now)

    def _on_connecting(self, event: Event, now: float) -> None:
        if event["type"] == "session.created":
            self._connect_due = None
            self._enter(State.RELAYING)
            self.ctx.do(Report(self.ctx.rung))
            self.ctx.session.adopt(event["session"])
            self.relay = Relay(self.ctx, 0.0)
            self._announce_session("session.created")
            self.relay.open_session({})
            self._replay_waiting(now)
            for frame in self.ctx.input.frames(0.0):
                self.ctx.do(ToUpstreamFrame(frame))
        elif event["type"] == "error":
            code = str(event["error"].get("code") or "")
            self._fault(TERMINAL_CODES.get(code, Cause.REFUSED), now)

    def _fault(self, cause: Cause, now: float) -> None:
        """The provider failed this call: what is owed is answered by the next tier, at once."""
        ctx = self.ctx
        ctx.do(CloseUpstream(self._attempt), Report(ctx.rung, cause.id))
        self._attempt += 1  # late news of the lost session is ignored
        self._fault_at[ctx.rung] = now
        decision = self._route("A", frozenset({"A"}))
        trigger = "deadline" if cause in DEADLINES else "fault"
        if self.state is State.CONNECTING:
            self._connect_due = None
            ctx.record("handover", **_move(ctx, decision, trigger, cause.id))
            self._start_local(decision, now)
        else:
            self._leave_relay(decision, trigger, cause.id, now)

    def _leave_relay(self, decision: Decision, trigger: str, cause: str, now: float) -> None:
        ctx, relay = self.ctx, self.relay
        assert relay is not None
        left = relay.leave(now)
        ctx.record("handover", **_move(ctx, decision, trigger, cause), owed=len(left.owed))
        self.relay = None
        self._enter(State.LOCAL)
        self._take(decision)
        self._announce_session("session.updated")
        self.local = Local(ctx)
        self.local.take_over(left, now)
        for event in left.requests:
            self._on_client_event(event, now)
        self._poll_at = now + POLL_S

    # --- the caller's voice and the tiers' answers, in Tiers B and C ---

    def speech(self, probabilities: list[float], now: float) -> None:
        if self.local is None:
            return
        self.local.speech(probabilities, now)
        if self.promotion is not None and not self.local.at_boundary:
            self._abandon("the caller spoke", now)

    def transcribed(self, item_id: str, transcript: Transcript | None, now: float) -> None:
        if self.local is not None:
            self.local.transcribed(item_id, transcript, now)
            return
        item = self.ctx.conversation.get(item_id)
        if item is not None:  # the call has moved on; the words are still worth having
            item.transcript = transcript.text if transcript else ""

    def answer_event(self, answer_id: str, event: AnswerEvent, now: float) -> None:
        if self.local is not None:
            self.local.answer_event(answer_id, event, now)

    # --- planned moves ---

    def consider(self, now: float) -> None:
        """Between turns: does the router want this call elsewhere?"""
        if self.state is State.RELAYING and self.relay is not None and self.relay.at_boundary:
            decision = self._route("A", frozenset())
            trigger = TRIGGERS.get(decision.decided_by)
            if decision.tier != "A" and trigger is not None:
                self.ctx.do(CloseUpstream(self._attempt))
                self._attempt += 1
                self._leave_relay(decision, trigger, str(decision.reason), now)
        elif self.state is State.LOCAL and self.local is not None and self.local.at_boundary:
            decision = self._route(self.ctx.tier, frozenset())
            if decision.tier == "A":
                self._maybe_promote(decision, now)
            elif decision.tier != self.ctx.tier:
                trigger = TRIGGERS.get(decision.decided_by, "recovery")
                self.ctx.record("handover", **_move(self.ctx, decision, trigger, str(decision.reason)))
                self._take(decision)
                self._announce_session("session.updated")

    def _maybe_promote(self, decision: Decision, now: float) -> None:
        ctx, local = self.ctx, self.local
        assert local is not None
        forced = decision.decided_by is DecidedBy.OVERRIDE
        quiet = now - max(local.quiet_since, ctx.playback.dry_at)
        fault_at = self._fault_at.get(decision.rung)
        proved = fault_at is None or self._trusted(decision.rung, fault_at)
        waiting_for_tool = ctx.conversation.last_id in ctx.conversation.pending_calls()
        if quiet < ctx.policy.quiet_s or now < self._next_promotion or waiting_for_tool:
            return
        if not forced and (not ctx.policy.promote or not proved):
            return
        self._next_promotion = now + ctx.policy.promotion_interval_s
        self._enter(State.PROMOTING)
        attempt = self._open(decision.rung)
        due = now + 2 * ctx.policy.session_s
        self.promotion = Promotion(ctx, attempt, decision.rung, due, ctx.tier)

    def _on_promoting(self, promotion: Promotion, event: Event, now: float) -> None:
        reason = promotion.provider_event(event)
        if reason:
            self._abandon(reason, now, TERMINAL_CODES.get(reason))
        elif promotion.complete:
            self._promoted(promotion, now)

    def _promoted(self, promotion: Promotion, now: float) -> None:
        ctx, local = self.ctx, self.local
        assert local is not None
        if not local.at_boundary:
            self._abandon("an answer was owed", now)
            return
        decision = self._route(ctx.tier, frozenset())
        if decision.tier != "A":
            self._abandon("the router changed its mind", now)
            return
        ctx.record("handover", **_move(ctx, decision, "recovery", "promoted"))
        ctx.do(StopListening(), Report(promotion.rung))
        promotion.mark_replayed()
        self.promotion = self.local = None
        self._poll_at = None
        self._enter(State.RELAYING)
        self._take(decision)
        base_ms = max(ctx.input.total_ms - LEAD_IN_MS, ctx.buffer_from_ms, ctx.input.earliest_ms)
        frames = ctx.input.frames(base_ms)
        self.relay = Relay(ctx, ctx.input.total_ms - ctx.input.length_ms(frames))
        for frame in frames:
            ctx.do(ToUpstreamFrame(frame))
        self._announce_session("session.updated")

    def _abandon(self, reason: str, now: float, cause: Cause | None = None) -> None:
        """A promotion that fails costs the caller nothing: the call is still where it was."""
        promotion = self.promotion
        if promotion is None:
            return
        self.promotion = None
        self.ctx.do(CloseUpstream(promotion.attempt))
        self._attempt += 1
        if cause is not None:
            self._fault_at[promotion.rung] = now
            self.ctx.do(Report(promotion.rung, cause.id))
        self.ctx.record("promotion_abandoned", reason=reason)
        self._enter(State.LOCAL)
        self._poll_at = now + POLL_S

    # --- time ---

    def next_due(self) -> float | None:
        dues = [self._connect_due, self._poll_at]
        if self.relay is not None:
            dues.append(self.relay.next_due())
        if self.local is not None:
            dues.append(self.local.next_due())
        if self.promotion is not None:
            dues.append(self.promotion.due)
        known = [due for due in dues if due is not None]
        return min(known) if known and self.state is not State.ENDED else None

    def tick(self, now: float) -> None:
        """Whatever is due by `now`."""
        if self.state is State.CONNECTING and self._connect_due is not None and now >= self._connect_due:
            self._fault(Cause.CONNECT_TIMEOUT, now)
        elif self.state is State.RELAYING and self.relay is not None:
            cause = self.relay.overdue(now)
            if cause is not None:
                self._fault(cause, now)
        if self.promotion is not None and now >= self.promotion.due:
            self._abandon("it took too long", now, Cause.CONNECT_TIMEOUT)
        if self.local is not None:
            self.local.tick(now)
        if self._poll_at is not None and now >= self._poll_at:
            self._poll_at = now + POLL_S
            self.ctx.playback.forget_played(now)
            self.consider(now)


def _move(ctx: CallContext, decision: Decision, trigger: str, cause: str) -> dict[str, str]:
    """The fields of a handover's timeline row."""
    return {
        "from_tier": ctx.tier,
        "from_rung": ctx.rung,
        "to_tier": str(decision.tier),
        "to_rung": decision.rung,
        "trigger": trigger,
        "cause": cause,
    }
