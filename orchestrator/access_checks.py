"""What has to fit together in the settings of who may come in."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from orchestrator.config import Settings


def asks_for_keys(settings: Settings) -> bool:
    """Whether something has to be presented, as far as settings tell: keys that are in Redis are not looked for."""
    access = settings.access
    return (
        settings.server.api_key is not None
        or access.jwt_issuer is not None
        or settings.redis.url is not None
        or access.keys_file.exists()
    )


def access_problems(settings: Settings, is_loopback: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    server, access = settings.server, settings.access
    remedy = (
        "make a key with `orchestrator keys create`, or set server.api_key (ORCHESTRATOR_API_KEY) to what clients "
        "have to present"
    )
    if not asks_for_keys(settings):
        if not is_loopback(server.host):
            yield (
                "server.host",
                f"anybody who reaches this address could use it; {remedy}, or serve 127.0.0.1",
            )
        if access.trusted_proxies:
            yield "access.trusted_proxies", f"whoever reaches the proxy could use this server; {remedy}"
    if access.metrics_key is not None and access.metrics_key == server.api_key:
        yield (
            "access.metrics_key",
            "it is server.api_key, so whoever reads figures could do everything; set another one",
        )
    yield from _token_problems(settings, is_loopback)
    yield from _tls_problems(settings)


def _token_problems(settings: Settings, is_loopback: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    access = settings.access
    if access.jwt_issuer is None:
        for field in ("jwt_audience", "jwt_jwks_url", "jwt_key_path", "jwt_scopes"):
            if getattr(access, field):
                yield f"access.{field}", "no tokens are taken without their issuer; set access.jwt_issuer too"
        return
    if not access.jwt_audience:
        yield (
            "access.jwt_issuer",
            "tokens for any other service of this issuer would do as well; set access.jwt_audience to what those "
            "for this one have in `aud`",
        )
    if (access.jwt_jwks_url is None) == (access.jwt_key_path is None):
        yield (
            "access.jwt_issuer",
            "its tokens are checked with its public keys; set one of access.jwt_jwks_url and access.jwt_key_path",
        )
    if access.jwt_jwks_url is not None:
        url = urlsplit(access.jwt_jwks_url)
        if url.scheme != "https" and not is_loopback(url.hostname or ""):
            yield "access.jwt_jwks_url", "whoever is on the way could put their own keys there; use https://"
    if access.jwt_key_path is not None:
        from orchestrator.server.tokens import public_key  # heavy, and seldom needed

        try:
            public_key(access.jwt_key_path)
        except OSError as error:
            yield "access.jwt_key_path", f"cannot read {access.jwt_key_path}: {error.strerror}"
        except ValueError as error:
            yield "access.jwt_key_path", f"{access.jwt_key_path} is of no use: {error}"


def _tls_problems(settings: Settings) -> Iterator[tuple[str, str]]:
    certificate, key = settings.server.tls_certificate, settings.server.tls_key
    if (certificate is None) != (key is None):
        missing, given = ("tls_key", "tls_certificate") if key is None else ("tls_certificate", "tls_key")
        yield f"server.{given}", f"one is of no use without the other; set server.{missing} too"
    if certificate is None or key is None:
        return
    for setting, path in (("server.tls_certificate", certificate), ("server.tls_key", key)):
        try:
            path.read_bytes()
        except OSError as error:
            yield setting, f"cannot read {path}: {error.strerror}"
            return
    try:
        # A password is asked for on the terminal otherwise.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, ValueError):
        yield (
            "server.tls_certificate",
            f"{certificate} and {key} do not make a pair; expected a certificate and its private key, both in PEM "
            "and the key without a password",
        )
