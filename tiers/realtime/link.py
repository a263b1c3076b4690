"""The socket to an OpenAI Realtime provider.

A link reports every frame, and exactly once that it was lost and how. Being connected proves nothing (providers
accept a socket and then refuse in an event), so it is not reported: ``session.created`` is what counts.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from picows import (
    WSAutoPingStrategy,
    WSCloseCode,
    WSFrame,
    WSHandshakeError,
    WSListener,
    WSMsgType,
    WSTransport,
    ws_connect,
)

from orchestrator.protocol.round_trip import RoundTrip

log = logging.getLogger(__name__)

FIRST_PINGS_S = (0.002, 0.05)
"""A connection that is reset just after the upgrade can look alive until something is written to it."""
LOOK_S = 0.1
"""Under uvloop a reset that comes together with the last audio can pass unnoticed, until the next ping: nothing tells
of it, and nothing is read any more. So the state of the connection is looked at; it costs 2 µs."""
_RESET = 7  # TCP_CLOSE, of Linux's TCP_INFO
MAX_FRAME_BYTES = 16 * 1024 * 1024
_MOST_REASON = 300
"""Characters that are kept of why a connection was refused or closed."""
_MOST_WITH_WORDS = 4096
"""Bytes of a frame in which an error's message may stand; longer ones hold audio, and are not looked through."""
_SHORTEST_KEY = 8
"""Characters. Servers that want no key are given "none" or "x", which every frame may hold for other reasons."""


class LossKind(StrEnum):
    REFUSED = "refused"
    """No connection, or it ended before the upgrade was answered."""
    HTTP = "http"
    """The upgrade was answered with an HTTP status."""
    TIMEOUT = "timeout"
    """The handshake did not complete in time."""
    CLOSED = "closed"
    """The socket ended: with a close code, or without one when it was cut."""


@dataclass(frozen=True, slots=True)
class Loss:
    """How a link ended. `code` is the HTTP status or the close code, None where there was none."""

    kind: LossKind
    code: int | None = None
    reason: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.kind.value, str(self.code or ""), self.reason)))


class Link(WSListener):
    """One connection. After `close` nothing is reported any more."""

    def __init__(self, on_frame: Callable[[bytes], None], on_lost: Callable[[Loss], None]) -> None:
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._transport: WSTransport | None = None
        self._task: asyncio.Task[None] | None = None
        self._pieces: list[bytes] = []
        self._waiting: list[bytes] = []
        self._over = False
        self._key = b""
        self.round_trip = RoundTrip()

    def open(
        self,
        url: str,
        headers: dict[str, str],
        *,
        handshake_s: float,
        ping_interval_s: float,
        ping_timeout_s: float,
    ) -> None:
        """Start connecting; returns at once. The key in `headers` is taken out of whatever the provider says."""
        key = headers.get("Authorization", "").removeprefix("Bearer ").encode()
        self._key = key if len(key) >= _SHORTEST_KEY else b""
        self._task = asyncio.get_running_loop().create_task(
            self._connect(url, headers, handshake_s, ping_interval_s, ping_timeout_s), name="realtime-link"
        )

    async def _connect(
        self,
        url: str,
        headers: dict[str, str],
        handshake_s: float,
        ping_interval_s: float,
        ping_timeout_s: float,
    ) -> None:
        try:
            async with asyncio.timeout(handshake_s):
                await ws_connect(
                    lambda: self,
                    url,
                    extra_headers=headers,
                    websocket_handshake_timeout=handshake_s,
                    enable_auto_ping=True,
                    auto_ping_idle_timeout=ping_interval_s,
                    auto_ping_reply_timeout=ping_timeout_s,
                    auto_ping_strategy=WSAutoPingStrategy.PING_WHEN_IDLE,
                    max_frame_size=MAX_FRAME_BYTES,
                    logger_name="realtime",
                )
            if (
                self._transport is None
            ):  # picows returns as from a success when the peer hangs up on the handshake
                self._lose(
                    Loss(LossKind.REFUSED, None, "the connection ended before the upgrade was answered")
                )
        except TimeoutError:
            self._lose(Loss(LossKind.TIMEOUT))
        except WSHandshakeError as error:
            status = int(error.response.status) if error.response is not None else None
            body = (error.raw_body or b"")[:_MOST_WITH_WORDS].decode(errors="replace")
            self._lose(Loss(LossKind.HTTP if status else LossKind.REFUSED, status, body))
        except OSError as error:
            self._lose(Loss(LossKind.REFUSED, None, error.strerror or type(error).__name__))
        except Exception as error:
            log.warning("connecting to the provider failed: %s", type(error).__name__, exc_info=True)
            self._lose(Loss(LossKind.REFUSED, None, type(error).__name__))

    def send(self, frame: bytes) -> None:
        """Send a text frame; frames sent while connecting follow the handshake in order."""
        if self._over:
            return
        if self._transport is None:
            self._waiting.append(frame)
        else:
            self._transport.send(WSMsgType.TEXT, frame)

    def close(self) -> None:
        self._over = True
        if self._task is not None and not self._task.done():
            self._task.cancel()
        if self._transport is not None:
            self._transport.send_close(WSCloseCode.OK)
            self._transport.disconnect()

    def _lose(self, loss: Loss) -> None:
        if not self._over:
            self._over = True
            reason = self._without_key(loss.reason.encode()).decode(errors="replace")
            self._on_lost(Loss(loss.kind, loss.code, reason[:_MOST_REASON]))

    def _without_key(self, said: bytes) -> bytes:
        """Providers and proxies repeat a key that they refuse."""
        if self._key and len(said) <= _MOST_WITH_WORDS and self._key in said:
            return said.replace(self._key, b"[redacted]")
        return said

    # --- picows callbacks ---

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        if self._over:
            transport.disconnect()
            return
        for frame in self._waiting:
            transport.send(WSMsgType.TEXT, frame)
        self._waiting.clear()
        loop = asyncio.get_running_loop()
        for delay in FIRST_PINGS_S:
            loop.call_later(delay, self.ping)
        sock = transport.underlying_transport.get_extra_info("socket")
        if sock is not None and hasattr(socket, "TCP_INFO"):
            loop.call_later(LOOK_S, self._look, sock, False)

    def _look(self, sock: socket.socket, was_reset: bool) -> None:
        """Seen twice it is reset: in between, what had come before that was read."""
        if self._over:
            return
        try:
            is_reset = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _RESET
        except OSError:
            is_reset = True
        if is_reset and was_reset and self._transport is not None:
            self._transport.disconnect()
            self._lose(Loss(LossKind.CLOSED))
            return
        wait_s = LOOK_S / 10 if is_reset else LOOK_S
        asyncio.get_running_loop().call_later(wait_s, self._look, sock, is_reset)

    def ping(self) -> None:
        """Also measures the round trip."""
        if self._transport is not None and not self._over:
            self._transport.send_ping(self.round_trip.ping(time.monotonic()))

    def is_user_specific_pong(self, frame: WSFrame) -> bool:
        """picows itself waits for a pong as well: any of them will do."""
        if frame.msg_type != WSMsgType.PONG:
            return False
        self.round_trip.pong(frame.get_payload_as_bytes(), time.monotonic())
        return True

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if self._over:
            return
        kind = frame.msg_type
        if kind == WSMsgType.TEXT and frame.fin:
            self._on_frame(self._without_key(frame.get_payload_as_bytes()))
        elif kind in (WSMsgType.TEXT, WSMsgType.CONTINUATION):
            self._pieces.append(frame.get_payload_as_bytes())
            if frame.fin:
                whole, self._pieces = b"".join(self._pieces), []
                self._on_frame(self._without_key(whole))
        elif kind == WSMsgType.CLOSE:
            code = int(frame.get_close_code())  # type: ignore[call-overload]  # an int for codes without a name
            reason = (frame.get_close_message() or b"").decode(errors="replace")
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()
            self._lose(Loss(LossKind.CLOSED, code, reason))
        elif kind == WSMsgType.BINARY:
            self._on_frame(b"")  # no provider event is binary: reported as nonsense
        elif kind == WSMsgType.PONG:
            self.round_trip.pong(frame.get_payload_as_bytes(), time.monotonic())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._lose(Loss(LossKind.CLOSED))
