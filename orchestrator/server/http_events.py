"""`GET /v1/events`: the timeline of this replica's calls as it happens, as server-sent events.

A row is an event without a name, so that ``onmessage`` gets it, with JSON as its data. Its id says which process it is
from and its number there: who comes back with `Last-Event-ID` gets what was missed, as far as it is remembered.

Rows hold what callers and agents say. Without ``?text=true`` only what is known to be no such thing is shown (numbers,
ids, words of our own); with it the rest too, less what the settings call secret.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

import orjson
from fastapi import FastAPI, Header, Query, Response
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from orchestrator.core.redaction import Redactor
from orchestrator.server.api_errors import ERRORS, ApiError, answers
from orchestrator.server.event_fields import show
from orchestrator.server.events import EventLog, Follower, Numbered, Row
from orchestrator.server.guards import Guards

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 15.0
"""After so long without a row something is sent all the same."""
SEND_S = 20.0
"""How long a reader may take nothing before it is given up."""
MOST_WAITING = 1000
"""Rows that may wait for one reader."""
MOST_READERS = 32
LONGEST_S = 600.0
"""A stream ends after that; whoever comes back for more shows the key again."""
RETRY_MS = 2000
_NUMBER = re.compile(r"[0-9]{1,18}")


class Service(Protocol):
    @property
    def events(self) -> EventLog: ...

    @property
    def redactor(self) -> Redactor: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows somebody wants; nothing given wants all. `text`: with what was said in them."""

    calls: Collection[str] = ()
    types: Collection[str] = ()
    tiers: Collection[str] = ()
    text: bool = False

    def has(self, row: Row) -> bool:
        return (
            (not self.calls or row["call_id"] in self.calls)
            and (not self.types or row["type"] in self.types)
            and (not self.tiers or row["tier"] in self.tiers)
        )


def add_events(api: FastAPI, service: Service, guards: Guards) -> None:
    @api.get(
        "/v1/events",
        tags=["operations"],
        dependencies=guards.operator,
        response_class=Response,
        responses={
            200: {
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
                "description": "Events whose data is a row: `time` (Unix seconds), `type`, `tier`, `call_id` and "
                "what belongs to the type. `events_missed`: rows after `Last-Event-ID` are forgotten. "
                "`events_cut_off`: the reader is too slow, and the stream ends.",
            },
            **ERRORS,
            **answers(503, "Too many read already: see Retry-After."),
        },
    )
    async def events(
        call: Annotated[list[str] | None, Query(description="Of these calls only, by their ids.")] = None,
        type: Annotated[list[str] | None, Query(description="Rows of these types only.")] = None,
        tier: Annotated[
            list[Literal["A", "B", "C"]] | None, Query(description="Of these tiers only.")
        ] = None,
        text: Annotated[bool, Query(description="With what was said, by callers and to them.")] = False,
        for_s: Annotated[
            float, Query(gt=0, le=LONGEST_S, description="Seconds after which the stream ends.")
        ] = LONGEST_S,
        last_event_id: Annotated[str, Header(description="Go on after that event.")] = "",
    ) -> Response:
        """What happens in the calls of this replica, as it happens. Other replicas have streams of their own."""
        log_of_calls = service.events
        if len(log_of_calls.followers) >= MOST_READERS:
            message = f"{MOST_READERS} read the events of this replica already; end one, or try again later"
            raise ApiError(503, "too_many_readers", message, headers={"Retry-After": "10"})
        wanted = Wanted(frozenset(call or ()), frozenset(type or ()), frozenset(tier or ()), text)
        return EventStream(log_of_calls, service.redactor, wanted, last_event_id, for_s)


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a reader who comes back gets first: the rows `after` a number.

    `missed` are forgotten; None: none are, 0: nobody can tell how many.
    """

    after: int
    missed: int | None = None
    rows: Sequence[Numbered] = ()


class EventStream(Response):
    """The answer to one reader. It follows the log from the moment it is sent until the reader is gone."""

    media_type = "text/event-stream"

    def __init__(
        self, events: EventLog, redactor: Redactor, wanted: Wanted, last_event_id: str, for_s: float
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events, self._redactor, self._wanted = events, redactor, wanted
        self._last_event_id, self._for_s = last_event_id, for_s

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        # In one go: no row may be in both, or in neither.
        follower, remembered = self._events.follow(self._wanted.has, MOST_WAITING), self._remembered()
        sending = asyncio.ensure_future(self._send(self._blocks(follower, remembered), send))
        leaving = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._events.unfollow(follower)
            sending.cancel()
            leaving.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
        if not sending.cancelled() and (error := sending.exception()) is not None:
            raise error

    async def _send(self, blocks: AsyncIterator[bytes], send: Send) -> None:
        try:
            async with asyncio.timeout(SEND_S):
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for block in blocks:
                async with asyncio.timeout(SEND_S):
                    await send({"type": "http.response.body", "body": block, "more_body": True})
            async with asyncio.timeout(SEND_S):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            # Nothing that was sent has been read: what cannot be told any more is not waited for.
            log.warning("a reader of /v1/events took nothing for %g s and was given up", SEND_S)

    async def _blocks(self, follower: Follower, remembered: Remembered) -> AsyncIterator[bytes]:
        until = time.monotonic() + self._for_s
        yield b"retry: %d\n" % RETRY_MS + self._position(remembered.after)
        if remembered.missed is not None:
            yield _notice("events_missed", count=remembered.missed or None)
        for number, row in remembered.rows:
            yield self._block(number, row)
        while not follower.ended:
            left = until - time.monotonic()
            if left <= 0:
                return
            found = await follower.next(min(left, KEEP_ALIVE_S))
            if follower.too_slow:
                log.warning("a reader of /v1/events is too slow and was cut off")
                yield _notice("events_cut_off")
                return
            for number, row in found:
                yield self._block(number, row)
            if not found and not follower.ended:
                yield self._position(self._events.last)

    def _remembered(self) -> Remembered:
        events = self._events
        if not self._last_event_id:
            return Remembered(events.last)
        epoch, _, digits = self._last_event_id.partition("-")
        number = int(digits) if _NUMBER.fullmatch(digits) else None
        if epoch != events.epoch or number is None or number > events.last:
            return Remembered(events.last, missed=0)
        missed, rows = events.since(number)
        kept = [(each, row) for each, row in rows if self._wanted.has(row)]
        return Remembered(number + missed, missed or None, kept)

    def _position(self, number: int) -> bytes:
        """No event, and yet where to go on after: of rows that are not wanted nobody misses anything."""
        return b"id: %s-%d\n\n" % (self._events.epoch.encode(), number)

    def _block(self, number: int, row: Row) -> bytes:
        shown = show(row, self._redactor, text=self._wanted.text)
        return b"data: %s\n%s" % (_json(shown), self._position(number))


def _notice(type: str, **fields: Any) -> bytes:
    return b"data: %s\n\n" % _json({"time": time.time(), "type": type, "tier": "", "call_id": "", **fields})


def _json(row: Row) -> bytes:
    return orjson.dumps(row, default=str)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
