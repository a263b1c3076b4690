"""English number words: how numbers are said, and which digits people mean when they say them."""

from __future__ import annotations

import re
from collections.abc import Sequence

ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)  # fmt: skip
TENS = (
    "zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
)  # fmt: skip
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_SCALES = ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth",
    "eight": "eighth", "nine": "ninth", "twelve": "twelfth",
}  # fmt: skip

DIGIT_OF = {word: str(digit) for digit, word in enumerate(ONES[:10])} | {"oh": "0", "o": "0"}
TEEN_OF = {word: str(value) for value, word in enumerate(ONES[10:], start=10)}
TENS_OF = {word: str(tens) for tens, word in enumerate(TENS) if tens > 1}
REPEATS = {"double": 2, "triple": 3}
SCALE_OF = {"hundred": 100, "thousand": 1000}


def cardinal(value: int) -> str:
    """Words for any integer below 10**12 in size."""
    if value < 0:
        return f"minus {cardinal(-value)}"
    if value < 20:
        return ONES[value]
    if value < 100:
        tens, ones = divmod(value, 10)
        return TENS[tens] + (f"-{ONES[ones]}" if ones else "")
    size, name = next(scale for scale in _SCALES if value >= scale[0])
    count, rest = divmod(value, size)
    return f"{cardinal(count)} {name}" + (f" {cardinal(rest)}" if rest else "")


def ordinal(day: int) -> str:
    """Words for a day of the month."""
    head, dash, last = cardinal(day).rpartition("-")
    if last.endswith("y"):
        return f"{last[:-1]}ieth"
    return head + dash + _ORDINALS.get(last, f"{last}th")


def year(value: int) -> str:
    century, rest = divmod(value, 100)
    if century % 10 == 0 or not 10 <= century < 100:
        return cardinal(value)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def digit_groups(digits: str, size: int) -> list[str]:
    """Groups of at most `size`, as even as they can be, longer ones first: 417 283 for 417283."""
    count = -(-len(digits) // size)
    short, longer = divmod(len(digits), count)
    ends = [short * (i + 1) + min(i + 1, longer) for i in range(count)]
    return [digits[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def joined(run: str) -> str | None:
    """A run of numerals and number words as one string of digits; None for a lone word such as "one"."""
    tokens = re.findall(r"[a-z]{1,4}-?\d{2,}|\d+(?:,\d{3})*|[a-z]+", run, re.IGNORECASE)
    words = [token.lower() for token in tokens]
    if any(word in SCALE_OF for word in words):
        return from_cardinal([word for word in words if word != "and"])
    if len(words) == 1 and words[0].isalpha():
        return None
    digits, repeat = "", 1
    for position, word in enumerate(words):
        if word in REPEATS:
            repeat = REPEATS[word]
            continue
        if word in TENS_OF:
            following = words[position + 1] if position + 1 < len(words) else ""
            part = (
                TENS_OF[word]
                if following in DIGIT_OF and following not in ("oh", "o", "zero")
                else TENS_OF[word] + "0"
            )
        else:
            part = DIGIT_OF.get(word) or TEEN_OF.get(word) or tokens[position].replace(",", "")
        digits += "" if word == "and" else part * repeat
        repeat = 1
    return digits or None


def from_cardinal(words: Sequence[str]) -> str | None:
    """ "four thousand one hundred seventy two" as 4172; None with a word in it that is no number."""
    total = group = 0
    for word in words:
        value = DIGIT_OF.get(word) or TEEN_OF.get(word) or (word if word.isdigit() else None)
        if word in TENS_OF:
            group += int(TENS_OF[word]) * 10
        elif word == "hundred":
            group = (group or 1) * 100
        elif word == "thousand":
            total, group = total + (group or 1) * 1000, 0
        elif value is not None:
            group += int(value)
        else:
            return None
    return str(total + group)
