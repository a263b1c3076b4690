"""Where streamed text is cut."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiers.pipeline.clauses import FIRST_MIN, LIMITS, Clauses, speakable, split


def streamed(text: str, size: int) -> list[str]:
    clauses = Clauses()
    parts = [clauses.feed(text[start : start + size]) for start in range(0, len(text), size)]
    return [*(clause for part in parts for clause in part), *clauses.close()]


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        (
            "Sure, I can help you with that, of course. Your order is out for delivery, and it comes today. "
            "Anything else?",
            [
                "Sure, I can help you with that,",
                "of course.",
                "Your order is out for delivery, and it comes today.",
                "Anything else?",
            ],
        ),
        ("Yes.", ["Yes."]),
        ("Wait... what? No!", ["Wait...", "what?", "No!"]),
        ('He said "stop." Then he left.', ['He said "stop."', "Then he left."]),
        ("First line\nsecond line", ["First line", "second line"]),
        ("", []),
        ("... --- !!!", []),
    ],
)
def test_clauses_end_where_a_speaker_breathes(text: str, clauses: list[str]) -> None:
    for size in (1, 3, 7, 1000):
        assert streamed(text, size) == clauses


@pytest.mark.parametrize(
    "text",
    [
        "It costs 3.50 or 1,250.75 in all.",
        "Dr. Smith and Mrs. Jones agree.",
        "Come at 10:30 a.m. or 5 p.m. today.",
        "Take No. 5, e.g. the red one.",
        "J. R. Smith lives here.",
    ],
)
def test_a_full_stop_or_comma_inside_a_word_or_number_ends_nothing(text: str) -> None:
    later = Clauses()
    later.count = 2
    assert [*later.feed(text), *later.close()] == [text]


def test_a_no_is_a_sentence_and_no_5_is_not() -> None:
    assert split("No. I can't. Take No. 5.") == ["No.", "I can't.", "Take No. 5."]


def test_a_clause_is_given_back_as_soon_as_it_is_certain() -> None:
    clauses = Clauses()
    assert clauses.feed("Your order is on its way.") == []
    assert clauses.feed(" I") == ["Your order is on its way."]
    assert clauses.close() == ["I"]


def test_the_first_clause_may_end_at_a_comma_and_is_no_mere_word() -> None:
    assert (
        split("Well, I would say that this is fine, more or less.")[0]
        == "Well, I would say that this is fine,"
    )
    assert len("Well,") < FIRST_MIN


def test_text_without_marks_is_cut_before_a_joining_word() -> None:
    text = (
        "this goes on and on without any mark at all because the model does not know when to stop and nobody "
        "told it that a caller is waiting for something to be heard before the day is over"
    )
    clauses = split(text)
    assert " ".join(clauses) == text
    assert all(len(clause) <= limit for clause, limit in zip(clauses, (*LIMITS, LIMITS[-1]), strict=False))
    assert clauses[1].startswith(("and", "without", "because", "on", "at"))


def test_a_spelled_number_is_never_torn_apart() -> None:
    number = "4, 1, 7, 2, 9, 9, 3, 1, 5, 5, 0, 2"
    clauses = split(f"The number that you gave me some minutes ago was {number} and that is right")
    assert any(number in clause for clause in clauses)


@given(
    st.lists(
        st.sampled_from(["yes", "order", "so", "and", "4172", "fine.", "well,", "why?", "a", "x" * 60]),
        max_size=60,
    ),
    st.integers(1, 40),
)
def test_no_word_is_lost_or_doubled_however_the_text_arrives(words: list[str], size: int) -> None:
    text = " ".join(words)
    assert " ".join(streamed(text, size)) == text


@given(st.text(alphabet="ab 1.,!?\n*[]()<>#-_`", max_size=200), st.integers(1, 20))
def test_any_text_comes_to_an_end_and_every_clause_can_be_said(text: str, size: int) -> None:
    clauses = streamed(text, size)
    assert all(speakable(clause) for clause in clauses)
    letters = iter(re.findall("[ab]", text))
    assert all(
        letter in letters for letter in re.findall("[ab]", "".join(clauses))
    )  # in the text's own order


def test_markup_that_spans_a_cut_leaves_no_trace() -> None:
    assert streamed("**Hello to you, dear caller** and welcome.", 4) == [
        "Hello to you,",
        "dear caller and welcome.",
    ]
    assert split("Look [at this, please](https://example.com/a, b) now.") == ["Look at this, please now."]


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_nothing_of_a_block_of_code_is_said(size: int) -> None:
    text = "Here is how it goes.\n```python\nprint('hello. there')\n```\nThat is all. Use ```ls``` then."
    assert streamed(text, size) == ["Here is how it goes.", "That is all.", "Use", "then."]
    assert streamed("It goes like this.\n```\nnever closed.\nno", size) == ["It goes like this."]


def test_words_before_a_block_of_code_do_not_wait_for_its_end() -> None:
    assert Clauses().feed("It goes like this ```") == ["It goes like this"]


@pytest.mark.parametrize(
    "whole",
    [
        "$1,250.50",
        "10:30 a.m.",
        "jane.doe@example.com",
        "No. 4172",
        "Dr. Smith",
        "order 4172",
        "May 3, 2026",
        "approx. 5 km",
        "https://www.example.com/a,b?c=d.e",
        "+1 (555) 123-4567",
        "Apt. 12",
        "e.g. tea",
    ],
)
@pytest.mark.parametrize("before", range(8, 48, 3))
def test_what_is_one_thing_is_never_torn_apart(whole: str, before: int) -> None:
    """Wherever in a clause it comes to stand."""
    filling = ("so it goes on like that and so on for a while " * 2)[:before].strip()
    text = f"{filling} {whole} which is what I have here for you today I believe, more or less."
    for size in (1, 5, 1000):
        clauses = streamed(text, size)
        assert " ".join(clauses) == text
        assert any(whole in clause for clause in clauses), clauses
