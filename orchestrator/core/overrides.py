"""An operator's forced tier: for whom, until when, why, and which of several applies.

Times are Unix seconds, since replicas and people share overrides: a monotonic clock means nothing to them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class OverrideError(ValueError):
    """An override cannot be made as asked; the text says what was expected, what came and what to do.

    `param` is the part that was wrong: tier, scope, for or reason.
    """

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


class Tier(StrEnum):
    """A: OpenAI Realtime. B: the local pipeline. C: fixed prompts."""

    A = "A"
    B = "B"
    C = "C"

    @classmethod
    def parse(cls, text: str) -> Tier:
        try:
            return cls(text.strip().upper())
        except ValueError:
            raise OverrideError("tier", f"expected tier A, B or C, not {text!r}") from None


class ScopeKind(StrEnum):
    ALL = "all"
    BUCKET = "bucket"
    PURPOSE = "purpose"
    USER = "user"
    CALL = "call"


_SPECIFICITY = {kind: rank for rank, kind in enumerate(ScopeKind)}


@dataclass(frozen=True, slots=True)
class Scope:
    """Whom an override is for: ``all``, or ``call:ID``, ``user:ID``, ``purpose:NAME``, ``bucket:NAME``."""

    kind: ScopeKind
    value: str = ""

    @classmethod
    def parse(cls, text: str) -> Scope:
        kind, colon, value = text.strip().partition(":")
        if kind == ScopeKind.ALL and not colon:
            return cls(ScopeKind.ALL)
        if kind in set(ScopeKind) - {ScopeKind.ALL} and value.strip():
            return cls(ScopeKind(kind), value.strip())
        raise OverrideError(
            "scope",
            f"expected a scope of all, call:ID, user:ID, purpose:NAME or bucket:NAME, not {text!r}; "
            "for example user:42 for one caller, or all for everybody",
        )

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}" if self.value else str(self.kind)


@dataclass(frozen=True, slots=True)
class Override:
    """`until` and `created` are Unix seconds; `who` is whoever the operator says they are, `by` whose key it was."""

    id: str
    tier: Tier
    scope: Scope
    until: float
    reason: str
    who: str
    created: float
    by: str = ""

    def expired(self, now: float) -> bool:
        return now >= self.until

    def matches(self, *, call_id: str, user: str, purpose: str, bucket: str) -> bool:
        match self.scope.kind:
            case ScopeKind.ALL:
                return True
            case ScopeKind.CALL:
                return self.scope.value == call_id
            case ScopeKind.USER:
                return self.scope.value == user
            case ScopeKind.PURPOSE:
                return self.scope.value == purpose
            case ScopeKind.BUCKET:
                return self.scope.value == bucket

    def to_dict(self) -> dict[str, Any]:
        """As the store and the API show it."""
        return {
            "id": self.id,
            "tier": str(self.tier),
            "scope": str(self.scope),
            "until": self.until,
            "reason": self.reason,
            "who": self.who,
            "created": self.created,
            "by": self.by,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Override:
        """The reverse of `to_dict`; anything missing or wrong raises ValueError or KeyError."""
        return cls(
            id=str(data["id"]),
            tier=Tier.parse(data["tier"]),
            scope=Scope.parse(data["scope"]),
            until=float(data["until"]),
            reason=str(data["reason"]),
            who=str(data["who"]),
            created=float(data["created"]),
            by=str(data.get("by", "")),
        )


def make_override(
    *, id: str, tier: str, scope: str, duration: str, reason: str, who: str, now: float, by: str = ""
) -> Override:
    """An override out of an operator's words, checked; OverrideError teaches what is wrong."""
    if not reason.strip():
        raise OverrideError(
            "reason", 'an override needs a reason that others can read, like "provider incident"'
        )
    return Override(
        id=id,
        tier=Tier.parse(tier),
        scope=Scope.parse(scope),
        until=now + parse_duration(duration),
        reason=reason.strip(),
        who=who.strip() or "unknown",
        created=now,
        by=by,
    )


def choose_override(
    overrides: Iterable[Override], *, call_id: str, user: str, purpose: str, bucket: str, now: float
) -> Override | None:
    """The one that applies: the most specific scope (call, user, purpose, bucket, all), then the newest."""
    best: Override | None = None
    best_rank = (-1, 0.0, "")
    for override in overrides:
        # The id makes two of the same instant a tie that every replica breaks alike.
        rank = (_SPECIFICITY[override.scope.kind], override.created, override.id)
        if rank <= best_rank or override.expired(now):
            continue
        if override.matches(call_id=call_id, user=user, purpose=purpose, bucket=bucket):
            best, best_rank = override, rank
    return best


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(?:\d+[smhd])+")
_DURATION_PART = re.compile(r"(\d+)([smhd])")
_LONGEST_S = 30 * 86_400


def parse_duration(text: str) -> int:
    """Seconds in "90s", "15m", "2h", "1d" or "1h30m": more than none, at most 30 days."""
    cleaned = text.strip().lower()
    if not _DURATION.fullmatch(cleaned):
        raise OverrideError("for", f"expected a duration like 90s, 15m, 2h or 1h30m, not {text!r}")
    seconds = sum(int(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(cleaned))
    if not 0 < seconds <= _LONGEST_S:
        raise OverrideError(
            "for",
            f"an override lasts from 1s to 30d, not {text!r}; for a lasting change edit the configuration",
        )
    return seconds
