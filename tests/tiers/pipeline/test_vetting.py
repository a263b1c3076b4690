"""What an agent says is looked at before it is heard: what is let through, reworded, stopped, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from orchestrator.protocol.answers import (
    AnsweredBy,
    AnswerRequest,
    Failed,
    Finished,
    TextDelta,
    ToolCallReady,
)
from orchestrator.protocol.audio import SPEAK_RATE
from tests.tiers.pipeline.scripted import (
    BY_CHARACTER,
    CHARACTER,
    SOON,
    THOUGHT,
    Prompts,
    Script,
    Voice,
    asking,
    audio,
    charges,
    collect,
    kinds,
    pipeline,
    says,
    text,
)
from tiers.pipeline.agent import Done, Words
from tiers.pipeline.vetting import Veto

GOOD, BAD = "The first sentence is here.", "Then the secret one follows."


class Judge:
    """Answers by the words; what is not named may be said. Each answer waits for `gates` of its words."""

    def __init__(self, answers: dict[str, str | Veto], gates: dict[str, asyncio.Event] | None = None) -> None:
        self.answers, self.gates = answers, gates or {}
        self.asked: list[str] = []

    async def __call__(self, request: AnswerRequest, text: str) -> str | Veto:
        self.asked.append(text)
        if text in self.gates:
            await self.gates[text].wait()
        return self.answers.get(text, text)


async def until(true: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if true():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")


async def test_what_is_let_through_is_said_as_it_was_without_it() -> None:
    plain = await collect(pipeline(says(f"{GOOD} {BAD}")))
    judge = Judge({})
    looked_at = await collect(pipeline(says(f"{GOOD} {BAD}"), vet=judge))
    assert judge.asked == [GOOD, BAD]
    assert (text(looked_at), audio(looked_at), kinds(looked_at)) == (text(plain), audio(plain), kinds(plain))


async def test_a_veto_ends_the_answer_with_the_line_and_its_words_are_never_told() -> None:
    prompts, voice = Prompts(), Voice()
    agent = Script(
        Words(f"{GOOD} {BAD} And more of it."), ToolCallReady("c", "t", "{}"), Done("script", 1, 1)
    )
    events = await collect(pipeline(agent, voice, prompts=prompts, decide=None, vet=Judge({BAD: Veto("no")})))
    assert text(events) == f"{GOOD} prompt no"
    assert prompts.asked == [("no", {}, "en")]
    assert len(audio(events)) == 2 * (len(GOOD) * CHARACTER + SPEAK_RATE)
    assert kinds(events) == ["TextDelta", "AudioDelta", "AnsweredBy", "TextDelta", "AudioDelta", "Finished"]
    assert AnsweredBy("C", "prompts") in events
    assert isinstance(events[-1], Finished)
    assert events[-1].rung == "prompts"
    assert agent.closed.is_set()


async def test_a_clause_is_reworded_and_what_was_synthesised_of_it_is_thrown_away() -> None:
    gate, voice = asyncio.Event(), Voice()
    judge = Judge({BAD: "Then another one follows."}, {BAD: gate})
    collecting = asyncio.create_task(collect(pipeline(says(f"{BAD} {GOOD}"), voice, vet=judge)))
    await until(lambda: voice.texts == [BAD])
    gate.set()
    events = await collecting
    assert text(events) == f"Then another one follows. {GOOD}"
    assert voice.texts == [BAD, "Then another one follows.", GOOD]
    assert len(audio(events)) == 2 * CHARACTER * len(f"Then another one follows.{GOOD}")


async def test_a_clause_that_is_reworded_to_nothing_is_left_out() -> None:
    events = await collect(pipeline(says(f"{BAD} {GOOD}"), vet=Judge({BAD: ""})))
    assert text(events) == GOOD


async def test_nothing_is_heard_before_its_answer_and_everything_is_ready_by_then() -> None:
    """Synthesis and the looks at later clauses do not wait for the look at the first."""
    gate, voice = asyncio.Event(), Voice()
    judge = Judge({}, {GOOD: gate})
    answer = pipeline(says(f"{GOOD} {BAD}"), voice, vet=judge).answer(asking())
    first = asyncio.ensure_future(anext(answer))
    await until(lambda: judge.asked == [GOOD, BAD] and voice.texts == [GOOD])
    for _ in range(20):
        await asyncio.sleep(0)
    assert not first.done()
    gate.set()
    assert await first == TextDelta(GOOD)
    await answer.aclose()


async def test_nobody_is_asked_any_more_once_the_answer_is_closed() -> None:
    cancelled = asyncio.Event()

    async def never(request: AnswerRequest, words: str) -> str:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return words

    voice = Voice()
    answer = pipeline(says(GOOD), voice, vet=never).answer(asking())
    first = asyncio.ensure_future(anext(answer))
    await until(lambda: bool(voice.texts))
    first.cancel()
    await asyncio.wait([first])
    await answer.aclose()
    async with asyncio.timeout(SOON):
        assert await cancelled.wait()


async def test_an_engine_that_fails_before_the_answer_is_there_gives_way_to_the_next() -> None:
    gate = asyncio.Event()
    broken, spare = Voice("broken", fails_after=0), Voice("spare")
    judge = Judge({GOOD: "Other words are here."}, {GOOD: gate})
    collecting = asyncio.create_task(collect(pipeline(says(GOOD), broken, spare, vet=judge)))
    await until(lambda: spare.texts == [GOOD])
    gate.set()
    assert text(await collecting) == "Other words are here."
    assert spare.texts == [GOOD, "Other words are here."]


async def test_what_was_synthesised_in_vain_and_thought_is_paid_for() -> None:
    agent = Script(THOUGHT, Words(BAD), Done("script", 10, 5))
    voice = Voice(price=BY_CHARACTER)
    judge = Judge({BAD: Veto("no")})
    spent = charges(await collect(pipeline(agent, voice, prompts=Prompts(), decide=None, vet=judge)))
    assert sorted((charge.what, charge.nanodollars) for charge in spent) == [
        ("agent", 1000),
        ("speech", len(BAD) * 100),
    ]


async def test_without_the_line_the_answer_fails_and_nothing_vetoed_is_said() -> None:
    tier = pipeline(says(BAD), prompts=Prompts(OSError("gone")), decide=None, vet=Judge({BAD: Veto("no")}))
    events = await collect(tier)
    assert kinds(events) == ["Failed"]
    assert isinstance(events[-1], Failed)
    assert BAD not in events[-1].message
    assert isinstance((await collect(pipeline(says(BAD), vet=Judge({BAD: Veto("no")}))))[-1], Failed)


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({}, f"{GOOD} {BAD}"),
        ({BAD: Veto("no")}, f"{GOOD} prompt no"),
        ({GOOD: "Hello there."}, f"Hello there. {BAD}"),
    ],
)
async def test_text_alone_is_looked_at_in_clauses_too(answers: dict[str, str | Veto], told: str) -> None:
    agent = Script(*(Words(f"{word} ") for word in f"{GOOD} {BAD}".split()), Done("script", 1, 1))
    tier = pipeline(agent, prompts=Prompts(), decide=None, vet=Judge(answers))
    events = await collect(tier, asking(speak=False))
    assert text(events) == told
    assert isinstance(events[-1], Finished)


async def test_words_of_the_call_itself_are_nobody_elses_to_judge() -> None:
    judge = Judge({BAD: Veto("no")})
    events = await collect(pipeline(says("no"), vet=judge), asking(say=BAD))
    assert (text(events), judge.asked) == (BAD, [])
