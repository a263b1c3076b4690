"""What a whole test run leaves behind holds no key: searched when it has ended, whatever its processes wrote.

That is everything below pytest's folder: logs of processes, event files, ledgers, Redis dumps, results; and what tests
printed or logged. `tests/conftest.py` takes the hooks from here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.planted import VALUES

EXPECTED = frozenset({"holds_planted_keys.toml"})
"""Names of files that hold keys because that is what they are for: configurations that tests write."""
CREDENTIAL = re.compile(rb"ek_[A-Za-z0-9_-]{100,}")
"""One that opens a call, sealed: nobody can know its value before, and none is so short."""
_found: list[Leak] = []


@dataclass(frozen=True, slots=True)
class Leak:
    where: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.where}:{self.line}: {self.what}"


def search(folder: Path, values: Mapping[str, str] = VALUES) -> Iterator[Leak]:
    """Every key in every file below `folder`, compressed ones aside."""
    for path in sorted(folder.rglob("*")):
        if path.name in EXPECTED or path.is_symlink() or not path.is_file():
            continue
        try:
            data = path.read_bytes()
        except OSError:
            continue  # gone, or a file of a process that is not ours to read
        yield from look_through(data, str(path), values)


def look_through(data: bytes, where: str, values: Mapping[str, str] = VALUES) -> Iterator[Leak]:
    for what, value in values.items():
        at = data.find(value.encode())
        if at >= 0:
            yield Leak(where, data.count(b"\n", 0, at) + 1, what)
    credential = CREDENTIAL.search(data)
    if credential:
        yield Leak(where, data.count(b"\n", 0, credential.start()) + 1, "a credential")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Workers of xdist send their reports here too."""
    for name, text in report.sections:
        _found.extend(look_through(text.encode(errors="replace"), f"{report.nodeid} [{name}]"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):
        return  # the process that has started the workers looks through what they left
    base: Path = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    _found.extend(search(base))
    if _found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _found:
        terminalreporter.section("keys that this run left behind", red=True)
        for leak in _found:
            terminalreporter.line(str(leak))
