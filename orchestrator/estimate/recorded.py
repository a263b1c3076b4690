"""Calls as the event log tells them: what each response of Tier A took in and gave, and how long the call was."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.estimate.history import TOKENS_PER_S_IN, TOKENS_PER_S_OUT

Row = Mapping[str, Any]

_SENT_WHOLE_S = 0.15
"""What is sent of an answer and what is billed of it differ by less, if all of it was sent."""


class LogUnreadable(ValueError):
    """A file is no event log; the text names the line and what was expected there."""


@dataclass(slots=True)
class Answered:
    """One response of Tier A, in the provider's tokens."""

    rung: str
    session: int
    """Counts what ended a provider session: responses of one session see the same conversation grow."""
    text_in: int
    audio_in: int
    cached: int
    text_out: int
    audio_out: int
    cut: bool = False
    heard_s: float | None = None
    """What the caller heard of one that was cut off, where that was told."""

    @property
    def is_tool_call(self) -> bool:
        return self.audio_out == 0 and self.text_out > 0 and not self.cut

    @property
    def tokens_in(self) -> int:
        return self.text_in + self.audio_in


@dataclass(slots=True)
class Recorded:
    """One call. Times are Unix seconds; `ended_at` None: it is not over."""

    call_id: str
    tier: str = ""
    """Where it began."""
    started_at: float | None = None
    ended_at: float | None = None
    answered: list[Answered] = field(default_factory=list)
    elsewhere: int = 0
    """Answers of other tiers."""
    transcribed: int = 0
    """Turns that Tier A wrote down."""
    transcribed_s: float = 0.0
    hung_up: bool = False
    """The caller left while an answer was owed."""
    nanodollars: int = 0
    sessions: int = 0
    heard_s: float | None = None
    """Of an answer that was cut off and is not billed yet."""

    @property
    def seconds(self) -> float:
        """0 for one that is not over."""
        if self.started_at is None or self.ended_at is None:
            return 0.0
        return max(0.0, self.ended_at - self.started_at)

    @property
    def complete(self) -> bool:
        return self.started_at is not None and self.ended_at is not None


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of an event log; a last line that was not written to its end is left out.

    Raises `LogUnreadable`.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip() and (row := _row(path, number, line)) is not None:
                    yield row
    except OSError as error:
        raise LogUnreadable(
            f"{path} cannot be read ({error.strerror}); give the file that server.events_path names"
        ) from None


def _row(path: Path, number: int, line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        if not line.endswith(b"\n"):
            return None
        row = None
    if not isinstance(row, dict) or "type" not in row:
        raise LogUnreadable(
            f"{path}, line {number}: expected a JSON object with a `type`, as the event log has them; "
            "give the file that server.events_path names"
        )
    return row


def recorded(rows: Iterable[Row]) -> list[Recorded]:
    """The calls of `rows`, in the order in which they first appear."""
    calls: dict[str, Recorded] = {}
    responses: dict[str, Answered] = {}
    for row in rows:
        call_id = row.get("call_id")
        if not call_id:
            continue
        call = calls.setdefault(call_id, Recorded(call_id))
        _take(call, row, responses)
    return list(calls.values())


def _take(call: Recorded, row: Row, responses: dict[str, Answered]) -> None:
    match row.get("type"):
        case "call_started":
            call.started_at, call.tier = float(row["time"]), str(row.get("tier", ""))
        case "call_ended":
            call.ended_at = float(row["time"])
            call.hung_up = bool((row.get("turns") or {}).get("hung_up"))
        case "handover":
            call.sessions += 1
        case "charge":
            call.nanodollars += int(row.get("nanodollars") or 0)
            _take_charge(call, row, responses)
        case "answer":
            if row.get("tier") != "A":
                call.elsewhere += 1
            elif row.get("status") == "cancelled" and (known := responses.get(row.get("response_id") or "")):
                known.cut = True
        case "waste" if row.get("tier") == "A":
            _take_waste(call, row)


def _take_waste(call: Recorded, row: Row) -> None:
    """The caller cut an answer off: the last one billed, where all of it was sent, else the one not billed yet."""
    sent_s, heard_s = float(row.get("sent_ms") or 0.0) / 1000, float(row.get("heard_ms") or 0.0) / 1000
    last = call.answered[-1] if call.answered else None
    if last is not None and not last.cut and abs(last.audio_out / TOKENS_PER_S_OUT - sent_s) <= _SENT_WHOLE_S:
        last.cut, last.heard_s = True, heard_s
    else:
        call.heard_s = heard_s


def _take_charge(call: Recorded, row: Row, responses: dict[str, Answered]) -> None:
    usage = row.get("usage") or {}
    if row.get("tier") != "A" or row.get("estimated") or not usage:
        return
    if row.get("what") == "transcription":
        call.transcribed += 1
        call.transcribed_s += _seconds(usage)
    # What is nobody's turn is out of band: it does not see the conversation grow.
    elif row.get("what") == "response" and row.get("turn") != 0:
        answered = _answered(call, str(row.get("rung") or row.get("model") or ""), usage)
        if call.heard_s is not None and answered.audio_out:
            answered.cut, answered.heard_s, call.heard_s = True, call.heard_s, None
        call.answered.append(answered)
        if row.get("response_id"):
            responses[row["response_id"]] = answered


def _answered(call: Recorded, rung: str, usage: Mapping[str, Any]) -> Answered:
    into, out = usage.get("input_token_details") or {}, usage.get("output_token_details") or {}
    return Answered(
        rung,
        call.sessions,
        _count(into, "text_tokens"),
        _count(into, "audio_tokens"),
        _count(into, "cached_tokens"),
        _count(out, "text_tokens"),
        _count(out, "audio_tokens"),
    )


def _seconds(usage: Mapping[str, Any]) -> float:
    """How much audio a transcript was made from."""
    if usage.get("type") == "duration":
        return float(usage.get("seconds") or 0.0)
    details = usage.get("input_token_details") or {}
    return (_count(details, "audio_tokens") or _count(usage, "input_tokens")) / TOKENS_PER_S_IN


def _count(counts: Mapping[str, Any], key: str) -> int:
    return max(0, int(counts.get(key) or 0))
