from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest

from tiers.prompts.speakable import English, clean

SAY = English()


@pytest.mark.parametrize(
    ("value", "text", "words"),
    [
        (0, "0", "zero"),
        (13, "13", "thirteen"),
        (21, "21", "twenty-one"),
        (100, "100", "one hundred"),
        (-5, "-5", "minus five"),
        (1_000_010, "1,000,010", "one million ten"),
        (
            1_234_567,
            "1,234,567",
            "one million two hundred thirty-four thousand five hundred sixty-seven",
        ),
    ],
)
def test_integers(value, text, words):
    assert SAY.integer(value) == (text, words)


@pytest.mark.parametrize(
    ("amount", "currency", "text", "words"),
    [
        ("12.50", "USD", "$12.50", "twelve dollars and fifty cents"),
        ("1", "EUR", "€1.00", "one euro"),
        ("0.01", "GBP", "£0.01", "one penny"),
        ("0", "USD", "$0.00", "zero dollars"),
        ("-3.99", "USD", "-$3.99", "minus three dollars and ninety-nine cents"),
        ("1200", "JPY", "¥1,200", "one thousand two hundred yen"),
    ],
)
def test_money(amount, currency, text, words):
    assert SAY.money(Decimal(amount), currency) == (text, words)


@pytest.mark.parametrize(
    ("iso", "text", "words"),
    [
        ("2026-11-23", "November 23, 2026", "November twenty-third, two thousand twenty-six"),
        ("1999-03-01", "March 1, 1999", "March first, nineteen ninety-nine"),
        ("1905-02-12", "February 12, 1905", "February twelfth, nineteen oh five"),
        ("1900-05-20", "May 20, 1900", "May twentieth, nineteen hundred"),
        ("2005-08-31", "August 31, 2005", "August thirty-first, two thousand five"),
    ],
)
def test_dates(iso, text, words):
    assert SAY.date(dt.date.fromisoformat(iso)) == (text, words)


@pytest.mark.parametrize(
    ("iso", "text", "words"),
    [
        ("00:00", "12:00 AM", "midnight"),
        ("00:05", "12:05 AM", "twelve oh five AM"),
        ("09:15", "9:15 AM", "nine fifteen AM"),
        ("12:00", "12:00 PM", "noon"),
        ("14:00", "2:00 PM", "two PM"),
        ("23:59", "11:59 PM", "eleven fifty-nine PM"),
    ],
)
def test_times(iso, text, words):
    assert SAY.time(dt.time.fromisoformat(iso)) == (text, words)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("4172", "four one seven two"),
        ("0007", "zero zero zero seven"),
        ("41728", "four one seven, two eight"),
        ("4172830", "four one seven two, eight three zero"),
        ("AB-17", "A, B, dash, one seven"),
        ("x9/2.b_c", "X, nine, slash, two, dot, B, underscore, C"),
        ("41 72", "four one, seven two"),
    ],
)
def test_ids_are_spelled_and_written_as_they_came(value, words):
    assert SAY.spelled(value) == (value, words)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("+1 415 555 0132", "plus one, four one five, five five five, zero one three two"),
        ("(415) 555-0132", "four one five, five five five, zero one three two"),
        ("415555", "four one five, five five five"),
        ("911", "nine one one"),
    ],
)
def test_phone_numbers_keep_their_groups(value, words):
    assert SAY.phone(value) == (value, words)


@pytest.mark.parametrize(
    ("came", "said"),
    [
        ("held **at** _customs_", "held at customs"),
        ("<b>late</b><br/>sorry", "late sorry"),
        ("[our page](https://example.com/a?b=c) tells", "our page tells"),
        ("see https://www.example.com/track/1?x=2 for it", "see example.com for it"),
        ("# Order\n- one book\n- two pens.\nThanks", "Order. one book. two pens. Thanks"),
        ("```code```", "code"),
        ("[[f@neImz]] {x}", "f@neImz x"),
        ("tab\tand\x00null\u200b", "tab andnull"),
        ("well-known - yes, 3 + 4", "well-known - yes, 3 + 4"),
        ("in_transit", "in transit"),
        ("***", ""),
    ],
)
def test_markup_is_never_read_aloud(came, said):
    assert clean(came) == said
