"""Both directions of a call on one clock, as samples that can be written down: nothing here knows of files.

Places and lengths are counts of samples at `RATE` since the recording began. What a client plays is estimated as in
`core/playback.py`: each piece as soon as it can, and nothing more of it once the caller has spoken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from orchestrator.protocol.audio import SPEAK_RATE, Pcm16

RATE = SPEAK_RATE
LAG = RATE // 15
"""Audio that comes this much later than its turn may yet be caught up with."""
PAUSE = RATE
"""A lag that stays so long is a pause in what was sent."""
MARGIN = 2 * RATE
"""How far behind the clock samples are taken out: until then they may still move."""
STEP = 10 * RATE
"""So many samples are taken out at once."""
CALLER_AHEAD, TOLD_AHEAD = 60 * RATE, 600 * RATE
"""Audio that comes faster than it plays is kept so far ahead of the clock; what comes on top is left out."""


class Track:
    """One direction. Where nothing was put is silence."""

    def __init__(self) -> None:
        self.end = 0
        """Where what was put ends."""
        self._pieces: deque[tuple[int, Pcm16]] = deque()

    def put(self, samples: Pcm16, at: int) -> None:
        """`at` is not before `end`."""
        if len(samples):
            self._pieces.append((at, samples))
            self.end = at + len(samples)

    def cut(self, at: int) -> None:
        """Nothing from here on."""
        while self._pieces and self._pieces[-1][0] >= at:
            self._pieces.pop()
        if self._pieces and self.end > at:
            start, samples = self._pieces.pop()
            self._pieces.append((start, samples[: at - start]))
        self.end = min(self.end, at)

    def take(self, begin: int, end: int) -> Pcm16:
        """The samples of a span, which are forgotten with all before them."""
        out = np.zeros(max(0, end - begin), np.int16)
        while self._pieces and self._pieces[0][0] < end:
            start, samples = self._pieces.popleft()
            stop = start + len(samples)
            first, last = max(start, begin), min(stop, end)
            if first < last:
                out[first - begin : last - begin] = samples[first - start : last - start]
            if stop > end:
                self._pieces.appendleft((end, samples[end - start :]))
                break
        return out


class Mix:
    """The caller on the left, what the caller is told on the right. `at`: the time now, which never goes back."""

    def __init__(self) -> None:
        self.taken = 0
        """Up to where samples were taken out."""
        self._caller, self._told = Track(), Track()
        self._late_since: int | None = None
        self._least_lag = 0

    def caller(self, samples: Pcm16, at: int) -> None:
        """The caller's sound, of which the last sample has just come.

        Sound that a network held up comes in a rush afterwards and closes up; a client that sent nothing for a while
        never makes up for it, and then there is a silence.
        """
        start, end = at - len(samples), max(self._caller.end, self.taken)
        if end > at + CALLER_AHEAD:
            return
        lag = start - end
        if not self._caller.end or lag > MARGIN - PAUSE // 2:
            end, self._late_since = max(start, end), None
        elif lag <= LAG:
            self._late_since = None
        elif self._late_since is None:
            self._late_since, self._least_lag = at, lag
        else:
            self._least_lag = min(self._least_lag, lag)
            if at - self._late_since >= PAUSE:
                end, self._late_since = end + self._least_lag, None
        self._caller.put(samples, end)

    def told(self, samples: Pcm16, at: int) -> None:
        """Sound that was sent to the client just now."""
        if self._told.end <= at + TOLD_AHEAD:
            self._told.put(samples, max(self._told.end, at, self.taken))

    def barge_in(self, at: int) -> None:
        """The client throws away what it has not played."""
        self._told.cut(max(at, self.taken))

    def take(self, at: int) -> Iterator[Pcm16]:
        """What cannot change any more, left and right by turns."""
        return self._take(at - MARGIN)

    def rest(self, at: int) -> Iterator[Pcm16]:
        """All the rest; nothing is played after the end."""
        self.barge_in(at)
        return self._take(max(self._caller.end, self._told.end, self.taken))

    def _take(self, end: int) -> Iterator[Pcm16]:
        while self.taken < end:
            begin, self.taken = self.taken, min(self.taken + STEP, end)
            sides = self._caller.take(begin, self.taken), self._told.take(begin, self.taken)
            yield np.stack(sides, axis=1).reshape(-1)
