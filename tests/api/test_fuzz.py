"""schemathesis asks the API what /openapi.json says may be asked, and what may not, and holds the answers to it.

The service is the product as a process of its own; its model, its ears and its voice are simulated.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.api.conftest import KEY
from tests.api.hooks import COUNTS
from tests.e2e.stack import Running

ROOT = Path(__file__).parents[2]
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
QUICK, LONG = 500, 10_000
EXCLUDED_CHECKS = "positive_data_acceptance,not_a_server_error,ensure_resource_availability"
"""The first lets no well-formed request be refused for what it says, and the second no request for lack of time: checks
of our own stand in for both (`hooks`). The third takes an id that it has changed itself for the one just created."""
STREAM, SLOW = "/v1/events", "/v1/estimate"
"""A stream that never ends, which has tests of its own; and a path whose answers each take a process of their own."""


def fuzz(
    service: Running, folder: Path, seed: int, examples: int, *options: str
) -> dict[str, dict[str, int]]:
    """Answers by operation and status. Fails with schemathesis' report, which has a curl line for each finding."""
    counts = folder / "counts.json"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "SCHEMATHESIS_HOOKS": "tests.api.hooks",
        COUNTS: str(counts),
    }
    command = [
        *(str(SCHEMATHESIS), "run", f"{service.url}/openapi.json", "-H", f"Authorization: Bearer {KEY}"),
        *("--seed", str(seed), "-n", str(examples), "--checks", "all", "--exclude-checks", EXCLUDED_CHECKS),
        *("--continue-on-failure", "--no-shrink", "--request-timeout", "30", "--exclude-path", STREAM),
        *("--suppress-health-check", "all", "--phases", "examples,coverage,fuzzing", *options),
    ]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1500)
    print(f"seed {seed}")
    assert done.returncode == 0, f"seed {seed}\n{done.stdout[-20_000:]}\n{done.stderr[-2_000:]}"
    found: dict[str, dict[str, int]] = json.loads(counts.read_text())
    return found


def requests_in(*counts: dict[str, dict[str, int]]) -> int:
    return sum(sum(statuses.values()) for each in counts for statuses in each.values())


def seed_of() -> int:
    """FUZZ_SEED runs a failure again; in CI the same commit gives the same requests."""
    given = os.environ.get("FUZZ_SEED") or ("1" if os.environ.get("CI") else "")
    return int(given) if given else random.SystemRandom().randrange(1 << 31)


def check(service: Running, *counts: dict[str, dict[str, int]]) -> None:
    """That good requests went through, and that nothing went wrong which no client sees."""
    answered = {
        name: sum(n for status, n in statuses.items() if status.startswith(("2", "3")))
        for each in counts
        for name, statuses in each.items()
    }
    for name in ("POST /v1/route", "POST /v1/prompts/{name}", "POST /v1/audio/speech", "POST /v1/summaries"):
        assert answered[name] > 0, answered
    assert service.get("/healthz") == {"status": "ok"}
    log = service.log.read_text()
    # Engines may fail at what they are told to say, and the log says so; the API itself may not.
    assert "Exception in ASGI" not in log, log[log.index("Exception in ASGI") :][:12_000]


def test_some_hundred_requests(service: Running, tmp_path: Path) -> None:
    counts = fuzz(service, tmp_path, int(os.environ.get("FUZZ_SEED") or 1), 8, "--exclude-path", SLOW)
    assert requests_in(counts) >= QUICK
    check(service, counts)


@pytest.mark.fuzz
def test_ten_thousand_requests(service: Running, tmp_path: Path) -> None:
    seed = seed_of()
    slow = fuzz(service, tmp_path, seed, 100, "--include-path", SLOW, "--phases", "examples,fuzzing")
    counts = fuzz(service, tmp_path, seed, 700, "--exclude-path", SLOW)
    print(json.dumps(slow | counts, indent=1))
    assert requests_in(slow, counts) >= LONG
    check(service, slow, counts)
