"""What both clients share: where the server is, the key, what httpx's errors mean, when to try again. No I/O."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict
from urllib.parse import urlsplit

import httpx
from tenacity import RetryCallState

from orchestrator.client.asks import Ask
from orchestrator.client.errors import (
    Invalid,
    Overloaded,
    ServerFault,
    Unreachable,
    error_of,
    no_orchestrator,
)

URL_VARIABLE = "ORCHESTRATOR_URL"
KEY_VARIABLE = "ORCHESTRATOR_API_KEY"
DEFAULT_URL = "http://127.0.0.1:8080"
FIRST_WAIT_S = 0.2
"""Before the first of the tries that the server has not set a time for; each further one waits twice as long."""


class _Options(TypedDict):
    base_url: str
    headers: dict[str, str]
    timeout: httpx.Timeout
    trust_env: bool
    verify: ssl.SSLContext | bool


@dataclass(frozen=True, slots=True)
class Connection:
    """`url` without a slash at its end. The key is in no field: httpx has it, which shows it nowhere."""

    url: str
    timeout_s: float
    retries: int
    longest_wait_s: float

    @classmethod
    def make(cls, url: str | None, *, timeout_s: float, retries: int, longest_wait_s: float) -> Connection:
        """Raises `Invalid` for an address that is none."""
        given = (url or os.environ.get(URL_VARIABLE) or DEFAULT_URL).rstrip("/")
        return cls(_checked(given), timeout_s, retries, longest_wait_s)

    def options(self, api_key: str | None, ssl_context: ssl.SSLContext | None) -> _Options:
        """What httpx's client is made with. Raises `Invalid` for a key that cannot be sent."""
        return {
            "base_url": self.url,
            "headers": _key_header(api_key),
            "timeout": httpx.Timeout(self.timeout_s),
            # The server is often this machine, and no proxy of the environment is to see the key.
            "trust_env": False,
            "verify": True if ssl_context is None else ssl_context,
        }

    def request(self, ask: Ask[Any]) -> dict[str, Any]:
        """The arguments of httpx's `build_request`. Raises `Invalid` for what JSON cannot hold."""
        content = None if ask.json is None else _as_json(ask.json)
        kind = {} if content is None else {"Content-Type": "application/json"}
        return {
            "method": ask.method,
            "url": ask.path,
            "content": content,
            "params": list(ask.params) or None,
            "headers": {**kind, **ask.headers},
            "timeout": httpx.Timeout(ask.timeout_s or self.timeout_s),
        }

    def failure(self, error: httpx.HTTPError) -> Unreachable:
        """What httpx could not do, without the request, whose headers hold the key."""
        if (failed := _tls_error(error)) is not None:
            return Unreachable(self._no_tls(failed), sent=False)
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
            message = (
                f"nothing answers at {self.url}; start the server with `orchestrator serve`, or say where it "
                f"runs (url, --url or {URL_VARIABLE})"
            )
            return Unreachable(message, sent=False)
        message = (
            f"{self.url} did not answer as it should ({type(error).__name__}); try again, and look at its log"
        )
        if isinstance(error, httpx.RemoteProtocolError) and self.url.startswith("http:"):
            message += "; if it serves TLS, its address begins with https"
        return Unreachable(message)

    def _no_tls(self, error: ssl.SSLError) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            return (
                f"the certificate of {self.url} is not to be trusted ({error.verify_message}); check the address, or "
                "give an ssl_context that knows who made it (on the command line SSL_CERT_FILE, or the settings' "
                "server.tls_certificate)"
            )
        return (
            f"there is no TLS with what answers at {self.url} ({error.reason}); if it serves none, its address "
            "begins with http:"
        )

    def check(self, response: httpx.Response) -> None:
        """Raises what an answer other than success tells. The body of such a one has been read."""
        if response.is_success:
            return
        raise no_orchestrator(response) if response.is_redirect else error_of(response)

    # --- trying again ---

    def may_retry(self, ask: Ask[Any]) -> Callable[[BaseException], bool]:
        """Whether a request may be made once more after an error: never where it may have been carried out, unless
        twice does no harm."""

        def again(error: BaseException) -> bool:
            match error:
                case Unreachable():
                    return ask.repeatable or not error.sent
                case Overloaded(retry_after_s=float() as wait):
                    return wait <= self.longest_wait_s
                case Overloaded() | ServerFault():
                    return ask.repeatable and error.status in (502, 503, 504)
                case _:
                    return False

        return again

    def wait_s(self, state: RetryCallState) -> float:
        """Before the next try."""
        error = state.outcome.exception() if state.outcome is not None else None
        if isinstance(error, Overloaded) and error.retry_after_s is not None:
            return error.retry_after_s
        return float(min(FIRST_WAIT_S * 2 ** (state.attempt_number - 1), self.longest_wait_s))


def _as_json(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        problem = str(error)
    raise Invalid(f"the request cannot be written as JSON: {problem}")


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _checked(url: str) -> str:
    """The address. Raises `Invalid` without showing what may be a password in it."""
    try:
        parts = urlsplit(url)
        port_is_one = parts.port is None or parts.port > 0
    except ValueError:
        raise Invalid(f"this is no address; give one like {DEFAULT_URL}", param="url") from None
    if "@" in parts.netloc:
        raise Invalid("an address holds no name or password here; give the key as api_key", param="url")
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_one:
        raise Invalid(f"{url} is no address; give one like {DEFAULT_URL}", param="url")
    return url


def _key_header(api_key: str | None) -> dict[str, str]:
    key = (os.environ.get(KEY_VARIABLE, "") if api_key is None else api_key).strip()
    if not key:
        return {}
    if not (key.isascii() and key.isprintable()) or " " in key:
        # Checked here, since whoever else finds that out shows the key in saying so.
        message = "the API key has characters that no header can have; give it as it was made, in one line"
        raise Invalid(message, param="api_key")
    return {"Authorization": f"Bearer {key}"}
