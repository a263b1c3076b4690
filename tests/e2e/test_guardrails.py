"""Guardrails in the whole product: a function of the operator's own, in Tier A and in Tier B.

The user that a call is for tells what its guardrail does: "heard" and "said" veto all that is about orders, "hidden"
takes the order's number out of what Tier B hears.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from orchestrator.core.veto import WITHHELD
from tests.clients.recorder import Recorder
from tests.e2e.stack import ORDER_QUESTION, STAND_IN, Engines, Stack, speech, stack

LINE = "I'm sorry, I can't help with that."
MODULE = """
def judge(question):
    user, text = question["call"]["user"], question["text"]
    if user == question["hook"] and "order" in text:
        return {"verdict": "veto", "reason": "orders"}
    if user == "hidden" and question["hook"] == "heard" and "4172" in text:
        return {"verdict": "rewrite", "text": text.replace("4172", "(hidden)")}
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, tier_b: Engines) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "operators_guard.py").write_text(MODULE)
    provider = ("--speech", "tone", "--heard", ORDER_QUESTION, "--first-audio-ms", "200", "--pace", "4")
    hook = json.dumps({"entry_point": "operators_guard:judge", "timeout_s": 5})
    settings = {"guardrails__heard": hook, "guardrails__said": hook, "promotion__mode": "never"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        with stack(folder, *provider, **tier_b.settings, **settings) as running:
            yield running


async def call(guarded: Stack, user: str, tier: str) -> tuple[Recorder, str]:
    """One question asked by a caller of that name, until something was said to its end."""
    guarded.heal()
    caller = Recorder(f"{guarded.realtime}&user={user}", orchestrator=True)
    async with caller:
        await caller.update(audio={"input": {"transcription": {"model": "gpt-transcribe"}}})
        call_id = caller.session["orchestrator"]["call_id"]
        if tier == "B":
            guarded.force("B", scope=f"call:{call_id}")
            await caller.wait_for(
                "session.updated", lambda e: e["session"]["orchestrator"]["tier"] == "B", timeout=20
            )
        async with caller.microphone():
            await caller.say(speech())
            await caller.wait_for(
                "response.done", lambda e: e["response"]["status"] == "completed", timeout=30
            )
    return caller, call_id


def transcripts(caller: Recorder) -> list[str]:
    told = caller.events("conversation.item.input_audio_transcription.completed")
    return [event["transcript"] for event in told]


@pytest.mark.parametrize("tier", ["A", "B"])
async def test_nobody_else_notices(guarded: Stack, tier: str) -> None:
    caller, call_id = await call(guarded, "nobody", tier)
    assert transcripts(caller) == [ORDER_QUESTION]
    assert LINE not in caller.said()
    assert guarded.rows(call_id, "guardrail") == []


@pytest.mark.parametrize("tier", ["A", "B"])
async def test_what_was_heard_is_answered_with_the_line(guarded: Stack, tier: str, tier_b: Engines) -> None:
    before = len(tier_b.llm.get("/control/state")["requests"])
    caller, call_id = await call(guarded, "heard", tier)
    assert caller.said()[-1] == LINE
    assert transcripts(caller) == [WITHHELD]
    assert len(tier_b.llm.get("/control/state")["requests"]) == before, "no agent of Tier B was asked"
    rows = guarded.rows(call_id, "guardrail")
    assert {(row["hook"], row["verdict"], row["reason"]) for row in rows} == {("heard", "veto", "orders")}
    assert ORDER_QUESTION not in json.dumps(guarded.rows(call_id))


@pytest.mark.parametrize("tier", ["A", "B"])
async def test_what_is_said_ends_with_the_line(guarded: Stack, tier: str) -> None:
    caller, call_id = await call(guarded, "said", tier)
    assert caller.said()[-1].endswith(LINE)
    assert {row["hook"] for row in guarded.rows(call_id, "guardrail")} == {"said"}
    if tier == "B":
        assert caller.said() == [LINE], "not a word of the answer went out"
        assert STAND_IN not in json.dumps(guarded.rows(call_id))


async def test_an_agent_gets_the_words_as_they_were_rewritten(guarded: Stack, tier_b: Engines) -> None:
    caller, _ = await call(guarded, "hidden", "B")
    rewritten = ORDER_QUESTION.replace("4172", "(hidden)")
    assert transcripts(caller) == [rewritten]
    given = json.dumps(tier_b.llm.get("/control/state")["requests"][-1]["messages"])
    assert rewritten in given
    assert "4172" not in given
