"""A real MCP server with tools of a shop: `mcp_shop.py LOG` over stdin and stdout, `mcp_shop.py LOG PORT` over HTTP.

Whatever a tool does it writes into LOG first, one JSON line each.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations

server = MCPServer("shop", log_level="ERROR")


def note(tool: str, order_id: str, ctx: Context[Any, Any] | None = None) -> None:
    meta = dict(ctx.request_context.meta or {}) if ctx is not None else {}
    told = {name.partition("/")[2]: value for name, value in meta.items() if name.startswith("voice-orch")}
    line = {"tool": tool, "order_id": order_id, "pid": os.getpid(), **told}
    with open(sys.argv[1], "a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")


@server.tool(description="Cancel an order.")
def cancel_order(order_id: str, ctx: Context[Any, Any]) -> dict[str, str]:
    note("cancel_order", order_id, ctx)
    return {"status": "cancelled", "order_id": order_id, "token": os.environ.get("SHOP_TOKEN", "")}


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def lookup(order_id: str) -> str:
    note("lookup", order_id)
    return f"order {order_id} is on its way"


@server.tool(annotations=ToolAnnotations(read_only_hint=False))
def change(order_id: str) -> str:
    return order_id


@server.tool()
def refuse(order_id: str) -> None:
    raise ToolError("the order has been shipped")


@server.tool()
def crash(order_id: str) -> None:
    note("crash", order_id)
    raise ValueError("half of it is done")


@server.tool()
def die(order_id: str) -> None:
    note("die", order_id)
    os._exit(1)


@server.tool()
async def hang(order_id: str) -> None:
    note("hang", order_id)
    await anyio.sleep_forever()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
    else:
        server.run("stdio")
