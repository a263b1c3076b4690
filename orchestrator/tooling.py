"""What a tool written in Python may import: how to say that it failed, and what it is told about the call.

from orchestrator.tooling import ToolContext, ToolError

async def cancel_order(order_id: str, context: ToolContext) -> dict[str, str]:
    if not await orders.may_be_cancelled(order_id):
        raise ToolError("the order has been shipped")
    return {"status": await orders.cancel(order_id, context.idempotency_key)}
"""

from __future__ import annotations

from dataclasses import dataclass


class ToolError(Exception):
    """The tool did nothing, for certain: it may be called again. The text is for people, and holds no secret.

    Any other exception of a tool that changes something counts as "it may have run".
    """


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool is told beside its arguments, if it has a parameter called `context`."""

    call_id: str
    user: str
    bucket: str
    purpose: str
    idempotency_key: str
    """The same for every attempt of what must happen once."""
    attempt: int
    """Of this run: 1, or 2 where the first one may be repeated."""
