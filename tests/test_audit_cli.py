"""`orchestrator audit` against files, and against a server of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import main
from orchestrator.core.audit import Act
from orchestrator.server.audit import Audit
from orchestrator.server.audit_trails import FileTrail
from orchestrator.server.identity import ROOT
from tests.test_cli import RunningApi


def run(*args: str, **options: Any) -> Result:
    return CliRunner().invoke(main, [*args], env={"ORCHESTRATOR_API_KEY": ""}, **options)


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    path = tmp_path / "audit.jsonl"
    FileTrail(path).append_now([Act(f"r-{n}", n, "root", "root", "test", f"s{n}", "") for n in range(5)])
    return path


def test_a_trail_that_holds(trail: Path) -> None:
    done = run("audit", "verify", str(trail))
    assert done.exit_code == 0
    assert "5 entries, nothing was changed. Head: 5:" in done.output


def test_the_first_wrong_entry_is_named(trail: Path) -> None:
    trail.write_text(trail.read_text().replace('"s2"', '"sX"'))
    done = run("audit", "verify", str(trail))
    assert done.exit_code == 1
    assert "BROKEN at entry 3: its content" in done.output
    told = run("audit", "verify", str(trail), "--json")
    assert told.exit_code == 1
    assert json.loads(told.output)["first_wrong"] == 3


def test_a_cut_tail_is_found_with_a_head(trail: Path) -> None:
    head = json.loads(run("audit", "verify", str(trail), "--json").output)["head"]
    trail.write_bytes(b"".join(trail.read_bytes().splitlines(keepends=True)[:3]))
    assert run("audit", "verify", str(trail)).exit_code == 0
    done = run("audit", "verify", str(trail), "--head", head)
    assert done.exit_code == 1
    assert "entry 4: it is gone" in done.output


def test_a_head_that_is_none(trail: Path) -> None:
    done = run("audit", "verify", str(trail), "--head", "5:abc")
    assert done.exit_code == 2
    assert "audit head" in done.output


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    api = RunningApi()
    path = tmp_path_factory.mktemp("audit") / "audit.jsonl"

    async def fill() -> None:
        api.server.audit = Audit(FileTrail(path))
        await api.server.audit.start()
        for number in range(1500):
            api.server.audit.note(ROOT, "override.made", f"ovr_{number}", "a [drill]", share=50.0)

    asyncio.run_coroutine_threadsafe(fill(), api.loop).result(10)
    while api.server.audit.waiting:
        pass
    yield api
    api.stop()


def test_what_is_exported_is_what_is_kept(api: RunningApi, tmp_path: Path) -> None:
    exported = run("audit", "export", "--url", api.url)
    trail = api.server.audit.trail
    assert exported.output.splitlines() == Path(trail.where).read_text().splitlines()
    head = run("audit", "head", "--url", api.url).output.strip()
    assert json.loads(run("audit", "head", "--json", "--url", api.url).output) == {
        "head": head,
        "entries": 1500,
    }
    (tmp_path / "audit.jsonl").write_text(exported.output)
    done = run("audit", "verify", str(tmp_path / "audit.jsonl"), "--head", head)
    assert (done.exit_code, "1500 entries" in done.output) == (0, True)


def test_the_latest_are_listed(api: RunningApi) -> None:
    listed = run("audit", "list", "--limit", "3", "--url", api.url)
    assert "ovr_1499" in listed.output
    assert "ovr_1496" not in listed.output
    assert "a [drill]" in listed.output
    told = json.loads(
        run("audit", "list", "--after", "10", "--limit", "2", "--json", "--url", api.url).output
    )
    assert [entry["seq"] for entry in told["entries"]] == [11, 12]
