"""`orchestrator serve`: the server."""

from __future__ import annotations

import importlib
from pathlib import Path

import click

from orchestrator.asking import config_option, settings_or_end


@click.command(
    short_help="Take calls until interrupted.",
    epilog="""\b
Examples:
  orchestrator serve --port 9000
  orchestrator serve --config /etc/orchestrator.toml
  ORCHESTRATOR_API_KEY=... orchestrator serve --host 0.0.0.0
""",
)
@click.option("--host", help="Address to listen on; others than this machine's own need an API key.")
@click.option("--port", type=click.IntRange(0, 65_535), help="Port to listen on; 0 takes a free one.")
@config_option
def serve(host: str | None, port: int | None, config: Path | None) -> None:
    """Take calls until interrupted.

    Every setting can stand in the configuration file or in the environment; docs/configuration.md lists them.
    """
    settings = settings_or_end(config, server__host=host, server__port=port)
    app = importlib.import_module("orchestrator.server.app")
    app.run(settings)
