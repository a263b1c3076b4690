"""A call in a few lines: what was done, what was taken down, what was said, and no more than fits."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.actions import Record
from orchestrator.core.summary import LIMIT, summarise
from orchestrator.protocol.answers import HistoryItem, Message, ToolCall, ToolResult


def call(call_id: str, name: str, status: str | None = None, **arguments: Any) -> list[HistoryItem]:
    made: list[HistoryItem] = [ToolCall(call_id, name, json.dumps(arguments))]
    return made if status is None else [*made, ToolResult(call_id, json.dumps({"status": status}))]


HISTORY: tuple[HistoryItem, ...] = (
    Message("system", "You are an agent."),
    Message("user", "Hello, I want to send my order back."),
    Message("assistant", "What is its number?"),
    Message("user", "A 1042."),
    *call("1", "find_order", "done", order_id="A-1042"),
    Message("assistant", "Shall I refund 20 dollars?"),
    *call("2", "refund", "confirmation_needed", order_id="A-1042", amount=20),
    Message("user", "No. I want a person!"),
    *call("3", "transfer_to_human", "transferring", reason="asked"),
)


def test_a_call_in_lines() -> None:
    assert summarise(HISTORY).splitlines() == [
        'The caller began with: "Hello, I want to send my order back."',
        "Tools: find_order (order_id A-1042): done; "
        "refund (order_id A-1042, amount 20): not done, the caller has not said yes",
        "Taken down: order_id: A-1042; amount: 20",
        'The caller said last: "No. I want a person!"',
        'The agent said last: "Shall I refund 20 dollars?"',
    ]


def test_nothing_said_and_nothing_done_is_nothing() -> None:
    assert summarise(()) == ""
    assert summarise((Message("system", "Be kind."), Message("user", "  "))) == ""
    assert summarise((Message("user", "Help!"),)) == 'The caller said last: "Help!"'


def test_the_timeline_knows_better_than_the_history() -> None:
    row = {"tool_call_id": "2", "tool": "refund", "arguments": {"order_id": "A-1042", "amount": 20}}
    told = summarise(
        HISTORY, [Record("tool_result", {**row, "result": "unknown"}), Record("bridge", {"text": "x"})]
    )
    assert "refund (order_id A-1042, amount 20): may have been done, that is not known" in told
    told = summarise(HISTORY, [Record("tool_approval", {**row, "decision": "rejected", "who": "ann"})])
    assert "refund (order_id A-1042, amount 20): not done, approval was refused" in told
    approved = summarise(HISTORY, [Record("tool_approval", {**row, "decision": "approved"})])
    assert approved == summarise(HISTORY)


def test_a_tool_asked_for_again_is_told_once_as_it_stands_now() -> None:
    again = (*HISTORY, *call("4", "refund", "done", amount=20, order_id="A-1042"))
    told = summarise(again)
    assert told.count("refund (") == 1
    assert "): done\n" in told


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ('{"status": "failed"}', "failed, nothing was changed"),
        ('{"status": "waiting_for_approval"}', "waits for approval"),
        ('{"status": "shipped"}', "done"),
        ("it rains", "done"),
        ("[1]", "done"),
    ],
)
def test_what_became_of_a_tool(output: str, says: str) -> None:
    assert summarise((ToolCall("1", "look", "not json"), ToolResult("1", output))) == f"Tools: look: {says}"


def test_a_tool_without_a_result_was_asked_for() -> None:
    assert summarise(call("1", "look", None, city="Oslo")).startswith("Tools: look (city Oslo): asked for")


def test_secrets_are_not_told() -> None:
    told = summarise(call("1", "log_in", "done", user="ann", pin="8731"))
    assert told == "Tools: log_in (user ann): done\nTaken down: user: ann"


def test_what_was_taken_down_can_be_given() -> None:
    told = summarise(HISTORY, entities={"order": "A-1042", "email": "x@example.com"})
    assert "Taken down: order: A-1042; email: x@example.com" in told


def test_where_not_all_fits_what_was_done_stays() -> None:
    told = summarise(HISTORY, limit=220)
    assert len(told) <= 220
    assert told.splitlines()[0].startswith("Tools: find_order")
    assert "The agent said last" not in told


def test_long_words_are_cut_between_two_of_them() -> None:
    told = summarise((Message("user", "yes please " * 100),))
    assert told.endswith(('yes please…"', 'yes…"'))
    assert len(told) < 230


ITEMS = st.one_of(
    st.builds(Message, st.sampled_from(["user", "assistant", "system"]), st.text(max_size=400)),
    st.builds(ToolCall, st.sampled_from("abc"), st.text(max_size=30), st.text(max_size=60)),
    st.builds(ToolResult, st.sampled_from("abc"), st.text(max_size=60)),
)


@given(st.lists(ITEMS, max_size=40), st.integers(1, LIMIT))
def test_it_is_never_longer_than_it_may_be(history: list[HistoryItem], limit: int) -> None:
    assert len(summarise(history, limit=limit)) <= limit
    assert len(summarise(history * 3)) <= LIMIT
