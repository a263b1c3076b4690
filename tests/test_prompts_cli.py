"""`orchestrator prompts warm`: what it makes, what it says, how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cache import ClipCache, DiskStore
from orchestrator.prompts_cli import prompts
from orchestrator.server import engines
from tests.tiers.prompts.conftest import Hum
from tiers.prompts.catalogue import Catalogue
from tiers.prompts.prompts import Prompts
from tiers.speech import SpeechFailed

BUILT_IN = Catalogue.load()
SMALL = Catalogue({name: BUILT_IN[name] for name in ("one_moment", "goodbye", "order_status")})
PIECES = len(SMALL.pieces("order_status", "en"))
LINES = len(SMALL["one_moment"].text) + 1


class Short(Hum):
    """Whose voice runs out after some lines."""

    breath = 10**6

    async def speak(self, text: str, *, voice: str = "", speed: float = 1.0, language: str = "en"):
        if len(self.spoken) >= self.breath:
            raise SpeechFailed("out of breath")
        async for pcm in super().speak(text, voice=voice, speed=speed, language=language):
            yield pcm


@pytest.fixture
def voice() -> Short:
    return Short()


@pytest.fixture
def warm(voice: Short, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ended: list[bool] = []

    def to_warm(settings):
        return Prompts(SMALL, ClipCache(DiskStore(tmp_path)), voice), lambda: ended.append(True)

    monkeypatch.setattr(engines, "prompts_to_warm", to_warm)

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(prompts, ["warm", *arguments])
        assert ended.pop(), "the engine is ended"
        return result

    return run


def test_it_speaks_fixed_prompts_and_pieces_into_the_cache_once(warm, voice, tmp_path):
    result = warm()
    assert result.exit_code == 0, result.output
    assert f"{LINES + PIECES} clips are ready ({LINES + PIECES} are new), 0 are not." in result.output
    assert len(list(tmp_path.rglob("*.clip"))) == len(voice.spoken) == LINES + PIECES
    again = warm()
    assert f"{LINES + PIECES} clips are ready (0 are new)" in again.output
    assert len(voice.spoken) == LINES + PIECES


def test_voices_forms_and_languages_are_those_asked_for(warm, voice, tmp_path):
    result = warm("--voice", "marin", "--voice", "cedar", "--format", "mp3", "--language", "en")
    assert result.exit_code == 0, result.output
    assert {spoken[1] for spoken in voice.spoken} == {"marin", "cedar"}
    assert {spoken[3] for spoken in voice.spoken} == {"en"}
    assert len(list(tmp_path.rglob("*.mp3"))) == 2 * 2


def test_a_run_that_broke_off_says_what_is_missing_and_the_next_makes_the_rest(warm, voice):
    voice.breath = 20
    result = warm()
    assert result.exit_code == 1
    assert f"20 clips are ready (20 are new), {LINES + PIECES - 20} are not." in result.output
    assert "and 95 more: out of breath" in result.output
    voice.breath = 10**6
    result = warm()
    assert result.exit_code == 0
    assert f"({LINES + PIECES - 20} are new)" in result.output


def test_an_unknown_form_is_told_what_there_is():
    result = CliRunner().invoke(prompts, ["warm", "--format", "tape"])
    assert result.exit_code == 2
    assert "'pcmu'" in result.output


def test_what_is_wrong_is_told_as_json(tmp_path: Path) -> None:
    catalogue = tmp_path / "prompts.toml"
    catalogue.write_text("hello.text = {}")
    done = CliRunner().invoke(prompts, ["check", str(catalogue), "--json"])
    assert done.exit_code == 1
    found = json.loads(done.output)["findings"]
    assert [each["where"] for each in found if each["severity"] == "error"] == ["hello"]
