"""Which pipelines are compared, and how each is started: with the same models, before the same simulated servers."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from benchmarks.caller import Recorded
from benchmarks.peers.environments import PIPECAT
from benchmarks.peers.livekit_line import tail
from benchmarks.pipeline_stages import Turn, other_turn, own_turn
from benchmarks.processes import READY_S, BenchmarkError, process
from benchmarks.services import FIRST_TOKEN_MS
from orchestrator import models
from tiers.pipeline.cartesia import KATIE
from tiers.pipeline.kokoro import DEFAULT_VOICE, VOICES

CARTESIA_FIRST_AUDIO_MS = 90
"""Simulated Cartesia: from a clause to its first audio."""
SILENCE_S = 0.5
"""What ends a turn, in all but the contender that asks a model."""
VOICE_ACTIVITY_S = 0.2
"""The silence after which Pipecat's voice activity detection reports it; the rest is its strategy's."""
START_S = 180.0
ROWS_S = 2.0
ANSWER = "Thank you, I have written that down for you."
HOURS = "We are open Monday to Friday, from nine in the morning to five in the afternoon."
"""What the catalogue says of opening hours, where no catalogue of its own is set."""
RULES = f"""
[[rule]]
when = "hours|open"
say = {json.dumps(HOURS)}

[[rule]]
when = "."
say = {json.dumps(ANSWER)}
"""
"""What the text agent of all contenders says: one sentence, which all of them synthesise in one piece."""


@dataclass(frozen=True, slots=True)
class Contender:
    name: str
    title: str
    speech: str
    """`kokoro` or `cartesia`."""
    peer: bool = False
    speculate: bool = False
    smart: bool = False
    """Pipecat with its own way to end a turn, a model that listens to it, instead of half a second of silence."""


def _contenders() -> Iterable[Contender]:
    for speech in ("kokoro", "cartesia"):
        yield Contender(f"speculating-{speech}", "Tier B", speech, speculate=True)
        yield Contender(f"plain-{speech}", "Tier B, speculation off", speech)
        yield Contender(f"pipecat-{speech}", "Pipecat, the same silence", speech, peer=True)
        yield Contender(
            f"pipecat-smart-{speech}", "Pipecat, its default turns", speech, peer=True, smart=True
        )


CONTENDERS = {contender.name: contender for contender in _contenders()}


@dataclass(frozen=True, slots=True)
class Running:
    """A contender that is up. `turn` takes a call apart, None where it was not answered."""

    contender: Contender
    url: str
    turn: Callable[[Recorded], Turn | None]


@dataclass(frozen=True, slots=True)
class Servers:
    """Origins of the simulated text model and of simulated Cartesia, which all contenders share."""

    llm: str
    cartesia: str


@asynccontextmanager
async def servers(folder: Path) -> AsyncIterator[Servers]:
    rules = folder / "rules.toml"
    rules.write_text(RULES)
    llm = ("simulate", "llm", "--rules", str(rules), "--first-token-ms", str(FIRST_TOKEN_MS))
    cartesia = ("simulate", "cartesia", "--first-audio-ms", str(CARTESIA_FIRST_AUDIO_MS))
    async with AsyncExitStack() as stack:
        found = [
            await stack.enter_async_context(process(folder / f"{arguments[1]}.log", *arguments))
            for arguments in (llm, cartesia)
        ]
        yield Servers(*found)


@asynccontextmanager
async def running(
    names: Sequence[str], folder: Path, http: httpx.AsyncClient, started: Callable[[str], None]
) -> AsyncIterator[list[Running]]:
    """Start these contenders, one after the other; `started` is told of each."""
    async with servers(folder) as shared, AsyncExitStack() as stack:
        found = []
        for name in names:
            contender = CONTENDERS[name]
            start = (
                _pipecat(contender, shared, folder)
                if contender.peer
                else _own(contender, shared, folder, http)
            )
            found.append(await stack.enter_async_context(start))
            started(name)
        yield found


@asynccontextmanager
async def _own(
    contender: Contender, shared: Servers, folder: Path, http: httpx.AsyncClient
) -> AsyncIterator[Running]:
    """The orchestrator with Tier A switched off: its own service, socket and Tier B."""
    events = folder / f"{contender.name}.jsonl"
    env = {**settings(contender, shared), "ORCHESTRATOR_SERVER__EVENTS_PATH": str(events)}
    # One for all, so that the first to start renders the prompts.
    env["ORCHESTRATOR_CACHE__DIR"] = str(folder / "clips")
    env["ORCHESTRATOR_BUSINESS_EVENTS__PATH"] = str(folder / f"{contender.name}-business.jsonl")
    async with process(folder / f"{contender.name}.log", "serve", "--port", "0", env=env) as origin:
        await _until_ready(origin, http)
        url = f"{origin.replace('http', 'ws', 1)}/v1/realtime?model=pipeline"
        yield Running(contender, url, lambda call: own_turn(call, _rows(events, call)))


def settings(contender: Contender, shared: Servers) -> dict[str, str]:
    """Tier B with the text model of all, local Whisper, and Kokoro or simulated Cartesia; else the defaults."""
    tier_b = {
        "agent_model": "openai/simulated",
        "agent_base_url": f"{shared.llm}/v1",
        "agent_api_key": "benchmark",
        "speech": contender.speech,
        "speculate": str(contender.speculate).lower(),
        # The agent here says the same sentence every time; one that was said before is not what is asked about.
        "learned_openings_mb": "0",
    }
    return {
        "ORCHESTRATOR_TIER_A__ENABLED": "false",
        "ORCHESTRATOR_PRICES": json.dumps({"openai/simulated": {"text_in": 0, "text_out": 0}}),
        "CARTESIA_API_KEY": "benchmark",
        "ORCHESTRATOR_CARTESIA__BASE_URL": shared.cartesia,
        **{f"ORCHESTRATOR_TIER_B__{name.upper()}": value for name, value in tier_b.items()},
    }


async def _until_ready(origin: str, http: httpx.AsyncClient) -> None:
    end = time.monotonic() + READY_S
    while not (found := (await http.get(f"{origin}/readyz")).json())["ready"]:
        if time.monotonic() > end:
            missing = [f"{part['name']}: {part['detail']}" for part in found["parts"] if not part["ready"]]
            raise BenchmarkError("the orchestrator did not get ready: " + "; ".join(missing))
        await asyncio.sleep(0.2)


def _rows(events: Path, call: Recorded) -> list[Mapping[str, Any]]:
    """The rows of a call's answers. They are written by a thread, which may be a moment behind."""
    created = next((r.event for r in call.received if r.event["type"] == "session.created"), None)
    if created is None:
        return []
    call_id = created["session"]["orchestrator"]["call_id"]
    end = time.monotonic() + ROWS_S
    while True:
        lines = events.read_bytes().splitlines() if events.exists() else []
        found = [row for row in map(orjson.loads, lines) if row["call_id"] == call_id]
        if any(row["type"] == "call_ended" for row in found) or time.monotonic() > end:
            return [row for row in found if row["type"] == "answer"]
        time.sleep(0.02)


@asynccontextmanager
async def _pipecat(contender: Contender, shared: Servers, folder: Path) -> AsyncIterator[Running]:
    port = _free_port()
    command = [str(PIPECAT.bin / "python"), "-P", str(Path(__file__).parent / "peers" / "pipecat_driver.py")]
    for name, value in _driver_arguments(contender, shared, port).items():
        command += [f"--{name}", str(value)]
    with (folder / f"{contender.name}.log").open("wb") as log:
        started = await asyncio.create_subprocess_exec(
            *command,
            env={
                "PATH": "/usr/bin:/bin",
                "NO_PROXY": "127.0.0.1",
                "no_proxy": "127.0.0.1",
                "HF_HUB_OFFLINE": "1",
            },
            stdout=log,
            stderr=log,
        )
    timeout = 0.0 if contender.smart else SILENCE_S - VOICE_ACTIVITY_S
    try:
        url = f"ws://127.0.0.1:{port}"
        await _until_open(url, started, folder / f"{contender.name}.log")
        yield Running(contender, url, lambda call: other_turn(call, timeout))
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


def _driver_arguments(contender: Contender, shared: Servers, port: int) -> dict[str, object]:
    return {
        "port": port,
        "tts": contender.speech,
        "turns": "smart" if contender.smart else "silence",
        "voice": VOICES[DEFAULT_VOICE],
        "whisper": models.whisper(),
        "kokoro-model": models.kokoro_model(),
        "kokoro-voices": models.kokoro_voices(),
        "llm": shared.llm,
        "cartesia": shared.cartesia,
        "cartesia-model": "sonic-3.5",
        "cartesia-voice": KATIE,
    }


async def _until_open(url: str, started: asyncio.subprocess.Process, log: Path) -> None:
    end = time.monotonic() + START_S
    while started.returncode is None and time.monotonic() < end:
        try:
            async with connect(url, proxy=None):
                return
        except (OSError, WebSocketException):
            await asyncio.sleep(0.2)
    raise BenchmarkError(f"Pipecat did not start:\n{tail(log)}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
