"""The demo's call, step by step. A step that does not happen ends the story."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from orchestrator.demo.caller import Caller
from orchestrator.demo.recording import Row
from orchestrator.demo.script import GOODBYE, HUMAN_WORDS, SMALL_TALK, WHO_IS_THERE, Script

STEPS = (
    "A person speaks, and Tier A answers",
    "The provider is killed in the middle of Tier A's answer",
    "Bridge, then Tier B answers the question that was left open",
    "Tier B answers in the words of its own text agent",
    "Tier B looks up another order, and Tier C says the answer",
    "The provider is back, and the call returns to Tier A",
    "Tier A answers again, and the caller hangs up",
)

HUMAN = "recorded person"
PAUSE_S = 0.5
"""The caller thinks for so long before he speaks."""
KILL_AFTER_S = 1.2
"""How much of Tier A's answer is heard before its provider is killed."""
ANSWER_S = 30.0
SMALL_TALK_TRIES = 2
PROMOTION_S = 45.0


class Provider(Protocol):
    """What stands for Tier A's provider: a process that can be ended, and started again on its port."""

    @property
    def pid(self) -> int: ...

    def kill(self) -> None: ...

    async def start_again(self) -> None:
        """Returns when it is ready."""
        ...


@dataclass
class Story:
    caller: Caller
    script: Script
    speech: Mapping[str, bytes]
    """The caller's lines, spoken, in the wire's format."""
    voice: str
    provider: Provider

    async def tell(self) -> None:
        """All steps; TimeoutError says what did not come."""
        steps: list[Callable[[], Awaitable[None]]] = [
            self._person_speaks,
            self._provider_dies,
            self._open_question_is_answered,
            self._small_talk,
            self._another_order,
            self._provider_returns,
            self._goodbye,
        ]
        for number, step in enumerate(steps, 1):
            self.caller.recording.step = number
            self.caller.recording.add(_now(), "step")
            await step()

    async def _person_speaks(self) -> None:
        await self._turn(HUMAN_WORDS, HUMAN)

    async def _provider_dies(self) -> None:
        recording = self.caller.recording
        since = await self._say(self.script.question(self.script.first))

        def begun_in_tier_a(row: Row) -> bool:
            return row.type == "first_audio" and row.tier == "A"

        begun = await recording.wait("Tier A's answer", begun_in_tier_a, since=since, seconds=ANSWER_S)
        await _until(recording.spans()[begun["item_id"]].start + KILL_AFTER_S)
        killed_at = _now()
        self.provider.kill()
        recording.add(killed_at, "provider_killed", "A", pid=self.provider.pid, signal="SIGKILL")

    async def _open_question_is_answered(self) -> None:
        recording = self.caller.recording
        killed = recording.first("provider_killed")
        assert killed is not None
        await self._answered(recording.rows.index(killed))

    async def _small_talk(self) -> None:
        """Said again if Tier C had to answer: on a busy machine the text agent may be too slow at first."""
        for _ in range(SMALL_TALK_TRIES):
            if (await self._turn(SMALL_TALK)).tier == "B":
                return

    async def _another_order(self) -> None:
        await self._turn(self.script.question(self.script.second))

    async def _provider_returns(self) -> None:
        recording = self.caller.recording
        since = len(recording.rows)
        await self.provider.start_again()
        recording.add(_now(), "provider_started", "A", pid=self.provider.pid)
        await recording.wait(
            "the return to Tier A",
            lambda row: row.type == "session.updated" and row.tier == "A",
            since=since,
            seconds=PROMOTION_S,
        )
        await asyncio.sleep(PAUSE_S)

    async def _goodbye(self) -> None:
        await self._turn(WHO_IS_THERE)
        await self._turn(GOODBYE)
        await self._quiet()

    async def _turn(self, words: str, voice: str = "") -> Row:
        """Say something and wait for the end of the answer to it, tool calls and all."""
        return await self._answered(await self._say(words, voice))

    async def _say(self, words: str, voice: str = "") -> int:
        """Speak when it is quiet; gives the index of the row from which on the answer is to be looked for."""
        await self._quiet()
        await self.caller.say(self.speech[words], words, voice or self.voice)
        return len(self.caller.recording.rows)

    async def _answered(self, since: int) -> Row:
        def complete(row: Row) -> bool:
            return row.type == "response.done" and row["status"] == "completed" and not row["tool_calls"]

        return await self.caller.recording.wait("an answer", complete, since=since, seconds=ANSWER_S)

    async def _quiet(self) -> None:
        """Until the caller has heard everything, and a moment more."""
        await _until(self.caller.recording.dry_at() + PAUSE_S)


async def _until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - _now()))


def _now() -> float:
    return asyncio.get_running_loop().time()
