"""How long a message needs to the other end of a WebSocket and back: pings that can be told apart."""

from __future__ import annotations

PREFIX = b"rtt-"
MOST = 8
"""Pings under way that are remembered; older ones have no answer any more."""


class RoundTrip:
    """Of one connection; times are seconds of whatever clock the caller has."""

    def __init__(self) -> None:
        self.latest_ms: float | None = None
        self._number = 0
        self._sent: dict[int, float] = {}

    def ping(self, now: float) -> bytes:
        """What a ping sent now is to hold."""
        self._number += 1
        self._sent[self._number] = now
        while len(self._sent) > MOST:
            del self._sent[next(iter(self._sent))]
        return PREFIX + str(self._number).encode()

    def pong(self, payload: bytes, now: float) -> bool:
        """Whether that is the answer to a ping of ours, which has been measured then."""
        number = payload.removeprefix(PREFIX)
        if number == payload or not number.isdigit() or len(number) > 18:
            return False
        sent = self._sent.get(int(number))
        if sent is None:
            return False
        # An answer to a later ping stands for those before it.
        self._sent = {n: at for n, at in self._sent.items() if n > int(number)}
        self.latest_ms = max(0.0, now - sent) * 1000.0
        return True

    @property
    def waits(self) -> bool:
        """Whether a ping is not back yet."""
        return bool(self._sent)

    def ms(self, now: float) -> float | None:
        """The latest round trip, or how long one has been waited for by now if that is longer.

        None where the other end has never answered: it may be one that does not.
        """
        if self.latest_ms is None:
            return None
        waited = max(0.0, now - next(iter(self._sent.values()))) * 1000.0 if self._sent else 0.0
        return max(self.latest_ms, waited)
