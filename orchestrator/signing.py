"""Signatures of the requests we send to a service's own addresses, as Standard Webhooks has them.

Whoever shares the secret can tell that a body came from here, and when: the headers ``webhook-id``,
``webhook-timestamp`` and ``webhook-signature`` are verified by any library for Standard Webhooks.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time

PREFIX = "whsec_"


class SecretInvalid(ValueError):
    """A secret that cannot sign. It is never in the message."""


def key_of(secret: str) -> bytes:
    """The bytes that sign: those behind ``whsec_`` are base64, anything else is taken as it is written.

    Raises `SecretInvalid` for base64 that is none, and for an empty secret.
    """
    if not secret.startswith(PREFIX):
        key = secret.encode()
    else:
        try:
            key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
        except ValueError:
            raise SecretInvalid(f"expected base64 behind {PREFIX}") from None
    if not key:
        raise SecretInvalid(f"expected {PREFIX} and base64, got nothing to sign with")
    return key


def sign(key: bytes, message_id: str, body: bytes, at: float) -> str:
    """The signature of one message, sent at Unix second `at`."""
    told = f"{message_id}.{int(at)}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, told, hashlib.sha256).digest()).decode()


def signed_headers(
    key: bytes, body: bytes, *, message_id: str | None = None, at: float | None = None
) -> dict[str, str]:
    """Headers that sign `body`. A repetition of the same message keeps its `message_id`."""
    message_id, at = message_id or "msg_" + secrets.token_hex(12), time.time() if at is None else at
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at)),
        "webhook-signature": sign(key, message_id, body, at),
    }
