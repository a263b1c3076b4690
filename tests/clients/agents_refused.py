"""An application on the OpenAI Agents SDK whose instructions and tools are refused, and which goes on.

Runs in `.venv-clients`.
"""

from __future__ import annotations

from importlib.metadata import version

from agents import function_tool
from agents.realtime import RealtimeAgent
from agents_failover import completed, server_events, told
from agents_sdk import calling
from stock import QUESTION, Facts, Target, main


@function_tool
def cancel_order(order_id: str) -> str:
    """Cancel an order."""
    return f"cancelled {order_id}"


async def refused_update(target: Target) -> Facts:
    """The SDK sets instructions and tools that are locked, at the beginning and between two turns."""
    async with calling(target) as call:
        await call.session.send_message(QUESTION)
        await call.until(lambda: completed(call) == 1 and call.answers == 1)
        before = call.server_types.count("session.updated")
        other = RealtimeAgent(name="Other", instructions="You answer for another shop.", tools=[cancel_order])
        await call.session.update_agent(other)
        await call.until(lambda: call.server_types.count("session.updated") > before)
        await call.session.send_message("Thank you.")
        await call.until(lambda: completed(call) == 2 and call.answers == 2)
    sessions = [event["session"] for event in server_events(call) if event.get("type") == "session.updated"]
    return {**told(call), "sessions": sessions[:before], "later": sessions[before:]}


if __name__ == "__main__":
    main(f"openai-agents {version('openai-agents')}", {"refused_update": refused_update})
