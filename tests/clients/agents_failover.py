"""An application on the OpenAI Agents SDK that lives through whatever happens to its provider, and tells what came.

As `openai_failover.py`; here the SDK asks for responses and runs the tools. Runs in `.venv-clients`.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from agents_sdk import Call, calling, talking
from answers import Answers
from stock import ANSWERED, QUESTION, STATUS, Facts, Target, main

THANKED = "You are welcome"


def server_events(call: Call) -> list[dict[str, Any]]:
    raw = [event.data for event in call.told("raw_model_event")]
    return [data.data for data in raw if data.type == "raw_server_event"]


def completed(call: Call, word: str = "") -> int:
    """Completed responses so far with a message that has this word in it."""
    done = [event["response"] for event in server_events(call) if event.get("type") == "response.done"]
    whole = [response for response in done if response["status"] == "completed"]
    return sum(any(word in _words(item) for item in response["output"]) for response in whole)


def _words(item: dict[str, Any]) -> str:
    return " ".join(part.get("transcript") or "" for part in item.get("content") or [])


async def thank(call: Call) -> None:
    await call.session.send_message("Thank you.")
    await call.until(lambda: completed(call, THANKED) == 1)


def told(call: Call) -> Facts:
    answers = Answers()
    for event in server_events(call):
        answers.note(event)
    ran = [{"arguments": event.arguments} for event in call.told("tool_end")]
    return {**answers.report(), "tools": ran}


async def asked(target: Target) -> Facts:
    """A written message: the SDK asks for the answer."""
    async with calling(target, tools=False) as call:
        await call.session.send_message(QUESTION)
        await call.until(lambda: completed(call, ANSWERED) == 1)
        await thank(call)
    return told(call)


async def heard(target: Target) -> Facts:
    """The server's turn detection starts the answer."""
    async with calling(target, tools=False) as call, talking(call, target):
        await call.until(lambda: completed(call, ANSWERED) == 1)
        await thank(call)
    return told(call)


async def asked_tool(target: Target) -> Facts:
    """A written message whose answer is a function call."""
    async with calling(target) as call:
        await call.session.send_message(QUESTION)
        await call.until(lambda: completed(call, STATUS) == 1)
        await thank(call)
    return told(call)


if __name__ == "__main__":
    main(
        f"openai-agents {version('openai-agents')}",
        {"asked": asked, "heard": heard, "asked_tool": asked_tool},
    )
