"""What a caller's words hold: order numbers, amounts, dates, times, names, e-mail addresses; spoken or written."""

from __future__ import annotations

import re
from datetime import date, timedelta

_DIGITS = {
    "zero": "0", "oh": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5",
    "six": "6", "seven": "7", "eight": "8", "nine": "9",
}  # fmt: skip
_TEENS = dict(
    zip(
        ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
        range(10, 20),
        strict=True,
    )
)  # fmt: skip
_TENS = dict(
    zip(
        ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"),
        range(20, 100, 10),
        strict=True,
    )
)  # fmt: skip
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
    "november", "december",
)  # fmt: skip
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DIGIT_WORDS = re.compile(r"\b(" + "|".join(_DIGITS) + r")\b", re.IGNORECASE)
_SPACED_DIGITS = re.compile(r"(?<=\d)[\s,.\-]+(?=\d\b)|(?<=\b\d)[\s,.\-]+(?=\d)")
_COUNT_WORDS = re.compile(
    rf"\b(?:({'|'.join(_TENS)})(?:[\s-]({'|'.join(_DIGITS)}))?|({'|'.join(_TEENS)}))\b", re.IGNORECASE
)
_ORDER = re.compile(r"\border\s*(?:number|no\.?|id)?[\s:#]*(\d{2,})", re.IGNORECASE)
_LONG_NUMBER = re.compile(r"(?<![\d.,€$£])\d{4,}(?!\d|[.,]\d)")
_CURRENCY = r"(?:euros?|dollars?|pounds?|eur|usd|€|\$|£)"
_AMOUNT = re.compile(
    rf"(?:[€$£]\s*(\d+(?:[.,]\d\d?)?))|(\d+(?:[.,]\d\d?)?)\s*{_CURRENCY}|make (?:it|that) (\d+(?:[.,]\d\d?)?)(?![\d:])",
    re.IGNORECASE,
)
_MONTH = "|".join(_MONTHS)
_DAY_FIRST = re.compile(rf"\b(\d\d?)(?:st|nd|rd|th)?(?: of)? ({_MONTH})(?:,? (\d{{4}}))?", re.IGNORECASE)
_MONTH_FIRST = re.compile(rf"\b({_MONTH}) (?:the )?(\d\d?)(?:st|nd|rd|th)?\b(?:,? (\d{{4}}))?", re.IGNORECASE)
_ISO = re.compile(r"\b\d{4}-\d\d-\d\d\b")
_CLOCK = re.compile(r"\b([01]?\d|2[0-3])[:.]([0-5]\d)\b(?:\s*([ap])\.?m)?", re.IGNORECASE)
_HOUR = re.compile(r"\b(\d\d?)\s*(?:([ap])\.?m\b|o'?clock)", re.IGNORECASE)
_HALF = re.compile(r"\bhalf past (\d\d?)\b", re.IGNORECASE)
_NAME = re.compile(r"\b(?:for|name is|name|under)\s+((?:[A-Z][\w'-]+)(?:\s+[A-Z][\w'-]+)*)")
_EMAIL = re.compile(r"[a-z0-9_+-]+(?:\.[a-z0-9_+-]+)*@[a-z0-9-]+(?:\.[a-z0-9-]+)+")


def normalise(text: str) -> str:
    """Digit words as digits, and digits that were spoken one by one joined: "four one seven two" is "4172"."""
    digits = _DIGIT_WORDS.sub(lambda match: _DIGITS[match[0].lower()], text)
    return _SPACED_DIGITS.sub("", digits)


def spell(number: str) -> str:
    """Digits apart, so that they are spoken one by one."""
    return " ".join(number)


def in_words(text: str) -> str:
    """Every digit as a word: "order 41" is "order four one"."""
    names = {digit: word for word, digit in _DIGITS.items() if word != "oh"}
    return re.sub(r"\d", lambda match: f" {names[match[0]]} ", text).replace("  ", " ").strip()


def order_number(words: str) -> str | None:
    """The number of an order, as digits."""
    text = normalise(re.sub(r"(\d),(\d{3})\b", r"\1\2", words))
    if match := _ORDER.search(text):
        return match[1]
    numbers = _LONG_NUMBER.findall(_ISO.sub("", text))
    return numbers[0] if numbers else None


def amount(words: str) -> int | float | None:
    """A sum of money."""
    match = _AMOUNT.search(_counted(words))
    if match is None:
        return None
    value = float(next(group for group in match.groups() if group).replace(",", "."))
    return int(value) if value.is_integer() else value


def day(words: str, today: date) -> str | None:
    """A date as YYYY-MM-DD; one without a year is the next such day from `today` on."""
    text = _counted(_ordinals(words))
    if match := _ISO.search(text):
        return match[0]
    if match := _DAY_FIRST.search(text):
        return _date(match[1], match[2], match[3], today)
    if match := _MONTH_FIRST.search(text):
        return _date(match[2], match[1], match[3], today)
    lowered = text.lower()
    if "tomorrow" in lowered:
        return (today + timedelta(days=1)).isoformat()
    for number, name in enumerate(_WEEKDAYS):
        if re.search(rf"\b{name}\b", lowered):
            return (today + timedelta(days=(number - today.weekday() - 1) % 7 + 1)).isoformat()
    return None


def clock(words: str) -> str | None:
    """A time of day as HH:MM."""
    text = _DIGIT_WORDS.sub(lambda match: _DIGITS[match[0].lower()], _counted(words))
    if match := _HALF.search(text):
        return f"{int(match[1]):02}:30"
    match = _CLOCK.search(text)
    hour, minute, half = (match[1], match[2], match[3]) if match else ("", "00", None)
    if match is None:
        whole = _HOUR.search(text)
        if whole is None:
            return None
        hour, half = whole[1], whole[2]
    hours = int(hour) % 12 + (12 if half.lower() == "p" else 0) if half else int(hour)
    return f"{hours:02}:{minute}" if hours < 24 else None


def person(words: str) -> str | None:
    """A name behind "for", "name is" or "under"."""
    for match in _NAME.finditer(words):
        if match[1].lower().split()[0] not in (*_MONTHS, *_WEEKDAYS):
            return match[1]
    return None


def email(words: str) -> str | None:
    """An e-mail address, also one that was spelled: "m a r i a dot jensen at example dot org"."""
    text = _DIGIT_WORDS.sub(lambda match: _DIGITS[match[0].lower()], words.lower())
    tail = re.split(r"\b(?:to|is|it's|meant|it)\b", text)[-1]
    for name, sign in (("dot", "."), ("at", "@"), ("dash|hyphen|minus", "-"), ("underscore", "_")):
        tail = re.sub(rf"\s*\b(?:{name})\b\s*", sign, tail)
    tail = re.sub(r"(?<![a-z0-9])((?:[a-z0-9][ -]){2,}[a-z0-9])(?![a-z0-9])", _joined, tail)
    match = _EMAIL.search(tail)
    return match[0] if match else None


def _joined(spelled: re.Match[str]) -> str:
    return re.sub(r"[ -]", "", spelled[0])


def _counted(words: str) -> str:
    """Number words from ten to ninety-nine as digits."""

    def digits(match: re.Match[str]) -> str:
        if match[3]:
            return str(_TEENS[match[3].lower()])
        return str(_TENS[match[1].lower()] + int(_DIGITS[match[2].lower()] if match[2] else 0))

    return _COUNT_WORDS.sub(digits, words)


def _ordinals(words: str) -> str:
    """Ordinals up to tenth as digits: "the third of December" is "the 3 of December"."""
    names = "|".join(_ORDINALS)
    return re.sub(
        rf"\b({names})(?= of\b)", lambda m: str(_ORDINALS.index(m[1].lower()) + 1), words, flags=re.IGNORECASE
    )


def _date(day_text: str, month: str, year: str | None, today: date) -> str | None:
    number = _MONTHS.index(month.lower()) + 1
    try:
        wanted = date(int(year) if year else today.year, number, int(day_text))
        if year is None and wanted < today:
            wanted = wanted.replace(year=today.year + 1)
    except ValueError:
        return None
    return wanted.isoformat()
