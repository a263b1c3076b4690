"""Guardrails in Tier A: what was heard and what is being said are looked at beside the call, and a veto comes late.

The provider's transcripts go out as `Judge`, a turn's words as a whole, an answer's sentence by sentence, and what
comes of them is told to `judged`. A turn's words count, for us and for the client, once they were looked at. On a veto
the answer is cancelled, none of its audio that comes after is passed on, and when the provider has ended it a line of
our own is said; what was vetoed is deleted from the provider's conversation.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.core.actions import Judge, ToUpstream
from orchestrator.core.conversation import Item
from orchestrator.core.responses import OpenPart, OpenResponse, local_usage
from orchestrator.core.veto import WITHHELD, say_line
from orchestrator.protocol.wire import Event

if TYPE_CHECKING:
    from orchestrator.core.relay import Relay

HEARD, SAID = "heard", "said"
_SENTENCE = re.compile(r"[.!?\u2026][\"')\]]*\s+|[\u3002\uff01\uff1f\u0964]\s*")
"""The end of one."""


class RelayVeto:
    """Of one provider session. `write` takes the words of a turn, once it is known whether they count."""

    def __init__(self, relay: Relay, write: Callable[[str, Event, float], None]) -> None:
        self._relay, self._ctx, self._write = relay, relay.ctx, write
        self._own: set[str] = set()
        """Ids of the events that we sent the provider."""
        self._deleted: set[str] = set()
        """Items that the provider is to delete; the client keeps them."""
        self._held: dict[str, tuple[str, Event]] = {}
        """Words of turns that are being looked at, by item."""
        self._next = ""
        """The line for the turn whose answer has not begun yet."""
        self._refused: set[str] = set()
        """Responses that a line is said for, and turns."""

    # --- looking ---

    def holds(self, kind: str, event: Event) -> bool:
        """Whether what the provider writes down of a turn waits to be looked at."""
        if HEARD not in self._ctx.policy.guarded or kind.endswith(".failed"):
            return False
        if kind.endswith(".completed"):
            if not event["transcript"].strip():
                return False
            self._held[event["item_id"]] = kind, event
            self._ctx.do(Judge(HEARD, event["item_id"], event["transcript"]))
        return True

    def words(self, response: OpenResponse, part: OpenPart, *, over: bool = False) -> None:
        """The words of an answer have grown, or are `over`."""
        if SAID not in self._ctx.policy.guarded or response.veto or response.say is not None:
            return  # what is to be said exactly are our own words
        text = part.words
        while (end := _SENTENCE.search(text, part.looked_at)) is not None:
            self._look(response, text[part.looked_at : end.end()])
            part.looked_at = end.end()
        if over:
            self._look(response, text[part.looked_at :])
            part.looked_at = len(text)

    def _look(self, response: OpenResponse, text: str) -> None:
        if text.strip():
            self._ctx.do(Judge(SAID, response.id, text.strip()))

    @property
    def pending(self) -> bool:
        """A turn's words are being looked at."""
        return bool(self._held)

    # --- verdicts ---

    def judged(self, hook: str, id: str, line: str, now: float) -> None:
        """`line`: the prompt to be said instead; "" where nothing is wrong."""
        if hook == HEARD:
            self._judged_heard(id, line, now)
        elif line and id not in self._refused:
            response = self._ctx.responses.get(id)
            if response is not None:
                self._stop(response, line, now)
            else:
                self._refused.add(id)
                self._say(line, now)

    def _judged_heard(self, item_id: str, line: str, now: float) -> None:
        kind, event = self._held.pop(item_id, ("", {}))
        if not event:
            return
        item = self._ctx.conversation.get(item_id)
        if line and item is not None:
            item.veto = line
        self._write(kind, {**event, "transcript": WITHHELD} if line else event, now)
        if line and item is not None:
            self.refuse(item, now)

    def refuse(self, item: Item, now: float) -> None:
        """A turn that was vetoed is known by now: the provider forgets it, and does not answer it."""
        ctx, turn, line = self._ctx, self._relay.turn, item.veto
        self._delete(item)
        if item.id in self._refused or turn is None or turn.item_id != item.id:
            return  # the caller has gone on, and it is that which is answered
        self._refused.add(item.id)
        response = ctx.default_response()
        if response is not None:
            self._stop(response, line, now)
        elif not turn.number or turn.number in ctx.outcomes.open:
            self._next = line
        else:
            self._say(line, now)

    def created(self, response: OpenResponse, now: float) -> None:
        """The answer to a turn that was vetoed before begins."""
        if self._next and not response.out_of_band:
            line, self._next = self._next, ""
            self._stop(response, line, now)

    def caller_spoke(self) -> None:
        self._next = ""

    def _stop(self, response: OpenResponse, line: str, now: float) -> None:
        ctx, session = self._ctx, self._ctx.session
        if response.veto:
            return
        self._refused.add(response.id)
        response.veto = line
        # Should the provider fail instead of ending it, the next tier says the line.
        response.say = ctx.clips(line, session.output_format, session.voice, session.language)[0] or None
        self._relay.no_more_audio(response, now)
        self._tell({"type": "response.cancel", "response_id": response.id})

    def _delete(self, item: Item) -> None:
        if item.upstream:
            item.upstream = False
            self._deleted.add(item.id)
            self._tell({"type": "conversation.item.delete", "item_id": item.id})

    def _tell(self, event: Event) -> None:
        event_id = self._ctx.ids.new("event")
        self._own.add(event_id)
        self._ctx.do(ToUpstream({**event, "event_id": event_id}, self._relay.attempt))

    # --- what the provider says of it ---

    def is_own(self, event_id: str | None) -> bool:
        """Whether an error is about something that we asked for: it was over already."""
        return event_id in self._own

    def has_deleted(self, item_id: str) -> bool:
        """Whether the deletion of an item is none of the client's business."""
        if item_id not in self._deleted:
            return False
        self._deleted.discard(item_id)
        return True

    @staticmethod
    def drops(kind: str, response: OpenResponse) -> bool:
        return bool(response.veto) and kind == "response.output_audio.delta"

    def over(self, response: OpenResponse, now: float) -> None:
        """A vetoed response has ended, and the client was told."""
        ctx = self._ctx
        for wire in response.finished:
            item = ctx.conversation.get(str(wire.get("id")))
            if item is not None and item.kind == "message":
                item.transcript, item.cut_off = WITHHELD, True
                self._delete(item)
        if not response.out_of_band:
            self._say(response.veto, now)

    def _say(self, line: str, now: float) -> None:
        """As a response of our own, unless somebody speaks."""
        ctx, relay = self._ctx, self._relay
        if relay.occupied:
            return
        by = {"tier": "C", "rung": "prompts"}
        response = ctx.writer.create(
            {}, ctx.session.fields, ctx.conversation_id, by, client_asked=False, owed_since=now
        )
        say_line(ctx, response, line, now)
        ctx.writer.finish(response, "completed", usage=local_usage(0, 0))
        ctx.record("refusal", response_id=response.id, line=line)
