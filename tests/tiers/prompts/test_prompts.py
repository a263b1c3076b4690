from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from cache import ClipCache, Container, DiskStore, Source, clip_key, transcode
from orchestrator.models import ModelMissing
from orchestrator.protocol.answers import PromptSource
from orchestrator.protocol.audio import AudioFormat, to_pcm16
from tiers.prompts.catalogue import Catalogue, Prompt, UnknownLanguage, VariablesInvalid
from tiers.prompts.prompts import Prompts
from tiers.prompts.rendering import VoiceMissing
from tiers.prompts.variables import SpelledId
from tiers.speech import SpeechFailed

PIN = SpelledId(type="spelled_id")
ORDER = {"order_id": "4172", "status": "out_for_delivery"}
SPOKEN = "Your order number four one seven two is out for delivery."


def same_sound(one: bytes | None, other: bytes, fmt: AudioFormat) -> bool:
    """Equal but for the dither of the resampler."""
    if one is None or len(one) != len(other):
        return False
    return bool(np.corrcoef(to_pcm16(one, fmt), to_pcm16(other, fmt))[0, 1] > 0.999)


async def test_a_prompt_is_rendered_in_words_under_the_key_of_its_content(prompts, hum):
    clip = await prompts.render("order_status", ORDER, "en-US", "cedar", 1.2)
    assert hum.spoken == [(SPOKEN, "cedar", 1.2, "en")]
    assert clip.key == clip_key(SPOKEN, voice="cedar", engine="hum 1 trimmed", language="en", speed=1.2)
    assert np.array_equal(clip.pcm, hum.samples(SPOKEN, "cedar"))
    with pytest.raises(ValueError, match="read-only"):
        clip.pcm[0] = 1


async def test_the_same_prompt_is_said_once_however_it_was_asked_for(prompts, hum):
    await prompts.render("order_status", ORDER)
    await prompts.render("order_status", {"order_id": 4172, "status": "Out for delivery"}, voice="marin")
    assert len(hum.spoken) == 1
    await prompts.render("order_status", ORDER | {"order_id": "4173"})
    assert len(hum.spoken) == 2


async def test_many_callers_share_one_render_and_one_may_hang_up(prompts, hum):
    hum.go.clear()
    callers = [asyncio.create_task(prompts.render("goodbye")) for _ in range(50)]
    await hum.started.wait()
    callers[0].cancel()
    await asyncio.sleep(0)
    hum.go.set()
    clips = await asyncio.gather(*callers[1:])
    assert len({id(clip) for clip in clips}) == 1
    assert len(hum.spoken) == 1


async def test_as_a_source_of_prompts_it_gives_words_and_samples(prompts, hum):
    source: PromptSource = prompts
    first = await source.prompt("order_status", ORDER)
    again = await source.prompt("order_status", ORDER)
    assert first.text == "Your order number 4172 is out for delivery."
    assert np.array_equal(first.pcm, hum.samples(SPOKEN, "marin"))
    assert (first.cached, again.cached) == (False, True)


async def test_a_caller_whose_language_is_not_there_hears_english(prompts):
    assert (await prompts.prompt("goodbye", {}, "fr")).text.endswith("Goodbye.")
    with pytest.raises(UnknownLanguage):
        await prompts.render("goodbye", language="fr")


async def test_wrong_variables_reach_no_engine(prompts, hum):
    with pytest.raises(VariablesInvalid):
        await prompts.render("order_status", {"order_id": "4172"})
    assert hum.spoken == []


async def test_audio_comes_in_the_form_asked_for(prompts, hum):
    samples = hum.samples("What is your order number, please?", "marin")
    for fmt in AudioFormat:
        data = await prompts.audio("ask_order_number", form=fmt)
        assert same_sound(data, transcode(samples, fmt), fmt)
    assert await prompts.audio("ask_order_number", form=Container.WAV) == transcode(samples, Container.WAV)


async def test_warming_makes_every_prompt_without_variables_ready_at_once(prompts, hum):
    seen: list[tuple[int, int, str]] = []
    formats = (AudioFormat.PCM, AudioFormat.PCMU)
    assert prompts.clip("one_moment", AudioFormat.PCM) is None
    warmed = await prompts.warm(formats, lambda *step: seen.append(step))
    bridges = [line.name for line in prompts.catalogue.bridges("en")]
    names = {*bridges, *(line.name for line in prompts.catalogue.constant())}
    assert warmed.ready == len(names) == len(seen)
    assert warmed.failed == {}
    assert [name for _, _, name in seen[: len(bridges)]] == bridges, "bridges come first"
    assert seen[-1][0] == len(names)
    for name in names:
        samples = hum.samples(prompts.catalogue.fill(name).spoken, "marin")
        for fmt in formats:
            assert same_sound(prompts.clip(name, fmt), transcode(samples, fmt), fmt)
        assert prompts.clip(name, AudioFormat.PCMA) is None
    said = len(hum.spoken)
    await prompts.warm(formats)
    assert len(hum.spoken) == said


async def test_what_is_warm_stays_however_much_passes_through_the_cache(hum):
    prompts = Prompts(Catalogue.load(), ClipCache(memory_bytes=100_000), hum)
    await prompts.warm([AudioFormat.PCMU])
    warm = prompts.clip("one_moment", AudioFormat.PCMU)
    for number in range(100):
        await prompts.audio("order_unknown", {"order_id": str(number)}, AudioFormat.PCMU)
    assert prompts.clip("one_moment", AudioFormat.PCMU) == warm
    assert prompts.clip("order_unknown", AudioFormat.PCMU, {"order_id": "0"}) is None


async def test_a_clip_with_variables_is_there_once_it_was_said(prompts, hum):
    assert prompts.clip("order_status", AudioFormat.PCMU, ORDER) is None
    data = await prompts.audio("order_status", ORDER, AudioFormat.PCMU)
    assert prompts.clip("order_status", AudioFormat.PCMU, ORDER) == data
    assert prompts.clip("order_status", AudioFormat.PCM, ORDER) is None


async def test_without_an_engine_what_was_kept_is_said_and_the_rest_is_a_clear_error(hum, tmp_path: Path):
    catalogue = Catalogue.load()
    before = Prompts(catalogue, ClipCache(DiskStore(tmp_path)), hum)
    await before.warm([AudioFormat.PCM])
    await before.cache.aclose()

    after = Prompts(catalogue, ClipCache(DiskStore(tmp_path)), None, engine="hum 1")
    assert (await after.prompt("goodbye", {})).cached
    warmed = await after.warm([AudioFormat.PCMU])
    assert warmed.failed == {}
    assert after.clip("one_moment", AudioFormat.PCMU) is not None
    with pytest.raises(VoiceMissing, match=r"prompt goodbye .* 'cedar'.*orchestrator models fetch"):
        await after.render("goodbye", voice="cedar")


async def test_another_version_of_the_engine_does_not_take_the_old_clips(hum, tmp_path: Path):
    before = Prompts(Catalogue.load(), ClipCache(DiskStore(tmp_path)), hum)
    await before.render("goodbye")
    await before.cache.aclose()
    hum.version = "2"
    after = Prompts(Catalogue.load(), ClipCache(DiskStore(tmp_path)), hum)
    assert not (await after.prompt("goodbye", {})).cached
    assert len(hum.spoken) == 2


async def test_the_old_clips_of_an_engine_of_our_own_are_heard_while_new_ones_are_made(hum, tmp_path: Path):
    hum.self_hosted = True
    before = Prompts(Catalogue.load(), ClipCache(DiskStore(tmp_path)), hum)
    old = await before.render("goodbye")
    await before.cache.aclose()
    hum.version = "2"
    after = Prompts(Catalogue.load(), ClipCache(DiskStore(tmp_path)), hum)
    _, found = await after.find("goodbye")
    assert (found.source, found.clip.key) == (Source.STALE, old.key)
    await after.cache.flush()
    _, found = await after.find("goodbye")
    assert found.source is Source.MEMORY
    assert found.clip.key != old.key
    assert len(hum.spoken) == 2


async def test_one_prompt_that_fails_does_not_stop_the_others(prompts, hum):
    says = hum.speak

    def speak(text: str, **options):
        hum.fault = SpeechFailed("no such sound") if "order number" in text else None
        return says(text, **options)

    hum.speak = speak
    warmed = await prompts.warm([AudioFormat.PCM])
    assert warmed.failed == {"ask_order_number.en": "no such sound"}
    assert warmed.ready == len([*prompts.catalogue.bridges("en"), *prompts.catalogue.constant()]) - 1
    assert prompts.clip("ask_order_number", AudioFormat.PCM) is None


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        (SpeechFailed("hum is tired"), SpeechFailed, "hum is tired"),
        (ModelMissing("Hum", Path("hum.onnx")), ModelMissing, "orchestrator models fetch"),
        (OSError("https://user:secret@host"), SpeechFailed, "hum could not say prompt goodbye: OSError"),
    ],
)
async def test_what_an_engine_raises_is_told_without_its_secrets(prompts, hum, fault, kind, message):
    hum.fault = fault
    with pytest.raises(kind, match=message) as caught:
        await prompts.render("goodbye")
    assert "secret" not in str(caught.value)
    hum.fault = None
    assert (await prompts.render("goodbye")).seconds > 0


@pytest.mark.parametrize("samples", [0, 24_000])
async def test_an_engine_that_returns_silence_has_failed(prompts, hum, monkeypatch, samples):
    monkeypatch.setattr(type(hum), "samples", staticmethod(lambda *_: np.zeros(samples, np.int16)))
    with pytest.raises(SpeechFailed, match="hum returned no sound for prompt goodbye"):
        await prompts.render("goodbye")


async def test_a_prompt_has_a_voice_and_a_speed_of_its_own_unless_others_are_asked_for(hum):
    slow = Prompt(text={"en": "Slowly."}, voice="sage", speed=0.8)
    prompts = Prompts(Catalogue({"slow": slow}), ClipCache(), hum)
    await prompts.render("slow")
    await prompts.render("slow", voice="cedar", speed=1.5)
    assert [spoken[1:3] for spoken in hum.spoken] == [("sage", 0.8), ("cedar", pytest.approx(1.2))]
    assert prompts.peek(prompts.catalogue.fill("slow")) is not None


def kept_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


async def test_what_may_not_be_kept_is_said_anew_each_time(hum, tmp_path: Path):
    secret = Prompt(text={"en": "Your code is {code}."}, cacheable=False, variables={"code": PIN})
    prompts = Prompts(Catalogue({"secret": secret}), ClipCache(DiskStore(tmp_path)), hum)
    for _ in range(2):
        await prompts.audio("secret", {"code": "4172"}, Container.MP3)
    await prompts.cache.aclose()
    assert len(hum.spoken) == 2
    assert kept_in(tmp_path) == []


async def test_what_may_be_kept_for_a_time_is_said_anew_after_it(hum, monkeypatch):
    brief = Prompt(text={"en": "Today only."}, ttl_s=60)
    prompts = Prompts(Catalogue({"brief": brief}), ClipCache(), hum)
    now = time.time()
    for passed, times in ((0, 1), (59, 1), (61, 2)):
        monkeypatch.setattr("time.time", lambda passed=passed: now + passed)
        await prompts.render("brief")
        assert len(hum.spoken) == times


async def test_fixed_prompts_are_spoken_ahead_in_the_forms_asked_for(hum, tmp_path: Path):
    def make() -> Prompts:
        return Prompts(Catalogue.load(), ClipCache(DiskStore(tmp_path)), hum)

    first = make()
    warmed = await first.warm_fixed([Container.OPUS], voices=["marin", "cedar"])
    await first.cache.aclose()
    assert warmed.failed == {}
    assert warmed.rendered == warmed.ready == len(hum.spoken) > 10
    assert {spoken[1] for spoken in hum.spoken} == {"marin", "cedar"}
    again = make()
    assert (await again.warm_fixed([Container.OPUS], voices=["marin"])).rendered == 0
    await again.cache.aclose()


async def test_others_prompts_are_said_from_now_on(prompts, hum):
    await prompts.warm([AudioFormat.PCM])
    catalogue = Catalogue.load(over={"goodbye": {"text": {"en": "So long."}}})
    warmed = await prompts.use(catalogue)
    assert (warmed.ready, warmed.failed) == (1, {})
    assert prompts.clip("goodbye", AudioFormat.PCM) == hum.samples("So long.", "marin").tobytes()
    hum.fault = SpeechFailed("out of breath")
    warmed = await prompts.use(Catalogue.load(over={"goodbye": {"text": {"en": "Farewell."}}}))
    assert warmed.failed == {"goodbye.en": "out of breath"}
    assert prompts.clip("goodbye", AudioFormat.PCM) is None, "better none than its old words"
