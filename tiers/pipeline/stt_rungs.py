"""Transcription by the first rung that can: a server, the cloud, the Whisper of this machine.

A rung that fails, or that takes too long, gives way to the next one at once. What has cost nothing and may pass (a busy
server, a lost connection) is tried a second time after the last rung, while the turn has time for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random
from tenacity.stop import stop_before_delay

from orchestrator.models import ModelMissing
from orchestrator.protocol.answers import Charge, Transcript
from orchestrator.protocol.audio import HEAR_RATE, Float32
from tiers.pipeline.errors import Cause, TranscriptionFailed
from tiers.pipeline.rungs import Resting, RungHealth, in_order

log = logging.getLogger(__name__)

PATIENCE = 0.1
"""Seconds that a rung may take longer for each second of audio."""
AGAIN_S = (0.05, 0.15)
"""Seconds between the first round and the second, at random, so that calls do not come back in step."""


class HearingRung(Protocol):
    """A `Transcriber` with a name and a price. Raises TranscriptionFailed or ModelMissing."""

    @property
    def rung(self) -> str: ...

    async def transcribe(self, audio: Float32, language: str | None = None) -> Transcript: ...

    def worst(self, seconds: float) -> int:
        """Nano-dollars that so much audio can cost at most."""
        ...

    def given_up(self, samples: int) -> tuple[Charge, ...]:
        """What a request for so much audio may cost that nobody waits for any more."""
        ...


class TranscriptionRungs:
    """A `Transcriber` made of several. Seconds: `timeout` for each rung but the last, `within` for all of them.

    A transcript carries the charges of the rungs that were tried in vain before it, and so does the failure of all.
    """

    def __init__(
        self,
        rungs: Sequence[HearingRung],
        *,
        health: RungHealth | None = None,
        timeout: float = 2.0,
        within: float = 8.0,
    ) -> None:
        if not rungs:
            raise ValueError("expected at least one transcriber")
        self.rungs = tuple(rungs)
        self.health: RungHealth = health or Resting()
        self.timeout, self.within = timeout, within

    def worst(self, seconds: float) -> int:
        """Nano-dollars that writing down so much audio can cost at most: every rung may be asked, and bill once."""
        return sum(rung.worst(seconds) for rung in self.rungs)

    async def warm(self) -> None:
        """Loads what has to be loaded, stand-ins too. Raises the last reason only where no rung can be used."""
        failures: list[Exception] = []
        for rung in self.rungs:
            try:
                if (warm := getattr(rung, "warm", None)) is not None:
                    await warm()
            except (TranscriptionFailed, ModelMissing) as failure:
                log.warning("transcription rung %s cannot be used: %s", rung.rung, failure)
                failures.append(failure)
        if len(failures) == len(self.rungs):
            raise failures[-1]

    async def transcribe(self, audio: Float32, language: str | None = None) -> Transcript:
        return await _Hearing(self, audio, language).transcript()


class _Hearing:
    """One utterance on its way from rung to rung."""

    def __init__(self, rungs: TranscriptionRungs, audio: Float32, language: str | None) -> None:
        self._rungs, self._audio, self._language = rungs, audio, language
        self._until = asyncio.get_running_loop().time() + rungs.within
        self._left = in_order(rungs.rungs, lambda rung: rung.rung, rungs.health)
        self._charges: list[Charge] = []

    async def transcript(self) -> Transcript:
        retrying = AsyncRetrying(
            stop=stop_after_attempt(2) | stop_before_delay(self._rungs.within),
            wait=wait_random(*AGAIN_S),
            retry=retry_if_exception(lambda _: bool(self._left)),
            reraise=True,
        )
        try:
            return await retrying(self._round)
        except TranscriptionFailed as failure:
            failure.charges = tuple(self._charges)
            raise
        except ModelMissing as missing:
            if not self._charges:
                raise
            raise TranscriptionFailed(Cause.MISSING, str(missing), charges=tuple(self._charges)) from missing

    async def _round(self) -> Transcript:
        """Every rung that is left, once. Those that may be asked again are left after it."""
        asked, self._left = self._left, []
        failed: TranscriptionFailed | ModelMissing | None = None
        for position, rung in enumerate(asked):
            patience = self._patience(others=len(asked) - position - 1)
            if patience <= 0.0 and failed is not None:
                break
            try:
                found = await self._ask(rung, patience)
            except (TranscriptionFailed, ModelMissing) as failure:
                failed = failure
                self._note(rung, failure)
            else:
                self._rungs.health.worked(rung.rung)
                return Transcript(found.text, found.seconds, found.language, (*self._charges, *found.charges))
        assert failed is not None
        raise failed

    def _patience(self, others: int) -> float:
        """Seconds that a rung is waited for: the last one has all that remains of the turn's time."""
        remaining = self._until - asyncio.get_running_loop().time()
        if not others:
            return remaining
        wanted = self._rungs.timeout + PATIENCE * len(self._audio) / HEAR_RATE
        return min(wanted, remaining / 2)

    async def _ask(self, rung: HearingRung, seconds: float) -> Transcript:
        try:
            async with asyncio.timeout(seconds):
                return await rung.transcribe(self._audio, self._language)
        except TimeoutError as error:
            charges = rung.given_up(len(self._audio))
            message = f"{rung.rung} took longer than {seconds:.1f} s"
            raise TranscriptionFailed(Cause.TIMEOUT, message, charges=charges) from error

    def _note(self, rung: HearingRung, failure: TranscriptionFailed | ModelMissing) -> None:
        log.warning("transcription rung %s failed: %s", rung.rung, failure)
        if isinstance(failure, ModelMissing):
            self._rungs.health.failed(rung.rung, Cause.MISSING)
            return
        self._rungs.health.failed(rung.rung, failure.cause)
        self._charges += failure.charges
        if failure.cause in (Cause.UNAVAILABLE, Cause.RATE_LIMITED) and not failure.charges:
            self._left.append(rung)
