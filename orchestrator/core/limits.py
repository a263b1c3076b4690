"""Which rungs several overrides leave of those that can be used at all: a pure function.

They count in their order, the most specific first. One that would leave nothing of what those before it leave is set
aside, and so is one that means nothing that can be used. Of those that force, one counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.core.overrides import Limit, Override, Tier

Place = tuple[Tier, str]
"""A rung: its tier and its name."""


class Aside(StrEnum):
    """Why an override counts for nothing in a decision."""

    NOTHING_USABLE = "nothing_usable"
    """Nothing that it asks for can be used."""
    CONTRADICTED = "contradicted"
    """Another one, more specific or newer, leaves nothing of it."""
    HEALTH = "health"
    """A floor, and nothing as good works."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """`by`: the id of the override that stands against it, where one does."""

    override: Override
    why: Aside
    by: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is left: `standing` are the overrides that count, in their order."""

    allowed: frozenset[Place]
    standing: tuple[Override, ...] = ()
    aside: tuple[SetAside, ...] = ()

    @property
    def force(self) -> Override | None:
        return next((o for o in self.standing if o.limit is Limit.FORCE), None)

    @property
    def floors(self) -> tuple[Override, ...]:
        return tuple(o for o in self.standing if o.limit is Limit.FLOOR)


def limits(orders: Iterable[Override], usable: Sequence[Place], places: Sequence[Place]) -> Limits:
    """`orders` as `overrides.applying` sorts them, `places` all rungs in order of preference, of them `usable`."""
    allowed = frozenset(usable)
    standing: list[Override] = []
    aside: list[SetAside] = []
    for order in orders:
        meant = allowed_by(order, places)
        if meant.isdisjoint(usable):
            aside.append(SetAside(order, Aside.NOTHING_USABLE))
            continue
        force = next((o for o in standing if o.limit is Limit.FORCE), None)
        if (order.limit is Limit.FORCE and force is not None) or meant.isdisjoint(allowed):
            by = force if order.limit is Limit.FORCE and force else _against(meant, standing, places)
            aside.append(SetAside(order, Aside.CONTRADICTED, by.id))
            continue
        standing.append(order)
        allowed &= meant
    return Limits(allowed, tuple(standing), tuple(aside))


def allowed_by(order: Override, places: Sequence[Place]) -> frozenset[Place]:
    """The rungs that an override by itself lets calls use."""
    named = (order.tier, order.rung)
    if order.limit is Limit.FORCE:
        return frozenset(p for p in places if p == named or (not order.rung and p[0] is order.tier))
    if order.rung and named in places:
        at = places.index(named)
        return frozenset(places[at:] if order.limit is Limit.CEILING else places[: at + 1])
    if order.limit is Limit.CEILING:
        return frozenset(p for p in places if p[0] >= order.tier)
    return frozenset(p for p in places if p[0] <= order.tier)


def excluding(standing: Sequence[Override], place: Place, places: Sequence[Place]) -> Override | None:
    """The first override that bars a rung: the one that is told."""
    return next((order for order in standing if place not in allowed_by(order, places)), None)


def _against(meant: frozenset[Place], standing: Sequence[Override], places: Sequence[Place]) -> Override:
    """The one after which nothing of `meant` was left."""
    left = meant
    for order in standing:
        left &= allowed_by(order, places)
        if not left:
            return order
    return standing[-1]
