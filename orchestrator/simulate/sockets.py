"""WebSockets that can misbehave: refused, hung, reset, or dead with the socket open.

uvicorn owns the port and hands every upgrade request to `UpgradeProtocol`, which asks a `decide` function
what to do with it. An accepted one is served by picows, whose transport can be reset at TCP level and whose
pongs are ours to withhold.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from picows import (
    WSAutoPingStrategy,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from picows.picows import WSProtocol  # type: ignore[attr-defined]

MAX_FRAME_BYTES = 16 * 1024 * 1024
"""One append may carry 15 MiB of base64."""
CLOSE_REPLY_SECONDS = 2.0
"""How long the other side may take to answer our close frame."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A WebSocket upgrade request; header names are in lower case."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]

    @classmethod
    def parse(cls, request: bytes) -> Upgrade:
        head, *lines = request.decode("latin-1").split("\r\n")
        target = urlsplit(head.split(" ")[1])
        headers = dict(line.split(": ", 1) for line in lines if ": " in line)
        lowered = {name.lower(): value for name, value in headers.items()}
        return cls(target.path, dict(parse_qsl(target.query, keep_blank_values=True)), lowered)

    @property
    def subprotocols(self) -> list[str]:
        return [
            name.strip() for name in self.headers.get("sec-websocket-protocol", "").split(",") if name.strip()
        ]


@dataclass(frozen=True, slots=True)
class Accept:
    """Answer 101 and serve `socket`; `subprotocol` is echoed when given."""

    socket: Socket
    subprotocol: str | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with an HTTP status and a JSON body."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Reset:
    """Close the TCP connection without an answer."""


@dataclass(frozen=True, slots=True)
class Hang:
    """Never answer."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do with an upgrade, after `delay` seconds."""

    what: Accept | Refuse | Reset | Hang
    delay: float = 0.0


Decide = Callable[[Upgrade], Verdict]


class Socket(WSListener):
    """The server's side of one WebSocket. Set `on_text` and `on_closed` before it is accepted."""

    def __init__(self, ping_seconds: float = 20.0) -> None:
        self.on_open: Callable[[], None] = _nothing
        self.on_text: Callable[[bytes], None] = _nothing
        self.on_closed: Callable[[int, str, str], None] = _nothing
        """Called once with the close code (1006 without a close frame), the reason, and who closed."""
        self._transport: WSTransport | None = None
        self._ping_seconds = ping_seconds
        self._pong_seen = True
        self._timer: asyncio.TimerHandle | None = None
        self._dead = False
        self._closing = False
        self._parts = bytearray()
        self._end = (1006, "", "client")

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._closing and not self._dead

    def send(self, text: bytes) -> None:
        """Send one text frame; nothing once the socket is closing or dead."""
        if self.open and self._transport is not None:
            self._transport.send(WSMsgType.TEXT, text)

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame; the connection ends when the other side answers it, or soon after."""
        if not self.open or self._transport is None:
            return
        self._closing = True
        self._end = (code, reason, "server")
        self._transport.send(WSMsgType.CLOSE, struct.pack("!H", code) + reason.encode())
        self._after(CLOSE_REPLY_SECONDS, self._transport.disconnect)

    def reset(self) -> None:
        """Drop the connection at TCP level: the other side sees a reset, not an end of stream."""
        if self._transport is not None:
            self._closing = True
            self._end = (1006, "", "server")
            reset(self._transport.underlying_transport)

    def die(self) -> None:
        """Stay connected and do nothing any more: no reading, no sending, no pongs."""
        self._dead = True
        self._after(None, None)

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self._after(self._ping_seconds, self._ping)
        self.on_open()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if self._dead:
            return
        kind = frame.msg_type
        if kind in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
            self._data(frame)
        elif kind == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif kind == WSMsgType.PONG:
            self._pong_seen = True
        elif kind == WSMsgType.CLOSE:
            self._closed_by_peer(transport, frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._after(None, None)
        self._transport = None
        self.on_closed(*self._end)

    def _data(self, frame: WSFrame) -> None:
        if frame.fin and not self._parts:
            self.on_text(frame.get_payload_as_bytes())
            return
        self._parts += frame.get_payload_as_bytes()
        if frame.fin:
            whole = bytes(self._parts)
            self._parts.clear()
            self.on_text(whole)

    def _closed_by_peer(self, transport: WSTransport, frame: WSFrame) -> None:
        if not self._closing:
            payload = frame.get_payload_as_bytes()
            code = struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else 1005
            self._end = (code, payload[2:].decode(errors="replace"), "client")
            self._closing = True
            transport.send(WSMsgType.CLOSE, payload[:2])
        transport.disconnect()

    def _ping(self) -> None:
        if self._transport is None:
            return
        if not self._pong_seen:
            self.close(1011, "keepalive ping timeout")
            return
        self._pong_seen = False
        self._transport.send_ping(b"")
        self._after(self._ping_seconds, self._ping)

    def _after(self, seconds: float | None, call: Callable[[], Any] | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(seconds, call) if seconds is not None and call is not None else None


def _nothing(*_: Any) -> None:
    return None


def reset(transport: Any) -> None:
    """Close a TCP transport, asyncio's or uvloop's, with RST."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


@dataclass(slots=True, eq=False)
class UpgradeProtocol(asyncio.Protocol):
    """What uvicorn hands a WebSocket upgrade to: does what `decide` says."""

    decide: Decide
    config: Any
    server_state: Any
    app_state: Any = None
    _transport: Any = None
    _socket: Socket | None = None
    _timer: asyncio.TimerHandle | None = field(default=None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.server_state.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._timer is None:
            verdict = self.decide(Upgrade.parse(data))
            loop = asyncio.get_running_loop()
            # Never at once: uvicorn makes this object the transport's protocol after this call.
            self._timer = loop.call_later(verdict.delay, self._execute, verdict.what, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone()

    def shutdown(self) -> None:
        """Called by uvicorn when the server stops."""
        if self._socket is not None and self._socket.open:
            self._socket.close(1001, "server shutting down")
        else:
            self._transport.abort()
            self._gone()

    def _gone(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.server_state.connections.discard(self)

    def _execute(self, what: Accept | Refuse | Reset | Hang, request: bytes) -> None:
        if isinstance(what, Accept):
            self._accept(what, request)
        elif isinstance(what, Refuse):
            self._transport.write(_http_response(what))
            self._transport.close()
        elif isinstance(what, Reset):
            reset(self._transport)

    def _accept(self, accept: Accept, request: bytes) -> None:
        self._socket = accept.socket
        protocol = _Protocol(accept, self._gone)
        protocol.connection_made(self._transport)
        self._transport.set_protocol(protocol)
        view = memoryview(request)
        while view:
            buffer = protocol.get_buffer(-1)
            size = min(len(buffer), len(view))
            buffer[:size] = view[:size]
            protocol.buffer_updated(size)
            view = view[size:]


class _Protocol(WSProtocol):  # type: ignore[misc]
    """picows on a connection that uvicorn accepted. It has no public way to do this, so its version is pinned."""

    def __init__(self, accept: Accept, gone: Callable[[], None]) -> None:
        extra = {"Sec-WebSocket-Protocol": accept.subprotocol} if accept.subprotocol else None

        def listener(_request: Any) -> WSUpgradeResponseWithListener:
            return WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response(extra), accept.socket)

        super().__init__(
            None, None, False, listener, logger, True, 5.0,
            False, 20.0, 20.0, WSAutoPingStrategy.PING_PERIODICALLY, False,
            MAX_FRAME_BYTES, None, 16 * 1024,
        )  # fmt: skip
        self._gone = gone

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._gone()


def _http_response(refuse: Refuse) -> bytes:
    phrase = HTTPStatus(refuse.status).phrase
    head = (
        f"HTTP/1.1 {refuse.status} {phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(refuse.body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + refuse.body
