"""What counts as a yes, and above all what does not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.consent import Consent, judge
from orchestrator.core.consent_words import VOCABULARIES, Sense

ORDER = {"order_id": "4172"}
ASKED = "I am about to cancel order 4 1 7 2. Is that right?"

YES = (
    "yes",
    "Yes.",
    "YES!",
    "yeah please",
    "yes, go ahead",
    "that's right",
    "That\N{RIGHT SINGLE QUOTATION MARK}s right, yeah.",
    "correct",
    "do it",
    "sure, thank you",
    "yep that's fine",
    "Yeah, that's correct.",
    "Um, yes.",
    "Yes, yes.",
    "okay, go ahead",
    "Yes, that's the one.",
    "yes please do that",
    "Of course.",
    "yes, a hundred percent",
    "Absolutely, thank you very much.",
    "Yes, I do.",
    "yes cancel order 4172",
    "yes, four one seven two",
    "Yes, order forty-one seventy-two, please.",
)
NO = (
    "no",
    "Nope.",
    "don't",
    "stop",
    "leave it",
    "never mind",
    "not yet",
    "wait",
    "hold on",
    "one moment",
    "cancel that",
    "No, don't do it.",
    "No, thank you.",
    "I don't want that",
    "No I don't want to",
    "please don't",
    "Please do not do it.",
    "That's not right.",
    "that is wrong",
    "of course not",
    "no, don't cancel it",
    "no no no",
    "Not correct.",
    "I changed my mind",
    "don't go ahead",
    "no, not 4172",
)
CHANGE = (
    "yes but make it 4173",
    "no, 4173",
    "4173",
    "make it 4173",
    "yes 4173",
    "yes, 41722",
    "Yes, 4 1 7 2 2",
    "yes, 417",
    "four one seven three",
    "yes, cancel order 4173 please",
    "yes cancel order 4172 and 4173",
    "no, not 4172, 4173",
    "actually the other one",
    "the other one",
    "yes, and also send me an email",
    "yes, and refund it",
    "Yes, but don't send an email",
    "yes but",
    "No, I said the blue one",
    "yes, for tomorrow",
    "change it",
    "can you make it 4173",
    "correct the order number",
    "yes, one more thing",
    "Yes, my name is Bob.",
)
UNCLEAR = (
    "",
    "   ",
    "...",
    "\N{EIGHTH NOTE}",
    "[BLANK_AUDIO]",
    "mm",
    "mm-hm",
    "uh",
    "what?",
    "maybe",
    "I think so",
    "yes I think so",
    "yes maybe",
    "I guess",
    "I'm not sure",
    "okay..?",
    "Okay.",
    "ok",
    "fine",
    "right",
    "sounds good",
    "please",
    "Yes?",
    "Is it 4172?",
    "Yes, what does it cost",
    "why not?",
    "sure, why not",
    "yes no",
    "yeah no",
    "no yeah",
    "no, actually yes",
    "actually yes",
    "yes I don't want that",
    "I said no yes",
    "he said yes",
    "well I was talking to my husband and he said yes",
    "yeah, right",
    "yes wait",
    "wait, yes",
    "yes, hold on",
    "sure, no problem",
    "yes if",
    "yes and",
    "yes, um",
    "Yes, so",
    "4172",
    "Thank you.",
    "Thanks for watching!",
    "you",
    "yes yes yes yes yes yes",
    "yes " + "please yes " * 30,
    "Yes, hello.",
    "sorry?",
    "I didn't catch that",
    "I don't know",
    "can you repeat that?",
    "ja",
)


@pytest.mark.parametrize(
    ("text", "consent"),
    [
        (text, consent)
        for consent, texts in zip(Consent, (YES, NO, CHANGE, UNCLEAR), strict=True)
        for text in texts
    ],
)
def test_an_answer_in_english(text: str, consent: Consent) -> None:
    assert judge(text, "en", ORDER) is consent


@pytest.mark.parametrize(
    ("text", "consent"),
    [
        ("yes, cancel it", Consent.YES),
        ("yes, cancel that order", Consent.YES),
        ("Yes, I want to cancel order 4172.", Consent.YES),
        ("cancel it", Consent.UNCLEAR),
        ("is my order correct", Consent.UNCLEAR),
        ("is that order 4172 correct", Consent.UNCLEAR),
        ("my order is correct", Consent.UNCLEAR),
        ("yes, refund it", Consent.CHANGE),
        ("yes, cancel my other order", Consent.CHANGE),
        ("yes, cancel it and refund it", Consent.CHANGE),
        ("yes, don't cancel it", Consent.UNCLEAR),
    ],
)
def test_the_words_of_the_question_may_be_repeated(text: str, consent: Consent) -> None:
    assert judge(text, "en", ORDER, ASKED) is consent


def test_a_repeated_action_is_not_known_without_the_question() -> None:
    assert judge("yes, cancel it", "en", ORDER) is not Consent.YES
    assert judge("yes, change order 4172", "en", ORDER) is not Consent.YES


@pytest.mark.parametrize(
    ("text", "arguments", "consent"),
    [
        ("yes, 25 dollars and 50 cents", {"amount": 25.5}, Consent.YES),
        ("yes, $25.50", {"amount": "25.50 USD"}, Consent.YES),
        ("yes, 25 dollars", {"amount": 25.5}, Consent.CHANGE),
        ("yes, 25 euros", {"amount": "25 USD"}, Consent.CHANGE),
        ("yes, 25 dollars and 4173", {"amount": 25}, Consent.CHANGE),
        ("yes, two tickets", {"tickets": 2}, Consent.YES),
        ("yes, three tickets", {"tickets": 2}, Consent.CHANGE),
        ("yes, Anna Smith", {"name": "Anna Smith"}, Consent.YES),
        ("yes, Anna Schmidt", {"name": "Anna Smith"}, Consent.CHANGE),
        ("yes, jane dot doe at example dot com", {"to": "jane.doe@example.com"}, Consent.YES),
        ("yes, jane dot dole at example dot com", {"to": "jane.doe@example.com"}, Consent.CHANGE),
        ("yes, on November 28th", {"day": "2026-11-28"}, Consent.UNCLEAR),
        ("yes, on November 29th", {"day": "2026-11-28"}, Consent.CHANGE),
        ("yes, next day", {"delivery": "next_day"}, Consent.YES),
        ("yes, from 4172 to 9035", {"from": "4172", "to": "9035"}, Consent.YES),
        ("yes, from 9035 to 4172", {"from": "4172", "to": "9035"}, Consent.UNCLEAR),
        ("yes, to 4172", {"from": "4172", "to": "9035"}, Consent.UNCLEAR),
        ("yes 4172", None, Consent.CHANGE),
    ],
)
def test_values_that_are_repeated_have_to_be_the_same(
    text: str, arguments: dict | None, consent: Consent
) -> None:
    assert judge(text, "en", arguments) is consent


@pytest.mark.parametrize(
    ("language", "text", "consent"),
    [
        ("de", "Ja.", Consent.YES),
        ("de-DE", "Ja, genau!", Consent.YES),
        ("de", "Ja, bitte.", Consent.YES),
        ("de", "ja, das stimmt", Consent.YES),
        ("de", "Nein, danke.", Consent.NO),
        ("de", "Nein, lassen Sie es.", Consent.NO),
        ("de", "Stimmt nicht.", Consent.NO),
        ("de", "ja, aber 4173", Consent.CHANGE),
        ("de", "ja nein", Consent.UNCLEAR),
        ("de", "na ja", Consent.UNCLEAR),
        ("de", "ich weiß nicht", Consent.UNCLEAR),
        ("es", "Sí.", Consent.YES),
        ("es", "sí, por favor", Consent.YES),
        ("es", "no, gracias", Consent.NO),
        ("es", "claro que no", Consent.NO),
        ("es", "sí pero 4173", Consent.CHANGE),
        ("es", "¿Qué?", Consent.UNCLEAR),
        ("fr", "Oui.", Consent.YES),
        ("fr", "oui, s'il vous plaît", Consent.YES),
        ("fr", "c'est ça", Consent.YES),
        ("fr", "non merci", Consent.NO),
        ("fr", "ce n'est pas ça", Consent.NO),
        ("fr", "oui mais demain", Consent.CHANGE),
        ("fr", "d'accord", Consent.UNCLEAR),
        ("it", "Sì.", Consent.YES),
        ("it", "sì certo", Consent.UNCLEAR),
        ("hi", "हाँ।", Consent.YES),
        ("hi", "नहीं", Consent.NO),
        ("ja", "はい。", Consent.YES),
        ("zh", "不", Consent.NO),
        ("tr", "Hay\N{LATIN SMALL LETTER DOTLESS I}r.", Consent.NO),
        ("xx", "yes", Consent.UNCLEAR),
        ("", "yes", Consent.UNCLEAR),
    ],
)
def test_other_languages(language: str, text: str, consent: Consent) -> None:
    assert judge(text, language, ORDER) is consent


def _phrases(language: str, *senses: Sense) -> list[str]:
    return sorted(
        " ".join(words) for words, sense in VOCABULARIES[language].phrases.items() if sense in senses
    )


def _spoken(language: str) -> st.SearchStrategy[str]:
    any_phrase = st.sampled_from([" ".join(words) for words in VOCABULARIES[language].phrases])
    return st.lists(any_phrase, min_size=1, max_size=5).map(" ".join)


NEGATIVE = {
    "en": ["no", "not", "don't", "never", "stop", "wait", "without", "nothing", "won't", "can't", "isn't"],
    "de": ["nein", "nicht", "kein", "nie", "stopp", "ohne"],
    "es": ["no", "nunca", "tampoco", "sin"],
    "fr": ["non", "pas", "jamais", "sans", "rien"],
}


@settings(deadline=None)
@given(st.data())
def test_a_negation_anywhere_is_never_a_yes(data: st.DataObject) -> None:
    language = data.draw(st.sampled_from(sorted(NEGATIVE)))
    words = data.draw(_spoken(language)).split()
    words.insert(data.draw(st.integers(0, len(words))), data.draw(st.sampled_from(NEGATIVE[language])))
    assert judge(" ".join(words), language, ORDER, data.draw(st.sampled_from(["", ASKED]))) is not Consent.YES


@settings(deadline=None)
@given(st.data())
def test_a_question_is_never_a_yes(data: st.DataObject) -> None:
    language = data.draw(st.sampled_from(sorted(VOCABULARIES)))
    assert judge(data.draw(_spoken(language)) + "?", language, ORDER, ASKED) is not Consent.YES


@settings(deadline=None)
@given(st.sampled_from(sorted(VOCABULARIES)), st.data())
def test_nothing_but_agreement_is_a_yes(language: str, data: st.DataObject) -> None:
    """Without a phrase that agrees there is no yes, whatever else is said."""
    others = _phrases(language, *(sense for sense in Sense if sense not in (Sense.YES, Sense.ECHO)))
    said = data.draw(st.lists(st.sampled_from(others), min_size=1, max_size=3))
    words = set(" ".join(said).split())
    agreeing = {word for phrase in _phrases(language, Sense.YES) for word in phrase.split()}
    if not words & agreeing:
        assert judge(" ".join(said), language, ORDER) is not Consent.YES


@settings(deadline=None)
@given(st.sampled_from(("yes", "Yes, please.", "yeah", "go ahead")), st.integers(0, 10**6))
def test_a_yes_with_another_number_is_never_a_yes(yes: str, number: int) -> None:
    consent = judge(f"{yes} {number}", "en", {"order_id": "4172"})
    assert (consent is Consent.YES) == (str(number) == "4172")


@settings(deadline=None)
@given(st.text(max_size=60), st.sampled_from(["en", "de", "es", "fr", "it", "xx"]))
def test_any_text_gets_an_answer(text: str, language: str) -> None:
    assert judge(text, language, ORDER, ASKED) in Consent


@settings(deadline=None)
@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz '", max_size=30))
def test_a_yes_holds_a_word_of_agreement(text: str) -> None:
    if judge(text, "en") is Consent.YES:
        agreeing = {word for phrase in _phrases("en", Sense.YES) for word in phrase.split()}
        assert set(text.replace("'", "").split()) & agreeing


def test_the_documented_examples_hold() -> None:
    page = (Path(__file__).parents[2] / "docs" / "consent.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|(.*)\|$", page, re.MULTILINE)
    examples = [(consent, said) for consent, cell in rows for said in re.findall(r'"([^"]+)"', cell)]
    assert {consent for consent, _ in examples} >= set(Consent)
    judged = [(consent, said) for consent, said in examples if consent in tuple(Consent)]
    assert len(judged) > 20
    assert [(said, judge(said, "en", ORDER)) for _, said in judged] == [
        (said, consent) for consent, said in judged
    ]
