"""Names of people in a caller's words: said, spelled, or both; what is spelled counts."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from orchestrator.core.spoken_words import Unit, UnitKind, fold, sign_of, units

_SPELLED = re.compile(
    r"[\s,.]*\b(?:and\s+)?(?:that's\s+|that is\s+|it's\s+)?(?:spell(?:ed|t|ing)?)(?:\s+(?:it|as|is))?\b", re.I
)
_INTRODUCED = re.compile(
    r"\b(?:(?:sur|first |last |full |family )?name(?:'s|\s+is|\s+was)?|call me|ich heiße|name ist|me llamo|"
    r"nombre es|je m'appelle|nom est)[\s:,]+",
    re.IGNORECASE,
)
_CAPITALISED = re.compile(r"\b(?:[Tt]his is|I'm|I am|[Ii]t's|[Hh]ier ist|[Ss]oy|[Jj]e suis)\s+(?=[A-Z])")
_NAME_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_NO_NAME_WORDS = (
    "is its it thats that this my your his her the a an and or but so to of for from with in on at i you me we they "
    "he she yes yeah no not um uh okay ok please sure thanks thank hello hi was would like want need can could order "
    "number email address phone name what where when how who why calling here speaking spelled as cancel under first "
    "last"
)
_NOT_NAMES = frozenset(_NO_NAME_WORDS.split())
MAX_WORDS = 4
SIMILAR = 0.5
"""A word that is spelled thereafter shares at least so much with the letters (a ratio of 0 to 1)."""


def normal_name(name: str) -> str:
    """A name for comparing: words with one capital each, without accents and signs."""
    return " ".join(word.capitalize() for word in re.findall(r"[^\W_]+", fold(name)))


def spelled_runs(said: Sequence[Unit]) -> list[str]:
    """Two letters or more that were spelled one after the other, joined; none that belong to a code with digits."""
    runs: list[list[Unit]] = [[]]
    for unit in said:
        if unit.fresh:
            runs.append([])
        if unit.counts:
            runs[-1].append(unit)
        elif sign_of(unit) != "-":
            runs.append([])
    return [
        "".join(unit.form for unit in run)
        for run in runs
        if len(run) >= 2 and all(unit.kind is UnitKind.LETTER for unit in run)
    ]


def name_in(text: str) -> tuple[str, bool] | None:
    """The name in a text, and whether it was spelled; None without one."""
    marker = _SPELLED.search(text)
    behind = text[marker.end() :] if marker else text
    if marker:  # recognisers write spelled letters as one word of capitals
        behind = re.sub(r"\b[A-Z]{2,}\b", lambda match: " ".join(match[0]), behind)
    letters = list(dict.fromkeys(spelled_runs(units(behind))))
    before = text[: marker.start()] if marker else _without_spelling(text)
    words = _introduced(before)
    if words is None and marker and letters:
        words = _NAME_WORD.findall(before)[-MAX_WORDS:]
    if not letters:
        whole = _NAME_WORD.findall(text) if words is None else words
        plain = all(fold(word) not in _NOT_NAMES for word in whole) and not any(c.isdigit() for c in text)
        return (" ".join(whole), False) if whole and len(whole) <= MAX_WORDS and plain else None
    return _with_letters(words or [], letters), True


def _introduced(text: str) -> list[str] | None:
    """The words of a name that is announced as one: "my name is", or "this is" with a capital behind it."""
    lead = None
    for match in (*_INTRODUCED.finditer(text), *_CAPITALISED.finditer(text)):
        lead = match if lead is None or match.end() > lead.end() else lead
    if lead is None:
        return None
    words: list[str] = []
    place = lead.end()
    for match in _NAME_WORD.finditer(text, place):
        if text[place : match.start()].strip() or fold(match[0]) in _NOT_NAMES or len(words) == MAX_WORDS:
            break
        words.append(match[0])
        place = match.end()
    return words or None


def _without_spelling(text: str) -> str:
    """Text up to the first run of letters that are spelled: "Smith, S M I T H" is Smith."""
    run = re.search(r"(?:\b[^\W\d_]\b[\s,.-]*){2,}", text)
    before = text[: run.start()] if run else text
    words = _NAME_WORD.findall(before)
    named = run and 0 < len(words) <= MAX_WORDS and all(fold(word) not in _NOT_NAMES for word in words)
    return f"name is {before}" if named else before


def _with_letters(words: list[str], letters: list[str]) -> str:
    """The words as the letters correct them."""
    spelled = "".join(letters)
    if not words:
        return " ".join(letters)
    if fold("".join(re.findall(r"\w+", "".join(words)))) == spelled:
        return " ".join(words)
    fixed = list(words)
    for run in letters:
        close = [
            (difflib.SequenceMatcher(None, fold(word), run).ratio(), at) for at, word in enumerate(words)
        ]
        ratio, at = max(close)
        if ratio < SIMILAR:
            return " ".join(letters)
        fixed[at] = run
    return " ".join(fixed)
