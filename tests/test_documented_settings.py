"""Every setting is in docs/configuration.md, with its default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from orchestrator.config import WELL_KNOWN
from orchestrator.config_sections import SIMPLER_SERVICE, STEPS, SUMMARISE
from orchestrator.tool_sections import AgentSection, McpSection, ToolSection
from tests.test_config import all_settings


def shown(default: Any) -> str:
    if default == SIMPLER_SERVICE:
        return "a line that says so"
    if default == SUMMARISE:
        return "three short sentences"
    if default == STEPS:
        return ", ".join(f"`{step.action}` at {step.at}" for step in STEPS)
    if default is None or default in ((), {}):
        return "none"
    if isinstance(default, tuple):
        return f"`{', '.join(default)}`"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default}`" if default != "" else '`""`'


def documented() -> dict[str, str]:
    text = (Path(__file__).parent.parent / "docs" / "configuration.md").read_text()
    found, section = {}, ""
    for line in text.splitlines():
        if heading := re.match(r"### (\w+)$", line):
            section = heading[1]
        elif row := re.match(r"\| `(\w+)` \| (.+?) \|", line):
            if section:
                found[f"{section}.{row[1]}"] = row[2]
            else:
                found[row[1]] = row[2]
    return found


def test_every_setting_is_documented_with_its_default() -> None:
    expected = {setting: shown(default) for setting, default in all_settings()}
    expected |= {name: f"`{setting}`" for name, setting in WELL_KNOWN.items()}
    assert documented() == expected


def documented_keys() -> dict[str, str]:
    text = (Path(__file__).parent.parent / "docs" / "configuration.md").read_text()
    found, section = {}, ""
    for line in text.splitlines():
        if heading := re.match(r"### (\w+)$", line):
            section = heading[1]
        elif (row := re.match(r"\| (\w+) \| (.+?) \|", line)) and row[2] != "default":
            found[f"{section}.{row[1]}"] = row[2]
    return found


def test_every_key_of_a_tool_is_documented_with_its_default() -> None:
    expected = {}
    for section, model in (("tools", ToolSection), ("mcp", McpSection), ("agents", AgentSection)):
        for key, field in model.model_fields.items():
            default = field.get_default(call_default_factory=True)
            expected[f"{section}.{key}"] = "needed" if field.is_required() else shown(default)
    keys = documented_keys()
    assert {name: keys[name] for name in keys if name.split(".")[0] in ("tools", "mcp", "agents")} == expected
