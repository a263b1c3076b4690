"""Who serves a call, and how it moves: down when Tier A fails, up when it is back, sideways before a session ends.

The state machine of `states.py` is walked here. `Relay` and `Local` serve the call, `Preparation` and `Hedge` get
ready beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from orchestrator.core.actions import (
    CloseUpstream,
    OpenUpstream,
    Report,
    StopListening,
    ToUpstream,
    ToUpstreamFrame,
)
from orchestrator.core.context import Bridge, CallContext, Unfinished
from orchestrator.core.drills import Plan
from orchestrator.core.gate import first_needs
from orchestrator.core.granted import REFUSED, Refused
from orchestrator.core.health import Cause, ProbeKind
from orchestrator.core.hedge import TIER as HEDGE_TIER
from orchestrator.core.hedge import Hedge
from orchestrator.core.hedge import Stage as HedgeStage
from orchestrator.core.lingering import Lingering
from orchestrator.core.local import Local
from orchestrator.core.pace import Step
from orchestrator.core.preparation import Preparation, Purpose
from orchestrator.core.provider import TERMINAL_CODES
from orchestrator.core.relay import Relay
from orchestrator.core.routing import DecidedBy, Decision, Reason
from orchestrator.core.states import Move, State, after
from orchestrator.core.steps import Share, StepAction
from orchestrator.core.triggers import (
    BLAMELESS,
    BRIDGES,
    ORDERS,
    TERMINAL,
    passed_over,
    row_of,
    trigger_between_turns,
    trigger_of,
)
from orchestrator.protocol.audio import AudioFormat
from orchestrator.protocol.client_events import ClientError
from orchestrator.protocol.wire import Event

Route = Callable[[str | None, frozenset[str]], Decision]
"""``route(current tier, tiers and rungs to leave out)``: the router over the driver's view; no I/O."""

Trusted = Callable[[str, float], bool]
"""``trusted(rung, since)``: has the rung proved itself after that moment, and is its breaker closed?"""

POLL_S = 0.5
"""How often a call looks whether it may move between turns."""
MONEY_POLL_S = 2.0
"""How often a call in Tier A looks whether enough is set aside, and whether its session is to be renewed."""
LEAD_IN_MS = 300.0
"""Input audio that a new provider session is given from before it took over."""


class Handovers:
    """The state of a call and its moves. `Call` adds the events that cause them."""

    def __init__(self, ctx: CallContext, route: Route, trusted: Trusted) -> None:
        self.ctx = ctx
        self.state = State.NEW
        self.relay: Relay | None = None
        self.local: Local | None = None
        self.hedge: Hedge | None = None
        self.preparation: Preparation | None = None
        self.lingering = Lingering(ctx)
        self._renewed_for = ("expiry", "renewed")
        """Trigger and cause of the renewal under way."""
        self._route = route
        self._trusted = trusted
        self._attempts = 0
        self._connecting: int | None = None
        """The attempt whose ``session.created`` the client waits for."""
        self._connect_from = 0.0
        self._connect_due: float | None = None
        self._tried: set[str] = set()
        """Rungs of Tier A that refused this call at its beginning."""
        self._poll_at: float | None = None
        self._next_preparation = 0.0
        self._fault_at: dict[str, float] = {}
        """When a rung last failed this call; it must prove itself before the call goes back to it."""
        self._told_end = False
        self._waiting: list[Event] = []
        """Client events that came before the call had a tier."""
        self._raced: set[str] = set()
        """Rungs that are not to be tried (again) for the answer owed since the latest fault."""
        self._frames = 0
        self.drill: Plan | None = None
        """What a drill still has to do to this call."""

    @property
    def serving(self) -> int | None:
        """The attempt whose provider session serves the call: audio goes there."""
        return self.relay.attempt if self.relay is not None else None

    def _move(self, move: Move) -> None:
        self.state = after(self.state, move)
        self.ctx.record("state", state=self.state.value, move=move.value)

    def _take(self, decision: Decision) -> None:
        ctx = self.ctx
        ctx.tier, ctx.rung, ctx.reason = str(decision.tier), decision.rung, str(decision.reason)

    def _next_attempt(self) -> int:
        self._attempts += 1
        return self._attempts

    def _announce_session(self, kind: str) -> None:
        self.ctx.send({"type": kind, "session": self.ctx.describe_session()})
        if kind == "session.created":
            self.ctx.record("call_started", rung=self.ctx.rung, reason=self.ctx.reason)

    # --- the beginning of a call ---

    def _begin(self, decision: Decision, now: float) -> None:
        self._take(decision)
        if decision.tier != "A":
            self._start_local(now)
            return
        self._move(Move.CONNECT)
        self._connecting = self._next_attempt()
        self._connect_from = now
        self.ctx.purse.want(2 * first_needs(self.ctx, decision.rung), "preparing")
        self._connect_due = now + self.ctx.pace.deadline(Step.SESSION, self.ctx.policy.deadlines)
        self.ctx.do(OpenUpstream(self._connecting, decision.rung))

    def _start_local(self, now: float) -> None:
        self._move(Move.SERVE)
        self.local = Local(self.ctx)
        self._announce_session("session.created")
        self.local.take_over(Unfinished(), now, listen_from=0.0)
        self.local.fund(now)
        self._replay_waiting(now)
        self._poll_at = now + POLL_S

    def _replay_waiting(self, now: float) -> None:
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            self._on_client_event(event, now)

    def _refused(self, cause: Cause, now: float) -> None:
        """No session at the beginning of the call: the next rung, at once, and after the last of them the next tier."""
        ctx = self.ctx
        assert self._connecting is not None
        ctx.do(CloseUpstream(self._connecting))
        self._blame(ctx.rung, cause, now)
        self._connecting = self._connect_due = None
        ctx.purse.want(0, "preparing")
        self._tried.add(ctx.rung)
        decision = self._route("A", frozenset(self._tried))
        ctx.record("handover", **row_of(ctx, decision, trigger_of(cause), cause.id))
        self._begin(decision, now)

    # --- the tier that serves ---

    def _on_client_event(self, event: Event, now: float) -> None:
        if self.relay is None and self.local is None:
            self._wait_with(event)
            return
        if self.hedge is not None:
            self._stand_down("the client was active", now)
        # Giving up a race shows the client a response; what it cancels is what it has seen before.
        cancels = event["type"] == "response.cancel"
        if self.preparation is not None and not cancels:
            self._abandon("the client was active", now)
        try:
            event = self._let_through(event)
            if self.relay is not None:
                self.relay.client_event(event, now)
            elif self.local is not None:
                self.local.client_event(event, now)
        except ClientError as error:
            self.ctx.refused = []
            error.event_id = event.get("event_id")
            self.ctx.send(error.event())
        if self.preparation is not None and cancels:
            self._abandon("the client was active", now)
        self._out_of_money(now)

    def _wait_with(self, event: Event) -> None:
        """Nobody serves yet: an event is for whoever will. The audio behind it is already as it says."""
        self._waiting.append(event)
        ctx, grant = self.ctx, self.ctx.grant
        if event["type"] == "session.update" and not (grant and grant.locks("audio.input.format")):
            given = ((event["session"].get("audio") or {}).get("input") or {}).get("format")
            # What is no format is told when the event is carried out.
            with suppress(ValueError):
                if given is not None:
                    ctx.heed_format(AudioFormat.parse(given))

    def _let_through(self, event: Event) -> Event:
        """Of a client's event what the call's grant leaves to the client; ClientError where that is nothing."""
        ctx, granted = self.ctx, self.ctx.granted
        if granted is None:
            return event
        refused: Sequence[Refused] = ()
        if event["type"] == "session.update":
            event, refused = granted.update(event)
            ctx.refused += refused
        elif event["type"] == "response.create":
            event, refused = granted.response(event)
            if refused and REFUSED not in event["response"]["metadata"]:  # it has no room for that
                text = "; ".join(f"{each.field}: {each.reason}" for each in refused)
                ctx.send(
                    ClientError(
                        f"Left out: {text}.", code="not_granted", event_id=event.get("event_id")
                    ).event()
                )
        else:
            return granted.other(event)
        if refused:
            ctx.record("refused", event=event["type"], fields=[each.field for each in refused])
        return event

    def _on_served(self, event: Event, frame: bytes, now: float) -> None:
        relay = self.relay
        assert relay is not None
        cause = relay.server_event(event, frame, now)
        if cause is not None:
            self._fault(cause, now)
            return
        if self._drilled(now):
            return
        if self.hedge is not None and not relay.deadlines.awaits_audio:
            self._stand_down("tier A answered", now)
        elif self.hedge is not None:
            self.hedge.words_known()
        if self.preparation is not None and not relay.at_boundary:
            self._abandon("the call went on", now)
        if self._out_of_money(now):
            return
        if event["type"] == "response.done":
            self.ctx.do(Report(self.ctx.rung))
            self.consider(now)

    def _serve(self, relay: Relay, now: float) -> None:
        self.relay = relay
        self._poll_at = now + MONEY_POLL_S

    # --- money ---

    def _out_of_money(self, now: float) -> bool:
        """What is owed cannot be paid for in Tier A: the next tier answers it."""
        relay = self.relay
        if relay is None or not relay.gate.broke:
            return False
        self.ctx.record("budget_spent", rung=self.ctx.rung)
        left = self._leave_relay(now)
        self._degrade(left, self._route("A", frozenset({"A"})), "budget", "budget_spent", now)
        return True

    def _step(self, now: float) -> None:
        """Between turns: the steps that the money spent so far, or where it is going, asks for."""
        ctx = self.ctx
        call = Share(ctx.budget.spent, ctx.budget.cap)
        steps = ctx.stepper.advance(call, ctx.bucket, now - ctx.started_at)
        for step in steps:
            ctx.record(
                "budget_step",
                action=step.action.value,
                cause=step.cause,
                share=round(step.share, 4),
                spent_usd=call.spent / 1e9,
                cap_usd=None if call.cap is None else call.cap / 1e9,
            )
            if step.action is StepAction.CONCISE and self.relay is not None:
                self.relay.be_concise()
        if steps:
            ctx.budget.level = ctx.stepper.level
            self._announce_session("session.updated")

    # --- losing Tier A ---

    def _fault(self, cause: Cause, now: float, *, alive: bool = True) -> None:
        """The provider failed this call: what is owed is answered by the next tier, at once.

        `alive`: its session is still there, and may say what it has billed.
        """
        rung = self.ctx.rung
        self._blame(rung, cause, now)
        left = self._leave_relay(now, alive=alive)
        # In a drill the rung is down: what is practised is doing without it.
        down = cause in TERMINAL or cause is Cause.DRILL
        self._raced = {rung} if down or not self._retry_is_quicker(rung) else set()
        other = self._other_try(left)
        self._degrade(left, self._route("A", frozenset({"A"})), trigger_of(cause), cause.id, now, race=other)

    def _blame(self, rung: str, cause: Cause, now: float) -> None:
        """Tell the rung's breaker what it did wrong, and remember it for this call."""
        # That a session reached its limit, or that an operator practises, is nothing it did.
        if cause not in (Cause.EXPIRED, Cause.DRILL):
            self._fault_at[rung] = now
        if cause not in BLAMELESS:
            self.ctx.do(Report(rung, cause.id))

    def _other_try(self, left: Unfinished) -> str | None:
        """The rung of Tier A that may answer what is owed: the same once more if that is quicker, or the next."""
        owed = [each for each in left.owed if not each.out_of_band]
        made = self.hedge is not None and self.hedge.stage is HedgeStage.READY
        settled = made or self.ctx.desk.busy or any(each.say is not None for each in owed)
        if len(owed) != 1 or owed[0].client_asked or left.speaking is not None or settled:
            return None
        decision = self._route("A", frozenset(self._raced))
        return decision.rung if decision.tier == "A" else None

    def _race(self, rung: str, now: float) -> None:
        self._raced.add(rung)
        self._move(Move.RACE)
        self.preparation = Preparation(self.ctx, Purpose.RACE, self._next_attempt(), rung, now)

    def _retry_is_quicker(self, rung: str) -> bool:
        """Whether the rung, started afresh, usually has its first audio before Tier B does."""
        again = self.ctx.paces.of(rung).usual(Step.SESSION, Step.FIRST_AUDIO)
        next_tier = self.ctx.paces.of(self._route("A", frozenset({"A"})).rung).usual(Step.ANSWER)
        return again is not None and next_tier is not None and again < next_tier

    def _leave_relay(self, now: float, *, alive: bool = True) -> Unfinished:
        relay = self.relay
        assert relay is not None
        if self.preparation is not None:
            self._abandon("the session it was to replace is gone", now)
        left = relay.leave()
        self.lingering.leave(relay.attempt, relay.rung, left.bills, now, alive=alive)
        self.relay = None
        return left

    def _degrade(
        self,
        left: Unfinished,
        decision: Decision,
        trigger: str,
        cause: str,
        now: float,
        race: str | None = None,
    ) -> None:
        """Tier B or C goes on from here. `race`: a rung of Tier A that may answer what is owed first."""
        ctx, hedge = self.ctx, self.hedge
        self.hedge = None
        ctx.record("handover", **row_of(ctx, decision, trigger, cause), owed=len(left.owed))
        if left.owed:
            ctx.playback.miss(min(owed.since for owed in left.owed), trigger, cause)
        for owed in left.owed:
            if owed.bridge is Bridge.DEFAULT:
                owed.bridge = BRIDGES.get(trigger, Bridge.DEFAULT)
        self._move(Move.DEGRADE)
        self._take(decision)
        self._announce_session("session.updated")
        local = self.local = Local(ctx)
        local.racing = race is not None
        local.take_over(left, now, hedge=hedge)
        local.fund(now)
        if hedge is not None:
            self._account(hedge, "adopted" if hedge.adopted else "dropped", now)
        for event in left.requests:
            self._on_client_event(event, now)
        self._poll_at = now + POLL_S
        if race is not None and local.yieldable:
            self._race(race, now)
        elif race is not None:
            local.race_over()

    # --- drills ---

    def _drilled(self, now: float) -> bool:
        """Whether a drill has just taken the provider away, by the way that a real fault takes."""
        plan, response = self.drill, self.ctx.default_response()
        if plan is None or response is None:
            return False
        sent = [part.audio_ms for item in response.items.values() for part in item.parts.values()]
        if not plan.cuts(response.turn, sum(sent)) or self.relay is None or not self._fit_for_a_drill():
            return False
        self._cancel_upstream(self.relay)
        self._fault(Cause.DRILL, now)
        return True

    def _drill_between_turns(self, now: float) -> bool:
        plan = self.drill
        if plan is None or not plan.moves(self.ctx.outcomes.asked) or not self._fit_for_a_drill():
            return False
        self._degrade(self._leave_relay(now), self._route("A", frozenset({"A"})), "operator", "drill", now)
        return True

    def _fit_for_a_drill(self) -> bool:
        """A call whose health or budget is in trouble as it is, is left alone. Either way its drill is over."""
        ctx, plan, self.drill = self.ctx, self.drill, None
        assert plan is not None
        here, below = self._route("A", frozenset()), self._route("A", frozenset({"A"}))
        why = ""
        if self._fault_at or self.state is not State.RELAYING:
            why = "the call has had trouble of its own"
        elif here.rung != ctx.rung or ctx.stepper.level is not None:
            why = "the call is about to be elsewhere"
        elif below.tier != "B" or below.reason is Reason.LAST_RESORT:
            why = "tier B cannot take it"
        ctx.record("drill", drill_id=plan.drill_id, practice=plan.practice.value, skipped=why)
        return not why

    # --- hedging ---

    def _maybe_hedge(self, relay: Relay, now: float) -> None:
        """Past an early share of the deadline: let Tier B start on the turn in silence."""
        relay.deadlines.hedge_at = None
        owed, decision = relay.awaits_audio(), self._route("A", frozenset({"A"}))
        turn = relay.turn
        whole = (
            turn is None or turn.committed or turn.stop_ms is None
        )  # else its words are not in the conversation yet
        if self.state is not State.RELAYING or owed is None or not whole:
            return
        if decision.tier != HEDGE_TIER or not self.ctx.hedge_cap.take():
            return
        self._move(Move.HEDGE)
        self.hedge = Hedge(self.ctx, owed, decision.rung, now)

    def _stand_down(self, why: str, now: float) -> None:
        hedge, self.hedge = self.hedge, None
        assert hedge is not None
        self._move(Move.STAND_DOWN)
        self._account(hedge, "lost", now, why)

    def _account(self, hedge: Hedge, result: str, now: float, why: str = "") -> None:
        """What a hedge came to; one that is not gone on with is stopped, and what it spent is spent."""
        ctx = self.ctx
        charges = [] if hedge.adopted else hedge.drop()
        for charge in charges:
            ctx.charge(charge, hedge.rung, hedge.owed.turn, key=hedge.id, tier="B", hedge=True)
        if not hedge.adopted and hedge.id not in ctx.closing:
            ctx.purse.end(hedge.id)
        cost = sum(charge.nanodollars for charge in charges)
        after_ms = round((now - hedge.started_at) * 1000.0, 1)
        ctx.record(
            "hedge", result=result, reason=why, rung=hedge.rung, after_ms=after_ms, cost_usd=cost / 1e9
        )

    def _hedge_wins(self, hedge: Hedge, now: float) -> None:
        """Tier B has audio first: it speaks, and Tier A's answer is cancelled."""
        relay = self.relay
        assert relay is not None
        self._cancel_upstream(relay)
        self._degrade(self._leave_relay(now), self._route("A", frozenset({"A"})), "hedge", "late_audio", now)

    # --- between turns ---

    def consider(self, now: float) -> None:
        """Between turns: does the router want this call elsewhere?"""
        if self.state is State.RELAYING and self.relay is not None and self.relay.at_boundary:
            self._step(now)
            decision = self._route("A", frozenset())
            trigger = trigger_between_turns(decision, self.ctx.rung)
            if decision.tier != "A" and trigger is not None:
                self._degrade(self._leave_relay(now), decision, trigger, str(decision.reason), now)
            elif decision.tier == "A" and not self._drill_between_turns(now):
                self._maybe_renew(self.relay, decision, now)
        elif self.state is State.LOCAL and self.local is not None and self.local.at_boundary:
            self._step(now)
            if self.ctx.stepper.level is StepAction.GOODBYE:
                self.local.say_goodbye(now)
                return
            decision = self._route(self.ctx.tier, frozenset())
            if decision.tier == "A":
                self._maybe_promote(decision, self.local, now)
            elif decision.tier != self.ctx.tier:
                trigger = trigger_between_turns(decision, self.ctx.rung) or "recovery"
                self.ctx.record("handover", **row_of(self.ctx, decision, trigger, str(decision.reason)))
                self._take(decision)
                self._announce_session("session.updated")
        else:
            self._follow_at_once(now)

    def _follow_at_once(self, now: float) -> None:
        """In the middle of something: an operator's order that does not wait for its end takes the call down.

        What is owed is answered by the next tier, as after a fault.
        """
        if self.relay is None and self.local is None:
            return
        decision = self._route(self.ctx.tier, frozenset())
        if not decision.at_once or str(decision.tier) <= self.ctx.tier:
            return
        if self.relay is not None:
            self._cancel_upstream(self.relay)
            self._degrade(self._leave_relay(now), decision, "operator", str(decision.reason), now)
        elif self.local is not None:
            if self.preparation is not None:
                self._abandon("an operator ordered another tier", now)
            self.ctx.record("handover", **row_of(self.ctx, decision, "operator", str(decision.reason)))
            self._take(decision)
            self._announce_session("session.updated")
            self.local.hand_down(now)

    def _cancel_upstream(self, relay: Relay) -> None:
        """Nobody will hear the answer that the provider is making: it need not be billed to its end."""
        response = self.ctx.default_response()
        if response is not None:
            self.ctx.do(ToUpstream({"type": "response.cancel", "response_id": response.id}, relay.attempt))

    def _maybe_renew(self, relay: Relay, decision: Decision, now: float) -> None:
        """A fresh session in Tier A: before this one ends, on a cheaper rung, or with a shorter history."""
        ctx = self.ctx
        here = replace(decision, rung=ctx.rung)
        passed = passed_over(decision)
        long = relay.gate.bound.context().audio_tokens > ctx.policy.history_tokens
        if passed.get(ctx.rung) in (Reason.BUDGET_STEP, Reason.BUDGET_SPENT):
            self._renewed_for = "budget", str(passed[ctx.rung])
            self._maybe_prepare(Purpose.RENEW, decision, relay.busy_at, now)
        elif passed.get(ctx.rung) in ORDERS:
            self._renewed_for = "operator", str(passed[ctx.rung])
            self._maybe_prepare(Purpose.RENEW, decision, relay.busy_at, now)
        elif now >= relay.renew_at:
            self._renewed_for = "expiry", "renewed"
            self._maybe_prepare(Purpose.RENEW, decision, relay.busy_at, now)
        elif ctx.history == "text" and long:
            self._renewed_for = "budget", "history_as_text"
            self._maybe_prepare(Purpose.RENEW, here, relay.busy_at, now)

    def _maybe_promote(self, decision: Decision, local: Local, now: float) -> None:
        fault_at = self._fault_at.get(decision.rung)
        proved = fault_at is None or self._trusted(decision.rung, fault_at)
        # A floor is no order to use what does not work.
        floored = decision.reason is Reason.FLOOR
        forced = decision.decided_by is DecidedBy.OVERRIDE and not floored
        if forced or ((self.ctx.policy.promote or floored) and proved):
            self._maybe_prepare(Purpose.PROMOTE, decision, local.quiet_since, now)

    def _maybe_prepare(self, purpose: Purpose, decision: Decision, quiet_since: float, now: float) -> None:
        """Give the conversation to a new session, if the caller is quiet and no tool's result is awaited."""
        ctx = self.ctx
        quiet = now - max(quiet_since, ctx.playback.dry_at)
        waiting_for_tool = ctx.conversation.last_id in ctx.conversation.pending_calls()
        if quiet < ctx.policy.quiet_s or now < self._next_preparation or waiting_for_tool:
            return
        self._next_preparation = now + ctx.policy.promotion_interval_s
        self._move(Move.PREPARE)
        self.preparation = Preparation(ctx, purpose, self._next_attempt(), decision.rung, now)

    def _mind_local(self, now: float) -> None:
        """Give up a session that is being prepared for a moment which has passed."""
        local, preparation = self.local, self.preparation
        if local is None or preparation is None:
            return
        if preparation.purpose is Purpose.RACE and not local.yieldable:
            self._abandon("tier B answered first", now)
        elif preparation.purpose is Purpose.PROMOTE and not local.at_boundary:
            self._abandon("the caller spoke", now)

    # --- a prepared session ---

    def _on_prepared(self, event: Event, frame: bytes, now: float) -> None:
        preparation = self.preparation
        assert preparation is not None
        reason = preparation.provider_event(event, frame, now)
        if reason:
            failed = Cause.RESPONSE_FAILED if preparation.asked else None
            self._abandon(reason, now, TERMINAL_CODES.get(reason, failed))
        elif preparation.purpose is Purpose.RACE:
            if preparation.answers:
                self._race_won(preparation, now)
            elif preparation.replayed and not preparation.asked and not preparation.ask():
                self._abandon("it could not be paid for", now)
        elif preparation.replayed:
            self._take_up_quietly(preparation, now)

    def _take_up_quietly(self, preparation: Preparation, now: float) -> None:
        """The prepared session takes over between turns, if the moment and the router still allow it."""
        serving = self.relay or self.local
        assert serving is not None
        decision = self._route(self.ctx.tier, frozenset())
        if not serving.at_boundary:
            self._abandon("an answer was owed", now)
        elif decision.tier != "A":
            self._abandon("the router changed its mind", now)
        elif preparation.purpose is Purpose.RENEW:
            self._renew(preparation, now)
        else:
            self.ctx.record("handover", **row_of(self.ctx, decision, "recovery", "promoted"))
            self._take_up(preparation, decision, now)

    def _renew(self, preparation: Preparation, now: float) -> None:
        """A fresh session instead of one near its limit. What the old one had still to carry out the new one does."""
        ctx, old = self.ctx, self.relay
        assert old is not None
        decision = replace(self._route("A", frozenset()), rung=preparation.rung)
        ctx.record("handover", **row_of(ctx, decision, *self._renewed_for))
        left = old.leave()
        self.lingering.leave(old.attempt, old.rung, left.bills, now, alive=True)
        self.relay = None
        self._take_up(preparation, decision, now, loud_from_ms=left.loud_from_ms)
        for event in left.requests:
            self._on_client_event(event, now)

    def _race_won(self, preparation: Preparation, now: float) -> None:
        """Tier A has the answer first: what it has said of it goes to the client, and Tier B stops."""
        local = self.local
        assert local is not None
        decision = self._route("A", frozenset())
        if decision.tier != "A":
            self._abandon("the router changed its mind", now)
            return
        owed = local.yield_answer()
        owed.key = preparation.key
        self.ctx.record("handover", **row_of(self.ctx, decision, "recovery", "answered_first"))
        relay = self._take_up(preparation, decision, now)
        relay.timed = False
        relay.owe(owed, now)
        for event, frame in preparation.answer:
            if self.relay is relay:
                self._on_served(event, frame, now)
        relay.timed = True

    def _take_up(
        self, preparation: Preparation, decision: Decision, now: float, loud_from_ms: float | None = None
    ) -> Relay:
        """`loud_from_ms`: where the caller became loud without the session before having said so."""
        ctx = self.ctx
        ctx.do(StopListening(), Report(preparation.rung, proof=ProbeKind.SESSION))
        preparation.mark_replayed()
        self.preparation = self.local = None
        self._move(Move.TAKE_UP)
        self._take(decision)
        ctx.rung = preparation.rung
        since = ctx.input.total_ms if loud_from_ms is None else loud_from_ms
        base_ms = max(since - LEAD_IN_MS, ctx.buffer_from_ms, ctx.input.earliest_ms)
        frames = ctx.input.frames(base_ms)
        base_ms = ctx.input.total_ms - ctx.input.length_ms(frames)
        relay = Relay(
            ctx,
            preparation.attempt,
            base_ms,
            preparation.expires_at,
            now,
            gated=preparation.gated,
            replayed=preparation.forms,
        )
        self._serve(relay, now)
        ctx.purse.hand_over()
        relay.gate.fund()
        for frame in frames:
            ctx.do(ToUpstreamFrame(frame, preparation.attempt))
        ctx.session.expires_at = int(preparation.expires_at + ctx.wall_offset)
        self._announce_session("session.updated")
        return relay

    def _abandon(self, reason: str, now: float, cause: Cause | None = None, *, alive: bool = True) -> None:
        """A preparation that fails costs the caller nothing: the call is still where it was."""
        preparation, self.preparation = self.preparation, None
        assert preparation is not None
        bills = preparation.drop()
        self.lingering.leave(preparation.attempt, preparation.rung, bills, now, alive=alive)
        if cause is not None:
            self._blame(preparation.rung, cause, now)
        what = preparation.purpose.value
        self.ctx.record("preparation_abandoned", purpose=what, rung=preparation.rung, reason=reason)
        self._move(Move.ABANDON)
        if self.local is not None and preparation.purpose is Purpose.RACE:
            self._race_on(self.local, failed=cause is not None, now=now)
        self._poll_at = now + POLL_S

    def _race_on(self, local: Local, *, failed: bool, now: float) -> None:
        """A session that failed in a race makes room for the next rung's, while the answer is still owed."""
        decision = self._route("A", frozenset(self._raced)) if failed and local.yieldable else None
        if decision is not None and decision.tier == "A":
            self._race(decision.rung, now)
        else:
            local.race_over()
