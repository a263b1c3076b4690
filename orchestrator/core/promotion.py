"""Moving a live call up to Tier A: a new provider session is given the conversation before it is given the call.

While it is prepared its turn detection is held off and nothing it says reaches the client. It takes over when it
has confirmed every item and the session's own turn detection; until then the call stays where it is.
"""

from __future__ import annotations

from orchestrator.core.actions import ToUpstream
from orchestrator.core.context import CallContext
from orchestrator.core.conversation import Item, text_of
from orchestrator.core.relay import TERMINAL_CODES
from orchestrator.protocol.session import upstream_update
from orchestrator.protocol.wire import Event


class Promotion:
    """One attempt. `due`: when it will have taken too long."""

    def __init__(self, ctx: CallContext, attempt: int, rung: str, due: float, from_tier: str) -> None:
        self.ctx = ctx
        self.attempt = attempt
        self.rung = rung
        self.due = due
        self.from_tier = from_tier
        self._items: set[str] = set()
        """Replayed and not yet confirmed."""
        self._updates = 0
        """``session.update`` events not yet confirmed."""
        self._started = False

    @property
    def complete(self) -> bool:
        return self._started and not self._items and not self._updates

    def provider_event(self, event: Event) -> str:
        """Note one event of the new session; a reason to give the attempt up, or nothing."""
        kind = event["type"]
        if kind == "session.created":
            self._replay()
        elif kind == "session.updated":
            self._updates -= 1
        elif kind in ("conversation.item.added", "conversation.item.created"):
            self._items.discard(event["item"].get("id", ""))
        elif kind == "error":
            code = str(event["error"].get("code") or event["error"].get("type"))
            return code if code in TERMINAL_CODES else f"replay refused: {code}"
        return ""

    def _replay(self) -> None:
        ctx = self.ctx
        self._started = True
        audio = ctx.session.fields["audio"]
        everything = {
            k: v for k, v in ctx.session.fields.items() if v is not None and k not in ("object", "model")
        }
        held = {**everything, "audio": {**audio, "input": {**audio["input"], "turn_detection": None}}}
        self._update(held)
        for wire in self._replayed():
            self._items.add(wire["id"])
            ctx.do(ToUpstream({"type": "conversation.item.create", "item": wire}))
        self._update({"audio": {"input": {"turn_detection": ctx.session.turn_detection}}})

    def _replayed(self) -> list[Event]:
        """The items in order; a function call whose output never came is left out."""
        talk = self.ctx.conversation
        pending = talk.pending_calls()
        forms = (replay_form(item) for item in talk if item.id not in pending)
        return [wire for wire in forms if wire is not None]

    def _update(self, changes: Event) -> None:
        ctx = self.ctx
        session = upstream_update(
            ctx.session,
            changes,
            transcription_model=ctx.policy.transcription_model,
            max_output_tokens=ctx.policy.max_output_tokens,
        )
        self._updates += 1
        ctx.do(ToUpstream({"type": "session.update", "session": session}))

    def mark_replayed(self) -> None:
        """The provider knows these items from now on, as text."""
        for wire in self._replayed():
            item = self.ctx.conversation.get(wire["id"])
            if item is not None:
                item.upstream = item.replayed = True


def replay_form(item: Item) -> Event | None:
    """An item as a new provider session is told of it: words as heard, under its known id; None to leave it out."""
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
    if not words:
        return None
    part = {"type": "output_text" if assistant else "input_text", "text": words}
    return {**base, "role": item.role, "content": [part]}
