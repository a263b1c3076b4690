"""What `orchestrator prompts check` finds, and what it does not."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator.prompts_cli import prompts
from tiers.prompts.linting import Finding, Severity, lint


def found(tmp_path: Path, toml: str, *languages: str) -> list[str]:
    """What is said of a file beyond what is said of the built-in prompts."""
    path = tmp_path / "own.toml"
    path.write_text(toml, encoding="utf-8")
    return [str(finding) for finding in lint(path, languages=languages) if finding not in usual(languages)]


@lru_cache
def usual(languages: tuple[str, ...]) -> frozenset[Finding]:
    return frozenset(lint(languages=languages))


def test_the_built_in_catalogue_has_neither_errors_nor_warnings():
    assert {finding.severity for finding in lint(languages=["en"])} == {Severity.NOTE}


@pytest.mark.parametrize(
    ("toml", "finding"),
    [
        (
            'x.text.en = "See **this**."',
            "warning: x.text.en: holds markup or an address, of which only 'See this.",
        ),
        ('x.text.en = "Look at https://example.com/a?b."', "of which only 'Look at example.com"),
        ('x.text.en = "Fish & chips."', "engines differ in what they make of &"),
        ('x.text.en = "Smile \U0001f600 now."', "engines differ in what they make of \U0001f600"),
        ('x.text.en = "Call 555."', "engines differ in how they read figures"),
        ('x.text.en = "Ask the FBI."', "note: x.text.en: FBI may be spelled or be read as a word"),
        (f'x.text.en = "{"word " * 50}"', "characters in one breath"),
        ('x.text.en = "Sorry."\nx.bridge = true', "note: x.text.en: begins with an s"),
        ('x.text.en = "Hi."\nx.variables.n.type = "text"', "the variable n is asked for and not said"),
        ('x.text.en = "{n}"\nx.variables.n.type = "integer"', "x.variables.n: has no bounds"),
        (
            'x.text.en = "{n}"\nx.variables.n = {type = "text", max_length = 3000}',
            "lets 3000 characters be said",
        ),
        (
            'x.text.en = "It is {n}"\nx.render = "stitched"\nx.variables.n.type = "money"',
            "x.variables.n: is said in all currencies",
        ),
        ('x.text.en = "Hello."\nx.render = "stitched"', "is stitched and has no variables"),
        (
            'x.text.en = "{n}."\nx.variables.n = {type = "enum", wording.en = {a = "50 %"}}',
            "warning: x.variables.n.wording.en.a: engines differ in what they make of %",
        ),
        (
            'x.text.en = "{n}"\nx.render = "stitched"\n'
            'x.variables.n = {type = "enum", wording.en = {a = "b"}, other.en = "{value}"}',
            "values beyond its wording are said whole",
        ),
        ('x.text.de = "Hallo."', "warning: x: is not written in 'en', so its callers hear another language"),
    ],
)
def test_what_a_caller_would_hear_wrong_is_found(tmp_path, toml, finding):
    assert any(finding in line for line in found(tmp_path, toml, "en"))


@pytest.mark.parametrize(
    "text",
    [
        "Grüß Gott, schön dass Sie da sind!",
        "कृपया एक क्षण रुकिए।",
        "¿Qué tal? Muy bien…",
        "It\u2019s “fine” \u2013 yes.",
    ],
)
def test_what_can_be_spoken_is_left_alone(tmp_path, text):
    assert found(tmp_path, f'x.text.en = "{text}"', "en") == []


def test_a_language_that_callers_speak_is_missed_but_for_regions(tmp_path):
    lines = found(tmp_path, 'x.text.en = "Hi."\ny.text.en = "Hi."\ny.text.pt = "Oi."', "pt-BR")
    assert lines == ["warning: x: is not written in 'pt-BR', so its callers hear English; add text.pt-BR"]


def test_every_wrong_prompt_is_told_and_the_others_are_still_looked_at(tmp_path):
    lines = found(tmp_path, 'a.text.en = "{x}"\nb = 1\nc.text.en = "5"')
    assert [line.partition(": ")[0] for line in lines] == ["error", "error", "warning"]
    assert "error: a: text.en: 'x' is not among its variables" in lines[0]


def test_a_file_that_cannot_be_read_is_one_error(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text("[")
    (finding,) = lint(path)
    assert finding.severity is Severity.ERROR
    assert str(finding).startswith("error: the prompt catalogue")


class TestCommand:
    def run(self, *arguments: str):
        return CliRunner().invoke(prompts, ["check", *arguments])

    def test_it_prints_what_was_found_and_counts_it(self, tmp_path):
        path = tmp_path / "own.yaml"
        path.write_text("x:\n  text: {en: '5 & 6'}\n")
        result = self.run(str(path), "--language", "en")
        assert result.exit_code == 0
        assert "warning: x.text.en: engines differ in how they read figures" in result.output
        assert "0 errors, 2 warnings" in result.output
        assert self.run(str(path), "--strict").exit_code == 1

    def test_an_error_ends_it_with_status_1(self, tmp_path):
        path = tmp_path / "own.toml"
        path.write_text("x.text = {}")
        result = self.run(str(path))
        assert result.exit_code == 1
        assert "error: x: text" in result.output

    def test_without_files_it_takes_those_of_the_settings(self, tmp_path):
        (tmp_path / "own.toml").write_text('x.text.en = "5."')
        config = tmp_path / "orchestrator.toml"
        config.write_text(f'[tier_c]\ncatalogue = "{tmp_path / "own.toml"}"\n')
        result = self.run("--config", str(config))
        assert "x.text.en: engines differ in how they read figures" in result.output


def test_a_finding_of_the_whole_catalogue_names_no_place():
    assert str(Finding(Severity.ERROR, "", "no")) == "error: no"
