"""Why a call would get the rung it gets, and what would change that, in data and in sentences.

Pure functions as `routing` has them. An explanation costs some twenty decisions, so that calls themselves are routed
without one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.core.route_changes import Change, changes_of, relevant
from orchestrator.core.route_sentences import BreakerFacts, Teller
from orchestrator.core.routing import Candidate, DecidedBy, Decision, RouteRequest, View, decide, decides


@dataclass(frozen=True, slots=True)
class WouldChange:
    """A change after which the answer is `decision`, whose tier or rung is another one than now."""

    change: Change
    decision: Decision
    sentence: str
    at: float | None = None
    """Unix seconds, where it comes by itself."""


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A rung that was not chosen, with who decided that and the facts in a sentence."""

    candidate: Candidate
    decided_by: DecidedBy
    sentence: str


@dataclass(frozen=True, slots=True)
class Explanation:
    decision: Decision
    sentence: str
    candidates: tuple[PassedOver, ...]
    would_change: tuple[WouldChange, ...]


def explain(
    request: RouteRequest, view: View, now: float, breakers: Mapping[str, BreakerFacts]
) -> Explanation:
    """The decision for `request`, in words. `now` is Unix seconds; `breakers` by rung, as far as they are known."""
    view = relevant(request, view)
    decision = decide(request, view, now)
    told = Teller(request, view, now, breakers)
    candidates = tuple(
        PassedOver(candidate, decides(candidate.passed_over), told.passed_over(candidate))
        for candidate in decision.candidates
    )
    changes = tuple(
        WouldChange(change, then, told.change(change), told.happens_at(change))
        for change, then in changes_of(request, view, now)
    )
    sentence = told.chosen(decision, [(c.candidate, c.sentence) for c in candidates])
    return Explanation(decision, sentence, candidates, changes)
