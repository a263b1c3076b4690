"""Places the calls: the same fault for all contenders side by side, so that they share the load of the machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.caller import Utterance
from benchmarks.peers.cases import GONE, Planned
from benchmarks.peers.contenders import Running, hall, running
from benchmarks.peers.figures import FORMAT, Figures, Outcome, figures
from benchmarks.peers.lines import place
from benchmarks.processes import BenchmarkError, Simulator, http_client

CONNECT_S = 3.0
"""How long a call may take to reach the provider before the provider is gone; the caller starts speaking meanwhile."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measured call."""

    contender: str
    fault: str
    round: int
    after_ms: int
    figures: Figures
    closed: str = ""
    """How the call ended, where it was not the caller who ended it."""


async def measure(
    names: Sequence[str],
    planned: Sequence[Planned],
    utterance: Utterance,
    folder: Path,
    watch_s: float,
    tell: Callable[[Planned, list[str]], None],
) -> list[Row]:
    """Place all calls. A contender that fails `none` gets no further calls: `tell` is told who, after each lot."""
    rows: list[Row] = []
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(http_client())
        shared = await stack.enter_async_context(hall(utterance, folder, http))
        up = await asyncio.gather(*(stack.enter_async_context(running(name, shared)) for name in names))
        for plan in planned:
            lot = await asyncio.gather(*(_one_call(each, plan, utterance, folder, watch_s) for each in up))
            rows += lot
            out = refused(rows)
            tell(plan, [each.name for each in up if each.name in out])
            up = [each for each in up if each.name not in out]
    return rows


def refused(rows: Sequence[Row]) -> list[str]:
    """Contenders of which a call without a fault was not answered: what they do with one says nothing.

    A call that the benchmark itself could not place or measure is nothing that they did, once they have shown that
    they work.
    """
    calm = [row for row in rows if row.fault == "none"]
    work = {row.contender for row in calm if row.figures.outcome is Outcome.ANSWERED}
    fine = (Outcome.ANSWERED, Outcome.ERROR)
    bad = [row for row in calm if row.figures.outcome not in fine or row.contender not in work]
    return list(dict.fromkeys(row.contender for row in bad))


async def _one_call(
    contender: Running, plan: Planned, utterance: Utterance, folder: Path, watch_s: float
) -> Row:
    """Errors of the benchmark itself are noted in the row: the other calls still count."""
    try:
        found, closed = await _figures(contender, plan, utterance, folder, watch_s)
    except (BenchmarkError, OSError, httpx.HTTPError, KeyError, ValueError) as error:
        found, closed = Figures(Outcome.ERROR), f"{type(error).__name__}: {error}"
    return Row(contender.name, plan.case.name, plan.round, plan.after_ms, found, closed)


async def _figures(
    contender: Running, plan: Planned, utterance: Utterance, folder: Path, watch_s: float
) -> tuple[Figures, str]:
    await contender.settled()
    provider, case = contender.provider, plan.case
    connected = len((await provider.state())["connections"])
    if case.moment is not None:
        await provider.arm(case.fault(plan.after_ms))
    line = contender.line(folder / contender.name / f"{case.name}-{plan.round}.jsonl")
    began = time.monotonic()
    going = asyncio.create_task(_go(provider, connected)) if case.gone else None

    async def fault_at() -> float | None:
        struck = (await provider.state())["struck"]
        return next((s["at"] for s in struck if s["at"] > began and s["fault"] == case.name), None)

    try:
        stream = await place(line, plan.pause, watch_s, FORMAT.ms(len(utterance.audio)) / 1000.0, fault_at)
        at = await fault_at()
    finally:
        if going is not None:
            going.cancel()
            await asyncio.wait([going])
        await provider.disarm()
    missed = case.moment is not None and at is None
    return Figures(Outcome.MISSED) if missed else figures(stream, at), stream.closed


async def _go(provider: Simulator, connected: int) -> None:
    """Once the call has reached the provider, it takes no more connections."""
    async with asyncio.timeout(CONNECT_S):
        while True:
            if len((await provider.state())["connections"]) > connected:
                break
            await asyncio.sleep(0.05)
    await provider.arm(GONE)
