"""What the client asked for and what answered it.

Answers come in the order of the requests of one kind. An error answers the request whose event_id it names;
where it names none, the oldest one that still waits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.conformance import shapes
from tests.conformance.responses import Report
from tests.conformance.rules import Rule

JsonObject = dict[str, Any]

ANSWERS = {
    "session.update": "session.updated",
    "conversation.item.create": "conversation.item.added",
    "conversation.item.retrieve": "conversation.item.retrieved",
    "conversation.item.truncate": "conversation.item.truncated",
    "conversation.item.delete": "conversation.item.deleted",
    "input_audio_buffer.commit": "input_audio_buffer.committed",
    "input_audio_buffer.clear": "input_audio_buffer.cleared",
    "response.create": "response.created",
    "response.cancel": "response.done",
}
ONLY_ANSWERS = {
    "conversation.item.retrieved",
    "conversation.item.truncated",
    "input_audio_buffer.cleared",
}
"""Events that a WebSocket server sends on request alone."""


@dataclass(slots=True)
class Request:
    event: JsonObject

    @property
    def kind(self) -> str:
        return str(self.event["type"])

    @property
    def item_id(self) -> str | None:
        item = self.event.get("item") or {}
        return self.event.get("item_id") or item.get("id")

    @property
    def metadata(self) -> JsonObject:
        return (self.event.get("response") or {}).get("metadata") or {}


class Requests:
    def __init__(self, report: Report) -> None:
        self._report = report
        self._waiting: list[Request] = []
        self._sent_ids: set[str] = set()
        self._hears_client = False
        self._settings: JsonObject = {}
        """What the client has set so far, as far as the server confirmed it."""
        self._ahead = 0
        """Updates taken for confirmed by an earlier session.updated, whose own is still to come."""
        self._told: Any = None
        """The `orchestrator` object of the latest session: news in it come unasked."""

    def open_at_end(self) -> Iterator[tuple[Rule, str]]:
        for request in self._waiting:
            yield Rule.UNANSWERED, f"{request.kind} {request.event.get('event_id', '')} was never answered"

    def on_sent(self, event: JsonObject) -> None:
        self._hears_client = True
        if isinstance(event.get("event_id"), str):
            self._sent_ids.add(event["event_id"])
        if event.get("type") in ANSWERS:
            self._waiting.append(Request(event))

    def on_received(self, event: JsonObject, *, asked: bool) -> None:
        """Any event but `response.created`; `asked`: False for one that looks like an answer and is none."""
        if event["type"].startswith("session."):
            news = event["session"].get("orchestrator") != self._told
            self._told = event["session"].get("orchestrator")
        if not self._hears_client:
            return
        if event["type"] == "error":
            self._refused(event["error"])
        elif event["type"] == "session.updated":
            self._confirmed(event["session"], news)
        elif asked:
            self._answered(event)

    def _refused(self, error: JsonObject) -> None:
        event_id = error.get("event_id")
        if event_id is not None and event_id not in self._sent_ids:
            self._report(Rule.ERROR_REFERENCE, f"an error about {event_id}, which the client never sent")
            return
        for request in self._waiting:
            if event_id is None or request.event.get("event_id") == event_id:
                self._waiting.remove(request)
                return

    def _confirmed(self, session: JsonObject, news: bool) -> None:
        """A session.updated shows all settings so far and those of the oldest update that waits, or of more.

        One that brings `news` of the tier may come in between and show the settings so far alone. What it names as
        refused was not granted to this client, and stays as it was.
        """
        refused = [row["field"] for row in (session.get("orchestrator") or {}).get("refused") or []]
        faults = list(shapes.differences(self._settings, session))
        if not faults and self._ahead and not news:
            # An earlier session.updated showed what this one confirms: two updates in a row said the same.
            self._ahead -= 1
            return
        pending = [request for request in self._waiting if request.kind == "session.update"]
        shown, merged, confirmed = 0, self._settings, self._settings
        for count, request in enumerate(pending, start=1):
            merged = _merged(merged, _without(request.event.get("session") or {}, refused))
            differing = list(shapes.differences(merged, session))
            if not differing and (news or shown == count - 1):
                # With news of the tier, what was set in between and changed again is seen nowhere.
                shown, confirmed, faults = count, merged, []
            elif differing and count == 1 and not news:
                faults = differing
        self._settings = confirmed
        for request in pending[:shown]:
            self._waiting.remove(request)
        self._ahead += max(0, shown - 1)
        for sentence in faults:
            self._report(Rule.SESSION_ECHO, sentence)
        if faults and pending and not shown:
            self._waiting.remove(pending[0])

    def begun(self, metadata: JsonObject) -> JsonObject | None:
        """The `response` object of the request that a response answers: of its metadata, else the oldest without.

        Empty for one that the server began, None where nothing is known of what the client sent.
        """
        if not self._hears_client:
            return None
        creates = [request for request in self._waiting if request.kind == "response.create"]
        named = [request for request in creates if request.metadata and _holds(metadata, request.metadata)]
        plain = [request for request in creates if not request.metadata]
        for request in (named or plain)[:1]:
            self._waiting.remove(request)
            return request.event.get("response") or {}
        return {}

    def _answered(self, event: JsonObject) -> None:
        for request in self._waiting:
            if ANSWERS[request.kind] == event["type"] and _is_about(request, event):
                self._waiting.remove(request)
                return
        if event["type"] in ONLY_ANSWERS:
            self._report(Rule.UNASKED, f"{event['type']} answers nothing that the client sent")


def _holds(metadata: JsonObject, wanted: JsonObject) -> bool:
    return all(metadata.get(key) == value for key, value in wanted.items())


def _is_about(request: Request, event: JsonObject) -> bool:
    """Whether an event of the right type is about the request's item; without an id, about one of its kind."""
    item = event.get("item") or {}
    if request.item_id is not None:
        return request.item_id == (event.get("item_id") or item.get("id"))
    wanted = request.event.get("item") or {}
    return all(wanted.get(key) == item.get(key) for key in ("type", "role"))


def _without(update: JsonObject, fields: Sequence[str]) -> JsonObject:
    """An update without what stands at these places, like ``audio.output.voice``."""
    left = {}
    for key, value in update.items():
        inner = [field.removeprefix(f"{key}.") for field in fields if field.startswith(f"{key}.")]
        if key not in fields:
            left[key] = _without(value, inner) if inner and isinstance(value, dict) else value
    return left


def _merged(settings: JsonObject, update: JsonObject) -> JsonObject:
    """Updates merge along ``audio.input`` and ``audio.output``; every other value replaces what was there."""
    merged = dict(settings)
    for key, value in update.items():
        nested = key in ("audio", "input", "output") and isinstance(value, dict)
        merged[key] = _merged(merged.get(key) or {}, value) if nested else value
    return merged
