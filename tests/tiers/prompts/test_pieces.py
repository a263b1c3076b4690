"""Prompts as pieces: every value's pieces are in the inventory, and say what the whole line says."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiers.prompts.catalogue import Catalogue, Prompt
from tiers.prompts.pieces import YEARS, Join, Piece, Spot, inventory
from tiers.prompts.variables import Date, Enum, Integer, Money, Phone, SpelledId, Time

TEXT = "Well then, it is {x}, as {y} knows. It stays {x}. {x} it was, and {x}"
KINDS: dict[str, Any] = {
    "integer": Integer(type="integer"),
    "bounded": Integer(type="integer", minimum=-3, maximum=1440),
    "money": Money(type="money", currencies=("USD", "EUR", "JPY")),
    "date": Date(type="date"),
    "time": Time(type="time"),
    "phone": Phone(type="phone"),
    "spelled_id": SpelledId(type="spelled_id"),
    "enum": Enum(type="enum", wording={"en": {"yes": "agreed, by all", "no": "refused"}}),
}


def catalogue(kind: str) -> Catalogue:
    yes = Enum(type="enum", wording={"en": {"who": "everybody"}})
    prompt = Prompt(text={"en": TEXT}, variables={"x": KINDS[kind], "y": yes}, render="stitched")
    return Catalogue({"p": prompt})


CATALOGUES = {kind: catalogue(kind) for kind in KINDS}
INVENTORIES = {kind: CATALOGUES[kind].pieces("p", "en") for kind in KINDS}
AMOUNTS = st.tuples(
    st.sampled_from(["", "-"]),
    st.integers(0, 10**12 - 1),
    st.integers(0, 99),
    st.sampled_from(["USD", "EUR"]),
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "integer": st.integers(-(10**12) + 1, 10**12 - 1),
    "bounded": st.integers(-3, 1440),
    "money": AMOUNTS.map(lambda parts: "{}{}.{:02d} {}".format(*parts)) | st.just("1200 JPY"),
    "date": st.dates(dt.date(YEARS[0], 1, 1), dt.date(YEARS[-1], 12, 31)),
    "time": st.times().map(lambda time: time.replace(second=0, microsecond=0)),
    "phone": st.from_regex(r"\+?\d{3,15}", fullmatch=True).filter(str.isascii)
    | st.from_regex(r"\+[0-9]{1,3} [0-9]{2,3} [0-9]{3,4}-[0-9]{1,4}", fullmatch=True),
    "spelled_id": st.from_regex(r"[A-Za-z0-9]{1,9}([-/._ ][A-Za-z0-9]{1,9}){0,2}", fullmatch=True),
    "enum": st.sampled_from(["yes", "no"]),
}


def words(text: str) -> str:
    return re.sub(r"[^\w]+", " ", text).strip()


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_whatever_the_value_its_pieces_are_there_and_say_the_line(kind, data):
    value = data.draw(VALUES[kind])
    line = CATALOGUES[kind].fill("p", {"x": value, "y": "who"})
    assert words(" ".join(spot.piece.words for spot in line.spots)) == words(line.spoken)
    missing = {spot.piece for spot in line.spots} - INVENTORIES[kind]
    assert not missing


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_whatever_the_range_its_numbers_pieces_are_there(data):
    minimum = data.draw(st.integers(0, 9) | st.integers(-(10**4), 10**12 - 1))
    maximum = data.draw(st.integers(minimum, 10**12 - 1) | st.integers(minimum, minimum + 10**4)) % 10**12
    kind = Integer(type="integer", minimum=min(minimum, maximum), maximum=maximum)
    prompt = Prompt(text={"en": "It is {n}, then."}, variables={"n": kind}, render="stitched")
    catalogue = Catalogue({"p": prompt})
    pieces = catalogue.pieces("p", "en")
    for value in data.draw(st.lists(st.integers(kind.minimum, kind.maximum), min_size=30, max_size=30)):
        assert {spot.piece for spot in catalogue.fill("p", {"n": value}).spots} <= pieces


def test_a_line_is_cut_at_its_slots_and_its_marks_are_pauses():
    line = Catalogue.load().fill("order_status", {"order_id": "41728", "status": "shipped"})
    assert line.spots == (
        Spot(Piece("Your order number", Join.END, Join.ON), Join.ON),
        Spot(Piece("four", Join.ON, Join.ON), Join.ON),
        Spot(Piece("one", Join.ON, Join.ON), Join.ON),
        Spot(Piece("seven", Join.ON, Join.PAUSE), Join.PAUSE),
        Spot(Piece("two", Join.PAUSE, Join.ON), Join.ON),
        Spot(Piece("eight", Join.ON, Join.PAUSE), Join.BREATH),
        Spot(Piece("has been shipped", Join.PAUSE, Join.END), Join.END),
    )


def test_a_mark_of_the_template_ends_the_value_before_it_and_sentences_stay_together():
    line = Catalogue.load().fill("queue_update", {"position": 423, "minutes": 1})
    assert [(spot.piece.words, spot.join) for spot in line.spots] == [
        ("Thank you for waiting. Your position in the queue is", Join.ON),
        ("four hundred", Join.ON),
        ("twenty-three", Join.END),
        ("Estimated waiting time in minutes", Join.PAUSE),
        ("one", Join.END),
    ]


def test_any_order_number_of_any_digits_is_said_from_a_hundred_clips():
    pieces = Catalogue.load().pieces("order_status", "en")
    assert len(pieces) < 120
    assert {piece.words for piece in pieces} >= {"zero", "nine", "A", "dash", "has been delivered"}


def test_a_range_has_only_the_words_that_it_needs():
    small = Integer(type="integer", minimum=1, maximum=3)
    pieces = inventory("{n} left.", {"n": small}, "en")
    assert {piece.words for piece in pieces} == {"one", "two", "three", "left"}


def test_a_value_that_is_said_as_it_comes_is_not_in_the_inventory():
    catalogue = Catalogue.load()
    line = catalogue.fill("order_status", {"order_id": "1", "status": "held at customs"})
    assert line.spots[-1].piece not in catalogue.pieces("order_status", "en")


def test_a_prompt_that_is_said_whole_has_no_pieces():
    assert Catalogue.load().fill("goodbye").spots == ()
