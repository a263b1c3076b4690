"""What the caller has heard, estimated from what was sent and when.

Providers send faster than real time, so a client holds audio that is still to be played. We assume that it plays
each piece as soon as it can. Times are seconds on the caller's clock argument, lengths milliseconds of audio.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class _Piece:
    starts_at: float
    sent_ms: float = 0.0
    cut_ms: float | None = None


class Playback:
    def __init__(self) -> None:
        self.dry_at = 0.0
        """When the client's buffer runs empty, if nothing more comes."""
        self._pieces: dict[str, _Piece] = {}
        self._missed: tuple[float, tuple[str, str]] | None = None
        self.gap: tuple[str, str, float] | None = None
        """A silence that has just ended: trigger and cause of its handover, its length in ms."""
        self._awaited: tuple[float, str] | None = None
        self.recovered: tuple[str, float] | None = None
        """Another silence that has just ended: what was made good, its length in ms."""

    def add(self, item_id: str, ms: float, now: float) -> None:
        start = max(self.dry_at, now)
        if self._missed is not None or self._awaited is not None:
            self._end_silence(now)
        piece = self._pieces.get(item_id)
        if piece is None:
            piece = self._pieces[item_id] = _Piece(starts_at=start)
        piece.sent_ms += ms
        self.dry_at = start + ms / 1000.0

    def miss(self, since: float, trigger: str, cause: str) -> None:
        """A handover: from `since` on, or from when the client's buffer is empty, the caller hears nothing."""
        self._missed = since, (trigger, cause)

    def await_again(self, since: float, what: str) -> None:
        """No handover, and yet the caller waits anew: `what` is made good, an answer that failed for one."""
        if self._awaited is None:
            self._awaited = since, what

    def _end_silence(self, now: float) -> None:
        """A handover explains a silence better than what else has happened in it."""
        if self._missed is not None:
            since, why = self._missed
            self.gap = (*why, max(0.0, now - max(since, self.dry_at)) * 1000.0)
        elif self._awaited is not None:
            since, what = self._awaited
            self.recovered = what, max(0.0, now - max(since, self.dry_at)) * 1000.0
        self._missed = self._awaited = None

    def sent_ms(self, item_id: str) -> float:
        piece = self._pieces.get(item_id)
        return piece.sent_ms if piece else 0.0

    def heard_ms(self, item_id: str, now: float) -> float:
        """What of an item's audio was played by `now`."""
        piece = self._pieces.get(item_id)
        if piece is None:
            return 0.0
        played = min(piece.sent_ms, max(0.0, (now - piece.starts_at) * 1000.0))
        return played if piece.cut_ms is None else min(played, piece.cut_ms)

    def interrupt(self, now: float) -> list[tuple[str, float]]:
        """Barge-in: the client drops its buffer. The items that were cut, each with the ms that were heard."""
        cut = []
        for item_id, piece in self._pieces.items():
            heard = self.heard_ms(item_id, now)
            if piece.cut_ms is None and heard < piece.sent_ms:
                piece.cut_ms = heard
                cut.append((item_id, heard))
        self._missed = self._awaited = None  # a caller who speaks waits for no answer
        self.dry_at = min(self.dry_at, now)
        return cut

    def forget_played(self, now: float, keep_s: float = 120.0) -> None:
        """Drop items whose audio ended long ago; nobody can interrupt them any more."""
        old = [i for i, p in self._pieces.items() if p.starts_at + p.sent_ms / 1000.0 < now - keep_s]
        for item_id in old:
            del self._pieces[item_id]
