"""A caller's answer to a read-back: agreed, refused, something else wanted, or unclear.

A yes that was none changes something that nobody wanted changed; a yes that is asked for again costs a sentence. So
YES is what consists of agreement and nothing else, and everything that is not understood is not a yes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from orchestrator.core.amounts import Amount, amounts, parse
from orchestrator.core.consent_words import EXACT, VOCABULARIES, Sense, Vocabulary
from orchestrator.core.endings import Ending, ending
from orchestrator.core.entities import flat
from orchestrator.core.read_back import again, readback, was_read_back
from orchestrator.core.said_values import Said, where_said
from orchestrator.core.spoken_dates import moment, moment_said
from orchestrator.core.spoken_words import Unit, UnitKind, fold, units
from orchestrator.core.tools import Tool
from orchestrator.core.value_shapes import shape_of, words_of

__all__ = ["Consent", "again", "judge", "readback", "was_read_back"]


class Consent(StrEnum):
    YES = "yes"
    NO = "no"
    CHANGE = "change"
    """Something else is wanted, or something on top of it; what was read back is not to happen."""
    UNCLEAR = "unclear"


LONGEST = 400
MOST_WORDS = 40
"""Characters and words. A longer answer is no plain yes, whatever it consists of."""
MOST_REPEATS = 4
"""A word that is said more often in a row is a recogniser's stutter."""


def judge(
    text: str, language: str = "en", arguments: Mapping[str, Any] | None = None, asked: str = ""
) -> Consent:
    """What a transcript means as the answer to a read-back.

    `arguments`: the values that were read back; a caller may repeat them. `asked`: the words of the read-back, which a
    caller may repeat too; without them only a few verbs are known ("yes, cancel order 4172").
    """
    code = re.split(r"[-_]", language.lower())[0]
    if len(text) > LONGEST or not _may_be_plain(_words(text)):
        return Consent.UNCLEAR
    if code not in VOCABULARIES:
        return _exact(" ".join(_words(text)), code)
    values = flat(arguments or {})
    rest = _without_values(text, values)
    senses = _senses(_words(rest.text), VOCABULARIES[code], _Echo.of(values, asked, told=rest.told))
    question = "?" in text or "\N{FULLWIDTH QUESTION MARK}" in text
    consent = _decide(senses, other=rest.other, question=question, dated=_says_a_date(text, values))
    doubtful = rest.mixed or ending(text, code) is Ending.UNFINISHED
    return Consent.UNCLEAR if consent is Consent.YES and doubtful else consent


def _words(text: str) -> list[str]:
    """The words of a text, folded; in any script, so by what is no punctuation."""
    plain = fold(text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    return "".join(" " if unicodedata.category(char)[0] in "PSZC" else char for char in plain).split()


def _may_be_plain(words: Sequence[str]) -> bool:
    """Not nothing, not a speech, and no stutter."""
    runs = range(len(words) - MOST_REPEATS)
    return 0 < len(words) <= MOST_WORDS and not any(
        len(set(words[at : at + MOST_REPEATS + 1])) == 1 for at in runs
    )


def _exact(said: str, code: str) -> Consent:
    for consent, known in zip((Consent.YES, Consent.NO), EXACT.get(code, ("", "")), strict=True):
        if said in [" ".join(_words(phrase)) for phrase in known.split(",") if phrase]:
            return consent
    return Consent.UNCLEAR


# What is repeated of the question


_ANY_TOOL = Tool("")
_MONEY_WORDS = frozenset(
    [
        "dollar",
        "dollars",
        "euro",
        "euros",
        "pound",
        "pounds",
        "cent",
        "cents",
        "pence",
        "yen",
        "francs",
        "rupees",
        "bucks",
    ]
)
_CERTAIN = re.compile(r"\b(?:a|one)?\s*(?:hundred|100)\s?(?:%|percent\b|per cent\b)", re.IGNORECASE)
_LONE_ONE = re.compile(
    r"\b(?:the|that|this|no|other|right|same|first|last|another)\s+one\b|\bone(?=\s+(?:moment|sec|minute))",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Rest:
    """What an answer says besides the values. `told`: it says some of them; `other`: it says other numbers too."""

    text: str
    told: bool
    other: bool
    mixed: bool
    """Of several values of one shape not all are said, in order: which is meant for what cannot be told."""


def _without_values(text: str, values: Sequence[tuple[str, Any]]) -> _Rest:
    rest = _CERTAIN.sub(" ", text)
    shapes = [(path, value, shape_of(_ANY_TOOL, path, value)) for path, value in values]
    spans = where_said(rest, shapes)
    mixed = _is_mixed([at for at, _, _ in spans], shapes)
    rest = _blank(rest, [(start, end) for _, start, end in spans])
    lone = [match.end() for match in _LONE_ONE.finditer(rest)]
    figures = [unit for unit in units(rest) if unit.kind is UnitKind.DIGITS and unit.end not in lone]
    said = amounts(rest)
    wanted = [amount for _, value in values if (amount := parse(value)) is not None]
    if len(said) == 1 and any(amount.fits(said[0]) for amount in wanted) and _spells(said[0], figures):
        words = (*_MONEY_WORDS, "and", "point")
        money = [unit for unit in units(rest) if unit in figures or unit.form in words]
        rest = _blank(rest, [(unit.start, unit.end) for unit in money])
        return _Rest(rest, told=True, other=False, mixed=mixed or len(wanted) > 1)
    return _Rest(rest, bool(spans), bool(figures), mixed)


def _is_mixed(said: Sequence[int], values: Sequence[Said]) -> bool:
    """`said`: positions of the values that are said, in the order in which they are."""
    for shape in {values[at][2] for at in said}:
        alike = [at for at, (_, _, other) in enumerate(values) if other is shape]
        if len({str(values[at][1]) for at in alike}) > 1 and [at for at in said if at in alike] != alike:
            return True
    return False


def _blank(text: str, spans: Sequence[tuple[int, int]]) -> str:
    chars = list(text)
    for start, end in spans:
        chars[start:end] = " " * (end - start)
    return "".join(chars)


def _spells(amount: Amount, figures: Sequence[Unit]) -> bool:
    """Whether the figures are those of the amount and no more."""
    whole, _, cents = str(amount).split()[0].lstrip("-").partition(".")
    said = "".join(unit.form for unit in figures)
    return said in (whole + cents, whole + cents.lstrip("0")) or (whole == "0" and said == cents.lstrip("0"))


def _says_a_date(text: str, values: Sequence[tuple[str, Any]]) -> bool:
    moments = [at for _, value in values if isinstance(value, str) and (at := moment(value)) is not None]
    return any(moment_said(at, text) for at in moments)


_VERBS = frozenset(["cancel", "book", "confirm", "order", "refund", "pay", "send"])
_SMALL = frozenset(
    [
        "the",
        "my",
        "this",
        "that",
        "it",
        "order",
        "number",
        "for",
        "to",
        "of",
        "please",
        "a",
        "an",
        "at",
        "on",
        "with",
    ]
)


@dataclass(frozen=True, slots=True)
class _Echo:
    """`words`: what a caller may repeat. `asked`: the words of the question."""

    words: frozenset[str]
    asked: frozenset[str]

    @classmethod
    def of(cls, values: Sequence[tuple[str, Any]], asked: str, *, told: bool) -> _Echo:
        question = frozenset(_words(asked))
        names = {word for path, _ in values for word in _words(words_of(path))}
        money = _MONEY_WORDS if any(parse(value) is not None for _, value in values) else frozenset()
        small = _SMALL | names | money if told or asked else frozenset()
        return cls(small | question | (_VERBS if told and not asked else frozenset()), question)


_OPENING = (
    "is are am was were do does did can could would will should shall may might have has had ist sind war kann konnte "
    "soll sollte wird habe haben hat es son esta puede podria debo tiene est sont peut puis dois avez a"
)
_OPENERS = frozenset(_OPENING.split())
"""An answer that begins with one of these is a question, with or without its sign ("is my order correct")."""
_DENIERS = frozenset(["dont", "not", "never", "isnt", "wasnt", "cant", "cannot", "shouldnt"])
_PLAIN_YES = frozenset(["yes", "yeah", "yep", "yup", "yea", "yess"])
_HARD_CHANGES = frozenset(
    ["but", "also", "instead", "actually", "aber", "auch", "pero", "tambien", "mais", "aussi"]
)


def _senses(words: Sequence[str], known: Vocabulary, echo: _Echo) -> list[Sense]:
    """What the words mean, phrase by phrase, the longest first."""
    senses: list[Sense] = []
    at = 0
    begun = False
    while at < len(words):
        for length in range(min(known.longest, len(words) - at), 0, -1):
            phrase = tuple(words[at : at + length])
            sense = known.phrases.get(phrase)
            if sense is not None:
                break
        else:
            length, phrase, sense = 1, (words[at],), None
        denied = at > 0 and words[at - 1] in _DENIERS and phrase[0] not in _PLAIN_YES
        senses.append(_in_context(phrase, sense, echo, denied=denied))
        if not begun and phrase[0] in _OPENERS and sense is not Sense.YES:
            senses[-1] = Sense.QUESTION
        begun = begun or senses[-1] not in (Sense.POLITE, Sense.WEAK)
        at += length
    return senses


def _in_context(phrase: tuple[str, ...], sense: Sense | None, echo: _Echo, *, denied: bool) -> Sense:
    repeated = echo.asked.issuperset(phrase)
    if sense is Sense.YES and denied:
        return Sense.NEUTRAL
    if sense is Sense.NO and phrase[0] == "cancel" and "cancel" in echo.asked:
        return Sense.ECHO
    if sense in (Sense.CHANGE, Sense.JOINT) and repeated and not _HARD_CHANGES & set(phrase):
        return Sense.DOUBT
    if sense in (None, Sense.NEUTRAL) and echo.words.issuperset(phrase):
        return Sense.ECHO
    return sense or Sense.OTHER


_AGREEING = frozenset((Sense.YES, Sense.WEAK, Sense.AFTER_YES, Sense.POLITE, Sense.ECHO))


def _decide(senses: Sequence[Sense], *, other: bool, question: bool, dated: bool) -> Consent:
    """`other`: a number that is none of the values. `dated`: one of them is a date that is said, with its figures."""
    has = frozenset(senses)
    yes, no = Sense.YES in has, Sense.NO in has
    asks = question or Sense.QUESTION in has
    if Sense.CHANGE in has and not (Sense.DOUBT in has and not yes and not no):
        return Consent.CHANGE
    if dated:
        return Consent.NO if no and not yes and not asks else Consent.UNCLEAR
    if other:
        return Consent.UNCLEAR if Sense.QUESTION in has and not (yes or no) else Consent.CHANGE
    if Sense.DOUBT in has:
        return Consent.UNCLEAR
    if has & {Sense.JOINT, Sense.CORRECTION}:
        if Sense.OTHER in has and not asks:
            return Consent.CHANGE
        return Consent.NO if no and not yes and not asks else Consent.UNCLEAR
    if asks or (yes and no):
        return Consent.UNCLEAR
    if no:
        return Consent.CHANGE if Sense.OTHER in has else Consent.NO
    if yes:
        if has <= _AGREEING and Sense.ECHO not in senses[: senses.index(Sense.YES)]:
            return Consent.YES
        return Consent.CHANGE if Sense.OTHER in has else Consent.UNCLEAR
    return Consent.UNCLEAR
