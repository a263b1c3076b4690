"""What the deterministic flow answers, and above all what it leaves alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.protocol.answers import AnswerRequest, HistoryItem, Message, ToolCall, ToolResult
from tiers.flow import CallTool, Say, order_number, order_tool, reply


def tool(name: str = "get_order_status", description: str = "", **properties: str) -> dict[str, Any]:
    kinds = properties or {"order_id": "string"}
    return {
        "type": "function",
        "name": name,
        "description": description,
        "parameters": {
            "type": "object",
            "properties": {key: {"type": kind} for key, kind in kinds.items()},
            "required": list(kinds),
        },
    }


def ask(*history: str | HistoryItem, **fields: Any) -> Say | CallTool | None:
    """What the flow makes of a history whose plain strings are the caller's words."""
    items = tuple(Message("user", item) if isinstance(item, str) else item for item in history)
    return reply(AnswerRequest("answer_1", items, **{"tools": (tool(),), **fields}))


def cut_off(text: str) -> Message:
    return Message("assistant", text, cut_off=True)


LOOK_UP = CallTool("get_order_status", {"order_id": "4172"})
CALL = ToolCall("call_1", "get_order_status", '{"order_id": "4172"}')


@pytest.mark.parametrize(
    ("words", "number"),
    [
        ("4172", "4172"),
        ("four one seven two", "4172"),
        ("4 1 7 2", "4172"),
        ("4-1-7-2.", "4172"),
        ("4, 1, 7, 2", "4172"),
        ("41 72", "4172"),
        ("forty one seventy two", "4172"),
        ("forty-one seventy-two", "4172"),
        ("4,172", "4172"),
        ("four thousand one hundred and seventy two", "4172"),
        ("forty one hundred and five", "4105"),
        ("oh one two three", "0123"),
        ("double five one two", "5512"),
        ("nineteen eighty four", "1984"),
        ("My order number is 9035 5.", "90355"),
        ("order #4172", "4172"),
        ("order AB-4172", "AB-4172"),
        ("order 7", "7"),
        ("I bought 2 shirts, order number 4172 please", "4172"),
        ("I waited 45678 hours, order 4172", "4172"),
        ("one moment", None),
        ("it costs $4172", None),
        ("in 2 days", None),
        ("ten of clubs", None),
        ("", None),
    ],
)
def test_a_number_is_understood_however_it_is_said(words: str, number: str | None) -> None:
    assert order_number(words) == number


@pytest.mark.parametrize(
    "words",
    [
        "Where is my order four one seven two?",
        "Can you check on Order 4172? Please.",
        "Could you tell me the status of order number 4172, please?",
        "When will order 41 72 arrive?",
        "Order number 4172.",
        "Hi, it's about order 4172",
        "Has my package arrived yet? It's 4172.",
        "Track parcel 4 1 7 2",
    ],
)
def test_an_order_question_with_a_number_calls_the_tool(words: str) -> None:
    assert ask(words) == LOOK_UP


@pytest.mark.parametrize("words", ["Where's my order?", "I'd like to know the status of my order."])
def test_an_order_question_without_a_number_asks_for_it(words: str) -> None:
    assert ask(words) == Say("ask_order_number")


@pytest.mark.parametrize(
    "words",
    [
        "I want to cancel order 4172",
        "Change the address on order 4172",
        "I'd like to order a pizza",
        "Order 4172 is broken, I want a refund",
        "Where is my other order?",
        "My order number is 4172 and I was charged twice",
        "How do I open an account?",
        "Are you open on Christmas?",
        "Tell him goodbye from me, and where is the station?",
        "By the way, what about it?",
        "What's the status of my flight?",
        "Where's my order 4172 and what are your opening hours?",
        "4172",
        "hello",
        "",
    ],
)
def test_everything_else_is_left_alone(words: str) -> None:
    assert ask(words) is None


def test_an_order_number_may_be_keyed_in() -> None:
    asked = Message("assistant", "What is your order number?")
    assert ask("Where is my order?", asked, "(keypad) 4172#") == LOOK_UP


@pytest.mark.parametrize(
    "words",
    [
        "Am I talking to the same assistant?",
        "Wait, am I still speaking with the same person as before?",
        "Are you still the same one?",
        "Is this the same voice?",
        "Are you a different agent?",
        "Why do you sound so different?",
        "Did your voice just change?",
    ],
)
def test_who_asks_whether_it_is_the_same_assistant_gets_the_truth(words: str) -> None:
    assert ask(words) == Say("simpler_service")


@pytest.mark.parametrize(
    "words",
    [
        "Is it the same price?",
        "I want the same order as before.",
        "Is this the same as the other one?",
        "Can I talk to another person?",
        "My voice changed, sorry.",
        "Why does the line sound so bad?",
        "Are you another branch?",
    ],
)
def test_other_things_that_are_the_same_or_different_are_left_alone(words: str) -> None:
    assert ask(words) is None


@pytest.mark.parametrize(
    "words", ["What are your opening hours?", "When are you open?", "What time do you close today?"]
)
def test_opening_hours(words: str) -> None:
    assert ask(words) == Say("opening_hours")


@pytest.mark.parametrize("words", ["Goodbye.", "Thanks, bye.", "Okay, thank you very much, bye-bye!"])
def test_a_goodbye_ends_the_call(words: str) -> None:
    assert ask(words) == Say("goodbye", end_call=True)


@pytest.mark.parametrize(
    "question",
    [
        Message("assistant", "Sure! Could you give me your order number?"),
        Message("assistant", "What is your order number, please?"),
    ],
)
def test_a_bare_number_after_the_question_for_it_is_the_order(question: Message) -> None:
    assert ask("Where is my order?", question, "four one seven two") == LOOK_UP
    assert ask("Hello", question, "It's 4172, thanks.") == LOOK_UP
    assert ask("Hello", question, "5-5.") == CallTool("get_order_status", {"order_id": "55"})


def test_a_bare_number_after_something_else_is_not() -> None:
    assert ask(Message("assistant", "What is your house number?"), "4172") is None


def test_a_caller_who_repeats_the_question_need_not_repeat_the_number() -> None:
    assert ask("Where is my order 4172?", cut_off("Your"), "Hello? Where is my order?") == LOOK_UP


def test_once_answered_the_number_is_not_taken_for_the_next_question() -> None:
    done = ToolResult("call_1", "shipped")
    assert ask("Where is my order 4172?", CALL, done, "Where is my order?") == Say("ask_order_number")


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (
            '{"status": "out_for_delivery"}',
            Say("order_status", {"order_id": "4172", "status": "out_for_delivery"}),
        ),
        ('{"order": {"status": "shipped"}}', Say("order_status", {"order_id": "4172", "status": "shipped"})),
        ('"shipped"', Say("order_status", {"order_id": "4172", "status": "shipped"})),
        ("on its way", Say("order_status", {"order_id": "4172", "status": "on its way"})),
        ('{"error": "no such order"}', Say("order_unknown", {"order_id": "4172"})),
        ('{"found": false}', Say("order_unknown", {"order_id": "4172"})),
        (
            '{"status": "done", "result": {"status": "shipped"}}',
            Say("order_status", {"order_id": "4172", "status": "shipped"}),
        ),
        (
            '{"status": "failed", "reason": "there is no such order"}',
            Say("order_unknown", {"order_id": "4172"}),
        ),
        ('{"status": "failed", "reason": "the server did not answer"}', None),
        ('{"status": "not_found"}', Say("order_unknown", {"order_id": "4172"})),
        ("Order not found", Say("order_unknown", {"order_id": "4172"})),
        ("null", Say("order_unknown", {"order_id": "4172"})),
        ('{"eta": "tomorrow"}', None),
        ('["shipped"]', None),
    ],
)
def test_what_the_tool_answered_is_said(output: str, expected: Say | None) -> None:
    assert ask("Where is order 4172?", CALL, ToolResult("call_1", output)) == expected


def test_another_tools_result_is_left_alone() -> None:
    call = ToolCall("call_2", "get_weather", '{"order_id": "4172"}')
    assert ask("Where is order 4172?", call, ToolResult("call_2", '{"status": "sunny"}')) is None
    assert ask("Where is order 4172?", ToolResult("call_9", "shipped")) is None


def test_a_result_whose_call_has_no_readable_number_is_left_alone() -> None:
    for arguments in ("", "[]", "{}", '{"order_id": null}', "not json"):
        call = ToolCall("call_1", "get_order_status", arguments)
        assert ask("Where is it?", call, ToolResult("call_1", "shipped")) is None


def test_a_cut_off_answer_leaves_its_question_open() -> None:
    assert ask("Where is my order 4172?", cut_off("Your order")) == LOOK_UP
    result = ToolResult("call_1", "shipped")
    said = Say("order_status", {"order_id": "4172", "status": "shipped"})
    assert ask("Where is order 4172?", CALL, result, cut_off("Your")) == said
    assert ask("Where is order 4172?", CALL, result, cut_off("Your"), "Hello? Are you still there?") == said


def test_a_complete_answer_leaves_nothing_open() -> None:
    assert ask("Where is my order 4172?", Message("assistant", "It is on its way.")) is None
    assert ask("Where is order 4172?", Message("assistant", "It is on its way."), "Hello?") is None
    assert ask() is None
    assert ask(cut_off("Hello and")) is None


def test_the_session_decides_whether_tools_may_be_called() -> None:
    question = "Where is my order 4172?"
    assert ask(question, tools=()) is None
    assert ask(question, tool_choice="none") is None
    assert ask(question, tool_choice={"type": "function", "name": "other"}) is None
    assert ask(question, language="de") is None


@pytest.mark.parametrize(
    ("tools", "found"),
    [
        ((tool("lookup", x="string"), tool()), ("get_order_status", "order_id")),
        ((tool("track_order", order_number="string"),), ("track_order", "order_number")),
        ((tool("lookup", "Returns the status of an order.", id="string"),), ("lookup", "id")),
        ((tool("order_status", orderId="string"),), ("order_status", "orderId")),
        ((tool("update_order_status", order_id="string"),), None),
        ((tool("order_status", order_id="string", email="string"),), None),
        ((tool("order_status", email="string"),), None),
        ((tool("order_status", order_id="object"),), None),
        ((tool("order_status"), tool("track_order")), None),
        (({"type": "function", "name": "get_order_status"},), None),
        ((), None),
    ],
)
def test_the_tool_for_orders_is_found_only_when_it_is_clear(
    tools: Any, found: tuple[str, str] | None
) -> None:
    assert order_tool(tools) == found


def test_the_tools_own_parameter_is_used_both_ways() -> None:
    tools = (tool("track_order", order_number="string"),)
    move = ask("Where is my order 4172?", tools=tools)
    assert move == CallTool("track_order", {"order_number": "4172"})
    assert isinstance(move, CallTool)
    call = ToolCall("call_1", move.name, json.dumps(move.arguments))
    said = ask("Where is my order 4172?", call, ToolResult("call_1", "shipped"), tools=tools)
    assert said == Say("order_status", {"order_id": "4172", "status": "shipped"})
