"""An application on the OpenAI Python SDK that lives through whatever happens to its provider, and tells what came.

It knows nothing of tiers: it waits for the responses it has a right to, runs the tools it is asked to run, and fails
on any error, as `openai_sdk.py` does. A word of thanks ends every scenario: once that is answered, nothing of what
came before can still be on its way.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai
from answers import Answers
from openai_sdk import TOOL, Call, calling, spoken, talking
from stock import ANSWERED, QUESTION, STATUS, Facts, Target, main

VAD = {"type": "server_vad", "silence_duration_ms": 300, "create_response": True}


async def configure(call: Call, **session: Any) -> None:
    await call.connection.session.update(session={"type": "realtime", **session})
    await call.until("session.updated")


async def ask(call: Call, topic: str) -> Any:
    """A response of the client's own, known by its metadata, once it is done."""
    await call.connection.response.create(response={"metadata": {"topic": topic}})
    while True:
        response = (await call.until("response.done")).response
        if (response.metadata or {}).get("topic") == topic:
            return response


async def unasked(call: Call, fits: Callable[[Any], bool]) -> None:
    """A completed response that the server began by itself and that is the answer."""
    while True:
        response = (await call.until("response.done")).response
        own = "topic" in (response.metadata or {})
        if response.status == "completed" and not own and fits(response):
            return


def answers_question(response: Any) -> bool:
    return ANSWERED in spoken(response)


def has_call(response: Any) -> bool:
    return any(item.type == "function_call" for item in response.output)


async def thank(call: Call) -> None:
    await call.write("Thank you.")
    await ask(call, "thanks")


async def run_tools(call: Call) -> list[Facts]:
    """What an application does with the function calls it was shown so far: each is run, its output sent."""
    ran = []
    for event in [event for event in call.seen if event.type == "response.done"]:
        for item in event.response.output or []:
            if item.type == "function_call":
                ran.append({"call_id": item.call_id, "arguments": item.arguments})
                output = json.dumps({**json.loads(item.arguments), "status": STATUS})
                result: Any = {"type": "function_call_output", "call_id": item.call_id, "output": output}
                await call.connection.conversation.item.create(item=result)
    return ran


def told(call: Call, tools: list[Facts] | None = None) -> Facts:
    answers = Answers()
    for event in call.seen:
        answers.note(event.to_dict())
    return {**answers.report(), "tools": tools or []}


async def asked(target: Target) -> Facts:
    """The client asks for the answer itself."""
    async with calling(target) as call:
        await configure(call, audio={"input": {"turn_detection": None}})
        await call.write(QUESTION)
        await ask(call, "order")
        await thank(call)
    return told(call)


async def heard(target: Target) -> Facts:
    """The server's turn detection starts the answer."""
    async with calling(target) as call:
        await configure(call, audio={"input": {"turn_detection": VAD}})
        async with talking(call, target):
            await unasked(call, answers_question)
            await thank(call)
    return told(call)


async def asked_tool(target: Target) -> Facts:
    """The answer that the client asks for is a function call; it asks again with the output."""
    async with calling(target) as call:
        await configure(call, tools=[TOOL], audio={"input": {"turn_detection": None}})
        await call.write(QUESTION)
        await ask(call, "order")
        tools = await run_tools(call)
        await ask(call, "result")
        await thank(call)
    return told(call, tools)


async def heard_tool(target: Target) -> Facts:
    """The same, but the caller has spoken."""
    async with calling(target) as call:
        await configure(call, tools=[TOOL], audio={"input": {"turn_detection": VAD}})
        async with talking(call, target):
            await unasked(call, has_call)
            tools = await run_tools(call)
            await ask(call, "result")
            await thank(call)
    return told(call, tools)


if __name__ == "__main__":
    scenarios = {"asked": asked, "heard": heard, "asked_tool": asked_tool, "heard_tool": heard_tool}
    main(f"openai {openai.__version__}", scenarios)
