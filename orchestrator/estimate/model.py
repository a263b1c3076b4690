"""The estimate itself: drawn calls, served one after another under a plan, summed up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from orchestrator.core.overrides import Tier
from orchestrator.core.prices import PriceTable, nanodollars
from orchestrator.core.steps import StepAction
from orchestrator.estimate.columns import Columns, Latencies, Plan
from orchestrator.estimate.draws import draw
from orchestrator.estimate.history import Tokens
from orchestrator.estimate.latency import budgets
from orchestrator.estimate.results import Estimate, Quantity
from orchestrator.estimate.serving import Desk, Served, Serving

_TOLD_EVERY = 100
"""Calls between two reports of how far it is."""
_PARTS = {
    "text, new": "text_fresh",
    "text, cached": "text_cached",
    "audio heard, new": "audio_fresh",
    "audio heard, cached": "audio_cached",
    "text written": "text_out",
    "audio spoken": "audio_out",
}


def estimate(
    columns: Columns,
    plan: Plan,
    prices: PriceTable,
    *,
    calls: int = 10_000,
    seed: int = 1,
    latencies: Latencies | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Estimate:
    """What `calls` such calls cost and are like. ``progress(done, calls)`` may raise to stop it.

    Raises `UnknownPrice` for a model without a price, `TooMuch` for more turns than can be simulated.
    """
    if calls < 1:
        raise ValueError(f"expected at least 1 call to simulate, not {calls}")
    draws = draw(columns, calls, seed)
    desk = Desk(columns, plan, prices)
    day, cap = _day(columns, plan, calls)
    served: list[Served] = []
    for number in range(calls):
        if number % day == 0:
            desk.new_day(cap)
        if progress is not None and number % _TOLD_EVERY == 0:
            progress(number, calls)
        served.append(Serving(desk, outage=bool(draws.outage[number] < plan.outage_share)).run(draws, number))
    if progress is not None:
        progress(calls, calls)
    return _summed(served, desk, calls, seed, latencies or Latencies())


def placed_per_day(columns: Columns, plan: Plan) -> float:
    """Those who hang up and call again may hang up again."""
    return plan.calls_per_day / (1 - columns.abandon_rate * columns.retry_share)


def _day(columns: Columns, plan: Plan, calls: int) -> tuple[int, int | None]:
    """How many of the simulated calls make a day, and the bucket's cap for it.

    A day of more calls than are simulated is stood for by all of them, under a cap that is as much smaller.
    """
    placed = placed_per_day(columns, plan)
    day = max(1, min(calls, round(placed)))
    return day, None if plan.day_usd is None else nanodollars(plan.day_usd * day / placed)


def _summed(served: Sequence[Served], desk: Desk, calls: int, seed: int, latencies: Latencies) -> Estimate:
    columns, plan = desk.columns, desk.plan
    costs = np.array([call.cost for call in served], dtype=np.float64)
    cost = Quantity.of(costs)
    answered_s = sum(call.answered_s for call in served)
    turns = sum((call.turns for call in served), Counter[Tier]())
    asked = turns.total() or 1
    mix = {tier.value: turns[tier] / asked for tier in Tier}
    steps = Counter(action for call in served for action in call.steps)
    early = Counter(a for call in served for a, cause in call.steps.items() if cause == "projection")
    placed = placed_per_day(columns, plan)
    per_call = Quantity.of([call.turns.total() for call in served])
    return Estimate(
        calls=calls,
        seed=seed,
        columns=columns,
        plan=plan,
        latencies=latencies,
        cost=cost,
        cost_quantiles=tuple(np.percentile(costs, range(101)).tolist()),
        per_answered_minute=cost.mean * calls / (answered_s / 60) if answered_s else 0.0,
        placed_per_day=placed,
        per_day=cost.mean * placed,
        per_month=cost.mean * placed * plan.days_per_month,
        turns=per_call,
        tier_mix=mix,
        stepped={a.value: steps[a] / calls for a in _actions(plan)},
        projected={a.value: early[a] / calls for a in _actions(plan)},
        unpaid=sum(call.unpaid for call in served) / calls,
        waste=float(np.mean([call.waste for call in served])),
        waste_s=float(np.mean([call.unheard_s for call in served])),
        parts=_parts(served, desk),
        budgets=budgets(
            columns, latencies, mix, turns=per_call.mean, outage_share=plan.outage_share, seed=seed
        ),
    )


def _actions(plan: Plan) -> list[StepAction]:
    return [step.action for step in plan.steps]


def _parts(served: Sequence[Served], desk: Desk) -> dict[str, float]:
    """What a call costs on average, taken apart: each kind of token priced alone."""
    found = {}
    for name, kind in _PARTS.items():
        cost = 0
        for rung, tokens in desk.tokens.items():
            alone = Tokens()
            setattr(alone, kind, getattr(tokens, kind))
            cost += desk.tariff.response(rung, alone)
        found[name] = cost / len(served)
    found["transcription"] = sum(call.words for call in served) / len(served)
    found["Tier B"] = sum(call.tier_b for call in served) / len(served)
    return found
