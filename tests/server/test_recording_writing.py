"""Files of sound as a player takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import av
import pytest

from orchestrator.server.recording_writing import LEAST, SoundFile


@pytest.mark.parametrize("format", ["opus", "flac"])
def test_a_call_without_any_sound_has_a_file_that_can_be_played(
    format: Literal["opus", "flac"], tmp_path: Path
) -> None:
    path = tmp_path / "call.part"
    SoundFile(path, format).close()
    with av.open(str(path)) as file:
        frames = list(file.decode(audio=0))
    assert sum(frame.samples for frame in frames) >= LEAST
    assert not any(frame.to_ndarray().any() for frame in frames)
