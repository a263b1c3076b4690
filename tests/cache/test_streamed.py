"""Forms while the sound is made: the pieces together are a whole file with the same sound in it."""

from __future__ import annotations

import io
import itertools

import av
import numpy as np
import pytest

from cache import FORMS, transcode
from cache.forms import CODED, NAMES, RAW_RATES, Container, Form
from cache.streamed import form_stream
from orchestrator.protocol.audio import SPEAK_RATE, AudioFormat, Pcm16, to_pcm16

SECONDS = 1.3


def tone() -> Pcm16:
    """A tone that rises, so that a piece in the wrong place shows."""
    at = np.arange(int(SECONDS * SPEAK_RATE)) / SPEAK_RATE
    return (np.sin(2 * np.pi * (220 + 200 * at) * at) * 12_000).astype(np.int16)


def streamed(form: Form, pcm: Pcm16, piece: int) -> list[bytes]:
    stream = form_stream(form)
    starts = range(0, len(pcm), piece)
    pieces = [stream.feed(pcm[start : start + piece]) for start in starts]
    return [*pieces, stream.feed(np.zeros(0, np.int16), last=True)]


def heard(data: bytes, form: Form) -> tuple[np.ndarray, int]:
    if isinstance(form, AudioFormat):
        return to_pcm16(data, form), form.rate
    if form in RAW_RATES:
        return np.frombuffer(data, "<i2"), RAW_RATES[form]
    with av.open(io.BytesIO(data)) as file:
        frames = [frame.to_ndarray() for frame in file.decode(audio=0)]
        rate = file.streams.audio[0].rate
    samples = np.concatenate([frame[0] for frame in frames])
    return (samples * 32768 if samples.dtype.kind == "f" else samples), rate


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    """The highest correlation, whatever a codec puts before the sound."""
    size = len(one) + len(other)
    spectra = [np.fft.rfft(sound.astype(float), size) for sound in (one, other)]
    product = np.fft.irfft(spectra[0] * spectra[1].conj(), size)
    norms = [np.linalg.norm(sound.astype(float)) for sound in (one, other)]
    return float(product.max() / (norms[0] * norms[1]))


@pytest.mark.parametrize("name", FORMS)
def test_the_pieces_make_the_same_sound(name: str) -> None:
    form, pcm = FORMS[name], tone()
    pieces = streamed(form, pcm, 2400)
    got, rate = heard(b"".join(pieces), form)
    whole, _ = heard(transcode(pcm, form), form)
    assert len(got) / rate == pytest.approx(SECONDS, abs=0.12)
    assert likeness(whole, got) > 0.98


@pytest.mark.parametrize("name", [name for name in FORMS if FORMS[name] not in CODED])
def test_how_it_is_cut_makes_no_difference(name: str) -> None:
    """But for a resampler's last bit: an int16 stream is rounded piece by piece."""
    form, pcm = FORMS[name], tone()
    files = [b"".join(streamed(form, pcm, piece)) for piece in (480, 2400, 9001, len(pcm))]
    sounds = [heard(data, form)[0].astype(int) for data in files]
    for one, other in itertools.pairwise(sounds):
        assert len(one) == len(other)
        assert np.abs(one - other).max() <= (
            0 if isinstance(form, Container) and form not in RAW_RATES else 600
        )


@pytest.mark.parametrize("name", FORMS)
def test_the_first_bytes_come_with_the_first_half_second(name: str) -> None:
    pieces = streamed(FORMS[name], tone(), SPEAK_RATE // 2)
    assert pieces[0], NAMES[FORMS[name]]
    # With what a file begins with there is sound already, not only a header.
    least = {"mp3": 1500, "opus": 800, "aac": 1500}.get(name, 3000)
    assert len(pieces[0]) > least


@pytest.mark.parametrize("name", FORMS)
def test_a_sound_without_samples_ends_too(name: str) -> None:
    data = form_stream(FORMS[name]).feed(np.zeros(0, np.int16), last=True)
    assert len(data) < 10_000
