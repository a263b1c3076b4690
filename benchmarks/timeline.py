"""From a recorded call to its figures: pure functions, all times in seconds of the monotonic clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from benchmarks.caller import FORMAT, Recorded
from benchmarks.heard import (
    NOBODY,
    Leg,
    Part,
    Piece,
    Playback,
    answers,
    heard,
    legs,
    pieces,
    serving,
    words,
)
from orchestrator.listening import gaps, repeats

__all__ = ["NOTHING", "Figures", "Outcome", "Part", "Struck", "answers", "figures", "heard", "pieces"]

KNOWN = (
    "conversation.", "error", "input_audio_buffer.", "output_audio_buffer.", "rate_limits.updated", "session.",
)  # fmt: skip
OF_A_RESPONSE = (
    "response.content_part.", "response.created", "response.done", "response.function_call_arguments.",
    "response.output_audio.", "response.output_audio_transcript.", "response.output_item.",
    "response.output_text.",
)  # fmt: skip
"""What event types begin with."""


class Outcome(Enum):
    """What became of the caller's turn."""

    ANSWERED = "answered"
    CLOSED = "closed without an answer"
    """Its response ended without an answer, and none came after it."""
    UNANSWERED = "unanswered"
    """The client waited in vain."""
    LOST = "lost"
    """The connection ended under the caller."""
    NO_FAULT = "no fault"
    """The fault never struck, so the call says nothing."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one call comes to. Times are in milliseconds, and None where there was nothing to time.

    *From the fault* means from the fault, or from when the caller was owed an answer, where that is later. *Sound*
    is what is heard as the client plays what it received, in real time.
    """

    outcome: Outcome
    answered_by: str = ""
    """The tier that answered; empty from a provider itself."""
    rung: str = ""
    session_ms: float | None = None
    """From connecting to ``session.created``."""
    decided_ms: float | None = None
    """From the fault itself to the client being told of another tier or rung."""
    waited_ms: float | None = None
    """The part of that in which an answer was owed and the client had nothing left to play."""
    sound_ms: float | None = None
    """From the fault to the first sound; 0 where one was playing."""
    answer_ms: float | None = None
    """From the fault to the first sound of the answer, which no bridge is; 0 where it was playing."""
    sound_decided_ms: float | None = None
    """As `sound_ms`, from the decision on where that was later."""
    answer_decided_ms: float | None = None
    """As `answer_ms`, from the decision on where that was later."""
    bridge_ms: float | None = None
    """From the fault to the first sound of a bridge."""
    turn_answer_ms: float | None = None
    """From the end of the caller's words, or the client's request, to the first sound of the answer."""
    gap_ms: float | None = None
    """The longest silence that the caller sat through, in the audio as it is played; None: it had no end."""
    received_ms: float = 0.0
    """Audio that the client got of answers that were cut."""
    bridges: int = 0
    repeated: bool = False
    tool_runs: int = 0
    """How often the same function was run with the same arguments, at most."""
    moved: bool = False
    """Another tier or rung served the call after the fault."""
    passed_on: tuple[str, ...] = ()
    """What of the provider's nonsense reached the client."""
    second_ms: float | None = None
    """In a handover: from the first fault to the second. None where the second never struck."""


@dataclass(frozen=True, slots=True)
class Struck:
    """What is known of a call's fault apart from the call."""

    at: float | None
    """The fault was executed; None in a call that has none."""
    sent_ms: float | None = None
    """Audio that the provider has sent in this call; None where nobody counted."""
    second_at: float | None = None
    """A second fault struck, while the call was being moved."""


NOTHING = Struck(None)


def figures(call: Recorded, struck: Struck | None, bridges: Collection[str], *, voices: bool) -> Figures:
    """The figures of a call.

    `struck` is None where a fault was armed and did not strike. `voices`: Tiers B and C speak with real voices, in
    which repetition can be heard; in a tone it cannot.
    """
    audio, fault = pieces(call, bridges), struck or NOTHING
    answer = next((piece for piece in audio if piece.part is Part.ANSWER), None)
    answered_by = serving(legs(call), answer.at) if answer is not None else NOBODY
    moves = _moves(call, fault)
    found = Figures(
        outcome=_outcome(call, struck, answer),
        answered_by=answered_by.tier,
        rung=answered_by.rung,
        session_ms=_ms(call.connect_at, call.first("session.created")),
        received_ms=sum(FORMAT.ms(len(piece.data)) for piece in audio if piece.part is Part.CUT),
        bridges=len({piece.item_id for piece in audio if piece.part is Part.BRIDGE}),
        repeated=_repeated(call, audio, fault, voices),
        tool_runs=max(Counter(call.tools_run).values(), default=0),
        moved=bool(moves),
        passed_on=passed_on(call),
        second_ms=_ms(fault.at, fault.second_at),
    )
    return _timed(found, call, audio, fault, moves[0].at if moves else None)


def _moves(call: Recorded, fault: Struck) -> list[Leg]:
    """Who else served the call after its fault. A call that was struck while it opened is told of its first tier."""
    served = legs(call)
    if fault.at is None:
        return []
    before = serving(served, fault.at)
    return [leg for leg in served if leg.at > fault.at and not leg.same(before)]


def _timed(
    found: Figures, call: Recorded, audio: Sequence[Piece], fault: Struck, decided_at: float | None
) -> Figures:
    """`found` with what was heard, and when."""
    waits_since, owed_at = call.waits_since, call.owed_at
    if waits_since is None or owed_at is None:
        return found
    playback = Playback(call, audio)
    owed_at = max(owed_at, fault.at or 0.0)
    answer_at = playback.first(owed_at, Part.ANSWER)
    found = replace(
        found,
        sound_ms=_ms(owed_at, playback.first(owed_at)),
        answer_ms=_ms(owed_at, answer_at),
        bridge_ms=_ms(owed_at, playback.first(owed_at, Part.BRIDGE)),
        turn_answer_ms=_ms(waits_since, playback.first(waits_since, Part.ANSWER)),
        gap_ms=_longest_silence(playback, fault, waits_since) if answer_at is not None else None,
    )
    if decided_at is None:
        return found
    since = max(owed_at, decided_at)
    return replace(
        found,
        decided_ms=_ms(fault.at, decided_at),
        waited_ms=max(0.0, decided_at - max(owed_at, playback.dry_at(decided_at))) * 1000.0,
        sound_decided_ms=_ms(since, playback.first(since)),
        answer_decided_ms=_ms(since, playback.first(since, Part.ANSWER)),
    )


def _outcome(call: Recorded, struck: Struck | None, answer: Piece | None) -> Outcome:
    if call.lost and answer is None:
        return Outcome.LOST
    if answer is None:
        return Outcome.CLOSED if _closed(call) else Outcome.UNANSWERED
    return Outcome.NO_FAULT if struck is None else Outcome.ANSWERED


def _closed(call: Recorded) -> bool:
    """Whether the latest response after the turn has ended."""
    kinds = [
        received.event["type"]
        for received in call.received
        if received.event["type"] in ("response.created", "response.done")
        and received.at >= (call.waits_since or 0.0)
    ]
    return bool(kinds) and kinds[-1] == "response.done"


def _longest_silence(playback: Playback, fault: Struck, waits_since: float) -> float:
    """From the fault on, or from where the caller began to wait if nothing had come by then; to the answer's end."""
    begun = any(waits_since <= piece.at < (fault.at or 0.0) for piece in playback.audio)
    since = fault.at if begun and fault.at is not None else waits_since
    return max((gap.ms for gap in gaps(playback.played, 0.0, since=since)), default=0.0)


def _repeated(call: Recorded, audio: Sequence[Piece], fault: Struck, voices: bool) -> bool:
    """The caller got something twice: audio of the provider, a bridge, an answer, or (in real voices) a sound."""
    of_provider = sum(FORMAT.ms(len(piece.data)) for piece in audio if piece.from_provider)
    since = call.turn_end_at or 0.0
    ours = [piece for piece in audio if not piece.from_provider and piece.at >= since]
    known = words(call)
    said = [known.get(item_id, "") for item_id in dict.fromkeys(piece.item_id for piece in ours)]
    return (
        (fault.sent_ms is not None and of_provider > fault.sent_ms + 1.0)
        or len(set(said)) < len(said)
        or (voices and bool(repeats(heard(call, ours))))
    )


def passed_on(call: Recorded) -> tuple[str, ...]:
    """What should never reach a client: messages that are not JSON, unknown events, audio of nobody, events twice."""
    found = ["not JSON"] * call.nonsense
    responses: set[str] = set()
    ids: set[str] = set()
    for received in call.received:
        event = received.event
        kind, event_id = event["type"], event.get("event_id", "")
        if kind == "response.created":
            responses.add(event["response"]["id"])
        if not kind.startswith((*KNOWN, *OF_A_RESPONSE)):
            found.append(f"unknown event {kind}")
        elif "response_id" in event and event["response_id"] not in responses:
            found.append(f"{kind} of an unknown response")
        if event_id and event_id in ids:
            found.append(f"{kind} twice")
        ids.add(event_id)
    return tuple(found)


def _ms(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else (end - start) * 1000.0
