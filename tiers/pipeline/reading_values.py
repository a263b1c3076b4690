"""Money, dates, times and measures of an English clause, as they are said. Whole numbers in them stay digits."""

from __future__ import annotations

import datetime as dt
import re
from typing import NamedTuple

from orchestrator.protocol.number_words import MONTHS


def values(text: str, *, day_first: bool = False) -> str:
    """`day_first`: 3/4/2026 is the third of April."""
    text = _ISO_DATE.sub(lambda match: _date(match, match[2], match[3], match[1]), text)
    text = _SLASHED.sub(lambda match: _slashed(match, day_first), text)
    text = _MONTH.sub(_month, _DAYS.sub(_days, text))
    text = _SPAN_OF_TIME.sub(r"\1 to ", text)
    text = _CLOCK.sub(_clock, _HALF.sub(_half, text))
    text = _MONEY_SPAN.sub(_money_span, text)
    text = _CENTS.sub(lambda match: f"{match[1]} cent{'' if match[1] == '1' else 's'}", text)
    text = _MONEY_AFTER.sub(_money, _MONEY.sub(_money, text))
    text = _PER.sub(lambda match: f" per {_PERIODS.get(match[1].lower(), match[1])}", text)
    text = _DEGREES.sub(_degrees, _UNIT.sub(_unit, text))
    text = _DECADE.sub(lambda match: f"{match[1]} {_DECADES[int(match[2])]}", text)
    return _SPAN.sub(r"\1 to ", _FRACTION.sub(_fraction, text))


# Dates

_ISO_DATE = re.compile(r"(?<![\w-])(\d{4})-(\d{2})-(\d{2})(?=T\d|[^\w-]|$)")
_SLASHED = re.compile(r"(?<![\w/.])(\d{1,2})/(\d{1,2})/(\d{4}|\d{2})(?![\w/])")
_SHORT_MONTHS = {month[:3]: month for month in MONTHS} | {"Sept": "September"}
_MONTH = re.compile(rf"\b({'|'.join(sorted(_SHORT_MONTHS, key=len, reverse=True))})\.?(?=\s+\d)")
_WEEKDAYS = {
    "Mon": "Monday", "Tue": "Tuesday", "Tues": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday",
    "Thur": "Thursday", "Thurs": "Thursday", "Fri": "Friday", "Sat": "Saturday", "Sun": "Sunday",
}  # fmt: skip
_DAY = "|".join(sorted({*_WEEKDAYS, *_WEEKDAYS.values()}, key=len, reverse=True))
_DAYS = re.compile(
    rf"\b({_DAY})\.?(?:(\s?[-\u2013]\s?)({_DAY})\b\.?|(?=,?\s+(?:{'|'.join(_SHORT_MONTHS)}|\d)))"
)
_DECADE = re.compile(r"(?<![\w$])(1[5-9]|20)([2-9])0s\b")
_DECADES = (
    "",
    "",
    "twenties",
    "thirties",
    "forties",
    "fifties",
    "sixties",
    "seventies",
    "eighties",
    "nineties",
)


def _date(match: re.Match[str], month: str, day: str, year: str) -> str:
    try:
        value = dt.date(int(year) + (2000 if len(year) == 2 else 0), int(month), int(day))
    except ValueError:
        return match[0]
    return f"{MONTHS[value.month - 1]} {_ordinal(value.day)}, {value.year}"


def _ordinal(day: int) -> str:
    ending = "th" if 10 < day < 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{ending}"


def _slashed(match: re.Match[str], day_first: bool) -> str:
    first, second, year = match.groups()
    if int(first) > 12 or (day_first and int(second) <= 12):
        first, second = second, first
    return _date(match, first, second, year)


def _month(match: re.Match[str]) -> str:
    return _SHORT_MONTHS[match[1]]


def _days(match: re.Match[str]) -> str:
    first, span, last = match.groups()
    words = _WEEKDAYS.get(first, first)
    return f"{words} to {_WEEKDAYS.get(last, last)}" if span else words


# Times

_AMPM = r"(?:\s?([AaPp])(?:\.?[Mm]\b\.?))"
_SPAN_OF_TIME = re.compile(
    r"(?<![\w:.])(\d{1,2}(?::\d{2})?(?:\s?[AaPp]\.?[Mm]\.?)?)\s?[-\u2013]\s?"
    r"(?=\d{1,2}(?::\d{2}|(?::\d{2})?\s?[AaPp]\.?[Mm]\b))"
)
_CLOCK = re.compile(rf"(?<![\d:.])([01]?\d|2[0-4]):([0-5]\d)(?::[0-5]\d)?(?![\d:]){_AMPM}?(?=(\s*$)?)")
_HALF = re.compile(rf"(?<![\w:.])(\d{{1,2}}){_AMPM}(?=(\s*$)?)")


def _stop(match: re.Match[str], end: str | None) -> str:
    """The full stop of "p.m." at a clause's end is the sentence's, too."""
    return "." if end is not None and match[0].endswith(".") else ""


def _clock(match: re.Match[str]) -> str:
    hour, minute, half = int(match[1]), int(match[2]), (match[3] or "").upper()
    stop = _stop(match, match[4])
    if half and minute == 0 and hour == 12:
        return ("noon" if half == "P" else "midnight") + stop
    if not half and (hour > 12 or hour == 0 or match[1].startswith("0")):
        half = "A" if hour % 24 < 12 else "P"
        hour = hour % 12 or 12
    said = f"{hour}"
    if minute:
        said += f" oh {minute}" if minute < 10 else f" {minute}"
    elif not half:
        said += " o'clock"
    return said + (f" {half}M" if half else "") + stop


def _half(match: re.Match[str]) -> str:
    hour, half = int(match[1]), match[2].upper()
    return f"{hour} {half}M{_stop(match, match[3])}"


# Money


class _Currency(NamedTuple):
    one: str
    many: str
    minor_one: str = ""
    minor_many: str = ""


_DOLLAR = _Currency("dollar", "dollars", "cent", "cents")
_EURO = _Currency("euro", "euros", "cent", "cents")
_POUND = _Currency("pound", "pounds", "penny", "pence")
_CURRENCIES = {
    "$": _DOLLAR, "US$": _DOLLAR, "USD": _DOLLAR, "€": _EURO, "EUR": _EURO, "£": _POUND, "GBP": _POUND,
    "CA$": _Currency("Canadian dollar", "Canadian dollars", "cent", "cents"),
    "A$": _Currency("Australian dollar", "Australian dollars", "cent", "cents"),
    "CHF": _Currency("Swiss franc", "Swiss francs", "centime", "centimes"),
    "¥": _Currency("yen", "yen"), "JPY": _Currency("yen", "yen"), "₹": _Currency("rupee", "rupees"),
}  # fmt: skip
_SYMBOL = r"(?:US\$|CA\$|A\$|[$€£¥₹]|\b(?:USD|EUR|GBP|CHF|JPY)\b\s?)"
_AMOUNT = r"\d+(?:,\d{3})*(?:\.\d+)?"
_SCALES = {"k": "thousand", "m": "million", "mn": "million", "b": "billion", "bn": "billion"}
_SCALE = r"(?:\s?(thousand|million|billion|trillion)\b|(k|mn?|bn?)\b)?"
_MONEY = re.compile(
    rf"(?P<sign>(?<![\w-])[-\u2212])?(?P<symbol>{_SYMBOL})\s?(?P<amount>{_AMOUNT}){_SCALE}", re.IGNORECASE
)
_MONEY_AFTER = re.compile(
    rf"(?P<sign>(?<![\w-])[-\u2212])?(?<![\w.,])(?P<amount>{_AMOUNT}){_SCALE}\s?(?P<symbol>[€£]|(?:USD|EUR|GBP|CHF|JPY)\b)",
    re.IGNORECASE,
)
_MONEY_SPAN = re.compile(
    rf"({_SYMBOL})\s?({_AMOUNT})\s?[-\u2013]\s?(?:{_SYMBOL})?({_AMOUNT})(?![\w-]|[.,]\d)"
)
_CENTS = re.compile(r"(?<![\w.,])(\d+)\s?¢")


def _money(match: re.Match[str]) -> str:
    scale = match[4] or (_SCALES[match[5].lower()] if match[5] else "") if match.re is _MONEY else ""
    if match.re is _MONEY_AFTER:
        scale = match[3] or (_SCALES[match[4].lower()] if match[4] else "")
    return ("minus " if match["sign"] else "") + _amount(match["amount"], match["symbol"], scale)


def _amount(amount: str, symbol: str, scale: str = "") -> str:
    currency = _CURRENCIES[symbol.strip().upper()]
    whole, _, part = amount.partition(".")
    if scale:
        return f"{amount} {scale} {currency.many}"
    if not part or not currency.minor_many or len(part) != 2:
        return f"{amount} {currency.one if amount == '1' else currency.many}"
    minor = int(part)
    cents = f"{minor} {currency.minor_one if minor == 1 else currency.minor_many}"
    if whole == "0":
        return cents
    words = f"{whole} {currency.one if whole == '1' else currency.many}"
    return f"{words} and {cents}" if minor else words


def _money_span(match: re.Match[str]) -> str:
    symbol, low, high = match.groups()
    if "." in low + high:
        return f"{_amount(low, symbol)} to {_amount(high, symbol)}"
    return f"{low} to {_amount(high, symbol)}"


# Measures

_PERIODS = {"hr": "hour", "mo": "month", "yr": "year", "wk": "week"}
_PER = re.compile(
    r"(?<=[A-Za-z0-9])\s?/\s?(hour|hr|day|week|wk|month|mo|year|yr|night|person|item|unit|call|minute)\b",
    re.I,
)
_UNITS = {
    "km": "kilometer", "cm": "centimeter", "mm": "millimeter", "kg": "kilogram", "mg": "milligram",
    "lb": "pound", "lbs": "pound", "oz": "ounce", "ml": "milliliter", "ft": "foot", "yd": "yard", "mi": "mile",
    "hr": "hour", "hrs": "hour", "min": "minute", "mins": "minute", "sec": "second", "secs": "second",
    "KB": "kilobyte", "MB": "megabyte", "GB": "gigabyte", "TB": "terabyte", "kWh": "kilowatt hour",
    "Mbps": "megabit per second", "Gbps": "gigabit per second", "mph": "mile per hour",
    "km/h": "kilometer per hour", "kph": "kilometer per hour", "sq ft": "square foot", "ms": "millisecond",
}  # fmt: skip
_PLURALS = {"foot": "feet", "square foot": "square feet"}
_UNIT = re.compile(
    rf"(?<![\w$€£])(\d+(?:,\d{{3}})*(?:\.\d+)?)\s?({'|'.join(sorted(map(re.escape, _UNITS), key=len, reverse=True))})"
    r"(?:\.(?=\s+[a-z])|\b)(?!/)"
)
_DEGREES = re.compile(r"(?<!\w)([-\u2212]?)(\d+(?:\.\d+)?)\s?°\s?([CF])?\b")
_FRACTIONS = {
    "1/2": "one half", "1/3": "one third", "2/3": "two thirds", "1/4": "one quarter", "3/4": "three quarters",
    "24/7": "24 7", "50/50": "50 50",
}  # fmt: skip
_FRACTION = re.compile(r"(?<![\w/.])(?:(\d+)\s)?(\d{1,2}/\d{1,3})(?![\w/])")
_SPAN = re.compile(r"(?<![\w.,:/-])(\d{1,4})\s?[-\u2013]\s?(?=\d{1,4}(?![\w:/-]|[.,]\d))")


def _unit(match: re.Match[str]) -> str:
    one, head, per = _UNITS[match[2]].partition(" per ")
    if match[1] != "1":
        one = _PLURALS.get(one, f"{one}s")
    return f"{match[1]} {one}{head}{per}"


def _degrees(match: re.Match[str]) -> str:
    scale = {"C": " Celsius", "F": " Fahrenheit", None: ""}[match[3]]
    return f"{'minus ' if match[1] else ''}{match[2]} degree{'' if match[2] == '1' else 's'}{scale}"


def _fraction(match: re.Match[str]) -> str:
    whole, fraction = match.groups()
    words = _FRACTIONS.get(fraction)
    if words is None:
        top, _, bottom = fraction.partition("/")
        words = f"{top} out of {bottom}" if bottom in ("5", "10", "100") and not whole else fraction
        return f"{whole} {words}" if whole else words
    return f"{whole} and {words}" if whole else words
