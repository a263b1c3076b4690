"""One realtime session: client events in, server events out, faults when they are due."""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import orjson
from openai.types.realtime import (
    ConversationItemCreateEvent,
    ConversationItemDeleteEvent,
    ConversationItemRetrieveEvent,
    ConversationItemTruncateEvent,
    InputAudioBufferAppendEvent,
    InputAudioBufferClearEvent,
    InputAudioBufferCommitEvent,
    ResponseCancelEvent,
)
from pydantic import BaseModel

from orchestrator.protocol.audio import AudioFormat
from orchestrator.simulate import usage
from orchestrator.simulate.answering import Response, context_items
from orchestrator.simulate.brain import Brain
from orchestrator.simulate.conversation import Conversation, Item, client_item, decode_audio
from orchestrator.simulate.ears import Ears
from orchestrator.simulate.faults import Fault, FaultBoard, FaultId, Moment
from orchestrator.simulate.journal import Journal
from orchestrator.simulate.session_config import (
    Invalid,
    check_shape,
    default_session,
    response_settings,
    updated_session,
)
from orchestrator.simulate.sockets import Socket
from orchestrator.simulate.turns import Detection, Edge, InputBuffer, TurnDetector
from orchestrator.simulate.voices import Voice

MIN_COMMIT_MS = 100
TOKENS_PER_MINUTE = 800_000
KEPT_AUDIO_ITEMS = 8
"""`conversation.item.retrieve` gives audio for so many of the latest items."""


@dataclass(frozen=True, slots=True)
class Options:
    """How every session of a server behaves; times in milliseconds, `session_limit` in seconds."""

    ears: Ears
    voice: Voice
    brain: Brain
    first_audio_ms: int = 300
    pace: float = 4.0
    transcript_ms: int = 200
    session_limit: float = 3600.0
    api_key: str | None = None
    models: tuple[str, ...] = ()


class Session:
    """A session over `socket`; `begin` sends its first event."""

    def __init__(
        self, socket: Socket, options: Options, board: FaultBoard, model: str, intent: str | None
    ) -> None:
        self.options = options
        self.model = model
        self.id = self.new_id("sess")
        self.conversation_id = self.new_id("conv")
        self.journal = Journal()
        self.responses: list[Response] = []
        self.conversation = Conversation()
        self.closed: dict[str, Any] | None = None
        expires_at = int(time.time() + options.session_limit)
        self.config = default_session(self.id, model, expires_at, transcription=intent == "transcription")
        self._socket = socket
        self._board = board
        self._active: Response | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._words: dict[str, asyncio.Task[str]] = {}
        self._calls: set[str] = set()
        self._pending_calls: set[str] = set()
        self._billed: list[usage.Part] = []
        self._spoke = False
        self._turns = 0
        self._silenced = False
        self._twice = False
        self._swallow = False
        self._speech_item = ""
        self._speech_start_ms = 0.0
        self._format = AudioFormat.PCM
        self._buffer = InputBuffer(self._format.bytes_per_ms)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._detection: Detection | None = None
        self._detector: TurnDetector | None = None
        self._moment = Moment.CONNECTING
        self._moment_since = 0.0
        self._heard_ms = 0.0
        self._ear = options.ears.ear(self._format)
        self._listen()

    # -- life ------------------------------------------------------------------------------------

    def begin(self) -> None:
        self._board.listen(self._arm)
        self._after("limit", self.options.session_limit, self._expire)
        self.send("session.created", session=self.config)
        self.moment_changed()

    def end(self, code: int, reason: str, by: str) -> None:
        """The socket is gone."""
        self.closed = {"code": code, "reason": reason, "by": by}
        self._board.unlisten(self._arm)
        for timer in self._timers.values():
            timer.cancel()
        for response in self.responses:
            response.stop()
        for task in self._tasks:
            task.cancel()

    def _expire(self) -> None:
        self.error("session_expired", "Your session hit the maximum duration of 60 minutes.")
        self._socket.close(1001, "invalid_request_error.session_expired")

    # -- out -------------------------------------------------------------------------------------

    @staticmethod
    def new_id(prefix: str) -> str:
        return f"{prefix}_{secrets.token_hex(10)}"

    def send(self, kind: str, **fields: Any) -> None:
        """Send one server event."""
        if self._silenced or not self._socket.open:
            return
        text = orjson.dumps({"type": kind, "event_id": self.new_id("event"), **fields})
        for _ in range(2 if self._twice else 1):
            self._socket.send(text)
            self.journal.sending(kind)
        self._twice = False

    def send_audio(self, where: dict[str, Any], audio: bytes) -> None:
        """Send a piece of an answer."""
        self.journal.audio_out_bytes += len(audio)
        self.send("response.output_audio.delta", **where, delta=base64.b64encode(audio).decode())

    def error(
        self,
        code: str,
        message: str,
        param: str | None = None,
        event_id: str | None = None,
        *,
        kind: str = "invalid_request_error",
    ) -> None:
        error = {"type": kind, "code": code, "message": message, "param": param}
        self.send("error", error={**error, "event_id": event_id})

    def item_event(self, which: str, item: Item, previous: str | None = None) -> None:
        if which == "done":
            previous = self.conversation.before(item)
        self.send(f"conversation.item.{which}", previous_item_id=previous, item=item.wire)

    # -- in --------------------------------------------------------------------------------------

    def receive(self, text: bytes) -> None:
        """One client event."""
        try:
            event = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            self.error("invalid_json", f"The message is not JSON: {error}")
            return
        event_id = event.get("event_id") if isinstance(event, dict) else None
        try:
            self._dispatch(event)
        except Invalid as refused:
            self.error(refused.code, refused.message, refused.param, event_id)

    def _dispatch(self, event: Any) -> None:
        if not isinstance(event, dict) or "type" not in event:
            raise Invalid("invalid_event", "The 'type' field is missing.", "type")
        kind = event["type"]
        handler = self._HANDLERS.get(kind)
        if kind != "input_audio_buffer.append":
            self.journal.event(event)
        if handler is None:
            known = ", ".join(f"'{name}'" for name in self._HANDLERS)
            raise Invalid("invalid_value", f"Invalid value: '{kind}'. Supported values are: {known}.", "type")
        shape, handle = handler
        if shape is not None:
            check_shape(shape, event, "event")
        handle(self, event)

    def _update(self, event: dict[str, Any]) -> None:
        change = event.get("session")
        if not isinstance(change, dict):
            raise Invalid("missing_required_parameter", "Missing required parameter: 'session'.", "session")
        self.config = updated_session(self.config, change, voice_locked=self._spoke)
        self._listen()
        self.send("session.updated", session=self.config)

    def _listen(self) -> None:
        """Adopt the session's input format and turn detection; a turn in progress goes on if neither changed."""
        settings = self.config["audio"]["input"]
        fmt, detection = AudioFormat.parse(settings["format"]), Detection.parse(settings["turn_detection"])
        if fmt is not self._format:
            self._buffer.restart(fmt.bytes_per_ms)
        elif detection == self._detection:
            return
        self._format, self._detection = fmt, detection
        self._ear = self.options.ears.ear(fmt)
        self._heard_ms = self._buffer.end_ms
        self._detector = TurnDetector(detection) if detection is not None else None

    # -- the caller's audio ----------------------------------------------------------------------

    def _append(self, event: dict[str, Any]) -> None:
        audio = event.get("audio")
        if not isinstance(audio, str):
            check_shape(InputAudioBufferAppendEvent, event, "event")
        data = decode_audio(audio or "", "audio")
        self.journal.append(len(data))
        self._buffer.append(data)
        detector = self._detector
        if detector is None:
            self.moment_changed()
            return
        window_ms = self._ear.window_ms
        for probability in self._ear.feed(data):
            self._heard_ms += window_ms
            edge = detector.feed(probability, window_ms)
            if edge is Edge.STARTED:
                self._speech_started(detector)
            elif edge is Edge.STOPPED:
                self._speech_stopped(detector)
        if not detector.speaking:
            self._buffer.drop_before(self._heard_ms - detector.run_ms - detector.detection.prefix_ms)

    def _speech_started(self, detector: TurnDetector) -> None:
        fault = self.peek(Moment.CALLER_SPEAKING)
        if fault is not None and fault.id is FaultId.SILENT_INPUT and self.claim(fault):
            self._swallow = True
            return
        start = self._heard_ms - detector.run_ms - detector.detection.prefix_ms
        self._speech_start_ms = max(self._buffer.start_ms, start)
        self._speech_item = self.new_id("item")
        self.send(
            "input_audio_buffer.speech_started",
            audio_start_ms=int(self._speech_start_ms),
            item_id=self._speech_item,
        )
        detector.run_ms = 0.0
        if detector.detection.interrupt_response and self._active is not None:
            self._active.cancel("turn_detected")
        self.moment_changed()

    def _speech_stopped(self, detector: TurnDetector) -> None:
        detector.run_ms = 0.0
        if self._swallow:
            self._swallow = False
            self._buffer.drop_before(self._heard_ms)
            return
        self.send(
            "input_audio_buffer.speech_stopped", audio_end_ms=int(self._heard_ms), item_id=self._speech_item
        )
        audio = self._buffer.take(self._speech_start_ms, self._heard_ms)
        self._commit_turn(self._speech_item, audio, answer=detector.detection.create_response)

    def _commit(self, event: dict[str, Any]) -> None:
        length = self._buffer.end_ms - self._buffer.start_ms
        if length < MIN_COMMIT_MS:
            message = (
                f"Error committing input audio buffer: buffer too small. Expected at least {MIN_COMMIT_MS}ms "
                f"of audio, but buffer only has {length:.2f}ms of audio."
            )
            raise Invalid("input_audio_buffer_commit_empty", message)
        audio = self._buffer.take(self._buffer.start_ms, self._buffer.end_ms)
        self._commit_turn(self.new_id("item"), audio, answer=False)

    def _commit_turn(self, item_id: str, audio: bytes, *, answer: bool) -> None:
        self.send(
            "input_audio_buffer.committed", item_id=item_id, previous_item_id=self.conversation.last_id()
        )
        content = [{"type": "input_audio", "transcript": None}]
        wire = {"id": item_id, "object": "realtime.item", "type": "message", "status": "completed"}
        item = Item(
            {**wire, "role": "user", "content": content}, audio_ms=len(audio) / self._format.bytes_per_ms
        )
        item.audio, item.turn = [audio], self._turns
        self._turns += 1
        owed = self.peek(Moment.ANSWER_OWED) if answer else None
        if owed is not None and owed.id is FaultId.SILENT_TURN and self.claim(owed):
            self.conversation.append(item)
            self.moment_changed()
            return
        self.add_item(item)
        self.item_event("done", item)
        self._transcribe(item)
        if answer:
            self._respond(None)
        self.moment_changed()

    def _clear(self, event: dict[str, Any]) -> None:
        self._buffer.clear()
        self._heard_ms = self._buffer.end_ms
        if self._detection is not None:
            self._detector = TurnDetector(self._detection)
        self.send("input_audio_buffer.cleared")
        self.moment_changed()

    # -- words -----------------------------------------------------------------------------------

    def _transcribe(self, item: Item) -> None:
        """Start on the words of a spoken turn, and tell the client when the session asks for that."""
        settings = self.config["audio"]["input"]["transcription"]
        fmt, audio, turn = self._format, b"".join(item.audio), item.turn or 0

        async def words() -> str:
            return await self.options.ears.transcribe(audio, fmt, turn)

        async def tell() -> None:
            await asyncio.sleep(self.options.transcript_ms / 1000)
            self._tell_transcript(item, await self._words[item.id], settings)

        self._words[item.id] = self._spawn(words())
        if settings is not None:
            self._spawn(tell())

    def _tell_transcript(self, item: Item, text: str, settings: dict[str, Any]) -> None:
        kind = "conversation.item.input_audio_transcription"
        where = {"item_id": item.id, "content_index": 0}
        for word in text.split(" ") if text else []:
            self.send(f"{kind}.delta", **where, delta=word if text.startswith(word) else " " + word)
        item.wire["content"][0]["transcript"] = text
        audio, words = int(item.audio_ms / usage.INPUT_AUDIO_MS_PER_TOKEN), usage.text_tokens(text)
        billed: dict[str, Any] = {
            "type": "tokens",
            "total_tokens": audio + words,
            "input_tokens": audio,
            "input_token_details": {"text_tokens": 0, "audio_tokens": audio},
            "output_tokens": words,
        }
        if settings.get("model") == "whisper-1":
            billed = {"type": "duration", "seconds": round(item.audio_ms / 1000, 2)}
        self.send(f"{kind}.completed", **where, transcript=text, usage=billed)

    async def words_of(self, item: Item) -> str:
        """What a user item says, heard or written."""
        task = self._words.get(item.id)
        if task is not None:
            return await asyncio.shield(task)
        if item.audio:
            return await self.options.ears.transcribe(b"".join(item.audio), self._format, self._turns)
        return item.text

    # -- items -----------------------------------------------------------------------------------

    def add_item(self, item: Item) -> None:
        """Put an item of ours at the end of the conversation."""
        previous = self.conversation.append(item)
        self._forget_old_audio()
        if item.wire["type"] == "function_call":
            self._calls.add(item.wire["call_id"])
        self.item_event("added", item, previous)

    def _forget_old_audio(self) -> None:
        for item in [item for item in self.conversation if item.audio][:-KEPT_AUDIO_ITEMS]:
            item.audio = []
            self._words.pop(item.id, None)

    def _create_item(self, event: dict[str, Any]) -> None:
        item = client_item(event["item"], self.new_id("item"), self._calls, self._format.bytes_per_ms)
        previous = self.conversation.insert(item, event.get("previous_item_id"))
        call_id = str(item.wire.get("call_id"))
        if item.wire["type"] == "function_call":
            self._calls.add(call_id)
        self._pending_calls.discard(call_id)
        self.item_event("added", item, previous)
        self.item_event("done", item)
        self.moment_changed()

    def _retrieve_item(self, event: dict[str, Any]) -> None:
        self.send("conversation.item.retrieved", item=self.conversation.retrieve(event["item_id"]))

    def _delete_item(self, event: dict[str, Any]) -> None:
        self.conversation.delete(event["item_id"])
        self.send("conversation.item.deleted", item_id=event["item_id"])

    def _truncate_item(self, event: dict[str, Any]) -> None:
        where = {name: event[name] for name in ("item_id", "content_index", "audio_end_ms")}
        self.conversation.truncate(**where)
        self.send("conversation.item.truncated", **where)

    # -- responses -------------------------------------------------------------------------------

    def _create_response(self, event: dict[str, Any]) -> None:
        if self.config["type"] == "transcription":
            raise Invalid("invalid_event", "A transcription session gives no responses.", "type")
        self._respond(event.get("response"), event.get("event_id"))

    def _respond(self, change: dict[str, Any] | None, event_id: str | None = None) -> None:
        settings = response_settings(self.config, change)
        if not settings["out_of_band"] and self._active is not None:
            message = f"Conversation already has an active response in progress: {self._active.id}."
            self.error("conversation_already_has_active_response", message, None, event_id)
            return
        items = list(self.conversation)
        if settings["input"] is not None:
            items = context_items(settings["input"], iter(self.conversation))
        response = Response(self, settings, items)
        self.responses.append(response)
        if not settings["out_of_band"]:
            self._active = response
        response.start()
        self.moment_changed()

    def _cancel_response(self, event: dict[str, Any]) -> None:
        wanted = event.get("response_id")
        running = [response for response in self.responses if not response.done]
        chosen = (
            next((response for response in running if response.id == wanted), None)
            if wanted
            else self._active
        )
        if chosen is None:
            raise Invalid("response_cancel_not_active", "Cancellation failed: no active response found.")
        chosen.cancel("client_cancelled")

    def response_over(self, response: Response) -> None:
        """Called by a response when it has sent its last event."""
        if self._active is response:
            self._active = None
        self._spoke = self._spoke or response.sent_ms > 0
        if response.called_tool and not response.out_of_band:
            self._pending_calls.update(item["call_id"] for item in response.describe()["output"])
        if response.status not in ("silent", "failed"):
            left = TOKENS_PER_MINUTE - sum(part.text + part.audio for part in self._billed)
            limits = {
                "name": "tokens",
                "limit": TOKENS_PER_MINUTE,
                "remaining": max(0, left),
                "reset_seconds": 0.01,
            }
            self.send("rate_limits.updated", rate_limits=[limits])
        if self._detection is not None and self._detection.idle_ms is not None:
            unplayed = response.sent_ms * (1 - 1 / max(1.0, self.options.pace))
            self._after("idle_timeout", (unplayed + self._detection.idle_ms) / 1000, self._idle_timeout)
        self.moment_changed()

    def billed_before(self, response: Response, prompt: list[usage.Part]) -> list[usage.Part]:
        """The input of the response before this one; remembers this one's for the next."""
        before, self._billed = self._billed, prompt
        return before

    def _idle_timeout(self) -> None:
        detector = self._detector
        if detector is None or detector.speaking or self._active is not None:
            return
        item_id, start, end = self.new_id("item"), self._buffer.start_ms, self._buffer.end_ms
        self.send(
            "input_audio_buffer.timeout_triggered",
            item_id=item_id,
            audio_start_ms=int(start),
            audio_end_ms=int(end),
        )
        self._commit_turn(item_id, self._buffer.take(start, end), answer=True)

    # -- faults ----------------------------------------------------------------------------------

    def peek(self, moment: Moment) -> Fault | None:
        return None if self._silenced else self._board.peek(moment, self.model)

    def claim(self, fault: Fault) -> bool:
        return self._board.claim(fault)

    def moment_changed(self) -> None:
        """Note where the call stands; arms a fault that waits for that."""
        moment = self._where()
        if moment is not self._moment:
            self._moment, self._moment_since = moment, time.monotonic()
            if moment is not Moment.IDLE:
                self._cancel("idle_timeout")
            self._arm()

    def _where(self) -> Moment:
        detector = self._detector
        speaking = detector.speaking if detector is not None else self._buffer.end_ms > self._buffer.start_ms
        if speaking:
            return Moment.CALLER_SPEAKING
        if self._active is not None:
            return Moment.MID_ANSWER if self._active.sent_ms else Moment.ANSWER_OWED
        return Moment.TOOL_PENDING if self._pending_calls else Moment.IDLE

    def _arm(self) -> None:
        """Start the clock of a fault for the present moment. Answers look for theirs themselves."""
        self._cancel("fault")
        if self._moment in (Moment.ANSWER_OWED, Moment.MID_ANSWER):
            return
        fault = self.peek(self._moment)
        if fault is not None and fault.id is not FaultId.SILENT_INPUT:
            elapsed = time.monotonic() - self._moment_since
            self._after("fault", max(0.0, fault.after_ms / 1000 - elapsed), lambda: self._strike(fault))

    def _strike(self, fault: Fault) -> None:
        if self.claim(fault):
            self.execute(fault)

    def execute(self, fault: Fault) -> bool:
        """Do what a fault of the connection does; True when this session says nothing more."""
        if fault.id is FaultId.ABORT:
            self._socket.reset()
        elif fault.id is FaultId.CLOSE_1011:
            self._socket.close(1011, "internal error")
        elif fault.id is FaultId.CLOSE_1000:
            self._socket.close(1000)
        elif fault.id is FaultId.EXPIRED:
            self._expire()
        elif fault.id is FaultId.HALF_OPEN:
            self._socket.die()
        elif fault.id is FaultId.MUTE:
            self._silenced = True
        else:
            self._oddity(fault.id)
            return False
        return True

    def _oddity(self, fault: FaultId) -> None:
        """Send something that no client expects, and go on."""
        if fault is FaultId.DUPLICATE:
            self._twice = True
        elif fault is FaultId.UNKNOWN:
            self.send("response.hologram.delta", delta="?")
        elif fault is FaultId.GARBAGE:
            self._socket.send(b'{"type": "response.output_audio.delta", "delta": "AAAA')
        elif fault is FaultId.ORPHAN:
            where = {"response_id": self.new_id("resp"), "item_id": self.new_id("item")}
            self.send(
                "response.output_audio.delta", **where, output_index=0, content_index=0, delta="AAAA" * 1200
            )

    # -- small things ----------------------------------------------------------------------------

    def _after(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        self._cancel(name)
        self._timers[name] = asyncio.get_running_loop().call_later(seconds, call)

    def _cancel(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _spawn(self, work: Any) -> Any:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def describe(self) -> dict[str, Any]:
        """This session for `GET /control/state`."""
        return {
            "id": self.id,
            "model": self.model,
            "closed": self.closed,
            "moment": self._moment.value,
            "session": self.config,
            "received": self.journal.received,
            "sent": self.journal.sent,
            "audio_in_bytes": self.journal.audio_in_bytes,
            "audio_out_bytes": self.journal.audio_out_bytes,
            "items": [{**item.wire, "audio_ms": round(item.audio_ms)} for item in self.conversation],
            "responses": [response.describe() for response in self.responses],
        }

    _HANDLERS: ClassVar[
        dict[str, tuple[type[BaseModel] | None, Callable[[Session, dict[str, Any]], None]]]
    ] = {
        "session.update": (None, _update),
        "input_audio_buffer.append": (None, _append),
        "input_audio_buffer.commit": (InputAudioBufferCommitEvent, _commit),
        "input_audio_buffer.clear": (InputAudioBufferClearEvent, _clear),
        "conversation.item.create": (ConversationItemCreateEvent, _create_item),
        "conversation.item.retrieve": (ConversationItemRetrieveEvent, _retrieve_item),
        "conversation.item.truncate": (ConversationItemTruncateEvent, _truncate_item),
        "conversation.item.delete": (ConversationItemDeleteEvent, _delete_item),
        "response.create": (None, _create_response),
        "response.cancel": (ResponseCancelEvent, _cancel_response),
    }
