"""What the realtime simulator bills: audio by the clock, text by its length, the conversation again each time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.protocol.audio import AudioFormat
from orchestrator.simulate.conversation import Item
from orchestrator.simulate.faults import BILLING, CATALOGUE, BillFault
from orchestrator.simulate.truncation import dropped_of, input_limit
from orchestrator.simulate.usage import CACHE_BLOCK, Part, cached, prompt, transcription, usage
from orchestrator.simulate.voices import tone
from tests.simulate.simulated import Bench, Client, text_item

Start = Callable[..., Awaitable[Bench]]


async def answer(client: Client, **response: Any) -> dict[str, Any]:
    await client.send("response.create", response=response)
    done: dict[str, Any] = (await client.until("response.done"))["response"]
    return done


async def speak(client: Client, seconds: float) -> None:
    await client.say(tone(seconds, AudioFormat.PCM))
    await client.send("input_audio_buffer.commit")
    await client.until("conversation.item.done")


async def test_audio_is_billed_by_the_clock(start: Start) -> None:
    """5.85 s in are 58 tokens, 7.3 s out are 146, as captured from the provider."""
    bench = await start(answer_seconds=7.3, pace=1000)
    client = await bench.connect(audio={"input": {"turn_detection": None}})
    await speak(client, 5.85)
    bill = (await answer(client))["usage"]
    assert bill["input_token_details"]["audio_tokens"] == 58
    assert bill["output_token_details"]["audio_tokens"] == 146


async def test_the_whole_conversation_is_billed_again_and_its_prefix_is_cached(bench: Bench) -> None:
    client = await bench.connect(instructions="i" * 400, audio={"input": {"turn_detection": None}})
    await speak(client, 2.0)
    first = (await answer(client))["usage"]
    assert first["input_token_details"]["cached_tokens"] == 0
    assert first["input_token_details"]["text_tokens"] == 100
    assert first["input_token_details"]["audio_tokens"] == 20
    await speak(client, 3.0)
    second = (await answer(client))["usage"]
    details = second["input_token_details"]
    assert details["audio_tokens"] == 20 + 20 + 30
    # 120 tokens are the same as before, and only whole blocks of 64 are cached.
    assert first["input_tokens"] == 120
    assert details["cached_tokens"] == 64
    assert details["cached_tokens_details"] == {"text_tokens": 64, "audio_tokens": 0, "image_tokens": 0}
    assert second["total_tokens"] == second["input_tokens"] + second["output_tokens"]


async def test_changed_instructions_lose_the_cache(bench: Bench) -> None:
    client = await bench.connect(instructions="One.", audio={"input": {"turn_detection": None}})
    await speak(client, 2.0)
    await answer(client)
    assert (await answer(client, instructions="Two."))["usage"]["input_token_details"]["cached_tokens"] == 0


async def test_truncated_audio_is_not_billed_again(bench: Bench) -> None:
    client = await bench.connect(audio={"input": {"turn_detection": None}})
    item_id = (await answer(client))["output"][0]["id"]
    await client.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=500)
    await client.until("conversation.item.truncated")
    assert (await answer(client))["usage"]["input_token_details"]["audio_tokens"] == 10


async def test_max_output_tokens_cuts_the_answer(bench: Bench) -> None:
    client = await bench.connect()
    await client.create(text_item("Tell me something."))
    whole = await answer(client)
    cut = await answer(client, max_output_tokens=20)
    assert whole["status"] == "completed"
    assert (cut["status"], cut["status_details"]) == (
        "incomplete",
        {"type": "incomplete", "reason": "max_output_tokens"},
    )
    assert 0 < cut["usage"]["output_tokens"] <= 20 < whole["usage"]["output_tokens"]
    assert cut["output"][0]["status"] == "incomplete"


@pytest.mark.parametrize("model", ["gpt-4o-transcribe", "whisper-1"])
def test_transcription_is_billed_by_tokens_or_by_time(model: str) -> None:
    bill = transcription(model, 2500, "Hello there.")
    if model == "whisper-1":
        assert bill == {"type": "duration", "seconds": 2.5}
    else:
        assert (bill["input_tokens"], bill["output_tokens"], bill["total_tokens"]) == (25, 3, 28)


def test_a_changed_item_ends_the_cached_prefix() -> None:
    items = [Item({**text_item("x" * 400), "id": name}) for name in "abc"]
    before = prompt("", [], items)
    items[1].revision += 1
    bill = usage(prompt("", [], items), before, 0, 0)
    assert bill["input_token_details"]["text_tokens"] == 300
    assert bill["input_token_details"]["cached_tokens"] == 64


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=8), st.integers(0, 8))
def test_the_cache_is_whole_blocks_of_the_common_prefix(sizes: list[tuple[int, int]], common: int) -> None:
    before = [Part((str(index), 0), text, audio) for index, (text, audio) in enumerate(sizes)]
    changed = [Part((f"new {part.key[0]}", 0), part.text, part.audio) for part in before[common:]]
    text, audio = cached([*before[:common], *changed], before)
    prefix = before[:common]
    assert (text + audio) % CACHE_BLOCK == 0
    assert 0 <= sum(part.text + part.audio for part in prefix) - text - audio < CACHE_BLOCK
    assert text <= sum(part.text for part in prefix)
    assert audio <= sum(part.audio for part in prefix)


# -- truncation ------------------------------------------------------------------------------------


def retention(ratio: float, limit: int | None = None) -> dict[str, Any]:
    limits = {} if limit is None else {"token_limits": {"post_instructions": limit}}
    return {"type": "retention_ratio", "retention_ratio": ratio, **limits}


async def said(client: Client, characters: int) -> dict[str, Any]:
    """Give it an item of so many characters and let it answer in text; the usage of that."""
    await client.create(text_item("x" * characters))
    done = await answer(client, output_modalities=["text"], max_output_tokens=20)
    bill: dict[str, Any] = done["usage"]
    return bill


async def test_retention_drops_the_oldest_items_down_to_its_share_of_the_limit(bench: Bench) -> None:
    client = await bench.connect(instructions="i" * 800, truncation=retention(0.5, 1000))
    first = await said(client, 2000)
    assert first["input_tokens"] == 200 + 500
    second = await said(client, 2000)
    assert second["input_tokens"] == 200 + 500, "500, the answer and 500 pass 1000; 500 or less are kept"
    assert second["input_token_details"]["cached_tokens"] == 192, "of the instructions alone"


async def test_what_was_dropped_stays_dropped_and_is_cached_as_it_is_then(bench: Bench) -> None:
    client = await bench.connect(instructions="i" * 800, truncation=retention(0.8, 1000))
    await said(client, 2000)
    truncated = await said(client, 2000)
    after = await said(client, 40)
    assert after["input_tokens"] == truncated["input_tokens"] + truncated["output_tokens"] + 10
    cached_tokens = after["input_token_details"]["cached_tokens"]
    assert cached_tokens == truncated["input_tokens"] - truncated["input_tokens"] % CACHE_BLOCK
    assert len(bench.state()["connections"][0]["session"]["items"]) == 6, "the client may still name them"


async def test_by_default_nothing_is_dropped_before_the_window_is_full(bench: Bench) -> None:
    client = await bench.connect(instructions="")
    bills = [await said(client, 4000) for _ in range(3)]
    assert [bill["input_tokens"] // 1000 for bill in bills] == [1, 2, 3]


@pytest.mark.parametrize(
    ("settings", "dropped"),
    [
        ("auto", 1),
        (retention(1.0), 1),
        (retention(0.5), 6),
        (retention(0.5, 10**6), 6),
        (retention(0.5, 20_000), 7),
        (retention(0.0, 20_000), 9),
    ],
    ids=str,
)
def test_the_window_is_the_limit_where_none_is_given(settings: Any, dropped: int) -> None:
    """Ten items of 2,800 tokens and 952 of instructions; 32,000 less an answer of 4,096 fit this model."""
    assert input_limit("gpt-realtime-mini") == 27_904
    parts = [Part(("", 0), text=952), Part(("", 0)), *[Part((str(n), 0), audio=2_800) for n in range(10)]]
    assert dropped_of(parts, settings, "gpt-realtime-mini") == dropped
    assert dropped_of(parts, "auto", "gpt-realtime-2.1") == 0


async def test_a_conversation_that_must_not_be_truncated_is_refused(start: Start) -> None:
    bench = await start()
    client = await bench.connect(instructions="", truncation="disabled")
    await client.create(text_item("x" * 400_000))
    error = await client.refused("response.create")
    assert error["code"] == "context_length_exceeded"
    assert "100000 tokens after the instructions, and 96000 fit" in error["message"]


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        (retention(1.5), "session.truncation.retention_ratio"),
        (retention(0.5, -1), "session.truncation.token_limits.post_instructions"),
        ({"type": "retention_ratio"}, "session.truncation.retention_ratio"),
    ],
)
async def test_impossible_truncations_are_refused(bench: Bench, settings: dict[str, Any], param: str) -> None:
    client = await bench.connect()
    error = await client.refused("session.update", session={"type": "realtime", "truncation": settings})
    assert error["param"] == param


# -- bills that do not come ------------------------------------------------------------------------


async def test_a_response_without_usage(bench: Bench) -> None:
    bench.arm("no_usage")
    client = await bench.connect()
    await client.create(text_item("Tell me something."))
    assert ((await answer(client))["usage"], (await answer(client))["usage"] is None) == (None, False)


async def test_a_response_whose_end_is_never_told(bench: Bench) -> None:
    bench.arm("no_done")
    client = await bench.connect()
    await client.create(text_item("Tell me something."))
    await client.send("response.create")
    await client.until("response.output_item.done")
    lost = client.of("response.created")[0]["response"]["id"]
    done = await answer(client)
    assert done["id"] != lost, "the next one is taken"
    assert [event["response"]["id"] for event in client.of("response.done")] == [done["id"]]


async def test_a_failed_response_costs_nothing_and_uses_up_no_fault_of_the_bill(bench: Bench) -> None:
    bench.arm("no_usage")
    bench.arm("failed")
    client = await bench.connect()
    await client.create(text_item("Tell me something."))
    assert (await answer(client))["usage"]["total_tokens"] == 0
    assert (await answer(client))["usage"] is None


def test_faults_of_the_bill_are_no_cells_of_a_failover() -> None:
    assert set(BILLING) == set(BillFault)
    assert not set(BILLING) & set(CATALOGUE)
