"""The realtime simulator with real models: it hears a human voice, and a listener understands what it says."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest
from faster_whisper import decode_audio

from orchestrator.protocol.audio import SPEAK_RATE, AudioFormat, float_to_pcm16, from_pcm16
from orchestrator.simulate.brain import Brain, load_rules
from orchestrator.simulate.real_speech import KokoroVoice, ModelEars
from orchestrator.simulate.realtime import RealtimeSimulator
from orchestrator.simulate.session import Options
from tests.simulate.simulated import Bench, check_golden
from tiers.pipeline.errors import EngineFailed

HUMAN = Path(__file__).parents[1] / "fixtures" / "audio" / "austen-0880.wav"
"""He was not an ill disposed young man."""
PATIENCE = 60.0


RULES = """
[[rule]]
when = "young man"
say = ["I can hear you well.", "You said: {heard}"]
"""


class QuietBrain(Brain):
    """Has nothing rendered ahead: a test needs the cores for its turn."""

    def known_lines(self) -> list[str]:
        return []


@pytest.fixture(scope="module")
def ears() -> Iterator[ModelEars]:
    model_ears = ModelEars()
    yield model_ears
    model_ears.close()


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture
async def bench(ears: ModelEars, clips: Path) -> AsyncIterator[Bench]:
    (clips / "rules.toml").write_text(RULES)
    brain, voice = QuietBrain(load_rules(clips / "rules.toml")), KokoroVoice(clips=clips)
    async with AsyncExitStack() as servers, AsyncExitStack() as clients:
        simulator = RealtimeSimulator(Options(ears, voice, brain, first_audio_ms=0, pace=1000.0))
        origin = await servers.enter_async_context(simulator.start())
        servers.callback(voice.close)
        bench = Bench(simulator, origin, clients)
        clients.push_async_callback(bench.sdk.close)
        yield bench


async def test_a_turn_in_real_speech(bench: Bench, ears: ModelEars) -> None:
    client = await bench.connect(audio={"input": {"transcription": {"model": "gpt-4o-transcribe"}}})
    client.patience = PATIENCE
    client.events.clear()
    human = float_to_pcm16(decode_audio(str(HUMAN), sampling_rate=SPEAK_RATE))
    await client.say(from_pcm16(human, AudioFormat.PCM) + AudioFormat.PCM.silence(800))
    response = (await client.until("response.done"))["response"]
    check_golden("voice_turn", client.events)
    heard = client.of("conversation.item.input_audio_transcription.completed")[0]["transcript"]
    assert "young man" in heard
    assert response["output"][0]["content"][0]["transcript"] == f"I can hear you well. You said: {heard}"

    spoken = b"".join(base64.b64decode(event["delta"]) for event in client.of("response.output_audio.delta"))
    understood = (await ears.transcribe(spoken, AudioFormat.PCM, 0)).lower()
    assert "hear you well" in understood
    assert "young man" in understood


async def test_a_line_once_rendered_is_read_from_disk(clips: Path) -> None:
    """The second voice cannot render: its engine is closed."""
    first, second = KokoroVoice(clips=clips), KokoroVoice(clips=clips)
    await first.prepare(["Goodbye."])
    second.close()
    async with aclosing(second.speak(["Goodbye."], AudioFormat.PCM, 1.0)) as pieces:
        said = [piece async for piece in pieces]
    assert sum(piece.ms for piece in said) > 300
    assert "".join(piece.text for piece in said) == "Goodbye."
    other = KokoroVoice("af_bella", clips=clips)
    other.close()
    with pytest.raises(EngineFailed):
        await other.prepare(["Goodbye."])
    first.close()


async def test_whoever_speaks_goes_before_what_is_rendered_ahead(clips: Path) -> None:
    """The long text is given up for the answer, and rendered when that is over."""
    voice = KokoroVoice(clips=clips)
    await voice.warm()
    long = "This is a long sentence, and it takes some time to render all of it, from beginning to end."
    preparing = asyncio.create_task(voice.prepare([long]))
    await asyncio.sleep(0)
    async with aclosing(voice.speak(["Okay."], AudioFormat.PCM, 1.0)) as pieces:
        assert [piece async for piece in pieces]
        assert not preparing.done()
    await preparing
    voice.close()
    async with aclosing(voice.speak([long], AudioFormat.PCM, 1.0)) as pieces:
        assert sum([piece.ms async for piece in pieces]) > 2000
