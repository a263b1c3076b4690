"""An operator's order about tiers: for whom, until when, why, and in which order several count.

Times are Unix seconds, since replicas and people share overrides: a monotonic clock means nothing to them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import blake2b
from typing import Any, TypeVar


class OverrideError(ValueError):
    """An override cannot be made as asked; the text says what was expected, what came and what to do.

    `param` is the part that was wrong: tier, scope, for, reason, limit, share or when.
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


class Limit(StrEnum):
    """What an override asks for, of a tier or one rung of it."""

    FORCE = "force"
    """That and nothing else."""
    CEILING = "ceiling"
    """Nothing better."""
    FLOOR = "floor"
    """Nothing worse, as long as anything as good works: health is above a floor."""

    @classmethod
    def parse(cls, text: str) -> Limit:
        return _one_of(cls, text, "limit")


class When(StrEnum):
    """When calls in progress follow an override."""

    NEXT_TURN = "next_turn"
    """Once nobody speaks and no answer is owed."""
    NOW = "now"
    """At once, in the middle of an answer too."""

    @classmethod
    def parse(cls, text: str) -> When:
        return _one_of(cls, text, "when")


E = TypeVar("E", bound=StrEnum)


def _one_of(kind: type[E], text: str, param: str) -> E:
    try:
        return kind(text.strip().lower())
    except ValueError:
        wanted = ", ".join(kind)
        raise OverrideError(param, f"expected {param} to be one of {wanted}, not {text!r}") from None


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


ALL_CALLS = 100.0


@dataclass(frozen=True, slots=True)
class Override:
    """`until` and `created` are Unix seconds; `who` and `name` are those of whoever's key it was made with."""

    id: str
    tier: Tier
    scope: Scope
    until: float
    reason: str
    who: str
    created: float
    rung: str = ""
    """The rung of the tier that is meant; empty: the whole tier."""
    limit: Limit = Limit.FORCE
    share: float = ALL_CALLS
    """Per cent of the calls that begin after it was made; all of them: calls in progress, too."""
    when: When = When.NEXT_TURN
    name: str = ""
    typed: str = ""
    """Who the operator says they are."""

    @property
    def target(self) -> str:
        """``B`` or ``A/gpt-realtime-2.1``, as `parse_target` reads it."""
        return f"{self.tier}/{self.rung}" if self.rung else str(self.tier)

    @property
    def by(self) -> str:
        """Who made it, for people: the name of their key, and beside it what they typed."""
        known = self.name or self.who
        return f"{known} ({self.typed})" if self.typed and self.typed != known else known

    def expired(self, now: float) -> bool:
        return now >= self.until

    def matches(
        self, *, call_id: str, user: str, purpose: str, bucket: str, started: float | None = None
    ) -> bool:
        """Whether it is for a call. `started`: when that began, in Unix seconds; None: it is about to."""
        match self.scope.kind:
            case ScopeKind.ALL:
                meant = True
            case ScopeKind.CALL:
                meant = self.scope.value == call_id
            case ScopeKind.USER:
                meant = self.scope.value == user
            case ScopeKind.PURPOSE:
                meant = self.scope.value == purpose
            case ScopeKind.BUCKET:
                meant = self.scope.value == bucket
        if not meant or self.share >= ALL_CALLS:
            return meant
        new = started is None or started >= self.created
        return new and in_share(self.id, call_id, self.share)

    def to_dict(self) -> dict[str, Any]:
        """As the store and the API show it."""
        return {
            "id": self.id,
            "tier": str(self.tier),
            "rung": self.rung,
            "limit": str(self.limit),
            "scope": str(self.scope),
            "share": self.share,
            "when": str(self.when),
            "until": self.until,
            "reason": self.reason,
            "who": self.who,
            "name": self.name,
            "typed": self.typed,
            "created": self.created,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Override:
        """The reverse of `to_dict`; anything missing or wrong raises ValueError or KeyError.

        What an earlier version did not write down has its default.
        """
        return cls(
            id=str(data["id"]),
            tier=Tier.parse(data["tier"]),
            scope=Scope.parse(data["scope"]),
            until=float(data["until"]),
            reason=str(data["reason"]),
            who=str(data["who"]),
            created=float(data["created"]),
            rung=str(data.get("rung", "")),
            limit=Limit.parse(data.get("limit", Limit.FORCE)),
            share=float(data.get("share", ALL_CALLS)),
            when=When.parse(data.get("when", When.NEXT_TURN)),
            name=str(data.get("name", "")),
            typed=str(data.get("typed", "")),
        )


def in_share(key: str, call_id: str, share: float) -> bool:
    """Whether a call is among so many per cent, as every replica works it out; one without an id never is."""
    digest = blake2b(f"{key}\0{call_id}".encode(), digest_size=8).digest()
    return bool(call_id) and int.from_bytes(digest) / 2**64 * 100.0 < share


def parse_target(text: str) -> tuple[Tier, str]:
    """``B``, or a rung as ``A/gpt-realtime-2.1``: the tier, and the rung's name or nothing."""
    tier, slash, rung = text.strip().partition("/")
    if slash and not rung.strip():
        raise OverrideError("tier", f"expected the name of a rung after the slash, like A/NAME, not {text!r}")
    return Tier.parse(tier), rung.strip()


def parse_share(share: float) -> float:
    """More than none, at most 100 per cent."""
    if not 0.0 < share <= ALL_CALLS:
        raise OverrideError("share", f"expected a share above 0 and up to 100 per cent, not {share:g}")
    return share


def make_override(
    *,
    id: str,
    tier: str,
    scope: str,
    duration: str,
    reason: str,
    who: str,
    now: float,
    limit: str = Limit.FORCE,
    share: float = ALL_CALLS,
    when: str = When.NEXT_TURN,
    name: str = "",
    typed: str = "",
) -> Override:
    """An override out of an operator's words, checked; OverrideError teaches what is wrong."""
    if not reason.strip():
        raise OverrideError(
            "reason", 'an override needs a reason that others can read, like "provider incident"'
        )
    of_tier, rung = parse_target(tier)
    return Override(
        id=id,
        tier=of_tier,
        scope=Scope.parse(scope),
        until=now + parse_duration(duration),
        reason=reason.strip(),
        who=who.strip() or "unknown",
        created=now,
        rung=rung,
        limit=Limit.parse(limit),
        share=parse_share(share),
        when=When.parse(when),
        name=name.strip(),
        typed=typed.strip(),
    )


def extended(override: Override, duration: str, now: float) -> Override:
    """The override with a new time to live, from now on."""
    return replace(override, until=now + parse_duration(duration))


def applying(
    overrides: Iterable[Override],
    *,
    call_id: str,
    user: str,
    purpose: str,
    bucket: str,
    now: float,
    started: float | None = None,
) -> list[Override]:
    """Those for a call, in the order in which they count: the most specific scope (call, user, purpose, bucket,
    all) first, of one scope the newest."""
    found = [
        override
        for override in overrides
        if not override.expired(now)
        and override.matches(call_id=call_id, user=user, purpose=purpose, bucket=bucket, started=started)
    ]
    # The id makes two of the same instant a tie that every replica breaks alike.
    found.sort(key=lambda o: (_SPECIFICITY[o.scope.kind], o.created, o.id), reverse=True)
    return found


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
