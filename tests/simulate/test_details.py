"""What a simulated model makes of spoken numbers, sums, days, times, names and addresses."""

from __future__ import annotations

from datetime import date

import pytest

from orchestrator.simulate import details

THURSDAY = date(2026, 11, 26)


@pytest.mark.parametrize(
    ("words", "number"),
    [
        ("Cancel order 4172, please.", "4172"),
        ("order four one seven two", "4172"),
        ("I meant 4 1 7 3", "4173"),
        ("order 6,310", "6310"),
        ("A refund of 25 euros for order 6310", "6310"),
        ("on 2026-12-04", None),
        ("€4000.50 back", None),
        ("my order", None),
    ],
)
def test_order_numbers(words: str, number: str | None) -> None:
    assert details.order_number(words) == number


@pytest.mark.parametrize(
    ("words", "amount"),
    [
        ("25 euros", 25),
        ("€20.50", 20.5),
        ("3,50 dollars", 3.5),
        ("twenty five euros", 25),
        ("forty-two pounds", 42),
        ("No wait, make it 20.", 20),
        ("make it 10:30", None),
        ("refund order 6310", None),
    ],
)
def test_amounts(words: str, amount: float | None) -> None:
    assert details.amount(words) == amount


@pytest.mark.parametrize(
    ("words", "day"),
    [
        ("on 3 December at 10:30", "2026-12-03"),
        ("December the 3rd", "2026-12-03"),
        ("the third of December 2027", "2027-12-03"),
        ("2 January", "2027-01-02"),
        ("tomorrow", "2026-11-27"),
        ("on Thursday", "2026-12-03"),
        ("on Friday", "2026-11-27"),
        ("2026-12-04", "2026-12-04"),
        ("30 February", None),
        ("some day", None),
    ],
)
def test_days(words: str, day: str | None) -> None:
    assert details.day(words, THURSDAY) == day


@pytest.mark.parametrize(
    ("words", "time"),
    [
        ("at 10:30", "10:30"),
        ("at 3 pm", "15:00"),
        ("10.30 p.m.", "22:30"),
        ("12 am", "00:00"),
        ("half past ten", "10:30"),
        ("ten o'clock", "10:00"),
        ("at two pm", "14:00"),
        ("later", None),
    ],
)
def test_times(words: str, time: str | None) -> None:
    assert details.clock(words) == time


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("Book it for Maria Jensen at ten", "Maria Jensen"),
        ("for December, under Tom O'Hara", "Tom O'Hara"),
        ("My name is Aiko Mori.", "Aiko Mori"),
        ("for me", None),
    ],
)
def test_names(words: str, name: str | None) -> None:
    assert details.person(words) == name


@pytest.mark.parametrize(
    ("words", "address"),
    [
        (
            "Change the e-mail of order 6310 to m a r i a dot jensen at example dot org.",
            "maria.jensen@example.org",
        ),
        ("It is M-A-R-I-A at example.com.", "maria@example.com"),
        ("to tom_99@example.co.uk", "tom_99@example.co.uk"),
        ("ann dash marie underscore b at shop dot example", "ann-marie_b@shop.example"),
        ("to my new one", None),
    ],
)
def test_addresses(words: str, address: str | None) -> None:
    assert details.email(words) == address


def test_digits_in_words() -> None:
    assert details.in_words("cancel order 41") == "cancel order four one"
