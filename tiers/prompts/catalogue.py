"""The fixed prompts: names, languages, templates with typed variables, and clear errors for wrong ones."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tiers.prompts import variables as kinds
from tiers.prompts.pieces import UNBOUNDED, Piece, Spot, inventory, pieces_of
from tiers.prompts.sources import CatalogueInvalid as CatalogueInvalid
from tiers.prompts.sources import PromptError as PromptError
from tiers.prompts.sources import merged, read_tables
from tiers.prompts.speakable import SPEAKABLE, Spoken
from tiers.prompts.variables import Variable

BUILT_IN = Path(__file__).with_name("catalogue.toml")
DEFAULT_LANGUAGE = "en"
SHOWN = 60
"""Characters of a wrong value that an error repeats."""


class UnknownPrompt(PromptError):
    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"there is no prompt {name!r}; there are {', '.join(known)}")


class UnknownLanguage(PromptError):
    def __init__(self, name: str, language: str, known: list[str]) -> None:
        super().__init__(f"prompt {name} is not written in {language!r}; it is in {', '.join(known)}")


class Problem(Enum):
    MISSING = "missing"
    UNKNOWN = "unknown"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class VariableError:
    """What is wrong with one variable: what its prompt expects there, and what came (shortened)."""

    variable: str
    problem: Problem
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.variable} ({self.problem.value}): expected {self.expected}, got {self.got}"


class VariablesInvalid(PromptError):
    """Every variable that is missing, unknown or not of its type, at once in `errors`."""

    def __init__(self, prompt: str, errors: tuple[VariableError, ...]) -> None:
        super().__init__(f"prompt {prompt}: " + "; ".join(map(str, errors)))
        self.prompt = prompt
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Line:
    """A prompt with its variables filled in: `text` for a transcript, `spoken` for an engine."""

    name: str
    language: str
    text: str
    spoken: str
    spots: tuple[Spot, ...] = ()
    """What it is put together from; nothing where it is to be said whole."""
    keep_s: float | None = None
    """Seconds that its clip may be kept: 0 nowhere, None for as long as there is room."""
    voice: str = ""
    """The prompt's own; "" is the default one."""
    speed: float = 1.0


class Prompt(BaseModel):
    """One prompt as a catalogue file declares it. `text` is a template per language."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = ""
    version: str = Field("1", min_length=1, max_length=40)
    """For people and their tools: what is heard is kept by its content."""
    bridge: bool = False
    voice: str = ""
    """The voice it is said in where nobody asks for another."""
    speed: float = Field(1.0, ge=0.5, le=2.0)
    """Of the natural one; a speed that is asked for multiplies it."""
    render: Literal["whole", "stitched"] = "whole"
    """As one synthesis, or from clips of its carriers and of all values that its variables can have."""
    cacheable: bool = True
    """Whether its sound may be kept at all."""
    ttl_s: float | None = Field(None, gt=0)
    """Seconds that its sound may be kept."""
    text: dict[str, str] = Field(min_length=1)
    variables: dict[str, Variable] = Field(default_factory=dict)

    @property
    def is_stitched(self) -> bool:
        """Without variables there is nothing to be put together."""
        return self.render == "stitched" and bool(self.variables)

    @property
    def keep_s(self) -> float | None:
        return self.ttl_s if self.cacheable else 0.0


class Catalogue:
    """Prompts by name. `Catalogue.load` reads the built-in ones and an operator's files over them."""

    def __init__(self, prompts: Mapping[str, Prompt]) -> None:
        self._prompts = dict(prompts)

    @classmethod
    def load(cls, *paths: Path, over: Mapping[str, Any] = MappingProxyType({})) -> Catalogue:
        """Built-in prompts, then each file's tables merged over them, then `over`, which is of the same shape.

        A key given again replaces the old. A file can add prompts, translate or reword the built-in ones, and change
        the limits of a variable.
        """
        tables = all_tables(*paths, over=over)
        return cls({name: parse(name, table) for name, table in tables.items()})

    def __iter__(self) -> Iterator[str]:
        return iter(self._prompts)

    def __getitem__(self, name: str) -> Prompt:
        if name not in self._prompts:
            raise UnknownPrompt(name, list(self._prompts))
        return self._prompts[name]

    def is_constant(self, name: str) -> bool:
        """Whether there is a prompt by that name which needs no variables."""
        return name in self._prompts and not self._prompts[name].variables

    def constant(self) -> Iterator[Line]:
        """Every prompt that needs no variables and is no bridge, in each of its languages."""
        for name, prompt in self._prompts.items():
            if not prompt.variables and not prompt.bridge:
                for language in prompt.text:
                    yield self.fill(name, {}, language)

    def bridges(self, language: str) -> Iterator[Line]:
        """The bridges that are written in `language`, or for de-AT in de."""
        for name, prompt in self._prompts.items():
            if prompt.bridge and (written := self.written(name, language)):
                yield self.fill(name, {}, written)

    def bridge_languages(self) -> list[str]:
        """The languages in which there is a bridge."""
        return sorted({language for p in self._prompts.values() if p.bridge for language in p.text})

    def bridge_texts(self) -> frozenset[str]:
        """The words of every bridge in every language, as transcripts have them. A tone has no words."""
        return frozenset(text for p in self._prompts.values() if p.bridge for text in p.text.values())

    def written(self, name: str, language: str) -> str | None:
        """The language of the prompt's text for a speaker of `language`: itself, de for de-AT, else None."""
        written = {_tag(key): key for key in self[name].text}
        return written.get(_tag(language)) or written.get(_base(language))

    def nearest(self, name: str, language: str) -> str:
        """The language to say a prompt in to a speaker of `language`: itself, de for de-AT, else English."""
        text = self[name].text
        written = self.written(name, language)
        return written or (DEFAULT_LANGUAGE if DEFAULT_LANGUAGE in text else next(iter(text)))

    def stitched(self) -> Iterator[tuple[str, str]]:
        """Names and languages of the prompts that are put together from pieces."""
        for name, prompt in self._prompts.items():
            if prompt.is_stitched:
                yield from ((name, language) for language in prompt.text)

    def pieces(self, name: str, language: str) -> set[Piece]:
        """All that a stitched prompt can be put together from."""
        return inventory(self[name].text[language], self[name].variables, language)

    def fill(
        self, name: str, variables: Mapping[str, object] | None = None, language: str = DEFAULT_LANGUAGE
    ) -> Line:
        """The prompt with `variables` in it; raises a `PromptError` that says all that is wrong with them."""
        prompt, given = self[name], variables or {}
        written = self.written(name, language)
        if written is None:
            raise UnknownLanguage(name, language, list(prompt.text))
        language = written
        said = _say_all(name, prompt, given, language)
        template = prompt.text[language]
        words = {key: value.words for key, value in said.items()}
        spots = pieces_of(template, words, prompt.variables) if prompt.is_stitched else ()
        return Line(
            name,
            language,
            template.format_map({key: value.text for key, value in said.items()}),
            template.format_map(words),
            spots,
            prompt.keep_s,
            prompt.voice,
            prompt.speed,
        )


def _say_all(name: str, prompt: Prompt, given: Mapping[str, object], language: str) -> dict[str, Spoken]:
    said: dict[str, Spoken] = {}
    errors = []
    for key, kind in prompt.variables.items():
        if key not in given:
            errors.append(VariableError(key, Problem.MISSING, kind.expected(language), "nothing"))
            continue
        try:
            said[key] = kind.say(given[key], SPEAKABLE[_base(language)], language)
        except ValueError:
            errors.append(VariableError(key, Problem.INVALID, kind.expected(language), _shown(given[key])))
    known = f"only {', '.join(prompt.variables)}" if prompt.variables else "no variables"
    for key in sorted(given.keys() - prompt.variables.keys()):
        errors.append(VariableError(_shortened(key), Problem.UNKNOWN, known, _shown(given[key])))
    if errors:
        raise VariablesInvalid(name, tuple(errors))
    return said


def _tag(language: str) -> str:
    return language.replace("_", "-").lower()


def _base(language: str) -> str:
    return _tag(language).partition("-")[0]


def _shown(value: object) -> str:
    return _shortened(repr(value))


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text)} characters)"


def all_tables(*paths: Path, over: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """What is declared of each prompt, all files together. Raises `CatalogueInvalid`."""
    tables = built_in = read_tables(BUILT_IN)
    for above in (*map(read_tables, paths), dict(over)):
        tables = merged(tables, above)
    for name, table in built_in.items():
        variables, given = table.get("variables", {}), tables[name]
        named = given.get("variables", {}) if isinstance(given, dict) else {}
        if extra := set(named if isinstance(named, dict) else ()) - set(variables):
            raise CatalogueInvalid(
                f"prompt {name}: {', '.join(sorted(extra))} cannot be added, because calls use this "
                f"prompt with {', '.join(sorted(variables)) or 'no variables'}; name yours otherwise"
            )
    return tables


def parse(name: str, table: Any) -> Prompt:
    """The prompt that a table declares. Raises `CatalogueInvalid`."""
    try:
        prompt = Prompt.model_validate(table)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'table'}: {problem['msg']}" for problem in error.errors()
        )
        raise CatalogueInvalid(f"prompt {name}: {problems}") from error
    if prompt.bridge and prompt.variables:
        raise CatalogueInvalid(f"prompt {name}: a bridge is ready before the call, so it takes no variables")
    _check_rendering(name, prompt)
    for language, template in prompt.text.items():
        _check_template(f"prompt {name}, text.{language}", template, prompt, language)
    return prompt


def _check_rendering(name: str, prompt: Prompt) -> None:
    if not prompt.cacheable and (prompt.bridge or prompt.ttl_s is not None):
        other = "a bridge" if prompt.bridge else "ttl_s"
        raise CatalogueInvalid(
            f"prompt {name}: cacheable = false and {other} exclude each other; remove one of them"
        )
    if prompt.render == "stitched":
        for variable, kind in prompt.variables.items():
            if isinstance(kind, UNBOUNDED):
                raise CatalogueInvalid(
                    f"prompt {name}: variable {variable} is {kind.type}, whose values cannot all be said "
                    'beforehand; use another type (enum, spelled_id, …), or render = "whole"'
                )


def _check_template(where: str, template: str, prompt: Prompt, language: str) -> None:
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise CatalogueInvalid(f"{where}: {error}; write a variable as {{name}}") from error
    fields = [field for _, field, _, _ in parts if field is not None]
    plain = all(not spec and not conversion for _, _, spec, conversion in parts)
    if unknown := [field for field in fields if field not in prompt.variables]:
        raise CatalogueInvalid(f"{where}: {unknown[0]!r} is not among its variables")
    if not plain:
        raise CatalogueInvalid(
            f"{where}: variables take no format here; their type decides how they are said"
        )
    if not any(char.isalnum() for char in template):
        raise CatalogueInvalid(f"{where}: there is nothing to say in it")
    if prompt.variables and _base(language) not in SPEAKABLE:
        known = ", ".join(SPEAKABLE)
        raise CatalogueInvalid(f"{where}: variables can be said in {known} only, not in {language!r}")
    for variable, kind in prompt.variables.items():
        if isinstance(kind, kinds.Enum) and language not in kind.wording:
            raise CatalogueInvalid(f"{where}: variable {variable} has no wording.{language}")
