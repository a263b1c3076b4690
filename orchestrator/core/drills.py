"""Drills: which calls have a failover practised on them, at which turn, and what came of it. Pure functions.

Everything is worked out from ids, so that all replicas agree. Times are Unix seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from hashlib import blake2b
from typing import Any

from orchestrator.core.overrides import OverrideError, Scope, in_share, parse_duration, parse_share

TURNS = 2
"""It happens at the answer to one of the call's first so many turns."""
MIN_MS, MAX_MS = 100.0, 900.0
"""Of an answer that is cut: so much of it was sent."""


class Practice(StrEnum):
    LOSE_PROVIDER = "lose_provider"
    """The provider session counts as dead in the middle of a turn: before its answer, or in it."""
    DEGRADE = "degrade"
    """The call is handed over between two turns."""


@dataclass(frozen=True, slots=True)
class Drill:
    """`who` and `name` are those of the key it was made with, `typed` who the operator said they are."""

    id: str
    practice: Practice
    scope: Scope
    share: float
    """Per cent of the calls that begin while it lasts."""
    until: float
    most: int
    """Calls that it is practised on, at most."""
    wrong: int
    """So many calls that lost a turn end it."""
    reason: str
    who: str
    created: float
    name: str = ""
    typed: str = ""
    ended: str = ""
    """Why it is over before its time."""

    def over(self, now: float) -> bool:
        return bool(self.ended) or now >= self.until

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "scope": str(self.scope)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Drill:
        """The reverse of `to_dict`; anything missing or wrong raises ValueError, KeyError or TypeError."""
        known = {name: data[name] for name in cls.__dataclass_fields__}
        return cls(**{**known, "practice": Practice(data["practice"]), "scope": Scope.parse(data["scope"])})


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to happen in one call: at the answer to its turn number `turn`, or the first one after it."""

    drill_id: str
    practice: Practice
    turn: int
    after_ms: float | None
    """Once so much of the answer was sent; None: before any of it."""

    def cuts(self, turn: int, sent_ms: float) -> bool:
        """Whether the provider is lost now, in an answer to that turn of which so much was sent."""
        if self.practice is not Practice.LOSE_PROVIDER or turn < self.turn:
            return False
        return not sent_ms if self.after_ms is None else sent_ms >= self.after_ms

    def moves(self, asked: int) -> bool:
        """Whether the call is handed over now, between turns, of which so many were asked."""
        return self.practice is Practice.DEGRADE and asked >= self.turn


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one call of a drill. Milliseconds as its caller heard them, seconds, nano-dollars."""

    call_id: str
    struck: bool = False
    skipped: str = ""
    """Why it was left alone after all."""
    answered: int = 0
    """Turns, since it was struck."""
    lost: int = 0
    gap_ms: float | None = None
    bridges: int = 0
    back_s: float | None = None
    """From the handover until it was in Tier A again."""
    cost: int = 0
    """What was charged in that time, or until the call's end."""
    ended: bool = False


def make_drill(
    *,
    id: str,
    practice: str,
    scope: str,
    share: float,
    duration: str,
    most: int,
    wrong: int,
    reason: str,
    who: str,
    name: str,
    typed: str,
    now: float,
) -> Drill:
    """A drill out of an operator's words, checked; OverrideError says what is wrong with them."""
    if practice not in set(Practice):
        raise OverrideError("practice", f"expected {' or '.join(Practice)}, not {practice!r}")
    if not reason.strip():
        raise OverrideError("reason", 'a drill needs a reason that others can read, like "monthly drill"')
    if most < 1 or wrong < 1:
        raise OverrideError("calls" if most < 1 else "wrong", "expected at least one call")
    return Drill(
        id,
        Practice(practice),
        Scope.parse(scope),
        parse_share(share),
        now + parse_duration(duration),
        most,
        wrong,
        reason.strip(),
        who,
        now,
        name.strip(),
        typed.strip(),
    )


def plan_for(
    drills: Sequence[Drill], *, call_id: str, user: str, purpose: str, bucket: str, started: float
) -> Plan | None:
    """What a call that has just begun is to practise: of several drills, what the oldest wants."""
    for drill in sorted(drills, key=lambda drill: (drill.created, drill.id)):
        named = {"call": call_id, "user": user, "purpose": purpose, "bucket": bucket, "all": ""}
        meant = drill.scope.value == named[drill.scope.kind] and drill.created <= started
        if meant and not drill.over(started) and in_share(drill.id, call_id, drill.share):
            return _plan(drill, call_id)
    return None


def _plan(drill: Drill, call_id: str) -> Plan:
    digest = blake2b(f"plan\0{drill.id}\0{call_id}".encode(), digest_size=4).digest()
    turn = 1 + digest[0] % TURNS
    after = None if digest[1] % 2 else MIN_MS + (MAX_MS - MIN_MS) * digest[2] / 255.0
    return Plan(drill.id, drill.practice, turn, after if drill.practice is Practice.LOSE_PROVIDER else None)


def noted(result: Result, type: str, fields: dict[str, Any], since_s: float) -> Result:
    """A row of the call's timeline after it was struck, `since_s` seconds ago, in its result."""
    match type:
        case "turn_ended" if fields["outcome"] == "answered":
            return replace(result, answered=result.answered + 1)
        case "turn_closed":
            return replace(result, lost=result.lost + 1)
        case "gap" if fields.get("cause") == "drill":
            return replace(result, gap_ms=max(result.gap_ms or 0.0, float(fields["gap_ms"])))
        case "bridge":
            return replace(result, bridges=result.bridges + 1)
        case "charge" if result.back_s is None:
            return replace(result, cost=result.cost + int(fields["nanodollars"]))
        case "handover" if fields["to_tier"] == "A" and result.back_s is None:
            return replace(result, back_s=round(since_s, 3))
        case "call_ended":
            return replace(result, ended=True)
    return result


def report(results: Sequence[Result]) -> dict[str, Any]:
    """Figures of a drill's calls: counts, milliseconds, seconds, dollars; None where there are none."""
    struck = [result for result in results if result.struck]
    gaps = sorted(result.gap_ms for result in struck if result.gap_ms is not None)
    back = sorted(result.back_s for result in struck if result.back_s is not None)
    return {
        "calls": len(struck),
        "waiting": sum(not r.struck and not r.skipped and not r.ended for r in results),
        "skipped": sum(bool(r.skipped) for r in results),
        "turns_answered": sum(r.answered for r in struck),
        "turns_lost": sum(r.lost for r in struck),
        "gap_ms": _spread(gaps),
        "bridges": sum(r.bridges for r in struck),
        "back_s": _spread(back),
        "not_back": sum(r.back_s is None for r in struck),
        "cost_usd": sum(r.cost for r in struck) / 1e9,
    }


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    """Nearest rank: every figure is one that was measured."""

    def at(share: float) -> float | None:
        return values[max(0, math.ceil(share * len(values)) - 1)] if values else None

    return {"p50": at(0.5), "p95": at(0.95), "max": at(1.0)}
