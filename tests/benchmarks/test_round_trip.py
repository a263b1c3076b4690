"""How lines are drawn, and which of them were lost."""

from __future__ import annotations

import random

from benchmarks.round_trip import PROMPTS, STITCHED, WHOLE, Heard, lost, variable_sets
from tiers.prompts.catalogue import Catalogue

CATALOGUE = Catalogue.load()


def test_the_same_seed_draws_the_same_lines_and_every_prompt_takes_its_turn():
    one, again = (list(variable_sets(random.Random(6), CATALOGUE, 40)) for _ in range(2))
    assert one == again
    assert [name for name, _ in one] == list(PROMPTS) * 10
    for name, variables in one:
        assert CATALOGUE.fill(name, variables).spots


def test_only_what_the_recogniser_hears_of_a_whole_line_is_lost():
    def heard(rendering: str, said: str, *missed: str) -> Heard:
        return Heard("order_status", rendering, said, 1.0, -21.0, wrong=list(missed))

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
