"""Words that a call wants said exactly, by the engine behind the prompts.

Such words hold what a caller told, so that they are never kept as a clip.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import numpy as np

from orchestrator.models import ModelMissing
from orchestrator.protocol.answers import (
    AnsweredBy,
    AnswerEvent,
    AnswerRequest,
    AudioDelta,
    Charge,
    Charged,
    Failed,
    Finished,
    TextDelta,
)
from orchestrator.protocol.audio import SPEAK_RATE, AudioFormat, Encoder, Pcm16
from tiers.pipeline.clauses import split
from tiers.pipeline.metering import SpeechMeter, milliseconds
from tiers.pipeline.reading import spoken
from tiers.pipeline.worker import closing
from tiers.speech import Speech, SpeechFailed

TIER = "C"
RUNG = "prompts"
DELTA_MS = 200


def len_spoken(words: str, language: str) -> int:
    """Characters that an engine is sent for `words`."""
    return sum(len(spoken(clause, language)) for clause in split(words))


async def say_exactly(
    request: AnswerRequest, speech: Speech | None, default_voice: str
) -> AsyncIterator[AnswerEvent]:
    """`request.say` clause by clause, each with its words first. Ends with `Finished` or `Failed`."""
    clauses = split(request.say or "")
    if not clauses:
        yield Failed("bad_request", "expected words to say, got none that can be spoken")
    elif not request.speak:
        yield AnsweredBy(TIER, RUNG)
        yield TextDelta(" ".join(clauses))
        yield Finished(rung=RUNG)
    elif speech is None:
        message = "no speech engine is set up to say anything but the prompts that are in the cache"
        yield Failed("voice_missing", message)
    else:
        async with closing(_spoken(request, speech, request.voice or default_voice, clauses)) as events:
            async for event in events:
                yield event


async def _spoken(
    request: AnswerRequest, speech: Speech, voice: str, clauses: list[str]
) -> AsyncIterator[AnswerEvent]:
    encoder = Encoder(request.format)
    yield AnsweredBy(TIER, RUNG)
    try:
        for index, clause in enumerate(clauses):
            heard = False
            async with closing(_paid(request, speech, voice, clause)) as audio:
                async for piece in audio:
                    if isinstance(piece, Charge):
                        yield Charged(piece)
                        continue
                    if not heard:
                        yield TextDelta(f" {clause}" if index else clause)
                    heard = True
                    for delta in _deltas(encoder.encode(piece), request.format):
                        yield delta
            if not heard:
                raise SpeechFailed(f"{speech.rung} gave no audio")
    except ModelMissing as error:
        yield Failed("voice_missing", str(error))
        return
    except SpeechFailed as error:
        yield Failed("speech_failed", str(error))
        return
    for delta in _deltas(encoder.encode(np.zeros(0, dtype=np.int16), last=True), request.format):
        yield delta
    yield Finished(rung=RUNG)


async def _paid(
    request: AnswerRequest, speech: Speech, voice: str, clause: str
) -> AsyncIterator[Pcm16 | Charge]:
    """The engine's audio, and what is owed for it before it: whoever stops listening has paid by then."""
    meter = SpeechMeter(speech)
    if (charge := meter.text(len(spoken(clause, request.language)))) is not None:
        yield charge
    pieces = speech.speak(clause, voice=voice, speed=request.speed, language=request.language)
    async with closing(pieces):
        async for pcm in pieces:
            if (charge := meter.audio(milliseconds(len(pcm), SPEAK_RATE))) is not None:
                yield charge
            if len(pcm):
                yield pcm


def _deltas(data: bytes, fmt: AudioFormat) -> Iterator[AudioDelta]:
    size = DELTA_MS * fmt.bytes_per_ms
    for start in range(0, len(data), size):
        yield AudioDelta(data[start : start + size])
