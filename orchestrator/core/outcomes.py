"""What became of each turn of a call. A turn is counted when an answer to it is owed, and ends exactly once."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    ANSWERED = "answered"
    STOPPED = "stopped"
    """The caller or the client stopped it, or the client was told why it cannot be."""
    CLOSED = "closed"
    """It ended without an answer: nothing was said in it, or no tier could answer."""
    HUNG_UP = "hung_up"
    """The call ended first."""


class Outcomes:
    """Turns are numbered from 1; 0 stands for an answer that is nobody's turn (an out-of-band response)."""

    def __init__(self) -> None:
        self._asked = 0
        self._ended: dict[int, Outcome] = {}

    @property
    def asked(self) -> int:
        return self._asked

    @property
    def open(self) -> list[int]:
        """Turns whose answer is still owed."""
        return [turn for turn in range(1, self._asked + 1) if turn not in self._ended]

    def count(self, outcome: Outcome) -> int:
        return sum(ended is outcome for ended in self._ended.values())

    def ask(self) -> int:
        """A turn's answer is owed from now on; the turn's number."""
        self._asked += 1
        return self._asked

    def end(self, turn: int, outcome: Outcome) -> bool:
        """A turn has ended; False where it is nobody's turn. RuntimeError where it had ended before."""
        if not turn:
            return False
        if turn in self._ended or turn > self._asked:
            raise RuntimeError(f"turn {turn} of {self._asked} ended twice or never began: {outcome.value}")
        self._ended[turn] = outcome
        return True
