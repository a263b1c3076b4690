"""What a fixed prompt costs: from memory, from Redis, stitched, rendered; beside nginx, and beside a Kokoro server.

docs/benchmarks.md says what each row means and what the figures do not say.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import httpx
from rich.console import Console

from benchmarks import machine
from benchmarks.peers.environments import ROOT
from benchmarks.processes import COMMAND, BenchmarkError, environment, process
from benchmarks.prompts_picture import draw
from benchmarks.prompts_report import Row, markdown, sources, table
from benchmarks.prompts_servers import FASTKOKORO, fastkokoro, measure, nginx, orchestrator, redis, request

RESULTS = ROOT / "benchmarks" / "results" / "prompts"
CONNECTIONS = 16
CROWD = 200
HIT_P99_MS, HITS_PER_SECOND, STITCHED_P99_MS = 2.0, 2000.0, 5.0
"""Targets: a memory hit at half of the highest rate, that rate, and an order number that was never asked for."""
LINE = "Your taxi is on its way to you."
"""Two seconds, in the simulated voice."""
CATALOGUE = f"""
[taxi]
text.en = "{LINE}"

[order_whole]
text.en = "Your order number {{order_id}} is on its way."
[order_whole.variables.order_id]
type = "spelled_id"
"""
SENTENCE = "Your parcel {} has left us. It will be with you on Monday, before ten."


@dataclass(frozen=True, slots=True)
class Plan:
    seconds: float
    """Of each measurement at a rate, or flat out."""
    unseen: int
    """Prompts that were never asked for: kept ones, and stitched ones."""
    rendered: int
    """Prompts and sentences that an engine has to say."""
    folder: Path
    rng: random.Random
    console: Console

    def orders(self, count: int) -> list[str]:
        """Nine digits each, no two alike."""
        return [str(number) for number in self.rng.sample(range(10**8, 10**9), count)]


def _order(number: str) -> str:
    body = {"variables": {"order_id": number}, "format": "pcmu"}
    return request("POST", "/v1/prompts/order_whole", body)


def _stitched(number: str) -> str:
    """The built-in prompt with the same words."""
    body = {"variables": {"order_id": number, "status": "in_transit"}, "format": "pcmu"}
    return request("POST", "/v1/prompts/order_status", body)


# --- kept prompts, with a simulated voice, so that nothing but the keeping is measured ---


@asynccontextmanager
async def _simulated(plan: Plan) -> AsyncIterator[tuple[str, dict[str, str]]]:
    """The simulated voice's origin, and the settings of an orchestrator that has it and a Redis."""
    async with AsyncExitStack() as stack:
        quick = ("--tts-ms", "5", "--rtf", "0.001", "--stt-ms", "5")
        log = plan.folder / "speech.log"
        voice = await stack.enter_async_context(process(log, "simulate", "speech", *quick))
        url = await stack.enter_async_context(redis(plan.folder))
        yield (
            voice,
            {
                "tier_c__catalogue": str(plan.folder / "catalogue.toml"),
                "redis__url": url,
                "tier_b__agent_model": "openai/gpt-4.1-mini",
                "tier_b__agent_base_url": f"{voice}/v1",
                "tier_b__agent_api_key": "sk-none",
                "tier_b__stt_base_url": f"{voice}/v1",
                "tier_b__stt_model": "whisper-1",
                "tier_b__stt_usd_per_minute": "0",
                "tier_b__stt_fallback": "false",
                "tier_b__speech": "endpoint",
                "tier_b__tts_base_url": f"{voice}/v1",
                "tier_b__tts_model": "tts-1",
                "tier_b__tts_usd_per_character": "0",
            },
        )


async def _kept(plan: Plan) -> list[Row]:
    rows: list[Row] = []
    async with _simulated(plan) as (voice, settings), AsyncExitStack() as stack:
        first = await stack.enter_async_context(orchestrator(plan.folder, "first", settings, pinned=True))
        body = await _hits(plan, first, rows)
        await _beside_nginx(plan, body, rows)
        orders = plan.orders(plan.unseen)
        await measure(first, [_order(number) for number in orders], connections=CONNECTIONS)
        second = await stack.enter_async_context(orchestrator(plan.folder, "second", settings))
        found = await measure(second, [_order(number) for number in orders], connections=1)
        rows.append(Row("kept in Redis, not in memory", "one after the other", found, note=sources(found)))
        await _crowd(plan, voice, [first, second], rows)
    return rows


async def _hits(plan: Plan, origin: str, rows: list[Row]) -> bytes:
    hit = request("POST", "/v1/prompts/taxi", {"variables": {}, "format": "pcmu"})
    await measure(origin, [hit], connections=1)
    async with httpx.AsyncClient(base_url=origin, trust_env=False) as client:
        made = await client.post("/v1/prompts/taxi", json={"format": "pcmu", "output": "url"})
        target = str(httpx.URL(made.json()["url"]).raw_path, "ascii")
        body = (await client.get(target)).content
    most = await measure(origin, [hit], connections=CONNECTIONS, seconds=plan.seconds)
    told = f"{len(body):,} bytes of μ-law"
    rows.append(
        Row("in memory", "flat out", most, most.per_second >= HITS_PER_SECOND, f"{told}; {sources(most)}")
    )
    half = most.per_second / 2
    calm = await measure(origin, [hit], connections=CONNECTIONS, seconds=plan.seconds, rate=half)
    rows.append(Row("in memory", f"{half:,.0f} a second", calm, calm.p99_ms < HIT_P99_MS))
    signed = await measure(origin, [request("GET", target)], connections=CONNECTIONS, seconds=plan.seconds)
    rows.append(Row("in memory, at a signed address", "flat out", signed))
    return body


async def _beside_nginx(plan: Plan, body: bytes, rows: list[Row]) -> None:
    try:
        async with nginx(plan.folder / "nginx", body) as origin:
            file = [request("GET", "/prompt")]
            most = await measure(origin, file, connections=CONNECTIONS, seconds=plan.seconds)
            rows.append(Row("nginx, a file with the same bytes", "flat out", most))
            half = next(row for row in rows if row.how != "flat out").how
            rate = float(half.split()[0].replace(",", ""))
            calm = await measure(origin, file, connections=CONNECTIONS, seconds=plan.seconds, rate=rate)
            rows.append(Row("nginx, a file with the same bytes", half, calm))
    except BenchmarkError as error:
        plan.console.print(f"[yellow]left out: {error}[/]")


async def _crowd(plan: Plan, voice: str, origins: Sequence[str], rows: list[Row]) -> None:
    """All at once for what nobody has asked for yet; at one replica, then at two."""
    for servers in ([origins[0]], origins):
        (number,) = plan.orders(1)
        before = await _renders(voice)
        share = CROWD // len(servers)
        found = await asyncio.gather(
            *(measure(origin, [_order(number)] * share, connections=share) for origin in servers)
        )
        renders = await _renders(voice) - before
        worst = max(found, key=lambda each: each.max_ms)
        worst.count = sum(each.count for each in found)
        where = "one replica" if len(servers) == 1 else f"{len(servers)} replicas on one Redis"
        note = f"{renders} render{'' if renders == 1 else 's'}"
        rows.append(Row(f"{CROWD} at once, never said before", where, worst, renders == 1, note))


async def _renders(voice: str) -> int:
    async with httpx.AsyncClient(trust_env=False) as client:
        requests = (await client.get(f"{voice}/control/state")).json()["requests"]
    return sum(each["path"] == "/v1/audio/speech" for each in requests)


# --- what has to be said, with the real voice ---


async def _spoken(plan: Plan) -> list[Row]:
    # The clips are kept where the product keeps them, so that a second run finds the pieces of stitched prompts.
    settings = {
        "tier_c__catalogue": str(plan.folder / "catalogue.toml"),
        "tier_b__agent_model": "openai/gpt-4.1-mini",
        "tier_b__agent_base_url": "http://127.0.0.1:9/v1",
        "tier_b__agent_api_key": "sk-none",
        "tier_b__threads": str(os.cpu_count() or 1),  # as the peer has it
    }
    sentences = [SENTENCE.format(number) for number in plan.orders(plan.rendered)]
    await _warm(plan)
    async with orchestrator(plan.folder, "kokoro", settings) as origin:
        orders = [_order(number) for number in plan.orders(plan.rendered)]
        whole = await measure(origin, orders, connections=1)
        rows = [Row("order number never said before, whole", "one after the other", whole)]
        orders = [_stitched(number) for number in plan.orders(plan.unseen)]
        stitched = await measure(origin, orders, connections=1)
        kept = stitched.p99_ms < STITCHED_P99_MS
        what = "order number never said before, stitched"
        rows.append(Row(what, "one after the other", stitched, kept, sources(stitched)))
        rows += await _sentences(origin, "the orchestrator's /v1/audio/speech", sentences)
    try:
        FASTKOKORO.make(plan.console)
        async with fastkokoro(plan.folder) as origin:
            who = f"fastkokoro {FASTKOKORO.versions()['fastkokoro']}"
            # It streams only who asks for that, in a field of its own.
            rows += await _sentences(origin, who, sentences, {"stream": True})
    except (BenchmarkError, TimeoutError, OSError) as error:
        plan.console.print(f"[yellow]left out: fastkokoro ({error or type(error).__name__})[/]")
    return rows


async def _warm(plan: Plan) -> None:
    """Every piece that stitched prompts are made of, as a deployment has them; minutes, the first time."""
    plan.console.print("orchestrator prompts warm …")
    warm = await asyncio.create_subprocess_exec(
        COMMAND, "prompts", "warm", "--language", "en", env=environment()
    )
    if await warm.wait():
        raise BenchmarkError("`orchestrator prompts warm` failed; see above")


async def _sentences(
    origin: str, who: str, sentences: Sequence[str], extra: Mapping[str, object] | None = None
) -> list[Row]:
    """The same sentences to whoever speaks OpenAI's API: first bytes and last ones, streamed as raw samples."""
    usual = {"model": "kokoro", "voice": "af_heart", "response_format": "pcm", **(extra or {})}
    asked = [request("POST", "/v1/audio/speech", {**usual, "input": text}) for text in sentences]
    return [
        Row(f"two sentences, {who}", how, await measure(origin, asked, connections=1))
        for how in ("never said before", "once more")
    ]


async def _run(plan: Plan, parts: Sequence[str]) -> list[Row]:
    (plan.folder / "catalogue.toml").write_text(CATALOGUE)
    rows: list[Row] = []
    if "kept" in parts:
        rows += await _kept(plan)
    if "spoken" in parts:
        rows += await _spoken(plan)
    return rows


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--seconds",
    default=8.0,
    type=click.FloatRange(min=1.5),
    show_default=True,
    help="Of each measurement flat out, or at a rate.",
)
@click.option("--unseen", default=500, show_default=True, help="Prompts that are kept, and stitched ones.")
@click.option("--rendered", default=20, show_default=True, help="Prompts and sentences that are rendered.")
@click.option("--only", "parts", type=click.Choice(["kept", "spoken"]), multiple=True, help="A part of it.")
@click.option("--seed", default=None, type=int, help="Of the order numbers; printed.")
def main(seconds: float, unseen: int, rendered: int, parts: tuple[str, ...], seed: int | None) -> None:
    """Measure fixed prompts over HTTP; tables and figures go to benchmarks/results/prompts."""
    console = Console()
    seed = secrets.randbelow(10**6) if seed is None else seed
    shutil.rmtree(RESULTS, ignore_errors=True)
    RESULTS.mkdir(parents=True)
    plan = Plan(seconds, unseen, rendered, RESULTS, random.Random(seed), console)
    about = {"machine": machine.describe(), "load": machine.load(), "seed": seed}
    try:
        rows = asyncio.run(_run(plan, parts or ("kept", "spoken")))
    except BenchmarkError as error:
        raise click.ClickException(str(error)) from None
    Console(width=max(console.width, 170)).print(table(rows))
    console.print(f"seed {seed}; {about['machine']['cpu']}, {about['machine']['cpus']} cores")  # type: ignore[index]
    draw(RESULTS / "prompts.png", rows)
    (RESULTS / "figures.md").write_text(markdown(rows))
    kept = [{**asdict(row), "per_second": row.measured.per_second} for row in rows]
    (RESULTS / "figures.json").write_text(json.dumps({**about, "rows": kept}, indent=1) + "\n")


if __name__ == "__main__":
    main()
