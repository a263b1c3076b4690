"""Tier A: the provider answers, we pass its frames on, follow what happens, and notice when it stops happening.

Audio frames go by `client_audio` and `server_audio`, which look at a frame without parsing it; all else is parsed,
noted and passed on, masked where the client is to see something else than the provider said. A fault is returned
as its `Cause`; the call then takes what `leave` says is unfinished to the next tier.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.core import items
from orchestrator.core.actions import ToUpstream
from orchestrator.core.bound import Bound
from orchestrator.core.context import CallContext, Owed, Turn, Unfinished
from orchestrator.core.conversation import Item, text_of
from orchestrator.core.deadlines import Deadlines
from orchestrator.core.gate import Gate
from orchestrator.core.health import Cause
from orchestrator.core.in_flight import InFlight
from orchestrator.core.leaving import Leaving
from orchestrator.core.outcomes import Outcome
from orchestrator.core.pace import Step
from orchestrator.core.provider import TERMINAL_CODES, failure
from orchestrator.core.relay_tools import RelayTools
from orchestrator.core.relay_veto import RelayVeto
from orchestrator.core.responses import OpenItem, OpenPart, OpenResponse, merge_metadata
from orchestrator.core.suspicion import Suspicion
from orchestrator.protocol.audio import AudioFormat
from orchestrator.protocol.wire import AudioShape, Event, base64_size

_CONTROL_PASSED = (
    "rate_limits.updated",
    "input_audio_buffer.cleared",
    "input_audio_buffer.timeout_triggered",
)


@dataclass(slots=True)
class _Stream:
    """The audio that is coming in right now, so that its frames can be recognised at a glance."""

    shape: AudioShape
    response: OpenResponse
    item: OpenItem
    part: OpenPart
    kept: Item | None
    format: AudioFormat


class Relay:
    """One provider session of a call. `base_ms`: where on the call's input clock its own audio clock starts.

    `expires_at`: when the provider will end it, on the call's clock. `gated`: it starts no response on its own.
    `replayed`: the items it was given beforehand.
    """

    def __init__(
        self,
        ctx: CallContext,
        attempt: int,
        base_ms: float,
        expires_at: float,
        now: float,
        *,
        gated: bool = False,
        replayed: Sequence[Event] = (),
    ) -> None:
        self.ctx = ctx
        self.attempt = attempt
        self.rung = ctx.rung
        self.base_ms = base_ms
        self.renew_at = expires_at - min(ctx.policy.renew_before_s, max(expires_at - now, 0.0) / 5)
        """From here on a fresh session is to take over, at a quiet moment."""
        self.busy_at = now
        """When a turn or a response last began or ended."""
        self.timed = True
        """False while what was said before the session got the call is gone through: it tells nothing of its pace."""
        self.turn: Turn | None = None
        self.suspicion = Suspicion()
        self.in_flight = InFlight(ctx, attempt, gated=gated)
        bound = Bound({**ctx.session.fields, **ctx.for_model()}, replayed)
        self.gate = Gate(ctx, self.rung, self.in_flight, bound, self._tell)
        self.tools = RelayTools(ctx, self._tell, self._request, self._refresh, lambda: self.occupied)
        self.veto = RelayVeto(self, self._on_transcription)
        self.deadlines = Deadlines(ctx.policy, ctx.pace, ctx.playback)
        self.creates: deque[Owed] = deque()
        """Responses that were asked for and have not begun."""
        self._stream: _Stream | None = None
        self._last_audio = b""
        self._seen: deque[str] = deque(maxlen=64)
        """Latest event ids: a provider that says something twice is heard once."""

    # --- audio, unparsed ---

    def server_audio(self, frame: bytes, now: float) -> bool:
        """True if the frame is the next audio of the answer under way: noted, and to be passed on as it is."""
        stream = self._stream
        if stream is None or frame == self._last_audio:
            return False
        length = stream.shape.base64_length(frame)
        if length is None:
            return False
        self._last_audio = frame
        self._note_audio(stream, stream.format.ms(base64_size(length)), now)
        return True

    def _note_audio(self, stream: _Stream, ms: float, now: float) -> None:
        playback, response = self.ctx.playback, stream.response
        stream.part.audio_ms += ms
        if stream.kept is not None:
            stream.kept.sent_ms += ms
        starved_s = now - playback.dry_at
        playback.add(stream.item.id, ms, now)
        if response.first_audio_at is None:
            response.first_audio_at = now
            if self.timed and response.turn:
                self.ctx.pace.note(Step.FIRST_AUDIO, now - response.owed_since)
        if not response.out_of_band:
            self.deadlines.audio(starved_s, ms)

    # --- the client's events ---

    def client_event(self, event: Event, now: float) -> None:
        """Pass a checked client event on; raises ClientError for what cannot be done."""
        kind = event["type"]
        if kind == "session.update":
            self.in_flight.update_session(event)
            self.gate.bound.wrote_session({**event["session"], **self.ctx.for_model()})
            self.gate.fund()
        elif kind == "conversation.item.create":
            self._create_item(event)
        elif kind.startswith("conversation.item."):
            self._about_item(event)
        else:
            if kind == "response.create":
                event = self._allowed(event)
                self._request(event, Owed(event.get("response") or {}, client_asked=True, since=now), now)
                return
            if kind == "response.cancel":
                if self._cancels_waiting(event, now):
                    return
                self._note_cancel(event)
            elif kind in ("input_audio_buffer.commit", "input_audio_buffer.clear"):
                self._note_buffer(kind, now)
                if kind.endswith("clear"):
                    self.in_flight.requests.append(event)
            self._tell(event)

    def _tell(self, event: Event) -> None:
        self.ctx.do(ToUpstream(event, self.attempt))

    def _request(self, event: Event, owed: Owed, now: float) -> None:
        self.owe(owed, now)
        self.gate.ask(event, owed)

    def _refresh(self) -> None:
        """The model has other tools and instructions from here on."""
        self.in_flight.say_limit()
        self.gate.bound.wrote_session(self.ctx.for_model())

    def _allowed(self, event: Event) -> Event:
        """A request of the client's that brings tools along gets those that are allowed."""
        desk, request = self.ctx.desk, event.get("response") or {}
        if not desk.toolset or not request.get("tools"):
            return event
        return {**event, "response": {**request, "tools": desk.toolset.offered(request["tools"], desk.agent)}}

    def _create_item(self, event: Event) -> None:
        item = items.accept_item(self.ctx, event)
        self.gate.bound.wrote(event["item"])
        forwarded = {**event, "item": {**event["item"], "id": item.id}}
        if event.get("previous_item_id"):
            forwarded["previous_item_id"] = self.ctx.conversation.upstream_anchor(event["previous_item_id"])
        self._tell(forwarded)

    def _about_item(self, event: Event) -> None:
        """Retrieve, truncate, delete: the provider's business if it knows the item, else ours."""
        item = self.ctx.conversation.get(event["item_id"])
        kind = event["type"].rpartition(".")[2]
        ours = item is not None and (not item.upstream or (item.replayed and kind != "delete"))
        if item is not None and (item.private or (ours and item.announced)):
            {"retrieve": items.retrieve, "truncate": items.truncate, "delete": items.delete}[kind](
                self.ctx, event
            )
            return
        if kind == "truncate" and item is not None and item.role == "assistant":
            items.note_truncated(item, event["audio_end_ms"])
        self.in_flight.requests.append(event)
        self._tell(event)

    def owe(self, owed: Owed, now: float) -> None:
        """The provider was asked for a response: it is awaited from now on."""
        if not owed.out_of_band and not owed.turn:
            owed.turn = self.ctx.outcomes.ask()
        self.creates.append(owed)
        self._await_answer(now, speaks=self.ctx.speaks_to(owed))

    def _await_answer(self, now: float, *, speaks: bool) -> None:
        self.ctx.hedge_cap.note_turn()
        self.deadlines.answer_owed(now, speaks=speaks)

    def _note_cancel(self, event: Event) -> None:
        if event.get("response_id") is None and not self.ctx.responses and self.creates:
            self._give_up_create()

    def _cancels_waiting(self, event: Event, now: float) -> bool:
        """The client takes back a request that the provider has not even been asked."""
        if event.get("response_id") is not None or self.ctx.responses:
            return False
        if self.tools.cancel(now):
            return True
        owed = self.gate.take_back()
        if owed is not None:
            self.creates.remove(owed)
            self.ctx.end_turn(owed.turn, Outcome.STOPPED)
            self._disarm_response()
        return owed is not None

    def _give_up_create(self) -> None:
        """The oldest request will not be answered: it was cancelled, or refused and the client told so."""
        owed = self.creates.popleft()
        self.gate.refused(owed)
        self.ctx.end_turn(owed.turn, Outcome.STOPPED)
        self._disarm_response()

    def look_after_money(self) -> None:
        """Some time has passed: the caller may have talked on, and others given back what they had set aside."""
        turn = self.turn
        talking = turn is not None and turn.stop_ms is None
        self.gate.try_again(self.ctx.input.total_ms - turn.start_ms if talking and turn is not None else 0.0)

    def be_concise(self) -> None:
        """Answers are to be shorter: a limit, and a word to the model at the end of the conversation.

        Other instructions would cost more than they save: the provider's cache holds what comes after them.
        """
        self.in_flight.say_limit()
        item = self.ctx.concise_item()
        self.gate.bound.wrote(item)
        self._tell({"type": "conversation.item.create", "item": item})

    def _note_buffer(self, kind: str, now: float) -> None:
        total = self.ctx.input.total_ms
        if kind == "input_audio_buffer.commit":
            self.turn = Turn("", self.ctx.buffer_from_ms, total, ended_at=now)
        self.ctx.buffer_from_ms = total

    # --- the provider's events ---

    def server_event(self, event: Event, frame: bytes, now: float) -> Cause | None:
        """Note and pass on one valid provider event; the cause if it shows that the provider has failed."""
        kind: str = event["type"]
        if event["event_id"] in self._seen or frame == self._last_audio:
            self.ctx.record("provider_duplicate", event=kind)
            return None
        self._seen.append(event["event_id"])
        if kind == "error":
            return self._on_error(event)
        if kind.startswith("response."):
            return self._on_response_event(kind, event, frame, now)
        if kind.startswith("conversation.item."):
            self._on_item_event(kind, event, now)
        elif kind.startswith("input_audio_buffer.speech") or kind == "input_audio_buffer.committed":
            self._on_turn_event(kind, event, now)
        elif kind == "session.updated":
            self.gate.confirmed(self.in_flight.session_updated())
        elif kind in _CONTROL_PASSED:
            self.in_flight.carried_out(kind, event)
            self._pass_on(self._rebased(event))
        return None

    def _pass_on(self, event: Event) -> None:
        self.ctx.send({k: v for k, v in event.items() if k != "event_id"})

    def _rebased(self, event: Event) -> Event:
        """Provider times count from its own first audio; the client's from the call's."""
        shown = dict(event)
        for name in ("audio_start_ms", "audio_end_ms"):
            if name in event:
                shown[name] = event[name] + round(self.base_ms)
        return shown

    def _on_error(self, event: Event) -> Cause | None:
        error = event["error"]
        cause = TERMINAL_CODES.get(error.get("code") or "")
        if cause is not None:
            return cause
        self.ctx.record("provider_error", code=error.get("code"), message=error.get("message"))
        event_id = error.get("event_id")
        if self.in_flight.refuses_grant(event_id):
            return Cause.GRANT_REFUSED
        if self.gate.is_own(event_id) or self.veto.is_own(event_id) or self._own_refused(event_id):
            return None
        if error.get("type") == "server_error":
            return None  # not the client's doing, and it ends some clients; the deadlines decide
        self.in_flight.refused(error)
        if error.get("code") == "conversation_already_has_active_response" and self.creates:
            self._give_up_create()
        self._pass_on(event)
        return None

    def _own_refused(self, event_id: str | None) -> bool:
        """Whether an error is about a response that we asked for in the client's place."""
        owed = self.tools.refused(event_id)
        if owed is not None and owed in self.creates:
            self.creates.remove(owed)
            self.gate.refused(owed)
            self.ctx.end_turn(owed.turn, Outcome.STOPPED)
            self._disarm_response()
        return owed is not None

    def _on_turn_event(self, kind: str, event: Event, now: float) -> None:
        ctx = self.ctx
        shown = self._rebased(event)
        self.busy_at = now
        if kind.endswith("speech_started"):
            self._on_speech_started(event["item_id"], shown["audio_start_ms"], now)
        elif kind.endswith("speech_stopped"):
            self._on_speech_stopped(event["item_id"], shown["audio_end_ms"], now)
        else:
            self._on_committed(event)
            shown["previous_item_id"] = ctx.conversation.previous(event["item_id"])
        ctx.hold_input(self.turn)
        self._pass_on(shown)

    def _on_speech_started(self, item_id: str, start_ms: float, now: float) -> None:
        before, self.turn = self.turn, Turn(item_id, start_ms)
        if before is not None and before.awaits_response:
            self.ctx.end_turn(before.number, Outcome.STOPPED, "the caller went on")
        self.suspicion.turn_began()
        self.deadlines.nothing_owed()
        self.tools.caller_spoke(now)
        self.veto.caller_spoke()
        if self.ctx.session.interrupts_response:
            self.ctx.note_barge_in(now)

    def _on_speech_stopped(self, item_id: str, stop_ms: float, now: float) -> None:
        turn = self.turn = self.turn or Turn(item_id, self.ctx.buffer_from_ms)
        turn.stop_ms, turn.ended_at = stop_ms, now
        self.ctx.quiet_ms = max(0.0, self.ctx.input.total_ms - stop_ms)
        turn.awaits_response = self.ctx.session.creates_response
        self.suspicion.turn_ended()
        if turn.awaits_response:
            turn.number = turn.number or self.ctx.outcomes.ask()
            self._await_answer(now, speaks=self.ctx.speaks({}))

    def _on_committed(self, event: Event) -> None:
        ctx = self.ctx
        turn = self.turn or Turn(event["item_id"], ctx.buffer_from_ms, ctx.input.total_ms)
        turn.item_id, turn.committed = event["item_id"], True
        stop = ctx.input.total_ms if turn.stop_ms is None else turn.stop_ms
        wire: Event = {
            "id": turn.item_id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        ctx.conversation.insert(
            Item(turn.item_id, wire, audio_span=(turn.start_ms, stop), upstream=True, announced=False)
        )
        ctx.buffer_from_ms = stop
        self.gate.bound.heard(stop - turn.start_ms)
        self.gate.words_awaited(turn.item_id, stop - turn.start_ms)
        if turn.awaits_response:
            self.gate.turn_committed()

    def _on_item_event(self, kind: str, event: Event, now: float) -> None:
        ctx, wire = self.ctx, event.get("item") or {}
        if wire.get("id") in ctx.hidden:
            return
        if "input_audio_transcription" in kind:
            self.gate.written_down(kind, event)
            if not self.veto.holds(kind, event):
                self._on_transcription(kind, event, now)
            return
        if self.tools.hides(wire):
            self.tools.note_item(wire)
            return
        if kind.endswith((".added", ".done", ".created")):
            self._on_item(kind, event)
            return
        if kind.endswith(".deleted") and self.veto.has_deleted(event["item_id"]):
            return
        self.in_flight.carried_out(kind, event)
        if kind.endswith(".deleted"):
            ctx.conversation.remove(event["item_id"])
        self._pass_on(event)

    def _on_item(self, kind: str, event: Event) -> None:
        ctx, wire = self.ctx, event["item"]
        item = ctx.conversation.get(wire["id"])
        if item is None:
            item = Item(wire["id"], wire)
            ctx.conversation.insert(item, event.get("previous_item_id"))
        item.wire, item.upstream = wire, True
        if item.role == "assistant" and item.transcript is None:
            item.transcript = text_of(wire)
        item.announced = item.announced or not kind.endswith(".done")
        item.done = item.done or kind.endswith(".done")
        for response in ctx.responses.values():
            for opened in response.items.values():
                if opened.id == item.id:
                    opened.announced = True
                    opened.item_done = kind.endswith(".done")
        self._pass_on({**event, "previous_item_id": ctx.conversation.previous(item.id)})

    def _on_transcription(self, kind: str, event: Event, now: float) -> None:
        ctx = self.ctx
        item = ctx.conversation.get(event["item_id"])
        if kind.endswith(".completed") and item is not None:
            item.transcript, item.audio_span = event["transcript"], None
            ctx.hold_input(self.turn)
            ctx.record("caller_said", item_id=item.id, text=item.transcript)
        if ctx.session.wants_transcripts:
            if item is not None:
                item.words_told = not kind.endswith(".delta")
            self._pass_on(event)
        if kind.endswith(".failed") and item is not None and item.needs_transcript:
            return  # our own transcription may still have the words
        if not kind.endswith(".delta"):
            self.tools.words_known(now)

    # --- responses ---

    def _on_response_event(self, kind: str, event: Event, frame: bytes, now: float) -> Cause | None:
        ctx = self.ctx
        if kind == "response.created":
            self._on_created(event, now)
            return None
        if kind == "response.done":
            return self._on_done(event, now)
        response = ctx.responses.get(event.get("response_id", ""))
        if response is None:
            ctx.record("provider_orphan", event=kind)
            return None
        if self.veto.drops(kind, response):
            return None
        if self._follow(kind, response, event, frame, now):
            if not self.tools.event(kind, response, event, now):
                self._pass_on(event)
        else:
            ctx.record("provider_orphan", event=kind)
        return None

    def _on_created(self, event: Event, now: float) -> None:
        ctx = self.ctx
        wire = event["response"]
        out_of_band = wire.get("conversation_id") is None
        if wire["id"] in ctx.responses:
            ctx.record("provider_orphan", event="response.created")
            return
        owed = self._owed_for(wire, out_of_band, now)
        wanted = owed.request.get("max_output_tokens") or ctx.session.fields["max_output_tokens"]
        shown = {
            **wire,
            "conversation_id": None if out_of_band else ctx.conversation_id,
            "max_output_tokens": wanted,
            "metadata": merge_metadata(wire.get("metadata"), ctx.tags()),
        }
        response = OpenResponse(
            wire["id"],
            shown,
            out_of_band=out_of_band,
            client_asked=owed.client_asked,
            request=owed.request,
            owed_since=owed.since,
            turn=owed.turn or (0 if out_of_band else ctx.outcomes.ask()),
            say=owed.say,
            rounds=owed.rounds,
        )
        ctx.responses[response.id] = response
        self.gate.began(response.id, owed, out_of_band=out_of_band)
        self._disarm_response()
        if not out_of_band:
            if self.timed and owed.turn:  # else the provider began by itself
                ctx.pace.note(Step.RESPONSE, now - owed.since)
            self.deadlines.response_opened(owed.since if self.timed else now, speaks=response.speaks)
        self.tools.created(response, {**event, "response": shown}, self._pass_on)
        self.veto.created(response, now)

    def _owed_for(self, wire: Event, out_of_band: bool, now: float) -> Owed:
        """Which of the answers we wait for this response is: by metadata, else the turn's, else the oldest."""
        metadata = wire.get("metadata")
        matching = [o for o in self.creates if metadata and o.request.get("metadata") == metadata]
        if not matching and self.turn is not None and self.turn.awaits_response and not out_of_band:
            self.turn.awaits_response = False
            return Owed({}, client_asked=False, since=self.turn.ended_at, turn=self.turn.number)
        kind = "none" if out_of_band else "auto"
        matching = matching or [o for o in self.creates if o.request.get("conversation", "auto") == kind]
        if matching:
            self.creates.remove(matching[0])
            return matching[0]
        return Owed({}, client_asked=False, since=now)

    def _disarm_response(self) -> None:
        waiting = self.creates or (self.turn is not None and self.turn.awaits_response)
        if not waiting:
            self.deadlines.nothing_owed()

    def _follow(self, kind: str, response: OpenResponse, event: Event, frame: bytes, now: float) -> bool:
        """Keep our picture of a response; False for an event about something that is not open."""
        index = event["output_index"]
        if kind == "response.output_item.added":
            return self._open_item(response, event, now)
        item = response.items.get(index)
        if item is None:
            return False
        if kind == "response.output_item.done":
            response.items.pop(index)
            response.finished.append(event["item"])
            handed = item.kind == "function_call" and index not in response.hidden
            response.handed_tool = response.handed_tool or handed
            return True
        if kind == "response.content_part.added":
            if event["content_index"] in item.parts:
                return False
            part_kind = "audio" if event["part"].get("type") == "audio" else "text"
            item.parts[event["content_index"]] = OpenPart(event["content_index"], part_kind)
            return True
        if kind.startswith("response.function_call_arguments"):
            item.arguments = event.get("arguments") or item.arguments + event.get("delta", "")
            return True
        part = item.parts.get(event.get("content_index", -1))
        if part is None:
            return kind.startswith("response.mcp")
        self._follow_part(kind, response, item, part, event, frame, now)
        return True

    def _open_item(self, response: OpenResponse, event: Event, now: float) -> bool:
        wire, index = event["item"], event["output_index"]
        if index in response.items or index < response.next_index:
            return False
        item = OpenItem(wire["id"], index, str(wire.get("type")))
        item.name, item.call_id = str(wire.get("name") or ""), str(wire.get("call_id") or "")
        response.items[index] = item
        response.next_index = index + 1
        if item.kind != "message" and not response.out_of_band:
            self.deadlines.no_audio_owed(now)
        return True

    def _follow_part(
        self,
        kind: str,
        response: OpenResponse,
        item: OpenItem,
        part: OpenPart,
        event: Event,
        frame: bytes,
        now: float,
    ) -> None:
        if kind == "response.output_audio.delta":
            kept = self.ctx.conversation.get(item.id)
            if kept is not None:
                kept.response_id = response.id
            fmt = self.ctx.session.output_format
            self._stream = _Stream(AudioShape(frame, event), response, item, part, kept, fmt)
            self._last_audio = frame
            self._note_audio(self._stream, fmt.ms(base64_size(len(event["delta"]))), now)
            self.ctx.session.spoke = True
        elif kind == "response.output_audio.done":
            part.audio_done = True
            if not response.out_of_band:
                self.deadlines.audio_ended(now)
        elif kind.endswith((".output_audio_transcript.done", ".output_text.done")):
            part.words_done = True
            self.veto.words(response, part, over=True)
        elif kind.endswith((".output_audio_transcript.delta", ".output_text.delta")):
            part.words += str(event["delta"])
            kept = self.ctx.conversation.get(item.id)
            if kept is not None:
                kept.transcript = part.words
            self.veto.words(response, part)
            if part.kind == "text" and not response.out_of_band:
                self.deadlines.no_audio_owed(now)

    def _on_done(self, event: Event, now: float) -> Cause | None:
        ctx, wire = self.ctx, event["response"]
        response = ctx.responses.get(wire.get("id") or "")
        if response is None:
            ctx.record("provider_orphan", event="response.done")
            return None
        self.busy_at = now
        cost = self.gate.ended(
            response.id, wire.get("usage"), response.turn, out_of_band=response.out_of_band
        )
        if not response.out_of_band:
            ctx.stepper.note_answer(cost)
        if not response.out_of_band:
            self.deadlines.response_closed()
            self._stream = None
        if wire.get("status") == "failed":
            return failure(wire)
        if wire.get("status") == "completed" and not response.veto and self._is_empty(response):
            return Cause.EMPTY_RESPONSE
        del ctx.responses[response.id]
        if wire.get("status") == "cancelled":
            for output in wire.get("output") or []:
                item = ctx.conversation.get(output.get("id", ""))
                if item is not None:
                    item.cut_off = True
        self._show_done(response, event)
        if wire.get("status") != "completed" or response.veto:
            self.tools.dropped(response, now)
        elif self.tools.over(response, now):
            return None
        stopped = wire.get("status") == "cancelled" and not response.veto
        ctx.end_turn(response.turn, Outcome.STOPPED if stopped else Outcome.ANSWERED)
        if response.veto:
            self.veto.over(response, now)
        self.tools.response_over(now)
        return None

    def no_more_audio(self, response: OpenResponse, now: float) -> None:
        """None of what comes of it is passed on; it has to end soon."""
        if self._stream is not None and self._stream.response is response:
            self._stream = None
        if not response.out_of_band:
            self.deadlines.audio_ended(now)

    def _show_done(self, response: OpenResponse, event: Event) -> None:
        """The client is told of the end of a response, if it was of its beginning."""
        wire = event["response"]
        if not response.hidden:
            self.tools.show(response)
        if response.held is not None:
            return
        shown = {
            **wire,
            "conversation_id": response.wire["conversation_id"],
            "max_output_tokens": response.wire["max_output_tokens"],
            "metadata": merge_metadata(wire.get("metadata"), self.ctx.tags()),
            "output": self.tools.visible(response, wire.get("output") or []),
        }
        if response.veto and wire.get("status_details"):
            shown["status_details"] = {"type": wire["status"]}  # the client has not cancelled it
        self._pass_on({**event, "response": shown})
        self._record_answer(response, wire)

    def _is_empty(self, response: OpenResponse) -> bool:
        """Completed, and the caller heard nothing although audio was owed."""
        calls = any(i.get("type") != "message" for i in response.finished)
        return response.speaks and not calls and response.first_audio_at is None and not response.out_of_band

    def _record_answer(self, response: OpenResponse, wire: Event) -> None:
        first = response.first_audio_at
        ttfa_ms = None if first is None else round((first - response.owed_since) * 1000, 1)
        self.ctx.record(
            "answer",
            response_id=response.id,
            status=wire.get("status"),
            text=" ".join(filter(None, (text_of(i) for i in response.finished))),
            owed_at=self.ctx.wall(response.owed_since),
            ttfa_ms=ttfa_ms,
            **self.ctx.voice_to_voice(ttfa_ms, response.client_asked),
        )

    # --- what is owed, and the end ---

    def awaits_audio(self) -> Owed | None:
        """The answer whose first audio the caller is waiting for."""
        if not self.deadlines.awaits_audio:
            return None
        response = self.ctx.default_response()
        if response is not None:
            owed = Owed(response.request, response.client_asked, response.owed_since, turn=response.turn)
            owed.say, owed.rounds = response.say, response.rounds
            return owed
        if self.turn is not None and self.turn.awaits_response:
            return Owed({}, client_asked=False, since=self.turn.ended_at, turn=self.turn.number)
        return next((owed for owed in self.creates if not owed.out_of_band), None)

    @property
    def at_boundary(self) -> bool:
        """Nobody speaks and nothing is owed: a planned handover may happen."""
        return not (self.ctx.responses or self.occupied or self.tools.pending or self.veto.pending)

    @property
    def occupied(self) -> bool:
        """The caller speaks, or an answer is under way or owed."""
        speaking = self.turn is not None and self.turn.stop_ms is None
        waiting = self.turn is not None and self.turn.awaits_response
        return bool(self.ctx.default_response() is not None or self.creates or speaking or waiting)

    def leave(self) -> Unfinished:
        """Close towards the client what the provider left open, and say what is still owed to the caller."""
        return Leaving(self).leave()

    def bills(self) -> dict[str, int]:
        """What the session may still bill when it is given up, with the turns it is for."""
        turn = self.turn
        owed = turn.number if turn is not None and turn.committed and turn.awaits_response else 0
        turns = {response.id: response.turn for response in self.ctx.responses.values()}
        turns |= {create.key: create.turn for create in self.creates}
        return {key: turns.get(key, owed) for key in self.gate.leave(owed)}
