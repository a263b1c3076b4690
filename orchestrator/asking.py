"""What commands that ask a server share: where it is, the key, what they end with, and answers for programs."""

from __future__ import annotations

import getpass
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import httpx
from pydantic import BaseModel

from orchestrator.client import Orchestrator, OrchestratorError, Overloaded, Refused, Unreachable
from orchestrator.config import CONFIG_VARIABLE, Settings, SettingsError, load_settings

URL_VARIABLE = "ORCHESTRATOR_URL"
TIMEOUT_S = 10.0

config_option = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar=CONFIG_VARIABLE,
    help=f"A TOML file of settings; also {CONFIG_VARIABLE}.",
)
url_option = click.option(
    "--url",
    envvar=URL_VARIABLE,
    help=f"The server, like http://127.0.0.1:8080; also {URL_VARIABLE}. By default the one of the settings.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="For programs: JSON, as the API has it.")


class NobodyAnswers(click.ClickException):
    exit_code = 3


class KeyRefused(click.ClickException):
    exit_code = 4


class NotNow(click.ClickException):
    exit_code = 5


FAILURES: dict[type[OrchestratorError], type[click.ClickException]] = {
    Unreachable: NobodyAnswers,
    Refused: KeyRefused,
    Overloaded: NotNow,
}
"""What ends a command, with an exit code that scripts tell failures apart by. Whatever else a server says is 1."""


@contextmanager
def asking(url: str | None, config: Path | None) -> Iterator[Orchestrator]:
    """The server of `url`, or of the settings, with their key; whatever goes wrong ends the command."""
    settings = settings_or_end(config)
    key = settings.server.api_key
    address = url or _default_url(settings)
    try:
        with Orchestrator(
            address,
            key.get_secret_value() if key else "",
            timeout_s=TIMEOUT_S,
            ssl_context=_trusting(address, settings),
        ) as orchestrator:
            yield orchestrator
    except OrchestratorError as error:
        failure = next((kind for each, kind in FAILURES.items() if isinstance(error, each)), None)
        raise (failure or click.ClickException)(str(error)) from None


def settings_or_end(config: Path | None, **overrides: Any) -> Settings:
    """The settings; those that cannot be used end the command."""
    try:
        return load_settings(config, **overrides)
    except SettingsError as error:
        raise click.ClickException(f"the settings cannot be used:\n{error}") from None


def _trusting(url: str, settings: Settings) -> ssl.SSLContext | None:
    """One that trusts the certificate of the settings, beside those that everybody trusts, or SSL_CERT_FILE's."""
    if not url.startswith("https:"):
        return None
    context = httpx.create_ssl_context()
    if settings.server.tls_certificate is not None:
        with suppress(OSError):  # a file that is none is none of whom to trust
            context.load_verify_locations(settings.server.tls_certificate)
    return context


def _default_url(settings: Settings) -> str:
    host = settings.server.host
    # What listens on every address listens on this machine's own.
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    scheme = "http" if settings.server.tls_certificate is None else "https"
    return f"{scheme}://{host}:{settings.server.port}"


def login() -> str:
    """Who runs the command."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def as_json_text(answer: BaseModel | dict[str, Any]) -> str:
    """An answer of the server, for programs."""
    told = answer.model_dump(mode="json") if isinstance(answer, BaseModel) else answer
    return json.dumps(told, indent=2)
