"""Credentials against the real server: calls of stock SDKs and raw sockets, and every way in which one can be wrong."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import SecretStr
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from orchestrator.core.grants import Grant
from orchestrator.server.credentials import Credentials
from orchestrator.server.store import EmbeddedStore
from tests import planted
from tests.e2e.conftest import running_redis
from tests.e2e.stack import AUDIO, Engines, Running, Stack, stack, start

KEY = planted.SERVER
PAGE = "https://app.example.com"
PATIENCE = 30.0
SECRET = planted.CREDENTIALS
BROWSER_KEY = "openai-insecure-api-key."


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, tier_b: Engines, own_redis: str) -> Iterator[Stack]:
    """A service whose callers need a key or a credential, with a Redis."""
    settings = {
        **tier_b.settings,
        "server__api_key": KEY,
        "redis__url": own_redis,
        "redis__timeout_s": "2",
        "credentials__secret": SECRET,
        "credentials__direct": "true",
    }
    provider = ("--speech", "tone", "--answer-seconds", "1", "--first-audio-ms", "50")
    with stack(tmp_path_factory.mktemp("sessions"), *provider, **settings) as running:
        yield running


def mint(service: Stack, path: str = "/realtime/session", key: str = KEY, **body: Any) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {key}"}
    answer = httpx.post(service.service.url + path, json=body, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def ask(
    service: Stack, method: str, path: str, key: str = KEY, body: dict[str, Any] | None = None
) -> tuple[int, Any]:
    headers = {"authorization": f"Bearer {key}"}
    answer = httpx.request(method, service.service.url + path, json=body, headers=headers, timeout=30)
    return answer.status_code, answer.json()


def call_of(service: Stack, answer: dict[str, Any]) -> dict[str, Any]:
    """The call that a credential opened, as operators see it."""
    calls = ask(service, "GET", "/v1/status")[1]["calls"]
    (call,) = [call for call in calls if call["call_id"] == answer["call_id"]]
    return dict(call)


@asynccontextmanager
async def dial(url: str, value: str, origin: str | None = None) -> AsyncIterator[ClientConnection]:
    """As a browser connects: the credential is a subprotocol, and nothing else is added to the address."""
    offered = [Subprotocol("realtime"), Subprotocol(BROWSER_KEY + value)]
    async with connect(url, subprotocols=offered, origin=origin, max_size=None) as socket:  # type: ignore[arg-type]
        yield socket


async def until(socket: ClientConnection, kind: str) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE):
        while True:
            event = json.loads(await socket.recv())
            if event["type"] == kind:
                return dict(event)


async def take_turn(socket: ClientConnection) -> tuple[float, dict[str, Any]]:
    """A turn in text; how many seconds of audio came for it, and the response."""
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello?"}]}
    await socket.send(json.dumps({"type": "conversation.item.create", "item": item}))
    await socket.send(json.dumps({"type": "response.create"}))
    heard = 0
    async with asyncio.timeout(PATIENCE):
        while True:
            event = json.loads(await socket.recv())
            if event["type"] == "response.output_audio.delta":
                heard += len(base64.b64decode(event["delta"]))
            if event["type"] == "response.done":
                return heard / 48_000, event["response"]


async def refused(url: str, value: str, origin: str | None = None) -> tuple[int, str]:
    """The upgrade is refused: with this status, and this code in the API's shape."""
    with pytest.raises(InvalidStatus) as error:
        async with dial(url, value, origin):
            pass
    answer = error.value.response
    told = json.loads(answer.body or b"")["error"]
    assert value not in str(told)
    return answer.status_code, told["code"]


async def told_and_closed(url: str, value: str) -> tuple[str, int, str]:
    """The connection opens, its first event is an error with this code, and it is closed."""
    async with dial(url, value) as socket:
        event = json.loads(await socket.recv())
        assert event["type"] == "error"
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    return event["error"]["code"], closed.value.rcvd.code, closed.value.rcvd.reason


async def test_a_credential_opens_its_call_with_all_that_was_granted(service: Stack) -> None:
    answer = mint(
        service,
        user="maria",
        bucket="default",
        purpose="support",
        cap_usd=0.5,
        session={"instructions": "Speak of ships.", "audio": {"output": {"voice": "cedar"}}},
    )
    async with dial(answer["connect"]["url"], answer["value"]) as socket:
        assert socket.subprotocol == "realtime"
        session = (await until(socket, "session.created"))["session"]
        assert session["orchestrator"]["call_id"] == answer["call_id"]
        assert session["orchestrator"]["tier"] == answer["tier"] == "A"
        seconds, response = await take_turn(socket)
        assert response["status"] == "completed"
        assert seconds > 0.5
        call = call_of(service, answer)
        assert (call["user"], call["purpose"], call["cap_usd"]) == ("maria", "support", 0.5)


@pytest.mark.parametrize("sync", [True, False])
async def test_the_sdk_mints_and_the_sdk_connects(service: Stack, sync: bool) -> None:
    base = service.service.url + "/v1"
    session: Any = {"type": "realtime", "model": "gpt-realtime", "instructions": "Speak of ships."}
    if sync:
        minting = OpenAI(api_key=KEY, base_url=base)
        secret = await asyncio.to_thread(minting.realtime.client_secrets.create, session=session)
    else:
        secret = await AsyncOpenAI(api_key=KEY, base_url=base).realtime.client_secrets.create(session=session)
    sdk = AsyncOpenAI(api_key=secret.value, base_url=base)
    async with sdk.realtime.connect(model="gpt-realtime") as connection:
        kinds = []
        await connection.conversation.item.create(
            item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello?"}]}
        )
        await connection.response.create()
        async with asyncio.timeout(PATIENCE):
            async for event in connection:
                kinds.append(event.type)
                if event.type == "response.done":
                    assert event.response.status == "completed"
                    break
        assert kinds[0] == "session.created"
        assert "response.output_audio.delta" in kinds
        assert "error" not in kinds


async def test_what_was_said_before_the_store_has_answered_is_not_lost(service: Stack) -> None:
    """Frames right behind the upgrade: nobody waits for session.created."""
    answer = mint(service, session={"output_modalities": ["text"]})
    async with dial(answer["connect"]["url"], answer["value"]) as socket:
        for n in range(20):
            item = {
                "id": f"item_{n}",
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": str(n)}],
            }
            await socket.send(json.dumps({"type": "conversation.item.create", "item": item}))
        added = [(await until(socket, "conversation.item.added"))["item"]["id"] for _ in range(20)]
        assert added == [f"item_{n}" for n in range(20)]


@pytest.mark.parametrize("by_header", [True, False])
async def test_the_longest_one_travels_in_a_header(service: Stack, by_header: bool) -> None:
    numbers = " ".join(str(n * 7919 % 100_003) for n in range(1_280))
    answer = mint(service, session={"instructions": numbers})
    url, value = answer["connect"]["url"], answer["value"]
    assert 5_000 < len(value) <= 6_000
    if by_header:
        async with connect(url, additional_headers={"authorization": f"Bearer {value}"}) as socket:
            session = (await until(socket, "session.created"))["session"]
    else:
        async with dial(url, value) as socket:
            session = (await until(socket, "session.created"))["session"]
    assert session["instructions"] == numbers


VENV = Path(os.environ.get("CLIENTS_VENV", Path(__file__).parents[2] / ".venv-clients")) / "bin" / "python"


@pytest.mark.skipif(not VENV.exists(), reason="make clients")
async def test_the_agents_sdk_takes_a_turn_with_one(service: Stack) -> None:
    """It sets instructions and tools of its own, which are locked here, and goes on."""
    value = mint(service, allowed_tools=[], session={"instructions": "Speak of ships."})["value"]
    script = Path(__file__).parents[1] / "clients" / "agents_sdk.py"
    options = ["--url", f"{service.service.ws}/v1/realtime", "--api-key", value, "--timeout", "60"]
    wav = ["--wav", str(AUDIO / "austen-0880.wav"), "audio_turn"]
    process = await asyncio.create_subprocess_exec(
        str(VENV), str(script), *options, *wav, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    report = json.loads(out)
    assert report["ok"], report


async def test_it_works_once(service: Stack) -> None:
    answer = mint(service)
    url, value = answer["connect"]["url"], answer["value"]
    async with dial(url, value) as socket:
        await until(socket, "session.created")
        again = "credential_used", 3000, "invalid_request_error.credential_used"
        assert await told_and_closed(url, value) == again
        # The call that it opened goes on.
        assert (await take_turn(socket))[1]["status"] == "completed"
    assert await told_and_closed(url, value) == again


async def test_of_many_at_once_one_call_begins(service: Stack) -> None:
    answer = mint(service)

    async def first_event() -> str:
        async with dial(answer["connect"]["url"], answer["value"]) as socket:
            event = json.loads(await socket.recv())
            return str(event["type"])

    kinds = await asyncio.gather(*(first_event() for _ in range(8)))
    assert sorted(kinds) == ["error"] * 7 + ["session.created"]


async def test_an_expired_one_is_refused(service: Stack) -> None:
    # Ten seconds are the least that may be asked for, and no test sleeps so long: it is sealed as the server does it.
    value = Credentials(SecretStr(SECRET), EmbeddedStore()).mint(Grant("call_1"), None, 1_700_000_000)
    assert await refused(service.realtime, value) == (401, "credential_expired")
    status, told = ask(service, "GET", "/v1/models", value)
    assert (status, told["error"]["code"]) == (401, "credential_expired")


@pytest.mark.parametrize("origin", [None, "https://evil.example.com"])
async def test_one_of_another_page_is_refused(service: Stack, origin: str | None) -> None:
    answer = mint(service, origin=PAGE)
    url, value = answer["connect"]["url"], answer["value"]
    assert await refused(url, value, origin) == (403, "origin_not_allowed")
    # Whoever tried that has not used it up.
    async with dial(url, value, PAGE) as socket:
        await until(socket, "session.created")


async def test_a_tampered_one_and_one_of_another_secret_are_refused(service: Stack) -> None:
    answer = mint(service)
    url, value = answer["connect"]["url"], answer["value"]
    changed = value[:-10] + ("A" if value[-10] != "A" else "B") + value[-9:]
    assert await refused(url, changed) == (401, "credential_invalid")
    assert await refused(url, "ek_" + "A" * 200) == (401, "credential_invalid")
    async with dial(url, value) as socket:
        await until(socket, "session.created")


async def test_one_of_another_call_is_refused(service: Stack) -> None:
    one, other = mint(service), mint(service)
    assert await refused(one["connect"]["url"], other["value"]) == (403, "credential_wrong_call")
    for answer in (one, other):
        async with dial(answer["connect"]["url"], answer["value"]) as socket:
            session = (await until(socket, "session.created"))["session"]
            assert session["orchestrator"]["call_id"] == answer["call_id"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/realtime/session"),
        ("POST", "/v1/realtime/client_secrets"),
        ("POST", "/v1/route"),
        ("GET", "/v1/status"),
        ("POST", "/v1/overrides"),
        ("POST", "/v1/audio/speech"),
        ("GET", "/v1/prompts"),
    ],
)
async def test_it_opens_nothing_but_its_call(service: Stack, method: str, path: str) -> None:
    value = mint(service)["value"]
    status, told = ask(service, method, path, value, {})
    assert (status, told["error"]["code"]) == (403, "credential_for_one_call")


async def test_the_address_grants_nothing(service: Stack) -> None:
    """Whoever holds a credential cannot choose another user, bucket, purpose or tools by the address."""
    answer = mint(service, user="maria", allowed_tools=[])
    url = answer["connect"]["url"] + "&user=otto&bucket=other&purpose=vip&tools=x&model=other"
    async with dial(url, answer["value"]) as socket:
        session = (await until(socket, "session.created"))["session"]
        assert session["model"] == answer["session"]["model"]
        call = call_of(service, answer)
        assert (call["user"], call["bucket"], call["purpose"]) == ("maria", "default", "conversation")


async def test_a_fallback_is_part_of_a_granted_call(service: Stack) -> None:
    answer = mint(service, user="rescued")
    forced = {"tier": "B", "scope": f"call:{answer['call_id']}", "for": "1m", "reason": "test"}
    assert ask(service, "POST", "/v1/overrides", body=forced)[0] == 201
    async with dial(answer["connect"]["url"], answer["value"]) as socket:
        session = (await until(socket, "session.created"))["session"]
        assert session["orchestrator"]["tier"] == "B"
        assert (await take_turn(socket))[1]["metadata"]["tier"] == "B"


async def test_direct_media_passes_this_server_by(service: Stack) -> None:
    answer = mint(service, media="direct", session={"instructions": "Speak of ships."})
    assert answer["connect"]["url"].startswith(service.provider.ws)
    assert "fallback" in [row["what"] for row in answer["not_enforced"]]
    for _ in range(2):  # it is not ours to say that it opens one session only
        async with dial(answer["connect"]["url"], answer["value"]) as socket:
            session = (await until(socket, "session.created"))["session"]
            assert session["instructions"] == "Speak of ships."
            assert (await take_turn(socket))[1]["status"] == "completed"


def test_no_credential_is_in_the_events_or_the_log(service: Stack) -> None:
    value = mint(service, session={"instructions": "the codeword is rosebud"})["value"]
    text = service.events_path.read_text() + service.service.log.read_text()
    assert "session_minted" in text
    assert value not in text
    assert "rosebud" not in text


# --- what was granted holds ---


async def update(socket: ClientConnection, **session: Any) -> dict[str, Any]:
    await socket.send(json.dumps({"type": "session.update", "session": {"type": "realtime", **session}}))
    return dict((await until(socket, "session.updated"))["session"])


async def close_code(socket: ClientConnection) -> int | None:
    """Waits until the other side closes."""
    async with asyncio.timeout(PATIENCE):
        async for _ in socket:  # what is not read holds the other side up
            pass
    return socket.close_code


async def test_a_client_cannot_widen_what_it_was_given(service: Stack) -> None:
    look_up = {"type": "function", "name": "look_up", "parameters": {"type": "object", "properties": {}}}
    answer = mint(
        service,
        allowed_tools=["look_up"],
        session={
            "instructions": "Speak of ships.",
            "tools": [look_up],
            "audio": {"output": {"voice": "cedar"}},
        },
    )
    async with dial(answer["connect"]["url"], answer["value"]) as socket:
        created = (await until(socket, "session.created"))["session"]
        for name in ("instructions", "tools", "model", "audio"):
            assert created[name] == answer["session"][name], name
        other = {**look_up, "name": "refund"}
        widened = await update(socket, instructions="Speak of anything.", tools=[look_up, other])
        assert (widened["instructions"], widened["tools"]) == ("Speak of ships.", [look_up])
        told = " ".join(row["field"] for row in widened["orchestrator"]["refused"])
        assert "instructions" in told
        assert "tools" in told
        # What is not locked is the client's.
        changed = await update(socket, audio={"output": {"voice": "marin"}})
        assert changed["audio"]["output"]["voice"] == "marin"
        assert (await take_turn(socket))[1]["status"] == "completed"
    session = service.provider.get("/control/state")["connections"][-1]["session"]
    assert "Speak of ships." in json.dumps(session)
    assert "Speak of anything." not in json.dumps(session)


async def test_a_call_ends_when_its_time_is_over(service: Stack) -> None:
    answer = mint(service, max_s=2)
    async with dial(answer["connect"]["url"], answer["value"]) as socket:
        assert await close_code(socket) == 1000


async def test_a_call_without_money_is_served_by_what_is_free(service: Stack) -> None:
    answer = mint(service, cap_usd=0)
    assert (answer["reason"], answer["decided_by"]) == ("budget_spent", "hard_cap")
    async with dial(answer["connect"]["url"], answer["value"]) as socket:
        session = (await until(socket, "session.created"))["session"]
        assert session["orchestrator"]["tier"] == answer["tier"] != "A"


# --- several replicas, and a store that goes away ---


def serve(service: Stack, folder: Path, name: str, **settings: str) -> AbstractContextManager[Running]:
    """One more server for the same provider, without a Tier B that is waited for."""
    env = {
        "OPENAI_BASE_URL": f"{service.provider.url}/v1",
        "OPENAI_API_KEY": planted.PROVIDER,
        "ORCHESTRATOR_API_KEY": KEY,
        "ORCHESTRATOR_SERVER__EVENTS_PATH": str(folder / f"{name}.jsonl"),
        "ORCHESTRATOR_BUSINESS_EVENTS__SINKS": "none",
        **{f"ORCHESTRATOR_{key.upper()}": value for key, value in settings.items()},
    }
    return start("serve", "--port", "0", log=folder / f"{name}.log", env=env)


def at(replica: Running, answer: dict[str, Any]) -> str:
    """The address of a call at another replica."""
    return replica.ws + "/v1/realtime?call_id=" + answer["call_id"]


def rows_of(folder: Path, name: str, type: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
    return [row for row in rows if row["type"] == type]


@pytest.mark.long
async def test_replicas_open_each_others_and_a_restart_keeps_them(
    service: Stack, tier_b: Engines, own_redis: str, tmp_path: Path
) -> None:
    shared = {
        **tier_b.settings,
        "redis__url": own_redis,
        "redis__timeout_s": "2",
        "credentials__secret": SECRET,
    }
    with serve(service, tmp_path, "second", **shared) as second:
        first, other = mint(service), mint(service)
        async with dial(at(second, first), first["value"]) as socket:
            await until(socket, "session.created")
            # One that was used there is used here.
            assert (await told_and_closed(first["connect"]["url"], first["value"]))[0] == "credential_used"
    with serve(service, tmp_path, "again", **shared) as again:
        assert (await told_and_closed(at(again, first), first["value"]))[0] == "credential_used"
        async with dial(at(again, other), other["value"]) as socket:
            await until(socket, "session.created")


@pytest.mark.long
async def test_without_a_secret_another_process_opens_none(
    service: Stack, tier_b: Engines, tmp_path: Path
) -> None:
    with serve(service, tmp_path, "one", **tier_b.settings) as alone:
        answer = mint(Stack(alone, service.provider, service.events_path))
        assert await refused(service.realtime, answer["value"]) == (401, "credential_invalid")
        assert await refused(answer["connect"]["url"], mint(service)["value"]) == (401, "credential_invalid")


@pytest.mark.long
async def test_while_the_store_is_away_each_replica_goes_by_what_it_saw(
    service: Stack, tier_b: Engines, tmp_path: Path
) -> None:
    redis = ExitStack()
    url = redis.enter_context(running_redis(tmp_path))
    shared = {**tier_b.settings, "redis__url": url, "credentials__secret": SECRET}
    with redis, serve(service, tmp_path, "stranded", **shared) as stranded:
        alone = Stack(stranded, service.provider, service.events_path)
        answer = mint(alone)
        redis.close()
        async with dial(answer["connect"]["url"], answer["value"]) as socket:
            await until(socket, "session.created")
            assert (await told_and_closed(answer["connect"]["url"], answer["value"]))[0] == "credential_used"
            assert (await take_turn(socket))[1]["status"] == "completed"
        stranded.until("/healthz", lambda _: rows_of(tmp_path, "stranded", "credential_unchecked"))
    (row,) = rows_of(tmp_path, "stranded", "credential_unchecked")
    assert row["call_id"] == answer["call_id"]
