"""Streams as a correct server sends them, written out event by event: what the checker has to accept.

The orders are those of the Realtime service's captures; the handover streams are this product's own promise.
Every function gives one whole connection as frames, with what the client sent where that matters.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from tests.conformance.checker import Frame

JsonObject = dict[str, Any]

PCM_100_MS = base64.b64encode(b"\x10\x00" * 2400).decode()
CONVERSATION = "conv_1"
USAGE = {
    "total_tokens": 120,
    "input_tokens": 100,
    "output_tokens": 20,
    "input_token_details": {
        "text_tokens": 60,
        "audio_tokens": 40,
        "image_tokens": 0,
        "cached_tokens": 50,
        "cached_tokens_details": {"text_tokens": 30, "audio_tokens": 20, "image_tokens": 0},
    },
    "output_token_details": {"text_tokens": 5, "audio_tokens": 15},
}


def session(tier: str = "A", **changed: Any) -> JsonObject:
    rungs = {"A": "gpt-realtime-2.1", "B": "kokoro", "C": "prompts"}
    return {
        "type": "realtime",
        "object": "realtime.session",
        "id": "sess_1",
        "model": "gpt-realtime-2.1",
        "expires_at": 1_900_000_000,
        "output_modalities": ["audio"],
        "instructions": "Be brief.",
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "truncation": "auto",
        "tracing": None,
        "prompt": None,
        "include": None,
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "noise_reduction": None,
                "transcription": {"model": "gpt-live-transcribe"},
                "turn_detection": {
                    "type": "server_vad",
                    "threshold": 0.5,
                    "prefix_padding_ms": 300,
                    "silence_duration_ms": 200,
                    "idle_timeout_ms": None,
                    "create_response": True,
                    "interrupt_response": True,
                },
            },
            "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "marin", "speed": 1.0},
        },
        "orchestrator": {"call_id": "call_7", "tier": tier, "rung": rungs[tier], "reason": "healthy"},
        **changed,
    }


def message(item_id: str, role: str, content: list[JsonObject], status: str = "completed") -> JsonObject:
    return {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "status": status,
        "role": role,
        "content": content,
    }


def spoken(item_id: str, words: str, status: str = "completed") -> JsonObject:
    return message(item_id, "assistant", [{"type": "output_audio", "transcript": words}], status)


def call(item_id: str, arguments: str, status: str = "completed", call_id: str = "call_1") -> JsonObject:
    return {
        "id": item_id,
        "object": "realtime.item",
        "type": "function_call",
        "status": status,
        "call_id": call_id,
        "name": "get_order_status",
        "arguments": arguments,
    }


class Stream:
    """Writes a log; event ids count up on their own."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.got("session.created", session=session())

    def got(self, kind: str, **fields: Any) -> None:
        event = {"type": kind, "event_id": f"event_{len(self.frames)}", **fields}
        self.frames.append(Frame(json.dumps(event), at=len(self.frames) / 50))

    def sent(self, kind: str, **fields: Any) -> None:
        event = {"type": kind, "event_id": f"client_{len(self.frames)}", **fields}
        self.frames.append(Frame(json.dumps(event), sent=True, at=len(self.frames) / 50))

    def response(self, kind: str, response_id: str, output: list[JsonObject], **fields: Any) -> None:
        body = {
            "object": "realtime.response",
            "id": response_id,
            "status": "in_progress",
            "status_details": None,
            "output": output,
            "conversation_id": CONVERSATION,
            "output_modalities": ["audio"],
            "max_output_tokens": "inf",
            "audio": {"output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "marin"}},
            "metadata": {"tier": "A", "rung": "gpt-realtime-2.1"},
            "usage": None,
            **fields,
        }
        self.got(kind, response=body)

    def created(self, response_id: str, **fields: Any) -> None:
        self.response("response.created", response_id, [], **fields)

    def done(self, response_id: str, output: list[JsonObject], **fields: Any) -> None:
        ended = {"status": "completed", "usage": USAGE, **fields}
        self.response("response.done", response_id, output, **ended)

    def caller_speaks(self, item_id: str, start_ms: int, end_ms: int, previous: str | None = None) -> None:
        self.got("input_audio_buffer.speech_started", audio_start_ms=start_ms, item_id=item_id)
        self.caller_stops(item_id, end_ms, previous)

    def caller_stops(self, item_id: str, end_ms: int, previous: str | None = None) -> None:
        self.got("input_audio_buffer.speech_stopped", audio_end_ms=end_ms, item_id=item_id)
        self.got("input_audio_buffer.committed", item_id=item_id, previous_item_id=previous)
        self.item(message(item_id, "user", [{"type": "input_audio", "transcript": None}]), previous)

    def item(self, item: JsonObject, previous: str | None) -> None:
        self.got("conversation.item.added", item=item, previous_item_id=previous)
        self.got("conversation.item.done", item=item, previous_item_id=previous)

    def caller_words(self, item_id: str, words: str) -> None:
        stem = "conversation.item.input_audio_transcription"
        self.got(f"{stem}.delta", item_id=item_id, content_index=0, delta=words)
        usage = {"type": "duration", "seconds": 1.5}
        self.got(f"{stem}.completed", item_id=item_id, content_index=0, transcript=words, usage=usage)

    def opens(self, where: JsonObject, item: JsonObject, previous: str | None) -> None:
        """An item of a response; `where` is its response_id, and output_index from 0."""
        started = {**item, "status": "in_progress"}
        self.got("response.output_item.added", item=started, **where)
        self.got("conversation.item.added", item=started, previous_item_id=previous)

    def audio(self, where: JsonObject, words: list[str]) -> None:
        """An audio part in full: one word and 100 ms of audio at a time."""
        at = {**where, "content_index": 0}
        self.got("response.content_part.added", part={"type": "audio", "transcript": ""}, **at)
        self.audio_deltas(at, words)
        self.audio_ends(at, "".join(words))

    def audio_deltas(self, at: JsonObject, words: list[str]) -> None:
        for word in words:
            self.got("response.output_audio_transcript.delta", delta=word, **at)
            self.got("response.output_audio.delta", delta=PCM_100_MS, **at)

    def audio_ends(self, at: JsonObject, words: str) -> None:
        self.got("response.output_audio.done", **at)
        self.got("response.output_audio_transcript.done", transcript=words, **at)
        self.got("response.content_part.done", part={"type": "audio", "transcript": words}, **at)

    def closes(self, where: JsonObject, item: JsonObject, previous: str | None) -> None:
        self.got("conversation.item.done", item=item, previous_item_id=previous)
        self.got("response.output_item.done", item=item, **where)


def at(response_id: str, item_id: str, output_index: int = 0) -> JsonObject:
    return {"response_id": response_id, "output_index": output_index, "item_id": item_id}


def spot(response_id: str, output_index: int = 0) -> JsonObject:
    return {"response_id": response_id, "output_index": output_index}


def vad_turn() -> list[Frame]:
    """The caller speaks, the server notices, writes down and answers."""
    s = Stream()
    s.sent("session.update", session={"type": "realtime", "instructions": "Be brief."})
    s.got("session.updated", session=session())
    s.caller_speaks("item_u1", 320, 1_900)
    s.created("resp_1")
    s.opens(spot("resp_1"), message("item_a1", "assistant", []), "item_u1")
    s.caller_words("item_u1", "Where is my order?")
    s.audio(at("resp_1", "item_a1"), ["Which ", "one?"])
    said = spoken("item_a1", "Which one?")
    s.closes(spot("resp_1"), said, "item_u1")
    s.done("resp_1", [said])
    limit = {"name": "tokens", "limit": 40_000, "remaining": 39_000, "reset_seconds": 1.5}
    s.got("rate_limits.updated", rate_limits=[limit])
    s.sent("conversation.item.retrieve", item_id="item_u1")
    s.got(
        "conversation.item.retrieved",
        item=message("item_u1", "user", [{"type": "input_audio", "transcript": "Where is my order?"}]),
    )
    s.caller_speaks("item_u2", 4_100, 5_300, "item_a1")
    s.caller_words("item_u2", "Never mind.")
    return s.frames


def text_turn() -> list[Frame]:
    """Typed in, written out, with the client's own metadata."""
    s = Stream()
    s.sent(
        "conversation.item.create",
        item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
    )
    s.item(message("item_u1", "user", [{"type": "input_text", "text": "Hello"}]), None)
    mine = {"tier": "A", "rung": "gpt-realtime-2.1", "topic": "greeting"}
    s.sent("response.create", response={"output_modalities": ["text"], "metadata": {"topic": "greeting"}})
    s.created("resp_1", metadata=mine, output_modalities=["text"])
    s.opens(spot("resp_1"), message("item_a1", "assistant", []), "item_u1")
    part = {**at("resp_1", "item_a1"), "content_index": 0}
    s.got("response.content_part.added", part={"type": "text", "text": ""}, **part)
    s.got("response.output_text.delta", delta="Hello ", **part)
    s.got("response.output_text.delta", delta="there.", **part)
    s.got("response.output_text.done", text="Hello there.", **part)
    s.got("response.content_part.done", part={"type": "text", "text": "Hello there."}, **part)
    said = message("item_a1", "assistant", [{"type": "output_text", "text": "Hello there."}])
    s.closes(spot("resp_1"), said, "item_u1")
    s.done("resp_1", [said], metadata=mine, output_modalities=["text"])
    s.sent("conversation.item.delete", item_id="item_a1")
    s.got("conversation.item.deleted", item_id="item_a1")
    return s.frames


def function_call() -> list[Frame]:
    """A call that the client runs, its result, and the answer."""
    s = Stream()
    s.caller_speaks("item_u1", 0, 900)
    s.caller_words("item_u1", "Order five")
    s.created("resp_1")
    s.opens(spot("resp_1"), call("item_f1", ""), "item_u1")
    where = {**at("resp_1", "item_f1"), "call_id": "call_1"}
    s.got("response.function_call_arguments.delta", delta='{"order_id":', **where)
    s.got("response.function_call_arguments.delta", delta='"5"}', **where)
    asked = '{"order_id":"5"}'
    s.got("response.function_call_arguments.done", arguments=asked, name="get_order_status", **where)
    ready = call("item_f1", asked)
    s.got("response.output_item.done", item=ready, **spot("resp_1"))
    s.got("conversation.item.done", item=ready, previous_item_id="item_u1")
    s.done("resp_1", [ready])
    result = {"type": "function_call_output", "call_id": "call_1", "output": '{"status":"sent"}'}
    s.sent("conversation.item.create", item=result)
    s.item({**result, "id": "item_o1", "object": "realtime.item", "status": "completed"}, "item_f1")
    s.sent("response.create")
    s.created("resp_2")
    s.opens(spot("resp_2"), message("item_a1", "assistant", []), "item_o1")
    s.audio(at("resp_2", "item_a1"), ["It is ", "on its way."])
    said = spoken("item_a1", "It is on its way.")
    s.closes(spot("resp_2"), said, "item_o1")
    s.done("resp_2", [said])
    return s.frames


def parallel_calls() -> list[Frame]:
    """Two calls in one response."""
    s = Stream()
    s.caller_speaks("item_u1", 0, 900)
    s.caller_words("item_u1", "Orders five and six")
    s.created("resp_1")
    ready = []
    for index, (item_id, previous) in enumerate((("item_f1", "item_u1"), ("item_f2", "item_f1"))):
        call_id = f"call_{index + 1}"
        asked = f'{{"order_id":"{index + 5}"}}'
        s.opens(spot("resp_1", index), call(item_id, "", call_id=call_id), previous)
        where = {**at("resp_1", item_id, index), "call_id": call_id}
        s.got("response.function_call_arguments.delta", delta=asked, **where)
        s.got("response.function_call_arguments.done", arguments=asked, name="get_order_status", **where)
        ready.append(call(item_id, asked, call_id=call_id))
        s.closes(spot("resp_1", index), ready[index], previous)
    s.done("resp_1", ready)
    return s.frames


def barge_in() -> list[Frame]:
    """The caller speaks into the answer; the client tells how much of it was heard."""
    s = Stream()
    s.caller_speaks("item_u1", 0, 900)
    s.caller_words("item_u1", "Tell me a story")
    s.created("resp_1")
    s.opens(spot("resp_1"), message("item_a1", "assistant", []), "item_u1")
    part = {**at("resp_1", "item_a1"), "content_index": 0}
    s.got("response.content_part.added", part={"type": "audio", "transcript": ""}, **part)
    s.audio_deltas(part, ["Once ", "upon "])
    s.got("input_audio_buffer.speech_started", audio_start_ms=2_000, item_id="item_u2")
    s.audio_ends(part, "Once upon ")
    cut = spoken("item_a1", "Once upon ", "incomplete")
    s.closes(spot("resp_1"), cut, "item_u1")
    why = {"type": "cancelled", "reason": "turn_detected"}
    s.done("resp_1", [cut], status="cancelled", status_details=why)
    s.sent("conversation.item.truncate", item_id="item_a1", content_index=0, audio_end_ms=120)
    s.got("conversation.item.truncated", item_id="item_a1", content_index=0, audio_end_ms=120)
    s.caller_stops("item_u2", 3_000, "item_a1")
    s.caller_words("item_u2", "Stop, please")
    return s.frames


def out_of_band() -> list[Frame]:
    """A classification beside the conversation, while an answer is being spoken."""
    s = Stream()
    s.caller_speaks("item_u1", 0, 900)
    s.caller_words("item_u1", "I want a refund")
    s.created("resp_1")
    s.opens(spot("resp_1"), message("item_a1", "assistant", []), "item_u1")
    metadata = {"purpose": "classify"}
    asked = {"conversation": "none", "output_modalities": ["text"], "metadata": metadata}
    s.sent("response.create", response=asked)
    told = {**metadata, "tier": "A", "rung": "gpt-realtime-2.1"}
    s.created("resp_2", conversation_id=None, metadata=told, output_modalities=["text"])
    side = message("item_s1", "assistant", [], "in_progress")
    s.got("response.output_item.added", item=side, **spot("resp_2"))
    part = {**at("resp_2", "item_s1"), "content_index": 0}
    s.got("response.content_part.added", part={"type": "text", "text": ""}, **part)
    s.got("response.output_text.delta", delta="refund", **part)
    s.audio(at("resp_1", "item_a1"), ["Of course."])
    s.got("response.output_text.done", text="refund", **part)
    s.got("response.content_part.done", part={"type": "text", "text": "refund"}, **part)
    verdict = message("item_s1", "assistant", [{"type": "output_text", "text": "refund"}])
    s.got("response.output_item.done", item=verdict, **spot("resp_2"))
    s.done("resp_2", [verdict], conversation_id=None, metadata=told, output_modalities=["text"])
    said = spoken("item_a1", "Of course.")
    s.closes(spot("resp_1"), said, "item_u1")
    s.done("resp_1", [said])
    return s.frames


def cancel() -> list[Frame]:
    """The client cancels; a second cancel finds nothing and is refused."""
    s = Stream()
    s.sent("response.create")
    s.created("resp_1")
    s.opens(spot("resp_1"), message("item_a1", "assistant", []), None)
    part = {**at("resp_1", "item_a1"), "content_index": 0}
    s.got("response.content_part.added", part={"type": "audio", "transcript": ""}, **part)
    s.audio_deltas(part, ["Well, "])
    s.sent("response.cancel", response_id="resp_1")
    s.audio_ends(part, "Well, ")
    cut = spoken("item_a1", "Well, ", "incomplete")
    s.closes(spot("resp_1"), cut, None)
    why = {"type": "cancelled", "reason": "client_cancelled"}
    s.done("resp_1", [cut], status="cancelled", status_details=why)
    s.sent("response.cancel")
    s.got(
        "error",
        error={
            "type": "invalid_request_error",
            "code": "response_cancel_not_active",
            "message": "Cancellation failed: no active response found",
            "param": None,
            "event_id": json.loads(s.frames[-1].data)["event_id"],
        },
    )
    return s.frames


def cut_off_by_fault() -> list[Frame]:
    """Tier A dies in an answer that the server began: closed incomplete, then bridge and answer by Tier B."""
    s = Stream()
    s.caller_speaks("item_u1", 0, 900)
    s.caller_words("item_u1", "Where is order five?")
    s.created("resp_1")
    s.opens(spot("resp_1"), message("item_a1", "assistant", []), "item_u1")
    part = {**at("resp_1", "item_a1"), "content_index": 0}
    s.got("response.content_part.added", part={"type": "audio", "transcript": ""}, **part)
    s.audio_deltas(part, ["Your ", "order "])
    s.audio_ends(part, "Your order ")
    cut = spoken("item_a1", "Your order ", "incomplete")
    s.closes(spot("resp_1"), cut, "item_u1")
    s.done("resp_1", [cut], status="incomplete", status_details={"type": "incomplete"}, usage=None)
    s.got("session.updated", session=session("B"))
    now = {"metadata": {"tier": "B", "rung": "kokoro"}}
    s.created("resp_2", **now)
    s.opens(spot("resp_2"), message("item_b1", "assistant", []), "item_a1")
    s.audio(at("resp_2", "item_b1"), ["One moment."])
    bridge = spoken("item_b1", "One moment.")
    s.closes(spot("resp_2"), bridge, "item_a1")
    s.opens(spot("resp_2", 1), message("item_a2", "assistant", []), "item_b1")
    s.audio(at("resp_2", "item_a2", 1), ["Order five ", "is on its way."])
    said = spoken("item_a2", "Order five is on its way.")
    s.closes(spot("resp_2", 1), said, "item_b1")
    s.done("resp_2", [bridge, said], **now)
    return s.frames


def bridge_in_one_response() -> list[Frame]:
    """Tier A dies in an answer that the client asked for: the same response goes on with bridge and answer."""
    s = Stream()
    s.sent("response.create", response={"metadata": {"client_event_id": "c1"}})
    s.created("resp_1", metadata={"client_event_id": "c1", "tier": "A", "rung": "gpt-realtime-2.1"})
    s.opens(spot("resp_1"), message("item_a1", "assistant", []), None)
    part = {**at("resp_1", "item_a1"), "content_index": 0}
    s.got("response.content_part.added", part={"type": "audio", "transcript": ""}, **part)
    s.audio_deltas(part, ["Your "])
    s.audio_ends(part, "Your ")
    cut = spoken("item_a1", "Your ", "incomplete")
    s.closes(spot("resp_1"), cut, None)
    s.got("session.updated", session=session("B"))
    s.opens(spot("resp_1", 1), message("item_b1", "assistant", []), "item_a1")
    s.audio(at("resp_1", "item_b1", 1), ["One moment."])
    bridge = spoken("item_b1", "One moment.")
    s.closes(spot("resp_1", 1), bridge, "item_a1")
    s.opens(spot("resp_1", 2), message("item_a2", "assistant", []), "item_b1")
    s.audio(at("resp_1", "item_a2", 2), ["Your order ", "is here."])
    said = spoken("item_a2", "Your order is here.")
    s.closes(spot("resp_1", 2), said, "item_b1")
    told = {"client_event_id": "c1", "tier": "B", "rung": "kokoro"}
    s.done("resp_1", [cut, bridge, said], metadata=told)
    return s.frames


def cut_off_call() -> list[Frame]:
    """Tier A dies while it writes the arguments of a call: closed incomplete, and nobody may act on it."""
    s = Stream()
    s.caller_speaks("item_u1", 0, 900)
    s.caller_words("item_u1", "Cancel order five")
    s.created("resp_1")
    s.opens(spot("resp_1"), call("item_f1", ""), "item_u1")
    where = {**at("resp_1", "item_f1"), "call_id": "call_1"}
    s.got("response.function_call_arguments.delta", delta='{"order_id":', **where)
    cut = call("item_f1", '{"order_id":', "incomplete")
    s.closes(spot("resp_1"), cut, "item_u1")
    s.done("resp_1", [cut], status="incomplete", status_details={"type": "incomplete"}, usage=None)
    return s.frames


def idle_timeout() -> list[Frame]:
    """Nobody speaks for a while: the silence is committed. The client writes audio into the buffer by hand, too."""
    s = Stream()
    times = {"audio_start_ms": 500, "audio_end_ms": 6_500}
    s.got("input_audio_buffer.timeout_triggered", item_id="item_u1", **times)
    s.got("input_audio_buffer.committed", item_id="item_u1", previous_item_id=None)
    s.item(message("item_u1", "user", [{"type": "input_audio", "transcript": None}]), None)
    failure = {"type": "transcription_error", "code": "audio_unintelligible", "message": "no words"}
    stem = "conversation.item.input_audio_transcription"
    s.got(f"{stem}.failed", item_id="item_u1", content_index=0, error=failure)
    s.sent("input_audio_buffer.clear")
    s.got("input_audio_buffer.cleared")
    s.sent("input_audio_buffer.commit")
    s.got("input_audio_buffer.committed", item_id="item_u2", previous_item_id="item_u1")
    s.item(message("item_u2", "user", [{"type": "input_audio", "transcript": None}]), "item_u1")
    s.caller_words("item_u2", "Ten of clubs.")
    return s.frames


STREAMS: dict[str, Callable[[], list[Frame]]] = {
    build.__name__: build
    for build in (
        vad_turn,
        text_turn,
        function_call,
        parallel_calls,
        barge_in,
        out_of_band,
        cancel,
        cut_off_by_fault,
        bridge_in_one_response,
        cut_off_call,
        idle_timeout,
    )
}
