"""Amounts of money as people say them and as recognisers write them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from orchestrator.core.spoken_words import numerals
from orchestrator.protocol.number_words import ONES, cardinal

LARGEST = Decimal(10**12 - 1)
_NAMES = {
    "USD": ("dollar", "dollars", "cent", "cents"),
    "EUR": ("euro", "euros", "cent", "cents"),
    "GBP": ("pound", "pounds", "penny", "pence"),
    "CAD": ("Canadian dollar", "Canadian dollars", "cent", "cents"),
    "AUD": ("Australian dollar", "Australian dollars", "cent", "cents"),
    "CHF": ("Swiss franc", "Swiss francs", "centime", "centimes"),
    "INR": ("rupee", "rupees", "paisa", "paise"),
    "JPY": ("yen", "yen", "", ""),
}
_SAID = {
    "us dollars?": "USD", "canadian dollars?": "CAD", "australian dollars?": "AUD", "dollars?": "USD",
    "bucks?": "USD", "euros?": "EUR", "pounds?(?: sterling)?": "GBP", "quid": "GBP", "swiss francs?": "CHF",
    "francs?": "CHF", "franken": "CHF", "rupees?": "INR", "yen": "JPY", "dólares?": "USD", "dolares?": "USD",
    "dollar": "USD", "pfund": "GBP", "livres?": "GBP", "libras?": "GBP",
}  # fmt: skip
_SYMBOLS = {"$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY"}
_DOLLARS = frozenset(("USD", "CAD", "AUD"))
_CURRENCY = "|".join((*_SAID, *(code.lower() for code in _NAMES), *map(re.escape, _SYMBOLS)))
_CENTS = r"(?:cents?|pence|penny|pennies|centimes?|céntimos?|centimos?|paise|paisa|p)"
_PART = r"(?:(?:[.,]|\s(?:point|komma|coma|virgule)\s)(?P<part>\d\s\d|\d{1,2})(?!\d))?"
_BEFORE = r"(?<![\d.,-])(?:(?P<symbol>[$€£¥])\s?)?(?P<minus>\b(?:minus|negative)\s|-)?"
_AND_CENTS = (
    rf"(?:,?\s(?:(?:and|und|y|con|et)\s)?(?P<cents>\d{{1,2}})(?!\d|\s?(?:{_CURRENCY})(?!\w)|[.,]\d)"
    rf"(?:\s{_CENTS}\b)?)?"
)
_MONEY = re.compile(
    rf"{_BEFORE}(?P<whole>\d+){_PART}(?:\s?(?P<cents_only>{_CENTS})\b)?"
    rf"(?:\s?(?P<currency>{_CURRENCY})(?!\w){_AND_CENTS})?"
)
_PAIR = re.compile(r"(?<![\d.,-])(?<!\d )(?P<whole>[1-9]\d)\s(?P<part>[1-9]\d|0 [1-9])(?![\d.,])(?!\s\d)")


@dataclass(frozen=True, slots=True)
class Amount:
    """`currency`: its ISO 4217 code, empty where none was said."""

    number: Decimal
    currency: str = ""

    def __str__(self) -> str:
        """ "25.50 EUR": two decimals, none if there are none, and the currency if there is one."""
        whole = self.number == self.number.to_integral_value()
        return (
            f"{self.number:.0f}" * whole + f"{self.number:.2f}" * (not whole) + f" {self.currency}".rstrip()
        )

    def fits(self, said: Amount) -> bool:
        """Whether somebody who said `said` may have meant this: any dollars are dollars, and none may go without."""
        both = self.currency and said.currency
        dollars = said.currency == "USD" and self.currency in _DOLLARS
        return self.number == said.number and (not both or self.currency == said.currency or dollars)


def amounts(text: str) -> list[Amount]:
    """All amounts in a text, in order; bare numbers too, but no numbers side by side ("two fifty" may be 250).

    Two numbers of two digits are one: "twenty-five fifty" is 25.50.
    """
    said = numerals(text).replace("  ", " . ")
    said = _PAIR.sub(lambda match: f"{match['whole']}.{match['part'].replace(' ', '')}", said)
    found = []
    for match in _MONEY.finditer(said):
        alone = not re.search(r"\d $", said[: match.start()]) and not re.match(r" \d", said[match.end() :])
        amount = _amount(match)
        if amount is not None and (alone or (match["currency"] and match["cents"])):
            found.append(amount)
    return found


def money(text: str) -> list[Amount]:
    """The amounts of a text that have a currency."""
    return [amount for amount in amounts(text) if amount.currency]


def _amount(match: re.Match[str]) -> Amount | None:
    part = (match["part"] or "").replace(" ", "")
    if match["cents_only"]:
        if part or match["currency"]:
            return None
        cents_of = "GBP" if match["cents_only"].startswith(("p", "P")) else ""
        return Amount(Decimal(match["whole"]) / 100, cents_of)
    number = Decimal(match["whole"]) + Decimal(f"0.{part or 0}")
    if match["cents"] and not part:
        number += Decimal(match["cents"]) / 100
    if match["minus"]:
        number = -number
    return Amount(number, _code(match["currency"] or match["symbol"] or ""))


def _code(said: str) -> str:
    if said in _SYMBOLS or said.upper() in _NAMES:
        return _SYMBOLS.get(said) or said.upper()
    return next((code for name, code in _SAID.items() if re.fullmatch(name, said)), "")


def parse(value: Any) -> Amount | None:
    """The one amount that an argument's value is, a number or a text such as "25.50 USD"; None if it is not one."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        number = Decimal(str(value))
        return Amount(number) if number.is_finite() and abs(number) <= LARGEST else None
    if not isinstance(value, str):
        return None
    written = re.fullmatch(
        r"\s*(?:([A-Z]{3}|[$€£¥])\s?)?(-?)(\d{1,3}(?:,\d{3})+|\d{1,12})(?:[.,](\d{1,2}))?\s?([A-Z]{3}|[€£¥$])?\s*",
        value,
    )
    if written is None:
        return None
    before, sign, whole, part, behind = written.groups()
    code = before or behind or ""
    if code and code not in _NAMES and code not in _SYMBOLS:
        return None
    return Amount(Decimal(f"{sign}{whole.replace(',', '')}.{part or 0}"), _code(code) if code else "")


def spoken_amount(amount: Amount, language: str = "en") -> str:
    """In words: "twenty-five dollars and fifty cents", "twenty-five point five zero". Other languages: in figures."""
    say: Callable[[int], str] = cardinal if language.startswith("en") else str
    sign = "minus " if amount.number < 0 else ""
    number = abs(amount.number)
    whole, cents = int(number), int((number - int(number)) * 100)
    if not amount.currency:
        digits = " ".join(ONES[int(digit)] for digit in f"{cents:02d}")
        return sign + say(whole) + (f" point {digits}" if cents else "")
    one, many, cent, cents_ = _NAMES[amount.currency]
    words = [f"{say(whole)} {one if whole == 1 else many}"] if whole or not cents else []
    if cents:
        words.append(f"{say(cents)} {cent if cents == 1 else cents_}")
        if not whole:
            words = [f"{say(0)} {many}", *words]
    joiner = {"de": " und ", "es": " y ", "fr": " et "}.get(language.split("-")[0], " and ")
    return sign + joiner.join(words)


def currency_said(code: str, words: str) -> bool:
    """Whether the words name a currency, given by its ISO 4217 code."""
    said = numerals(words)
    names = [*_NAMES[code][:2], code, *(sign for sign, other in _SYMBOLS.items() if other == code)]
    return any(re.search(rf"(?<!\w){re.escape(name.lower())}(?!\w)", said) for name in names) or any(
        amount.currency == code for amount in amounts(words)
    )


def is_currency(value: str) -> bool:
    return value in _NAMES


def spoken_currency(code: str) -> str:
    return _NAMES[code][1]
