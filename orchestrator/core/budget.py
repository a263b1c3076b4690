"""What a call may spend and has spent, in integer nano-dollars.

A `CallBudget` belongs to one call. A bucket's balance is shared by many calls and replicas and therefore kept
by the store; what the router needs of it is in `BudgetState`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.core.steps import StepAction


@dataclass(slots=True)
class CallBudget:
    """One call's cap, and what it has spent and reserved. A cap of None means no cap. `Purse` keeps it."""

    cap: int | None
    spent: int = 0
    reserved: int = 0
    """At worst, what is running."""
    ahead: int = 0
    """What the bucket has set aside for what this call may start next."""
    level: StepAction | None = None
    """The furthest step the call has taken."""
    least: dict[str, int] = field(default_factory=dict)
    """By rung, what one more answer in this call would cost at least; rungs left out: as configured."""

    def __post_init__(self) -> None:
        if self.cap is not None and self.cap < 0:
            raise ValueError(f"a call's cap is 0 or more nano-dollars, not {self.cap}; use None for no cap")

    @property
    def remaining(self) -> int | None:
        """What may still be spent or reserved; never negative; None where there is no cap."""
        return None if self.cap is None else max(0, self.cap - self.spent - self.reserved)

    def spend(self, amount: int) -> None:
        """Money that is gone. It counts even past the cap: the bill has arrived."""
        self.spent += _not_negative(amount)


@dataclass(frozen=True, slots=True)
class BudgetState:
    """What the router knows of the money: the call's and its bucket's. A cap of None means no cap.

    `reserved` is what has been set aside by any call, `held` the part of it that is this call's own to use.
    """

    call_spent: int = 0
    call_cap: int | None = None
    bucket_spent: int = 0
    bucket_cap: int | None = None
    call_reserved: int = 0
    bucket_reserved: int = 0
    held: int = 0
    level: StepAction | None = None
    """The furthest step the call has taken."""

    def short_of(self, amount: int) -> str | None:
        """ "call" or "bucket", whichever has less left than `amount` or nothing at all; None while there is enough."""
        needed = max(1, amount)
        if self.call_cap is not None and self.call_cap - self.call_spent - self.call_reserved < needed:
            return "call"
        if self.bucket_cap is not None:
            left = self.bucket_cap - self.bucket_spent - self.bucket_reserved + self.held
            return "bucket" if left < needed else None
        return None


def _not_negative(amount: int) -> int:
    if amount < 0:
        raise ValueError(f"an amount is 0 or more nano-dollars, not {amount}")
    return amount
