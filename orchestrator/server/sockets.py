"""WebSockets on the HTTP server's own port: picows takes over the connections that uvicorn upgrades.

picows relays frames at a fraction of the cost of an ASGI websocket. uvicorn hands a connection over by building
``ws_protocol_class(config=…, server_state=…, app_state=…)`` and replaying the request to it; `websocket_protocol`
makes such a class for a given way of accepting connections. The positional constructor of `WSProtocol` is no
public API: picows is pinned, and a test holds this contract.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from picows import (
    WSAutoPingStrategy,
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from picows.picows import WSProtocol  # type: ignore[attr-defined]

from orchestrator.protocol.round_trip import RoundTrip
from orchestrator.server.frame_limits import Allowance, FrameLimits

log = logging.getLogger(__name__)
wire_log = logging.getLogger("picows.server")

HANDSHAKE_S = 5.0
"""Never used up: a request is whole before it comes here, after `limits.request_s` at the latest."""
PING_INTERVAL_S = 20.0
PING_TIMEOUT_S = 20.0
MAX_BACKLOG_BYTES = 8 * 1024 * 1024
"""A client that does not read is disconnected when this much waits for it."""


class ClientSocket(WSListener):
    """One client connection. Its owner sets the three callbacks before the first frame can come."""

    def __init__(self, limits: FrameLimits) -> None:
        self.on_open: Callable[[], None] = lambda: None
        self.on_frame: Callable[[bytes], None] = lambda frame: None
        self.on_closed: Callable[[], None] = lambda: None
        self.on_pong: Callable[[], None] = lambda: None
        self.round_trip = RoundTrip()
        self._limits = limits
        self._messages = Allowance(limits.messages_per_s, limits.messages_per_s * limits.burst_s)
        self._bytes = Allowance(
            limits.bytes_per_s, limits.bytes_per_s * limits.burst_s + limits.message_bytes
        )
        self._closed = False
        """Nothing that still comes counts."""
        self._transport: WSTransport | None = None
        self._pieces: list[bytes] = []
        self._size = 0

    def send(self, frame: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_close_frame_sent:
            return
        if self._is_read(transport):
            transport.send(WSMsgType.TEXT, frame)

    def _is_read(self, transport: WSTransport) -> bool:
        """Whether what was sent is being read; a client that lets too much wait is disconnected."""
        if transport.underlying_transport.get_write_buffer_size() <= MAX_BACKLOG_BYTES:
            return True
        self.close(1008, "the client does not read what it is sent")
        return False

    def close(self, code: int, reason: str) -> None:
        self._closed, self._pieces = True, []
        if self._transport is not None and not self._transport.is_close_frame_sent:
            self._transport.send_close(WSCloseCode(code), reason.encode()[:120])
            self._transport.disconnect()

    def let_go(self) -> None:
        """Its owner wants no more callbacks, and is not to be kept in memory by this socket."""
        self.on_open = self.on_closed = self.on_pong = lambda: None
        self.on_frame = lambda frame: None

    def ping(self) -> None:
        """Measure the round trip; `on_pong` tells when it is known."""
        if self._transport is not None and not self._transport.is_close_frame_sent:
            self._transport.send_ping(self.round_trip.ping(time.monotonic()))

    # --- picows callbacks ---

    def is_user_specific_pong(self, frame: WSFrame) -> bool:
        """picows itself waits for a pong as well: any of them will do."""
        if frame.msg_type != WSMsgType.PONG:
            return False
        self._pong(frame)
        return True

    def _pong(self, frame: WSFrame) -> None:
        if self.round_trip.pong(frame.get_payload_as_bytes(), time.monotonic()):
            self.on_pong()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self.on_open()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if self._closed:
            return
        kind = frame.msg_type
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self.close(1002, "no extension was agreed on: send frames uncompressed, their reserved bits 0")
        elif not self._messages.take(1):
            self.close(
                1008, f"more than {self._limits.messages_per_s:g} messages a second; send fewer, larger ones"
            )
        elif kind == WSMsgType.TEXT and frame.fin and not self._pieces:
            self._take(frame.get_payload_as_bytes())
        elif kind in (WSMsgType.TEXT, WSMsgType.CONTINUATION):
            self._assemble(frame)
        elif kind == WSMsgType.PING:
            self._answer_ping(transport, frame)
        elif kind == WSMsgType.CLOSE:
            self._closed = True
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()
        elif kind == WSMsgType.BINARY:
            self.close(1003, "binary messages are not part of the Realtime protocol; send JSON as text")
        elif kind == WSMsgType.PONG:
            self._pong(frame)

    def _answer_ping(self, transport: WSTransport, frame: WSFrame) -> None:
        """Here, as picows would go on answering a client that reads no answer."""
        if self._is_read(transport):
            transport.send_pong(frame.get_payload_as_bytes())

    def _take(self, message: bytes) -> None:
        """One whole message."""
        if not self._bytes.take(len(message)):
            self.close(1008, f"more than {self._limits.bytes_per_s:g} bytes a second")
        elif message.isascii() or _is_text(message):
            self.on_frame(message)
        else:  # a provider that is sent it would end its own session
            self.close(1007, "a text message is not UTF-8")

    def _assemble(self, frame: WSFrame) -> None:
        if (frame.msg_type == WSMsgType.TEXT) is bool(self._pieces):
            self.close(1002, "the pieces of a message came out of order")
            return
        self._pieces.append(frame.get_payload_as_bytes())
        self._size += len(self._pieces[-1])
        limits = self._limits
        if self._size > limits.message_bytes:
            self.close(1009, f"a message may have {limits.message_bytes} bytes")
        elif len(self._pieces) > limits.fragments:
            self.close(1008, f"a message may come in {limits.fragments} pieces")
        elif frame.fin:
            whole, self._pieces, self._size = b"".join(self._pieces), [], 0
            self._take(whole)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.on_closed()


def _is_text(message: bytes) -> bool:
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return True


def accept(socket: ClientSocket, subprotocol: str | None) -> WSUpgradeResponseWithListener:
    """A 101 that echoes the one subprotocol, without which browsers refuse the connection."""
    headers = {"Sec-WebSocket-Protocol": subprotocol} if subprotocol else None
    return WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response(headers), socket)


def refuse(
    status: int, body: bytes, headers: Mapping[str, str] | None = None
) -> WSUpgradeResponseWithListener:
    headers = {"Content-Type": "application/json", **(headers or {})}
    return WSUpgradeResponseWithListener(WSUpgradeResponse.create_error_response(status, body, headers), None)


Accept = Callable[[WSUpgradeRequest, tuple[str, int] | None], WSUpgradeResponseWithListener]
"""What to do with an upgrade request from a peer's address."""


def websocket_protocol(on_upgrade: Accept, max_message_bytes: int) -> type[asyncio.Protocol]:
    """The class that uvicorn's ``ws`` setting wants."""
    members = {"on_upgrade": staticmethod(on_upgrade), "max_message_bytes": max_message_bytes}
    return type("PicowsProtocol", (_PicowsProtocol,), members)


class _PicowsProtocol(WSProtocol):  # type: ignore[misc]
    """One connection that uvicorn hands over."""

    on_upgrade: Accept
    max_message_bytes: int

    def __init__(self, config: Any, server_state: Any, app_state: Any) -> None:
        self._peer: tuple[str, int] | None = None
        self._server_state = server_state
        super().__init__(
            None,
            None,
            False,
            self._upgrade,
            wire_log,
            True,
            HANDSHAKE_S,
            True,
            PING_INTERVAL_S,
            PING_TIMEOUT_S,
            WSAutoPingStrategy.PING_WHEN_IDLE,
            False,  # pings count like any other message: see `_answer_ping`
            self.max_message_bytes,
            None,
            16 * 1024,
        )

    def _upgrade(self, request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        try:
            return self.on_upgrade(request, self._peer)
        except Exception:
            log.exception("accepting a WebSocket failed")
            return refuse(500, b'{"error":{"type":"server_error","message":"Internal error; see the log."}}')

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._peer = transport.get_extra_info("peername")
        self._server_state.connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._server_state.connections.discard(self)
        super().connection_lost(error)

    def data_received(self, data: bytes) -> None:
        """The upgrade request, as uvicorn rebuilt it; what follows comes by the buffered protocol."""
        view = memoryview(data)
        while view:
            buffer = self.get_buffer(len(view))
            size = min(len(buffer), len(view))
            buffer[:size] = view[:size]
            self.buffer_updated(size)
            view = view[size:]

    def shutdown(self) -> None:
        """uvicorn is stopping."""
        if self.transport is not None and not self.transport.is_close_frame_sent:
            self.transport.send_close(WSCloseCode.SERVICE_RESTART, b"the server is restarting; connect again")
            self.transport.disconnect()
