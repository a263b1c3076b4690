"""A support call of twenty turns, as a script: what the caller says, and what may happen in the business because of it.

For whoever drives a call through the orchestrator, with `simulate tools` as the business: afterwards its log of runs
has to show `expected_changes` once each, and nothing else that changes anything. `deaths` says when the provider dies.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.simulate.dialogue import Call
from orchestrator.simulate.faults import FaultId, Moment


@dataclass(frozen=True, slots=True)
class Turn:
    """`over`: said over the answer to the turn before. `silent`: to somebody else, so that no answer is owed.

    `reads` and `changes` are what runs because of it: a change only once it is confirmed. `slow_ms`: how long the
    business takes for it.
    """

    words: str
    reads: Call | None = None
    changes: Call | None = None
    over: bool = False
    silent: bool = False
    slow_ms: int = 0

    @property
    def uses_tools(self) -> bool:
        """Whether a tool runs."""
        return self.reads is not None or self.changes is not None


def _status(number: str) -> Call:
    return Call("get_order_status", {"order_id": number})


CANCELLED = Call("cancel_order", {"order_id": "4172"})
REFUNDED = Call("refund_order", {"order_id": "6310", "amount": 20})
BOOKED = Call("book_appointment", {"date": "2026-12-03", "time": "10:30", "name": "Maria Jensen"})
READDRESSED = Call("update_email", {"order_id": "6310", "email": "maria.jensen@example.org"})
CANCELLED_TOO = Call("cancel_order", {"order_id": "7315"})

SUPPORT_CALL: tuple[Turn, ...] = (
    Turn("Hello, I need some help, please."),
    Turn("Where is order 4172?", reads=_status("4172")),
    Turn("That is too late. Please cancel order 4172."),
    Turn("Yes, please.", changes=CANCELLED),
    Turn("Please cancel order 5208 as well."),
    Turn("No, leave it."),
    Turn("I would like a refund of 25 euros for order 6310."),
    Turn("No wait, make it 20 euros."),
    Turn("Yes, that's right.", changes=REFUNDED),
    Turn("Please book an appointment on 3 December 2026 at 10:30 for Maria Jensen."),
    Turn("Yes, yes.", over=True),
    Turn("Yes, that's right.", changes=BOOKED),
    Turn("Change the e-mail of order 6310 to m a r i a dot j e n s e n at example dot org."),
    Turn("Yes, that's right.", changes=READDRESSED),
    Turn("Hold on, I am just talking to my colleague.", silent=True),
    Turn("Where is order 5208?", reads=_status("5208"), slow_ms=1500),
    Turn("Please cancel order 7315."),
    Turn("Yes.", changes=CANCELLED_TOO, slow_ms=1500),
    Turn("Thank you very much."),
    Turn("That's all, goodbye."),
)

NEVER = (Call("cancel_order", {"order_id": "5208"}), Call("refund_order", {"order_id": "6310", "amount": 25}))
"""What was asked for and not agreed to."""


def expected_changes() -> list[Call]:
    """What has to have happened exactly once each, in this order."""
    return [turn.changes for turn in SUPPORT_CALL if turn.changes is not None]


@dataclass(frozen=True, slots=True)
class Death:
    """The provider's session ends, or falls silent, in a turn: see `faults.CATALOGUE`. `turn` counts from 0."""

    turn: int
    fault: FaultId
    moment: Moment
    after_ms: int


ENDS = (FaultId.ABORT, FaultId.CLOSE_1011, FaultId.HALF_OPEN)
"""How a provider's session dies at any moment."""
WHILE_ANSWERING = (Moment.ANSWER_OWED, Moment.MID_ANSWER)
WITH_TOOLS = (Moment.TOOL_PENDING, Moment.TOOL_RESULT_SENT)

LATEST_MS = {
    Moment.ANSWER_OWED: 200,
    Moment.MID_ANSWER: 600,
    Moment.TOOL_PENDING: 40,
    Moment.TOOL_RESULT_SENT: 200,
}
"""How long a moment has lasted when the provider dies, at most; a tool that is quick is soon no longer pending."""


def deaths(seed: int, count: int = 6, turns: Sequence[Turn] = SUPPORT_CALL) -> list[Death]:
    """`count` deaths, each in another turn that owes an answer, at random moments; the same for the same seed."""
    chance = random.Random(seed)
    # A turn that is said over another has its answer cut off anyway.
    fit = [
        number
        for number, turn in enumerate(turns)
        if not (turn.silent or turn.over or (number + 1 < len(turns) and turns[number + 1].over))
    ]
    return [_death(number, turns[number], chance) for number in sorted(chance.sample(fit, count))]


def _death(number: int, turn: Turn, chance: random.Random) -> Death:
    moments = WHILE_ANSWERING + (WITH_TOOLS if turn.uses_tools else ())
    moment = chance.choice(moments)
    after_ms = chance.randrange(LATEST_MS[moment])
    return Death(number, chance.choice(ENDS), moment, after_ms)
