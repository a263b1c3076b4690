"""One worker process of a speech engine, as its owner sees it. `tiers.speech_worker` is what runs in it."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from typing import Any

from orchestrator.models import ModelMissing
from tiers.pipeline.errors import EngineFailed
from tiers.speech_worker import packed, receive

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from tiers.speech_worker import main; main()"
)
GRACE_S = 2.0
"""How long a worker may take to end by itself."""


class WorkerDied(Exception):
    """The process ended, or was ended because it did not answer, with work in it."""


class GivenUp(Exception):
    """The work was stopped because somebody asked for that."""


class SpeechProcess:
    """Starts with its first work, and anew after it has died. One piece of work at a time.

    `engine` is the pickled factory of the engine.
    """

    def __init__(self, engine: bytes) -> None:
        self._engine = engine
        self._process: asyncio.subprocess.Process | None = None
        self._last = 0
        self._doing = self._sent = self._unwanted = self._closed = False

    @property
    def pid(self) -> int | None:
        """None where no process runs."""
        return self._process.pid if self._process is not None else None

    async def do(self, what: str, asked: dict[str, Any], limit_s: float) -> Any:
        """The engine's answer. Raises `WorkerDied`, `GivenUp`, `EngineFailed` or `ModelMissing`.

        Not to be cancelled: `give_up` stops the work, and this says when it is stopped.
        """
        self._doing, self._sent, self._unwanted = True, False, False
        try:
            async with asyncio.timeout(limit_s):
                answer = await self._exchange(what, asked)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError) as error:
            await self.kill()
            raise WorkerDied from error
        finally:
            self._doing = False
        if "missing" in answer:
            raise ModelMissing(*answer["missing"])
        if "failed" in answer:
            raise EngineFailed(*answer["failed"])
        if "stopped" in answer:
            raise GivenUp
        return answer["value"]

    async def _exchange(self, what: str, asked: dict[str, Any]) -> dict[str, Any]:
        process = await self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        if self._unwanted:
            raise GivenUp
        self._last += 1
        self._sent = True
        process.stdin.write(packed({"id": self._last, "do": what, "asked": asked}))
        await process.stdin.drain()
        while (answer := await receive(process.stdout))["id"] != self._last:
            pass
        return answer

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is not None:
            self._process = None  # it died while it had nothing to do
        if self._process is None:
            # In a session of its own, so that Ctrl-C in a terminal is its owner's matter.
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", _BOOT, json.dumps(sys.path)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
            assert self._process.stdin is not None
            self._process.stdin.write(packed({"engine": self._engine}))
        if self._closed:
            raise ConnectionAbortedError
        return self._process

    def give_up(self) -> None:
        """Stops the work in progress, if there is any; `do` ends when it is."""
        if not self._doing:
            return
        if not self._sent:
            self._unwanted = True
        elif self._process is not None and self._process.stdin is not None:
            with suppress(ConnectionError):
                self._process.stdin.write(packed({"stop": self._last}))

    async def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def close(self) -> None:
        """Lets the process end by itself, and ends it where it does not. No other is started."""
        self._closed = True
        if self._process is None or self._process.stdin is None:
            return
        self._process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                await self._process.wait()
        await self.kill()
