"""How long callers wait, part by part, held against what is wanted of each part.

A **latency budget** is a limit for a part of the waiting, a **breach** a time above it. Lengths are in ms, `now` is in
seconds of the caller's clock. Nothing here decides anything: it measures, and says what was too long.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

KEPT = 64
"""Latest times of a rung and part that count as what is usual."""
LATELY_S = 900.0
"""Those older than that do not."""
MOST_RUNGS = 100
AGAIN_S = 60.0
"""A way that stays too long is told again after this."""


class Part(StrEnum):
    """What is waited for."""

    TRANSPORT = "transport"
    """The way: from the caller's client to the model that answers and back, as pings tell."""
    REASONING = "reasoning"
    """From the end of a turn to the first audio of its answer."""
    RECOVERY = "recovery"
    """The silence while something that failed is made good: a handover, an answer tried again, a false interruption."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long each part may take; None: as long as it likes."""

    transport_ms: float | None = None
    reasoning_ms: float | None = None
    recovery_ms: float | None = None
    reasoning_by_tier: Mapping[str, float] = field(default_factory=dict)
    """Of some tiers, over `reasoning_ms`."""

    def of(self, part: Part, tier: str) -> float | None:
        match part:
            case Part.TRANSPORT:
                return self.transport_ms
            case Part.REASONING:
                return self.reasoning_by_tier.get(tier, self.reasoning_ms)
            case Part.RECOVERY:
                return self.recovery_ms


@dataclass(frozen=True, slots=True)
class Taken:
    """How long a part has taken once."""

    part: Part
    tier: str
    rung: str
    took_ms: float
    limit_ms: float | None
    parts: Mapping[str, float] = field(default_factory=dict)
    """What it consists of, in ms."""

    @property
    def breach(self) -> bool:
        return self.limit_ms is not None and self.took_ms > self.limit_ms

    def fields(self) -> dict[str, Any]:
        """Of the row ``latency_breach``."""
        told: dict[str, Any] = {"what": self.part.value, "tier": self.tier, "rung": self.rung}
        told |= {"limit_ms": self.limit_ms, "took_ms": round(self.took_ms, 1)}
        return told | ({"parts": {n: round(ms, 1) for n, ms in self.parts.items()}} if self.parts else {})


@dataclass(slots=True)
class Told:
    """A part of one call so far."""

    count: int = 0
    breaches: int = 0
    latest: Taken | None = None
    longest_ms: float = 0.0

    def add(self, taken: Taken) -> None:
        self.count += 1
        self.breaches += taken.breach
        self.latest, self.longest_ms = taken, max(self.longest_ms, taken.took_ms)

    def figures(self, limit_ms: float | None) -> dict[str, Any]:
        """`limit_ms`: while it has not been measured."""
        latest = self.latest
        return {
            "count": self.count,
            "breaches": self.breaches,
            "latest_ms": None if latest is None else round(latest.took_ms, 1),
            "longest_ms": None if latest is None else round(self.longest_ms, 1),
            "limit_ms": limit_ms if latest is None else latest.limit_ms,
            "parts": {} if latest is None else {n: round(ms, 1) for n, ms in latest.parts.items()},
        }


class CallLatency:
    """One call's waits. What each method gives back is a breach that the timeline is to tell, or None."""

    def __init__(self, limits: Limits, lately: Lately | None = None) -> None:
        self._limits = limits
        self._lately = lately if lately is not None else Lately(limits)
        self._told = {part: Told() for part in Part}
        self._way_told_at: float | None = None
        """When a way that is too long was last told; None while it is not."""

    def row(self, type: str, fields: Mapping[str, Any], rung: str, now: float) -> Taken | None:
        """A row of the call's timeline; `rung` serves the call."""
        match type:
            case "answer":
                part, ms = Part.REASONING, fields.get("ttfa_ms")
            case "gap":
                part, ms = Part.RECOVERY, fields.get("gap_ms")
            case "recovery":
                part, ms = Part.RECOVERY, fields.get("took_ms")
            case _:
                return None
        if not isinstance(ms, int | float) or not math.isfinite(ms):
            return None
        taken = self._note(part, str(fields.get("tier", "")), fields.get("rung") or rung, float(ms), {}, now)
        return taken if taken.breach else None

    def way(
        self, client_ms: float | None, provider_ms: float | None, tier: str, rung: str, now: float
    ) -> Taken | None:
        """The round trips to the client and, in Tier A, to the provider, as they are by now; None: not known."""
        known = {"client_ms": client_ms, "provider_ms": provider_ms}
        parts = {name: ms for name, ms in known.items() if ms is not None}
        if client_ms is None:
            return None
        taken = self._note(Part.TRANSPORT, tier, rung, sum(parts.values()), parts, now)
        if not taken.breach:
            self._way_told_at = None
            return None
        if self._way_told_at is not None and now - self._way_told_at < AGAIN_S:
            return None
        self._way_told_at = now
        return taken

    def _note(
        self, part: Part, tier: str, rung: str, ms: float, parts: Mapping[str, float], now: float
    ) -> Taken:
        taken = Taken(part, tier, rung, max(0.0, ms), self._limits.of(part, tier), parts)
        self._told[part].add(taken)
        self._lately.note(taken, now)
        return taken

    def figures(self) -> dict[str, Any]:
        """By part: how often it was measured and was too long, the latest and the longest, and its limit."""
        return {part.value: told.figures(self._limits.of(part, "")) for part, told in self._told.items()}


@dataclass(frozen=True, slots=True)
class Usual:
    """What a part has taken lately in calls that a rung served."""

    part: Part
    count: int
    median_ms: float
    p95_ms: float
    limit_ms: float | None
    breaches: int


class Lately:
    """What the rungs have taken lately, in all calls of a process."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._rungs: dict[str, dict[Part, deque[tuple[float, Taken]]]] = {}

    def note(self, taken: Taken, now: float) -> None:
        parts = self._rungs.get(taken.rung)
        if parts is None:
            if len(self._rungs) >= MOST_RUNGS:
                return
            parts = self._rungs[taken.rung] = {part: deque(maxlen=KEPT) for part in Part}
        parts[taken.part].append((now, taken))

    def of(self, rung: str, now: float) -> Sequence[Usual]:
        """Parts that were not measured lately are left out."""
        found = []
        for part, kept in self._rungs.get(rung, {}).items():
            takens = [taken for at, taken in kept if now - at <= LATELY_S]
            if not takens:
                continue
            times = sorted(taken.took_ms for taken in takens)
            middle, slow = (times[min(int(share * len(times)), len(times) - 1)] for share in (0.5, 0.95))
            breaches = sum(taken.breach for taken in takens)
            found.append(Usual(part, len(times), middle, slow, takens[-1].limit_ms, breaches))
        return found

    def call(self) -> CallLatency:
        """For a call that begins."""
        return CallLatency(self._limits, self)
