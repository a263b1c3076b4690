"""The caller's side of a session: audio in, turns found and committed, words recognised."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from openai.types.realtime import InputAudioBufferAppendEvent

from orchestrator.protocol.audio import AudioFormat
from orchestrator.simulate import usage
from orchestrator.simulate.conversation import Conversation, Item, decode_audio
from orchestrator.simulate.ears import Ears
from orchestrator.simulate.faults import FaultId, Moment
from orchestrator.simulate.outbox import Outbox, Timers, new_id
from orchestrator.simulate.session_config import Invalid, check_shape
from orchestrator.simulate.striking import Striker
from orchestrator.simulate.turns import Detection, Edge, InputBuffer, TurnDetector

MIN_COMMIT_MS = 100
TRANSCRIPTION = "conversation.item.input_audio_transcription"
NOT_TRANSCRIBED = {
    "type": "transcription_error",
    "code": "audio_unintelligible",
    "message": "The audio could not be transcribed.",
}

logger = logging.getLogger(__name__)


class Turntaking(Protocol):
    """What the caller's side needs of the session around it."""

    def interrupt(self) -> None: ...

    def turn_over(self, item: Item, *, answer: bool) -> None: ...

    def moment_changed(self) -> None: ...


class Caller:
    """Takes the session's `append`, `commit` and `clear`, and tells `session` about turns."""

    def __init__(
        self, session: Turntaking, ears: Ears, out: Outbox, striker: Striker, conversation: Conversation
    ) -> None:
        self._session = session
        self._ears = ears
        self._out = out
        self._striker = striker
        self._conversation = conversation
        self._timers = Timers()
        self._turns = 0
        self._swallow = False
        self._item_id = ""
        self._start_ms = 0.0
        self.format = AudioFormat.PCM
        self._buffer = InputBuffer(self.format.bytes_per_ms)
        self._ear = ears.ear(self.format)
        self._heard_ms = 0.0
        """How far turn detection has listened, in milliseconds since the session began."""
        self._detector: TurnDetector | None = None

    def configure(self, settings: dict[str, Any]) -> None:
        """Adopt a session's `audio.input`; a turn in progress goes on where nothing changed for it."""
        fmt, detection = AudioFormat.parse(settings["format"]), Detection.parse(settings["turn_detection"])
        if fmt is not self.format:
            self._buffer.restart(fmt.bytes_per_ms)
            self.format = fmt
        elif detection == (self._detector.detection if self._detector else None):
            return
        self._ear = self._ears.ear(fmt)
        self._heard_ms = self._buffer.end_ms
        self._detector = TurnDetector(detection) if detection is not None else None

    @property
    def speaking(self) -> bool:
        """Whether the caller is in a turn; without turn detection, whether there is uncommitted audio."""
        return self._detector.speaking if self._detector is not None else self._buffer.length_ms > 0

    def append(self, event: dict[str, Any]) -> int:
        """`input_audio_buffer.append`; gives the number of bytes."""
        audio = event.get("audio")
        if not isinstance(audio, str):
            check_shape(InputAudioBufferAppendEvent, event, "")
        data = decode_audio(audio or "", "audio")
        self._buffer.append(data)
        if self._detector is None:
            self._session.moment_changed()
        else:
            self._listen(data, self._detector)
        return len(data)

    def _listen(self, data: bytes, detector: TurnDetector) -> None:
        window_ms = self._ear.window_ms
        for probability in self._ear.feed(data):
            self._heard_ms += window_ms
            edge = detector.feed(probability, window_ms)
            if edge is Edge.STARTED:
                self._started(detector)
            elif edge is Edge.STOPPED:
                self._stopped(detector)
        if not detector.speaking:
            self._buffer.drop_before(self._heard_ms - detector.run_ms - detector.detection.prefix_ms)

    def _started(self, detector: TurnDetector) -> None:
        self._timers.cancel("idle")
        start = self._heard_ms - detector.run_ms - detector.detection.prefix_ms
        detector.run_ms = 0.0
        self._swallow = self._striker.take(Moment.CALLER_SPEAKING, FaultId.SILENT_INPUT)
        if self._swallow:
            return
        self._start_ms = max(self._buffer.start_ms, start)
        self._item_id = new_id("item")
        self._out.send(
            "input_audio_buffer.speech_started", audio_start_ms=int(self._start_ms), item_id=self._item_id
        )
        if detector.detection.interrupt_response:
            self._session.interrupt()
        self._session.moment_changed()

    def _stopped(self, detector: TurnDetector) -> None:
        detector.run_ms = 0.0
        if self._swallow:
            self._buffer.drop_before(self._heard_ms)
            return
        self._out.send(
            "input_audio_buffer.speech_stopped", audio_end_ms=int(self._heard_ms), item_id=self._item_id
        )
        audio = self._buffer.take(self._start_ms, self._heard_ms)
        self._commit(self._item_id, audio, answer=detector.detection.create_response)

    def commit(self) -> None:
        """`input_audio_buffer.commit`."""
        length = self._buffer.length_ms
        if length < MIN_COMMIT_MS:
            message = (
                f"Error committing input audio buffer: buffer too small. Expected at least {MIN_COMMIT_MS}ms "
                f"of audio, but buffer only has {length:.2f}ms of audio."
            )
            raise Invalid("input_audio_buffer_commit_empty", message)
        audio = self._buffer.take(self._buffer.start_ms, self._buffer.end_ms)
        self._restart_detection()
        self._commit(new_id("item"), audio, answer=False)

    def clear(self) -> None:
        """`input_audio_buffer.clear`."""
        self._buffer.clear()
        self._restart_detection()
        self._out.send("input_audio_buffer.cleared")
        self._session.moment_changed()

    def _restart_detection(self) -> None:
        self._heard_ms = self._buffer.end_ms
        if self._detector is not None:
            self._detector = TurnDetector(self._detector.detection)

    def _commit(self, item_id: str, audio: bytes, *, answer: bool) -> None:
        self._out.send(
            "input_audio_buffer.committed", item_id=item_id, previous_item_id=self._conversation.last_id()
        )
        content = [{"type": "input_audio", "transcript": None}]
        wire = {"id": item_id, "object": "realtime.item", "type": "message", "status": "completed"}
        item = Item({**wire, "role": "user", "content": content})
        item.audio_ms, item.audio, item.turn = len(audio) / self.format.bytes_per_ms, [audio], self._turns
        self._turns += 1
        self._session.turn_over(item, answer=answer)

    def wait_idle(self, unplayed_ms: float) -> None:
        """An answer has been sent: start the clock of `idle_timeout_ms`, behind what is yet to be played."""
        idle_ms = self._detector.detection.idle_ms if self._detector is not None else None
        if idle_ms is not None:
            self._timers.after("idle", (unplayed_ms + idle_ms) / 1000, self._idle)

    def keep_waiting(self) -> None:
        """Something happened: the caller is not idle."""
        self._timers.cancel("idle")

    def _idle(self) -> None:
        item_id, start, end = new_id("item"), self._buffer.start_ms, self._buffer.end_ms
        times = {"audio_start_ms": int(start), "audio_end_ms": int(end)}
        self._out.send("input_audio_buffer.timeout_triggered", item_id=item_id, **times)
        self._commit(item_id, self._buffer.take(start, end), answer=True)

    def end(self) -> None:
        self._timers.cancel_all()


class Recogniser:
    """The words of spoken items; one recognition each, however often they are asked for."""

    def __init__(
        self, ears: Ears, out: Outbox, spawn: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]
    ) -> None:
        self._ears = ears
        self._out = out
        self._spawn = spawn
        self._words: dict[str, asyncio.Task[str]] = {}

    def start(self, item: Item, fmt: AudioFormat) -> None:
        """Begin with an item's words now."""
        work = self._ears.transcribe(b"".join(item.audio), fmt, item.turn or 0)
        self._words[item.id] = self._spawn(work)

    async def words(self, item: Item) -> str:
        """What a user item says, heard or written; empty where it could not be made out."""
        task = self._words.get(item.id)
        if task is None:
            return item.text
        try:
            return await asyncio.shield(task)
        except Exception:
            logger.exception("could not transcribe %s", item.id)
            return ""

    def tell(self, item: Item, settings: dict[str, Any], delay: float) -> None:
        """Send the transcription events of an item, not before `delay` seconds."""
        self._spawn(self._tell(item, settings, delay))

    async def _tell(self, item: Item, settings: dict[str, Any], delay: float) -> None:
        await asyncio.sleep(delay)
        text = await self.words(item)
        where = {"item_id": item.id, "content_index": 0}
        if self._words[item.id].exception() is not None:
            self._out.send(f"{TRANSCRIPTION}.failed", **where, error=NOT_TRANSCRIBED)
            return
        for number, word in enumerate(text.split()):
            self._out.send(f"{TRANSCRIPTION}.delta", **where, delta=f" {word}" if number else word)
        item.wire["content"][0]["transcript"] = text
        billed = usage.transcription(settings.get("model"), item.audio_ms, text)
        self._out.send(f"{TRANSCRIPTION}.completed", **where, transcript=text, usage=billed)
