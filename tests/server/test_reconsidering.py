"""Calls that think again: all of them, in turns, without holding the event loop up."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.server.reconsidering import SLICE_S, Reconsidering


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Thinker:
    """A call that takes half a slice to think."""

    def __init__(self, name: str, clock: Clock, thought: list[str]) -> None:
        self.name, self.clock, self.thought = name, clock, thought

    def reconsider(self) -> None:
        self.clock.now += SLICE_S / 2
        self.thought.append(self.name)
        if self.name == "broken":
            raise RuntimeError("it is only this call")


def thinkers(names: str, clock: Clock, thought: list[str]) -> dict[str, Thinker]:
    return {name: Thinker(name, clock, thought) for name in names.split()}


async def test_calls_take_turns_and_others_come_in_between() -> None:
    clock, thought = Clock(), list[str]()
    Reconsidering(thinkers("a b c d e", clock, thought), clock).all()
    assert thought == ["a", "b"], "the first ones at once"
    await asyncio.sleep(0)
    assert thought == ["a", "b", "c", "d"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert thought == ["a", "b", "c", "d", "e"]


async def test_a_change_meanwhile_is_thought_of_too_and_nobody_loses_its_turn() -> None:
    clock, thought = Clock(), list[str]()
    calls = thinkers("a b c d", clock, thought)
    reconsidering = Reconsidering(calls, clock)
    reconsidering.all()
    calls |= thinkers("new", clock, thought)
    reconsidering.all()
    assert thought == ["a", "b"], "one slice at a time"
    del calls["d"]
    for _ in range(5):
        await asyncio.sleep(0)
    assert thought == ["a", "b", "c", "a", "b", "new"], "what has ended is not asked"


async def test_a_call_that_fails_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    clock, thought = Clock(), list[str]()
    reconsidering = Reconsidering(thinkers("broken a", clock, thought), clock)
    reconsidering.all()
    assert thought == ["broken", "a"]
    assert "call broken could not follow a change" in caplog.text
