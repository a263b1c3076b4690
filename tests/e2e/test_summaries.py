"""A call ends, and its summary is written, spoken and told; with every engine simulated."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from orchestrator.signing import key_of, sign
from tests import planted
from tests.clients.recorder import Recorder
from tests.e2e.stack import Stack, stack, start
from tests.server.webhooks import Receiver

SECRET = "whsec_" + base64.b64encode(b"a secret of the service's own").decode()
SUMMARY = "You asked for order 4172, and heard when it comes."
RULES = f"""
[[rule]]
when = "The call:"
say = "{SUMMARY}"

[[rule]]
when = "."
say = "It comes on Monday."
"""


@dataclass
class Service:
    stack: Stack
    hook: Receiver


@pytest.fixture
async def hook() -> AsyncIterator[Receiver]:
    async with Receiver().listening() as hook:
        yield hook


@pytest.fixture
def service(tmp_path: Path, hook: Receiver) -> Iterator[Service]:
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    with (
        start(
            *("simulate", "llm", "--first-token-ms", "20", "--rules", str(rules)), log=tmp_path / "llm.log"
        ) as llm,
        start("simulate", "speech", "--stt-ms", "20", "--tts-ms", "20", log=tmp_path / "speech.log") as voice,
        stack(
            tmp_path,
            *("--speech", "tone", "--heard", "Where is my order 4172?", "--first-audio-ms", "50"),
            tier_b__agent_model="openai/gpt-4.1-mini",
            tier_b__agent_base_url=f"{llm.url}/v1",
            tier_b__agent_api_key=planted.AGENT,
            tier_b__stt_base_url=f"{voice.url}/v1",
            tier_b__stt_model="whisper-1",
            tier_b__stt_usd_per_minute="0",
            tier_b__stt_fallback="false",
            tier_b__tts_base_url=f"{voice.url}/v1",
            tier_b__tts_model="tts-1",
            tier_b__tts_usd_per_character="0",
            tier_b__speech="endpoint",
            cache__dir=str(tmp_path / "clips"),
            summary__at_hang_up="true",
            summary__purposes="support",
            summary__url=hook.url,
            summary__secret=SECRET,
            links__public_url="https://voice.example.com",
        ) as running,
    ):
        yield Service(running, hook)


async def test_a_call_is_summed_up_when_it_ends(service: Service, hook: Receiver) -> None:
    async with Recorder(f"{service.stack.realtime}&user=42&purpose=survey", orchestrator=True) as other:
        await other.update()
        await other.ask("Good morning.")
    async with Recorder(f"{service.stack.realtime}&user=42&purpose=support", orchestrator=True) as caller:
        await caller.update()
        await caller.ask("Where is my order 4172?")
        call_id = caller.session["orchestrator"]["call_id"]
    request = await hook.next()
    id, at = request.headers["webhook-id"], request.headers["webhook-timestamp"]
    assert request.headers["webhook-signature"] == sign(key_of(SECRET), id, request.body, float(at))
    event = json.loads(request.body)
    assert (event["type"], event["subject"]) == ("orchestrator.summaries.ready", call_id)
    assert event["data"]["call"]["user"] == "42"
    (item,) = event["data"]["items"]
    assert (item["status"], item["text"]) == ("ready", SUMMARY)
    address = urlsplit(item["audio"]["url"])
    assert (address.scheme, address.netloc) == ("https", "voice.example.com")
    async with httpx.AsyncClient(base_url=service.stack.service.url, trust_env=False) as client:
        answer = await client.get(f"{address.path}?{address.query}")
        again = await client.get(f"/v1/summaries/{event['data']['id']}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "audio/mpeg"
    assert float(answer.headers["x-audio-seconds"]) == item["audio"]["seconds"] > 2
    assert again.json()["items"][0]["text"] == SUMMARY
    # The call with another purpose had ended before.
    assert len(hook.requests) == 1
