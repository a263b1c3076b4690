"""Ids, addresses, phone numbers, names and amounts: out of a caller's words, into ours, and compared."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.entities import Entity, capture, check, flat, normalise, spoken
from orchestrator.core.tools import Tool

CAPTURED = {
    "order_number": [
        ("4 1 7 2", "4172"),
        ("four one seven two", "4172"),
        ("forty-one seventy-two", "4172"),
        ("four thousand one hundred and seventy two", "4172"),
        ("double four oh seven", "4407"),
        ("My order number is AB-4172.", "AB4172"),
        ("A-B-4-1-7-2", "AB4172"),
        ("A as in Alpha, B as in Bravo, 4 1 7 2", "AB4172"),
        ("D for dog, then 4 1 7 2", "D4172"),
        ("M as in Nancy 4 1 7", "N417"),
        ("Be as in Bravo, D as in Delta-903-55.", "BD90355"),
        ("Alpha, be as in Bravo Dash 4172.", "AB4172"),
        ("It's 41.72.", "4172"),
        ("As an alpha, be as in Bravo 4172.", "AB4172"),
        ("My order number is B as in Bravo. D as in Delta 9035.", "BD9035"),
        ("Double 512", "5512"),
        ("4. 1. No, sorry. 4. 2. 7. 2.", "4272"),
        ("alpha bravo double four seven", "AB447"),
        ("it's B 7 dash oh four", "B704"),
        ("Q W E R T Y", "QWERTY"),
        ("order seven", "7"),
        ("order ID 4172", "4172"),
        ("order no. 4172", "4172"),
        ("I bought 2 shirts, order 4172", "4172"),
        ("4 1 7 2, no sorry, 4 1 7 3", "4173"),
        ("four one, no, four two seven two", "4272"),
        ("4172, I mean 4173", "4173"),
        ("4173, not 4172", "4173"),
        ("No, 4173.", "4173"),
        ("4172, no, that's right", "4172"),
        ("4172. No, 3 at the end", None),
        ("4172, sorry, 73", None),
        ("my phone number is 555 012 3456", None),
        ("my order costs $4172", None),
        ("It was on November 28, 2026", None),
        ("I have a question", None),
        ("in 2 days", None),
        ("", None),
    ],
    "email": [
        ("jane dot doe at example dot com", "jane.doe@example.com"),
        ("My email is jane.doe@example.com.", "jane.doe@example.com"),
        ("Jane.Doe@Example.com", "jane.doe@example.com"),
        ("j a n e underscore d at gmail dot com", "jane_d@gmail.com"),
        ("J-A-N-E dot D-O-E at gmail.com", "jane.doe@gmail.com"),
        ("it's jane doe at example dot com, all lower case", "janedoe@example.com"),
        ("john forty two at g mail dot com", "john42@gmail.com"),
        ("jane at example dot co dot uk", "jane@example.co.uk"),
        ("a b at x dot c o m", "ab@x.com"),
        ("charlie at example dot com", "charlie@example.com"),
        ("J as in Juliet, A as in alpha, N, E at example dot com", "jane@example.com"),
        ("mary-jane@ex-ample.org", "mary-jane@ex-ample.org"),
        ("you can reach me at jane at example dot com or by phone", "jane@example.com"),
        ("jane at foo dot com, no sorry, jane at bar dot com", "jane@bar.com"),
        ("jane at example dot com. That's J A N E.", "jane@example.com"),
        ("jane at example dot com. That's J A Y N E.", None),
        ("look at this dot", None),
        ("I am at home", None),
    ],
    "phone": [
        ("plus four nine one seven oh double one two three four five six", "+491701123456"),
        ("My number is (415) 555-0132.", "4155550132"),
        ("415.555.0132", "4155550132"),
        ("five five five, twelve thirty-four", "5551234"),
        ("triple five one two three four", "5551234"),
        ("0049 170 1234567", "+491701234567"),
        ("call me on +49 170 123456, no, +49 170 123457", "+49170123457"),
        ("call me on +49 170 123456, no, 123457", None),
        ("order 41725", None),
        ("one two", None),
    ],
    "name": [
        ("S M I T H", "Smith"),
        ("my last name is S M I T H", "Smith"),
        ("M as in Mike, A, Y", "May"),
        ("my name is Anna Smith", "Anna Smith"),
        ("This is Anna Smith calling", "Anna Smith"),
        ("Anna Smith", "Anna Smith"),
        ("Smith, that's S-M-Y-T-H", "Smyth"),
        ("John Smith, S M Y T H E", "John Smythe"),
        ("Smith, spelled SMYTH", "Smyth"),
        ("My last name is S-M-Y-TH.", "Smyth"),
        ("Smith spelled s m y th.", "Smyth"),
        ("Anna Smith, spelled A N N A, S M I T H", "Anna Smith"),
        ("My name is José García.", "Jose Garcia"),
        ("I'm calling about my order", None),
        ("my name is B 4", None),
        ("", None),
    ],
    "amount": [
        ("twenty five fifty", "25.50"),
        ("25 dollars and 50 cents", "25.50 USD"),
        ("a hundred and twenty euros", "120 EUR"),
        ("$25.50 please", "25.50 USD"),
        ("25,50 €", "25.50 EUR"),
        ("25 euros 50", "25.50 EUR"),
        ("£1,200", "1200 GBP"),
        ("twelve hundred dollars", "1200 USD"),
        ("fifty cents", "0.50"),
        ("twenty-five point five zero", "25.50"),
        ("minus five dollars", "-5 USD"),
        ("refund 20 dollars, no, 30 dollars", "30 USD"),
        ("two fifty", None),
        ("nothing", None),
    ],
}


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [(kind, text, value) for kind, rows in CAPTURED.items() for text, value in rows],
)
def test_a_value_is_taken_down_as_it_was_meant(kind: str, text: str, value: str | None) -> None:
    assert capture(kind, text) == value


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("order_number", "4172", "4 1 7 2"),
        ("order_number", "417283", "4 1 7, 2 8 3"),
        ("order_number", "AB-4172", "A as in Alpha, B as in Bravo, dash, 4 1 7 2"),
        ("email", "jane.doe@example.com", "J, A, N, E, dot, D, O, E, at example dot com"),
        ("email", "a1o@gmail.com", "A as in Alpha, 1, O as in Oscar, at gmail dot com"),
        ("phone", "+49170123456", "plus 4 9 1, 7 0 1, 2 3 4, 5 6"),
        ("phone", "415-555-0132", "4 1 5, 5 5 5, 0 1 3 2"),
        ("name", "Anna O'Brien", "Anna O'Brien, spelled A, N, N, A. O, B, R, I, E, N"),
        ("name", "李", "李"),
        ("amount", "25.50 USD", "twenty-five dollars and fifty cents"),
        ("amount", 25.5, "twenty-five point five zero"),
        ("amount", "a lot", "a lot"),
        ("email", "no address", "no address"),
    ],
)
def test_a_value_is_said_so_that_it_can_be_checked_by_ear(kind: str, value: object, words: str) -> None:
    assert spoken(kind, value) == words


def test_other_languages_have_their_own_signs() -> None:
    assert spoken("email", "jane.doe@gmail.com", "de") == "J, A, N, E, Punkt, D, O, E, at gmail Punkt com"
    assert spoken("amount", "25.50 EUR", "fr-FR") == "25 euros et 50 cents"


def test_a_kind_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="colour"):
        capture("colour", "red")


# Round trips

IDS = st.from_regex(r"[A-Za-z0-9]{3,12}", fullmatch=True) | st.from_regex(
    r"[A-Z]{1,4}-[0-9]{2,8}", fullmatch=True
)
_PART = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)
EMAILS = st.builds(
    lambda parts, sign, domain, end: f"{sign.join(parts)}@{domain}.{end}",
    st.lists(_PART, min_size=1, max_size=3),
    st.sampled_from("._-+"),
    _PART | st.sampled_from(["gmail", "example", "foo-bar", "x.y"]),
    st.sampled_from(["com", "org", "co.uk", "de", "io"]),
)
PHONES = st.from_regex(r"\+?[1-9][0-9]{6,14}", fullmatch=True)
_WORD = st.text(string.ascii_lowercase + "éüñ", min_size=1, max_size=9).map(str.capitalize)
NAMES = (
    st.lists(_WORD, min_size=1, max_size=3).map(" ".join).filter(lambda name: max(map(len, name.split())) > 1)
)
AMOUNTS = st.builds(
    lambda cents, currency: f"{cents / 100:.2f}{currency}",
    st.integers(0, 10**7),
    st.sampled_from(["", " USD", " EUR", " GBP", " CAD"]),
) | st.integers(0, 10**6)
VALUES = {"order_number": IDS, "email": EMAILS, "phone": PHONES, "name": NAMES, "amount": AMOUNTS}


@settings(deadline=None)
@given(st.sampled_from(sorted(VALUES)).flatmap(lambda kind: st.tuples(st.just(kind), VALUES[kind])))
def test_what_is_said_is_what_is_understood(of: tuple[str, object]) -> None:
    kind, value = of
    assert capture(kind, spoken(kind, value)) == normalise(kind, value)


@settings(deadline=None)
@given(st.sampled_from(sorted(VALUES)).flatmap(lambda kind: st.tuples(st.just(kind), VALUES[kind])))
def test_a_normal_value_is_its_own_normal(of: tuple[str, object]) -> None:
    kind, value = of
    assert normalise(kind, normalise(kind, value)) == normalise(kind, value)


@settings(deadline=None)
@given(st.sampled_from(sorted(Entity)), st.text(max_size=80))
def test_any_text_is_read(kind: Entity, text: str) -> None:
    value = capture(kind, text)
    assert value is None or value


@settings(deadline=None)
@given(IDS, IDS)
def test_the_corrected_one_counts(first: str, second: str) -> None:
    said = f"{spoken('order_number', first)}, no sorry, {spoken('order_number', second)}"
    taken = capture("order_number", said)
    assert taken in (None, normalise("order_number", second))
    if len(normalise("order_number", second)) >= len(normalise("order_number", first)):
        assert taken is not None


# What a model took down wrong

TOOL = Tool(
    "refund",
    entities={"order_id": "order_number", "to": "email", "phone": "phone", "who": "name", "amount": "amount"},
)


@pytest.mark.parametrize(
    ("arguments", "said", "wrong"),
    [
        ({"order_id": "4172"}, ["cancel order four one seven two"], []),
        ({"order_id": "4173"}, ["cancel order four one seven two"], ["order_id"]),
        ({"order_id": "4172"}, ["cancel order 4172", "no, 4173"], ["order_id"]),
        ({"order_id": "4173"}, ["cancel order 4172", "no, 4173"], []),
        ({"order_id": "4172"}, ["cancel order 4172", "and where is 4180?"], []),
        ({"order_id": "AB-4172"}, ["order AB 4172"], []),
        ({"order_id": "A1"}, ["my phone number is 555 012 3456"], []),
        ({"order_id": "A1"}, ["where is it?"], []),
        ({"order_id": "4172"}, [], []),
        ({"to": "jane@example.com"}, ["jane at example dot com"], []),
        ({"to": "jayne@example.com"}, ["jane at example dot com"], ["to"]),
        ({"phone": "+14155550132"}, ["it's 415 555 0132"], []),
        ({"phone": "+14155550133"}, ["it's 415 555 0132"], ["phone"]),
        ({"who": "Anna Smith"}, ["my name is Anna Schmidt"], []),
        ({"who": "Anna Smith"}, ["Anna Smyth, S M Y T H"], ["who"]),
        ({"who": "Anna Smyth"}, ["my last name is S M Y T H"], []),
        ({"amount": 25.5}, ["refund 25 dollars and 50 cents"], []),
        ({"amount": 25}, ["refund 25 dollars and 50 cents"], ["amount"]),
        ({"amount": "25 CAD"}, ["refund 25 dollars"], []),
        ({"amount": "25 EUR"}, ["refund 25 dollars"], ["amount"]),
        ({"amount": 30}, ["for order 4172"], []),
        ({"order_id": "4173", "amount": 30}, ["order 4172, 20 dollars"], ["order_id", "amount"]),
        ({"other": "9"}, ["order 4172"], []),
    ],
)
def test_a_value_that_the_caller_did_not_say_is_found(
    arguments: dict, said: list[str], wrong: list[str]
) -> None:
    assert check(TOOL, arguments, said) == wrong


def test_entities_in_lists_and_objects_are_checked_too() -> None:
    tool = Tool("cancel", entities={"orders": "order_number", "to.email": "email"})
    said = ["orders 4172 and 4173, to jane at example dot com"]
    assert check(tool, {"orders": ["4172", "4173"], "to": {"email": "jane@example.com"}}, said) == []
    assert check(tool, {"orders": ["4172", "4174"], "to": {"email": "jan@example.com"}}, said) == [
        "orders",
        "to.email",
    ]


def test_values_are_flattened_with_their_paths() -> None:
    nested = {"a": 1, "b": {"c": [2, {"d": 3}], "e": {}}, "f": []}
    assert flat(nested) == [("a", 1), ("b.c.0", 2), ("b.c.1.d", 3), ("b.e", {}), ("f", [])]


def test_the_documented_examples_hold() -> None:
    page = (Path(__file__).parents[2] / "docs" / "consent.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|([^|]*)\|[^|]*\|([^|]*)\|$", page, re.MULTILINE)
    kinds = {kind: (understood, said) for kind, understood, said in rows if kind in tuple(Entity)}
    assert set(kinds) == set(Entity)
    for kind, (_, said) in kinds.items():
        assert capture(kind, said), f"{kind}: {said}"
