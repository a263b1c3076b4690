"""Summaries: their words, their audio, and the webhook; the real catalogue, words for sound, an invented agent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from tenacity import wait_none

from orchestrator.config_sections import Summary
from orchestrator.core.redaction import Redactor
from orchestrator.protocol.answers import (
    AnswerRequest,
    Charge,
    HistoryItem,
    Message,
    ToolCall,
    ToolResult,
)
from orchestrator.server.fleet import Fleet
from orchestrator.server.ledger import BucketView
from orchestrator.server.links import Links
from orchestrator.server.outlets import Outlet, WebhookSink
from orchestrator.server.prompt_files import Asked, SpokenFile
from orchestrator.server.purse import Purse
from orchestrator.server.store import EmbeddedStore
from orchestrator.server.summaries import LOST, TYPE, Item, Summaries
from orchestrator.server.summary_writing import SummaryWriter
from orchestrator.signing import key_of, sign
from tests import planted
from tests.server.test_http import CatalogueVoice, Server, client_of, error_of, make_server
from tests.server.webhooks import Receiver
from tiers.pipeline.agent import AgentEvent, Done, Words
from tiers.speech_pool import Overloaded
from tiers.urgency import Priority, urgency

SECRET = planted.WEBHOOK
CALL: Sequence[HistoryItem] = (
    Message("system", "You are kind."),
    Message("user", "Where is my order four one seven two?"),
    ToolCall("c1", "get_order_status", '{"order_id": "4172"}'),
    ToolResult("c1", '{"status": "shipped", "days": 3}'),
    Message("assistant", "It left on Monday."),
    Message("user", "My card is 4111 1111 1111 1111, thank you."),
)


@dataclass
class Agent:
    """Writes `words`. `worst_cost`: what it may cost, of which it takes a half."""

    words: str = "You asked about order 4172. It has left, and takes 3 days."
    trusted_with_tools: bool = True
    worst_cost: int = 1000
    error: Exception | None = None
    hang: bool = False
    asked: list[AnswerRequest] = field(default_factory=list)

    def worst(self, request: AnswerRequest) -> int:
        return self.worst_cost

    async def reply(
        self, request: AnswerRequest, paid: Callable[[Charge], None] = lambda charge: None
    ) -> AsyncGenerator[AgentEvent, None]:
        self.asked.append(request)
        paid(Charge("agent", "m", self.worst_cost // 2))
        if self.hang:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        for word in self.words.split(" "):
            yield Words(word + " ")
        yield Done("m")


def writer(agent: Agent, fleet: Fleet | None = None, **settings: Any) -> SummaryWriter:
    fleet = fleet or make_server().fleet
    return SummaryWriter(Summary(**settings), agent, Redactor(), Purse(fleet.ledgers))


async def test_the_agent_writes_from_what_was_said_and_done() -> None:
    agent = Agent()
    assert await writer(agent).write(CALL, "default") == agent.words
    (request,) = agent.asked
    (told,) = request.history
    assert isinstance(told, Message)
    assert "Caller: Where is my order four one seven two?" in told.text
    assert "(The agent used get_order_status with" in told.text
    assert "shipped" in told.text
    assert "You are kind" not in told.text
    assert "4111" not in told.text
    assert request.tools == ()
    assert request.instructions.startswith("Summarise this finished phone call")


@pytest.mark.parametrize(
    "agent",
    [
        Agent(words="You asked about order 4173."),
        Agent(words="It costs 12.99 USD."),
        Agent(words=""),
        Agent(error=RuntimeError("secret")),
        Agent(hang=True),
        Agent(trusted_with_tools=False),
    ],
    ids=["another number", "an invented amount", "nothing", "fails", "hangs", "the small model"],
)
async def test_what_is_true_is_said_where_the_agent_cannot_be_used(agent: Agent) -> None:
    text = await writer(agent, timeout_s=0.05).write(CALL, "default")
    assert "order id 4172" in text
    assert "4173" not in text
    assert "4111" not in text
    assert bool(agent.asked) is agent.trusted_with_tools


async def test_a_summary_costs_what_is_left_and_no_more() -> None:
    fleet = make_server(budget={"buckets": {"acme": {"usd_per_day": 1499e-9}}}).fleet
    await fleet.start()
    agents = [Agent(), Agent()]
    for agent in agents:
        assert await writer(agent, fleet).write(CALL, "acme")
    assert [len(agent.asked) for agent in agents] == [1, 0]
    assert fleet.ledgers.view("acme") == BucketView(500, 0, 1499)
    await fleet.close()


async def test_a_long_summary_ends_with_a_sentence() -> None:
    agent = Agent(words="It was sent. " * 40)
    text = await writer(agent, max_characters=100).write(CALL, "default")
    assert len(text) <= 100
    assert text.endswith("It was sent.")
    endless = await writer(Agent(words="word " * 60), max_characters=100).write(CALL, "default")
    assert len(endless) <= 100
    assert endless.endswith("word…")


async def test_a_call_in_which_nothing_was_said_has_none() -> None:
    agent = Agent()
    for silent in ((), (Message("assistant", "Hello?"),), (Message("user", " "),)):
        assert await writer(agent).write(silent, "default") == ""
    assert not agent.asked


class Voice(CatalogueVoice):
    """`busy`: how often it has no time."""

    def __init__(self) -> None:
        super().__init__()
        self.busy = 0
        self.priorities: list[Priority] = []

    async def speak_file(self, asked: Asked) -> SpokenFile:
        self.priorities.append(urgency().priority)
        if self.busy:
            self.busy -= 1
            error = Overloaded("kokoro", 1)
            error.retry_after_s = 0
            raise error
        return await super().speak_file(asked)


@dataclass
class Desk:
    server: Server
    voice: Voice
    agent: Agent
    hook: Receiver
    store: EmbeddedStore
    summaries: Summaries
    client: httpx.AsyncClient


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    server = make_server(
        server={"api_key": planted.SERVER},
        summary={"at_hang_up": True, "purposes": "support", "url": "http://127.0.0.1:1", "secret": SECRET},
        links={"public_url": "http://voice.example.com"},
    )
    voice, agent = Voice(), Agent()
    server.prompts = voice
    await server.fleet.start()
    async with Receiver().listening() as hook:
        sink = WebhookSink(hook.url, SECRET, 5.0, "summary")
        outlet = Outlet(sink, limit=10, retry_s=30.0, pauses=wait_none())
        purse = Purse(server.fleet.ledgers)
        settings, store = server.settings.summary, EmbeddedStore()
        server.summaries = summaries = Summaries(
            settings,
            store,
            voice,
            SummaryWriter(settings, agent, Redactor(), purse),
            server.links,
            purse,
            outlet,
        )
        summaries.start()
        async with client_of(server, headers={"Authorization": f"Bearer {planted.SERVER}"}) as client:
            yield Desk(server, voice, agent, hook, store, summaries, client)
        await summaries.close()
    await server.fleet.close()


async def told(desk: Desk) -> dict[str, Any]:
    """What the webhook was sent, its signature checked."""
    await desk.summaries.idle()
    await desk.summaries.close()
    request = desk.hook.requests[-1]
    id, at = request.headers["webhook-id"], request.headers["webhook-timestamp"]
    assert request.headers["webhook-signature"] == sign(key_of(SECRET), id, request.body, float(at))
    event: dict[str, Any] = json.loads(request.body)
    assert event["type"] == TYPE
    return event


async def heard(desk: Desk, url: str) -> bytes:
    """At a signed address, by somebody without a key."""
    assert url.startswith("http://voice.example.com/v1/summaries/sum_")
    async with client_of(desk.server, peer="203.0.113.9") as stranger:
        answer = await stranger.get(url)
        assert answer.status_code == 200, answer.text
        part = await stranger.get(url, headers={"Range": "bytes=0-2"})
        assert (part.status_code, part.content) == (206, answer.content[:3])
        assert error_of(await stranger.get(url.partition("?")[0]), 401)["code"] == "missing_api_key"
        return answer.content


async def test_a_batch_is_made_and_told(desk: Desk) -> None:
    desk.hook.statuses = [503, 500]
    said = [{"role": "user", "text": "Where is my order 4172?"}, {"role": "assistant", "text": "3 days."}]
    body = {
        "items": [
            {"id": "ann", "text": "You asked for a taxi."},
            {"conversation": said},
            {"id": "nobody", "conversation": [{"role": "assistant", "text": "Hello?"}]},
        ],
        "format": "pcmu",
    }
    answer = await desk.client.post("/v1/summaries", json=body)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert {item["id"] for item in job["items"]} == {"ann", "1", "nobody"}
    event = await told(desk)
    assert len(desk.hook.requests) == 3
    assert (event["subject"], event["data"]["id"]) == (job["id"], job["id"])
    ann, second, nobody = event["data"]["items"]
    assert (ann["status"], ann["text"]) == ("ready", "You asked for a taxi.")
    assert ann["audio"]["seconds"] == 1.25
    assert second["text"] == desk.agent.words
    assert (nobody["status"], nobody["error"]) == ("failed", "nothing was said that could be summed up")
    assert "audio" not in nobody
    spoken = await heard(desk, ann["audio"]["url"])
    assert spoken == b"pcmu:Here is a summary of your call. You asked for a taxi."
    now = (await desk.client.get(f"/v1/summaries/{job['id']}")).json()
    assert now["status"] == "ready"
    assert [item["status"] for item in now["items"]] == ["ready", "ready", "failed"]
    other = await desk.client.get(f"/v1/summaries/{job['id']}/1?format=mp3")
    assert other.content.startswith(b"mp3:Here is a summary")
    missing = await desk.client.get(f"/v1/summaries/{job['id']}/nobody")
    assert error_of(missing, 404)["code"] == "summary_not_ready"
    (sink,) = desk.summaries.outlets
    assert (sink.name, sink.sent, sink.dropped) == ("summary", 1, 0)
    # Two renders at 1500, and what the agent took.
    assert desk.server.fleet.ledgers.overview()["default"].spent == 2 * 1500 + 500


async def test_batches_come_last_and_wait_for_an_engine(desk: Desk) -> None:
    desk.voice.busy = 2
    await desk.client.post("/v1/summaries", json={"items": [{"text": "All is well."}]})
    event = await told(desk)
    assert event["data"]["status"] == "ready"
    assert desk.voice.priorities == [Priority.BATCH] * 3


async def test_one_that_cannot_be_said_does_not_stop_the_others(desk: Desk) -> None:
    body = {"items": [{"text": "..."}, {"text": "All is well."}]}
    await desk.client.post("/v1/summaries", json=body)
    bad, good = (await told(desk))["data"]["items"]
    assert (bad["status"], good["status"]) == ("failed", "ready")
    assert bad["error"] == "it could not be said (VariablesInvalid)"


async def test_a_hang_up_makes_one_where_that_is_wanted(desk: Desk) -> None:
    call = {"call_id": "call_1", "user": "42", "bucket": "acme", "purpose": "support"}
    about: dict[str, Any] = {"origin": "http://voice.example.com", "voice": "ash", "language": "en"}
    await desk.summaries.call_ended({**call, "purpose": "survey"}, CALL, **about)
    await desk.summaries.call_ended(call, [Message("assistant", "Hello?")], **about)
    await desk.summaries.call_ended(call, CALL, **about)
    event = await told(desk)
    assert len(desk.hook.requests) == 1
    assert event["subject"] == "call_1"
    assert event["data"]["call"] == call
    (item,) = event["data"]["items"]
    assert (item["id"], item["text"]) == ("call_1", desk.agent.words)
    spoken = await heard(desk, item["audio"]["url"])
    assert spoken.decode() == f"mp3:Here is a summary of your call. {desk.agent.words}"
    assert desk.server.fleet.ledgers.overview()["acme"].spent == 1500 + 500


@pytest.mark.parametrize(
    ("body", "param", "teaches"),
    [
        ({}, "items", "required"),
        ({"items": []}, "items", "at least 1"),
        ({"items": [{}]}, "items.0", "either `text` or `conversation`"),
        ({"items": [{"text": "a", "conversation": [{"role": "user", "text": "b"}]}]}, "items.0", "either"),
        ({"items": [{"id": "a", "text": "a"}, {"id": "a", "text": "b"}]}, "items.1.id", "twice"),
        ({"items": [{"id": "a/b", "text": "a"}]}, "items.0.id", "pattern"),
        ({"items": [{"text": "a"}] * 201}, "items", "at most 200"),
        (
            {"items": [{"conversation": [{"role": "user", "text": "a" * 4000}] * 13}]},
            "items.0",
            "at most 50000",
        ),
        ({"items": [{"text": "a"}], "url": "http://10.0.0.1"}, "url", "no such field"),
    ],
)
async def test_a_wrong_batch_teaches(desk: Desk, body: Any, param: str, teaches: str) -> None:
    error = error_of(await desk.client.post("/v1/summaries", json=body), 422)
    assert error["param"] == param
    assert teaches in error["message"]


async def test_unknown_batches(desk: Desk) -> None:
    error = error_of(await desk.client.get("/v1/summaries/sum_1"), 404)
    assert error["code"] == "unknown_summaries"
    signed = desk.server.links.make("/v1/summaries/sum_1/a", {}).target
    async with client_of(desk.server, peer="203.0.113.9") as stranger:
        assert (await stranger.get(signed)).status_code == 404
        forged = Links(SecretStr("other"), 60.0).make("/v1/summaries/sum_1/a", {}).target
        assert error_of(await stranger.get(forged), 403)["code"] == "link_invalid"


async def test_what_a_server_that_is_stopped_had_not_finished_has_failed_and_is_told(desk: Desk) -> None:
    desk.agent.hang = True
    said = {"conversation": [{"role": "user", "text": "Where is my order 4172?"}]}
    jobs = [(await desk.client.post("/v1/summaries", json={"items": [said]})).json() for _ in range(2)]
    await desk.summaries.close()
    events = {
        event["subject"]: event["data"]
        for event in map(json.loads, (each.body for each in desk.hook.requests))
    }
    assert set(events) == {job["id"] for job in jobs}
    for job in jobs:
        now = (await desk.client.get(f"/v1/summaries/{job['id']}")).json()
        assert now["status"] == events[job["id"]]["status"] == "failed"
        assert now["items"][0]["error"] == LOST


async def test_a_batch_of_a_replica_that_died_is_not_pending_for_ever(desk: Desk) -> None:
    job = desk.summaries.new_job([Item("ann", text="All is well.")])
    job.worker = "of one that is gone"
    await desk.store.put(f"summaries:{job.id}", job.dump())
    now = (await desk.client.get(f"/v1/summaries/{job.id}")).json()
    assert (now["status"], now["items"][0]["error"]) == ("failed", LOST)
    assert (await told(desk))["data"]["id"] == job.id

    alive = desk.summaries.new_job([Item("bob", text="All is well.")])
    alive.worker = "another"
    await desk.store.put(f"summaries:{alive.id}", alive.dump())
    await desk.store.put("summaries_worker:another", "1")
    assert (await desk.client.get(f"/v1/summaries/{alive.id}")).json()["status"] == "pending"
