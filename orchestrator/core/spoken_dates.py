"""Dates and times of day: how they are said, and whether some words say one."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

from orchestrator.core.spoken_words import fold, numerals
from orchestrator.protocol.number_words import MONTHS, ONES, cardinal, ordinal, year

_OTHER_MONTHS = {
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
}
_MONTHS = {"en": MONTHS} | {language: tuple(names.split()) for language, names in _OTHER_MONTHS.items()}
_DAYS = {ordinal(day).replace("-", " "): day for day in range(31, 0, -1)}
_DAY_WORD = re.compile(r"\b(" + "|".join(word.replace(" ", "[ -]") for word in _DAYS) + r")\b", re.IGNORECASE)
_ISO = re.compile(r"(\d{4}-\d\d-\d\d)?[T ]?(\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)?)?")


@dataclass(frozen=True, slots=True)
class Moment:
    """A date, a time of day, or both."""

    date: dt.date | None
    time: dt.time | None


def moment(value: str) -> Moment | None:
    """The moment that ISO 8601 text is; None if it is something else, or so long ago that no call is about it."""
    match = _ISO.fullmatch(value.strip())
    if match is None or not any(match.groups()):
        return None
    try:
        date = dt.date.fromisoformat(match[1]) if match[1] else None
        time = dt.time.fromisoformat(match[2]) if match[2] else None
    except ValueError:
        return None
    return None if date is not None and date.year < 1000 else Moment(date, time)


def spoken_moment(value: Moment, language: str = "en") -> str:
    """ "November twenty-eighth, two thousand twenty-six at two thirty PM"; in figures in other languages."""
    language = language.split("-")[0]
    names, english = _MONTHS.get(language, MONTHS), language not in _OTHER_MONTHS
    parts = []
    if (date := value.date) is not None:
        name = names[date.month - 1]
        parts.append(
            f"{name} {ordinal(date.day)}, {year(date.year)}" if english else f"{date.day} {name} {date.year}"
        )
    if (time := value.time) is not None:
        parts.append(_clock(time) if english else f"{time.hour}:{time.minute:02d}")
    return (" at " if english else ", ").join(parts)


def _clock(time: dt.time) -> str:
    half, hour = ("AM" if time.hour < 12 else "PM"), time.hour % 12 or 12
    if time.minute == 0 and hour == 12:
        return "midnight" if half == "AM" else "noon"
    minute = f" oh {ONES[time.minute]}" if 0 < time.minute < 10 else f" {cardinal(time.minute)}"
    return f"{cardinal(hour)}{minute if time.minute else ''} {half}"


def moment_said(value: Moment, words: str) -> bool:
    """Whether the words say it. A year may go unsaid, and so may AM and PM; what is said has to be right."""
    said = fold(numerals(_DAY_WORD.sub(lambda match: str(_DAYS[match[1].lower().replace("-", " ")]), words)))
    said = re.sub(r"\b([ap])[. ]m\b", r"\1m", said)
    return (value.date is None or _date_said(value.date, said, words)) and (
        value.time is None or _time_said(value.time, said)
    )


def _date_said(date: dt.date, said: str, words: str) -> bool:
    if re.search(rf"(?<!\d){date.isoformat()}(?!\d)", words):
        return True
    names = {fold(names[date.month - 1]) for names in _MONTHS.values()}
    names |= {name[:3] for name in names}
    month = f"(?:{'|'.join(sorted(names, key=len, reverse=True))})"
    day = rf"(?<!\d){date.day}(?: ?(?:st|nd|rd|th))?"
    ways = (rf"\b{month}\b *(?:the )?{day}(?!\d)", rf"{day} *(?:of |de )?{month}\b")
    for found in (match for way in ways for match in re.finditer(way, said)):
        after = re.match(r"(?:[ ,]| of | de )*((?:\d+ ?)*)", said[found.end() :])
        told = after[1].replace(" ", "") if after else ""
        if not told or told.startswith(str(date.year)):
            return True
    return False


def _time_said(time: dt.time, said: str) -> bool:
    hour, minute = time.hour % 12 or 12, time.minute
    afternoon = time.hour >= 12
    if minute == 0 and hour == 12 and re.search(r"\bnoon\b" if afternoon else r"\bmidnight\b", said):
        return True
    clocks = {hour, time.hour}
    minutes = [rf"[ :h.]+{minute:02d}", f" {minute}"] if minute >= 10 else [rf"[ :h.]+0 ?{minute}"]
    if minute == 0:
        minutes = [r"[ :h.]+00(?: *uhr)?", "(?: *(?:oclock|uhr|heures|h))?"]
    forms = [rf"(?:{'|'.join(map(str, clocks))})(?:{'|'.join(minutes)})"]
    forms += {30: [rf"half past {hour}"], 15: [rf"quarter (?:past|after) {hour}"]}.get(minute, [])
    forms += [rf"quarter to {hour % 12 + 1}"] if minute == 45 else []
    for match in re.finditer(rf"(?<![\d:])(?:{'|'.join(forms)})(?![\d:]| \d)\s*(am|pm)?\b", said):
        if match[1] is None or (match[1] == "pm") == afternoon:
            return True
    return False
