"""A client whose methods wait for the answer."""

from __future__ import annotations

import ssl
import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Self, TypeVar

import httpx
from tenacity import Retrying, retry_if_exception, stop_after_attempt

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


class Orchestrator:
    """One orchestrator, asked over HTTP.

    `url` is by default ORCHESTRATOR_URL, or http://127.0.0.1:8080; `api_key` ORCHESTRATOR_API_KEY. A request that fails
    in passing is tried `retries` times more, if that can do no harm, and no wait is longer than `longest_wait_s`.
    `ssl_context` is for a server whose certificate no public authority made.

    Every method raises an `OrchestratorError`. Threads may share it. Use it as a context manager, or call `close`.
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
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._connection = Connection.make(
            url, timeout_s=timeout_s, retries=retries, longest_wait_s=longest_wait_s
        )
        self._http = httpx.Client(transport=transport, **self._connection.options(api_key, ssl_context))

    def __repr__(self) -> str:
        return f"Orchestrator({self._connection.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # --- calls ---

    def route(
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
        return self._do(
            asks.route(
                user=user,
                purpose=purpose,
                transport=transport,
                bucket=bucket,
                allowed_tools=allowed_tools,
                call_id=call_id,
            )
        )

    def start_session(
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
        return self._do(
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

    def estimate(
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
        return self._do(
            asks.estimate(
                columns=columns, plan=plan, latencies=latencies, bucket=bucket, calls=calls, seed=seed
            )
        )

    # --- speech ---

    def speak(
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
        return self._do(
            asks.speak(prompt, variables or {}, format=format, voice=voice, language=language, speed=speed)
        )

    def prompt_url(
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
        return self._do(
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

    def synthesize(
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
        return self._do(
            asks.synthesize(
                text, model=model, voice=voice, response_format=format, speed=speed, language=language
            )
        )

    def synthesize_stream(
        self,
        text: str,
        *,
        model: str = "tts-1",
        voice: str | None = None,
        format: str | None = None,
        speed: float | None = None,
        language: str | None = None,
    ) -> Generator[bytes, None, None]:
        """Any text, spoken, in pieces as they are made; pieces that have come are not taken back by an error."""
        ask = asks.synthesize(
            text, model=model, voice=voice, response_format=format, speed=speed, language=language
        )
        response = self._send(ask, stream=True)
        try:
            yield from response.iter_bytes()
            return
        except httpx.HTTPError as error:
            failure = self._connection.failure(error)
        finally:
            response.close()
        raise failure

    # --- operations ---

    def status(self) -> Status:
        """Tiers, breakers, overrides, budgets and calls, as the replica that answers sees them."""
        return self._do(asks.status())

    def history(self) -> History:
        """How breakers have changed and what callers waited at handovers, as the replica that answers has seen it."""
        return self._do(asks.history())

    def calls(
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
        return self._do(
            asks.calls(
                tier=tier, bucket=bucket, purpose=purpose, user=user, ended=ended, sort=sort, limit=limit
            )
        )

    def call(self, id: str, *, text: bool = False) -> CallTimeline:
        """One call in progress, or one of the last that ended, with its timeline. `text`: with what was said.

        `NotFound` where the replica that answers knows no such call, or no longer.
        """
        return self._do(asks.call(id, text=text))

    def overrides(self) -> list[Override]:
        """The forced tiers that hold now, the newest first."""
        return self._do(asks.overrides())

    def force(
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
        return self._do(ask)

    def extend(self, id: str, *, for_: str, reason: str = "", who: str = "") -> Override:
        """Gives an override a new time to live, from now on; `NotFound` where none of that id holds."""
        return self._do(asks.extend(id, for_=for_, reason=reason, who=who))

    def clear(self, id: str) -> None:
        """Ends an override before its time; `NotFound` where none of that id holds."""
        self._do(asks.clear(id))

    def approvals(self) -> list[Approval]:
        """Tool calls that wait for a person's decision, the oldest first."""
        return self._do(asks.approvals())

    def approve(self, id: str, *, who: str, reason: str = "") -> Approval:
        """Lets a tool call run; `Conflict` where somebody has decided before."""
        return self._do(asks.decide(id, "approve", who=who, reason=reason))

    def reject(self, id: str, *, who: str, reason: str) -> Approval:
        """Does not let a tool call run; the caller's agent is told the reason."""
        return self._do(asks.decide(id, "reject", who=who, reason=reason))

    def drills(self) -> list[Drill]:
        """Drills of the last days, the newest first."""
        return self._do(asks.drills())

    def drill(self, id: str) -> DrillWithReport:
        """A drill and what its callers heard so far; `NotFound` where there is none of that id."""
        return self._do(asks.drill(id))

    def start_drill(
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
        return self._do(ask)

    def end_drill(self, id: str) -> None:
        """No call is handed over from now on; `NotFound` where none of that id goes on. Its report stays."""
        self._do(asks.end_drill(id))

    def audit(self, *, after: int | None = None, limit: int = 100) -> AuditPage:
        """Entries behind the one numbered `after`; without it the latest ones. `limit`: at most 1,000."""
        return self._do(asks.audit(after=after, limit=limit))

    def audit_entries(self, *, after: int = 0) -> Generator[AuditEntry, None]:
        """The whole audit trail, or what follows the entry `after`, the oldest first, page by page."""
        while entries := self.audit(after=after, limit=asks.AUDIT_PAGE).entries:
            yield from entries
            after = entries[-1].seq

    def watch(
        self,
        *,
        call: Names = (),
        type: Names = (),
        tier: Names = (),
        text: bool = False,
        last_event_id: str = "",
        reconnect: bool = True,
    ) -> Generator[Event, None, None]:
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
                response = self._send(watch.ask(), stream=True, retried=not watch.connected)
                try:
                    watch.began(response)
                    for line in response.iter_lines():
                        event = watch.line(line)
                        if event is not None:
                            yield event
                finally:
                    response.close()
            except httpx.HTTPError as lost:
                error = self._connection.failure(lost)
            except OrchestratorError as failed:
                error = failed
            if error is None and not reconnect:
                return
            time.sleep(watch.lost(error))

    # --- requests ---

    def _do(self, ask: Ask[T]) -> T:
        return ask.read(self._send(ask))

    def _send(self, ask: Ask[Any], *, stream: bool = False, retried: bool = True) -> httpx.Response:
        """A successful answer; of a `stream` whoever asked reads the body, and closes it."""
        connection = self._connection
        retrying = Retrying(
            stop=stop_after_attempt(connection.retries + 1 if retried else 1),
            retry=retry_if_exception(connection.may_retry(ask)),
            wait=connection.wait_s,
            reraise=True,
        )
        return retrying(self._send_once, ask, stream)

    def _send_once(self, ask: Ask[Any], stream: bool) -> httpx.Response:
        try:
            request = self._http.build_request(**self._connection.request(ask))
            response = self._http.send(request, stream=stream)
            if not response.is_success:
                response.read()
        except httpx.HTTPError as error:
            failure = self._connection.failure(error)
        else:
            self._connection.check(response)
            return response
        # Out here it has no context: httpx's error holds the request, and that the key.
        raise failure
