"""The product as its users run it: `orchestrator serve` and simulated providers as processes, on free ports."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
import wave
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soxr

from orchestrator import models
from orchestrator.protocol.audio import AudioFormat, Encoder
from tests import planted, planted_check

ORCHESTRATOR = Path(sys.executable).with_name("orchestrator")
AUDIO = Path(__file__).parents[1] / "fixtures" / "audio"
SERVER_KEY = planted.PROVIDER
BUSINESS = "business.jsonl"
CLIPS = models.cache_dir() / "clips-of-tests"


@dataclass
class Running:
    """A process of ours and the address it printed."""

    process: subprocess.Popen[str]
    url: str
    log: Path

    @property
    def ws(self) -> str:
        return self.url.replace("http", "ws", 1)

    def get(self, path: str) -> Any:
        return self._searched(httpx.get(self.url + path, timeout=10)).json()

    def post(self, path: str, body: Any) -> httpx.Response:
        return self._searched(httpx.post(self.url + path, json=body, timeout=30))

    @staticmethod
    def _searched(answer: httpx.Response) -> httpx.Response:
        planted_check.note(answer.content, f"the answer to {answer.request.method} {answer.request.url.path}")
        return answer

    def until(self, path: str, condition: Any, timeout: float = 60.0) -> Any:
        """Ask until the answer is as wanted, at most ten times a second; a process that ends meanwhile is noticed."""
        end = time.monotonic() + timeout
        with httpx.Client(base_url=self.url, timeout=10) as client:
            while True:
                answer = client.get(path).json()
                if condition(answer):
                    return answer
                assert time.monotonic() < end, (
                    f"{path} never came to be as wanted; last: {json.dumps(answer)[:2000]}"
                )
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(timeout=0.1)
                    raise AssertionError(f"it ended: {self.log.read_text()[-2000:]}")


@contextmanager
def start(*arguments: str, log: Path, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """`orchestrator …` until the block ends; the line with its address is waited for."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI", "CARTESIA", "REDIS"))}
    with log.open("w") as errors:
        process = subprocess.Popen(
            [str(ORCHESTRATOR), *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**environment, **(env or {})},
        )
        try:
            yield Running(process, _address(process, log), log)
        finally:
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process: subprocess.Popen[str], log: Path, timeout: float = 60.0) -> str:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        assert selector.select(timeout), f"no address in {timeout} s: {log.read_text()[-2000:]}"
    line = process.stdout.readline()
    words = [word.rstrip(",;)") for word in line.split() if word.startswith(("http://", "https://"))]
    assert words, f"no address in {line!r}: {log.read_text()[-2000:]}"
    return words[0]


@dataclass
class Stack:
    """The service, its simulated provider, and what the calls left in the event file."""

    service: Running
    provider: Running
    events_path: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def realtime(self) -> str:
        return f"{self.service.ws}/v1/realtime?model=gpt-realtime-2.1"

    def arm(
        self, fault: str, moment: str, after_ms: int = 0, count: int | str = 1, model: str | None = None
    ) -> None:
        """A fault of the provider; with `model` it strikes only the sessions of that rung."""
        body = {"fault": fault, "moment": moment, "after_ms": after_ms, "count": count}
        body |= {"model": model} if model else {}
        answer = self.provider.post("/control/faults", body)
        assert answer.status_code < 300, answer.text

    def disarm(self) -> None:
        httpx.delete(self.provider.url + "/control/faults", timeout=10)

    def heal(self) -> None:
        """No fault armed, no override, the provider's breaker closed again and no probe due that could meet a fault."""
        self.disarm()
        for override in self.service.get("/v1/overrides")["overrides"]:
            httpx.delete(f"{self.service.url}/v1/overrides/{override['id']}", timeout=10)
        self.service.until(
            "/v1/status",
            lambda s: all(
                r["breaker"] == "closed" and r["next_probe_at"] is None
                for r in s["rungs"]
                if r["tier"] == "A"
            ),
            60.0,
        )

    def force(self, tier: str, scope: str = "all") -> str:
        body = {"tier": tier, "scope": scope, "for": "10m", "reason": "test"}
        answer = self.service.post("/v1/overrides", body)
        assert answer.status_code < 300, answer.text
        return str(answer.json()["id"])

    def rows(self, call_id: str, type: str | None = None) -> list[dict[str, Any]]:
        rows = [json.loads(line) for line in self.events_path.read_text().splitlines()]
        return [r for r in rows if r["call_id"] == call_id and type in (None, r["type"])]

    def business(self, call_id: str, type: str | None = None) -> list[dict[str, Any]]:
        """The business events of a call; `type` without its ``orchestrator.``."""
        path = self.events_path.with_name(BUSINESS)
        events = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        wanted = None if type is None else f"orchestrator.{type}"
        return [e for e in events if e["subject"] == call_id and wanted in (None, e["type"])]


@contextmanager
def stack(folder: Path, *provider: str, **settings: str) -> Iterator[Stack]:
    """A service with a simulated Realtime provider; `settings` are ORCHESTRATOR_<SECTION>__<FIELD> in lower case."""
    folder.mkdir(parents=True, exist_ok=True)
    with start("simulate", "realtime", *provider, log=folder / "provider.log") as simulator:
        events = folder / "events.jsonl"
        events.touch()
        env = {
            "OPENAI_BASE_URL": f"{simulator.url}/v1",
            "OPENAI_API_KEY": SERVER_KEY,
            "ORCHESTRATOR_LINKS__SECRET": planted.LINKS,
            "ORCHESTRATOR_CREDENTIALS__SECRET": planted.CREDENTIALS,
            "ORCHESTRATOR_SERVER__EVENTS_PATH": str(events),
            "ORCHESTRATOR_BUSINESS_EVENTS__PATH": str(folder / BUSINESS),
            "ORCHESTRATOR_BREAKER__PROBE_AFTER_S": "0.2",
            "ORCHESTRATOR_BREAKER__CANARY_AFTER_S": "0.2",
            "ORCHESTRATOR_BREAKER__PROBE_MAX_S": "1",
            # A new one would have every service speak its bridges again. It is not the one that people's servers use:
            # what simulated engines say is no speech.
            "ORCHESTRATOR_CACHE__DIR": str(CLIPS),
            **{f"ORCHESTRATOR_{name.upper()}": value for name, value in settings.items()},
        }
        with start("serve", "--port", "0", log=folder / "service.log", env=env) as service:
            service.until("/readyz", lambda answer: answer["ready"], 300.0)
            yield Stack(service, simulator, events)


@dataclass
class Engines:
    """Simulated engines of Tier B."""

    llm: Running
    voice: Running

    def arm(self, fault: str) -> None:
        """The model's next request meets a fault."""
        answer = self.llm.post("/control/faults", {"fault": fault, "count": 1})
        assert answer.status_code < 300, answer.text

    @property
    def settings(self) -> dict[str, str]:
        """Those of a service that uses them, and pays the model alone."""
        settings = {
            "agent_model": "openai/gpt-4.1-mini",
            "agent_base_url": f"{self.llm.url}/v1",
            "agent_api_key": planted.AGENT,
            "stt_base_url": f"{self.voice.url}/v1",
            "stt_model": "whisper-1",
            "stt_usd_per_minute": "0",
            "stt_fallback": "false",
            "tts_base_url": f"{self.voice.url}/v1",
            "tts_model": "tts-1",
            "tts_usd_per_character": "0",
            "speech": "endpoint",
        }
        return {f"tier_b__{name}": value for name, value in settings.items()}


ORDER_QUESTION = "Where is my order 4172?"
STAND_IN = "The stand-in has found your order and sees that it left on Monday."
"""What Tier B's model answers to a question about an order: the words tell who speaks."""
RULES = f"""
[[rule]]
when = "order ([0-9]+)"
tool = "get_order_status"
arguments = {{ order_id = "{{1}}" }}

[[rule]]
when = "order"
say = "{STAND_IN}"
"""


@contextmanager
def engines(folder: Path) -> Iterator[Engines]:
    """Engines that are quick, and hear a question about an order in all that is said."""
    folder.mkdir(parents=True, exist_ok=True)
    rules = folder / "rules.toml"
    rules.write_text(RULES)
    model = ("llm", "--first-token-ms", "20", "--tokens-per-second", "50", "--rules", str(rules))
    quick = ("--stt-ms", "20", "--tts-ms", "20", "--rtf", "0.05")
    with (
        start("simulate", *model, log=folder / "llm.log") as llm,
        start(
            "simulate", "speech", *quick, "--transcript", ORDER_QUESTION, log=folder / "speech.log"
        ) as voice,
    ):
        yield Engines(llm, voice)


def speech(name: str = "austen-0880.wav", fmt: AudioFormat = AudioFormat.PCM) -> bytes:
    """A human utterance from the fixtures as wire audio."""
    with wave.open(str(AUDIO / name)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
        rate = file.getframerate()
    spoken = soxr.resample(samples, rate, 24_000).astype(np.int16)
    return Encoder(fmt).encode(spoken, last=True)
