"""Asking a provider whether it works, apart from any call.

A session probe connects and waits for ``session.created``. A response probe goes on to have one tiny text response
made, because a provider can open sessions all day while every response fails.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson

from tiers.realtime.link import Link, Loss

_TINY_RESPONSE = {
    "type": "response.create",
    "response": {
        "conversation": "none",
        "output_modalities": ["text"],
        "max_output_tokens": 16,
        "instructions": "Answer with the single word: ready.",
        "input": [
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "Are you ready?"}],
            }
        ],
        "metadata": {"purpose": "health_probe"},
    },
}


@dataclass(frozen=True, slots=True)
class Probed:
    """What came of a probe. `code`: the provider's error code; `usage`: what a response probe was billed."""

    ok: bool
    loss: Loss | None = None
    code: str = ""
    usage: dict[str, Any] | None = None


async def probe(url: str, headers: dict[str, str], *, response: bool, timeout_s: float) -> Probed:
    """Probe once. Takes at most `timeout_s` to connect, and as much again for a response."""
    frames: asyncio.Queue[bytes | Loss] = asyncio.Queue()
    link = Link(frames.put_nowait, frames.put_nowait)
    link.open(url, headers, handshake_s=timeout_s, ping_interval_s=60.0, ping_timeout_s=60.0)
    try:
        async with asyncio.timeout(timeout_s):
            found = await _wait_for(frames, "session.created")
        if not found.ok or not response:
            return found
        link.send(orjson.dumps(_TINY_RESPONSE))
        async with asyncio.timeout(timeout_s):
            return await _wait_for(frames, "response.done")
    except TimeoutError:
        return Probed(False, code="timeout")
    finally:
        link.close()


async def _wait_for(frames: asyncio.Queue[bytes | Loss], wanted: str) -> Probed:
    while True:
        frame = await frames.get()
        if isinstance(frame, Loss):
            return Probed(False, loss=frame)
        try:
            event = orjson.loads(frame)
        except orjson.JSONDecodeError:
            continue
        if event.get("type") == "error":
            error = event.get("error") or {}
            return Probed(False, code=str(error.get("code") or error.get("type")))
        if event.get("type") == wanted:
            done = event.get("response") or {}
            status = done.get("status", "completed")
            error = ((done.get("status_details") or {}).get("error")) or {}
            # A tiny limit may cut the answer short; the provider works all the same.
            return Probed(
                status in ("completed", "incomplete"),
                code=str(error.get("code") or ""),
                usage=done.get("usage"),
            )
