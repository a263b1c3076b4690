"""An asynchronous client: `Orchestrator` with `await`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Self, TypeVar

import httpx
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt

from orchestrator.client import asks
from orchestrator.client.answers import (
    Approval,
    Estimate,
    Event,
    Override,
    PromptLink,
    Route,
    Session,
    Spoken,
    Status,
)
from orchestrator.client.asks import Ask
from orchestrator.client.connection import Connection
from orchestrator.client.errors import OrchestratorError
from orchestrator.client.operations import (
    AuditEntry,
    AuditPage,
    Calls,
    CallTimeline,
    Drill,
    DrillWithReport,
    History,
)
from orchestrator.client.watching import Names, Watch

T = TypeVar("T")


class AsyncOrchestrator:
    """One orchestrator, asked over HTTP; the arguments are those of `Orchestrator`.

    For one event loop. Use it as an asynchronous context manager, or call `close` in the end.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = 30.0,
        retries: int = 2,
        longest_wait_s: float = 10.0,
        ssl_context: ssl.SSLContext | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._connection = Connection.make(
            url, timeout_s=timeout_s, retries=retries, longest_wait_s=longest_wait_s
        )
        self._http = httpx.AsyncClient(transport=transport, **self._connection.options(api_key, ssl_context))

    def __repr__(self) -> str:
        return f"AsyncOrchestrator({self._connection.url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    # --- calls ---

    async def route(
        self,
        *,
        user: str = "",
        purpose: str = "conversation",
        transport: str = "websocket",
        bucket: str | None = None,
        allowed_tools: Sequence[str] = (),
        call_id: str = "",
    ) -> Route:
        """Which tier and rung a call would get now, why, what would change that, and where to connect.

        Nothing is reserved. `bucket` None is the server's default one.
        """
        return await self._do(
            asks.route(
                user=user,
                purpose=purpose,
                transport=transport,
                bucket=bucket,
                allowed_tools=allowed_tools,
                call_id=call_id,
            )
        )

    async def start_session(
        self,
        *,
        user: str | None = None,
        allowed_tools: Sequence[str] | None = None,
        bucket: str | None = None,
        purpose: str | None = None,
        transport: str | None = None,
        media: str | None = None,
        origin: str | None = None,
        expires_in_s: int | None = None,
        max_s: float | None = None,
        cap_usd: float | None = None,
        recording_consent: bool | None = None,
        lock: Sequence[str] | None = None,
        session: Mapping[str, Any] | None = None,
    ) -> Session:
        """A credential with which a client that is not trusted may begin one call, within these limits.

        Hand `value` to that client, and `connect.url` to use it at. What is left out is as the server has it; `lock`
        names fields of `session` that the client cannot change.
        """
        return await self._do(
            asks.start_session(
                user=user,
                allowed_tools=None if allowed_tools is None else list(allowed_tools),
                bucket=bucket,
                purpose=purpose,
                transport=transport,
                media=media,
                origin=origin,
                expires_in_s=expires_in_s,
                max_s=max_s,
                cap_usd=cap_usd,
                recording_consent=recording_consent,
                lock=None if lock is None else list(lock),
                session=None if session is None else dict(session),
            )
        )

    async def estimate(
        self,
        *,
        columns: Mapping[str, Any] | None = None,
        plan: Mapping[str, Any] | None = None,
        latencies: Mapping[str, Any] | None = None,
        bucket: str | None = None,
        calls: int | None = None,
        seed: int | None = None,
    ) -> Estimate:
        """What calls of a kind would cost, by simulating them: seconds of work. docs/cost.md has the columns."""
        return await self._do(
            asks.estimate(
                columns=columns, plan=plan, latencies=latencies, bucket=bucket, calls=calls, seed=seed
            )
        )

    # --- speech ---

    async def speak(
        self,
        prompt: str,
        variables: Mapping[str, Any] | None = None,
        *,
        format: str | None = None,
        voice: str | None = None,
        language: str | None = None,
        speed: float | None = None,
    ) -> Spoken:
        """A prompt of the catalogue with its variables filled in, spoken."""
        return await self._do(
            asks.speak(prompt, variables or {}, format=format, voice=voice, language=language, speed=speed)
        )

    async def prompt_url(
        self,
        prompt: str,
        variables: Mapping[str, Any] | None = None,
        *,
        format: str | None = None,
        voice: str | None = None,
        language: str | None = None,
        speed: float | None = None,
        expires_in_s: float | None = None,
    ) -> PromptLink:
        """The same at a signed address, for whoever cannot send a key, like a telephone platform."""
        return await self._do(
            asks.prompt_url(
                prompt,
                variables or {},
                format=format,
                voice=voice,
                language=language,
                speed=speed,
                expires_in_s=expires_in_s,
            )
        )

    async def synthesize(
        self,
        text: str,
        *,
        model: str = "tts-1",
        voice: str | None = None,
        format: str | None = None,
        speed: float | None = None,
        language: str | None = None,
    ) -> Spoken:
        """Any text, spoken, when all of it is there."""
        return await self._do(
            asks.synthesize(
                text, model=model, voice=voice, response_format=format, speed=speed, language=language
            )
        )

    async def synthesize_stream(
        self,
        text: str,
        *,
        model: str = "tts-1",
        voice: str | None = None,
        format: str | None = None,
        speed: float | None = None,
        language: str | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """Any text, spoken, in pieces as they are made; pieces that have come are not taken back by an error."""
        ask = asks.synthesize(
            text, model=model, voice=voice, response_format=format, speed=speed, language=language
        )
        response = await self._send(ask, stream=True)
        try:
            async for piece in response.aiter_bytes():
                yield piece
            return
        except httpx.HTTPError as error:
            failure = self._connection.failure(error)
        finally:
            await response.aclose()
        raise failure

    # --- operations ---

    async def status(self) -> Status:
        """Tiers, breakers, overrides, budgets and calls, as the replica that answers sees them."""
        return await self._do(asks.status())

    async def history(self) -> History:
        """How breakers have changed and what callers waited at handovers, as the replica that answers has seen it."""
        return await self._do(asks.history())

    async def calls(
        self,
        *,
        tier: str | None = None,
        bucket: str | None = None,
        purpose: str | None = None,
        user: str | None = None,
        ended: bool = False,
        sort: str = "started",
        limit: int = 100,
    ) -> Calls:
        """Calls in progress at the replica that answers, with their figures; with `ended` those that are over as well.

        `sort`: started (the latest first), cost, wait or gap (the most of it first). `limit`: at most 1,000.
        """
        return await self._do(
            asks.calls(
                tier=tier, bucket=bucket, purpose=purpose, user=user, ended=ended, sort=sort, limit=limit
            )
        )

    async def call(self, id: str, *, text: bool = False) -> CallTimeline:
        """One call in progress, or one of the last that ended, with its timeline. `text`: with what was said.

        `NotFound` where the replica that answers knows no such call, or no longer.
        """
        return await self._do(asks.call(id, text=text))

    async def overrides(self) -> list[Override]:
        """The forced tiers that hold now, the newest first."""
        return await self._do(asks.overrides())

    async def force(
        self,
        tier: str,
        *,
        reason: str,
        scope: str = "all",
        for_: str = "15m",
        who: str = "",
        limit: str = "force",
        share: float = 100.0,
        when: str = "next_turn",
    ) -> Override:
        """Forces a tier ("B") or a rung ("A/NAME") on the calls of a scope (all, call:ID, user:ID, purpose:NAME,
        bucket:NAME) for a time.

        `for_` is like 90s, 15m, 2h; others read `reason` and `who`. `limit`: force, ceiling (nothing better) or floor
        (nothing worse). `share`: per cent of the calls that begin from now on; 100: of those in progress, too.
        `when`: next_turn, or now: in the middle of an answer, too.
        """
        ask = asks.force(
            tier, scope=scope, for_=for_, reason=reason, who=who, limit=limit, share=share, when=when
        )
        return await self._do(ask)

    async def extend(self, id: str, *, for_: str, reason: str = "", who: str = "") -> Override:
        """Gives an override a new time to live, from now on; `NotFound` where none of that id holds."""
        return await self._do(asks.extend(id, for_=for_, reason=reason, who=who))

    async def clear(self, id: str) -> None:
        """Ends an override before its time; `NotFound` where none of that id holds."""
        await self._do(asks.clear(id))

    async def approvals(self) -> list[Approval]:
        """Tool calls that wait for a person's decision, the oldest first."""
        return await self._do(asks.approvals())

    async def approve(self, id: str, *, who: str, reason: str = "") -> Approval:
        """Lets a tool call run; `Conflict` where somebody has decided before."""
        return await self._do(asks.decide(id, "approve", who=who, reason=reason))

    async def reject(self, id: str, *, who: str, reason: str) -> Approval:
        """Does not let a tool call run; the caller's agent is told the reason."""
        return await self._do(asks.decide(id, "reject", who=who, reason=reason))

    async def drills(self) -> list[Drill]:
        """Drills of the last days, the newest first."""
        return await self._do(asks.drills())

    async def drill(self, id: str) -> DrillWithReport:
        """A drill and what its callers heard so far; `NotFound` where there is none of that id."""
        return await self._do(asks.drill(id))

    async def start_drill(
        self,
        practice: str,
        *,
        reason: str,
        scope: str = "all",
        share: float = 5.0,
        for_: str = "15m",
        calls: int = 100,
        wrong: int = 1,
        who: str = "",
    ) -> Drill:
        """Practises a failover (lose_provider, degrade) on `share` per cent of the calls that begin in that time.

        On `calls` of them at most. Once `wrong` calls have lost a turn, it ends by itself.
        """
        ask = asks.start_drill(
            practice,
            scope=scope,
            share=share,
            for_=for_,
            calls=calls,
            wrong=wrong,
            reason=reason,
            who=who,
        )
        return await self._do(ask)

    async def end_drill(self, id: str) -> None:
        """No call is handed over from now on; `NotFound` where none of that id goes on. Its report stays."""
        await self._do(asks.end_drill(id))

    async def audit(self, *, after: int | None = None, limit: int = 100) -> AuditPage:
        """Entries behind the one numbered `after`; without it the latest ones. `limit`: at most 1,000."""
        return await self._do(asks.audit(after=after, limit=limit))

    async def audit_entries(self, *, after: int = 0) -> AsyncGenerator[AuditEntry, None]:
        """The whole audit trail, or what follows the entry `after`, the oldest first, page by page."""
        while entries := (await self.audit(after=after, limit=asks.AUDIT_PAGE)).entries:
            for entry in entries:
                yield entry
            after = entries[-1].seq

    async def watch(
        self,
        *,
        call: Names = (),
        type: Names = (),
        tier: Names = (),
        text: bool = False,
        last_event_id: str = "",
        reconnect: bool = True,
    ) -> AsyncGenerator[Event, None]:
        """What happens in the calls of the replica that answers, as it happens, for ever.

        Of some calls, types or tiers only, if given. `text`: with what is said. After a break it goes on where it was;
        what the server has forgotten by then is told by an event ``events_missed``. Without an answer at first, or with
        `reconnect` False, an error ends it.
        """
        watch = Watch(
            call=call, type=type, tier=tier, text=text, last_event_id=last_event_id, reconnect=reconnect
        )
        while True:
            error: OrchestratorError | None = None
            try:
                response = await self._send(watch.ask(), stream=True, retried=not watch.connected)
                try:
                    watch.began(response)
                    async for line in response.aiter_lines():
                        event = watch.line(line)
                        if event is not None:
                            yield event
                finally:
                    await response.aclose()
            except httpx.HTTPError as lost:
                error = self._connection.failure(lost)
            except OrchestratorError as failed:
                error = failed
            if error is None and not reconnect:
                return
            await asyncio.sleep(watch.lost(error))

    # --- requests ---

    async def _do(self, ask: Ask[T]) -> T:
        return ask.read(await self._send(ask))

    async def _send(self, ask: Ask[Any], *, stream: bool = False, retried: bool = True) -> httpx.Response:
        """A successful answer; of a `stream` whoever asked reads the body, and closes it."""
        connection = self._connection
        retrying = AsyncRetrying(
            stop=stop_after_attempt(connection.retries + 1 if retried else 1),
            retry=retry_if_exception(connection.may_retry(ask)),
            wait=connection.wait_s,
            reraise=True,
        )
        return await retrying(self._send_once, ask, stream)

    async def _send_once(self, ask: Ask[Any], stream: bool) -> httpx.Response:
        try:
            request = self._http.build_request(**self._connection.request(ask))
            response = await self._http.send(request, stream=stream)
            if not response.is_success:
                await response.aread()
        except httpx.HTTPError as error:
            failure = self._connection.failure(error)
        else:
            self._connection.check(response)
            return response
        # Out here it has no context: httpx's error holds the request, and that the key.
        raise failure
