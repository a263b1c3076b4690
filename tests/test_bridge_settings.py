"""Which bridge is said when, in which languages, as the settings have it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from orchestrator.config import WELL_KNOWN, SettingsError, load_settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("ORCHESTRATOR_") or name in WELL_KNOWN:
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "orchestrator.toml"


def test_every_cause_has_a_bridge_of_its_own_unless_one_is_set_for_all(file: Path) -> None:
    built_in = {
        "default": "one_moment",
        "interrupted": "bridge_interrupted",
        "late": "bridge_late",
        "planned": "bridge_simpler",
    }
    assert load_settings().tier_c.bridges_by_cause == built_in
    file.write_text('[tier_c]\nbridge = "one_moment"\n')
    assert load_settings(file).tier_c.bridges_by_cause == dict.fromkeys(built_in, "one_moment")
    file.write_text('[tier_c.bridges]\nlate = "one_moment"\n')
    assert load_settings(file).tier_c.bridges_by_cause == {**built_in, "late": "one_moment"}
    file.write_text('[tier_c]\nbridge = "one_moment"\n[tier_c.bridges]\nlate = "bridge_late"\n')
    assert load_settings(file).tier_c.bridges_by_cause == {
        **dict.fromkeys(built_in, "one_moment"),
        "late": "bridge_late",
    }


def test_an_own_bridge_and_language_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = tmp_path / "prompts.toml"
    catalogue.write_text('one_moment.text.nl = "Een ogenblik."\n[mine]\nbridge = true\ntext.en = "Wait."\n')
    monkeypatch.setenv("ORCHESTRATOR_TIER_C__CATALOGUE", str(catalogue))
    monkeypatch.setenv("ORCHESTRATOR_TIER_C__BRIDGES__PLANNED", "mine")
    monkeypatch.setenv("ORCHESTRATOR_TIER_C__BRIDGE_LANGUAGES", "en,nl,es-MX")
    tier_c = load_settings().tier_c
    assert tier_c.bridges_by_cause["planned"] == "mine"
    assert tier_c.bridge_languages == ("en", "nl", "es-MX")


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        (
            "bridge",
            "one_minute",
            r"tier_c.bridge .*: the prompt 'one_minute' does not exist; name one of one_mom",
        ),
        (
            "bridges",
            {"late": "goodbye"},
            r"tier_c.bridges.late .*: the prompt 'goodbye' is not marked as a bridge",
        ),
        (
            "bridges",
            {"late": "goodbye"},
            r"write it with `bridge = true` in the file that tier_c.catalogue names",
        ),
        (
            "bridges",
            {"slow": "one_moment"},
            r"expected 'default', 'interrupted', 'late' or 'planned', not 'slow'",
        ),
        (
            "bridge_languages",
            ("tlh",),
            r"no bridge is written in 'tlh'; choose from de, en, .* write text.tlh for",
        ),
        (
            "catalogue",
            Path("absent.toml"),
            r"tier_c.catalogue .*: cannot read the prompt catalogue absent.toml",
        ),
    ],
)
def test_what_is_wrong_with_a_bridge_is_told_at_the_start(field: str, value: object, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(**{f"tier_c__{field}": value})
    assert re.search(problem, str(caught.value))
