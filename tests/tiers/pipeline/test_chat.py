"""A call's history as chat messages."""

from __future__ import annotations

from typing import Any

from orchestrator.protocol.answers import AnswerRequest, HistoryItem, Message, ToolCall, ToolResult
from tiers.pipeline import chat

TOOL = {"type": "function", "name": "look", "description": "Looks.", "parameters": {"type": "object"}}


def request(*history: HistoryItem, **fields: Any) -> AnswerRequest:
    return AnswerRequest("answer_1", history, **fields)


def user(text: str) -> Message:
    return Message("user", text)


def roles(messages: list[dict[str, Any]]) -> list[str]:
    return [message["role"] for message in messages]


def test_instructions_come_first_and_then_what_was_said() -> None:
    messages = chat.messages(
        request(user("Hi"), Message("assistant", "Hello."), user("Bye"), instructions="Be kind.")
    )
    assert messages[0] == {"role": "system", "content": f"Be kind.\n\n{chat.PHONE_STYLE}"}
    assert messages[1:] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Bye"},
    ]


def test_a_result_follows_its_call_whatever_came_between() -> None:
    call, result = ToolCall("call_1", "look", '{"at": 1}'), ToolResult("call_1", "seen")
    messages = chat.messages(request(user("Look"), call, user("Well?"), result))
    assert roles(messages) == ["system", "user", "assistant", "tool", "user"]
    assert messages[2]["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
    ]
    assert messages[3] == {"role": "tool", "tool_call_id": "call_1", "content": "seen"}


def test_a_call_without_a_result_and_a_result_without_a_call_are_left_out() -> None:
    history = (user("Look"), ToolCall("call_1", "look", "{}"), ToolResult("call_2", "seen"))
    assert roles(chat.messages(request(*history))) == ["system", "user"]


def test_an_answer_that_was_cut_off_earlier_stays_as_it_was_heard() -> None:
    messages = chat.messages(request(user("Hi"), Message("assistant", "We are", cut_off=True), user("What?")))
    assert messages[2] == {"role": "assistant", "content": "We are ..."}
    assert roles(messages) == ["system", "user", "assistant", "user"]


def test_an_answer_that_a_failure_cut_off_is_to_be_completed() -> None:
    messages = chat.messages(request(user("Hours?"), Message("assistant", "We are open", cut_off=True)))
    assert roles(messages) == ["system", "user", "system"]
    assert "'We are open'" in messages[-1]["content"]


def test_unheard_answers_and_inaudible_callers() -> None:
    messages = chat.messages(request(user(" "), Message("assistant", "", cut_off=True)))
    assert [message["content"] for message in messages[1:]] == [chat.INAUDIBLE]


def test_the_embedded_model_sees_little_and_no_tools() -> None:
    turns = [user(f"turn {number} " + "x" * 1000) for number in range(20)]
    call, result = ToolCall("call_1", "look", "{}"), ToolResult("call_1", "seen")
    messages = chat.small_messages(request(*turns, call, result, instructions="y" * 5000, tools=(TOOL,)))
    assert len(messages) == 1 + 2 * len(chat.SMALL_EXAMPLES) + chat.SMALL_TURNS
    assert sum(len(message["content"]) for message in messages) < 4000
    assert messages[-1]["content"] == "(Information to tell me: seen)"
    assert {key for message in messages for key in message} == {"role", "content"}


def test_tools_in_the_chat_shape() -> None:
    assert chat.tools(request(tools=(TOOL,), tool_choice="required")) == {
        "tools": [
            {
                "type": "function",
                "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object"}},
            }
        ],
        "tool_choice": "required",
    }
    choice = chat.tools(request(tools=(TOOL,), tool_choice={"type": "function", "name": "look"}))[
        "tool_choice"
    ]
    assert choice == {"type": "function", "function": {"name": "look"}}
    assert chat.tools(request(tools=(TOOL,), tool_choice="none")) == {}
    assert chat.tools(request(tools=({"type": "mcp"},))) == {}
    assert chat.tools(request()) == {}
