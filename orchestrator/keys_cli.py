"""`orchestrator keys`: make API keys, list, rotate and revoke them, without a running server."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.markup import escape

from orchestrator.asking import config_option, json_option, login
from orchestrator.config import Settings, SettingsError, load_settings
from orchestrator.tables import ago, make_console, make_table

T = TypeVar("T")

_SCOPES = ("service", "operator", "metrics")
_STORE_S = 2.0
"""How long Redis may take: nobody's call waits for it here."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST_S = 10 * 366 * 86_400


def _seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    found = re.fullmatch(r"(\d+)([smhd])", value.strip().lower())
    seconds = int(found[1]) * _UNITS[found[2]] if found else -1
    if not 0 <= seconds <= _LONGEST_S:
        raise click.BadParameter(
            f"expected a duration like 90s, 15m, 24h or 90d, at most ten years, got {value!r}"
        )
    return float(seconds)


@click.group(
    epilog="""\b
Examples:
  orchestrator keys create --name shop --scope service
  orchestrator keys create --name grafana --scope metrics --expires 365d
  orchestrator keys list
  orchestrator keys rotate 1f2e3d4c --overlap 24h     the old secret works for another day
  orchestrator keys revoke 1f2e3d4c

\b
Scopes: service (calls, speech, routing), operator (overrides, approvals, prompts, status), metrics (figures).
None holds another one; a key may have several.
"""
)
def keys() -> None:
    """Make API keys, list, rotate and revoke them.

    They are in Redis where redis.url (REDIS_URL) is set, else in the file of access.keys_path. Running servers take a
    change over within a second. Of a secret only a hash is kept: it is shown once, when it is made.
    """


@keys.command(
    short_help="Make a key.",
    epilog="""\b
Examples:
  orchestrator keys create --name shop --scope service
  orchestrator keys create --name ann --scope operator --scope metrics --expires 90d
  orchestrator keys create --name shop --scope service --json | jq -r .key
""",
)
@click.option("--name", required=True, help="Who it is for; it stands in records and in logs.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(_SCOPES),
    help="What it may do; may be given more than once.",
)
@click.option("--expires", callback=_seconds, help="After how long it ends by itself: 90d. By default never.")
@json_option
@config_option
def create(
    name: str, scopes: tuple[str, ...], expires: float | None, as_json: bool, config: Path | None
) -> None:
    """Make a key, and show it this once."""
    from orchestrator.server.identity import Scope
    from orchestrator.server.keys import new_key

    now = time.time()
    until = None if expires is None else now + expires
    _change(
        config,
        "key.created",
        lambda ring: new_key(name, [Scope(scope) for scope in scopes], now, until),
        now,
        as_json,
    )


@keys.command(
    "list",
    short_help="Show which keys there are.",
    epilog="""\b
Examples:
  orchestrator keys list
  orchestrator keys list --json | jq -r '.keys[] | select(.state == "active") | .name'
""",
)
@json_option
@config_option
def list_(as_json: bool, config: Path | None) -> None:
    """Show which keys there are, and those that ended within the last 30 days."""
    from orchestrator.server.key_store import read_keys

    where, ring = _run(config, lambda store, audit: _with(store.where, read_keys(store)))
    now = time.time()
    found = [key.told(now) for key in sorted(ring, key=lambda key: key.created)]
    if as_json:
        click.echo(json.dumps({"keys": found}, indent=2))
    elif not found:
        click.echo(f"There is no key in {where}. Make one with: orchestrator keys create")
    else:
        _show(found, now)


@keys.command(
    short_help="Give a key another secret.",
    epilog="""\b
Examples:
  orchestrator keys rotate 1f2e3d4c                  the old secret works for another day
  orchestrator keys rotate 1f2e3d4c --overlap 0s     it has leaked: the old one ends now
""",
)
@click.argument("id")
@click.option(
    "--overlap",
    callback=_seconds,
    default="24h",
    show_default=True,
    help="How long the secret of before still works; 0s ends it at once.",
)
@json_option
@config_option
def rotate(id: str, overlap: float, as_json: bool, config: Path | None) -> None:
    """Give the key ID another secret, and show it this once. A secret that was rotated out before ends now."""
    from orchestrator.server.keys import rotated

    now = time.time()
    _change(config, "key.rotated", lambda ring: rotated(ring[id], now, overlap), now, as_json)


@keys.command(
    short_help="End a key.",
    epilog="""\b
Example:
  orchestrator keys revoke 1f2e3d4c     its id, as in vo_1f2e3d4c_…
""",
)
@click.argument("id")
@json_option
@config_option
def revoke(id: str, as_json: bool, config: Path | None) -> None:
    """End the key ID, all its secrets, for good. Calls that it has opened go on."""
    from orchestrator.server.keys import revoked

    now = time.time()
    _change(config, "key.revoked", lambda ring: (revoked(ring[id], now), ""), now, as_json)


def _change(
    config: Path | None, action: str, change: Callable[[Any], Any], now: float, as_json: bool
) -> None:
    where, (key, secret) = _run(
        config, lambda store, audit: _with(store.where, _changed(store, audit, action, change, now))
    )
    told = key.told(now)
    if as_json:
        click.echo(json.dumps(told | ({"key": secret} if secret else {}), indent=2))
    elif secret:
        scopes = f"scope{'s' if len(key.scopes) > 1 else ''} {', '.join(told['scopes'])}"
        click.echo(f"Key {key.id} ({key.name}) with the {scopes}, kept in {where}.\n")
        click.echo(f"  {secret}\n")
        click.echo("It is shown this once. Send it as `Authorization: Bearer <key>`.")
        if key.old_until is not None and key.old_until > now:
            click.echo(f"The secret of before works for {ago(now, key.old_until)} still.")
    else:
        click.echo(f"Key {key.id} ({key.name}) is revoked.")


async def _changed(store: Any, audit: Any, action: str, change: Callable[[Any], Any], now: float) -> Any:
    """The change, and its entry in the audit trail, which the server need not run for."""
    from orchestrator.server.key_store import change_keys

    key, secret = await change_keys(store, change, now)
    told = key.told(now)
    facts = {
        name: told[name] for name in ("name", "scopes", "expires", "old_until") if told[name] is not None
    }
    audit.note(f"cli:{login()}", action, key.id, **{"key_name": facts.pop("name"), **facts})
    return key, secret


async def _with(where: str, work: Coroutine[Any, Any, T]) -> tuple[str, T]:
    return where, await work


def _run(config: Path | None, work: Callable[[Any, Any], Coroutine[Any, Any, T]]) -> T:
    """Does something with the keys' store and the audit trail; whatever goes wrong ends the command with a remedy."""
    from orchestrator.server.key_store import KeysAway
    from orchestrator.server.keys import KeysInvalid, UnknownKey

    settings = _settings(config)

    async def run() -> T:
        async with _open(settings) as (store, audit):
            return await work(store, audit)

    try:
        return asyncio.run(run())
    except (KeysAway, KeysInvalid, UnknownKey) as error:
        raise click.ClickException(str(error)) from None


class _open:
    """The store of keys and the audit trail, for a while."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def __aenter__(self) -> Any:
        from orchestrator.server.audit import Audit
        from orchestrator.server.key_store import key_store
        from orchestrator.server.store import RedisStore

        url = self._settings.redis.url
        self._redis = None if url is None else RedisStore(url.get_secret_value(), _STORE_S)
        self._audit = Audit.from_settings(self._settings, self._redis)
        return key_store(self._settings, self._redis), self._audit

    async def __aexit__(self, *_: object) -> None:
        if self._audit.waiting:
            await self._audit.start()
        await self._audit.close()
        if self._redis is not None:
            await self._redis.close()


def _settings(config: Path | None) -> Settings:
    # The first key is what a server on another address waits for: without it these settings are of no use yet.
    alone: dict[str, Any] = {"server__host": "127.0.0.1", "access__trusted_proxies": ()}
    try:
        return load_settings(config, **alone)
    except SettingsError as error:
        raise click.ClickException(f"the settings cannot be used:\n{error}") from None


def _show(found: list[dict[str, Any]], now: float) -> None:
    table = make_table("Keys", "id", "name", "scopes", "state", "made", "rotated", "ends")
    for key in found:
        colour = {"active": "green", "rotating": "yellow"}.get(key["state"], "red")
        table.add_row(
            key["id"],
            escape(key["name"]),
            ", ".join(key["scopes"]),
            f"[{colour}]{key['state']}[/]",
            ago(key["created"], now, " ago"),
            ago(key["rotated"], now, " ago"),
            _end(key["expires"], now),
        )
    make_console().print(table)


def _end(expires: float | None, now: float) -> str:
    if expires is None:
        return "never"
    return f"in {ago(now, expires)}" if expires > now else ago(expires, now, " ago")
