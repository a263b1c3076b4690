"""The processes of a benchmark: the orchestrator and simulated providers, on free ports of this machine."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

COMMAND = Path(sys.executable).with_name("orchestrator")
START_S = 60.0
READY_S = 180.0
STOP_S = 15.0
_OURS = ("ORCHESTRATOR_", "OPENAI_", "CARTESIA_", "REDIS_")
_KEPT = ("ORCHESTRATOR_MODELS",)


class BenchmarkError(Exception):
    """The measurement could not be made; the text says why and what to do."""


@asynccontextmanager
async def process(
    log: Path, *arguments: str, env: Mapping[str, str] | None = None, cpus: set[int] | None = None
) -> AsyncIterator[str]:
    """Run `orchestrator …` until the block ends; gives its origin, such as http://127.0.0.1:8123.

    What it prints goes to `log`. No setting of the surrounding environment reaches it but the models' folder.
    `cpus`: the only ones it may use.
    """
    with log.open("wb") as errors:
        running = await asyncio.create_subprocess_exec(
            COMMAND,
            *arguments,
            env={**environment(), **(env or {})},
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
    if cpus:
        os.sched_setaffinity(running.pid, cpus)
    try:
        yield await _origin(running, log, " ".join(arguments[:2]))
    finally:
        await _stop(running)


async def _origin(running: asyncio.subprocess.Process, log: Path, name: str) -> str:
    assert running.stdout is not None
    try:
        async with asyncio.timeout(START_S):
            line = (await running.stdout.readline()).decode()
    except TimeoutError:
        line = ""
    found = re.search(r"http://\S+?:\d+", line)
    if found is None:
        raise BenchmarkError(f"`orchestrator {name}` did not start:\n{_tail(log)}")
    return found[0]


async def _stop(running: asyncio.subprocess.Process) -> None:
    if running.returncode is not None:
        return
    running.terminate()
    try:
        async with asyncio.timeout(STOP_S):
            await running.communicate()
    except TimeoutError:
        running.kill()
        await running.wait()


def environment() -> dict[str, str]:
    """That of this process, without settings of the orchestrator."""
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or not name.startswith(_OURS)}
    # Keys that somebody has made on this machine would have to be presented.
    keys = {"ORCHESTRATOR_ACCESS__KEYS_PATH": "/nonexistent/keys.json"}
    return {**kept, **keys, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


class Simulator:
    """The control interface of a simulated provider."""

    def __init__(self, origin: str, http: httpx.AsyncClient) -> None:
        self.origin = origin
        self._http = http

    async def arm(self, fault: Mapping[str, Any]) -> None:
        response = await self._http.post(f"{self.origin}/control/faults", json=dict(fault))
        if response.is_error:
            raise BenchmarkError(f"the simulator did not take the fault {dict(fault)}: {response.text}")

    async def disarm(self) -> None:
        (await self._http.delete(f"{self.origin}/control/faults")).raise_for_status()

    async def struck(self) -> list[dict[str, Any]]:
        """What struck so far, oldest first, with `at` in seconds of the monotonic clock."""
        response = await self._http.get(f"{self.origin}/control/faults")
        found: list[dict[str, Any]] = response.raise_for_status().json()["struck"]
        return found

    async def state(self) -> dict[str, Any]:
        response = await self._http.get(f"{self.origin}/control/state")
        found: dict[str, Any] = response.raise_for_status().json()
        return found


class Orchestrator:
    """The HTTP interface of the orchestrator under test."""

    def __init__(self, origin: str, http: httpx.AsyncClient) -> None:
        self.origin = origin
        self._http = http

    async def until_ready(self) -> None:
        """Wait until every part has loaded."""
        end = time.monotonic() + READY_S
        while True:
            found = (await self._http.get(f"{self.origin}/readyz")).json()
            parts = {part["name"]: part for part in found["parts"]}
            if found["ready"] and parts["tier_a"]["ready"]:
                return
            if time.monotonic() > end:
                missing = [f"{name}: {part['detail']}" for name, part in parts.items() if not part["ready"]]
                raise BenchmarkError("the orchestrator did not get ready: " + "; ".join(missing))
            await asyncio.sleep(0.2)

    async def until_trusting(self) -> None:
        """Wait until no rung of Tier A is in doubt, so that the next call starts there and no probe is under way."""
        await self._until_proved(lambda status: not status["calls"] and status["next_call"]["tier"] == "A")

    async def until_proved(self) -> None:
        """Wait until no rung of Tier A is in doubt, whatever calls there are."""
        await self._until_proved(lambda status: True)

    async def _until_proved(self, also: Callable[[dict[str, Any]], bool]) -> None:
        end = time.monotonic() + READY_S
        while True:
            status = (await self._http.get(f"{self.origin}/v1/status")).json()
            doubted = [
                rung["rung"]
                for rung in status["rungs"]
                if rung["tier"] == "A" and (rung["breaker"] != "closed" or rung["next_probe_at"] is not None)
            ]
            if not doubted and also(status):
                return
            if time.monotonic() > end:
                raise BenchmarkError(f"the orchestrator does not go back to Tier A; in doubt: {doubted}")
            await asyncio.sleep(0.1)


@asynccontextmanager
async def http_client() -> AsyncIterator[httpx.AsyncClient]:
    """A client that no proxy of the environment gets in the way of."""
    async with httpx.AsyncClient(timeout=10.0, trust_env=False) as client:
        yield client
