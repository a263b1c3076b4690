"""Prices by worked examples, and budgets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.budget import BudgetState, CallBudget
from orchestrator.core.prices import (
    PRICES,
    Context,
    ModelPrice,
    PriceTable,
    UnknownPrice,
    nanodollars,
    price_response,
    price_transcription,
)

MODEL = "gpt-realtime-2.1"


def usage(
    *,
    text_in: int = 0,
    audio_in: int = 0,
    image_in: int = 0,
    cached: dict[str, int] | None = None,
    text_out: int = 0,
    audio_out: int = 0,
) -> dict[str, Any]:
    cached = cached or {}
    return {
        "total_tokens": text_in + audio_in + image_in + text_out + audio_out,
        "input_tokens": text_in + audio_in + image_in,
        "output_tokens": text_out + audio_out,
        "input_token_details": {
            "text_tokens": text_in,
            "audio_tokens": audio_in,
            "image_tokens": image_in,
            "cached_tokens": sum(cached.values()),
            "cached_tokens_details": {f"{kind}_tokens": n for kind, n in cached.items()},
        },
        "output_token_details": {"text_tokens": text_out, "audio_tokens": audio_out},
    }


def test_a_short_question_and_its_answer() -> None:
    # 5.85 s heard = 58 tokens, 7.30 s spoken = 146 tokens, on gpt-realtime-2.1:
    #   58 * $32 / 1M  = $0.001856 =  1_856_000 nano-dollars
    #  146 * $64 / 1M  = $0.009344 =  9_344_000
    #                    $0.011200 = 11_200_000
    assert price_response(MODEL, usage(audio_in=58, audio_out=146)) == 11_200_000


def test_the_same_on_the_smaller_model() -> None:
    # 58 * $10 / 1M + 146 * $20 / 1M = $0.00058 + $0.00292 = $0.0035
    assert price_response("gpt-realtime-2.1-mini", usage(audio_in=58, audio_out=146)) == 3_500_000


def test_cached_tokens_are_part_of_the_input_not_added_to_it() -> None:
    # text: (1000 - 600) * $4 + 600 * $0.40 per 1M = $0.0016 + $0.00024
    # audio: (500 - 100) * $32 + 100 * $0.40       = $0.0128 + $0.00004
    # out: 40 text * $24 + 200 audio * $64         = $0.00096 + $0.0128      together $0.02844
    given = usage(text_in=1000, audio_in=500, cached={"text": 600, "audio": 100}, text_out=40, audio_out=200)
    assert price_response(MODEL, given) == 28_440_000


def test_images_have_rates_of_their_own() -> None:
    # (300 - 100) * $5 + 100 * $0.50 per 1M = $0.00105
    assert price_response(MODEL, usage(image_in=300, cached={"image": 100})) == 1_050_000


def test_cached_tokens_of_no_told_modality_save_the_least_they_can() -> None:
    given = usage(text_in=100, audio_in=100)
    given["input_token_details"]["cached_tokens"] = 50
    given["input_token_details"]["cached_tokens_details"] = None
    # 50 text * $4 + 50 text * $0.40 + 100 audio * $32 per 1M
    assert price_response(MODEL, given) == 200_000 + 20_000 + 3_200_000


def test_tokens_without_details_cost_the_dearest_rate() -> None:
    assert price_response(MODEL, {"input_tokens": 10, "output_tokens": 10}) == 10 * 32_000 + 10 * 64_000


@pytest.mark.parametrize(
    "empty", [{}, {"input_tokens": 0}, {"input_token_details": None, "output_tokens": None}]
)
def test_no_usage_costs_nothing(empty: dict[str, Any]) -> None:
    assert price_response(MODEL, empty) == 0


def test_a_fraction_is_rounded_up_once_at_the_end() -> None:
    # $0.0001 per 1M tokens is 0.1 nano-dollars each: 11 in and 11 out are 2.2, so 3, and not 2 + 2.
    table = PriceTable({"m": ModelPrice(text_in=0.0001, text_out=0.0001)})
    assert table.response("m", usage(text_in=11, text_out=11)) == 3


@given(
    st.builds(
        usage,
        text_in=st.integers(0, 50_000),
        audio_in=st.integers(0, 50_000),
        text_out=st.integers(0, 5_000),
        audio_out=st.integers(0, 5_000),
        cached=st.fixed_dictionaries({"text": st.integers(0, 60_000), "audio": st.integers(0, 60_000)}),
    ),
    st.sampled_from(sorted(name for name, price in PRICES.items() if price.audio_out)),
)
def test_a_price_is_between_all_cached_and_none_cached(given: dict[str, Any], model: str) -> None:
    table, price = PriceTable(), PRICES[model]
    details = given["input_token_details"]
    fresh = {**given, "input_token_details": {**details, "cached_tokens": 0, "cached_tokens_details": {}}}
    cost = table.response(model, given)
    assert cost <= table.response(model, fresh)
    out = given["output_token_details"]
    floor = (
        details["text_tokens"] * price.text_cached
        + details["audio_tokens"] * price.audio_cached
        + out["text_tokens"] * price.text_out
        + out["audio_tokens"] * price.audio_out
    )
    assert cost >= int(floor * 1000) - 1


def test_the_worst_response_is_not_below_any_other() -> None:
    table = PriceTable()
    worst = table.worst_response(MODEL, 4096, Context(audio_tokens=2000))
    assert worst == 2000 * 32_000 + 4096 * 64_000
    assert table.response(MODEL, usage(audio_in=1500, text_in=500, audio_out=4000, text_out=96)) < worst


def test_a_minute_of_conversation() -> None:
    # 30 s heard: 300 tokens * $32 / 1M = $0.0096; 30 s spoken: 600 * $64 / 1M = $0.0384
    assert PriceTable().usd_per_minute(MODEL) == pytest.approx(0.048)


def test_a_transcript_by_duration() -> None:
    # 20 s of a minute at $0.0045
    assert price_transcription("gpt-transcribe", {"type": "duration", "seconds": 20}) == 1_500_000


def test_a_transcript_by_tokens_where_the_model_has_token_rates() -> None:
    # 58 audio * $2.50 + 10 text * $2.50 + 14 out * $10 per 1M = $0.000145 + $0.000025 + $0.00014
    given = {
        "type": "tokens",
        "input_tokens": 68,
        "input_token_details": {"audio_tokens": 58, "text_tokens": 10},
        "output_tokens": 14,
    }
    assert price_transcription("gpt-4o-transcribe", given) == 310_000


def test_a_transcript_by_tokens_where_the_model_is_billed_by_the_minute() -> None:
    # 200 audio tokens are 20 s
    given = {
        "type": "tokens",
        "input_tokens": 210,
        "input_token_details": {"audio_tokens": 200, "text_tokens": 10},
        "output_tokens": 14,
    }
    assert price_transcription("gpt-transcribe", given) == 1_500_000


def test_a_transcript_whose_usage_never_came() -> None:
    assert PriceTable().transcribed_seconds("gpt-transcribe", 20.0) == 1_500_000


def test_an_unknown_model_is_an_error_that_names_the_setting() -> None:
    with pytest.raises(UnknownPrice, match=r'\[prices\."gpt-next"\]'):
        price_response("gpt-next", usage(audio_in=1))


def test_dollars_become_nanodollars() -> None:
    assert nanodollars(2.0) == 2_000_000_000
    assert nanodollars(0.1) == 100_000_000


def test_a_call_spends_to_its_cap() -> None:
    budget = CallBudget(cap=100)
    budget.spend(60)
    assert (budget.remaining, budget.exhausted) == (40, False)
    budget.spend(40)
    assert (budget.remaining, budget.exhausted) == (0, True)
    budget.spend(5)
    assert (budget.spent, budget.remaining) == (105, 0)


def test_a_reservation_holds_money_until_it_is_settled() -> None:
    budget = CallBudget(cap=100, spent=30)
    assert budget.reserve(60)
    assert not budget.reserve(20)
    assert budget.remaining == 10
    budget.settle(60, 25)
    assert (budget.spent, budget.reserved, budget.remaining) == (55, 0, 45)


def test_without_a_cap_nothing_runs_out() -> None:
    budget = CallBudget(cap=None)
    budget.spend(10**15)
    assert budget.reserve(10**15)
    assert (budget.remaining, budget.exhausted) == (None, False)


@pytest.mark.parametrize("act", [CallBudget.spend, CallBudget.reserve])
def test_negative_amounts_are_refused(act: Any) -> None:
    with pytest.raises(ValueError, match="0 or more nano-dollars, not -1"):
        act(CallBudget(cap=None), -1)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50))))
def test_no_more_is_ever_reserved_than_there_is(steps: list[tuple[int, int]]) -> None:
    budget = CallBudget(cap=100)
    for wanted, cost in steps:
        if budget.reserve(wanted):
            assert budget.spent + budget.reserved <= 100
            budget.settle(wanted, min(wanted, cost))
    assert budget.spent <= 100
    assert budget.reserved == 0


@pytest.mark.parametrize(
    ("state", "who"),
    [
        (BudgetState(), None),
        (BudgetState(call_spent=5, call_cap=6), None),
        (BudgetState(call_spent=6, call_cap=6), "call"),
        (BudgetState(bucket_spent=9, bucket_cap=8), "bucket"),
        (BudgetState(call_spent=10**12, bucket_spent=10**12), None),
        (BudgetState(call_spent=0, call_cap=0), "call"),
    ],
)
def test_which_budget_is_spent_up(state: BudgetState, who: str | None) -> None:
    assert state.short_of(0) == who
