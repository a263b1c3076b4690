"""Where the model weights lie, and what to say when they do not.

The engines ask here for paths; `models_fetch` fills the directory. Layout::

    whisper-tiny.en/                             a CTranslate2 folder for faster-whisper
    kokoro/model.onnx                            Kokoro-82M
    kokoro/voices.npz                            voice name -> float32 (510, 1, 256)
    kokoro/SOURCE                                where the voices came from, see `VoicesSource`
    smollm2/SmolLM2-135M-Instruct.Q4_1.gguf      for llama.cpp
    SHA256SUMS                                   what `orchestrator models check` compares with
"""

from __future__ import annotations

import hashlib
import os
from enum import StrEnum
from pathlib import Path

import platformdirs

APP = "voice-orchestrator"
DIRECTORY_VARIABLE = "ORCHESTRATOR_MODELS"
FETCH_COMMAND = "orchestrator models fetch"

WHISPER_FILES = ("config.json", "model.bin", "tokenizer.json", "vocabulary.txt")
WHISPER = "whisper-tiny.en"
KOKORO_MODEL = "kokoro/model.onnx"
KOKORO_VOICES = "kokoro/voices.npz"
KOKORO_SOURCE = "kokoro/SOURCE"
SUMS = "SHA256SUMS"
"""In the format of sha256sum, so `sha256sum -c SHA256SUMS` works as well."""
SMOLLM2 = "smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


class ModelError(Exception):
    """Something about model weights; the message says what to do."""


class ModelMissing(ModelError):
    """Weights that an engine needs are not there."""

    def __init__(self, model: str, path: Path) -> None:
        self.model = model
        self.path = path
        super().__init__(
            f"the {model} weights are missing: expected {path}. Run `{FETCH_COMMAND}`, "
            f"or set {DIRECTORY_VARIABLE} to a directory that holds them."
        )


class FetchFailed(ModelError):
    """Weights could not be fetched. What was complete before is untouched."""


class Corrupt(FetchFailed):
    """What was fetched is not what it should be; it was thrown away."""


class VoicesSource(StrEnum):
    """Where the Kokoro voices came from. `FALLBACK` has Japanese voices only; the others have all of them."""

    NPM = "npm"
    HUB = "hub"
    FALLBACK = "fallback"


def model_dir() -> Path:
    """The directory of all weights: `ORCHESTRATOR_MODELS`, else `models` in the user's cache directory."""
    chosen = os.environ.get(DIRECTORY_VARIABLE)
    return Path(chosen).expanduser() if chosen else cache_dir() / "models"


def cache_dir() -> Path:
    """Where this program may keep what it can fetch again."""
    return Path(platformdirs.user_cache_dir(APP))


def whisper(directory: Path | None = None) -> Path:
    """The folder for `faster_whisper.WhisperModel`. Raises `ModelMissing`."""
    folder = (directory or model_dir()) / WHISPER
    for name in WHISPER_FILES:
        _present("Whisper tiny.en", folder / name)
    return folder


def kokoro_model(directory: Path | None = None) -> Path:
    """The ONNX file for `kokoro_onnx.Kokoro`. Raises `ModelMissing`."""
    return _present("Kokoro", (directory or model_dir()) / KOKORO_MODEL)


def kokoro_voices(directory: Path | None = None) -> Path:
    """The npz file of voices for `kokoro_onnx.Kokoro`. Raises `ModelMissing`."""
    return _present("Kokoro voices", (directory or model_dir()) / KOKORO_VOICES)


def voices_source(directory: Path | None = None) -> VoicesSource:
    """Which voices those are. Raises `ModelMissing`."""
    path = _present("Kokoro voices", (directory or model_dir()) / KOKORO_SOURCE)
    return VoicesSource(path.read_text(encoding="utf-8").strip())


def kokoro_weights(directory: Path | None = None) -> str:
    """What tells the model and the voices from others, in eight characters: "" where no checksums stand beside them."""
    names = (KOKORO_MODEL, KOKORO_VOICES)
    try:
        lines = ((directory or model_dir()) / SUMS).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    sums = sorted(line for line in lines if line.partition("  ")[2] in names)
    return hashlib.sha256("\n".join(sums).encode()).hexdigest()[:8] if sums else ""


def smollm2(directory: Path | None = None) -> Path:
    """The gguf file for llama.cpp. Raises `ModelMissing`."""
    return _present("SmolLM2", (directory or model_dir()) / SMOLLM2)


def _present(model: str, path: Path) -> Path:
    if not path.is_file():
        raise ModelMissing(model, path)
    return path
