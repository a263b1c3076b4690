"""What a figure depends on beside the code: versions, processor, load."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = (
    "voice-orchestrator",
    "cartesia",
    "faster-whisper",
    "kokoro-onnx",
    "litellm",
    "numpy",
    "onnxruntime",
    "openai",
    "picows",
    "uvicorn",
    "uvloop",
    "websockets",
    "xllamacpp",
)


def describe() -> dict[str, Any]:
    """Facts of this machine, without its name."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cpus": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def load() -> list[float]:
    """Processes that wanted to run, on average over 1, 5 and 15 minutes."""
    return [round(average, 2) for average in os.getloadavg()]


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
