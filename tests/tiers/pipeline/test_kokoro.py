"""Kokoro with its real weights, and the PyTorch package as far as a stand-in can show it."""

from __future__ import annotations

import asyncio
import re
import sys
import types
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
import pytest

from orchestrator.models import ModelMissing
from orchestrator.protocol.audio import SPEAK_RATE, Float32, Pcm16
from tiers.pipeline.errors import Cause, EngineFailed
from tiers.pipeline.kokoro import (
    VOICES,
    KokoroSpeech,
    KokoroTorchSpeech,
    language_of,
    nearest_voice,
    voice_of,
)
from tiers.pipeline.stt import WhisperTranscriber

JAPANESE = ("jf_alpha", "jf_gongitsune", "jm_kumo")


async def spoken(audio: AsyncIterator[Pcm16]) -> Pcm16:
    return np.concatenate([pcm async for pcm in audio])


async def test_what_is_said_can_be_understood(
    kokoro: KokoroSpeech, whisper: WhisperTranscriber, heard: Callable[[Pcm16], Float32]
) -> None:
    pcm = await spoken(kokoro.speak("What are your hours?", voice="cedar"))
    assert pcm.dtype == np.int16
    assert 0.8 < len(pcm) / SPEAK_RATE < 3.5
    assert np.abs(pcm.astype(int)).max() > 3000
    transcript = await whisper.transcribe(heard(pcm))
    assert re.sub(r"\W+", " ", transcript.text).strip().lower() == "what are your hours"


async def test_speed_and_voice_are_heard(kokoro: KokoroSpeech) -> None:
    normal = await spoken(kokoro.speak("Thank you."))
    fast = await spoken(kokoro.speak("Thank you.", speed=1.6))
    other = await spoken(kokoro.speak("Thank you.", voice="am_michael"))
    assert len(fast) < 0.8 * len(normal)
    assert not np.array_equal(normal[: len(other)], other[: len(normal)])


async def test_a_long_text_comes_in_pieces(kokoro: KokoroSpeech) -> None:
    text = "This is fine. " * 13
    pieces = kokoro.speak(text.strip())
    first = await anext(pieces)
    assert len(first) / SPEAK_RATE < 3
    await pieces.aclose()


async def test_an_abandoned_text_frees_the_engine_soon(
    kokoro: KokoroSpeech, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The synthesis in progress is terminated; nobody waits some 4 s for its end."""
    running, ended = asyncio.Event(), []
    loop, create = asyncio.get_running_loop(), kokoro._create

    def watched(*args: Any) -> Float32:
        loop.call_soon_threadsafe(running.set)
        try:
            return create(*args)
        except Exception as error:
            ended.append(str(error))
            raise

    monkeypatch.setattr(kokoro, "_create", watched)
    text = "a sentence that goes on and on so that the engine takes a good while to render it " * 2
    task = asyncio.ensure_future(anext(kokoro.speak(text)))
    await asyncio.wait_for(running.wait(), 5)
    task.cancel()
    await asyncio.wait([task])
    await kokoro._worker.run(lambda: None)  # waits behind it in the line
    assert ["terminate" in error for error in ended] == [True]


async def test_callers_take_turns(kokoro: KokoroSpeech) -> None:
    """A text of several pieces does not keep a later, shorter one waiting to its end."""
    order: list[str] = []

    async def speak(name: str, text: str) -> None:
        async for _ in kokoro.speak(text):
            order.append(name)

    long = asyncio.create_task(speak("long", "Yes, it is. No, it is not. " * 7))
    await asyncio.sleep(0)
    await speak("short", "Okay.")
    assert order.count("long") <= 2
    long.cancel()
    await asyncio.wait([long])


async def test_missing_weights_say_so(tmp_path: Any) -> None:
    with pytest.raises(ModelMissing, match="orchestrator models fetch"):
        await spoken(KokoroSpeech(tmp_path / "model.onnx", tmp_path / "voices.npz").speak("Hello."))


async def test_a_broken_file_is_a_failure_of_the_engine(tmp_path: Any) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    (tmp_path / "voices.npz").write_bytes(b"no voices")
    with pytest.raises(EngineFailed) as caught:
        await spoken(KokoroSpeech(tmp_path / "model.onnx", tmp_path / "voices.npz").speak("Hello you."))
    assert (caught.value.cause, caught.value.rest) == (Cause.UNAVAILABLE, "Hello you.")


@pytest.mark.parametrize(
    ("voice", "language", "available", "nearest"),
    [
        ("marin", "en", (*VOICES.values(),), "af_heart"),
        ("", "en", (*VOICES.values(),), "af_heart"),
        ("unheard_of", "en", (*VOICES.values(),), "af_heart"),
        ("ballad", "en", (*VOICES.values(),), "bm_fable"),
        ("am_echo", "en", (*VOICES.values(),), "am_echo"),
        ("jm_kumo", "en", JAPANESE, "jm_kumo"),
        ("cedar", "en", JAPANESE, "jm_kumo"),
        ("marin", "en", JAPANESE, "jf_alpha"),
        ("cedar", "es", ("af_heart", "ef_dora", "em_alex"), "em_alex"),
        ("marin", "en-GB", ("af_heart", "bf_emma", "bm_fable"), "bf_emma"),
        ("am_gone", "en", ("af_heart", "am_echo"), "am_echo"),
    ],
)
def test_the_nearest_voice_there_is(
    voice: str, language: str, available: tuple[str, ...], nearest: str
) -> None:
    assert nearest_voice(voice, language, available) == nearest


@pytest.mark.parametrize(
    ("voice", "language", "available", "own"),
    [
        ("cedar", "es-MX", ("af_heart", "ef_dora", "em_alex"), "em_alex"),
        ("af_heart", "es", ("af_heart", "ef_dora", "em_alex"), "ef_dora"),
        ("cedar", "fr", ("am_michael", "ff_siwis"), "ff_siwis"),
        ("ballad", "en", ("af_heart", "bm_fable"), "bm_fable"),
        ("marin", "fr", ("af_heart", "ef_dora"), None),
        ("marin", "de", ("af_heart", "ef_dora"), None),
        ("marin", "fr", JAPANESE, None),
        ("cedar", "en", JAPANESE, "jm_kumo"),
    ],
)
def test_no_voice_reads_another_language_than_its_own_but_english(
    voice: str, language: str, available: tuple[str, ...], own: str | None
) -> None:
    assert voice_of(voice, language, available) == own


async def test_the_weights_tell_which_languages_they_speak(kokoro: KokoroSpeech) -> None:
    own = {tag: await kokoro.voice_for("marin", tag) for tag in ("es", "fr", "hi", "it", "pt-BR", "de")}
    assert [voice and voice[0] for voice in own.values()] == ["e", "f", "h", "i", "p", None]


async def test_what_is_rendered_ahead_goes_after_whoever_speaks(kokoro: KokoroSpeech) -> None:
    """The long text is given up for the short one, and rendered when that is over."""
    text = "a sentence that goes on and on so that the engine takes a good while to render it"
    ahead = asyncio.create_task(kokoro.render_ahead(text))
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(await spoken(kokoro.speak("Okay."))) > 0
    assert not ahead.done()
    assert len(await ahead) / SPEAK_RATE > 3


def test_languages() -> None:
    assert [language_of(tag) for tag in ("en", "EN_gb", "pt-PT", "de")] == [
        ("en-us", "a"),
        ("en-gb", "b"),
        ("pt-br", "p"),
        ("de", "a"),
    ]


# The PyTorch package is not installed here: a stand-in with its documented shape takes its place.


class StandIn:
    """`kokoro.KPipeline`: called with a text, it gives results with an `audio` of float samples."""

    made: tuple[str, ...] = ()

    def __init__(self, lang_code: str) -> None:
        StandIn.made += (lang_code,)

    def __call__(self, text: str, *, voice: str, speed: float) -> Iterator[types.SimpleNamespace]:
        for word in text.split():
            yield types.SimpleNamespace(audio=np.full(240 * len(word), 0.5 * speed, dtype=np.float32))
        yield types.SimpleNamespace(audio=None)


async def test_the_torch_engine_speaks_through_the_packages_pipeline() -> None:
    StandIn.made = ()
    engine = KokoroTorchSpeech(module=types.SimpleNamespace(KPipeline=StandIn))
    pcm = await spoken(engine.speak("Hello you"))
    assert (len(pcm), int(pcm[0])) == (240 * 8, 16383)
    await spoken(engine.speak("Encore", language="fr"))
    await spoken(engine.speak("Again"))
    assert StandIn.made == ("a", "f")
    engine.close()


async def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kokoro", None)
    engine = KokoroTorchSpeech()
    with pytest.raises(EngineFailed, match=r"voice-orchestrator\[kokoro-torch\]") as caught:
        await spoken(engine.speak("Hello"))
    assert caught.value.cause is Cause.MISSING
    engine.close()
