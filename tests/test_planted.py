"""The search for keys finds them: in files of any kind, in what tests print, and it fails the run."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.planted import VALUES
from tests.planted_check import EXPECTED, search

ROOT = Path(__file__).parents[1]
MADE_UP = {"a made-up key": "made-up-key-3f9a"}
"""Not one of the planted ones, which the run that this test is part of would find."""


def test_a_key_is_found_with_its_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "events.jsonl").write_bytes(b'{"a": 1}\n{"key": "Bearer made-up-key-3f9a"}\n')
    (tmp_path / "dump.rdb").write_bytes(b"REDIS\x00\xff\xfe made-up-key-3f9a \x00")
    (tmp_path / "clean.log").write_text("made-up-key-3f9")
    (tmp_path / next(iter(EXPECTED))).write_text("api_key = 'made-up-key-3f9a'")
    found = [str(leak).removeprefix(f"{tmp_path}/") for leak in search(tmp_path, MADE_UP)]
    assert found == ["deep/events.jsonl:2: a made-up key", "dump.rdb:1: a made-up key"]


FILE = "(tmp_path / 'service.log').write_text('one\\n' + VALUES['openai.api_key'])"


@pytest.mark.parametrize(
    ("workers", "leak", "told"),
    [
        ((), FILE, "service.log:2: openai.api_key"),
        (("-n", "1"), FILE, "service.log:2: openai.api_key"),
        ((), "print(VALUES['server.api_key'])", "test_leak [Captured stdout call]:1: server.api_key"),
        ((), "(tmp_path / 'events.jsonl').write_text('ek_' + 'x' * 300)", "events.jsonl:1: a credential"),
        ((), "print('nothing')", ""),
    ],
    ids=["file", "file of a worker", "output", "credential", "nothing"],
)
def test_a_run_that_leaves_a_key_behind_fails(workers: tuple[str, ...], leak: str, told: str) -> None:
    """In a folder of its own: what it leaves is not to be found in ours."""
    with tempfile.TemporaryDirectory() as name:
        test = Path(name) / "test_leaking.py"
        test.write_text(f"from tests.planted import VALUES\n\ndef test_leak(tmp_path):\n    {leak}\n")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.planted_check"]
        options = ["--basetemp", f"{name}/base", "-c", "/dev/null", "--rootdir", name]
        done = subprocess.run(
            [*command, *options, *workers, str(test)], cwd=ROOT, capture_output=True, text=True, timeout=120
        )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == (1 if told else 0), done.stdout
    assert told in done.stdout
    assert ("left behind" in done.stdout) == bool(told)


def test_planted_keys_are_unmistakable() -> None:
    assert len(set(VALUES.values())) == len(VALUES)
    assert all(len(value) >= 24 for value in VALUES.values())
