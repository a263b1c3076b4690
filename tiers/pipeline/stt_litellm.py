"""Speech to text by any provider that LiteLLM knows."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from orchestrator.core.prices import PriceTable
from orchestrator.protocol.answers import Charge, Transcript
from orchestrator.protocol.audio import HEAR_RATE, Float32
from tiers.pipeline.doubts import Heard, compression, loudest_db
from tiers.pipeline.errors import Cause, TranscriptionFailed
from tiers.pipeline.litellm_loading import load
from tiers.pipeline.retries import not_reached, retrying
from tiers.pipeline.stt import SHORTEST, wav_file


class CloudTranscriber:
    """A transcription model by its LiteLLM name, which `prices` must have.

    `timeout` seconds bound a request. `base_url` where it is not its provider that
    serves it.
    """

    def __init__(
        self,
        model: str,
        prices: PriceTable,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float = 5.0,
    ) -> None:
        self.rung = model
        self._prices, self._timeout = prices, timeout
        self._where = {
            name: value for name, value in (("api_key", api_key), ("api_base", base_url)) if value is not None
        }
        self._litellm: Any = None

    async def warm(self) -> None:
        """Imports LiteLLM, which takes seconds."""
        await self._ready()

    async def _ready(self) -> Any:
        if self._litellm is None:
            self._litellm = await asyncio.to_thread(load, hosted=True)
        return self._litellm

    def worst(self, seconds: float) -> int:
        """Nano-dollars that so much audio can cost at most."""
        return self._prices.worst_transcription(self.rung, seconds)

    def given_up(self, samples: int) -> tuple[Charge, ...]:
        """What a request may cost that nobody waits for any more."""
        seconds = samples / HEAR_RATE
        cost, used = self.worst(seconds), {"seconds": seconds, "priced_by": "the most it can be"}
        return (Charge("transcription", self.rung, cost, used, estimated=True),) if cost else ()

    async def transcribe(self, audio: Float32, language: str | None = None) -> Transcript:
        seconds = len(audio) / HEAR_RATE
        if seconds < SHORTEST:
            return Transcript("", seconds, language or "en")
        litellm = await self._ready()
        try:
            response: Any = await retrying()(
                litellm.atranscription,
                model=self.rung,
                file=("audio.wav", wav_file(audio), "audio/wav"),
                timeout=self._timeout,
                max_retries=0,
                num_retries=0,
                **({"language": language.split("-")[0]} if language else {}),
                **self._where,
            )
        except Exception as error:
            raise self._failure(litellm, error, len(audio)) from error
        if not isinstance(text := response.text, str):
            message = f"{self.rung} answered without a text"
            raise TranscriptionFailed(Cause.MALFORMED, message, charges=self.given_up(len(audio)))
        heard = Heard(text.strip(), compression=compression(text), level_db=loudest_db(audio))
        return Transcript(heard.words, seconds, language or "en", self._charges(response, len(audio)))

    def _charges(self, response: Any, samples: int) -> tuple[Charge, ...]:
        """By its usage where that came, else the most that it can be."""
        used = _usage(response)
        if used is None:
            return self.given_up(samples)
        cost = self._prices.transcription(self.rung, used)
        return (Charge("transcription", self.rung, cost, used),) if cost else ()

    def _failure(self, litellm: Any, error: Exception, samples: int) -> TranscriptionFailed:
        """LiteLLM's exceptions by their HTTP status. Their texts quote requests, so none is repeated.

        Who refuses with a status has not done the work, and bills nothing, nor does who was not reached; of a
        connection that was lost nobody knows.
        """
        if isinstance(error, litellm.Timeout):
            charges = self.given_up(samples)
            return TranscriptionFailed(Cause.TIMEOUT, f"{self.rung} was silent for too long", charges=charges)
        status = getattr(error, "status_code", None)
        cause = Cause.of_status(status) if isinstance(status, int) else Cause.UNAVAILABLE
        answered = isinstance(status, int) and not isinstance(error, litellm.APIConnectionError)
        free = (answered and cause is not Cause.TIMEOUT) or not_reached(error)
        charges = () if free else self.given_up(samples)
        return TranscriptionFailed(cause, f"{self.rung} failed: {type(error).__name__}", charges=charges)


def _usage(response: Any) -> Mapping[str, Any] | None:
    """What a provider says it bills: seconds, or tokens as OpenAI counts them. None where it does not say."""
    usage: Any = getattr(response, "usage", None)
    used = usage.model_dump(exclude_none=True) if hasattr(usage, "model_dump") else usage
    if not isinstance(used, Mapping):
        return None
    seconds, tokens = used.get("seconds"), used.get("input_tokens")
    if isinstance(seconds, int | float) and seconds > 0:
        return {"type": "duration", "seconds": float(seconds)}
    return dict(used) if isinstance(tokens, int) and tokens > 0 else None
