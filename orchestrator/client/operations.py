"""What the API answers to operators: calls and their timelines, drills, the audit trail, what has been.

As in `answers`: times are Unix seconds, money is in US dollars, and fields that a newer server adds are kept.
"""

from __future__ import annotations

from typing import Any, Literal

from orchestrator.client.answers import Answer

Practice = Literal["lose_provider", "degrade"]


class CallFigures(Answer):
    """One call. Waits in ms: of its answers, from the end of a turn to the first audio, the median and the longest."""

    call_id: str
    live: bool
    started_at: float
    ended_at: float | None
    tier: str
    rung: str
    reason: str
    tiers: list[str]
    """In the order they were used."""
    user: str
    who: str = ""
    """Whose key or token opened it: ``key_`` and the key's id, for example."""
    purpose: str
    bucket: str
    spent_usd: float
    turns: int
    ttfa_ms: float | None
    longest_ttfa_ms: float | None
    voice_to_voice_ms: float | None
    longest_voice_to_voice_ms: float | None
    gaps: int
    longest_gap_ms: float | None
    handovers: int
    last_handover_at: float | None
    breaches: int
    failures: int
    recording: Literal["off", "recording", "kept", "failed", "deleted"] | None
    """Of its sound; None: that replica records nothing."""


class Calls(Answer):
    """Calls of one replica, and how many there are, of which only so many were asked for."""

    calls: list[CallFigures]
    found: int


class PartFigures(Answer):
    """A part of the waiting, in ms."""

    count: int
    breaches: int
    latest_ms: float | None
    longest_ms: float | None
    limit_ms: float | None
    parts: dict[str, float]
    """What the latest one consists of."""


class CallTimeline(CallFigures):
    """One call with its timeline. Each row has `time`, `type`, `tier`, `call_id`, and what belongs to its type."""

    latency: dict[str, PartFigures]
    """By part: transport, reasoning, recovery."""
    rows: list[dict[str, Any]]
    rows_dropped: int
    """Rows between the first and the latest ones that are not kept."""


class Drill(Answer):
    """A failover that is practised on some calls. `ended`: why it is over before its time, else empty."""

    id: str
    practice: Practice
    scope: str
    share: float
    until: float
    most: int
    wrong: int
    reason: str
    who: str
    name: str
    typed: str
    created: float
    ended: str
    running: bool


class Spread(Answer):
    """None where there was nothing to measure."""

    p50: float | None
    p95: float | None
    max: float | None


class DrillReport(Answer):
    """What the callers of a drill heard, at all replicas."""

    calls: int
    """That were handed over."""
    waiting: int
    skipped: int
    """Left alone, since they were in trouble of their own."""
    turns_answered: int
    turns_lost: int
    gap_ms: Spread
    """Silence at a handover, by the audio that was sent."""
    bridges: int
    back_s: Spread
    """From the handover until Tier A served the call again."""
    not_back: int
    cost_usd: float
    """Charged from the handover until then."""


class DrillWithReport(Drill):
    report: DrillReport


class Drills(Answer):
    drills: list[Drill]


class AuditEntry(Answer):
    """What somebody did. `hash` is over `prev`, a line feed and the rest as sorted JSON without spaces."""

    seq: int
    id: str
    time: float
    who: str
    name: str
    action: str
    subject: str
    reason: str
    details: dict[str, Any]
    prev: str
    hash: str


class AuditPage(Answer):
    """A part of the audit trail, the oldest entry first."""

    entries: list[AuditEntry]
    last: int
    """How many entries the trail has."""
    head: str
    """That number and the hash of the last entry: noted elsewhere, it tells whether the trail's end was cut off."""
    waiting: int
    """Entries of the replica that answers, which the trail has not taken yet."""
    kept_in: str


class BreakerChange(Answer):
    at: float
    state: Literal["closed", "open", "half_open", "canary"]
    cause: str


class RungHistory(Answer):
    rung: str
    changes: list[BreakerChange]
    """The oldest first; none: as it was in the beginning."""


class Gap(Answer):
    """A silence that a caller heard at a handover. `tier` is the one that served the call then."""

    at: float
    tier: str
    trigger: str
    cause: str
    gap_ms: float


class History(Answer):
    """How the breakers of one replica have changed, and what its callers waited at handovers, since `began`."""

    began: float
    now: float
    breakers: list[RungHistory]
    gaps: list[Gap]
    """The latest ones only."""
    gaps_seen: int
    gap_ms: Spread
