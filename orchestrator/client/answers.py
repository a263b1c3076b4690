"""What the API answers, as objects. Fields that a newer server adds are kept, in `model_extra`.

Times are Unix seconds, money is in US dollars.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

TierName = Literal["A", "B", "C"]
DecidedBy = Literal["hard_cap", "policy", "override", "health", "default"]


class Answer(BaseModel):
    # Built when first used: whoever imports this module wants one or two of them.
    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)


class PassedOver(Answer):
    """A rung that was not chosen, and why."""

    tier: TierName
    rung: str
    passed_over: str
    detail: str
    decided_by: DecidedBy
    sentence: str


class WouldChange(Answer):
    """A single change after which another tier and rung would be chosen; None: none would be ready."""

    change: str
    about: str
    amount_usd: float | None
    at: float | None
    """When it comes by itself, if it does."""
    sentence: str
    tier: TierName | None
    rung: str | None
    reason: str
    decided_by: DecidedBy


class Connect(Answer):
    """realtime: open a WebSocket at `url`. prompt: POST a prompt's variables there."""

    kind: Literal["realtime", "prompt"]
    method: Literal["GET", "POST"]
    url: str


class RungLatency(Answer):
    """What a part of the waiting took in the last 15 minutes in calls that the rung served, in ms."""

    tier: TierName
    rung: str
    part: Literal["transport", "reasoning", "recovery"]
    count: int
    median_ms: float
    p95_ms: float
    limit_ms: float | None
    breaches: int


class Route(Answer):
    """Where a call would go, why, and what would change that."""

    tier: TierName
    rung: str
    reason: str
    decided_by: DecidedBy
    sentence: str
    override_id: str | None
    usd_per_minute: float
    allowed_tools: list[str]
    candidates: list[PassedOver]
    would_change: list[WouldChange]
    connect: Connect
    latency: list[RungLatency] = []
    """Of the rungs that were looked at. It decides nothing."""


class NotEnforced(Answer):
    what: str
    sentence: str


class Session(Answer):
    """A call that may begin. `value` is the credential that opens it: it belongs to that client alone."""

    value: str = Field(repr=False)
    expires_at: int
    session: dict[str, Any]
    call_id: str
    tier: TierName
    rung: str
    reason: str
    decided_by: DecidedBy
    media: Literal["through", "direct"]
    connect: Connect
    not_enforced: list[NotEnforced]


class Override(Answer):
    """A forced tier or rung, or a limit."""

    id: str
    tier: TierName
    rung: str = ""
    limit: Literal["force", "ceiling", "floor"] = "force"
    share: float = 100.0
    when: Literal["next_turn", "now"] = "next_turn"
    name: str = ""
    typed: str = ""
    scope: str
    until: float
    reason: str
    who: str
    created: float


class Approval(Answer):
    """A tool call that a person has to approve; `decision` is None while nobody has decided."""

    id: str
    call_id: str
    tool_call_id: str
    tool: str
    arguments: dict[str, Any]
    summary: str
    user: str
    bucket: str
    purpose: str
    asked_at: float
    expires_at: float
    decision: Literal["approved", "rejected"] | None
    who: str | None
    reason: str | None
    decided_at: float | None


class PromptLink(Answer):
    """A prompt that is ready at a signed address, for whoever cannot send a key."""

    url: str
    expires_at: int
    format: str
    text: str
    seconds: float
    bytes: int
    cache: Literal["hit", "stale", "miss"]
    cost_usd: float


class NextCall(Answer):
    tier: TierName
    rung: str
    reason: str
    decided_by: DecidedBy


class Store(Answer):
    kind: Literal["embedded", "redis"]
    connected: bool
    away_since: float | None
    unsent: int


class Rung(Answer):
    tier: str | None
    """None for a part of a tier, like one of its speech engines."""
    rung: str
    missing: str | None
    breaker: Literal["closed", "open", "half_open", "canary"]
    cause: str | None
    last_success_at: float | None
    last_failure_at: float | None
    next_probe_at: float | None
    paid: bool
    usd_per_minute: float


class Bucket(Answer):
    """Since midnight UTC."""

    bucket: str
    spent_usd: float
    reserved_usd: float
    cap_usd: float | None


class CallInProgress(Answer):
    call_id: str
    tier: str
    rung: str
    reason: str
    state: str
    user: str
    purpose: str
    bucket: str
    started_at: float
    spent_usd: float
    reserved_usd: float
    cap_usd: float | None
    budget_step: str | None


class Sink(Answer):
    sink: str
    sent: int
    waiting: int
    dropped: int
    failing: str | None


class Status(Answer):
    """How things stand, as one replica sees them. What is not listed here is in `model_extra`."""

    replica: str
    now: float
    store: Store
    next_call: NextCall
    rungs: list[Rung]
    overrides: list[Override]
    buckets: list[Bucket]
    calls: list[CallInProgress]
    business_events: list[Sink]
    approvals: int


class Amounts(Answer):
    mean: float
    p50: float
    p95: float
    max: float
    error: float


class Estimate(Answer):
    """What calls of a kind would cost. What is not listed here is in `model_extra`."""

    calls: int
    seed: int
    cost_usd: Amounts
    """Of a call."""
    usd_per_answered_minute: float
    usd_per_day: float
    usd_per_month: float
    turns: Amounts
    tier_mix: dict[str, float]
    """Share of turns by tier."""
    stepped: dict[str, float]
    unpaid: float
    parts_usd: dict[str, float]


class Overrides(Answer):
    overrides: list[Override]


class Approvals(Answer):
    approvals: list[Approval]


@dataclass(frozen=True, slots=True)
class Spoken:
    """Speech, and what the server said of it. None where it did not."""

    audio: bytes = field(repr=False)
    media_type: str
    seconds: float | None
    cost_usd: float | None
    cache: str | None
    """hit, stale or miss."""

    def __len__(self) -> int:
        return len(self.audio)


@dataclass(frozen=True, slots=True)
class Event:
    """A row of a call's timeline. `fields` is what belongs to its type.

    Two types are told by the server about the stream itself: ``events_missed`` (what happened since `id` is
    forgotten) and ``events_cut_off`` (this reader was too slow).
    """

    id: str
    time: float
    type: str
    tier: str
    call_id: str
    fields: Mapping[str, Any]
