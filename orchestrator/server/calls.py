"""Driving calls: the sockets, tasks and timers around the state machine in `orchestrator.core.call`.

`CallDriver` carries one client connection: it feeds frames, speech probabilities, answers and the time into the
core and carries out the actions that come back. All of it runs on the event loop; models run in threads.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import aclosing
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, Protocol

from orchestrator.core.actions import (
    Action,
    AskApproval,
    CheckSpeech,
    ClaimMoney,
    CloseUpstream,
    HangUp,
    Judge,
    Listen,
    OpenUpstream,
    Record,
    Report,
    RunTool,
    StartAnswer,
    StopAnswer,
    StopListening,
    ToClient,
    ToUpstream,
    ToUpstreamFrame,
    Transcribe,
)
from orchestrator.core.budget import CallBudget
from orchestrator.core.call import Audio, Call
from orchestrator.core.context import CallContext, Costs, Policy
from orchestrator.core.drills import Plan
from orchestrator.core.grants import Grant
from orchestrator.core.health import Cause, ProbeKind
from orchestrator.core.input_audio import InputAudio
from orchestrator.core.latency import CallLatency, Lately, Taken
from orchestrator.core.ledger import Claim
from orchestrator.core.ledger import Grant as MoneyGrant
from orchestrator.core.overrides import Tier
from orchestrator.core.pace import HedgeCap, Paces
from orchestrator.core.redaction import Redactor
from orchestrator.core.routing import Decision, RouteRequest
from orchestrator.core.steps import Share, Stepper, StepPolicy
from orchestrator.core.tools import Result, ToolOutcome, Toolset
from orchestrator.protocol.answers import Answerer, AnswerRequest, Charge, Failed, Transcriber
from orchestrator.protocol.audio import AudioFormat, Decoder, Float32, hear
from orchestrator.protocol.session import Session
from orchestrator.protocol.wire import Event, Ids, dump
from orchestrator.server import tally
from orchestrator.server.business_events import BusinessEvents
from orchestrator.server.drills import Drills
from orchestrator.server.events import EventLog
from orchestrator.server.guardrails import SERVING, Guardrails
from orchestrator.server.ledger import Account
from orchestrator.server.logs import CALL
from orchestrator.server.recording import Recording
from orchestrator.server.sockets import ClientSocket
from orchestrator.server.tally import Tally
from tiers.realtime.link import Link, Loss, LossKind

log = logging.getLogger(__name__)

SESSION_S = 3600
CATCH_UP_MS = 1000.0
TOOL_ROWS = frozenset({"tool_call", "tool_confirmation", "tool_approval", "tool_result"})
"""Rows that hold what callers gave a tool, and what it said."""
MONEY_ROWS = tally.ROWS | {"call_ended"}
"""Rows of the timeline that name the bucket and the user as well."""
FIRST_PING_S = 1.0
SPEECH_WINDOWS = 6
"""Windows of 32 ms in which speech must be found before a provider that noticed none counts as deaf."""


class Ear(Protocol):
    """Streaming voice activity detection: one probability per complete window of 32 ms."""

    def feed(self, samples: Float32) -> list[float]: ...


class Toolbox(Protocol):
    async def run(self, info: CallInfo, action: RunTool) -> ToolOutcome: ...


class Approvals(Protocol):
    def ask(self, info: CallInfo, action: AskApproval, decide: Callable[[bool, str, str], None]) -> None:
        """A person is asked; `decide` is called once, with yes or no, who, and why."""
        ...

    def withdraw(self, call_id: str) -> None:
        """The call is over: what it asked need not be decided any more."""
        ...


class Services(Protocol):
    """What a call needs of the process it lives in."""

    policy: Policy
    paces: Paces
    hedge_cap: HedgeCap
    events: EventLog
    redactor: Redactor
    """Of what callers give tools, for the timeline."""
    business: BusinessEvents
    drills: Drills
    tally: Tally
    lately: Lately
    ping_s: float
    """How often the ways to client and provider are measured."""
    guardrails: Guardrails
    transcriber: Transcriber
    answerers: Mapping[str, Answerer]
    """By tier: B and C."""

    @property
    def costs(self) -> Costs: ...

    @property
    def caps(self) -> Mapping[str, int]:
        """Of buckets, a day, in nano-dollars."""
        ...

    def clips(self, name: str, fmt: AudioFormat, voice: str, language: str) -> tuple[str, bytes]: ...

    def expect(self, voice: str, language: str) -> None:
        """A call in this voice and language is under way: its bridges had better be ready."""

    def route(self, request: RouteRequest, budget: CallBudget, excluded: frozenset[str]) -> Decision: ...

    def trusted(self, rung: str, since: float) -> bool: ...

    def report(self, rung: str, cause: str, proof: ProbeKind) -> None: ...

    def open_account(self, call_id: str, bucket: str) -> Account:
        """At the ledger of the call's bucket."""
        ...

    def steps(self, bucket: str) -> StepPolicy:
        """How a call on that bucket gets cheaper."""
        ...

    def history(self, bucket: str) -> str:
        """What becomes of a long history: "provider", "retention" or "text"."""
        ...

    def price(self, model: str, usage: Event) -> int: ...

    @property
    def toolbox(self) -> Toolbox: ...

    @property
    def approvals(self) -> Approvals: ...

    def toolset(self, info: CallInfo) -> Toolset:
        """Which tools and agents a call may use."""
        ...

    def new_ear(self) -> Ear: ...

    def open_link(
        self, rung: str, on_frame: Callable[[bytes], None], on_lost: Callable[[Loss], None]
    ) -> Link: ...


@dataclass(slots=True)
class CallInfo:
    """Who a call is for; what the routing API and the status page show of it."""

    call_id: str
    model: str
    user: str = ""
    purpose: str = "conversation"
    bucket: str = "default"
    started_at: float = field(default_factory=time.time)
    tools: tuple[str, ...] | None = None
    """Of the tools it may use, those it asked for; None for all."""
    who: str = ""
    """Whose key or token opened it: `Identity.id`."""
    grant: Grant | None = None
    """What a credential lets its client make of it; None: it came with a key."""
    recording_consent: bool = False
    """Whether the caller has agreed to be recorded, as who opened the call said."""


def new_call_id() -> str:
    return "call_" + secrets.token_hex(6)


_CAUSES: dict[LossKind, Cause] = {
    LossKind.REFUSED: Cause.REFUSED,
    LossKind.TIMEOUT: Cause.CONNECT_TIMEOUT,
    LossKind.CLOSED: Cause.CLOSED,
}
_HTTP_CAUSES = {401: Cause.BAD_KEY, 403: Cause.BAD_KEY, 404: Cause.MODEL_NOT_FOUND, 429: Cause.RATE_LIMITED}
_CLOSE_CAUSES = {3000: Cause.BAD_KEY, 4000: Cause.MODEL_NOT_FOUND, 4004: Cause.MODEL_NOT_FOUND}


def cause_of(loss: Loss) -> Cause:
    """What a lost provider socket says of its rung."""
    if loss.kind is LossKind.HTTP:
        if "credit_balance_exhausted" in loss.reason or "insufficient_quota" in loss.reason:
            return Cause.NO_CREDIT
        return _HTTP_CAUSES.get(loss.code or 0, Cause.REFUSED)
    if "credit_balance_exhausted" in loss.reason or "insufficient_quota" in loss.reason:
        return Cause.NO_CREDIT
    return _CLOSE_CAUSES.get(loss.code or 0, _CAUSES[loss.kind])


class CallDriver:
    """One call on one client socket."""

    def __init__(self, info: CallInfo, socket: ClientSocket, services: Services, budget: CallBudget) -> None:
        self.info = info
        self._socket = socket
        self._services = services
        self._links: dict[int, Link] = {}
        """Sockets to the provider, by attempt: the one that serves the call, and one that is being prepared."""
        self._ear: Ear | None = None
        self._decoder: Decoder | None = None
        self._unheard_from: float | None = None
        """Where the kept audio begins that the ear has still to hear, in ms of the call's input; None: it is live."""
        self._answers: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._tools: set[asyncio.Task[None]] = set()
        """Tools at work: they outlive the client's connection, as what they change does."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._account: Account | None = services.open_account(info.call_id, info.bucket)
        self.latency: CallLatency = services.lately.call()
        self.recording: Recording | None = None
        """Set before the first frame comes, if the call is recorded."""
        self._next_ping: asyncio.TimerHandle | None = None
        self._pumping = self._closing = False
        self._on_ended: Callable[[], None] = lambda: None
        self.call = self._make_call(budget)
        socket.on_open, socket.on_frame, socket.on_closed = self._opened, self._client_frame, self._closed
        socket.on_pong = self._measure_way

    def _make_call(self, budget: CallBudget) -> Call:
        info, services = self.info, self._services
        token = info.call_id.removeprefix("call_")
        session = Session(f"sess_{token}", info.model, int(info.started_at) + SESSION_S)
        ctx = CallContext(
            call_id=info.call_id,
            ids=Ids(token),
            session=session,
            input=InputAudio(AudioFormat.PCM),
            policy=services.policy,
            clips=services.clips,
            price=services.price,
            conversation_id=f"conv_{token}",
            budget=budget,
            costs=services.costs,
            stepper=Stepper(services.steps(info.bucket)),
            history=services.history(info.bucket),
            tools=services.toolset(info),
            grant=info.grant,
            paces=services.paces,
            hedge_cap=services.hedge_cap,
            wall_offset=time.time() - time.monotonic(),
        )

        def route(current: str | None, excluded: frozenset[str]) -> Decision:
            request = RouteRequest(
                call_id=info.call_id,
                user=info.user,
                purpose=info.purpose,
                bucket=info.bucket,
                current=Tier(current) if current else None,
                started=info.started_at,
            )
            return services.route(request, budget, excluded)

        return Call(ctx, route, services.trusted)

    @property
    def call_id(self) -> str:
        return self.info.call_id

    @property
    def tier(self) -> str:
        return self.call.ctx.tier

    def _context(self) -> Context:
        """For what is done for this call: the log names it."""
        context = copy_context()
        context.run(CALL.set, self)
        return context

    def describe(self) -> dict[str, Any]:
        """The call as the status page shows it."""
        ctx = self.call.ctx
        return {
            "call_id": self.info.call_id,
            "tier": ctx.tier,
            "rung": ctx.rung,
            "reason": ctx.reason,
            "state": self.call.state.value,
            "user": self.info.user,
            "purpose": self.info.purpose,
            "bucket": self.info.bucket,
            "who": self.info.who,
            "started_at": self.info.started_at,
            "spent_usd": ctx.budget.spent / 1e9,
            "reserved_usd": (ctx.budget.reserved + ctx.budget.ahead) / 1e9,
            "cap_usd": None if ctx.budget.cap is None else ctx.budget.cap / 1e9,
            "budget_step": ctx.stepper.level,
        }

    def practise(self, plan: Plan | None) -> None:
        """A drill has this call, or does not want it any more."""
        self.call.drill = plan

    def on_ended(self, callback: Callable[[], None]) -> None:
        self._on_ended = callback

    # --- events in ---

    def _opened(self) -> None:
        self.call.start(time.monotonic())
        self._next_ping = asyncio.get_running_loop().call_later(FIRST_PING_S, self._ping)
        self._pump()

    def _client_frame(self, frame: bytes) -> None:
        now = time.monotonic()
        path = self.call.client_audio(frame, now)
        if self.recording is not None and path is not None:
            self.recording.caller(frame, self.call.ctx.input.format, now)
        if path is Audio.FORWARD:
            self._send(self.call.serving, frame)
            if not self.call.ctx.out:
                return
        elif path is Audio.HEAR:
            self._hear(frame, now)
        elif path is None:
            usual = self.call.client_message(frame, now)
            if usual is not None:
                self._client_frame(usual)
                return
            session = self.call.ctx.session
            self._services.expect(session.voice, session.language)
        self._pump()

    def _hear(self, frame: bytes, now: float) -> None:
        data = InputAudio.decode(frame)
        if not data:
            self.call.bad_audio()
        elif self._ear is not None and self._decoder is not None and self._unheard_from is None:
            probabilities = self._ear.feed(self._decoder.decode(data))
            if probabilities:
                self.call.speech(probabilities, now)

    def _upstream_frame(self, attempt: int, frame: bytes) -> None:
        now = time.monotonic()
        if self.call.upstream_frame(attempt, frame, now):
            self._socket.send(frame)
            if self.recording is not None:
                self.recording.told_frame(frame, self.call.ctx.session.output_format, now)
            if not self.call.ctx.out:
                return
        self._pump()

    def _upstream_lost(self, attempt: int, loss: Loss) -> None:
        self.call.upstream_lost(attempt, cause_of(loss), time.monotonic(), str(loss))
        self._pump()

    def _closed(self) -> None:
        """The client is gone. The call is over when the last bill is here, which may take seconds."""
        self._closing = True
        if self._next_ping is not None:
            self._next_ping.cancel()
        for task in [*self._answers.values(), *self._tasks]:
            task.cancel()
        self._socket.let_go()
        self._services.approvals.withdraw(self.info.call_id)
        if self.recording is not None:
            self.recording.hang_up(time.monotonic())
        self.call.client_closed(time.monotonic())
        self._pump()

    def _finish(self) -> None:
        if self._account is None:
            return
        account, self._account = self._account, None
        account.close(Claim(self.call.ctx.budget.spent))
        for link in self._links.values():
            link.close()
        if self._timer is not None:
            self._timer.cancel()
        self._on_ended()

    def reconsider(self) -> None:
        """Something the router decides from has changed."""
        self.call.consider(time.monotonic())
        self._pump()

    # --- actions out ---

    def _pump(self) -> None:
        self._pumping = True
        try:
            while actions := self.call.drain():
                for action in actions:
                    self._carry_out(action)
        finally:
            self._pumping = False
        if self._closing and self.call.over:
            self._finish()
        else:
            self._set_timer()

    def _carry_out(self, action: Action) -> None:
        match action:
            case ToClient(event):
                self._socket.send(dump(event))
                if self.recording is not None and event["type"] == "response.output_audio.delta":
                    self.recording.told(event["delta"], self.call.ctx.session.output_format, time.monotonic())
            case ToUpstream(event, attempt):
                self._send(attempt, dump(event))
            case ToUpstreamFrame(frame, attempt):
                self._send(attempt, frame)
            case Record(type, fields):
                self._record(type, fields)
            case Report(rung, cause, proof):
                self._services.report(rung, cause, proof)
            case ClaimMoney():
                self._claim(action)
            case HangUp(reason):
                self._socket.close(1000, reason)
            case OpenUpstream() | CloseUpstream():
                self._carry_out_link(action)
            case StartAnswer() | StopAnswer():
                self._carry_out_answer(action)
            case RunTool() | AskApproval():
                self._carry_out_tool(action)
            case _:
                self._carry_out_hearing(action)

    def _record(self, type: str, fields: dict[str, Any]) -> None:
        fields = {"tier": self.call.ctx.tier, **fields}
        if type == "call_started":
            fields["who"] = self.info.who
        if type in MONEY_ROWS:
            fields |= {"bucket": self.info.bucket, "user": self.info.user}
            self._services.tally.note(type, fields)
        shown = self._services.redactor.redact(fields) if type in TOOL_ROWS else fields
        self._services.events.add(type, call_id=self.info.call_id, **shown)
        self._services.drills.note(self.info.call_id, type, fields)
        self._services.business.note(type, fields, self.info, self.call.ctx.conversation.history)
        if self.recording is not None and type == "waste":
            self.recording.barge_in(time.monotonic())
        self._tell(self.latency.row(type, fields, self.call.ctx.rung, time.monotonic()))

    def _tell(self, breach: Taken | None) -> None:
        if breach is not None:
            self._record("latency_breach", breach.fields())

    # --- the way to client and provider ---

    def _ping(self) -> None:
        """Now and then: measure how long the ways are. What is not back from the last time counts as it is."""
        link = self._serving_link
        if self._socket.round_trip.waits or (link is not None and link.round_trip.waits):
            self._measure_way()
        self._socket.ping()
        if link is not None:
            link.ping()
        self._next_ping = asyncio.get_running_loop().call_later(self._services.ping_s, self._ping)

    @property
    def _serving_link(self) -> Link | None:
        serving = self.call.serving
        return None if serving is None else self._links.get(serving)

    def _measure_way(self) -> None:
        now, ctx, link = time.monotonic(), self.call.ctx, self._serving_link
        provider_ms = None if link is None else link.round_trip.ms(now)
        self._tell(self.latency.way(self._socket.round_trip.ms(now), provider_ms, ctx.tier, ctx.rung, now))

    def _claim(self, action: ClaimMoney) -> None:
        """Tell the bucket how things are with this call; its answer may come at once, and more than once."""

        def on_grant(grant: MoneyGrant | None) -> None:
            cap = self._services.caps.get(self.info.bucket)
            ahead, bucket = None, Share(0, cap)
            if grant is not None:
                ahead, bucket = grant.ahead, Share(grant.settled, cap)
            self.call.granted(action.sequence, ahead, bucket, time.monotonic())
            if not self._pumping:
                self._pump()

        claim = Claim(action.spent, action.running, action.ahead)
        if self._account is not None:
            self._account.tell(claim, on_grant)

    def _send(self, attempt: int | None, frame: bytes) -> None:
        link = self._links.get(attempt) if attempt is not None else None
        if link is not None:
            link.send(frame)

    def _carry_out_link(self, action: OpenUpstream | CloseUpstream) -> None:
        attempt = action.attempt
        if isinstance(action, CloseUpstream):
            link = self._links.pop(attempt, None)
            if link is not None:
                link.close()
            return
        self._links[attempt] = self._context().run(
            self._services.open_link,
            action.rung,
            lambda frame: self._upstream_frame(attempt, frame),
            lambda loss: self._upstream_lost(attempt, loss),
        )

    def _carry_out_answer(self, action: StartAnswer | StopAnswer) -> None:
        if isinstance(action, StopAnswer):
            task = self._answers.pop(action.answer_id, None)
            if task is not None:
                task.cancel()
            return
        request = action.request
        answering = self._answer(action.tier, request)
        task = asyncio.get_running_loop().create_task(answering, context=self._context())
        self._answers[request.answer_id] = task
        task.add_done_callback(lambda _: self._answer_closed(action.tier, request.answer_id))

    async def _answer(self, tier: str, request: AnswerRequest) -> None:
        SERVING.set(self.info)
        try:
            async with aclosing(self._services.answerers[tier].answer(request)) as events:  # type: ignore[type-var]
                async for event in events:
                    self.call.answer_event(request.answer_id, event, time.monotonic())
                    self._pump()
        except Exception as error:
            log.exception("tier %s failed to answer in call %s", tier, self.info.call_id)
            failed = Failed("internal_error", type(error).__name__)
            self.call.answer_event(request.answer_id, failed, time.monotonic())
            self._pump()

    def _carry_out_tool(self, action: RunTool | AskApproval) -> None:
        if isinstance(action, RunTool):
            task = asyncio.get_running_loop().create_task(self._run_tool(action), context=self._context())
            self._tools.add(task)
            task.add_done_callback(self._tools.discard)
            return

        def decide(yes: bool, who: str, reason: str) -> None:
            self.call.approved(action.tool_call_id, yes, who, reason, time.monotonic())
            if not self._pumping:
                self._pump()

        self._services.approvals.ask(self.info, action, decide)

    async def _run_tool(self, action: RunTool) -> None:
        try:
            outcome = await self._services.toolbox.run(self.info, action)
        except Exception as error:
            log.exception("tool %s failed in call %s", action.tool, self.info.call_id)
            outcome = ToolOutcome(Result.UNKNOWN, message=f"internal error ({type(error).__name__})")
        self.call.tool_done(action.tool_call_id, outcome, time.monotonic())
        self._pump()

    def _answer_closed(self, tier: str, answer_id: str) -> None:
        """An answer has ended, maybe because it was stopped: what it had cost by then is known now."""
        self._answers.pop(answer_id, None)
        charges = self._services.answerers[tier].untold(answer_id)
        self.call.answer_closed(answer_id, charges, time.monotonic())
        self._pump()

    def _carry_out_hearing(self, action: Action) -> None:
        match action:
            case Listen(from_ms):
                self._listen(from_ms)
            case StopListening():
                self._ear = self._decoder = self._unheard_from = None
            case Transcribe():
                self._run(self._transcribe(action))
            case CheckSpeech():
                self._run(self._check_speech(action))
            case Judge():
                self._run(self._judge(action))

    def _listen(self, from_ms: float) -> None:
        self._ear, self._decoder = self._services.new_ear(), Decoder(self.call.ctx.input.format)
        self._unheard_from = from_ms
        self._catch_up(self._ear)

    def _catch_up(self, ear: Ear) -> None:
        """Hear the kept audio, a second of it at a time: a long turn must not hold other calls up."""
        call_input = self.call.ctx.input
        if ear is not self._ear or self._decoder is None or self._unheard_from is None:
            return
        start, end = self._unheard_from, min(self._unheard_from + CATCH_UP_MS, call_input.total_ms)
        self._unheard_from = end if end < call_input.total_ms else None
        kept = call_input.slice(start, end)
        if kept:
            self.call.speech(ear.feed(self._decoder.decode(kept)), time.monotonic())
        if self._unheard_from is not None:
            asyncio.get_running_loop().call_soon(self._hear_on, ear)

    def _hear_on(self, ear: Ear) -> None:
        self._catch_up(ear)
        self._pump()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, context=self._context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _transcribe(self, action: Transcribe) -> None:
        transcript, charges = None, tuple[Charge, ...]()
        try:
            audio = await asyncio.to_thread(hear, action.audio, action.format)
            transcript = await self._services.transcriber.transcribe(audio, action.language)
            transcript = await self._services.guardrails.listen(self.info, transcript)
        except Exception as error:
            charges = getattr(error, "charges", ())
            log.exception("transcribing a turn of call %s failed", self.info.call_id)
        self.call.transcribed(action.item_id, transcript, time.monotonic(), charges)
        self._pump()

    async def _judge(self, action: Judge) -> None:
        line = await self._services.guardrails.judge(self.info, action.hook, action.text)
        self.call.judged(action.hook, action.id, line, time.monotonic())
        self._pump()

    async def _check_speech(self, action: CheckSpeech) -> None:
        def any_speech() -> bool:
            probabilities = self._services.new_ear().feed(hear(action.audio, action.format))
            return sum(p >= action.threshold for p in probabilities) >= SPEECH_WINDOWS

        found = await asyncio.to_thread(any_speech)
        self.call.speech_checked(found, time.monotonic())
        self._pump()

    # --- time ---

    def _set_timer(self) -> None:
        """One timer for the call's earliest deadline; a deadline that moved later is found when it fires."""
        due = self.call.next_due()
        if due is None or (self._timer is not None and self._timer_due <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        delay = max(0.0, due - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.call.tick(time.monotonic())
        self._pump()
