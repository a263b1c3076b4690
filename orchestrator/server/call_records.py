"""What each call has been so far, and the last calls that ended: figures and timeline, in bounded memory."""

from __future__ import annotations

import statistics
import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from orchestrator.core.latency import CallLatency, Limits
from orchestrator.core.prices import NANO
from orchestrator.server.events import Row

FIRST_ROWS = 50
LAST_ROWS = 450
"""Rows of a call that are kept: its first ones and its latest ones."""
SAMPLES = 200


class CallOf(Protocol):
    call_id: str
    user: str
    who: str
    purpose: str
    bucket: str
    started_at: float


@dataclass(slots=True)
class Waits:
    """The latest of some times in ms."""

    latest: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    longest: float | None = None

    def add(self, ms: Any) -> None:
        if isinstance(ms, int | float):
            self.latest.append(float(ms))
            self.longest = max(self.longest or 0.0, float(ms))

    @property
    def median(self) -> float | None:
        return round(statistics.median(self.latest), 1) if self.latest else None


class CallRecord:
    """One call. Times are Unix seconds; `ended_at` is None while it lives."""

    def __init__(self, info: CallOf) -> None:
        self.call_id, self.user, self.who = info.call_id, info.user, info.who
        self.purpose, self.bucket = info.purpose, info.bucket
        self.started_at = info.started_at
        self.ended_at: float | None = None
        self.tier = self.rung = self.reason = ""
        self.tiers: list[str] = []
        """In the order they were used, each where it began."""
        self.charged = 0
        """In nano-dollars."""
        self.turns = self.handovers = self.gaps = self.breaches = self.failures = 0
        self.gap_ms = 0.0
        self.handover_at: float | None = None
        """Of the last one."""
        self.ttfa, self.voice_to_voice = Waits(), Waits()
        self.latency = CallLatency(Limits())
        self.recording: tuple[str, str] | None = None
        """What has become of its recording, and why; None: nothing is recorded here."""
        self.dropped = 0
        """Rows between the first and the latest ones that are not kept."""
        self._first: list[bytes] = []
        self._last: deque[bytes] = deque(maxlen=LAST_ROWS)
        self._packed = b""

    def add(self, row: Row) -> None:
        self.note(row)
        packed = orjson.dumps(row, default=str)
        if len(self._first) < FIRST_ROWS:
            self._first.append(packed)
            return
        self.dropped += len(self._last) == LAST_ROWS
        self._last.append(packed)

    def note(self, row: Row) -> None:
        """Its figures follow; the row itself is not kept."""
        match row["type"]:
            case "call_started":
                self._serve(row["tier"], row.get("rung"), row.get("reason"))
            case "handover":
                self.handovers += 1
                self.handover_at = row["time"]
                self._serve(row.get("to_tier"), row.get("to_rung"), row.get("cause"))
            case "charge":
                self.charged += int(row.get("nanodollars", 0))
            case "turn_ended":
                self.turns += 1
            case "answer":
                self.ttfa.add(row.get("ttfa_ms"))
                self.voice_to_voice.add(row.get("voice_to_voice_ms"))
            case "gap":
                self.gaps += 1
                self.gap_ms = max(self.gap_ms, float(row.get("gap_ms", 0.0)))
            case "latency_breach":
                self.breaches += 1
            case "recording":
                self.recording = str(row["state"]), str(row.get("reason", ""))
            case "answer_failed" | "provider_lost" | "provider_error":
                self.failures += 1

    def _serve(self, tier: Any, rung: Any, reason: Any) -> None:
        self.tier, self.rung, self.reason = str(tier or ""), str(rung or ""), str(reason or "")
        if not self.tiers or self.tiers[-1] != self.tier:
            self.tiers = [*self.tiers[-20:], self.tier]

    def close(self, at: float) -> None:
        """It is over: its rows take less room from now on."""
        self.ended_at = at
        self._packed = zlib.compress(b"\n".join([*self._first, *self._last]), 1)
        self._first, self._last = [], deque()

    def rows(self) -> Iterator[Row]:
        lines = zlib.decompress(self._packed).split(b"\n") if self._packed else [*self._first, *self._last]
        return (orjson.loads(line) for line in lines if line)

    def figures(self) -> dict[str, Any]:
        """As `GET /v1/calls` shows it."""
        return {
            "call_id": self.call_id,
            "live": self.ended_at is None,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "tier": self.tier,
            "rung": self.rung,
            "reason": self.reason,
            "tiers": list(self.tiers),
            "user": self.user,
            "who": self.who,
            "purpose": self.purpose,
            "bucket": self.bucket,
            "spent_usd": self.charged / NANO,
            "turns": self.turns,
            "ttfa_ms": self.ttfa.median,
            "longest_ttfa_ms": self.ttfa.longest,
            "voice_to_voice_ms": self.voice_to_voice.median,
            "longest_voice_to_voice_ms": self.voice_to_voice.longest,
            "gaps": self.gaps,
            "longest_gap_ms": self.gap_ms or None,
            "handovers": self.handovers,
            "last_handover_at": self.handover_at,
            "breaches": self.breaches,
            "failures": self.failures,
            "recording": None if self.recording is None else self.recording[0],
        }


class CallRecords:
    """All live calls and the last `keep` that ended. `row` is a listener of the `EventLog`."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._live: dict[str, CallRecord] = {}
        self._ended: dict[str, CallRecord] = {}

    def began(self, info: CallOf) -> None:
        self._live[info.call_id] = CallRecord(info)

    def measured(self, call_id: str, latency: CallLatency) -> None:
        """Where the waits of a call that has just begun are measured."""
        self._live[call_id].latency = latency

    def row(self, row: Row) -> None:
        record = self._live.get(row["call_id"])
        if record is not None:
            record.add(row)
        elif row["type"] == "recording" and (ended := self._ended.get(row["call_id"])) is not None:
            ended.note(row)

    def closed(self, call_id: str, at: float) -> None:
        """The call is over, and its last bill is here."""
        record = self._live.pop(call_id, None)
        if record is None or not self._keep:
            return
        record.close(at)
        self._ended[call_id] = record
        while len(self._ended) > self._keep:
            del self._ended[next(iter(self._ended))]

    def get(self, call_id: str) -> CallRecord | None:
        return self._live.get(call_id) or self._ended.get(call_id)

    def list(self, *, ended: bool, wanted: Mapping[str, str], order: str) -> Sequence[CallRecord]:
        """Live ones, or those that ended as well. `wanted`: tier, bucket, purpose, user. `order`: see `ORDERS`."""
        found = [*self._live.values(), *(self._ended.values() if ended else ())]
        chosen = [
            record
            for record in found
            if all(getattr(record, name) == value for name, value in wanted.items())
        ]
        return sorted(chosen, key=ORDERS[order], reverse=True)


ORDERS = {
    "started": lambda record: record.started_at,
    "cost": lambda record: record.charged,
    "wait": lambda record: record.voice_to_voice.longest or record.ttfa.longest or 0.0,
    "gap": lambda record: record.gap_ms,
}
"""The latest, the dearest, the slowest, that with the longest gap first."""
