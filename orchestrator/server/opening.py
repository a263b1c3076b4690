"""The moment between a client's connection and its call, in which the fleet is asked whether its credential was used.

The answer takes a round trip to the store. The client is connected meanwhile, so that it can be told in the protocol
what is wrong, and what it sends is kept for the call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from orchestrator.protocol.wire import dump, error_event
from orchestrator.server.credentials import Use
from orchestrator.server.sockets import ClientSocket

log = logging.getLogger(__name__)

CLOSE_CODE = 3000
"""What OpenAI closes a connection with whose key it does not take."""
USED = "credential_used"


class Opening:
    """Takes the socket's callbacks until `spend` has answered, then calls `begin`, which puts a call's in their place.

    At most `keep_bytes` of what the client sends are kept.
    """

    def __init__(
        self,
        socket: ClientSocket,
        spend: Callable[[], Awaitable[Use]],
        begin: Callable[[Use], None],
        keep_bytes: int,
    ) -> None:
        self._socket = socket
        self._spend = spend
        self._begin = begin
        self._room = keep_bytes
        self._kept: list[bytes] = []
        self._task: asyncio.Task[None] | None = None
        socket.on_open, socket.on_frame, socket.on_closed = self._opened, self._keep, self._gone

    def _opened(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._decide(), name="opening")

    def _keep(self, frame: bytes) -> None:
        self._room -= len(frame)
        if self._room >= 0:
            self._kept.append(frame)
        else:
            self._socket.close(1009, "too much at once before the session is open")

    def _gone(self) -> None:
        """A credential is used up all the same: whether its call has begun is nothing that a client can know."""
        if self._task is not None:
            self._task.cancel()
        self._socket.let_go()

    async def _decide(self) -> None:
        try:
            use = await self._spend()
            if use is not Use.USED:
                self._let_in(use)
                return
        except Exception:
            log.exception("a call could not be opened with its credential")
            self._refuse("server_error", "this server failed to open the call; mint a new credential", 1011)
            return
        message = (
            "this credential has opened its call already, and opens no other; mint a new one for each call"
        )
        self._refuse(USED, message, CLOSE_CODE)

    def _let_in(self, use: Use) -> None:
        kept, self._kept = self._kept, []
        self._begin(use)
        self._socket.on_open()
        for frame in kept:
            self._socket.on_frame(frame)

    def _refuse(self, code: str, message: str, close_code: int) -> None:
        kind = "invalid_request_error"
        self._socket.send(dump({**error_event(message, code=code, kind=kind), "event_id": "event_refused"}))
        self._socket.close(close_code, f"{kind}.{code}")
