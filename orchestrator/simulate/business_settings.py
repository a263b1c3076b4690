"""The simulated business's tools as the orchestrator's own settings: a TOML file that `--config` takes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from orchestrator.simulate.records import BusinessTool

TOPICS = {
    "cancel_order": "cancellation",
    "refund_order": "money",
    "book_appointment": "booking",
    "update_email": "account",
}
SPEAKABLE = {
    "get_order_status": ["order_id", "status", "delivery_date"],
    "cancel_order": ["order_id", "status"],
    "refund_order": ["order_id", "amount", "currency"],
    "book_appointment": ["appointment_id", "date", "time"],
    "update_email": ["order_id", "customer.email"],
}
READBACK = {
    "cancel_order": "cancel order {order_id}",
    "refund_order": "refund {amount} euros of order {order_id}",
    "book_appointment": "book an appointment on {date} at {time} for {name}",
    "update_email": "change the e-mail address of order {order_id} to {email}",
}
ENTITIES = {"order_id": "order_number", "amount": "amount", "name": "name", "email": "email"}


SECRET = "# The secret is not in here: it goes into ORCHESTRATOR_TOOL_POLICY__WEBHOOK_SECRET.\n"


def settings(tools: Iterable[BusinessTool], origin: str, *, honour_keys: bool) -> str:
    """``[tools.*]`` for a business at `origin`, such as http://127.0.0.1:9003."""
    policy = _table("tool_policy", {"built_in": ["wait_for_user", "transfer_to_human"]})
    tables = [_table(f"tools.{tool.name}", _tool(tool, origin, honour_keys)) for tool in tools]
    return "\n".join([SECRET + policy, *tables])


def _tool(tool: BusinessTool, origin: str, honour_keys: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "description": tool.description,
        "kind": "mutating" if tool.mutating else "read_only",
        "url": f"{origin}/tools/{tool.name}",
        # A JSON schema is a JSON object, and as text it needs no dialect of its own.
        "parameters": json.dumps(tool.schema),
        "speakable": SPEAKABLE[tool.name],
    }
    if tool.mutating:
        entities = {name: kind for name, kind in ENTITIES.items() if name in tool.schema["properties"]}
        told |= {
            "topic": TOPICS[tool.name],
            "readback": READBACK[tool.name],
            "honours_key": honour_keys,
            "entities": entities,
        }
    return told


def _table(name: str, fields: dict[str, Any]) -> str:
    return f"[{name}]\n" + "".join(f"{field} = {_value(value)}\n" for field, value in fields.items())


def _value(value: Any) -> str:
    """Texts, booleans and lists are written in TOML as in JSON."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_value(part)}" for name, part in value.items()) + " }"
    return json.dumps(value)
