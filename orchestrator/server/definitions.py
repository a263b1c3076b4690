"""The catalogue as it is at this moment: built in, from the operator's file, and what was defined by API on top.

A file that changes is taken over without a restart, and so is what another replica was told. What cannot be used is
not: the prompts stay as they were, and the log and the API say why.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.config_sections import TierC
from orchestrator.server.store import Store, StoreUnavailable
from tiers.prompts.catalogue import Catalogue, CatalogueInvalid, Prompt
from tiers.prompts.prompts import Prompts
from tiers.prompts.sources import read_tables
from tiers.urgency import Priority, asking

log = logging.getLogger(__name__)

KEY = "prompts:definitions"
LOOK_S = 2.0
"""How often the file and the store are looked at."""
NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
MOST = 1000
"""Prompts that may be defined by API."""
MOST_BYTES = 64 * 1024
TRIES = 5


class UnknownDefinition(Exception):
    """Nothing was defined under this name by API."""


class Definitions:
    """Keeps `prompts` up to date. `settings` names the file; the store holds what the API was given."""

    def __init__(self, settings: TierC, store: Store, prompts: Prompts) -> None:
        self._settings = settings
        self._store = store
        self._prompts = prompts
        self._paths: tuple[Path, ...] = (settings.catalogue,) if settings.catalogue else ()
        self._signature = self._look()
        self._held: str | None = None
        self._in_files = _names(self._paths)
        self._over: dict[str, Any] = {}
        self._lock = asyncio.Lock()
        self.problem = ""
        """Why what the file or the store holds now is not in use."""

    async def watch(self) -> None:
        """Takes over what changes; until cancelled."""
        while True:
            try:
                await self.refresh()
            except StoreUnavailable:
                log.debug("the shared store is away; prompts stay as they are")
            await asyncio.sleep(LOOK_S)

    async def refresh(self) -> bool:
        """Takes over what has changed since the last time; True if anything had, and can be used."""
        async with self._lock:
            signature, held = self._look(), await self._store.get(KEY)
            if signature == self._signature and held == self._held:
                return False
            self._signature, self._held = signature, held
            try:
                over = _decoded(held)
                catalogue = await asyncio.to_thread(self._load, over)
            except CatalogueInvalid as error:
                self.problem = str(error)
                log.error("the prompts stay as they were: %s", error)
                return False
            with asking(Priority.BATCH):
                await self._take(catalogue, over)
            return True

    def prompts(self) -> dict[str, tuple[Prompt, str]]:
        """Every prompt in use, and where its newest words are from: built_in, file or api."""
        catalogue = self._prompts.catalogue
        return {name: (catalogue[name], self._origin(name)) for name in catalogue}

    async def put(self, name: str, table: dict[str, Any]) -> Prompt:
        """Defines a prompt, or changes one: what `table` gives stands above the file and the built-in ones.

        Raises `CatalogueInvalid` or `StoreUnavailable`. When this returns the prompt can be said; all replicas have it
        after `LOOK_S`.
        """
        if not NAME.fullmatch(name):
            raise CatalogueInvalid(
                f"expected a name of small letters, digits and _ of at most 64 characters, got {name!r:.80}"
            )
        if len(json.dumps(table)) > MOST_BYTES:
            raise CatalogueInvalid(f"prompt {name}: expected at most {MOST_BYTES} bytes, got more")
        await self._change(lambda over: over | {name: table})
        return self._prompts.catalogue[name]

    async def delete(self, name: str) -> None:
        """Takes back what was defined by API. Raises `UnknownDefinition`, `CatalogueInvalid` or `StoreUnavailable`."""

        def without(over: dict[str, Any]) -> dict[str, Any]:
            if name not in over:
                raise UnknownDefinition(name)
            return {key: table for key, table in over.items() if key != name}

        await self._change(without)

    async def _change(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Read, check, write: again if another replica wrote in between."""
        async with self._lock:
            for _ in range(TRIES):
                held = await self._store.get(KEY)
                over = change(_decoded(held))
                if len(over) > MOST:
                    raise CatalogueInvalid(f"expected at most {MOST} prompts that are defined by API")
                catalogue = await asyncio.to_thread(self._load, over)
                # No two writes hold the same text, so that a repetition after a lost answer can be told apart.
                wanted = json.dumps({"revision": uuid.uuid4().hex, "prompts": over})
                if await self._store.put_if(KEY, held, wanted) == wanted:
                    self._held = wanted
                    with asking(Priority.REQUEST):
                        await self._take(catalogue, over)
                    return
        raise StoreUnavailable("others changed the prompts at the same time")

    async def _take(self, catalogue: Catalogue, over: dict[str, Any]) -> None:
        self._over, self._in_files, self.problem = over, _names(self._paths), ""
        warmed = await self._prompts.use(catalogue)
        log.info("the prompts have changed; %d fixed ones were made anew", warmed.ready)

    def _load(self, over: dict[str, Any]) -> Catalogue:
        catalogue = Catalogue.load(*self._paths, over=over)
        for name in self._settings.bridges_by_cause.values():
            if name not in catalogue or not catalogue[name].bridge:
                raise CatalogueInvalid(
                    f"prompt {name}: the settings use it as a bridge, so it has to stay one"
                )
        return catalogue

    def _origin(self, name: str) -> str:
        if name in self._over:
            return "api"
        return "file" if name in self._in_files else "built_in"

    def _look(self) -> tuple[tuple[int, int], ...]:
        """Changes whenever a file does."""
        found = []
        for path in self._paths:
            try:
                stat = path.stat()
                found.append((stat.st_mtime_ns, stat.st_size))
            except OSError:
                found.append((0, 0))
        return tuple(found)


def _names(paths: tuple[Path, ...]) -> frozenset[str]:
    """The prompts that the files say something of."""
    try:
        return frozenset(name for path in paths for name in read_tables(path))
    except CatalogueInvalid:
        return frozenset()


def _decoded(held: str | None) -> dict[str, Any]:
    """The definitions as the store holds them. Raises `CatalogueInvalid` for what is none of ours."""
    try:
        prompts = json.loads(held)["prompts"] if held else {}
    except (ValueError, KeyError, TypeError):
        prompts = None
    if not isinstance(prompts, dict):
        raise CatalogueInvalid(f"what the store holds under {KEY} are no prompts; delete that key")
    return prompts
