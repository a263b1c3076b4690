"""Tiers B and C: here we are the Realtime server. Turn taking, items and responses are ours; a tier only answers."""

from __future__ import annotations

from math import inf

from orchestrator.core import items
from orchestrator.core.actions import HangUp
from orchestrator.core.answering import Answering
from orchestrator.core.context import CallContext, Owed, Unfinished
from orchestrator.core.hearing import Hearing
from orchestrator.core.hedge import Hedge
from orchestrator.core.outcomes import Outcome
from orchestrator.core.responses import local_usage
from orchestrator.protocol.answers import Transcript
from orchestrator.protocol.client_events import ClientError
from orchestrator.protocol.wire import Event

HANG_UP_AFTER_S = 0.3
"""How long after the last sound of a goodbye the call is ended."""
NO_MONEY = "the budget of this call is used up"


class Local(Hearing):
    """The call while Tier B or C serves it."""

    def __init__(self, ctx: CallContext) -> None:
        super().__init__(ctx)
        self.hang_up_at: float | None = None
        """When the goodbye will have been heard."""
        self._hung_up = False
        self._silent = False
        self._why = ""
        """Why the call is ended, as its client is told."""

    # --- taking over ---

    def take_over(
        self, left: Unfinished, now: float, *, listen_from: float | None = None, hedge: Hedge | None = None
    ) -> None:
        """Go on where another tier stopped: our ears open (from `listen_from` on), what is owed gets answered.

        A `hedge` made for an owed answer is gone on with.
        """
        ctx = self.ctx
        self.quiet_since = now
        self.turn = left.speaking
        if hedge is not None:
            self._take_words(hedge)
        for owed in left.owed:
            made = hedge is not None and hedge.is_for(owed) and not hedge.adopted
            self._owe(owed, now, hedge if made else None)
        if left.speaking is not None:
            self._listen(left.speaking.start_ms, speaking=True)
        else:
            since = ctx.input.total_ms if left.loud_from_ms is None else left.loud_from_ms
            recent = max(since - 300.0, ctx.buffer_from_ms, 0.0)  # before the buffer: a turn already told
            self._listen(recent if listen_from is None else listen_from)

    def _take_words(self, hedge: Hedge) -> None:
        """What the hedge has written down, or is about to."""
        self._awaited |= hedge.awaited
        for item_id, transcript in hedge.transcripts.items():
            item = self.ctx.conversation.get(item_id)
            if item is not None and self.ctx.session.wants_transcripts and not item.words_told:
                self._tell_transcript(item, transcript)

    # --- the client's events ---

    def client_event(self, event: Event, now: float) -> None:
        """Carry out a checked client event; raises ClientError for what cannot be done."""
        match event["type"]:
            case "session.update":
                self._update_session(event)
            case "conversation.item.create":
                items.announce(self.ctx, items.accept_item(self.ctx, event))
            case "conversation.item.retrieve":
                items.retrieve(self.ctx, event)
            case "conversation.item.truncate":
                items.truncate(self.ctx, event)
            case "conversation.item.delete":
                items.delete(self.ctx, event)
            case "input_audio_buffer.commit":
                self._commit(now)
            case "input_audio_buffer.clear":
                self._clear(now)
            case "response.create":
                self._create_response(event, now)
            case "response.cancel":
                self._cancel(event, now)
            case _:
                raise ClientError(
                    f"{event['type']} is for WebRTC and SIP; on a WebSocket use conversation.item.truncate.",
                    code="invalid_event",
                )

    def _update_session(self, event: Event) -> None:
        ctx = self.ctx
        ctx.session.update(event["session"])
        if self.detector is not None:
            self.detector.configure(ctx.session.turn_detection)
        if ctx.heed_format(ctx.session.input_format):
            self._listen(ctx.input.total_ms)
        ctx.send({"type": "session.updated", "session": ctx.describe_session()})

    def _commit(self, now: float) -> None:
        ctx = self.ctx
        start, stop = ctx.buffer_from_ms, ctx.input.total_ms
        if stop - start < ctx.policy.commit_min_ms:
            raise ClientError(
                f"Nothing to commit: the input buffer holds {stop - start:.0f} ms of audio, "
                f"at least {ctx.policy.commit_min_ms:.0f} ms are needed.",
                code="input_audio_buffer_commit_empty",
            )
        item_id = self.turn.item_id if self.turn is not None else ctx.ids.new("item")
        self.turn = None
        self._forget_pause("the client committed the turn")
        if self.detector is not None and self.detector.speaking:
            self.detector.stop()  # a caller who goes on begins another turn
        self._write_down(items.commit_turn(ctx, item_id, start, stop), now)
        ctx.hold_input(None)
        self._advance(now)  # what the client asked for before the caller spoke

    def _clear(self, now: float) -> None:
        self.ctx.buffer_from_ms = self.ctx.input.total_ms
        self.turn = None
        self._listen(self.ctx.input.total_ms)
        self.ctx.send({"type": "input_audio_buffer.cleared"})
        self._advance(now)

    def _create_response(self, event: Event, now: float) -> None:
        request = event.get("response") or {}
        if request.get("conversation") != "none" and (self._active is not None or self._queue):
            active = self._active.response.id if self._active and self._active.response else "a response"
            raise ClientError(
                f"The conversation already has an active response ({active}). Wait for its response.done, "
                "or cancel it first.",
                code="conversation_already_has_active_response",
            )
        self._owe(Owed(request, client_asked=True, since=now), now)

    def _cancel(self, event: Event, now: float) -> None:
        wanted = event.get("response_id")
        for answering in [*([self._active] if self._active else []), *self._beside.values()]:
            if answering.response is not None and wanted in (None, answering.response.id):
                self._stop(answering, "client_cancelled", now)
                self._advance(now)
                return
        raise ClientError("There is no active response to cancel.", code="response_cancel_not_active")

    # --- the caller's keypad ---

    def keys_pressed(self, now: float) -> None:
        """The caller begins to press keys."""
        if self.ctx.session.interrupts_response:
            self._interrupt(None, now)
        self._idle_due = self._bridge_due = None

    def keyed(self, event: Event, now: float) -> None:
        """The keys, as the ``conversation.item.create`` of a user item; a turn under way answers them, too."""
        items.announce(self.ctx, items.accept_item(self.ctx, event))
        if self.turn is None and self.ctx.session.creates_response:
            self._owe(Owed({}, client_asked=False, since=now), now)

    # --- the last word ---

    def fall_silent(self, now: float) -> None:
        """No answer is given any more, and none is begun."""
        self._silent = True
        self._forget_pause("the call is over")
        for answering in [*([self._active] if self._active else []), *self._beside.values()]:
            self._stop(answering, None, now)
        for owed in self._queue:
            if owed.response is not None:
                self.ctx.writer.finish(owed.response, "incomplete")
                self.ctx.responses.pop(owed.response.id, None)
            self.ctx.end_turn(owed.turn, Outcome.CLOSED, "the call is over")
        self._queue.clear()
        self._idle_due = self._bridge_due = None

    def _owe(self, owed: Owed, now: float, hedge: Hedge | None = None) -> None:
        if not self._silent:
            super()._owe(owed, now, hedge)

    def say_goodbye(self, now: float, why: str = NO_MONEY, at_last: float = inf) -> None:
        """The call is over: one line that is in memory, and when it was heard, or `at_last`, the end."""
        ctx, session = self.ctx, self.ctx.session
        if self.hang_up_at is not None:
            return
        self._why = why
        alone = Answering("", Owed({}, client_asked=False, since=now), ctx.tier)
        response = self._open(alone)
        item = ctx.writer.open_message(response)
        words, audio = ctx.clips(ctx.policy.goodbye, session.output_format, session.voice, session.language)
        if words:
            ctx.writer.words(response, item, words)
        if response.speaks:
            self._audio(response, item, audio, now)
        ctx.writer.close_item(response, item, "completed")
        ctx.writer.finish(response, "completed", usage=local_usage(0, 0))
        ctx.responses.pop(response.id, None)
        ctx.record("goodbye", text=words)
        self.hang_up_at = min(max(now, ctx.playback.dry_at) + HANG_UP_AFTER_S, at_last)

    # --- time and the end ---

    def next_due(self) -> float | None:
        dues = self._answers_due()
        if self._stop_due is not None:
            dues.append(self._stop_due)
        if self._idle_due is not None:
            dues.append(self._idle_due)
        if self.hang_up_at is not None and not self._hung_up:
            dues.append(self.hang_up_at)
        return min(dues) if dues else None

    def tick(self, now: float) -> None:
        self._tick_answers(now)
        self._stop_if_due(now)
        if self.hang_up_at is not None and now >= self.hang_up_at and not self._hung_up:
            self._hung_up = True
            self.ctx.do(HangUp(self._why))
        if self._idle_due is not None and now >= self._idle_due:
            self._on_idle(now)

    def _on_idle(self, now: float) -> None:
        """``idle_timeout_ms``: the caller said nothing, so the assistant speaks up."""
        ctx = self.ctx
        self._idle_due = None
        start, stop = ctx.buffer_from_ms, ctx.input.total_ms
        item_id = ctx.ids.new("item")
        times = {"audio_start_ms": int(start), "audio_end_ms": int(stop)}
        ctx.send({"type": "input_audio_buffer.timeout_triggered", "item_id": item_id, **times})
        item = items.commit_turn(ctx, item_id, start, stop)
        item.audio, item.transcript = None, "(The caller has said nothing for a while.)"
        if ctx.session.wants_transcripts:
            self._tell_transcript(item, Transcript("", (stop - start) / 1000.0))
        if ctx.session.creates_response:
            self._owe(Owed({}, client_asked=False, since=now), now)

    @property
    def at_boundary(self) -> bool:
        """Nobody speaks and nothing is owed: a planned handover may happen."""
        waiting = self._awaited or self._bridge_due or self._uttered or self.desk.busy
        return not (self._active or self._queue or self._beside or self.turn or waiting)

    def leave(self) -> None:
        """The call is over: stop all answers."""
        self._drop_ahead("hung up")
        for answering in [*([self._active] if self._active else []), *self._beside.values()]:
            self._halt(answering)
            self._settle(answering)
        self._active, self._beside = None, {}
        self._queue.clear()
