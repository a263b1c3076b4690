"""The signature of a webhook, as Standard Webhooks has it: a reading of its own, to hold a sender against."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Mapping

PREFIX = "whsec_"
TOLERANCE_S = 300
HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")


def secret_bytes(secret: str) -> bytes:
    """The key of a secret: what follows ``whsec_`` is base64, anything else is taken as it stands.

    ValueError where ``whsec_`` is followed by something that is not base64; it does not show the secret.
    """
    if not secret.startswith(PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ValueError(
            f"expected a secret of the form {PREFIX}<base64>: what follows is not base64"
        ) from None


def sign(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    """``v1,<base64 HMAC-SHA256 of id.timestamp.body>``."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret_bytes(secret), signed, hashlib.sha256)).decode()


def refusal(secret: str, headers: Mapping[str, str], body: bytes, now: float | None = None) -> str:
    """Why a request is not taken, empty where its signature is good. `now` in seconds since 1970."""
    message_id, timestamp, signatures = (headers.get(name, "") for name in HEADERS)
    if missing := [name for name in HEADERS if not headers.get(name)]:
        return f"the header {missing[0]} is missing"
    if not timestamp.isdecimal():
        return "webhook-timestamp is not a whole number of seconds"
    if abs((time.time() if now is None else now) - int(timestamp)) > TOLERANCE_S:
        return f"webhook-timestamp is more than {TOLERANCE_S} s away from this clock"
    wanted = sign(secret, message_id, timestamp, body)
    if not any(hmac.compare_digest(wanted, offered) for offered in signatures.split()):
        return "no signature in webhook-signature fits this body"
    return ""
