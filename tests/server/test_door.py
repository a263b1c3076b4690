"""The door of a real server on loopback: TLS, proxies, limits, keys that come and go, over HTTP and WebSocket."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import uvicorn
import websockets

from orchestrator.config import Settings
from orchestrator.core.overrides import Tier
from orchestrator.server.app import Orchestrator
from orchestrator.server.door import Door
from orchestrator.server.http import build_api
from orchestrator.server.identity import Scope
from orchestrator.server.key_store import FileKeys, KeyStore, StoredKeys, change_keys
from orchestrator.server.keys import new_key, revoked
from orchestrator.server.sockets import websocket_protocol
from orchestrator.server.store import EmbeddedStore, RedisStore
from tests import planted
from tests.certificates import Pair, make_pair
from tests.server.fleets import until
from tests.server.test_store import RedisServer
from tests.server.test_tokens import ISSUER, Issuer, issuing, token


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "CARTESIA_API_KEY", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)


@dataclass
class Served:
    service: Orchestrator
    url: str
    http: httpx.AsyncClient
    tls: ssl.SSLContext | None

    async def knock(self, query: str = "", **headers: str) -> tuple[int, Any, Any]:
        """The answer to an upgrade: its status, its error's code, Retry-After."""
        url = f"{self.url.replace('http', 'ws', 1)}/v1/realtime?model=gpt-realtime-2.1{query}"
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            async with websockets.connect(
                url, ssl=self.tls, proxy=None, additional_headers=sent
            ) as connection:
                assert orjson.loads(await connection.recv())["type"] == "session.created"
                return 101, None, None
        except websockets.InvalidStatus as error:
            told = orjson.loads(bytes(error.response.body))["error"]
            return error.response.status_code, told["code"], error.response.headers.get("Retry-After")

    async def ask(self, **headers: str) -> tuple[int, Any]:
        """The answer of a path for services: its status, its error's code."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.http.post("/v1/route", json={}, headers=sent)
        return answer.status_code, answer.json().get("error", {}).get("code")


@asynccontextmanager
async def serving(tls: Pair | None = None, **sections: Any) -> AsyncIterator[Served]:
    sections.setdefault("openai", {"api_key": planted.PROVIDER, "base_url": "http://127.0.0.1:9/v1"})
    if tls is not None:
        sections["server"] = {
            **sections.get("server", {}),
            "tls_certificate": tls.certificate,
            "tls_key": tls.key,
        }
    service = Orchestrator(Settings.model_validate(sections))
    await service.door.start()
    service.fleet.set_ready(Tier.B)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    certificate = service.door.certificate
    config = uvicorn.Config(
        build_api(service),
        ws=websocket_protocol(service.on_upgrade, 1 << 20),
        log_level="critical",
        lifespan="off",
        proxy_headers=False,
        ssl_context_factory=None if certificate is None else certificate.context,
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    context = None if tls is None else ssl.create_default_context(cafile=str(tls.certificate))
    url = f"http{'s' if tls else ''}://127.0.0.1:{listener.getsockname()[1]}"
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30, verify=context or True) as client:
        yield Served(service, url, client, context)
    server.should_exit = True
    await task
    await service.door.close()
    await service.store.close()


async def create(store: KeyStore, *scopes: Scope) -> tuple[str, str]:
    key, presented = await change_keys(store, lambda ring: new_key("shop", scopes, time.time()), time.time())
    return key.id, f"Bearer {presented}"


def nothing_kept(folder: Path) -> dict[str, Any]:
    return {"keys_path": folder / "keys.json"}


async def test_http_and_a_call_over_tls(tmp_path: Path) -> None:
    pair = make_pair(tmp_path)
    async with serving(pair, access=nothing_kept(tmp_path)) as served:
        assert (await served.http.get("/healthz")).json() == {"status": "ok"}
        answer = (await served.http.post("/v1/route", json={})).json()
        assert answer["connect"]["url"].startswith(served.url.replace("https", "wss") + "/v1/realtime?")
        assert await served.knock() == (101, None, None)
        async with websockets.connect(answer["connect"]["url"], ssl=served.tls, proxy=None) as connection:
            created = orjson.loads(await connection.recv())
            assert created["type"] == "session.created"
            # More than a TLS record, in both directions.
            long = "x" * 200_000
            update = {"type": "session.update", "session": {"type": "realtime", "instructions": long}}
            await connection.send(json.dumps(update))
            async with asyncio.timeout(10):
                while (told := orjson.loads(await connection.recv()))["type"] != "session.updated":
                    pass
            assert told["session"]["instructions"] == long
        with pytest.raises(httpx.RemoteProtocolError):
            await httpx.AsyncClient(trust_env=False).get(served.url.replace("https", "http"))


async def test_a_renewed_certificate_is_shown_to_those_who_come_next(tmp_path: Path) -> None:
    (tmp_path / "next").mkdir()
    pair, renewed = make_pair(tmp_path), make_pair(tmp_path / "next")
    async with serving(pair, access=nothing_kept(tmp_path)) as served:
        assert (await served.http.get("/healthz")).status_code == 200
        pair.key.write_bytes(renewed.key.read_bytes())
        pair.certificate.write_bytes(renewed.certificate.read_bytes())
        assert served.service.door.certificate is not None
        assert served.service.door.certificate.refresh()
        trusting = ssl.create_default_context(cafile=str(renewed.certificate))
        async with httpx.AsyncClient(base_url=served.url, trust_env=False, verify=trusting) as client:
            assert (await client.get("/healthz")).status_code == 200
        assert (await served.http.get("/healthz")).status_code == 200  # on its old connection


async def test_keys_come_and_go_while_the_server_runs(tmp_path: Path) -> None:
    store = FileKeys(tmp_path / "keys.json")
    async with serving(access=nothing_kept(tmp_path)) as served:
        assert await served.ask() == (200, None)
        assert (await served.knock())[0] == 101
        id, key = await create(store, Scope.SERVICE)
        await until(lambda: served.service.door.keys.ring.used)
        assert await served.ask() == (401, "missing_api_key")
        assert (await served.knock())[:2] == (401, "missing_api_key")
        assert await served.ask(authorization=key) == (200, None)
        assert (await served.knock(authorization=key))[0] == 101
        await change_keys(store, lambda ring: (revoked(ring[id], time.time()), ""), time.time())
        await until(lambda: not next(iter(served.service.door.keys.ring)).works(time.time()))
        assert await served.ask(authorization=key) == (401, "key_revoked")
        assert (await served.knock(authorization=key))[:2] == (401, "key_revoked")
        assert await served.ask() == (401, "missing_api_key")


async def test_replicas_share_keys_through_redis_and_go_on_without_it(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    sections: dict[str, Any] = {"redis": {"url": server.url}}
    store = RedisStore(server.url, 2.0)
    _, key = await create(StoredKeys(store), Scope.SERVICE)
    async with serving(**sections) as one, serving(**sections) as other:
        for served in (one, other):
            assert await served.ask(authorization=key) == (200, None)
        server.stop()
        await until(lambda: bool(one.service.door.troubles()))
        assert await one.ask(authorization=key) == (200, None)
        assert (await one.knock(authorization=key))[0] == 101
        parts = {part["name"]: part for part in (await one.http.get("/readyz")).json()["parts"]}
        assert (parts["keys"]["ready"], parts["keys"]["required"]) == (False, False)
        assert "Redis did not answer" in parts["keys"]["detail"]
        async with serving(**sections) as late:
            assert await late.ask(authorization=key) == (503, "keys_unknown")
            assert await late.knock(authorization=key) == (503, "keys_unknown", "1")
            assert await late.ask() == (503, "keys_unknown")
            answer = await late.http.get("/readyz")
            parts = {part["name"]: part for part in answer.json()["parts"]}
            assert (answer.status_code, parts["keys"]["required"]) == (503, True)
            server.start()
            await create(StoredKeys(store), Scope.SERVICE)
            await until(lambda: late.service.door.keys.known)
            # What was kept in a Redis that keeps nothing is gone; that lets nobody in.
            assert await late.ask(authorization=key) == (401, "invalid_api_key")
            assert await late.ask() == (401, "missing_api_key")
    await store.close()
    server.stop()


async def test_too_many_requests_and_calls_are_told_when_to_come_again(tmp_path: Path) -> None:
    limits = {"key_requests_per_minute": 18, "key_calls_per_minute": 12, "user_calls_per_minute": 6}
    async with serving(access={**nothing_kept(tmp_path), **limits}) as served:
        for _ in range(3):
            assert (await served.http.post("/v1/route", json={})).status_code == 200
        answer = await served.http.post("/v1/route", json={})
        assert (answer.status_code, answer.json()["error"]["type"]) == (429, "rate_limit_error")
        assert answer.json()["error"]["code"] == "rate_limited"
        assert 1 <= int(answer.headers["Retry-After"]) <= 4
        assert (await served.http.get("/healthz")).status_code == 200
        assert (await served.knock("&user=42"))[0] == 101
        status, code, retry_after = await served.knock("&user=42")
        assert (status, code) == (429, "rate_limited")
        assert 1 <= int(retry_after) <= 10
        assert (await served.knock("&user=43"))[0] == 101
        assert (await served.knock("&user=44"))[:2] == (429, "rate_limited")


async def test_what_comes_through_a_proxy_without_keys_is_not_this_machine(tmp_path: Path) -> None:
    async with serving(access=nothing_kept(tmp_path)) as served:
        for header in (
            {"x_forwarded_for": "127.0.0.1"},
            {"forwarded": "for=127.0.0.1"},
            {"x_real_ip": "::1"},
        ):
            assert await served.ask(**header) == (403, "not_local")
            assert (await served.knock(**header))[:2] == (403, "not_local")
        assert await served.ask() == (200, None)


async def test_addresses_are_those_of_the_trusted_proxy_and_of_nobody_else(tmp_path: Path) -> None:
    forwarded = {
        "authorization": f"Bearer {planted.SERVER}",
        "x-forwarded-for": "203.0.113.9",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "voice.example.com",
    }
    access = {**nothing_kept(tmp_path), "trusted_proxies": ("127.0.0.1",)}
    async with serving(access=access, server={"api_key": planted.SERVER}) as served:
        answer = await served.http.post("/v1/route", json={}, headers=forwarded)
        assert answer.json()["connect"]["url"].startswith("wss://voice.example.com/v1/realtime?")
        body = {"user": "42"}
        minted = (await served.http.post("/realtime/session", json=body, headers=forwarded)).json()
        assert minted["connect"]["url"].startswith("wss://voice.example.com/v1/realtime?")
        preview = "/v1/prompts/goodbye/preview"
        shown = (await served.http.post(preview, json={}, headers=forwarded)).json()
        assert shown["url"].startswith("https://voice.example.com/v1/prompts/goodbye?")
        assert await served.ask() == (401, "missing_api_key")
    async with serving(access=nothing_kept(tmp_path), server={"api_key": planted.SERVER}) as served:
        answer = await served.http.post("/v1/route", json={}, headers=forwarded)
        assert answer.json()["connect"]["url"].startswith(served.url.replace("http", "ws") + "/v1/realtime?")


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with issuing() as each:
        yield each


async def test_tokens_open_paths_and_calls_and_name_the_user(issuer: Issuer, tmp_path: Path) -> None:
    access = {
        **nothing_kept(tmp_path),
        "jwt_issuer": ISSUER,
        "jwt_audience": ("voice",),
        "jwt_jwks_url": issuer.url,
    }
    async with serving(access=access) as served:
        # Nobody has waited for the set of keys: the first request does.
        assert await served.ask(authorization=f"Bearer {token()}") == (200, None)
        assert (await served.knock(authorization=f"Bearer {token()}"))[0] == 101
        assert (await served.knock(authorization=f"Bearer {token(exp=1)}"))[:2] == (401, "token_expired")
        assert await served.ask(authorization=f"Bearer {token(scope='x')}") == (403, "scope_missing")
        url = served.url.replace("http", "ws") + "/v1/realtime?model=gpt-realtime-2.1"
        bearer = {"Authorization": f"Bearer {token()}"}
        async with websockets.connect(url, proxy=None, additional_headers=bearer) as connection:
            await connection.recv()
            (call,) = [call for call in served.service.calls() if call["user"]]
            assert (call["user"], call["who"]) == ("user-42", f"jwt:{ISSUER}|user-42")


async def test_what_the_door_shows_of_itself_holds_no_secret(tmp_path: Path) -> None:
    _, key = await create(FileKeys(tmp_path / "keys.json"), Scope.SERVICE)
    settings = Settings.model_validate(
        {"server": {"api_key": planted.SERVER}, "access": nothing_kept(tmp_path)}
    )
    door = Door(settings, EmbeddedStore())
    shown = repr(door) + repr(door.auth) + repr(door.keys) + repr(list(door.keys.ring)) + str(door.troubles())
    assert key.split("_")[-1] not in shown
    assert planted.SERVER not in shown


async def test_nobody_can_come_in_is_said_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, redis: RedisServer
) -> None:
    store = RedisStore(redis.url, 2.0, "bolted:")
    settings = Settings.model_validate({"server": {"host": "0.0.0.0"}, "redis": {"url": redis.url}})
    door = Door(settings, store)
    await door.start()
    assert "nobody can come in yet: there is no key; make one with `orchestrator keys create`" in caplog.text
    await door.close()
    await store.close()
