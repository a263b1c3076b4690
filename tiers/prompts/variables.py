"""The typed variables of a prompt: each checks what came and turns it into something speakable."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tiers.prompts.speakable import Speakable, Spoken, clean

MAX_INTEGER = 10**12 - 1


class _Variable(BaseModel):
    """A declaration in a catalogue. `say` raises ValueError for a value that is not of the type."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = ""

    def expected(self, language: str) -> str:
        """What a caller should send, for an error message."""
        raise NotImplementedError

    def say(self, value: object, speakable: Speakable, language: str) -> Spoken:
        raise NotImplementedError


class Text(_Variable):
    type: Literal["text"]
    max_length: int = Field(300, gt=0)

    def expected(self, language: str) -> str:
        return f"text of 1 to {self.max_length} characters with something to say in it"

    def say(self, value: object, speakable: Speakable, language: str) -> Spoken:
        text = _plain(value, self.max_length)
        return Spoken(text, text)


class Integer(_Variable):
    type: Literal["integer"]
    minimum: int = Field(-MAX_INTEGER, ge=-MAX_INTEGER)
    maximum: int = Field(MAX_INTEGER, le=MAX_INTEGER)

    def expected(self, language: str) -> str:
        return f"a whole number from {self.minimum} to {self.maximum}"

    def say(self, value: object, speakable: Speakable, language: str) -> Spoken:
        number = int(_match(r"[+-]?\d{1,13}", value)[0])
        if not self.minimum <= number <= self.maximum:
            raise ValueError("out of range")
        return speakable.integer(number)


class Money(_Variable):
    type: Literal["money"]
    currencies: tuple[str, ...] = ()
    """Codes that may come; () allows all that the language has names for."""

    def expected(self, language: str) -> str:
        example = f"12.50 {self.currencies[0]}" if self.currencies else "12.50 USD"
        among = f", in {', '.join(self.currencies)}" if self.currencies else ""
        return f'an amount and a currency code such as "{example}"{among}'

    def say(self, value: object, speakable: Speakable, language: str) -> Spoken:
        match = _match(r"(-?)(\d{1,3}(?:,\d{3})*|\d{1,12})(\.\d{1,2})? ?([A-Z]{3})", value)
        sign, whole, fraction, currency = match.groups()
        if currency not in (self.currencies or speakable.currencies) or len(whole) > len("999,999,999,999"):
            raise ValueError("no such currency, or too much of it")
        if fraction and not speakable.currencies[currency].minor_one:
            raise ValueError("a currency without a smaller unit")
        return speakable.money(Decimal(f"{sign}{whole.replace(',', '')}{fraction or ''}"), currency)


class Date(_Variable):
    type: Literal["date"]

    def expected(self, language: str) -> str:
        return 'a date as "2026-11-23"'

    def say(self, value: object, speakable: Speakable, language: str) -> Spoken:
        if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
            return speakable.date(value)
        return speakable.date(dt.date.fromisoformat(_match(r"\d{4}-\d\d-\d\d", value)[0]))


class Time(_Variable):
    type: Literal["time"]

    def expected(self, language: str) -> str:
        return 'a time of day as "14:30"'

    def say(self, value: object, speakable: Speakable, language: str) -> Spoken:
        if isinstance(value, dt.time):
            return speakable.time(value)
        return speakable.time(dt.time.fromisoformat(_match(r"\d\d:\d\d", value)[0]))


class Phone(_Variable):
    type: Literal["phone"]

    def expected(self, language: str) -> str:
        return 'a phone number of 3 to 15 digits such as "+1 415 555 0132"'

    def say(self, value: object, speakable: Speakable, language: str) -> Spoken:
        number = _match(r"\+?[\d().\- ]+", value)[0]
        if not 3 <= sum(char.isdigit() for char in number) <= 15:
            raise ValueError("too short or too long")
        return speakable.phone(number)


class SpelledId(_Variable):
    type: Literal["spelled_id"]
    max_length: int = Field(32, gt=0)

    def expected(self, language: str) -> str:
        return f"an id of 1 to {self.max_length} letters and digits, with - / . _ or spaces between them"

    def say(self, value: object, speakable: Speakable, language: str) -> Spoken:
        spelled = _match(r"#?([A-Za-z0-9]+(?:[-/. _]+[A-Za-z0-9]+)*)", value)[1]
        if len(spelled) > self.max_length:
            raise ValueError("too long")
        return speakable.spelled(spelled)


class Enum(_Variable):
    """One of the keys of `wording`, in any case and with spaces or dashes for underscores.

    With `other`, any further text is allowed and is said in its place of ``{value}``.
    """

    type: Literal["enum"]
    wording: dict[str, dict[str, str]]
    """Language to key to words."""
    other: dict[str, str] = Field(default_factory=dict)
    max_length: int = Field(100, gt=0)

    def expected(self, language: str) -> str:
        known = "one of " + ", ".join(self.wording[language])
        return f"{known}, or text of 1 to {self.max_length} characters" if language in self.other else known

    def say(self, value: object, speakable: Speakable, language: str) -> Spoken:
        text = _plain(value, self.max_length).rstrip(" .")
        words = self.wording[language].get(re.sub(r"[\s-]+", "_", text.lower()))
        if words is None:
            words = self.other[language].replace("{value}", text) if language in self.other else None
        if words is None:
            raise ValueError("not one of the known values")
        return Spoken(words, words)


Variable = Annotated[
    Text | Integer | Money | Date | Time | Phone | SpelledId | Enum, Field(discriminator="type")
]


def _plain(value: object, max_length: int) -> str:
    """Text without its markup; the limit holds for what came as well as for what is said."""
    if not isinstance(value, str) or len(value) > max_length:
        raise ValueError("not text, or too long")
    text = clean(value)
    if not any(char.isalnum() for char in text):
        raise ValueError("nothing to say")
    return text


def _match(pattern: str, value: object) -> re.Match[str]:
    """`value`, a string or a JSON number without a fraction, as a whole match of ASCII `pattern`."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    match = re.fullmatch(pattern, value.strip(), re.ASCII) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not of this type")
    return match
