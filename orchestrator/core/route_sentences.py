"""A routing decision in plain sentences, each with the facts that it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from orchestrator.core.health import BreakerState
from orchestrator.core.limits import Aside, SetAside
from orchestrator.core.overrides import ALL_CALLS, Limit, Override
from orchestrator.core.prices import NANO
from orchestrator.core.route_changes import Change, ChangeKind, left_of_bucket, left_of_call
from orchestrator.core.routing import Candidate, Decision, Reason, RouteRequest, Rung, View, orders_for

_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class BreakerFacts:
    """How a rung's breaker stands. Times are Unix seconds."""

    state: BreakerState
    cause: str = ""
    since: float | None = None
    """Since when it has not been closed."""
    probe_at: float | None = None
    successes: int = 0
    """Responses completed so far in its trial, of the `needed` ones."""
    needed: int = 0


class Teller:
    """Speaks of one decision. `now` is Unix seconds; `breakers` by rung, as far as they are known."""

    def __init__(
        self, request: RouteRequest, view: View, now: float, breakers: Mapping[str, BreakerFacts]
    ) -> None:
        self._request, self._view, self._now, self._breakers = request, view, now, breakers
        self._orders = {order.id: order for order in orders_for(request, view, now)}

    # --- the answer ---

    def chosen(self, decision: Decision, passed_over: Sequence[tuple[Candidate, str]]) -> str:
        """Why the answer is what it is; `passed_over` has the rungs that were not chosen, with their sentences."""
        return " ".join([self._why(decision, passed_over), *map(self._powerless, decision.set_aside)])

    def _why(self, decision: Decision, passed_over: Sequence[tuple[Candidate, str]]) -> str:
        rung = f"{decision.rung} (tier {decision.tier})"
        if decision.reason is Reason.NOTHING_READY:
            return "No rung can take the call."
        if decision.reason is Reason.DEFAULT:
            return f"{rung} is the first choice, and nothing stands against it."
        order = self._orders.get(decision.override_id or "")
        if decision.reason in (Reason.OVERRIDE, Reason.FLOOR) and order is not None:
            return f"{rung} was ordered: {_of_override(order, self._now)}."
        if decision.reason is Reason.LAST_RESORT:
            return f"Every rung that is left is in doubt; {rung} is tried, since that is better than a dead line."
        better = self._last_better(decision, passed_over)
        return f"{rung} is the best rung that is left. {better}".rstrip()

    def _last_better(self, decision: Decision, passed_over: Sequence[tuple[Candidate, str]]) -> str:
        """The sentence of the rung that would have been chosen but for the decision's reason."""
        told = {(candidate.tier, candidate.rung): sentence for candidate, sentence in passed_over}
        sentence = ""
        for rung in self._view.rungs:
            if (rung.tier, rung.name) == (decision.tier, decision.rung):
                break
            sentence = told[rung.tier, rung.name]
        return sentence

    def _powerless(self, aside: SetAside) -> str:
        """Of an override that applies and counts for nothing."""
        override = aside.override
        told = f"Override {override.id} for {_named(override)} counts for nothing here"
        match aside.why:
            case Aside.HEALTH:
                return f"{told}: nothing as good as {_target(override)} works, and health is above a floor."
            case Aside.CONTRADICTED:
                return f"{told}: {aside.by} leaves nothing of it, and is {self._above(aside)}."
        no_rung = f"no rung of tier {override.tier} may" if not override.rung else "that rung may not"
        return f"{told}: {no_rung} be used."

    def _above(self, aside: SetAside) -> str:
        same = self._orders[aside.by].scope.kind is aside.override.scope.kind
        return "newer" if same else "more specific"

    # --- the rungs that were not chosen ---

    def passed_over(self, candidate: Candidate) -> str:
        """Why a rung was not chosen."""
        rung = self._rung(candidate)
        return f"{candidate.rung}: {self._against(candidate, rung)}."

    def _rung(self, candidate: Candidate) -> Rung:
        return next(r for r in self._view.rungs if (r.tier, r.name) == (candidate.tier, candidate.rung))

    def _against(self, candidate: Candidate, rung: Rung) -> str:
        match candidate.passed_over:
            case Reason.BUDGET_SPENT:
                return self._short_of_money(rung)
            case Reason.BUDGET_STEP:
                return f"the call has taken the step {candidate.detail} to cost less, and this rung is above that"
            case Reason.ONE_WAY_PURPOSE:
                return f"the purpose {self._request.purpose} wants no answer, so a prompt of tier C says it"
            case Reason.NO_PROMOTION:
                return f"calls stay in the tier they are in, this one in {self._request.current}"
            case Reason.OVERRIDE | Reason.CEILING | Reason.FLOOR if candidate.override is not None:
                return _of_override(candidate.override, self._now)
            case Reason.BREAKER_OPEN:
                return self._breaker(rung)
            case Reason.NOT_PREFERRED:
                return "nothing stands against it, and what was chosen comes first"
            case reason:
                return _ALWAYS.get(reason, reason.value)

    def _short_of_money(self, rung: Rung) -> str:
        budget, needed = self._view.budget, max(1, rung.least)
        if budget.short_of(rung.least) == "call":
            left, cap, whose = left_of_call(budget), budget.call_cap, "the call"
        else:
            left, cap, whose = left_of_bucket(budget), budget.bucket_cap, f"bucket {self._request.bucket}"
        left, cap = max(0, left or 0), cap or 0
        today = "" if whose == "the call" else " today"
        return (
            f"one more answer on it costs up to {usd(needed)}, and {whose} has {usd(left)} left of "
            f"{usd(cap)}{today}: {usd(needed - left)} short"
        )

    def _breaker(self, rung: Rung) -> str:
        facts = self._breakers.get(rung.name)
        if facts is None:
            return f"its breaker is open ({rung.cause or 'cause unknown'})"
        since = f" since {_clock(facts.since)} ({span(self._now - facts.since)})" if facts.since else ""
        cause = facts.cause or rung.cause or "cause unknown"
        if facts.state is BreakerState.CANARY:
            return (
                f"it is on trial after {cause}{since}, {facts.successes} of {facts.needed} responses completed, "
                f"and this call is not among the few that try it"
            )
        if facts.state is BreakerState.HALF_OPEN:
            return f"its breaker is open{since}, {cause}; a probe is under way"
        return f"its breaker is open{since}, {cause}; {self._next_probe(facts)}"

    def _next_probe(self, facts: BreakerFacts) -> str:
        if facts.probe_at is None:
            return "no probe is due"
        if facts.probe_at <= self._now:
            return "its next probe is due now"
        return f"its next probe is due in {span(facts.probe_at - self._now)}"

    # --- what would change the answer ---

    def change(self, change: Change) -> str:
        """What would have to happen, as a clause that begins with "if", "once" or "when"."""
        about = change.about
        match change.kind:
            case ChangeKind.OVERRIDE_ENDS:
                return f"once override {about} is cleared{self._expires(about)}"
            case ChangeKind.OVERRIDE_MADE:
                return f"if an operator forced tier {about} on this call"
            case ChangeKind.BREAKER_CLOSES:
                return f"once {about} works again, or lets this call in on trial"
            case ChangeKind.BREAKER_OPENS:
                return f"if {about} failed and its breaker opened"
            case ChangeKind.MORE_MONEY:
                return f"if {self._whose(about)} had {usd(change.amount)} more"
            case ChangeKind.LESS_MONEY:
                return f"once {self._whose(about)} has spent {usd(change.amount)} more"
            case ChangeKind.DAY_ENDS:
                return f"when bucket {about} begins anew at midnight UTC, in {span(self._midnight() - self._now)}"
            case _:
                return _CLAUSES[change.kind].format(about)

    def happens_at(self, change: Change) -> float | None:
        """Unix seconds, of what comes by itself."""
        if change.kind is ChangeKind.OVERRIDE_ENDS:
            return self._orders[change.about].until
        return self._midnight() if change.kind is ChangeKind.DAY_ENDS else None

    def _expires(self, override_id: str) -> str:
        override = self._orders[override_id]
        return f" or expires at {_clock(override.until)}, in {span(override.until - self._now)}"

    def _whose(self, about: str) -> str:
        return "the call" if about == "call" else f"bucket {self._request.bucket}"

    def _midnight(self) -> float:
        return (self._now // _DAY_S + 1) * _DAY_S


_ALWAYS: Mapping[Reason, str] = {
    Reason.NO_PROVIDER_KEY: "no provider key is set for it",
    Reason.NOT_READY: "what it needs is not loaded yet, or is missing",
    Reason.TIER_DISABLED: "the settings have this tier switched off",
    Reason.FAILED_IN_CALL: "it has just failed this very call",
}

_CLAUSES: Mapping[ChangeKind, str] = {
    ChangeKind.TIER_READY: "once tier {} is ready",
    ChangeKind.KEY_GIVEN: "if a provider key were set for tier {}",
    ChangeKind.TIER_ENABLED: "if the settings had tier {} switched on",
    ChangeKind.STEP_UNDONE: "if the call had not taken the step {}",
    ChangeKind.PURPOSE_TWO_WAY: "if the settings did not name {} among the one-way purposes",
    ChangeKind.PROMOTION_ALLOWED: "if calls could move up again, this one from tier {}",
    ChangeKind.FAILURE_FORGIVEN: "once {} has proved itself since it failed this call",
}


def _of_override(override: Override, now: float) -> str:
    scope = f"{override.scope}"
    if override.share < ALL_CALLS:
        scope += f" for {override.share:g} per cent of the calls that began since"
    does = {
        Limit.FORCE: f"forces {_target(override)} on",
        Limit.CEILING: f"allows nothing better than {_target(override)} on",
        Limit.FLOOR: f"allows nothing worse than {_target(override)} on",
    }[override.limit]
    return (
        f"{override.by} {does} {scope} until {_clock(override.until)}, for "
        f"another {span(override.until - now)} ({override.id}: {override.reason})"
    )


def _target(override: Override) -> str:
    return f"rung {override.rung}" if override.rung else f"tier {override.tier}"


def _named(override: Override) -> str:
    words = {Limit.FORCE: "", Limit.CEILING: "nothing better than ", Limit.FLOOR: "nothing worse than "}
    return words[override.limit] + _target(override)


def usd(nanodollars: int) -> str:
    """In dollars, with as many digits as it takes to see something."""
    amount = nanodollars / NANO
    digits = 4 if amount >= 0.001 or not nanodollars else 9
    return f"${amount:,.{digits}f}"


def span(seconds: float) -> str:
    """A length of time in words, of the two largest units: ``1 h 5 min``."""
    left = max(0, round(seconds))
    for size, unit, smaller, smaller_unit in (
        (86_400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if left >= size:
            rest = left % size // smaller
            return f"{left // size} {unit}" + (f" {rest} {smaller_unit}" if rest else "")
    return f"{left} s"


def _clock(at: float) -> str:
    """A moment, as a person reads it."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
