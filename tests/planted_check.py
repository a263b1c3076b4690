"""What a whole test run leaves behind holds no key: searched when it has ended, whatever its processes wrote.

That is everything below pytest's folder: logs of processes, event files, ledgers, audit trails, recordings, Redis
dumps, what is kept for users; what the run has left in caches; what tests printed or logged, and how they are called.
What is never a file is handed to `note` where it is made, and fails the test: HTTP answers (`transport`), spans.

`tests/conftest.py` takes the hooks from here.
"""

from __future__ import annotations

import base64
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import httpx
import pytest

from tests.planted import VALUES

EXPECTED = frozenset({"holds_planted_keys.toml"})
"""Names of files that hold keys because that is what they are for: configurations that tests write."""
CACHES = (".pytest_cache", ".hypothesis")
"""Below the repository: they are there before a run, which adds to them."""
MADE = {
    "a credential": (b"ek_", re.compile(rb"ek_[A-Za-z0-9_-]{100,}")),
    "a key of ours": (b"vo_", re.compile(rb"vo_[0-9a-z]{8}_[A-Za-z0-9_-]{43}")),
}
"""Keys that the product makes while it runs, so that nobody knows their values before; they are told by their shape."""
_found: list[Leak] = []
_noted: list[Leak] = []
_began = time.time()


@dataclass(frozen=True, slots=True)
class Leak:
    where: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.where}:{self.line}: {self.what}"


def _in_base64(data: bytes) -> tuple[bytes, ...]:
    """How `data` looks in base64, wherever in it it begins: without the characters that its neighbours share."""
    found = []
    for before in range(3):
        text = base64.b64encode(b"\0" * before + data)
        rest = (before + len(data)) % 3
        found.append(text[(0, 2, 3)[before] : len(text) - (0, 3, 2)[rest]])
    return tuple(found)


def _forms(value: str) -> tuple[bytes, ...]:
    """As it stands, in an address, and in base64, as names and passwords travel."""
    plain = dict.fromkeys((value, quote(value, safe=""), quote_plus(value)))
    return (*(form.encode() for form in plain), *_in_base64(value.encode()))


_MARKS = (
    *(b"planted", *_in_base64(b"planted")),
    *(form for value in VALUES.values() if "planted" not in value for form in _forms(value)),
)
"""What does not have one of these holds no planted key in any form, and most data has none."""


def look_through(data: bytes, where: str, values: Mapping[str, str] = VALUES) -> Iterator[Leak]:
    """Every key in it, the first time that it is there."""
    if values is not VALUES or any(mark in data for mark in _MARKS):
        for what, value in values.items():
            at = min((at for form in _forms(value) if (at := data.find(form)) >= 0), default=-1)
            if at >= 0:
                yield Leak(where, data.count(b"\n", 0, at) + 1, what)
    for what, (start, shape) in MADE.items():
        if start in data and (made := shape.search(data)):
            yield Leak(where, data.count(b"\n", 0, made.start()) + 1, what)


def search(folder: Path, values: Mapping[str, str] = VALUES, since: float = 0.0) -> Iterator[Leak]:
    """Every key in every file below `folder` that was written after `since`, and in the files' names."""
    for directory, _, names in os.walk(folder):
        for name in sorted(names):
            path = Path(directory, name)
            if name in EXPECTED or path.is_symlink() or not path.is_file():
                continue
            try:
                if path.stat().st_mtime < since:
                    continue
                data = path.read_bytes()
            except OSError:
                continue  # gone, or a file of a process that is not ours to read
            yield from look_through(os.fsencode(path), f"the name {path}", values)
            yield from look_through(data, str(path), values)


def note(data: bytes, where: str) -> None:
    """Something that leaves no file: a key of `VALUES` in it fails the test that runs. Made keys may stand in it."""
    if any(mark in data for mark in _MARKS):
        _noted.extend(leak for leak in look_through(data, where) if leak.what not in MADE)


def transport(app: Any, **options: Any) -> httpx.ASGITransport:
    """Asks an application of ours; whatever it answers is looked through, headers and bodies."""

    async def looked_through(scope: Any, receive: Any, send: Any) -> None:
        async def told(message: Any) -> None:
            where = f"the answer to {scope.get('method')} {scope.get('path')}"
            for name, value in message.get("headers", ()):
                note(bytes(value), f"{where}, {bytes(name).decode()}")
            note(message.get("body", b""), where)
            await send(message)

        await app(scope, receive, told)

    return httpx.ASGITransport(looked_through, **options)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """In the process that ran the test: others are told of it as of any failure."""
    leaks = [str(leak) for leak in _noted]
    _noted.clear()
    if leaks:
        pytest.fail("a key was shown:\n" + "\n".join(leaks), pytrace=False)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Workers of xdist send their reports here too."""
    _found.extend(look_through(report.nodeid.encode(), f"the name of {report.nodeid.partition('[')[0]}"))
    for name, text in report.sections:
        _found.extend(look_through(text.encode(errors="replace"), f"{report.nodeid} [{name}]"))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):
        return  # the process that has started the workers looks through what they left
    _found.extend(search(folder_of(session.config)))
    for folder in _caches(session.config.rootpath):
        _found.extend(search(folder, since=_began))
    if _found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def folder_of(config: pytest.Config) -> Path:
    """Where the tests of this process have their files; workers have theirs below that of who started them."""
    folder: Path = config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    return folder


def _caches(root: Path) -> Iterable[Path]:
    from orchestrator import models

    clips = (models.cache_dir() / name for name in ("clips", "clips-of-tests"))
    return (*(root / name for name in CACHES), *clips)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _found:
        terminalreporter.section("keys that this run left behind", red=True)
        for leak in dict.fromkeys(_found):
            terminalreporter.line(str(leak))
