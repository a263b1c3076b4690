"""Everything a session sends goes through here, and the small tools its parts share."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Callable
from typing import Any

import orjson

from orchestrator.simulate.journal import Journal
from orchestrator.simulate.sockets import Socket


def new_id(prefix: str) -> str:
    """An id of at most 32 characters, as the wire wants them."""
    return f"{prefix}_{secrets.token_hex(10)}"


class Outbox:
    """Server events to one socket. `silenced` swallows them; `twice` sends the next one two times."""

    def __init__(self, socket: Socket, journal: Journal) -> None:
        self.silenced = False
        self.twice = False
        self._socket = socket
        self._journal = journal

    def send(self, kind: str, **fields: Any) -> None:
        if self.silenced or not self._socket.open:
            return
        text = orjson.dumps({"type": kind, "event_id": new_id("event"), **fields})
        for _ in range(2 if self.twice else 1):
            self._socket.send(text)
            self._journal.sending(kind)
        self.twice = False

    def audio(self, where: dict[str, Any], audio: bytes) -> None:
        """A piece of an answer."""
        self._journal.audio_out_bytes += len(audio)
        self.send("response.output_audio.delta", **where, delta=base64.b64encode(audio).decode())

    def error(
        self,
        code: str,
        message: str,
        param: str | None = None,
        event_id: str | None = None,
        *,
        kind: str = "invalid_request_error",
    ) -> None:
        error = {"type": kind, "code": code, "message": message, "param": param, "event_id": event_id}
        self.send("error", error=error)

    def raw(self, text: bytes) -> None:
        """A text frame as it is, JSON or not."""
        if not self.silenced:
            self._socket.send(text)


class Timers:
    """Named timers; setting one again replaces it."""

    def __init__(self) -> None:
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def after(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        self.cancel(name)
        self._timers[name] = asyncio.get_running_loop().call_later(seconds, call)

    def cancel(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def cancel_all(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
