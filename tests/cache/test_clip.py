from __future__ import annotations

import io
import wave

import numpy as np
import pytest

from cache import Clip, Container, CorruptClip, clip_key, transcode
from orchestrator.protocol.audio import AudioFormat, to_pcm16

BASE = {"voice": "marin", "engine": "kokoro 1", "language": "en", "speed": 1.0}


def sine(seconds: float = 0.5, hertz: float = 440.0) -> np.ndarray:
    t = np.arange(int(24_000 * seconds)) / 24_000
    return (8000 * np.sin(2 * np.pi * hertz * t)).astype(np.int16)


def test_a_key_is_the_same_in_every_process_and_release():
    # By hand: sha256 of the JSON list of text, voice, engine, language and speed. A change here silently
    # empties every cache there is.
    key = clip_key("One moment, please.", **BASE)
    assert key == "81f35c38ef9f266f51c03cff017a22a3bd1307697d13f5f278edb7c93c9e511c"


@pytest.mark.parametrize(
    "change",
    [{"voice": "cedar"}, {"engine": "kokoro 2"}, {"language": "de"}, {"speed": 1.1}],
    ids=lambda change: next(iter(change)),
)
def test_whatever_changes_the_sound_changes_the_key(change):
    assert clip_key("Hello.", **BASE) != clip_key("Hello.", **(BASE | change))


def test_the_parts_of_a_key_do_not_run_together():
    assert clip_key("ab", **(BASE | {"voice": "c"})) != clip_key("a", **(BASE | {"voice": "bc"}))
    assert clip_key("a", **BASE) != clip_key("A", **BASE)


def test_a_clip_comes_back_from_its_bytes():
    clip = Clip("k1", "Grüße,\nall.", sine())
    back = Clip.from_bytes(clip.to_bytes(), "k1")
    assert (back.key, back.text, back.seconds) == ("k1", "Grüße,\nall.", 0.5)
    assert np.array_equal(back.pcm, clip.pcm)
    with pytest.raises(ValueError, match="read-only"):
        back.pcm[0] = 1


@pytest.mark.parametrize("position", [0, 10, 50, 60, 5000, -1])
def test_one_flipped_bit_anywhere_is_found(position):
    data = bytearray(Clip("k1", "Hello.", sine()).to_bytes())
    data[position] ^= 1
    with pytest.raises(CorruptClip):
        Clip.from_bytes(bytes(data), "k1")


@pytest.mark.parametrize("size", [0, 3, 6, 37, 38, 60, 1000])
def test_a_torn_file_is_found(size):
    with pytest.raises(CorruptClip):
        Clip.from_bytes(Clip("k1", "Hello.", sine()).to_bytes()[:size], "k1")


def test_a_clip_under_another_key_is_found():
    with pytest.raises(CorruptClip, match="k2"):
        Clip.from_bytes(Clip("k1", "Hello.", sine()).to_bytes(), "k2")


def strongest_hertz(samples: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


@pytest.mark.parametrize("fmt", list(AudioFormat))
def test_wire_bytes_play_as_long_and_sound_the_same(fmt):
    data = transcode(sine(0.5), fmt)
    assert fmt.ms(len(data)) == pytest.approx(500, abs=1)
    samples = to_pcm16(data, fmt)
    assert strongest_hertz(samples, fmt.rate) == pytest.approx(440, abs=3)
    assert np.abs(samples).max() == pytest.approx(8000, rel=0.05)


def test_pcm_is_the_samples_themselves():
    assert transcode(sine(), AudioFormat.PCM) == sine().tobytes()


def test_a_wav_file_can_be_read_by_others():
    with wave.open(io.BytesIO(transcode(sine(), Container.WAV))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 24_000)
        assert file.readframes(file.getnframes()) == sine().tobytes()
