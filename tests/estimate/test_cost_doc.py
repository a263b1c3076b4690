"""docs/cost.md lists every field with its default, and its plan files are good."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from orchestrator.estimate import Columns, Latencies, Plan
from orchestrator.estimate.inputs import Given

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("model", [Columns, Plan, Latencies])
def test_every_field_stands_there_with_its_default(model: type[BaseModel]) -> None:
    text = (DOCS / "cost.md").read_text()
    section = text.split(f"### The {model.__name__.lower()}")[1].split("\n#")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", section, re.MULTILINE))
    assert list(rows) == list(model.model_fields)
    for name, field in model.model_fields.items():
        default = field.default
        if isinstance(default, bool | int | float | str):
            assert rows[name] == f"`{default:g}`" if isinstance(default, float) else f"`{default}`", name
        elif default is None or default == ():
            assert rows[name] == "none", name


@pytest.mark.parametrize("name", ["support-line.toml", "support-line-steps.toml"])
def test_the_worked_plans_can_be_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "CARTESIA_API_KEY", "ORCHESTRATOR_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    case = Given().case(DOCS / "plans" / name)
    assert case.plan.calls_per_day == 1000
    assert case.columns.call_s == 240
