"""One call after another under a plan: the router chooses, the steps are taken, every response is priced."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from orchestrator.core.budget import BudgetState, CallBudget
from orchestrator.core.overrides import Tier
from orchestrator.core.prices import PriceTable, nanodollars
from orchestrator.core.routing import Decision, Reason, RouteRequest, View, decide
from orchestrator.core.steps import Share, StepAction, Stepper
from orchestrator.estimate.columns import Columns, Plan
from orchestrator.estimate.draws import Draws, Floats
from orchestrator.estimate.history import TOKENS_PER_S_OUT, History, Tokens
from orchestrator.estimate.tariff import LEAST_TOKENS, Tariff

_REQUEST = RouteRequest()
_OUTAGE = frozenset({Tier.A.value})


@dataclass(slots=True)
class Served:
    """What became of one call. Money in nano-dollars."""

    cost: int = 0
    answered_s: float = 0.0
    """Of its length, the share of the turns that Tier A or B answered."""
    turns: Counter[Tier] = field(default_factory=Counter)
    steps: dict[StepAction, str] = field(default_factory=dict)
    """Those that were taken, each with its cause."""
    unpaid: bool = False
    """A rung was passed over because what was left would not have paid for one more short answer."""
    words: int = 0
    """Of `cost`, Tier A's transcription."""
    tier_b: int = 0
    waste: int = 0
    unheard_s: float = 0.0


class Desk:
    """Serves calls, and keeps what they share: the day's bucket, what the router decided, tokens by rung."""

    def __init__(self, columns: Columns, plan: Plan, prices: PriceTable) -> None:
        self.columns = columns
        self.plan = plan
        self.policy = plan.policy
        self.tariff = Tariff(plan, prices)
        self.call_cap = None if plan.call_usd is None else nanodollars(plan.call_usd)
        self.day_cap: int | None = None
        self.day_spent = 0
        self.tokens = {rung: Tokens() for rung in plan.rungs}
        self._free = [0] * (len(plan.rungs) + 1)
        self._decisions: dict[tuple[object, ...], Decision] = {}

    @property
    def capped(self) -> bool:
        return self.call_cap is not None or self.day_cap is not None

    def new_day(self, cap: int | None) -> None:
        """Nothing is spent yet of the bucket's `cap`."""
        self.day_cap, self.day_spent = cap, 0

    def decide(self, call: Serving, caller_s: float) -> Decision:
        """The rung for the next turn. The router is asked once for each state of affairs that makes a difference."""
        history, level = call.history, call.stepper.level
        state = BudgetState(call.budget.spent, self.call_cap, self.day_spent, self.day_cap, level=level)
        least = self._free
        if self.capped:
            least = self.tariff.least(history.text, history.audio, history.words, caller_s)
        key = (level, call.outage, *map(state.short_of, least))
        if key not in self._decisions:
            view = View(
                self.tariff.rungs(least), budget=state, excluded=_OUTAGE if call.outage else frozenset()
            )
            self._decisions[key] = decide(_REQUEST, view, 0.0)
        return self._decisions[key]

    def left(self, spent: int) -> int | None:
        """What a call that has `spent` so much may still spend; None where there is no cap."""
        left = [
            cap - gone
            for cap, gone in ((self.call_cap, spent), (self.day_cap, self.day_spent))
            if cap is not None
        ]
        return min(left, default=None)


class Serving:
    """One call in progress."""

    def __init__(self, desk: Desk, *, outage: bool) -> None:
        self.desk = desk
        self.outage = outage
        self.budget = CallBudget(desk.call_cap)
        self.stepper = Stepper(desk.policy)
        self.history = History(desk.columns, desk.plan)
        self.served = Served()
        self.made_at = 0.0
        """When the answers of this turn are there, in seconds of the call."""

    def run(self, draws: Draws, number: int) -> Served:
        """Serve call `number` of `draws` to its end."""
        seconds, turns = float(draws.seconds[number]), int(draws.turns[number])
        first = int(draws.first[number])
        span = slice(first, first + turns)
        # The day may have come so far; from here on only this call spends, and every answer looks at the steps.
        self._take_steps(0.0)
        if draws.greets[number]:
            self._turn(0.0, float(draws.greeting_s[number]), 0.0, 0, False)
            self.served.turns.clear()
        columns = zip(
            draws.caller_s[span].tolist(),
            draws.heard_s[span].tolist(),
            draws.unheard_s[span].tolist(),
            draws.tools[span].tolist(),
            draws.cut[span].tolist(),
            strict=True,
        )
        turns_s = _spaced(seconds, draws.caller_s[span] + draws.heard_s[span])
        began = 0.0
        for turn, lasts_s in zip(columns, turns_s, strict=True):
            if StepAction.GOODBYE in self.stepper.taken:
                seconds = began
                break
            # An answer is made, and paid for, much faster than it is heard.
            self.made_at = began + max(0.0, lasts_s - turn[1])
            self._turn(*turn)
            began += lasts_s
        asked = self.served.turns.total()
        answered = asked - self.served.turns[Tier.C]
        self.served.answered_s = seconds * answered / asked if asked else seconds
        self.served.cost = self.budget.spent
        return self.served

    def _take_steps(self, elapsed_s: float) -> None:
        desk = self.desk
        if not desk.policy.steps:
            return
        call, day = Share(self.budget.spent, self.budget.cap), Share(desk.day_spent, desk.day_cap)
        for taken in self.stepper.advance(call, day, elapsed_s):
            self.served.steps[taken.action] = taken.cause

    def _turn(self, caller_s: float, heard_s: float, unheard_s: float, tools: int, cut: bool) -> None:
        if self.stepper.concise:
            heard_s *= self.desk.columns.concise_share
        decision = self.desk.decide(self, caller_s)
        if any(passed.passed_over is Reason.BUDGET_SPENT for passed in decision.candidates):
            self.served.unpaid = True
        tier = decision.tier
        if tier is Tier.A:
            tier = self._realtime(decision.rung, caller_s, heard_s, unheard_s, tools, cut)
            caller_s = 0.0  # heard, and written down
        if tier is Tier.B:
            tier = self._pipeline(caller_s, heard_s, tools)
        self.served.turns[tier] += 1

    def _realtime(
        self, rung: str, caller_s: float, heard_s: float, unheard_s: float, tools: int, cut: bool
    ) -> Tier:
        """A turn in Tier A; which tier it was that answered it in the end."""
        desk, columns, history = self.desk, self.desk.columns, self.history
        history.serve(rung)
        history.hear(caller_s)
        if caller_s:
            words = desk.tariff.words(caller_s, round(caller_s * columns.text_per_s))
            self.served.words += words
            self._spend(words)
        for _ in range(tools):
            limit = self._limit(rung)
            if limit is None:
                return Tier.B
            call = history.input()
            call.text_out = min(round(columns.call_tokens), limit)
            self._respond(rung, call)
            history.write(columns.call_tokens + columns.result_tokens)
        limit = self._limit(rung)
        if limit is None:
            return Tier.B
        self._answer(rung, limit, heard_s, unheard_s, cut)
        return Tier.A

    def _answer(self, rung: str, limit: int, heard_s: float, unheard_s: float, cut: bool) -> None:
        per_s = TOKENS_PER_S_OUT + self.desk.columns.text_per_s
        # What is made is no longer than the limit; what was heard of it comes first.
        made_s = min(heard_s + unheard_s, limit / per_s)
        heard_s = min(heard_s, made_s)
        answer = self.history.input()
        answer.audio_out = int(made_s * TOKENS_PER_S_OUT)
        answer.text_out = int(made_s * self.desk.columns.text_per_s)
        self._respond(rung, answer)
        if cut and made_s > heard_s:
            share = 1 - heard_s / made_s
            lost = Tokens(text_out=round(answer.text_out * share), audio_out=round(answer.audio_out * share))
            self.served.waste += self.desk.tariff.response(rung, lost)
            self.served.unheard_s += made_s - heard_s
        self.history.say(heard_s, cut=cut)

    def _limit(self, rung: str) -> int | None:
        """The output limit of a response that starts now; None where not even a short one is paid for."""
        plan = self.desk.plan
        full = (
            min(plan.max_output_tokens, plan.concise_tokens)
            if self.stepper.concise
            else plan.max_output_tokens
        )
        left = self.desk.left(self.budget.spent)
        if left is None:
            return full
        text, audio = self.history.text, self.history.audio
        for limit in (full, min(full, plan.concise_tokens), min(full, LEAST_TOKENS)):
            if self.desk.tariff.worst(rung, limit, text, audio) <= left:
                return limit
        return None

    def _respond(self, rung: str, tokens: Tokens) -> None:
        cost = self.desk.tariff.response(rung, tokens)
        self.desk.tokens[rung].add(tokens)
        self._spend(cost)
        self.stepper.note_answer(cost)
        self._take_steps(self.made_at)

    def _pipeline(self, caller_s: float, heard_s: float, tools: int) -> Tier:
        """A turn in Tier B, or what is left of it; Tier C where that cannot be paid for."""
        columns, history, tariff = self.desk.columns, self.history, self.desk.tariff
        history.hear(caller_s)
        called, asked = round(columns.call_tokens), columns.call_tokens + columns.result_tokens
        context, out = history.words, round(heard_s * columns.text_per_s)
        cost = sum(tariff.answer_b(0.0, context + round(n * asked), called, 0.0) for n in range(tools))
        cost += tariff.answer_b(caller_s, context + round(tools * asked), out, heard_s)
        left = self.desk.left(self.budget.spent)
        if left is not None and cost > left:
            self.served.unpaid = True
            return Tier.C
        history.write(tools * asked + out)
        self.served.tier_b += cost
        self._spend(cost)
        if cost:
            self.stepper.note_answer(cost)
            self._take_steps(self.made_at)
        return Tier.B

    def _spend(self, amount: int) -> None:
        self.budget.spend(amount)
        self.desk.day_spent += amount


def _spaced(seconds: float, talk_s: Floats) -> list[float]:
    """How long each turn lasts: its talk, and as much silence in each as makes the whole call."""
    talked = float(talk_s.sum())
    if talked >= seconds:
        return [float(talk) * seconds / talked for talk in talk_s] if talked else []
    silence = (seconds - talked) / talk_s.size if talk_s.size else 0.0
    return [float(talk) + silence for talk in talk_s]
