"""The caller's speech in Tiers B and C: when a turn begins and ends, what was said in it, and what is done meanwhile.

At the first pause of a turn what was said so far is written down (`Pause`). From its words follows how long a silence
ends the turn, they are the turn's own if nothing more comes, and the answer to them may begin in silence
(`speculation.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.core import items
from orchestrator.core.actions import Listen
from orchestrator.core.answering import Stage
from orchestrator.core.context import Bridge, CallContext, Owed, Turn
from orchestrator.core.conversation import Item, text_of
from orchestrator.core.endings import Ending, ending, is_backchannel
from orchestrator.core.outcomes import Outcome
from orchestrator.core.speculation import Speculation
from orchestrator.core.tool_answers import ToolAnswers
from orchestrator.core.turns import (
    Guard,
    Paused,
    Resumed,
    SpeechStarted,
    SpeechStopped,
    TurnDetector,
    Uttered,
)
from orchestrator.protocol.answers import Message, Transcript

BEHIND_MS = 500.0
"""A turn found this long after it ended was said to a provider that ignored it: the caller has waited."""
PAUSED_TURN_MS = 20_000.0
"""A turn longer than this is written down only once it is over: each pause would cost the whole of it again."""
LATE_S = 0.2
"""Audio may come this much later than the clock says before a silence counts as over without it."""


@dataclass(slots=True)
class Pause:
    """What was said up to a pause, being written down under `key`."""

    key: str
    at: float
    """Seconds on the call's clock."""
    over: bool = False
    """The caller went on, or the turn was given up: its words are not the turn's."""
    known: bool = False
    transcript: Transcript | None = None
    ending: Ending = Ending.UNKNOWN
    item_id: str = ""
    """The item whose words these are, once the turn has ended with the pause."""


@dataclass(slots=True)
class Short:
    """Something short over the assistant's speech, being written down under `key`."""

    key: str
    found: Uttered
    at: float


class Hearing(ToolAnswers):
    """`Local` adds the client."""

    def __init__(self, ctx: CallContext) -> None:
        super().__init__(ctx)
        self.detector: TurnDetector | None = None
        self._pause: Pause | None = None
        """Of the turn under way: the latest."""
        self._writing: dict[str, Pause] = {}
        """Pauses whose words are awaited, by key; one at a time, or a recogniser would fall behind."""
        self._uttered: Short | None = None
        self._stop_due: float | None = None
        """When the turn under way ends even if no more audio comes."""

    def _listen(self, from_ms: float, *, speaking: bool = False) -> None:
        self._forget_pause("the ear was opened anew")
        start = max(from_ms, self.ctx.input.earliest_ms)
        self.detector = TurnDetector(
            self.ctx.session.turn_detection, start, speaking_since=from_ms if speaking else None
        )
        self.ctx.do(Listen(start))

    def _forget_pause(self, why: str) -> None:
        """The turn under way is not what it was: what was begun at its pause is of no use."""
        if self._pause is not None:
            self._pause.over = True
        self._pause = self._uttered = self._stop_due = None
        self._drop_ahead(why)

    # --- speech ---

    def speech(self, probabilities: list[float], now: float) -> None:
        """Speech probabilities of the next 32 ms windows of input."""
        detector = self.detector
        if detector is None:
            return
        self._guard(detector, now)
        for probability in probabilities:
            found = detector.feed(probability)
            if found is None:
                continue
            if isinstance(found, SpeechStarted):
                self._on_started(found, now)
            elif isinstance(found, Paused):
                self._on_paused(detector, now)
            elif isinstance(found, Resumed):
                self._on_resumed()
            elif isinstance(found, Uttered):
                self._on_uttered(found, now)
            else:
                self._on_stopped(found, now)
            self._guard(detector, now)
        self._await_silence(detector, now)

    def _guard(self, detector: TurnDetector, now: float) -> None:
        """Is there anything that speech would interrupt?"""
        if detector.speaking:
            return
        if self._active is None and self.ctx.playback.dry_at <= now:
            detector.guard = Guard.NONE
        elif self.ctx.session.interrupts_response:
            detector.guard = Guard.BACKCHANNEL if detector.semantic else Guard.BARGE_IN
        else:
            detector.guard = Guard.NONE

    def _behind(self, detector: TurnDetector) -> bool:
        """What is heard now was said a while ago."""
        return self.ctx.input.total_ms - detector.at_ms > BEHIND_MS

    def _on_started(self, found: SpeechStarted, now: float) -> None:
        ctx = self.ctx
        start = max(found.at_ms, ctx.buffer_from_ms)
        if self._uttered is not None:  # it was the beginning of this
            start, self._uttered = max(min(start, self._uttered.found.from_ms), ctx.buffer_from_ms), None
        self._idle_due = self._bridge_due = None
        self.turn = Turn(ctx.ids.new("item"), start)
        ctx.hold_input(self.turn)
        ctx.send(
            {
                "type": "input_audio_buffer.speech_started",
                "audio_start_ms": int(start),
                "item_id": self.turn.item_id,
            }
        )
        if ctx.session.interrupts_response:
            self._interrupt("turn_detected", now)

    def _interrupt(self, reason: str | None, now: float) -> None:
        """The caller goes on, whatever the assistant was about to say. `reason`: see `_stop`."""
        ctx = self.ctx
        cut = ctx.note_barge_in(now)
        self._interrupted = self._interrupted or cut or self._active is not None or bool(self._queue)
        if self._active is not None:
            self._stop(self._active, reason, now)
        # What the caller asked before is in the history of the turn now beginning; not so what the client asked.
        for owed in [owed for owed in self._queue if not owed.client_asked]:
            self._queue.remove(owed)
            ctx.end_turn(owed.turn, Outcome.STOPPED, "the caller went on")

    def _on_stopped(self, found: SpeechStopped, now: float) -> None:
        ctx = self.ctx
        turn = self.turn or Turn(ctx.ids.new("item"), max(found.from_ms, ctx.buffer_from_ms))
        pause, self._pause, self.turn, self._stop_due = self._pause, None, None, None
        stop_ms = max(found.at_ms, turn.start_ms)  # the client may have taken what was heard late
        self.quiet_since = now
        ctx.quiet_ms = max(0.0, ctx.input.total_ms - stop_ms)
        ctx.send(
            {
                "type": "input_audio_buffer.speech_stopped",
                "audio_end_ms": int(stop_ms),
                "item_id": turn.item_id,
            }
        )
        item = items.commit_turn(ctx, turn.item_id, turn.start_ms, stop_ms)
        ctx.hold_input(None)
        self._take_words_of(pause, item, now)
        if ctx.session.creates_response:
            late = ctx.input.total_ms - found.at_ms > BEHIND_MS
            self._owe(Owed({}, client_asked=False, since=now, bridge=Bridge.LATE if late else None), now)
        self._advance(now)  # what the client asked for before the caller spoke
        self._drop_ahead("the turn was not what it seemed")

    # --- pauses ---

    def _on_paused(self, detector: TurnDetector, now: float) -> None:
        """Write down what was said so far. Nothing is gained by that where the caller has waited already."""
        ctx, turn = self.ctx, self.turn
        if turn is None or self._writing or self._behind(detector):
            return
        if detector.at_ms - turn.start_ms > PAUSED_TURN_MS:
            return
        pause = Pause(ctx.ids.new("pause"), now)
        if ctx.write_down(pause.key, ctx.input.slice(turn.start_ms, detector.at_ms)):
            self._pause = self._writing[pause.key] = pause
            detector.hold()

    def _on_resumed(self) -> None:
        if self._pause is not None:
            self._pause.over = True
        self._pause = None
        self._drop_ahead("the caller went on")

    def _take_words_of(self, pause: Pause | None, item: Item, now: float) -> None:
        """The turn has ended with a pause: its words are the turn's."""
        if pause is None or (pause.known and pause.transcript is None):
            self._write_down(item, now)
        elif pause.known:
            self.transcribed(item.id, pause.transcript, now)
        else:
            pause.item_id = item.id
            self._awaited.add(item.id)

    def _pause_known(self, pause: Pause, transcript: Transcript | None, now: float) -> None:
        detector = self.detector
        pause.known, pause.transcript = True, transcript
        if pause.item_id:
            self.transcribed(pause.item_id, transcript, now)
            return
        if detector is None or self.turn is None:
            return
        if pause is not self._pause:  # of an earlier pause: there may be another one now
            if detector.paused:
                self._on_paused(detector, now)
            return
        words = transcript.text if transcript is not None and not transcript.veto else ""
        pause.ending = ending(words, self.ctx.session.language, self._asked())
        stopped = detector.judge(pause.ending)
        if stopped is not None:
            self._on_stopped(stopped, now)
            return
        self._await_silence(detector, now)
        self._begin_ahead(pause)

    def _asked(self) -> str:
        """What the assistant said last: a number it asked for has so many digits."""
        last = next((i for i in reversed(list(self.ctx.conversation)) if i.role == "assistant"), None)
        return "" if last is None else last.transcript or text_of(last.wire)

    def _begin_ahead(self, pause: Pause) -> None:
        ctx, words = self.ctx, pause.transcript.text if pause.transcript is not None else ""
        vetoed = pause.transcript is not None and pause.transcript.veto
        if vetoed or not words.strip() or pause.ending is Ending.UNFINISHED:
            return
        busy = self._active is not None or self._queue or self._ahead is not None
        busy = (
            busy or self.desk.busy or self.desk.proposal is not None
        )  # then the turn may be no model's to answer
        unwritten = any(item.needs_transcript for item in ctx.conversation)
        if busy or unwritten or not (ctx.policy.speculate and ctx.session.creates_response):
            return
        ahead = Speculation(ctx, (*ctx.conversation.history(), Message("user", words)), pause.at)
        if not ahead.affordable:
            return
        if ahead.begin():
            self._ahead = ahead
        else:  # it is begun when the money is there, and not at all if the turn ends before
            self._usual_worst = max(self._usual_worst, ahead.worst)
            self._set_aside()

    def fund(self, now: float) -> None:
        super().fund(now)
        pause = self._pause
        if pause is not None and self.turn is not None:
            self._begin_ahead(pause)

    # --- the end of a turn by the clock ---

    def _await_silence(self, detector: TurnDetector, now: float) -> None:
        left_ms = detector.left_ms
        self._stop_due = None if left_ms is None else now + left_ms / 1000.0 + LATE_S

    def _stop_if_due(self, now: float) -> None:
        if self._stop_due is None or now < self._stop_due or self.detector is None:
            return
        self._stop_due = None
        if self.detector.speaking:
            self._on_stopped(self.detector.stop(), now)

    # --- short utterances over the assistant's speech ---

    def _on_uttered(self, found: Uttered, now: float) -> None:
        """It may be a mere "mm-hm": its words decide. Where they cannot be had it is let pass."""
        ctx = self.ctx
        short = Short(ctx.ids.new("uttered"), found, now)
        if ctx.write_down(short.key, ctx.input.slice(found.from_ms, found.at_ms)):
            self._uttered = short

    def _uttered_known(self, short: Short, transcript: Transcript | None, now: float) -> None:
        self._uttered = None
        detector, words = self.detector, transcript.text.strip() if transcript is not None else ""
        if detector is None or detector.speaking:
            return
        over = self._active is None and self.ctx.playback.dry_at <= now
        if not words or (is_backchannel(words) and not over):
            self.ctx.record("backchannel", text=words)
            return
        self._on_started(detector.start(short.found.from_ms, quiet_since=short.found.quiet_ms), now)
        pause = self._pause = Pause(short.key, short.at, known=True, transcript=transcript)
        self._pause_known(pause, transcript, now)

    # --- words ---

    def transcribed(self, item_id: str, transcript: Transcript | None, now: float) -> None:
        """The words of an item or of a pause, or None if they could not be had."""
        ctx = self.ctx
        if (pause := self._writing.pop(item_id, None)) is not None:
            self._pause_known(pause, transcript, now)
            return
        if self._uttered is not None and item_id == self._uttered.key:
            self._uttered_known(self._uttered, transcript, now)
            return
        self._awaited.discard(item_id)
        item = ctx.conversation.get(item_id)
        if item is not None and not item.transcript:  # else the provider's own words came first
            if transcript is not None or item.transcript is None:
                item.transcript, item.unheard = transcript.text if transcript else "", transcript is None
                item.veto = transcript.veto if transcript else ""
            item.audio = None
            ctx.record("caller_said", item_id=item_id, text=item.transcript)
            if ctx.session.wants_transcripts:
                self._tell_transcript(item, transcript)
        for answering in [*([self._active] if self._active else []), *self._beside.values()]:
            if answering.stage is Stage.WORDS:
                self._ask_when_known(answering, now)
