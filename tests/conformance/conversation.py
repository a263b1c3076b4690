"""State machines of the conversation: its items, the caller's speech, and what was written down of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from tests.conformance import shapes
from tests.conformance.responses import Report, Responses, Surroundings
from tests.conformance.rules import Rule

JsonObject = dict[str, Any]


class ItemPhase(Enum):
    ADDED = auto()
    DONE = auto()
    DELETED = auto()


class SpeechPhase(Enum):
    QUIET = auto()
    SPEAKING = auto()
    STOPPED = auto()
    """Speech has ended, its commit is still to come."""


class Written(Enum):
    """Of a transcription."""

    OWED = auto()
    STARTED = auto()
    ENDED = auto()


@dataclass(slots=True)
class Speech:
    phase: SpeechPhase = SpeechPhase.QUIET
    item_id: str = ""
    start_ms: int = 0
    """Of the latest speech_started."""
    end_ms: int = 0
    """Of the latest speech_stopped."""


class Conversation:
    def __init__(self, report: Report, around: Surroundings, responses: Responses, known: set[str]) -> None:
        self._report = report
        self._around = around
        self._responses = responses
        self._items: dict[str, ItemPhase] = dict.fromkeys(known, ItemPhase.DONE)
        self._committed: dict[str, bool] = {}
        """Committed item to whether it was added."""
        self._spoken: set[str] = set()
        """Items that a speech_started or an idle timeout announced."""
        self._written: dict[str, Written] = {}
        self._speech = Speech()
        self.transcribes = False
        self.client_commits = 0
        """Commits that the client sent and that are not answered yet."""

    def open_at_end(self) -> Iterator[tuple[Rule, str]]:
        for item_id, phase in self._items.items():
            if phase is ItemPhase.ADDED and self._responses.owner(item_id) is None:
                yield Rule.ITEM_OPEN, f"{item_id} was added and never done"
        for item_id, added in self._committed.items():
            if not added:
                yield Rule.COMMITTED_LOST, f"{item_id} was committed and never added"
        for item_id, written in self._written.items():
            if written is Written.OWED or written is Written.STARTED:
                yield Rule.TRANSCRIPTION_LOST, f"{item_id} was committed and its words never came"

    # Items

    def on_item_added(self, event: JsonObject) -> None:
        body = event["item"]
        item_id = body["id"]
        self._check_previous(event)
        for sentence in shapes.item_faults(body, streamed=False):
            self._report(Rule.ITEM_SHAPE, sentence)
        owned = self._responses.owner(item_id)
        if owned and owned[0].out_of_band:
            self._report(Rule.ITEM_OUT_OF_BAND, f"{item_id} of out-of-band {owned[0].id} is added")
            return
        if self._is_known(item_id):
            self._report(Rule.ITEM_ID, f"{item_id} is added twice")
            return
        self._items[item_id] = ItemPhase.ADDED
        self._around.item_ids.add(item_id)
        if owned:
            owned[1].announced = True
            self._check_same(owned[1].first, body)
        elif item_id in self._spoken and item_id not in self._committed:
            self._report(Rule.COMMITTED_MISSING, f"{item_id} is added before it is committed")
        if item_id in self._committed:
            self._committed[item_id] = True

    def on_item_done(self, event: JsonObject) -> None:
        body = event["item"]
        item_id = body["id"]
        self._check_previous(event)
        owned = self._responses.owner(item_id)
        if owned and owned[0].out_of_band:
            self._report(Rule.ITEM_OUT_OF_BAND, f"{item_id} of out-of-band {owned[0].id} is done")
            return
        if not self._is_known(item_id):
            self._report(Rule.ITEM_UNKNOWN, f"{item_id} is done and was never added")
            return
        if self._items[item_id] is ItemPhase.DONE:
            self._report(Rule.ITEM_AGAIN, f"{item_id} is done twice")
            return
        self._items[item_id] = ItemPhase.DONE
        if owned:
            owned[1].settled = True
            self._responses.check_final(owned[1], body)

    def on_item_named(self, event: JsonObject) -> None:
        """retrieved, deleted and truncated."""
        item_id = event["item_id"] if "item_id" in event else event["item"]["id"]
        if not self._is_known(item_id):
            self._report(Rule.ITEM_UNKNOWN, f"{event['type']} names {item_id}, which was never added")
        elif event["type"] == "conversation.item.deleted":
            self._items[item_id] = ItemPhase.DELETED
            self._around.item_ids.discard(item_id)

    def _check_previous(self, event: JsonObject) -> None:
        previous = event.get("previous_item_id")
        if isinstance(previous, str) and previous not in self._items and previous not in self._committed:
            self._report(Rule.PREVIOUS_ITEM, f"{event['type']} comes after {previous}, which was never added")

    def _check_same(self, first: JsonObject, body: JsonObject) -> None:
        for key in ("type", "role", "name", "call_id"):
            if body.get(key) != first.get(key):
                self._report(
                    Rule.ITEM_CHANGED,
                    f"{body['id']} was opened with {key} {first.get(key)!r}, is added with {body.get(key)!r}",
                )

    def _is_known(self, item_id: str) -> bool:
        return self._items.get(item_id, ItemPhase.DELETED) is not ItemPhase.DELETED

    # Speech

    def on_speech_started(self, event: JsonObject) -> None:
        speech = self._speech
        if speech.phase is SpeechPhase.SPEAKING:
            self._report(Rule.SPEECH_ORDER, f"speech starts again while {speech.item_id} is being spoken")
        self._check_new(event)
        speech.phase, speech.item_id = SpeechPhase.SPEAKING, event["item_id"]
        speech.start_ms = self._forward(event, "audio_start_ms", speech.start_ms)
        self._around.speech_starts += 1
        self._around.speaking = True

    def _check_new(self, event: JsonObject) -> None:
        item_id = event["item_id"]
        if item_id in self._items or item_id in self._committed:
            self._report(Rule.SPEECH_ITEM, f"{event['type']} for {item_id}, which exists already")
        self._spoken.add(item_id)

    def on_speech_stopped(self, event: JsonObject) -> None:
        speech = self._speech
        if speech.phase is not SpeechPhase.SPEAKING:
            self._report(Rule.SPEECH_ORDER, "speech stops, it had not started")
            speech.item_id = event["item_id"]
        elif event["item_id"] != speech.item_id:
            self._report(Rule.SPEECH_ITEM, f"speech of {speech.item_id} stops as {event['item_id']}")
        speech.end_ms = self._forward(event, "audio_end_ms", max(speech.start_ms, speech.end_ms))
        speech.phase = SpeechPhase.STOPPED
        self._around.speaking = False

    def on_timeout(self, event: JsonObject) -> None:
        """The caller said nothing for the session's idle_timeout_ms."""
        speech = self._speech
        self._check_new(event)
        speech.start_ms = self._forward(event, "audio_start_ms", speech.start_ms)
        speech.end_ms = self._forward(event, "audio_end_ms", max(speech.start_ms, speech.end_ms))

    def _forward(self, event: JsonObject, key: str, latest: int) -> int:
        value = event.get(key)
        if not isinstance(value, int):
            return latest
        if value < latest:
            self._report(Rule.AUDIO_MS, f"{event['type']}: {key} {value} after {latest}")
        return max(value, latest)

    def on_committed(self, event: JsonObject) -> None:
        item_id, speech = event["item_id"], self._speech
        self._check_previous(event)
        by_client, self.client_commits = self.client_commits > 0, max(0, self.client_commits - 1)
        if speech.phase is SpeechPhase.SPEAKING and not by_client:
            self._report(Rule.SPEECH_ORDER, f"{item_id} is committed while {speech.item_id} is being spoken")
        elif speech.phase is SpeechPhase.STOPPED and item_id != speech.item_id and not by_client:
            self._report(Rule.SPEECH_ITEM, f"speech of {speech.item_id} is committed as {item_id}")
        if item_id in self._committed or self._is_known(item_id):
            self._report(Rule.ITEM_ID, f"{item_id} is committed and exists already")
        self._quiet()
        self._committed.setdefault(item_id, False)
        if self.transcribes:
            self._written.setdefault(item_id, Written.OWED)

    def on_cleared(self, _event: JsonObject) -> None:
        self._quiet()

    def turn_detection_off(self) -> None:
        self._quiet()

    def _quiet(self) -> None:
        self._speech.phase = SpeechPhase.QUIET
        self._around.speaking = False

    # Transcription

    def on_transcription(self, event: JsonObject) -> None:
        item_id = event["item_id"]
        if item_id not in self._committed and item_id not in self._items:
            self._report(Rule.TRANSCRIPTION_ITEM, f"words for {item_id}, which was never committed")
            return
        if not self.transcribes and item_id not in self._written:
            self._report(Rule.TRANSCRIPTION_UNASKED, f"words for {item_id}, the session has no transcription")
        if self._written.get(item_id) is Written.ENDED:
            self._report(Rule.TRANSCRIPTION_AGAIN, f"{event['type']} for {item_id}, whose words are complete")
        ended = event["type"].endswith((".completed", ".failed"))
        self._written[item_id] = Written.ENDED if ended else Written.STARTED
