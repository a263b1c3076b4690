"""What a client was told of responses (`tests.clients.answers`), judged: nothing twice, nothing half, one answer."""

from __future__ import annotations

from typing import Any

from tests.clients.answers import Answers
from tests.clients.recorder import Recorder
from tiers.prompts.catalogue import Catalogue

Facts = dict[str, Any]

BRIDGES = Catalogue.load().bridge_texts()


def told(caller: Recorder) -> list[Facts]:
    """The responses of a recorded call that have ended, once none is under way; what must hold of any is asserted."""
    return checked(_report(caller))


def ended(caller: Recorder, response_id: str) -> Facts:
    """A response of a recorded call that has ended."""
    (response,) = [each for each in _report(caller)["responses"] if each["id"] == response_id]
    return dict(response)


def _report(caller: Recorder) -> Facts:
    answers = Answers()
    for _, event in caller.received:
        answers.note(event)
    return answers.report()


def checked(facts: Facts) -> list[Facts]:
    """The responses of a report, each ended once, no words twice, and none without its audio."""
    responses: list[Facts] = facts["responses"]
    ended = [response["id"] for response in responses]
    assert sorted(ended) == sorted(facts["opened"]), "every response ends once"
    said = [item["words"] for item in spoken(responses) if item["words"]]
    assert len(set(said)) == len(said), f"nothing is said twice: {said}"
    for item in spoken(responses):
        assert item["said"] == item["words"], "the words came once"
        assert item["audio_ms"] > 0 or item["status"] == "incomplete", "what is told is heard"
    return responses


def spoken(responses: list[Facts]) -> list[Facts]:
    return [item for response in responses for item in response["items"] if item["type"] == "message"]


def calls(responses: list[Facts]) -> list[Facts]:
    return [item for response in responses for item in response["items"] if item["type"] == "function_call"]


def is_bridge(item: Facts) -> bool:
    return item["words"] in BRIDGES


def bridges(responses: list[Facts]) -> list[Facts]:
    return [item for item in spoken(responses) if is_bridge(item)]


def answers(responses: list[Facts]) -> list[Facts]:
    """The whole messages that are more than a bridge."""
    whole = [item for item in spoken(responses) if item["status"] == "completed"]
    return [item for item in whole if not is_bridge(item)]
