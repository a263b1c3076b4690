"""Frames at a glance: what may be passed on unparsed, and what must never be."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.protocol.wire import (
    AudioShape,
    Ids,
    append_audio,
    base64_size,
    dump,
    error_event,
    parse_server_event,
)

AUDIO = b64encode(bytes(960)).decode()


@pytest.mark.parametrize(
    "event",
    [
        {"type": "input_audio_buffer.append", "audio": AUDIO},
        {"event_id": "e1", "type": "input_audio_buffer.append", "audio": AUDIO},
    ],
)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_plain_audio_is_known_at_a_glance(event: dict[str, str], separators: tuple[str, str]) -> None:
    frame = json.dumps(event, separators=separators).encode()
    span = append_audio(frame)
    assert span is not None
    assert frame[span[0] : span[1]].decode() == AUDIO


@pytest.mark.parametrize(
    "frame",
    [
        '{"type":"input_audio_buffer.append","audio":"AAAA","type":"response.create"}',
        '{"type":"input_audio_buffer.append","audio":"AAAA","session":{}}',
        '{"type":"input_audio_buffer.append","audio":"AAAA"',
        '{"type":"input_audio_buffer.append","audio":"AAAA',
        '{"audio":"AAAA","type":"input_audio_buffer.append"}',
        '{"type":"input_audio_buffer.append"}',
        '{"type":"conversation.item.create","item":{"text":"\\"type\\":\\"input_audio_buffer.append\\""}}',
        "",
    ],
)
def test_anything_else_is_parsed_in_full(frame: str) -> None:
    assert append_audio(frame.encode()) is None


def delta(**changes: Any) -> dict[str, Any]:
    return {
        "type": "response.output_audio.delta",
        "event_id": "event_1",
        "response_id": "resp_1",
        "item_id": "item_1",
        "output_index": 0,
        "content_index": 0,
        "delta": AUDIO,
        **changes,
    }


def test_the_next_delta_of_the_same_item_is_known_by_its_shape() -> None:
    first = dump(delta())
    shape = AudioShape(first, delta())
    for size in (0, 3, 9600):
        data = b64encode(bytes(size)).decode()
        assert shape.base64_length(dump(delta(event_id="event_23", delta=data))) == len(data)
    assert base64_size(len(AUDIO)) == 960


@pytest.mark.parametrize(
    "frame",
    [
        dump(delta(item_id="item_2")),
        dump(delta(response_id="resp_2")),
        dump(delta(type="response.output_text.delta")),
        dump(delta(extra="x")),
        dump(delta())[:-1],
        dump(delta())[:-3],
        dump(delta()) + dump(delta()),
        b"",
    ],
)
def test_another_items_or_a_broken_delta_is_not(frame: bytes) -> None:
    assert AudioShape(dump(delta()), delta()).base64_length(frame) is None


@given(st.integers(1, 400))
def test_no_cut_frame_passes_for_a_whole_one(cut: int) -> None:
    frame = dump(delta())
    assert AudioShape(frame, delta()).base64_length(frame[:-cut]) is None


@pytest.mark.parametrize(
    ("frame", "wrong"),
    [
        (b"{", "garbage"),
        (b"[1]", "garbage"),
        (b'{"type":"response.created","event_id":"e"}', "garbage"),
        (b'{"type":"response.created","response":{}}', "garbage"),
        (b'{"type":"response.created","event_id":"e","response":"x"}', "garbage"),
        (b'{"type":"brand.new","event_id":"e"}', "unknown"),
        (b'{"event_id":"e"}', "unknown"),
    ],
)
def test_what_no_client_is_prepared_for_is_not_an_event(frame: bytes, wrong: str) -> None:
    assert parse_server_event(frame) == (None, wrong)


def test_a_valid_event_comes_back_whole() -> None:
    event = {"type": "rate_limits.updated", "event_id": "e", "rate_limits": []}
    assert parse_server_event(dump(event)) == (event, "")


def test_ids_are_counted_and_never_meet() -> None:
    ids = Ids("t")
    seen = [ids.new("item") for _ in range(1000)]
    assert len(set(seen)) == 1000
    assert seen == sorted(seen)


def test_an_error_names_the_clients_event() -> None:
    error = error_event("no", code="c", param="p", client_event_id="mine")["error"]
    assert (error["event_id"], error["code"], error["param"]) == ("mine", "c", "p")
