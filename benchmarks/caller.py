"""A caller: connects, says one thing on a live line, and notes every event with the moment at which it came.

Nothing is judged here and no audio is decoded while a call lasts; `benchmarks.timeline` does that afterwards.
"""

from __future__ import annotations

import asyncio
import time
import wave
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import soxr
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from orchestrator.listening import SILENCE_DBFS, WINDOW_MS, loudness
from orchestrator.protocol.audio import AudioFormat

Event = dict[str, Any]

FORMAT = AudioFormat.PCM
CHUNK_MS = 20
INSTRUCTIONS = "You are a friendly assistant on the phone. Answer in one or two short sentences."


@dataclass(frozen=True, slots=True)
class Received:
    at: float
    """Second of the monotonic clock, which all processes of a machine share."""
    event: Event


@dataclass(slots=True)
class Recorded:
    """One call as its client saw it. All times are seconds of the monotonic clock."""

    connect_at: float
    received: list[Received] = field(default_factory=list)
    turn_end_at: float | None = None
    """The last sound of the caller's words was sent."""
    ended_at: float = 0.0
    """The client hung up, or the connection ended."""
    lost: str = ""
    """How the connection ended, where it was not the client who ended it."""

    def first(self, kind: str, after: float = 0.0) -> float | None:
        """When the first event of a type came at or after a moment."""
        return next((r.at for r in self.received if r.event["type"] == kind and r.at >= after), None)

    def save(self, path: Path) -> None:
        """As JSON lines, for whoever wants to know what went wrong."""
        lines = [
            orjson.dumps({"at": received.at - self.connect_at, **received.event})
            for received in self.received
        ]
        path.write_bytes(b"\n".join(lines) + b"\n")


@dataclass(frozen=True, slots=True)
class Utterance:
    """What a caller says: wire audio from the first sound to the last, and the words in it."""

    audio: bytes
    words: str

    @classmethod
    def load(cls, path: Path, words: str) -> Utterance:
        """From a mono wav file of 16 bit."""
        with wave.open(str(path)) as file:
            rate = file.getframerate()
            samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
        resampled = np.asarray(soxr.resample(samples, rate, FORMAT.rate), dtype="<i2")
        heard = np.flatnonzero(loudness(resampled, FORMAT.rate) > SILENCE_DBFS)
        if not len(heard):
            raise ValueError(f"{path}: expected speech, found nothing louder than {SILENCE_DBFS:g} dBFS")
        window = FORMAT.rate * WINDOW_MS // 1000
        return cls(resampled[heard[0] * window : (heard[-1] + 1) * window].tobytes(), words)


class Caller:
    """One call to `url`; it ends with a ``response.done`` that `answered` is true of.

    Without one, the caller hangs up `patience` seconds after the last word.
    """

    def __init__(
        self, url: str, audio: bytes, *, pause: float, patience: float, answered: Callable[[Event], bool]
    ) -> None:
        self._url = url
        self._audio = audio
        self._pause = pause
        self._patience = patience
        self._answered = answered
        self._over = asyncio.Event()
        self._ready = asyncio.Event()
        self._spoken = asyncio.Event()
        self.call = Recorded(time.monotonic())

    async def place(self) -> Recorded:
        call = self.call
        try:
            connection = await connect(
                self._url,
                additional_headers={"Authorization": "Bearer benchmark"},
                compression=None,
                max_size=None,
                proxy=None,
            )
        except (OSError, WebSocketException, EOFError) as error:
            call.lost = f"no connection ({type(error).__name__})"
            call.ended_at = time.monotonic()
            return call
        async with connection:
            tasks = [asyncio.create_task(self._read(connection)), asyncio.create_task(self._talk(connection))]
            try:
                await self._until_over()
            finally:
                call.ended_at = time.monotonic()
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
        return call

    async def _until_over(self) -> None:
        words_s = FORMAT.ms(len(self._audio)) / 1000.0
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience + self._pause + words_s):
                await self._spoken.wait()
            async with asyncio.timeout(self._patience):
                await self._over.wait()

    def _end(self) -> None:
        self._spoken.set()
        self._over.set()

    async def _read(self, connection: ClientConnection) -> None:
        try:
            while True:
                data = await connection.recv()
                at = time.monotonic()
                event: Event = orjson.loads(data)
                self.call.received.append(Received(at, event))
                if event["type"] == "session.created":
                    self._ready.set()
                elif event["type"] == "response.done" and self._answered(event):
                    self._end()
        except ConnectionClosed:
            self.call.lost = f"closed with {connection.close_code}"
            self._end()

    async def _talk(self, connection: ClientConnection) -> None:
        """A live microphone: silence, the words, silence, in real time."""
        await self._ready.wait()
        session = {"type": "realtime", "instructions": INSTRUCTIONS}
        quiet = _append(FORMAT.silence(CHUNK_MS))
        before = [quiet] * round(self._pause * 1000 / CHUNK_MS)
        step = CHUNK_MS * FORMAT.bytes_per_ms
        words = [_append(self._audio[start : start + step]) for start in range(0, len(self._audio), step)]
        with suppress(ConnectionClosed):
            await connection.send(orjson.dumps({"type": "session.update", "session": session}).decode())
            due = time.monotonic()
            for chunk in before + words:
                due = await _at(due, connection, chunk)
            self.call.turn_end_at = time.monotonic()
            self._spoken.set()
            while True:
                due = await _at(due, connection, quiet)


async def _at(due: float, connection: ClientConnection, chunk: str) -> float:
    """Send a chunk once it is over, as a microphone does; gives the time at which it was due."""
    due += CHUNK_MS / 1000.0
    await asyncio.sleep(max(0.0, due - time.monotonic()))
    await connection.send(chunk)
    return due


def _append(audio: bytes) -> str:
    return orjson.dumps({"type": "input_audio_buffer.append", "audio": b64encode(audio).decode()}).decode()
