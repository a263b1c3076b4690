"""What a provider says of itself: errors that end a session, failed responses, when its session will end."""

from __future__ import annotations

from orchestrator.core.context import CallContext
from orchestrator.core.health import Cause
from orchestrator.protocol.wire import Event

TERMINAL_CODES = {
    "invalid_api_key": Cause.BAD_KEY,
    "account_deactivated": Cause.BAD_KEY,
    "insufficient_quota": Cause.NO_CREDIT,
    "credit_balance_exhausted": Cause.NO_CREDIT,
    "billing_hard_limit_reached": Cause.NO_CREDIT,
    "model_not_found": Cause.MODEL_NOT_FOUND,
    "missing_model": Cause.MODEL_NOT_FOUND,
    "invalid_model": Cause.MODEL_NOT_FOUND,
    "session_expired": Cause.EXPIRED,
}
"""Error codes after which the provider session is of no use, with what they say of the rung."""


def expiry(ctx: CallContext, session: Event, now: float) -> float:
    """When a provider will end its session, on the call's clock: by its own word, else after the usual limit.

    A word that cannot be (two clocks that disagree) is not taken.
    """
    said, limit = session.get("expires_at"), ctx.policy.session_limit_s
    left = said - ctx.wall_offset - now if isinstance(said, int | float) else limit
    return now + (left if 0 < left <= limit + 60 else limit)


def failure(wire: Event) -> Cause:
    """What a failed response says of its rung."""
    error = (wire.get("status_details") or {}).get("error") or {}
    code = str(error.get("code") or error.get("type") or "")
    if code in TERMINAL_CODES:
        return TERMINAL_CODES[code]
    return Cause.RATE_LIMITED if "rate_limit" in code else Cause.RESPONSE_FAILED
