"""Who gets in where: every path as everybody, as docs/access.md says. A path without a line there fails."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jwt
import orjson
import pytest
import pytest_asyncio
import uvicorn
import websockets
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Route

from orchestrator.config import Settings
from orchestrator.core.grants import Grant
from orchestrator.server.app import Orchestrator
from orchestrator.server.http import build_api
from orchestrator.server.identity import Scope
from orchestrator.server.key_store import FileKeys, change_keys
from orchestrator.server.keys import new_key
from orchestrator.server.sockets import websocket_protocol
from tests import planted
from tests.certificates import make_pair
from tests.server.test_http import CatalogueVoice

pytestmark = pytest.mark.asyncio(loop_scope="module")

DOC = Path(__file__).parents[2] / "docs" / "access.md"
SOCKET = "WebSocket"
ISSUER = "https://id.example/"
SCOPES = tuple(str(scope) for scope in Scope)


def documented() -> dict[tuple[str, str], frozenset[str]]:
    """Who gets in, by method and path. "anybody" is everybody, with a key or without."""
    found = {}
    for line in DOC.read_text().splitlines():
        row = re.fullmatch(r"\| (?:`(\w+) (/\S+)`|WebSocket `(/\S+)`) \| (.+?) \|", line)
        if row:
            who = frozenset(re.split(r", (?:or )?", row[4])) - {"a signed address"}
            key = (row[1] or SOCKET, row[2] or row[3])
            assert key not in found, f"{key} is there twice"
            assert who <= {"anybody", "credential", *SCOPES}, line
            found[key] = who
    return found


TABLE = documented()


@dataclass
class Place:
    url: str
    bearers: dict[str, str | None]
    """What each kind of client presents."""
    api: FastAPI
    client: httpx.AsyncClient


class _WithPrompts:
    """A service whose prompts are words instead of a voice."""

    def __init__(self, service: Orchestrator) -> None:
        self._service, self.prompts = service, CatalogueVoice()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)


async def make_bearers(service: Orchestrator, folder: Path, private: bytes) -> dict[str, str | None]:
    async def key(name: str, *scopes: Scope) -> str:
        now = time.time()
        store = FileKeys(folder / "keys.json")
        return (await change_keys(store, lambda ring: new_key(name, scopes, now), now))[1]

    def token(**claims: Any) -> str:
        usual = {"iss": ISSUER, "aud": "voice", "sub": "42", "exp": int(time.time()) + 600}
        return jwt.encode({**usual, **claims}, private, "ES256")

    found: dict[str, str | None] = {str(scope): await key(f"only {scope}", scope) for scope in Scope}
    found |= {f"token {scope}": token(scope=str(scope)) for scope in Scope}
    expires_at = int(time.time()) + 600
    return found | {
        "nobody": None,
        "wrong": planted.STRANGER,
        "wrong key": "vo_00000000_" + "A" * 43,
        "wrong token": token(aud="mail"),
        "token without scopes": token(scope="openid"),
        "service+metrics": await key("two", Scope.SERVICE, Scope.METRICS),
        "root": planted.SERVER,
        "metrics_key": planted.METRICS,
        "credential": service.credentials.mint(Grant("call_1", user="42"), None, expires_at),
        "changed credential": service.credentials.mint(Grant("call_2"), None, expires_at)[:-6] + "AAAAAA",
    }


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Place]:
    pair = make_pair(folder)
    settings = Settings.model_validate(
        {
            "openai": {"api_key": planted.PROVIDER, "base_url": "http://127.0.0.1:9/v1"},
            "server": {"api_key": planted.SERVER},
            "access": {
                "keys_path": folder / "keys.json",
                "metrics_key": planted.METRICS,
                "jwt_issuer": ISSUER,
                "jwt_audience": ("voice",),
                "jwt_key_path": pair.public,
            },
        }
    )
    service = Orchestrator(settings)
    bearers = await make_bearers(service, folder, pair.key.read_bytes())
    await service.door.keys.refresh()
    api = build_api(_WithPrompts(service))
    listener = socket.create_server(("127.0.0.1", 0))
    # asyncio does not turn this on for sockets that it did not make: every answer would come 40 ms late.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    protocol = websocket_protocol(service.on_upgrade, 1 << 20)
    config = uvicorn.Config(api, ws=protocol, log_level="critical", lifespan="off", proxy_headers=False)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:
        yield Place(url, bearers, api, client)
    server.should_exit = True
    await task


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "CARTESIA_API_KEY", "REDIS_URL"):
            patch.delenv(name, raising=False)
        async with serving(tmp_path_factory.mktemp("access")) as found:
            yield found


def expected(who: str, allowed: frozenset[str]) -> str | None:
    """The code that this client sees; None is let in."""
    if "anybody" in allowed:
        return None
    match who:
        case "nobody":
            return "missing_api_key"
        case "wrong" | "wrong key":
            return "invalid_api_key"
        case "wrong token":
            return "token_wrong_audience"
        case "changed credential":
            return "credential_invalid"
        case "credential":
            return None if "credential" in allowed else "credential_for_one_call"
        case "root":
            return None
        case "token without scopes":
            return "scope_missing"
    held = set(who.removeprefix("token ").removesuffix("_key").split("+"))
    return None if held & allowed else "scope_missing"


STATUSES = {"scope_missing": 403, "credential_for_one_call": 403}


def paths_of(api: FastAPI) -> set[tuple[str, str]]:
    """Method and path of all that is answered; what answers HEAD answers GET, and to the same people."""
    there = {(SOCKET, "/v1/realtime")}
    for route in api.routes:
        assert isinstance(route, Route | APIRoute), route
        there |= {(method, plain(route.path)) for method in route.methods or ()}
    described = api.openapi()["paths"]
    assert {(m.upper(), path) for path, methods in described.items() for m in methods} <= there
    return there - {("HEAD", path) for method, path in there if method == "GET"}


async def test_every_path_has_a_line_and_every_line_a_path(place: Place) -> None:
    assert paths_of(place.api) == set(TABLE)


async def test_a_path_without_a_line_would_be_seen() -> None:
    api = FastAPI()
    api.add_api_route("/v1/new/{id:path}", lambda: None, methods=["POST"])
    assert ("POST", "/v1/new/{id}") in paths_of(api) - set(TABLE)
    api.mount("/behind", FastAPI())
    with pytest.raises(AssertionError):
        paths_of(api)


@pytest.mark.parametrize("key", [key for key in TABLE if key[0] != SOCKET], ids=" ".join)
async def test_who_gets_in(place: Place, key: tuple[str, str]) -> None:
    method, path = key
    # A body that is not as it should be: whoever gets in is told so, and nothing happens.
    content = b"[]" if method in ("POST", "PUT", "PATCH") else None
    seen: dict[str, str | None] = {}
    for asked in [method, *(["HEAD"] if method == "GET" and ("HEAD", path) in heads(place.api) else [])]:
        for who, bearer in place.bearers.items():
            headers = {"Content-Type": "application/json"} if content else {}
            headers |= {"Authorization": f"Bearer {bearer}"} if bearer else {}
            async with place.client.stream(
                asked, re.sub(r"{\w+}", "nothing", path), content=content, headers=headers
            ) as answer:
                code = await code_of(answer, asked)
            wanted = expected(who, TABLE[key])
            if asked == "HEAD":
                assert (answer.status_code in (401, 403)) is (wanted is not None), (who, asked)
                continue
            seen[who] = code
            if wanted is not None:
                assert answer.status_code == STATUSES.get(wanted, 401), (who, code)
                if answer.status_code == 401:
                    assert answer.headers["WWW-Authenticate"] == "Bearer"
            else:
                assert answer.status_code not in (401, 403), (who, code)
    refused = {who: code if expected(who, TABLE[key]) else None for who, code in seen.items()}
    assert refused == {who: expected(who, TABLE[key]) for who in place.bearers}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_who_gets_a_prompt_that_is_in_memory(place: Place, method: str) -> None:
    """It is answered ahead of the paths."""
    address, root = "/v1/prompts/goodbye", {"Authorization": f"Bearer {place.bearers['root']}"}
    body = {"json": {}} if method == "POST" else {}
    assert (await place.client.post(address, json={}, headers=root)).status_code == 200
    for who, bearer in place.bearers.items():
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        answer = await place.client.request(method, address, headers=headers, **body)
        wanted = expected(who, TABLE["POST", "/v1/prompts/{name}"])
        assert answer.status_code == (200 if wanted is None else STATUSES.get(wanted, 401)), who
        assert answer.headers.get("X-Cache") == (None if wanted else "hit"), who


def heads(api: FastAPI) -> set[tuple[str, str]]:
    return {
        ("HEAD", plain(r.path))
        for r in api.routes
        if isinstance(r, Route | APIRoute) and "HEAD" in (r.methods or ())
    }


def plain(path: str) -> str:
    """Of ``{id:path}`` the name alone."""
    return re.sub(r"{(\w+):\w+}", r"{\1}", path)


async def code_of(answer: httpx.Response, method: str) -> str | None:
    """Only an error is read: what streams never ends."""
    if answer.status_code < 400 or method == "HEAD":
        return None
    await answer.aread()
    error: dict[str, Any] = answer.json().get("error", {})
    return error.get("code")


async def test_who_gets_into_a_call(place: Place) -> None:
    allowed = TABLE[SOCKET, "/v1/realtime"]
    url = place.url.replace("http", "ws", 1) + "/v1/realtime?model=gpt-realtime-2.1"
    for who, bearer in place.bearers.items():
        # Twice: with the header, and as browsers do it.
        ways: list[dict[str, Any]] = [{}]
        if bearer:
            offered = ["realtime", f"openai-insecure-api-key.{bearer}"]
            ways = [{"additional_headers": {"Authorization": f"Bearer {bearer}"}}, {"subprotocols": offered}]
        for way in ways:
            told = await knock(url, way)
            wanted = expected(who, allowed)
            if wanted is None:
                assert told == (101, "realtime" if "subprotocols" in way else None), who
            else:
                assert told == (STATUSES.get(wanted, 401), wanted), who


async def knock(url: str, way: dict[str, Any]) -> tuple[int, str | None]:
    """The answer to an upgrade: its status, and the subprotocol or what was wrong."""
    try:
        async with websockets.connect(url, proxy=None, **way) as connection:
            return 101, connection.subprotocol
    except websockets.InvalidStatus as error:
        told = orjson.loads(bytes(error.response.body))["error"]
        return error.response.status_code, told["code"]


async def test_the_table_knows_all_scopes() -> None:
    assert {"anybody", "credential", *SCOPES} == frozenset().union(*TABLE.values())
