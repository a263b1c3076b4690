"""Money for what no call spends: speech and summaries over HTTP.

What may be spent is set aside in the bucket first, at its worst case, by the same count that calls go by: so no cap is
exceeded however many ask at once, at whichever replica. It is settled at what it came to.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from orchestrator.core.ledger import Claim, Grant
from orchestrator.server.ledger import Account, Ledgers


class BudgetSpent(Exception):
    """It costs money that is not there."""

    def __init__(self, bucket: str) -> None:
        super().__init__(f"bucket {bucket} has nothing left for it today")
        self.bucket = bucket


@dataclass(slots=True)
class Tab:
    """What something comes to, in nano-dollars. None: nobody has said."""

    cost: int | None = None


class Purse:
    """The buckets of a fleet, for one expense at a time."""

    def __init__(self, ledgers: Ledgers) -> None:
        self._ledgers = ledgers

    @asynccontextmanager
    async def take(self, bucket: str, worst: int) -> AsyncIterator[Tab]:
        """Sets `worst` nano-dollars aside; within, `cost` of the tab is to be told. Raises `BudgetSpent`.

        Where it is not told, an error is taken to have cost nothing, and anything else, as a hang-up, the worst.
        """
        tab = Tab()
        if worst == 0:
            yield tab
            if tab.cost:
                self._ledgers.spend(bucket, tab.cost)
            return
        account = self._ledgers.open(f"http_{secrets.token_hex(6)}", bucket)
        try:
            await _set_aside(account, worst)
        except BaseException:
            account.close(Claim())
            raise
        cost = worst
        try:
            yield tab
        except Exception:
            cost = 0
            raise
        finally:
            account.close(Claim(cost if tab.cost is None else tab.cost))


async def _set_aside(account: Account, worst: int) -> None:
    granted: asyncio.Future[Grant | None] = asyncio.get_running_loop().create_future()

    def on_grant(grant: Grant | None) -> None:
        if not granted.done():
            granted.set_result(grant)

    account.tell(Claim(ahead=worst), on_grant)
    grant = await granted
    if grant is None or grant.ahead < worst:
        raise BudgetSpent(account.bucket)
    account.tell(Claim(running=worst), lambda grant: None)
