"""Says something to a real service over its socket and reads what Tier B wrote down.

Audio is sent as fast as it is taken: the service counts time in what it hears, so turns end where they would in a call.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import orjson
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.caller import Event
from benchmarks.pipeline_stages import TRANSCRIPT
from benchmarks.recognition_words import errors, words
from orchestrator.protocol.audio import SPEAK_RATE, AudioFormat, Encoder, Float32, float_to_pcm16

BEFORE_S, AFTER_S = 0.5, 1.5
"""What the line carries before and after the words: silence, or the noise alone."""
CHUNK_MS = 100
SNR_DB = 15.0
LOUD = 0.01
"""Samples louder than this (-40 dB of full scale) are speech, where its level is measured."""
ANSWER_S = 60.0


class Condition(StrEnum):
    CLEAN = "clean"
    """24 kHz, 16 bit."""
    TELEPHONE = "telephone"
    """8 kHz mu-law, as a session of a telephone has it."""
    NOISE = "noise"
    """24 kHz with white noise, 15 dB below the speech."""


@dataclass(frozen=True, slots=True)
class Clip:
    """`audio`: 24 kHz float32 mono. `kind` is who speaks: a person, or a synthetic voice."""

    name: str
    kind: str
    audio: Float32
    said: str


@dataclass(frozen=True, slots=True)
class Heard:
    """One clip under one condition. `wrong` counts words, out of `count` that were said."""

    name: str
    kind: str
    condition: Condition
    said: str
    heard: str
    wrong: int
    count: int

    @classmethod
    def of(cls, clip: Clip, condition: Condition, heard: str) -> Heard:
        said = words(clip.said)
        return cls(clip.name, clip.kind, condition, clip.said, heard, errors(said, words(heard)), len(said))


def noisy(audio: Float32, dice: np.random.Generator) -> Float32:
    """White noise over all of it, `SNR_DB` below the loud parts; turned down together where it would clip."""
    loud = audio[np.abs(audio) > LOUD]
    level = float(np.sqrt(np.mean(np.square(loud)))) if len(loud) else LOUD
    noise = dice.standard_normal(len(audio)) * level * 10 ** (-SNR_DB / 20)
    mixed = audio + noise
    return np.asarray(mixed / max(1.0, float(np.abs(mixed).max())), dtype=np.float32)


def wire(clip: Clip, condition: Condition, dice: np.random.Generator) -> tuple[AudioFormat, bytes]:
    """What is sent, the time before and after the words included."""
    audio = np.pad(clip.audio, (round(BEFORE_S * SPEAK_RATE), round(AFTER_S * SPEAK_RATE)))
    if condition is Condition.NOISE:
        audio = noisy(audio, dice)
    fmt = AudioFormat.PCMU if condition is Condition.TELEPHONE else AudioFormat.PCM
    return fmt, Encoder(fmt).encode(float_to_pcm16(audio), last=True)


async def transcribe(url: str, fmt: AudioFormat, audio: bytes) -> str:
    """One call: what was written down of its turns, in their order."""
    async with connect(url, compression=None, max_size=None, proxy=None) as connection:
        await _until(connection, _is("session.created"))
        await _send(connection, {"type": "session.update", "session": _session(fmt)})
        await _until(connection, _is("session.updated"))
        size = CHUNK_MS * fmt.bytes_per_ms
        for start in range(0, len(audio), size):
            chunk = b64encode(audio[start : start + size]).decode()
            await _send(connection, {"type": "input_audio_buffer.append", "audio": chunk})
        # Its answer comes after everything that the audio led to.
        await _send(connection, {"type": "input_audio_buffer.clear"})
        return await _transcripts(connection)


def _session(fmt: AudioFormat) -> Event:
    detection = {"type": "server_vad", "create_response": False, "silence_duration_ms": 500}
    given = {"format": fmt.describe(), "transcription": {"model": "whisper-1"}, "turn_detection": detection}
    return {"type": "realtime", "audio": {"input": given}}


async def _transcripts(connection: ClientConnection) -> str:
    turns: list[str] = []
    texts: dict[str, str] = {}
    cleared = False
    while not cleared or set(turns) - set(texts):
        event = await _until(connection, lambda event: True)
        if event["type"] == "input_audio_buffer.committed":
            turns.append(event["item_id"])
        elif event["type"] == TRANSCRIPT:
            texts[event["item_id"]] = event["transcript"].strip()
        elif event["type"] == "conversation.item.input_audio_transcription.failed":
            texts[event["item_id"]] = ""
        cleared = cleared or event["type"] == "input_audio_buffer.cleared"
    return " ".join(filter(None, (texts[turn] for turn in turns)))


async def _send(connection: ClientConnection, event: Event) -> None:
    await connection.send(orjson.dumps(event).decode())


async def _until(connection: ClientConnection, wanted: Callable[[Event], bool]) -> Event:
    async with asyncio.timeout(ANSWER_S):
        while True:
            event: Event = orjson.loads(await connection.recv())
            if wanted(event):
                return event


def _is(kind: str) -> Callable[[Event], bool]:
    return lambda event: event["type"] == kind


async def recognise(url: str, clips: Sequence[Clip], seed: int, told: Callable[[Heard], None]) -> list[Heard]:
    """Every clip under every condition, one call after the other."""
    found = []
    for number, clip in enumerate(clips):
        for condition in Condition:
            fmt, audio = wire(clip, condition, np.random.default_rng((seed, number)))
            found.append(Heard.of(clip, condition, await transcribe(url, fmt, audio)))
            told(found[-1])
    return found
