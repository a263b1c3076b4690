"""Bridges: in the caller's language or as a tone, from memory, rendered ahead while nobody needs the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cache import ClipCache, transcode
from orchestrator.models import ModelMissing
from orchestrator.protocol.audio import AudioFormat
from tests.tiers.prompts.conftest import Choir
from tiers.prompts.catalogue import Catalogue, UnknownPrompt
from tiers.prompts.prompts import MAX_EXPECTED, Prompts
from tiers.prompts.tone import tone
from tiers.speech import SpeechFailed

PCM = AudioFormat.PCM
TONE = ("", tone(PCM, 600))
LINES = len(list(Catalogue.load().bridges("en")))


@pytest.fixture
def sung(choir: Choir) -> Iterator[Prompts]:
    return Prompts(Catalogue.load(), ClipCache(), choir)


@asynccontextmanager
async def rendering(prompts: Prompts) -> AsyncIterator[None]:
    task = asyncio.create_task(prompts.render_ahead())
    try:
        yield
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def rendered(prompts: Prompts) -> None:
    """Until nothing that was expected is left to be rendered."""
    await asyncio.wait_for(prompts._to_render.join(), 5)


async def test_a_bridge_in_another_voice_is_better_than_none(prompts):
    await prompts.warm([PCM], voices=["marin", "cedar"])
    marin = prompts.bridge("one_moment", PCM)[1]
    cedar = prompts.bridge("one_moment", PCM, voice="cedar")[1]
    assert marin != cedar
    assert prompts.bridge("one_moment", PCM, voice="sage")[1] == marin


async def test_every_cause_has_its_own_words_and_sound_in_every_format(prompts):
    await prompts.warm(AudioFormat)
    for fmt in AudioFormat:
        said = [prompts.bridge(line.name, fmt) for line in prompts.catalogue.bridges("en")]
        assert [words for words, _ in said] == [line.text for line in prompts.catalogue.bridges("en")]
        assert len({data for _, data in said}) == LINES


async def test_a_bridge_that_is_not_ready_is_a_tone_without_words(prompts):
    assert prompts.bridge("one_moment", PCM) == TONE
    await prompts.warm([PCM])
    assert prompts.bridge("one_moment", PCM)[0] == "One moment, please."


@pytest.mark.parametrize("language", ["fr", "tlh", "not a language"])
async def test_no_caller_hears_a_bridge_in_another_language(prompts, language):
    await prompts.warm([PCM])
    assert prompts.bridge("one_moment", PCM, language=language) == TONE


async def test_another_prompt_is_better_in_english_than_not_at_all(prompts):
    await prompts.warm([PCM])
    words, data = prompts.bridge("offer_choice", PCM, language="fr")
    assert words == prompts.catalogue.fill("offer_choice").text
    assert data == prompts.clip("offer_choice", PCM)


async def test_the_default_bridge_stands_in_for_one_that_the_language_does_not_have(hum, tmp_path: Path):
    own = tmp_path / "own.toml"
    own.write_text('one_moment.text.nl = "Een ogenblik."\n', encoding="utf-8")
    prompts = Prompts(Catalogue.load(own), ClipCache(), hum)
    await prompts.warm([PCM], languages=["nl"])
    assert prompts.bridge("bridge_late", PCM, language="nl-BE")[0] == "Een ogenblik."


async def test_a_name_that_is_no_prompt_is_an_error(prompts):
    with pytest.raises(UnknownPrompt, match="bridge_slow"):
        prompts.bridge("bridge_slow", PCM)


async def test_languages_to_warm_are_spoken_by_their_own_voices(sung, choir):
    warmed = await sung.warm([PCM], languages=["en", "fr"])
    assert warmed.failed == {}
    text = sung.catalogue.fill("one_moment", {}, "fr").text
    assert (text, "fr_f", 1.0, "fr") in choir.spoken
    assert sung.bridge("one_moment", PCM, language="fr-CA") == (
        text,
        transcode(choir.samples(text, "fr_f"), PCM),
    )
    assert choir.ahead == []


async def test_a_language_without_a_voice_is_a_tone_and_the_warm_up_says_so(sung):
    warmed = await sung.warm([PCM], languages=["it"])
    assert warmed.failed["one_moment.it"] == "choir has no voice that speaks 'it'"
    assert sung.bridge("one_moment", PCM, language="it") == TONE


async def test_an_expected_language_is_rendered_ahead_once_for_all_sessions_voices(sung, choir):
    await sung.warm(AudioFormat)
    said = len(choir.spoken)
    async with rendering(sung):
        for _ in range(3):
            sung.expect("fr", "marin")
            sung.expect("fr-FR", "cedar")
        await rendered(sung)
    assert [voice for _, voice, _ in choir.ahead] == ["fr_f"] * LINES
    assert len(choir.spoken) == said, "nobody's speech was held up"
    for fmt in AudioFormat:
        assert sung.bridge("bridge_late", fmt, language="fr")[0] == "Pardon pour l'attente. Un instant."


async def test_a_session_hears_the_nearest_voice_of_its_language(sung, choir):
    await sung.warm([PCM])
    async with rendering(sung):
        for language, voice in [("es", "cedar"), ("es", "marin"), ("en", "cedar"), ("en", "sage")]:
            sung.expect(language, voice)
        await rendered(sung)
    for language, voice, own in [("es", "marin", "es_f"), ("es", "cedar", "es_m"), ("en", "cedar", "en_m")]:
        text = sung.catalogue.fill("one_moment", {}, language).text
        data = transcode(choir.samples(text, own), PCM)
        assert sung.bridge("one_moment", PCM, language=language, voice=voice) == (text, data)
    marin, sage = (sung.bridge("one_moment", PCM, voice=voice) for voice in ("marin", "sage"))
    assert marin == sage, "one voice of the engine"
    assert len(choir.ahead) == 3 * LINES


async def test_a_bridge_that_was_missing_is_there_for_the_next_call(sung):
    assert sung.bridge("bridge_late", PCM, language="es") == TONE
    async with rendering(sung):
        await rendered(sung)
    assert sung.bridge("bridge_late", PCM, language="es")[0] == "Perdón por la espera. Un momento."


async def test_what_waits_for_a_quiet_moment_holds_up_nobody_who_asks_for_it(sung, choir):
    choir.free.clear()
    async with rendering(sung):
        sung.expect("fr")
        clip = await sung.render("one_moment", language="fr", voice="fr_f")
        choir.free.set()
        await rendered(sung)
    assert sung.bridge("one_moment", PCM, language="fr")[1] == clip.pcm.tobytes()


@pytest.mark.parametrize("fault", [SpeechFailed("hoarse"), ModelMissing("Choir", Path("choir.onnx"))])
async def test_after_a_failure_the_next_call_tries_again(sung, choir, fault, caplog):
    choir.fault = fault
    async with rendering(sung):
        sung.expect("fr")
        await rendered(sung)
        assert "the bridges in fr are not ready" in caplog.text
        assert sung.bridge("one_moment", PCM, language="fr") == TONE
        choir.fault = None
        await rendered(sung)
    assert sung.bridge("one_moment", PCM, language="fr")[0] == "Un instant, s'il vous plaît."


async def test_a_language_without_a_voice_is_told_once(sung, caplog):
    async with rendering(sung):
        for _ in range(3):
            sung.expect("it")
            await rendered(sung)
    assert caplog.text.count("choir has no voice that speaks 'it'") == 1
    assert sung.bridge("one_moment", PCM, language="it") == TONE


async def test_voices_that_a_client_makes_up_do_not_pile_up(sung):
    for number in range(2 * MAX_EXPECTED):
        sung.expect("fr", f"voice-{number}")
    assert sung._to_render.qsize() == MAX_EXPECTED


async def test_an_engine_that_does_not_know_its_languages_keeps_to_one_voice(prompts, hum):
    async with rendering(prompts):
        prompts.expect("de-AT", "cedar")
        await rendered(prompts)
    assert {(voice, language) for _, voice, _, language in hum.spoken} == {("marin", "de")}
    assert prompts.bridge("one_moment", PCM, language="de-AT", voice="cedar")[0] == "Einen Moment, bitte."
