"""What one call has set aside before it may start what costs money. Integer nano-dollars throughout.

    spent     is gone
    running   has started, and may cost so much at worst; by key
    ahead     the bucket has set it aside for what this call may start next

Nothing starts that is not covered by `ahead` and by what the call's own cap leaves; starting moves it from `ahead`
to `running`, and its end gives back what it did not need. The bucket is told all three as absolute figures
(`Claim`), so that telling it twice does no harm, and answers with what it has set aside (`granted`).
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.core.actions import ClaimMoney
from orchestrator.core.budget import CallBudget

Figures = tuple[int, int, int]


class Purse:
    """Of one call. `budget` is what the router sees of it."""

    def __init__(self, budget: CallBudget) -> None:
        self.budget = budget
        self._running: dict[str, int] = {}
        self._wants: dict[str, int] = {}
        self._sequence = 0
        self._told: Figures | None = None
        self._answered: Figures | None = None
        self._started = 0
        """Moved from `ahead` to `running` since the newest claim was made."""

    # --- starting and ending ---

    def has(self, worst: int) -> bool:
        """Whether something that costs so much at worst may start now."""
        remaining = self.budget.remaining
        return worst <= self.budget.ahead and (remaining is None or worst <= remaining)

    def start(self, key: str, worst: int) -> bool:
        """Something starts under `key`; False, and it must not, where it is not covered. What is free always may."""
        if worst <= 0:
            return True
        if not self.has(worst):
            return False
        self._move(key, worst)
        return True

    def overdraw(self, key: str, worst: int) -> None:
        """Something has started that nobody let in: it counts as running, whatever is left."""
        self._move(key, worst)

    def _move(self, key: str, worst: int) -> None:
        self._running[key] = self._running.get(key, 0) + worst
        self.budget.reserved += worst
        taken = min(worst, self.budget.ahead)
        self.budget.ahead -= taken
        self._started += taken

    def rename(self, key: str, known_as: str) -> None:
        """What started as `key` goes on under another name."""
        if key in self._running:
            self._running[known_as] = self._running.pop(key)

    def charge(self, key: str, amount: int) -> None:
        """A part of what runs under `key` was paid for: it needs so much less."""
        if key in self._running:
            used = min(amount, self._running[key])
            self._running[key] -= used
            self.budget.reserved -= used

    def end(self, key: str) -> None:
        """It is over: what it did not need is free again."""
        self.budget.reserved -= self._running.pop(key, 0)

    def worst(self, key: str) -> int:
        """What it may still cost; 0 for what does not run."""
        return self._running.get(key, 0)

    @property
    def running(self) -> Mapping[str, int]:
        return self._running

    # --- setting aside ---

    def want(self, amount: int, who: str = "serving") -> None:
        """So much is to be set aside for what may start next; each `who` for itself. 0 gives it back."""
        self._wants[who] = amount
        self.budget.ahead = min(self.budget.ahead, self.wanted)

    def give_up(self) -> None:
        """Nothing more will be started."""
        self._wants.clear()
        self.budget.ahead = 0

    def hand_over(self) -> None:
        """Who was preparing serves from now on."""
        self._wants["serving"] = self._wants.pop("preparing", 0)

    @property
    def wanted(self) -> int:
        """No more than the call could spend."""
        wanted, remaining = sum(self._wants.values()), self.budget.remaining
        return wanted if remaining is None else min(wanted, remaining)

    @property
    def pending(self) -> bool:
        """More was asked for than is there, and the bucket has not said no."""
        return self.wanted > self.budget.ahead and self._figures != self._answered

    def ask_again(self) -> None:
        """What was refused is asked for once more: others may have given something back."""
        self._answered = self._told = None

    @property
    def _figures(self) -> Figures:
        return self.budget.spent, self.budget.reserved, self.wanted

    def claim(self) -> ClaimMoney | None:
        """What the bucket is to be told, if anything has changed."""
        figures = self._figures
        if figures == self._told:
            return None
        self._told, self._started = figures, 0
        self._sequence += 1
        return ClaimMoney(self._sequence, *figures)

    def granted(self, sequence: int, ahead: int | None) -> bool:
        """The bucket's answer: what is set aside now; None where it cannot tell. False: a newer claim is on its way."""
        if sequence != self._sequence:
            return False
        self._answered = self._told
        if ahead is not None:
            self.budget.ahead = min(max(0, ahead - self._started), self.wanted)
        return True
