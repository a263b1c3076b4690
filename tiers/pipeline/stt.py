"""Speech to text: Whisper on this machine (faster-whisper), or any OpenAI-compatible transcription server.

Both are rungs of `tiers.pipeline.stt_rungs`; what they make up where nobody spoke is told apart in `doubts`.

Whisper always encodes 30 seconds, however short the utterance. Padded to a shorter window it hears the same words in a
third of the time, but now and then falls into a loop ("five five five five"); such a transcript is made again
with the full window.
"""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from orchestrator.core.price_list import ModelPrice
from orchestrator.models import ModelMissing
from orchestrator.protocol.answers import Charge, Transcript
from orchestrator.protocol.audio import HEAR_RATE, Float32, float_to_pcm16
from tiers.pipeline.doubts import Heard, compression, loudest_db
from tiers.pipeline.errors import Cause, TranscriptionFailed
from tiers.pipeline.metering import FREE, HearingMeter
from tiers.pipeline.retries import not_reached, retrying
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
SHORTEST = 0.1
"""Seconds. Nothing shorter is speech."""


class WhisperTranscriber:
    """One Whisper model for all calls. `threads` is what one transcription uses, `workers` how many run at once.

    `price` is per minute of audio, for who counts a machine's time as money.
    """

    rung = "faster-whisper"

    def __init__(
        self,
        model_path: str | Path,
        threads: int = 1,
        *,
        workers: int = 1,
        short_window: bool = True,
        price: ModelPrice = FREE,
    ) -> None:
        self._meter = HearingMeter(self.rung, price)
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
        level = loudest_db(audio)
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
            Heard(s.text.strip(), s.no_speech_prob, s.avg_logprob, s.compression_ratio, level_db=level)
            for s in segments
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

    def given_up(self, samples: int) -> tuple[Charge, ...]:
        """A thread does not stop: what nobody waits for is finished all the same."""
        return self._meter.audio(samples, estimated=True)

    def close(self) -> None:
        self._worker.close()


def _decode(model: WhisperModel, audio: Float32, window: float, language: str) -> Heard:
    """One greedy decoding in a window of so many seconds."""
    from faster_whisper.tokenizer import Tokenizer
    from faster_whisper.transcribe import get_suppressed_tokens

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
    return Heard(
        text=text,
        no_speech=result.no_speech_prob,
        logprob=result.scores[0] * len(tokens) / (len(tokens) + 1),
        compression=compression(text),
        cut=len(tokens) >= limit,
        level_db=loudest_db(audio),
    )


class EndpointTranscriber:
    """A server with OpenAI's ``POST {base_url}/audio/transcriptions``.

    `timeout` seconds bound one try. Only what was surely not sent is tried again here: a connection that was refused.
    `price` is per minute of audio; nothing for a server of one's own.

    A Whisper model is asked for its doubts as well; a server that does not know how to tell them is not asked again.
    """

    rung = "stt-endpoint"

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
        self._verbose = "whisper" in model.lower()
        self._meter = HearingMeter(self.rung, price)
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
        body = await self._asked(audio, language)
        text = " ".join(words for words in _words(body, loudest_db(audio)) if words)
        return Transcript(text, seconds, language or "en", self._meter.audio(len(audio)))

    def given_up(self, samples: int) -> tuple[Charge, ...]:
        """What a request may cost that nobody waits for any more."""
        return self._meter.audio(samples, estimated=True)

    async def _asked(self, audio: Float32, language: str | None) -> Mapping[str, Any]:
        """The server's answer; with its doubts where it can tell them."""
        if not self._verbose:
            return await self._post(audio, language, "json")
        try:
            return await self._post(audio, language, "verbose_json")
        except TranscriptionFailed as failure:
            if failure.cause is not Cause.BAD_REQUEST:
                raise
        body = await self._post(audio, language, "json")
        self._verbose = False
        return body

    async def _post(self, audio: Float32, language: str | None, form: str) -> Mapping[str, Any]:
        fields = {"model": self._model, "response_format": form}
        if language:
            fields["language"] = language.split("-")[0]
        files = {"file": ("audio.wav", wav_file(audio), "audio/wav")}
        try:
            response: httpx.Response = await retrying()(
                self._client.post, "/audio/transcriptions", data=fields, files=files
            )
        except httpx.HTTPError as error:
            raise self._failure(error, len(audio)) from error
        if response.status_code != httpx.codes.OK:
            message = f"the transcription server answered {response.status_code} for model {self._model!r}"
            cause = Cause.of_status(response.status_code)
            charges = self.given_up(len(audio)) if cause is Cause.TIMEOUT else ()
            raise TranscriptionFailed(cause, message, charges=charges)
        body = _body_of(response)
        if body is None:
            message = 'expected a JSON object with a string "text" from the transcription server'
            raise TranscriptionFailed(Cause.MALFORMED, message, charges=self.given_up(len(audio)))
        return body

    def _failure(self, error: httpx.HTTPError, samples: int) -> TranscriptionFailed:
        """A server that has our audio may still do its work; one that was not reached does not."""
        charges = () if not_reached(error) else self.given_up(samples)
        if isinstance(error, httpx.TimeoutException):
            return TranscriptionFailed(
                Cause.TIMEOUT, "the transcription server was too slow", charges=charges
            )
        message = f"the transcription server could not be used: {type(error).__name__}"
        return TranscriptionFailed(Cause.UNAVAILABLE, message, charges=charges)

    async def close(self) -> None:
        await self._client.aclose()


def _body_of(response: httpx.Response) -> Mapping[str, Any] | None:
    """The answer, None where it has no text."""
    try:
        body: Any = response.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) and isinstance(body.get("text"), str) else None


def _words(body: Mapping[str, Any], level_db: float) -> Iterator[str]:
    """What was really said, segment by segment where the server tells how sure it is of each."""
    segments = body.get("segments")
    told: list[Mapping[str, Any]] = (
        [part for part in segments if isinstance(part, dict)] if isinstance(segments, list) else []
    )
    if not told or any(not isinstance(part.get("text"), str) for part in told):
        told = [body]
    for part in told:
        text = part["text"].strip()
        yield Heard(
            text,
            _number(part, "no_speech_prob"),
            _number(part, "avg_logprob"),
            compression(text),
            level_db=level_db,
        ).words


def _number(part: Mapping[str, Any], name: str) -> float:
    value = part.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def wav_file(audio: Float32) -> bytes:
    """16 kHz float32 as a wav file of 16 bit."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(HEAR_RATE)
        out.writeframes(float_to_pcm16(audio).tobytes())
    return buffer.getvalue()
