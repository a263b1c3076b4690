"""The environments that peers run in: their packages cannot share ours, so each has its own, made from its lock."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.processes import BenchmarkError

ROOT = Path(__file__).resolve().parents[2]
UV = Path(sys.executable).with_name("uv")


@dataclass(frozen=True, slots=True)
class Environment:
    """`packages`: what of the lock a reader wants to know the version of."""

    name: str
    packages: tuple[str, ...]

    @property
    def lock(self) -> Path:
        return Path(__file__).with_name(f"{self.name}.lock")

    @property
    def folder(self) -> Path:
        return ROOT / f".venv-peers-{self.name}"

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    def versions(self) -> dict[str, str]:
        return {name: pinned(self.lock.read_text(), name) for name in self.packages}

    @property
    def _mark(self) -> Path:
        return self.folder / ".locked"

    def is_made(self) -> bool:
        """Whether it is there and was made from the lock as it is now."""
        return self._mark.exists() and self._mark.read_text() == _digest(self.lock)

    def make(self, console: Console) -> None:
        """Install the locked packages, unless they are installed already."""
        if self.is_made():
            return
        if not UV.exists():
            raise BenchmarkError(f"expected uv at {UV} to install {self.name} with; run `make install` first")
        console.print(f"Installing {self.name} into {self.folder.name}, this once …", highlight=False)
        self._uv("venv", "--quiet", "--allow-existing", "--python", sys.executable, str(self.folder))
        python = str(self.bin / "python")
        self._uv("pip", "sync", "--python", python, "--require-hashes", str(self.lock))
        self._mark.write_text(_digest(self.lock))

    def _uv(self, *arguments: str) -> None:
        """Its own progress is shown."""
        try:
            subprocess.run([UV, *arguments], check=True, cwd=ROOT)
        except subprocess.CalledProcessError as error:
            message = (
                f"installing {self.name} failed (uv {arguments[0]}: status {error.returncode}); see above"
            )
            raise BenchmarkError(message) from None


LIVEKIT = Environment("livekit", ("livekit-agents", "livekit-plugins-openai", "livekit", "openai", "aiohttp"))
LITELLM = Environment("litellm", ("litellm", "litellm-proxy-extras", "openai", "uvicorn", "websockets"))

PIPECAT = Environment("pipecat", ("pipecat-ai", "faster-whisper", "kokoro-onnx", "onnxruntime", "openai"))


def pinned(lock: str, name: str) -> str:
    """The version of a package in the text of a lock."""
    found = re.search(rf"^{re.escape(name)}(?:\[[^\]]*\])?==(\S+)", lock, re.MULTILINE)
    if found is None:
        raise BenchmarkError(f"expected {name} in the lock of a peer, found no such line")
    return found[1]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
