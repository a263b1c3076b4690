"""A caller: connects, says something on a live line, and notes every event with the moment at which it came.

Nothing is judged here and no audio is decoded while a call lasts; `benchmarks.timeline` does that afterwards. What a
caller does is a script over a `Line`; without one it asks one question and hangs up when it is answered.
"""

from __future__ import annotations

import asyncio
import time
import wave
from base64 import b64encode
from collections.abc import Awaitable, Callable
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
TURN_SILENCE_S = 0.5
"""`silence_duration_ms` of a session that does not set it: after so much silence a turn counts as over."""
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
    """The last sound of the caller's latest words was sent."""
    asked_at: float | None = None
    """The client asked for a response of its own, after the words."""
    ended_at: float = 0.0
    """The client hung up, or the connection ended."""
    lost: str = ""
    """How the connection ended, where it was not the client who ended it."""
    sent: list[Received] = field(default_factory=list)
    """What the client sent, its audio apart."""
    nonsense: int = 0
    """Messages that were not JSON."""
    tools_run: list[str] = field(default_factory=list)
    """Name and arguments of every function the client was made to run."""

    @property
    def waits_since(self) -> float | None:
        """From here on there is nothing to do but wait for the answer: the end of the words, or the request."""
        return self.turn_end_at if self.asked_at is None else self.asked_at

    @property
    def owed_at(self) -> float | None:
        """From here on the answer is owed: it was asked for, or the turn is over.

        That takes a silence. A server that says so sooner heard the words end sooner.
        """
        if self.asked_at is not None or self.turn_end_at is None:
            return self.asked_at
        at_last = self.turn_end_at + TURN_SILENCE_S
        return min(at_last, self.first("input_audio_buffer.speech_stopped", self.turn_end_at) or at_last)

    def first(self, kind: str, after: float = 0.0) -> float | None:
        """When the first event of a type came at or after a moment."""
        return next((r.at for r in self.received if r.event["type"] == kind and r.at >= after), None)

    def save(self, path: Path) -> None:
        """As JSON lines, for whoever wants to know what went wrong; `sent` marks what the client sent."""
        noted = [(received, False) for received in self.received] + [(sent, True) for sent in self.sent]
        lines = [
            orjson.dumps({"at": each.at - self.connect_at, **({"sent": True} if sent else {}), **each.event})
            for each, sent in sorted(noted, key=lambda pair: pair[0].at)
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


class Line:
    """What a script can do in a call. The microphone is always live: what is not said is silence."""

    def __init__(self, connection: ClientConnection, call: Recorded, patience: float) -> None:
        self.call = call
        self.patience = patience
        """Seconds that the caller waits for anything."""
        self._connection = connection
        self._words = b""
        self._silent = asyncio.Event()
        self._news = asyncio.Event()

    async def open(self, **settings: Any) -> bool:
        """Wait for the session and set it up; False where none came."""
        if await self.until(lambda event: event["type"] == "session.created") is None:
            return False
        session = {"type": "realtime", "instructions": INSTRUCTIONS, **settings}
        await self.send({"type": "session.update", "session": session})
        return True

    async def send(self, event: Event) -> None:
        """Send one event; nothing where the connection is gone."""
        self.call.sent.append(Received(time.monotonic(), event))
        with suppress(ConnectionClosed):
            await self._connection.send(orjson.dumps(event).decode())

    async def say(self, audio: bytes) -> None:
        """Say something, in real time. An answer is owed once the turn is over."""
        self._silent.clear()
        self._words = audio
        await self._silent.wait()
        self.call.turn_end_at, self.call.asked_at = time.monotonic(), None

    async def ask(self, *events: Event) -> None:
        """Send these and ask for a response, which is owed at once."""
        for event in (*events, {"type": "response.create"}):
            await self.send(event)
        self.call.asked_at = time.monotonic()

    async def until(
        self, wanted: Callable[[Event], bool], *, since: int = 0, within: float | None = None
    ) -> Received | None:
        """The first event from number `since` on that is `wanted`; None when the patience (or `within`) is over."""
        looked = since
        with suppress(TimeoutError):
            async with asyncio.timeout(self.patience if within is None else within):
                while True:
                    self._news.clear()
                    for received in self.call.received[looked:]:
                        if wanted(received.event):
                            return received
                    looked = len(self.call.received)
                    await self._news.wait()
        return None

    async def listen(self) -> None:
        """Note everything that comes, until the connection ends."""
        try:
            while True:
                data = await self._connection.recv()
                at = time.monotonic()
                try:
                    self.call.received.append(Received(at, orjson.loads(data)))
                except orjson.JSONDecodeError:
                    self.call.nonsense += 1
                self._news.set()
        except ConnectionClosed:
            self.call.lost = f"closed with {self._connection.close_code}"

    async def transmit(self) -> None:
        """A live microphone: words where there are any, else silence, each chunk once it is over."""
        size = CHUNK_MS * FORMAT.bytes_per_ms
        quiet = _append(FORMAT.silence(CHUNK_MS))
        due = time.monotonic()
        with suppress(ConnectionClosed):
            while True:
                chunk, self._words = self._words[:size], self._words[size:]
                due += CHUNK_MS / 1000.0
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await self._connection.send(_append(chunk) if chunk else quiet)
                if not self._words:
                    self._silent.set()


Script = Callable[[Line], Awaitable[None]]


class Caller:
    """One call to `url`. It says `audio` after `pause` seconds, and ends with a ``response.done`` that `answered`
    is true of; without one it hangs up after `patience` seconds. A `script` does something else instead."""

    def __init__(
        self,
        url: str,
        audio: bytes,
        *,
        pause: float,
        patience: float,
        answered: Callable[[Event], bool],
        script: Script | None = None,
    ) -> None:
        self._url = url
        self._audio = audio
        self._pause = pause
        self._patience = patience
        self._answered = answered
        self._script = script or self._one_question
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
            await self._talk(Line(connection, call, self._patience))
        return call

    async def _talk(self, line: Line) -> None:
        script = asyncio.ensure_future(self._script(line))
        listening, microphone = asyncio.create_task(line.listen()), asyncio.create_task(self._transmit(line))
        try:
            await asyncio.wait((script, listening), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.call.ended_at = time.monotonic()
            for task in (script, listening, microphone):
                task.cancel()
            await asyncio.wait((script, listening, microphone))
        if not script.cancelled():
            script.result()

    async def _transmit(self, line: Line) -> None:
        """Nobody speaks into a connection that has no session."""
        if await line.until(lambda event: event["type"] == "session.created") is not None:
            await line.transmit()

    async def _one_question(self, line: Line) -> None:
        if await line.open():
            await asyncio.sleep(self._pause)
            await line.say(self._audio)
            await line.until(
                lambda event: event["type"] == "response.done" and self._answered(event),
            )


def _append(audio: bytes) -> str:
    return orjson.dumps({"type": "input_audio_buffer.append", "audio": b64encode(audio).decode()}).decode()
