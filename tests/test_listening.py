"""The listener hears what a caller would hear, to the window of 10 ms that loudness is measured in."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.listening import (
    Arrival,
    Played,
    Span,
    first_sound,
    gaps,
    heard_ms,
    loudness,
    play,
    repeats,
    sounds,
)
from orchestrator.protocol.audio import AudioFormat, Pcm16, from_pcm16, to_pcm16

SPEECH = Path(__file__).parent / "fixtures" / "audio" / "austen-0880.wav"
PCM = AudioFormat.PCM


def tone(ms: float, level: float = 0.5, hertz: float = 440.0, rate: int = 24_000) -> Pcm16:
    times = np.arange(round(ms * rate / 1000)) / rate
    return (level * 32767 * np.sin(2 * np.pi * hertz * times)).astype(np.int16)


def quiet(ms: float, rate: int = 24_000) -> Pcm16:
    return np.zeros(round(ms * rate / 1000), dtype=np.int16)


def arrivals(*pieces: tuple[float, Pcm16]) -> list[Arrival]:
    return [Arrival(at, from_pcm16(samples, PCM)) for at, samples in pieces]


def speech() -> Pcm16:
    """A reader's sentence, 16 kHz."""
    with wave.open(str(SPEECH)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")


def heard(samples: Pcm16, rate: int = 16_000, start: float = 0.0) -> Played:
    return Played(samples, start, rate)


def close(span: Span, start: float, end: float) -> bool:
    return abs(span.start - start) <= 0.0101 and abs(span.end - end) <= 0.0101


class TestPlay:
    def test_audio_that_comes_early_waits_its_turn(self) -> None:
        played = play(arrivals((5.0, tone(1000)), (5.1, tone(1000)), (5.2, tone(1000))), PCM)
        assert (played.start, played.end) == (5.0, 8.0)
        assert played.dry == ()

    def test_audio_that_comes_late_leaves_a_silence(self) -> None:
        played = play(arrivals((5.0, tone(500)), (6.0, tone(500))), PCM)
        assert played.end == pytest.approx(6.5)
        assert [(span.start, span.end) for span in played.dry] == [(5.5, 6.0)]
        assert not played.between(5.5, 6.0).any()
        assert played.between(6.0, 6.5).any()

    def test_a_flush_drops_what_was_not_played(self) -> None:
        played = play(arrivals((0.0, tone(2000)), (1.0, tone(500))), PCM, flushes=[0.6])
        assert played.dropped_ms == pytest.approx(1400)
        assert [(round(s.start, 3), round(s.end, 3)) for s in played.dry] == [(0.6, 1.0)]
        assert played.end == pytest.approx(1.5)

    def test_a_flush_of_an_empty_player_changes_nothing(self) -> None:
        pieces = arrivals((0.0, tone(100)))
        assert play(pieces, PCM, flushes=[-1.0, 0.2, 9.0]).samples.tolist() == tone(100).tolist()

    def test_nothing_arrives(self) -> None:
        played = play([], PCM, flushes=[1.0])
        assert (len(played.samples), played.dry, sounds(played), gaps(played, 0)) == (0, (), [], [])
        assert repeats(played) == []

    @pytest.mark.parametrize("fmt", [AudioFormat.PCMU, AudioFormat.PCMA])
    def test_phone_formats(self, fmt: AudioFormat) -> None:
        data = from_pcm16(tone(200, rate=8000), fmt)
        played = play([Arrival(1.0, data)], fmt)
        assert played.rate == 8000
        assert np.array_equal(played.samples, to_pcm16(data, fmt))

    @given(st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 800)), min_size=1, max_size=12))
    def test_every_sample_is_played_once_and_never_before_it_came(self, rows: list[tuple[int, int]]) -> None:
        pieces = [
            Arrival(at / 1000, np.full(ms * 24, n + 1, dtype="<i2").tobytes())
            for n, (at, ms) in enumerate(rows)
        ]
        played = play(pieces, PCM)
        for n, (at, ms) in enumerate(rows):
            where = np.flatnonzero(played.samples == n + 1)
            assert len(where) == ms * 24
            if ms:
                assert played.start + where[0] / 24_000 >= at / 1000 - 1e-4
        assert round(sum(span.ms for span in played.dry) * 24) == np.count_nonzero(played.samples == 0)


class TestLoudness:
    def test_full_scale_sine(self) -> None:
        assert loudness(tone(100, level=1.0), 24_000) == pytest.approx(-3.0, abs=0.2)

    def test_a_hundredth_of_it_is_40_db_less(self) -> None:
        assert loudness(tone(100, level=0.01), 24_000) == pytest.approx(-43.0, abs=0.3)

    def test_digital_silence(self) -> None:
        assert loudness(quiet(25), 24_000).tolist() == [-120.0] * 3

    def test_a_short_last_window_is_not_diluted(self) -> None:
        assert loudness(tone(15, level=1.0), 24_000)[-1] == pytest.approx(-3.0, abs=0.5)


class TestGaps:
    def test_where_the_player_ran_dry(self) -> None:
        played = play(arrivals((0.0, tone(1000)), (1.45, tone(500))), PCM)
        [gap] = gaps(played, 100)
        assert close(gap, 1.0, 1.45)

    def test_quiet_audio_is_a_gap_too(self) -> None:
        hiss = tone(300, level=0.005)
        played = play(arrivals((0.0, np.concatenate([tone(500), hiss, tone(500)]))), PCM)
        [gap] = gaps(played, 250)
        assert close(gap, 0.5, 0.8)
        assert gaps(played, 310) == []
        assert gaps(played, 250, threshold=-60.0) == []

    def test_silence_around_the_audio_counts_only_when_asked_for(self) -> None:
        played = play(arrivals((10.0, np.concatenate([quiet(300), tone(500), quiet(300)]))), PCM)
        assert gaps(played, 50) == []
        before, after = gaps(played, 50, since=9.0, until=12.0)
        assert close(before, 9.0, 10.3)
        assert close(after, 10.8, 12.0)

    def test_since_and_until_cut_the_timeline(self) -> None:
        pieces = (0.0, tone(500)), (1.0, tone(500)), (2.0, tone(500))
        played = play(arrivals(*pieces), PCM)
        assert len(gaps(played, 100)) == 2
        [only] = gaps(played, 100, since=1.2, until=2.2)
        assert close(only, 1.5, 2.0)

    def test_silence_all_the_way(self) -> None:
        played = play(arrivals((0.0, quiet(1000))), PCM)
        assert gaps(played, 100) == []
        [all_of_it] = gaps(played, 100, since=0.0, until=3.0)
        assert (all_of_it.start, all_of_it.end) == (0.0, 3.0)


class TestSound:
    def test_first_sound(self) -> None:
        played = play(arrivals((4.0, np.concatenate([quiet(200), tone(300)])), (6.0, tone(300))), PCM)
        assert first_sound(played) == pytest.approx(4.2, abs=0.011)
        assert first_sound(played, after=4.3) == 4.3
        assert first_sound(played, after=4.6) == pytest.approx(6.0, abs=0.011)
        assert first_sound(played, after=7.0) is None
        assert heard_ms(played) == pytest.approx(600, abs=30)

    def test_a_sentence_has_its_sound_where_the_reader_speaks(self) -> None:
        played = heard(speech())
        assert 0.5 * played.end < heard_ms(played) / 1000 <= played.end


class TestRepeats:
    def test_a_sentence_heard_once(self) -> None:
        assert repeats(heard(speech())) == []

    def test_a_beginning_heard_twice(self) -> None:
        """What happens when an engine dies in the middle and the next one starts over with the same voice."""
        said = speech()
        start = said[: 16_000 * 1]
        [found] = repeats(heard(np.concatenate([start, said])))
        assert found.again.start - found.first.start == pytest.approx(1.0, abs=0.002)
        assert found.first.ms >= 600

    def test_in_another_coding_and_quieter(self) -> None:
        said = speech()
        phone = to_pcm16(from_pcm16(said, AudioFormat.PCMU), AudioFormat.PCMU) // 2
        [found] = repeats(heard(np.concatenate([said, quiet(137, 16_000), phone])))
        assert found.again.start - found.first.start == pytest.approx(len(said) / 16_000 + 0.137, abs=0.002)

    def test_too_far_apart(self) -> None:
        said = speech()
        far = np.concatenate([said, quiet(4_000, 16_000), said])
        assert repeats(heard(far), within=3.0) == []
        assert len(repeats(heard(far), within=10.0)) == 1

    def test_other_words_by_the_same_voice(self) -> None:
        said = speech()
        half = len(said) // 2
        assert repeats(heard(np.concatenate([said[half:], said[:half]]))) == []

    def test_a_steady_tone_repeats_nothing(self) -> None:
        assert repeats(heard(tone(3000), 24_000)) == []
