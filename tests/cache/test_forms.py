"""The forms of a clip, read back by FFmpeg's decoders."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest

from cache import FORMS, MEDIA_TYPES, Container, transcode

CODED = [Container.MP3, Container.OPUS, Container.FLAC, Container.AAC]


def sine(seconds: float, hertz: float = 440.0) -> np.ndarray:
    t = np.arange(int(24_000 * seconds)) / 24_000
    return (8000 * np.sin(2 * np.pi * hertz * t)).astype(np.int16)


def strongest_hertz(samples: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


def decoded(data: bytes) -> tuple[str, np.ndarray, int]:
    with av.open(io.BytesIO(data)) as file:
        stream = file.streams.audio[0]
        resampler = av.AudioResampler("s16", "mono", 24_000)
        frames = [out for frame in file.decode(stream) for out in resampler.resample(frame)]
        frames += resampler.resample(None)
        samples = np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames])
        return file.format.name, samples, stream.channels


@pytest.mark.parametrize("form", CODED, ids=lambda form: form.value)
@pytest.mark.parametrize("seconds", [0.01, 1.0, 61.3])
def test_files_are_what_they_are_called_and_sound_the_same(form: Container, seconds: float) -> None:
    name, samples, channels = decoded(transcode(sine(seconds), form))
    assert name == {"opus": "ogg"}.get(form.value, form.value)
    assert channels == 1
    # Lossy codecs fill up their last frame, and AAC adds two before the first.
    assert len(samples) / 24_000 == pytest.approx(seconds, abs=0.1)
    if seconds >= 1:
        assert strongest_hertz(samples, 24_000) == pytest.approx(440, abs=1.5)
        assert np.abs(samples[2400:-4800].astype(int)).max() == pytest.approx(8000, rel=0.1)


def test_nothing_is_lost_in_flac() -> None:
    assert np.array_equal(decoded(transcode(sine(1.0), Container.FLAC))[1], sine(1.0))


@pytest.mark.parametrize(("form", "rate"), [(Container.PCM_16K, 16_000), (Container.PCM_8K, 8_000)])
def test_raw_samples_at_other_rates(form: Container, rate: int) -> None:
    samples = np.frombuffer(transcode(sine(1.0), form), dtype="<i2")
    assert len(samples) == rate
    assert strongest_hertz(samples, rate) == pytest.approx(440, abs=1.5)


def test_what_a_rate_cannot_hold_is_filtered_out() -> None:
    samples = np.frombuffer(transcode(sine(1.0, 5000.0), Container.PCM_8K), dtype="<i2")
    assert np.abs(samples[200:-200].astype(int)).max() < 80


@pytest.mark.parametrize("name", FORMS)
def test_equal_samples_are_equal_bytes_whoever_made_them(name: str) -> None:
    """So that replicas answer with the same entity tag, and a range may come from another one."""
    assert transcode(sine(0.3), FORMS[name]) == transcode(sine(0.3), FORMS[name])


@pytest.mark.parametrize("name", FORMS)
def test_silence_and_nothing_at_all_have_every_form(name: str) -> None:
    assert isinstance(transcode(np.zeros(2400, np.int16), FORMS[name]), bytes)
    assert isinstance(transcode(np.zeros(0, np.int16), FORMS[name]), bytes)


def test_every_form_has_a_media_type_of_its_own() -> None:
    assert set(MEDIA_TYPES) == set(FORMS.values())
    assert len(set(MEDIA_TYPES.values())) == len(FORMS)
