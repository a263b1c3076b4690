"""The peers' environments: what is pinned, and that they are made anew when their lock changes."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.peers import environments
from benchmarks.peers.environments import LITELLM, LIVEKIT, PIPECAT, Environment, pinned
from benchmarks.processes import BenchmarkError


@pytest.mark.parametrize("environment", [LIVEKIT, LITELLM, PIPECAT], ids=lambda each: each.name)
def test_a_lock_pins_what_is_asked_for_with_hashes_and_names_no_host(environment: Environment) -> None:
    lock = environment.lock.read_text()
    asked = environment.lock.with_suffix(".in").read_text().split()
    for requirement in asked:
        name, _, version = re.sub(r"\[[^\]]*\]", "", requirement).partition("==")
        assert pinned(lock, name) == version
    assert lock.count("\n    --hash=sha256:") >= lock.count("==")
    assert "://" not in lock
    assert set(environment.versions()) == set(environment.packages)


def test_a_package_that_is_not_in_the_lock_is_named() -> None:
    with pytest.raises(BenchmarkError, match="expected nonsense in the lock"):
        pinned("sense==1.0 \\\n", "nonsense")


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """One whose lock and folder lie in a folder of this test."""
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    monkeypatch.setattr(environments, "__file__", str(tmp_path / "environments.py"))
    (tmp_path / "peer.lock").write_text("peer==1.0\n")
    return Environment("peer", ("peer",))


def test_packages_are_installed_once_and_again_when_the_lock_changes(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[str, ...]] = []

    def uv(self: Environment, *arguments: str) -> None:
        ran.append(arguments[:2])
        self.folder.mkdir(exist_ok=True)

    monkeypatch.setattr(Environment, "_uv", uv)
    monkeypatch.setattr(environments, "UV", Path(__file__))
    console = Console(file=io.StringIO())
    environment.make(console)
    environment.make(console)
    assert ran == [("venv", "--quiet"), ("pip", "sync")]
    environment.lock.write_text("peer==2.0\n")
    assert not environment.is_made()
    environment.make(console)
    assert len(ran) == 4
    assert environment.versions() == {"peer": "2.0"}


def test_without_uv_it_says_what_to_do(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "UV", environments.ROOT / "uv")
    with pytest.raises(BenchmarkError, match="run `make install` first"):
        environment.make(Console(file=io.StringIO()))
