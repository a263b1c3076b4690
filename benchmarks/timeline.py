"""From a recorded call to its figures: pure functions, all times in seconds of the monotonic clock."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from enum import Enum

from benchmarks.caller import FORMAT, Event, Recorded
from orchestrator.listening import Arrival, Played, gaps, play, repeats

AUDIO = "response.output_audio.delta"


class Outcome(Enum):
    """What became of the caller's turn."""

    ANSWERED = "answered"
    UNANSWERED = "unanswered"
    """The client waited in vain."""
    LOST = "lost"
    """The connection ended under the caller."""
    NO_FAULT = "no fault"
    """The fault never struck, so the call says nothing."""


class Part(Enum):
    """Whose audio a piece is."""

    CUT = "cut"
    """Of an answer that did not reach its end."""
    BRIDGE = "bridge"
    ANSWER = "answer"
    """Of the response that answered the turn."""


@dataclass(frozen=True, slots=True)
class Piece:
    at: float
    part: Part
    tier: str
    """Who made it: A, B or C; empty where it came from a provider without an orchestrator."""
    item_id: str
    data: bytes

    @property
    def from_provider(self) -> bool:
        return self.tier in ("", "A")


@dataclass(frozen=True, slots=True)
class Figures:
    """What one call comes to. Times are in milliseconds, and None where there was nothing to time."""

    outcome: Outcome
    answered_by: str = ""
    """The tier that answered; empty from a provider itself."""
    session_ms: float | None = None
    """From connecting to ``session.created``."""
    bridge_ms: float | None = None
    """From the fault, or the deadline it was noticed at, to the first audio of the bridge."""
    answer_ms: float | None = None
    """The same to the first audio of the answer."""
    turn_bridge_ms: float | None = None
    """From the end of the caller's words to the first audio of the bridge."""
    turn_answer_ms: float | None = None
    """The same to the first audio of the answer."""
    gap_ms: float | None = None
    """The longest silence that the caller sat through, in the audio as it is played; None: it had no end."""
    received_ms: float = 0.0
    """Audio that the client got of answers that were cut."""
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Struck:
    """What is known of a call's fault apart from the call."""

    at: float | None
    """The fault was executed; None in a call that has none."""
    noticed_at: float | None
    """From here a handover is timed: the fault itself, or the deadline that notices silence. None where no handover
    is owed: the call has only begun."""
    sent_ms: float | None = None
    """Audio that the provider has sent in this call; None where nobody counted."""


NOTHING = Struck(None, None)


@dataclass(slots=True)
class _Responses:
    tiers: dict[str, str] = field(default_factory=dict)
    """By response id."""
    words: dict[str, str] = field(default_factory=dict)
    """By item id."""
    completed: list[str] = field(default_factory=list)


def answers(event: Event, bridges: Collection[str]) -> bool:
    """Whether a ``response.done`` brings a spoken answer: complete, and with more in it than a bridge."""
    response = event["response"]
    spoken = [_words_of(item) for item in response["output"] if item["type"] == "message"]
    return response["status"] == "completed" and any(words not in bridges for words in spoken)


def pieces(call: Recorded, bridges: Collection[str]) -> list[Piece]:
    """All audio of a call, in order. `bridges`: the words of prompts that only bridge."""
    seen = _responses(call)
    answer = next(
        (
            received.event["response"]["id"]
            for received in call.received
            if received.event["type"] == "response.done" and answers(received.event, bridges)
        ),
        None,
    )
    found = []
    for received in call.received:
        event = received.event
        if event["type"] != AUDIO:
            continue
        tier = seen.tiers.get(event["response_id"], "")
        part = Part.ANSWER if event["response_id"] == answer else Part.CUT
        piece = Piece(received.at, part, tier, event["item_id"], b64decode(event["delta"]))
        if not piece.from_provider and seen.words.get(piece.item_id, "") in bridges:
            piece = replace(piece, part=Part.BRIDGE)
        found.append(piece)
    return found


def _responses(call: Recorded) -> _Responses:
    seen = _Responses()
    for received in call.received:
        event = received.event
        if event["type"] in ("response.created", "response.done"):
            response = event["response"]
            seen.tiers[response["id"]] = (response.get("metadata") or {}).get("tier", "")
        elif event["type"] == "response.output_audio_transcript.done":
            seen.words[event["item_id"]] = event["transcript"].strip()
    return seen


def _words_of(item: Event) -> str:
    return " ".join(part.get("transcript") or part.get("text") or "" for part in item["content"]).strip()


def heard(call: Recorded, audio: list[Piece]) -> Played:
    """What the caller heard: everything played in real time from its arrival, cut where the caller barged in."""
    barge_ins = [r.at for r in call.received if r.event["type"] == "input_audio_buffer.speech_started"]
    return play([Arrival(piece.at, piece.data) for piece in audio], FORMAT, barge_ins)


def figures(call: Recorded, struck: Struck | None, bridges: Collection[str], *, voices: bool) -> Figures:
    """The figures of a call.

    `struck` is None where a fault was armed and did not strike. `voices`: Tiers B and C speak with real voices, in
    which repetition can be heard; in a tone it cannot.
    """
    audio = pieces(call, bridges)
    bridge_at = next((piece.at for piece in audio if piece.part is Part.BRIDGE), None)
    answer = next((piece for piece in audio if piece.part is Part.ANSWER), None)
    answer_at = answer.at if answer is not None else None
    fault = struck or NOTHING
    return Figures(
        outcome=_outcome(call, struck, answer),
        answered_by=answer.tier if answer is not None else "",
        session_ms=_ms(call.connect_at, call.first("session.created")),
        bridge_ms=_ms(fault.noticed_at, bridge_at),
        answer_ms=_ms(fault.noticed_at, answer_at),
        turn_bridge_ms=_ms(call.turn_end_at, bridge_at),
        turn_answer_ms=_ms(call.turn_end_at, answer_at),
        gap_ms=_longest_silence(call, fault, heard(call, audio)) if answer is not None else None,
        received_ms=sum(FORMAT.ms(len(piece.data)) for piece in audio if piece.part is Part.CUT),
        repeated=_repeated(call, audio, fault, voices),
    )


def _outcome(call: Recorded, struck: Struck | None, answer: Piece | None) -> Outcome:
    if struck is None:
        return Outcome.NO_FAULT
    if answer is not None:
        return Outcome.ANSWERED
    return Outcome.LOST if call.lost else Outcome.UNANSWERED


def _longest_silence(call: Recorded, fault: Struck, played: Played) -> float | None:
    """From the fault on, or from the end of the caller's words where nothing came before it; up to the answer's end."""
    since = call.turn_end_at
    if since is None:
        return None
    if fault.at is not None and since < played.start < fault.at:
        since = fault.at
    return max((gap.ms for gap in gaps(played, 0.0, since=since)), default=0.0)


def _repeated(call: Recorded, audio: list[Piece], fault: Struck, voices: bool) -> bool:
    """The caller got something twice: audio of the provider, a bridge, an answer, or (in real voices) a sound."""
    of_provider = sum(FORMAT.ms(len(piece.data)) for piece in audio if piece.from_provider)
    ours = [piece for piece in audio if not piece.from_provider]
    said = [_responses(call).words.get(item_id, "") for item_id in dict.fromkeys(p.item_id for p in ours)]
    return (
        (fault.sent_ms is not None and of_provider > fault.sent_ms + 1.0)
        or len(set(said)) < len(said)
        or (voices and bool(repeats(heard(call, ours))))
    )


def _ms(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else (end - start) * 1000.0
