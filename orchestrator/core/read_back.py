"""What is about to happen, said so that a caller can agree to it; and whether some words have said it.

Nothing is confirmed unread: what a tool's own wording does not say is appended.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from orchestrator.core.amounts import spoken_currency
from orchestrator.core.entities import flat
from orchestrator.core.entity_finding import Entity
from orchestrator.core.entity_spoken import spoken
from orchestrator.core.said_values import is_said, mentions
from orchestrator.core.spoken_dates import moment, spoken_moment
from orchestrator.core.tools import Tool
from orchestrator.core.value_shapes import Shape, figures, shape_of, words_of
from orchestrator.protocol.number_words import ONES, cardinal

_FRAMES = {
    "en": ("I am about to {}.", "To confirm: {}.", "Is that right?", "I need a clear yes or no."),
    "de": ("Zur Bestätigung: {}.", "{}.", "Ist das richtig?", "Ich brauche ein klares Ja oder Nein."),
    "es": ("Para confirmar: {}.", "{}.", "¿Es correcto?", "Necesito un sí o un no claro."),
    "fr": ("Pour confirmer : {}.", "{}.", "C'est bien ça ?", "Il me faut un oui ou un non clair."),
}
_BOOLEANS = {"en": ("yes", "no"), "de": ("ja", "nein"), "es": ("sí", "no"), "fr": ("oui", "non")}
_NOTHING = {"en": "nothing", "de": "nichts", "es": "nada", "fr": "rien"}
_SLOT = re.compile(r"\{([\w.]+)\}")


def readback(tool: Tool, arguments: Mapping[str, Any], language: str = "en") -> str:
    """The sentences that ask a caller to agree: "I am about to cancel order 4 1 7 2. Is that right?".

    Every value is in them. Languages without words here get the English ones.
    """
    action, as_is, question, _ = _frame(language)
    body = _body(tool, arguments, language)
    sentence = body if body.endswith("?") else (as_is if body[:1].isupper() else action).format(body)
    missing = unread(sentence, tool, arguments)
    for path, value in flat(arguments):
        if path in missing:
            sentence += f" {_label(path)}: {_say(tool, path, value, language).rstrip(' .')}."
    return sentence if sentence.endswith("?") else f"{sentence} {question}"


def again(tool: Tool, arguments: Mapping[str, Any], language: str = "en") -> str:
    """The same after an answer that was neither a yes nor a no."""
    return f"{_frame(language)[3]} {readback(tool, arguments, language)}"


def was_read_back(words: str, tool: Tool, arguments: Mapping[str, Any]) -> bool:
    """Whether words that the assistant said, in whatever wording, hold every value of a call.

    Without any value they have to name what the tool does.
    """
    missing = unread(words, tool, arguments)
    told = [value for path, value in flat(arguments) if shape_of(tool, path, value) is not Shape.NOTHING]
    return not missing and (bool(told) or mentions(words, f"{tool.name} {_SLOT.sub('', tool.readback)}"))


def unread(words: str, tool: Tool, arguments: Mapping[str, Any]) -> list[str]:
    """Paths of the values that the words do not hold."""
    return is_said(words, [(path, value, shape_of(tool, path, value)) for path, value in flat(arguments)])


def _frame(language: str) -> tuple[str, str, str, str]:
    return _FRAMES.get(language.split("-")[0].lower(), _FRAMES["en"])


def _body(tool: Tool, arguments: Mapping[str, Any], language: str) -> str:
    """The tool's wording with the values in it; its name where it has none, or wants values that are not there."""
    slots = _SLOT.findall(tool.readback)
    given = flat(arguments)
    if not tool.readback or any(not _under(slot, given) for slot in slots):
        return words_of(tool.name)

    def fill(match: re.Match[str]) -> str:
        return " and ".join(_say(tool, path, value, language) for path, value in _under(match[1], given))

    body = " ".join(_SLOT.sub(fill, tool.readback).split())
    return body.rstrip(" .") or words_of(tool.name)


def _under(slot: str, given: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return [(path, value) for path, value in given if path == slot or path.startswith(f"{slot}.")]


def _label(path: str) -> str:
    """ "items.0.product" as "Items 1 product"."""
    words = [str(int(part) + 1) if part.isdecimal() else words_of(part) for part in path.split(".")]
    label = " ".join(words).capitalize()
    return label if label[:1].isalpha() else f"Item {label}".strip()


def _say(tool: Tool, path: str, value: Any, language: str) -> str:
    shape, short = shape_of(tool, path, value), language.split("-")[0].lower()
    if shape is Shape.NOTHING:
        return _NOTHING.get(short, "nothing")
    if shape is Shape.BOOLEAN:
        return _BOOLEANS.get(short, _BOOLEANS["en"])[not value]
    if shape is Shape.NUMBER:
        return _number(value, english=short not in _FRAMES or short == "en")
    if shape is Shape.MOMENT and (at := moment(value)) is not None:
        return spoken_moment(at, language)
    if shape is Shape.CURRENCY:
        return spoken_currency(value)
    if shape is Shape.TEXT:
        return " ".join(re.sub(r"[*_#<>|~^{}\[\]\\`\"]", " ", str(value)).split())
    return spoken(Entity(shape.value), value, language)


def _number(value: float, *, english: bool) -> str:
    plain = figures(value)
    if not english or abs(value) >= 10**12:
        return plain
    whole, _, part = plain.lstrip("-").partition(".")
    words = cardinal(int(whole)) + (f" point {' '.join(ONES[int(digit)] for digit in part)}" if part else "")
    return f"minus {words}" if value < 0 else words
