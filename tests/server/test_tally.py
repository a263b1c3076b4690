"""What the rows of calls add up to."""

from __future__ import annotations

from orchestrator.server.tally import Tally


def test_money_is_added_up_by_what_it_went_for() -> None:
    tally = Tally()
    for what, cost, estimated in [("response", 70, False), ("response", 30, True), ("speech", 5, False)]:
        tally.note("charge", {"what": what, "nanodollars": cost, "estimated": estimated})
    tally.note("waste", {"nanodollars": 12, "unheard_ms": 900})
    tally.note("waste", {"nanodollars": 3, "unheard_ms": 100})
    assert tally.charged == {"response": 100, "speech": 5}
    assert (tally.estimated, tally.wasted, tally.unheard_ms) == (30, 15, 1000)


def test_steps_gates_and_what_could_not_be_paid_for_are_counted() -> None:
    tally = Tally()
    for action in ("concise", "concise", "tier_b"):
        tally.note("budget_step", {"action": action})
    for state in ("closing", "closed", "opening", "open", "closed"):
        tally.note("gate", {"state": state})
    tally.note("budget_spent", {})
    tally.note("unpaid_response", {})
    assert tally.steps == {"concise": 2, "tier_b": 1}
    assert (tally.gates_closed, tally.spent_up, tally.unpaid) == (2, 1, 1)
