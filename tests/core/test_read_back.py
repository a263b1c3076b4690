"""What is about to happen, in words: every value is in them, and in other people's words it is found again."""

from __future__ import annotations

import datetime as dt
import string
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from orchestrator.core.consent import again, readback, was_read_back
from orchestrator.core.read_back import unread
from orchestrator.core.tools import Tool

CANCEL = Tool("cancel_order", readback="cancel order {order_id}", entities={"order_id": "order_number"})
ORDER = {"order_id": "4172"}
BOOK = Tool("book_table", entities={"email": "email", "phone": "phone", "name": "name", "deposit": "amount"})


def test_the_tools_own_wording_is_used() -> None:
    assert readback(CANCEL, ORDER) == "I am about to cancel order 4 1 7 2. Is that right?"
    assert again(CANCEL, ORDER).startswith("I need a clear yes or no. I am about to cancel order 4 1 7 2.")


@pytest.mark.parametrize(
    ("wording", "arguments", "said"),
    [
        ("", ORDER, "I am about to cancel order. Order id: 4 1 7 2. Is that right?"),
        ("cancel an order", ORDER, "I am about to cancel an order. Order id: 4 1 7 2. Is that right?"),
        ("cancel {other}", ORDER, "I am about to cancel order. Order id: 4 1 7 2. Is that right?"),
        (
            "Order {order_id} will be cancelled.",
            ORDER,
            "To confirm: Order 4 1 7 2 will be cancelled. Is that right?",
        ),
        ("Shall I cancel order {order_id}?", ORDER, "Shall I cancel order 4 1 7 2?"),
        (
            "cancel order {order_id}",
            {**ORDER, "refund": True, "reason": "too late"},
            "I am about to cancel order 4 1 7 2. Refund: yes. Reason: too late. Is that right?",
        ),
        (
            "cancel orders {order_id}",
            {"order_id": ["4172", "4173"]},
            "I am about to cancel orders 4 1 7 2 and 4 1 7 3. Is that right?",
        ),
        (
            "cancel plan 2 {order_id}",
            ORDER,
            "I am about to cancel plan 2 4 1 7 2. Order id: 4 1 7 2. Is that right?",
        ),
    ],
)
def test_nothing_is_left_unread(wording: str, arguments: dict[str, Any], said: str) -> None:
    tool = Tool("cancel_order", readback=wording, entities={"order_id": "order_number"})
    assert readback(tool, arguments) == said


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("people", 4, "four"),
        ("people", -2, "minus two"),
        ("weight", 2.5, "two point five"),
        ("account_id", 41720, "4 1 7, 2 0"),
        ("vegan", False, "no"),
        ("day", "2026-11-28", "November twenty-eighth, two thousand twenty-six"),
        ("at", "2026-11-28T19:30:00", "November twenty-eighth, two thousand twenty-six at seven thirty PM"),
        ("delivery", "next_day", "next day"),
        ("email", "jane.doe@example.com", "J, A, N, E, dot, D, O, E, at example dot com"),
        ("mail", "j@x.io", "J as in Juliet, at X as in X-ray dot I, O"),
        ("phone", "+49 170 1234", "plus 4 9, 1 7 0, 1 2 3 4"),
        ("name", "Anna Smith", "Anna Smith, spelled A, N, N, A. S, M, I, T, H"),
        ("deposit", "25.50 EUR", "twenty-five euros and fifty cents"),
        ("currency", "GBP", "pounds"),
        ("note", "*Ring* the bell <b>twice</b>.", "Ring the bell b twice /b"),
    ],
)
def test_a_value_is_said_by_what_it_is(name: str, value: object, said: str) -> None:
    label = name.replace("_", " ").capitalize()
    assert f"{label}: {said}. Is that right?" in readback(BOOK, {name: value})


def test_what_is_empty_is_said_only_where_the_wording_has_a_place_for_it() -> None:
    tool = Tool("set_note", readback="set the note to {note}")
    assert readback(tool, {"note": ""}) == "I am about to set the note to nothing. Is that right?"
    assert readback(BOOK, {"note": None, "tags": []}) == "I am about to book table. Is that right?"


def test_nested_values_are_named_by_where_they_are() -> None:
    said = readback(BOOK, {"items": [{"sku": "A-12", "count": 2}]})
    assert "Items 1 sku: A as in Alpha, dash, 1 2. Items 1 count: two." in said


@pytest.mark.parametrize(
    ("language", "question"),
    [
        ("de-DE", "Ist das richtig?"),
        ("es", "¿Es correcto?"),
        ("fr", "C'est bien ça ?"),
        ("pl", "Is that right?"),
    ],
)
def test_it_is_asked_in_the_callers_language(language: str, question: str) -> None:
    arguments = {
        "order_id": "4172",
        "refund": False,
        "day": "2026-11-28",
        "price": "12.50 EUR",
        "to": "a.b@c.de",
    }
    said = readback(CANCEL, arguments, language)
    assert said.endswith(question)
    assert unread(said, CANCEL, arguments) == []
    assert unread(again(CANCEL, arguments, language), CANCEL, arguments) == []


@pytest.mark.parametrize(
    ("words", "read"),
    [
        ("I'll cancel order 4172, okay?", True),
        ("Cancelling 4 1 7 2.", True),
        ("order four one seven two", True),
        ("order forty-one seventy-two", True),
        ("order 41 72", True),
        ("order 4-1-7-2", True),
        ("order four thousand one hundred and seventy-two", True),
        ("order 4,172", True),
        ("order 4173", False),
        ("order 4 1 7", False),
        ("order 4 1 7 2 2", False),
        ("order 14172", False),
        ("order 4172A", False),
        ("order A 4172", False),
        ("your order", False),
        ("", False),
    ],
)
def test_a_number_is_found_however_it_is_worded(words: str, read: bool) -> None:
    assert was_read_back(words, CANCEL, ORDER) is read


@pytest.mark.parametrize(
    ("name", "value", "words", "read"),
    [
        ("email", "jane.doe@example.com", "jane dot doe at example dot com", True),
        ("email", "jane.doe@example.com", "to jane.doe@example.com?", True),
        ("email", "jane.doe@example.com", "j-a-n-e dot d-o-e at example dot com", True),
        ("email", "doe@example.com", "jane dot doe at example dot com", False),
        ("email", "jane.doe@example.com", "jane dot doe at example dot com dot au", False),
        ("email", "jane.doe@example.com", "jane doe at example dot com", False),
        ("deposit", 25.5, "a refund of $25.50", True),
        ("deposit", 25.5, "25 dollars and 50 cents", True),
        ("deposit", "25.50 USD", "twenty-five dollars and fifty cents", True),
        ("deposit", "25.50 USD", "25.50", False),
        ("deposit", "25.50 USD", "25 euros 50", False),
        ("deposit", 25, "25 dollars and 50 cents", False),
        ("total", 25, "25 dollars and 50 cents", False),
        ("total", 25.5, "25 dollars and 50 cents", True),
        ("total", 25, "$25", True),
        ("total", 5, "minus five", False),
        ("total", -5, "minus five", True),
        ("total", 2.5, "two point five", True),
        ("total", 2, "two point five", False),
        ("phone", "+49 170 12345", "plus 49 170 12345", True),
        ("phone", "+49 170 12345", "plus 49 170 12346", False),
        ("name", "Anna Smith", "for Anna Smith", True),
        ("name", "Anna Smith", "for Anna Smyth", False),
        ("day", "2026-11-28", "on Saturday, November 28th", True),
        ("day", "2026-11-28", "the twenty-eighth of November 2026", True),
        ("day", "2026-11-28", "November 28, 2025", False),
        ("day", "2026-11-28", "November 18", False),
        ("day", "2026-11-28", "tomorrow", False),
        ("day", "2026-11-28", "am 28. November", True),
        ("time", "14:30", "at half past two", True),
        ("time", "14:30", "at 2:30 PM", True),
        ("time", "14:30", "at 2:30 AM", False),
        ("time", "14:30", "at 2:35", False),
        ("time", "12:00", "at noon", True),
        ("at", "2026-11-28T14:30:00", "November 28 at 2:30 PM", True),
        ("gift_wrap", True, "with gift wrap", True),
        ("gift_wrap", True, "without gift wrap", False),
        ("gift_wrap", False, "without gift wrap", True),
        ("gift_wrap", False, "with gift wrap, no card", False),
        ("gift_wrap", False, "gift wrap: no", True),
        ("delivery", "next_day", "with next-day delivery", True),
        ("delivery", "next_day", "with standard delivery", False),
        ("currency", "EUR", "in euros", True),
        ("currency", "EUR", "in dollars", False),
        ("sku", "A-12", "item A 12", True),
        ("sku", "A-12", "item B 12", False),
        ("note", None, "anything", True),
    ],
)  # fmt: skip
def test_a_value_is_found_in_an_assistants_own_words(
    name: str, value: object, words: str, read: bool
) -> None:
    assert (unread(words, BOOK, {name: value}) == []) is read


@pytest.mark.parametrize(
    ("words", "read"),
    [
        ("leave it with the neighbour at number 14 if I'm not there by noon", True),
        ("leave it with the neighbour at number fourteen, if I am not there by noon", True),
        ("leave it with the neighbour at number 41 if I am not there by noon", False),
        ("I will leave a note", False),
    ],
)
def test_a_long_text_has_to_be_read_almost_as_it_is(words: str, read: bool) -> None:
    note = {"note": "Leave it with the neighbour at number 14 if I am not there by noon"}
    assert (unread(words, BOOK, note) == []) is read


def test_a_whole_booking_in_an_assistants_own_words() -> None:
    arguments = {
        "day": "2026-11-28", "time": "19:30", "people": 4, "name": "Anna Smith", "email": "jane.doe@example.com",
        "gift_wrap": True, "vegan": False, "items": [{"sku": "A-12", "count": 2}], "deposit": 25.5,
    }  # fmt: skip
    words = (
        "So that's a table for 4 people on November 28th at 7:30 PM for Anna Smith, e-mail jane dot doe at example dot "
        "com, with gift wrap, no vegan menu, two of item A 12, and a deposit of $25.50. Is that correct?"
    )
    assert unread(words, BOOK, arguments) == []
    assert unread(words.replace("28th", "27th").replace("A 12", "A 13"), BOOK, arguments) == [
        "day",
        "items.0.sku",
    ]


def test_a_read_back_that_was_cut_off_has_not_read_what_came_after() -> None:
    words = readback(CANCEL, {**ORDER, "reason": "too late"})
    heard = words[: words.index("Reason")]
    assert unread(heard, CANCEL, {**ORDER, "reason": "too late"}) == ["reason"]
    assert not was_read_back("I am about to cancel order 4 1", CANCEL, ORDER)


def test_numbers_side_by_side_are_told_apart_by_the_call() -> None:
    tool = Tool("move", readback="move {count} {sku}", entities={"sku": "order_number"})
    assert was_read_back("I move 2 4172", tool, {"count": 2, "sku": "4172"})
    assert not was_read_back("I move 2 4172", tool, {"count": 3, "sku": "4172"})


def test_without_values_the_words_have_to_name_what_is_done() -> None:
    tool = Tool("close_account")
    assert was_read_back(readback(tool, {}), tool, {})
    assert was_read_back("Shall I close your account?", tool, {})
    assert not was_read_back("Anything else?", tool, {})
    assert not was_read_back("", tool, {})


# For any values

_KINDS = {
    "order_number": st.from_regex(r"[A-Z]{0,3}-?[0-9]{3,9}", fullmatch=True),
    "email": st.from_regex(
        r"[a-z]{1,6}[0-9]{0,2}([._-][a-z]{1,5})?@([a-z]{2,6}|gmail|example)\.(com|de|co\.uk)", fullmatch=True
    ),
    "phone": st.from_regex(r"\+?[1-9][0-9]{6,12}", fullmatch=True),
    "name": st.lists(st.text(string.ascii_letters + "éü", min_size=2, max_size=8), min_size=1, max_size=3).map(
        " ".join
    ),
    "amount": st.integers(0, 10**7).map(lambda cents: f"{cents / 100:.2f} EUR") | st.integers(0, 9999),
}  # fmt: skip
_PLAIN = (
    st.booleans()
    | st.none()
    | st.integers(-(10**13), 10**13)
    | st.floats(-1e6, 1e6).map(lambda value: round(value, 4))
    | st.dates(dt.date(1990, 1, 1), dt.date(2040, 1, 1)).map(str)
    | st.times().map(lambda time: time.strftime("%H:%M"))
    | st.sampled_from(
        ["next_day", "USD", "no", "double", "November", "one", "A", "Charlie 4", "4 o'clock", "-", "0", "x-1"]
    )
    | st.text(max_size=40)
    | st.text(string.ascii_lowercase + string.digits + " .,-/@", max_size=60)
)
_NAMES = st.sampled_from(
    ["order_id", "count", "refund_all", "no_refund", "line_2", "to", "a", "Amount", "gift-wrap"]
)
_VALUES = st.recursive(
    _PLAIN | st.sampled_from(sorted(_KINDS)).flatmap(lambda kind: _KINDS[kind]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=6,
)
_WORDINGS = st.sampled_from(
    ["", "cancel it", "do {order_id} {count}", "{to}{count} for {a}", "Move {order_id}.", "is it {count}?"]
)


@settings(deadline=None)
@given(
    st.dictionaries(_NAMES, _VALUES, max_size=4),
    st.dictionaries(_NAMES, st.sampled_from(sorted(_KINDS)), max_size=3),
    _WORDINGS,
    st.sampled_from(["en", "de", "es", "fr", "ja"]),
)
def test_what_we_read_back_was_read_back(
    arguments: dict[str, Any], entities: dict[str, str], wording: str, language: str
) -> None:
    tool = Tool("cancel_order", readback=wording, entities=entities)
    said = readback(tool, arguments, language)
    assert said.endswith("?")
    assert unread(said, tool, arguments) == []
    assert unread(again(tool, arguments, language), tool, arguments) == []
    assert was_read_back(said, tool, arguments) or not wording.startswith("cancel")


@settings(deadline=None)
@given(st.data())
def test_another_digit_was_not_read_back(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["order_number", "email", "phone", "amount"]))
    value = str(data.draw(_KINDS[kind]))
    places = [at for at, char in enumerate(value) if char.isdigit()]
    assume(places)
    at = data.draw(st.sampled_from(places))
    digit = data.draw(st.sampled_from([other for other in string.digits if other != value[at]]))
    changed = value[:at] + digit + value[at + 1 :]
    tool = Tool("do", readback="use {value}", entities={"value": kind})
    assert was_read_back(readback(tool, {"value": value}), tool, {"value": value})
    assert not was_read_back(readback(tool, {"value": value}), tool, {"value": changed})
    assert not was_read_back(f"use {value}?", tool, {"value": changed})


@settings(deadline=None)
@given(st.text(max_size=100), st.dictionaries(_NAMES, _VALUES, max_size=3))
def test_any_words_are_read(words: str, arguments: dict[str, Any]) -> None:
    assert set(unread(words, BOOK, arguments)) <= set(unread("", BOOK, arguments))
