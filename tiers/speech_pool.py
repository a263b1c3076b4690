"""A speech engine in a few worker processes: whoever is in a call goes first, and nobody waits for nothing.

A text is cut into pieces as the engine would cut it, and the pieces of all callers share the workers, so that a long
text holds nobody up for longer than one piece takes. How urgent a caller is, `tiers.urgency` tells.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import pickle
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from orchestrator.core.price_list import ModelPrice
from orchestrator.models import ModelMissing
from orchestrator.protocol.audio import Pcm16
from tiers.pipeline.errors import Cause, EngineFailed
from tiers.pipeline.metering import FREE
from tiers.speech import Parts, Speech, TellsParts
from tiers.speech_line import Line, Place
from tiers.speech_process import GivenUp, SpeechProcess, WorkerDied
from tiers.urgency import Priority, asking, urgency

LIMIT_S = 60.0
"""Seconds that a worker may take for one piece, loading its weights included, before it is taken for hung."""
FIRST_PACE = 0.03
"""Seconds of work a character, until it is known."""
LEAST = 20
"""Characters that a piece counts as at least."""
WITHIN_S: Mapping[Priority, float] = MappingProxyType({Priority.REQUEST: 5.0})
"""Seconds to the first sound that a caller who names none may be kept waiting; others wait as long as it takes."""


class Overloaded(EngineFailed):
    """The workers have too much to do to serve this in time. `retry_after_s` is when it may be worth another try."""

    def __init__(self, rung: str, retry_after_s: float) -> None:
        self.retry_after_s = max(1, math.ceil(retry_after_s))
        super().__init__(
            Cause.RATE_LIMITED, f"{rung} has too much to do; try again in {self.retry_after_s} s"
        )


@dataclass(slots=True, eq=False, kw_only=True)
class _Job(Place):
    what: str
    asked: dict[str, Any]
    answer: asyncio.Future[Any]


@dataclass(slots=True, eq=False)
class _Slot:
    process: SpeechProcess
    job: _Job | None = None
    began: float = 0.0
    knows_pace: bool = False
    """Its process has loaded its weights."""
    stopping: bool = False
    """It was told to give its job up."""


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a pool is: `wait_s` is how long a request would wait now."""

    workers: int
    busy: int
    waiting: int
    wait_s: float
    died: int
    refused: int


@dataclass(slots=True)
class _Counts:
    died: int = 0
    refused: int = 0


def _uncut(text: str) -> list[str]:
    return [text]


class SpeechPool:
    """`Speech` and all else that `tiers.speech` has, by engines in `workers` processes, started at first use.

    `engine_factory` makes the engine: here, to be asked what it is, and in every worker; it has to be picklable.
    `split` cuts texts into pieces. `queue_limit` is how many pieces may wait. A worker that dies is replaced, and what
    it was saying is said again, once. Belongs to one event loop; `aclose` ends the processes.
    """

    self_hosted = True

    def __init__(
        self,
        engine_factory: Callable[[], Speech],
        workers: int = 1,
        queue_limit: int = 64,
        *,
        split: Callable[[str], Sequence[str]] = _uncut,
        within_s: Mapping[Priority, float] = WITHIN_S,
        limit_s: float = LIMIT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._described = engine_factory()
        self._slots = [_Slot(SpeechProcess(pickle.dumps(engine_factory))) for _ in range(workers)]
        self._line = Line(queue_limit)
        self._split, self._within_s, self._limit_s, self._clock = split, within_s, limit_s, clock
        self._pace = FIRST_PACE
        self._own_voices: dict[tuple[str, str], str | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._counts = _Counts()
        self._closed = False

    # --- what it is ---

    @property
    def rung(self) -> str:
        return self._described.rung

    @property
    def version(self) -> str:
        return str(getattr(self._described, "version", ""))

    @property
    def price(self) -> ModelPrice:
        price: ModelPrice = getattr(self._described, "price", FREE)
        return price

    @property
    def pids(self) -> list[int]:
        """Of the workers that run."""
        return [slot.process.pid for slot in self._slots if slot.process.pid is not None]

    def load(self) -> Load:
        busy = sum(slot.job is not None for slot in self._slots)
        wait = self._wait(Priority.REQUEST)
        return Load(len(self._slots), busy, len(self._line), wait, self._counts.died, self._counts.refused)

    # --- what it does ---

    async def warm(self) -> None:
        """Loads the model into every worker and renders a word, so that the first caller does not wait for it."""
        await asyncio.gather(*(self._say("Okay.", {}, admitted=True) for _ in self._slots))

    async def speak(
        self, text: str, *, voice: str = "", speed: float = 1.0, language: str = "en"
    ) -> AsyncIterator[Pcm16]:
        """See `tiers.speech.Speech`. Also raises `Overloaded`, before any sound."""
        asked = {"voice": voice, "speed": speed, "language": language}
        pieces = self._split(text)
        for index, piece in enumerate(pieces):
            try:
                yield await self._say(piece, asked, admitted=index > 0)
            except EngineFailed as failure:
                failure.rest = " ".join(pieces[index:])
                raise

    async def render_ahead(self, text: str, *, voice: str = "", language: str = "en") -> Pcm16:
        """See `tiers.speech.RendersAhead`."""
        with asking(Priority.BATCH):
            said = [pcm async for pcm in self.speak(text, voice=voice, language=language)]
        return np.concatenate(said) if said else np.zeros(0, np.int16)

    async def speak_parts(
        self, parts: Sequence[str], *, voice: str = "", speed: float = 1.0, language: str = "en"
    ) -> Parts | None:
        """See `tiers.speech.TellsParts`; None by an engine that is not one. Also raises `Overloaded`."""
        if not isinstance(self._described, TellsParts):
            return None
        asked = {"parts": tuple(parts), "voice": voice, "speed": speed, "language": language}
        cost = self._pace * max(len(" ".join(parts)), LEAST)
        told: Parts | None = await self._do("speak_parts", asked, cost=cost, admitted=False)
        return told

    async def voice_for(self, voice: str, language: str) -> str | None:
        """See `tiers.speech.Voices`; the first time it loads the weights."""
        pair = voice, language
        if pair not in self._own_voices:
            asked = {"voice": voice, "language": language}
            self._own_voices[pair] = await self._do("voice_for", asked, cost=0.0, admitted=True)
        return self._own_voices[pair]

    async def aclose(self) -> None:
        """Ends the workers; who still waits or comes later gets an error."""
        self._closed = True
        while (job := self._line.next()) is not None:
            self._fail(job, self._shut_down())
        for slot in self._slots:
            if slot.job is not None:
                slot.job.attempts += 1  # not to be tried again
        await asyncio.gather(*(slot.process.close() for slot in self._slots))
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _say(self, piece: str, asked: dict[str, Any], *, admitted: bool) -> Pcm16:
        cost = self._pace * max(len(piece), LEAST)
        pcm: Pcm16 = await self._do("speak", {"text": piece, **asked}, cost=cost, admitted=admitted)
        return pcm

    # --- the line and the workers ---

    async def _do(self, what: str, asked: dict[str, Any], *, cost: float, admitted: bool) -> Any:
        if self._closed:
            raise self._shut_down()
        priority, within = urgency()
        within = self._within_s.get(priority) if within is None else within
        loop = asyncio.get_running_loop()
        job = _Job(
            priority=priority,
            cost=cost,
            admitted=admitted,
            what=what,
            asked=asked,
            answer=loop.create_future(),
        )
        expiry = None
        if within is not None and not admitted:
            wait = self._wait(priority)
            if wait > within:
                raise self._refusal(wait - within)
            expiry = loop.call_later(within, self._expire, job)
        self._join(job)
        try:
            return await job.answer
        except asyncio.CancelledError:
            self._abandon(job)
            raise
        finally:
            if expiry is not None:
                expiry.cancel()

    def _join(self, job: _Job) -> None:
        sent_away = self._line.join(job)
        if sent_away is not None:
            assert isinstance(sent_away, _Job)
            self._fail(sent_away, self._refusal(self._wait(sent_away.priority)))
        self._dispatch()

    def _refusal(self, seconds: float) -> Overloaded:
        self._counts.refused += 1
        return Overloaded(self.rung, seconds)

    def _shut_down(self) -> EngineFailed:
        return EngineFailed(Cause.UNAVAILABLE, f"{self.rung} is being shut down")

    def _expire(self, job: _Job) -> None:
        if self._line.leave(job):
            self._fail(job, self._refusal(self._wait(job.priority)))

    def _abandon(self, job: _Job) -> None:
        if not self._line.leave(job):
            for slot in self._slots:
                if slot.job is job:
                    slot.process.give_up()

    def _wait(self, priority: Priority) -> float:
        """Seconds until a newcomer of `priority` would be served. A batch in progress gives way to all others."""
        now, running = self._clock(), 0.0
        for slot in self._slots:
            if slot.job is None:
                return 0.0
            if slot.job.priority < Priority.BATCH or priority is Priority.BATCH:
                running += max(0.0, slot.job.cost - (now - slot.began))
        return (running + self._line.ahead_of(priority)) / len(self._slots)

    def _dispatch(self) -> None:
        for slot in self._slots:
            if slot.job is None:
                job = self._line.next()
                if job is None:
                    return
                assert isinstance(job, _Job)
                slot.job, slot.began, slot.stopping = job, self._clock(), False
                task = asyncio.create_task(self._work(slot, job))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        self._make_way()

    def _make_way(self) -> None:
        """Batches in progress are given up for those who wait; for requests once only, or they would never end."""
        waiting = sum(place.priority < Priority.BATCH for place in self._line)
        waiting -= sum(slot.stopping for slot in self._slots)
        for place in itertools.islice(self._line, max(0, waiting)):
            for slot in self._slots:
                job = slot.job
                if job is None or job.priority is not Priority.BATCH or slot.stopping:
                    continue
                if place.priority is Priority.LIVE or not job.given_up:
                    slot.stopping = True
                    slot.process.give_up()
                    break

    async def _work(self, slot: _Slot, job: _Job) -> None:
        try:
            if slot.stopping or job.answer.done():
                raise GivenUp  # before it had begun
            value = await slot.process.do(job.what, job.asked, self._limit_s)
        except WorkerDied:
            self._lost(slot, job)
        except GivenUp:
            if self._closed:
                self._fail(job, self._shut_down())
            elif not job.answer.done():
                job.given_up += 1
                self._line.rejoin(job)
        except (EngineFailed, ModelMissing) as error:
            self._fail(job, error)
        except Exception as error:
            self._fail(
                job, EngineFailed(Cause.UNAVAILABLE, f"{self.rung} has no worker: {type(error).__name__}")
            )
        else:
            self._learn(slot, job)
            if not job.answer.done():
                job.answer.set_result(value)
        slot.job = None
        if not self._closed:
            self._dispatch()

    def _lost(self, slot: _Slot, job: _Job) -> None:
        self._counts.died += 1
        slot.knows_pace = False
        job.attempts += 1
        if job.answer.done():
            return
        if job.attempts == 1:
            self._line.rejoin(job)
            return
        message = f"the worker of {self.rung} ended without an answer, {job.attempts} times"
        self._fail(job, EngineFailed(Cause.UNAVAILABLE, message))

    def _learn(self, slot: _Slot, job: _Job) -> None:
        """What a piece takes, once the weights are loaded: the mean of the last few."""
        if slot.knows_pace and job.what == "speak":
            took = (self._clock() - slot.began) / max(len(job.asked["text"]), LEAST)
            self._pace += (took - self._pace) / 4
        slot.knows_pace = True

    @staticmethod
    def _fail(job: _Job | Place, error: Exception) -> None:
        assert isinstance(job, _Job)
        if not job.answer.done():
            job.answer.set_exception(error)
