"""Pieces of speech and what is done to them: cut out of the words around them, made equally loud, put together.

A word said alone is drawn out and falls, as at the end of a sentence. So each piece is said among other words and
cut out of them, where the engine tells which sample belongs to which word; elsewhere it is said alone, with a mark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.listening import WINDOW_MS, loudness
from orchestrator.protocol.audio import SPEAK_RATE, Float32, Pcm16
from orchestrator.protocol.number_words import MONTHS
from tiers.prompts.pieces import Join, Piece

LEVEL_DBFS = -20.5
"""How loud the speech of every piece is, its pauses not counted: as loud as Kokoro says a whole line."""
MOST_GAIN_DB = 12.0
FADE_MS = 20
"""How long two pieces overlap where no pause lies between them; each one is faded over it at its ends."""
PAUSES_MS = {Join.ON: 0, Join.BREATH: 60, Join.PAUSE: 120, Join.END: 300}
"""The silence between two pieces, at natural speed."""
QUIET_DBFS = -50.0
"""Below this is silence at the ends of a piece: an f or an s begins far below what `trim` takes for sound."""
MARGIN_MS = 20
"""What is kept of it: that much, which the fades are laid over."""
HOP = 24
"""Samples between the places that are looked at for a cut."""

_FADE = SPEAK_RATE * FADE_MS // 1000
_MARGIN = SPEAK_RATE * MARGIN_MS // 1000
_RISE = np.sin(np.linspace(0.0, np.pi / 2, _FADE, dtype=np.float32))
_STOPS = frozenset("tdpbkcgq")


@dataclass(frozen=True, slots=True)
class Frame:
    """A piece among other words: what an engine is given, and which of the parts is the piece."""

    parts: tuple[str, ...]
    index: int

    @property
    def text(self) -> str:
        return "".join(part if part[0] in ",." else f" {part}" for part in self.parts).strip()


_BEFORE = {"en": ("Number eight", "Number zero")}
"""Words that end in a stop, so that a cut after them falls into silence; and others for words that begin with one."""
_AFTER = {"en": "two six"}
"""Words that begin with a stop, likewise."""
_AFTER_OPEN_MONTH = {"en": "seven six"}
"""After a month that ends in a vowel: the tongue goes to where the stop is made, and "May" is heard as "made"."""
_OPEN_MONTHS = frozenset(month for month in MONTHS if month.endswith("y"))


def frame(piece: Piece, language: str) -> Frame:
    """The words around a piece, which give it the sound of its place."""
    base = language.partition("-")[0].lower()
    stop_last, open_last = _BEFORE[base]
    before = open_last if piece.words[:1].lower() in _STOPS else stop_last
    front = {Join.END: (), Join.PAUSE: (f"{before},",), Join.ON: (before,)}[piece.before]
    after = (_AFTER_OPEN_MONTH if piece.words in _OPEN_MONTHS else _AFTER)[base]
    back = {Join.END: (".",), Join.PAUSE: (",", f"{after}."), Join.ON: (f"{after}.",)}
    return Frame((*front, piece.words, *back[piece.after]), len(front))


def alone(piece: Piece) -> str:
    """What an engine is given that does not tell its words apart: the piece and the mark after it."""
    return piece.words + ("." if piece.after is Join.END else ",")


def cut(pcm: Pcm16, between: Sequence[tuple[int, int]], piece: Piece, index: int) -> Pcm16:
    """The piece out of its frame's samples, with its level and fades.

    `between` holds, for each two parts of the frame, the stretch in which one ends and the next begins.
    """
    samples = _levelled(pcm.astype(np.float32) / 32768.0)
    start = _quietest(samples, *between[index - 1]) if index else 0
    end = _quietest(samples, *between[index]) if index < len(between) else len(samples)
    head, tail = piece.before is Join.ON, piece.after is Join.ON
    start, end = start - _FADE // 2 if head else start, end + _FADE // 2 if tail else end
    return _finished(samples[max(0, start) : end], head=head, tail=tail)


def whole(pcm: Pcm16) -> Pcm16:
    """A piece that was said alone, likewise."""
    return _finished(_levelled(pcm.astype(np.float32) / 32768.0), head=False, tail=False)


def stitch(spots: Sequence[tuple[Pcm16, Join]], speed: float = 1.0) -> Pcm16:
    """Pieces and what follows each, as one: overlapping by their fades, or apart by a pause."""
    starts, end = [], 0
    for pcm, join in spots:
        starts.append(end)
        gap = round(PAUSES_MS[join] / speed) * SPEAK_RATE // 1000 - (_FADE if join is Join.ON else 0)
        end += max(1, len(pcm) + gap)
    out = np.zeros(max(start + len(pcm) for start, (pcm, _) in zip(starts, spots, strict=True)), np.int32)
    for start, (pcm, _) in zip(starts, spots, strict=True):
        out[start : start + len(pcm)] += pcm
    made = np.clip(out, -32768, 32767).astype(np.int16)
    made.flags.writeable = False
    return made


def speech_level(samples: Float32) -> float:
    """dBFS of what is spoken: the power of all windows that are not 25 dB below the loudest."""
    windows = loudness((np.clip(samples, -1.0, 1.0) * 32767.0).astype(np.int16), SPEAK_RATE)
    if not len(windows):
        return -120.0
    loud = windows[windows > windows.max() - 25.0]
    return float(10.0 * np.log10(np.mean(10.0 ** (loud / 10.0))))


def _levelled(samples: Float32) -> Float32:
    gain = min(LEVEL_DBFS - speech_level(samples), MOST_GAIN_DB)
    return np.asarray(samples * 10.0 ** (gain / 20.0), dtype=np.float32)


def _quietest(samples: Float32, first: int, last: int) -> int:
    """Where between two words there is least sound, to within a millisecond."""
    width = SPEAK_RATE * WINDOW_MS // 2000
    places = range(max(0, first), max(first + 1, min(len(samples), last) - width), HOP)
    energies = [float(np.square(samples[place : place + width]).sum()) for place in places]
    return places[int(np.argmin(energies))] + width // 2


def _finished(samples: Float32, *, head: bool, tail: bool) -> Pcm16:
    """Faded at both ends; an end at which a pause follows is cut off where its sound begins."""
    pcm = (np.clip(samples, -1.0, 1.0) * 32767.0).astype(np.int16)
    loud = np.flatnonzero(loudness(pcm, SPEAK_RATE) > QUIET_DBFS)
    if len(loud):
        window = SPEAK_RATE * WINDOW_MS // 1000
        start = 0 if head else max(0, int(loud[0]) * window - _MARGIN)
        end = len(pcm) if tail else min(len(pcm), (int(loud[-1]) + 1) * window + _MARGIN)
        samples = samples[start:end]
    faded = np.pad(samples, (0, max(0, 2 * _FADE - len(samples))))
    faded[:_FADE] *= _RISE
    faded[-_FADE:] *= _RISE[::-1]
    done = (np.clip(faded, -1.0, 1.0) * 32767.0).astype(np.int16)
    done.flags.writeable = False
    return done
