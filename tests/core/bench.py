"""A call on the bench: no sockets, no clock of its own. Plays provider and tiers, and reads what the client gets."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any

import orjson

from orchestrator.core.actions import (
    Action,
    ClaimMoney,
    CloseUpstream,
    OpenUpstream,
    Record,
    Report,
    StartAnswer,
    StopAnswer,
    ToClient,
    ToUpstream,
    ToUpstreamFrame,
    Transcribe,
)
from orchestrator.core.budget import CallBudget
from orchestrator.core.call import Audio, Call
from orchestrator.core.context import FREE, CallContext, Costs, Policy
from orchestrator.core.grants import Grant
from orchestrator.core.health import Cause
from orchestrator.core.input_audio import InputAudio
from orchestrator.core.overrides import Tier
from orchestrator.core.routing import Candidate, DecidedBy, Decision, Reason
from orchestrator.core.steps import Share, Stepper, StepPolicy
from orchestrator.core.tools import Toolset
from orchestrator.protocol.answers import (
    AnswerRequest,
    AudioDelta,
    Finished,
    TextDelta,
    ToolCallReady,
    Transcript,
)
from orchestrator.protocol.audio import AudioFormat
from orchestrator.protocol.session import Session, default_session
from orchestrator.protocol.wire import Ids, dump
from tests.conformance.checker import Frame, assert_conformant

Event = dict[str, Any]
USAGE = {
    "total_tokens": 30,
    "input_tokens": 10,
    "output_tokens": 20,
    "input_token_details": {"text_tokens": 4, "audio_tokens": 6, "cached_tokens": 0},
    "output_token_details": {"text_tokens": 5, "audio_tokens": 15},
}
SILENCE = b"\x00" * 960
FRAME_MS = 20
CLIPS = {
    "one_moment": "One moment, please.",
    "cut_off": "Sorry, I was cut off.",
    "offer_choice": "I am sorry.",
    "budget_goodbye": "Goodbye.",
    "cannot_say": "I can't help with that.",
    "looking_up": "Let me look that up.",
}


def append(data: bytes = SILENCE) -> bytes:
    return dump({"type": "input_audio_buffer.append", "audio": b64encode(data).decode()})


@dataclass
class Bench:
    """One call, with the router's answer in `tier` and the time in `now`."""

    policy: Policy = field(default_factory=lambda: Policy(transcription_model="gpt-transcribe"))
    tier: str = "A"
    decided_by: DecidedBy = DecidedBy.DEFAULT
    at_once: bool = False
    """Whether the router's answer is to be followed in the middle of an answer, too."""
    rungs: tuple[str, ...] = ("gpt-realtime-2.1",)
    """Tier A's, in order of preference."""
    barred: dict[str, Reason] = field(default_factory=dict)
    """Rungs of Tier A that the router passes over, and why."""
    healthy: bool = True
    """What ``trusted`` answers: the rung has proved itself since it failed."""
    now: float = 100.0
    actions: list[Action] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    sent_to: dict[int, list[Event]] = field(default_factory=dict)
    """What each provider session was sent, by attempt."""
    attempt: int = 0
    """The provider session opened last: `provider` and `upstream` are about it."""
    costs: Costs = FREE
    cap: int | None = 10**9
    """Of the call, in nano-dollars."""
    bucket: int | None = None
    """What the call's bucket has left beside what this call has claimed; None has no end."""
    held: int = 0
    """What the bucket has set aside for the call."""
    answers_claims: bool = True
    """Whether the bucket answers at once; else the test calls `claimed`."""
    steps: StepPolicy = field(default_factory=StepPolicy)
    tools: Toolset = field(default_factory=Toolset)
    grant: Grant | None = None
    _ids: int = 0

    def __post_init__(self) -> None:
        ctx = CallContext(
            call_id="call_1",
            ids=Ids("b"),
            session=Session("sess_b", "gpt-realtime-2.1", 4000),
            input=InputAudio(AudioFormat.PCM),
            policy=self.policy,
            clips=lambda name, fmt, voice, language: (CLIPS[name], fmt.silence(600)),
            price=lambda model, usage: 1000,
            conversation_id="conv_b",
            budget=CallBudget(self.cap),
            costs=self.costs,
            stepper=Stepper(self.steps),
            tools=self.tools,
            grant=self.grant,
        )
        self.call = Call(ctx, self._route, lambda rung, since: self.healthy)

    def _route(self, current: str | None, excluded: frozenset[str]) -> Decision:
        left = [rung for rung in self.rungs if rung not in excluded and rung not in self.barred]
        tier = self.tier if self.tier not in excluded and (self.tier != "A" or left) else "B"
        rung = {"A": (left or [""])[0], "B": "kokoro", "C": "prompts"}[tier]
        passed = tuple(Candidate(Tier.A, name, reason) for name, reason in self.barred.items())
        return Decision(
            Tier(tier), rung, Reason.DEFAULT, self.decided_by, candidates=passed, at_once=self.at_once
        )

    @property
    def last_rung(self) -> str:
        """Where a provider session was opened last."""
        return str(self.last(OpenUpstream).rung)

    @property
    def ctx(self) -> CallContext:
        return self.call.ctx

    # --- moving things ---

    def settle(self) -> None:
        """Carry the actions over to what client and provider have received."""
        while out := self.call.drain():
            for action in out:
                self.actions.append(action)
                if isinstance(action, ToClient):
                    self.frames.append(Frame(dump(action.event).decode()))
                elif isinstance(action, ToUpstream):
                    self.sent_to[action.attempt].append(action.event)
                elif isinstance(action, ToUpstreamFrame):
                    self.sent_to[action.attempt].append({"type": "frame", "frame": action.frame})
                elif isinstance(action, StopAnswer):
                    self.call.answer_closed(action.answer_id, (), self.now)
                elif isinstance(action, ClaimMoney):
                    if self.answers_claims:
                        self.claimed(action)
                elif isinstance(action, OpenUpstream):
                    self.attempt = action.attempt
                    self.sent_to[self.attempt] = []

    def claimed(self, claim: ClaimMoney) -> None:
        """Play the bucket: what is wanted is set aside whole, or what was set aside before is kept."""
        used = claim.spent + claim.running
        if self.bucket is None or used + claim.ahead <= self.bucket:
            self.held = claim.ahead
        else:
            self.held = max(0, min(self.held, self.bucket - used))
        bucket = Share(claim.spent, self.bucket)
        self.call.granted(claim.sequence, self.held, bucket, self.now)

    @property
    def upstream(self) -> list[Event]:
        return self.sent_to.setdefault(self.attempt, [])

    def wait(self, seconds: float) -> None:
        """Let time pass in steps, with every deadline on the way."""
        end = self.now + seconds
        while (due := self.call.next_due()) is not None and due <= end:
            self.now = max(self.now, due)
            self.call.tick(self.now)
            self.settle()
        self.now = end

    def client(self, event: Event) -> None:
        self.frames.append(Frame(dump(event).decode(), sent=True))
        rest = self.call.client_message(dump(event), self.now)
        assert rest is None
        self.settle()

    def audio(self, ms: int = 1000) -> list[Audio | None]:
        """The client sends that much silence, all at this moment."""
        paths = [self.call.client_audio(append(), self.now) for _ in range(ms // FRAME_MS)]
        self.settle()
        return paths

    def provider(self, kind: str, **fields: Any) -> bool:
        """One provider event; True if it went to the client as it came."""
        self._ids += 1
        frame = dump({"type": kind, "event_id": f"up_{self._ids}", **fields})
        passed = self.call.upstream_frame(self.attempt, frame, self.now)
        if passed:
            self.frames.append(Frame(frame.decode()))
        self.settle()
        return passed

    def speech(self, *probabilities: float) -> None:
        self.call.speech(list(probabilities), self.now)
        self.settle()

    def say(self, ms: int = 1000) -> None:
        """In Tiers B and C: the caller speaks for that long and is then quiet until the turn ends."""
        self.audio(ms + 800)
        self.speech(*[0.9] * (ms // 32), *[0.0] * 24)

    def live(self, probability: float, ms: float) -> None:
        """As a caller is heard: 32 ms of input, its probability, and the time they take, over and over."""
        for _ in range(round(ms / 32)):
            self.wait(0.032)
            self.call.client_audio(append(bytes(1536)), self.now)
            self.call.speech([probability], self.now)
            self.settle()

    def words(self, text: str) -> None:
        """Answer the latest request for a transcript."""
        item_id = self.last(Transcribe).item_id
        self.call.transcribed(item_id, Transcript(text, 1.0), self.now)
        self.settle()

    def answer(self, *texts: str, ms: int = 400, finish: bool = True) -> None:
        """Answer the latest request in speech."""
        answer_id = self.request.answer_id
        for text in texts:
            self.call.answer_event(answer_id, TextDelta(text), self.now)
            self.call.answer_event(answer_id, AudioDelta(AudioFormat.PCM.silence(ms)), self.now)
        if finish:
            self.call.answer_event(answer_id, Finished(rung="kokoro"), self.now)
        self.settle()

    def call_tool(self, name: str, arguments: str) -> None:
        answer_id = self.request.answer_id
        self.call.answer_event(answer_id, ToolCallReady("call_b1", name, arguments), self.now)
        self.call.answer_event(answer_id, Finished(rung="kokoro"), self.now)
        self.settle()

    # --- a provider that plays its part ---

    def connect(self) -> None:
        self.call.start(self.now)
        self.settle()
        self.connect_goes_on()

    def connect_goes_on(self) -> None:
        self.provider("session.created", session=default_session("gpt-realtime-2.1"))
        self.confirm_updates()

    def confirm_updates(self) -> None:
        for event in [e for e in self.upstream if e["type"] == "session.update"]:
            self.upstream.remove(event)
            self.provider("session.updated", session=default_session("gpt-realtime-2.1"))

    def turn(
        self, item_id: str = "item_u1", words: str | None = "Where is my order 4172?", start: int = 0
    ) -> None:
        """The caller speaks and the provider's turn detection notices."""
        self.provider("input_audio_buffer.speech_started", audio_start_ms=start, item_id=item_id)
        self.audio(1500)
        self.provider("input_audio_buffer.speech_stopped", audio_end_ms=start + 1500, item_id=item_id)
        self.provider("input_audio_buffer.committed", item_id=item_id, previous_item_id=None)
        item = {
            "id": item_id,
            "object": "realtime.item",
            "type": "message",
            "role": "user",
            "status": "completed",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        self.provider("conversation.item.added", item=item, previous_item_id=None)
        self.provider("conversation.item.done", item=item, previous_item_id=None)
        if words is not None:
            self.provider(
                "conversation.item.input_audio_transcription.completed",
                item_id=item_id,
                content_index=0,
                transcript=words,
                usage={"type": "duration", "seconds": 1.5},
            )

    def begin_answer(
        self, response: str = "resp_1", item: str = "item_a1", words: str = "Let me look", **created: Any
    ) -> None:
        """The provider's answer up to its first audio."""
        self.response_created(response, **created)
        wire = _assistant(item, "in_progress", [])
        place = {"response_id": response, "output_index": 0}
        self.provider("response.output_item.added", **place, item=wire)
        self.provider("conversation.item.added", item=wire, previous_item_id=None)
        place["item_id"] = item
        empty = {"type": "audio", "transcript": ""}
        self.provider("response.content_part.added", **place, content_index=0, part=empty)
        self.provider("response.output_audio_transcript.delta", **place, content_index=0, delta=words)
        self.delta(response, item)

    def response_created(self, response: str, **fields: Any) -> None:
        self.provider("response.created", response=_response(response, "in_progress", [], **fields))

    def delta(self, response: str = "resp_1", item: str = "item_a1", ms: int = 200) -> bool:
        return self.provider(
            "response.output_audio.delta",
            response_id=response,
            item_id=item,
            output_index=0,
            content_index=0,
            delta=b64encode(AudioFormat.PCM.silence(ms)).decode(),
        )

    def end_answer(
        self, response: str = "resp_1", item: str = "item_a1", words: str = "Let me look", **f: Any
    ) -> None:
        place = {"response_id": response, "item_id": item, "output_index": 0, "content_index": 0}
        self.provider("response.output_audio.done", **place)
        self.provider("response.output_audio_transcript.done", **place, transcript=words)
        self.provider("response.content_part.done", **place, part={"type": "audio", "transcript": words})
        wire = _assistant(item, "completed", [{"type": "output_audio", "transcript": words}])
        self.provider("conversation.item.done", item=wire, previous_item_id=None)
        self.provider("response.output_item.done", response_id=response, output_index=0, item=wire)
        self.provider(
            "response.done", response=_response(response, "completed", [wire], **{"usage": USAGE, **f})
        )

    def cancel_answer(
        self, response: str = "resp_1", item: str = "item_a1", words: str = "Let me look"
    ) -> None:
        """The provider ends its answer as it does after ``response.cancel``."""
        place = {"response_id": response, "item_id": item, "output_index": 0, "content_index": 0}
        self.provider("response.output_audio.done", **place)
        self.provider("response.output_audio_transcript.done", **place, transcript=words)
        self.provider("response.content_part.done", **place, part={"type": "audio", "transcript": words})
        wire = _assistant(item, "incomplete", [{"type": "output_audio", "transcript": words}])
        self.provider("conversation.item.done", item=wire, previous_item_id=None)
        self.cancelled(response, wire)

    def cancelled(self, response: str, wire: Event) -> None:
        """... of which `wire` is the last item."""
        self.provider("response.output_item.done", response_id=response, output_index=0, item=wire)
        details = {"type": "cancelled", "reason": "client_cancelled"}
        done = _response(response, "cancelled", [wire], usage=USAGE, status_details=details)
        self.provider("response.done", response=done)

    # --- reading ---

    @property
    def received(self) -> list[Event]:
        return [orjson.loads(f.data) for f in self.frames if not f.sent]

    def types(self) -> list[str]:
        return [event["type"] for event in self.received]

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.received if event["type"] == kind]

    def all(self, kind: type) -> list[Any]:
        return [action for action in self.actions if isinstance(action, kind)]

    def last(self, kind: type) -> Any:
        return self.all(kind)[-1]

    def rows(self, type: str) -> list[dict[str, Any]]:
        return [a.fields for a in self.all(Record) if a.type == type]

    def failures(self) -> list[str]:
        return [a.cause for a in self.all(Report) if a.cause]

    @property
    def request(self) -> AnswerRequest:
        request = self.last(StartAnswer).request
        assert isinstance(request, AnswerRequest)
        return request

    @property
    def upstream_closed(self) -> bool:
        return bool(self.all(CloseUpstream))

    def check(self) -> None:
        """What the client received is what a strict client can live with."""
        assert_conformant(self.frames, orchestrator=True, cut_short=True)


def _assistant(item_id: str, status: str, content: list[Event]) -> Event:
    return {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": content,
    }


def _response(response_id: str, status: str, output: list[Event], **fields: Any) -> Event:
    return {
        "id": response_id,
        "object": "realtime.response",
        "status": status,
        "status_details": None,
        "output": output,
        "conversation_id": "conv_up",
        "output_modalities": ["audio"],
        "max_output_tokens": 4096,
        "audio": {"output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "marin"}},
        "metadata": None,
        "usage": None,
        **fields,
    }


TOOL = {
    "type": "function",
    "name": "get_order_status",
    "description": "Status of an order",
    "parameters": {"type": "object", "properties": {"order_id": {"type": "string"}}},
}


def lose(bench: Bench, cause: Cause = Cause.CLOSED) -> None:
    bench.call.upstream_lost(bench.attempt, cause, bench.now)
    bench.settle()


def local(bench: Bench) -> None:
    """The call begins in Tier B."""
    bench.tier = "B"
    bench.call.start(bench.now)
    bench.settle()


def update(**session: Any) -> Event:
    return {"type": "session.update", "session": {"type": "realtime", **session}}


def audio_input(**fields: Any) -> Event:
    return update(audio={"input": fields})


def user_text(text: str) -> Event:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def delta_frame(event_id: str) -> bytes:
    fields = {"response_id": "resp_1", "item_id": "item_a1", "output_index": 0, "content_index": 0}
    audio = b64encode(bytes(4800)).decode()
    return dump({"type": "response.output_audio.delta", "event_id": event_id, **fields, "delta": audio})
