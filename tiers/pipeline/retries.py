"""Trying again what was surely not sent: who refused our connection has done nothing, and bills nothing.

Anything else is left to the next rung, which is quicker than a second try. How long it may all take is bounded by who
waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_none

_NO_CONNECTION = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, ConnectionRefusedError)


def not_reached(error: BaseException) -> bool:
    """Whether there was no connection to send anything on."""
    return any(isinstance(cause, _NO_CONNECTION) for cause in _causes(error))


def retrying() -> AsyncRetrying:
    """Call it with what is to be awaited and its arguments: one more try where the connection was refused."""
    return AsyncRetrying(
        stop=stop_after_attempt(2), wait=wait_none(), retry=retry_if_exception(_refused), reraise=True
    )


def _refused(error: BaseException) -> bool:
    """At once, that is: a connection that timed out has cost the caller enough."""
    slow = any(isinstance(cause, httpx.TimeoutException) for cause in _causes(error))
    return not_reached(error) and not slow


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what is behind it: LiteLLM and the providers' own libraries wrap what tells."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
