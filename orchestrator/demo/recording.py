"""What happened in the demo's call, as it was observed: rows, and the audio of both sides.

Rows come from the client (what it received, said and did) and from the service's events file. Times are seconds of
the running loop's monotonic clock; ``Row.time`` is the same moment as Unix time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from orchestrator.listening import Arrival, Played, Span, play
from orchestrator.protocol.audio import AudioFormat

WIRE = AudioFormat.PCM


class Source(StrEnum):
    CLIENT = "client"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Row:
    """One fact. `tier` is the call's, or the one that a response's metadata names; "" where there is none yet."""

    at: float
    type: str
    tier: str
    source: Source
    fields: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.fields.get(name, default)


@dataclass(frozen=True, slots=True)
class Heard:
    """One audio delta of the assistant's."""

    at: float
    response_id: str
    item_id: str
    data: bytes


@dataclass
class Recording:
    """The facts so far. `wall`: Unix time minus monotonic time. `step` is stamped on the client's rows."""

    wall: float = 0.0
    rows: list[Row] = field(default_factory=list)
    sent: list[Arrival] = field(default_factory=list)
    """The caller's microphone."""
    heard: list[Heard] = field(default_factory=list)
    flushes: list[float] = field(default_factory=list)
    """When the client threw away what it had not played: at a barge-in."""
    step: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, at: float, type: str, tier: str = "", **fields: Any) -> Row:
        """A fact that the client saw."""
        return self._add(Row(at, type, tier, Source.CLIENT, {"step": self.step, **fields}))

    def add_service_row(self, row: dict[str, Any]) -> Row:
        """A line of the service's events file."""
        fields = {name: value for name, value in row.items() if name not in ("time", "type", "tier")}
        return self._add(Row(row["time"] - self.wall, row["type"], row["tier"], Source.SERVICE, fields))

    def _add(self, row: Row) -> Row:
        self.rows.append(row)
        self._news.set()
        return row

    async def wait(self, what: str, fits: Callable[[Row], bool], *, since: int = 0, seconds: float) -> Row:
        """The first row from index `since` on that fits; TimeoutError names `what` did not come."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    self._news.clear()
                    for row in self.rows[since:]:
                        if fits(row):
                            return row
                    await self._news.wait()
        except TimeoutError:
            raise TimeoutError(f"{what} did not come within {seconds:g} s") from None

    def of(self, *types: str, source: Source | None = None, step: int | None = None) -> list[Row]:
        """Rows of these types in the order of their times."""
        found = [row for row in self.rows if row.type in types and source in (None, row.source)]
        return sorted((row for row in found if step in (None, row.get("step"))), key=lambda row: row.at)

    def first(self, *types: str, source: Source | None = None, step: int | None = None) -> Row | None:
        return next(iter(self.of(*types, source=source, step=step)), None)

    # Audio

    def heard_audio(self) -> Played:
        """What the caller heard, played in real time from its arrival on."""
        return play([Arrival(piece.at, piece.data) for piece in self.heard], WIRE, self.flushes)

    def caller_audio(self) -> Played:
        return play(self.sent, WIRE)

    def spans(self) -> dict[str, Span]:
        """When each item of the assistant's was heard, from its first audio to its last, by item id."""
        return playing_times(self.heard, self.flushes)

    def dry_at(self) -> float:
        """When the client will have played all that came; 0 before anything did."""
        return max((span.end for span in self.spans().values()), default=0.0)

    def json_rows(self) -> list[dict[str, Any]]:
        return [
            {
                "time": row.at + self.wall,
                "type": row.type,
                "tier": row.tier,
                "source": row.source,
                **row.fields,
            }
            for row in sorted(self.rows, key=lambda row: row.at)
        ]


def playing_times(heard: Iterable[Heard], flushes: Iterable[float]) -> dict[str, Span]:
    """When each item is heard by a client that plays each piece as soon as it can, as `listening.play` does."""
    spans: dict[str, Span] = {}
    dry = 0.0
    waiting = sorted(flushes)
    for piece in heard:
        while waiting and waiting[0] <= piece.at:
            at = waiting.pop(0)
            dry = min(dry, at)
            spans = {
                item: Span(span.start, min(span.end, at)) for item, span in spans.items() if span.start < at
            }
        start = max(dry, piece.at)
        dry = start + WIRE.ms(len(piece.data)) / 1000.0
        known = spans.get(piece.item_id)
        spans[piece.item_id] = Span(known.start if known else start, dry)
    for at in waiting:
        spans = {item: Span(span.start, min(span.end, at)) for item, span in spans.items() if span.start < at}
    return spans
