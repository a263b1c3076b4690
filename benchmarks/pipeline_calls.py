"""What callers say to the pipelines, and the calls in which they say it: one at a time, each contender in turn."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from benchmarks.caller import FORMAT, Caller, Event, Line, Recorded, Utterance
from benchmarks.heard import AUDIO
from benchmarks.pipeline_contenders import Contender, Running
from benchmarks.pipeline_stages import OVER, Turn, heard_words
from orchestrator import models
from orchestrator.listening import SILENCE_DBFS, WINDOW_MS, loudness
from orchestrator.protocol.audio import Float32, float_to_pcm16
from tiers.pipeline.kokoro import KokoroSpeech

FIXTURES = Path(__file__).resolve().parents[1] / "tests" / "fixtures" / "audio"
HUMAN = {
    "austen-0870.wav": "And Mister John Dashwood had then leisure to consider how much there might be prudently in his "
    "power to do for them.",
    "austen-0880.wav": "He was not an ill disposed young man.",
    "cards-001.wav": "ten of clubs",
    "cards-004.wav": "five five",
    "jfk.flac": "And so my fellow Americans, ask not what your country can do for you, ask what you can do for your "
    "country.",
}
"""Recordings of people, and what they say."""
QUICK = ("austen-0880.wav", "cards-001.wav")
HOURS = "hours"
HOURS_WORDS = "What are your opening hours?"
"""Answered by a prompt that Tier B has in memory. No recording asks for it; Kokoro does, in another voice."""
CALLER_VOICE = "am_michael"
PATIENCE_S = 20.0
DONE = "response.done"
QUIET_S = 1.5
"""An answer is over when nothing came for so long."""


@dataclass(frozen=True, slots=True)
class Question:
    name: str
    utterance: Utterance

    @property
    def remembered(self) -> bool:
        """Whether Tier B has the answer's first words in memory."""
        return self.name == HOURS


@dataclass(frozen=True, slots=True)
class Row:
    """One call. Times in milliseconds from the caller's last sound, None where it was not answered."""

    contender: str
    question: str
    round: int
    heard: str
    voice_ms: float | None = None
    after_turn_ms: float | None = None
    sound_ms: float | None = None
    stages: dict[str, float] | None = None
    lost: str = ""

    @classmethod
    def of(
        cls, contender: Contender, question: Question, number: int, call: Recorded, turn: Turn | None
    ) -> Row:
        known = (contender.name, question.name, number, heard_words(call))
        if turn is None:
            return cls(*known, lost=call.lost)
        stages = {stage.value: round(ms, 1) for stage, ms in turn.stages().items()}
        return cls(
            *known, round(turn.voice_ms, 1), round(turn.after_turn_ms, 1), turn.sound_ms, stages, call.lost
        )


def recording(path: Path, words: str) -> Utterance:
    """A recording in any form that PyAV reads, cut to what is louder than silence."""
    from faster_whisper.audio import decode_audio

    return spoken(np.asarray(decode_audio(str(path), sampling_rate=FORMAT.rate), dtype=np.float32), words)


def spoken(audio: Float32, words: str, rate: int = FORMAT.rate) -> Utterance:
    """Samples at `rate` Hz as what a caller says, from the first sound to the last."""
    samples = float_to_pcm16(np.asarray(soxr.resample(audio, rate, FORMAT.rate), dtype=np.float32))
    heard = np.flatnonzero(loudness(samples, FORMAT.rate) > SILENCE_DBFS)
    if not len(heard):
        raise ValueError(f"expected speech, found nothing louder than {SILENCE_DBFS:g} dBFS")
    window = FORMAT.rate * WINDOW_MS // 1000
    return Utterance(samples[heard[0] * window : (heard[-1] + 1) * window].astype("<i2").tobytes(), words)


async def questions(names: Sequence[str]) -> list[Question]:
    """What is asked in every round: recordings of people, and the one question that is synthesised."""
    human = [Question(name, recording(FIXTURES / name, HUMAN[name])) for name in names]
    engine = KokoroSpeech(models.kokoro_model(), models.kokoro_voices(), voice=CALLER_VOICE)
    try:
        pieces = [pcm async for pcm in engine.speak(HOURS_WORDS)]
    finally:
        engine.close()
    audio = np.concatenate(pieces).astype(np.float32) / 32768.0
    return [*human, Question(HOURS, spoken(audio, HOURS_WORDS))]


def schedule(
    contenders: Sequence[Running], asked: Sequence[Question], rounds: int, dice: random.Random
) -> Iterator[tuple[int, Question, Running]]:
    """All contenders answer a question directly after each other, in an order that is drawn anew each time."""
    for number in range(rounds):
        for question in dice.sample(asked, len(asked)):
            for contender in dice.sample(contenders, len(contenders)):
                yield number, question, contender


async def measure(
    contenders: Sequence[Running],
    asked: Sequence[Question],
    rounds: int,
    dice: random.Random,
    logs: Path,
    told: Callable[[Row], None],
) -> None:
    """Place all calls, one after the other: on a busy machine pipelines side by side would measure each other."""
    for contender in contenders:
        # The first answer of a process loads what is loaded late; it is not counted.
        await _call(contender, asked[-1], 0.5)
    for number, question, contender in schedule(contenders, asked, rounds, dice):
        # Windows of voice activity detection are 32 ms: calls begin anywhere in one.
        call = await _call(contender, question, dice.uniform(0.5, 0.8))
        row = Row.of(contender.contender, question, number, call, contender.turn(call))
        if row.voice_ms is None:
            call.save(logs / f"{contender.contender.name}-{question.name}-{number}.jsonl")
        told(row)


async def _call(contender: Running, question: Question, pause: float) -> Recorded:
    async def script(line: Line) -> None:
        transcription = {"audio": {"input": {"transcription": {"model": "whisper-1"}}}}
        if not await line.open(**transcription):
            return
        await asyncio.sleep(pause)
        await line.say(question.utterance.audio)
        await _hear_out(line, len(line.call.received))

    return await Caller(
        contender.url, b"", pause=0, patience=PATIENCE_S, answered=lambda event: False, script=script
    ).place()


async def _hear_out(line: Line, since: int) -> None:
    """Until the turn is over and its answer complete; where nobody says that it is, until nothing more comes."""
    if await line.until(_is(OVER), since=since) is None:
        return
    heard = await line.until(_is(AUDIO), since=since)
    if heard is None:
        return
    received = line.call.received
    begun = received.index(heard)
    while not any(_is(DONE)(each.event) for each in received[begun:]):
        if await line.until(_is(AUDIO, DONE), since=len(received), within=QUIET_S) is None:
            return


def _is(*kinds: str) -> Callable[[Event], bool]:
    return lambda event: event["type"] in kinds
