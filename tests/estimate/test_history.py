"""What the estimate has a provider bill, held against the simulated provider, which bills item by item."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.prices import PriceTable
from orchestrator.estimate.columns import Columns, Plan
from orchestrator.estimate.history import CACHE_BLOCK, History, Tokens
from tests.estimate.invented import Provider

RUNG = "gpt-realtime-2.1"
NOTHING = Columns(prompt_tokens=740, tool_tokens=0, text_per_s=0, cache_output=0)


def history(columns: Columns = NOTHING, **plan: object) -> History:
    made = History(columns, Plan.model_validate(plan))
    made.serve(RUNG)
    return made


def inputs(tokens: Tokens) -> tuple[int, int, int, int]:
    return tokens.text_fresh, tokens.text_cached, tokens.audio_fresh, tokens.audio_cached


def test_three_turns_by_hand() -> None:
    """740 tokens of prompt; the caller talks 6 s (60 tokens) a turn, the assistant 10 s (200)."""
    told = history()
    found = []
    for _ in range(3):
        told.hear(6.0)
        found.append(inputs(told.input()))
        told.say(10.0, cut=False)
    # Second response: the prefix is the first one's input, 740 + 60 = 800 tokens, of which 12 blocks of 64 are cached:
    # 768, 740 of them text. Third: 740 + 320 = 1060, in blocks 1024.
    assert found == [(740, 0, 60, 0), (0, 740, 292, 28), (0, 740, 296, 284)]


def test_answers_are_cached_too_where_the_provider_does_that() -> None:
    told = history(NOTHING.model_copy(update={"cache_output": 1.0}))
    told.hear(6.0)
    told.input()
    told.say(10.0, cut=False)
    told.hear(6.0)
    # The prefix now has the answer: 1000 tokens, in blocks 960.
    assert inputs(told.input()) == (0, 740, 100, 220)


def test_an_answer_cut_off_is_not_found_in_the_cache() -> None:
    told = history(NOTHING.model_copy(update={"cache_output": 1.0}))
    told.hear(6.0)
    told.input()
    told.say(10.0, cut=True)
    told.hear(6.0)
    assert inputs(told.input()) == (0, 740, 292, 28)


@given(
    st.lists(
        st.tuples(st.integers(1, 300) | st.integers(64, 300), st.integers(0, 400), st.integers(0, 2)),
        min_size=1,
        max_size=12,
    ),
    st.integers(64, 3000),
)
def test_as_the_simulated_provider_bills(turns: list[tuple[int, int, int]], prompt: int) -> None:
    told = history(NOTHING.model_copy(update={"prompt_tokens": prompt}))
    provider = Provider(random.Random(0))
    provider.parts[0] = type(provider.parts[0])(("prompt", 0), text=prompt)
    prices = PriceTable()
    # Shorter than a block, talk may stand amid text in the last one, whose order is not kept in the estimate.
    off = 0 if min(heard for heard, _, _ in turns) >= CACHE_BLOCK else CACHE_BLOCK * (32 - 4) * 1000
    for heard, spoken, tools in turns:
        told.hear(heard / 10)
        provider.add(audio=heard)
        for _ in range(tools):
            call = told.input()
            call.text_out = 30
            assert_same(prices, call, provider.respond(30, 0), off)
            told.write(150)
            provider.add(text=150)
        answer = told.input()
        answer.audio_out = spoken
        assert_same(prices, answer, provider.respond(0, spoken), off)
        told.say(spoken / 20, cut=False)
        provider.add(audio=spoken)


def assert_same(prices: PriceTable, ours: Tokens, theirs: dict[str, object], off: int) -> None:
    mine = ours.usage()
    for key in ("input_tokens", "output_tokens"):
        assert mine[key] == theirs[key]
    details = theirs["input_token_details"]
    assert isinstance(details, dict)
    for key in ("text_tokens", "audio_tokens", "cached_tokens"):
        assert mine["input_token_details"][key] == details[key]
    assert abs(prices.response(RUNG, mine) - prices.response(RUNG, theirs)) <= off


def test_retention_cuts_once_and_leaves_room() -> None:
    told = history(history="retention", history_tokens=1000, retention_ratio=0.5)
    behind, cached = [], []
    for _ in range(12):
        told.hear(6.0)
        taken = told.input()
        behind.append(told.text + told.audio - 740)
        cached.append(taken.text_cached + taken.audio_cached)
        told.say(10.0, cut=False)
    # 60, 320, 580, 840, then 1100 is too much: 500 are left, and the cache holds no more than the prompt.
    assert behind[:6] == [60, 320, 580, 840, 500, 760]
    assert cached[4] == 704
    assert cached[5] == (740 + 500) // 64 * 64
    assert max(behind) <= 1000


def test_a_long_history_is_told_again_as_text() -> None:
    columns = NOTHING.model_copy(update={"text_per_s": 3.0, "text_kept": 1.0})
    told = history(columns, history="text", history_tokens=1000)
    for _ in range(4):
        told.hear(10.0)
        told.input()
        told.say(10.0, cut=False)
    assert (told.text, told.audio) == (740 + 4 * 30, 4 * 300)
    told.hear(10.0)
    # 80 s of talk at 3 tokens a second are 240 tokens of text; nothing of it is cached.
    assert inputs(told.input()) == (740 + 240, 0, 100, 0)


def test_another_rung_is_told_everything_as_text() -> None:
    told = history(NOTHING.model_copy(update={"text_per_s": 3.0}))
    told.hear(10.0)
    told.input()
    told.say(20.0, cut=False)
    told.serve("gpt-realtime-2.1-mini")
    told.hear(5.0)
    assert inputs(told.input()) == (740 + 90, 0, 50, 0)
    assert told.words == 740 + 105


def test_the_oldest_goes_when_the_window_is_full() -> None:
    told = History(NOTHING, Plan())
    told.serve("gpt-realtime")
    for _ in range(200):
        told.hear(10.0)
        told.say(10.0, cut=False)
        told.hear(0.0)
        assert told.text + told.audio <= 32_000 - 4_096
    assert told.text + told.audio == 32_000 - 4_096
