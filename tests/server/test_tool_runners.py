"""One attempt at a webhook or a function: what is sent, and what is known of it afterwards."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.core.tools import Kind, Tool
from orchestrator.server import tool_runners
from orchestrator.server.tool_runners import (
    BODY_LIMIT,
    Attempt,
    Doubtful,
    Function,
    NotSent,
    Run,
    Webhook,
    judge,
    open_client,
)
from orchestrator.signing import key_of, sign
from orchestrator.simulate.webhook_signature import refusal
from orchestrator.tooling import ToolContext, ToolError
from tests import planted
from tests.server.fleets import until
from tests.server.hooks import Act, Hook, answer, hang_up, say_nothing, says
from tiers.pipeline.worker import Worker

CONTEXT = ToolContext("call_1", "ana", "acme", "support", "k" * 40, 1)
TOOL = Tool("cancel_order", kind=Kind.MUTATING)
SECRET = planted.WEBHOOK


def run_of(**arguments: Any) -> Run:
    return Run(TOOL, arguments, CONTEXT)


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    async with Hook().serving() as hook:
        yield hook


async def ask(hook: Hook, run: Run | None = None, secret: str = SECRET, mutating: bool = True) -> Any:
    async with open_client(mutating=mutating) as client:
        webhook = Webhook(hook.url, key_of(secret) if secret else None, client)
        return await asyncio.wait_for(webhook(run or run_of(order_id="42")), 10)


# What is sent


async def test_what_a_webhook_is_sent(hook: Hook) -> None:
    assert await ask(hook, run_of(order_id="42", note="für Zoë")) == {"status": "ok"}
    (asked,) = hook.asked
    assert asked.told == {
        "tool": "cancel_order",
        "arguments": {"order_id": "42", "note": "für Zoë"},
        "call": {"call_id": "call_1", "user": "ana", "bucket": "acme", "purpose": "support"},
        "idempotency_key": "k" * 40,
        "attempt": 1,
    }
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["idempotency-key"] == asked.headers["webhook-id"] == "k" * 40


async def test_a_request_is_signed_as_standard_webhooks_has_it(hook: Hook) -> None:
    await ask(hook)
    (asked,) = hook.asked
    assert refusal(SECRET, asked.headers, asked.body) == ""
    assert "fits this body" in refusal(SECRET, asked.headers, asked.body + b" ")
    assert "fits this body" in refusal("another secret", asked.headers, asked.body)
    assert "fits this body" in refusal(SECRET, {**asked.headers, "webhook-id": "x"}, asked.body)
    later = int(asked.headers["webhook-timestamp"]) + 301
    assert "away from this clock" in refusal(SECRET, asked.headers, asked.body, now=later)


def test_the_signature_is_that_of_the_standards_own_example() -> None:
    key = key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', 1614265330)
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_without_a_secret_nothing_is_signed(hook: Hook) -> None:
    await ask(hook, secret="")
    assert not [name for name in hook.asked[0].headers if name.startswith("webhook-")]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), "\ud800"])
async def test_arguments_that_are_no_json_are_not_sent(hook: Hook, wrong: Any) -> None:
    run = run_of(order_id=wrong)
    with pytest.raises(ToolError, match="cannot be written as JSON"):
        await ask(hook, run)
    assert not hook.asked
    assert not run.attempt.begun


async def test_a_huge_number_is_sent_as_it_is(hook: Hook) -> None:
    await ask(hook, run_of(n=10**30))
    assert hook.asked[0].told["arguments"] == {"n": 10**30}


async def test_each_change_has_a_connection_of_its_own_and_a_question_keeps_it(hook: Hook) -> None:
    hook.keeps = True
    for mutating, connections in ((True, 3), (False, 1)):
        before = hook.connections
        async with open_client(mutating=mutating) as client:
            for _ in range(3):
                await Webhook(hook.url, None, client)(run_of())
        assert hook.connections - before == connections


# What an answer means


@pytest.mark.parametrize(
    ("status", "body", "output"),
    [
        (200, b'{"status": "cancelled"}', {"status": "cancelled"}),
        (200, b'["a", 1]', ["a", 1]),
        (200, b'"done"', "done"),
        (201, b"null", None),
        (202, b" ", None),
        (204, b"", None),
    ],
)
def test_a_success(status: int, body: bytes, output: Any) -> None:
    assert judge(status, body) == output


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (400, b'{"error": "no such order"}', "no such order"),
        (404, b'{"error": {"message": "no\\n such  order"}}', "no such order"),
        (422, b'{"message": "no such order"}', "no such order"),
        (403, b'{"detail": "not yours"}', "not yours"),
        (410, b"<html>", "status 410"),
        (429, b"", "status 429"),
        (400, b'{"error": 7}', "status 400"),
        (400, None, "status 400"),
        (409, b'{"ran": false, "error": "busy"}', "busy"),
        (500, b'{"ran": false}', "status 500"),
        (503, b'{"ran": false, "error": "down for maintenance"}', "down for maintenance"),
    ],
)
def test_a_failure_that_is_certain(status: int, body: bytes | None, message: str) -> None:
    with pytest.raises(ToolError) as caught:
        judge(status, body)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (200, b"<html>Welcome to the hotel</html>", "expected JSON"),
        (200, b'{"status": ', "expected JSON"),
        (200, b"[" * 100_000, "expected JSON"),
        (200, None, "expected JSON"),
        (302, b"", "status 302"),
        (409, b'{"error": "already cancelling"}', "already cancelling"),
        (400, b'{"ran": true, "error": "half of it"}', "half of it"),
        (500, b"", "status 500"),
        (500, b'{"ran": "no"}', "status 500"),
        (503, None, "status 503"),
        (504, b"<html>", "status 504"),
    ],
)
def test_a_failure_that_is_not_certain(status: int, body: bytes | None, message: str) -> None:
    with pytest.raises(Doubtful) as caught:
        judge(status, body)
    assert message in str(caught.value)


def test_a_message_is_short_and_one_line() -> None:
    body = json.dumps({"error": "a\n" + "b" * 1000}).encode()
    with pytest.raises(ToolError) as caught:
        judge(400, body)
    assert str(caught.value) == "a " + "b" * 198


@pytest.mark.parametrize(
    "act",
    [
        hang_up,
        answer(200, b'{"a"', length=50),
        answer(200, b"x" * (BODY_LIMIT + 1)),
        answer(200, b"x" * 100, length=1 << 40),
        answer(200, gzip.compress(b"{}"), "content-encoding: gzip"),
        answer(307, b"", "location: /elsewhere"),
    ],
    ids=["lost", "cut", "giant", "endless", "packed", "redirect"],
)
async def test_it_may_have_run(hook: Hook, act: Act) -> None:
    hook.acts = [act]
    run = run_of(order_id="42")
    with pytest.raises(Doubtful):
        await ask(hook, run)
    assert run.attempt.begun
    assert len(hook.asked) == 1


async def test_an_answer_of_just_the_longest_size_is_read(hook: Hook) -> None:
    text = "x" * (BODY_LIMIT - 2)
    hook.acts = [says(200, text)]
    assert await ask(hook) == text


async def test_no_error_shows_what_was_sent(hook: Hook) -> None:
    hook.acts = [hang_up]
    with pytest.raises(Doubtful) as caught:
        await ask(hook, run_of(card="4111111111111111"))
    assert "4111" not in str(caught.value)
    assert hook.url not in str(caught.value)


async def test_nobody_is_there(hook: Hook) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        hook.port = taken.getsockname()[1]
        run = run_of()
        with pytest.raises(NotSent, match="ConnectError"):
            await ask(hook, run)
    assert not run.attempt.begun


async def test_what_was_given_up_is_not_sent(hook: Hook) -> None:
    run = run_of()
    assert run.attempt.give_up() is False
    with pytest.raises(NotSent):
        await ask(hook, run)
    assert not hook.asked


async def test_an_answer_that_does_not_come_can_be_given_up(hook: Hook) -> None:
    hook.acts = [say_nothing]
    run = run_of()
    task = asyncio.create_task(ask(hook, run))
    await until(lambda: hook.asked)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert run.attempt.give_up() is True


def test_an_attempt_begins_once_whoever_is_quicker() -> None:
    for _ in range(200):
        attempt, begun = Attempt(), []
        gate = threading.Barrier(2)

        def begin(attempt: Attempt = attempt, begun: list[bool] = begun, gate: Any = gate) -> None:
            gate.wait()
            try:
                attempt.begin()
                begun.append(True)
            except NotSent:
                begun.append(False)

        thread = threading.Thread(target=begin)
        thread.start()
        gate.wait()
        had = attempt.give_up()
        thread.join()
        assert begun == [had]


# Functions


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    module = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "shop_functions", module)  # type: ignore[arg-type]
    return module


@pytest.fixture
def threads() -> Iterator[Worker]:
    worker = Worker("test", 1)
    yield worker
    worker.close()


async def call(shop: SimpleNamespace, threads: Worker, function: Any, run: Run | None = None) -> Any:
    shop.function = function
    made = Function("shop_functions:function", threads)
    return await asyncio.wait_for(made(run or run_of(order_id="42")), 10)


async def test_a_function_runs_in_a_thread(shop: SimpleNamespace, threads: Worker) -> None:
    def function(order_id: str) -> dict[str, Any]:
        return {"order": order_id, "thread": threading.current_thread().name}

    done = await call(shop, threads, function)
    assert done["order"] == "42"
    assert done["thread"].startswith("test")


async def test_an_async_function_and_its_context(shop: SimpleNamespace, threads: Worker) -> None:
    async def function(order_id: str, *, context: ToolContext) -> dict[str, Any]:
        return {"order": order_id, "call": context.call_id, "key": context.idempotency_key}

    assert await call(shop, threads, function) == {"order": "42", "call": "call_1", "key": "k" * 40}


async def test_an_object_that_is_called_asynchronously(shop: SimpleNamespace, threads: Worker) -> None:
    class Tool:
        async def __call__(self, **arguments: Any) -> Any:
            return arguments

    assert await call(shop, threads, Tool()) == {"order_id": "42"}
    assert await call(shop, threads, lambda order_id: Tool()(order_id=order_id)) == {"order_id": "42"}


async def test_what_json_does_not_know_becomes_text(shop: SimpleNamespace, threads: Worker) -> None:
    circle: list[Any] = []
    circle.append(circle)
    assert await call(shop, threads, lambda order_id: {"n": SimpleNamespace(a=1)}) == {"n": "namespace(a=1)"}
    assert await call(shop, threads, lambda order_id: {("a", "b"): 1}) == "{('a', 'b'): 1}"
    assert await call(shop, threads, lambda order_id: circle) == "[[...]]"


def raises(error: BaseException) -> Any:
    def function(order_id: str) -> None:
        raise error

    return function


def raises_later(error: BaseException) -> Any:
    async def function(order_id: str) -> None:
        raise error

    return function


@pytest.mark.parametrize("make", [raises, raises_later])
async def test_what_a_function_raises(make: Any, shop: SimpleNamespace, threads: Worker) -> None:
    with pytest.raises(ToolError, match="no such order"):
        await call(shop, threads, make(ToolError("no such order")))
    for error in (ValueError("4111"), KeyError("4111"), asyncio.CancelledError(), TimeoutError("4111")):
        run = run_of(order_id="42")
        with pytest.raises(Doubtful) as caught:
            await call(shop, threads, make(error), run)
        assert run.attempt.begun
        assert "4111" not in str(caught.value)


async def test_a_function_may_not_end_the_process(shop: SimpleNamespace, threads: Worker) -> None:
    with pytest.raises(Doubtful, match="SystemExit"):
        await call(shop, threads, raises(SystemExit(1)))


async def test_arguments_that_a_function_does_not_take_are_not_tried(
    shop: SimpleNamespace, threads: Worker
) -> None:
    called = []

    def function(order_id: str) -> None:
        called.append(order_id)

    for arguments in ({}, {"order_id": "42", "more": 1}):
        run = run_of(**arguments)
        with pytest.raises(ToolError, match="takes other arguments"):
            await call(shop, threads, function, run)
        assert not run.attempt.begun
    assert not called


async def test_a_function_that_had_not_begun_when_it_was_given_up_never_does(
    shop: SimpleNamespace, threads: Worker
) -> None:
    release, called = threading.Event(), []
    busy = asyncio.create_task(threads.run(release.wait))
    shop.function = lambda order_id: called.append(order_id)
    run = run_of(order_id="42")
    waiting = asyncio.create_task(Function("shop_functions:function", threads)(run))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert run.attempt.give_up() is False
    release.set()
    await busy
    await threads.run(lambda: None)
    assert not called


async def test_an_async_function_that_is_given_up_is_cancelled(
    shop: SimpleNamespace, threads: Worker
) -> None:
    begun, ended = asyncio.Event(), []

    async def function(order_id: str) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append(order_id)
            raise

    shop.function = function
    run = run_of(order_id="42")
    task = asyncio.create_task(Function("shop_functions:function", threads)(run))
    await asyncio.wait_for(begun.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert ended == ["42"]
    assert run.attempt.give_up() is True


def test_the_attempt_is_told_to_the_tool() -> None:
    run = Run(TOOL, {}, replace(CONTEXT, attempt=2))
    assert json.loads(tool_runners._question(run))["attempt"] == 2
