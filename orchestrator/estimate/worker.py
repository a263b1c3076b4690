"""One estimate in a process of its own: a job as JSON on stdin, the estimate as JSON on stdout.

Simulating calls keeps a processor busy for seconds; beside live calls that has to be another process, of low priority.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import asdict
from typing import Any

from orchestrator.core.prices import ModelPrice, PriceTable
from orchestrator.estimate.columns import Columns, Latencies, Plan
from orchestrator.estimate.draws import TooMuch
from orchestrator.estimate.model import estimate
from orchestrator.estimate.results import Estimate

_NICE = 10
_TOO_MUCH = 3
"""The process's exit code for more calls than can be simulated; it says so in its output."""


class WorkerFailed(RuntimeError):
    """The process ended without an estimate; the text is what it said."""


def job(
    columns: Columns, plan: Plan, latencies: Latencies, prices: PriceTable, *, calls: int, seed: int
) -> dict[str, Any]:
    """What the process is given. Raises `UnknownPrice`."""
    engines = plan.tier_b
    names = {*plan.rungs, plan.transcription_model, engines.transcription, engines.agent, engines.speech} - {
        None
    }
    return {
        "columns": columns.model_dump(mode="json"),
        "plan": plan.model_dump(mode="json"),
        "latencies": latencies.model_dump(mode="json"),
        "prices": {name: asdict(prices[name]) for name in names if name},
        "calls": calls,
        "seed": seed,
    }


async def estimate_apart(wanted: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """`Estimate.to_dict` of a `job`. Raises `TimeoutError`, `TooMuch`, `WorkerFailed`; the process is then gone."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    try:
        async with asyncio.timeout(timeout_s):
            out, said = await process.communicate(json.dumps(wanted).encode())
    finally:
        await _end(process)
    if process.returncode == _TOO_MUCH:
        raise TooMuch(out.decode())
    if process.returncode != 0:
        raise WorkerFailed(said.decode(errors="replace").strip()[-500:])
    found: dict[str, Any] = json.loads(out)
    return found


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()


def main() -> None:
    os.nice(_NICE)
    wanted = json.load(sys.stdin)
    try:
        found = _estimate(wanted)
    except TooMuch as error:
        sys.stdout.write(str(error))
        sys.exit(_TOO_MUCH)
    json.dump(found.to_dict(), sys.stdout)


def _estimate(wanted: dict[str, Any]) -> Estimate:
    return estimate(
        Columns.model_validate(wanted["columns"]),
        Plan.model_validate(wanted["plan"]),
        PriceTable({name: ModelPrice(**price) for name, price in wanted["prices"].items()}),
        calls=wanted["calls"],
        seed=wanted["seed"],
        latencies=Latencies.model_validate(wanted["latencies"]),
    )


if __name__ == "__main__":
    main()
