"""Kokoro that tells its words apart: the real model, and what is done to its file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from orchestrator import models
from orchestrator.listening import loudness
from orchestrator.models import ModelMissing
from tiers.pipeline import kokoro_parts
from tiers.pipeline.errors import EngineFailed
from tiers.pipeline.kokoro_parts import LONGEST, KokoroParts
from tiers.speech import Parts, TellsParts

SENTENCE = ("Number eight,", "six", ",", "two six.")


@pytest.fixture(scope="module")
def kokoro() -> Iterator[KokoroParts]:
    try:
        speech = KokoroParts(models.kokoro_model(), models.kokoro_voices())
    except models.ModelMissing as error:
        pytest.skip(str(error))
    yield speech
    speech.close()


async def test_it_tells_in_which_pauses_its_parts_meet(kokoro):
    assert isinstance(kokoro, TellsParts)
    said = await kokoro.speak_parts(SENTENCE)
    assert isinstance(said, Parts)
    assert len(said.between) == len(SENTENCE) - 1
    assert list(said.between) == sorted(said.between)
    assert 0 < said.between[0][0] < said.between[-1][1] < len(said.pcm)
    assert all(first < last for first, last in said.between)
    quiet = loudness(said.pcm, 24_000)
    for first, last in said.between[:2]:
        pause = quiet[first // 240 : last // 240 + 1]
        assert pause.min() < quiet.max() - 25, "a pause lies where two parts meet"
    word = quiet[said.between[0][1] // 240 : said.between[1][0] // 240]
    assert word.max() > quiet.max() - 10, "and a word between two pauses"


async def test_it_says_whole_lines_as_the_other_engine_does(kokoro):
    assert (kokoro.rung, kokoro.version) == ("kokoro", "82m-1.0")
    pcm = np.concatenate([piece async for piece in kokoro.speak("Hello.")])
    assert loudness(pcm, 24_000).max() > -30


async def test_what_is_too_long_for_one_piece_is_left_to_others(kokoro):
    assert await kokoro.speak_parts(("word " * LONGEST, "two.")) is None


async def test_a_part_without_sounds_is_an_error(kokoro):
    with pytest.raises(EngineFailed, match="no sounds for one of 2 parts"):
        await kokoro.speak_parts(("Hello", "\u2603"))


async def test_an_export_that_does_not_tell_is_used_all_the_same(kokoro, monkeypatch, caplog):
    monkeypatch.setattr(kokoro_parts, "DURATIONS", "/no/such/tensor")
    plain = KokoroParts(models.kokoro_model(), models.kokoro_voices())
    assert await plain.speak_parts(SENTENCE) is None
    assert "this export of Kokoro tells no durations" in caplog.text
    plain.close()


async def test_missing_weights_are_told(tmp_path: Path):
    speech = KokoroParts(tmp_path / "model.onnx", tmp_path / "voices.npz")
    with pytest.raises(ModelMissing):
        await speech.speak_parts(SENTENCE)
    speech.close()


@pytest.mark.parametrize(("value", "encoded"), [(0, "00"), (127, "7f"), (128, "8001"), (300, "ac02")])
def test_numbers_are_written_as_protocol_buffers_write_them(value, encoded):
    assert bytes(kokoro_parts._varint(value)).hex() == encoded


def test_a_field_is_its_tag_its_length_and_what_it_holds():
    assert kokoro_parts._field(12, b"ab") == bytes([12 << 3 | 2, 2]) + b"ab"
