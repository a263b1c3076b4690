"""One realtime session: client events in, server events out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

import orjson
from openai.types.realtime import (
    ConversationItemCreateEvent,
    ConversationItemDeleteEvent,
    ConversationItemRetrieveEvent,
    ConversationItemTruncateEvent,
    InputAudioBufferClearEvent,
    InputAudioBufferCommitEvent,
    ResponseCancelEvent,
)
from pydantic import BaseModel

from orchestrator.simulate import usage
from orchestrator.simulate.answering import Response
from orchestrator.simulate.brain import Brain
from orchestrator.simulate.caller import Caller, Recogniser
from orchestrator.simulate.conversation import Conversation, Item, client_item, response_input
from orchestrator.simulate.ears import Ears
from orchestrator.simulate.faults import FaultBoard, FaultId, Moment
from orchestrator.simulate.journal import Journal
from orchestrator.simulate.outbox import Outbox, Timers, new_id
from orchestrator.simulate.session_config import (
    Invalid,
    check_shape,
    default_session,
    response_settings,
    updated_session,
)
from orchestrator.simulate.sockets import Socket
from orchestrator.simulate.striking import Striker
from orchestrator.simulate.truncation import dropped_of
from orchestrator.simulate.voices import Voice

TOKENS_PER_MINUTE = 800_000
KEPT_AUDIO_ITEMS = 8
"""`conversation.item.retrieve` gives audio for so many of the latest items."""


@dataclass(frozen=True, slots=True)
class Options:
    """How every session of a server behaves; `session_limit` in seconds."""

    ears: Ears
    voice: Voice
    brain: Brain
    first_audio_ms: int = 300
    """From the end of the caller's turn to the first audio of the answer, at least."""
    transcript_ms: int = 200
    """From the end of the caller's turn to its transcript, at least."""
    pace: float = 4.0
    """How many times faster than it plays audio is sent."""
    session_limit: float = 3600.0
    api_key: str | None = field(default=None, repr=False)
    """The only bearer taken; None takes any."""
    models: tuple[str, ...] = ()
    """The models that exist; every one does where this is empty."""
    prepare: tuple[str, ...] = ()
    """Sentences that are ready to be spoken before the server is."""


class Replay(Enum):
    """Whether a fresh session is being given a conversation."""

    POSSIBLE = "possible"
    UNDER_WAY = "under way"
    OVER = "over"


class Session:
    """A session over `socket`; `begin` sends its first event. `begun`: what a client secret has it begin with."""

    def __init__(
        self,
        socket: Socket,
        options: Options,
        board: FaultBoard,
        model: str,
        intent: str | None,
        begun: dict[str, Any] | None = None,
    ) -> None:
        self.options = options
        self.id = new_id("sess")
        self.conversation_id = new_id("conv")
        self.journal = Journal()
        self.out = Outbox(socket, self.journal)
        self.striker = Striker(board, model, socket, self.out, self._expire)
        self.conversation = Conversation()
        self.responses: list[Response] = []
        self.recogniser = Recogniser(options.ears, self.out, self._spawn)
        self._caller = Caller(self, options.ears, self.out, self.striker, self.conversation)
        expires_at = int(time.time() + options.session_limit)
        transcription = intent == "transcription" or (begun or {}).get("type") == "transcription"
        self._config = default_session(self.id, model, expires_at, transcription=transcription)
        if begun is not None:
            self._config = updated_session(self._config, begun, voice_locked=False)
        self._caller.configure(self._config["audio"]["input"])
        self._socket = socket
        self._active: Response | None = None
        self._timers = Timers()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._calls: set[str] = set()
        self._pending_calls: set[str] = set()
        self._billed: list[usage.Part] = []
        self._dropped: set[str] = set()
        """Items that the model is not given any more (`truncation`); they stay in the conversation."""
        self._spoke = False
        self._replay = Replay.POSSIBLE
        self._result_owed = False
        """The output of a tool is here, and the answer to it is not."""
        self._closed: dict[str, Any] | None = None

    def begin(self) -> None:
        self.striker.begin()
        self._timers.after("limit", self.options.session_limit, self._expire)
        self.out.send("session.created", session=self._config)
        self.moment_changed()

    def end(self, code: int, reason: str, by: str) -> None:
        """The socket is gone."""
        self._closed = {"code": code, "reason": reason, "by": by}
        self.striker.end()
        self._caller.end()
        self._timers.cancel_all()
        for response in self.responses:
            response.stop()
        for task in self._tasks:
            task.cancel()
        for item in self.conversation:
            item.audio = []

    def _expire(self) -> None:
        minutes = round(self.options.session_limit / 60)
        message = f"Your session hit the maximum duration of {minutes} minutes."
        self.out.error("session_expired", message)
        self._socket.close(1001, "invalid_request_error.session_expired")

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- client events ---------------------------------------------------------------------------

    def receive(self, text: bytes) -> None:
        """One client event."""
        try:
            event = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            self.out.error("invalid_json", f"The message is not JSON: {error}")
            return
        event_id = event.get("event_id") if isinstance(event, dict) else None
        try:
            self._dispatch(event)
        except Invalid as refused:
            self.out.error(refused.code, refused.message, refused.param, event_id)

    def _dispatch(self, event: Any) -> None:
        kind = event.get("type") if isinstance(event, dict) else None
        if kind is None:
            raise Invalid("invalid_event", "The 'type' field is missing.", "type")
        if kind in ("input_audio_buffer.append", "response.create") and self._replay is not Replay.OVER:
            self._replay = Replay.OVER
            self.moment_changed()
        if kind == "input_audio_buffer.append":
            self.journal.append(self._caller.append(event))
            return
        self.journal.event(event)
        if kind not in self._HANDLERS:
            known = ", ".join(f"'{name}'" for name in ("input_audio_buffer.append", *self._HANDLERS))
            raise Invalid("invalid_value", f"Invalid value: '{kind}'. Supported values are: {known}.", "type")
        shape, handle = self._HANDLERS[kind]
        if shape is not None:
            check_shape(shape, event, "")
        handle(self, event)

    def _update(self, event: dict[str, Any]) -> None:
        change = event.get("session")
        if not isinstance(change, dict):
            raise Invalid("missing_required_parameter", "Missing required parameter: 'session'.", "session")
        self._config = updated_session(self._config, change, voice_locked=self._spoke)
        self._caller.configure(self._config["audio"]["input"])
        self.out.send("session.updated", session=self._config)
        if "turn_detection" in ((change.get("audio") or {}).get("input") or {}):
            self._turn_detection_set(self._config["audio"]["input"]["turn_detection"] is not None)

    def _turn_detection_set(self, on: bool) -> None:
        """Turn detection is held off while a conversation is replayed, and restored after it."""
        if not on and self._replay is Replay.POSSIBLE:
            self._replay = Replay.UNDER_WAY
        elif on and self._replay is Replay.UNDER_WAY:
            self._replay = Replay.OVER
        self.moment_changed()

    def _commit(self, event: dict[str, Any]) -> None:
        self._caller.commit()

    def _clear(self, event: dict[str, Any]) -> None:
        self._caller.clear()

    def _create_item(self, event: dict[str, Any]) -> None:
        item = client_item(event["item"], new_id("item"), self._calls, self._caller.format.bytes_per_ms)
        previous = self.conversation.insert(item, event.get("previous_item_id"))
        self._know(item)
        self.item_event("added", item, previous)
        self.item_event("done", item, previous)
        if self._replay is Replay.POSSIBLE:
            self._replay = Replay.UNDER_WAY
        if item.role == "user" and item.audio:
            self.recogniser.start(item, self._caller.format)
        self.moment_changed()

    def _retrieve_item(self, event: dict[str, Any]) -> None:
        self.out.send("conversation.item.retrieved", item=self.conversation.retrieve(event["item_id"]))

    def _delete_item(self, event: dict[str, Any]) -> None:
        self.conversation.delete(event["item_id"])
        self.out.send("conversation.item.deleted", item_id=event["item_id"])

    def _truncate_item(self, event: dict[str, Any]) -> None:
        where = {name: event[name] for name in ("item_id", "content_index", "audio_end_ms")}
        self.conversation.truncate(**where)
        self.out.send("conversation.item.truncated", **where)

    def _create_response(self, event: dict[str, Any]) -> None:
        if self._config["type"] == "transcription":
            raise Invalid("invalid_event", "A transcription session gives no responses.", "type")
        self._respond(event.get("response"))

    def _cancel_response(self, event: dict[str, Any]) -> None:
        wanted = event.get("response_id")
        running = (response for response in self.responses if not response.done)
        chosen = (
            next((response for response in running if response.id == wanted), None)
            if wanted
            else self._active
        )
        if chosen is None:
            raise Invalid("response_cancel_not_active", "Cancellation failed: no active response found.")
        chosen.cancel("client_cancelled")

    # -- turns and items -------------------------------------------------------------------------

    def interrupt(self) -> None:
        """The caller barged in."""
        if self._active is not None:
            self._active.cancel("turn_detected")

    def turn_over(self, item: Item, *, answer: bool) -> None:
        """A turn was committed; `answer` where the server is to answer it by itself."""
        if answer and self.striker.take(Moment.ANSWER_OWED, FaultId.SILENT_TURN):
            self.conversation.append(item)
            self._result_owed = False
        else:
            self.add_item(item)
            self.item_event("done", item, self.conversation.before(item))
            self.recogniser.start(item, self._caller.format)
            settings = self._config["audio"]["input"]["transcription"]
            if settings is not None:
                self.recogniser.tell(item, settings, self.options.transcript_ms / 1000)
            if answer:
                self._respond_to_turn()
        self.moment_changed()

    def add_item(self, item: Item) -> None:
        """Put an item of ours at the end of the conversation."""
        previous = self.conversation.append(item)
        self._know(item)
        self.item_event("added", item, previous)

    def item_event(self, which: str, item: Item, previous: str | None) -> None:
        self.out.send(f"conversation.item.{which}", previous_item_id=previous, item=item.wire)

    def _know(self, item: Item) -> None:
        call_id = str(item.wire.get("call_id"))
        if item.wire["type"] == "function_call":
            self._calls.add(call_id)
        elif item.wire["type"] == "function_call_output":
            self._pending_calls.discard(call_id)
            self._result_owed = True
        else:
            self._result_owed = False
        for old in [known for known in self.conversation if known.audio][:-KEPT_AUDIO_ITEMS]:
            old.audio = []

    # -- responses -------------------------------------------------------------------------------

    def _respond_to_turn(self) -> None:
        try:
            self._respond(None)
        except Invalid as refused:
            self.out.error(refused.code, refused.message)

    def _respond(self, change: dict[str, Any] | None) -> None:
        settings = response_settings(self._config, change)
        if not settings["out_of_band"] and self._active is not None:
            message = f"Conversation already has an active response in progress: {self._active.id}."
            raise Invalid("conversation_already_has_active_response", message)
        if settings["input"] is not None:
            bytes_per_ms = self._caller.format.bytes_per_ms
            items = response_input(settings["input"], self.conversation, self._calls, bytes_per_ms)
        else:
            items = self._remembered(settings)
        self._caller.keep_waiting()
        response = Response(self, settings, items)
        self.responses.append(response)
        if not settings["out_of_band"]:
            self._active = response
        response.start()
        self.moment_changed()

    def _remembered(self, settings: dict[str, Any]) -> list[Item]:
        """The items of the conversation that a response is given; drops the oldest where they are too many."""
        items = [item for item in self.conversation if item.id not in self._dropped]
        prompt = usage.prompt(settings["instructions"] or "", settings["tools"] or [], items)
        count = dropped_of(prompt, self._config["truncation"], self._config["model"])
        self._dropped.update(item.id for item in items[:count])
        return items[count:]

    def response_over(self, response: Response) -> None:
        """Called by a response when it has sent its last event."""
        if self._active is response:
            self._active = None
        self._spoke = self._spoke or response.sent_ms > 0
        if not response.out_of_band:
            self._pending_calls.update(response.open_calls)
            self._result_owed = self._result_owed and response.gave_nothing
        if response.status not in ("silent", "failed"):
            self._tell_rate_limits()
        self._caller.wait_idle(response.sent_ms * (1 - 1 / max(1.0, self.options.pace)))
        self.moment_changed()

    def _tell_rate_limits(self) -> None:
        left = max(0, TOKENS_PER_MINUTE - sum(part.text + part.audio for part in self._billed))
        tokens = {"name": "tokens", "limit": TOKENS_PER_MINUTE, "remaining": left, "reset_seconds": 0.01}
        self.out.send("rate_limits.updated", rate_limits=[tokens])

    def billed_before(self, response: Response, prompt: list[usage.Part]) -> list[usage.Part]:
        """The input of the latest response in the conversation; this one's is remembered for the next."""
        before = self._billed
        if not response.out_of_band:
            self._billed = prompt
        return before

    # -- state -----------------------------------------------------------------------------------

    def moment_changed(self) -> None:
        """Tell the striker where the call stands."""
        answering = self._active is not None and not self._caller.speaking
        self.striker.at(self._moment(), answering=answering)

    def _moment(self) -> Moment:
        if self._caller.speaking:
            return Moment.CALLER_SPEAKING
        if self._active is not None:
            return Moment.MID_ANSWER if self._active.sent_ms else self.owed
        if self._replay is Replay.UNDER_WAY:
            return Moment.REPLAYING
        if self._pending_calls:
            return Moment.TOOL_PENDING
        return Moment.TOOL_RESULT_SENT if self._result_owed else Moment.IDLE

    @property
    def owed(self) -> Moment:
        """The moment of an answer that is owed and has no audio yet."""
        return Moment.TOOL_RESULT_SENT if self._result_owed else Moment.ANSWER_OWED

    def describe(self) -> dict[str, Any]:
        """This session for `GET /control/state`."""
        return {
            "id": self.id,
            "closed": self._closed,
            "moment": self.striker.moment.value,
            "config": self._config,
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
        "input_audio_buffer.commit": (InputAudioBufferCommitEvent, _commit),
        "input_audio_buffer.clear": (InputAudioBufferClearEvent, _clear),
        "conversation.item.create": (ConversationItemCreateEvent, _create_item),
        "conversation.item.retrieve": (ConversationItemRetrieveEvent, _retrieve_item),
        "conversation.item.truncate": (ConversationItemTruncateEvent, _truncate_item),
        "conversation.item.delete": (ConversationItemDeleteEvent, _delete_item),
        "response.create": (None, _create_response),
        "response.cancel": (ResponseCancelEvent, _cancel_response),
    }
