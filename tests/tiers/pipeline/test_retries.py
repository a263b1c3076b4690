"""What is tried again: only what cannot have arrived."""

from __future__ import annotations

import httpx
import pytest

from tiers.pipeline.retries import not_reached, retrying


class WrappedError(Exception):
    """As a provider's library has it."""


def wrapped(error: Exception) -> WrappedError:
    outer = WrappedError()
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    ("error", "unreached", "tries"),
    [
        (httpx.ConnectError("x"), True, 2),
        (wrapped(httpx.ConnectError("x")), True, 2),
        (wrapped(ConnectionRefusedError()), True, 2),
        (httpx.ConnectTimeout("x"), True, 1),
        (httpx.ReadTimeout("x"), False, 1),
        (httpx.ReadError("x"), False, 1),
        (httpx.RemoteProtocolError("x"), False, 1),
        (ValueError("x"), False, 1),
    ],
)
async def test_only_a_refused_connection_is_tried_again(
    error: Exception, unreached: bool, tries: int
) -> None:
    made = []

    async def fail() -> None:
        made.append(1)
        raise error

    with pytest.raises(type(error)):
        await retrying()(fail)
    assert (not_reached(error), len(made)) == (unreached, tries)
