"""The small parts a call is made of: endpointing, kept audio, playback, the conversation, suspicion."""

from __future__ import annotations

import itertools
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.conversation import Conversation, Item, text_of
from orchestrator.core.input_audio import InputAudio
from orchestrator.core.playback import Playback
from orchestrator.core.suspicion import CLOSE_MS, NOTICE_MS, Suspicion, patience_ms, rms
from orchestrator.core.turns import SpeechStarted, SpeechStopped, TurnDetector
from orchestrator.protocol.answers import Message, ToolCall
from orchestrator.protocol.audio import AudioFormat
from orchestrator.protocol.session import default_session
from orchestrator.protocol.wire import append_audio, dump

SERVER_VAD = default_session("m")["audio"]["input"]["turn_detection"]


def append(data: bytes) -> bytes:
    return dump({"type": "input_audio_buffer.append", "audio": b64encode(data).decode()})


def add(audio: InputAudio, frame: bytes) -> None:
    span = append_audio(frame)
    assert span is not None
    audio.append(frame, span)


# --- endpointing ---


def feed(detector: TurnDetector, *windows: tuple[float, int]) -> list[SpeechStarted | SpeechStopped]:
    found = [detector.feed(p) for probability, count in windows for p in [probability] * count]
    return [event for event in found if isinstance(event, SpeechStarted | SpeechStopped)]


def test_a_turn_has_prefix_padding_and_trailing_silence() -> None:
    detector = TurnDetector(SERVER_VAD, 1000.0)
    started, stopped = feed(detector, (0.05, 20), (0.9, 30), (0.0, 20))
    assert started == SpeechStarted(1000 + 20 * 32 - 300)
    assert stopped == SpeechStopped(started.at_ms, 1000 + 50 * 32 + 16 * 32)


def test_a_click_is_no_turn() -> None:
    assert feed(TurnDetector(SERVER_VAD, 0.0), (0.9, 2), (0.0, 40)) == []


def test_a_pause_shorter_than_the_silence_does_not_end_a_turn() -> None:
    detector = TurnDetector(SERVER_VAD, 0.0)
    assert len(feed(detector, (0.9, 10), (0.0, 15), (0.9, 10))) == 1
    assert detector.speaking


@pytest.mark.parametrize(
    ("changes", "windows"),
    [({"silence_duration_ms": 200}, 7), ({"silence_duration_ms": 1000}, 32), ({"threshold": 0.8}, 16)],
)
def test_the_sessions_own_settings_decide(changes: dict[str, float], windows: int) -> None:
    detector = TurnDetector({**SERVER_VAD, **changes}, 0.0)
    assert len(feed(detector, (0.9, 10), (0.0, windows - 1))) == 1
    assert isinstance(feed(detector, (0.0, 1))[0], SpeechStopped)


def test_semantic_vad_waits_by_eagerness_and_none_never_fires() -> None:
    low = TurnDetector({"type": "semantic_vad", "eagerness": "low"}, 0.0)
    high = TurnDetector({"type": "semantic_vad", "eagerness": "high"}, 0.0)
    assert len(feed(low, (0.9, 10), (0.0, 20))) == 1
    assert len(feed(high, (0.9, 10), (0.0, 20))) == 2
    assert feed(TurnDetector(None, 0.0), (0.9, 50), (0.0, 50)) == []


def test_a_turn_already_under_way_is_only_ended() -> None:
    detector = TurnDetector(SERVER_VAD, 500.0, speaking_since=200.0)
    assert feed(detector, (0.9, 5), (0.0, 16)) == [SpeechStopped(200.0, 500 + 21 * 32)]


# --- kept audio ---


def test_a_slice_is_cut_to_the_sample() -> None:
    audio = InputAudio(AudioFormat.PCM)
    for number in range(10):
        add(audio, append(bytes([number]) * 960))
    assert audio.total_ms == 200
    assert audio.slice(30, 50) == b"\x01" * 480 + b"\x02" * 480


def test_the_ring_forgets_and_a_hold_keeps_up_to_its_cap() -> None:
    audio = InputAudio(AudioFormat.PCM, ring_ms=100, cap_ms=400)
    for _ in range(10):
        add(audio, append(b"\0" * 960))
    assert audio.earliest_ms == 100
    audio.hold(140.0)
    for _ in range(10):
        add(audio, append(b"\0" * 960))
    assert audio.earliest_ms == 140
    for _ in range(30):
        add(audio, append(b"\0" * 960))
    assert audio.total_ms - audio.earliest_ms == 400


def test_broken_base64_is_no_audio() -> None:
    assert InputAudio.decode(b'{"type":"input_audio_buffer.append","audio":"@@@@"}') == b""


@given(st.lists(st.integers(1, 40), max_size=40), st.sampled_from(list(AudioFormat)))
def test_what_is_sliced_is_what_was_sent(sizes: list[int], fmt: AudioFormat) -> None:
    audio, sent = InputAudio(fmt), b""
    for number, ms in enumerate(sizes):
        data = bytes([number % 251]) * (ms * fmt.bytes_per_ms)
        add(audio, append(data))
        sent += data
    assert audio.slice(0.0) == sent
    assert audio.slice(0.0, audio.total_ms / 2) + audio.slice(audio.total_ms / 2) == sent


# --- playback ---


def test_audio_sent_in_a_burst_is_heard_in_real_time() -> None:
    playback = Playback()
    playback.add("a", 2000, 10.0)
    playback.add("b", 1000, 10.1)
    assert playback.dry_at == pytest.approx(13.0)
    assert playback.heard_ms("a", 11.0) == pytest.approx(1000)
    assert playback.heard_ms("b", 12.5) == pytest.approx(500)
    assert playback.heard_ms("b", 99.0) == 1000
    assert playback.heard_ms("never", 11.0) == 0


def test_barge_in_cuts_what_was_not_played() -> None:
    playback = Playback()
    playback.add("a", 500, 0.0)
    playback.add("b", 2000, 0.0)
    assert playback.interrupt(1.0) == [("b", pytest.approx(500))]
    assert playback.interrupt(1.5) == []
    assert playback.dry_at == 1.0
    playback.forget_played(1000.0)
    assert playback.sent_ms("a") == 0


# --- the conversation ---


def message(item_id: str, role: str = "user", text: str = "hi") -> Item:
    kind = "output_text" if role == "assistant" else "input_text"
    return Item(
        item_id, {"id": item_id, "type": "message", "role": role, "content": [{"type": kind, "text": text}]}
    )


def test_items_stand_where_they_were_put() -> None:
    talk = Conversation()
    for item_id, after in (("a", None), ("b", None), ("c", "a"), ("d", "root"), ("e", "unknown")):
        talk.insert(message(item_id), after)
    assert [item.id for item in talk] == ["d", "a", "c", "b", "e"]
    assert talk.previous("d") is None
    assert talk.previous("c") == "a"
    talk.remove("a")
    assert talk.previous("c") == "d"
    assert talk.remove("a") is None


def test_an_anchor_the_provider_knows_stands_in_for_one_it_does_not() -> None:
    talk = Conversation()
    for item_id in "abc":
        talk.insert(message(item_id))
    assert talk.upstream_anchor("c") == "root"
    first = talk.get("a")
    assert first is not None
    first.upstream = True
    assert talk.upstream_anchor("c") == "a"
    assert talk.upstream_anchor(None) is None


def test_the_snapshot_holds_words_as_heard_and_no_bridge() -> None:
    talk = Conversation()
    talk.insert(message("u"))
    talk.insert(Item("x", message("x", "assistant").wire, transcript="One moment.", bridge=True))
    cut = Item(
        "a",
        message("a", "assistant").wire,
        transcript="one two three four",
        sent_ms=1000,
        heard_ms=500,
        cut_off=True,
    )
    talk.insert(cut)
    call = {"id": "f", "type": "function_call", "name": "t", "call_id": "c1", "arguments": "{}"}
    talk.insert(Item("f", {**call, "status": "completed"}))
    talk.insert(Item("g", {**call, "id": "g", "status": "incomplete"}))
    assert talk.history() == (
        Message("user", "hi"),
        Message("assistant", "one two", cut_off=True),
        ToolCall("c1", "t", "{}"),
    )
    assert talk.pending_calls() == {"f"}
    talk.insert(Item("o", {"id": "o", "type": "function_call_output", "call_id": "c1", "output": "done"}))
    assert talk.pending_calls() == set()
    assert text_of({"content": [{"transcript": "a"}, {"text": "b"}, {}]}) == "a b"


# --- suspicion ---

SILENCE_MS = 500.0


def hear(suspicion: Suspicion, *spans: tuple[float, int]) -> list[float]:
    """Play levels, each for so many milliseconds; when suspicion arose."""
    at, raised = 0.0, []
    for level, length in spans:
        for _ in range(length // 100):
            at += 100.0
            if suspicion.hear(level, at, 100.0, SILENCE_MS):
                raised.append(at)
    return raised


def test_a_caller_who_speaks_and_gets_no_notice_is_a_suspicion_once() -> None:
    suspicion = Suspicion()
    assert hear(suspicion, (2000.0, 1000), (10.0, 4000)) == [NOTICE_MS]
    assert suspicion.loud_from_ms == 0.0
    assert not suspicion.in_turn


def test_a_long_speech_is_a_suspicion_before_it_ends() -> None:
    assert hear(Suspicion(), (2000.0, 9000)) == [NOTICE_MS]


def test_an_announced_turn_is_a_suspicion_only_when_its_end_is_late() -> None:
    suspicion = Suspicion()
    suspicion.turn_began()
    assert hear(suspicion, (2000.0, 5000), (10.0, 4000)) == [5000 + SILENCE_MS + CLOSE_MS]
    assert suspicion.in_turn


def test_a_turn_that_was_announced_to_its_end_is_no_suspicion() -> None:
    suspicion = Suspicion()
    suspicion.turn_began()
    hear(suspicion, (2000.0, 1000), (10.0, 500))
    suspicion.turn_ended()
    assert hear(suspicion, (10.0, 4000)) == []


def test_a_noise_that_is_no_speech_is_looked_at_ever_more_rarely() -> None:
    suspicion, found = Suspicion(), []
    for n in range(1, 600):
        if suspicion.hear(2000.0, 100.0 * n, 100.0, SILENCE_MS):
            found.append(100.0 * n)
            suspicion.dismissed()
    waits = [b - a for a, b in itertools.pairwise([0.0, *found])]
    assert waits[:4] == [NOTICE_MS, 2 * NOTICE_MS, 4 * NOTICE_MS, 8 * NOTICE_MS]
    assert set(waits[4:]) == {8 * NOTICE_MS}


def test_how_long_a_provider_may_wait_depends_on_the_turn_detection() -> None:
    assert patience_ms({"type": "server_vad", "silence_duration_ms": 200}) == 200.0
    assert patience_ms({"type": "semantic_vad", "eagerness": "low"}) == 8000.0
    assert patience_ms({"type": "semantic_vad"}) == 4000.0


def test_a_short_noise_is_no_suspicion() -> None:
    assert hear(Suspicion(), (2000.0, 100), (10.0, 4000)) == []


@pytest.mark.parametrize("fmt", list(AudioFormat))
def test_the_level_of_silence_is_low_in_every_format(fmt: AudioFormat) -> None:
    assert rms(fmt.silence(20), fmt) < 10
    assert rms(b"", fmt) == 0
