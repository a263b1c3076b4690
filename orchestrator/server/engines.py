"""The engines of Tiers B and C, made from the settings and warmed up off the event loop.

Nothing is loaded when this is built; `warm` loads one part after the other and tells as each tier becomes usable,
so that a server answers its port at once and Tier A calls need not wait for local models.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from cache import ClipCache, DiskStore, RedisStore
from orchestrator import models
from orchestrator.config import Settings
from orchestrator.core.overrides import Tier
from orchestrator.core.prices import PriceTable
from orchestrator.pricing import CARTESIA, EMBEDDED, STT_ENDPOINT, TTS_ENDPOINT, WHISPER
from orchestrator.protocol.answers import AnswerEvent, AnswerRequest, Charge, Transcriber
from orchestrator.protocol.audio import AudioFormat
from orchestrator.server.prompt_files import PromptFiles
from orchestrator.server.speaking import Speaking
from tiers.pipeline import vad
from tiers.pipeline.agent import Agent, ChatModel
from tiers.pipeline.cartesia import CartesiaSpeech
from tiers.pipeline.embedded import EmbeddedModel
from tiers.pipeline.kokoro import KokoroSpeech, KokoroTorchSpeech, pieces_of
from tiers.pipeline.kokoro_parts import KokoroParts
from tiers.pipeline.openings import Openings
from tiers.pipeline.pipeline import Pipeline
from tiers.pipeline.rungs import Resting, RungHealth
from tiers.pipeline.stt import EndpointTranscriber, WhisperTranscriber
from tiers.pipeline.stt_litellm import CloudTranscriber
from tiers.pipeline.stt_rungs import HearingRung, TranscriptionRungs
from tiers.pipeline.tts import EndpointSpeech
from tiers.pipeline.vetting import Vet
from tiers.prompts.catalogue import Catalogue
from tiers.prompts.prompts import DEFAULT_VOICE, Prompts
from tiers.speech import Speech
from tiers.speech_pool import SpeechPool
from tiers.urgency import Priority, asking

log = logging.getLogger(__name__)

_OPENAIS = ("gpt-", "chatgpt-", "o1", "o3", "o4", "whisper-")
"""What OpenAI's models are called where no provider stands before their names."""
HealthOf = Callable[[str, Sequence[str]], RungHealth]


class Engines:
    """All engines of one process. `health` gives the breakers of a part's rungs: stt, agent or tts, and their names.

    `vet` is asked about all that Tier B's agent says.
    """

    def __init__(
        self,
        settings: Settings,
        health: HealthOf = lambda part, rungs: Resting(),
        vet: Vet | None = None,
    ) -> None:
        self._settings = settings
        self.directory = settings.models.dir or models.model_dir()
        prices = settings.price_table()
        kokoro = self._kokoro = _kokoro(settings, prices, self.directory)
        engine = settings.speech_engine()
        speech = _paid_speech(settings, prices) if engine in ("cartesia", "endpoint") else []
        if engine == "kokoro-torch":
            speech = [KokoroTorchSpeech(chosen=settings.tier_b.voices, price=prices["kokoro-torch"])]
        # A server that stands in for all speech work leaves no local model to load.
        self._local_speech = engine != "endpoint"
        self.speech: list[Speech] = [*speech, kokoro] if self._local_speech else speech
        prompt_speech = kokoro if self._local_speech else speech[0]
        self.prompts = Prompts(
            _catalogue(settings),
            ClipCache(
                _clip_store(settings),
                memory_bytes=settings.cache.memory_mb << 20,
                aside=partial(asking, Priority.BATCH),
            ),
            prompt_speech,
            bridge=settings.tier_c.bridges_by_cause["default"],
        )
        self.files = PromptFiles(self.prompts)
        self.speaking = Speaking(
            self.prompts.cache,
            list(dict.fromkeys([prompt_speech, *self.speech])),
            voices=self.directory / models.KOKORO_VOICES if self._local_speech else None,
            default_voice=DEFAULT_VOICE,
            chosen=settings.tier_b.voices,
        )
        self.openings = Openings(
            self.prompts.cache,
            settings.tier_b.openings,
            learned_bytes=settings.tier_b.learned_openings_mb << 20,
        )
        self.transcriber: Transcriber = _transcriber(settings, prices, self.directory, health)
        self.agent = _agent(settings, prices, self.directory, health)
        self.pipeline = Pipeline(
            self.transcriber,
            self.agent,
            self.speech,
            self.prompts,
            prompt_speech=prompt_speech,
            health=health("tts", [engine.rung for engine in self.speech]),
            vet=vet,
            openings=self.openings,
        )
        self.problems: dict[str, str] = {}
        """Parts that could not be warmed, and why."""
        self.warm_parts: set[str] = set()

    async def warm(self, ready: Callable[[Tier], None]) -> None:
        """Load everything; `ready` is called for each tier that can take calls."""
        hears, speaks, thinks = await asyncio.gather(
            self._warm_hearing(), self._warm_speech(ready), self._part("agent", self.agent.warm())
        )
        if hears and speaks and thinks:
            ready(Tier.B)
        if speaks:
            await self.openings.make_ahead(self.speech[0], self._settings.tier_b.voice or DEFAULT_VOICE)

    async def _warm_hearing(self) -> bool:
        await self._part("vad", asyncio.to_thread(vad.warm))
        return await self._part("transcription", _warm(self.transcriber))

    async def _warm_speech(self, ready: Callable[[Tier], None]) -> bool:
        """Tier C needs no more than its prompts; live speech may come from any rung."""
        if await self._part("bridges", self._warm_prompts()):
            ready(Tier.C)
        for engine in self.speech:
            if await self._part("speech", _warm(engine)):
                return True
        return False

    async def _part(self, name: str, work: Awaitable[object]) -> bool:
        try:
            await work
        except Exception as error:
            self.problems[name] = str(error)
            log.error("%s is not available: %s", name, error)
            return False
        self.problems.pop(name, None)
        self.warm_parts.add(name)
        return True

    async def _warm_prompts(self) -> None:
        warmed = await self.prompts.warm(AudioFormat, languages=self._settings.tier_c.bridge_languages)
        if not warmed.ready:
            raise models.ModelError("; ".join(warmed.failed.values()) or "the catalogue has no fixed prompt")
        await self.prompts.load_pieces()

    async def close(self) -> None:
        """Ends the worker processes, and waits for what is still to be kept."""
        if isinstance(self._kokoro, SpeechPool):
            await self._kokoro.aclose()
        await self.prompts.cache.aclose()


class TierB:
    """The pipeline under the operator's settings: a line added to all instructions, a voice of its own."""

    def __init__(self, pipeline: Pipeline, instructions: str, voice: str = "") -> None:
        self._pipeline = pipeline
        self._instructions = instructions
        self._voice = voice

    def answer(self, request: AnswerRequest) -> AsyncIterator[AnswerEvent]:
        return self._pipeline.answer(self._as_configured(request))

    def worst(self, request: AnswerRequest) -> int:
        """Nano-dollars that one answer can cost at most: the agent, and the speech. No I/O, in microseconds."""
        return self._pipeline.worst(self._as_configured(request))

    def worst_agent(self, request: AnswerRequest) -> int:
        """The agent's part of it, which is all that can be open when an answer is cut off."""
        return self._pipeline.worst_agent(self._as_configured(request))

    def worst_transcription(self, seconds: float) -> int:
        """Nano-dollars that writing down so much audio can cost at most."""
        return self._pipeline.worst_transcription(seconds)

    def untold(self, answer_id: str) -> list[Charge]:
        """What an answer that was cut off had cost and could not tell any more; ask once, after closing it."""
        return self._pipeline.untold(answer_id)

    def _as_configured(self, request: AnswerRequest) -> AnswerRequest:
        words = "\n\n".join(filter(None, (request.instructions, self._instructions)))
        return replace(request, instructions=words, voice=self._voice or request.voice)


async def _warm(engine: object) -> None:
    warm = getattr(engine, "warm", None)
    if warm is not None:
        await warm()


def prompts_to_warm(settings: Settings) -> tuple[Prompts, Callable[[], None]]:
    """The prompts as a server with these settings says them, without the rest of it; and how to end their engine."""
    prices, directory = settings.price_table(), settings.models.dir or models.model_dir()
    speech: Speech
    if settings.speech_engine() == "endpoint":
        speech, close = _paid_speech(settings, prices)[0], _nothing
    else:
        # Nobody else needs the machine's other cores while a server is being deployed.
        kokoro = _kokoro_engine(settings, directory, os.cpu_count() or 1, prices)()
        speech, close = kokoro, kokoro.close
    return Prompts(_catalogue(settings), ClipCache(_clip_store(settings)), speech), close


def _nothing() -> None:
    """There is nothing to end."""


def _catalogue(settings: Settings) -> Catalogue:
    extra = settings.tier_c.catalogue
    return Catalogue.load(extra) if extra else Catalogue.load()


def _clip_store(settings: Settings) -> DiskStore | RedisStore:
    cache = settings.cache
    if settings.redis.url is not None and cache.dir is None:
        return RedisStore.from_url(settings.redis.url.get_secret_value(), limit=cache.redis_mb << 20)
    return DiskStore(cache.dir or models.cache_dir() / "clips", limit=cache.disk_mb << 20)


def _kokoro_engine(
    settings: Settings, directory: Path, threads: int, prices: PriceTable
) -> Callable[[], KokoroParts]:
    """Other weights make it another version, so that what they said is not taken for each other's."""
    return partial(
        KokoroParts,
        directory / models.KOKORO_MODEL,
        directory / models.KOKORO_VOICES,
        threads=threads,
        chosen=settings.tier_b.voices,
        price=prices["kokoro"],
        weights=models.kokoro_weights(directory),
    )


def _kokoro(settings: Settings, prices: PriceTable, directory: Path) -> KokoroSpeech | SpeechPool:
    """In processes of its own, unless it is told to be in this one."""
    make = _kokoro_engine(settings, directory, settings.tier_b.threads, prices)
    speech = settings.speech
    if not speech.workers:
        return make()
    within = {Priority.REQUEST: speech.request_within_s}
    return SpeechPool(make, speech.workers, speech.queue_limit, split=pieces_of, within_s=within)


def _transcriber(
    settings: Settings, prices: PriceTable, directory: Path, health: HealthOf
) -> TranscriptionRungs:
    """A server of one's own, the cloud, and the local Whisper; without the first two, that alone."""
    tier_b, within = settings.tier_b, settings.deadlines.answer_s
    rungs: list[HearingRung] = []
    if tier_b.stt_base_url:
        key = tier_b.stt_api_key.get_secret_value() if tier_b.stt_api_key else ""
        model, price = tier_b.stt_model or "whisper-1", prices[STT_ENDPOINT]
        rungs.append(EndpointTranscriber(tier_b.stt_base_url, key, model, timeout=within, price=price))
    if tier_b.stt_cloud_model:
        cloud_key = _key(tier_b.stt_cloud_api_key or _openai_key(settings, tier_b.stt_cloud_model))
        rungs.append(CloudTranscriber(tier_b.stt_cloud_model, prices, api_key=cloud_key, timeout=within))
    whisper = directory / models.WHISPER
    if not rungs or (tier_b.stt_fallback and (whisper / "model.bin").is_file()):
        rungs.append(WhisperTranscriber(whisper, threads=tier_b.threads, price=prices[WHISPER]))
    known = health("stt", [rung.rung for rung in rungs])
    return TranscriptionRungs(rungs, health=known, timeout=tier_b.stt_timeout_s, within=within)


def _agent(settings: Settings, prices: PriceTable, directory: Path, health: HealthOf) -> Agent:
    tier_b = settings.tier_b
    known = health("agent", tier_b.agent_models or [EMBEDDED])
    if tier_b.agent_model is None:
        # Reading a session's instructions for the first time takes the small model seconds on a busy machine.
        embedded = EmbeddedModel(directory / models.SMOLLM2, threads=tier_b.threads)
        model = ChatModel(EMBEDDED, price=prices[EMBEDDED])
        return Agent([model], embedded=embedded, first_token_timeout=tier_b.agent_timeout_s, health=known)
    own_server = tier_b.agent_base_url is not None
    key = tier_b.agent_api_key or (None if own_server else _openai_key(settings, tier_b.agent_model))
    model = ChatModel(
        tier_b.agent_model,
        api_key=_key(key),
        base_url=tier_b.agent_base_url,
        price=prices.published(tier_b.agent_model),
    )
    others = [
        ChatModel(name, api_key=_key(_openai_key(settings, name)), price=prices.published(name))
        for name in tier_b.agent_fallbacks
    ]
    # Every model gets its share of the time in which the answer has to begin.
    share = tier_b.agent_timeout_s / max(2, 1 + len(others))
    return Agent([model, *others], first_token_timeout=share, health=known)


def _openai_key(settings: Settings, model: str) -> SecretStr | None:
    """OpenAI's key for a model by its LiteLLM name: it goes to OpenAI only. Others' LiteLLM finds by itself."""
    provider, named, _ = model.partition("/")
    openais = provider == "openai" if named else model.startswith(_OPENAIS)
    return settings.openai.api_key if openais else None


def _key(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None


def _paid_speech(settings: Settings, prices: PriceTable) -> list[Speech]:
    tier_b, cartesia = settings.tier_b, settings.cartesia
    if settings.speech_engine() == "cartesia":
        assert cartesia.api_key is not None
        return [
            CartesiaSpeech(
                cartesia.api_key.get_secret_value(),
                cartesia.base_url,
                model=cartesia.model,
                voice=cartesia.voice,
                voices=cartesia.voices,
                price=prices[CARTESIA],
            )
        ]
    assert tier_b.tts_base_url is not None
    key = tier_b.tts_api_key.get_secret_value() if tier_b.tts_api_key else ""
    return [
        EndpointSpeech(
            tier_b.tts_base_url,
            key,
            tier_b.tts_model or "tts-1",
            voices=tier_b.voices,
            price=prices[TTS_ENDPOINT],
        )
    ]
