"""A speech engine for worker processes that does what a test tells it to, over loopback."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orchestrator.models import ModelMissing
from orchestrator.protocol.audio import Pcm16
from tiers.pipeline.errors import Cause, EngineFailed
from tiers.speech import Parts


@dataclass
class StagedSpeech:
    """Tells the stage what it was asked, and carries out the answer; ten samples a character."""

    port: int
    rung = "staged"
    version = "7"

    async def speak(
        self, text: str, *, voice: str = "", speed: float = 1.0, language: str = "en"
    ) -> AsyncIterator[Pcm16]:
        match await self._ask(f"{text}|{voice}|{speed}|{language}"):
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "missing":
                raise ModelMissing("Staged", Path("/nowhere/model"))
            case "timeout":
                raise EngineFailed(Cause.TIMEOUT, "it took too long")
            case "error":
                raise ValueError("a secret")
            case "print":
                print("what a library may print", flush=True)
        yield np.full(len(text) * 10, ord(text[0]), np.int16)

    async def voice_for(self, voice: str, language: str) -> str | None:
        answer = await self._ask(f"voice {voice} {language}")
        return answer or None

    async def speak_parts(
        self, parts: Sequence[str], *, voice: str = "", speed: float = 1.0, language: str = "en"
    ) -> Parts | None:
        if await self._ask("+".join(parts)) == "cannot":
            return None
        return Parts(np.full(len(parts), 5, np.int16), ((1, 2),))

    async def _ask(self, line: str) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(f"{line}\n".encode())
            return (await reader.readline()).decode().strip()
        finally:
            writer.close()


class Turn:
    """Something a worker was asked, and is waiting to be told about."""

    def __init__(self, asked: str, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> None:
        self.asked = asked
        self.text = asked.split("|")[0]
        self._writer, self._reader = writer, reader

    def tell(self, what: str = "speak") -> None:
        self._writer.write(f"{what}\n".encode())

    async def gone(self) -> None:
        """Until the worker does not wait for an answer any more."""
        assert await self._reader.read() == b""


class Stage:
    """Hears what workers are asked, in order. `async with` opens it."""

    def __init__(self) -> None:
        self._turns: asyncio.Queue[Turn] = asyncio.Queue()

    async def __aenter__(self) -> Stage:
        self._server = await asyncio.start_server(self._heard, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()

    async def _heard(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._turns.put_nowait(Turn((await reader.readline()).decode().strip(), writer, reader))

    async def turn(self) -> Turn:
        return await self._turns.get()

    @property
    def waiting(self) -> int:
        return self._turns.qsize()
