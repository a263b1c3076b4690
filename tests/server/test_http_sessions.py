"""The session broker over HTTP: what is granted, what is refused by name, what a provider is told for direct media."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, BadRequestError, PermissionDeniedError

from orchestrator.config import Settings
from orchestrator.core.grants import Grant
from orchestrator.core.health import BreakerState
from orchestrator.core.overrides import Tier
from orchestrator.server.app import Orchestrator
from orchestrator.server.auth import Refusal
from orchestrator.server.http import build_api
from orchestrator.server.identity import LOCAL, Identity
from orchestrator.server.session_models import SessionBody
from tests import planted, planted_check
from tests.server.test_http import error_of
from tests.simulate.conftest import Start
from tests.simulate.conftest import start as start  # the fixture
from tests.simulate.simulated import Bench

MODEL = "gpt-realtime-2.1"
PATHS = ("/realtime/session", "/v1/realtime/session")
ORDER_TOOL = {"kind": "read_only", "url": "http://127.0.0.1:9/x"}
LOOK_UP = {"type": "function", "name": "look_up", "parameters": {"type": "object", "properties": {}}}
SETTINGS: dict[str, Any] = {
    "openai": {"api_key": planted.PROVIDER},
    "budget": {"buckets": {"acme": {"usd_per_day": 5}, "broke": {"usd_per_day": 0}}},
    "tools": {"get_order_status": ORDER_TOOL, "refund": {**ORDER_TOOL, "purposes": ["support"]}},
    "credentials": {"secret": planted.CREDENTIALS},
    "business_events": {"sinks": []},
}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "CARTESIA_API_KEY", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)


def make_service(**sections: Any) -> Orchestrator:
    service = Orchestrator(Settings.model_validate({**SETTINGS, **sections}))
    for tier in (Tier.B, Tier.C):
        service.fleet.set_ready(tier)
    return service


def client_of(service: Orchestrator, **options: Any) -> httpx.AsyncClient:
    transport = planted_check.transport(build_api(service), client=("127.0.0.1", 5000))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080", **options)


@pytest.fixture
def service() -> Orchestrator:
    return make_service()


@pytest.fixture
async def client(service: Orchestrator) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(service) as client:
        yield client


def opened(service: Orchestrator, value: str, origin: str | None = None) -> Grant:
    found = service.credentials.open(value, origin)
    assert isinstance(found, Identity)
    assert found.grant is not None
    return found.grant


async def test_a_service_gets_a_way_into_one_call(service: Orchestrator, client: httpx.AsyncClient) -> None:
    for path in PATHS:
        response = await client.post(
            path,
            json={
                "user": "maria",
                "allowed_tools": ["get_order_status", "look_up"],
                "bucket": "acme",
                "purpose": "support",
                "origin": "https://App.example.com/",
                "expires_after": {"anchor": "created_at", "seconds": 60},
                "max_s": 300,
                "cap_usd": 0.25,
                "session": {
                    "instructions": "Help.",
                    "tools": [LOOK_UP],
                    "audio": {"output": {"voice": "cedar"}},
                },
            },
        )
        assert response.status_code == 200, response.text
        assert response.headers["cache-control"] == "no-store"
        answer = response.json()
        call_id = answer["call_id"]
        assert 55 < answer["expires_at"] - time.time() <= 60
        assert (answer["tier"], answer["rung"]) == ("A", MODEL)
        assert (answer["reason"], answer["decided_by"]) == ("default", "default")
        assert (answer["media"], answer["not_enforced"]) == ("through", [])
        assert answer["connect"] == {
            "kind": "realtime",
            "method": "GET",
            "url": f"ws://127.0.0.1:8080/v1/realtime?model={MODEL}&call_id={call_id}",
        }
        session = answer["session"]
        assert (session["object"], session["type"], session["model"]) == (
            "realtime.session",
            "realtime",
            MODEL,
        )
        assert (session["instructions"], session["tools"]) == ("Help.", [LOOK_UP])
        assert session["audio"]["output"]["voice"] == "cedar"
        assert session["audio"]["output"]["format"] == {"type": "audio/pcm", "rate": 24000}
        assert session["orchestrator"]["call_id"] == call_id
        assert opened(service, answer["value"], "https://app.example.com") == Grant(
            call_id,
            user="maria",
            purpose="support",
            bucket="acme",
            model=MODEL,
            tools=("get_order_status", "look_up"),
            session={"instructions": "Help.", "tools": [LOOK_UP], "audio": {"output": {"voice": "cedar"}}},
            locked=frozenset({"instructions", "tools"}),
            cap=250_000_000,
            max_s=300.0,
        )


async def test_nothing_needs_to_be_said(service: Orchestrator, client: httpx.AsyncClient) -> None:
    answer = (await client.post(PATHS[0], json={})).json()
    assert 595 < answer["expires_at"] - time.time() <= 600
    assert opened(service, answer["value"]) == Grant(answer["call_id"], model=MODEL)


@pytest.mark.parametrize(
    ("body", "locked"),
    [
        ({"session": {"instructions": "x", "model": "m", "tool_choice": "auto"}}, {"instructions", "model"}),
        ({"allowed_tools": []}, {"tools"}),
        ({"session": {"instructions": "x"}, "lock": []}, set()),
        ({"session": {"instructions": "x"}, "lock": ["audio.output", "tools"]}, {"audio.output", "tools"}),
    ],
)
async def test_what_was_given_is_locked_unless_it_is_said_otherwise(
    service: Orchestrator, client: httpx.AsyncClient, body: Any, locked: set[str]
) -> None:
    answer = (await client.post(PATHS[0], json=body)).json()
    assert opened(service, answer["value"]).locked == locked


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"bucket": "nobody"}, "bucket", "no bucket 'nobody'; there are default, acme, broke"),
        ({"allowed_tools": ["refund"]}, "allowed_tools", "have no refund; they have get_order_status"),
        ({"allowed_tools": ["a b"]}, "allowed_tools.0", "match pattern"),
        (
            {"allowed_tools": [], "session": {"tools": [LOOK_UP]}},
            "allowed_tools",
            "session.tools has look_up, which allowed_tools leaves out",
        ),
        ({"session": {"voice": "cedar"}}, "session.voice", "the GA name is session.audio.output.voice"),
        ({"session": {"type": "transcription"}}, "session.type", "must be 'realtime'"),
        ({"session": {"instructions": 3}}, "session.instructions", "got 3"),
        (
            {"session": {"instruction": "x"}},
            "session.instruction",
            "there is no such field; there are audio.input",
        ),
        ({"session": {"audio": {"output": {"voices": "x"}}}}, "session.audio.output.voices", "no such field"),
        ({"session": {"audio": {"both": {}}}}, "session.audio.both", "no such field"),
        (
            {"session": {"tools": [{"name": "look_up"}]}},
            "session.tools.0.type",
            "must be 'function' or 'mcp'",
        ),
        ({"session": {"tools": [{"type": "function"}]}}, "session.tools.0.name", "needs a name"),
        ({"session": {"audio": {"output": {"speed": 9}}}}, "session.audio.output.speed", "0.25 to 1.5"),
        (
            {"session": {"audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": "0.5"}}}}},
            "session",
            "not of the kind that belongs there",
        ),
        ({"session": {"instructions": "\ud800"}}, "session", "UTF-8"),
        (
            {"session": {"truncation": {"type": "retention_ratio", "retention_ratio": float("nan")}}},
            "session",
            "JSON",
        ),
        ({"max_s": float("inf")}, "max_s", "finite number"),
        ({"session": []}, "session", "dictionary"),
        ({"transport": "webrtc"}, "transport", "expected 'websocket'"),
        ({"media": "sideways"}, "media", "'through' or 'direct'"),
        ({"origin": "app.example.com"}, "origin", "expected a web origin like"),
        ({"origin": "https://app.example.com/page"}, "origin", "expected a web origin like"),
        ({"origin": "https://app.example.com:x"}, "origin", "expected a web origin like"),
        ({"origin": "http://[1:2:3]:80"}, "origin", "expected a web origin like"),
        ({"origin": "http://[::1::2]"}, "origin", "expected a web origin like"),
        ({"expires_after": {"seconds": 9}}, "expires_after.seconds", "greater than or equal to 10"),
        ({"expires_after": {"seconds": 7201}}, "expires_after.seconds", "less than or equal to 7200"),
        (
            {"expires_after": {"anchor": "now", "seconds": 60}},
            "expires_after.anchor",
            "expected 'created_at'",
        ),
        ({"max_s": 0}, "max_s", "greater than 0"),
        ({"cap_usd": -1}, "cap_usd", "greater than or equal to 0"),
        ({"lock": ["everything"]}, "lock.0", "expected one of audio, audio.input"),
        ({"purpose": ""}, "purpose", "at least 1 character"),
        ({"users": "maria"}, "users", "there is no such field"),
    ],
)
async def test_each_wrong_thing_is_named(
    client: httpx.AsyncClient, body: dict[str, Any], param: str, words: str
) -> None:
    response = await client.post(
        PATHS[0], content=json.dumps(body), headers={"content-type": "application/json"}
    )
    error = error_of(response, 422)
    assert error["param"] == param
    assert words in error["message"]


async def test_what_does_not_fit_into_a_credential_is_refused(client: httpx.AsyncClient) -> None:
    words = " ".join(f"{n * 7919 % 100_003}" for n in range(4_000))
    error = error_of(await client.post(PATHS[0], json={"session": {"instructions": words}}), 422)
    assert error["code"] == "credential_too_large"
    assert "6000 is the most" in error["message"]


async def test_tools_that_are_left_open_may_come_from_the_client(
    service: Orchestrator, client: httpx.AsyncClient
) -> None:
    body = {"allowed_tools": ["get_order_status", "its_own"], "lock": []}
    answer = (await client.post(PATHS[0], json=body)).json()
    assert opened(service, answer["value"]).tools == ("get_order_status", "its_own")


async def test_settings_say_what_clients_may_bring() -> None:
    service = make_service(tool_policy={"client_tools": ["other"]})
    async with client_of(service) as client:
        error = error_of(await client.post(PATHS[0], json={"session": {"tools": [LOOK_UP]}}), 422)
        assert "the settings let clients bring other, and not look_up" in error["message"]
        answer = await client.post(PATHS[0], json={"allowed_tools": ["look_up"], "lock": []})
        assert error_of(answer, 422)["code"] == "unknown_tool"


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("https://[2001:DB8:0:0:0:0:0:1]/", "https://[2001:db8::1]"),
        ("http://[2001:db8:1:2::5]", "http://[2001:db8:1:2::5]"),
        ("http://[fd00::1:2:3:4]:8080", "http://[fd00::1:2:3:4]:8080"),
    ],
)
async def test_an_origin_may_be_an_ipv6_address(
    service: Orchestrator, client: httpx.AsyncClient, given: str, sent: str
) -> None:
    """As browsers send it, whichever way a service writes it."""
    answer = await client.post(PATHS[0], json={"origin": given})
    assert answer.status_code == 200, answer.text
    opened(service, answer.json()["value"], sent)
    assert isinstance(service.credentials.open(answer.json()["value"], "http://[::2]"), Refusal)


async def test_an_origin_that_this_server_keeps_out_gets_no_credential() -> None:
    service = make_service(server={"api_key": planted.SERVER, "allowed_origins": ["https://app.example.com"]})
    async with client_of(service, headers={"authorization": f"Bearer {planted.SERVER}"}) as client:
        error = error_of(await client.post(PATHS[0], json={"origin": "https://other.example.com"}), 422)
        assert (error["code"], error["param"]) == ("origin_not_allowed", "origin")
        assert (await client.post(PATHS[0], json={"origin": "https://app.example.com"})).status_code == 200


async def test_a_call_that_gets_no_model_says_so(client: httpx.AsyncClient) -> None:
    one_way = (await client.post(PATHS[0], json={"purpose": "notification"})).json()
    assert (one_way["tier"], one_way["reason"]) == ("C", "one_way_purpose")
    assert one_way["decided_by"] == "policy"
    assert "one-way" in one_way["sentence"] or "notification" in one_way["sentence"]
    broke = (await client.post(PATHS[0], json={"bucket": "broke"})).json()
    assert (broke["tier"], broke["reason"], broke["decided_by"]) == ("B", "budget_spent", "hard_cap")
    assert "broke" in broke["sentence"]
    no_money = (await client.post(PATHS[0], json={"cap_usd": 0})).json()
    assert (no_money["tier"], no_money["reason"]) == ("B", "budget_spent")


async def test_nothing_ready_is_no_credential(service: Orchestrator) -> None:
    bare = make_service(openai={"api_key": None})
    bare.fleet.set_missing(Tier.B)
    bare.fleet.set_missing(Tier.C)
    async with client_of(bare) as client:
        for path in (*PATHS, "/v1/realtime/client_secrets"):
            assert error_of(await client.post(path, json={}), 503)["code"] == "nothing_ready"


async def test_the_user_is_the_askers_own_unless_it_is_said(service: Orchestrator) -> None:
    asker = replace(LOCAL, id="jwt:issuer|maria", user="maria")
    assert (await service.broker.mint(SessionBody(), asker)).grant.user == "maria"
    assert (await service.broker.mint(SessionBody(user="otto"), asker)).grant.user == "otto"
    assert (await service.broker.mint(SessionBody(user=""), asker)).grant.user == ""


async def test_minting_is_written_down_without_the_credential(
    service: Orchestrator, client: httpx.AsyncClient
) -> None:
    body = {"user": "maria", "session": {"instructions": "rosebud"}}
    answer = (await client.post(PATHS[0], json=body)).json()
    (row,) = [row for row in service.events.recent if row["type"] == "session_minted"]
    assert (row["call_id"], row["by"], row["user"]) == (answer["call_id"], "local", "maria")
    assert (row["tier"], row["rung"], row["media"]) == ("A", MODEL, "through")
    assert answer["value"] not in json.dumps(row)
    assert "rosebud" not in json.dumps(row)


async def test_a_used_credential_tried_again_costs_its_maker_no_calls() -> None:
    service = make_service(access={"key_calls_per_minute": 6, "burst_s": 10})
    until = int(time.time()) + 60

    def knock(call_id: str) -> int:
        value = service.credentials.mint(Grant(call_id), None, until, by="jwt:issuer|shop")
        headers = {"authorization": f"Bearer {value}"}
        request: Any = SimpleNamespace(headers=headers, path=b"/v1/realtime")
        return int(service.on_upgrade(request, ("127.0.0.1", 5000)).response.status)

    await service.credentials.spend("call_used", until)
    assert [knock("call_used") for _ in range(5)] == [101] * 5
    assert [knock(f"call_{n}") for n in range(3)] == [101, 429, 429]
    await service.direct.close()


# --- OpenAI's own shape ---


async def test_stock_sdks_mint_here(service: Orchestrator) -> None:
    async with client_of(service) as http:
        sdk = AsyncOpenAI(api_key="any", base_url="http://127.0.0.1:8080/v1", http_client=http)
        secret = await sdk.realtime.client_secrets.create(
            expires_after={"anchor": "created_at", "seconds": 30},
            session={"type": "realtime", "model": "gpt-realtime", "instructions": "Help."},
        )
        assert 25 < secret.expires_at - time.time() <= 30
        assert (secret.session.type, secret.session.object) == ("realtime", "realtime.session")
        grant = opened(service, secret.value)
        assert (grant.model, grant.session) == ("gpt-realtime", {"instructions": "Help."})
        assert grant.locked == {"model", "instructions"}
        assert (await sdk.realtime.client_secrets.create()).session.type == "realtime"
        with pytest.raises(BadRequestError, match=r"session.type must be 'realtime'"):
            await sdk.realtime.client_secrets.create(session={"type": "transcription"})
        with pytest.raises(BadRequestError, match=r"expires_after.seconds"):
            await sdk.realtime.client_secrets.create(expires_after={"seconds": 1})
        with pytest.raises(BadRequestError, match=r"there is no such field"):
            await sdk.realtime.client_secrets.create(extra_body={"user": "maria"})
        # What it is for it opens, and nothing else: it mints no other.
        stolen = AsyncOpenAI(api_key=secret.value, base_url="http://127.0.0.1:8080/v1", http_client=http)
        with pytest.raises(PermissionDeniedError, match="opens one call at /v1/realtime and nothing else"):
            await stolen.realtime.client_secrets.create()


async def test_no_body_at_all_is_fine(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/realtime/client_secrets")).status_code == 200


# --- direct media ---


async def direct(start: Start, **options: Any) -> tuple[Orchestrator, Bench]:
    provider = await start(api_key=planted.PROVIDER, **options)
    service = make_service(
        openai={"api_key": planted.PROVIDER, "base_url": f"{provider.origin}/v1"},
        credentials={"direct": True, "direct_timeout_s": 1.0},
        tier_a={"max_output_tokens": 1000},
    )
    return service, provider


async def test_direct_media_is_off_unless_it_is_switched_on(client: httpx.AsyncClient) -> None:
    error = error_of(await client.post(PATHS[0], json={"media": "direct"}), 403)
    assert (error["code"], error["param"]) == ("direct_not_allowed", "media")
    assert "credentials.direct" in error["message"]


async def test_direct_media_is_a_secret_of_the_provider_with_its_price(start: Start) -> None:
    service, provider = await direct(start)
    body = {
        "media": "direct",
        "user": "maria",
        "bucket": "acme",
        "allowed_tools": ["get_order_status", "look_up"],
        "expires_after": {"seconds": 30},
        "session": {"instructions": "Help.", "tools": [LOOK_UP]},
    }
    async with client_of(service) as client:
        answer = (await client.post(PATHS[0], json=body)).json()
    assert answer["connect"]["url"] == provider.url
    assert answer["media"] == "direct"
    assert 25 < answer["expires_at"] - time.time() <= 30
    told = provider.simulator.secrets.made[answer["value"]].session
    assert told == {
        "type": "realtime",
        "model": MODEL,
        "instructions": "Help.",
        "tools": [LOOK_UP],
        "max_output_tokens": 1000,
    }
    assert answer["session"]["instructions"] == "Help."
    lost = {row["what"]: row["sentence"] for row in answer["not_enforced"]}
    assert lost.keys() == {"session", "tools", "budget", "duration", "fallback", "single_use", "operators"}
    assert "instructions, tools" in lost["session"]
    assert "get_order_status" in lost["tools"]
    assert "'acme'" in lost["budget"]
    assert str(answer["expires_at"]) in lost["single_use"]
    assert planted.PROVIDER not in json.dumps(answer)
    await service.direct.close()


@pytest.mark.parametrize(
    ("fault", "status", "code", "cause"),
    [
        ("http_401", 502, "provider_refused_key", "bad_key"),
        ("http_403", 502, "provider_refused_key", "bad_key"),
        ("http_429", 503, "provider_rate_limited", "rate_limited"),
        ("late_refusal_1013", 502, "provider_no_credit", "no_credit"),
        ("http_5xx", 502, "provider_failed", "refused"),
        ("http_404", 502, "provider_has_no_secrets", None),
        ("refused", 502, "provider_unreachable", "refused"),
        ("hang", 504, "provider_timeout", "connect_timeout"),
    ],
)
async def test_a_provider_that_gives_no_secret_is_explained_and_its_breaker_told(
    start: Start, fault: str, status: int, code: str, cause: str | None
) -> None:
    service, provider = await direct(start)
    provider.arm(fault)
    async with client_of(service) as client:
        error = error_of(await client.post(PATHS[0], json={"media": "direct"}), status)
        assert error["code"] == code
        assert planted.PROVIDER not in error["message"]
        breaker = service.fleet.breakers[MODEL]
        assert (breaker.cause.id if breaker.cause else None) == cause
        # One request too many, or an address that makes no secrets, keeps nobody from calling.
        harmless = fault in ("http_429", "http_404")
        assert breaker.state is (BreakerState.CLOSED if harmless else BreakerState.OPEN)
        if breaker.state is not BreakerState.CLOSED:
            # The next one is told where the call would go instead, without asking the provider.
            error = error_of(await client.post(PATHS[0], json={"media": "direct"}), 409)
            assert error["code"] == "no_provider"
            assert "Tier B" in error["message"]
    await service.direct.close()


async def test_the_next_rung_is_asked_where_one_fails(start: Start) -> None:
    provider = await start(models=("spare-model",))
    service = make_service(
        openai={"api_key": planted.PROVIDER, "base_url": f"{provider.origin}/v1"},
        credentials={"direct": True},
        tier_a={"rungs": [MODEL, "spare"], "rung": {"spare": {"model": "spare-model"}}},
        prices={"spare-model": {"audio_in": 1, "audio_out": 1, "text_in": 1, "text_out": 1}},
    )
    async with client_of(service) as client:
        answer = (await client.post(PATHS[0], json={"media": "direct"})).json()
    assert answer["rung"] == "spare"
    assert answer["connect"]["url"].endswith("?model=spare-model")
    assert service.fleet.breakers[MODEL].state is BreakerState.OPEN
    await service.direct.close()


async def test_a_session_that_the_provider_refuses_is_the_askers_fault(start: Start) -> None:
    service, _ = await direct(start)
    body = {"media": "direct", "session": {"audio": {"output": {"voice": "bob"}}}}
    async with client_of(service) as client:
        error = error_of(await client.post(PATHS[0], json=body), 422)
    assert error["code"] == "provider_refused_session"
    assert "Invalid value: 'bob'" in error["message"]
    assert service.fleet.breakers[MODEL].state is BreakerState.CLOSED
    await service.direct.close()
