"""A new provider session is given the conversation before it is given the call.

While it is prepared its turn detection is held off and nothing it says reaches the client. It is ready when it has
confirmed every item and the session's own turn detection; until then the call stays where it is. One that races is
then asked for the answer that is owed, and takes the call over with the first sound of it.
"""

from __future__ import annotations

from base64 import b64encode
from enum import Enum

from orchestrator.core.actions import OpenUpstream, ToUpstream
from orchestrator.core.context import CallContext
from orchestrator.core.conversation import Item, text_of
from orchestrator.core.gate import ENOUGH_MS, TALK_MS, first_needs, response_charge
from orchestrator.core.pace import Step
from orchestrator.core.provider import TERMINAL_CODES, expiry
from orchestrator.protocol.wire import Event


class Purpose(Enum):
    PROMOTE = "promote"
    """A call in Tier B or C goes back up, between turns."""
    RENEW = "renew"
    """A session near its limit is replaced, between turns."""
    RACE = "race"
    """An answer is owed: whoever has audio first speaks."""


class Preparation:
    """One attempt. `due`: when it will have taken too long. `rung`: where the session is opened."""

    def __init__(self, ctx: CallContext, purpose: Purpose, attempt: int, rung: str, now: float) -> None:
        self.ctx = ctx
        self.purpose = purpose
        self.attempt = attempt
        self.rung = rung
        self.expires_at = 0.0
        self.answer: list[tuple[Event, bytes]] = []
        """What a racing session has said of the answer: for the client, if it wins."""
        self._opened_at = now
        self._items: set[str] = set()
        """Replayed and not yet confirmed."""
        self._updates = 0
        """``session.update`` events not yet confirmed."""
        self._started = False
        self._asked = False
        self.gated = False
        """It was told to start no response on its own: not enough is set aside for that."""
        self.forms: list[Event] = []
        """The items it was given."""
        ctx.purse.want(2 * self._needs(), "preparing")
        deadlines, pace = ctx.policy.deadlines, ctx.paces.of(rung)
        self.due = now + 2 * pace.deadline(Step.SESSION, deadlines)
        if purpose is Purpose.RACE:
            self.due += pace.deadline(Step.FIRST_AUDIO, deadlines)
        ctx.do(OpenUpstream(attempt, rung))

    @property
    def replayed(self) -> bool:
        """The session knows the conversation and listens as the client wants it to."""
        return self._started and not self._items and not self._updates

    @property
    def answers(self) -> bool:
        """A racing session has the answer's first sound, or all of an answer that has none."""
        return bool(self.answer) and self.answer[-1][0]["type"] in (
            "response.output_audio.delta",
            "response.done",
        )

    def provider_event(self, event: Event, frame: bytes, now: float) -> str:
        """Note one event of the new session; a reason to give the attempt up, or nothing."""
        kind = event["type"]
        if kind == "error":
            code = str(event["error"].get("code") or event["error"].get("type"))
            return code if code in TERMINAL_CODES else f"replay refused: {code}"
        if kind == "session.created" and not self._started:
            self.ctx.paces.of(self.rung).note(Step.SESSION, now - self._opened_at)
            self.expires_at = expiry(self.ctx, event["session"], now)
            self._replay()
        elif kind == "session.updated":
            self._updates -= 1
        elif kind in ("conversation.item.added", "conversation.item.created") and not self._asked:
            self._items.discard(event["item"].get("id", ""))
        elif self._asked and kind.startswith(("response.", "conversation.item.")):
            return self._note_answer(event, frame)
        return ""

    def _note_answer(self, event: Event, frame: bytes) -> str:
        item_id = event.get("item_id") or (event.get("item") or {}).get("id")
        if event["type"].startswith("conversation.item.") and item_id in self.ctx.conversation:
            return ""  # still about the replay: the client has known that item for long
        self.answer.append((event, frame))
        response = event.get("response") or {}
        if event["type"] == "response.done" and response.get("status") != "completed":
            return f"the answer was {response.get('status')}"
        if event["type"] == "response.done" and not response.get("output"):
            return "the answer was empty"
        return ""

    def _needs(self, talk_ms: float = TALK_MS) -> int:
        return first_needs(self.ctx, self.rung, self._forms(), talk_ms)

    @property
    def key(self) -> str:
        """Under which the money for a race is set aside."""
        return f"race {self.attempt}"

    def ask(self) -> bool:
        """Have the owed answer made; what is said of it is kept. False where it could not be paid for."""
        if not self.ctx.purse.start(self.key, self._needs()):
            return False
        self._asked = True
        self._tell({"type": "response.create"})
        return True

    @property
    def asked(self) -> bool:
        return self._asked

    def drop(self) -> dict[str, int]:
        """It is given up; what may still be billed."""
        self.ctx.purse.want(0, "preparing")
        begun = next((e["response"]["id"] for e, _ in self.answer if e["type"] == "response.created"), None)
        if begun is not None:
            self.ctx.purse.rename(self.key, begun)
        key = begun or self.key
        if self.answer and self.answer[-1][0]["type"] == "response.done":
            charge = response_charge(self.ctx, self.rung, key, self.answer[-1][0]["response"].get("usage"))
            self.ctx.charge(charge, self.rung, key=key, tier="A", response_id=key)
            self.ctx.purse.end(key)
        if self.ctx.purse.worst(key):
            return {key: 0}  # whoever waits for the bill cancels it
        if self._asked:
            self._tell({"type": "response.cancel"})
        return {}

    def _replay(self) -> None:
        ctx = self.ctx
        self._started = True
        audio = ctx.session.fields["audio"]
        everything = {
            k: v for k, v in ctx.session.fields.items() if v is not None and k not in ("object", "model")
        }
        held = {**everything, "audio": {**audio, "input": {**audio["input"], "turn_detection": None}}}
        self._update(held)
        self.forms = self._forms()
        if ctx.stepper.concise:
            self.forms.append(ctx.concise_item())
        for wire in self.forms:
            self._items.add(wire["id"])
            self._tell({"type": "conversation.item.create", "item": wire})
        self.gated = not ctx.purse.has(2 * self._needs(ENOUGH_MS))
        self._update({"audio": {"input": {"turn_detection": ctx.session.turn_detection}}})

    def _forms(self) -> list[Event]:
        """The items in order; a function call whose output never came is left out."""
        talk = self.ctx.conversation
        pending = talk.pending_calls()
        forms = (replay_form(item) for item in talk if item.id not in pending)
        return [wire for wire in forms if wire is not None]

    def _update(self, changes: Event) -> None:
        self._updates += 1
        session = self.ctx.for_provider(changes, gated=self.gated)
        self._tell({"type": "session.update", "session": session})

    def _tell(self, event: Event) -> None:
        self.ctx.do(ToUpstream(event, self.attempt))

    def mark_replayed(self) -> None:
        """The provider knows these items from now on, as text."""
        for wire in self._forms():
            item = self.ctx.conversation.get(wire["id"])
            if item is not None:
                item.upstream = item.replayed = True


def replay_form(item: Item) -> Event | None:
    """An item as a new provider session is told of it: words as heard, under its known id; None to leave it out.

    A caller's turn that nobody has written down yet is told as the audio that it is.
    """
    if item.bridge:
        return None
    base: Event = {"id": item.id, "type": item.kind}
    if item.kind == "function_call":
        if item.wire.get("status") == "incomplete":
            return None
        return {**base, **{k: item.wire[k] for k in ("name", "call_id", "arguments")}}
    if item.kind == "function_call_output":
        return {**base, "call_id": item.wire["call_id"], "output": item.wire.get("output", "")}
    if item.kind != "message":
        return None
    assistant = item.role == "assistant"
    words = item.heard_text() if assistant and item.transcript is not None else item.transcript
    words = text_of(item.wire) if words is None else words
    if words:
        part = {"type": "output_text" if assistant else "input_text", "text": words}
    elif item.needs_transcript and item.audio:
        part = {"type": "input_audio", "audio": b64encode(item.audio).decode()}
    else:
        return None
    return {**base, "role": item.role, "content": [part]}
