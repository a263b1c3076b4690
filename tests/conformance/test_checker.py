"""The checker accepts what a correct server sends, and names exactly the promise that a wrong one breaks."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from tests.conformance.checker import Checker, Frame, assert_conformant, check, explain
from tests.conformance.golden import PCM_100_MS, STREAMS, at, message, spot
from tests.conformance.rules import Rule

Row = tuple[bool, dict[str, Any]]
"""Whether the client sent it, and the event."""


class Log:
    """A golden stream to be spoilt. Events are named by type, and by which of that type counting from 0."""

    def __init__(self, stream: str) -> None:
        self.rows: list[Row] = [(frame.sent, json.loads(frame.data)) for frame in STREAMS[stream]()]
        self.raw: dict[int, str | bytes] = {}

    def frames(self) -> list[Frame]:
        return [
            Frame(self.raw.get(index, json.dumps(event)), sent=sent)
            for index, (sent, event) in enumerate(self.rows)
        ]

    def find(self, kind: str, nth: int = 0) -> int:
        return [index for index, (_, event) in enumerate(self.rows) if event["type"] == kind][nth]

    def set(self, kind: str, path: str, value: Any, nth: int = 0) -> Log:
        """Give the field at a dotted path another value; ``...`` removes it."""
        target: Any = self.rows[self.find(kind, nth)][1]
        *parents, last = path.split(".")
        for key in parents:
            target = target[int(key)] if isinstance(target, list) else target[key]
        if value is ...:
            del target[last]
        else:
            target[last] = value
        return self

    def set_all(self, path: str, old: Any, value: Any) -> Log:
        """Give a top level or nested field another value wherever it has the old one."""
        for _, event in self.rows:
            target: Any = event
            *parents, last = path.split(".")
            for key in parents:
                target = target.get(key, {}) if isinstance(target, dict) else {}
            if isinstance(target, dict) and target.get(last) == old:
                target[last] = value
        return self

    def drop(self, kind: str, nth: int = 0) -> Log:
        del self.rows[self.find(kind, nth)]
        return self

    def again(self, kind: str, nth: int = 0, **changes: Any) -> Log:
        """The event once more, right behind itself, under an event_id of its own."""
        return self.insert(kind, {**deepcopy(self.rows[self.find(kind, nth)][1]), **changes}, nth)

    def insert(self, behind: str, event: dict[str, Any], nth: int = 0) -> Log:
        event["event_id"] = f"event_new_{len(self.rows)}"
        self.rows.insert(self.find(behind, nth) + 1, (False, event))
        return self

    def ask(self, kind: str, **fields: Any) -> Log:
        """The client sends one thing more, at the end."""
        self.rows.append((True, {"type": kind, "event_id": "client_more", **fields}))
        return self

    def move(self, kind: str, behind: str, nth: int = 0, behind_nth: int = 0) -> Log:
        row = self.rows.pop(self.find(kind, nth))
        self.rows.insert(self.find(behind, behind_nth) + 1, row)
        return self

    def put_raw(self, kind: str, data: str | bytes) -> Log:
        """Another frame behind an event."""
        self.again(kind)
        self.raw[self.find(kind, 1)] = data
        return self


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, **fields}


AUDIO = "response.output_audio.delta"
WORDS = "response.output_audio_transcript.delta"
TEXT = "response.output_text.delta"
DONE = "response.done"
CREATED = "response.created"
OPENED = "response.output_item.added"
CLOSED = "response.output_item.done"
ADDED = "conversation.item.added"
SETTLED = "conversation.item.done"
PART = "response.content_part.added"
PART_DONE = "response.content_part.done"
ARGUMENTS = "response.function_call_arguments.delta"
ARGUMENTS_DONE = "response.function_call_arguments.done"
STARTED = "input_audio_buffer.speech_started"
STOPPED = "input_audio_buffer.speech_stopped"
COMMITTED = "input_audio_buffer.committed"
WRITTEN_STEM = "conversation.item.input_audio_transcription"
WRITTEN = f"{WRITTEN_STEM}.completed"
UPDATED = "session.updated"
LIMITS = "rate_limits.updated"
TIMEOUT = "input_audio_buffer.timeout_triggered"
HALF = '{"order_id":'

PLACE = {**at("resp_1", "item_a1"), "content_index": 0}
NEXT_PART = {**PLACE, "content_index": 1}
CALL_PLACE = {**at("resp_1", "item_f1"), "call_id": "call_1"}
EMPTY = {"type": "text", "text": ""}
HALF_SIDE = message("item_s1", "assistant", [], "in_progress")
OLD_ITEM = message("item_u1", "assistant", [], "in_progress")
TRANSCRIPTION = "session.audio.input.transcription"
IN_DETAILS = "response.usage.input_token_details"
REASON = "response.status_details.reason"
RESPONSE_AUDIO = "response.audio.output"
FIRST_OUTPUT = "response.output.0"


def vad() -> Log:
    return Log("vad_turn")


def text() -> Log:
    return Log("text_turn")


def tool() -> Log:
    return Log("function_call")


def barge_in() -> Log:
    return Log("barge_in")


def side() -> Log:
    return Log("out_of_band")


def cancel() -> Log:
    return Log("cancel")


def cut_off() -> Log:
    return Log("cut_off_by_fault")


def bridged() -> Log:
    return Log("bridge_in_one_response")


def cut_call() -> Log:
    return Log("cut_off_call")


def idle() -> Log:
    return Log("idle_timeout")


def _call_id(value: str | None) -> Log:
    """The cut-off call with another call_id wherever it stands."""
    spoilt = cut_call().set_all("item.call_id", "call_1", value).set(DONE, f"{FIRST_OUTPUT}.call_id", value)
    return spoilt.set_all("call_id", "call_1", value or "call_1")


def _many_pairs() -> dict[str, str]:
    return {"topic": "greeting", **{f"k{n}": "v" for n in range(16)}}


def _same_call_id() -> Log:
    spoilt = Log("parallel_calls").set_all("item.call_id", "call_2", "call_1")
    return spoilt.set_all("call_id", "call_2", "call_1").set(DONE, "response.output.1.call_id", "call_1")


def _broken_arguments() -> Log:
    """A call whose arguments end too early, consistently so."""
    broken = '{"order_id":"5"'
    spoilt = tool().set(ARGUMENTS, "delta", '"5"', 1).set(ARGUMENTS_DONE, "arguments", broken)
    spoilt.set(CLOSED, "item.arguments", broken).set(SETTLED, "item.arguments", broken, 1)
    return spoilt.set(DONE, f"{FIRST_OUTPUT}.arguments", broken)


def _unpaired_metadata() -> Log:
    """The response comes back with another value than the client gave."""
    path = "response.metadata.client_event_id"
    return bridged().set_all(path, "c1", "x").set("response.create", path, "c1")


def _first_session(path: str, value: Any) -> Log:
    return idle().set("session.created", f"session.{path}", value)


def _second_conversation() -> Log:
    spoilt = cut_off().set(CREATED, "response.conversation_id", "conv_2", 1)
    return spoilt.set(DONE, "response.conversation_id", "conv_2", 1)


def _overcached() -> Log:
    spoilt = vad().set(DONE, f"{IN_DETAILS}.cached_tokens", 101)
    return spoilt.set(DONE, f"{IN_DETAILS}.cached_tokens_details", ...)


def _old_speech() -> Log:
    return barge_in().set(STARTED, "item_id", "item_u1", 1).set(STOPPED, "item_id", "item_u1", 1)


def _hidden_words() -> Log:
    return vad().set("session.created", TRANSCRIPTION, None).set(UPDATED, TRANSCRIPTION, None)


MUTATIONS: list[tuple[Rule, str, Callable[[], Log]]] = [
    (Rule.FRAME_BINARY, "bytes", lambda: vad().put_raw(LIMITS, b"\x00\x01")),
    (Rule.FRAME_JSON, "half a frame", lambda: vad().put_raw(LIMITS, '{"type": "resp')),
    (Rule.FRAME_JSON, "a list", lambda: vad().put_raw(LIMITS, "[]")),
    (Rule.TYPE_UNKNOWN, "our own type", lambda: vad().insert(DONE, event("orchestrator.handover"))),
    (Rule.TYPE_UNKNOWN, "a beta type", lambda: vad().insert(DONE, event("response.audio.delta"))),
    (Rule.TYPE_MISPLACED, "retired", lambda: vad().again(ADDED, type="conversation.item.created")),
    (Rule.TYPE_MISPLACED, "of WebRTC", lambda: vad().again(DONE, type="output_audio_buffer.stopped")),
    (Rule.SCHEMA, "no event_id", lambda: vad().set(AUDIO, "event_id", ...)),
    (Rule.SCHEMA, "milliseconds as float", lambda: vad().set(STARTED, "audio_start_ms", 320.0)),
    (Rule.SCHEMA, "a delta of null", lambda: vad().set(AUDIO, "delta", None)),
    (Rule.SCHEMA, "an index as string", lambda: vad().set(AUDIO, "output_index", "0")),
    (Rule.SCHEMA, "no limits", lambda: vad().set(LIMITS, "rate_limits", ...)),
    (Rule.EVENT_ID, "twice", lambda: vad().set(AUDIO, "event_id", "event_0")),
    (Rule.ERROR_SHAPE, "no message", lambda: cancel().set("error", "error.message", ...)),
    (Rule.ERROR_SHAPE, "no type", lambda: cancel().set("error", "error.type", None)),
    (
        Rule.ERROR_REFERENCE,
        "an id of nobody",
        lambda: cancel().again("error").set("error", "error.event_id", "x", 1),
    ),
    (Rule.UNANSWERED, "an update", lambda: vad().drop(UPDATED)),
    (Rule.UNANSWERED, "a truncate", lambda: barge_in().drop("conversation.item.truncated")),
    (Rule.UNANSWERED, "a retrieve", lambda: vad().drop("conversation.item.retrieved")),
    (Rule.UNANSWERED, "a delete", lambda: text().drop("conversation.item.deleted")),
    (Rule.UNANSWERED, "a clear", lambda: idle().drop("input_audio_buffer.cleared")),
    (Rule.UNANSWERED, "a cancel", lambda: cancel().drop("error")),
    (Rule.UNANSWERED, "a commit", lambda: idle().ask("input_audio_buffer.commit")),
    (Rule.UNANSWERED, "an item", lambda: vad().ask("conversation.item.create", item={"type": "message"})),
    (Rule.UNANSWERED, "a response", lambda: vad().ask("response.create")),
    (Rule.UNANSWERED, "metadata that comes back changed", _unpaired_metadata),
    (Rule.UNASKED, "an item shown twice", lambda: vad().again("conversation.item.retrieved")),
    (Rule.UNASKED, "a truncation", lambda: barge_in().again("conversation.item.truncated")),
    (Rule.SESSION_FIRST, "something before it", lambda: vad().move("session.created", STARTED)),
    (Rule.SESSION_AGAIN, "twice", lambda: vad().again("session.created")),
    (Rule.SESSION_SHAPE, "no voice", lambda: vad().set(UPDATED, "session.audio.output.voice", ...)),
    (Rule.SESSION_SHAPE, "no tools", lambda: vad().set("session.created", "session.tools", None)),
    (Rule.SESSION_SHAPE, "no type", lambda: vad().set(UPDATED, "session.type", ...)),
    (Rule.SESSION_SHAPE, "both", lambda: _first_session("output_modalities", ["audio", "text"])),
    (Rule.SESSION_SHAPE, "16 kHz", lambda: _first_session("audio.output.format.rate", 16000)),
    (Rule.SESSION_ID, "another session", lambda: cut_off().set(UPDATED, "session.id", "sess_2")),
    (Rule.SESSION_ECHO, "masked", lambda: vad().set(UPDATED, "session.instructions", "Be long.")),
    (Rule.ORCHESTRATOR, "no reason", lambda: cut_off().set(UPDATED, "session.orchestrator.reason", ...)),
    (Rule.ORCHESTRATOR, "not there", lambda: vad().set("session.created", "session.orchestrator", ...)),
    (Rule.TIER_METADATA, "no rung", lambda: cut_off().set(CREATED, "response.metadata.rung", "", 1)),
    (Rule.TIER_METADATA, "no such tier", lambda: vad().set(DONE, "response.metadata.tier", "D")),
    (Rule.RESPONSE_ID, "reused", lambda: vad().again(CREATED)),
    (Rule.RESPONSE_SHAPE, "no output", lambda: vad().set(CREATED, "response.output", ...)),
    (Rule.RESPONSE_SHAPE, "no object", lambda: vad().set(DONE, "response.object", ...)),
    (
        Rule.RESPONSE_SETTINGS,
        "the provider's voice",
        lambda: vad().set(CREATED, f"{RESPONSE_AUDIO}.voice", "alloy"),
    ),
    (Rule.RESPONSE_SETTINGS, "our limit", lambda: vad().set(CREATED, "response.max_output_tokens", 4096)),
    (
        Rule.RESPONSE_SETTINGS,
        "not as asked",
        lambda: text().set(CREATED, "response.output_modalities", ["audio"]),
    ),
    (Rule.RESPONSE_UNKNOWN, "never created", lambda: vad().again(AUDIO, response_id="resp_9")),
    (Rule.RESPONSE_OVER, "audio after it", lambda: vad().insert(DONE, event(AUDIO, delta="", **PLACE))),
    (Rule.RESPONSE_DONE_AGAIN, "twice", lambda: vad().again(DONE)),
    (Rule.RESPONSE_OPEN, "no end", lambda: vad().drop(DONE)),
    (Rule.RESPONSE_OVERLAP, "two at once", lambda: cut_off().move(CREATED, CREATED, 1)),
    (Rule.RESPONSE_STATUS, "completed at first", lambda: vad().set(CREATED, "response.status", "completed")),
    (Rule.RESPONSE_STATUS, "ends in progress", lambda: vad().set(DONE, "response.status", "in_progress")),
    (Rule.RESPONSE_OUTPUT, "an item left out", lambda: vad().set(DONE, "response.output", [])),
    (Rule.RESPONSE_CONVERSATION, "moves", lambda: vad().set(DONE, "response.conversation_id", "conv_2")),
    (Rule.RESPONSE_CONVERSATION, "a second one", _second_conversation),
    (Rule.USAGE_MISSING, "completed", lambda: vad().set(DONE, "response.usage", None)),
    (Rule.USAGE_SUM, "total", lambda: vad().set(DONE, "response.usage.total_tokens", 121)),
    (Rule.USAGE_SUM, "details", lambda: vad().set(DONE, f"{IN_DETAILS}.text_tokens", 6)),
    (Rule.USAGE_SUM, "more cached than came in", _overcached),
    (Rule.STATUS_REASON, "not of the set", lambda: cut_off().set(DONE, REASON, "provider_lost")),
    (Rule.STATUS_REASON, "contradiction", lambda: cancel().set(DONE, REASON, "max_output_tokens")),
    (
        Rule.STATUS_REASON,
        "another type",
        lambda: cut_off().set(DONE, "response.status_details.type", "failed"),
    ),
    (Rule.REASON_FALSE, "nobody cancelled", lambda: cancel().drop("response.cancel")),
    (Rule.REASON_FALSE, "nobody spoke", lambda: cancel().set(DONE, REASON, "turn_detected")),
    (Rule.METADATA, "not a string", lambda: vad().set(DONE, "response.metadata.cost", 3)),
    (Rule.METADATA, "too long", lambda: vad().set(DONE, "response.metadata.why", "x" * 513)),
    (Rule.METADATA, "long key", lambda: vad().set(DONE, f"response.metadata.{'k' * 65}", "x")),
    (Rule.METADATA, "too many", lambda: text().set(DONE, "response.metadata", _many_pairs())),
    (Rule.METADATA_LOST, "at the end", lambda: bridged().set(DONE, "response.metadata.client_event_id", ...)),
    (Rule.ITEM_ID, "of the caller's item", lambda: vad().again(ADDED)),
    (
        Rule.ITEM_ID,
        "of an earlier item",
        lambda: vad().insert(CREATED, event(OPENED, item=OLD_ITEM, **spot("resp_1"))),
    ),
    (Rule.ITEM_SHAPE, "no status", lambda: vad().set(OPENED, "item.status", ...)),
    (Rule.ITEM_SHAPE, "no call_id", lambda: _call_id(None)),
    (Rule.ITEM_AGAIN, "opened twice", lambda: vad().again(OPENED)),
    (Rule.ITEM_AGAIN, "closed twice", lambda: vad().again(CLOSED)),
    (Rule.ITEM_AGAIN, "done twice", lambda: vad().again(SETTLED)),
    (Rule.ITEM_UNKNOWN, "of no response", lambda: vad().again(AUDIO, item_id="item_9")),
    (Rule.ITEM_UNKNOWN, "deleted", lambda: text().again("conversation.item.deleted")),
    (Rule.ITEM_OPEN, "in its response", lambda: vad().drop(CLOSED)),
    (Rule.ITEM_OPEN, "in the conversation", lambda: vad().drop(SETTLED, 1)),
    (Rule.ITEM_OPEN, "of the caller", lambda: vad().drop(SETTLED)),
    (Rule.ITEM_OVER, "arguments", lambda: tool().insert(CLOSED, event(ARGUMENTS, delta="}", **CALL_PLACE))),
    (Rule.ITEM_UNANNOUNCED, "a part first", lambda: vad().move(ADDED, PART, 1)),
    (Rule.ITEM_OUT_OF_BAND, "added", lambda: side().insert(OPENED, event(ADDED, item=HALF_SIDE), 1)),
    (Rule.ITEM_OUT_OF_BAND, "done", lambda: side().insert(OPENED, event(SETTLED, item=HALF_SIDE), 1)),
    (Rule.ITEM_STATUS, "ends in progress", lambda: vad().set(CLOSED, "item.status", "in_progress")),
    (Rule.ITEM_STATUS, "opens completed", lambda: vad().set(OPENED, "item.status", "completed")),
    (Rule.ITEM_CHANGED, "another name", lambda: tool().set(CLOSED, "item.name", "refund")),
    (Rule.ITEM_CHANGED, "another call", lambda: tool().set(ARGUMENTS, "call_id", "call_2")),
    (Rule.PREVIOUS_ITEM, "withheld", lambda: vad().set(ADDED, "previous_item_id", "item_hidden", 1)),
    (Rule.PREVIOUS_ITEM, "of a commit", lambda: vad().set(COMMITTED, "previous_item_id", "item_9", 1)),
    (Rule.OUTPUT_INDEX, "goes back", lambda: bridged().set_all("output_index", 2, 0)),
    (Rule.OUTPUT_INDEX, "of another item", lambda: vad().set(AUDIO, "output_index", 1)),
    (Rule.PART_OUTSIDE_ITEM, "late", lambda: vad().insert(CLOSED, event(PART, part=EMPTY, **NEXT_PART))),
    (
        Rule.PART_OUTSIDE_ITEM,
        "in a call",
        lambda: tool().insert(ADDED, event(PART, part=EMPTY, content_index=0, **at("resp_1", "item_f1")), 1),
    ),
    (Rule.PART_AGAIN, "opened twice", lambda: vad().again(PART)),
    (Rule.PART_AGAIN, "closed twice", lambda: vad().again(PART_DONE)),
    (Rule.PART_OPEN, "never closed", lambda: vad().drop(PART_DONE)),
    (Rule.PART_TYPE, "the item's word", lambda: vad().set(PART, "part.type", "output_audio")),
    (Rule.PART_TYPE, "another in the item", lambda: vad().set(CLOSED, "item.content.0.type", "output_text")),
    (Rule.PART_TYPE, "text in audio", lambda: vad().insert(WORDS, event(TEXT, delta="x", **PLACE))),
    (Rule.CONTENT_INDEX, "counts from one", lambda: vad().set_all("content_index", 0, 1)),
    (Rule.STREAM_OPEN, "audio", lambda: vad().drop("response.output_audio.done")),
    (Rule.STREAM_OPEN, "transcript", lambda: vad().drop("response.output_audio_transcript.done")),
    (Rule.STREAM_OPEN, "text", lambda: text().drop("response.output_text.done")),
    (Rule.STREAM_AGAIN, "done twice", lambda: vad().again("response.output_audio.done")),
    (Rule.STREAM_AGAIN, "a late delta", lambda: vad().move(AUDIO, "response.output_audio.done")),
    (Rule.DELTA_OUTSIDE_PART, "before the part", lambda: vad().move(AUDIO, ADDED, behind_nth=1)),
    (Rule.DELTA_OUTSIDE_PART, "after the part", lambda: vad().move(AUDIO, PART_DONE)),
    (Rule.DELTA_BASE64, "not base64", lambda: vad().set(AUDIO, "delta", "*" + PCM_100_MS[1:])),
    (Rule.DELTA_ODD, "half a sample", lambda: vad().set(AUDIO, "delta", "AAAA")),
    (Rule.CONTENT_MISMATCH, "a lost delta", lambda: vad().drop(WORDS)),
    (Rule.CONTENT_MISMATCH, "another end", lambda: text().set("response.output_text.done", "text", "Hi.")),
    (
        Rule.CONTENT_MISMATCH,
        "another item",
        lambda: vad().set(DONE, f"{FIRST_OUTPUT}.content.0.transcript", ""),
    ),
    (Rule.CONTENT_MISMATCH, "a part left out", lambda: vad().set(CLOSED, "item.content", [])),
    (Rule.CONTENT_MISMATCH, "arguments", lambda: tool().drop(ARGUMENTS)),
    (Rule.CALL_ID, "reused", _same_call_id),
    (Rule.CALL_ID, "too long to replay", lambda: _call_id("call_" + "x" * 28)),
    (
        Rule.CALL_KIND,
        "in a message",
        lambda: vad().insert(PART, event(ARGUMENTS, delta="{", call_id="c", **at("resp_1", "item_a1"))),
    ),
    (Rule.CALL_NAME, "missing", lambda: tool().set(ARGUMENTS_DONE, "name", ...)),
    (Rule.CALL_ARGUMENTS, "no done", lambda: tool().drop(ARGUMENTS_DONE)),
    (Rule.CALL_ARGUMENTS, "not JSON", _broken_arguments),
    (
        Rule.CALL_ACTED,
        "incomplete",
        lambda: cut_call().insert(
            ARGUMENTS, event(ARGUMENTS_DONE, arguments=HALF, name="get_order_status", **CALL_PLACE)
        ),
    ),
    (
        Rule.SPEECH_ORDER,
        "starts twice",
        lambda: vad().insert(UPDATED, event(STARTED, audio_start_ms=0, item_id="x")),
    ),
    (Rule.SPEECH_ORDER, "stops unheard", lambda: vad().drop(STARTED)),
    (Rule.SPEECH_ORDER, "committed while spoken", lambda: vad().drop(STOPPED, 1)),
    (Rule.SPEECH_ITEM, "stops as another", lambda: vad().set(STOPPED, "item_id", "item_u9")),
    (Rule.SPEECH_ITEM, "starts as an old one", _old_speech),
    (Rule.AUDIO_MS, "start goes back", lambda: vad().set(STARTED, "audio_start_ms", 10, 1)),
    (Rule.AUDIO_MS, "ends before it starts", lambda: vad().set(STOPPED, "audio_end_ms", 4_000, 1)),
    (Rule.AUDIO_MS, "after silence", lambda: idle().set(TIMEOUT, "audio_end_ms", 400)),
    (Rule.COMMITTED_LOST, "never added", lambda: vad().drop(ADDED, 2).drop(SETTLED, 2)),
    (Rule.COMMITTED_MISSING, "never committed", lambda: vad().drop(COMMITTED)),
    (Rule.TRANSCRIPTION_ITEM, "of nobody", lambda: vad().again(WRITTEN, item_id="item_9")),
    (Rule.TRANSCRIPTION_UNASKED, "hidden ones", _hidden_words),
    (Rule.TRANSCRIPTION_USAGE, "no usage", lambda: vad().set(WRITTEN, "usage", ...)),
    (Rule.TRANSCRIPTION_AGAIN, "twice", lambda: vad().again(WRITTEN)),
    (Rule.TRANSCRIPTION_LOST, "never came", lambda: vad().drop(WRITTEN, 1).drop(f"{WRITTEN_STEM}.delta", 1)),
]


@pytest.mark.parametrize("stream", STREAMS)
def test_accepts_what_a_correct_server_sends(stream: str) -> None:
    assert_conformant(STREAMS[stream](), orchestrator=True, settings=True)


@pytest.mark.parametrize("stream", STREAMS)
def test_accepts_it_without_what_the_client_sent(stream: str) -> None:
    assert_conformant([frame.data for frame in STREAMS[stream]() if not frame.sent])


@pytest.mark.parametrize(
    ("rule", "what", "spoilt"), MUTATIONS, ids=[f"{row[0]}: {row[1]}" for row in MUTATIONS]
)
def test_names_the_broken_promise(rule: Rule, what: str, spoilt: Callable[[], Log]) -> None:
    frames = spoilt().frames()
    violations = check(frames, orchestrator=True, settings=True)
    assert {violation.rule for violation in violations} == {rule}, explain(frames, violations)


def test_every_rule_has_a_stream_that_breaks_it() -> None:
    assert {row[0] for row in MUTATIONS} == set(Rule)


def test_a_call_that_goes_on_elsewhere_may_name_items_of_before() -> None:
    spoilt = (
        vad().set(ADDED, "previous_item_id", "item_before").set(COMMITTED, "previous_item_id", "item_before")
    )
    spoilt.set(SETTLED, "previous_item_id", "item_before")
    assert {violation.rule for violation in check(spoilt.frames())} == {Rule.PREVIOUS_ITEM}
    assert check(spoilt.frames(), known_items={"item_before"}) == []


def test_a_connection_that_was_cut_may_leave_things_open() -> None:
    frames = Log("barge_in").frames()
    short = frames[: len(frames) // 2]
    assert check(short, cut_short=True) == []
    assert Rule.RESPONSE_OPEN in {violation.rule for violation in check(short)}


def test_open_ends_tell_what_is_still_to_come() -> None:
    checker = Checker()
    seen = []
    for frame in Log("vad_turn").frames():
        checker.feed(frame)
        seen.append({rule for rule, _ in checker.open_ends()})
    assert any(Rule.RESPONSE_OPEN in rules for rules in seen)
    assert seen[-1] == set()


def test_the_failure_shows_the_window_of_events() -> None:
    frames = vad().again(DONE).frames()
    with pytest.raises(AssertionError) as failure:
        assert_conformant(frames, orchestrator=True)
    text = str(failure.value)
    assert "[response-done-again]" in text
    assert f"> {vad().find(DONE) + 1:4} <- response.done" in " ".join(text.split("\n"))


def test_an_update_is_answered_although_a_part_of_it_is_refused() -> None:
    refused = [{"field": "instructions", "reason": "the call was opened with this field locked"}]
    locked = vad().set(UPDATED, "session.orchestrator.refused", refused)
    assert_conformant(locked.set(UPDATED, "session.instructions", "As it was.").frames(), orchestrator=True)
    silent = vad().set(UPDATED, "session.instructions", "As it was.")
    with pytest.raises(AssertionError, match="session-echo"):
        assert_conformant(silent.frames(), orchestrator=True)


def test_what_shows_the_settings_so_far_may_come_between_an_update_and_its_answer() -> None:
    """A handover tells its tier in a session.updated of its own, which knows nothing of the update under way."""
    between = vad()
    answer = deepcopy(between.rows[between.find(UPDATED)][1])
    between.set(UPDATED, "session.instructions", "").set(UPDATED, "session.orchestrator.tier", "B")
    between.insert(UPDATED, answer)
    assert_conformant(between.frames(), orchestrator=True)
