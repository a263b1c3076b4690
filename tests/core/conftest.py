"""A call on the bench, whose client's stream is held against the protocol when the test ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.core.bench import Bench


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.check()
