"""Audio formats: G.711 against its published values, resampling that neither loses nor invents time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.protocol.audio import (
    HEAR_RATE,
    SPEAK_RATE,
    AudioFormat,
    Decoder,
    Encoder,
    float_to_pcm16,
    from_pcm16,
    hear,
    to_pcm16,
)


@pytest.mark.parametrize(
    ("fmt", "code", "linear"),
    [
        # ITU-T G.711: the ends and the middle of both scales.
        (AudioFormat.PCMU, 0x00, -32124),
        (AudioFormat.PCMU, 0x80, 32124),
        (AudioFormat.PCMU, 0xFF, 0),
        (AudioFormat.PCMU, 0x7F, 0),
        (AudioFormat.PCMU, 0xF0, 120),
        (AudioFormat.PCMA, 0x2A, -32256),
        (AudioFormat.PCMA, 0xAA, 32256),
        (AudioFormat.PCMA, 0xD5, 8),
        (AudioFormat.PCMA, 0x55, -8),
    ],
)
def test_g711_codes_have_their_published_values(fmt: AudioFormat, code: int, linear: int) -> None:
    assert to_pcm16(bytes([code]), fmt)[0] == linear


@given(st.integers(-32768, 32767), st.sampled_from([AudioFormat.PCMU, AudioFormat.PCMA]))
def test_companding_keeps_a_sample_within_its_step(sample: int, fmt: AudioFormat) -> None:
    back = int(to_pcm16(from_pcm16(np.array([sample], np.int16), fmt), fmt)[0])
    assert abs(back - sample) <= max(8, abs(sample) / 24 + 2, abs(sample) - 32124)


@pytest.mark.parametrize("fmt", list(AudioFormat))
def test_silence_is_silent_and_as_long_as_asked(fmt: AudioFormat) -> None:
    data = fmt.silence(100)
    assert fmt.ms(len(data)) == 100
    assert np.abs(to_pcm16(data, fmt)).max() <= 8


def tone(rate: int, seconds: float = 0.5) -> np.ndarray:
    return (np.sin(np.arange(int(rate * seconds)) / rate * 440 * 2 * np.pi) * 12000).astype(np.int16)


@pytest.mark.parametrize("fmt", list(AudioFormat))
def test_a_tone_survives_the_way_out_and_in(fmt: AudioFormat) -> None:
    encoder = Encoder(fmt)
    samples = tone(SPEAK_RATE)
    pieces = [encoder.encode(samples[i : i + 700]) for i in range(0, len(samples), 700)]
    wire = b"".join(pieces) + encoder.encode(samples[:0], last=True)
    assert abs(fmt.ms(len(wire)) - 500) < 2
    heard = hear(wire, fmt)
    spectrum = np.abs(np.fft.rfft(heard))
    assert abs(np.argmax(spectrum) * HEAR_RATE / len(heard) - 440) < 4
    assert 0.2 < np.abs(heard).max() < 0.5


@pytest.mark.parametrize("fmt", list(AudioFormat))
@given(cuts=st.lists(st.integers(1, 999), max_size=12))
def test_decoding_does_not_depend_on_how_it_is_cut(fmt: AudioFormat, cuts: list[int]) -> None:
    wire = from_pcm16(tone(fmt.rate, 0.05), fmt)
    decoder, pieces, at = Decoder(fmt), [], 0
    for size in cuts:
        pieces.append(decoder.decode(wire[at : at + size]))
        at += size
    pieces.append(decoder.decode(wire[at:], last=True))
    np.testing.assert_allclose(np.concatenate(pieces), hear(wire, fmt), atol=1e-4)


def test_formats_are_read_from_the_sessions_words() -> None:
    for fmt in AudioFormat:
        assert AudioFormat.parse(fmt.describe()) is fmt
    with pytest.raises(ValueError, match="24000"):
        AudioFormat.parse({"type": "audio/pcm", "rate": 16000})
    with pytest.raises(ValueError, match="audio/mp3"):
        AudioFormat.parse({"type": "audio/mp3"})


def test_floats_are_clipped_not_wrapped() -> None:
    assert list(float_to_pcm16(np.array([2.0, -2.0, 0.0], np.float32))) == [32767, -32767, 0]
