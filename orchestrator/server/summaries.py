"""Summaries of calls: written, said by the prompt `call_summary` while nobody waits, and told to a webhook.

A job holds one or more of them. It is in the shared store from the start, so that any replica can be asked for it and
can give out its audio; the replica that took it does the work. A webhook that is down does not stop that.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from orchestrator.config_sections import Summary
from orchestrator.protocol.answers import HistoryItem, Message
from orchestrator.server.links import Links
from orchestrator.server.outlets import Outgoing, Outlet
from orchestrator.server.prompt_files import Asked, AudioName, PromptVoice, SpokenFile, speak_paid
from orchestrator.server.purse import BudgetSpent, Purse
from orchestrator.server.store import Store, StoreUnavailable
from orchestrator.server.summary_writing import SummaryWriter
from tiers.prompts.catalogue import PromptError
from tiers.urgency import Priority, asking

log = logging.getLogger(__name__)

PROMPT = "call_summary"
TYPE = "orchestrator.summaries.ready"
PATH = "/v1/summaries/"
WAITING = 100
"""Jobs that may wait."""
AGAIN_S = 30.0
"""How long a job is tried again that no engine has time for."""
PULSE_S = 10.0
"""How often a replica says that it is there and works on what it took."""
LOST_AFTER_S = 45.0
"""Without a pulse for so long it is taken to have ended, and with it what it had not finished."""
LOST = "the server that took it has ended; ask for it again"

Status = Literal["pending", "ready", "failed"]


class TooMany(Exception):
    """More jobs wait than are taken."""


@dataclass(slots=True)
class Item:
    """One summary. `id` is what whoever asked calls it: for a call that has ended, its id."""

    id: str
    status: Status = "pending"
    text: str = ""
    seconds: float | None = None
    error: str | None = None


@dataclass(slots=True)
class Job:
    id: str
    items: list[Item]
    form: AudioName = "mp3"
    voice: str = ""
    language: str = "en"
    bucket: str = "default"
    origin: str = ""
    """Where its audio is to be fetched."""
    call: dict[str, str] = field(default_factory=dict)
    """Whose call it was, for a job that a hang-up made."""
    created: float = 0.0
    worker: str = ""
    """Whoever took it."""

    @property
    def status(self) -> Status:
        states = {item.status for item in self.items}
        return "pending" if "pending" in states else "ready" if "ready" in states else "failed"

    def asked(self, item: Item, form: AudioName | None = None) -> Asked:
        return Asked(PROMPT, {"summary": item.text}, form or self.form, self.voice, self.language)

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> Job:
        told = json.loads(text)
        return cls(**{**told, "items": [Item(**item) for item in told["items"]]})

    def lose(self) -> None:
        """What is not done by now will not be done any more."""
        for item in self.items:
            if item.status == "pending":
                item.status, item.error = "failed", LOST


class Summaries:
    """`purse` pays for what is said; `outlet` is the way to the webhook, None for none."""

    def __init__(
        self,
        settings: Summary,
        store: Store,
        voice: PromptVoice,
        writer: SummaryWriter,
        links: Links,
        purse: Purse,
        outlet: Outlet | None = None,
        *,
        source: str = "/orchestrator",
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._store, self._voice, self._writer = settings, store, voice, writer
        self._links, self._outlet, self._source = links, outlet, source
        self._purse, self._wall = purse, wall
        self._queue: asyncio.Queue[tuple[Job, Mapping[str, Sequence[HistoryItem]]]] = asyncio.Queue(WAITING)
        self._worker = secrets.token_hex(6)
        self._working: Job | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def outlets(self) -> list[Outlet]:
        """The way to the webhook, if there is one."""
        return [] if self._outlet is None else [self._outlet]

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._run(), name="summaries"),
            asyncio.create_task(self._live(), name="summaries pulse"),
        ]
        if self._outlet is not None:
            self._outlet.start()

    async def close(self) -> None:
        """What is in work is given up, and told as failed; the webhook is tried for some seconds still."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        given_up = [self._working] if self._working is not None else []
        while not self._queue.empty():
            given_up.append(self._queue.get_nowait()[0])
        self._working = None
        for job in given_up:
            await self._lost(job)
        if self._outlet is not None:
            await self._outlet.close()

    async def idle(self) -> None:
        """Waits until every job that was taken is done."""
        await self._queue.join()

    async def take(self, job: Job, histories: Mapping[str, Sequence[HistoryItem]] | None = None) -> Job:
        """Begins a job. `histories`: by item, the calls whose summary is still to be written.

        Raises `TooMany` or `StoreUnavailable`.
        """
        if self._queue.full():
            raise TooMany(f"{WAITING} jobs wait already")
        await self._pulse()
        await self._keep(job)
        self._queue.put_nowait((job, histories or {}))
        return job

    async def find(self, id: str) -> Job | None:
        """A job, which has failed if the replica that took it is there no more. Raises `StoreUnavailable`."""
        text = await self._store.get(_key(id))
        if text is None:
            return None
        job = Job.load(text)
        if job.status == "pending" and await self._store.get(_pulse_key(job.worker)) is None:
            await self._lost(job)
        return job

    def new_job(self, items: list[Item], **fields: Any) -> Job:
        id = "sum_" + secrets.token_hex(12)
        return Job(id, items, created=self._wall(), worker=self._worker, **fields)

    async def call_ended(
        self,
        call: Mapping[str, str],
        history: Sequence[HistoryItem],
        *,
        origin: str,
        voice: str,
        language: str,
    ) -> None:
        """A call is over: its summary is made if that is wanted. `call` says whose it was, as `CallInfo` does."""
        wanted = self._settings.at_hang_up
        purposes = self._settings.purposes
        said = any(
            isinstance(item, Message) and item.role == "user" and item.text.strip() for item in history
        )
        if not wanted or not said or (purposes and call["purpose"] not in purposes):
            return
        item = Item(call["call_id"])
        job = self.new_job(
            [item], voice=voice, language=language, bucket=call["bucket"], origin=origin, call=dict(call)
        )
        try:
            await self.take(job, {item.id: history})
        except (TooMany, StoreUnavailable) as error:
            log.error("call %s gets no summary: %s", item.id, error)

    def view(self, job: Job) -> dict[str, Any]:
        """A job as it is told, with addresses that work from now on for as long as any does."""
        return {
            "id": job.id,
            "status": job.status,
            "created": job.created,
            "items": [self._item_view(job, item) for item in job.items],
        }

    # --- the work ---

    async def _run(self) -> None:
        while True:
            job, histories = await self._queue.get()
            self._working = job
            try:
                with asking(Priority.BATCH):
                    await self._do(job, histories)
                self._working = None
            except Exception:
                log.exception("summaries %s were not finished", job.id)
            finally:
                self._queue.task_done()

    async def _do(self, job: Job, histories: Mapping[str, Sequence[HistoryItem]]) -> None:
        for item in job.items:
            try:
                if item.id in histories:
                    item.text = await self._writer.write(histories[item.id], job.bucket)
                if not item.text:
                    item.status, item.error = "failed", "nothing was said that could be summed up"
                    continue
                spoken = await self._speak(job.asked(item), job.bucket)
            except PromptError as error:
                log.warning("summary %s of %s cannot be said: %s", item.id, job.id, error)
                item.status, item.error = "failed", _reason(error)
                continue
            except Exception as error:
                log.exception("summary %s of %s failed", item.id, job.id)
                item.status, item.error = "failed", _reason(error)
                continue
            item.status, item.seconds = "ready", round(spoken.seconds, 3)
        await self._done(job)

    async def _done(self, job: Job) -> None:
        try:
            await self._keep(job)
        except StoreUnavailable as error:
            # Its audio cannot be asked for then, but its words are told all the same.
            log.error("summaries %s cannot be kept: %s", job.id, error)
        self._tell(job)

    async def _lost(self, job: Job) -> None:
        job.lose()
        log.error("summaries %s are lost: %s", job.id, LOST)
        await self._done(job)

    async def _live(self) -> None:
        while True:
            try:
                await self._pulse()
            except StoreUnavailable as error:
                log.debug("no pulse: %s", error)
            await asyncio.sleep(PULSE_S)

    async def _pulse(self) -> None:
        await self._store.put(_pulse_key(self._worker), "1", LOST_AFTER_S)

    async def _speak(self, asked: Asked, bucket: str) -> SpokenFile:
        """Nobody waits, so that an engine without time is waited for."""
        ends = time.monotonic() + AGAIN_S
        while True:
            try:
                return await speak_paid(self._voice, self._purse, bucket, asked)
            except Exception as error:
                after = getattr(error, "retry_after_s", None)
                if after is None or time.monotonic() + after > ends:
                    raise
                await asyncio.sleep(after)

    async def _keep(self, job: Job) -> None:
        await self._store.put(_key(job.id), job.dump(), self._settings.keep_s)

    def _tell(self, job: Job) -> None:
        if self._outlet is None:
            return
        event = {
            "specversion": "1.0",
            "id": job.id,
            "source": self._source,
            "type": TYPE,
            "subject": job.call.get("call_id", job.id),
            "datacontenttype": "application/json",
            "data": {**self.view(job), **({"call": job.call} if job.call else {})},
        }
        self._outlet.put(Outgoing(job.id, json.dumps(event, separators=(",", ":")).encode()))

    def _item_view(self, job: Job, item: Item) -> dict[str, Any]:
        told: dict[str, Any] = asdict(item)
        if item.status == "ready":
            link = self._links.make(f"{PATH}{job.id}/{item.id}", {"format": job.form})
            told["audio"] = {
                "url": job.origin + link.target,
                "expires_at": link.expires_at,
                "format": job.form,
                "seconds": told["seconds"],
            }
        del told["seconds"]
        return told


def _key(id: str) -> str:
    return f"summaries:{id}"


def _pulse_key(worker: str) -> str:
    return f"summaries_worker:{worker}"


def _reason(error: Exception) -> str:
    """For whoever asked: an engine's own text may hold what is nobody's business."""
    if isinstance(error, BudgetSpent):
        return f"it was not said: {error}"
    return f"it could not be said ({type(error).__name__})"
