"""Clients that know nothing of this product live through a handover: each gets one answer, and it is theirs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.e2e.judging import Facts, answers, bridges, calls, checked, is_bridge
from tests.e2e.stack import AUDIO, STAND_IN, Stack
from tests.e2e.test_stock_clients import CLIENTS, VENV

pytestmark = pytest.mark.long
NEEDS_CLIENTS = pytest.mark.skipif(not VENV.exists(), reason="make clients")
FIRST = "Let me look up order"
"""How the provider begins its answer; the stand-in's is another."""
RESULT = "out for delivery"


class Client:
    """A stock client's process, which plays one scenario after the other."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process, self._log = process, log

    def play(self, scenario: str) -> Facts:
        """What it tells of the scenario, once that is over."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(scenario + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the client ended: {self._log.read_text()[-2000:]}"
        facts: Facts = json.loads(line)
        assert facts["ok"], facts
        return facts


@contextmanager
def client(quick: Stack, python: Path, script: str, log: Path) -> Iterator[Client]:
    where = ["--url", f"{quick.service.ws}/v1/realtime", "--wav", str(AUDIO / "cards-001.wav")]
    environment = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    with log.open("w") as errors:
        process = subprocess.Popen(
            [str(python), str(CLIENTS / script), *where, "--step"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        )
        try:
            yield Client(process, log)
        finally:
            process.terminate()
            process.communicate()


@pytest.fixture(scope="module")
def clients(quick: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Client]]:
    """Both, started together, as they take seconds to load; the Agents SDK only where it is installed."""
    folder = tmp_path_factory.mktemp("clients")
    pythons = {"openai": Path(sys.executable), "agents": VENV}
    with ExitStack() as running:
        yield {
            name: running.enter_context(client(quick, python, f"{name}_failover.py", folder / f"{name}.log"))
            for name, python in pythons.items()
            if python.exists()
        }


@pytest.fixture
def openai_sdk(clients: dict[str, Client]) -> Client:
    return clients["openai"]


@pytest.fixture
def agents_sdk(clients: dict[str, Client]) -> Client:
    return clients["agents"]


def play(quick: Stack, client: Client, scenario: str, fault: str, moment: str, after_ms: int = 0) -> Facts:
    """Let a client live through a fault; what all of them must see holds."""
    quick.heal()
    quick.arm(fault, moment, after_ms)
    facts = client.play(scenario)
    struck = quick.provider.get("/control/faults")["struck"]
    assert struck[-1]["fault"] == fault, "the fault struck"
    checked(facts)
    return facts


def about(facts: Facts, topic: str) -> Facts:
    """The one response that the client asked for with this topic."""
    (response,) = [each for each in facts["responses"] if each["metadata"].get("topic") == topic]
    assert response["status"] == "completed"
    return dict(response)


FAULTS = [
    pytest.param("abort", "mid_answer", 400, id="abort"),
    pytest.param("silent_turn", "answer_owed", 0, id="silent_turn"),
    pytest.param("silent_response", "answer_owed", 0, id="silent_response"),
    pytest.param("failed", "answer_owed", 0, id="failed"),
]
TOOL_FAULTS = [
    pytest.param("abort", "tool_pending", id="before_the_result"),
    pytest.param("abort", "tool_result_sent", id="after_the_result"),
    pytest.param("silent_turn", "tool_result_sent", id="no_answer_to_the_result"),
]


def assert_carried_on(response: Facts, cut: bool) -> None:
    """A response that one tier began and the next one ended: what was sent, at most one bridge, the answer."""
    *before, answer = response["items"]
    assert answer["words"] == STAND_IN
    assert answer["status"] == "completed"
    lines = bridges([response])
    broken = [item for item in before if not is_bridge(item)]
    assert len(lines) <= 1
    assert [item["status"] for item in broken] == ["incomplete"] * cut
    assert all(item["words"].startswith(FIRST) for item in broken)
    assert before == broken + lines, "the bridge joins what was cut and what follows"


@pytest.mark.parametrize(("fault", "moment", "after_ms"), FAULTS)
def test_a_client_that_asks_has_its_own_response_answered(
    quick: Stack, openai_sdk: Client, fault: str, moment: str, after_ms: int
) -> None:
    facts = play(quick, openai_sdk, "asked", fault, moment, after_ms)
    assert [each["metadata"]["topic"] for each in facts["responses"]] == ["order", "thanks"]
    order = about(facts, "order")
    assert order["metadata"]["tier"] == "B"
    assert_carried_on(order, cut=moment == "mid_answer")
    assert len(answers([about(facts, "thanks")])) == 1


@pytest.mark.parametrize(("fault", "moment", "after_ms"), FAULTS)
def test_a_caller_whose_turn_the_server_ended_is_answered_once(
    quick: Stack, openai_sdk: Client, fault: str, moment: str, after_ms: int
) -> None:
    facts = play(quick, openai_sdk, "heard", fault, moment, after_ms)
    *turn, thanks = facts["responses"]
    assert thanks["metadata"]["topic"] == "thanks"
    statuses = [response["status"] for response in turn]
    begun = fault != "silent_turn"
    assert statuses[:begun] == ["incomplete"] * begun, "what the provider began was ended first"
    *lines, last = statuses[begun:]
    assert last == "completed"
    assert set(lines) <= {"incomplete"}, "a bridge that is a response of its own is no answer"
    assert_answered_once(turn)


def assert_answered_once(turn: list[Facts]) -> None:
    """By the stand-in, or by the provider, if it was the first to have an answer when it was asked once more."""
    *before, last = turn
    (answer,) = answers([last])
    assert answer["words"] == STAND_IN or answer["words"].startswith(FIRST)
    assert answers(before) == []
    assert len(bridges(turn)) <= 1


@pytest.mark.parametrize(("fault", "moment"), TOOL_FAULTS)
def test_a_tool_runs_once_and_its_result_is_told_once(
    quick: Stack, openai_sdk: Client, fault: str, moment: str
) -> None:
    assert_result_told_once(play(quick, openai_sdk, "asked_tool", fault, moment))


@pytest.mark.parametrize(("fault", "moment"), [TOOL_FAULTS[0], TOOL_FAULTS[2]])
def test_so_does_the_tool_of_a_caller_who_spoke(
    quick: Stack, openai_sdk: Client, fault: str, moment: str
) -> None:
    assert_result_told_once(play(quick, openai_sdk, "heard_tool", fault, moment))


def assert_result_told_once(facts: Facts) -> None:
    assert [json.loads(ran["arguments"]) for ran in facts["tools"]] == [{"order_id": "4172"}]
    assert [call["call_id"] for call in calls(facts["responses"])] == [facts["tools"][0]["call_id"]]
    result = about(facts, "result")
    assert [RESULT in item["words"] for item in answers([result])] == [True]
    assert result["metadata"]["tier"] in ("B", "C"), "Tier B may have a prompt of Tier C for it"
    assert [RESULT in item["words"] for item in answers(facts["responses"])].count(True) == 1


@NEEDS_CLIENTS
@pytest.mark.parametrize("scenario", ["asked", "heard"])
@pytest.mark.parametrize(("fault", "moment", "after_ms"), FAULTS[:2])
def test_the_agents_sdk_gets_one_answer(
    quick: Stack, agents_sdk: Client, fault: str, moment: str, after_ms: int, scenario: str
) -> None:
    facts = play(quick, agents_sdk, scenario, fault, moment, after_ms)
    *turn, thanks = facts["responses"]
    assert_answered_once(turn)
    assert len(answers([thanks])) == 1
    if scenario == "asked":
        assert len(turn) == 1
        assert_carried_on(turn[0], cut=moment == "mid_answer")


@NEEDS_CLIENTS
@pytest.mark.parametrize(("fault", "moment"), TOOL_FAULTS)
def test_the_agents_sdk_runs_a_tool_once(quick: Stack, agents_sdk: Client, fault: str, moment: str) -> None:
    facts = play(quick, agents_sdk, "asked_tool", fault, moment)
    assert [json.loads(ran["arguments"]) for ran in facts["tools"]] == [{"order_id": "4172"}]
    assert len(calls(facts["responses"])) == 1
    *turn, _ = facts["responses"]
    assert [RESULT in item["words"] for item in answers(turn)] == [True]
