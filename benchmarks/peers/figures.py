"""From what a caller's loudspeaker was given to the figures of a call: pure functions, all times in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from orchestrator.listening import SILENCE_DBFS, WINDOW_MS, Arrival, gaps, loudness, play
from orchestrator.protocol.audio import AudioFormat, to_pcm16

FORMAT = AudioFormat.PCM


class Outcome(Enum):
    """What became of the caller's turn."""

    ANSWERED = "answered"
    AGAIN = "answered when asked again"
    """The caller waited in vain and said it once more, and that was answered: the turn was lost, the call was not."""
    UNANSWERED = "unanswered"
    """The caller said it twice, in vain."""
    LOST = "lost"
    """The call ended under the caller."""
    MISSED = "no fault"
    """The fault never struck, so the call says nothing."""
    ERROR = "error"
    """The benchmark could not place the call."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Audio as it came to the loudspeaker. `unit` is the utterance it belongs to."""

    at: float
    data: bytes
    unit: str


@dataclass(slots=True)
class Stream:
    """One call as its caller got it, whoever served it."""

    connect_at: float
    turn_ends: list[float] = field(default_factory=list)
    """When the last sound of the caller's words was sent: once, or twice where they were said again."""
    pieces: list[Piece] = field(default_factory=list)
    flushes: list[float] = field(default_factory=list)
    """When audio that was not played yet was thrown away."""
    complete: list[str] = field(default_factory=list)
    """Units that were brought to their end as an answer, in order."""
    closed: str = ""
    """How the call ended, where it was not the caller who ended it."""

    def began(self, unit: str) -> float | None:
        """When the first audio of a unit came."""
        return next((piece.at for piece in self.pieces if piece.unit == unit), None)


@dataclass(frozen=True, slots=True)
class Figures:
    """In milliseconds; None where there was nothing to time."""

    outcome: Outcome
    sound_ms: float | None = None
    """From the fault, or the caller's last word, to the first sound of anything that began after it."""
    answer_ms: float | None = None
    """The same to the first audio of the answer; of an answer to the first asking alone."""
    silence_ms: float | None = None
    """The longest silence from there to the end of the answer, in the audio as it is played; None: it had no end."""


def since(stream: Stream, fault_at: float | None) -> float:
    """From where a call is timed: a fault that cut an answer off, otherwise the end of the caller's words."""
    spoken = stream.turn_ends[0]
    if fault_at is not None and any(spoken <= piece.at < fault_at for piece in stream.pieces):
        return fault_at
    return spoken


def answer(stream: Stream, after: float) -> str | None:
    """The first complete unit that began after a moment."""
    for unit in stream.complete:
        began = stream.began(unit)
        if began is not None and began > after:
            return unit
    return None


def figures(stream: Stream, fault_at: float | None) -> Figures:
    """The figures of a call whose fault was executed at `fault_at`; None in a call that has none."""
    if not stream.turn_ends:
        return Figures(Outcome.LOST if stream.closed else Outcome.UNANSWERED)
    start = since(stream, fault_at)
    sound_ms = _ms(start, _first_sound(stream.pieces, start))
    unit = answer(stream, start)
    if unit is None:
        return Figures(Outcome.LOST if stream.closed else Outcome.UNANSWERED, sound_ms)
    began = stream.began(unit)
    if len(stream.turn_ends) > 1 and began is not None and began > stream.turn_ends[1]:
        return Figures(Outcome.AGAIN, None if _heard_late(sound_ms, start, stream) else sound_ms)
    return Figures(Outcome.ANSWERED, sound_ms, _ms(start, began), _longest_silence(stream, unit, start))


def _heard_late(sound_ms: float | None, start: float, stream: Stream) -> bool:
    """The first sound came only after the second asking, so it says nothing about the first."""
    return sound_ms is not None and start + sound_ms / 1000.0 > stream.turn_ends[1]


def _first_sound(pieces: Sequence[Piece], start: float) -> float | None:
    """The rest of an utterance that was under way does not count, although it may still be arriving."""
    old = {piece.unit for piece in pieces if piece.at <= start}
    for piece in pieces:
        if piece.unit in old:
            continue
        loud = np.flatnonzero(loudness(to_pcm16(piece.data, FORMAT), FORMAT.rate) > SILENCE_DBFS)
        if len(loud):
            return piece.at + float(loud[0]) * WINDOW_MS / 1000.0
    return None


def _longest_silence(stream: Stream, unit: str, start: float) -> float:
    last = max(index for index, piece in enumerate(stream.pieces) if piece.unit == unit)
    heard = [Arrival(piece.at, piece.data) for piece in stream.pieces[: last + 1]]
    flushes = [at for at in stream.flushes if at <= stream.pieces[last].at]
    return max((gap.ms for gap in gaps(play(heard, FORMAT, flushes), 0.0, since=start)), default=0.0)


def _ms(start: float, end: float | None) -> float | None:
    return None if end is None else (end - start) * 1000.0
