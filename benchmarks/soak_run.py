"""One soak: the processes, the callers on their lines, the provider's faults, and what is seen of it meanwhile."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.live import Live
from rich.table import Table

from benchmarks import soak_judge
from benchmarks.processes import Orchestrator, Simulator, http_client, process
from benchmarks.services import simulated_engines
from benchmarks.soak_caller import Call
from benchmarks.soak_judge import Sample
from benchmarks.soak_schedule import Bar, Order
from benchmarks.soak_turns import Ending, Lost, Tally

HEARD = ("This is a spoken turn.", "Where is order 4172?")
"""What the spoken turns of a session are taken to say, in this order, over and over."""
RULES = """
[[rule]]
when = "question ([0-9]+) of caller ([0-9]+)"
say = ["Answer {1} for caller {2}."]
[[rule]]
when = "order ([0-9]+)"
tool = "get_order_status"
arguments = { order_id = "{1}" }
[[rule]]
when = "."
say = ["I have noted your words."]
"""
"""What the provider and the text agent answer: an answer to a question in writing names its question."""
SETTINGS = {
    "ORCHESTRATOR_BREAKER__FAILURES": "10",
    "ORCHESTRATOR_BREAKER__WINDOW_S": "5",
    "ORCHESTRATOR_BREAKER__PROBE_MAX_S": "2",
    "ORCHESTRATOR_PROMOTION__MIN_INTERVAL_S": "1",
    "ORCHESTRATOR_BUDGET__CALL_USD": "100",
    "ORCHESTRATOR_CACHE__MEMORY_MB": "8",
}
"""Not the defaults. With those a few faults in half a minute would keep all calls from Tier A, where there would be
nothing left to strike; the cache of clips would take minutes to fill, which looks like a leak; and money is not what is
tried here."""
SAMPLE_S = 1.0
RAMP_S = 5.0
"""The first calls are placed over so many seconds."""
GRACE_S = 40.0
"""How long calls that are in progress at the end may take to end by themselves."""
IDLE_S = 20.0
"""How long the process may take to let go of everything once the last call has ended."""
SAVED = 40
"""So many calls with something wrong are saved."""


@dataclass(slots=True)
class Run:
    """One soak: what it was told, and what has come of it so far."""

    seconds: float
    calls: int
    seed: int
    frame_ms: int
    folder: Path
    words: bytes
    orders: list[Order]
    tally: Tally = field(default_factory=Tally)
    samples: list[Sample] = field(default_factory=list)
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    struck: Counter[str] = field(default_factory=Counter)
    bar: Bar = Bar.CALM
    saved: int = 0

    # --- lines ---

    async def line(self, number: int, url: str, end: float) -> None:
        """Calls one after the other, until `end`."""
        dice = random.Random(f"{self.seed}-{number}")
        await asyncio.sleep(RAMP_S * number / self.calls)
        while time.monotonic() < end:
            call = Call(number, dice, self.words, self.frame_ms, self.tally)
            try:
                await call.hold(url)
            except Exception as error:
                call.wrong.append(f"the caller itself broke: {type(error).__name__}: {error}")
            self.tally.calls += 1
            self._note(number, call)
            await asyncio.sleep(dice.uniform(0.2, 1.5))

    def _note(self, number: int, call: Call) -> None:
        """Keep what is wrong with a call, and its events for whoever wants to know."""
        if not call.wrong and not call.lost:
            return
        name = ""
        if self.saved < SAVED:
            self.saved += 1
            name = f"soak-call-{self.saved:02}.jsonl"
            about = {"call_id": call.call_id, "caller": number, "wrong": call.wrong, "lost": call.lost}
            lines = [json.dumps(about)]
            (self.folder / name).write_text("\n".join(lines + [json.dumps(event) for event in call.log]))
        if call.lost:
            self.tally.lost.append(Lost(call.call_id, name, call.lost, call.closed))
        self.tally.wrong += [f"{call.call_id} {name}: {sentence}" for sentence in call.wrong]

    # --- the provider's day ---

    async def misbehave(self, provider: Simulator, start: float) -> None:
        """Give the provider its commands, each when it is due."""
        for order in self.orders:
            await asyncio.sleep(max(0.0, start + order.at - time.monotonic()))
            self.bar = order.bar if order.fault is not None else Bar.CALM
            if order.fault is None:
                await provider.disarm()
            else:
                await provider.arm(order.fault)

    # --- looking on ---

    async def watch(self, origin: str, http: httpx.AsyncClient, start: float) -> None:
        due = time.monotonic()
        while True:
            lag_ms = (time.monotonic() - due) * 1000.0
            with suppress(httpx.HTTPError):
                self.samples.append(await self._sample(origin, http, start, lag_ms))
            due = max(due + SAMPLE_S, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    async def _sample(self, origin: str, http: httpx.AsyncClient, start: float, lag_ms: float) -> Sample:
        asked = time.monotonic()
        status = (await http.get(f"{origin}/v1/status")).json()
        took_ms, held, tally = (time.monotonic() - asked) * 1000.0, status["process"], self.tally
        return Sample(
            at=round(asked - start, 2),
            rss_bytes=held["rss_bytes"] or 0,
            tasks=held["tasks"],
            open_files=held["open_files"] or 0,
            calls=held["calls"],
            tier_a=sum(call["tier"] == "A" for call in status["calls"]),
            status_ms=round(took_ms, 1),
            up=tally.up,
            asked=tally.asked,
            answered=tally.endings[Ending.ANSWERED],
            closed=tally.endings[Ending.CLOSED],
            handovers=tally.handovers,
            client_lag_ms=round(lag_ms, 1),
        )

    def view(self) -> Table:
        """Now, for people."""
        tally, sample = self.tally, self.samples[-1] if self.samples else None
        table = Table(box=None, show_header=False)
        table.add_column(style="dim")
        table.add_column()
        at = sample.at if sample else 0.0
        table.add_row("time", f"{at:.0f} of {self.seconds:.0f} s, {self.bar.value}")
        table.add_row(
            "calls", f"{tally.up} up, {sample.tier_a if sample else 0} in Tier A, {tally.calls} ended"
        )
        endings = ", ".join(
            f"{tally.endings[ending]} {ending.value.replace('_', ' ')}"
            for ending in Ending
            if tally.endings[ending] or ending in (Ending.ANSWERED, Ending.CLOSED)
        )
        table.add_row("turns", f"{tally.asked} asked, {endings}")
        table.add_row("handovers", str(tally.handovers))
        if sample:
            table.add_row("memory", f"{sample.rss_bytes / 1e6:.0f} MB, {sample.open_files} open files")
            table.add_row("tasks", str(sample.tasks))
            table.add_row(
                "event loops", f"{sample.status_ms:.0f} ms there, {sample.client_lag_ms:.0f} ms here"
            )
        table.add_row("wrong", f"[{'red' if tally.wrong else 'green'}]{len(tally.wrong)}[/]")
        return table


@asynccontextmanager
async def serving(folder: Path, http: httpx.AsyncClient) -> AsyncIterator[tuple[Simulator, Orchestrator]]:
    """The provider and the orchestrator before it; logs, events and clips go to `folder`."""
    rules = folder / "rules.toml"
    rules.write_text(RULES)
    heard = [part for words in HEARD for part in ("--heard", words)]
    transcripts = [part for words in HEARD for part in ("--transcript", words)]
    async with AsyncExitStack() as stack:

        async def start(name: str, *arguments: object, env: Mapping[str, str] | None = None) -> str:
            return await stack.enter_async_context(
                process(folder / f"{name}.log", *map(str, arguments), env=env)
            )

        realtime = ("--speech", "tone", "--answer-seconds", 2.0, "--rules", rules, *heard)
        provider, speech, llm = await asyncio.gather(
            start("realtime", "simulate", "realtime", *realtime),
            start("speech", "simulate", "speech", "--rtf", 0.1, *transcripts),
            start("llm", "simulate", "llm", "--rules", rules),
        )
        env = {
            "OPENAI_BASE_URL": f"{provider}/v1",
            "OPENAI_API_KEY": "soak",
            "ORCHESTRATOR_CACHE__DIR": str(folder / "clips"),
            "ORCHESTRATOR_SERVER__EVENTS_PATH": str(folder / "events.jsonl"),
            "ORCHESTRATOR_BUSINESS_EVENTS__PATH": str(folder / "business.jsonl"),
            **SETTINGS,
            **simulated_engines(speech, llm),
        }
        orchestrator = Orchestrator(await start("serve", "serve", "--port", 0, env=env), http)
        await orchestrator.until_ready()
        yield Simulator(provider, http), orchestrator


async def soak(run: Run, console: Console) -> None:
    """Hold all calls, then wait until the process is idle again."""
    async with http_client() as http, serving(run.folder, http) as (provider, orchestrator):
        run.before = await _held(orchestrator.origin, http)
        url = f"{orchestrator.origin.replace('http', 'ws', 1)}/v1/realtime?model=gpt-realtime-2.1"
        start = time.monotonic()
        looking = [
            asyncio.create_task(run.watch(orchestrator.origin, http, start)),
            asyncio.create_task(run.misbehave(provider, start)),
            asyncio.create_task(_tell(run, console)),
        ]
        lines = [asyncio.create_task(run.line(n, url, start + run.seconds)) for n in range(run.calls)]
        _, late = await asyncio.wait(lines, timeout=run.seconds + GRACE_S)
        for line in late:
            line.cancel()
        if late:
            run.tally.wrong.append(f"{len(late)} calls did not end in {GRACE_S:g} s after the run")
            await asyncio.wait(late)
        for task in looking:
            task.cancel()
        await asyncio.wait(looking)
        if looking[1].done() and not looking[1].cancelled():
            looking[1].result()
        await provider.disarm()
        told = (await http.get(f"{provider.origin}/control/faults")).raise_for_status().json()
        run.struck.update(f"{strike['fault']}@{strike['moment']}" for strike in told["struck"])
        run.after = await _idle(run, orchestrator.origin, http)


async def _held(origin: str, http: httpx.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await http.get(f"{origin}/v1/status")).raise_for_status().json()["process"]
    return found


async def _idle(run: Run, origin: str, http: httpx.AsyncClient) -> dict[str, Any]:
    """What the process holds once it holds nothing more for calls, or when it has had long enough."""
    end = time.monotonic() + IDLE_S
    while True:
        held = await _held(origin, http)
        if not soak_judge.leftovers(run.before, held) or time.monotonic() > end:
            return held
        await asyncio.sleep(0.5)


async def _tell(run: Run, console: Console) -> None:
    """A live view; a line every ten seconds where nobody looks at a terminal."""
    if console.is_terminal:
        with Live(console=console, get_renderable=run.view, refresh_per_second=2):
            await asyncio.Event().wait()
    while True:
        await asyncio.sleep(10.0)
        sample = run.samples[-1]
        console.print(
            f"{sample.at:.0f} s: {sample.up} calls up ({sample.tier_a} in Tier A), {sample.asked} turns asked, "
            f"{sample.answered} answered, {sample.closed} closed, {sample.handovers} handovers, "
            f"{sample.rss_bytes / 1e6:.0f} MB, {sample.tasks} tasks, {len(run.tally.wrong)} wrong",
            highlight=False,
        )
