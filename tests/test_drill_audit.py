"""A drill by the command line, and the audit trail that goes with it: it holds, and any changed byte is found."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import main
from orchestrator.core.audit import AuditBroken, verify
from orchestrator.server.audit import Audit
from orchestrator.server.audit_trails import FileTrail
from tests.test_cli import RunningApi


def run(*args: str) -> Result:
    done = CliRunner().invoke(main, [*args], env={"ORCHESTRATOR_API_KEY": ""})
    assert done.exit_code == 0, done.output
    return done


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    api = RunningApi()

    async def keep() -> None:
        api.server.audit = Audit(FileTrail(tmp_path_factory.mktemp("audit") / "audit.jsonl"))
        await api.server.audit.start()

    asyncio.run_coroutine_threadsafe(keep(), api.loop).result(10)
    yield api
    api.stop()


def test_a_drills_trail_holds_until_one_byte_is_changed(api: RunningApi, tmp_path: Path) -> None:
    started = run("drill", "start", "lose_provider", "--share", "5", "--reason", "monthly", "--url", api.url)
    drill = next(word for word in started.output.split() if word.startswith("drl_"))
    assert "turns lost         0" in run("drill", "status", drill, "--url", api.url).output
    run("drill", "stop", drill, "--url", api.url)
    while api.server.audit.waiting:
        pass

    exported = run("audit", "export", "--url", api.url).output
    lines = exported.encode().splitlines()
    acts = [json.loads(line) for line in lines]
    told = [(act["action"], act["reason"]) for act in acts if act["subject"] == drill]
    assert told == [("drill.started", "monthly"), ("drill.stopped", "")]
    path = tmp_path / "audit.jsonl"
    path.write_text(exported)
    assert f"{len(lines)} entries, nothing was changed" in run("audit", "verify", str(path)).output

    for at, line in enumerate(lines):
        if acts[at]["subject"] != drill:
            continue
        for byte in range(len(line)):
            changed = bytearray(line)
            changed[byte] ^= 1
            with pytest.raises(AuditBroken) as broken:
                verify([*lines[:at], bytes(changed), *lines[at + 1 :]])
            assert broken.value.seq == at + 1, f"byte {byte} of {line!r}"

    path.write_text(exported.replace(f'"{drill}"', f'"{drill[:-1]}x"', 1))
    done = CliRunner().invoke(main, ["audit", "verify", str(path)])
    assert done.exit_code == 1
    assert "BROKEN at entry" in done.output
