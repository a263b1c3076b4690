"""What a caller hears: prompts spoken by Kokoro, written down again by Whisper."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import numpy as np
import pytest
from faster_whisper import WhisperModel

from cache import ClipCache
from orchestrator import models
from orchestrator.protocol.answers import AnswerRequest, AudioDelta, Message, ToolCall, ToolResult
from orchestrator.protocol.audio import AudioFormat, Float32, hear
from tiers.pipeline.kokoro import KokoroSpeech
from tiers.pipeline.kokoro_parts import KokoroParts
from tiers.prompts.catalogue import Catalogue
from tiers.prompts.prompts import Prompts
from tiers.prompts.stitching import speech_level
from tiers.prompts.trim import trim

DIGITS = {
    "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4",
    "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9",
}  # fmt: skip


@pytest.fixture(scope="module")
def kokoro() -> Iterator[KokoroSpeech]:
    try:
        speech = KokoroSpeech(models.kokoro_model(), models.kokoro_voices())
    except models.ModelMissing as error:
        pytest.skip(str(error))
    yield speech
    speech.close()


@pytest.fixture(scope="module")
def kokoro_parts() -> Iterator[KokoroParts]:
    try:
        speech = KokoroParts(models.kokoro_model(), models.kokoro_voices())
    except models.ModelMissing as error:
        pytest.skip(str(error))
    yield speech
    speech.close()


@pytest.fixture(scope="module")
def whisper() -> WhisperModel:
    try:
        return WhisperModel(str(models.whisper()), compute_type="int8", cpu_threads=1)
    except models.ModelMissing as error:
        pytest.skip(str(error))


async def heard(whisper: WhisperModel, audio: Float32) -> str:
    def transcribe() -> str:
        segments, _ = whisper.transcribe(audio, language="en", beam_size=1, condition_on_previous_text=False)
        return "".join(segment.text for segment in segments)

    return await asyncio.to_thread(transcribe)


def digits(text: str) -> str:
    """All digits in a transcript, whether it has them as figures or as words."""
    words = re.findall(r"[a-z]+|\d", text.lower())
    return "".join(DIGITS.get(word, word) for word in words if word.isdigit() or word in DIGITS)


@pytest.mark.parametrize(
    ("order_id", "status", "words"),
    [
        ("4172", "out_for_delivery", "out for delivery"),
        ("275604", "cancelled", "cancel"),
    ],
)
async def test_the_order_number_and_its_status_are_heard_over_a_telephone(
    kokoro, whisper, order_id, status, words
):
    prompts = Prompts(Catalogue.load(), ClipCache(), kokoro)
    variables = {"order_id": order_id, "status": status}
    data = await prompts.audio("order_status", variables, AudioFormat.PCMU)
    text = await heard(whisper, hear(data, AudioFormat.PCMU))
    assert digits(text) == order_id, text
    assert words in text.lower(), text


async def test_a_calls_answer_is_heard_whole(kokoro, whisper):
    prompts = Prompts(Catalogue.load(), ClipCache(), kokoro)
    history = (
        Message("user", "Where is my order number 4172?"),
        ToolCall("call_1", "get_order_status", '{"order_id": "4172"}'),
        ToolResult("call_1", '{"order_id": "4172", "status": "delivered"}'),
    )
    request = AnswerRequest("answer_1", history, voice="cedar", format=AudioFormat.PCM)
    pieces = [event.data async for event in prompts.answer(request) if isinstance(event, AudioDelta)]
    text = await heard(whisper, hear(b"".join(pieces), AudioFormat.PCM))
    assert digits(text) == "4172", text
    assert "delivered" in text.lower(), text


async def test_the_bridge_is_short_and_understood(kokoro, whisper):
    prompts = Prompts(Catalogue.load(), ClipCache(), kokoro)
    clip = await prompts.render("one_moment")
    assert 0.5 < clip.seconds < 2.5
    text = await heard(whisper, hear(clip.pcm.tobytes(), AudioFormat.PCM))
    assert "one moment" in text.lower().replace("1", "one"), text


async def test_a_stitched_order_number_is_heard_over_a_telephone_and_sounds_like_a_whole_one(
    kokoro_parts, whisper
):
    prompts = Prompts(Catalogue.load(), ClipCache(), kokoro_parts)
    variables = {"order_id": "275604", "status": "out_for_delivery"}
    line = prompts.catalogue.fill("order_status", variables)
    whole = np.concatenate([pcm async for pcm in kokoro_parts.speak(line.spoken)])
    for spot in line.spots:
        await prompts._renderer.assembly.make(spot.piece, prompts.voice, "en")
    stitched = prompts.peek(line)
    assert stitched is not None
    data = await prompts.audio("order_status", variables, AudioFormat.PCMU)
    text = await heard(whisper, hear(data, AudioFormat.PCMU))
    assert digits(text) == "275604", text
    assert "out for delivery" in text.lower(), text
    assert len(stitched.pcm) == pytest.approx(len(trim(whole)), rel=0.25)
    one, other = (speech_level(pcm.astype(np.float32) / 32768) for pcm in (stitched.pcm, whole))
    assert one == pytest.approx(other, abs=2.0)
    alone = len(trim(np.concatenate([pcm async for pcm in kokoro_parts.speak("seven.")])))
    cut = (await prompts._renderer.assembly.make(line.spots[2].piece, prompts.voice, "en")).clip
    assert cut.text == "seven"
    assert len(cut.pcm) < 0.8 * alone, "a word in a phrase is shorter than the same word alone"
