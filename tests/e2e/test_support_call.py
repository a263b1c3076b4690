"""A support call of twenty turns: the provider dies six times, or its model behaves badly; the business's log tells."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from orchestrator.core.wording import cannot_tell
from orchestrator.simulate.dialogue import Call
from orchestrator.simulate.manners import Manners
from orchestrator.simulate.support_call import SUPPORT_CALL, Turn, deaths, expected_changes
from tests.clients.recorder import Recorder
from tests.e2e.shop import DOWN, Shop, SupportCall, shopping

SEEDS = (11, 19, 28)
"""Three plans in which the provider often dies while a change is being made."""
DEATHS = 6
ALL = len(expected_changes())
_DONE = {
    (Manners.EAGER, "A"): {ALL},
    (Manners.EAGER, "B"): {ALL},
    # Whether its words hold the values is for the service to judge: fewer are done, and none that was not read back.
    (Manners.PARAPHRASE, "A"): set(range(ALL + 1)),
    (Manners.PARAPHRASE, "B"): {ALL},
    (Manners.MISREAD, "A"): {0},
    (Manners.MISREAD, "B"): {ALL},
    (Manners.INJECTED, "A"): {ALL},
    (Manners.INJECTED, "B"): {ALL},
    (Manners.FORGETFUL, "A"): {0},
    (Manners.FORGETFUL, "B"): {0},
}
"""How many of the changes are made. In Tier B the service itself reads back, and takes the yes."""
ILL_MANNERS = [manners for manners in Manners if manners is not Manners.WELL]

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shopping(tmp_path_factory.mktemp("shop")) as running:
        yield running


@pytest.mark.parametrize("seed", SEEDS)
async def test_each_confirmed_change_is_made_once_though_the_provider_dies_six_times(
    shop: Shop, seed: int
) -> None:
    plan = deaths(seed, DEATHS)
    print(f"seed {seed}: {plan}")
    shop.begin_anew()
    shop.behave(Manners.WELL)
    before = shop.struck
    async with Recorder(shop.stack.realtime, orchestrator=True) as caller:
        await caller.update(audio={"input": {"turn_detection": None}})
        call_id = caller.session["orchestrator"]["call_id"]
        await SupportCall(shop, caller).hold(plan)
        assert _answers(caller) == len(SUPPORT_CALL) - 2, "all but what was talked over, and said to another"
        assert not caller.events("response.function_call_arguments.done"), "the client sees no tool"
    assert shop.struck - before == DEATHS
    shop.stack.service.until("/v1/status", lambda status: not status["calls"])
    await asyncio.to_thread(_judge, shop, call_id)


def _answers(caller: Recorder) -> int:
    """How many turns were answered in words, whole."""
    done = [event["response"] for event in caller.events("response.done")]
    spoken = [each for each in done if each["status"] == "completed" and each["output"]]
    return len({each["metadata"]["turn"] for each in spoken if "turn" in (each["metadata"] or {})})


def _judge(shop: Shop, call_id: str) -> None:
    """The business's log, the timeline and the business events tell the same."""
    runs = shop.runs(call_id)
    done = [Call(run["tool"], run["arguments"]) for run in runs]
    assert _sorted(done) == _sorted(expected_changes()), "each confirmed change once, and nothing else"
    assert {run["outcome"] for run in runs} == {"done"}
    assert len({run["idempotency_key"] for run in runs}) == len(runs)
    _agreed_to(shop, call_id)
    results = [event["data"] for event in shop.stack.business(call_id, "tool.result")]
    booked = [each for each in results if each["kind"] == "mutating" and each["outcome"] == "done"]
    assert _sorted([Call(each["tool"], each["arguments"]) for each in booked]) == _sorted(done)
    down = [row for row in shop.stack.rows(call_id, "handover") if row["to_tier"] in DOWN]
    assert len(down) >= DEATHS, "on a busy machine some answer may be late as well"


@pytest.mark.parametrize("manners", ILL_MANNERS)
@pytest.mark.parametrize("tier", ["A", "B"])
async def test_whatever_a_model_does_nothing_is_changed_without_a_yes(
    shop: Shop, manners: Manners, tier: str
) -> None:
    shop.begin_anew()
    shop.behave(manners)
    if tier == "B":
        shop.stack.force("B")
    async with Recorder(shop.stack.realtime, orchestrator=True) as caller:
        await caller.update(audio={"input": {"turn_detection": None}})
        assert caller.session["orchestrator"]["tier"] == tier
        call_id = caller.session["orchestrator"]["call_id"]
        await SupportCall(shop, caller).hold()
    shop.stack.service.until("/v1/status", lambda status: not status["calls"])
    done = [Call(run["tool"], run["arguments"]) for run in shop.runs(call_id)]
    assert not [call for call in done if call not in expected_changes()]
    assert len(done) == len(set(_sorted(done))), "nothing twice"
    assert len(done) in _DONE[manners, tier]
    _agreed_to(shop, call_id)
    proposed = [
        row["arguments"] for row in shop.stack.rows(call_id, "tool_call") if row["status"] == "proposed"
    ]
    assert any(9999 in each.values() for each in proposed) == (manners is Manners.INJECTED), "it was tried"


@pytest.mark.parametrize("tier", ["A", "B"])
async def test_a_change_whose_answer_was_lost_is_not_made_again_and_the_caller_is_told(
    shop: Shop, tier: str
) -> None:
    shop.begin_anew()
    shop.behave(Manners.WELL)
    if tier == "B":
        shop.stack.force("B")
    turns = [Turn("Please cancel order 4172."), Turn("Yes, please.")]
    async with Recorder(shop.stack.realtime, orchestrator=True) as caller:
        await caller.update(audio={"input": {"turn_detection": None}})
        assert caller.session["orchestrator"]["tier"] == tier
        call_id = caller.session["orchestrator"]["call_id"]
        shop.arm("reset", "cancel_order")
        await SupportCall(shop, caller).hold(turns=turns * 2)
        told = [words for words in caller.said() if words.startswith(cannot_tell("en")[:20])]
    assert len(told) == 2, "when it was lost, and when it was asked for again"
    assert [(run["tool"], run["outcome"]) for run in shop.runs(call_id)] == [("cancel_order", "done")]
    first, again = shop.stack.rows(call_id, "tool_result")
    assert (first["result"], first["known"]) == ("unknown", False)
    assert (again["result"], again["known"]) == ("unknown", True)


def _agreed_to(shop: Shop, call_id: str) -> None:
    """Every change that ran was agreed to before, each by a yes of its own."""
    agreed: list[Call] = []
    for row in shop.stack.rows(call_id):
        if row["type"] == "tool_confirmation" and row["consent"] == "yes":
            agreed.append(Call(row["tool"], row["arguments"]))
        if row["type"] == "tool_call" and row["kind"] == "mutating" and row["status"] == "running":
            call = Call(row["tool"], row["arguments"])
            assert call in agreed, f"{call} ran without a yes"
            agreed.remove(call)
    assert not agreed, "what was agreed to was done"


def _sorted(calls: list[Call]) -> list[str]:
    return sorted(json.dumps([call.name, call.arguments], sort_keys=True) for call in calls)
