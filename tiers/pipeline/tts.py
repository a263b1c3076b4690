"""Text to speech over HTTP, and what every engine of the pipeline has in common.

The port is `tiers.speech.Speech`. The engines: `KokoroSpeech` and `KokoroTorchSpeech` (kokoro.py), `CartesiaSpeech`
(cartesia.py), and `EndpointSpeech` here, for any server that speaks OpenAI's ``/v1/audio/speech``.
"""

from __future__ import annotations

import textwrap
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing

import httpx
import numpy as np

from orchestrator.core.price_list import ModelPrice
from orchestrator.protocol.audio import Pcm16
from tiers.pipeline.errors import Cause, EngineFailed
from tiers.pipeline.metering import FREE
from tiers.pipeline.reading import spoken
from tiers.pipeline.retries import retrying
from tiers.speech import Speech, SpeechFailed

__all__ = ["EndpointSpeech", "Samples", "Speech", "SpeechFailed", "own_voices", "unsaid"]

CHARACTERS_PER_SECOND = 16.0
"""How fast English is spoken here, at the most: some 180 words a minute."""


def unsaid(text: str, seconds: float, speed: float = 1.0) -> str:
    """What an engine that failed after `seconds` of audio has not said yet, by its likely pace.

    A word that may have begun counts as said: a caller puts up with a lost word better than with a repeated one.
    """
    begun = int(seconds * CHARACTERS_PER_SECOND * speed) if seconds > 0 else 0
    if begun == 0:
        return text
    _, space, rest = text[begun:].partition(" ")
    return rest.strip() if space else ""


def own_voices(version: str, voices: Mapping[str, str]) -> str:
    """An engine's version, with the voices that an operator chose: what was kept in others is not found then."""
    chosen = " ".join(f"{name}={own}" for name, own in sorted(voices.items()))
    return f"{version} {chosen}".rstrip()


class Samples:
    """Bytes of 16 bit little endian audio, cut anywhere, as samples."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Pcm16:
        data = self._rest + data
        whole = len(data) // 2 * 2
        self._rest = data[whole:]
        return np.frombuffer(data[:whole], dtype="<i2")


LONGEST = 4096
"""Characters that OpenAI's API takes at once."""


class EndpointSpeech:
    """A server with OpenAI's ``POST {base_url}/audio/speech``, streamed as 24 kHz PCM.

    `voices` translates Realtime voice names where the server has others. `price` is per character or per minute of
    audio; nothing for a server of one's own.
    """

    rung = "endpoint"

    def __init__(
        self,
        base_url: str,
        api_key: str,
        model: str,
        *,
        voice: str = "alloy",
        voices: Mapping[str, str] | None = None,
        connect_timeout: float = 1.0,
        stall_timeout: float = 3.0,
        price: ModelPrice = FREE,
    ) -> None:
        self.version = own_voices(model, voices or {})
        self.price = price
        self._model, self._voice, self._voices = model, voice, dict(voices or {})
        self._client = httpx.AsyncClient(
            base_url=base_url.rstrip("/"),
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(stall_timeout, connect=connect_timeout),
        )

    async def speak(
        self, text: str, *, voice: str = "", speed: float = 1.0, language: str = "en"
    ) -> AsyncIterator[Pcm16]:
        """`language` is the server's guess: the API has no field for it."""
        voice = voice or self._voice
        said = spoken(text, language)  # which is longer than the text, where that is all digits
        for part in [said] if len(said) <= LONGEST else textwrap.wrap(said, LONGEST):
            async with aclosing(self._say(part, voice, speed)) as chunks:
                async for pcm in chunks:
                    yield pcm

    async def _say(self, text: str, voice: str, speed: float) -> AsyncGenerator[Pcm16, None]:
        body = {
            "model": self._model,
            "input": text,
            "voice": self._voices.get(voice, voice),
            "response_format": "pcm",
            "speed": speed,
        }
        samples = Samples()
        try:
            request = self._client.build_request("POST", "/audio/speech", json=body)
            response: httpx.Response = await retrying()(self._client.send, request, stream=True)
            async with aclosing(response):
                if response.status_code != httpx.codes.OK:
                    raise EngineFailed(
                        Cause.of_status(response.status_code),
                        f"the speech server answered {response.status_code} for model {self._model!r}",
                    )
                async for data in response.aiter_bytes():
                    if (pcm := samples.feed(data)).size:
                        yield pcm
        except httpx.TimeoutException as error:
            raise EngineFailed(Cause.TIMEOUT, "the speech server was silent for too long") from error
        except httpx.HTTPError as error:
            raise EngineFailed(
                Cause.UNAVAILABLE, f"the speech server could not be used: {type(error).__name__}"
            ) from error

    async def close(self) -> None:
        await self._client.aclose()
