"""Where prompts are written down: TOML or YAML files, each as tables that are laid over one another."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml


class PromptError(Exception):
    """A prompt that cannot be said; the message is for people."""


class CatalogueInvalid(PromptError):
    """A catalogue file is wrong: which file, which prompt, what is expected there."""


def _yaml(text: str) -> Any:
    # Every scalar as text: in YAML's own reading the key `no` is a false, and 12:30 is 750.
    return yaml.load(text, Loader=yaml.BaseLoader)


_READERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    ".toml": ("TOML", tomllib.loads),
    ".yaml": ("YAML", _yaml),
    ".yml": ("YAML", _yaml),
}


def read_tables(path: Path) -> dict[str, Any]:
    """The tables of a file by prompt. Raises `CatalogueInvalid`."""
    form, read = _READERS.get(path.suffix.lower(), _READERS[".toml"])
    try:
        tables = read(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CatalogueInvalid(f"cannot read the prompt catalogue {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise CatalogueInvalid(f"the prompt catalogue {path} is not {form}: {error}") from error
    if tables in (None, ""):
        return {}
    if not isinstance(tables, dict):
        raise CatalogueInvalid(f"the prompt catalogue {path}: expected prompts by name, got {tables!r:.60}")
    return tables


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Tables laid over others: a key given again replaces the old, tables are merged."""
    made = dict(below)
    for key, value in above.items():
        old = made.get(key)
        made[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return made
