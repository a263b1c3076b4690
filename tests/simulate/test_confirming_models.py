"""A read-back and the caller's yes, over the wire of both simulated models."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from openai import AsyncOpenAI

from orchestrator.simulate.brain import Brain
from orchestrator.simulate.llm import LlmSimulator, Options
from orchestrator.simulate.manners import Manners
from tests import planted
from tests.simulate.conftest import Start
from tests.simulate.simulated import Bench, Client, plain_http, speech, text_item

CANCEL_TOOL = {
    "type": "function",
    "name": "cancel_order",
    "description": "Cancel an order.",
    "parameters": {
        "type": "object",
        "properties": {"order_id": {"type": "string"}},
        "required": ["order_id"],
    },
}
CHAT_TOOL: Any = {"type": "function", "function": {k: v for k, v in CANCEL_TOOL.items() if k != "type"}}
READ_BACK = "You would like me to cancel order 4 1 7 2. Is that right?"
NEEDED = json.dumps({"status": "confirmation_needed", "say": READ_BACK})
DONE = json.dumps({"status": "done", "result": {"order_id": "4172", "status": "cancelled"}})


async def calls(client: Client) -> dict[str, Any]:
    """The function call of the next response."""
    done = await client.until("response.done")
    (item,) = done["response"]["output"]
    assert (item["type"], item["name"]) == ("function_call", "cancel_order")
    return dict(item)


async def says(client: Client) -> str:
    done = await client.until("response.done")
    (item,) = done["response"]["output"]
    assert item["type"] == "message", item
    return " ".join(part.get("transcript") or part.get("text") for part in item["content"])


async def give(client: Client, call: dict[str, Any], output: str) -> None:
    item = {"type": "function_call_output", "call_id": call["call_id"], "output": output}
    await client.create(item)
    await client.send("response.create")


async def test_a_realtime_session_confirms_by_voice(start: Start) -> None:
    bench = await start(heard=("Cancel order four one seven two.", "Yes, please."))
    client = await bench.connect(tools=[CANCEL_TOOL])
    await client.say(speech())
    first = await calls(client)
    await give(client, first, NEEDED)
    assert await says(client) == READ_BACK
    await client.say(speech())
    second = await calls(client)
    assert (second["arguments"], second["call_id"] != first["call_id"]) == (first["arguments"], True)
    await give(client, second, DONE)
    assert (await says(client)).startswith("Order 4 1 7 2 is cancelled.")


async def test_a_replayed_session_knows_what_was_read_back(bench: Bench) -> None:
    client = await bench.connect(tools=[CANCEL_TOOL])
    await client.create(text_item("Cancel order 4172."))
    call = {"call_id": "call_9", "name": "cancel_order", "arguments": '{"order_id": "4172"}'}
    await client.create({"type": "function_call", **call})
    await client.create({"type": "function_call_output", "call_id": "call_9", "output": NEEDED})
    content = [{"type": "output_text", "text": READ_BACK}]
    await client.create({"type": "message", "role": "assistant", "content": content})
    await client.create(text_item("Yes."))
    await client.send("response.create")
    assert json.loads((await calls(client))["arguments"]) == {"order_id": "4172"}


async def test_words_that_are_to_be_said_exactly(bench: Bench) -> None:
    client = await bench.connect(tools=[CANCEL_TOOL])
    await client.create(text_item("Cancel order 4172."))
    wanted = {"instructions": f'Say exactly: "{READ_BACK}"', "tool_choice": "none"}
    await client.send("response.create", response=wanted)
    assert await says(client) == READ_BACK
    await client.send("response.create", response={"tool_choice": "none"})
    assert await says(client) != READ_BACK
    await client.send("response.create")
    await calls(client)


@pytest.mark.parametrize("manners", [Manners.WELL, Manners.EAGER])
async def test_a_chat_model_confirms(manners: Manners) -> None:
    simulator = LlmSimulator(Options(Brain(manners=manners), first_token_ms=1, tokens_per_second=2000.0))
    async with contextlib.AsyncExitStack() as stack:
        origin = await stack.enter_async_context(simulator.start())
        sdk = AsyncOpenAI(
            api_key=planted.PROVIDER, base_url=f"{origin}/v1", max_retries=0, http_client=plain_http()
        )
        stack.push_async_callback(sdk.close)

        async def ask(messages: list[Any], **fields: Any) -> Any:
            request = {"model": "m", "messages": messages, "tools": [CHAT_TOOL], **fields}
            return (await sdk.chat.completions.create(**request)).choices[0].message

        messages: list[Any] = [{"role": "user", "content": "Cancel order 4172."}]
        first = await ask(messages)
        answered = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": NEEDED}
        messages += [first.model_dump(exclude_none=True), answered]
        read = await ask(messages)
        if manners is Manners.EAGER:
            assert read.tool_calls[0].function.arguments == first.tool_calls[0].function.arguments
            return
        assert read.content == READ_BACK
        messages += [{"role": "assistant", "content": READ_BACK}, {"role": "user", "content": "Yes."}]
        again = await ask(messages)
        assert json.loads(again.tool_calls[0].function.arguments) == {"order_id": "4172"}
        exact = [*messages, {"role": "system", "content": 'Say exactly: "One moment."'}]
        assert (await ask(exact, tool_choice="none")).content == "One moment."


async def test_manners_may_change_in_a_session(bench: Bench) -> None:
    client = await bench.connect(tools=[CANCEL_TOOL])
    async with plain_http(base_url=bench.origin) as http:
        assert (await http.post("/control/manners", json={"manners": "forgetful"})).status_code == 200
        await client.create(text_item("Cancel order 4172."))
        await client.send("response.create")
        assert (await says(client)).startswith("Done: cancel order, 4 1 7 2.")
        await http.post("/control/manners", json={"manners": "well"})
        await client.create(text_item("Cancel order 4172."))
        await client.send("response.create")
        await calls(client)
        for wrong in ({"manners": "rude"}, {}, []):
            refused = await http.post("/control/manners", json=wrong)
            assert (refused.status_code, "forgetful" in refused.json()["error"]) == (400, True)
