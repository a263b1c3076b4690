"""A line to anything that speaks the Realtime protocol: the orchestrator, a proxy, or the provider itself."""

from __future__ import annotations

import asyncio
import time
from base64 import b64decode, b64encode
from collections.abc import Collection
from pathlib import Path

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from benchmarks.caller import INSTRUCTIONS, Event
from benchmarks.peers.figures import FORMAT, Piece, Stream
from benchmarks.peers.lines import Line

CHUNK_MS = 20
_STEP = CHUNK_MS * FORMAT.bytes_per_ms


class WireLine(Line):
    """`bridges`: what an utterance may say that only bridges a gap and answers nothing. `notes`: a file for events."""

    def __init__(self, url: str, key: str, words: bytes, bridges: Collection[str], notes: Path) -> None:
        super().__init__()
        self._url, self._key, self._bridges, self._notes = url, key, bridges, notes
        self._events: list[bytes] = []
        self._words = [words[start : start + _STEP] for start in range(0, len(words), _STEP)]
        self._to_say: list[bytes] = []
        self._ready = asyncio.Event()
        self._over = asyncio.Event()

    async def run(self, pause: float) -> None:
        self._to_say = [FORMAT.silence(CHUNK_MS)] * round(pause * 1000 / CHUNK_MS) + self._words
        dialling = asyncio.create_task(self._dial())
        over = asyncio.create_task(self._over.wait())
        await asyncio.wait([dialling, over], return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        if not dialling.done():
            dialling.cancel()
            await asyncio.wait([dialling])
            return
        try:
            connection = dialling.result()
        except (OSError, WebSocketException, EOFError) as error:
            self._close(f"no connection ({type(error).__name__})")
            return
        async with connection:
            tasks = [asyncio.create_task(self._read(connection)), asyncio.create_task(self._talk(connection))]
            try:
                await self._over.wait()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                self._notes.write_bytes(b"".join(self._events))

    async def _dial(self) -> ClientConnection:
        return await connect(
            self._url,
            additional_headers={"Authorization": f"Bearer {self._key}"},
            compression=None,
            max_size=None,
            proxy=None,
            open_timeout=None,
        )

    def say_again(self) -> None:
        self._to_say = list(self._words)

    def hang_up(self) -> None:
        self._over.set()

    def _close(self, how: str) -> None:
        self.stream.closed = how
        self._over.set()
        self.changed.set()

    async def _read(self, connection: ClientConnection) -> None:
        try:
            while True:
                data = await connection.recv()
                event: Event = orjson.loads(data)
                if event["type"] == "session.created":
                    self._ready.set()
                at = time.monotonic()
                take(self.stream, event, at, self._bridges)
                self._events.append(orjson.dumps({"at": at, **_brief(event)}) + b"\n")
                self.changed.set()
        except ConnectionClosed:
            self._close(f"closed with {connection.close_code}")

    async def _talk(self, connection: ClientConnection) -> None:
        """A live microphone: silence, the words, silence, each chunk sent once it is over."""
        await self._ready.wait()
        session = {"type": "realtime", "instructions": INSTRUCTIONS}
        quiet, due = FORMAT.silence(CHUNK_MS), time.monotonic()
        try:
            await connection.send(orjson.dumps({"type": "session.update", "session": session}).decode())
            while True:
                due += CHUNK_MS / 1000.0
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                audio = self._to_say.pop(0) if self._to_say else None
                await connection.send(_append(audio or quiet))
                if audio is not None and not self._to_say:
                    self.stream.turn_ends.append(time.monotonic())
                    self.changed.set()
        except ConnectionClosed:
            pass  # the reader says how


def take(stream: Stream, event: Event, at: float, bridges: Collection[str]) -> None:
    """Note an event of the server that came `at` that second."""
    match event["type"]:
        case "response.output_audio.delta":
            stream.pieces.append(Piece(at, b64decode(event["delta"]), event["item_id"]))
        case "input_audio_buffer.speech_started":
            stream.flushes.append(at)
        case "response.done" if event["response"]["status"] == "completed":
            for item in event["response"]["output"]:
                if item["type"] == "message" and _words_of(item) not in bridges:
                    stream.complete.append(item["id"])


def _brief(event: Event) -> Event:
    """Audio as the size of its base64."""
    audio = event["type"] == "response.output_audio.delta"
    return {**event, "delta": len(event["delta"])} if audio else event


def _words_of(item: Event) -> str:
    return " ".join(part.get("transcript") or part.get("text") or "" for part in item["content"]).strip()


def _append(audio: bytes) -> str:
    return orjson.dumps({"type": "input_audio_buffer.append", "audio": b64encode(audio).decode()}).decode()
