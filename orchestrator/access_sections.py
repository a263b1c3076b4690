"""Settings of the front door: who may come in, what credentials are made of, how much of anything may come."""

from __future__ import annotations

from pathlib import Path

from orchestrator.config_sections import Section


class Access(Section):
    """Who may use this server, beside the bearer of `server.api_key`."""

    keys_path: Path | None = None
    """The file of keys where there is no Redis. None is keys.json in the user's data folder."""


class Credentials(Section):
    """Credentials that open one call each."""


class Limits(Section):
    """How much one client may ask of this server, and for how long."""
