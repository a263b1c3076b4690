"""For all tests: no run leaves keys behind, and Hypothesis prints what is needed to run a failure again.

It searches anew at every run, but not in CI: there the same commit gives the same result.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from tests.planted_check import (
    folder_of,
    pytest_runtest_logreport,
    pytest_runtest_teardown,
    pytest_sessionfinish,
    pytest_terminal_summary,
)

__all__ = [
    "pytest_runtest_logreport",
    "pytest_runtest_teardown",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
]

settings.register_profile(
    "repository", print_blob=True, derandomize=bool(os.environ.get("CI")), deadline=None
)
settings.load_profile("repository")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Keys that somebody has made on this machine are none of the tests' business; those of tests are searched for."""
    data = folder_of(session.config) / "data-home"
    data.mkdir(exist_ok=True)
    os.environ["XDG_DATA_HOME"] = str(data)
    os.environ.pop("COLUMNS", None)  # as wide as where nobody looks, not as the terminal of whoever runs them
