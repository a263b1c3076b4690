"""How an engine should read a clause: as a person would say it, which engines do not all do by themselves.

What they do well is left to them: whole numbers, ordinals and decimals stay digits. The words are English; of other
languages only order numbers and other long runs of digits are taken apart. Reading what was read changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from orchestrator.protocol.number_words import digit_groups
from tiers.pipeline.reading_values import values

GROUP = 4
"""Runs of more digits than one more are said in groups of at most so many, with a pause between them."""
PHONE_GROUP = 3

_Rule = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]


def spoken(text: str, language: str = "en") -> str:
    """`text`, without markup, as an engine should read it."""
    if not language.lower().startswith("en"):
        return _LONG.sub(_digits, _NAMED_ID.sub(_identifier, text))
    for pattern, words in (*_ADDRESSES, *_NUMBERS):
        text = pattern.sub(words, text)
    text = values(text, day_first=language.lower().replace("_", "-") in ("en-gb", "en-au", "en-nz", "en-ie"))
    for pattern, words in (*_LETTERS, *_SIGNS):
        text = pattern.sub(words, text)
    return _SPACES.sub(" ", text).strip()


_SPACES = re.compile(r"[ \t]{2,}")

# Addresses

_TLD = r"(?:com|org|net|edu|gov|info|biz|io|ai|co|app|dev|shop|store|me|tv|us|uk|ca|au|de|fr|es|it|nl|eu|ch|at|in)"
_EMAIL = re.compile(r"(?<![\w.+-])(?:mailto:)?([\w.+-]+)@([\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,})\b")
_URL = re.compile(r"\bhttps?://(?:www\.)?([^\s/?#),]+?)(?:[/?#][^\s)]*?)?(?=[.,;:!?)\"']*(?:\s|$))")
_DOMAIN = re.compile(rf"(?<![\w@.])(?:www\.)?((?:[A-Za-z0-9][\w-]*\.)+{_TLD})((?:/[\w-]+)*)/?(?![\w@]|\.\w)")
_ADDRESS_SIGNS = {".": " dot ", "_": " underscore ", "-": " dash ", "+": " plus ", "/": " slash "}
_RUN_OF_DIGITS = re.compile(r"\d+")


def _address(text: str) -> str:
    text = _RUN_OF_DIGITS.sub(lambda match: f" {' '.join(match[0])} ", text)
    return " ".join("".join(_ADDRESS_SIGNS.get(char, char) for char in text).split())


_ADDRESSES: tuple[_Rule, ...] = (
    (_EMAIL, lambda match: f"{_address(match[1])} at {_address(match[2])}"),
    (_URL, lambda match: _address(match[1])),
    (_DOMAIN, lambda match: _address(match[1] + match[2])),
)

# Identifiers and telephone numbers

_HASH = re.compile(r"(?:\b(?:number|no\.?)\s+)?#(?=[A-Za-z]{0,4}-?\d)", re.IGNORECASE)
_NUMBER_SIGN = re.compile(r"\bNo\.\s*(?=[A-Z]{0,4}-?\d)|\b(?:Nr|no)\.\s*(?=\d)")
_NAMED_ID = re.compile(
    r"\b(?:orders?|reference|ref|confirmation|tracking|ticket|case|account|booking|reservation|invoice|customer|"
    r"policy|member|serial|code|pin|id|number)\b\.?(?:\s+(?:number|no\.?|id|code|is|was|ending in))*[\s:#]+"
    r"((?:[A-Za-z]{1,4}-?)?\d{3,}(?:-\d+)*(?:-?[A-Z]{1,3})?)(?![\w]|[.,:]\d|-\w)",
    re.IGNORECASE,
)
_MIXED_ID = re.compile(
    r"(?<![\w$€£.-])(?=[A-Z0-9-]*[A-Z])(?=(?:[A-Z-]*\d){3})(?:[A-Z]{1,4}|[A-Z]?\d[A-Z0-9]*|[A-Z]{1,4}\d[A-Z0-9]*)"
    r"(?:-[A-Z0-9]{1,12})*(?![\w-]|[.,]\d)"
)
_LONG = re.compile(r"(?<![\d.,:$€£-])(\d{5,})(?!\d|[.,:]\d|\s*(?:%|percent|dollars|euros|pounds|people))")
_PHONE = re.compile(
    r"(?<![\w$€£.,/-])(?:\+\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,5}|(?:1[ .-])?(?:\(\d{3}\)\s?|\d{3}[ .-])\d{3}[ .-]\d{4}"
    r"|\d{3}-\d{4})(?![\w-]|[.,]\d)"
)
_DASHED = re.compile(r"(?<![\w-])\d(?:-\d){2,}(?![\w-])")
_EXTENSION = re.compile(r"\b(?:ext\.?|extension)\s*(\d+)\b", re.IGNORECASE)


def _spaced(digits: str, size: int = GROUP) -> str:
    groups = [digits] if len(digits) <= GROUP + 1 else digit_groups(digits, size)
    return ", ".join(" ".join(group) for group in groups)


def _digits(match: re.Match[str]) -> str:
    return _spaced(match[1])


def _spelled(identifier: str) -> str:
    """Capitals and digits one by one; the dashes between them are pauses."""
    runs = re.findall(r"[A-Za-z]+|\d+", identifier)
    said = [_spaced(run) if run.isdigit() else " ".join(run.upper()) for run in runs]
    return ", ".join(said) if len(runs) > 2 else " ".join(said)


def _identifier(match: re.Match[str]) -> str:
    return match[0][: match.start(1) - match.start()] + _spelled(match[1])


def _phone(match: re.Match[str]) -> str:
    groups = re.findall(r"\d+", match[0])
    said = [_spaced(group, PHONE_GROUP) for group in groups]
    return ("plus " if match[0].startswith("+") else "") + ", ".join(said)


_NUMBERS: tuple[_Rule, ...] = (
    (_DASHED, lambda match: match[0].replace("-", " ")),
    (_HASH, "number "),
    (_NUMBER_SIGN, "number "),
    (_EXTENSION, lambda match: f"extension {_spaced(match[1])}"),
    (_PHONE, _phone),
    (_NAMED_ID, _identifier),
    (_MIXED_ID, lambda match: _spelled(match[0])),
    (_LONG, _digits),
)

# Abbreviations

_BEFORE_NAME = {
    "Dr": "Doctor",
    "Mr": "Mister",
    "Mrs": "Missus",
    "Ms": "Miz",
    "Prof": "Professor",
    "St": "Saint",
}
_AFTER_NAME = {
    "St": "Street", "Ave": "Avenue", "Blvd": "Boulevard", "Rd": "Road", "Ln": "Lane", "Dr": "Drive",
    "Inc": "Incorporated", "Ltd": "Limited", "Jr": "Junior", "Sr": "Senior",
}  # fmt: skip
_ANYWHERE = {
    "e.g.": "for example", "i.e.": "that is", "approx.": "approximately", "vs.": "versus", "etc.": "et cetera",
    "dept.": "department", "apt.": "apartment", "tel.": "telephone", "w/o": "without", "w/": "with",
    "a.k.a.": "also known as", "incl.": "including", "excl.": "excluding", "est.": "estimated",
}  # fmt: skip
_ABBREVIATED = re.compile(
    r"(?<![\w.])(" + "|".join(re.escape(short) for short in _ANYWHERE) + r")(?=(\s*$)|\W|\w)", re.IGNORECASE
)
_TITLE = re.compile(rf"\b({'|'.join(_BEFORE_NAME)})\.\s+(?=[A-Z])")
_STREET = re.compile(rf"(?<=[a-z] )({'|'.join(_AFTER_NAME)})\.(?=(\s*$)|(\s+[A-Z])|\W)")


def _abbreviated(match: re.Match[str]) -> str:
    """In full; the full stop that also ended the sentence stays."""
    words = _ANYWHERE[match[1].lower()]
    return (
        words
        + ("." if match[2] is not None and match[1].endswith(".") else "")
        + (" " if match[1] == "w/" else "")
    )


def _street(match: re.Match[str]) -> str:
    """What follows a name: "Main St." at an end or before a lower-case word, while "in St. Louis" is a saint's."""
    return _AFTER_NAME[match[1]] + ("." if match[2] is not None else "")


_LETTERS: tuple[_Rule, ...] = (
    (re.compile(r"(?<=[A-Z][a-z] )(?:St)\.(?=\s+[a-z])"), "Street"),
    (_TITLE, lambda match: f"{_BEFORE_NAME[match[1]]} "),
    (_STREET, _street),
    (_ABBREVIATED, _abbreviated),
)

_SIGNS: tuple[_Rule, ...] = (
    (re.compile(r"\s+&\s+"), " and "),
    (re.compile(r"~\s?(?=[\d$])"), "about "),
    (re.compile(r"\s[<]\s"), " is less than "),
    (re.compile(r"\s[>]\s"), " is more than "),
    (re.compile(r"\s=\s"), " equals "),
    (re.compile(r"(?<=\d)\s?[x\u00d7]\s?(?=\d)"), " by "),
    (re.compile(r"(?<=\d)x\b"), " times"),
    (re.compile(r"\s@\s"), " at "),
    (re.compile(r"\band/or\b", re.IGNORECASE), "and or"),
    (re.compile(r"\s[\u2013\u2014]\s"), ", "),
)
