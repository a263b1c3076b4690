"""The HTTP API, over ASGI, with a real fleet and a real catalogue."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from orchestrator.config import Settings
from orchestrator.config_sections import Guardrails as GuardrailSettings
from orchestrator.core.health import Cause, ProbeKind
from orchestrator.core.latency import Lately, Limits
from orchestrator.core.overrides import Tier
from orchestrator.core.redaction import Redactor
from orchestrator.server import http
from orchestrator.server.approvals import Approvals
from orchestrator.server.audit import Audit
from orchestrator.server.audit_trails import FileTrail
from orchestrator.server.business_events import BusinessEvents
from orchestrator.server.call_records import CallRecords
from orchestrator.server.calls import CallInfo
from orchestrator.server.door import Door
from orchestrator.server.drills import Drills
from orchestrator.server.events import EventLog
from orchestrator.server.fleet import Fleet
from orchestrator.server.guardrails import Guardrails
from orchestrator.server.history import History
from orchestrator.server.http import Part, build_api
from orchestrator.server.http_files import tag_of
from orchestrator.server.links import Links
from orchestrator.server.metrics import Metrics
from orchestrator.server.prompt_files import Asked, Preview, SpokenFile
from orchestrator.server.recording import Recorder, State
from orchestrator.server.speaking import Speaking
from orchestrator.server.store import EmbeddedStore
from orchestrator.server.tally import Tally
from tests import planted, planted_check
from tiers.prompts.catalogue import Catalogue


class CatalogueVoice:
    """The real catalogue with its real errors; instead of a voice, the words themselves as bytes."""

    def __init__(self) -> None:
        self.catalogue = Catalogue.load()
        self.said: set[tuple[str, str]] = set()
        self.broken = False

    async def speak_file(self, asked: Asked) -> SpokenFile:
        line = self.catalogue.fill(asked.name, asked.variables, asked.language)
        if self.broken:
            raise RuntimeError("secret engine detail")
        cached = await self.quick_file(asked)
        self.said.add((line.text, asked.voice))
        audio = f"{asked.form}:{line.text}".encode()
        return cached or SpokenFile(line.text, audio, tag_of(audio), "miss", 1.25, 1500)

    async def quick_file(self, asked: Asked) -> SpokenFile | None:
        line = self.catalogue.fill(asked.name, asked.variables, asked.language)
        if self.broken or (line.text, asked.voice) not in self.said:
            return None
        audio = f"{asked.form}:{line.text}".encode()
        return SpokenFile(line.text, audio, tag_of(audio), "hit", 1.25)

    async def worst(self, asked: Asked) -> int:
        return 0 if await self.quick_file(asked) else 2000

    async def preview(self, asked: Asked) -> Preview:
        line = self.catalogue.fill(asked.name, asked.variables, asked.language)
        return Preview(line.language, line.text, line.spoken, asked.voice or "marin", False, 1500)


@dataclass
class Server:
    settings: Settings
    fleet: Fleet
    prompts: CatalogueVoice | None = field(default_factory=CatalogueVoice)
    parts: list[Part] = field(default_factory=lambda: [Part("store", True)])
    in_progress: list[dict[str, Any]] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    speaking: Speaking | None = None
    records: CallRecords = field(default_factory=lambda: CallRecords(10))
    replica_history: History = field(default_factory=lambda: History(time.time()))
    links: Links = field(default_factory=lambda: Links(None, 300.0))
    summaries: Any = field(default_factory=lambda: SimpleNamespace(outlets=[]))
    audit: Audit = field(default_factory=lambda: Audit(FileTrail(Path("never-started"))))
    drills: Drills = field(default_factory=lambda: Drills(EmbeddedStore()))
    approvals: Approvals = field(default_factory=lambda: Approvals(EmbeddedStore(), 60.0))
    business: BusinessEvents = field(default_factory=lambda: BusinessEvents("r1", []))
    guardrails: Guardrails = field(default_factory=lambda: Guardrails(GuardrailSettings()))
    events: EventLog = field(default_factory=lambda: EventLog(None))
    redactor: Redactor = field(default_factory=Redactor)
    lately: Lately = field(default_factory=lambda: Lately(Limits()))

    def __post_init__(self) -> None:
        self.door = Door(self.settings)
        self.metrics = Metrics(self.settings)

    @cached_property
    def recorder(self) -> Recorder:
        return Recorder(self.settings.recording, self.events, self.redactor)

    def set_recording_consent(self, call_id: str, consent: bool, who: str) -> tuple[State, str] | None:
        return None

    def stop_recording(self, call_id: str) -> bool:
        return self.recorder.stop_recording(call_id)

    def clip_counts(self) -> Mapping[str, int]:
        return {}

    def calls(self) -> Sequence[Mapping[str, Any]]:
        return self.in_progress

    def readiness(self) -> Sequence[Part]:
        return self.parts


def make_server(**sections: Any) -> Server:
    sections.setdefault("openai", {"api_key": planted.PROVIDER})
    settings = Settings(**sections)
    fleet = Fleet.from_settings(EmbeddedStore(), settings)
    for tier in (Tier.B, Tier.C):
        fleet.set_ready(tier)
    return Server(settings, fleet)


def client_of(server: Server, peer: str = "127.0.0.1", **options: Any) -> httpx.AsyncClient:
    transport = planted_check.transport(build_api(server), raise_app_exceptions=False, client=(peer, 5000))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080", **options)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "CARTESIA_API_KEY", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = make_server(budget={"buckets": {"acme": {"usd_per_day": 5}}})
    await server.fleet.start()
    yield server
    await server.fleet.close()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(server) as client:
        yield client


def error_of(response: httpx.Response, status: int) -> dict[str, Any]:
    """The error, checked to be in the API's one shape."""
    assert response.status_code == status, response.text
    assert response.json().keys() == {"error"}
    error: dict[str, Any] = response.json()["error"]
    assert error.keys() == {"type", "message", "code", "param"}
    return error


async def test_status_without_calls() -> None:
    server = make_server()
    server.in_progress = [{"not": "looked at"}]
    async with client_of(server) as client:
        status = (await client.get("/v1/status?calls=false")).json()
    assert (status["calls"], status["process"]["calls"]) == ([], 1)


async def test_healthz(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok"}


async def test_readyz_says_what_is_missing(server: Server, client: httpx.AsyncClient) -> None:
    assert (await client.get("/readyz")).status_code == 200
    server.parts.append(Part("redis", False, "away since 12:00", required=False))
    assert (await client.get("/readyz")).status_code == 200
    server.parts.append(Part("speech", False, "loading kokoro", remedy="wait"))
    response = await client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["ready"] is False
    assert {
        "name": "speech",
        "ready": False,
        "required": True,
        "detail": "loading kokoro",
        "remedy": "wait",
    } in response.json()["parts"]


async def test_route_names_the_tier_the_reason_and_where_to_connect(client: httpx.AsyncClient) -> None:
    answer = (await client.post("/v1/route", json={"user": "42", "allowed_tools": ["refund"]})).json()
    assert (answer["tier"], answer["rung"]) == ("A", "gpt-realtime-2.1")
    assert (answer["reason"], answer["decided_by"]) == ("default", "default")
    assert answer["allowed_tools"] == ["refund"]
    assert answer["usd_per_minute"] == pytest.approx(0.04800 + 0.0045 / 2)
    assert answer["connect"] == {
        "kind": "realtime",
        "method": "GET",
        "url": "ws://127.0.0.1:8080/v1/realtime?model=gpt-realtime-2.1&user=42&tools=refund",
    }
    assert [c["passed_over"] for c in answer["candidates"]] == ["not_preferred", "not_preferred"]


async def test_route_sends_a_notification_to_the_prompts(client: httpx.AsyncClient) -> None:
    answer = (await client.post("/v1/route", json={"purpose": "queue_update"})).json()
    assert (answer["tier"], answer["reason"], answer["decided_by"]) == ("C", "one_way_purpose", "policy")
    assert answer["connect"] == {
        "kind": "prompt",
        "method": "POST",
        "url": "http://127.0.0.1:8080/v1/prompts/{name}",
    }


async def test_route_follows_health_and_money(server: Server, client: httpx.AsyncClient) -> None:
    server.fleet.failed("gpt-realtime-2.1", Cause.REFUSED)
    answer = (await client.post("/v1/route", json={})).json()
    assert (answer["tier"], answer["reason"], answer["decided_by"]) == ("B", "breaker_open", "health")
    assert answer["candidates"][0]["detail"] == "refused"
    # A call in Tier B is still a WebSocket to us.
    assert answer["connect"]["kind"] == "realtime"

    server.fleet.succeeded("gpt-realtime-2.1", ProbeKind.SESSION)
    for _ in range(3):
        server.fleet.succeeded("gpt-realtime-2.1", ProbeKind.RESPONSE)
    server.fleet.ledgers.spend("acme", 5_000_000_000)
    answer = (await client.post("/v1/route", json={"bucket": "acme"})).json()
    assert (answer["tier"], answer["reason"], answer["decided_by"]) == ("B", "budget_spent", "hard_cap")
    assert (await client.post("/v1/route", json={})).json()["tier"] == "A"


async def test_route_without_any_tier_is_an_error(server: Server, client: httpx.AsyncClient) -> None:
    for tier in Tier:
        server.fleet.set_missing(tier)
    error = error_of(await client.post("/v1/route", json={}), 503)
    assert error["code"] == "nothing_ready"
    assert "/readyz" in error["message"]


async def test_a_prompt_is_audio_with_its_cost(client: httpx.AsyncClient) -> None:
    body = {"variables": {"position": 2, "minutes": 5}}
    first = await client.post("/v1/prompts/queue_update", json=body)
    assert first.status_code == 200, first.text
    assert first.headers["content-type"] == "audio/wav"
    assert first.content.startswith(b"wav:")
    assert (first.headers["x-cache"], first.headers["x-cost-usd"]) == ("miss", "0.000001500")
    assert first.headers["x-audio-seconds"] == "1.250"
    again = await client.post("/v1/prompts/queue_update", json=body)
    assert (again.headers["x-cache"], again.headers["x-cost-usd"]) == ("hit", "0.000000000")


@pytest.mark.parametrize(
    ("form", "media"),
    [("pcm", "audio/pcm;rate=24000"), ("pcmu", "audio/pcmu"), ("pcma", "audio/pcma"), ("wav", "audio/wav")],
)
async def test_a_prompt_comes_in_the_format_asked_for(
    client: httpx.AsyncClient, form: str, media: str
) -> None:
    response = await client.post(f"/v1/prompts/goodbye?format={form}", json={})
    assert response.headers["content-type"] == media
    assert response.content.startswith(form.encode() + b":")


async def test_every_bad_variable_is_named(client: httpx.AsyncClient) -> None:
    body = {"variables": {"position": "second", "colour": "red"}}
    error = error_of(await client.post("/v1/prompts/queue_update", json=body), 422)
    assert error["code"] == "invalid_variables"
    assert error["type"] == "invalid_request_error"
    for name in ("position", "minutes", "colour"):
        assert name in error["message"]
        assert f"variables.{name}" in error["param"]
    assert error["message"].endswith("correct them under `variables`")


async def test_prompt_errors(server: Server, client: httpx.AsyncClient) -> None:
    error = error_of(await client.post("/v1/prompts/nonsense", json={}), 404)
    assert error["code"] == "unknown_prompt"
    assert "goodbye" in error["message"]

    error = error_of(await client.post("/v1/prompts/goodbye?format=mp5", json={}), 422)
    assert error["param"] == "format"
    assert "wav" in error["message"]

    error = error_of(await client.post("/v1/prompts/goodbye", json={"variable": {}}), 422)
    assert error["param"] == "variable"
    assert "no such field" in error["message"]

    assert server.prompts is not None
    server.prompts.broken = True
    error = error_of(await client.post("/v1/prompts/goodbye", json={}), 503)
    assert error["code"] == "speech_unavailable"
    assert "secret engine detail" not in error["message"]

    server.prompts = None
    error = error_of(await client.post("/v1/prompts/goodbye", json={}), 503)
    assert error["code"] == "prompts_not_ready"


async def test_overrides_are_made_listed_and_cleared(client: httpx.AsyncClient) -> None:
    began = time.time()
    made = await client.post(
        "/v1/overrides",
        json={"tier": "c", "scope": "user:42", "for": "15m", "reason": "complaint", "who": "ann"},
    )
    assert made.status_code == 201, made.text
    override = made.json()
    assert (override["tier"], override["scope"], override["typed"]) == ("C", "user:42", "ann")
    assert (override["who"], override["name"]) == ("local", "this machine"), "known from the connection"
    assert 899 <= override["until"] - began <= 901
    assert (await client.get("/v1/overrides")).json() == {"overrides": [override]}

    answer = (await client.post("/v1/route", json={"user": "42"})).json()
    assert (answer["tier"], answer["reason"], answer["decided_by"]) == ("C", "override", "override")
    assert answer["override_id"] == override["id"]
    assert (await client.post("/v1/route", json={"user": "43"})).json()["tier"] == "A"

    assert (await client.delete(f"/v1/overrides/{override['id']}")).status_code == 204
    assert (await client.post("/v1/route", json={"user": "42"})).json()["tier"] == "A"
    error = error_of(await client.delete(f"/v1/overrides/{override['id']}"), 404)
    assert error["code"] == "unknown_override"


async def test_an_override_is_extended_and_says_what_it_is(client: httpx.AsyncClient) -> None:
    body = {"tier": "B", "limit": "ceiling", "share": 20, "when": "now", "for": "15m", "reason": "incident"}
    made = (await client.post("/v1/overrides", json=body)).json()
    assert (made["limit"], made["share"], made["when"], made["rung"]) == ("ceiling", 20, "now", "")
    path = f"/v1/overrides/{made['id']}"
    extended = await client.patch(path, json={"for": "1h", "reason": "still there"})
    assert extended.status_code == 200
    assert 2690 <= extended.json()["until"] - made["until"] <= 2710
    assert error_of(await client.patch(path, json={"for": "soon"}), 422)["param"] == "for"
    assert (
        error_of(await client.patch("/v1/overrides/x", json={"for": "1h"}), 404)["code"] == "unknown_override"
    )


async def test_an_override_that_counts_for_nothing_stands_in_the_answer(client: httpx.AsyncClient) -> None:
    for tier, limit in (("C", "force"), ("A", "floor")):
        body = {"tier": tier, "limit": limit, "for": "15m", "reason": "incident"}
        made = (await client.post("/v1/overrides", json=body)).json()
    answer = (await client.post("/v1/route", json={})).json()
    assert (answer["tier"], answer["decided_by"]) == ("A", "default"), "the newest counts first"
    (aside,) = answer["set_aside"]
    assert (aside["why"], aside["by"]) == ("contradicted", made["id"])


@pytest.mark.parametrize(
    ("change", "param", "teaches"),
    [
        ({"limit": "roof"}, "limit", "force, ceiling, floor"),
        ({"when": "soon"}, "when", "next_turn, now"),
        ({"share": 0}, "share", "up to 100 per cent"),
        ({"tier": "A/none"}, "tier", "has no rung"),
        ({"tier": "D"}, "tier", "A, B or C"),
        ({"scope": "usr:42"}, "scope", "user:ID"),
        ({"for": "soon"}, "for", "15m"),
        ({"for": "31d"}, "for", "30d"),
        ({"reason": " "}, "reason", "needs a reason"),
    ],
)
async def test_a_wrong_override_teaches(
    client: httpx.AsyncClient, change: dict[str, object], param: str, teaches: str
) -> None:
    body = {"tier": "C", "scope": "all", "for": "15m", "reason": "drill"} | change
    error = error_of(await client.post("/v1/overrides", json=body), 422)
    assert (error["code"], error["param"]) == ("invalid_override", param)
    assert teaches in error["message"]


async def test_an_override_without_a_name_has_that_of_its_key() -> None:
    server = make_server(server={"api_key": planted.SERVER})
    async with client_of(server, headers={"Authorization": f"Bearer {planted.SERVER}"}) as client:
        made = await client.post("/v1/overrides", json={"tier": "C", "reason": "drill", "who": " "})
    assert [made.json()[name] for name in ("who", "name", "typed")] == ["root", "server.api_key", ""]
    assert server.fleet.overrides[0].by == "server.api_key"


async def test_keys_that_people_type_are_not_kept(server: Server, client: httpx.AsyncClient) -> None:
    typed = {"reason": f"not with {planted.PROVIDER}", "who": f"ann vo_0a1b2c3d_{'x' * 43}"}
    for path, order in (("/v1/overrides", {"tier": "C"}), ("/v1/drills", {"practice": "degrade"})):
        made = (await client.post(path, json={**order, **typed})).json()
        assert (made["reason"], made["typed"]) == ("not with [redacted]", "ann [redacted]")


async def test_status_tells_the_whole_view(server: Server, client: httpx.AsyncClient) -> None:
    server.fleet.failed("gpt-realtime-2.1", Cause.NO_CREDIT)
    server.fleet.failed("cartesia", Cause.REFUSED)
    server.fleet.ledgers.spend("acme", 1_250_000_000)
    call = {
        "call_id": "call_1",
        "tier": "B",
        "rung": "kokoro",
        "reason": "breaker_open",
        "state": "local",
        "user": "42",
        "purpose": "conversation",
        "bucket": "acme",
        "who": "key_1f2e3d4c",
        "started_at": 1.0,
        "spent_usd": 0.01,
        "reserved_usd": 0.5,
        "cap_usd": 2.0,
        "budget_step": None,
    }
    server.in_progress.append(call)
    before = time.time()
    status = (await client.get("/v1/status")).json()
    rungs = {rung["rung"]: rung for rung in status["rungs"]}
    broken = rungs["gpt-realtime-2.1"]
    assert (broken["tier"], broken["breaker"], broken["cause"]) == ("A", "open", "no_credit")
    assert before - 5 < broken["last_failure_at"] < time.time() + 1
    assert broken["next_probe_at"] > broken["last_failure_at"]
    assert rungs["cartesia"]["tier"] is None
    assert (rungs["kokoro"]["breaker"], rungs["kokoro"]["paid"]) == ("closed", False)
    assert status["next_call"]["tier"] == "B"
    assert status["buckets"] == [{"bucket": "acme", "spent_usd": 1.25, "reserved_usd": 0.0, "cap_usd": 5.0}]
    assert status["calls"] == [call]
    assert (status["store"]["kind"], status["store"]["connected"]) == ("embedded", True)


async def test_status_tells_what_the_process_holds(client: httpx.AsyncClient, server: Server) -> None:
    async def look() -> dict[str, Any]:
        process: dict[str, Any] = (await client.get("/v1/status")).json()["process"]
        return process

    before = await look()
    waiting = [asyncio.create_task(asyncio.Event().wait()) for _ in range(3)]
    with socket.socket(), socket.socket():
        after = await look()
    for task in waiting:
        task.cancel()
    assert (before["calls"], after["calls"]) == (0, 0)
    assert after["tasks"] - before["tasks"] == 3
    if http.PROC.exists():
        assert after["open_files"] - before["open_files"] == 2
        assert 10_000_000 < after["rss_bytes"] < 100_000_000_000


async def test_status_goes_without_what_the_system_does_not_tell(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(http, "PROC", tmp_path / "nowhere")
    process = (await client.get("/v1/status")).json()["process"]
    assert (process["rss_bytes"], process["open_files"]) == (None, None)
    assert process["tasks"] > 0


async def test_status_shows_a_rung_on_trial_and_route_what_a_call_would_get(
    server: Server, client: httpx.AsyncClient
) -> None:
    server.fleet.failed("gpt-realtime-2.1", Cause.REFUSED)
    server.fleet.succeeded("gpt-realtime-2.1", ProbeKind.SESSION)
    rung = (await client.get("/v1/status")).json()["rungs"][0]
    assert (rung["breaker"], rung["cause"]) == ("canary", "refused")
    for _ in range(2):  # asking takes no canary's turn
        assert (await client.post("/v1/route", json={"call_id": "call_1"})).json()["tier"] == "A"
    server.fleet.started("gpt-realtime-2.1")
    answer = (await client.post("/v1/route", json={"call_id": "call_1"})).json()
    assert (answer["tier"], answer["candidates"][0]["passed_over"]) == ("B", "breaker_open")
    assert (await client.post("/v1/route", json={"call_id": "call_20"})).json()["tier"] == "A"


async def test_a_key_guards_everything_but_health() -> None:
    server = make_server(server={"api_key": SecretStr(planted.SERVER)})
    async with client_of(server, peer="203.0.113.9") as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        for method, path in (
            ("POST", "/v1/route"),
            ("GET", "/v1/status"),
            ("GET", "/v1/overrides"),
            ("POST", "/v1/overrides"),
            ("DELETE", "/v1/overrides/x"),
            ("POST", "/v1/prompts/goodbye"),
        ):
            response = await client.request(method, path)
            assert error_of(response, 401)["code"] == "missing_api_key"
            assert response.headers["www-authenticate"] == "Bearer"
        bearer = {"Authorization": f"Bearer {planted.SERVER}"}
        assert (await client.get("/v1/status", headers=bearer)).status_code == 200


async def test_without_a_key_only_this_machine_is_served() -> None:
    server = make_server()
    async with client_of(server, peer="192.168.1.4") as client:
        assert error_of(await client.get("/v1/status"), 403)["code"] == "not_local"
    async with client_of(server) as client:
        response = await client.get("/v1/status", headers={"Origin": "https://evil.example"})
        assert error_of(response, 403)["code"] == "origin_not_allowed"


async def test_wrong_requests_say_what_to_do(client: httpx.AsyncClient) -> None:
    assert "/openapi.json" in error_of(await client.get("/v2/route"), 404)["message"]
    assert "use POST" in error_of(await client.get("/v1/route"), 405)["message"]
    as_json = {"Content-Type": "application/json"}
    error = error_of(await client.post("/v1/route", content=b"{nope", headers=as_json), 422)
    assert "not valid JSON" in error["message"]
    error = error_of(await client.post("/v1/route", content=b"{}"), 422)
    assert "Content-Type: application/json" in error["message"]
    error = error_of(await client.post("/v1/route", json={"transport": "pigeon", "purpse": "x"}), 422)
    assert "transport: expected 'websocket' or 'http'" in error["message"]
    assert "purpse: there is no such field" in error["message"]
    assert "/openapi.json" in error["message"]


async def test_a_fault_of_ours_keeps_its_details(server: Server, client: httpx.AsyncClient) -> None:
    server.in_progress.append({"call_id": "incomplete"})
    error = error_of(await client.get("/v1/status"), 500)
    assert (error["type"], error["code"]) == ("server_error", "internal_error")
    assert "incomplete" not in error["message"]


async def test_pages_of_allowed_origins_may_ask() -> None:
    server = make_server(
        server={"api_key": SecretStr(planted.SERVER), "allowed_origins": ("https://app.example.com",)}
    )
    preflight = {
        "Origin": "https://app.example.com",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    async with client_of(server) as client:
        response = await client.options("/v1/route", headers=preflight)
        assert response.headers["access-control-allow-origin"] == "https://app.example.com"
        refused = await client.options("/v1/route", headers=preflight | {"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in refused.headers


async def test_openapi_is_true(client: httpx.AsyncClient) -> None:
    """Every path with its methods, and for each the error shape that it really answers with."""
    document = (await client.get("/openapi.json")).json()
    assert set(document["paths"]) == {
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/route",
        "/v1/status",
        "/v1/estimate",
        "/v1/prompts",
        "/v1/prompts/{name}",
        "/v1/prompts/{name}/preview",
        "/v1/audio/speech",
        "/v1/audio/voices",
        "/v1/models",
        "/v1/models/{id}",
        "/v1/summaries",
        "/v1/summaries/{id}",
        "/v1/summaries/{id}/{item}",
        "/v1/overrides",
        "/v1/overrides/{id}",
        "/v1/drills",
        "/v1/drills/{id}",
        "/v1/approvals",
        "/v1/approvals/{id}",
        "/v1/events",
        "/v1/history",
        "/v1/audit",
        "/v1/calls",
        "/v1/calls/{id}",
        "/v1/calls/{id}/recording",
        "/v1/calls/{id}/recording/timeline",
        "/realtime/session",
        "/v1/realtime/session",
        "/v1/realtime/client_secrets",
    }
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for status, response in operation["responses"].items() if method != "head" else ():
                if status.startswith(("4", "5")) and path != "/readyz" and status != "416":
                    schema = response["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/ErrorBody"}
    spoken = document["paths"]["/v1/prompts/{name}"]["post"]["responses"]["200"]
    assert {"audio/wav", "audio/mpeg", "audio/pcm;rate=24000", "audio/pcmu"} < set(spoken["content"])
    assert set(spoken["headers"]) == {"X-Cost-USD", "X-Cache", "X-Audio-Seconds", "ETag"}


async def test_status_tells_what_guardrails_answered(server: Server, client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/status")).json()["guardrails"] == []
    hook = {"entry_point": "json:dumps", "on_failure": "veto"}  # which gives no verdict
    server.guardrails = Guardrails(GuardrailSettings.model_validate({"heard": hook}))
    await server.guardrails.heard(CallInfo("call_1", "m", started_at=0.0), "hello")
    [found] = (await client.get("/v1/status")).json()["guardrails"]
    counts = {"hook": "heard", "allowed": 0, "rewritten": 0, "vetoed": 1, "failed": 1}
    assert found.items() >= counts.items()
    assert found["mean_ms"] == found["longest_ms"] >= 0
    await server.guardrails.close()
