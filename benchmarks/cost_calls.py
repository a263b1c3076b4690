"""Calls without sockets in simulated time: the real call core, router, meter and ledger between doubles at both ends.

A `Bucket` is one day of one budget: its calls come in at random times, overlap, and share its ledger. What the core
sends or asks for goes to the provider's double (`cost_provider.py`) or to Tier B's (`cost_tiers.py`); what the
caller does is up to a `Person` (`cost_person.py`) with a plan (`cost_callers.py`).
"""

from __future__ import annotations

import random
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import orjson

from benchmarks.cost_callers import WINDOW_S, Plan, Turn
from benchmarks.cost_clock import Clock
from benchmarks.cost_person import Person
from benchmarks.cost_policies import INSTRUCTIONS, MODELS, TOOL, Meter, Setup, call_policy, rungs
from benchmarks.cost_provider import FORMAT, Bill, Provider, Reply, words
from benchmarks.cost_tiers import LocalTiers
from orchestrator.core.actions import (
    Action,
    ClaimMoney,
    CloseUpstream,
    HangUp,
    OpenUpstream,
    Record,
    StartAnswer,
    StopAnswer,
    ToClient,
    ToUpstream,
    Transcribe,
)
from orchestrator.core.budget import BudgetState, CallBudget
from orchestrator.core.call import Audio, Call
from orchestrator.core.context import CallContext
from orchestrator.core.input_audio import InputAudio
from orchestrator.core.ledger import Claim, Ledger, Message
from orchestrator.core.overrides import Tier
from orchestrator.core.pace import HedgeCap, Paces
from orchestrator.core.routing import Decision, RouteRequest, View, decide
from orchestrator.core.steps import Share, Stepper
from orchestrator.protocol.session import Session
from orchestrator.protocol.wire import Ids

Event = dict[str, Any]
ONSET_WINDOWS, QUIET_WINDOWS = 5, 19
"""How much talk is heard before a turn has begun, and the silence that ends it, in windows of 32 ms."""
FRAME_WINDOWS = 30
FIRST_WORD_S = 0.8
DAY_S = 4 * 3600.0
"""The hours in which a bucket's calls come in."""
SETTLED_S = 60.0
"""So long after a call all that it started has been billed."""


class Stuck(Exception):
    """A call came to a standstill: a fault of the benchmark or of the core."""


@dataclass(slots=True)
class Result:
    """What became of one call. Money in nano-dollars."""

    number: int
    kind: str
    spent: int
    """As metered."""
    billed: int
    """As the provider and Tier B's engines will ask for."""
    seconds: float
    wanted: int
    """Turns that the caller had in mind."""
    answered: dict[str, int]
    """Of these by rung, those that got a fixed prompt among them."""
    said: int
    ended: str
    """Why: "done", "gave up", "cut off", "goodbye", "prompts only"."""
    steps: list[str]
    """In the order they were taken."""
    cut_short: int
    unpaid: int
    """Responses that began without money set aside for them."""

    @property
    def lost(self) -> int:
        """Turns that got no answer."""
        return max(0, self.wanted - sum(self.answered.values()))


Rows = list[dict[str, Any]]


@dataclass
class Bucket:
    """One budget's day, and its calls."""

    name: str
    setup: Setup
    meter: Meter
    plans: Sequence[Plan]
    seed: int
    rows: Rows | None = None
    """Where the rows of the event log go, if anybody wants them."""
    clock: Clock = field(default_factory=Clock)
    paces: Paces = field(default_factory=Paces)
    hedges: HedgeCap = field(default_factory=lambda: HedgeCap(0.0))
    results: list[Result] = field(default_factory=list)
    open: set[int] = field(default_factory=set)
    spent: int = 0
    """What all calls have spent, as metered."""

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.setup.core_caps[1])
        self.policy = call_policy()

    def run(self) -> list[Result]:
        """Place all calls; results in order of their ends."""
        dice = random.Random(f"{self.seed} {self.name}")
        for plan in self.plans:
            self.open.add(plan.number)
            self.clock.at(dice.uniform(0.0, DAY_S), SimulatedCall(self, plan).begin)
        self.clock.run()
        if self.open:
            raise Stuck(f"{self.name} under {self.setup.id!r}: calls {sorted(self.open)} never ended")
        return self.results

    @property
    def spent_up(self) -> bool:
        """Whether a plain limit would take no more calls."""
        cap = self.setup.bucket_cap
        return self.setup.cut_off and cap is not None and self.spent >= cap


class SimulatedCall:
    """One caller on one call core."""

    def __init__(self, bucket: Bucket, plan: Plan) -> None:
        self.clock = bucket.clock
        self.meter = bucket.meter
        self.plan = plan
        self.id = f"call_{plan.number}"
        self.billed = 0
        """By Tier B's engines."""
        self.person = Person(self, plan)
        self._dice = random.Random(f"{bucket.seed} {plan.number} cache")
        self._bucket = bucket
        self._bill = Bill()
        self._tiers = LocalTiers(self)
        self._providers: dict[int, Provider] = {}
        self._ended = ""
        self._began = 0.0
        self._seconds = 0.0
        self._unpaid = 0
        self._steps: list[str] = []
        self._tick_at: float | None = None
        self._pumping = False

    def _make_core(self) -> Call:
        bucket, setup, number = self._bucket, self._bucket.setup, self.plan.number
        budget = CallBudget(setup.core_caps[0])
        ctx = CallContext(
            call_id=self.id,
            ids=Ids(f"{number:x}"),
            session=Session(f"sess_{number}", MODELS[0], int(self.clock.now) + 3600),
            input=InputAudio(FORMAT),
            policy=bucket.policy,
            clips=lambda name, fmt, voice, language: (name, fmt.silence(1200)),
            price=self.meter.price,
            conversation_id=f"conv_{number}",
            budget=budget,
            costs=self.meter,
            stepper=Stepper(setup.steps),
            history=setup.history,
            paces=bucket.paces,
            hedge_cap=bucket.hedges,
        )

        def route(current: str | None, excluded: frozenset[str]) -> Decision:
            known = RouteRequest(self.id, bucket=bucket.name, current=Tier(current) if current else None)
            state = self._budget_state(budget)
            view = View(rungs(self.meter, budget.least), budget=state, excluded=excluded)
            return decide(known, view, self.clock.now)

        return Call(ctx, route, lambda rung, since: True)

    def _budget_state(self, budget: CallBudget) -> BudgetState:
        ledger = self._bucket.ledger
        return BudgetState(
            call_spent=budget.spent,
            call_cap=budget.cap,
            bucket_spent=ledger.settled,
            bucket_cap=ledger.cap,
            call_reserved=budget.reserved,
            bucket_reserved=ledger.reserved,
            held=budget.ahead,
            level=budget.level,
        )

    # --- the call and its ends ---

    def begin(self) -> None:
        self._began = self.clock.now
        self.core = self._make_core()
        if self._bucket.spent_up:
            self._ended = "cut off"
            self._settle()
            return
        self.core.start(self.clock.now)
        self.pump()
        wire = {"format": {"type": FORMAT.wire}}
        changes = {"instructions": INSTRUCTIONS, "tools": [TOOL], "audio": {"input": wire, "output": wire}}
        self.send({"type": "session.update", "session": {"type": "realtime", **changes}})
        self.person.begin(FIRST_WORD_S)

    def hang_up(self, why: str) -> None:
        if self._ended:
            return
        self._ended, self._seconds = why, self.clock.now - self._began
        self.person.gone()
        self.core.client_closed(self.clock.now)
        self.pump()
        self.clock.after(SETTLED_S, self._settle)

    def _settle(self) -> None:
        """All that the call started has been billed."""
        for provider in self._providers.values():
            provider.close()
        self._bucket.open.discard(self.plan.number)
        self._bucket.results.append(self._result())

    def _result(self) -> Result:
        person, bill, model = self.person, self._bill, self._bucket.policy.transcription_model or ""
        billed = sum(self.meter.price(rung, usage) for rung, usage in bill.responses)
        billed += sum(self.meter.price(model, usage) for usage in bill.transcripts)
        return Result(
            number=self.plan.number,
            kind=self.plan.kind,
            spent=self.core.ctx.budget.spent,
            billed=billed + self.billed,
            seconds=round(self._seconds, 2),
            wanted=len(self.plan.turns),
            answered=dict(person.answered),
            said=person.said,
            ended=self._ended,
            steps=self._steps,
            cut_short=person.cut_short,
            unpaid=self._unpaid,
        )

    # --- events into the core ---

    @property
    def there(self) -> bool:
        """Whether the client is still on the line."""
        return not self._ended

    def cached(self) -> bool:
        return self._dice.random() < self._bucket.setup.cache_hits

    @property
    def concise(self) -> str:
        return self._bucket.policy.concise

    def reply(self, instructions: str) -> Reply:
        return self.person.reply(instructions)

    def answer_begins(self, seconds: float, rung: str) -> None:
        if not self._ended:
            self.person.answer_begins(seconds, rung)

    def talk_s(self) -> float:
        return self.person.turn.talk_s if self.person.turn is not None else 0.0

    def send(self, event: Event) -> None:
        """The client's word."""
        if not self._ended:
            self.core.client_message(orjson.dumps(event), self.clock.now)
            self.pump()

    def talk(self, turn: Turn, there: Callable[[], bool]) -> None:
        """The caller says it: heard when it has begun, and when it is over."""
        windows = max(ONSET_WINDOWS + 1, round(turn.talk_s / WINDOW_S))
        rest, text = windows - ONSET_WINDOWS, words(turn.talk_s)

        def started() -> None:
            if there():
                self._hear(ONSET_WINDOWS, 0)
                if (provider := self._serving) is not None:
                    provider.speech_started()

        def stopped() -> None:
            if there():
                self._hear(rest, QUIET_WINDOWS)
                if (provider := self._serving) is not None:
                    provider.speech_stopped(text)

        self.clock.after(ONSET_WINDOWS * WINDOW_S, started)
        self.clock.after((windows + QUIET_WINDOWS) * WINDOW_S, stopped)

    @property
    def _serving(self) -> Provider | None:
        attempt = self.core.serving
        return None if attempt is None else self._providers.get(attempt)

    def _hear(self, loud: int, quiet: int) -> None:
        """So many windows of talk, then of silence, reach the core."""
        left, path = loud + quiet, None
        while left:
            size = min(left, FRAME_WINDOWS)
            path = self.core.client_audio(_append(size), self.clock.now)
            left -= size
        if path is Audio.HEAR:
            self.core.speech([0.9] * loud + [0.0] * quiet, self.clock.now)
        elif (provider := self._serving) is not None:
            provider.heard_ms += (loud + quiet) * WINDOW_S * 1000
        self.pump()

    def from_provider(self, attempt: int, frame: bytes, item_id: str = "", ms: float = 0.0) -> None:
        if self.core.upstream_frame(attempt, frame, self.clock.now) and self.there:
            self.passed_on(frame)
        if item_id and attempt == self.core.serving and self.there:
            self.person.heard(item_id, ms)
        self.pump()

    def passed_on(self, frame: bytes) -> None:
        """The client gets this frame as it came: audio, which is counted already."""

    def pump(self) -> None:
        """Carry out what the core wants done, and see to its next deadline."""
        if self._pumping:
            return
        self._pumping = True
        while actions := self.core.drain():
            for action in actions:
                self._carry_out(action)
        self._pumping = False
        self._cut_off_if_spent()
        due = self.core.next_due()
        if due is not None and (self._tick_at is None or due < self._tick_at):
            self._tick_at = due
            self.clock.at(due, self._tick)

    def _tick(self) -> None:
        if self._tick_at is None or self.clock.now < self._tick_at:
            return
        self._tick_at = None
        self.core.tick(self.clock.now)
        self.pump()

    def _cut_off_if_spent(self) -> None:
        setup = self._bucket.setup
        if not setup.cut_off or self._ended:
            return
        over = setup.call_cap is not None and self.core.ctx.budget.spent >= setup.call_cap
        if over or self._bucket.spent_up:
            self.hang_up("cut off")

    # --- what the core wants done ---

    def _carry_out(self, action: Action) -> None:
        match action:
            case ToClient(event):
                if not self._ended:
                    self.person.event(event, local_audio=self.core.serving is None)
            case ToUpstream(event, attempt):
                if (provider := self._providers.get(attempt)) is not None:
                    provider.receive(event)
            case Record(type, fields):
                self._record(type, fields)
            case OpenUpstream(attempt, rung):
                self._providers[attempt] = Provider(self, attempt, rung, self._bill)
            case CloseUpstream(attempt):
                if (provider := self._providers.pop(attempt, None)) is not None:
                    provider.close()
            case StartAnswer(tier, request):
                self._tiers.start(tier, request)
            case StopAnswer(answer_id):
                self._tiers.stop(answer_id)
            case Transcribe(item_id):
                self._tiers.transcribe(item_id)
            case ClaimMoney(sequence, spent, running, ahead):
                self._claim(sequence, Claim(spent, running, ahead))
            case HangUp():
                self.clock.after(0.0, lambda: self.hang_up("goodbye"))

    def _claim(self, sequence: int, claim: Claim) -> None:
        grant = self._bucket.ledger.put(Message(self.id, "bench", claim, sequence), self.clock.now)
        share = Share(grant.settled, self._bucket.ledger.cap)
        self.core.granted(sequence, grant.ahead, share, self.clock.now)

    def _record(self, type: str, fields: Event) -> None:
        if type == "charge":
            self._bucket.spent += fields["nanodollars"]
        elif type == "budget_step":
            self._steps.append(str(fields["action"]))
        elif type == "unpaid_response":
            self._unpaid += 1
        elif type == "turn_closed" and not self._ended:
            self.person.turn_lost()
        rows = self._bucket.rows
        if rows is not None:
            tier = self.core.ctx.tier
            rows.append({"time": self.clock.now, "type": type, "call_id": self.id, "tier": tier, **fields})


@cache
def _append(windows: int) -> bytes:
    sound = b64encode(FORMAT.silence(round(windows * WINDOW_S * 1000)))
    return b'{"type":"input_audio_buffer.append","audio":"' + sound + b'"}'
