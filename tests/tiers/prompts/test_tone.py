from __future__ import annotations

import numpy as np
import pytest

from orchestrator.protocol.audio import AudioFormat, to_pcm16
from tiers.prompts.tone import NOTES_HZ, tone


def strongest_hertz(samples: np.ndarray, rate: int) -> float:
    windowed = samples * np.hanning(len(samples))
    return float(np.argmax(np.abs(np.fft.rfft(windowed))) * rate / len(samples))


@pytest.fixture(params=list(AudioFormat), ids=lambda fmt: fmt.name)
def fmt(request) -> AudioFormat:
    return request.param


def level_dbfs(samples: np.ndarray) -> float:
    return float(20 * np.log10(np.abs(samples).max() / 32768))


@pytest.mark.parametrize("ms", [1, 20, 250, 600, 3001])
def test_it_lasts_exactly_as_long_as_asked(fmt, ms):
    assert len(tone(fmt, ms)) == ms * fmt.bytes_per_ms


def test_it_peaks_at_minus_20_dbfs_and_is_heard_throughout(fmt):
    samples = to_pcm16(tone(fmt, 600), fmt).astype(float)
    assert level_dbfs(samples) == pytest.approx(-20, abs=0.5)
    window = fmt.rate // 50
    inner = samples[window * 3 : window * 12]
    loudness = [level_dbfs(inner[i : i + window]) for i in range(0, len(inner), window)]
    assert min(loudness) > -30


def test_it_is_two_notes_the_second_higher(fmt):
    samples = to_pcm16(tone(fmt, 600), fmt).astype(float)
    half = len(samples) // 2
    assert strongest_hertz(samples[:half], fmt.rate) == pytest.approx(NOTES_HZ[0], abs=8)
    assert strongest_hertz(samples[half:], fmt.rate) == pytest.approx(NOTES_HZ[1], abs=8)


def test_it_starts_ends_and_changes_without_a_click(fmt):
    samples = to_pcm16(tone(fmt, 600), fmt).astype(float) / 32768
    half = len(samples) // 2
    edge = fmt.rate // 1000
    for silent in (samples[:edge], samples[-edge:], samples[half - edge // 2 : half + edge // 2]):
        assert np.abs(silent).max() < 0.004
    # The steepest a sine of this height and pitch can rise between two samples, and a little for the format.
    steepest = 0.1 * 2 * np.pi * NOTES_HZ[1] / fmt.rate
    assert np.abs(np.diff(samples)).max() < steepest * 1.1 + 0.002


def test_it_is_made_once():
    assert tone(AudioFormat.PCMU, 400) is tone(AudioFormat.PCMU, 400)
