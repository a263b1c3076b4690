"""Tools that the server runs, in Tier A: the client sees nothing of them.

A provider's function call, its conversation item and its place in ``response.done`` are withheld, and so is a response
that holds nothing else: whether it does shows with its first item, so ``response.created`` waits for that. Once every
tool has its result, the provider is given the outputs and asked to go on, in place of the client.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.core import items
from orchestrator.core.asking import MOST_ROUNDS
from orchestrator.core.context import Bridge, CallContext, Owed
from orchestrator.core.conversation import Item
from orchestrator.core.outcomes import Outcome
from orchestrator.core.responses import OpenResponse, local_usage
from orchestrator.core.tool_desk import Pending, Phase
from orchestrator.protocol.wire import Event

WORDS_PATIENCE_S = 1.5
"""How long the provider's transcription of a turn is waited for that may hold a yes; then it is our own that counts."""
PREAMBLE_CHUNK_MS = 200


@dataclass(slots=True)
class Continuation:
    """A response whose tools are at work; the answer goes on in another response."""

    calls: list[Pending]
    request: Event
    client_asked: bool
    turn: int
    shown: bool = False
    """The client has seen the response, and its end."""
    rounds: int = 0
    """How often the answer has gone on after tools, with this time."""
    preamble_at: float | None = None
    cut: bool = False
    """The caller went on speaking: what comes is added to the conversation, and answered with the next turn."""


@dataclass(slots=True)
class RelayTools:
    """Of one provider session. `tell` sends it an event; `request` has it asked for a response that is owed."""

    ctx: CallContext
    tell: Callable[[Event], None]
    request: Callable[[Event, Owed, float], None]
    refresh: Callable[[], None]
    """Tell the provider the session's tools and instructions anew."""
    occupied: Callable[[], bool]
    """Whether the caller speaks, or a response is under way or owed."""
    own: dict[str, Owed] = field(default_factory=dict)
    """Responses that we asked for in the client's place, by the id of the event."""
    waiting: list[Continuation] = field(default_factory=list)
    unsaid: bool = False
    """Outputs were added that no response has taken up."""
    _calls: dict[str, list[Pending]] = field(default_factory=dict)
    """Calls of responses that are not over, by response id."""
    _words_due: float | None = None
    _agent: str = ""

    def __post_init__(self) -> None:
        self._agent = self.ctx.desk.agent

    # --- what the client does not see ---

    def hides(self, wire: Event) -> bool:
        """Whether a conversation item is a call of a tool that the server keeps."""
        name = str(wire.get("name") or "")
        return wire.get("type") == "function_call" and self.ctx.desk.keeps(name)

    def note_item(self, wire: Event) -> None:
        """The provider has put such a call into its conversation."""
        talk, known = self.ctx.conversation, self.ctx.conversation.get(wire["id"])
        if known is None:
            talk.insert(Item(wire["id"], wire, private=True, announced=False, upstream=True))
        elif not self._asked(known.wire):
            known.wire, known.private, known.upstream = wire, True, True

    def _asked(self, wire: Event) -> bool:
        return self.ctx.desk.get(str(wire.get("call_id") or "")) is not None

    def created(self, response: OpenResponse, event: Event, show: Callable[[Event], None]) -> None:
        """``response.created``: held back where the response may turn out to be none of the client's business."""
        if self.ctx.desk.toolset:
            response.held = event
        else:
            show(event)

    def event(self, kind: str, response: OpenResponse, event: Event, now: float) -> bool:
        """An event of a response: True if it is not for the client. What was held back comes out before one that is."""
        index = event["output_index"]
        item = response.items.get(index)
        if kind == "response.output_item.added" and item is not None and self.hides(event["item"]):
            response.hidden[index] = []
        if index not in response.hidden:
            self.show(response)
            return False
        response.hidden[index].append(event)
        if kind == "response.output_item.done" and event["item"].get("status") != "incomplete":
            self._called(response, index, event["item"], now)
        return True

    def show(self, response: OpenResponse) -> None:
        """The client is to know of this response."""
        if response.held is not None:
            held, response.held = response.held, None
            self._pass_on(held)

    def _pass_on(self, event: Event) -> None:
        self.ctx.send({k: v for k, v in event.items() if k != "event_id"})

    # --- calls ---

    def _called(self, response: OpenResponse, index: int, wire: Event, now: float) -> None:
        if response.out_of_band:
            return  # its output would belong to the conversation, and this response does not
        call = self.ctx.desk.ask(
            wire["call_id"], wire["name"], wire.get("arguments") or "{}", now, wire["id"]
        )
        self._calls.setdefault(response.id, []).append(call)
        if call.phase is Phase.HANDED:
            self._hand_over(response, index)
        elif call.phase is Phase.WORDS:
            patience = WORDS_PATIENCE_S if self.ctx.transcribes_with else 0.0
            self._words_due = now + patience

    def _hand_over(self, response: OpenResponse, index: int) -> None:
        """The client's own tool, which the caller has agreed to: all of the call is shown at last."""
        self.show(response)
        events = response.hidden.pop(index)
        first, *between, last = events
        item = self.ctx.conversation.get(last["item"]["id"])
        self._pass_on(first)
        if item is not None:
            item.private, item.announced = False, True
            previous = self.ctx.conversation.previous(item.id)
            added = {"previous_item_id": previous, "item": first["item"]}
            self.ctx.send({"type": "conversation.item.added", **added})
        for event in between:
            self._pass_on(event)
        if item is not None:
            items.announce_done(self.ctx, item)
        self._pass_on(last)
        response.handed_tool = True

    def over(self, response: OpenResponse, now: float) -> bool:
        """``response.done``, completed: True if the answer goes on, and its turn is not over with it."""
        calls = [call for call in self._calls.pop(response.id, []) if call.phase is not Phase.HANDED]
        if not calls:
            return False
        shown = response.held is None
        going_on = Continuation(calls, response.request, response.client_asked, response.turn, shown)
        going_on.rounds = response.rounds + 1
        running = [call.tool for call in calls if call.phase is Phase.RUNNING and call.tool is not None]
        slow = [tool.preamble_after_s for tool in running if tool.preamble]
        if slow and not response.client_asked and response.speaks:
            after = now + min(slow)
            going_on.preamble_at = max(after, self.ctx.playback.dry_at)
        self.waiting.append(going_on)
        self.resolved(now)
        return True

    def dropped(self, response: OpenResponse, now: float) -> None:
        """The response ended otherwise: calls that are complete still run, and their outputs are added."""
        calls = [call for call in self._calls.pop(response.id, []) if call.phase is not Phase.HANDED]
        if calls:
            self.waiting.append(Continuation(calls, {}, client_asked=False, turn=0, cut=True))
            self.resolved(now)

    def visible(self, response: OpenResponse, output: list[Event]) -> list[Event]:
        """What the client may see of a response's output."""
        gone = {
            event["item"]["id"] for events in response.hidden.values() for event in events if "item" in event
        }
        return [item for item in output if item.get("id") not in gone]

    # --- going on ---

    def resolved(self, now: float) -> None:
        """Something has become known of tools."""
        for going_on in list(self.waiting):
            if all(call.phase is Phase.RESOLVED for call in going_on.calls):
                self.waiting.remove(going_on)
                self._go_on(going_on, now)
        if self.ctx.desk.news and not self.occupied():
            self._tell_news(now)

    def _go_on(self, going_on: Continuation, now: float) -> None:
        ctx = self.ctx
        self._tell_private()
        if ctx.desk.agent != self._agent:
            self._agent = ctx.desk.agent
            self.refresh()
        if all(call.quiet for call in going_on.calls):
            ctx.end_turn(going_on.turn, Outcome.CLOSED, "wait_for_user")
            if going_on.client_asked and not going_on.shown:
                self._end_empty(going_on, "completed", now)
        elif going_on.cut or self.occupied():
            ctx.end_turn(going_on.turn, Outcome.STOPPED, "the caller went on")
            if going_on.client_asked and not (going_on.cut or going_on.shown):
                self._end_empty(going_on, "cancelled", now)
            # One that is still to begin finds it in the conversation.
            self.unsaid = self.unsaid or ctx.default_response() is not None
        else:
            said = [call.say for call in going_on.calls if call.say is not None]
            owed = Owed(going_on.request, going_on.client_asked, since=now, turn=going_on.turn)
            owed.say, owed.rounds = said[-1] if said else None, going_on.rounds
            self._ask(owed, now)

    def _end_empty(self, going_on: Continuation, status: str, now: float) -> None:
        """Nothing is said, and the client that asked for a response waits for its end."""
        ctx, session = self.ctx, self.ctx.session
        response = ctx.writer.create(
            going_on.request,
            session.fields,
            ctx.conversation_id,
            ctx.tags(),
            client_asked=True,
            owed_since=now,
        )
        ctx.writer.finish(response, status, usage=local_usage(0, 0))

    def _ask(self, owed: Owed, now: float) -> None:
        self.unsaid = False
        event_id = self.ctx.ids.new("event")
        self.own[event_id] = owed
        event: Event = {"type": "response.create", "event_id": event_id}
        wanted = dict(owed.request)
        if owed.say is not None:
            wanted |= {"instructions": exactly(owed.say), "tool_choice": "none"}
        elif owed.rounds >= MOST_ROUNDS:
            wanted["tool_choice"] = "none"
        if wanted:
            event["response"] = wanted
        self.request(event, owed, now)

    def refused(self, event_id: str | None) -> Owed | None:
        """What was asked for in our own request that an error is about: it is said later."""
        owed = self.own.pop(event_id or "", None)
        self.unsaid = self.unsaid or owed is not None
        return owed

    def _tell_private(self) -> None:
        """Outputs and notes that the provider has not been given."""
        for item in self.ctx.conversation:
            if not item.private or item.upstream or item.kind == "function_call":
                continue
            wire = {k: v for k, v in item.wire.items() if k not in ("object", "status")}
            self.ctx.hidden.add(item.id)
            item.upstream = True
            self.tell({"type": "conversation.item.create", "item": wire})

    def _tell_news(self, now: float) -> None:
        self._tell_private()
        self.ctx.desk.news.clear()
        self._ask(Owed({}, client_asked=False, since=now), now)

    def response_over(self, now: float) -> None:
        """A response has ended: outputs that came too late for it are answered now."""
        if self.unsaid and not self.waiting and not self.occupied():
            self._ask(Owed({}, client_asked=False, since=now), now)

    def added(self, now: float) -> None:
        """Something to be answered is in the conversation: a response that is still to begin finds it there."""
        if self.ctx.default_response() is not None or not self.occupied():
            self.unsaid = True
            self.response_over(now)

    def caller_spoke(self, now: float) -> None:
        """The caller speaks while tools are at work: the answer to that turn takes their results up."""
        self._cut("the caller went on", now)

    def cancel(self, now: float) -> bool:
        """The client wants no answer any more; False where none waits for tools."""
        return self._cut("the client cancelled it", now)

    def _cut(self, reason: str, now: float) -> bool:
        live = [going_on for going_on in self.waiting if not going_on.cut]
        for going_on in live:
            going_on.cut, going_on.preamble_at = True, None
            self.ctx.end_turn(going_on.turn, Outcome.STOPPED, reason)
            going_on.turn = 0
            if going_on.client_asked and not going_on.shown:
                self._end_empty(going_on, "cancelled", now)
        return bool(live)

    def forget(self, response: OpenResponse) -> bool:
        """The session is given up in the middle of a response: True if tools are at work for it."""
        calls = self._calls.pop(response.id, [])
        asked = {call.item_id for call in calls}
        for index, events in response.hidden.items():
            response.items.pop(index, None)
            item = self.ctx.conversation.get(events[0]["item"]["id"])
            if item is not None and item.id not in asked:
                item.wire = {**item.wire, "status": "incomplete"}
        response.finished = self.visible(response, response.finished)
        return bool(calls)

    def leave(self) -> list[Owed]:
        """The session is given up: the answers that were to go on."""
        waiting = [each for each in self.waiting if not each.cut]
        self.waiting.clear()
        return [self._owed(each) for each in waiting]

    @staticmethod
    def _owed(going_on: Continuation) -> Owed:
        calls = going_on.calls
        since, say = max(call.since for call in calls), [call.say for call in calls if call.say is not None]
        owed = Owed(going_on.request, going_on.client_asked, since, bridge=Bridge.DEFAULT, turn=going_on.turn)
        owed.say, owed.rounds = say[-1] if say else None, going_on.rounds
        return owed

    @property
    def pending(self) -> bool:
        return bool(self.waiting) or self.ctx.desk.busy

    # --- time ---

    def next_due(self) -> float | None:
        dues = [each.preamble_at for each in self.waiting if each.preamble_at is not None]
        dues += [self._words_due] if self._words_due is not None else []
        return min(dues) if dues else None

    def tick(self, now: float) -> None:
        if self._words_due is not None and now >= self._words_due:
            self._words_due = None
            self._write_down(now)
        for going_on in self.waiting:
            if going_on.preamble_at is not None and now >= going_on.preamble_at:
                going_on.preamble_at = None
                if not self.occupied():
                    self._preamble(going_on, now)

    def words_known(self, now: float) -> None:
        """A turn was written down: it may be the yes that a call waits for."""
        self.ctx.desk.overhear()
        if self.ctx.desk.words_known(now):
            self._words_due = None
            self.resolved(now)

    def _write_down(self, now: float) -> None:
        """The provider has not said what the caller said: we listen ourselves."""
        item = self.ctx.conversation.get(self.ctx.desk.unwritten)
        if item is None or not item.needs_transcript:
            return
        audio = item.audio if item.audio_span is None else self.ctx.input.slice(*item.audio_span)
        if not self.ctx.write_down(item.id, audio or b""):
            item.transcript, item.unheard = "", True
            self.words_known(now)

    def _preamble(self, going_on: Continuation, now: float) -> None:
        """A line of our own while a tool takes its time; it ends as no answer would."""
        ctx, session = self.ctx, self.ctx.session
        call = next((call for call in going_on.calls if call.phase is Phase.RUNNING), None)
        if call is None or call.tool is None:
            return
        fmt = session.output_format
        words, audio = ctx.clips(call.tool.preamble, fmt, session.voice, session.language)
        response = ctx.writer.create(
            {}, session.fields, ctx.conversation_id, ctx.tags(), client_asked=False, owed_since=now
        )
        item = ctx.writer.open_message(response, bridge=True)
        if words:
            ctx.writer.words(response, item, words)
        step = PREAMBLE_CHUNK_MS * fmt.bytes_per_ms
        for start in range(0, len(audio), step):
            ctx.writer.audio(response, item, audio[start : start + step], fmt, now)
        ctx.writer.close_item(response, item, "completed")
        ctx.writer.finish(response, "incomplete")
        ctx.record("tool_preamble", tool_call_id=call.call_id, tool=call.name, text=words)


def exactly(words: str) -> str:
    """Instructions for an answer whose words are not the model's to choose."""
    return f'Say exactly: "{words}"\nAdd nothing and leave nothing out.'
