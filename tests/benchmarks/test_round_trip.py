"""How lines are drawn, and how what was heard is held against what was said."""

from __future__ import annotations

import random

import pytest

from benchmarks.round_trip import PROMPTS, STITCHED, WHOLE, Heard, digits, lost, variable_sets, wrong_values
from tiers.prompts.catalogue import Catalogue

CATALOGUE = Catalogue.load()


def wrong(prompt: str, variables: dict[str, object], heard: str) -> list[str]:
    return wrong_values(CATALOGUE.fill(prompt, variables), variables, heard)


@pytest.mark.parametrize(
    ("heard", "missed"),
    [
        ("Your order number 4 1 7 2, 8 3 0 is out for delivery.", []),
        ("Your order number, 4172-830 is out-for-delivery!", []),
        ("Your order number four one seven two, eight three oh is out for delivery.", []),
        ("Your order number 4172-83 is out for delivery.", ["order_id"]),
        ("Your order number 4172-8300 is out for delivery.", ["order_id"]),
        ("Your order number for 172-830 is out for delivery.", ["order_id"]),
        ("Your order number 4172-830 is on its way.", ["status"]),
        ("", ["order_id", "status"]),
    ],
)
def test_every_digit_and_the_status_count(heard, missed):
    assert wrong("order_status", {"order_id": "4172830", "status": "out_for_delivery"}, heard) == missed


def test_how_a_word_is_written_does_not_count():
    variables = {"order_id": "12", "status": "cancelled"}
    assert wrong("order_status", variables, "Your order number 1-2 has been canceled.") == []
    variables["status"] = "ready_for_pickup"
    assert wrong("order_status", variables, "Your order number 1, 2 is ready for pick-up.") == []


@pytest.mark.parametrize(
    ("heard", "missed"),
    [
        ("The amount due is $1,234.05. Please pay it by June 21st, 2027.", []),
        ("The amount due is 1234 dollars and 5 cents. Please pay it by June 21, 2027.", []),
        ("The amount due is $1,234.50. Please pay it by June 21, 2027.", ["amount"]),
        ("The amount due is €1,234.05. Please pay it by June 21, 2027.", ["amount"]),
        ("The amount due is $1,234.05. Please pay it by June 20, 2027.", ["date"]),
        ("The amount due is $1,234.05. Please pay it by June 21, 2026.", ["date"]),
    ],
)
def test_amounts_and_dates_count_to_the_cent_and_the_day(heard, missed):
    assert wrong("payment_due", {"amount": "1234.05 USD", "date": "2027-06-21"}, heard) == missed


@pytest.mark.parametrize(
    ("heard", "missed"),
    [
        ("Your position in the queue is 1,203. Estimated waiting time in minutes, 7.", []),
        ("Your position in the queue is 1203. Estimated waiting time in minutes seven.", []),
        ("Your position in the queue is 1213. Estimated waiting time in minutes 7.", ["position"]),
        ("Your position in the queue is 1203. Estimated waiting time in minutes 70.", ["minutes"]),
        ("Your position in the queue is 7. Estimated waiting time in minutes 1203.", ["position", "minutes"]),
        ("Your position in the queue is 12 3. Estimated waiting time in minutes 7.", ["position", "minutes"]),
    ],
)
def test_numbers_count_in_their_places(heard, missed):
    assert wrong("queue_update", {"position": 1203, "minutes": 7}, heard) == missed


def test_words_and_figures_are_the_same_digits():
    assert digits("number four, 1-7, oh 2") == "41702"


def test_the_same_seed_draws_the_same_lines_and_every_prompt_takes_its_turn():
    one, again = (list(variable_sets(random.Random(6), CATALOGUE, 40)) for _ in range(2))
    assert one == again
    assert [name for name, _ in one] == list(PROMPTS) * 10
    for name, variables in one:
        assert CATALOGUE.fill(name, variables).spots


def test_only_what_the_recogniser_hears_of_a_whole_line_is_lost():
    def heard(rendering: str, said: str, *missed: str) -> Heard:
        return Heard("order_status", rendering, said, "", 1.0, -21.0, list(missed))

    found = [
        heard(STITCHED, "both", "order_id"),
        heard(WHOLE, "both", "order_id"),
        heard(STITCHED, "only one", "order_id"),
        heard(WHOLE, "only one"),
        heard(STITCHED, "another value", "status"),
        heard(WHOLE, "another value", "order_id"),
        heard(STITCHED, "neither"),
        heard(WHOLE, "neither", "status"),
    ]
    assert [line.said for line in lost(found)] == ["only one", "another value"]
