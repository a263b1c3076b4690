"""Where columns, plan and latencies come from: the configuration, a plan file, a log, single values.

A plan file is TOML with tables ``[columns]``, ``[plan]`` and ``[latencies]`` of fields of `columns.py`, each with as
much as is to differ: from the defaults, and in ``[plan]`` from the configuration.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from orchestrator.config import Settings, SettingsError, load_settings
from orchestrator.core.prices import PriceTable
from orchestrator.estimate.columns import Columns, Latencies, Plan

Model = TypeVar("Model", bound=BaseModel)
TABLES = ("columns", "plan", "latencies")
Values = dict[str, dict[str, Any]]


class InputsInvalid(ValueError):
    """What is to be estimated cannot be used; one line per problem."""


@dataclass(frozen=True, slots=True)
class Case:
    """All that one estimate is made from."""

    name: str
    columns: Columns
    plan: Plan
    latencies: Latencies
    prices: PriceTable


@dataclass(slots=True)
class Given:
    """What was said, from the weakest to the strongest: a log's columns, a plan file, single values."""

    config: Path | None = None
    bucket: str | None = None
    fitted: Columns | None = None
    values: Values = field(default_factory=dict)

    def case(self, file: Path | None = None) -> Case:
        """`file` is a plan file or a configuration; None for the configuration alone. Raises `InputsInvalid`."""
        tables: Mapping[str, Any] = {} if file is None else _read(file)
        is_plan = not tables.keys() - set(TABLES)
        settings = _settings(self.config if is_plan else file)
        where = str(file) if file else ""
        values = {
            name: {**(tables.get(name, {}) if is_plan else {}), **self.values.get(name, {})}
            for name in TABLES
        }
        bucket = self.bucket or settings.budget.default_bucket
        columns = self.fitted.model_dump() if self.fitted else {}
        plan = Plan.of_settings(settings, bucket).model_dump(mode="json")
        return Case(
            file.stem if file else "plan",
            checked(Columns, {**columns, **values["columns"]}, "columns", where),
            checked(Plan, {**plan, **values["plan"]}, "plan", where),
            checked(Latencies, values["latencies"], "latencies", where),
            settings.price_table(),
        )


def checked(model: type[Model], values: Mapping[str, Any], table: str, where: str = "") -> Model:
    """Raises `InputsInvalid` with the fields by their names in `table`."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        origin = f"{where}: " if where else ""
        lines = [origin + _explain(detail, table, model) for detail in error.errors(include_url=False)]
        raise InputsInvalid("\n".join(lines)) from None


def parse(assignments: Iterable[str]) -> Values:
    """``TABLE.FIELD=VALUE`` as `Given.values`; a value is TOML, or a word. Raises `InputsInvalid`."""
    found: Values = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        table, _, field_name = name.strip().partition(".")
        if not equals or table not in TABLES or not field_name:
            raise InputsInvalid(
                f"{assignment!r}: expected TABLE.FIELD=VALUE with one of the tables {', '.join(TABLES)}, "
                "like columns.barge_in=0.2"
            )
        found.setdefault(table, {})[field_name] = _value(text.strip())
    return found


def _value(text: str) -> Any:
    if text in ("none", "null"):
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputsInvalid(f"{file} cannot be read: {error}; give a plan file or a configuration") from None
    except tomllib.TOMLDecodeError as error:
        raise InputsInvalid(f"{file}: not valid TOML: {error}; correct that line") from None


def _settings(path: Path | None) -> Settings:
    try:
        return load_settings(path)
    except SettingsError as error:
        raise InputsInvalid(f"the settings cannot be used:\n{error}") from None


def _explain(detail: Any, table: str, model: type[BaseModel]) -> str:
    name = ".".join([table, *map(str, detail["loc"])])
    if detail["type"] == "extra_forbidden":
        return f"{name}: there is no such field; there are {', '.join(model.model_fields)}"
    message = detail["msg"].replace("Input should be", "expected", 1)
    value = detail["input"]
    return f"{name}: {message}" + (f", not {value!r}" if isinstance(value, str | int | float) else "")
