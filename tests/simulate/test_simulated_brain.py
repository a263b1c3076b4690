"""What a simulated model says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.simulate.brain import GREETING, Brain, Call, Question, Say, load_rules, normalise
from tests.simulate.simulated import ORDER_TOOL


def ask(heard: str | None, brain: Brain | None = None, **fields: Any) -> Say | Call:
    return (brain or Brain()).reply(Question(heard, **fields))


def said(answer: Say | Call) -> str:
    assert isinstance(answer, Say)
    return " ".join(answer.sentences)


@pytest.mark.parametrize(
    ("heard", "written"),
    [
        ("four one seven two", "4172"),
        ("4-1-7-2", "4172"),
        ("4, 1, 7, 2.", "4172."),
        ("Order 4172, please", "Order 4172, please"),
        ("Four one 72", "4172"),
        ("no digits", "no digits"),
    ],
)
def test_digits_are_joined(heard: str, written: str) -> None:
    assert normalise(heard) == written


@pytest.mark.parametrize(
    "heard", ["Where is my order 4172?", "where is order four one seven two", "Package 4-1-7-2."]
)
def test_orders_go_to_the_tool(heard: str) -> None:
    assert ask(heard, tools=[ORDER_TOOL]) == Call("get_order_status", {"order_id": "4172"})


def test_the_tools_own_parameter_is_used() -> None:
    tool = {**ORDER_TOOL, "parameters": {"properties": {"number": {"type": "string"}}}}
    assert ask("order 4172", tools=[tool]) == Call("get_order_status", {"number": "4172"})


def test_orders_may_be_answered_at_length_in_speech() -> None:
    spoken = said(ask("order 4172", Brain(spoken_orders=True), tools=[ORDER_TOOL]))
    assert spoken.startswith("Let me look up order 4 1 7 2 for you.")
    assert len(spoken) > 300
    assert said(ask("order 4172")) == spoken


def test_an_order_without_its_number_is_asked_for() -> None:
    assert "order number" in said(ask("Where is my order?", tools=[ORDER_TOOL]))


@pytest.mark.parametrize(
    ("heard", "words"),
    [
        ("Goodbye.", "Goodbye"),
        ("Thank you!", "welcome"),
        ("", "did not catch"),
        ("I like tulips", "You said: I like tulips."),
    ],
)
def test_other_turns(heard: str, words: str) -> None:
    assert words in said(ask(heard))


def test_before_anything_was_said_it_greets() -> None:
    assert ask(None) == Say(GREETING)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (json.dumps({"order_id": "41", "status": "packed"}), "Order 4 1 is packed."),
        (json.dumps({"delivery_date": "Monday"}), "delivery date: Monday."),
        ("It is raining", "It is raining."),
        ("[1, 2]", "[1, 2]."),
    ],
)
def test_tool_results_are_told(output: str, words: str) -> None:
    assert words in said(ask(None, tool_output=output))


def test_tool_choice() -> None:
    assert isinstance(ask("order 4172", tools=[ORDER_TOOL], tool_choice="none"), Say)
    assert ask("Hello", tools=[ORDER_TOOL], tool_choice="required") == Call("get_order_status", {})
    other = {"type": "function", "name": "hang_up"}
    assert ask("Hello", tools=[ORDER_TOOL, other], tool_choice=other) == Call("hang_up", {})


RULES = """
[[rule]]
when = "opening hours"
say = ["From nine to five.", "You asked: {heard}"]

[[rule]]
when = "cancel order ([0-9]+)"
tool = "cancel_order"
arguments = { order_id = "{1}" }
"""


def test_rules_come_first(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(RULES)
    brain = Brain(load_rules(tmp_path / "rules.toml"))
    assert said(ask("What are your Opening Hours", brain)) == (
        "From nine to five. You asked: What are your Opening Hours."
    )
    cancel = {"type": "function", "name": "cancel_order"}
    assert ask("Cancel order four two", brain, tools=[cancel]) == Call("cancel_order", {"order_id": "42"})
    assert isinstance(ask("Cancel order four two", brain), Say)
    assert "From nine to five." in brain.known_lines()
    assert not any("{" in line for line in brain.known_lines())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[rule]]\nwhen = 'x'", "rule 1 needs `when`, and either `say` or `tool`"),
        ("[[rule]]\nsay = 'x'", "rule 1 needs `when`"),
        ("[[rule]]\nwhen = '('\nsay = 'x'", "not a regular expression"),
        ("[[rule]]\nwhen = 'x'\nsay = 'x'\nthen = 'y'", "unknown key 'then'"),
        ("[[rule", "is not TOML"),
    ],
)
def test_bad_rules_are_explained(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "rules.toml").write_text(text)
    with pytest.raises(ValueError, match=told.replace("(", r"\(")):
        load_rules(tmp_path / "rules.toml")
