"""What docs/tools.md shows works as it stands there."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import WELL_KNOWN, load_settings
from orchestrator.core.tools import Runs
from orchestrator.server.tool_runners import BODY_LIMIT
from orchestrator.server.toolbox import GRACE_S
from orchestrator.signing import key_of, signed_headers
from tests import planted

TEXT = (Path(__file__).parents[2] / "docs" / "tools.md").read_text()
SECRET = planted.WEBHOOK


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("ORCHESTRATOR_") or name in WELL_KNOWN:
            monkeypatch.delenv(name)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_the_settings_can_be_used(tmp_path: Path) -> None:
    file = tmp_path / "tools.toml"
    webhook, mcp = (text.replace("whsec_…", SECRET) for text in blocks("toml"))
    file.write_text(webhook)
    tool = load_settings(file).tool_list()["cancel_order"]
    assert tool.confirmed
    assert tool.wrong({"order_id": "123456"}) == []
    file.write_text(mcp)
    assert load_settings(file).tool_list()["cancel_order"].runs is Runs.MCP


def test_the_verification_tells_ours_from_others() -> None:
    (snippet,) = (text for text in blocks("python") if "def is_ours" in text)
    names: dict[str, Any] = {}
    exec(snippet, names)
    headers = signed_headers(key_of(SECRET), b"{}")
    assert names["is_ours"](SECRET, headers, b"{}")
    assert not names["is_ours"](SECRET, headers, b"{} ")
    assert not names["is_ours"]("whsec_b3RoZXI=", headers, b"{}")
    old = signed_headers(key_of(SECRET), b"{}", at=1_700_000_000)
    assert not names["is_ours"](SECRET, old, b"{}")


def test_figures_are_those_of_the_code() -> None:
    assert f"more than {BODY_LIMIT // 1024} KiB" in TEXT
    assert f"is waited for, {GRACE_S:g} seconds at most" in TEXT
