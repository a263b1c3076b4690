"""Whether what a caller has said so far sounds finished."""

from __future__ import annotations

import pytest

from orchestrator.core.endings import Ending, ending, is_backchannel

FINISHED = (
    "Where is my order 4172?",
    "I would like to cancel my order.",
    "Yes.",
    "yes",
    "No, thanks",
    "okay sure",
    "What are you looking for?",
    "I have been waiting for it.",
    "That is the one I was looking for.",
    "Come in.",
    "I cannot log in.",
    "What is it about?",
    "My order number is 4172.",
    "My name is Anna Smith.",
    "My phone number is 555 012 3456.",
    "It's double five one two.",
    "I don't know where it is.",
    "That's all I want to know.",
    "He was not an ill disposed young man.",
    "Ten of clubs.",
    "Where is my order? The blue one.",
)
UNFINISHED = (
    "I would like to",
    "I would like to.",
    "My order number is",
    "My order number is.",
    "My order number is 41",
    "My order number is four one.",
    "My phone number is 555, 012",
    "The zip code is nine oh two.",
    "My card number is 4111 1111",
    "It arrived yesterday and",
    "It arrived yesterday, but.",
    "I wanted to ask about the",
    "Um,",
    "Well, um.",
    "Because.",
    "Can you",
    "I'd like a table for",
    "We drove from Berlin to.",
    "So,",
    "I mean...",
    "Hold on.",
    "And then I -",
    "I\N{RIGHT SINGLE QUOTATION MARK}m",
)
UNKNOWN = ("", "   ", "...?"[:0], "my order is late", "the blue one", "I think it was on Tuesday")


@pytest.mark.parametrize("text", FINISHED)
def test_a_whole_sentence_is_finished(text: str) -> None:
    assert ending(text) is Ending.FINISHED


@pytest.mark.parametrize("text", UNFINISHED)
def test_what_must_go_on_is_unfinished_whatever_sign_stands_behind(text: str) -> None:
    assert ending(text) is Ending.UNFINISHED


@pytest.mark.parametrize("text", UNKNOWN)
def test_what_cannot_be_told_is_unknown(text: str) -> None:
    assert ending(text) is Ending.UNKNOWN


@pytest.mark.parametrize(
    ("asked", "text", "expected"),
    [
        ("What is your phone number?", "555 012.", Ending.UNFINISHED),
        ("What is your phone number?", "five five five, oh one two", Ending.UNFINISHED),
        ("What is your phone number?", "555 012 3456.", Ending.FINISHED),
        ("What is your order number?", "Four one.", Ending.UNFINISHED),
        ("What is your order number?", "Four one seven two.", Ending.FINISHED),
        ("What is your order number?", "It's double four, double one.", Ending.FINISHED),
        ("What is your order number?", "I don't have one here.", Ending.FINISHED),
        ("How many would you like?", "Two.", Ending.FINISHED),
    ],
)
def test_a_number_that_was_asked_for_has_its_digits(asked: str, text: str, expected: Ending) -> None:
    assert ending(text, asked=asked) is expected


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("de", "Meine Nummer ist", Ending.UNFINISHED),
        ("de-at", "Ich komme morgen und.", Ending.UNFINISHED),
        ("es", "Quiero un café.", Ending.FINISHED),
        ("es", "Mi nombre es", Ending.UNFINISHED),
        ("fr", "Je voudrais", Ending.UNFINISHED),
        ("ja", "and", Ending.UNKNOWN),
        ("ja", "はい。", Ending.FINISHED),
        ("it", "Vorrei,", Ending.UNFINISHED),
    ],
)
def test_other_languages_have_their_own_words(language: str, text: str, expected: Ending) -> None:
    assert ending(text, language) is expected


@pytest.mark.parametrize(
    "text",
    [
        "Mm-hm.",
        "Mm-hmm",
        "mhm",
        "Mmm.",
        "Uh-huh.",
        "Okay.",
        "Yeah, yeah.",
        "Right.",
        "I see.",
        "Oh, okay.",
        "Got it",
    ],
)
def test_backchannels_are_known(text: str) -> None:
    assert is_backchannel(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No.",
        "Stop.",
        "Yes.",
        "Wait.",
        "Okay, but I want the blue one.",
        "Yeah, no.",
        "I see a problem.",
        "him",
    ],
)
def test_what_says_more_is_no_backchannel(text: str) -> None:
    assert not is_backchannel(text)
