"""The order of the realtime simulator's events, against golden sequences written from the protocol's facts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest

from orchestrator.protocol.audio import AudioFormat
from orchestrator.simulate.voices import Piece
from tests.simulate.simulated import ORDER_TOOL, Bench, Client, check_golden, speech, text_item

Start = Callable[..., Awaitable[Bench]]
FORMATS = {
    AudioFormat.PCM: {"type": "audio/pcm", "rate": 24000},
    AudioFormat.PCMU: {"type": "audio/pcmu"},
    AudioFormat.PCMA: {"type": "audio/pcma"},
}


async def turn(client: Client, fmt: AudioFormat = AudioFormat.PCM) -> dict[str, Any]:
    """Speak once and take the whole answer; gives the response."""
    client.events.clear()
    await client.say(speech(fmt=fmt), fmt=fmt)
    response: dict[str, Any] = (await client.until("response.done"))["response"]
    return response


@pytest.mark.parametrize("fmt", list(AudioFormat))
@pytest.mark.parametrize("detection", ["server_vad", "semantic_vad"])
async def test_voice_turn(start: Start, fmt: AudioFormat, detection: str) -> None:
    bench = await start(answer_seconds=0.7)
    formats = {"format": FORMATS[fmt]}
    listening = {**formats, "turn_detection": {"type": detection}}
    client = await bench.connect(audio={"input": listening, "output": formats})
    response = await turn(client, fmt) if detection == "server_vad" else await slow_turn(client, fmt)
    check_golden("voice_turn", client.events)
    assert response["status"] == "completed"
    assert client.audio_ms(fmt) == 700


async def slow_turn(client: Client, fmt: AudioFormat) -> dict[str, Any]:
    client.events.clear()
    await client.say(speech(fmt=fmt, silence_ms=1000), fmt=fmt)
    response: dict[str, Any] = (await client.until("response.done"))["response"]
    return response


async def test_deltas_are_at_most_200_ms_and_carry_the_transcript_between_them(bench: Bench) -> None:
    client = await bench.connect()
    response = await turn(client)
    sizes = [
        len(event["delta"]) * 3 // 4 / AudioFormat.PCM.bytes_per_ms
        for event in client.of("response.output_audio.delta")
    ]
    assert max(sizes) <= 200
    assert min(sizes) >= 100
    kinds = [event["type"].split(".")[1] for event in client.events if event["type"].endswith(".delta")]
    assert kinds.count("output_audio_transcript") > 1
    assert kinds != sorted(kinds)
    words = "".join(event["delta"] for event in client.of("response.output_audio_transcript.delta"))
    assert words == response["output"][0]["content"][0]["transcript"]
    assert "Hello, can you hear me?" in words


async def test_transcription_arrives_when_the_session_asks_for_it(bench: Bench) -> None:
    client = await bench.connect(audio={"input": {"transcription": {"model": "gpt-4o-transcribe"}}})
    await turn(client)
    kind = "conversation.item.input_audio_transcription"
    while not client.of(f"{kind}.completed"):
        await client.next()
    completed = client.of(f"{kind}.completed")[0]
    assert completed["transcript"] == "Hello, can you hear me?"
    assert "".join(event["delta"] for event in client.of(f"{kind}.delta")) == completed["transcript"]
    assert completed["item_id"] == client.of("input_audio_buffer.committed")[0]["item_id"]
    assert completed["usage"]["type"] == "tokens"
    check_golden("voice_turn", client.events)


async def test_no_transcription_without_it(bench: Bench) -> None:
    client = await bench.connect()
    await turn(client)
    await client.settle()
    assert not [event for event in client.events if "transcription" in event["type"]]


async def test_speech_item_is_announced_before_it_exists_and_is_the_same_throughout(bench: Bench) -> None:
    client = await bench.connect()
    await turn(client)
    ids = {event["item_id"] for event in client.events if event["type"].startswith("input_audio_buffer.")}
    item = client.of("conversation.item.added")[0]["item"]
    assert ids == {item["id"]}
    assert item["content"] == [{"type": "input_audio", "transcript": None}]


async def test_barge_in_closes_the_answer_and_the_next_one_follows(start: Start) -> None:
    bench = await start(answer_seconds=1.5, pace=3)
    client = await bench.connect()
    client.events.clear()
    await client.say(speech())
    await client.until("response.output_audio.delta")
    await client.say(speech())
    cancelled = (await client.until("response.done"))["response"]
    assert cancelled["status"] == "cancelled"
    assert cancelled["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    assert cancelled["output"][0]["status"] == "incomplete"
    assert (await client.until("response.done"))["response"]["status"] == "completed"
    check_golden("barge_in", client.events)


async def test_without_interrupt_response_the_answer_goes_on(start: Start) -> None:
    bench = await start(answer_seconds=3, pace=20)
    detection = {"type": "server_vad", "interrupt_response": False, "create_response": False}
    client = await bench.connect(audio={"input": {"turn_detection": detection}})
    await client.send("response.create")
    await client.until("response.output_audio.delta")
    await client.say(speech())
    assert (await client.until("response.done"))["response"]["status"] == "completed"
    assert client.of("input_audio_buffer.speech_started")
    assert len(client.of("response.created")) == 1


async def test_function_call_and_its_result(start: Start) -> None:
    bench = await start(heard=("Where is my order four one seven two?",))
    client = await bench.connect(tools=[ORDER_TOOL], audio={"input": {"turn_detection": None}})
    await client.say(speech())
    await client.send("input_audio_buffer.commit")
    await client.until("conversation.item.done")
    client.events.clear()
    await client.send("response.create")
    response = (await client.until("response.done"))["response"]
    check_golden("function_call", client.events)
    done = client.of("response.function_call_arguments.done")[0]
    assert (done["name"], json.loads(done["arguments"])) == ("get_order_status", {"order_id": "4172"})
    assert (
        "".join(event["delta"] for event in client.of("response.function_call_arguments.delta"))
        == done["arguments"]
    )
    call = response["output"][0]
    assert (call["call_id"], call["arguments"], call["status"]) == (
        done["call_id"],
        done["arguments"],
        "completed",
    )

    output = json.dumps({"order_id": "4172", "status": "on its way"})
    await client.create({"type": "function_call_output", "call_id": done["call_id"], "output": output})
    await client.send("response.create")
    said = (await client.until("response.done"))["response"]["output"][0]["content"][0]["transcript"]
    assert said.startswith("Order 4 1 7 2 is on its way.")


async def test_manual_turn_answered_in_text(bench: Bench) -> None:
    client = await bench.connect(output_modalities=["text"], audio={"input": {"turn_detection": None}})
    client.events.clear()
    await client.say(speech())
    await client.send("input_audio_buffer.commit")
    await client.send("response.create")
    response = (await client.until("response.done"))["response"]
    check_golden("manual_text_turn", client.events)
    content = response["output"][0]["content"]
    assert content == [{"type": "output_text", "text": client.of("response.output_text.done")[0]["text"]}]
    assert response["usage"]["output_token_details"]["audio_tokens"] == 0


async def test_out_of_band_response_leaves_the_conversation_alone(bench: Bench) -> None:
    client = await bench.connect()
    client.events.clear()
    request = {"conversation": "none", "metadata": {"purpose": "summary"}, "input": [text_item("Sum it up.")]}
    await client.send("response.create", response=request)
    response = (await client.until("response.done"))["response"]
    check_golden("out_of_band", client.events)
    assert response["conversation_id"] is None
    assert response["metadata"] == {"purpose": "summary"}
    assert "Sum it up." in response["output"][0]["content"][0]["transcript"]
    assert bench.state()["connections"][0]["session"]["items"] == []


async def test_out_of_band_responses_run_beside_the_default_one(start: Start) -> None:
    bench = await start(answer_seconds=30)
    client = await bench.connect()
    await client.send("response.create")
    await client.send("response.create", response={"conversation": "none", "output_modalities": ["text"]})
    assert (await client.until("response.done"))["response"]["conversation_id"] is None
    error = await client.refused("response.create")
    assert error["code"] == "conversation_already_has_active_response"


async def test_out_of_band_input_may_refer_to_items(bench: Bench) -> None:
    client = await bench.connect()
    item = await client.create(text_item("I like tulips."))
    request = {"conversation": "none", "input": [{"type": "item_reference", "id": item["id"]}]}
    await client.send("response.create", response=request)
    said = (await client.until("response.done"))["response"]["output"][0]["content"][0]["transcript"]
    assert "I like tulips." in said


async def test_idle_timeout_prompts_the_caller(bench: Bench) -> None:
    detection = {"type": "server_vad", "idle_timeout_ms": 50}
    client = await bench.connect(audio={"input": {"turn_detection": detection}})
    await turn(client)
    client.events.clear()
    await client.until("response.done")
    assert client.events.pop(0)["type"] == "rate_limits.updated"
    check_golden("idle_timeout", client.events)


async def test_rate_limits_are_told(bench: Bench) -> None:
    client = await bench.connect()
    await turn(client)
    limits = (await client.until("rate_limits.updated"))["rate_limits"]
    assert [limit["name"] for limit in limits] == ["tokens"]
    assert limits[0]["remaining"] < limits[0]["limit"]


async def test_cancel_and_cancel_again(start: Start) -> None:
    bench = await start(answer_seconds=60)
    client = await bench.connect()
    await client.send("response.create", response={"metadata": {"turn": "7"}})
    created = (await client.until("response.created"))["response"]
    assert created["metadata"] == {"turn": "7"}
    await client.until("response.output_audio.delta")
    await client.send("response.cancel", response_id=created["id"])
    done = (await client.until("response.done"))["response"]
    assert done["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
    assert done["metadata"] == {"turn": "7"}
    error = await client.refused("response.cancel")
    assert error["code"] == "response_cancel_not_active"


async def test_audio_is_paced(start: Start) -> None:
    """Sent at four times real time, two seconds of audio take half a second less the first pieces."""
    bench = await start(answer_seconds=2.0, pace=4.0)
    client = await bench.connect()
    await client.send("response.create")
    await client.until("response.output_audio.delta")
    now = asyncio.get_running_loop().time
    began = now()
    await client.until("response.done")
    assert 0.35 <= now() - began < 1.7


async def test_models_that_break_down_are_told_of_as_the_provider_would(bench: Bench) -> None:
    """A transcription that fails is an event; a voice that fails is a failed response on a healthy socket."""
    client = await bench.connect(audio={"input": {"transcription": {"model": "gpt-4o-transcribe"}}})
    options = bench.simulator.options
    options.ears.transcribe, options.voice.speak = deaf, dumb  # type: ignore[method-assign]
    response = await turn(client)
    assert (response["status"], response["output"][0]["status"]) == ("failed", "incomplete")
    kind = "conversation.item.input_audio_transcription"
    while not client.of(f"{kind}.failed"):
        await client.next()
    assert not client.of(f"{kind}.completed")
    await client.settle()


async def deaf(*_: object) -> str:
    raise RuntimeError("out of order")


async def dumb(*_: object) -> AsyncGenerator[Piece, None]:
    raise RuntimeError("out of order")
    yield
