"""Who is compared, and how each is started: before a primary provider of its own, all with the same timing."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.caller import Utterance
from benchmarks.peers.environments import LITELLM, LIVEKIT, Environment
from benchmarks.peers.lines import Line
from benchmarks.peers.livekit_line import driver, tail
from benchmarks.peers.wire import WireLine
from benchmarks.processes import BenchmarkError, Orchestrator, Simulator, process
from benchmarks.services import (
    ANSWER_SECONDS,
    FIRST_AUDIO_MS,
    FIRST_TOKEN_MS,
    MODEL,
    PACE,
    RULES,
    SETTINGS,
    STT_MS,
    TTS_MS,
    TTS_RTF,
    Bench,
    Service,
    serving,
    simulated_engines,
)
from tiers.prompts.catalogue import Catalogue

LITELLM_START_S = 120.0
LITELLM_KEY = "sk-benchmark"


@dataclass(frozen=True, slots=True)
class Contender:
    name: str
    title: str
    settings: str
    """What a reader needs to know to set it up alike."""
    environment: Environment | None = None


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender(
            "orchestrator",
            "this orchestrator",
            "default settings: one Realtime provider, then Tier B, here on the simulated engines. As in every "
            "benchmark here, breaker.probe_max_s is 2, which bears on the time between two calls alone",
        ),
        Contender(
            "orchestrator-two",
            "this orchestrator, two providers",
            'the same with the secondary as a second rung: tier_a.rungs = ["gpt-realtime-2.1", "spare"]',
        ),
        Contender(
            "livekit",
            "LiveKit fallback adapter, default",
            "RealtimeModelFallbackAdapter([primary, secondary]), nothing else set",
            LIVEKIT,
        ),
        Contender(
            "livekit-fast",
            "LiveKit fallback adapter, fast",
            "the same with APIConnectOptions(max_retry=0, timeout=1.0, retry_interval=0.1) on both models",
            LIVEKIT,
        ),
        Contender(
            "livekit-handoff",
            "LiveKit, hand-written hand-off",
            "on the first error: interrupt(force=True), then update_agent() to an agent with its own STT, LLM, TTS and "
            "VAD, all made before the call; turn detection by VAD, endpointing min_delay 0.5 s; no watchdog",
            LIVEKIT,
        ),
        Contender(
            "litellm",
            "LiteLLM proxy, default",
            '/v1/realtime with fallbacks: [{"gpt-realtime-2.1": ["backup"]}]',
            LITELLM,
        ),
        Contender(
            "litellm-fast",
            "LiteLLM proxy, fast",
            "the same, and the secondary also as a second deployment of the same name, by order; num_retries 2, "
            "retry_after 0, timeout 1, allowed_fails 0",
            LITELLM,
        ),
        Contender("direct", "the provider itself, no layer", "a WebSocket client, no retry"),
    )
}


async def _nothing() -> None:
    """Nothing to wait for between two calls."""


@dataclass(frozen=True, slots=True)
class Running:
    """A contender that is up. `line` makes a line of a new call; its notes, if any, go to the file given."""

    name: str
    provider: Simulator
    line: Callable[[Path], Line]
    settled: Callable[[], Awaitable[None]] = _nothing
    """Waits until the last call has no effect on the next one."""


@dataclass(frozen=True, slots=True)
class Hall:
    """What contenders share: the caller's words, the secondary provider, the engines, and where logs go."""

    utterance: Utterance
    folder: Path
    http: httpx.AsyncClient
    secondary: str
    speech: str
    llm: str

    @property
    def rules(self) -> Path:
        return self.folder / "rules.toml"

    @property
    def words(self) -> Path:
        return self.folder / "words.pcm"


@asynccontextmanager
async def hall(utterance: Utterance, folder: Path, http: httpx.AsyncClient) -> AsyncIterator[Hall]:
    """Start what is shared. The secondary provider and the engines of hand-offs never fail."""
    rules = folder / "rules.toml"
    rules.write_text(RULES)
    async with AsyncExitStack() as stack:
        speech = ("speech", "--transcript", utterance.words, "--stt-ms", STT_MS, "--tts-ms", TTS_MS)
        origins = await asyncio.gather(
            *(
                stack.enter_async_context(_simulator(folder / f"{name}.log", *arguments))
                for name, arguments in {
                    "secondary": _provider(utterance.words, rules),
                    "speech": (*speech, "--rtf", TTS_RTF),
                    "llm": ("llm", "--rules", rules, "--first-token-ms", FIRST_TOKEN_MS),
                }.items()
            )
        )
        found = Hall(utterance, folder, http, *origins)
        found.words.write_bytes(utterance.audio)
        yield found


@asynccontextmanager
async def running(name: str, shared: Hall) -> AsyncIterator[Running]:
    """Start a contender and its primary provider."""
    folder = shared.folder / name
    folder.mkdir()
    words, http = shared.utterance, shared.http
    async with AsyncExitStack() as stack:
        if name in ("orchestrator", "direct"):
            service = Service.DIRECT if name == "direct" else Service.SIMULATED
            bench = await stack.enter_async_context(serving(service, words.words, folder, http))
            settled = bench.orchestrator.until_trusting if bench.orchestrator else _nothing
            yield Running(name, bench.provider, wire(bench.url, "benchmark", words), settled)
            return
        primary = await stack.enter_async_context(
            _simulator(folder / "primary.log", *_provider(words.words, shared.rules))
        )
        provider = Simulator(primary, http)
        if name == "orchestrator-two":
            ours = await stack.enter_async_context(_two_rungs(primary, shared, folder))
            yield Running(
                name,
                provider,
                wire(Bench(Service.SIMULATED, provider, ours).url, "benchmark", words),
                ours.until_trusting,
            )
            return
        if name.startswith("litellm"):
            url = await stack.enter_async_context(_litellm(name, primary, shared, folder))
            yield Running(name, provider, wire(url, LITELLM_KEY, words))
            return
        found = await stack.enter_async_context(
            driver(
                LIVEKIT.bin / "python",
                name.partition("-")[2] or "default",
                folder / "driver.log",
                shared.words,
                primary=primary,
                secondary=shared.secondary,
                speech=shared.speech,
                llm=shared.llm,
            )
        )
        yield Running(name, provider, found.line)


def wire(url: str, key: str, words: Utterance) -> Callable[[Path], Line]:
    """Lines to a URL. A bridge says what the catalogue says, or nothing where it is a tone."""
    bridges = Catalogue.load().bridge_texts() | {""}
    return lambda notes: WireLine(url, key, words.audio, bridges, notes)


def _provider(heard: str, rules: Path) -> tuple[object, ...]:
    """The same provider that `serving` starts."""
    timing = ("--pace", PACE, "--first-audio-ms", FIRST_AUDIO_MS, "--answer-seconds", ANSWER_SECONDS)
    return "realtime", "--speech", "tone", "--heard", heard, "--rules", rules, *timing


@asynccontextmanager
async def _two_rungs(primary: str, shared: Hall, folder: Path) -> AsyncIterator[Orchestrator]:
    """The orchestrator as `serving` starts it, with the secondary provider as a second rung of Tier A."""
    spare = {"model": MODEL, "base_url": f"{shared.secondary}/v1", "api_key": "benchmark"}
    env = {
        "OPENAI_BASE_URL": f"{primary}/v1",
        "OPENAI_API_KEY": "benchmark",
        "ORCHESTRATOR_CACHE__DIR": str(folder / "clips"),
        "ORCHESTRATOR_SERVER__EVENTS_PATH": str(folder / "events.jsonl"),
        "ORCHESTRATOR_BUSINESS_EVENTS__PATH": str(folder / "business.jsonl"),
        "ORCHESTRATOR_TIER_A__RUNGS": f"{MODEL},spare",
        **{f"ORCHESTRATOR_TIER_A__RUNG__SPARE__{key.upper()}": value for key, value in spare.items()},
        **SETTINGS,
        **simulated_engines(shared.speech, shared.llm),
    }
    async with process(folder / "serve.log", "serve", "--port", "0", env=env) as origin:
        ours = Orchestrator(origin, shared.http)
        await ours.until_ready()
        yield ours


@asynccontextmanager
async def _simulator(log: Path, *arguments: object) -> AsyncIterator[str]:
    async with process(log, "simulate", *map(str, arguments)) as origin:
        yield origin


def litellm_config(name: str, primary: str, secondary: str) -> dict[str, Any]:
    """The proxy's settings; what is JSON is YAML as well."""

    def deployment(model_name: str, origin: str, **extra: object) -> dict[str, Any]:
        where = {"model": f"openai/{MODEL}", "api_base": origin, "api_key": "benchmark", **extra}
        return {"model_name": model_name, "litellm_params": where, "model_info": {"mode": "realtime"}}

    config: dict[str, Any] = {
        "model_list": [deployment(MODEL, primary), deployment("backup", secondary)],
        "router_settings": {"fallbacks": [{MODEL: ["backup"]}]},
        "general_settings": {"master_key": LITELLM_KEY},
    }
    if name == "litellm-fast":
        same_name = [deployment(MODEL, primary, order=1), deployment(MODEL, secondary, order=2)]
        config["model_list"][:1] = same_name
        config["router_settings"] |= {"num_retries": 2, "retry_after": 0, "timeout": 1, "allowed_fails": 0}
    return config


@asynccontextmanager
async def _litellm(name: str, primary: str, shared: Hall, folder: Path) -> AsyncIterator[str]:
    """Run the proxy; gives the URL to call."""
    config, log, port = folder / "config.json", folder / "proxy.log", _free_port()
    config.write_text(json.dumps(litellm_config(name, primary, shared.secondary)))
    arguments = ("--config", config, "--host", "127.0.0.1", "--port", port, "--telemetry", False)
    with log.open("wb") as output:
        proxy = await asyncio.create_subprocess_exec(
            LITELLM.bin / "litellm",
            *map(str, arguments),
            env=_litellm_environment(),
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        await _until_alive(proxy, f"http://127.0.0.1:{port}/health/liveliness", log, shared.http)
        yield f"ws://127.0.0.1:{port}/v1/realtime?model={MODEL}"
    finally:
        if proxy.returncode is None:
            proxy.terminate()
        try:
            async with asyncio.timeout(15.0):
                await proxy.wait()
        except TimeoutError:
            proxy.kill()
            await proxy.wait()


def _litellm_environment() -> Mapping[str, str]:
    """Nothing of ours reaches it, and its price list is the one it brought along."""
    loopback = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    return {"PATH": f"{LITELLM.bin}:/usr/bin:/bin", "LITELLM_LOCAL_MODEL_COST_MAP": "True", **loopback}


async def _until_alive(
    proxy: asyncio.subprocess.Process, url: str, log: Path, http: httpx.AsyncClient
) -> None:
    try:
        async with asyncio.timeout(LITELLM_START_S):
            while proxy.returncode is None:
                try:
                    if (await http.get(url)).is_success:
                        return
                except httpx.HTTPError:
                    pass
                await asyncio.sleep(0.25)
    except TimeoutError:
        pass
    raise BenchmarkError(f"the LiteLLM proxy did not start:\n{tail(log)}")


def _free_port() -> int:
    """The proxy cannot say which port it took, so it is told one that was free a moment ago."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
