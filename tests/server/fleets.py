"""Replicas for tests: on one store, with a wall clock that a test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from orchestrator.core.overrides import Tier
from orchestrator.core.routing import RouteRequest
from orchestrator.server.fleet import Change, Fleet
from orchestrator.server.rungs import RungSpec
from orchestrator.server.store import Store

RUNGS = (
    RungSpec(Tier.A, "realtime", paid=True, usd_per_minute=0.05),
    RungSpec(Tier.B, "kokoro"),
    RungSpec(Tier.C, "prompts"),
)
ACME = RouteRequest(bucket="acme")
NOON = 1_700_000_000.0 - 1_700_000_000.0 % 86_400 + 43_200


class Wall:
    """Unix seconds that a test moves."""

    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def make_fleet(store: Store, wall: Callable[[], float] | None = None, **options: Any) -> Fleet:
    options = {"bucket_caps": {"acme": 100}, "rng": lambda: 0.0, "wall": wall or Wall()} | options
    return Fleet(store, RUNGS, **options)


async def until(condition: Callable[[], object]) -> None:
    """Waits for what other tasks are about to do."""
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


def changes_of(fleet: Fleet) -> list[Change]:
    changes: list[Change] = []
    fleet.on_change(changes.append)
    return changes
