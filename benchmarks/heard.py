"""What a caller heard of a call: whose audio it was, and when each piece of it was played."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from benchmarks.caller import FORMAT, Event, Recorded
from orchestrator.listening import Arrival, Played, first_sound, play

AUDIO = "response.output_audio.delta"


class Part(Enum):
    """Whose audio a piece is."""

    CUT = "cut"
    """Of an item that does not answer: most often of an answer that did not reach its end."""
    BRIDGE = "bridge"
    ANSWER = "answer"
    """Of the item that answered the turn."""


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

    @property
    def seconds(self) -> float:
        return FORMAT.ms(len(self.data)) / 1000.0


@dataclass(frozen=True, slots=True)
class Leg:
    """From `at` on, as the client was told, this tier and rung serve the call. Empty names: nobody said."""

    at: float
    tier: str
    rung: str

    def same(self, other: Leg) -> bool:
        return (self.tier, self.rung) == (other.tier, other.rung)


NOBODY = Leg(0.0, "", "")


def answers(event: Event, bridges: Collection[str]) -> bool:
    """Whether a ``response.done`` brings a spoken answer: complete, and with more in it than a bridge."""
    return event["response"]["status"] == "completed" and bool(_spoken(event, bridges))


def _spoken(event: Event, bridges: Collection[str]) -> list[Event]:
    """The items of a response that answer: spoken to their end, and no bridges."""
    return [
        item
        for item in event["response"]["output"]
        if item["type"] == "message"
        and item.get("status", "completed") == "completed"
        and _words_of(item) not in bridges
    ]


def _words_of(item: Event) -> str:
    return " ".join(part.get("transcript") or part.get("text") or "" for part in item["content"]).strip()


def legs(call: Recorded) -> list[Leg]:
    """Who served the call and since when; empty for a call on a provider itself."""
    found: list[Leg] = []
    for received in call.received:
        if received.event["type"] not in ("session.created", "session.updated"):
            continue
        told = received.event["session"].get("orchestrator")
        if told:
            leg = Leg(received.at, told["tier"], told["rung"])
            if not found or not found[-1].same(leg):
                found.append(leg)
    return found


def serving(served: Sequence[Leg], at: float) -> Leg:
    """Who served at a moment."""
    return next((leg for leg in reversed(served) if leg.at <= at), NOBODY)


def words(call: Recorded) -> dict[str, str]:
    """What was said in each item, by its id."""
    kind = "response.output_audio_transcript.done"
    done = (received.event for received in call.received if received.event["type"] == kind)
    return {event["item_id"]: event["transcript"].strip() for event in done}


def answer_items(call: Recorded, bridges: Collection[str]) -> set[str]:
    """The items that answered the turn that is measured; none where nothing did."""
    since = call.waits_since
    done = (r.event for r in call.received if r.event["type"] == "response.done" and r.at >= (since or 0.0))
    answer = next((event for event in done if answers(event, bridges)), None)
    return set() if answer is None or since is None else {item["id"] for item in _spoken(answer, bridges)}


def pieces(call: Recorded, bridges: Collection[str]) -> list[Piece]:
    """All audio of a call, in order. `bridges`: the words of prompts that only bridge."""
    said, answering, served = words(call), answer_items(call, bridges), legs(call)
    makers: dict[str, str] = {}
    found = []
    for received in call.received:
        event = received.event
        if event["type"] != AUDIO:
            continue
        item_id = event["item_id"]
        tier = makers.setdefault(item_id, serving(served, received.at).tier)
        part = Part.ANSWER if item_id in answering else Part.CUT
        piece = Piece(received.at, part, tier, item_id, b64decode(event["delta"]))
        if not piece.from_provider and said.get(item_id, "") in bridges:
            piece = replace(piece, part=Part.BRIDGE)
        found.append(piece)
    return found


def heard(call: Recorded, audio: Sequence[Piece]) -> Played:
    """What the caller heard: everything played in real time from its arrival, cut where the caller barged in."""
    return play([Arrival(piece.at, piece.data) for piece in audio], FORMAT, _barge_ins(call))


def _barge_ins(call: Recorded) -> list[float]:
    return [r.at for r in call.received if r.event["type"] == "input_audio_buffer.speech_started"]


class Playback:
    """All audio of a call as its client plays it."""

    def __init__(self, call: Recorded, audio: Sequence[Piece]) -> None:
        self.audio = audio
        self.played = heard(call, audio)
        self._begins = _begins(audio, _barge_ins(call))

    @property
    def stretches(self) -> list[tuple[float, Piece]]:
        """Each piece with when it begins to be played."""
        return list(zip(self._begins, self.audio, strict=True))

    def first(self, after: float, *parts: Part) -> float | None:
        """When something is first heard at or after a moment: anything, or only pieces of these parts."""
        if not parts:
            return first_sound(self.played, after)
        for piece, begins in zip(self.audio, self._begins, strict=True):
            if piece.part in parts and begins + piece.seconds > after:
                return first_sound(self.played, max(begins, after))
        return None

    def dry_at(self, at: float) -> float:
        """When what had come by a moment has been played."""
        ends = (
            begins + piece.seconds
            for piece, begins in zip(self.audio, self._begins, strict=True)
            if piece.at < at
        )
        return max(ends, default=0.0)


def _begins(audio: Sequence[Piece], flushes: list[float]) -> list[float]:
    """When each piece begins to be played, if it is."""
    found: list[float] = []
    end = 0.0
    for piece in audio:
        while flushes and flushes[0] <= piece.at:
            end = min(end, flushes.pop(0))
        found.append(max(piece.at, end))
        end = found[-1] + piece.seconds
    return found
