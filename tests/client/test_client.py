"""The client against a real server: every method, and that its objects are what /openapi.json says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, get_args, get_origin

import httpx
import pytest
from pydantic import BaseModel

from orchestrator.client import (
    AsyncOrchestrator,
    Conflict,
    Event,
    Invalid,
    NotFound,
    Orchestrator,
    Overloaded,
    Refused,
    Unreachable,
    answers,
)
from orchestrator.client.watching import Watch
from orchestrator.core.actions import AskApproval
from orchestrator.core.health import Cause, ProbeKind
from orchestrator.server import http_events
from orchestrator.server.calls import CallInfo
from tests import planted
from tests.client.conftest import KEY, Running

RUNG = "gpt-realtime-2.1"


@pytest.fixture
def orchestrator(server: Running) -> Iterator[Orchestrator]:
    with Orchestrator(server.url, KEY) as orchestrator:
        yield orchestrator


# --- calls ---


def test_route(server: Running, orchestrator: Orchestrator) -> None:
    route = orchestrator.route(user="42", allowed_tools=["refund"], bucket="acme")
    assert (route.tier, route.rung, route.decided_by) == ("A", RUNG, "default")
    assert route.sentence == f"{RUNG} (tier A) is the first choice, and nothing stands against it."
    assert route.connect.url.startswith("ws://127.0.0.1:")
    assert "bucket=acme" in route.connect.url
    server.do(lambda service: service.fleet.failed(RUNG, Cause.REFUSED))
    try:
        route = orchestrator.route()
        assert "its breaker is open since" in route.candidates[0].sentence
        assert {each.change: each.rung for each in route.would_change}["breaker_closes"] == RUNG
    finally:
        server.do(lambda service: service.fleet.succeeded(RUNG, ProbeKind.SESSION))
        for _ in range(3):
            server.do(lambda service: service.fleet.succeeded(RUNG, ProbeKind.RESPONSE))


def test_start_session(orchestrator: Orchestrator) -> None:
    session = orchestrator.start_session(
        user="42",
        allowed_tools=[],
        bucket="acme",
        purpose="support",
        origin="https://app.example.com",
        expires_in_s=60,
        max_s=300,
        cap_usd=0.25,
        lock=["instructions"],
        session={"type": "realtime", "instructions": "Help."},
    )
    assert session.value.startswith("ek_")
    assert session.session["instructions"] == "Help."
    assert (session.tier, session.media, session.not_enforced) == ("A", "through", [])
    assert session.call_id in session.connect.url
    with pytest.raises(Invalid) as raised:
        orchestrator.start_session(expires_in_s=1)
    assert (raised.value.code, raised.value.param) == ("invalid_request", "expires_after.seconds")


def test_estimate(orchestrator: Orchestrator) -> None:
    found = orchestrator.estimate(columns={"call_s": 60}, calls=20, seed=3)
    assert (found.calls, found.seed) == (20, 3)
    assert 0 < found.cost_usd.mean < 5
    assert sum(found.tier_mix.values()) == pytest.approx(1)
    with pytest.raises(Invalid) as raised:
        orchestrator.estimate(columns={"length": 1})
    assert raised.value.param == "columns.length"


# --- speech ---


def test_speak(orchestrator: Orchestrator) -> None:
    variables = {"order_id": "4172", "status": "shipped"}
    spoken = orchestrator.speak("order_status", variables, format="mp3")
    assert spoken.audio.startswith(b"mp3:")
    assert (spoken.media_type, spoken.seconds, spoken.cost_usd) == ("audio/mpeg", 1.25, 0.0000015)
    assert orchestrator.speak("order_status", variables, format="mp3").cache == "hit"
    assert len(spoken) == len(spoken.audio)
    assert "mp3:" not in repr(spoken)
    with pytest.raises(NotFound, match=r"no such\?prompt"):
        orchestrator.speak("no such?prompt")
    with pytest.raises(Invalid):
        orchestrator.speak("order_status", {"order_id": "4172"})


def test_prompt_url(orchestrator: Orchestrator) -> None:
    link = orchestrator.prompt_url(
        "order_status", {"order_id": "4172", "status": "shipped"}, format="pcmu", expires_in_s=60
    )
    assert link.format == "pcmu"
    fetched = httpx.get(link.url, trust_env=False)
    assert fetched.content.startswith(b"pcmu:")


def test_synthesize(orchestrator: Orchestrator) -> None:
    spoken = orchestrator.synthesize("One two three.", format="wav", voice="marin")
    assert spoken.media_type == "audio/wav"
    assert spoken.audio[:4] == b"RIFF"
    streamed = b"".join(orchestrator.synthesize_stream("One two three.", format="wav"))
    assert streamed[44:] == spoken.audio[44:]  # the header of a stream cannot know how long it will be
    pieces = orchestrator.synthesize_stream("Four five six seven.", format="pcm")
    assert sum(map(len, pieces)) == 4 * 24_000
    with pytest.raises(NotFound) as raised:
        orchestrator.synthesize("One.", model="no-such-model")
    assert raised.value.code == "model_not_found"
    with pytest.raises(NotFound):
        next(orchestrator.synthesize_stream("One.", model="no-such-model"))


# --- operations ---


def test_force_and_clear(orchestrator: Orchestrator) -> None:
    made = orchestrator.force("C", scope="user:42", for_="2h", reason="drill", who="ann")
    # Who made it is known from the key; what was typed stands beside it.
    assert (made.tier, made.scope, made.who, made.typed) == ("C", "user:42", "root", "ann")
    assert made.until - made.created == pytest.approx(7200)
    assert orchestrator.overrides() == [made]
    assert orchestrator.status().overrides == [made]
    route = orchestrator.route(user="42")
    assert (route.rung, route.override_id) == ("prompts", made.id)
    orchestrator.clear(made.id)
    assert orchestrator.overrides() == []
    with pytest.raises(NotFound) as raised:
        orchestrator.clear(made.id)
    assert raised.value.code == "unknown_override"
    with pytest.raises(Invalid) as wrong:
        orchestrator.force("C", reason="drill", for_="soon")
    assert wrong.value.param == "for"


def test_status(orchestrator: Orchestrator) -> None:
    status = orchestrator.status()
    assert status.next_call.tier == "A"
    assert {rung.rung for rung in status.rungs} >= {RUNG, "kokoro", "prompts"}
    assert [bucket.bucket for bucket in status.buckets if bucket.cap_usd == 5] == ["acme"]
    # What is not listed in the class is kept.
    assert status.model_extra is not None
    assert "process" in status.model_dump(mode="json")


def test_approvals(server: Running, orchestrator: Orchestrator) -> None:
    given: list[tuple[bool, str, str]] = []
    info = CallInfo("call_1f2e3d", RUNG, user="42")

    def ask(id: str) -> str:
        action = AskApproval(id, "refund", {"amount": 20}, "refund 20 dollars")
        server.do(lambda service: service.approvals.ask(info, action, lambda *answer: given.append(answer)))
        return orchestrator.approvals()[-1].id

    approved = orchestrator.approve(ask("call_a"), who="ann")
    assert (approved.decision, approved.who, approved.arguments) == ("approved", "ann", {"amount": 20})
    rejected = orchestrator.reject(ask("call_b"), who="bob", reason="over the limit")
    assert (rejected.decision, rejected.reason) == ("rejected", "over the limit")
    assert given == [(True, "ann", ""), (False, "bob", "over the limit")]
    with pytest.raises(Conflict):
        orchestrator.approve(approved.id, who="bob")
    assert orchestrator.approvals() == []


def test_a_wrong_key(server: Running) -> None:
    with Orchestrator(server.url, planted.STRANGER) as orchestrator, pytest.raises(Refused) as raised:
        orchestrator.status()
    assert raised.value.status == 401
    assert planted.STRANGER not in str(raised.value)


def test_many_threads_may_share_one(orchestrator: Orchestrator) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(orchestrator.route().tier)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == ["A"] * 8


async def test_the_asynchronous_one(server: Running) -> None:
    async with AsyncOrchestrator(server.url, KEY) as orchestrator:
        made = await orchestrator.force("B", scope="user:7", reason="drill")
        assert (await orchestrator.route(user="7")).tier == "B"
        await orchestrator.clear(made.id)
        assert [piece async for piece in orchestrator.synthesize_stream("One two.", format="pcm")]
        assert (await orchestrator.speak("goodbye")).audio
        assert (await orchestrator.start_session()).value.startswith("ek_")
        with pytest.raises(NotFound):
            await orchestrator.clear(made.id)


# --- events ---


def add(server: Running, type: str, **fields: Any) -> None:
    server.do(lambda service: service.events.add(type, **{"tier": "A", "call_id": "call_1", **fields}))


class Watching:
    """Events of a `watch` in a thread of its own, from when the server knows of it."""

    def __init__(self, server: Running, events: Iterator[Event]) -> None:
        self.found: list[Event] = []
        self.error: Exception | None = None
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(events,), daemon=True)
        self._thread.start()
        until(lambda: bool(server.do(lambda service: len(service.events.followers))))

    def _run(self, events: Iterator[Event]) -> None:
        try:
            for event in events:
                with self._news:
                    self.found.append(event)
                    self._news.notify()
        except Exception as error:
            self.error = error

    def take(self, count: int) -> list[Event]:
        with self._news:
            assert self._news.wait_for(lambda: len(self.found) >= count, 20), self.error
            return self.found

    def ended(self) -> bool:
        self._thread.join(20)
        return not self._thread.is_alive()


def until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(4000):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("what was waited for did not come")


@pytest.fixture
def alone() -> Iterator[Running]:
    """A server of one's own, which may be stopped."""
    running = Running()
    yield running
    if running._thread.is_alive():
        running.stop()


def test_watch(alone: Running) -> None:
    with Orchestrator(alone.url, KEY) as orchestrator:
        watching = Watching(alone, orchestrator.watch(type=["bridge", "caller_said"], call="call_1"))
        add(alone, "state", state="local")
        add(alone, "caller_said", text="my order", item_id="item_1")
        add(alone, "bridge", tier="B", kind="bridge", text="One moment.")
        said, bridge = watching.take(2)
        assert (said.type, said.tier, said.call_id, dict(said.fields)) == (
            "caller_said", "A", "call_1", {"item_id": "item_1"},
        )  # fmt: skip
        assert (bridge.tier, bridge.fields["kind"]) == ("B", "bridge")
        assert bridge.id.endswith("-3")
        assert bridge.time == pytest.approx(alone.service.events.recent[-1]["time"])


def test_watch_goes_on_where_it_was(alone: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_events, "RETRY_MS", 10)
    with Orchestrator(alone.url, KEY) as orchestrator:
        watching = Watching(alone, orchestrator.watch())
        add(alone, "one")
        watching.take(1)
        alone.do(lambda service: service.events.followers[0].end())
        add(alone, "two")
        until(lambda: bool(alone.do(lambda s: [f for f in s.events.followers if not f.ended])))
        add(alone, "three")
        assert [event.type for event in watching.take(3)] == ["one", "two", "three"]


def test_watch_outlives_the_server(alone: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_events, "RETRY_MS", 10)
    with Orchestrator(alone.url, KEY) as orchestrator:
        watching = Watching(alone, orchestrator.watch())
        add(alone, "one")
        watching.take(1)
        alone.stop()
        again = Running(alone.port)
        until(lambda: bool(again.do(lambda service: len(service.events.followers))))
        add(again, "two")
        first, missed, second = watching.take(3)
        assert (first.type, missed.type, missed.fields["count"], second.type) == (
            "one", "events_missed", None, "two",
        )  # fmt: skip
        again.stop()


def test_watch_without_going_on_ends_with_the_stream(alone: Running) -> None:
    with Orchestrator(alone.url, KEY) as orchestrator:
        watching = Watching(alone, orchestrator.watch(reconnect=False))
        alone.do(lambda service: service.events.followers[0].end())
        assert watching.ended()
        assert (watching.found, watching.error) == ([], None)


def test_watch_says_at_once_that_it_cannot(server: Running) -> None:
    with Orchestrator(server.url, planted.STRANGER) as refused, pytest.raises(Refused):
        next(refused.watch())
    with Orchestrator(server.url, KEY) as orchestrator, pytest.raises(Invalid):
        next(orchestrator.watch(tier="D"))
    with Orchestrator("http://127.0.0.1:1", retries=0) as nobody, pytest.raises(Unreachable):
        next(nobody.watch())


def test_a_reader_that_stops_is_gone(alone: Running) -> None:
    with Orchestrator(alone.url, KEY) as orchestrator:
        with closing(orchestrator.watch(last_event_id="other-1")) as events:
            assert next(events).type == "events_missed"
        until(lambda: not alone.do(lambda service: len(service.events.followers)))


async def test_watch_asynchronously(alone: Running) -> None:
    async with AsyncOrchestrator(alone.url, KEY) as orchestrator:
        events = orchestrator.watch(last_event_id="other-1")
        assert (await anext(events)).type == "events_missed"
        add(alone, "state", state="local")
        event = await anext(events)
        assert (event.type, event.fields["state"]) == ("state", "local")
        await events.aclose()


def test_lines_of_a_stream() -> None:
    """As the standard has them: several lines of data, comments, ids without data, fields nobody knows."""
    watch = Watch(call=(), type="a", tier=(), text=True, last_event_id="", reconnect=True)
    assert watch.ask().params == [("type", "a"), ("text", "true")]
    lines = [
        ": ping",
        "retry: 50",
        "id: x-1",
        "",
        'data: {"time": 1, "type": "state",',
        'data:"tier": "A", "call_id": "c", "n": 2}',
        "event: whatever",
        "id: x-2",
        "",
        "id: x-\0",
        "",
        "data",
    ]
    found = [event for line in lines if (event := watch.line(line)) is not None]
    assert found == [Event("x-2", 1.0, "state", "A", "c", {"n": 2})]
    assert watch.last_event_id == "x-2"
    assert watch.ask().headers["Last-Event-ID"] == "x-2"
    assert watch.lost(None) == 0.05
    assert watch.line("data: [1]") is None
    with pytest.raises(Unreachable):
        watch.line("")


def test_waits_grow_and_end_when_it_works_again() -> None:
    watch = Watch(call=(), type=(), tier=(), text=False, last_event_id="", reconnect=True)
    lost = Unreachable("gone")
    with pytest.raises(Unreachable):
        watch.lost(lost)
    watch.began(httpx.Response(200, headers={"content-type": "text/event-stream; charset=utf-8"}))
    assert [watch.lost(lost) for _ in range(5)] == [2.0, 4.0, 8.0, 10.0, 10.0]
    assert watch.lost(Overloaded("full", retry_after_s=3)) == 3
    watch.line("")
    assert watch.lost(lost) == 2.0
    with pytest.raises(Refused):
        watch.lost(Refused("the key was revoked"))


# --- what /openapi.json says ---

SCHEMAS = {
    answers.Route: "RouteAnswer",
    answers.Session: "SessionAnswer",
    answers.PromptLink: "PromptLink",
    answers.Override: "OverrideView",
    answers.Approval: "ApprovalView",
    answers.Status: "Status",
    answers.Estimate: "EstimateAnswer",
}


def compare(kind: type[BaseModel], schema: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Every field of the client's class is promised by the server, whatever else there is."""
    for name, field in kind.model_fields.items():
        assert name in schema["properties"], f"{kind.__name__}.{name} is not in the document"
        assert name in schema["required"], f"{kind.__name__}.{name} may be left out"
        told = schema["properties"][name]
        inner = field.annotation
        if get_origin(inner) is list:
            (inner,) = get_args(inner)
            told = told["items"]
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            compare(inner, schemas[told["$ref"].rpartition("/")[2]], schemas)


@pytest.mark.parametrize("kind", SCHEMAS, ids=lambda kind: kind.__name__)
def test_the_clients_classes_are_what_the_document_says(server: Running, kind: type[BaseModel]) -> None:
    document = httpx.get(f"{server.url}/openapi.json", trust_env=False).json()
    schemas = document["components"]["schemas"]
    compare(kind, schemas[SCHEMAS[kind]], schemas)
