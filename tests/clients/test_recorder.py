"""The recorder against the simulated provider: what it hears, what it waits for, and that it complains."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from orchestrator.listening import first_sound, gaps, heard_ms
from orchestrator.protocol.audio import AudioFormat, from_pcm16
from orchestrator.simulate.brain import Brain
from orchestrator.simulate.ears import ToneEars
from orchestrator.simulate.faults import Fault, FaultId, Moment
from orchestrator.simulate.realtime import RealtimeSimulator
from orchestrator.simulate.session import Options
from orchestrator.simulate.voices import ToneVoice
from tests.clients.recorder import ConnectionEnded, Recorder

ANSWER_SECONDS = 1.0
DEAF = {"input": {"turn_detection": None}}
QUICK = {"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 200}}}


def loud(ms: int, fmt: AudioFormat = AudioFormat.PCM) -> bytes:
    times = np.arange(ms * fmt.rate // 1000) / fmt.rate
    return from_pcm16((9000 * np.sin(2 * np.pi * 300 * times)).astype(np.int16), fmt)


@pytest.fixture
def simulator() -> RealtimeSimulator:
    options = Options(ToneEars(), ToneVoice(ANSWER_SECONDS), Brain(), first_audio_ms=50, transcript_ms=20)
    return RealtimeSimulator(options)


@pytest.fixture
async def url(simulator: RealtimeSimulator) -> AsyncIterator[str]:
    async with simulator.start() as origin:
        yield origin.replace("http", "ws", 1) + "/v1/realtime?model=gpt-realtime-2.1"


async def test_a_spoken_turn_is_heard_in_real_time_though_it_came_faster(url: str) -> None:
    async with Recorder(url) as caller:
        await caller.update(audio=QUICK)
        async with caller.microphone():
            await caller.say(loud(400))
            stopped_at = asyncio.get_running_loop().time()
            done = (await caller.wait_for("response.done"))["response"]
    played = caller.played()
    received_in = caller.heard[-1].at - caller.heard[0].at
    assert done["status"] == "completed"
    assert received_in < 0.75 * ANSWER_SECONDS < heard_ms(played) / 1000
    assert gaps(played, 50) == []
    assert 0.2 < first_sound(played, after=stopped_at) - stopped_at < 2.0
    assert set(caller.audio()) == {(done["id"], done["output"][0]["id"])}
    assert caller.said() == [done["output"][0]["content"][0]["transcript"]]


@pytest.mark.parametrize("fmt", AudioFormat)
async def test_speech_in_every_format(url: str, fmt: AudioFormat) -> None:
    async with Recorder(url) as caller:
        audio = {"input": {**QUICK["input"], "format": fmt.describe()}, "output": {"format": fmt.describe()}}
        await caller.update(audio=audio)
        await caller.say(loud(300, fmt) + fmt.silence(300), fmt, realtime=False)
        await caller.wait_for("response.done")
    assert caller.output_format is fmt
    assert heard_ms(caller.played()) == pytest.approx(ANSWER_SECONDS * 1000, rel=0.3)


async def test_barge_in_throws_away_what_was_not_played(url: str) -> None:
    async with Recorder(url) as caller:
        await caller.update(audio=QUICK)
        async with caller.microphone():
            await caller.say(loud(300))
            delta = await caller.wait_for("response.output_audio.delta")
            await caller.say(loud(300))
            cut = (await caller.wait_for("response.done"))["response"]
            await caller.wait_for("response.done")
    assert cut["status_details"]["reason"] == "turn_detected"
    assert len(caller.flushes) == 2
    heard = heard_ms(caller.played())
    received = sum(len(data) for data in caller.audio().values()) / AudioFormat.PCM.bytes_per_ms
    assert heard < received - 100
    assert delta["response_id"] == cut["id"]


async def test_truncate_tells_how_much_was_heard(url: str) -> None:
    async with Recorder(url) as caller:
        await caller.write("Hello")
        await caller.send({"type": "response.create"})
        await caller.wait_for("response.output_audio.delta")
        await caller.wait_for("response.done")
        truncated = await caller.truncate()
        assert truncated is not None
        event = await caller.wait_for("conversation.item.truncated")
    item_id, heard = truncated
    assert (event["item_id"], event["audio_end_ms"]) == (item_id, int(heard))
    assert 0 < heard < ANSWER_SECONDS * 1000


async def test_asking_in_writing(url: str) -> None:
    async with Recorder(url) as caller:
        response = await caller.ask("Hello", output_modalities=["text"], metadata={"topic": "greeting"})
        again = await caller.ask("Thanks")
    assert response["metadata"]["topic"] == "greeting"
    assert caller.said()[0] == response["output"][0]["content"][0]["text"]
    assert again["id"] != response["id"]


async def test_each_event_is_given_out_once(url: str) -> None:
    async with Recorder(url) as caller:
        created = await caller.wait_for("session.created")
        assert caller.events("session.created") == [created]
        with pytest.raises(
            TimeoutError, match=r"no session\.created in 0\.05 s; latest events: session\.created"
        ):
            await caller.wait_for("session.created", timeout=0.05)


async def test_an_end_that_was_not_expected_is_told(url: str, simulator: RealtimeSimulator) -> None:
    simulator.faults.arm(Fault(FaultId.CLOSE_1011, Moment.MID_ANSWER))
    async with Recorder(url, check=False) as caller:
        await caller.send({"type": "response.create"})
        with pytest.raises(ConnectionEnded, match=r"closed with 1011.* before response\.done"):
            await caller.wait_for("response.done")
    assert caller.close_code == 1011


async def one_answer(url: str, until: str = "response.done", settle: float = 2.0) -> None:
    async with Recorder(url, settle=settle) as caller:
        await caller.send({"type": "response.create"})
        await caller.wait_for(until)


async def test_a_broken_promise_fails_the_block(url: str, simulator: RealtimeSimulator) -> None:
    simulator.faults.arm(Fault(FaultId.UNKNOWN, Moment.MID_ANSWER))
    with pytest.raises(AssertionError, match=r"\[type-unknown\]"):
        await one_answer(url)


async def test_a_stalled_answer_is_still_open_at_the_end(url: str, simulator: RealtimeSimulator) -> None:
    simulator.faults.arm(Fault(FaultId.STALL, Moment.MID_ANSWER))
    with pytest.raises(AssertionError, match=r"\[response-open\]"):
        await one_answer(url, until="response.output_audio.delta", settle=0.05)


async def test_what_is_on_its_way_still_counts(url: str) -> None:
    await one_answer(url, until="response.created")


async def test_a_caller_who_vanishes_leaves_things_open(url: str) -> None:
    async with Recorder(url) as caller:
        await caller.send({"type": "response.create"})
        await caller.wait_for("response.output_audio.delta")
        await caller.abort()
    assert caller.ended


async def fail_midway(url: str) -> None:
    async with Recorder(url) as caller:
        await caller.send({"type": "response.create"})
        await caller.wait_for("response.done")
        raise ZeroDivisionError


async def test_the_failure_of_the_block_itself_is_not_hidden(url: str, simulator: RealtimeSimulator) -> None:
    simulator.faults.arm(Fault(FaultId.UNKNOWN, Moment.MID_ANSWER))
    with pytest.raises(ZeroDivisionError):
        await fail_midway(url)
