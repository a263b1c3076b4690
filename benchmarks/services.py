"""What calls are placed on: a simulated provider, with or without the orchestrator and its engines before it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import httpx

from benchmarks.processes import Orchestrator, Simulator, process

MODEL = "gpt-realtime-2.1"
SECOND_MODEL = "gpt-realtime-2.1-mini"
"""The second rung, where a call has two in Tier A."""

PACE = 4.0
"""How many times faster than it plays the provider sends audio."""
FIRST_AUDIO_MS = 300
"""From the end of a turn to the provider's first audio."""
ANSWER_SECONDS = 4.0
"""How long the provider's answers are."""
STT_MS = 300
"""Simulated engines: from a whole turn to its transcript."""
FIRST_TOKEN_MS = 250
"""Simulated engines: from a request to the text agent's first token."""
TTS_MS = 200
"""Simulated engines: from a clause to its first audio."""
TTS_RTF = 0.1
"""Simulated engines: seconds of work for a second of speech."""

RULES = """
[[rule]]
when = "."
tool = "order_status"
arguments = { order_id = "4172" }

[[rule]]
when = "."
say = ["I am still here.", "What can I do for you?"]
"""
"""What provider and text agent answer to everything, short, so that many calls can be placed: with the session's tool
where it has one, else in words. To the tool's output they say what is in it."""

LATENCIES = {
    "provider_pace": PACE,
    "provider_first_audio_ms": FIRST_AUDIO_MS,
    "provider_answer_s": ANSWER_SECONDS,
    "simulated_stt_ms": STT_MS,
    "simulated_first_token_ms": FIRST_TOKEN_MS,
    "simulated_tts_ms": TTS_MS,
    "simulated_tts_rtf": TTS_RTF,
}

SETTINGS = {
    "ORCHESTRATOR_BREAKER__PROBE_MAX_S": "1",
    "ORCHESTRATOR_BREAKER__CANARY_SUCCESSES": "1",
    "ORCHESTRATOR_BREAKER__CANARY_AFTER_S": "0.2",
}
"""The settings, apart from addresses, rungs and engines, that are not the default. They bear on the time between two
calls: with a fault every few seconds Tier A would stay closed longer each time, and most of a run would be waiting."""


class Service(StrEnum):
    """Who serves the calls."""

    SIMULATED = "simulated"
    """The orchestrator; speech and text of Tier B come from simulated servers of known latency."""
    REAL = "real"
    """The orchestrator with its local models."""
    DIRECT = "direct"
    """The provider itself, as without an orchestrator."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Processes that are up and ready. `orchestrator` is None where calls go straight to the provider."""

    service: Service
    provider: Simulator
    orchestrator: Orchestrator | None = None

    @property
    def url(self) -> str:
        origin = (self.orchestrator or self.provider).origin
        return f"{origin.replace('http', 'ws', 1)}/v1/realtime?model={MODEL}"


@asynccontextmanager
async def serving(
    service: Service,
    heard: str,
    folder: Path,
    http: httpx.AsyncClient,
    rungs: tuple[str, ...] = (MODEL,),
) -> AsyncIterator[Bench]:
    """Start everything; `heard` is what every turn says, logs, events and rendered prompts go to `folder`.

    `rungs`: the models of Tier A in order.
    """
    prefix = f"{service}-{len(rungs)}" if len(rungs) > 1 else service.value
    rules = folder / "rules.toml"
    rules.write_text(RULES)
    async with AsyncExitStack() as stack:

        async def start(name: str, *arguments: object, env: Mapping[str, str] | None = None) -> str:
            log = folder / f"{prefix}-{name}.log"
            return await stack.enter_async_context(process(log, *map(str, arguments), env=env))

        simulators = [start("realtime", *_realtime(heard, rules))]
        if service is Service.SIMULATED:
            simulators += [start("speech", *_speech(heard)), start("llm", *_llm(rules))]
        provider, *engines = await asyncio.gather(*simulators)
        simulator = Simulator(provider, http)
        if service is Service.DIRECT:
            yield Bench(service, simulator)
            return
        env = {
            "OPENAI_BASE_URL": f"{provider}/v1",
            "OPENAI_API_KEY": "benchmark",
            "ORCHESTRATOR_CACHE__DIR": str(folder / f"{prefix}-clips"),
            "ORCHESTRATOR_SERVER__EVENTS_PATH": str(folder / f"{prefix}-events.jsonl"),
            "ORCHESTRATOR_BUSINESS_EVENTS__PATH": str(folder / f"{prefix}-business.jsonl"),
            "ORCHESTRATOR_TIER_A__RUNGS": ",".join(rungs),
            **SETTINGS,
            **(simulated_engines(*engines) if engines else {}),
        }
        orchestrator = Orchestrator(await start("serve", "serve", "--port", 0, env=env), http)
        await orchestrator.until_ready()
        yield Bench(service, simulator, orchestrator)


def _realtime(heard: str, rules: Path) -> tuple[object, ...]:
    timing = ("--pace", PACE, "--first-audio-ms", FIRST_AUDIO_MS, "--answer-seconds", ANSWER_SECONDS)
    return "simulate", "realtime", "--speech", "tone", "--heard", heard, "--rules", rules, *timing


def _speech(heard: str) -> tuple[object, ...]:
    timing = ("--stt-ms", STT_MS, "--tts-ms", TTS_MS, "--rtf", TTS_RTF)
    return "simulate", "speech", "--transcript", heard, *timing


def _llm(rules: Path) -> tuple[object, ...]:
    return "simulate", "llm", "--rules", rules, "--first-token-ms", FIRST_TOKEN_MS


def simulated_engines(speech: str, llm: str) -> Mapping[str, str]:
    """Settings for Tier B on the simulated servers at these origins."""
    tier_b = {
        "stt_base_url": f"{speech}/v1",
        "stt_model": "simulated",
        "stt_usd_per_minute": "0",
        "stt_fallback": "false",
        "speech": "endpoint",
        "tts_base_url": f"{speech}/v1",
        "tts_model": "simulated",
        "tts_usd_per_character": "0",
        "agent_model": "openai/simulated",
        "agent_base_url": f"{llm}/v1",
        "agent_api_key": "benchmark",
    }
    free = {"openai/simulated": {"text_in": 0, "text_out": 0}}
    settings = {f"ORCHESTRATOR_TIER_B__{name.upper()}": value for name, value in tier_b.items()}
    return {**settings, "ORCHESTRATOR_PRICES": json.dumps(free)}
