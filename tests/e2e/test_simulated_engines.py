"""The whole product with every engine simulated: what the model was given, the routing API, prompts, shutting down."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests import planted
from tests.clients.recorder import Recorder
from tests.e2e.stack import ORCHESTRATOR, Running, Stack, speech, stack, start

QUESTION = "Can you recommend a book about gardens?"


@dataclass
class Simulated:
    stack: Stack
    llm: Running


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulated]:
    folder = tmp_path_factory.mktemp("simulated")
    with (
        start("simulate", "llm", "--first-token-ms", "20", log=folder / "llm.log") as llm,
        start("simulate", "speech", "--stt-ms", "20", "--tts-ms", "20", log=folder / "speech.log") as voice,
        stack(
            folder,
            *("--speech", "tone", "--heard", QUESTION, "--first-audio-ms", "50"),
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
            cache__dir=str(folder / "clips"),
            deadlines__answer_s="30",
        ) as running,
    ):
        yield Simulated(running, llm)


@pytest.fixture
def service(simulated: Simulated) -> Stack:
    simulated.stack.heal()
    return simulated.stack


async def test_the_model_is_given_the_interrupted_question(service: Stack, simulated: Simulated) -> None:
    async with Recorder(service.realtime, orchestrator=True) as caller:
        await caller.update(instructions="You work in a bookshop.")
        service.arm("abort", "mid_answer", after_ms=800)
        async with caller.microphone():
            await caller.say(speech())
            cut = await caller.wait_for("response.done", timeout=20)
            partial = cut["response"]["output"][0]["content"][0]["transcript"]
            answer = await caller.wait_for("response.done", timeout=20)
    assert answer["response"]["status"] == "completed"
    messages = simulated.llm.get("/control/state")["requests"][-1]["messages"]
    given = json.dumps(messages)
    assert QUESTION in given
    assert "You work in a bookshop." in given
    assert partial.split()[0] in given, "and what the caller had heard of the answer"
    row = service.rows(caller.session["orchestrator"]["call_id"], "answer")[-1]
    assert row["cost_usd"] > 0, "a paid model's tokens are billed to the call"


def test_the_routing_api_says_where_to_go_and_why(service: Stack) -> None:
    answer = service.service.post(
        "/v1/route", {"user": "u1", "purpose": "support", "transport": "websocket"}
    ).json()
    assert (answer["tier"], answer["rung"], answer["reason"]) == ("A", "gpt-realtime-2.1", "default")
    assert answer["connect"]["url"].startswith(service.service.ws)
    notice = service.service.post("/v1/route", {"purpose": "notification"}).json()
    assert (notice["tier"], notice["decided_by"]) == ("C", "policy")
    service.force("B")
    forced = service.service.post("/v1/route", {"user": "u1"}).json()
    assert (forced["tier"], forced["decided_by"]) == ("B", "override")


def test_a_prompt_is_spoken_and_the_second_time_from_the_cache(service: Stack) -> None:
    body = {"variables": {"order_id": "4172", "status": "shipped"}}
    first = service.service.post("/v1/prompts/order_status", body)
    second = service.service.post("/v1/prompts/order_status", body)
    assert first.status_code == second.status_code == 200
    assert first.content[:4] == b"RIFF"
    assert [r.headers["x-cache"] for r in (first, second)] == ["miss", "hit"]
    wrong = service.service.post(
        "/v1/prompts/order_status", {"variables": {"order_id": "4172", "colour": "red"}}
    )
    assert wrong.status_code == 422
    assert "status" in wrong.text
    assert "colour" in wrong.text


def test_the_command_line_forces_a_tier_and_shows_it(service: Stack) -> None:
    url = ["--url", service.service.url]
    force = ["force", "B", "--scope", "all", "--for", "15m", "--reason", "a test"]
    done = subprocess.run(
        [str(ORCHESTRATOR), *force, *url], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    shown = subprocess.run(
        [str(ORCHESTRATOR), "status", "--json", *url], capture_output=True, text=True, timeout=60, check=True
    )
    status = json.loads(shown.stdout)
    assert status["next_call"]["tier"] == "B"
    assert [(o["tier"], o["reason"]) for o in status["overrides"]] == [("B", "a test")]
    recorded = service.rows("", "override")[-1]
    assert (recorded["tier"], recorded["reason"], recorded["scope"]) == ("B", "a test", "all")
    assert recorded["who"]


@pytest.mark.parametrize("path", ["/v1/realtimes", "/other"])
async def test_a_websocket_elsewhere_is_refused_with_directions(service: Stack, path: str) -> None:
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version": "13",
    }
    async with httpx.AsyncClient() as client:
        answer = await client.get(service.service.url + path, headers=headers)
    assert answer.status_code == 404
    assert "/v1/realtime" in answer.json()["error"]["message"]


async def test_a_message_in_fragments_is_one_message_and_a_binary_one_is_refused(service: Stack) -> None:
    async with Recorder(service.realtime, check=False) as caller:
        await caller.wait_session()
        await caller.connection.send(
            ['{"type": "session.upd', 'ate", "session": {"type": "realtime", ', '"tools": []}}']
        )
        await caller.wait_for("session.updated")
        await caller.connection.send(b"binary")
        with pytest.raises(AssertionError):
            await caller.wait_for("never")
        assert caller.close_code == 1003


async def test_a_browser_is_answered_with_the_one_subprotocol(service: Stack) -> None:
    offered = ("realtime", "openai-insecure-api-key.some-key")
    async with Recorder(service.realtime, api_key=None, subprotocols=offered) as caller:
        await caller.wait_session()
        assert caller.connection.subprotocol == "realtime"


@pytest.mark.long
async def test_a_call_that_spends_its_budget_goes_on_in_a_tier_that_costs_nothing(
    tmp_path_factory: pytest.TempPathFactory, simulated: Simulated
) -> None:
    folder = tmp_path_factory.mktemp("poor")
    with start("simulate", "speech", "--stt-ms", "20", "--tts-ms", "20", log=folder / "speech.log") as voice:
        endpoint = {"base_url": f"{voice.url}/v1", "model": "m"}
        settings = {f"tier_b__{part}_{k}": v for part in ("stt", "tts") for k, v in endpoint.items()}
        settings |= {"tier_b__stt_usd_per_minute": "0", "tier_b__tts_usd_per_character": "0"}
        settings |= {
            "tier_b__speech": "endpoint",
            "tier_b__stt_fallback": "false",
            "budget__call_usd": "0.03",
            "budget__steps": "[]",
            "cache__dir": str(folder / "clips"),
        }
        with stack(folder, "--speech", "tone", "--first-audio-ms", "50", **settings) as poor:
            async with Recorder(poor.realtime, orchestrator=True) as caller:
                first = await caller.ask("Tell me a story.", timeout=20)
                assert first["metadata"]["tier"] == "A"
                while caller.session["orchestrator"]["tier"] == "A":
                    await caller.ask("Go on.", timeout=20)
                moved = await caller.wait_for(
                    "session.updated", lambda e: e["session"]["orchestrator"]["tier"] == "B", timeout=10
                )
                assert moved["session"]["orchestrator"]["reason"] == "budget_spent"
                second = await caller.ask("What are your opening hours?", timeout=30)
                assert second["status"] == "completed"
            call_id = caller.session["orchestrator"]["call_id"]
            assert poor.rows(call_id, "handover")[0]["trigger"] == "budget"


async def test_a_server_admits_its_key_only_and_tells_its_calls_when_it_stops(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("stop")
    env = {"ORCHESTRATOR_SERVER__EVENTS_PATH": str(folder / "events.jsonl")}
    env |= {"ORCHESTRATOR_BUSINESS_EVENTS__PATH": str(folder / "business.jsonl")}
    env |= {"ORCHESTRATOR_TIER_A__ENABLED": "false", "ORCHESTRATOR_MODELS__DIR": str(folder)}
    env |= {"ORCHESTRATOR_API_KEY": planted.SERVER}
    with start("serve", "--port", "0", log=folder / "serve.log", env=env) as service:
        url = f"{service.ws}/v1/realtime"
        for key in (None, planted.STRANGER):
            with pytest.raises(InvalidStatus, match="401"):
                await Recorder(url, api_key=key).__aenter__()
        keyed = ("realtime", f"openai-insecure-api-key.{planted.SERVER}")
        async with Recorder(url, api_key=None, subprotocols=keyed, check=False) as browser:
            assert browser.connection.subprotocol == "realtime"
        async with Recorder(url, api_key=planted.SERVER, check=False) as caller:
            await caller.wait_session()
            service.process.send_signal(signal.SIGTERM)
            with pytest.raises((ConnectionClosed, AssertionError)):
                await caller.wait_for("never", timeout=10)
            assert caller.close_code == 1012
        assert service.process.wait(timeout=15) in (0, -signal.SIGTERM)
        assert "orchestrator models fetch" in (folder / "serve.log").read_text(), (
            "missing weights name the remedy"
        )
