"""The simulated provider's client secrets, through the SDK: what they hold, how long, and who may make them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from openai import (
    APIConnectionError,
    APITimeoutError,
    AsyncOpenAI,
    AuthenticationError,
    BadRequestError,
    InternalServerError,
    NotFoundError,
    RateLimitError,
)

from tests import planted
from tests.simulate.conftest import Start
from tests.simulate.simulated import MODEL, ORDER_TOOL, Bench, Client, plain_http

SESSION: Any = {"type": "realtime", "model": MODEL, "instructions": "Speak of ships.", "tools": [ORDER_TOOL]}


async def connect(bench: Bench, secret: str, **query: Any) -> Client:
    sdk = AsyncOpenAI(api_key=secret, base_url=f"{bench.origin}/v1", http_client=plain_http())
    return Client(await bench._stack.enter_async_context(sdk.realtime.connect(**query)))


async def test_a_secret_opens_sessions_that_begin_as_it_says(bench: Bench) -> None:
    secret = await bench.sdk.realtime.client_secrets.create(
        expires_after={"anchor": "created_at", "seconds": 60}, session=SESSION
    )
    assert secret.value.startswith("ek_")
    assert 55 < secret.expires_at - time.time() <= 60
    assert (secret.session.type, secret.session.object) == ("realtime", "realtime.session")
    assert secret.session.instructions == "Speak of ships."
    for _ in range(2):
        client = await connect(bench, secret.value, model=MODEL)
        session = (await client.until("session.created"))["session"]
        assert session["instructions"] == "Speak of ships."
        assert session["tools"] == [ORDER_TOOL]
    # Whoever has it may change what it began with.
    session = (await client.configure(instructions="Speak of anything."))["session"]
    assert session["instructions"] == "Speak of anything."


async def test_what_is_left_out_is_the_providers_choice(bench: Bench) -> None:
    secret = await bench.sdk.realtime.client_secrets.create()
    assert 595 < secret.expires_at - time.time() <= 600
    assert secret.session.type == "realtime"


async def test_an_expired_secret_and_an_invented_one_open_nothing(start: Start) -> None:
    bench = await start(api_key=planted.PROVIDER)
    secret = await bench.sdk.realtime.client_secrets.create(session=SESSION)
    made = bench.simulator.secrets.made
    made[secret.value] = type(made[secret.value])(int(time.time()) - 1, {})
    for value in (secret.value, "ek_invented"):
        client = await connect(bench, value, model=MODEL)
        assert (await client.until("error"))["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"expires_after": {"anchor": "created_at", "seconds": 9}}, "expires_after.seconds"),
        ({"expires_after": {"anchor": "created_at", "seconds": 7201}}, "expires_after.seconds"),
        ({"expires_after": {"anchor": "last_active", "seconds": 60}}, "expires_after.anchor"),
        ({"session": {"instructions": "No type."}}, "session.type"),
        ({"session": {"type": "realtime", "temperature": 1}}, "session.temperature"),
        (
            {"session": {"type": "realtime", "audio": {"output": {"voice": "bob"}}}},
            "session.audio.output.voice",
        ),
        ({"extra_body": {"user": "maria"}}, "user"),
    ],
)
async def test_what_is_wrong_is_named(bench: Bench, body: Any, param: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        await bench.sdk.realtime.client_secrets.create(**body)
    assert refused.value.param == param


async def test_only_a_key_makes_secrets(start: Start) -> None:
    bench = await start(api_key=planted.PROVIDER, models=(MODEL,))
    secret = await bench.sdk.realtime.client_secrets.create(session=SESSION)
    for key in ("another", secret.value):
        sdk = AsyncOpenAI(api_key=key, base_url=f"{bench.origin}/v1", http_client=plain_http())
        with pytest.raises(AuthenticationError):
            await sdk.realtime.client_secrets.create(session=SESSION)
    with pytest.raises(NotFoundError):
        await bench.sdk.realtime.client_secrets.create(session={"type": "realtime", "model": "gpt-9"})


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("http_401", AuthenticationError),
        ("http_429", RateLimitError),
        ("http_5xx", InternalServerError),
        ("late_refusal_1013", RateLimitError),
        ("refused", APIConnectionError),
        ("hang", APITimeoutError),
    ],
)
async def test_faults_strike_requests_too(bench: Bench, fault: str, error: type[Exception]) -> None:
    bench.arm(fault)
    with pytest.raises(error):
        await bench.sdk.realtime.client_secrets.create(session=SESSION, timeout=0.5)
    await bench.sdk.realtime.client_secrets.create(session=SESSION)


async def test_a_fault_that_only_a_websocket_has_waits_for_one(bench: Bench) -> None:
    bench.arm("late_refusal_4000")
    await bench.sdk.realtime.client_secrets.create(session=SESSION)
    client = await bench.dial()
    assert (await client.until("error"))["error"]["code"] == "invalid_model"
