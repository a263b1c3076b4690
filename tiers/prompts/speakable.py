"""How a value is written in a transcript and how it is said, per language.

Engines differ in what they make of "4172", "$12.50" or "2:05 PM". What reaches them from here are words.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple, Protocol

from orchestrator.protocol.number_words import MONTHS, ONES, cardinal, digit_groups, ordinal, year


class Spoken(NamedTuple):
    """The same value for the eye and for the ear."""

    text: str
    words: str


class Currency(NamedTuple):
    symbol: str
    one: str
    many: str
    minor_one: str = ""
    minor_many: str = ""


class Speakable(Protocol):
    """A language's way with values."""

    @property
    def currencies(self) -> Mapping[str, Currency]:
        """The currencies it has names for, by ISO 4217 code."""
        ...

    def integer(self, value: int) -> Spoken: ...

    def money(self, amount: Decimal, currency: str) -> Spoken: ...

    def date(self, value: dt.date) -> Spoken: ...

    def time(self, value: dt.time) -> Spoken: ...

    def spelled(self, value: str) -> Spoken:
        """Character by character, letters, digits and the signs - / . _ by name."""
        ...

    def phone(self, value: str) -> Spoken:
        """Digit by digit, in the groups it is written in; may start with a plus sign."""
        ...


SPELLED_GROUP = 4
"""Longer runs of digits are said in groups of at most this many, with a pause between groups."""
PHONE_GROUP = 3

_SIGN_WORDS = {"-": "dash", "/": "slash", ".": "dot", "_": "underscore"}
_CURRENCIES = {
    "USD": Currency("$", "dollar", "dollars", "cent", "cents"),
    "EUR": Currency("€", "euro", "euros", "cent", "cents"),
    "GBP": Currency("£", "pound", "pounds", "penny", "pence"),
    "CAD": Currency("CA$", "Canadian dollar", "Canadian dollars", "cent", "cents"),
    "AUD": Currency("A$", "Australian dollar", "Australian dollars", "cent", "cents"),
    "CHF": Currency("CHF ", "Swiss franc", "Swiss francs", "centime", "centimes"),
    "INR": Currency("₹", "rupee", "rupees", "paisa", "paise"),
    "JPY": Currency("¥", "yen", "yen"),
}


class English:
    """American English."""

    @property
    def currencies(self) -> Mapping[str, Currency]:
        return _CURRENCIES

    def integer(self, value: int) -> Spoken:
        return Spoken(f"{value:,}", cardinal(value))

    def money(self, amount: Decimal, currency: str) -> Spoken:
        names = self.currencies[currency]
        sign, amount = ("-" if amount < 0 else ""), abs(amount)
        major, minor = int(amount), int(amount % 1 * 100)
        words = []
        if major or not minor:
            words.append(f"{cardinal(major)} {names.one if major == 1 else names.many}")
        if minor:
            words.append(f"{cardinal(minor)} {names.minor_one if minor == 1 else names.minor_many}")
        text = f"{amount:,.2f}" if names.minor_one else f"{major:,}"
        return Spoken(f"{sign}{names.symbol}{text}", ("minus " if sign else "") + " and ".join(words))

    def date(self, value: dt.date) -> Spoken:
        month = MONTHS[value.month - 1]
        return Spoken(
            f"{month} {value.day}, {value.year}", f"{month} {ordinal(value.day)}, {year(value.year)}"
        )

    def time(self, value: dt.time) -> Spoken:
        half, hour = ("AM" if value.hour < 12 else "PM"), value.hour % 12 or 12
        text = f"{hour}:{value.minute:02d} {half}"
        if value.minute == 0 and hour == 12:
            return Spoken(text, "midnight" if half == "AM" else "noon")
        minute = f" oh {ONES[value.minute]}" if 0 < value.minute < 10 else ""
        if value.minute >= 10:
            minute = f" {cardinal(value.minute)}"
        return Spoken(text, f"{cardinal(hour)}{minute} {half}")

    def spelled(self, value: str) -> Spoken:
        words = [_spell(run) for run in re.findall(r"\d+|[^\d\s]", value)]
        return Spoken(value, ", ".join(words))

    def phone(self, value: str) -> Spoken:
        groups = re.findall(r"\d+", value)
        if len(groups) == 1:
            groups = digit_groups(groups[0], PHONE_GROUP)
        plus = "plus " if value.startswith("+") else ""
        return Spoken(value, plus + ", ".join(_digits(group) for group in groups))


def _spell(run: str) -> str:
    """A run of digits in groups, a letter as its name, a sign as its word."""
    if run.isdigit():
        return ", ".join(_digits(group) for group in digit_groups(run, SPELLED_GROUP))
    return _SIGN_WORDS.get(run, run.upper())


def _digits(digits: str) -> str:
    return " ".join(ONES[int(digit)] for digit in digits)


SPEAKABLE: dict[str, Speakable] = {"en": English()}

_TAG = re.compile(r"<[^<>]*>")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_URL = re.compile(r"https?://(?:www\.)?([^\s/?#]+)\S*")
_LINE_MARK = re.compile(r"^\s*(?:#{1,6}\s+|>\s*|[-*+•]\s+)", re.MULTILINE)
_MARKS = str.maketrans(dict.fromkeys("*`~|#^\\[]{}<>", "") | {"_": " "})
_LINE_END = re.compile(r"(?<![.!?:;,\s])[ \t]*\n\s*(?=\S)")


def clean(text: str) -> str:
    """Text as one would read it aloud: no tags, no Markdown, a link by its site, lines as sentences."""
    text = _LINK.sub(r"\1", _TAG.sub(" ", text.strip()))
    text = _LINE_MARK.sub("", _URL.sub(r"\1", text)).translate(_MARKS)
    text = "".join(char for char in _LINE_END.sub(". ", text) if char.isspace() or char.isprintable())
    return " ".join(text.split())
