"""A control room for tests: the real server over real sockets, with calls that are told instead of held."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from orchestrator.config import Settings
from orchestrator.core.overrides import Tier
from orchestrator.server.app import Orchestrator
from orchestrator.server.calls import CallInfo
from orchestrator.server.http import build_api
from orchestrator.server.identity import Scope
from orchestrator.server.key_store import FileKeys, change_keys
from orchestrator.server.keys import new_key
from tests import planted

RUNGS = ("gpt-realtime-2.1", "gpt-realtime-2.1-mini")
ENGINES = {"A": RUNGS[0], "B": "kokoro", "C": "prompts"}
NANO = 1_000_000_000


class Told(Orchestrator):
    """The real service. Its calls are those that a test tells it, by rows of their timelines."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.in_progress: dict[str, dict[str, Any]] = {}

    def calls(self) -> list[dict[str, Any]]:
        return list(self.in_progress.values())

    def begin(self, id: str, tier: str = "A", ago: float = 60.0, **info: str) -> None:
        """A call that began so many seconds ago."""
        began = time.time() - ago
        named = {"user": "ada", "purpose": "conversation", "bucket": "default", **info}
        self.records.began(CallInfo(id, "gpt-realtime-2.1", started_at=began, **named))  # type: ignore[arg-type]
        self.in_progress[id] = {
            "call_id": id,
            "tier": tier,
            "rung": ENGINES[tier],
            "reason": "default",
            "state": "relaying",
            **named,
            "started_at": began,
            "spent_usd": 0.0,
            "reserved_usd": 0.0,
            "cap_usd": None,
            "budget_step": None,
        }
        self.row(id, "call_started", tier=tier, rung=ENGINES[tier], reason="default", at=began)

    def row(
        self, id: str, type: str, tier: str | None = None, at: float | None = None, **fields: Any
    ) -> None:
        """A row of a call's timeline; `at` is Unix seconds, if it is not now."""
        if at is None:
            self.events.add(type, tier=tier or self.in_progress[id]["tier"], call_id=id, **fields)
            return
        listeners, self.events.listeners = self.events.listeners, []
        self.events.add(type, tier=tier or self.in_progress[id]["tier"], call_id=id, **fields)
        self.events.listeners = listeners
        self.events.recent[-1]["time"] = at
        for listener in listeners:
            listener(self.events.recent[-1])

    def charge(self, id: str, usd: float, at: float | None = None) -> None:
        call = self.in_progress[id]
        call["spent_usd"] += usd
        self.row(
            id,
            "charge",
            at=at,
            what="response",
            model=call["rung"],
            rung=call["rung"],
            turn=1,
            nanodollars=round(usd * NANO),
            estimated=False,
            bucket=call["bucket"],
        )

    def hand_over(
        self,
        id: str,
        to: str,
        cause: str,
        at: float | None = None,
        gap_ms: float | None = None,
        trigger: str = "fault",
    ) -> None:
        call = self.in_progress[id]
        fields = {"from_tier": call["tier"], "from_rung": call["rung"], "to_tier": to, "to_rung": ENGINES[to]}
        call |= {"tier": to, "rung": ENGINES[to], "reason": cause}
        self.row(id, "handover", tier=to, at=at, **fields, trigger=trigger, cause=cause, owed=1)
        if gap_ms is not None:
            later = None if at is None else at + gap_ms / 1000
            self.row(id, "gap", tier=to, at=later, trigger=trigger, cause=cause, gap_ms=gap_ms)

    def hang_up(self, id: str) -> None:
        self.row(id, "call_ended", spent_usd=self.in_progress[id]["spent_usd"])
        del self.in_progress[id]
        self.records.closed(id, time.time())


@dataclass
class Room:
    service: Told
    url: str
    keys: dict[str, str]
    """By scope."""


async def make_keys(folder: Path) -> dict[str, str]:
    store, now = FileKeys(folder / "keys.json"), time.time()
    found = {}
    for scope in Scope:
        made = await change_keys(
            store, lambda ring, scope=scope: new_key(f"the {scope} key", [scope], now), now
        )
        found[str(scope)] = made[1]
    return found


@asynccontextmanager
async def serving(folder: Path, **sections: Any) -> AsyncIterator[Room]:
    """A server with one key for each scope. It listens until the block ends."""
    sections.setdefault("budget", {"buckets": {}})
    settings = Settings.model_validate(
        {
            "openai": {"api_key": planted.PROVIDER, "base_url": "http://127.0.0.1:9/v1"},
            "tier_a": {"rungs": RUNGS},
            "access": {"keys_path": folder / "keys.json"},
            "audit": {"path": folder / "audit.jsonl"},
            **sections,
        }
    )
    keys = await make_keys(folder)
    service = Told(settings)
    await service.door.keys.refresh()
    await service.audit.start()
    await service.fleet.start()
    await service.drills.start()
    service.fleet.on_change(service._reconsider)
    for tier in (Tier.B, Tier.C):
        service.fleet.set_ready(tier)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(build_api(service), log_level="critical", lifespan="off"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    yield Room(service, f"http://127.0.0.1:{listener.getsockname()[1]}", keys)
    service.events.end_followers()
    server.should_exit = True
    await task
    await service.drills.close()
    await service.fleet.close()
    await service.audit.close()
    await service.store.close()
