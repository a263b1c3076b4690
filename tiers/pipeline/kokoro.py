"""Kokoro-82M on this machine's CPU: as an ONNX file by kokoro-onnx, or by the PyTorch package `kokoro`.

A sentence is rendered in one piece, in 0.35 to 0.5 times its playing time on one core, so both engines cut a long text
into clauses and give each as it is ready. Callers wait in one line for the worker, a clause at a time.
"""

from __future__ import annotations

import importlib
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from orchestrator.core.price_list import ModelPrice
from orchestrator.models import ModelMissing
from orchestrator.protocol.audio import SPEAK_RATE, Float32, Pcm16, float_to_pcm16
from tiers.pipeline.clauses import split
from tiers.pipeline.errors import Cause, EngineFailed
from tiers.pipeline.metering import FREE
from tiers.pipeline.reading import spoken
from tiers.pipeline.tts import own_voices
from tiers.pipeline.worker import SpareTime, Worker, closing

VERSION = "82m-1.0"
DEFAULT_VOICE = "marin"
VOICES = {
    "alloy": "af_alloy",
    "ash": "am_fenrir",
    "ballad": "bm_fable",
    "cedar": "am_michael",
    "coral": "af_bella",
    "echo": "am_echo",
    "fable": "bm_fable",
    "marin": "af_heart",
    "nova": "af_nova",
    "onyx": "am_onyx",
    "sage": "af_sarah",
    "shimmer": "af_nova",
    "verse": "am_puck",
}
"""Voice of OpenAI's to the nearest Kokoro voice: docs/speaking.md has the reasons. A Kokoro name is a language letter,
f or m, and a name."""
LANGUAGES = {
    "en": ("en-us", "a"),
    "en-gb": ("en-gb", "b"),
    "es": ("es", "e"),
    "fr": ("fr-fr", "f"),
    "hi": ("hi", "h"),
    "it": ("it", "i"),
    "ja": ("ja", "j"),
    "pt": ("pt-br", "p"),
    "zh": ("cmn", "z"),
}
"""Language tag to eSpeak's name for it and the letter of Kokoro's voices."""
PAUSES = {".": 0.25, "!": 0.25, "?": 0.25, "…": 0.25, ",": 0.1, ";": 0.1, ":": 0.1}
"""Seconds of silence after a piece, by its last mark: the model's own are trimmed off with its padding."""
SPEEDS = (0.5, 2.0)
WHOLE = 180
"""Characters. Longer text is cut into clauses."""


def pieces_of(text: str) -> list[str]:
    """What a text is rendered in: whole while it is short, else its clauses."""
    return [text] if len(text) <= WHOLE else split(text)


def language_of(tag: str) -> tuple[str, str]:
    """eSpeak's name and Kokoro's letter for a language tag; a language without voices is read by an American one."""
    tag = tag.lower().replace("_", "-")
    return LANGUAGES.get(tag) or LANGUAGES.get(tag.split("-")[0]) or (tag, "a")


def nearest_voice(voice: str, language: str, available: Collection[str]) -> str:
    """The best of `available` for a Realtime or Kokoro voice name: right language, then right sex, then any."""
    if voice in available:
        return voice
    letter = language_of(language)[1]
    wanted = voice if voice[1:3] in ("f_", "m_") else VOICES.get(voice, VOICES[DEFAULT_VOICE])
    if wanted in available and (letter == wanted[0] or letter + wanted[0] == "ab"):
        return wanted
    return min(available, key=lambda name: (name[0] != letter, name[1:2] != wanted[1], name))


def voice_of(voice: str, language: str, available: Collection[str]) -> str | None:
    """`nearest_voice` among those that speak `language`; None where there is none.

    English is read by any voice where it has none of its own: all speech sounds like that then.
    """
    espeak, letter = language_of(language)
    english = espeak.startswith("en")
    if letter == "a" and not english:
        return None
    own = [name for name in available if name[0] in ("ab" if english else letter)]
    if not own and not english:
        return None
    return nearest_voice(voice, language, own or available)


class _Kokoro(ABC):
    """What both engines share: the line of callers, the cutting, voices, pauses."""

    rung = "kokoro"
    self_hosted = True

    def __init__(self, threads: int, voice: str, chosen: Mapping[str, str] | None, price: ModelPrice) -> None:
        self.price = price
        self.version = own_voices(VERSION, chosen or {})
        self._chosen = dict(chosen or {})
        self._worker = Worker("kokoro", threads)
        self._spare = SpareTime()
        self._voice = voice

    async def warm(self) -> None:
        """Loads the model and renders a word, so that the first caller does not wait for it."""
        async for _ in self.speak("Okay."):
            pass

    async def speak(
        self, text: str, *, voice: str = "", speed: float = 1.0, language: str = "en"
    ) -> AsyncIterator[Pcm16]:
        with self._spare.serving():
            async with closing(self._say(text, voice, speed, language)) as pieces:
                async for pcm in pieces:
                    yield pcm

    async def render_ahead(self, text: str, *, voice: str = "", language: str = "en") -> Pcm16:
        """See `tiers.speech.RendersAhead`."""

        async def whole() -> Pcm16:
            return np.concatenate([pcm async for pcm in self._say(text, voice, 1.0, language)])

        return await self._spare.use(whole)

    async def _say(self, text: str, voice: str, speed: float, language: str) -> AsyncIterator[Pcm16]:
        speed = min(max(speed, SPEEDS[0]), SPEEDS[1])
        pieces = pieces_of(text)
        for index, piece in enumerate(pieces):
            try:
                own = self._own(voice or self._voice)
                samples = await self._render(spoken(piece, language), own, speed, language)
            except (EngineFailed, ModelMissing):
                raise
            except Exception as error:
                raise EngineFailed(
                    Cause.UNAVAILABLE,
                    f"{self.rung} could not say a text of {len(piece)} characters: {type(error).__name__}",
                    rest=" ".join(pieces[index:]),
                ) from error
            pause = PAUSES.get(piece.rstrip("\"')\u2019\u201d ")[-1:], 0.0)
            yield float_to_pcm16(np.pad(samples, (0, int(pause * SPEAK_RATE))))

    def _own(self, voice: str) -> str:
        """The operator's choice for a Realtime voice."""
        return self._chosen.get(voice, voice)

    @abstractmethod
    async def _render(self, text: str, voice: str, speed: float, language: str) -> Float32:
        """One piece of text as 24 kHz samples."""

    def close(self) -> None:
        self._worker.close()


class KokoroSpeech(_Kokoro):
    """The ONNX export. `threads` is what one synthesis may use; `workers` how many run at once.

    `chosen` are voices by Realtime name, over `VOICES`. `price` is per minute of audio, for who counts a machine's time
    as money. `weights` tells the files from others of the same names: it is part of the version.
    """

    def __init__(
        self,
        model: str | Path,
        voices: str | Path,
        threads: int = 1,
        *,
        workers: int = 1,
        voice: str = DEFAULT_VOICE,
        chosen: Mapping[str, str] | None = None,
        price: ModelPrice = FREE,
        weights: str = "",
    ) -> None:
        super().__init__(workers, voice, chosen, price)
        self.version = f"{self.version}-{weights}" if weights else self.version
        self._model, self._voices, self._threads = Path(model), Path(voices), threads
        self._loading = threading.Lock()
        self._kokoro: Any = None
        self._styles: dict[str, Float32] = {}

    async def voice_for(self, voice: str, language: str) -> str | None:
        """See `tiers.speech.Voices`; the first time it loads the weights."""
        if not self._styles:
            await self._worker.run(self._load)
        return voice_of(self._own(voice), language, self._styles)

    async def _render(self, text: str, voice: str, speed: float, language: str) -> Float32:
        options = ort.RunOptions()

        def stop() -> None:
            options.terminate = True

        return await self._worker.run(lambda: self._create(text, voice, speed, language, options), stop)

    def _create(self, text: str, voice: str, speed: float, language: str, options: ort.RunOptions) -> Float32:
        kokoro = self._load()
        style = self._styles[nearest_voice(voice, language, self._styles)]
        with kokoro.sess.running(options):
            samples, _ = kokoro.create(text, style, speed, lang=language_of(language)[0], trim=True)
        return np.asarray(samples, dtype=np.float32)

    def _load(self) -> Any:
        with self._loading:
            if self._kokoro is None:
                for path in (self._model, self._voices):
                    if not path.is_file():
                        raise ModelMissing("Kokoro", path)
                from kokoro_onnx import Kokoro

                session: Any = self._session()
                self._kokoro = Kokoro.from_session(session, str(self._voices))
                self._styles = dict(self._kokoro.voices)
        return self._kokoro

    def _session(self) -> StoppableSession:
        return StoppableSession(self._model, self._threads)


class StoppableSession:
    """An onnxruntime session whose runs end when their caller is gone; kokoro-onnx passes no run options itself."""

    def __init__(self, model: Path, threads: int, content: bytes | None = None) -> None:
        """`content` stands in for what the file holds."""
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._model_path = str(model)  # kokoro-onnx looks whether it is there
        self._session = ort.InferenceSession(
            content or self._model_path, options, providers=["CPUExecutionProvider"]
        )
        self._current = threading.local()

    @contextmanager
    def running(self, options: ort.RunOptions) -> Iterator[None]:
        """Runs of this thread obey `options` in here."""
        self._current.options = options
        try:
            yield
        finally:
            self._current.options = None

    def run(self, outputs: list[str] | None, inputs: dict[str, Any]) -> Any:
        return self._session.run(outputs, inputs, self._current.options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


class KokoroTorchSpeech(_Kokoro):
    """The PyTorch package, which fetches its own weights from the model hub at first use.

    `module` is for tests: the package is imported when None.
    """

    rung = "kokoro-torch"
    EXTRA = "kokoro-torch"

    def __init__(
        self,
        *,
        voice: str = DEFAULT_VOICE,
        chosen: Mapping[str, str] | None = None,
        module: Any = None,
        price: ModelPrice = FREE,
    ) -> None:
        super().__init__(1, voice, chosen, price)
        self._module = module
        self._pipelines: dict[str, Callable[..., Any]] = {}

    async def _render(self, text: str, voice: str, speed: float, language: str) -> Float32:
        gone = threading.Event()
        return await self._worker.run(lambda: self._create(text, voice, speed, language, gone), gone.set)

    def _create(self, text: str, voice: str, speed: float, language: str, gone: threading.Event) -> Float32:
        letter = language_of(language)[1]
        if letter not in self._pipelines:
            self._pipelines[letter] = self._package().KPipeline(lang_code=letter)
        chosen = voice if voice[1:3] in ("f_", "m_") else VOICES.get(voice, VOICES[DEFAULT_VOICE])
        parts = []
        for result in self._pipelines[letter](text, voice=chosen, speed=speed):
            if gone.is_set():
                break
            if result.audio is not None:
                parts.append(np.asarray(result.audio, dtype=np.float32))
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)

    def _package(self) -> Any:
        if self._module is None:
            try:
                self._module = importlib.import_module("kokoro")
            except ImportError as error:
                raise EngineFailed(
                    Cause.MISSING,
                    "the PyTorch engine needs the package kokoro: "
                    f"install voice-orchestrator[{self.EXTRA}], or use the ONNX engine",
                ) from error
        return self._module
