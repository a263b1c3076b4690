"""Tier B: the flow or a text agent decides the words, an engine on this side speaks them.

An answer is made by one task ahead of whoever reads it: while a clause is being delivered, the next one is synthesised
and the agent goes on writing. Closing the reader cancels the task, and with it every request and every queued piece
of work.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from orchestrator.models import ModelMissing
from orchestrator.protocol.answers import (
    AnsweredBy,
    AnswerEvent,
    AnswerRequest,
    AudioDelta,
    Charge,
    Failed,
    Finished,
    PromptSource,
    SpokenPrompt,
    TextDelta,
    ToolCallReady,
    Transcriber,
    Transcript,
)
from orchestrator.protocol.audio import SPEAK_RATE, Encoder, Float32, Pcm16
from tiers import flow
from tiers.pipeline.agent import AgentEvent, Done, Words
from tiers.pipeline.clauses import Clauses, split
from tiers.pipeline.errors import AgentFailed, Cause, EngineFailed, PartFailed
from tiers.pipeline.metering import CHARACTERS_PER_TOKEN, Paid, SpeechMeter, milliseconds
from tiers.pipeline.openings import LONGEST, Openings
from tiers.pipeline.outbox import Outbox
from tiers.pipeline.reading import spoken
from tiers.pipeline.rungs import Resting, RungHealth, in_order
from tiers.pipeline.tts import unsaid
from tiers.pipeline.vetting import Vet, Veto
from tiers.pipeline.worker import closing
from tiers.speech import Speech, SpeechFailed

log = logging.getLogger(__name__)

DELTA_MS = 200
"""The longest piece of audio in one event."""
EVENTS_AHEAD = 64
"""Events made ahead of the reader: with 200 ms deltas some 12 s of audio."""
UNTOLD_KEPT = 256
"""Closed answers whose last charges wait to be asked for."""

Decide = Callable[[AnswerRequest], "flow.Say | flow.CallTool | None"]


class TextAgent(Protocol):
    """What the pipeline needs of an agent: `tiers.pipeline.agent.Agent`, or a test's own."""

    @property
    def trusted_with_tools(self) -> bool: ...

    def reply(self, request: AnswerRequest, paid: Paid) -> AsyncIterator[AgentEvent]: ...

    def limit(self, request: AnswerRequest) -> int: ...

    def worst(self, request: AnswerRequest) -> int: ...


class Pipeline:
    """An `Answerer` and a `Transcriber` for any number of calls.

    `speech` are rungs: the first usable one speaks, the next takes over where it fails. `prompts` speaks what the
    flow decides; without it the flow only calls tools. `decide` is the flow, None for none. `prompt_speech` is the
    engine behind `prompts`, which is paid for what was not in its cache. `vet` is asked about all that the agent says,
    clause by clause, while the clause is synthesised; nothing of it is heard before its answer. `openings` remembers
    the audio of an answer's first words; whether it did is in `Finished.parts` as ``opening_cached``, 1 or 0.

    What an answer costs is told as `Charged`, and what was not told any more when it was closed by `untold`.
    """

    def __init__(
        self,
        transcriber: Transcriber,
        agent: TextAgent,
        speech: Sequence[Speech],
        prompts: PromptSource | None = None,
        *,
        decide: Decide | None = flow.reply,
        prompt_speech: Speech | None = None,
        health: RungHealth | None = None,
        next_audio_timeout: float = 10.0,
        vet: Vet | None = None,
        openings: Openings | None = None,
    ) -> None:
        if not speech:
            raise ValueError("expected at least one speech engine")
        self.agent, self.speech, self.prompts, self.decide = agent, tuple(speech), prompts, decide
        self.health: RungHealth = health or Resting()
        self.vet, self.openings = vet, openings
        self.next_audio_timeout = next_audio_timeout
        self.meters = {engine.rung: SpeechMeter(engine) for engine in self.speech}
        self.prompt_meter = SpeechMeter(prompt_speech) if prompt_speech is not None else None
        self._transcriber = transcriber
        self._untold: dict[str, list[Charge]] = {}

    @property
    def rung(self) -> str:
        """The speech engine that is tried first."""
        return self.speech[0].rung

    async def transcribe(self, audio: Float32, language: str | None = None) -> Transcript:
        return await self._transcriber.transcribe(audio, language)

    def worst(self, request: AnswerRequest) -> int:
        """Nano-dollars that an answer to `request` can cost at most."""
        agent = self.worst_agent(request)
        if not request.speak:
            return agent
        characters = self.spoken_limit(request)
        meters = {**self.meters, **({self.prompt_meter.rung: self.prompt_meter} if self.prompt_meter else {})}
        return agent + sum(meter.worst(characters, request.speed) for meter in meters.values())

    def worst_agent(self, request: AnswerRequest) -> int:
        """The part of it that is known only once the agent has ended: it is billed even if nobody listens any more."""
        return self.agent.worst(request) if request.say is None else 0

    def worst_transcription(self, seconds: float) -> int:
        """Nano-dollars that writing down so much audio can cost at most."""
        worst: Callable[[float], int] | None = getattr(self._transcriber, "worst", None)
        return worst(seconds) if worst else 0

    def spoken_limit(self, request: AnswerRequest) -> int:
        """Characters that an engine which bills them may be sent for one answer."""
        if request.say is not None:
            return said_limit(request.say, request.language)
        return self.agent.limit(request) * CHARACTERS_PER_TOKEN

    def untold(self, answer_id: str) -> list[Charge]:
        """What a closed answer had cost beyond what it told, once: the agent's request that was given up, at most."""
        return self._untold.pop(answer_id, [])

    async def answer(self, request: AnswerRequest) -> AsyncGenerator[AnswerEvent, None]:
        """Ends with `Finished` or `Failed`, and raises nothing."""
        outbox = Outbox(EVENTS_AHEAD)
        making = asyncio.create_task(_Answer(self, request, outbox).make())
        try:
            while True:
                event = await outbox.get()
                yield event
                if isinstance(event, Finished | Failed):
                    return
        finally:
            making.cancel()
            await asyncio.wait([making])
            self._keep(request.answer_id, outbox.charges())

    def _keep(self, answer_id: str, charges: list[Charge]) -> None:
        if charges:
            self._untold[answer_id] = charges
        while len(self._untold) > UNTOLD_KEPT:
            del self._untold[next(iter(self._untold))]


class _Answer:
    """One answer in the making."""

    def __init__(self, pipeline: Pipeline, request: AnswerRequest, events: Outbox) -> None:
        self._pipeline, self._request, self._events = pipeline, request, events
        self._encoder = Encoder(request.format)
        self._delta_bytes = DELTA_MS * request.format.bytes_per_ms
        self._began = time.perf_counter()
        self._parts: dict[str, float] = {}
        self._rung = ""
        self._clauses = Clauses()
        self._given_up: set[str] = set()
        self._sent = dict.fromkeys(pipeline.meters, 0)
        """Characters that each engine was sent."""
        self._full: set[str] = set()
        """Engines that were sent all that they may be."""
        self._vetting: set[asyncio.Future[str | Veto]] = set()
        self._written = False
        """Words were told that nobody speaks."""

    async def make(self) -> None:
        try:
            await self._make()
        except PartFailed as failure:
            await self._events.put(Failed(failure.id, str(failure)))
        except ModelMissing as missing:
            await self._events.put(Failed("model_missing", str(missing)))
        except Exception as error:
            log.exception("an answer of the pipeline failed")
            await self._events.put(Failed("pipeline_error", f"unexpected {type(error).__name__}"))

    async def _make(self) -> None:
        if self._request.say is not None:
            await self._say_exactly(self._request.say)
            return
        move = self._pipeline.decide(self._request) if self._pipeline.decide else None
        if isinstance(move, flow.CallTool):
            arguments = json.dumps(move.arguments)
            await self._events.put(ToolCallReady(f"call_{secrets.token_hex(8)}", move.name, arguments))
            await self._events.put(Finished(rung="flow", parts=self._parts))
        elif isinstance(move, flow.Say) and (prompt := await self._prompt(move)) is not None:
            await self._play(prompt, move.end_call)
        else:
            await self._ask_agent()

    # The call's own words

    async def _say_exactly(self, words: str) -> None:
        """Without flow or agent. Words that are not said to their end are a failure: they may be a read-back."""
        clauses = split(words)
        if not clauses:
            raise PartFailed(Cause.BAD_REQUEST, "expected words to say, got none that can be spoken")
        if self._request.speak:
            for clause in clauses:
                await self._say(_Clause(clause, rest=clause))
            await self._flush()
        else:
            await self._events.put(TextDelta(" ".join(clauses)))
        if self._full:
            raise EngineFailed(Cause.UNAVAILABLE, "the words came to more characters than were set aside")
        await self._events.put(Finished(rung=self._rung or "say", parts=self._parts))

    # The flow's words

    async def _prompt(self, say: flow.Say) -> SpokenPrompt | None:
        """The prompt, or None where the agent had better answer.

        An agent that cannot be trusted with a tool's result is not asked to retell it in the prompt's place.
        """
        if self._pipeline.prompts is None:
            return None
        try:
            prompt = await self._pipeline.prompts.prompt(
                say.prompt, dict(say.variables), self._request.language
            )
        except Exception as error:
            log.warning("prompt %s could not be had: %s", say.prompt, type(error).__name__)
            if say.variables and not self._pipeline.agent.trusted_with_tools:
                raise PartFailed(Cause.UNAVAILABLE, f"the prompt {say.prompt!r} could not be had") from error
            return None
        if (meter := self._pipeline.prompt_meter) is not None and not prompt.cached:
            self._events.charge(meter.text(self._length(prompt.text)))
            self._events.charge(meter.audio(milliseconds(len(prompt.pcm), SPEAK_RATE)))
        return prompt

    async def _play(self, prompt: SpokenPrompt, end_call: bool) -> None:
        self._mark("prompt")
        await self._events.put(AnsweredBy("C", "prompts"))
        await self._events.put(TextDelta(f" {prompt.text}" if self._rung or self._written else prompt.text))
        if self._request.speak:
            await self._audio(prompt.pcm)
            await self._flush()
        await self._events.put(Finished(rung="prompts", parts=self._parts, end_call=end_call))

    # The agent's words

    async def _ask_agent(self) -> None:
        """Reads the agent in a task of its own, so that it writes on while a clause is synthesised."""
        heard: asyncio.Queue[_Clause | ToolCallReady | Done | BaseException] = asyncio.Queue()
        reading = asyncio.create_task(self._read_agent(heard))
        ended: Done | BaseException
        try:
            while not isinstance(item := await heard.get(), Done | BaseException):
                if isinstance(item, ToolCallReady):
                    await self._flush()
                    await self._events.put(item)
                elif self._request.speak:
                    await self._say(item)
                else:
                    await self._write(item)
            ended = item
        except _Vetoed as stop:
            ended = stop
        finally:
            useless: list[asyncio.Future[Any]] = [reading, *self._vetting]
            for task in useless:
                task.cancel()
            await asyncio.wait(useless)
        await self._flush()
        if isinstance(ended, _Vetoed):
            await self._say_instead(ended.veto)
            return
        if isinstance(ended, BaseException):
            raise ended
        await self._events.put(
            Finished(
                input_tokens=ended.input_tokens,
                output_tokens=ended.output_tokens,
                rung=self._rung or ended.model,
                parts=self._parts,
            )
        )

    async def _say_instead(self, veto: Veto) -> None:
        """The answer ends with a line of the catalogue."""
        prompt = await self._prompt(flow.Say(veto.line))
        if prompt is None:
            raise PartFailed(Cause.UNAVAILABLE, f"the prompt {veto.line!r} could not be had")
        await self._play(prompt, end_call=False)

    async def _read_agent(self, heard: asyncio.Queue[_Clause | ToolCallReady | Done | BaseException]) -> None:
        """Clauses (or, without speech, words), tool calls, and at the end `Done` or what went wrong."""
        in_clauses = self._request.speak or self._pipeline.vet is not None
        try:
            async with closing(self._pipeline.agent.reply(self._request, self._events.charge)) as events:
                async for event in events:
                    self._mark("agent_first_token")
                    if isinstance(event, Words):
                        for text in self._clauses.feed(event.text) if in_clauses else [event.text]:
                            heard.put_nowait(self._clause(text))
                        continue
                    # A token limit cuts mid-sentence: half a sentence is left unsaid unless it is all there is.
                    if not (isinstance(event, Done) and event.cut_short and self._clauses.count):
                        for text in self._clauses.close():
                            heard.put_nowait(self._clause(text))
                    heard.put_nowait(event)
                    if isinstance(event, Done):
                        return
            raise AgentFailed(Cause.EMPTY, "the text agent ended without an answer")
        except Exception as error:
            heard.put_nowait(error)

    # What may be said

    def _clause(self, text: str) -> _Clause:
        """Somebody may have to look at it: that begins at once, while others are synthesised and played."""
        if self._pipeline.vet is None:
            return _Clause(text, rest=text)
        vetting = asyncio.ensure_future(self._pipeline.vet(self._request, text))
        self._vetting.add(vetting)
        vetting.add_done_callback(self._vetting.discard)
        return _Clause(text, rest=text, vetting=vetting)

    async def _vetted(self, clause: _Clause) -> bool:
        """Whether the clause may be said as it is; where not, it is what may be said now. Raises `_Vetoed`."""
        if clause.vetting is None:
            return True
        answer, clause.vetting = await clause.vetting, None
        if isinstance(answer, Veto):
            raise _Vetoed(answer)
        same = answer == clause.text
        clause.text = clause.rest = answer
        return same

    async def _write(self, clause: _Clause) -> None:
        """Without speech."""
        await self._vetted(clause)
        between = " " if self._written and self._pipeline.vet is not None else ""
        self._written = True
        await self._events.put(TextDelta(f"{between}{clause.text}"))

    # Speaking

    async def _say(self, clause: _Clause) -> None:
        """One clause; what was synthesised of one that is reworded meanwhile is thrown away."""
        try:
            await self._speak(clause)
        except _Reworded:
            if clause.rest.strip():
                await self._speak(clause)

    async def _speak(self, clause: _Clause) -> None:
        """By the first rung that can; each next one says only what was not said yet."""
        for speech in in_order(self._pipeline.speech, lambda engine: engine.rung, self._pipeline.health):
            if speech.rung in self._given_up or not self._may_be_sent(speech.rung, clause.rest):
                continue
            if await self._said_by(speech, clause):
                return
        # An answer longer than any is meant to be, and than was set aside for it, ends here.
        if not self._full:
            raise clause.failure

    def _length(self, text: str) -> int:
        """Characters that an engine is sent for it."""
        return len(spoken(text, self._request.language))

    def _may_be_sent(self, rung: str, text: str) -> bool:
        limit = self._pipeline.spoken_limit(self._request)
        if self._pipeline.meters[rung].by_character and self._sent[rung] + self._length(text) > limit:
            self._full.add(rung)
        return rung not in self._full

    async def _said_by(self, speech: Speech, clause: _Clause) -> bool:
        """Whether `speech` brought the clause to its end."""
        said = 0
        try:
            async with closing(self._audio_of(speech, clause)) as audio:
                async for pcm in audio:
                    if not await self._vetted(clause):
                        raise _Reworded
                    await self._tell(speech.rung, clause)
                    said += len(pcm)
                    await self._audio(pcm)
            if said:
                if not clause.kept:
                    self._pipeline.health.worked(speech.rung)
                return True
            clause.failure = EngineFailed(Cause.EMPTY, f"{speech.rung} gave no audio for a clause")
        except (EngineFailed, ModelMissing) as failure:
            clause.failure = failure
        except SpeechFailed as failure:
            clause.failure = EngineFailed(Cause.UNAVAILABLE, str(failure))
        except TimeoutError:
            clause.failure = EngineFailed(Cause.TIMEOUT, f"{speech.rung} gave no audio in time")
        self._give_up(speech.rung, clause.failure)
        clause.rest = _left(clause, said / SPEAK_RATE, self._request.speed)
        return not clause.rest

    async def _audio_of(self, speech: Speech, clause: _Clause) -> AsyncIterator[Pcm16]:
        """An answer's first words come from memory where they were said before."""
        openings, text, clause.kept = self._pipeline.openings, clause.rest, False
        if openings is None or self._rung or self._request.say is not None or len(text) > LONGEST:
            async with closing(self._synthesise(speech, text)) as audio:
                async for pcm in audio:
                    yield pcm
            return
        kept = await openings.find(speech, text, self._request)
        clause.kept = kept is not None
        self._parts["opening_cached"] = float(clause.kept)
        if kept is not None:
            yield kept
            return
        made = []
        async with closing(self._synthesise(speech, text)) as audio:
            async for pcm in audio:
                made.append(pcm)
                yield pcm
        if made:
            await openings.keep(speech, text, self._request, np.concatenate(made))

    async def _synthesise(self, speech: Speech, text: str) -> AsyncIterator[Pcm16]:
        """An engine's audio, with a last deadline for one that has none of its own."""
        request = self._request
        asked = time.perf_counter()
        meter, characters, made = self._pipeline.meters[speech.rung], self._length(text), 0
        self._sent[speech.rung] += characters
        self._events.charge(meter.text(characters))
        audio = speech.speak(text, voice=request.voice, speed=request.speed, language=request.language)
        try:
            async with closing(audio):
                while True:
                    async with asyncio.timeout(self._pipeline.next_audio_timeout):
                        pcm = await anext(audio, None)
                    if pcm is None:
                        return
                    self._parts.setdefault("tts_first_audio", time.perf_counter() - asked)
                    made += len(pcm)
                    if len(pcm):
                        yield pcm
        finally:
            self._events.charge(meter.audio(milliseconds(made, SPEAK_RATE)))

    async def _tell(self, rung: str, clause: _Clause) -> None:
        """Who speaks, where that is not the rung from before any more, and once per clause its words."""
        if rung != (self._rung or self._pipeline.rung):
            await self._events.put(AnsweredBy("B", rung))
        first, self._rung = not self._rung, rung
        if not clause.told:
            clause.told = True
            await self._events.put(TextDelta(clause.text if first else f" {clause.text}"))

    def _give_up(self, rung: str, failure: Exception) -> None:
        log.warning("speech rung %s failed: %s", rung, failure)
        self._given_up.add(rung)
        self._pipeline.health.failed(
            rung, failure.cause if isinstance(failure, PartFailed) else Cause.MISSING
        )

    async def _audio(self, pcm: Pcm16) -> None:
        self._mark("first_audio")
        await self._put_audio(self._encoder.encode(pcm))

    async def _flush(self) -> None:
        """What the resampler still holds."""
        if "first_audio" in self._parts:
            await self._put_audio(self._encoder.encode(np.zeros(0, dtype=np.int16), last=True))
            self._encoder = Encoder(self._request.format)

    async def _put_audio(self, data: bytes) -> None:
        for start in range(0, len(data), self._delta_bytes):
            await self._events.put(AudioDelta(data[start : start + self._delta_bytes]))

    def _mark(self, part: str) -> None:
        """Seconds from the beginning of the answer to the first time that this is reached."""
        self._parts.setdefault(part, time.perf_counter() - self._began)


class _Vetoed(Exception):
    def __init__(self, veto: Veto) -> None:
        super().__init__("a clause was vetoed")
        self.veto = veto


class _Reworded(Exception):
    """The clause is another one now."""


@dataclass
class _Clause:
    """A clause on its way from rung to rung."""

    text: str
    rest: str
    told: bool = False
    kept: bool = False
    """Its audio was in memory: no engine did anything for it."""
    vetting: asyncio.Future[str | Veto] | None = None
    """What may be said of it; None where that is known."""
    failure: Exception = field(
        default_factory=lambda: EngineFailed(Cause.UNAVAILABLE, "no speech engine is left for this answer")
    )


def said_limit(words: str, language: str) -> int:
    """Characters that an engine may be sent for words that are said exactly.

    The rest of a clause that another engine broke off may be read out at more length than it was in the whole.
    """
    return 2 * sum(len(spoken(clause, language)) for clause in split(words))


def _left(clause: _Clause, seconds: float, speed: float) -> str:
    """What is still to be said after a failure: as the engine knows it, else by its likely pace."""
    known = clause.failure.rest if isinstance(clause.failure, EngineFailed) else None
    return unsaid(clause.rest, seconds, speed) if known is None else known
