"""Prices: by worked examples, whose arithmetic stands beside them, and by what has to hold for any usage."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.price_list import PUBLISHED
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


def test_every_published_price_has_a_source_and_a_date() -> None:
    for model, published in PUBLISHED.items():
        assert published.source.endswith(f"/{model}")
        assert published.date == "2026-11-23"
        assert not published.price.is_free


# Worked examples


def test_a_call_of_ten_turns_with_caching() -> None:
    """A prompt of 1,000 tokens; each turn the caller talks 5 s (50 tokens) and hears 8 s (160 tokens).

    Each answer is given everything so far; what an answer was given or said before is cached for the next one.
    Before answer n (1 to 10) there are n turns of the caller and n - 1 of the assistant:

        audio in  n * 50 + (n - 1) * 160 = 210 n - 160, of which cached 210 (n - 1) - 160 + 160 = 210 (n - 1)
        new       (210 n - 160) - 210 (n - 1) = 50 tokens, in every turn
        text in   1,000, all of it cached from answer 2 on

    On gpt-realtime-2.1, a million tokens cost $32 (audio in), $0.40 (cached), $64 (audio out), $4 (text in):

        new audio     10 * 50                  =   500 * $32   = $0.016
        cached audio  210 * (0 + 1 + ... + 9)  = 9,450 * $0.40 = $0.00378
        new text                                 1,000 * $4    = $0.004
        cached text   9 * 1,000                = 9,000 * $0.40 = $0.0036
        audio out     10 * 160                 = 1,600 * $64   = $0.1024
                                                                 $0.12978
    """
    total = 0
    for turn in range(1, 11):
        cached = {"audio": 210 * (turn - 1), "text": 1000 if turn > 1 else 0}
        total += price_response(
            MODEL, usage(text_in=1000, audio_in=210 * turn - 160, cached=cached, audio_out=160)
        )
    assert total == 129_780_000
    # Without the cache the same audio is 9,950 tokens * $32 and the text 10,000 * $4: $0.3184 + $0.04 + $0.1024.
    uncached = sum(
        price_response(MODEL, usage(text_in=1000, audio_in=210 * turn - 160, audio_out=160))
        for turn in range(1, 11)
    )
    assert uncached == 460_800_000


def test_characters_spoken_by_cartesia() -> None:
    # "Your order number 4 1 7 2 has been shipped." has 43 characters, of $0.00005 each: $0.00215
    table = PriceTable({"cartesia": ModelPrice(per_character=0.00005)})
    characters = len("Your order number 4 1 7 2 has been shipped.")
    assert (characters, table.speech("cartesia", {"characters": characters})) == (43, 2_150_000)


def test_a_minute_written_down_by_gpt_transcribe() -> None:
    # $0.0045 a minute: 4,500,000 nano-dollars; a second is 75,000
    assert price_transcription("gpt-transcribe", {"type": "duration", "seconds": 60}) == 4_500_000
    assert price_transcription("gpt-transcribe", {"type": "duration", "seconds": 12.5}) == 937_500


def test_an_answer_of_a_text_agent() -> None:
    # 1,200 tokens of prompt, 1,024 of them cached, and 60 of answer, on a model of $0.75, $0.075 and $4.50:
    #   176 * $0.75 + 1,024 * $0.075 + 60 * $4.50 per 1M = $0.000132 + $0.0000768 + $0.00027 = $0.0004788
    table = PriceTable({"m": ModelPrice(text_in=0.75, text_cached=0.075, text_out=4.5)})
    used = {"prompt_tokens": 1200, "cached_tokens": 1024, "completion_tokens": 60}
    assert table.agent("m", used) == 478_800


def test_text_that_is_put_into_a_cache_has_a_rate_of_its_own() -> None:
    # 100 read at $0.10, 200 put there at $1.25, 50 plain at $1, 10 of answer at $5 a million:
    #   $0.00001 + $0.00025 + $0.00005 + $0.00005 = $0.00036
    table = PriceTable({"m": ModelPrice(text_in=1, text_cached=0.1, text_out=5, cache_write=1.25)})
    used = {"prompt_tokens": 350, "cached_tokens": 100, "cache_write_tokens": 200, "completion_tokens": 10}
    assert table.agent("m", used) == 360_000


def test_a_minute_spoken_by_an_engine_of_ones_own() -> None:
    # 7.5 s of a minute at $0.002
    assert PriceTable({"kokoro": ModelPrice(per_minute=0.002)}).speech("kokoro", {"seconds": 7.5}) == 250_000


@pytest.mark.parametrize(
    ("what", "model", "used", "cost"),
    [
        ("response", MODEL, usage(audio_in=58, audio_out=146), 11_200_000),
        ("transcription", "gpt-transcribe", {"type": "duration", "seconds": 20}, 1_500_000),
        ("agent", "m", {"prompt_tokens": 10, "completion_tokens": 1}, 12_000),
        ("speech", "voice", {"characters": 10}, 500_000),
    ],
)
def test_a_charge_is_priced_by_what_it_is_for(what: str, model: str, used: dict[str, Any], cost: int) -> None:
    own = {"m": ModelPrice(text_in=1, text_out=2), "voice": ModelPrice(per_character=0.00005)}
    assert PriceTable(own).charge(what, model, used) == cost


# The worst case


def test_the_worst_response() -> None:
    # 500 text * $4 + 1,000 audio * $32 + 100 image * $5 + 200 out * $64 per 1M = $0.002 + $0.032 + $0.0005 + $0.0128
    assert PriceTable().worst_response(MODEL, 200, Context(500, 1000, 100)) == 47_300_000


counts = st.integers(0, 40_000)


@given(
    st.sampled_from(sorted(name for name, price in PRICES.items() if price.audio_out)),
    st.tuples(counts, counts, counts),
    st.dictionaries(st.sampled_from(["text", "audio", "image"]), counts),
    st.tuples(st.integers(0, 4096), st.integers(0, 4096), st.integers(0, 4096)),
    st.tuples(counts, counts, counts, st.integers(0, 4096)),
    st.booleans(),
)
def test_no_response_within_the_bounds_costs_more_than_the_worst(
    model: str,
    given_to: tuple[int, int, int],
    cached: dict[str, int],
    out: tuple[int, int, int],
    spare: tuple[int, int, int, int],
    told_apart: bool,
) -> None:
    text, audio, image = given_to
    used = usage(
        text_in=text, audio_in=audio, image_in=image, cached=cached, text_out=out[0], audio_out=out[1]
    )
    used["output_tokens"] += out[2]
    if not told_apart:
        used["input_token_details"]["cached_tokens_details"] = None
    table = PriceTable()
    bounds = Context(text + spare[0], audio + spare[1], image + spare[2])
    worst = table.worst_response(model, sum(out) + spare[3], bounds)
    assert table.response(model, used) <= worst


@given(
    st.sampled_from(sorted(name for name, price in PRICES.items() if not price.audio_out)),
    st.floats(0, 600),
    st.floats(0, 1),
    st.integers(0, 256),
)
def test_no_transcript_costs_more_than_the_worst(
    model: str, seconds: float, quickness: float, prompt: int
) -> None:
    table = PriceTable()
    worst = table.worst_transcription(model, seconds)
    assert table.transcription(model, {"type": "duration", "seconds": seconds}) <= worst
    # Some providers bill whole seconds.
    assert table.transcription(model, {"type": "duration", "seconds": ceil(seconds)}) <= worst
    heard = ceil(seconds * 10)
    by_token = {
        "type": "tokens",
        "input_tokens": heard + prompt,
        "input_token_details": {"audio_tokens": heard, "text_tokens": prompt},
        "output_tokens": int(seconds * 10 * quickness),
    }
    assert table.transcription(model, by_token) <= worst


@given(st.floats(0, 3600), st.sampled_from(["gpt-transcribe", "gpt-live-transcribe", "whisper-1"]))
def test_seconds_are_billed_exactly(seconds: float, model: str) -> None:
    # To the microsecond, and rounded up once.
    exact = Fraction(round(seconds * 10**6), 60 * 10**6) * Fraction(str(PRICES[model].per_minute)) * 10**9
    assert PriceTable().transcribed_seconds(model, seconds) == ceil(exact)


def test_a_model_billed_by_token_costs_something_by_duration_too() -> None:
    # 10 tokens a second at $6 a million
    table = PriceTable({"ears": ModelPrice(audio_in=6, text_out=1)})
    assert table.transcription("ears", {"type": "duration", "seconds": 10}) == 600_000
