"""Lines to LiveKit Agents, by way of its driver in an environment of its own."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.peers.figures import Piece, Stream
from benchmarks.peers.lines import Line
from benchmarks.processes import BenchmarkError

DRIVER = Path(__file__).with_name("livekit_driver.py")
START_S = 120.0
STOP_S = 15.0


class Driver:
    """The driver's process: takes commands, and tells each line what happens on it."""

    def __init__(self, running: asyncio.subprocess.Process, log: Path) -> None:
        self._running, self._log = running, log
        self._lines: dict[int, LiveKitLine] = {}
        self._calls = 0

    async def ready(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                if "ready" in json.loads(await self._stdout().readline() or "{}"):
                    return
        raise BenchmarkError(f"the driver of LiveKit Agents did not start:\n{tail(self._log)}")

    async def listen(self) -> None:
        """Until the process ends."""
        while line := await self._stdout().readline():
            event = json.loads(line)
            if (called := self._lines.get(event["call"])) is not None:
                called.take(event)
        for called in list(self._lines.values()):
            called.take({"closed": "the driver ended", "over": True})

    def line(self, notes: Path) -> LiveKitLine:
        self._calls += 1
        line = self._lines[self._calls] = LiveKitLine(self, self._calls, notes)
        return line

    def command(self, command: Mapping[str, Any]) -> None:
        assert self._running.stdin is not None
        self._running.stdin.write(json.dumps(command).encode() + b"\n")

    def forget(self, call: int) -> None:
        self._lines.pop(call, None)

    def _stdout(self) -> asyncio.StreamReader:
        assert self._running.stdout is not None
        return self._running.stdout


class LiveKitLine(Line):
    """What the framework reports of the call, such as errors and states, goes to the file `notes`."""

    def __init__(self, driver: Driver, call: int, notes: Path) -> None:
        super().__init__()
        self._driver, self._call, self._notes = driver, call, notes
        self._over = asyncio.Event()

    async def run(self, pause: float) -> None:
        self._driver.command({"call": self._call, "pause": pause})
        try:
            await self._over.wait()
        finally:
            self._driver.forget(self._call)

    def say_again(self) -> None:
        self._driver.command({"again": self._call})

    def hang_up(self) -> None:
        if not self._over.is_set():
            self._driver.command({"hangup": self._call})

    def take(self, event: Mapping[str, Any]) -> None:
        take(self.stream, event)
        if "piece" not in event:
            with self._notes.open("a") as notes:
                notes.write(json.dumps(dict(event)) + "\n")
        if "over" in event:
            self._over.set()
        self.changed.set()


def take(stream: Stream, event: Mapping[str, Any]) -> None:
    """Note a line of the driver."""
    if "connect" in event:
        stream.connect_at = event["connect"]
    elif "turn_end" in event:
        stream.turn_ends.append(event["turn_end"])
    elif "piece" in event:
        stream.pieces.append(Piece(event["at"], b64decode(event["piece"]), str(event["segment"])))
    elif "flush" in event:
        stream.flushes.append(event["flush"])
    elif "played_out" in event:
        stream.complete.append(str(event["played_out"]))
    elif "closed" in event:
        stream.closed = event["closed"]


def tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


@asynccontextmanager
async def driver(python: Path, mode: str, log: Path, words: Path, **origins: str) -> AsyncIterator[Driver]:
    """Run the driver until the block ends. `origins`: primary, secondary, speech, llm."""
    arguments = ["-P", str(DRIVER), "--mode", mode, "--words", str(words)]
    for name, origin in origins.items():
        arguments += [f"--{name}", origin]
    with log.open("wb") as errors:
        running = await asyncio.create_subprocess_exec(
            python,
            *arguments,
            env={"PATH": "/usr/bin:/bin", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            limit=2**24,
        )
    found = Driver(running, log)
    listening = None
    try:
        await found.ready()
        listening = asyncio.create_task(found.listen())
        yield found
    finally:
        if running.stdin is not None:
            running.stdin.close()
        try:
            async with asyncio.timeout(STOP_S):
                await running.wait()
        except TimeoutError:
            running.kill()
            await running.wait()
        if listening is not None:
            await listening
