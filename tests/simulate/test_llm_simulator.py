"""The text model simulator, by the OpenAI SDK; what it sends is parsed strictly as the SDK's own types."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, BadRequestError
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from orchestrator.simulate.brain import Brain
from orchestrator.simulate.fault_board import parse
from orchestrator.simulate.http_faults import CATALOGUE, FaultId
from orchestrator.simulate.llm import LlmSimulator, Options
from tests import planted
from tests.simulate.simulated import ORDER_TOOL, extras, plain_http

SOON = 0.15
TOOL = {"type": "function", "function": {name: part for name, part in ORDER_TOOL.items() if name != "type"}}
HELLO: list[Any] = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello there."}]
ORDER: list[Any] = [{"role": "user", "content": "Where is order four one seven two?"}]


class Bench:
    def __init__(self, simulator: LlmSimulator, origin: str) -> None:
        self.simulator = simulator
        self.origin = origin
        self.sdk = AsyncOpenAI(
            api_key=planted.AGENT, base_url=f"{origin}/v1", max_retries=0, http_client=plain_http()
        )

    def arm(self, fault: str, **fields: Any) -> None:
        self.simulator.faults.arm(parse({"fault": fault, **fields}, CATALOGUE))

    async def ask(self, messages: list[Any] = HELLO, **fields: Any) -> ChatCompletion:
        return await self.sdk.chat.completions.create(model="test-model", messages=messages, **fields)

    async def stream(self, messages: list[Any] = HELLO, **fields: Any) -> list[dict[str, Any]]:
        """The chunks as they came over the wire, each parsed strictly."""
        body = {"model": "test-model", "messages": messages, "stream": True, **fields}
        async with plain_http(base_url=self.origin) as http:
            answer = await http.post("/v1/chat/completions", json=body)
        *lines, last = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
        assert last == "[DONE]"
        for line in lines:
            assert not extras(ChatCompletionChunk.model_validate_json(line, strict=True))
        return [json.loads(line) for line in lines]


@pytest.fixture
async def start() -> AsyncIterator[Any]:
    async with contextlib.AsyncExitStack() as stack:

        async def begin(**options: Any) -> Bench:
            fast = {"first_token_ms": 5, "tokens_per_second": 2000.0, **options}
            simulator = LlmSimulator(Options(fast.pop("brain", Brain()), **fast))
            bench = Bench(simulator, await stack.enter_async_context(simulator.start()))
            stack.push_async_callback(bench.sdk.close)
            return bench

        yield begin


@pytest.fixture
async def bench(start: Any) -> Bench:
    return await start()  # type: ignore[no-any-return]


# -- answers -----------------------------------------------------------------------------------------


async def test_a_whole_answer(bench: Bench) -> None:
    async with plain_http(base_url=bench.origin) as http:
        answer = await http.post("/v1/chat/completions", json={"model": "m", "messages": HELLO})
    completion = ChatCompletion.model_validate_json(answer.text, strict=True)
    assert not extras(completion)
    assert "Hello there." in (completion.choices[0].message.content or "")
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert (
        completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens
    )


async def test_a_streamed_answer_says_the_same(bench: Bench) -> None:
    chunks = await bench.stream()
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert deltas[-1] == {}
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[-2:]] == [None, "stop"]
    whole = (await bench.ask()).choices[0].message.content
    assert "".join(delta.get("content", "") for delta in deltas) == whole


async def test_usage_comes_last_and_only_when_asked_for(bench: Bench) -> None:
    chunks = await bench.stream(stream_options={"include_usage": True})
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] > 0
    assert not any("usage" in chunk for chunk in chunks[:-1] + await bench.stream())


async def test_a_tool_call_and_its_result(bench: Bench) -> None:
    call = (await bench.ask(ORDER, tools=[TOOL])).choices[0]
    assert call.finish_reason == "tool_calls"
    assert call.message.tool_calls is not None
    wanted = call.message.tool_calls[0]
    assert wanted.type == "function"
    assert (wanted.function.name, json.loads(wanted.function.arguments)) == (
        "get_order_status",
        {"order_id": "4172"},
    )
    result = json.dumps({"order_id": "4172", "status": "delivered"})
    replies = [call.message, {"role": "tool", "tool_call_id": wanted.id, "content": result}]
    said = (await bench.ask([*ORDER, *replies], tools=[TOOL])).choices[0].message.content
    assert said is not None
    assert said.startswith("Order 4 1 7 2 is delivered.")


async def test_a_streamed_tool_call_comes_in_fragments(bench: Bench) -> None:
    chunks = await bench.stream(ORDER, tools=[TOOL])
    first, *rest = [chunk["choices"][0]["delta"] for chunk in chunks]
    head = first["tool_calls"][0]
    assert (head["index"], head["type"], head["function"]) == (
        0,
        "function",
        {"name": "get_order_status", "arguments": ""},
    )
    parts = [delta["tool_calls"][0] for delta in rest if delta]
    assert not any("id" in part or "name" in part["function"] for part in parts)
    assert json.loads("".join(part["function"]["arguments"] for part in parts)) == {"order_id": "4172"}
    assert chunks[-1]["choices"][0] == {
        "index": 0,
        "delta": {},
        "logprobs": None,
        "finish_reason": "tool_calls",
    }


async def test_tool_choice(bench: Bench) -> None:
    assert (await bench.ask(ORDER, tools=[TOOL], tool_choice="none")).choices[0].message.tool_calls is None
    forced = await bench.ask(HELLO, tools=[TOOL], tool_choice="required")
    assert forced.choices[0].finish_reason == "tool_calls"
    named = {"type": "function", "function": {"name": "get_order_status"}}
    assert (await bench.ask(HELLO, tools=[TOOL], tool_choice=named)).choices[0].finish_reason == "tool_calls"


async def test_max_tokens_cuts(bench: Bench) -> None:
    choice = (await bench.ask(max_completion_tokens=3)).choices[0]
    assert (choice.finish_reason, len(choice.message.content or "")) == ("length", 12)


async def test_content_may_come_in_parts(bench: Bench) -> None:
    parts = [{"type": "text", "text": "Where is order"}, {"type": "text", "text": "4172?"}]
    assert "4 1 7 2" in str(
        (await bench.ask([{"role": "user", "content": parts}])).choices[0].message.content
    )


async def test_pace(start: Any) -> None:
    bench = await start(first_token_ms=100, tokens_per_second=50.0)
    now = asyncio.get_running_loop().time
    times = []
    began = now()
    async for _ in await bench.ask(stream=True):
        times.append(now() - began)
    assert times[0] >= 0.1
    assert times[-1] - times[0] >= 0.8 * (len(times) - 1) / 50


async def test_models(start: Any) -> None:
    bench = await start(models=("test-model", "other"))
    assert [model.id async for model in bench.sdk.models.list()] == ["test-model", "other"]
    await bench.ask()
    with pytest.raises(APIStatusError) as refused:
        await bench.sdk.chat.completions.create(model="missing", messages=HELLO)
    assert (refused.value.status_code, refused.value.code) == (404, "model_not_found")


async def test_requests_are_remembered(bench: Bench) -> None:
    await bench.ask(temperature=0.5)
    assert bench.simulator.state()["requests"][0]["temperature"] == 0.5
    assert bench.simulator.state()["requests"][0]["messages"] == HELLO


async def test_a_wrong_key(start: Any) -> None:
    bench = await start(api_key=planted.SPARE)
    with pytest.raises(APIStatusError) as refused:
        await bench.ask()
    assert (refused.value.status_code, refused.value.code) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    "body", [{"messages": []}, {"messages": [{"role": "narrator", "content": ""}]}, {"n": 2}]
)
async def test_bad_requests(bench: Bench, body: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError):
        await bench.sdk.chat.completions.create(**{"model": "m", "messages": HELLO, **body})


# -- faults ------------------------------------------------------------------------------------------

OBSERVED: set[FaultId] = set()


def observes(*faults: FaultId) -> Any:
    OBSERVED.update(faults)
    return lambda test: test


@observes(FaultId.REFUSED)
async def test_refused(bench: Bench) -> None:
    bench.arm("refused")
    with pytest.raises(APIConnectionError):
        await bench.ask()
    await bench.ask()


@observes(FaultId.HTTP_401, FaultId.HTTP_404, FaultId.HTTP_429, FaultId.HTTP_500, FaultId.HTTP_503)
@pytest.mark.parametrize("status", [401, 404, 429, 500, 503])
async def test_http_status(bench: Bench, status: int) -> None:
    bench.arm(f"http_{status}", count=2)
    for streamed in (False, True):
        with pytest.raises(APIStatusError) as failed:
            await bench.ask(stream=streamed)
        assert failed.value.status_code == status
    await bench.ask()


@observes(FaultId.HANG)
async def test_hang(bench: Bench) -> None:
    bench.arm("hang")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SOON):
            await bench.ask(stream=True)


async def chunks_until_it_breaks(bench: Bench) -> int:
    received = 0
    try:
        async with asyncio.timeout(SOON):
            async for _ in await bench.ask(stream=True):
                received += 1
    except (TimeoutError, APIConnectionError, httpx.ReadError):
        return received
    raise AssertionError("the answer came to its end")


@observes(FaultId.CUT, FaultId.STALL)
@pytest.mark.parametrize("fault", ["cut", "stall"])
@pytest.mark.parametrize("after", [0, 3])
async def test_answers_that_break_off(bench: Bench, fault: str, after: int) -> None:
    bench.arm(fault, after_chunks=after)
    assert await chunks_until_it_breaks(bench) == after


async def test_a_cut_is_at_once(bench: Bench) -> None:
    bench.arm("cut", after_chunks=2)
    with pytest.raises((APIConnectionError, httpx.ReadError)):
        async for _ in await bench.ask(stream=True):
            pass


@observes(FaultId.SLOW)
async def test_slow(start: Any) -> None:
    """Twenty milliseconds a token become two hundred."""
    bench = await start(tokens_per_second=50.0)
    bench.arm("slow", after_chunks=1)
    assert await chunks_until_it_breaks(bench) < 4


@observes(FaultId.GARBAGE)
async def test_garbage(bench: Bench) -> None:
    bench.arm("garbage", after_chunks=1)
    with pytest.raises(json.JSONDecodeError):
        async for _ in await bench.ask(stream=True):
            pass


async def test_a_fault_may_be_for_one_model_only(bench: Bench) -> None:
    bench.arm("http_500", model="other-model", count="forever")
    await bench.ask()
    with pytest.raises(APIStatusError):
        await bench.sdk.chat.completions.create(model="other-model", messages=HELLO)


def test_every_fault_is_observed() -> None:
    assert set(CATALOGUE) == set(FaultId) == OBSERVED
