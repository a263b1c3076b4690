"""The search for keys finds them, in files of any kind and in what tests print, show or are called, and fails the run.

And the tests have planted what it looks for: none of them configures a key of its own.
"""

from __future__ import annotations

import ast
import base64
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.planted import VALUES
from tests.planted_check import EXPECTED, look_through, search

ROOT = Path(__file__).parents[1]
MADE_UP = {"a made-up key": "made-up key/3f9a"}
"""Not one of the planted ones, which the run that this test is part of would find."""


def test_a_key_is_found_with_its_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "events.jsonl").write_bytes(b'{"a": 1}\n{"key": "Bearer made-up key/3f9a"}\n')
    (tmp_path / "dump.rdb").write_bytes(b"REDIS\x00\xff\xfe made-up key/3f9a \x00")
    (tmp_path / "clean.log").write_text("made-up key/3f9")
    (tmp_path / next(iter(EXPECTED))).write_text("api_key = 'made-up key/3f9a'")
    (tmp_path / "made-up+key%2F3f9a.json").write_text("{}")
    found = sorted(str(leak).replace(f"{tmp_path}/", "") for leak in search(tmp_path, MADE_UP))
    assert found == [
        "deep/events.jsonl:2: a made-up key",
        "dump.rdb:1: a made-up key",
        "the name made-up+key%2F3f9a.json:1: a made-up key",
    ]
    assert not [*search(tmp_path, MADE_UP, since=(tmp_path / "dump.rdb").stat().st_mtime + 60)]


@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
@pytest.mark.parametrize("after", ["", "z", "yz"])
def test_a_key_is_found_in_base64(before: str, after: str) -> None:
    told = base64.b64encode(f"{before}made-up key/3f9a{after}".encode())
    assert [leak.what for leak in look_through(told, "header", MADE_UP)] == ["a made-up key"]
    assert not [*look_through(base64.b64encode(b"made-up key/3f8a"), "header", MADE_UP)]


LEAKING = """
import base64, logging
from tests.planted import VALUES
from tests.planted_check import note

KEY = VALUES['openai.api_key']

def test_file(tmp_path):
    (tmp_path / 'service.log').write_text('one\\n' + KEY)

def test_base64(tmp_path):
    (tmp_path / 'basic.txt').write_bytes(base64.b64encode(b'user:' + KEY.encode()))

def test_output():
    print(VALUES['server.api_key'])

def test_logged():
    logging.getLogger('some').warning('it was %s', VALUES['links.secret'])

def test_credential(tmp_path):
    (tmp_path / 'events.jsonl').write_text('ek_' + 'x' * 300)

def test_made_key(tmp_path):
    (tmp_path / 'audit.jsonl').write_text('vo_0123abcd_' + 'x' * 43)

def test_shown():
    note(b'{"message": "%s"}' % KEY.encode(), 'an answer')
"""
TOLD = (
    "service.log:2: openai.api_key",
    "basic.txt:1: openai.api_key",
    "::test_output [Captured stdout call]:1: server.api_key",
    "::test_logged [Captured log call]:1: links.secret",
    "events.jsonl:1: a credential",
    "audit.jsonl:1: a key of ours",
    "an answer:1: openai.api_key",
)


def run(test: str, *options: str) -> subprocess.CompletedProcess[str]:
    """As a run of its own, in a folder of its own: what it leaves is not to be found in ours."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "test_it.py").write_text(test)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.planted_check", *options]
        where = ["--basetemp", f"{name}/base", "-c", "/dev/null", "--rootdir", name, f"{name}/test_it.py"]
        env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        return subprocess.run(
            [*command, *where], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120
        )


@pytest.mark.parametrize("workers", [(), ("-p", "xdist", "-n", "1")], ids=["alone", "with a worker"])
def test_a_run_that_leaves_a_key_behind_fails(workers: tuple[str, ...]) -> None:
    done = run(LEAKING, *workers)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "7 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert not [each for each in TOLD if each not in done.stdout], done.stdout


def test_one_that_only_leaves_a_key_fails_too_and_one_that_leaves_none_does_not() -> None:
    left = run("def test_it(tmp_path):\n    (tmp_path / 'x').write_text('ek_' + 'x' * 300)\n")
    assert (left.returncode, "1 passed" in left.stdout) == (1, True), left.stdout + left.stderr
    done = run("def test_it(tmp_path):\n    (tmp_path / 'x').write_text('ek_')\n")
    assert (done.returncode, "left behind" in done.stdout) == (0, False), done.stdout + done.stderr


def test_planted_keys_are_unmistakable() -> None:
    assert len(set(VALUES.values())) == len(VALUES)
    assert all(len(value) >= 24 for value in VALUES.values())
    for what, value in VALUES.items():
        for form in (value, base64.b64encode(f"user:{value}".encode()).decode()):
            assert [leak.what for leak in look_through(form.encode(), "there")] == [what]


CONFIGURED = re.compile(r"(?:^|__|_)(?:api_key|secret|password)$|^(?:OPENAI|ORCHESTRATOR|CARTESIA)_\w*KEY$")
NOT_KEYS = {"", "any", "unused", "none", "openai-insecure-api-key."}
"""What a client library wants to be given, and nobody looks at; how browsers present a key."""
APART = {
    "core": "no I/O: texts in, texts out",
    "protocol": "no I/O",
    "test_config.py": "settings and what is said of wrong ones, in the process alone",
    "test_access_settings.py": "the same",
    "test_pricing.py": "the same",
    "test_hook_settings.py": "the same",
    "test_tool_settings.py": "the same",
    "test_signing.py": "signatures: texts in, texts out",
}


def keys_of_their_own(path: Path) -> Iterator[str]:
    """Where a test gives a literal text as a key: by a name of an argument, of a dictionary or of a constant."""
    for node in ast.walk(ast.parse(path.read_text())):
        pairs: list[tuple[str | None, ast.expr | None]] = []
        match node:
            case ast.Call():
                pairs = [(word.arg, word.value) for word in node.keywords]
                if ast.unparse(node.func).endswith("setenv") and len(node.args) == 2:
                    pairs.append((_text(node.args[0]), node.args[1]))
            case ast.Dict():
                pairs = [(_text(n), value) for n, value in zip(node.keys, node.values, strict=True)]
            case ast.Assign(targets=[ast.Name(id=name)]):
                pairs = [("api_key" if re.search(r"(?:_KEY|SECRET)$", name) else None, node.value)]
                if name == "KEY" and re.match(
                    "sk|vo|whsec", _text(node.value) or ""
                ):  # other things have keys too
                    pairs = [("api_key", node.value)]
        for name, value in pairs:
            match value:
                case ast.Call(func=ast.Name(id="SecretStr"), args=[value]):
                    pass
            text = _text(value)
            if name and CONFIGURED.search(name) and text is not None and text not in NOT_KEYS:
                yield f"{path.relative_to(ROOT)}:{node.lineno}: {text!r}"


def _text(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def test_no_test_configures_a_key_that_is_not_looked_for() -> None:
    """It would be left behind unseen: take one of `tests.planted`."""
    tests = ROOT / "tests"
    own = [
        found
        for path in sorted(tests.rglob("*.py"))
        if path != tests / "planted.py" and path.relative_to(tests).parts[0] not in APART
        for found in keys_of_their_own(path)
    ]
    assert not own, "\n".join(own)


def test_every_planted_key_is_planted() -> None:
    text = "\n".join(p.read_text() for p in (ROOT / "tests").rglob("*.py") if p.name != "planted.py")
    names = re.findall(r"^([A-Z]+) = ", (ROOT / "tests" / "planted.py").read_text(), re.MULTILINE)
    assert len(names) == len(VALUES) + 1  # VALUES itself
    assert not [name for name in names if name != "VALUES" and f"planted.{name}" not in text]
