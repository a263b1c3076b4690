"""A speech engine in a process of its own: what runs there, and how it is spoken with.

Messages are pickled dictionaries behind their length, over the process's standard input and output. The process ends
with its input, so it does not outlive who started it. `tiers.speech_process` is the other end.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import struct
import sys
from contextlib import suppress
from functools import partial
from typing import IO, Any

import numpy as np

from orchestrator.models import ModelMissing
from tiers.pipeline.errors import Cause, EngineFailed

LENGTH = struct.Struct("<I")


def packed(message: dict[str, Any]) -> bytes:
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(data)) + data


async def receive(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The next message. `asyncio.IncompleteReadError` where the other end is gone."""
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    message: dict[str, Any] = pickle.loads(await reader.readexactly(length))
    return message


def main() -> None:
    """Serves the engine that the first message brings, one request after the other."""
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("phonemizer").addFilter(lambda record: record.levelno >= logging.ERROR)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no message
    with suppress(asyncio.IncompleteReadError, BrokenPipeError):
        asyncio.run(_Served(out).serve())
    # A synthesis in a thread would be waited for, and nobody wants it any more.
    os._exit(0)


class _Served:
    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._engine: Any = None
        self._current: tuple[int, asyncio.Task[None]] | None = None

    async def serve(self) -> None:
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer
        )
        self._engine = pickle.loads((await receive(reader))["engine"])()
        while True:
            request = await receive(reader)
            if "stop" in request:
                if self._current is not None and self._current[0] == request["stop"]:
                    self._current[1].cancel()
            else:
                task = asyncio.create_task(self._answer(request))
                task.add_done_callback(partial(self._stopped, request["id"]))
                self._current = request["id"], task

    def _stopped(self, id: int, task: asyncio.Task[None]) -> None:
        # Not in the task itself: one that is stopped before it has begun never gets there.
        if task.cancelled():
            self._send({"id": id, "stopped": True})

    async def _answer(self, request: dict[str, Any]) -> None:
        try:
            answer = {"value": await self._do(request)}
        except ModelMissing as error:
            answer = {"missing": (error.model, error.path)}
        except EngineFailed as error:
            answer = {"failed": (error.cause, str(error))}
        except Exception as error:
            # The class only: an engine's own text may hold an address or a key.
            answer = {"failed": (Cause.UNAVAILABLE, f"{self._engine.rung} failed: {type(error).__name__}")}
        self._send({"id": request["id"], **answer})

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._out.write(packed(message))
            self._out.flush()
        except BrokenPipeError:
            os._exit(0)

    async def _do(self, request: dict[str, Any]) -> Any:
        asked = request["asked"]
        if request["do"] != "speak":
            return await getattr(self._engine, request["do"])(**asked)
        pieces = [pcm async for pcm in self._engine.speak(**asked)]
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int16)
