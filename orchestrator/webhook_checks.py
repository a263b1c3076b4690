"""What can be wrong with the settings of webhooks and of business events, found at the start and not in a call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import SecretStr

from orchestrator.signing import SecretInvalid, key_of

if TYPE_CHECKING:
    from orchestrator.config import Settings

IsHere = Callable[[str], bool]
"""Whether a host can only mean this machine."""


def business_problems(settings: Settings, is_here: IsHere) -> Iterator[tuple[str, str]]:
    """Settings of business events and transfers that do not work, each with what to do."""
    events, transfer, summary = settings.business_events, settings.transfer, settings.summary
    for sink, times in Counter(events.sinks).items():
        if times > 1:
            yield "business_events.sinks", f"{sink!r} is named {times} times; name it once"
    if "redis" in events.sinks and settings.redis.url is None:
        yield "business_events.sinks", "a Redis stream needs redis.url (REDIS_URL); set it, or use file"
    if "webhook" in events.sinks and events.url is None:
        yield "business_events.sinks", "a webhook needs business_events.url; set it, or use file"
    if events.url is not None and "webhook" not in events.sinks:
        named = ", ".join([*events.sinks, "webhook"])
        yield "business_events.url", f'not used while business_events.sinks is without webhook; set "{named}"'
    if summary.at_hang_up and summary.url is None:
        yield "summary.at_hang_up", "summaries go to a webhook; set summary.url and summary.secret too"
    if summary.at_hang_up and settings.links.public_url is None:
        yield (
            "summary.at_hang_up",
            "whoever is told of a summary fetches its audio here; set links.public_url to where that is",
        )
    for section, url, secret in (
        ("business_events", events.url, events.secret),
        ("transfer", transfer.url, transfer.secret),
        ("summary", summary.url, summary.secret),
    ):
        for field, problem in webhook_problems(url, secret, is_here):
            yield f"{section}.{field}", problem


def webhook_problems(url: str | None, secret: SecretStr | None, is_here: IsHere) -> Iterator[tuple[str, str]]:
    """What does not work with a signed webhook: the field, "url" or "secret", and what to do."""
    if url is None:
        if secret is not None:
            yield "secret", "a secret without a url, where nothing is signed; set url, or remove it"
        return
    if secret is None:
        yield (
            "url",
            "requests have to be signed; set secret to whsec_ and base64, and verify it at that address",
        )
        return
    parts = urlsplit(url)
    if parts.scheme == "http" and not is_here(parts.hostname or ""):
        yield "url", "what callers say goes there, so that it has to be https:// except on this machine"
    try:
        key_of(secret.get_secret_value())
    except SecretInvalid as error:
        yield "secret", str(error)
