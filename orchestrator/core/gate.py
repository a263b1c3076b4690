"""Which responses of a provider session may start: none that the money set aside does not cover.

    state     who starts the answer to a spoken turn      set aside beyond what runs
    OPEN      the provider, by its own turn detection     two worst cases
    CLOSING   the provider, until it has confirmed        what is left
    CLOSED    we, one by one                              one worst case, or what a shorter answer needs
    OPENING   we, until it has confirmed                  two worst cases

One worst case is for the answer that may begin at any moment, the second for one that begins while the provider has
not yet confirmed that it is to start none. Once the gate is closed the client sees no difference: its own session
says ``create_response`` as it set it, and the answers come as before. A session in which the provider starts nothing
on its own (push to talk) needs no gate.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from orchestrator.core.bound import PADDING_MS, Bound
from orchestrator.core.context import CallContext, Owed
from orchestrator.core.in_flight import InFlight, Update
from orchestrator.core.prices import Context
from orchestrator.protocol.answers import Charge
from orchestrator.protocol.wire import Event, dump

LEAST_TOKENS = 150
"""Shorter than this (7.5 s of speech) no answer is worth starting."""
TALK_MS = 60_000.0
"""How long the caller may talk before what is set aside for the answer has to grow."""
CLOSED_TALK_MS = 20_000.0
"""The same behind a closed gate, where every cent counts: it is looked at again every other second."""
ENOUGH_MS = 30_000.0
"""So much of it has to be there still when a session begins: a provider has defaults of its own."""


NOTHING = Context()


class State(Enum):
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"
    OPENING = "opening"


@dataclass(slots=True)
class _Waiting:
    """A response that is to start as soon as it is paid for; `owed` None: the answer to a spoken turn."""

    key: str
    event: Event
    owed: Owed | None


class Gate:
    """Of one provider session; `tell` sends it an event."""

    def __init__(
        self,
        ctx: CallContext,
        rung: str,
        in_flight: InFlight,
        bound: Bound,
        tell: Callable[[Event], None],
    ) -> None:
        self.bound = bound
        self.state = State.CLOSED if in_flight.gated else State.OPEN
        self.broke = False
        """Something is to be answered and cannot be paid for here."""
        self._ctx = ctx
        self._rung = rung
        self._in_flight = in_flight
        self._tell = tell
        self._waiting: deque[_Waiting] = deque()
        self._own: deque[str] = deque()
        """Keys of answers that we asked for and that have not begun."""
        self._own_events: set[str] = set()
        self._keys: set[str] = set()
        """What of the running this session has started."""
        self._number = 0
        self._limit = ctx.output_limit
        """The output limit that the provider goes by."""
        self._reopening = False
        self._short = 0
        """How far down the ladder of output limits what is set aside has come."""

    # --- setting aside ---

    @property
    def _provider_starts(self) -> bool:
        return self._ctx.session.creates_response and self.state is not State.CLOSED

    def _worst(self, limit: int, talk_ms: float = 0.0, said: Context = NOTHING) -> int:
        """What an answer of so many tokens may cost that starts after `talk_ms` more of the caller's talk."""
        return self._ctx.costs.response(self._rung, limit, self.bound.context(talk_ms) + said)

    def _words(self, talk_ms: float = TALK_MS) -> int:
        """What writing down the caller's talk may cost, which the provider does unasked."""
        return self._ctx.costs.transcription(self._ctx.transcribes_with, talk_ms / 1000.0)

    def _needs(self, limit: int, talk_ms: float = TALK_MS) -> int:
        """What has to be there before such an answer may start: talk goes on while it is given."""
        return self._worst(limit, talk_ms) + self._words(talk_ms)

    def _ladder(self) -> list[int]:
        """Output limits, from the one in force down to the least that is worth starting."""
        full, concise = self._limit, self._ctx.stepper.policy.concise_tokens
        return sorted({full, min(full, concise), min(full, LEAST_TOKENS)}, reverse=True)

    def fund(self, talk_ms: float = 0.0) -> None:
        """Set aside what may be needed next, and close the gate where that is not to be had.

        `talk_ms`: how long the caller has been talking already.
        """
        ctx, purse = self._ctx, self._ctx.purse
        talk = (CLOSED_TALK_MS if self.state is State.CLOSED else TALK_MS) + talk_ms
        ctx.budget.least[self._rung] = self._needs(self._ladder()[-1], CLOSED_TALK_MS)
        if ctx.session.creates_response and self.state in (State.OPEN, State.OPENING):
            need = 2 * self._needs(self._limit, talk)
            purse.want(need)
            if not purse.has(need) and not purse.pending:
                self._close()
        elif self._reopening:
            self._reopen(TALK_MS + talk_ms)
        if not self._reopening and (not self._provider_starts or self.state is State.CLOSING):
            self._fund_one(talk)
        self._go_on()

    def _reopen(self, talk_ms: float) -> None:
        """The provider may start answers on its own again, as soon as two worst cases are set aside."""
        need, purse = 2 * self._needs(self._limit, talk_ms), self._ctx.purse
        purse.want(need)
        self._reopening = purse.pending
        if purse.has(need):
            self._say(State.OPENING)

    def _fund_one(self, talk_ms: float) -> None:
        """One worst case, or what the longest answer that can be paid for needs; at least the caller's own words."""
        purse, ladder = self._ctx.purse, self._ladder()
        while self._short < len(ladder):
            need = self._needs(ladder[self._short], talk_ms)
            purse.want(need)
            if purse.has(need) or purse.pending:
                return
            self._short += 1
        purse.want(self._words(talk_ms))
        if not purse.has(self._words(talk_ms)) and not purse.pending and self.state is State.CLOSED:
            self.broke = True

    def try_again(self, talk_ms: float) -> None:
        """Some time has passed: what was refused may be there now. `talk_ms` as for `fund`."""
        if self.state is State.CLOSED and not self._in_flight.busy:
            need, remaining = 2 * self._needs(self._limit), self._ctx.budget.remaining
            self._short = 0
            self._reopening = self._ctx.session.creates_response and (remaining is None or remaining >= need)
            self._ctx.purse.ask_again()
        self.fund(talk_ms)

    def _close(self) -> None:
        self._say(State.CLOSING)

    def _say(self, state: State) -> None:
        self.state = state
        self._in_flight.say_who_starts(gated=state is State.CLOSING)
        self._ctx.record("gate", state=state.value, rung=self._rung)

    def confirmed(self, update: Update | None) -> None:
        """The provider has taken an update: what we said in it holds from now on."""
        if update is None:
            return
        self._limit = update.limit
        if update.gated is not None and update.gated is self._in_flight.gated:
            self.state = State.CLOSED if update.gated else State.OPEN
            self._ctx.record("gate", state=self.state.value, rung=self._rung)
        self._short = 0
        self.fund()

    # --- letting in ---

    def ask(self, event: Event, owed: Owed) -> None:
        """The client asks for a response: it is passed on as soon as it is paid for."""
        self._wait(event, owed)

    def turn_committed(self) -> None:
        """A spoken turn is to be answered. Where the provider does not do that by itself, we ask for it."""
        if self.state in (State.CLOSED, State.OPENING):
            event_id = self._ctx.ids.new("event")
            self._own_events.add(event_id)
            self._wait({"type": "response.create", "event_id": event_id}, None)

    def _wait(self, event: Event, owed: Owed | None) -> None:
        self._number += 1
        self._waiting.append(_Waiting(f"create {self._number} of {self._rung}", event, owed))
        self.fund()

    def _go_on(self) -> None:
        """Start what waits and is paid for; `broke` where it never will be."""
        while self._waiting and not self.broke:
            waiting = self._waiting[0]
            limit = self._admit(waiting)
            if limit is None:
                self.broke = self._refused
                return
            self._waiting.popleft()
            self._start(waiting, limit)

    @property
    def _refused(self) -> bool:
        closed = self.state is State.CLOSED or not self._ctx.session.creates_response
        return closed and not self._ctx.purse.pending and self._short >= len(self._ladder())

    def _admit(self, waiting: _Waiting) -> int | None:
        """The output limit under which it may start; None: not now."""
        purse, wanted = self._ctx.purse, _limit_of(waiting.event)
        # What the provider may start on its own any moment is not given to another.
        keep = self._words(CLOSED_TALK_MS) + (self._needs(self._limit) if self._provider_starts else 0)
        said = Context(text_tokens=len(dump(waiting.event)))  # it may bring input and instructions of its own
        for limit in self._ladder():
            worst = self._worst(min(limit, wanted or limit), said=said)
            if (not worst or purse.has(worst + keep)) and purse.start(waiting.key, worst):
                return limit
            if purse.pending:
                return None  # the bucket has not said yet whether the longer answer can be paid for
        return None

    def _start(self, waiting: _Waiting, limit: int) -> None:
        self._keys.add(waiting.key)
        if waiting.owed is not None:
            waiting.owed.key = waiting.key
        else:
            self._own.append(waiting.key)
        self._tell(_bounded(waiting.event, limit, always=limit < self._limit))
        self._short = 0

    def take_back(self) -> Owed | None:
        """The client takes back its oldest request, if that has not been passed on."""
        for waiting in self._waiting:
            if waiting.owed is not None:
                self._waiting.remove(waiting)
                return waiting.owed
        return None

    def is_own(self, event_id: str | None) -> bool:
        """Whether an error is about an event that the client knows nothing of. Its request will not be answered."""
        if event_id not in self._own_events:
            return False
        if self._own:
            self._drop(self._own.popleft())
        return True

    def refused(self, owed: Owed) -> None:
        """The provider will not answer this request."""
        self._drop(owed.key)

    def _drop(self, key: str) -> None:
        self._keys.discard(key)
        self._ctx.purse.end(key)

    # --- what runs ---

    def began(self, response_id: str, owed: Owed, *, out_of_band: bool) -> None:
        """``response.created``."""
        ctx = self._ctx
        key = owed.key
        if not key and not owed.client_asked and not out_of_band and self._own:
            key = self._own.popleft()
        if key:
            ctx.purse.rename(key, response_id)
            self._keys.discard(key)
        else:
            worst = self._worst(self._limit)
            if not ctx.purse.start(response_id, worst):
                ctx.purse.overdraw(response_id, worst)
                ctx.record("unpaid_response", response_id=response_id, nanodollars=worst)
                self.broke = True
        self._keys.add(response_id)
        if not out_of_band:
            self.bound.answer_began()
        self.fund()

    def ended(self, response_id: str, usage: dict[str, Any] | None, turn: int, *, out_of_band: bool) -> int:
        """``response.done``: what it cost, from its usage; where that never came, all that was set aside."""
        ctx = self._ctx
        charge = response_charge(ctx, self._rung, response_id, usage)
        if usage and not out_of_band:
            self.bound.counted(usage)
        elif not out_of_band:
            self.bound.answered(self._limit)
        ctx.charge(charge, self._rung, turn, key=response_id, response_id=response_id)
        self._drop(response_id)
        self._short = 0
        return charge.nanodollars

    def words_awaited(self, item_id: str, ms: float) -> None:
        """A turn is being transcribed by the provider, which is billed beside the response."""
        ctx = self._ctx
        worst = ctx.costs.transcription(ctx.transcribes_with, (ms + PADDING_MS) / 1000.0)
        if worst:
            if not ctx.purse.start(_words_key(item_id), worst):
                ctx.purse.overdraw(_words_key(item_id), worst)
            self._keys.add(_words_key(item_id))

    def written_down(self, kind: str, event: Event) -> None:
        """The provider tells of the words of a turn: they are paid for, whatever becomes of them."""
        ctx, item_id = self._ctx, event["item_id"]
        if kind.endswith(".delta"):
            return
        key = _words_key(item_id)
        self._keys.discard(key)
        if kind.endswith(".completed") and item_id in ctx.conversation:
            model = ctx.transcribes_with
            charge = Charge("transcription", model, ctx.price(model, event["usage"]), event["usage"])
            ctx.charge(charge, self._rung, key=key, item_id=item_id)
        ctx.purse.end(key)

    def leave(self, turn: int) -> list[str]:
        """The session is given up: the keys of what may still be billed. `turn` is owed an answer by the provider.

        What was committed may have been begun, though nothing of it has reached us.
        """
        ctx = self._ctx
        self._waiting.clear()
        if turn and self._provider_starts and not self._own and (worst := self._worst(self._limit)):
            if not ctx.purse.start(f"turn {turn}", worst):
                ctx.purse.overdraw(f"turn {turn}", worst)
            self._keys.add(f"turn {turn}")
        ctx.purse.want(0)
        keys, self._keys = sorted(key for key in self._keys if ctx.purse.worst(key)), set()
        return keys


def response_charge(ctx: CallContext, rung: str, key: str, usage: Mapping[str, Any] | None) -> Charge:
    """By its usage; where that never came, all that was set aside for it."""
    if usage:
        return Charge("response", rung, ctx.price(rung, dict(usage)), usage)
    return Charge("response", rung, ctx.purse.worst(key), {}, estimated=True)


def first_needs(ctx: CallContext, rung: str, forms: Sequence[Event] = (), talk_ms: float = TALK_MS) -> int:
    """What has to be set aside before the first answer of a new session that is given these items."""
    context = Bound({**ctx.session.fields, **ctx.for_model()}, forms).context(talk_ms)
    words = ctx.costs.transcription(ctx.transcribes_with, talk_ms / 1000.0)
    return ctx.costs.response(rung, ctx.output_limit, context) + words


def _words_key(item_id: str) -> str:
    return f"words of {item_id}"


def _limit_of(event: Event) -> int | None:
    wanted = (event.get("response") or {}).get("max_output_tokens")
    return wanted if isinstance(wanted, int) else None


def _bounded(event: Event, limit: int, *, always: bool) -> Event:
    """An answer without a limit could cost anything: the provider gets one in any case."""
    response = event.get("response") or {}
    wanted = response.get("max_output_tokens")
    if wanted is None and not always:
        return event  # the session's own limit holds
    if isinstance(wanted, int) and wanted <= limit:
        return event
    return {**event, "response": {**response, "max_output_tokens": limit}}
