"""Who a request comes from, and what that lets it do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from orchestrator.core.grants import Grant


class Scope(StrEnum):
    """What a key is for. None implies another one."""

    SERVICE = "service"
    """Routing, calls, speech: what a product's own servers do."""
    OPERATOR = "operator"
    """Forcing tiers, deciding approvals, changing prompts, looking at everything."""
    METRICS = "metrics"
    """Reading figures."""


@dataclass(frozen=True, slots=True)
class Identity:
    """`id` tells it from all others ("key_1f2e", "jwt:issuer|subject"), `name` is for people and for the records.

    With a `grant` it opens that one call and may do nothing else.
    """

    id: str
    name: str
    scopes: frozenset[Scope] = frozenset()
    grant: Grant | None = None
    origin: str | None = None
    """The only web origin it may be used from, if any."""
    expires_at: float | None = None
    """Unix seconds: of a grant, until when its call may begin."""

    user: str = ""
    """Whom it stands for, where it is one person's: the subject of a token."""

    def may(self, *scopes: Scope) -> bool:
        """Whether it has one of these."""
        return not self.scopes.isdisjoint(scopes)


LOCAL = Identity("local", "this machine", frozenset(Scope))
"""Whoever connects from this machine where no key is set."""
ROOT = Identity("root", "server.api_key", frozenset(Scope))
METRICS = Identity("metrics", "access.metrics_key", frozenset({Scope.METRICS}))
