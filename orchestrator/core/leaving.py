"""How a call leaves a provider session: closed in good order towards the client, and nothing that is owed forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.core import items
from orchestrator.core.context import Bridge, Owed, Unfinished
from orchestrator.core.outcomes import Outcome
from orchestrator.core.responses import OpenResponse

if TYPE_CHECKING:
    from orchestrator.core.relay import Relay


class Leaving:
    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._ctx = relay.ctx

    def leave(self) -> Unfinished:
        """Close towards the client what the provider left open, and say what is still owed to the caller."""
        ctx = self._ctx
        left = Unfinished(requests=self._relay.in_flight.requests, bills=self._relay.bills())
        left.loud_from_ms = self._relay.suspicion.unnoticed_from_ms
        answering = {item.id for response in ctx.responses.values() for item in response.items.values()}
        for item in list(ctx.conversation):
            if item.private:
                pass
            elif not item.announced and (self._relay.turn is None or item.id != self._relay.turn.item_id):
                items.announce(ctx, item)
            elif item.announced and not item.done and item.id not in answering:
                items.announce_done(ctx, item)
            item.upstream = False
        ctx.refused += self._relay.in_flight.untold()
        self._leave_turn(left)
        for response in list(ctx.responses.values()):
            self._leave_response(response, left)
        for waiting in self._relay.creates:
            waiting.bridge = None if waiting.out_of_band else Bridge.DEFAULT
        left.owed.extend(self._relay.creates)
        left.owed.extend(self._relay.tools.leave())
        return left

    def _leave_response(self, response: OpenResponse, left: Unfinished) -> None:
        ctx = self._ctx
        owed = _is_owed(response)
        owed = self._relay.tools.forget(response) or owed
        bridge = Bridge.DEFAULT if response.first_audio_at is None else Bridge.INTERRUPTED
        for wire in response.finished:
            ended = ctx.conversation.get(wire.get("id", ""))
            if ended is not None and wire.get("status") == "incomplete":
                ended.cut_off = True
        for item in list(response.items.values()):
            kept = ctx.conversation.get(item.id)
            if kept is not None:
                kept.cut_off = True
            ctx.writer.close_item(response, item, "incomplete")
        goes_on = Owed(
            response.request, response.client_asked, response.owed_since, None, bridge, response.turn
        )
        goes_on.say, goes_on.rounds = response.say, response.rounds
        if response.held is not None:  # the client has not heard of it
            del ctx.responses[response.id]
            if owed:
                left.owed.append(goes_on)
            else:
                ctx.end_turn(response.turn, Outcome.ANSWERED)
            return
        if owed and (response.client_asked or response.out_of_band):
            goes_on.response = response
            left.owed.append(goes_on)
            return
        ctx.writer.finish(response, "incomplete")
        del ctx.responses[response.id]
        if owed:
            goes_on.request = {}
            left.owed.append(goes_on)
        else:
            ctx.end_turn(response.turn, Outcome.ANSWERED)

    def _leave_turn(self, left: Unfinished) -> None:
        ctx, turn = self._ctx, self._relay.turn
        if turn is None:
            return
        if turn.stop_ms is None:
            left.speaking = turn
            return
        item = ctx.conversation.get(turn.item_id)
        if not turn.committed:
            items.commit_turn(ctx, turn.item_id or ctx.ids.new("item"), turn.start_ms, turn.stop_ms)
        elif item is not None and not item.announced:
            items.announce(ctx, item)
        if turn.awaits_response:
            left.owed.append(
                Owed({}, client_asked=False, since=turn.ended_at, bridge=Bridge.DEFAULT, turn=turn.number)
            )


def _is_owed(response: OpenResponse) -> bool:
    """Was the caller left waiting? Not if a tool call was handed over, or all audio had come."""
    if response.handed_tool:
        return False
    if response.items:
        return any(
            not part.audio_done for item in response.items.values() for part in item.parts.values()
        ) or any(not item.parts for item in response.items.values())
    return not any(item.get("status") == "completed" for item in response.finished)
