"""What the realtime simulator bills: audio by the clock, text by its length, the conversation again each time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from orchestrator.protocol.audio import AudioFormat
from orchestrator.simulate.conversation import Item
from orchestrator.simulate.usage import prompt, transcription, usage
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
    assert details["cached_tokens"] == first["input_tokens"]
    assert details["cached_tokens_details"] == {"text_tokens": 100, "audio_tokens": 20, "image_tokens": 0}
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
    items = [Item({**text_item("x" * 40), "id": name}) for name in "abc"]
    before = prompt("", [], items)
    items[1].revision += 1
    bill = usage(prompt("", [], items), before, 0, 0)
    assert bill["input_token_details"]["text_tokens"] == 30
    assert bill["input_token_details"]["cached_tokens"] == 10
