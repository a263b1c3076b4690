"""Words that were said against words that were heard: how many are wrong, and sentences to try it with.

Digits and number words are the same to this comparison, and each digit is a word: "four one seven two", "4172" and
"4,172" are all four words, of which a recogniser may get one wrong.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_DIGITS = "zero one two three four five six seven eight nine"
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TIES = "twenty thirty forty fifty sixty seventy eighty ninety"
_ONES = {word: str(value) for value, word in enumerate(_DIGITS.split())}
_NUMBERS = {**_ONES, "oh": "0", **{word: str(value) for value, word in enumerate(_TEENS.split(), 10)}}
_TENS = {word: str(tens) for tens, word in enumerate(_TIES.split(), 2)}
_SAME = {"mr": "mister", "mrs": "missus", "ok": "okay", "cannot": "can't"}
_TOKEN = re.compile(r"[a-z]+(?:'[a-z]+)*|\d+")


def words(text: str) -> list[str]:
    """Words as they are compared: small, without marks, numbers as single digits."""
    text = text.lower().replace("\u2019", "'").replace("%", " percent ")
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    text = re.sub(r"\$\s*(\d+)", r"\1 dollars", text)
    tokens = _TOKEN.findall(text)
    found: list[str] = []
    skip = False
    for token, following in zip(tokens, [*tokens[1:], ""], strict=False):
        if skip:
            skip = False
        elif token in _TENS:
            skip = following in _ONES and following != "zero"
            found += [_TENS[token], _ONES[following] if skip else "0"]
        elif token in _NUMBERS or token.isdigit():
            found += _NUMBERS.get(token, token)
        else:
            found.append(_SAME.get(token, token))
    return found


def errors(said: Sequence[str], heard: Sequence[str]) -> int:
    """Words to replace, leave out or put in, at the least, to make one of the other (Levenshtein)."""
    row = list(range(len(heard) + 1))
    for position, word in enumerate(said, 1):
        above, row[0] = row[0], position
        for column, other in enumerate(heard, 1):
            above, row[column] = (
                row[column],
                min(row[column] + 1, row[column - 1] + 1, above + (word != other)),
            )
    return row[-1]


@dataclass(frozen=True, slots=True)
class Spoken:
    """A sentence to synthesise. `speed` is a share of the voice's own."""

    text: str
    voice: str
    speed: float


_NAMES = "Anna Baker/Daniel Cooper/Maria Lopez/Peter Young/Susan Clark/Robert Hill/Laura Bennett/James Foster"
_DAYS = "Monday/Tuesday/Wednesday/Thursday/Friday/Saturday"
_THINGS = "kettle/blue jacket/phone case/garden chair/reading lamp/coffee machine/pair of shoes/desk"
_STREETS = "Maple Street/Church Road/Park Avenue/Station Road/Mill Lane/High Street"
_TEMPLATES = (
    "Hello, I would like to know where my order is.",
    "My order number is {digits}.",
    "Could you tell me when the {thing} will be delivered?",
    "I ordered a {thing} last {day} and it has not arrived.",
    "The {thing} was broken when I opened the box.",
    "Can I send the {thing} back and get a refund?",
    "Yes, please go ahead.",
    "No, that is not what I said.",
    "My name is {name}.",
    "I live at {number} {street}.",
    "Please change my appointment to {day} at {hour}.",
    "Is there anything free on {day} afternoon?",
    "I paid {number} dollars for it.",
    "What are your opening hours on {day}?",
    "I need to cancel my booking for {day}.",
    "You can reach me at {digits}.",
    "Sorry, the number is {digits}, not {digits}.",
    "I have been waiting for {number} minutes.",
    "Can you hear me? The line is very bad.",
    "Thank you very much, that is all I wanted to know.",
    "Could I speak to a person, please?",
    "I think there is a mistake on my bill.",
    "How much does it cost to send it to {street}?",
    "The driver said that nobody was at home.",
    "I would like two of them, in a larger size if you have it.",
    "Please send the receipt to my wife, {name}.",
    "It should have come on {day}, before {hour}.",
    "Could you repeat that more slowly, please?",
)


def sentences(count: int, voices: Sequence[str], dice: random.Random) -> Iterator[Spoken]:
    """So many different sentences of callers, in voices that change. The same dice throw the same."""
    seen: set[str] = set()
    for number in itertools.count():
        if len(seen) == count:
            return
        text = _TEMPLATES[number % len(_TEMPLATES)].replace("{digits}", "{}")
        while "{}" in text:
            text = text.replace("{}", " ".join(dice.choices(_DIGITS.split(), k=4)), 1)
        text = text.format(
            thing=dice.choice(_THINGS.split("/")),
            day=dice.choice(_DAYS.split("/")),
            name=dice.choice(_NAMES.split("/")),
            street=dice.choice(_STREETS.split("/")),
            number=dice.randint(11, 99),
            hour=f"{dice.choice(_DIGITS.split()[1:])} o'clock",
        )
        said = Spoken(text, voices[number % len(voices)], round(dice.uniform(0.9, 1.15), 2))
        # What has no blanks is said once in each round of templates, by other voices.
        key = f"{text} {said.voice}"
        if key not in seen:
            seen.add(key)
            yield said
