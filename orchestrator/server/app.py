"""One process of the service: engines, fleet, calls, the HTTP API and the Realtime WebSocket on one port."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import uvicorn
from fastapi import FastAPI
from picows import WSUpgradeRequest, WSUpgradeResponseWithListener

from orchestrator.config import Settings
from orchestrator.core.budget import CallBudget
from orchestrator.core.context import Policy
from orchestrator.core.drills import Drill
from orchestrator.core.health import Cause, ProbeKind
from orchestrator.core.latency import Lately
from orchestrator.core.overrides import Override, Tier
from orchestrator.core.pace import DeadlinePolicy, HedgeCap, Paces, Step
from orchestrator.core.provider import TERMINAL_CODES
from orchestrator.core.redaction import Redactor
from orchestrator.core.routing import Decision, RouteRequest
from orchestrator.core.steps import StepPolicy
from orchestrator.core.tools import Toolset
from orchestrator.protocol.answers import Answerer
from orchestrator.protocol.audio import AudioFormat
from orchestrator.protocol.wire import Event
from orchestrator.server import logs, readiness
from orchestrator.server.approvals import Approvals
from orchestrator.server.audit import Audit
from orchestrator.server.auth import Refusal, subprotocol
from orchestrator.server.broker import Broker
from orchestrator.server.business_events import BusinessEvents
from orchestrator.server.call_records import CallRecords
from orchestrator.server.calls import CallDriver, CallInfo, cause_of, new_call_id
from orchestrator.server.costs import Costs
from orchestrator.server.credentials import Credentials, Use
from orchestrator.server.definitions import Definitions
from orchestrator.server.direct import Direct
from orchestrator.server.door import Door
from orchestrator.server.drills import Drills
from orchestrator.server.engines import Engines, TierB
from orchestrator.server.events import EventLog
from orchestrator.server.fleet import Change, ChangeKind, Fleet
from orchestrator.server.frame_limits import FrameLimits
from orchestrator.server.guardrails import Guardrails, Hook
from orchestrator.server.guards import lacking
from orchestrator.server.history import History
from orchestrator.server.http import Part, build_api
from orchestrator.server.identity import Identity, Scope
from orchestrator.server.known_secrets import redactor_of
from orchestrator.server.ledger import Account
from orchestrator.server.links import Links
from orchestrator.server.metrics import Metrics
from orchestrator.server.opening import Opening
from orchestrator.server.outlets import Outlet, WebhookSink
from orchestrator.server.part_health import PartHealth
from orchestrator.server.prompt_files import PromptFiles
from orchestrator.server.pulse import feel
from orchestrator.server.purse import Purse
from orchestrator.server.reconsidering import Reconsidering
from orchestrator.server.recording import Recorder, State
from orchestrator.server.request_limits import http_protocol
from orchestrator.server.sockets import ClientSocket, accept, refuse, websocket_protocol
from orchestrator.server.speaking import Speaking
from orchestrator.server.store import EmbeddedStore, RedisStore, Store
from orchestrator.server.summaries import PROMPT as CALL_SUMMARY
from orchestrator.server.summaries import WAITING, Summaries
from orchestrator.server.summary_writing import SummaryWriter
from orchestrator.server.tally import Tally
from orchestrator.server.toolbox import Toolbox
from orchestrator.server.traces import Traces
from tiers.pipeline.vad import Vad
from tiers.realtime.link import Link, Loss
from tiers.realtime.probe import Probed, probe

log = logging.getLogger(__name__)

PATH = "/v1/realtime"
WEBHOOK_S = 5.0
"""How long a webhook may take to say that it has a summary."""


class Orchestrator:
    """Everything that calls and the API share; `Services` of `calls.py` and `Service` of `http.py`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = _store(settings)
        self.audit = Audit.from_settings(settings, self.store)
        self.fleet = Fleet.from_settings(self.store, settings)
        self.guardrails = Guardrails(
            settings.guardrails,
            known_line=lambda name: self.engines.prompts.catalogue.is_constant(name),
            record=self._record_guardrail,
        )
        vet = self.guardrails.vet if Hook.SAID in self.guardrails else None
        self.engines = Engines(settings, partial(PartHealth, self.fleet, settings), vet)
        self.definitions = Definitions(settings.tier_c, self.store, self.engines.prompts)
        self.events = EventLog(settings.server.events_path)
        self.metrics = Metrics(settings)
        self.events.listeners.append(self.metrics.row)
        self.traces: Traces | None = None
        if settings.telemetry.otlp_endpoint is not None:
            self.traces = Traces(settings.telemetry, self.fleet.status().replica)
            self.events.listeners.append(self.traces.row)
        self.records = CallRecords(settings.calls.keep)
        self.events.listeners.append(self.records.row)
        self.replica_history = History(time.time())
        self.events.listeners.append(self.replica_history.row)
        self.fleet.watch_breakers(
            lambda rung, state, cause: self.replica_history.breaker(rung, state, cause, time.time())
        )
        self.business = BusinessEvents.from_settings(settings, self.store, self.fleet.status().replica)
        self.redactor = redactor_of(settings)
        self.approvals = Approvals(self.store, settings.approvals.timeout_s, self.redactor)
        self.recorder = Recorder(
            settings.recording, self.events, self.redactor, expired=self._recordings_expired
        )
        self.drills = Drills(self.store, on_end=self._drill_ended)
        self.purse = Purse(self.fleet.ledgers)
        self.engines.speaking.purse = self.purse
        self.engines.speaking.bucket = settings.budget.default_bucket
        self.links = Links(settings.links.secret, settings.links.ttl_s)
        self.summaries = self._make_summaries(self.redactor)
        self.tally = Tally()
        self.lately = Lately(settings.latency_budgets.limits())
        self.ping_s = settings.latency_budgets.ping_s
        self.policy = replace(_policy(settings), guarded=self.guardrails.late)
        self.paces = Paces()
        self.hedge_cap = HedgeCap(settings.hedging.max_share, settings.hedging.burst)
        self.transcriber = self.engines.transcriber
        tier_b = TierB(self.engines.pipeline, settings.tier_b.instructions, settings.tier_b.voice)
        self.answerers: Mapping[str, Answerer] = {"B": tier_b, "C": self.engines.prompts}
        called = self.guardrails.called if Hook.CALLED in self.guardrails else None
        self.toolbox = Toolbox(settings, self.store, called)
        self.costs = Costs(settings, tier_b, self.engines.prompts)
        self.credentials = Credentials(settings.credentials.secret, self.store)
        self.door = Door(settings, self.store, self.credentials)
        self.direct = Direct(settings)
        self.broker = Broker(settings, self.fleet, self.toolbox, self.credentials, self.direct, self.events)
        self._overrides: dict[str, Override] = {}
        """Those in force, as they were when one of them last changed."""
        self.frame_limits = _frame_limits(settings)
        self._drivers: dict[str, CallDriver] = {}
        self._reconsidering = Reconsidering(self._drivers)
        self._tasks: list[asyncio.Task[None]] = []
        self._summing_up: set[asyncio.Task[None]] = set()

    # --- life ---

    async def start(self) -> None:
        await self.audit.start()
        await self.door.start()
        await self.fleet.start()
        self.fleet.on_change(self._reconsider)
        self.business.start()
        await self.approvals.start()
        await self.drills.start()
        self.summaries.start()
        self.recorder.start()
        self._tasks = [
            asyncio.create_task(self._warm(), name="warm"),
            asyncio.create_task(self._probe(), name="probe"),
            asyncio.create_task(feel(self.metrics.loop_late), name="pulse"),
            asyncio.create_task(self.toolbox.start(), name="tools"),
            asyncio.create_task(self.engines.prompts.render_ahead(), name="render ahead"),
            asyncio.create_task(self.definitions.watch(), name="definitions"),
            asyncio.create_task(self.audit.note_budgets(self.settings), name="budgets noted"),
        ]

    async def _warm(self) -> None:
        await self.engines.warm(self.fleet.set_ready)
        # What was loaded stays. A collector that went through all of it again would hold every call up.

        gc.freeze()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.door.close()
        await self.direct.close()
        await self.toolbox.close()
        await self.approvals.close()
        await self.drills.close()
        await self.summaries.close()
        await self.business.close()
        await self.engines.close()
        await self.fleet.close()
        await self.audit.close()
        await self.store.close()
        await self.guardrails.close()
        await self.recorder.close()
        if self.traces is not None:
            await self.traces.close()
        await asyncio.to_thread(self.events.close)

    # --- what calls need ---

    def clips(self, name: str, fmt: AudioFormat, voice: str, language: str) -> tuple[str, bytes]:
        return self.engines.prompts.bridge(name, fmt, voice=voice, language=language)

    def _record_guardrail(self, info: CallInfo | None, fields: dict[str, Any]) -> None:
        if info is not None:
            driver = self._drivers.get(info.call_id)
            tier = driver.tier if driver is not None else ""
            self.events.add("guardrail", tier=tier, call_id=info.call_id, **fields)

    def expect(self, voice: str, language: str) -> None:
        self.engines.prompts.expect(language, voice)

    def route(self, request: RouteRequest, budget: CallBudget, excluded: frozenset[str]) -> Decision:
        return self.fleet.place(request, budget, excluded)

    def trusted(self, rung: str, since: float) -> bool:
        breaker = self.fleet.breakers.get(rung)
        if breaker is None or breaker.is_open:
            return False
        return breaker.proved_at is not None and breaker.proved_at > since

    def report(self, rung: str, cause: str, proof: ProbeKind = ProbeKind.RESPONSE) -> None:
        if cause:
            self.fleet.failed(rung, Cause.parse(cause))
        else:
            self.fleet.succeeded(rung, proof)

    def price(self, model: str, usage: Event) -> int:
        return self.costs.price(model, usage)

    @property
    def caps(self) -> Mapping[str, int]:
        return self.fleet.ledgers.caps

    def open_account(self, call_id: str, bucket: str) -> Account:
        return self.fleet.ledgers.open(call_id, bucket)

    def steps(self, bucket: str) -> StepPolicy:
        return self.settings.budget.steps_of(bucket)

    def history(self, bucket: str) -> str:
        return self.settings.budget.history_of(bucket)

    def toolset(self, info: CallInfo) -> Toolset:
        return self.toolbox.toolset(info.purpose, info.bucket, info.tools)

    def new_ear(self) -> Vad:
        return Vad()

    def open_link(
        self, rung: str, on_frame: Callable[[bytes], None], on_lost: Callable[[Loss], None]
    ) -> Link:
        self.fleet.started(rung)
        link = Link(on_frame, on_lost)
        tier_a = self.settings.tier_a
        link.open(
            self.settings.realtime_url(rung),
            self.settings.provider_headers(rung),
            handshake_s=10.0,  # the call's own deadline strikes earlier
            ping_interval_s=tier_a.ping_interval_s,
            ping_timeout_s=tier_a.ping_timeout_s,
        )
        return link

    # --- what the API needs ---

    @property
    def prompts(self) -> PromptFiles:
        return self.engines.files

    @property
    def speaking(self) -> Speaking:
        return self.engines.speaking

    def clip_counts(self) -> Mapping[str, int]:
        return self.engines.prompts.cache.counts

    def calls(self) -> Sequence[Mapping[str, Any]]:
        return [driver.describe() for driver in self._drivers.values()]

    def readiness(self) -> Sequence[Part]:
        warm, problems = self.engines.warm_parts, self.engines.problems
        local = [
            Part(name, name in warm, problems.get(name, "" if name in warm else "loading"))
            for name in ("vad", "bridges", "transcription", "speech", "agent")
        ]
        missing = self.fleet.missing(Tier.A)
        tier_a = Part("tier_a", missing is None, "" if missing is None else missing.value, required=False)
        known = self.fleet.status()
        store = Part(
            "store", known.connected, "" if known.connected else "away; going on with the last view", False
        )
        door = [Part(wrong.part, False, wrong.detail, wrong.closed) for wrong in self.door.troubles()]
        more = [*self._audit_readiness(), *self._tools_readiness()]
        seen = [*readiness.voices(self.engines.speaking)]
        seen += readiness.certificate(self.door.certificate, time.time())
        return readiness.explained([*local, tier_a, store, *door, *more, *seen])

    def _audit_readiness(self) -> Sequence[Part]:
        if not self.audit.problem:
            return []
        detail = f"{self.audit.waiting} entries wait: {self.audit.problem}"
        return [Part("audit", False, detail, required=False)]

    def _tools_readiness(self) -> Sequence[Part]:
        if not self.settings.tools:
            return []
        wrong = "; ".join(f"{name}: {problem}" for name, problem in sorted(self.toolbox.problems.items()))
        return [Part("tools", not wrong, wrong, required=False)]

    # --- calls ---

    def on_upgrade(
        self, request: WSUpgradeRequest, peer: tuple[str, int] | None
    ) -> WSUpgradeResponseWithListener:
        headers = {name.lower(): value for name, value in request.headers.items()}
        found, _ = self.door.identify(headers, peer[0] if peer else None)
        if isinstance(found, Refusal):
            return self._turn_away(found)
        if refusal := _may_not_call(found):
            return self._turn_away(refusal, found)
        url = urlsplit(request.path.decode())
        if url.path.rstrip("/") != PATH:
            return refuse(404, _error(f"There is no WebSocket at {url.path}; connect to {PATH}?model=…."))
        query = {name: values[-1] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        if refusal := _wrong_call(found, query):
            return self._turn_away(refusal, found)
        # Whoever tries a used credential again and again is not to use up the calls of the key that made it.
        used = found.grant is not None and self.credentials.known_used(found.grant.call_id)
        if not used and (refusal := self.door.limits.call(found, _user_of(found, query))):
            return self._turn_away(refusal, found)
        if refusal := self._full(found):
            return self._turn_away(refusal, found)
        socket = ClientSocket(self.frame_limits)
        self._start_call(query, socket, found)
        return accept(socket, subprotocol(headers))

    def _turn_away(self, refusal: Refusal, known: Identity | None = None) -> WSUpgradeResponseWithListener:
        self.metrics.refused(refusal.code)
        if known is not None and refusal.status == 403:
            self.audit.refused(known, f"WebSocket {PATH}", refusal.code)
        return refuse(refusal.status, orjson.dumps(refusal.body()), refusal.headers())

    def _full(self, identity: Identity) -> Refusal | None:
        """Why there is no room for one more call; None where there is."""
        limits, drivers = self.settings.limits, self._drivers.values()
        if limits.calls and len(drivers) >= limits.calls:
            message = (
                f"this server has {limits.calls} calls, and takes no more; try again later (limits.calls)"
            )
            return Refusal(503, "server_full", message)
        most = limits.calls_per_key
        if most and sum(driver.info.who == identity.id for driver in drivers) >= most:
            message = f"there are {most} calls with this key already; end some of them (limits.calls_per_key)"
            return Refusal(429, "too_many_calls", message)
        return None

    def _start_call(self, query: Mapping[str, str], socket: ClientSocket, identity: Identity) -> None:
        """With a credential all is as it was granted, and the call waits for word that it was not used before."""
        grant, default = identity.grant, self.settings.realtime(self.settings.tier_a.rungs[0]).model
        if grant is None:
            info = CallInfo(
                call_id=new_call_id(),
                model=query.get("model") or default,
                user=_user_of(identity, query),
                purpose=query.get("purpose", "conversation"),
                bucket=query.get("bucket") or self.settings.budget.default_bucket,
                tools=_names(query["tools"]) if "tools" in query else None,
                who=identity.id,
                recording_consent=query.get("recording_consent") == "true",
            )
            self._begin(info, socket)
            return
        info = CallInfo(
            call_id=grant.call_id,
            model=grant.model or default,
            user=grant.user,
            purpose=grant.purpose,
            bucket=grant.bucket,
            tools=grant.tools,
            who=identity.id,
            grant=grant,
            # The client may take back what its service has said, and not say it.
            recording_consent=grant.recording_consent and query.get("recording_consent") != "false",
        )
        spend = partial(self.credentials.spend, grant.call_id, identity.expires_at or 0.0)
        begin = partial(self._open_granted, info, socket)
        Opening(socket, spend, begin, self.settings.server.max_message_bytes)

    def _open_granted(self, info: CallInfo, socket: ClientSocket, use: Use) -> None:
        if use is Use.FIRST_HERE:
            self.events.add("credential_unchecked", tier="", call_id=info.call_id, who=info.who)
        self._begin(info, socket)

    def _begin(self, info: CallInfo, socket: ClientSocket) -> None:
        info.started_at = time.time()
        self.records.began(info)
        cap = self.settings.budget.cap_of_call(info.bucket)
        if info.grant is not None and info.grant.cap is not None:
            cap = min(cap, info.grant.cap)
        driver = CallDriver(info, socket, self, CallBudget(cap))
        self.records.measured(info.call_id, driver.latency)
        driver.recording = self.recorder.began(info)
        self._drivers[info.call_id] = driver
        driver.on_ended(lambda: self._ended(driver))
        self.drills.call_began(info, driver.practise)

    def _recordings_expired(self, count: int) -> None:
        self.audit.note("orchestrator", "recordings.expired", "recordings", count=count)

    def set_recording_consent(self, call_id: str, consent: bool, who: str) -> tuple[State, str] | None:
        """The caller of a live call agrees to be recorded from now on, or does not any more; None: no such call.

        What becomes of it, and why. `who`: whose key says so.
        """
        driver = self._drivers.get(call_id)
        if driver is None:
            return None
        driver.info.recording_consent = consent
        if not consent:
            self.stop_recording(call_id)
        elif driver.recording is None:
            driver.recording = self.recorder.began(driver.info, who)
        return self.recorder.state(call_id)

    def stop_recording(self, call_id: str) -> bool:
        """A live call is recorded no longer, and what there is of it is deleted; False where none is."""
        driver = self._drivers.get(call_id)
        if driver is not None:
            driver.recording = None
        return self.recorder.stop_recording(call_id)

    def _drill_ended(self, drill: Drill) -> None:
        self.audit.note("orchestrator", "drill.ended", drill.id, drill.ended)

    def _ended(self, driver: CallDriver) -> None:
        info, ctx = driver.info, driver.call.ctx
        self._drivers.pop(info.call_id, None)
        self.records.closed(info.call_id, time.time())
        self.recorder.ended(info.call_id)
        if not self.settings.summary.at_hang_up:
            return
        call = {name: str(getattr(info, name)) for name in ("call_id", "user", "bucket", "purpose")}
        work = self.summaries.call_ended(
            call,
            ctx.conversation.history(),
            origin=self.settings.links.public_url or "",
            voice=ctx.session.voice,
            language=self.engines.prompts.catalogue.nearest(CALL_SUMMARY, ctx.session.language),
        )
        task = asyncio.create_task(work, name="summary")
        self._summing_up.add(task)
        task.add_done_callback(self._summing_up.discard)

    def _make_summaries(self, redactor: Redactor) -> Summaries:
        summary, outlet = self.settings.summary, None
        if summary.url is not None and summary.secret is not None:
            sink = WebhookSink(summary.url, summary.secret.get_secret_value(), WEBHOOK_S, "summary")
            outlet = Outlet(sink, limit=WAITING, retry_s=summary.retry_s)
        writer = SummaryWriter(summary, self.engines.agent, redactor, self.purse)
        return Summaries(
            summary,
            self.store,
            self.engines.files,
            writer,
            self.links,
            self.purse,
            outlet,
            source=f"/orchestrator/{self.fleet.status().replica}",
        )

    def _reconsider(self, change: Change) -> None:
        if change.kind is ChangeKind.OVERRIDE:
            self._record_override(change.key)
        elif change.kind is ChangeKind.BREAKER:
            self.metrics.breaker(change.key, self.fleet.breakers[change.key].state.value)
        self._reconsidering.all()

    def _record_override(self, override_id: str) -> None:
        """Every override that begins or ends here stands in the events, with who and why."""
        override = next((o for o in self.fleet.overrides if o.id == override_id), None)
        known = self._overrides.pop(override_id, None)
        if override is not None:
            self._overrides[override_id] = override
        elif known is not None and known.expired(time.time()):
            self.audit.note(
                "orchestrator",
                "override.expired",
                override_id,
                once=f"expired:{override_id}",
                at=known.until,
                tier=str(known.tier),
                scope=known.scope,
                made_by=known.who,
            )
        if override is None:
            self.events.add("override_ended", tier="", call_id="", override_id=override_id)
            return
        fields = override.to_dict()
        tier = str(fields.pop("tier"))
        self.events.add("override", tier=tier, call_id="", override_id=fields.pop("id"), **fields)

    # --- probing ---

    async def _probe(self) -> None:
        async for rung, kind in self.fleet.probes():
            if rung not in self.settings.tier_a.rungs:
                self.fleet.succeeded(rung, kind)  # our own engines are proved by the calls that use them
                continue
            found = await probe(
                self.settings.realtime_url(rung),
                self.settings.provider_headers(rung),
                response=kind is ProbeKind.RESPONSE,
                timeout_s=self.settings.breaker.probe_timeout_s,
            )
            self._note_probe(rung, kind, found)

    def _note_probe(self, rung: str, kind: ProbeKind, found: Probed) -> None:
        cost = self.price(rung, found.usage) if found.usage else 0
        if cost:
            self.fleet.ledgers.spend(self.settings.budget.default_bucket, cost)
        self.events.add(
            "probe", tier="A", call_id="", rung=rung, kind=kind.value, ok=found.ok, cost_usd=cost / 1e9
        )
        if found.ok:
            # Whatever a probe got, it got in a session of its own.
            self.fleet.succeeded(rung, ProbeKind.SESSION)
            if kind is ProbeKind.RESPONSE:
                self.fleet.succeeded(rung, kind)
        elif found.loss is not None:
            self.fleet.failed(rung, cause_of(found.loss))
        elif found.code == "timeout":
            self.fleet.failed(rung, Cause.CONNECT_TIMEOUT)
        else:
            self.fleet.failed(rung, TERMINAL_CODES.get(found.code, Cause.RESPONSE_FAILED))


def _store(settings: Settings) -> Store:
    if settings.redis.url is None:
        return EmbeddedStore()
    return RedisStore(settings.redis.url.get_secret_value(), settings.redis.timeout_s)


def _policy(settings: Settings) -> Policy:
    deadlines, promotion, tier_a = settings.deadlines, settings.promotion, settings.tier_a
    start = {
        Step.SESSION: deadlines.session_s,
        Step.RESPONSE: deadlines.response_s,
        Step.FIRST_AUDIO: deadlines.first_audio_s,
    }
    return Policy(
        deadlines=DeadlinePolicy(start, deadlines.floor_s, deadlines.ceiling_s),
        next_audio_s=deadlines.next_audio_s,
        answer_s=deadlines.answer_s,
        hedge_share=settings.hedging.start_share,
        promote=promotion.mode != "never",
        quiet_s=promotion.quiet_s,
        promotion_interval_s=promotion.min_interval_s,
        renew_before_s=promotion.renew_before_s,
        transcription_model=tier_a.transcription_model or None,
        max_output_tokens=tier_a.max_output_tokens,
        retention=_retention(settings),
        history_tokens=settings.budget.history_tokens,
        bridges=settings.tier_c.bridges_by_cause,
        speculate=settings.tier_b.speculate,
        call_s=settings.limits.call_s or None,
    )


def _frame_limits(settings: Settings) -> FrameLimits:
    limits = settings.limits
    return FrameLimits(
        settings.server.max_message_bytes,
        limits.fragments,
        limits.messages_per_s,
        limits.bytes_per_s,
        limits.burst_s,
    )


def _retention(settings: Settings) -> Event:
    budget = settings.budget
    limits = {"post_instructions": budget.history_tokens}
    return {"type": "retention_ratio", "retention_ratio": budget.retention_ratio, "token_limits": limits}


def _may_not_call(identity: Identity) -> Refusal | None:
    """What opens one call opens this one."""
    return None if identity.grant is not None else lacking(identity, Scope.SERVICE)


def _wrong_call(identity: Identity, query: Mapping[str, str]) -> Refusal | None:
    """Whether an address names another call than the one that was granted: then two calls were mixed up."""
    named, grant = query.get("call_id"), identity.grant
    if grant is None or named in (None, grant.call_id):
        return None
    message = (
        f"this credential opens {grant.call_id}, and the address names {named!r:.60}; use each with the one it came "
        "with, or leave call_id out"
    )
    return Refusal(403, "credential_wrong_call", message)


def _user_of(identity: Identity, query: Mapping[str, str]) -> str:
    """Who calls: as whoever opened the door for the call said, else as the address says, else as the token does."""
    return identity.grant.user if identity.grant is not None else query.get("user") or identity.user


def _names(listed: str) -> tuple[str, ...]:
    """``?tools=a,b``; empty: none at all."""
    return tuple(name for name in (part.strip() for part in listed.split(",")) if name)


def _error(message: str) -> bytes:
    return orjson.dumps(
        {"error": {"type": "not_found_error", "message": message, "code": "not_found", "param": None}}
    )


def build(settings: Settings) -> tuple[Orchestrator, FastAPI]:
    """The service and its HTTP application; the application's lifespan starts and stops the service."""
    service = Orchestrator(settings)
    api = build_api(service)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    api.router.lifespan_context = lifespan
    return service, api


def run(settings: Settings) -> None:
    """Serve until a signal ends it. Prints the address once it is bound."""
    logs.configure(settings)
    service, api = build(settings)
    logs.configure(settings, service.metrics.logged)
    listener = socket.create_server(
        (settings.server.host, settings.server.port), family=_family(settings.server.host), backlog=2048
    )
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    certificate = service.door.certificate
    s = "" if certificate is None else "s"
    print(
        f"orchestrator serving on http{s}://{shown}:{port} (WebSocket ws{s}://{shown}:{port}{PATH})",
        flush=True,
    )
    config = uvicorn.Config(
        api,
        loop="uvloop",
        http=http_protocol(settings.limits),
        ws=websocket_protocol(service.on_upgrade, settings.server.max_message_bytes),
        log_config=None,
        log_level="warning",
        access_log=False,
        # What proxies say is looked at by `server.proxies`, for both kinds of requests.
        proxy_headers=False,
        ssl_context_factory=None if certificate is None else certificate.context,
        timeout_graceful_shutdown=5,
    )
    _Server(config, service.events).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Ends those who follow events first: their answers never end by themselves, and would be waited for."""

    def __init__(self, config: uvicorn.Config, events: EventLog) -> None:
        super().__init__(config)
        self._events = events

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._events.end_followers()
        await super().shutdown(sockets)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
