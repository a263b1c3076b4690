"""The secrets that this process was configured with, and what takes them out of what is shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, SecretStr

from orchestrator.config import Settings
from orchestrator.core.redaction import Redactor

SHORTEST_SECRET = 6
"""What is shorter would be found in the middle of words."""


def secrets_of(settings: BaseModel) -> set[str]:
    """The value of every secret in the settings, and of the passwords in those that are addresses."""

    def found(value: Any) -> Iterable[str]:
        if isinstance(value, SecretStr):
            yield from _with_password(value.get_secret_value())
        elif isinstance(value, BaseModel):
            for name in type(value).model_fields:
                yield from found(getattr(value, name))
        elif isinstance(value, dict):
            for each in value.values():
                yield from found(each)
        elif isinstance(value, list | tuple):
            for each in value:
                yield from found(each)

    return {secret for secret in found(settings) if len(secret) >= SHORTEST_SECRET}


def _with_password(secret: str) -> Iterator[str]:
    yield secret
    try:
        password = urlsplit(secret).password if "://" in secret else None
    except ValueError:
        return  # no address after all
    if password:
        yield from (password, unquote(password))


def redactor_of(settings: Settings) -> Redactor:
    """What takes out the names that are secret here, and every secret that is configured, wherever it stands."""
    return Redactor(settings.business_events.redact, secrets_of(settings))
