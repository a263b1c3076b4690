"""Signed requests are verified by somebody else's implementation of Standard Webhooks."""

from __future__ import annotations

import pytest
from openai import InvalidWebhookSignatureError, OpenAI

from orchestrator.signing import SecretInvalid, key_of, signed_headers

SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSB0ZXN0cw=="
BODY = '{"text": "Größe ✓"}'.encode()


def verify(headers: dict[str, str], body: bytes = BODY, secret: str = SECRET) -> None:
    OpenAI(api_key="unused").webhooks.verify_signature(body, headers, secret=secret)


@pytest.mark.parametrize("secret", [SECRET, "just words"])
def test_a_signature_is_verified_by_the_openai_library(secret: str) -> None:
    verify(signed_headers(key_of(secret), BODY), secret=secret)


def test_another_body_secret_or_time_does_not_fit() -> None:
    headers = signed_headers(key_of(SECRET), BODY)
    with pytest.raises(InvalidWebhookSignatureError, match="does not match"):
        verify(headers, BODY + b" ")
    with pytest.raises(InvalidWebhookSignatureError, match="does not match"):
        verify(headers, secret="whsec_b3RoZXI=")
    with pytest.raises(InvalidWebhookSignatureError, match="too old"):
        verify(signed_headers(key_of(SECRET), BODY, at=1_000_000))


def test_a_repetition_keeps_its_id_and_every_other_message_has_its_own() -> None:
    key = key_of(SECRET)
    again = [signed_headers(key, BODY, message_id="msg_1", at=1_700_000_000.9) for _ in range(2)]
    assert again[0] == again[1]
    assert again[0]["webhook-timestamp"] == "1700000000"
    assert signed_headers(key, BODY)["webhook-id"] != signed_headers(key, BODY)["webhook-id"]


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_not base64!"])
def test_a_secret_that_cannot_sign_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(SecretInvalid) as caught:
        key_of(secret)
    assert "not base64!" not in str(caught.value)
