from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from cache import ClipCache, transcode
from orchestrator import models
from orchestrator.listening import Arrival, first_sound, play, sounds
from orchestrator.protocol.audio import AudioFormat, Pcm16
from tiers.pipeline.kokoro import KokoroSpeech
from tiers.prompts.catalogue import Catalogue, Prompt
from tiers.prompts.prompts import Prompts
from tiers.prompts.trim import TAIL_MS, trim, trim_wire

RATE = 24_000


def hum(ms: int, peak: int = 8000) -> Pcm16:
    return (peak * np.sin(2 * np.pi * 220 * np.arange(ms * RATE // 1000) / RATE)).astype(np.int16)


def hiss(ms: int, peak: int = 150) -> Pcm16:
    """Below -40 dBFS, as an engine breathes before it speaks."""
    return np.random.default_rng(7).integers(-peak, peak, ms * RATE // 1000, dtype=np.int16)


def as_heard(data: bytes, fmt: AudioFormat) -> tuple[float, float]:
    """Milliseconds of silence before the first sound of a clip and after its last, as a client hears it."""
    played = play([Arrival(0.0, data)], fmt)
    began, ended = first_sound(played), sounds(played)[-1].end
    assert began is not None
    return began * 1000, (played.end - ended) * 1000


@pytest.mark.parametrize("lead_ms", [0, 3, 10, 25, 70, 1000])
@pytest.mark.parametrize("fmt", AudioFormat)
def test_a_clip_begins_with_sound_and_ends_soon_after_it(lead_ms, fmt):
    clip = np.concatenate((hiss(lead_ms), hum(300), hiss(400)))
    for data in (transcode(trim(clip), fmt), trim_wire(transcode(clip, fmt), fmt)):
        began, ended = as_heard(data, fmt)
        assert began <= 20
        assert ended <= TAIL_MS + 10


def test_in_the_format_of_the_engine_trimming_again_changes_nothing():
    data = trim(np.concatenate((hiss(70), hum(300), hiss(400)))).tobytes()
    assert trim_wire(data, AudioFormat.PCM) == data


def test_nothing_that_is_heard_is_lost():
    words = np.concatenate((hum(200), np.zeros(12_000, np.int16), hum(150)))
    kept = trim(np.concatenate((hiss(100), words, hiss(300))))
    assert len(words) <= len(kept) <= len(words) + (10 + TAIL_MS + 20) * RATE // 1000
    start = int(np.argmax(np.correlate(kept[:4800].astype(float), words[:2400].astype(float), "valid")))
    assert np.array_equal(kept[start : start + len(words)], words)


def test_where_it_was_cut_there_is_no_click():
    loud_hiss = hiss(200, peak=300)
    kept = trim(np.concatenate((loud_hiss, hum(300), loud_hiss)))
    assert kept[0] == 0
    assert abs(int(kept[-1])) <= 1


@pytest.mark.parametrize("pcm", [hum(300), hiss(300), np.zeros(0, np.int16), hum(5)], ids=len)
def test_what_has_nothing_to_cut_stays_as_it_is(pcm):
    assert trim(pcm) is pcm


@pytest.fixture(scope="module")
def kokoro() -> Iterator[KokoroSpeech]:
    try:
        speech = KokoroSpeech(models.kokoro_model(), models.kokoro_voices())
    except models.ModelMissing as error:
        pytest.skip(str(error))
    yield speech
    speech.close()


@pytest.mark.parametrize(("language", "voice"), [("en", "marin"), ("en", "cedar"), ("es", "marin")])
async def test_what_kokoro_says_begins_with_sound(kokoro, language, voice):
    catalogue = Catalogue({"one_moment": Catalogue.load()["one_moment"]})
    text = catalogue.fill("one_moment", {}, language).spoken
    raw = np.concatenate([pcm async for pcm in kokoro.speak(text, voice=voice, language=language)])
    assert as_heard(transcode(raw, AudioFormat.PCM), AudioFormat.PCM)[0] > 20, "else this shows nothing"
    await bridges_begin_with_sound(Prompts(catalogue, ClipCache(), kokoro), language, voice)


async def test_an_s_that_a_telephone_does_not_carry_is_no_silence_at_the_start(kokoro):
    sorry = Prompt(bridge=True, text={"en": "Sorry, I was cut off. One moment."})
    prompts = Prompts(Catalogue({"one_moment": sorry}), ClipCache(), kokoro)
    clip = await prompts.render("one_moment")
    assert as_heard(transcode(clip.pcm, AudioFormat.PCMU), AudioFormat.PCMU)[0] > 20, (
        "else this shows nothing"
    )
    await bridges_begin_with_sound(prompts, "en", "marin")


async def bridges_begin_with_sound(prompts: Prompts, language: str, voice: str) -> None:
    await prompts.warm(AudioFormat, voices=[voice], languages=[language])
    for fmt in AudioFormat:
        words, data = prompts.bridge("one_moment", fmt, language=language, voice=voice)
        assert words
        began, ended = as_heard(data, fmt)
        assert began <= 20
        assert ended <= TAIL_MS + 10
