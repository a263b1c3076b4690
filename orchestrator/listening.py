"""What a caller hears of audio that arrives in pieces: played out, measured for gaps, sound and repetition.

Everything here is a pure function. Audio arrives as ``Arrival``s: bytes of a wire format with the monotonic
second at which they came. Providers send faster than real time, so what counts is when a piece is *played*: as soon
as it is there and everything before it has been played. Where the player has run dry there is digital silence.

Loudness is RMS over 10 ms windows, in dB of full scale (a full-scale sine is -3 dBFS).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from orchestrator.protocol.audio import AudioFormat, Float32, Pcm16, to_pcm16

SILENCE_DBFS = -40.0
"""Quieter than this is silence to a caller on a phone."""
WINDOW_MS = 10

_COMPARE_RATE = 4_000
"""Rate in Hz at which repetitions are looked for: most of a voice's energy lies below 2 kHz."""
_PROBE_MS = 200
_PAUSE_MS = 600
"""Pauses and sustained vowels up to this long do not end a repetition."""
_ALIKE = 0.9
"""Correlation from which two stretches of sound count as the same."""
_MAX_LIKENESSES = 3
"""A stretch that is found in more places than this is a steady tone: it repeats nothing."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A piece of audio, in seconds of a monotonic clock and bytes of a wire format."""

    at: float
    data: bytes


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a played timeline, in seconds of the arrivals' clock."""

    start: float
    end: float

    @property
    def ms(self) -> float:
        return (self.end - self.start) * 1000.0


@dataclass(frozen=True, slots=True)
class Played:
    """A timeline as a caller hears it: `samples` from second `start` on, at `rate` Hz, silence where it ran dry."""

    samples: Pcm16
    start: float
    rate: int
    dry: tuple[Span, ...] = ()
    """Where the player had nothing to play, between the first sample and the last."""
    dropped_ms: float = 0.0
    """Audio that was thrown away unplayed."""

    @property
    def end(self) -> float:
        return self.start + len(self.samples) / self.rate

    def between(self, start: float, end: float) -> Pcm16:
        """The samples of a stretch, as far as there are any."""
        first = max(0, round((start - self.start) * self.rate))
        return self.samples[first : max(first, round((end - self.start) * self.rate))]


@dataclass(frozen=True, slots=True)
class Repeat:
    """The sound of `first` is heard again as `again`."""

    first: Span
    again: Span


def play(arrivals: Iterable[Arrival], fmt: AudioFormat, flushes: Iterable[float] = ()) -> Played:
    """The timeline of a player that starts each piece as soon as it can.

    `flushes` are moments at which the client throws away what it has not played yet, as a barge-in makes it do.
    """
    events = sorted(
        [(arrival.at, True, arrival.data) for arrival in arrivals] + [(at, False, b"") for at in flushes],
        key=lambda event: event[0],
    )
    pieces: list[Pcm16] = []
    dry: list[Span] = []
    start = next((at for at, is_audio, _ in events if is_audio), 0.0)
    length = dropped = 0
    for at, is_audio, data in events:
        now = max(0, round((at - start) * fmt.rate))
        if is_audio:
            if now > length:
                dry.append(Span(start + length / fmt.rate, start + now / fmt.rate))
                pieces.append(np.zeros(now - length, dtype=np.int16))
                length = now
            pieces.append(to_pcm16(data, fmt))
            length += len(pieces[-1])
        elif length > now:
            kept = np.concatenate(pieces)[:now]
            dropped += length - len(kept)
            pieces, length = [kept], len(kept)
    samples = np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int16)
    return Played(samples, start, fmt.rate, tuple(dry), dropped * 1000.0 / fmt.rate)


def loudness(samples: Pcm16, rate: int) -> Float32:
    """dBFS of each 10 ms window; a last incomplete window counts as it is, digital silence is -120."""
    width = rate * WINDOW_MS // 1000
    if not len(samples):
        return np.zeros(0, dtype=np.float32)
    padded = np.zeros(-(-len(samples) // width) * width, dtype=np.float32)
    padded[: len(samples)] = samples.astype(np.float32) / 32768.0
    counts = np.full(len(padded) // width, width)
    counts[-1] = len(samples) - width * (len(counts) - 1)
    power = np.square(padded.reshape(-1, width)).sum(axis=1) / counts
    return np.asarray(10.0 * np.log10(np.maximum(power, 1e-12)), dtype=np.float32)


def sounds(played: Played, threshold: float = SILENCE_DBFS) -> list[Span]:
    """Stretches in which every window is louder than `threshold` dBFS, in order."""
    loud = loudness(played.samples, played.rate) > threshold
    return [_span(played, first, last) for first, last in _runs(loud)]


def gaps(
    played: Played,
    longer_than_ms: float,
    *,
    threshold: float = SILENCE_DBFS,
    since: float | None = None,
    until: float | None = None,
) -> list[Span]:
    """Silences of more than `longer_than_ms` that a caller sits through.

    Silence counts between the first sound and the last. With `since`, what precedes the first sound after it counts
    from there on; with `until`, what follows the last sound counts up to there.
    """
    heard = sounds(played, threshold)
    if since is not None:
        heard = [Span(max(span.start, since), span.end) for span in heard if span.end > since]
    if until is not None:
        heard = [Span(span.start, min(span.end, until)) for span in heard if span.start < until]
    edges = [edge for span in heard for edge in (span.start, span.end)]
    edges = edges[1:-1] if edges else []
    if since is not None:
        edges = [since, heard[0].start if heard else (until or max(since, played.end)), *edges]
    if until is not None and heard:
        edges = [*edges, heard[-1].end, until]
    silences = (Span(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True))
    return [span for span in silences if span.ms > longer_than_ms]


def first_sound(
    played: Played, after: float = float("-inf"), threshold: float = SILENCE_DBFS
) -> float | None:
    """The second at which something is heard at or after `after`; None if nothing is."""
    return next((max(span.start, after) for span in sounds(played, threshold) if span.end > after), None)


def heard_ms(played: Played, threshold: float = SILENCE_DBFS) -> float:
    """How much sound there was in all."""
    return sum(span.ms for span in sounds(played, threshold))


def repeats(played: Played, at_least_ms: float = 400.0, within: float = 30.0) -> list[Repeat]:
    """Stretches of sound that are heard a second time within `within` seconds.

    Found by normalised correlation of 200 ms probes, so the same words spoken anew are not a repetition, and the same
    audio in another coding or at another loudness is. Steady tones repeat nothing.
    """
    samples = _for_comparing(played)
    matches = list(_matches(samples, int(within * _COMPARE_RATE)))
    found = []
    for start, again, length in _joined(matches):
        first = Span(played.start + start / _COMPARE_RATE, played.start + (start + length) / _COMPARE_RATE)
        second = Span(played.start + again / _COMPARE_RATE, played.start + (again + length) / _COMPARE_RATE)
        if first.ms >= at_least_ms:
            found.append(Repeat(first, second))
    return found


def _for_comparing(played: Played) -> Float32:
    samples = played.samples.astype(np.float32) / 32768.0
    return np.asarray(soxr.resample(samples, played.rate, _COMPARE_RATE), dtype=np.float32)


def _matches(samples: Float32, within: int) -> Iterator[tuple[int, int]]:
    """Positions of each probe and of where it is heard again, in samples."""
    probe = _PROBE_MS * _COMPARE_RATE // 1000
    floor = 10.0 ** (SILENCE_DBFS / 20.0)
    for start in range(0, len(samples) - 2 * probe + 1, probe):
        piece = samples[start : start + probe]
        if np.sqrt(np.mean(np.square(piece))) < floor:
            continue
        alike = _alike(piece, samples[start + probe : start + probe + within], floor)
        if 0 < len(alike) <= _MAX_LIKENESSES:
            yield start, start + probe + int(alike[0])


def _alike(piece: Float32, ahead: Float32, floor: float) -> NDArray[np.int64]:
    """Offsets into `ahead` at which `piece` is heard again: peaks of the correlation, 50 ms or more apart."""
    size = len(piece)
    if len(ahead) < size:
        return np.zeros(0, dtype=np.int64)
    length = 1 << (len(ahead) + size - 1).bit_length()
    product = np.fft.irfft(np.fft.rfft(ahead, length) * np.conj(np.fft.rfft(piece, length)), length)
    sums = np.concatenate([[0.0], np.cumsum(np.square(ahead, dtype=np.float64))])
    energy = sums[size:] - sums[:-size]
    loud = energy > size * (floor / 10.0) ** 2
    score = np.zeros(len(energy))
    np.divide(product[: len(energy)], np.sqrt(energy * np.sum(np.square(piece))), out=score, where=loud)
    peaks: list[int] = []
    for first, last in _runs(score > _ALIKE):
        peak = first + int(np.argmax(score[first:last]))
        if not peaks or peak - peaks[-1] >= size // 4:
            peaks.append(peak)
    return np.array(peaks, dtype=np.int64)


def _joined(matches: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """Probes with the same distance to their repetition, over short pauses, as one: start, start again, length."""
    probe = _PROBE_MS * _COMPARE_RATE // 1000
    pause = _PAUSE_MS * _COMPARE_RATE // 1000
    run: list[tuple[int, int]] = []
    for start, again in matches:
        if run:
            last, last_again = run[-1]
            same_distance = abs((again - start) - (last_again - last)) <= 2
            if not same_distance or start - last > probe + pause:
                yield run[0][0], run[0][1], run[-1][0] + probe - run[0][0]
                run = []
        run.append((start, again))
    if run:
        yield run[0][0], run[0][1], run[-1][0] + probe - run[0][0]


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and one-past-last index of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(first), int(last)) for first, last in zip(edges[::2], edges[1::2], strict=True)]


def _span(played: Played, first: int, last: int) -> Span:
    """A run of windows as a stretch of the timeline."""
    width = WINDOW_MS / 1000.0
    return Span(played.start + first * width, min(played.end, played.start + last * width))
