"""What the stock client scripts share: options, the caller's audio, and a JSON report with an honest exit status.

Only the standard library, as each script runs in the environment of its own client:

    python tests/clients/openai_sdk.py --url "ws://127.0.0.1:8080/v1/realtime" --wav speech.wav
"""

from __future__ import annotations

import argparse
import array
import asyncio
import json
import sys
import time
import wave
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RATE = 24_000
CHUNK_MS = 20
CHUNK = RATE * 2 * CHUNK_MS // 1000
QUESTION = "Where is my order 4172?"
STATUS = "out for delivery"
ANSWERED = "Monday"
"""A word of every whole answer to the question without a tool."""

Facts = dict[str, Any]


class Failed(Exception):
    """A client saw something that a correct server does not do; the message says what."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to call, and what the caller says (24 kHz 16 bit mono, one utterance)."""

    url: str
    """Of the WebSocket, without a query."""
    api_key: str
    model: str
    audio: bytes
    timeout: float


Scenario = Callable[[Target], Awaitable[Facts]]


def expect(condition: object, message: str) -> None:
    if not condition:
        raise Failed(message)


def read_wav(path: Path) -> bytes:
    """A 16 bit mono WAV file of any rate as 24 kHz samples."""
    with wave.open(str(path)) as file:
        if file.getsampwidth() != 2 or file.getnchannels() != 1:
            raise Failed(f"{path} is not 16 bit mono")
        samples, rate = array.array("h", file.readframes(file.getnframes())), file.getframerate()
    if rate == RATE:
        return samples.tobytes()
    step = rate / RATE
    out = array.array("h")
    for n in range(int((len(samples) - 1) / step)):
        at = int(n * step)
        out.append(int(samples[at] + (samples[at + 1] - samples[at]) * (n * step - at)))
    return out.tobytes()


async def speak(audio: bytes, send: Callable[[bytes], Awaitable[None]]) -> None:
    """Send audio in real time in 20 ms pieces, then silence, until cancelled."""
    loop = asyncio.get_running_loop()
    due, at = loop.time(), 0
    while True:
        await send(audio[at : at + CHUNK] or bytes(CHUNK))
        at += CHUNK
        due += CHUNK_MS / 1000
        await asyncio.sleep(max(0.0, due - loop.time()))


async def _try(scenario: Scenario, target: Target) -> Facts:
    began = time.monotonic()
    facts: Facts = {"ok": False}
    try:
        async with asyncio.timeout(target.timeout):
            facts = {"ok": True, **await scenario(target)}
    except TimeoutError:
        facts["reason"] = f"not finished within {target.timeout} s"
    except Exception as error:  # a client may raise anything: all of it is a failure
        facts["reason"] = f"{type(error).__name__}: {error}"
    return {**facts, "seconds": round(time.monotonic() - began, 3)}


async def _run(scenarios: dict[str, Scenario], target: Target, at_once: bool) -> dict[str, Facts]:
    tries = [_try(scenario, target) for scenario in scenarios.values()]
    results = await asyncio.gather(*tries) if at_once else [await one for one in tries]
    return dict(zip(scenarios, results, strict=True))


def main(client: str, scenarios: dict[str, Scenario]) -> None:
    """Run the scenarios asked for, print the report, exit 1 if one failed. With --step one after the other, as told."""
    parser = argparse.ArgumentParser(description=f"Talk to a Realtime server with {client}.")
    parser.add_argument("--url", required=True, help="such as ws://127.0.0.1:8080/v1/realtime")
    parser.add_argument("--api-key", default="test-key")
    parser.add_argument("--model", default="gpt-realtime-2.1")
    parser.add_argument("--wav", type=Path, required=True, help="what the caller says, 16 bit mono")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds for one scenario")
    parser.add_argument("--at-once", action="store_true", help="run the scenarios side by side")
    parser.add_argument(
        "--step",
        action="store_true",
        help="run the scenario that each line of input names; a line of report each",
    )
    parser.add_argument("scenarios", nargs="*", metavar="scenario", help=f"some of: {', '.join(scenarios)}")
    options = parser.parse_args()
    if unknown := set(options.scenarios) - set(scenarios):
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(scenarios)}")
    chosen = {name: scenarios[name] for name in options.scenarios or scenarios}
    target = Target(options.url, options.api_key, options.model, read_wav(options.wav), options.timeout)
    if options.step:
        for line in sys.stdin:
            print(json.dumps(asyncio.run(_try(scenarios[line.strip()], target))), flush=True)
        return
    report = asyncio.run(_run(chosen, target, options.at_once))
    ok = all(facts["ok"] for facts in report.values())
    print(json.dumps({"client": client, "ok": ok, "scenarios": report}, indent=2))
    sys.exit(0 if ok else 1)
