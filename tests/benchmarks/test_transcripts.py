"""How what was heard is held against what was said, in words and in figures."""

from __future__ import annotations

import pytest

from benchmarks.transcripts import digits, heard_words, wrong_values
from tiers.prompts.catalogue import Catalogue

CATALOGUE = Catalogue.load()


def wrong(prompt: str, variables: dict[str, object], heard: str) -> list[str]:
    return wrong_values(CATALOGUE[prompt], variables, heard)


@pytest.mark.parametrize(
    ("heard", "missed"),
    [
        ("Your order number four one seven two, eight three zero is out for delivery.", []),
        ("Your order numbered for, one, seven, too, ate three oh is out-for-delivery!", []),
        ("Your order number four one seven two, eight three is out for delivery.", ["order_id"]),
        ("Your order number four one seven two, eight three zero zero is out for delivery.", ["order_id"]),
        ("Your order number nine four one seven two, eight three zero is out for delivery.", ["order_id"]),
        ("Your order number four seven one two, eight three zero is out for delivery.", ["order_id"]),
        ("Your order number four one seven two, eight three zero is on its way.", ["status"]),
        ("", ["order_id", "status"]),
    ],
)
def test_every_digit_and_the_status_count(heard, missed):
    assert wrong("order_status", {"order_id": "4172830", "status": "out_for_delivery"}, heard) == missed


def test_how_a_word_is_written_does_not_count():
    variables = {"order_id": "12", "status": "cancelled"}
    assert wrong("order_status", variables, "Your order number one, two has been canceled.") == []
    variables["status"] = "ready_for_pickup"
    assert wrong("order_status", variables, "Your order number one two is ready for pick-up.") == []


DUE = "The amount due is {}. Please pay it by {}."
AMOUNT, DAY = (
    "one thousand, two hundred thirty-four dollars and five cents",
    "June twenty-first, two thousand twenty-seven",
)


@pytest.mark.parametrize(
    ("amount", "day", "missed"),
    [
        (AMOUNT, DAY, []),
        (AMOUNT.replace("five", "fifty"), DAY, ["amount"]),
        (AMOUNT.replace("dollars", "euros"), DAY, ["amount"]),
        (AMOUNT.replace("hundred thirty", "hundred and thirty"), DAY.replace("-first", "-one"), []),
        (AMOUNT, DAY.replace("-first", ""), ["date"]),
        (AMOUNT, DAY.replace("seven", "six"), ["date"]),
        (AMOUNT, DAY.replace("two thousand", "twenty twenty thousand"), ["date"]),
    ],
)
def test_amounts_and_dates_count_to_the_cent_and_the_day(amount, day, missed):
    variables = {"amount": "1234.05 USD", "date": "2027-06-21"}
    assert wrong("payment_due", variables, DUE.format(amount, day)) == missed


@pytest.mark.parametrize(
    ("position", "minutes", "missed"),
    [
        ("one thousand two hundred three", "seven", []),
        ("one thousand, two hundred and three", "seven", []),
        ("one thousand two hundred thirteen", "seven", ["position"]),
        ("one thousand two hundred three", "seventy", ["minutes"]),
        ("one thousand two hundred three", "seventy-seven", ["minutes"]),
    ],
)
def test_numbers_count_as_a_whole(position, minutes, missed):
    heard = f"Your position in the Q is {position}. Estimated waiting time in minutes, {minutes}."
    assert wrong("queue_update", {"position": 1203, "minutes": 7}, heard) == missed


def test_words_that_sound_alike_are_one():
    assert heard_words("To be sent for the third, Q!") == [
        "two",
        "be",
        "sent",
        "four",
        "the",
        "three",
        "queue",
    ]


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
def test_every_digit_counts_in_figures(heard, missed):
    assert wrong("order_status", {"order_id": "4172830", "status": "out_for_delivery"}, heard) == missed


def test_how_a_figure_is_written_does_not_count():
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
def test_amounts_and_dates_count_in_figures(heard, missed):
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
def test_figures_count_in_their_places(heard, missed):
    assert wrong("queue_update", {"position": 1203, "minutes": 7}, heard) == missed


def test_words_and_figures_are_the_same_digits():
    assert digits("number four, 1-7, oh 2") == "41702"
