"""Places planned calls on lanes side by side. A lane is a stack of processes of its own, with one call at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from benchmarks.caller import FORMAT, Caller, Utterance
from benchmarks.matrix import Cell, Moment
from benchmarks.plan import Planned, deal
from benchmarks.processes import http_client
from benchmarks.report import Row
from benchmarks.scenes import Scene, measured_strike, second_strike
from benchmarks.services import MODEL, SECOND_MODEL, Bench, Service, serving
from benchmarks.timeline import NOTHING, Struck, answers, figures
from tiers.prompts.catalogue import Catalogue

PATIENCE_S = {Service.SIMULATED: 15.0, Service.REAL: 30.0, Service.DIRECT: 8.0}
"""How long a client waits for an answer before it gives up."""
RUNGS = {True: (MODEL, SECOND_MODEL), False: (MODEL,)}
"""Tier A's models, by whether a call is about a handover from one to the next."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told how a run goes on."""

    called: Callable[[Row], None]
    """A call was placed."""
    started: Callable[[int, int], None] = lambda ready, stacks: None
    """So many of the stacks that are being started are ready."""


async def measure(
    service: Service,
    planned: Sequence[Planned],
    utterance: Utterance,
    logs: Path,
    listener: Listener,
    lanes: int = 1,
) -> None:
    """Place the planned calls on one service, on so many lanes side by side.

    Calls for which Tier A has a second rung come last, on stacks of their own.
    """
    for two_rungs, rungs in sorted(RUNGS.items()):
        chosen = [plan for plan in planned if (plan.cell.moment is Moment.HANDOVER) is two_rungs]
        if chosen:
            dealt = deal(chosen, lanes)
            async with http_client() as http:
                await _Side(service, utterance, logs, listener, rungs, http, len(dealt)).run(dealt)


class _Side:
    """Lanes of one kind of stack, side by side."""

    def __init__(
        self,
        service: Service,
        utterance: Utterance,
        logs: Path,
        listener: Listener,
        rungs: tuple[str, ...],
        http: httpx.AsyncClient,
        lanes: int,
    ) -> None:
        self._service = service
        self._utterance = utterance
        self._logs = logs
        self._listener = listener
        self._rungs = rungs
        self._http = http
        self._lanes = lanes
        self._ready = 0
        self._all_ready = asyncio.Barrier(lanes)

    async def run(self, dealt: Sequence[Sequence[Planned]]) -> None:
        """The first error of a lane ends all of them."""
        self._listener.started(0, self._lanes)
        try:
            async with asyncio.TaskGroup() as group:
                for lane, planned in enumerate(dealt):
                    group.create_task(self._lane(lane, planned))
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _lane(self, lane: int, planned: Sequence[Planned]) -> None:
        folder = self._logs / f"lane-{lane}" if self._lanes > 1 else self._logs
        folder.mkdir(parents=True, exist_ok=True)
        async with serving(self._service, self._utterance.words, folder, self._http, self._rungs) as bench:
            self._ready += 1
            self._listener.started(self._ready, self._lanes)
            # Processes that start take the processor away from calls.
            await self._all_ready.wait()
            for plan in planned:
                row = await one_call(bench, plan, self._utterance, self._logs)
                self._listener.called(replace(row, lane=lane))


async def one_call(bench: Bench, plan: Planned, utterance: Utterance, logs: Path) -> Row:
    """Place a call and judge it; what its client saw is kept in `logs` where something went wrong."""
    if bench.orchestrator is not None:
        await bench.orchestrator.until_trusting()
    cell, bridges, provider = plan.cell, bridge_texts(), bench.provider
    scene = Scene(
        cell, plan.after_ms, plan.outage, utterance.audio, plan.pause, bridges, provider, bench.orchestrator
    )
    before = _sent_ms(await provider.state())
    await scene.arm()
    caller = Caller(
        bench.url,
        utterance.audio,
        pause=plan.pause,
        patience=PATIENCE_S[bench.service],
        answered=lambda event: answers(event, bridges),
        script=scene.play,
    )
    try:
        call = await caller.place()
    finally:
        await provider.disarm()
    fault = struck(scene.armed_at, cell, await provider.state(), before)
    found = figures(call, fault, bridges, voices=bench.service is Service.REAL)
    row = Row(bench.service, cell.fault, cell.moment, plan.round, plan.after_ms, found, call.lost)
    if row.failures:
        call.save(logs / f"{bench.service}-{cell.fault}-{cell.moment}-{plan.round}.jsonl")
    return row


def struck(since: float, cell: Cell, state: Mapping[str, Any], sent_ms_before: float) -> Struck | None:
    """The fault of a call as the provider knows it; None where it never struck after `since`, when it was armed."""
    strikes, sent_ms = state["struck"], _sent_ms(state) - sent_ms_before
    at = measured_strike(cell, strikes, since)
    if at is None:
        return replace(NOTHING, sent_ms=sent_ms) if not cell.strikes_at else None
    return Struck(at, sent_ms, second_strike(cell, strikes, at))


def _sent_ms(state: Mapping[str, Any]) -> float:
    """All audio that the provider has ever sent."""
    sessions = [connection["session"] for connection in state["connections"]]
    return FORMAT.ms(sum(session["audio_out_bytes"] for session in sessions if session))


def bridge_texts() -> frozenset[str]:
    """What a bridge's transcript may say: nothing, where it is a tone, or one of its texts."""
    return frozenset({""}) | Catalogue.load().bridge_texts()
