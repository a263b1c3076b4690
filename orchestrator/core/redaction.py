"""What must not stand in a log is taken out of it: values by their name, card numbers and keys wherever they stand."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

REDACTED = "[redacted]"
"""What stands in the place of what was taken out."""

SECRET_NAMES = (
    "password",
    "passcode",
    "pin",
    "cvv",
    "cvc",
    "card_number",
    "secret",
    "token",
    "api_key",
    "ssn",
    "otp",
)
"""Names whose values are taken out unless others are configured."""

_DEPTH = 20
_SHORTEST_IN_TEXT = 3
"""Characters of a secret that is looked for in a text: a shorter one would be found in any."""
_CARD_DIGITS = range(13, 20)
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
"""The sum of the digits of a doubled digit."""
_LONG_NUMBER = 100
_LONG_RUN = 500
_NAMES_KNOWN = 4096
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_NUMBERS = re.compile(r"[0-9]+(?:[\s.,/\u2013-]{1,2}[0-9]+)*")
_DIGITS = re.compile(r"[0-9]+")
_KEY = re.compile(
    r"""
      \b(?:sk|pk|rk|whsec|xox[a-z]|gh[a-z])[-_][A-Za-z0-9_+/=-]{8,}   # OpenAI, Stripe, Slack, GitHub and their like
    | \bgithub_pat_\w{8,}
    | \bA(?:KIA|SIA)[0-9A-Z]{16}\b
    | \bAIza[\w-]{30,}
    | \b(?:ek|vo_[0-9a-z]+)_[\w-]{8,}                                  # our own: credentials and keys
    | (?<=://)[^\s/@]+(?=@)                                           # who logs in, in an address
    | \beyJ[\w-]{8,}\.[\w-]+\.[\w-]*                                  # a JSON Web Token
    | (?<=[Bb]earer\s)[\w.~+/=-]{8,}
    | -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY-----.*?(?:-----END[ ][A-Z ]*PRIVATE[ ]KEY-----|\Z)
    """,
    re.VERBOSE | re.DOTALL,
)


class Redactor:
    """`names`: what secrets are called. ``card_number`` is ``cardNumber`` and ``new-card-number`` too.

    `values`: secrets that are known, wherever they stand and whatever they look like.
    """

    def __init__(self, names: Iterable[str] = SECRET_NAMES, values: Iterable[str] = ()) -> None:
        # The longest first: one may be a part of another.
        self._values = sorted(filter(None, values), key=len, reverse=True)
        self._names = [words for name in names if (words := _words(name))]
        self._known = lru_cache(_NAMES_KNOWN)(self._is_secret)

    def redact(self, value: Any) -> Any:
        """JSON data without its secrets, nor anything that repeats one of them. What is no JSON becomes text."""
        return self._redact(value, self._secrets(value), 0)

    def text(self, text: str) -> str:
        """A text without card numbers and keys."""
        for value in self._values:
            text = text.replace(value, REDACTED)
        return _NUMBERS.sub(_without_cards, _KEY.sub(REDACTED, text))

    def is_secret(self, name: str) -> bool:
        """Whether an argument of that name is not to be shown."""
        return self._known(name)

    def _is_secret(self, name: str) -> bool:
        words = _words(name)
        joined = "".join(words)
        return any(
            joined == "".join(secret)
            or any(words[at : at + len(secret)] == secret for at in range(len(words)))
            for secret in self._names
        )

    def _redact(self, value: Any, secrets: re.Pattern[str] | None, depth: int) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            return _number(value)
        if depth > _DEPTH:
            return REDACTED
        if isinstance(value, Mapping):
            return {
                self._text(str(name), secrets): REDACTED
                if entry is not None and self.is_secret(str(name))
                else self._redact(entry, secrets, depth + 1)
                for name, entry in value.items()
            }
        if isinstance(value, Sequence | set | frozenset) and not isinstance(value, str | bytes):
            return [self._redact(entry, secrets, depth + 1) for entry in value]
        return self._text(str(value), secrets)

    def _text(self, text: str, secrets: re.Pattern[str] | None) -> str:
        return self.text(secrets.sub(REDACTED, text) if secrets is not None else text)

    def _secrets(self, value: Any) -> re.Pattern[str] | None:
        """Finds where texts repeat the values that stand under secret names, as words of their own."""
        found = sorted(set(self._secrets_in(value, 0)), key=len, reverse=True)
        if not found:
            return None
        return re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(map(re.escape, found))})(?![A-Za-z0-9])")

    def _secrets_in(self, value: Any, depth: int) -> Iterator[str]:
        if depth > _DEPTH or isinstance(value, str):
            return
        if isinstance(value, Mapping):
            for name, entry in value.items():
                if self.is_secret(str(name)):
                    yield from _leaves(entry, depth)
                else:
                    yield from self._secrets_in(entry, depth + 1)
        elif isinstance(value, Sequence):
            for entry in value:
                yield from self._secrets_in(entry, depth + 1)


def _leaves(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, Sequence) and not isinstance(value, str):
        for entry in value if depth <= _DEPTH else ():
            yield from _leaves(entry, depth + 1)
    elif value is not None and not isinstance(value, bool) and len(str(value)) >= _SHORTEST_IN_TEXT:
        yield str(value)


def _number(value: float) -> float | str:
    """As JSON has it, and no card's."""
    if not math.isfinite(value):
        return str(value)
    return REDACTED if value == int(value) and _is_card(str(abs(int(value)))) else value


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


def _is_card(digits: str) -> bool:
    """13 to 19 digits whose last one is right by Luhn's formula."""
    if len(digits) not in _CARD_DIGITS or digits.startswith("0"):
        return False
    values = [int(digit) for digit in reversed(digits)]
    return (sum(values[::2]) + sum(_DOUBLED[value] for value in values[1::2])) % 10 == 0


def _without_cards(found: re.Match[str]) -> str:
    """Digits and what stands between them, without the card numbers. These may have other numbers beside them.

    Very long ones are not looked through, which would take long: they go as a whole.
    """
    text = found[0]
    if len(text) > _LONG_RUN:
        return REDACTED
    groups = [(group.start(), group.end()) for group in _DIGITS.finditer(text)]
    kept, position, first = [], 0, 0
    while first < len(groups):
        last = _card_from(text, groups, first)
        if last is None:
            first += 1
            continue
        kept += [text[position : groups[first][0]], REDACTED]
        position, first = groups[last][1], last + 1
    return "".join([*kept, text[position:]])


def _card_from(text: str, groups: Sequence[tuple[int, int]], first: int) -> int | None:
    """The last of the groups of digits that make up a card number together, the longest one; None if none do."""
    digits, found = "", None
    for place in range(first, len(groups)):
        digits += text[groups[place][0] : groups[place][1]]
        if len(digits) > _CARD_DIGITS[-1]:
            return found if found is not None or place > first or not _hides_card(digits) else place
        if _is_card(digits):
            found = place
    return found


def _hides_card(digits: str) -> bool:
    """Whether a number too long for a card has one in it, as nearly every very long one has."""
    return len(digits) > _LONG_NUMBER or any(
        _is_card(digits[start : start + length])
        for length in _CARD_DIGITS
        for start in range(len(digits) - length + 1)
    )
