"""Where the money of this replica's calls has gone since it started, added up from the rows of their timelines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

ROWS = frozenset({"charge", "waste", "budget_step", "budget_spent", "unpaid_response", "gate"})


class Tally:
    """Amounts in nano-dollars."""

    def __init__(self) -> None:
        self.charged: Counter[str] = Counter()
        """By what was paid for."""
        self.estimated = 0
        """Of that, what nobody has billed us: it is counted at the worst it could have cost."""
        self.wasted = 0
        """Of that, answers that were spoken and not heard."""
        self.unheard_ms = 0
        self.steps: Counter[str] = Counter()
        """Steps taken, by action."""
        self.gates_closed = 0
        self.spent_up = 0
        """Answers that could not be paid for in Tier A any more."""
        self.unpaid = 0
        """Answers that a provider began and nobody had let in."""

    def note(self, type: str, fields: Mapping[str, Any]) -> None:
        match type:
            case "charge":
                self.charged[fields["what"]] += fields["nanodollars"]
                self.estimated += fields["nanodollars"] if fields["estimated"] else 0
            case "waste":
                self.wasted += fields["nanodollars"]
                self.unheard_ms += fields["unheard_ms"]
            case "budget_step":
                self.steps[fields["action"]] += 1
            case "gate":
                self.gates_closed += fields["state"] == "closed"
            case "budget_spent":
                self.spent_up += 1
            case "unpaid_response":
                self.unpaid += 1
