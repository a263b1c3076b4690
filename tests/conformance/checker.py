"""Reads what one client received on one connection and says where it breaks the Realtime protocol.

    checker = Checker()
    for frame in log:
        checker.feed(frame)
    violations = checker.finish()

The checker knows nothing of tiers: whatever produced the events, a client must not be able to tell by a broken
promise. With the client's own frames in the log (`Frame.sent`) it also checks that everything is answered.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.conformance import shapes
from tests.conformance.conversation import Conversation
from tests.conformance.requests import Requests
from tests.conformance.responses import STREAMS, Responses, Surroundings
from tests.conformance.rules import Rule, Violation

JsonObject = dict[str, Any]

SHOWN_VIOLATIONS = 8
WINDOW = 4
"""Frames shown before and after an offending one."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One WebSocket message as it was on the wire. `at` is a monotonic time in seconds."""

    data: str | bytes
    sent: bool = False
    """True: by the client."""
    at: float = 0.0


class Checker:
    """Collects the violations of one connection, in order.

    `orchestrator`: demand tier and rung in ``response.metadata`` and the ``orchestrator`` object in sessions.
    `settings`: demand that a response shows the voice, format and limits that its session or its request shows.
    `known_items`: ids announced on an earlier connection of the same call.
    """

    def __init__(
        self, *, orchestrator: bool = False, settings: bool = True, known_items: Collection[str] = ()
    ) -> None:
        self.violations: list[Violation] = []
        self._orchestrator = orchestrator
        self._settings = settings
        self._index = -1
        self._event_ids: set[str] = set()
        self._session: JsonObject = {}
        self._session_id: str | None = None
        self._heard_anything = False
        self._created = False
        self._around = Surroundings(tell_tier=orchestrator, item_ids=set(known_items))
        self._responses = Responses(self._report, self._around)
        self._conversation = Conversation(self._report, self._around, self._responses, set(known_items))
        self._requests = Requests(self._report)
        self._handlers = self._table()

    def _table(self) -> dict[str, Callable[[JsonObject], None]]:
        responses, conversation = self._responses, self._conversation
        table: dict[str, Callable[[JsonObject], None]] = {
            "session.created": self._on_session_created,
            "session.updated": self._on_session,
            "response.created": responses.on_created,
            "response.done": responses.on_done,
            "response.output_item.added": responses.on_item_added,
            "response.output_item.done": responses.on_item_done,
            "response.content_part.added": responses.on_part_added,
            "response.content_part.done": responses.on_part_done,
            "response.function_call_arguments.delta": responses.on_arguments,
            "response.function_call_arguments.done": responses.on_arguments,
            "response.mcp_call_arguments.delta": responses.on_other,
            "response.mcp_call_arguments.done": responses.on_other,
            "conversation.item.added": conversation.on_item_added,
            "conversation.item.done": conversation.on_item_done,
            "conversation.item.retrieved": conversation.on_item_named,
            "conversation.item.deleted": conversation.on_item_named,
            "conversation.item.truncated": conversation.on_item_named,
            "input_audio_buffer.speech_started": conversation.on_speech_started,
            "input_audio_buffer.speech_stopped": conversation.on_speech_stopped,
            "input_audio_buffer.timeout_triggered": conversation.on_timeout,
            "input_audio_buffer.committed": conversation.on_committed,
            "input_audio_buffer.cleared": conversation.on_cleared,
        }
        for stem in STREAMS:
            table[f"{stem}.delta"] = table[f"{stem}.done"] = responses.on_stream
        for ending in ("delta", "completed", "failed", "segment"):
            table[f"conversation.item.input_audio_transcription.{ending}"] = conversation.on_transcription
        return table

    def feed(self, frame: Frame | str | bytes) -> None:
        """The next frame of the log; a bare string or bytes is one that the client received."""
        self._index += 1
        frame = frame if isinstance(frame, Frame) else Frame(frame)
        if frame.sent:
            self._on_sent(json.loads(frame.data))
            return
        if isinstance(frame.data, bytes):
            self._report(Rule.FRAME_BINARY, f"a binary frame of {len(frame.data)} bytes")
            return
        try:
            event = json.loads(frame.data)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            self._report(Rule.FRAME_JSON, f"not a JSON object: {frame.data[:60]!r}")
            return
        self._on_received(event)

    def finish(self, *, cut_short: bool = False) -> list[Violation]:
        """All violations; what is open at the end counts, except where the connection was `cut_short`."""
        if not cut_short:
            self._index += 1
            for rule, sentence in self.open_ends():
                self._report(rule, sentence)
        return self.violations

    def open_ends(self) -> list[tuple[Rule, str]]:
        """What would be a violation if the connection ended now."""
        parts = (self._responses, self._conversation, self._requests)
        return [end for part in parts for end in part.open_at_end()]

    def _report(self, rule: Rule, sentence: str) -> None:
        self.violations.append(Violation(rule, self._index, sentence))

    def _on_sent(self, event: JsonObject) -> None:
        self._around.hears_client = True
        if event.get("type") == "response.cancel":
            self._around.cancels += 1
        if event.get("type") == "input_audio_buffer.commit":
            self._conversation.client_commits += 1
        self._requests.on_sent(event)

    def _on_received(self, event: JsonObject) -> None:
        kind = event.get("type")
        if not self._heard_anything and kind != "session.created":
            self._report(Rule.SESSION_FIRST, f"{kind!r} comes before session.created")
        self._heard_anything = True
        if not isinstance(kind, str) or kind not in shapes.MODELS:
            self._report(Rule.TYPE_UNKNOWN, f"no client knows an event of type {kind!r}")
            return
        if kind in shapes.RETIRED or kind in shapes.OTHER_TRANSPORTS:
            self._report(Rule.TYPE_MISPLACED, f"{kind} is not an event of a GA WebSocket")
            return
        self._check_event_id(event)
        for rule, sentence in shapes.field_errors(event):
            self._report(rule, f"{kind}: {sentence}")
        if shapes.can_follow(event):
            if kind == "response.created":
                self._check_settings(event["response"])
            else:
                self._requests.on_received(event, asked=self._is_asked(event))
            if handler := self._handlers.get(kind):
                handler(event)

    def _is_asked(self, event: JsonObject) -> bool:
        """False for a commit that turn detection made: it answers no request."""
        return event["type"] != "input_audio_buffer.committed" or self._conversation.client_commits > 0

    def _check_settings(self, response: JsonObject) -> None:
        request = self._requests.begun(response.get("metadata") or {})
        if self._settings and request is not None and self._session:
            for sentence in shapes.settings_faults(response, self._session, request):
                self._report(Rule.RESPONSE_SETTINGS, f"{response['id']}: {sentence}")

    def _check_event_id(self, event: JsonObject) -> None:
        event_id = event.get("event_id")
        if not isinstance(event_id, str):
            return
        if event_id in self._event_ids:
            self._report(Rule.EVENT_ID, f"event_id {event_id} of {event['type']} was used before")
        self._event_ids.add(event_id)

    def _on_session_created(self, event: JsonObject) -> None:
        if self._created:
            self._report(Rule.SESSION_AGAIN, "a second session.created")
        self._created = True
        self._on_session(event)

    def _on_session(self, event: JsonObject) -> None:
        session = self._session = event["session"]
        for sentence in shapes.session_faults(session):
            self._report(Rule.SESSION_SHAPE, sentence)
        if self._orchestrator:
            for sentence in shapes.orchestrator_faults(session):
                self._report(Rule.ORCHESTRATOR, sentence)
        session_id = session.get("id")
        if self._session_id and isinstance(session_id, str) and session_id != self._session_id:
            self._report(Rule.SESSION_ID, f"the session was {self._session_id}, now it is {session_id}")
        self._session_id = self._session_id or session_id or "unnamed"
        audio = session.get("audio") if isinstance(session.get("audio"), dict) else {}
        self._follow_audio(audio.get("input") or {}, audio.get("output") or {})

    def _follow_audio(self, into: JsonObject, out: JsonObject) -> None:
        self._conversation.transcribes = bool(into.get("transcription"))
        if into.get("turn_detection") is None:
            self._conversation.turn_detection_off()
        self._around.pcm_output = (out.get("format") or {}).get("type", "audio/pcm") == "audio/pcm"


def check(
    frames: Iterable[Frame | str | bytes], *, cut_short: bool = False, **options: Any
) -> list[Violation]:
    """The violations of a whole log; `options` are those of `Checker`."""
    checker = Checker(**options)
    for frame in frames:
        checker.feed(frame)
    return checker.finish(cut_short=cut_short)


def assert_conformant(
    frames: Sequence[Frame | str | bytes], *, cut_short: bool = False, **options: Any
) -> None:
    """AssertionError with the offending frames and their neighbours if a log breaks any rule."""
    violations = check(frames, cut_short=cut_short, **options)
    if violations:
        raise AssertionError(explain(frames, violations))


def explain(frames: Sequence[Frame | str | bytes], violations: Sequence[Violation]) -> str:
    """The violations, each with the window of events it stands in."""
    lines = [f"{len(violations)} violations of the Realtime protocol"]
    for violation in violations[:SHOWN_VIOLATIONS]:
        lines += ["", str(violation)]
        first = max(0, violation.index - WINDOW)
        for index in range(first, min(len(frames), violation.index + WINDOW + 1)):
            mark = ">" if index == violation.index else " "
            lines.append(f" {mark} {index:4} {_line(frames[index])}")
    if len(violations) > SHOWN_VIOLATIONS:
        lines += ["", f"and {len(violations) - SHOWN_VIOLATIONS} more"]
    return "\n".join(lines)


def _line(frame: Frame | str | bytes) -> str:
    frame = frame if isinstance(frame, Frame) else Frame(frame)
    arrow = "->" if frame.sent else "<-"
    try:
        event = json.loads(frame.data)
    except ValueError:
        return f"{arrow} {frame.data[:100]!r}"
    if not isinstance(event, dict):
        return f"{arrow} {frame.data[:100]!r}"
    fields = {key: value for key, value in event.items() if key not in ("type", "event_id")}
    return f"{arrow} {event.get('type')} {_short(fields)}"


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{key}: {_short(inner)}" for key, inner in value.items() if inner is not None)
            + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(_short(inner) for inner in value) + "]"
    text = str(value)
    return text if len(text) <= 40 else f"{text[:24]}… ({len(text)} characters)"
