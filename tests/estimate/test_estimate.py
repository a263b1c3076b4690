"""The simulation: by hand for one call, and what holds for any columns and plan."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.config import Settings
from orchestrator.config_sections import BudgetStep
from orchestrator.core.prices import ModelPrice, PriceTable, UnknownPrice, nanodollars
from orchestrator.core.steps import StepAction
from orchestrator.estimate import Columns, Plan, TierBEngines, TooMuch, estimate
from orchestrator.estimate.draws import draw
from tests import planted

PRICES = PriceTable()
MINI = "gpt-realtime-2.1-mini"
EVEN = Columns(
    call_s=60, caller_share=0.3, assistant_share=0.5, utterance_s=6, abandon_rate=0, length_spread=0, pace_spread=0,
    turn_spread=0, greeting=0, prompt_tokens=740, tool_tokens=0, tools_per_turn=0, text_per_s=0, barge_in=0,
    cache_output=0,
)  # fmt: skip
"""Calls that are all alike: 3 turns of 6 s of the caller's talk and 10 s of the assistant's."""
FREE = Plan(call_usd=None, transcription_model=None)
ALL_STEPS = tuple(
    BudgetStep(at=at, action=action)
    for at, action in ((0.3, StepAction.CONCISE), (0.5, StepAction.CHEAPER_RUNG), (0.7, StepAction.TIER_B))
)


def test_one_call_by_hand() -> None:
    """Three responses as in test_history, priced at 4 / 0.4 (text in), 32 / 0.4 (audio in) and 64 (audio out)."""
    found = estimate(EVEN, FREE, PRICES, calls=3)
    # In dollars per million tokens: 740 x 4 + 60 x 32, then 740 x .4 + 292 x 32 + 28 x .4, then 740 x .4 + 296 x 32 +
    # 284 x .4, and three times 200 x 64; all of it in nano-dollars.
    by_hand = (2960 + 1920) + (296 + 9344 + 11.2) + (296 + 9472 + 113.6) + 3 * 12_800
    assert found.turns.mean == found.turns.max == 3
    assert found.cost.mean == found.cost.max == by_hand * 1000
    assert found.cost.error == 0


def test_transcription_is_billed_beside() -> None:
    with_words = estimate(EVEN, Plan(call_usd=None, transcription_model="gpt-transcribe"), PRICES, calls=1)
    without = estimate(EVEN, FREE, PRICES, calls=1)
    # 18 s at $0.0045 a minute.
    assert with_words.cost.mean - without.cost.mean == 0.00135 * 1e9
    assert with_words.parts["transcription"] == 0.00135 * 1e9


def test_waste_by_hand() -> None:
    """Every answer is cut after 10 s, with 5 s more made: 100 tokens at $64 a million, three times."""
    found = estimate(EVEN.model_copy(update={"barge_in": 1.0, "unheard_s": 5.0}), FREE, PRICES, calls=2)
    assert found.waste_s == pytest.approx(15.0)
    assert found.waste == pytest.approx(3 * 100 * 64 * 1000)


def test_the_parts_are_the_whole() -> None:
    plan = Plan(call_usd=0.3, steps=ALL_STEPS, rungs=("gpt-realtime-2.1", MINI), outage_share=0.1)
    found = estimate(Columns(), plan, PRICES, calls=300)
    # Each response's price is rounded up to a nano-dollar.
    assert sum(found.parts.values()) == pytest.approx(found.cost.mean, abs=200)
    assert sum(found.tier_mix.values()) == pytest.approx(1)


def test_the_same_seed_gives_the_same_estimate() -> None:
    assert estimate(Columns(), FREE, PRICES, calls=200, seed=7) == estimate(
        Columns(), FREE, PRICES, calls=200, seed=7
    )
    assert estimate(Columns(), FREE, PRICES, calls=200, seed=8) != estimate(
        Columns(), FREE, PRICES, calls=200, seed=7
    )


def test_two_plans_are_tried_on_the_same_calls() -> None:
    one = estimate(Columns(), FREE, PRICES, calls=200, seed=3)
    two = estimate(Columns(), Plan(call_usd=0.2, steps=ALL_STEPS), PRICES, calls=200, seed=3)
    assert one.turns == two.turns


def test_columns_mean_what_they_say() -> None:
    columns = Columns(call_s=200, caller_share=0.25, assistant_share=0.4, abandon_rate=0.2, utterance_s=5)
    drawn = draw(columns, 40_000, seed=5)
    # Those who hang up early have had half of their call, on average.
    assert drawn.seconds.mean() == pytest.approx(200 * 0.9, rel=0.02)
    assert drawn.caller_s.sum() / drawn.seconds.sum() == pytest.approx(0.25, rel=0.02)
    assert drawn.heard_s.sum() / drawn.seconds.sum() == pytest.approx(0.4, rel=0.02)
    assert drawn.tools.mean() == pytest.approx(columns.tools_per_turn, rel=0.03)
    assert drawn.cut.mean() == pytest.approx(columns.barge_in, rel=0.03)


def test_a_shape_of_lengths_replaces_the_lognormal_one() -> None:
    columns = Columns(call_s=100, length_spread=0.5, length_profile=(-1.0, 1.0), abandon_rate=0)
    assert set(draw(columns, 500, seed=1).seconds.tolist()) == {50.0, 150.0}


@st.composite
def columns(draw: st.DrawFn) -> Columns:
    caller = draw(st.floats(0.1, 0.6))
    return Columns(
        call_s=draw(st.floats(20, 900)),
        caller_share=caller,
        assistant_share=draw(st.floats(0, 1 - caller)),
        abandon_rate=draw(st.floats(0, 1)),
        length_spread=draw(st.floats(0, 1.5)),
        utterance_s=draw(st.floats(1.5, 90)),
        tools_per_turn=draw(st.floats(0, 2)),
        barge_in=draw(st.floats(0, 1)),
        prompt_tokens=draw(st.floats(0, 5000)),
        cache_hit=draw(st.floats(0, 1)),
        cache_output=draw(st.floats(0, 1)),
    )


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    priced = TierBEngines(transcription="stt", agent="agent", speech="voice")
    return Plan(
        rungs=draw(st.sampled_from([("gpt-realtime-2.1",), ("gpt-realtime-2.1", MINI), (MINI,)])),
        call_usd=draw(st.one_of(st.none(), st.floats(0, 1))),
        day_usd=draw(st.one_of(st.none(), st.floats(0, 5))),
        calls_per_day=draw(st.integers(1, 100)),
        steps=draw(st.sampled_from([(), ALL_STEPS])),
        expected_minutes=draw(st.one_of(st.none(), st.floats(0.5, 10))),
        history=draw(st.sampled_from(["provider", "retention", "text"])),
        history_tokens=1000,
        outage_share=draw(st.floats(0, 1)),
        tier_b=draw(st.sampled_from([TierBEngines(), priced])),
    )


PAID = PriceTable(
    {
        "agent": ModelPrice(text_in=2, text_out=8),
        "stt": ModelPrice(per_minute=0.01),
        "voice": ModelPrice(per_character=0.00005),
    }
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
@given(columns(), plans(), st.integers(0, 10_000))
def test_no_call_and_no_day_costs_more_than_its_cap(columns: Columns, plan: Plan, seed: int) -> None:
    found = estimate(columns, plan, PAID, calls=20, seed=seed)
    if plan.call_usd is not None:
        assert found.cost.max <= nanodollars(plan.call_usd)
    if plan.day_usd is not None and plan.calls_per_day >= 20:
        assert found.cost.mean * 20 <= nanodollars(plan.day_usd) + 1
    assert sum(found.tier_mix.values()) == pytest.approx(1 if found.turns.mean else 0)
    assert 0 <= found.waste <= found.cost.mean + 1
    assert all(0 <= share <= 1 for share in (*found.stepped.values(), found.unpaid))
    assert all(found.projected[action] <= share for action, share in found.stepped.items())


def test_steps_make_calls_cheaper_and_are_counted() -> None:
    plan = Plan(call_usd=0.4, rungs=("gpt-realtime-2.1", MINI))
    without = estimate(Columns(), plan, PRICES, calls=500)
    stepped = estimate(Columns(), plan.model_copy(update={"steps": ALL_STEPS}), PRICES, calls=500)
    assert stepped.cost.mean < without.cost.mean
    assert without.stepped == {}
    shares = list(stepped.stepped.values())
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.3
    assert set(stepped.projected.values()) == {0.0}


def test_projections_step_earlier() -> None:
    plan = Plan(call_usd=0.4, steps=ALL_STEPS, rungs=("gpt-realtime-2.1", MINI))
    found = estimate(Columns(), plan.model_copy(update={"expected_minutes": 4.0}), PRICES, calls=500)
    assert found.projected["concise"] > 0.2
    assert found.stepped["concise"] > estimate(Columns(), plan, PRICES, calls=500).stepped["concise"]


def test_a_goodbye_ends_the_call() -> None:
    steps = (BudgetStep(at=0.2, action=StepAction.GOODBYE),)
    found = estimate(EVEN, FREE.model_copy(update={"call_usd": 0.2, "steps": steps}), PRICES, calls=10)
    # The first two of three answers come to more than 20 % of the cap; the second is begun before that is known.
    assert found.turns.max == 2
    assert found.stepped == {"goodbye": 1.0}


def test_an_outage_puts_calls_into_tier_b() -> None:
    found = estimate(Columns(), FREE.model_copy(update={"outage_share": 1.0}), PRICES, calls=100)
    assert found.tier_mix == {"A": 0.0, "B": 1.0, "C": 0.0}
    assert found.cost.mean == 0
    half = estimate(Columns(), FREE.model_copy(update={"outage_share": 0.5}), PRICES, calls=2000)
    assert half.tier_mix["B"] == pytest.approx(0.5, abs=0.05)


def test_tier_b_by_hand() -> None:
    """Three turns: 18 s heard at $0.01 a minute, 450 characters at $0.00005, and what the agent reads and writes."""
    engines = TierBEngines(transcription="stt", agent="agent", speech="voice")
    columns = EVEN.model_copy(update={"text_per_s": 3.0})
    found = estimate(columns, FREE.model_copy(update={"outage_share": 1.0, "tier_b": engines}), PAID, calls=1)
    # The agent reads the prompt (740) and 18 tokens for each utterance, 30 for each answer before it; it writes 30.
    read = (740 + 18) + (740 + 2 * 18 + 30) + (740 + 3 * 18 + 2 * 30)
    by_hand = 18 / 60 * 0.01 + 450 * 0.00005 + (read * 2 + 90 * 8) / 1e6
    assert found.cost.mean == pytest.approx(by_hand * 1e9, rel=1e-9)
    assert found.parts["Tier B"] == found.cost.mean


def test_retries_are_placed_beside_the_others() -> None:
    columns = EVEN.model_copy(update={"abandon_rate": 0.2, "retry_share": 0.5})
    found = estimate(
        columns, FREE.model_copy(update={"calls_per_day": 900, "days_per_month": 20.0}), PRICES, calls=50
    )
    # Each of 900 is placed again with a chance of 0.1, as are those: 900 / 0.9.
    assert found.placed_per_day == pytest.approx(1000)
    assert found.per_day == pytest.approx(1000 * found.cost.mean)
    assert found.per_month == pytest.approx(20 * found.per_day)


def test_answered_minutes_are_those_of_a_and_b() -> None:
    found = estimate(EVEN, FREE, PRICES, calls=4)
    assert found.per_answered_minute == pytest.approx(found.cost.mean)
    nothing = estimate(EVEN, Plan(call_usd=0, transcription_model=None), PAID, calls=4)
    assert nothing.tier_mix["B"] == 1.0  # which is free here
    assert nothing.per_answered_minute == 0


def test_a_day_of_more_calls_than_are_simulated() -> None:
    """Half of the day's calls share half of its cap."""
    plan = FREE.model_copy(update={"day_usd": 20.0, "calls_per_day": 400})
    whole = estimate(EVEN, plan, PRICES, calls=400)
    half = estimate(EVEN, plan, PRICES, calls=200)
    assert half.tier_mix["A"] == pytest.approx(whole.tier_mix["A"], abs=0.02)
    assert 0.3 < whole.tier_mix["A"] < 0.99
    assert whole.per_day <= 20.0 * 1e9


def test_latency_budgets() -> None:
    found = estimate(Columns(tools_per_turn=0, tool_delay_s=3.0), FREE, PRICES, calls=100).budgets
    assert sum(found.transport_parts.values()) == pytest.approx(found.transport.mean)
    # 20 + 2 x 30 + 2 x 20 + 2 x 1 + 60
    assert found.transport.mean == pytest.approx(182, rel=0.02)
    # The silence that ends a turn, and the model.
    assert found.reasoning.mean == pytest.approx(500 + 500, rel=0.02)
    assert found.reasoning.p95 > found.reasoning.p50
    with_tools = estimate(Columns(tools_per_turn=0.5, tool_delay_s=3.0), FREE, PRICES, calls=100).budgets
    # Half a tool a turn: its delay, and the model once more.
    assert with_tools.reasoning.mean == pytest.approx(1000 + 0.5 * (3000 + 500), rel=0.04)


def test_an_outage_makes_answers_later_and_handovers() -> None:
    found = estimate(
        Columns(tools_per_turn=0), FREE.model_copy(update={"outage_share": 1.0}), PRICES, calls=100
    )
    assert found.budgets.reasoning_parts["first audio"] == pytest.approx(1200, rel=0.02)
    handover = next(part for part in found.budgets.recovery if part.name == "handover")
    assert handover.per_call == 1.0
    assert found.budgets.recovery_s > 1.0


def test_a_model_without_a_price() -> None:
    with pytest.raises(UnknownPrice, match="nobody-knows"):
        estimate(Columns(), Plan(rungs=("nobody-knows",)), PRICES, calls=1)
    with pytest.raises(UnknownPrice, match="no-voice"):
        estimate(Columns(), Plan(tier_b=TierBEngines(speech="no-voice")), PRICES, calls=1)


def test_more_than_can_be_simulated() -> None:
    with pytest.raises(TooMuch, match="lower calls or call_s, or raise utterance_s"):
        estimate(Columns(call_s=3600, utterance_s=0.1), FREE, PRICES, calls=20_000)
    with pytest.raises(ValueError, match="at least 1 call"):
        estimate(Columns(), FREE, PRICES, calls=0)


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    estimate(EVEN, FREE, PRICES, calls=250, progress=lambda done, calls: told.append((done, calls)))
    assert told == [(0, 250), (100, 250), (200, 250), (250, 250)]


def test_the_plan_of_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CARTESIA_API_KEY", raising=False)
    made = Settings.model_validate(
        {
            "openai": {"api_key": planted.PROVIDER},
            "tier_a": {"rungs": ["gpt-realtime-2.1", "other"], "rung": {"other": {"model": MINI}}},
            "budget": {
                "call_usd": 1.5,
                "expected_minutes": 3,
                "buckets": {"acme": {"usd_per_day": 50, "call_usd": 0.5, "steps": [], "history": "text"}},
            },
        }
    )
    usual = Plan.of_settings(made)
    assert usual.rungs == ("gpt-realtime-2.1", MINI)
    assert (usual.call_usd, usual.day_usd, usual.expected_minutes) == (1.5, None, 3)
    assert usual.policy == made.budget.steps_of("default")
    acme = Plan.of_settings(made, "acme", calls_per_day=7)
    assert (acme.call_usd, acme.day_usd, acme.steps, acme.history) == (0.5, 50, (), "text")
    assert acme.calls_per_day == 7
    # Every engine it names has a price in the same configuration.
    assert estimate(Columns(), acme, made.price_table(), calls=5).calls == 5
