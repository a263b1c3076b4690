"""Where recordings lie: by day, for each call a sound file and a JSON file with its timeline.

``2026-03-01/call_5f2c8e1a90b4.ogg`` and ``.json``; while a call lives, ``.part``. Everything here waits for the disk.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from orchestrator.core.redaction import Redactor
from orchestrator.operations_sections import Recording as RecordingSettings
from orchestrator.server.event_fields import show
from orchestrator.server.events import Row

ENDINGS = {"opus": ".ogg", "flac": ".flac"}
MEDIA_TYPES = {".ogg": "audio/ogg;codecs=opus", ".flac": "audio/flac"}
ABOUT, PART = ".json", ".part"


@dataclass(frozen=True, slots=True)
class Kept:
    """The files of one recording."""

    sound: Path

    @property
    def folder(self) -> Path:
        return self.sound.parent

    @property
    def part(self) -> Path:
        return self.sound.with_suffix(PART)

    @property
    def about(self) -> Path:
        return self.sound.with_suffix(ABOUT)

    @property
    def media_type(self) -> str:
        return MEDIA_TYPES[self.sound.suffix]


class Library:
    """`find`, `read` and `delete` may be used from any thread."""

    def __init__(self, settings: RecordingSettings, redactor: Redactor) -> None:
        self._folder, self._format, self._transcript = settings.folder, settings.format, settings.transcript
        self._redactor = redactor

    def place(self, call_id: str, started_at: float) -> Kept:
        """Where the recording of a call that begins is to lie. Makes the folder."""
        day = time.strftime("%Y-%m-%d", time.gmtime(started_at))
        folder = self._folder / day
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Kept(folder / f"{call_id}{ENDINGS[self._format]}")

    def keep(self, kept: Kept, about: Mapping[str, Any], rows: Sequence[Row]) -> None:
        """The sound is written. The JSON file comes last: what has one is whole."""
        os.replace(kept.part, kept.sound)
        told = {**about, "transcript": self._transcript, "rows": [self._shown(row, about) for row in rows]}
        part = kept.about.with_suffix(ABOUT + PART)
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(orjson.dumps(told, default=str))
        os.replace(part, kept.about)

    def _shown(self, row: Row, about: Mapping[str, Any]) -> Row:
        shown = (
            row if self._transcript == "full" else show(row, self._redactor, text=self._transcript != "none")
        )
        return {"at_ms": round((row["time"] - about["started_at"]) * 1000), **shown}

    def find(self, call_id: str) -> Kept | None:
        """A recording that is whole; `call_id` is one."""
        for about in self._folder.glob(f"*/{call_id}{ABOUT}"):
            for ending in MEDIA_TYPES:
                kept = Kept(about.with_suffix(ending))
                if kept.sound.is_file():
                    return kept
        return None

    def read(self, call_id: str) -> dict[str, Any] | None:
        """What lies beside the sound."""
        kept = self.find(call_id)
        try:
            return None if kept is None else dict(orjson.loads(kept.about.read_bytes()))
        except FileNotFoundError:
            return None

    def delete(self, call_id: str) -> bool:
        kept = self.find(call_id)
        if kept is None:
            return False
        self.drop(kept)
        return True

    def drop(self, kept: Kept) -> None:
        for path in (kept.about, kept.sound, kept.part):
            path.unlink(missing_ok=True)

    def sweep(self, before: float) -> int:
        """Deletes what was last written before that, in Unix seconds; how many recordings that were."""
        count = 0
        for folder in sorted(self._folder.glob("????-??-??")):
            for path in sorted(folder.iterdir()):
                if path.suffix in (ABOUT, PART, *MEDIA_TYPES) and path.stat().st_mtime < before:
                    path.unlink(missing_ok=True)
                    count += path.suffix in MEDIA_TYPES
            if not any(folder.iterdir()):
                folder.rmdir()
        return count
