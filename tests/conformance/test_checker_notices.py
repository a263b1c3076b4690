"""One lost, doubled or misplaced event anywhere in a correct stream is noticed, unless it can do no harm."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conformance.checker import Frame, check, explain
from tests.conformance.golden import STREAMS

GOLDEN = {name: build() for name, build in STREAMS.items()}
RECEIVED = [
    (name, index) for name, frames in GOLDEN.items() for index, frame in enumerate(frames) if not frame.sent
]
AUDIO = "response.output_audio.delta"
TRANSCRIPTION = "conversation.item.input_audio_transcription."
ALONE = {"rate_limits.updated", AUDIO, f"{TRANSCRIPTION}delta", "input_audio_buffer.timeout_triggered"}
"""Nothing depends on whether one of these came, or came twice. Repeated and missing audio is for the ear."""

STREAM = "response.output_"
EITHER_WAY = [
    ({"conversation.item.done"}, {"response.output_item.done"}),
    (
        {AUDIO, "response.output_audio.done"},
        {"response.output_audio_transcript.delta", "response.output_audio_transcript.done"},
    ),
    ({AUDIO}, {AUDIO}),
    ({"response.output_item.done"}, {"response.output_item.added"}),
]
"""Pairs of one item, or of two of one response, whose order differs between captures, or cannot matter."""


def event_of(frame: Frame) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(frame.data)
    return event


def subjects(event: dict[str, Any]) -> set[str]:
    """What an event is about; events about different things may come in either order."""
    if event["type"] == "session.created":
        return {"everything"}
    if event["type"] == "rate_limits.updated" or event["type"] == "session.updated":
        return set()
    found = {event.get("response_id"), event.get("item_id")}
    found |= {(event.get(key) or {}).get("id") for key in ("item", "response")}
    if event["type"].startswith("input_audio_buffer."):
        found.add("input audio")
    if event["type"].startswith("response.") and (event.get("response") or {}).get("conversation_id"):
        found.add("the conversation's response")
    return {subject for subject in found if subject}


def may_swap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    kinds = {one["type"]}, {other["type"]}
    if "session.created" in kinds[0] | kinds[1]:
        return False
    if any(a <= first and b <= second for first, second in EITHER_WAY for a, b in (kinds, kinds[::-1])):
        return True
    words = [event["type"].startswith(TRANSCRIPTION) for event in (one, other)]
    if any(words) and not all(words):
        return True
    return not subjects(one) & subjects(other)


def is_harmless_twice(event: dict[str, Any]) -> bool:
    """Saying the same session, or the same refusal, again tells a client nothing new."""
    return event["type"] in ALONE | {"session.updated", "error"}


def is_harmless_lost(name: str, event: dict[str, Any]) -> bool:
    """A tier change that is told in no session.updated is still told by the next response."""
    return event["type"] in ALONE or (event["type"] == "session.updated" and name != "vad_turn")


@given(where=st.sampled_from(RECEIVED))
@settings(max_examples=150, deadline=None)
def test_a_lost_event_is_noticed(where: tuple[str, int]) -> None:
    name, index = where
    frames = GOLDEN[name][:index] + GOLDEN[name][index + 1 :]
    violations = check(frames, orchestrator=True)
    lost = event_of(GOLDEN[name][index])
    assert violations or is_harmless_lost(name, lost), f"{name}: nobody missed {lost}"


@given(where=st.sampled_from(RECEIVED))
@settings(max_examples=150, deadline=None)
def test_a_doubled_event_is_noticed(where: tuple[str, int]) -> None:
    name, index = where
    twin = {**event_of(GOLDEN[name][index]), "event_id": "event_twin"}
    frames = [*GOLDEN[name][: index + 1], Frame(json.dumps(twin)), *GOLDEN[name][index + 1 :]]
    violations = check(frames, orchestrator=True)
    if is_harmless_twice(twin):
        assert not violations, explain(frames, violations)
    else:
        assert violations, f"{name}: nobody minded a second {twin}"


@given(where=st.sampled_from(RECEIVED))
@settings(max_examples=200, deadline=None)
def test_two_events_in_the_wrong_order_are_noticed(where: tuple[str, int]) -> None:
    name, index = where
    frames = list(GOLDEN[name])
    if index + 1 == len(frames) or frames[index + 1].sent:
        return
    one, other = event_of(frames[index]), event_of(frames[index + 1])
    frames[index], frames[index + 1] = frames[index + 1], frames[index]
    violations = check(frames, orchestrator=True)
    assert violations or may_swap(one, other), f"{name}: nobody minded {one['type']} behind {other['type']}"
