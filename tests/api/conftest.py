"""The product as a process of its own, whose model, ears and voice are simulated."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import planted
from tests.e2e.stack import Running, start

KEY = planted.SERVER


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("fuzzed")
    quick = ("--tts-ms", "1", "--rtf", "0.001", "--stt-ms", "1")
    with (
        start("simulate", "speech", *quick, log=folder / "speech.log") as voice,
        start("simulate", "llm", log=folder / "llm.log") as llm,
    ):
        settings = {
            "server__api_key": KEY,
            "openai__api_key": planted.PROVIDER,
            "openai__base_url": "http://127.0.0.1:9/v1",
            "links__secret": planted.LINKS,
            "credentials__secret": planted.CREDENTIALS,
            "server__events_path": str(folder / "events.jsonl"),
            "cache__dir": str(folder / "cache"),
            "access__keys_path": str(folder / "keys.json"),
            "tier_b__agent_model": "openai/gpt-4.1-mini",
            "tier_b__agent_base_url": f"{llm.url}/v1",
            "tier_b__agent_api_key": planted.AGENT,
            "tier_b__stt_base_url": f"{voice.url}/v1",
            "tier_b__stt_model": "whisper-1",
            "tier_b__stt_usd_per_minute": "0",
            "tier_b__stt_fallback": "false",
            "tier_b__speech": "endpoint",
            "tier_b__tts_base_url": f"{voice.url}/v1",
            "tier_b__tts_model": "tts-1",
            "tier_b__tts_usd_per_character": "0",
        }
        env = {f"ORCHESTRATOR_{name.upper()}": value for name, value in settings.items()}
        with start("serve", "--port", "0", log=folder / "service.log", env=env) as running:
            running.until("/readyz", lambda answer: answer["ready"])
            yield running
