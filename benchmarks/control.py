"""How long an operator's order takes: from `force` until the last of many live calls has been told its new tier.

    python -m benchmarks.control

Two replicas with one Redis, half of the calls on each; provider and engines of Tier B are simulated. The order is
given to one replica. In one half of the rounds the calls are between turns, in the other all are in the middle of an
answer and the order does not wait for its end.

A call counts where the order moved it: it was in Tier A when the order was given, in an answer where the round is about
that, and says itself that an override is why it went. The others are told by number and reason.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import httpx
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from websockets.asyncio.client import ClientConnection, connect

from benchmarks import machine
from benchmarks.processes import BenchmarkError, Orchestrator, http_client, process
from benchmarks.prompts_servers import redis
from benchmarks.services import MODEL, simulated_engines

RESULTS = Path(__file__).parent / "results"
PATIENCE_S = 30.0
LAG_S = 0.01
SETTINGS = {
    "ORCHESTRATOR_PROMOTION__QUIET_S": "0.1",
    "ORCHESTRATOR_PROMOTION__MIN_INTERVAL_S": "0.2",
    "ORCHESTRATOR_BUDGET__CALL_USD": "1000",
    "ORCHESTRATOR_HEDGING__MAX_SHARE": "0",
}
"""Not the defaults: calls are to be back in Tier A soon, for the next round, and to stay until an order comes."""
ASK = {
    "type": "conversation.item.create",
    "item": {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "Tell me something long."}],
    },
}


@dataclass(frozen=True, slots=True)
class Round:
    """One order. Milliseconds from the request until a call's ``session.updated`` came, sorted."""

    when: str
    answered_ms: float
    """Until the request was answered."""
    told_ms: list[float]
    left_out: dict[str, int]
    """Calls that do not count, by why."""
    lag_ms: float
    """How late the measuring process was itself, at most: as much of the figures may be its own."""


class Line:
    """One call: its tier as it was told, when and why, and whether it is being answered."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.tier, self.reason, self.told_at = "", "", 0.0
        self.answering = False
        self.speaking = asyncio.Event()
        self.changed = asyncio.Event()

    async def read(self) -> None:
        async for frame in self._socket:
            now, text = time.monotonic(), str(frame)
            if '"response.output_audio.delta"' in text[:100]:
                self.speaking.set()
            elif '"response.done"' in text[:100]:
                self.answering = False
            elif '"session.' in text[:400]:
                told = (json.loads(text).get("session") or {}).get("orchestrator", {})
                if told.get("tier", self.tier) != self.tier:
                    self.tier, self.reason, self.told_at = told["tier"], told["reason"], now
                    self.changed.set()

    async def ask(self) -> None:
        self.speaking.clear()
        self.answering = True
        await self._socket.send(json.dumps(ASK))
        await self._socket.send('{"type":"response.create"}')
        await self.speaking.wait()

    async def until(self, tier: str) -> None:
        while self.tier != tier:
            self.changed.clear()
            await self.changed.wait()

    def unfit(self, when: str) -> str:
        """Why an order that is given now says nothing about this call; "" where it does."""
        if self.tier != "A":
            return "was not in Tier A"
        return "its answer was over" if when == "now" and not self.answering else ""


class Lag:
    """How late this process's own event loop is."""

    def __init__(self) -> None:
        self.worst_ms = 0.0

    async def watch(self) -> None:
        while True:
            due = time.monotonic() + LAG_S
            await asyncio.sleep(LAG_S)
            self.worst_ms = max(self.worst_ms, (time.monotonic() - due) * 1000.0)


async def all_in(lines: Sequence[Line], tier: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(line.until(tier) for line in lines))
    except TimeoutError:
        missing = sum(line.tier != tier for line in lines)
        raise BenchmarkError(
            f"{missing} of {len(lines)} calls are not in Tier {tier} after {PATIENCE_S:g} s"
        ) from None


async def one_round(
    http: httpx.AsyncClient, origin: str, lines: Sequence[Line], when: str, lag: Lag
) -> Round:
    if when == "now":
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(line.ask() for line in lines))
    body = {"tier": "B", "scope": "all", "for": "5m", "reason": "benchmark", "when": when}
    unfit = {line: line.unfit(when) for line in lines}
    lag.worst_ms = 0.0
    began = time.monotonic()
    answer = await http.post(f"{origin}/v1/overrides", json=body)
    answered_ms = (time.monotonic() - began) * 1000.0
    answer.raise_for_status()
    await all_in(lines, "B")
    lag_ms = round(lag.worst_ms, 1)
    told, left_out = [], Counter[str]()
    for line in lines:
        why = unfit[line] or ("" if line.reason == "override" else f"moved by {line.reason}")
        if why:
            left_out[why] += 1
        else:
            told.append(round((line.told_at - began) * 1000.0, 1))
    (await http.delete(f"{origin}/v1/overrides/{answer.json()['id']}")).raise_for_status()
    await all_in(lines, "A")
    if not told:
        raise BenchmarkError(f"no call was moved by the order: {dict(left_out)}")
    return Round(when, round(answered_ms, 1), sorted(told), dict(left_out), lag_ms)


async def measure(calls: int, rounds: int, folder: Path, console: Console) -> list[Round]:
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(http_client())
        url = await stack.enter_async_context(redis(folder))

        async def start(name: str, *arguments: str, env: dict[str, str] | None = None) -> str:
            return await stack.enter_async_context(process(folder / f"{name}.log", *arguments, env=env))

        timing = ("--pace", "1.2", "--first-audio-ms", "100", "--answer-seconds", "20")
        provider = await start("provider", "simulate", "realtime", "--speech", "tone", *timing)
        voice = await start("speech", "simulate", "speech", "--stt-ms", "100", "--tts-ms", "100")
        llm = await start("llm", "simulate", "llm", "--first-token-ms", "100")
        env = {"OPENAI_BASE_URL": f"{provider}/v1", "OPENAI_API_KEY": "benchmark", "REDIS_URL": url}
        env |= {"ORCHESTRATOR_REDIS__URL": url, **SETTINGS, **simulated_engines(voice, llm)}
        replicas = []
        for name in ("one", "two"):
            origin = await start(name, "serve", "--port", "0", env=env)
            await Orchestrator(origin, http).until_ready()
            replicas.append(origin)
        lines = []
        for at in range(calls):
            address = f"{replicas[at % 2].replace('http', 'ws', 1)}/v1/realtime?model={MODEL}"
            socket = await stack.enter_async_context(connect(address, compression=None, max_size=None))
            lines.append(Line(socket))
        readers = [asyncio.create_task(line.read()) for line in lines]
        lag = Lag()
        readers.append(asyncio.create_task(lag.watch()))
        stack.callback(lambda: [reader.cancel() for reader in readers])
        await all_in(lines, "A")
        found = []
        for when in ["next_turn", "now"] * rounds:
            found.append(await one_round(http, replicas[0], lines, when, lag))
            told, left_out = found[-1].told_ms, found[-1].left_out
            own = f"(the benchmark's own delays: {found[-1].lag_ms:.0f} ms at most)"
            console.print(
                f"{when}: the last of {len(told)} calls after {told[-1]:.0f} ms {own}", left_out or ""
            )
        return found


def figures(rounds: Sequence[Round], when: str) -> dict[str, Any]:
    """Over all rounds of a kind, in milliseconds; `last`: each round's last call."""
    mine = [each for each in rounds if each.when == when]
    told = sorted(ms for each in mine for ms in each.told_ms)
    last = sorted(each.told_ms[-1] for each in mine)
    return {
        "rounds": len(mine),
        "calls": len(told),
        "left_out": dict(sum((Counter(each.left_out) for each in mine), Counter())),
        "p50": told[len(told) // 2],
        "p95": told[min(len(told) - 1, int(len(told) * 0.95))],
        "last_median": last[len(last) // 2],
        "last_worst": last[-1],
        "own_lag": max(each.lag_ms for each in mine),
    }


def table(rounds: Sequence[Round], calls: int) -> Table:
    shown = Table(title=f"From `force` to session.updated, {calls} live calls on two replicas, ms")
    for column in (
        "calls are",
        "rounds",
        "moved",
        "left out",
        "a call: median",
        "p95",
        "last: median",
        "worst",
        "own lag",
    ):
        shown.add_column(column)
    for when, words in KINDS.items():
        found = figures(rounds, when)
        cells = [found["p50"], found["p95"], found["last_median"], found["last_worst"], found["own_lag"]]
        counts = (found["rounds"], found["calls"], sum(found["left_out"].values()))
        shown.add_row(words, *map(str, counts), *(f"{ms:.0f}" for ms in cells))
    return shown


KINDS = {"next_turn": "between turns", "now": "in mid-answer (when: now)"}


def draw(path: Path, rounds: Sequence[Round]) -> None:
    """Each round's calls, as the share that has been told by then."""
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    for when, colour in (("next_turn", "#0b7a75"), ("now", "#c2571a")):
        for at, each in enumerate(each for each in rounds if each.when == when):
            shares = [100.0 * (n + 1) / len(each.told_ms) for n in range(len(each.told_ms))]
            label = KINDS[when] if at == 0 else None
            axes.step(each.told_ms, shares, where="post", color=colour, alpha=0.7, label=label)
    axes.set_title("From force to session.updated", loc="left", weight="bold")
    axes.set_xlabel("milliseconds since the order")
    axes.set_ylabel("per cent of the calls")
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)


@click.command()
@click.option("--calls", type=click.IntRange(2), default=200, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Of each kind.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=RESULTS)
def main(calls: int, rounds: int, out: Path) -> None:
    """Measure how long an order takes to reach every live call."""
    console = Console(width=130)
    out.mkdir(parents=True, exist_ok=True)
    logs = out / "control-logs"
    logs.mkdir(exist_ok=True)
    try:
        found = asyncio.run(measure(calls, rounds, logs, console))
    except BenchmarkError as error:
        sys.exit(f"{error}\nThe logs are in {logs}.")
    console.print(table(found, calls))
    report = {
        "calls": calls,
        "figures": {when: figures(found, when) for when in KINDS},
        "rounds": [asdict(each) for each in found],
        "load": machine.load(),
        "machine": machine.describe(),
    }
    (out / "control.json").write_text(json.dumps(report, indent=1) + "\n")
    draw(out / "control.png", found)
    console.print(f"{out / 'control.json'}, {out / 'control.png'}")


if __name__ == "__main__":
    main()
