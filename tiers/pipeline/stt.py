"""Speech to text: Whisper on this machine (faster-whisper), or any OpenAI-compatible transcription server.

Whisper always encodes 30 seconds, however short the utterance. Padded to a shorter window it hears the same words in a
third of the time, but now and then falls into a loop ("five five five five"); such a transcript is made again
with the full window.
"""

from __future__ import annotations

import io
import wave
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_none

from orchestrator.core.price_list import ModelPrice
from orchestrator.models import ModelMissing
from orchestrator.protocol.answers import Transcriber, Transcript
from orchestrator.protocol.audio import HEAR_RATE, Float32, float_to_pcm16
from tiers.pipeline.errors import Cause, TranscriptionFailed
from tiers.pipeline.metering import FREE, HearingMeter
from tiers.pipeline.worker import Worker

if TYPE_CHECKING:
    from faster_whisper import WhisperModel

FULL_WINDOW = 30.0
"""Seconds that Whisper encodes by itself."""
SHORT_WINDOW = 10.0
"""Seconds; shorter windows loop on one-second utterances."""
MARGIN = 2.0
"""Seconds of window beyond the utterance."""
TOKENS_PER_SECOND = 6
SPARE_TOKENS = 8
"""A transcript may have so many tokens a second, and these; fast speech has 4 or 5 a second."""
LOOPING = 2.4
"""A transcript that compresses better than this is a loop."""
SHORTEST = 0.1
"""Seconds. Nothing shorter is speech."""


@dataclass(frozen=True, slots=True)
class _Heard:
    """One decoding of one window, with Whisper's own doubts."""

    text: str
    no_speech: float
    logprob: float
    compression: float
    cut: bool = False
    """It ran into the token limit."""

    @property
    def looping(self) -> bool:
        return self.cut or self.compression > LOOPING or _repeats(self.text)

    @property
    def hallucinated(self) -> bool:
        """No single measure tells: "five five" has a no-speech probability of 0.58, a sure "4172" a poor logprob.

        Measured on tiny.en, (no_speech, logprob): silence, hum and clicks (0.81 to 0.96, -0.96 to -2.2), noise (0.73
        to 0.96, -1.3 to -2.2), breath (0.27 to 0.74, -1.4 to -2); short replies (0.02 to 0.64, -0.2 to -0.95).
        """
        silent = self.no_speech > 0.6 and (self.logprob < -0.8 or self.compression > LOOPING)
        return silent or (self.no_speech > 0.2 and self.logprob < -1.3)

    @property
    def words(self) -> str:
        """The text, empty where nothing was really said."""
        said = any(char.isalnum() for char in self.text) and not self.hallucinated
        return self.text if said else ""


def _repeats(text: str) -> bool:
    """Whether it is one phrase over and over: a word thrice or more, several words twice or more."""
    words = text.lower().replace(",", " ").replace(".", " ").split()
    return any(
        all(word == words[position % size] for position, word in enumerate(words))
        for size in range(1, len(words) // 2 + 1)
        if size > 1 or len(words) > 2
    )


class WhisperTranscriber:
    """One Whisper model for all calls. `threads` is what one transcription uses, `workers` how many run at once.

    `price` is per minute of audio, for who counts a machine's time as money.
    """

    def __init__(
        self,
        model_path: str | Path,
        threads: int = 1,
        *,
        workers: int = 1,
        short_window: bool = True,
        price: ModelPrice = FREE,
    ) -> None:
        self._meter = HearingMeter("faster-whisper", price)
        self.worst = self._meter.worst
        self._path, self._threads, self._workers = Path(model_path), threads, workers
        self._short_window = short_window
        self._worker = Worker("whisper", workers)
        self._loading = Lock()
        self._model: WhisperModel | None = None

    async def warm(self) -> None:
        """Loads the model and runs it once, so that the first caller does not wait for it."""
        await self.transcribe(np.zeros(HEAR_RATE, dtype=np.float32))

    async def transcribe(self, audio: Float32, language: str | None = None) -> Transcript:
        seconds = len(audio) / HEAR_RATE
        if seconds < SHORTEST:
            return Transcript("", seconds, language or "en")
        try:
            found = await self._worker.run(lambda: self._transcribe(audio, seconds, language))
            return replace(found, charges=self._meter.audio(len(audio)))
        except (ModelMissing, TranscriptionFailed):
            raise
        except Exception as error:
            raise TranscriptionFailed(
                Cause.UNAVAILABLE, f"Whisper failed on {seconds:.1f} s of audio: {type(error).__name__}"
            ) from error

    def _transcribe(self, audio: Float32, seconds: float, language: str | None) -> Transcript:
        model = self._load()
        language = (language or "en").split("-")[0] if model.model.is_multilingual else "en"
        window = max(SHORT_WINDOW, seconds + MARGIN)
        if not self._short_window or window > FULL_WINDOW:
            return Transcript(self._by_library(model, audio, language), seconds, language)
        heard = _decode(model, audio, window, language)
        if heard.looping:
            heard = _decode(model, audio, FULL_WINDOW, language)
        return Transcript(heard.words, seconds, language)

    @staticmethod
    def _by_library(model: WhisperModel, audio: Float32, language: str) -> str:
        """Any length, 30 seconds at a time. The segments are made while they are iterated."""
        segments, _ = model.transcribe(
            audio,
            language=language,
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=True,
            vad_filter=False,
        )
        heard = (
            _Heard(s.text.strip(), s.no_speech_prob, s.avg_logprob, s.compression_ratio) for s in segments
        )
        return " ".join(part.words for part in heard if part.words)

    def _load(self) -> WhisperModel:
        with self._loading:
            if self._model is None:
                if not (self._path / "model.bin").is_file():
                    raise ModelMissing("Whisper", self._path / "model.bin")
                from faster_whisper import WhisperModel

                self._model = WhisperModel(
                    str(self._path),
                    device="cpu",
                    compute_type="int8",
                    cpu_threads=self._threads,
                    num_workers=self._workers,
                )
        return self._model

    def close(self) -> None:
        self._worker.close()


def _decode(model: WhisperModel, audio: Float32, window: float, language: str) -> _Heard:
    """One greedy decoding in a window of so many seconds."""
    from faster_whisper.tokenizer import Tokenizer
    from faster_whisper.transcribe import get_compression_ratio, get_suppressed_tokens

    tokenizer = Tokenizer(
        model.hf_tokenizer, model.model.is_multilingual, task="transcribe", language=language
    )
    prompt = model.get_prompt(tokenizer, [], without_timestamps=True)
    frames = int(window * model.feature_extractor.sampling_rate / model.feature_extractor.hop_length)
    features = model.feature_extractor(audio)[:, :frames]
    features = np.pad(features, ((0, 0), (0, frames - features.shape[1])))
    limit = SPARE_TOKENS + int(len(audio) / HEAR_RATE * TOKENS_PER_SECOND)
    result = model.model.generate(
        model.encode(features),
        [prompt],
        beam_size=1,
        max_length=min(model.max_length, 2 * limit),  # CTranslate2 stops at half of it, as Whisper does
        return_scores=True,
        return_no_speech_prob=True,
        suppress_blank=True,
        suppress_tokens=get_suppressed_tokens(tokenizer, [-1]),
    )[0]
    tokens = result.sequences_ids[0]
    text = tokenizer.decode(tokens).strip()
    return _Heard(
        text=text,
        no_speech=result.no_speech_prob,
        logprob=result.scores[0] * len(tokens) / (len(tokens) + 1),
        compression=get_compression_ratio(text),
        cut=len(tokens) >= limit,
    )


class EndpointTranscriber:
    """A server with OpenAI's ``POST {base_url}/audio/transcriptions``.

    `timeout` seconds bound one try; a connection that fails, a 429 and a 5xx are tried once more. `price` is per
    minute of audio; nothing for a server of one's own.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        model: str,
        *,
        connect_timeout: float = 1.0,
        timeout: float = 5.0,
        price: ModelPrice = FREE,
    ) -> None:
        self._model = model
        self._meter = HearingMeter("stt-endpoint", price)
        self.worst = self._meter.worst
        self._client = httpx.AsyncClient(
            base_url=base_url.rstrip("/"),
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(timeout, connect=connect_timeout),
        )

    async def transcribe(self, audio: Float32, language: str | None = None) -> Transcript:
        seconds = len(audio) / HEAR_RATE
        if seconds < SHORTEST:
            return Transcript("", seconds, language or "en")
        wav = _wav(audio)
        retrying = AsyncRetrying(
            stop=stop_after_attempt(2), wait=wait_none(), retry=retry_if_exception(_passing), reraise=True
        )
        text = ""
        try:
            async for attempt in retrying:
                with attempt:
                    text = await self._post(wav, language)
        except TranscriptionFailed as failure:
            # A server that is too slow for us may still do its work; one that refuses does not.
            if failure.cause in (Cause.TIMEOUT, Cause.MALFORMED):
                failure.charges = self._meter.audio(len(audio), estimated=True)
            raise
        return Transcript(text.strip(), seconds, language or "en", self._meter.audio(len(audio)))

    async def _post(self, wav: bytes, language: str | None) -> str:
        fields = {"model": self._model, "response_format": "json"}
        if language:
            fields["language"] = language.split("-")[0]
        files = {"file": ("audio.wav", wav, "audio/wav")}
        try:
            response = await self._client.post("/audio/transcriptions", data=fields, files=files)
        except httpx.TimeoutException as error:
            raise TranscriptionFailed(Cause.TIMEOUT, "the transcription server was too slow") from error
        except httpx.HTTPError as error:
            message = f"the transcription server could not be used: {type(error).__name__}"
            raise TranscriptionFailed(Cause.UNAVAILABLE, message) from error
        if response.status_code != httpx.codes.OK:
            message = f"the transcription server answered {response.status_code} for model {self._model!r}"
            raise TranscriptionFailed(Cause.of_status(response.status_code), message)
        return _text_of(response)

    async def close(self) -> None:
        await self._client.aclose()


def _passing(error: BaseException) -> bool:
    """Whether a second try may do better. A timeout is not tried again: the caller has waited long enough."""
    return isinstance(error, TranscriptionFailed) and error.cause in (Cause.UNAVAILABLE, Cause.RATE_LIMITED)


def _text_of(response: httpx.Response) -> str:
    try:
        body: Any = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict) or not isinstance(body.get("text"), str):
        raise TranscriptionFailed(
            Cause.MALFORMED, 'expected a JSON object with a string "text" from the transcription server'
        )
    return str(body["text"])


def _wav(audio: Float32) -> bytes:
    """16 kHz float32 as a wav file of 16 bit."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(HEAR_RATE)
        out.writeframes(float_to_pcm16(audio).tobytes())
    return buffer.getvalue()


class FallbackTranscriber:
    """Transcribers in order of preference: the first that works."""

    def __init__(self, transcribers: Sequence[Transcriber]) -> None:
        if not transcribers:
            raise ValueError("expected at least one transcriber")
        self._transcribers = tuple(transcribers)

    def worst(self, seconds: float) -> int:
        """Nano-dollars that writing down so much audio can cost at most: every transcriber may have to try."""
        return sum(
            transcriber.worst(seconds) for transcriber in self._transcribers if hasattr(transcriber, "worst")
        )

    async def transcribe(self, audio: Float32, language: str | None = None) -> Transcript:
        for transcriber in self._transcribers[:-1]:
            try:
                return await transcriber.transcribe(audio, language)
            except (TranscriptionFailed, ModelMissing):
                continue
        return await self._transcribers[-1].transcribe(audio, language)
