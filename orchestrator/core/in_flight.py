"""What the client asked of the provider and the provider has not confirmed: to be undone, or done by the next tier."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from orchestrator.core.actions import ToUpstream
from orchestrator.core.context import CallContext
from orchestrator.core.granted import Refused
from orchestrator.protocol.wire import Event


@dataclass(slots=True)
class Update:
    """A ``session.update`` on its way, and the session's fields before and after it; `before` None: it was ours."""

    event_id: str | None
    changes: Event
    before: Event | None
    after: Event
    limit: int = 4096
    """The most output tokens of a response from here on."""
    gated: bool | None = None
    """Whether, from here on, the provider starts no response on its own; None where nothing was said about it."""
    refused: list[Refused] = field(default_factory=list)
    """What of it the client may not have, and is yet to be told."""


class InFlight:
    """Of one provider session."""

    def __init__(self, ctx: CallContext, attempt: int, *, gated: bool = False) -> None:
        self.gated = gated
        """What the provider was last told about starting responses on its own."""
        self.requests: list[Event] = []
        """Client events about items or the input buffer that the provider has not yet carried out."""
        self._ctx = ctx
        self._attempt = attempt
        self._updates: deque[Update] = deque()
        self._opening: str | None = None
        """The id of the update that told the provider what the call was granted."""

    # --- session updates ---

    def open_session(self, changes: Event) -> None:
        """The first ``session.update`` of a provider session; its answer is not for the client."""
        granted = self._ctx.granted is not None and bool(self._ctx.granted.initial())
        self._opening = self._ctx.ids.new("event") if granted else None
        fields, event = self._ctx.session.fields, {"type": "session.update"}
        if self._opening is not None:
            event["event_id"] = self._opening
        self._send_update(event, changes, Update(self._opening, changes, None, fields))

    def refuses_grant(self, event_id: str | None) -> bool:
        """Whether an error is about what the call was opened with: the session is not the one that was granted."""
        return event_id is not None and event_id == self._opening

    def say_who_starts(self, *, gated: bool) -> None:
        """Have the provider start responses on its own as the client wants it to, or (`gated`) not at all."""
        self.gated = gated
        detection = dict(self._ctx.session.turn_detection or {}) or None
        changes: Event = {"audio": {"input": {"turn_detection": detection}}}
        update = Update(None, changes, None, self._ctx.session.fields, gated=gated)
        self._send_update({"type": "session.update"}, changes, update)

    def say_limit(self) -> None:
        """Have answers no longer than the call now allows."""
        update = Update(None, {}, None, self._ctx.session.fields)
        self._send_update({"type": "session.update"}, {}, update)

    @property
    def busy(self) -> bool:
        """An update is on its way."""
        return bool(self._updates)

    def update_session(self, event: Event) -> None:
        session, changes = self._ctx.session, event["session"]
        before = session.fields
        session.update(changes)
        # The client's next audio is in it, however long the provider takes to say yes.
        self._ctx.heed_format(session.input_format)
        update = Update(event.get("event_id"), changes, before, session.fields)
        update.refused, self._ctx.refused = self._ctx.refused, []
        self._send_update(event, changes, update)

    def _send_update(self, event: Event, changes: Event, update: Update) -> None:
        session = self._ctx.for_provider(changes, gated=self.gated)
        update.limit = self._ctx.output_limit
        self._updates.append(update)
        self._ctx.do(ToUpstream({**event, "session": session}, self._attempt))

    def session_updated(self) -> Update | None:
        """The provider took the oldest update, and here it is; the client is told of its own ones."""
        update = self._updates.popleft() if self._updates else None
        if update is None or update.before is not None:
            self._ctx.refused[:0] = update.refused if update else []
            session = self._ctx.describe_session()
            shown = {**session, **(update.after if update else {})}
            self._ctx.send({"type": "session.updated", "session": shown})
        return update

    def untold(self) -> list[Refused]:
        """The session is given up: what the client is yet to be told of its updates."""
        return [each for update in self._updates for each in update.refused]

    # --- what came of it ---

    def carried_out(self, kind: str, event: Event) -> None:
        """The oldest request that this provider event answers is settled."""
        item_id = event.get("item_id") or (event.get("item") or {}).get("id")
        for request in self.requests:
            if kind.startswith(request["type"]) and request.get("item_id") in (None, item_id):
                self.requests.remove(request)
                return

    def refused(self, error: Event) -> None:
        """What the provider did not accept must not stay in our books."""
        event_id, param = error.get("event_id"), str(error.get("param") or "")
        for request in self.requests:
            if event_id and request.get("event_id") == event_id:
                self.requests.remove(request)
                return
        for update in list(self._updates):
            if (event_id and update.event_id == event_id) or (not event_id and param.startswith("session")):
                self._undo(update)
                return
        if param.startswith("item") or (error.get("code") or "").startswith("item_create"):
            pending = [item for item in self._ctx.conversation if not (item.announced or item.private)]
            if pending:
                self._ctx.conversation.remove(pending[0].id)

    def _undo(self, refused: Update) -> None:
        """Go back to before a refused update, and put those that followed it on top again."""
        position = self._updates.index(refused)
        self._updates.remove(refused)
        session = self._ctx.session
        if refused.before is None:
            return
        session.fields = refused.before
        for update in list(self._updates)[position:]:
            if update.before is not None:
                update.before = session.fields
                session.update(update.changes)
                update.after = session.fields
        self._ctx.heed_format(session.input_format)
