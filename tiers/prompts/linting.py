"""What is wrong with prompts, or likely to be, before a caller hears it."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from tiers.prompts import variables as kinds
from tiers.prompts.catalogue import CatalogueInvalid, Prompt, all_tables, parse
from tiers.prompts.pieces import inventory
from tiers.prompts.speakable import clean

LONGEST_SENTENCE = 180
"""Characters between two marks: engines cut what is longer, and not always where a speaker would."""
LONGEST_TEXT = 400
"""Characters that a variable may have and still be listened to."""
MOST_PIECES = 2_000
"""More clips than that take an engine of one core half an hour a voice."""
_PLAIN = re.compile(r"[^\w\s.,;:!?'\"()\-\u2018\u2019\u201c\u201d\u2026\u2013\u2014\u0964\u00bf\u00a1]")
_SHOUTED = re.compile(r"\b[A-Z]{2,}\b")
_DIGITS = re.compile(r"\d")
_MARKS = re.compile(r"[.,;:!?\u2026\u2013\u2014\u0964]")


class Severity(Enum):
    ERROR = "error"
    """The catalogue cannot be used."""
    WARNING = "warning"
    """It can, and somebody is likely to hear something wrong, or nothing."""
    NOTE = "note"
    """Worth knowing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`where`: a prompt, or a part of it; "" is the whole catalogue."""

    severity: Severity
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.severity.value}: {f'{self.where}: ' if self.where else ''}{self.message}"


def lint(*paths: Path, over: Mapping[str, Any] | None = None, languages: Sequence[str] = ()) -> list[Finding]:
    """All that is to be said of a catalogue, prompt by prompt, errors first. `languages`: what callers speak."""
    try:
        tables = all_tables(*paths, over=over or {})
    except CatalogueInvalid as error:
        return [Finding(Severity.ERROR, "", str(error))]
    found: list[Finding] = []
    for name, table in tables.items():
        try:
            prompt = parse(name, table)
        except CatalogueInvalid as error:
            message = str(error).removeprefix(f"prompt {name}").lstrip(":, ")
            found.append(Finding(Severity.ERROR, name, message))
            continue
        found += _prompt(name, prompt, languages)
    return sorted(found, key=lambda finding: list(Severity).index(finding.severity))


def _prompt(name: str, prompt: Prompt, languages: Sequence[str]) -> Iterator[Finding]:
    written = {language.replace("_", "-").lower() for language in prompt.text}
    for wanted in languages:
        tag = wanted.replace("_", "-").lower()
        if not {tag, tag.partition("-")[0]} & written:
            instead = "a tone" if prompt.bridge else "English" if "en" in written else "another language"
            message = f"is not written in {wanted!r}, so its callers hear {instead}; add text.{wanted}"
            yield Finding(Severity.WARNING, name, message)
    for language, template in prompt.text.items():
        where = f"{name}.text.{language}"
        yield from _spoken(where, "".join(literal for literal, *_ in string.Formatter().parse(template)))
        fields = {field for _, field, _, _ in string.Formatter().parse(template) if field}
        for unused in sorted(prompt.variables.keys() - fields):
            message = f"the variable {unused} is asked for and not said; use it, or leave it out"
            yield Finding(Severity.WARNING, where, message)
        if prompt.bridge and template[:1].lower() == "s":
            message = "begins with an s, of which a telephone carries little; begin with another sound"
            yield Finding(Severity.NOTE, where, message)
    for variable, kind in prompt.variables.items():
        yield from _variable(f"{name}.variables.{variable}", kind, stitched=prompt.render == "stitched")
    if prompt.render == "stitched":
        yield from _stitched(name, prompt)


def _spoken(where: str, text: str) -> Iterator[Finding]:
    """What an engine may stumble over in words that are written to be read."""
    said = re.sub(r"\s+", " ", text).strip()
    if clean(text) != said:
        message = (
            f"holds markup or an address, of which only {clean(text)!r:.80} is said; write it as it is spoken"
        )
        yield Finding(Severity.WARNING, where, message)
    elif signs := sorted(set(_PLAIN.findall(said)) - _accents(said)):
        message = f"engines differ in what they make of {' '.join(signs)}; write it as words"
        yield Finding(Severity.WARNING, where, message)
    if _DIGITS.search(said):
        yield Finding(
            Severity.WARNING, where, "engines differ in how they read figures; write numbers as words"
        )
    for word in dict.fromkeys(_SHOUTED.findall(said)):
        message = (
            f"{word} may be spelled or be read as a word; write it in small letters, or with spaces (A B C)"
        )
        yield Finding(Severity.NOTE, where, message)
    longest = max((len(part) for part in _MARKS.split(said)), default=0)
    if longest > LONGEST_SENTENCE:
        message = f"says {longest} characters in one breath; put a comma or a full stop into it"
        yield Finding(Severity.WARNING, where, message)


def _accents(text: str) -> set[str]:
    """Marks of writing that are no letters by themselves: vowel signs of Devanagari, for example."""
    return {
        char
        for char in text
        if (not char.isascii() and not char.isprintable()) or "\u0900" <= char <= "\u0dff"
    }


def _variable(where: str, kind: kinds.Variable, *, stitched: bool) -> Iterator[Finding]:
    match kind:
        case kinds.Text() if kind.max_length > LONGEST_TEXT:
            message = f"lets {kind.max_length} characters be said, which is {kind.max_length // 15} seconds and more"
            yield Finding(Severity.NOTE, where, message)
        case kinds.Integer() if (
            "minimum" not in kind.model_fields_set or "maximum" not in kind.model_fields_set
        ):
            message = "has no bounds, so that a slip is read aloud; give minimum and maximum"
            yield Finding(Severity.WARNING, where, message)
        case kinds.Money() if stitched and not kind.currencies:
            message = "is said in all currencies; currencies = [...] makes fewer clips"
            yield Finding(Severity.NOTE, where, message)
        case kinds.Enum() if stitched and kind.other:
            message = "values beyond its wording are said whole, which takes an engine while somebody waits"
            yield Finding(Severity.NOTE, where, message)
    if isinstance(kind, kinds.Enum):
        for language, wording in kind.wording.items():
            for key, words in wording.items():
                yield from _spoken(f"{where}.wording.{language}.{key}", words)


def _stitched(name: str, prompt: Prompt) -> Iterator[Finding]:
    if not prompt.variables:
        message = "is stitched and has no variables; one synthesis sounds better and costs the same"
        yield Finding(Severity.WARNING, name, message)
        return
    for language, template in prompt.text.items():
        count = len(inventory(template, prompt.variables, language))
        severity = Severity.WARNING if count > MOST_PIECES else Severity.NOTE
        yield Finding(severity, f"{name}.text.{language}", f"is put together from {count} clips")
