"""Bounds and prices of what Tier B asks for, and the outbox that charges go through."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.price_list import ModelPrice, Published
from orchestrator.protocol.answers import Charge, Charged, TextDelta
from tiers.pipeline.litellm_loading import load
from tiers.pipeline.metering import SpeechMeter, TextPrice, milliseconds, prompt_bound, used_of
from tiers.pipeline.outbox import Outbox

PRICE = Published(ModelPrice(text_in=1, text_cached=0.1, text_out=4, cache_write=1.25), "a list")
CHARGE = Charge("speech", "voice", 5, {"characters": 1})


@given(
    st.integers(0, 10_000),
    st.integers(0, 10_000),
    st.integers(0, 10_000),
    st.integers(0, 5_000),
    st.integers(0, 100),
)
def test_no_use_within_the_bounds_costs_more(sent: int, read: int, stored: int, out: int, spare: int) -> None:
    usage = SimpleNamespace(
        prompt_tokens=sent,
        completion_tokens=out,
        prompt_tokens_details=SimpleNamespace(cached_tokens=read, cache_creation_tokens=stored),
    )
    price = TextPrice("m", PRICE)
    cost, used = price.cost(None, usage)
    assert cost <= price.worst(sent + spare, out + spare)
    assert used["prompt_tokens"] == sent
    estimate, told = price.estimate(sent, out)
    # An estimate takes it that all of the prompt is put into the cache, at $1.25.
    assert estimate == price.worst(sent, out) == 1_250 * sent + 4_000 * out
    assert told.get("priced_by") == ("the dearest rates" if sent else None)


def test_beyond_where_its_rates_hold_a_prompt_may_cost_the_dearest() -> None:
    price = Published(
        ModelPrice(text_in=1, text_out=4), "a list", up_to=100, dearest=ModelPrice(text_in=2, text_out=6)
    )
    assert TextPrice("m", price).worst(100, 10) == 100 * 1_000 + 10 * 4_000
    assert TextPrice("m", price).worst(101, 10) == 101 * 2_000 + 10 * 6_000


@pytest.mark.parametrize(
    "content", ["Where is my order?", "¿Dónde está mi pedido nº 4172?", "我的訂單在哪裡", "🙂🙂🙂"]
)
def test_a_prompt_has_no_more_tokens_than_its_bound(content: str) -> None:
    litellm: Any = load(hosted=True)
    messages = [{"role": "system", "content": "Be kind."}, *[{"role": "user", "content": content}] * 20]
    counted = litellm.token_counter(model="gpt-4o", messages=messages)
    assert counted <= prompt_bound(messages) < 20 * counted


def test_what_litellm_tells_is_told_on() -> None:
    details = SimpleNamespace(cached_tokens=3, cache_creation_tokens=None)
    usage = SimpleNamespace(prompt_tokens=9, completion_tokens=None, prompt_tokens_details=details)
    assert used_of(usage) == {"prompt_tokens": 9, "completion_tokens": 0, "cached_tokens": 3}


@given(st.integers(0, 5_000), st.floats(0.25, 4))
def test_the_worst_speech_is_not_below_any(characters: int, speed: float) -> None:
    engine = SimpleNamespace(rung="voice", price=ModelPrice(per_character=1e-5, per_minute=0.01))
    meter = SpeechMeter(engine)
    text, audio = meter.text(characters), meter.audio(characters / 10)
    spent = sum(charge.nanodollars for charge in (text, audio) if charge)
    assert spent <= meter.worst(characters, speed)


def test_lengths_are_told_in_whole_milliseconds_rounded_up() -> None:
    assert [milliseconds(samples, 24_000) for samples in (0, 1, 24, 25, 36_000)] == [
        0,
        0.001,
        0.001,
        0.002,
        1.5,
    ]


async def test_charges_do_not_wait_behind_what_nobody_takes() -> None:
    outbox = Outbox(ahead=1)
    await outbox.put(TextDelta("one"))
    waiting = asyncio.create_task(outbox.put(TextDelta("two")))
    outbox.charge(CHARGE)
    outbox.charge(None)
    assert [await outbox.get() for _ in range(3)] == [Charged(CHARGE), TextDelta("one"), TextDelta("two")]
    await waiting
    outbox.charge(CHARGE)
    assert outbox.charges() == [CHARGE]
    assert outbox.charges() == []


async def test_a_reader_is_woken_by_a_charge() -> None:
    outbox = Outbox(ahead=1)
    reading = asyncio.create_task(outbox.get())
    await asyncio.sleep(0)
    outbox.charge(CHARGE)
    assert await asyncio.wait_for(reading, 5) == Charged(CHARGE)
