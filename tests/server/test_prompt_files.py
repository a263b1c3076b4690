"""Prompts as files, over the real prompts and cache, with an engine that hums."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import numpy as np
import pytest

from cache import ClipCache
from orchestrator.protocol.audio import SPEAK_RATE, Pcm16
from orchestrator.server.http_files import About, Abouts, file_answer, tag_of
from orchestrator.server.prompt_files import Asked, PromptFiles
from tiers.prompts.catalogue import Catalogue, UnknownPrompt, VariablesInvalid
from tiers.prompts.prompts import Prompts

GOODBYE = Asked("goodbye", form="pcmu")


@dataclass
class Hum:
    """A second of a tone for everything; `pitch` is what its version changes."""

    rung: str = "hum"
    version: str = "1"
    pitch: float = 200.0
    said: int = 0

    async def speak(
        self, text: str, *, voice: str = "", speed: float = 1.0, language: str = "en"
    ) -> AsyncIterator[Pcm16]:
        self.said += 1
        at = np.arange(SPEAK_RATE) / SPEAK_RATE
        yield (np.sin(2 * np.pi * self.pitch * at) * 9000).astype(np.int16)


def files(hum: Hum, cache: ClipCache | None = None) -> PromptFiles:
    return PromptFiles(Prompts(Catalogue.load(), cache or ClipCache(), hum))


async def test_what_was_said_once_is_had_from_memory() -> None:
    hum = Hum()
    prompts = files(hum)
    assert await prompts.quick_file(GOODBYE) is None
    made = await prompts.speak_file(GOODBYE)
    assert (made.cache, made.text) == ("miss", "Thank you for calling. Goodbye.")
    for _ in range(2):
        found = await prompts.quick_file(GOODBYE)
        assert found == replace(made, cache="hit")
        assert found.audio is made.audio
    assert made.tag == tag_of(made.audio)
    assert made.seconds == pytest.approx(len(made.audio) / 8000, abs=0.01)
    # Another form is made of what there is; another voice or speed is not there.
    other = await prompts.quick_file(replace(GOODBYE, form="mp3"))
    assert other is not None
    assert (other.cache, other.seconds) == ("hit", made.seconds)
    assert other.tag != made.tag
    for change in ({"voice": "ash"}, {"speed": 1.5}):
        assert await prompts.quick_file(replace(GOODBYE, **change)) is None  # type: ignore[arg-type]
    assert hum.said == 1


async def test_a_tag_is_of_the_bytes() -> None:
    tags = set()
    for pitch in (200.0, 200.0, 300.0):
        prompts = files(Hum(pitch=pitch))
        tags.add((await prompts.speak_file(GOODBYE)).tag)
        quick = await prompts.quick_file(GOODBYE)
        assert quick is not None
        tags.add(quick.tag)
    assert len(tags) == 2


async def test_wrong_ones_are_told_of_before_anything_is_looked_up() -> None:
    prompts = files(Hum())
    with pytest.raises(UnknownPrompt):
        await prompts.quick_file(Asked("nothing"))
    with pytest.raises(VariablesInvalid):
        await prompts.quick_file(Asked("queue_update"))


async def test_a_preview_says_whether_it_is_there() -> None:
    hum = Hum()
    prompts = files(hum)
    for cached in (False, True):
        preview = await prompts.preview(GOODBYE)
        assert preview.cached is cached
        assert preview.voice == "marin"
        await prompts.speak_file(GOODBYE)
    assert hum.said == 1


def test_what_is_known_goes_with_the_bytes() -> None:
    abouts, data = Abouts(), b"x" * 1000
    assert abouts.get("a", data) is None
    about = abouts.note("a", data, About(tag_of(data), 1.5))
    assert abouts.get("a", data) is about
    assert abouts.get("b", data) is None
    other = b"y" * 1000
    assert abouts.get("a", other) is None
    assert abouts.note("a", other, About(tag_of(other), 2.0)).tag != about.tag
    assert abouts.get("a", data) is None


def test_an_answer_to_a_post_is_always_whole() -> None:
    asked = {"range": "bytes=0-1", "if-none-match": '"t"'}
    for method, status in (("POST", 200), ("GET", 304), ("HEAD", 304)):
        assert file_answer(method, asked, b"abc", '"t"', []).status == status
    assert file_answer("POST", asked, b"abc", '"t"', []).body == b"abc"
