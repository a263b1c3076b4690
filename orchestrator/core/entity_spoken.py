"""How a value is said so that a listener can check it: digit by digit, letter by letter, money in words."""

from __future__ import annotations

import re

from orchestrator.core.amounts import parse, spoken_amount
from orchestrator.core.entity_finding import Entity
from orchestrator.core.spoken_words import NATO_OF, fold
from orchestrator.protocol.number_words import digit_groups

GROUP = 4
PHONE_GROUP = 3
"""Digits that are said without a pause, at most."""

_SIGNS = {
    "en": {"-": "dash", "/": "slash", ".": "dot", "_": "underscore", "+": "plus", "@": "at"},
    "de": {"-": "Bindestrich", "/": "Slash", ".": "Punkt", "_": "Unterstrich", "+": "plus", "@": "at"},
    "es": {"-": "guion", "/": "slash", ".": "punto", "_": "underscore", "+": "plus", "@": "arroba"},
    "fr": {"-": "tiret", "/": "slash", ".": "point", "_": "underscore", "+": "plus", "@": "arobase"},
}
_LABELS = "gmail yahoo outlook hotmail icloud example proton fastmail aol com org net edu gov info"
_WORD_LABELS = frozenset(_LABELS.split())
"""Parts of a domain that are said as words; others are spelled."""
_EMAIL = re.compile(r"[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}")


def spoken(kind: str, value: object, language: str = "en") -> str:
    """A value in words. What has not the shape of its kind is given back as text.

    Raises ValueError for a kind that is no `Entity`.
    """
    entity, text = Entity(kind), str(value).strip()
    signs = _SIGNS.get(language.split("-")[0], _SIGNS["en"])
    if entity is Entity.ORDER_NUMBER and any(char.isalnum() for char in text):
        return _code(text, signs)
    if entity is Entity.PHONE and re.fullmatch(r"\+?[\d\s().\-/]+", text) and re.search(r"\d", text):
        return _phone(text, signs)
    if entity is Entity.EMAIL and _EMAIL.fullmatch(text):
        local, _, domain = text.partition("@")
        labels = [_spelled_out(label, signs) for label in domain.split(".")]
        return f"{_spelled_out(local, signs)}, {signs['@']} " + f" {signs['.']} ".join(labels)
    if entity is Entity.AMOUNT and (amount := parse(value)) is not None:
        return spoken_amount(amount, language)
    return _name(text) if entity is Entity.NAME else text


def _code(text: str, signs: dict[str, str]) -> str:
    """Digits in groups, letters with words of the radio alphabet: a B and a D sound the same on the telephone."""
    parts = []
    for run in re.findall(r"\d+|[^\d\s]", text):
        if run.isdigit():
            parts += [" ".join(group) for group in digit_groups(run, GROUP)]
        elif run.isalpha():
            parts.append(_letter(run))
        elif run in signs:
            parts.append(signs[run])
    return ", ".join(parts)


def _letter(char: str) -> str:
    word = NATO_OF.get(fold(char))
    return f"{char.upper()} as in {word}" if word else char.upper()


def _phone(text: str, signs: dict[str, str]) -> str:
    groups = re.findall(r"\d+", text)
    if len(groups) == 1:
        groups = digit_groups(groups[0], PHONE_GROUP)
    return (f"{signs['+']} " if text.startswith("+") else "") + ", ".join(" ".join(group) for group in groups)


def _spelled_out(text: str, signs: dict[str, str]) -> str:
    """A part of an address. A letter that stands alone, or an O beside a digit, is named with a word.

    A pause stands between letters: without it an engine swallows the A of "J A N E".
    """
    if text.lower() in _WORD_LABELS:
        return text.lower()
    parts = []
    for at, char in enumerate(text):
        before, after = text[at - 1 : at] if at else "", text[at + 1 : at + 2]
        lone = not before.isalpha() and not after.isalpha()
        zero_like = char in "oO" and (before.isdigit() or after.isdigit())
        if char.isalpha():
            parts.append(_letter(char) if lone or zero_like else char.upper())
        else:
            parts.append(signs.get(char, char))
    return ", ".join(parts)


def _name(text: str) -> str:
    """A name and the letters of its words; only said where it has others than Latin ones."""
    words = [_letters(word) for word in re.findall(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*", text)]
    longer = [word for word in words if len(word) > 1]
    if not longer or re.search(r"\d", text) or not "".join(words).isascii():
        return text
    return f"{text}, spelled " + ". ".join(", ".join(word) for word in longer)


def _letters(word: str) -> str:
    return re.sub(r"\W", "", fold(word)).upper()
