"""The certificate that the server shows, taken over anew when its file changes: renewals need no restart."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Any

from cryptography.x509 import load_pem_x509_certificate

log = logging.getLogger(__name__)

LOOK_EVERY_S = 30.0


class Certificate:
    """PEM files of a certificate and its key. Raises OSError or SSLError where they do not make a pair."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = certificate, key
        self._context = self._load()
        self.expires_at = self._read_expiry()
        """Unix seconds."""
        self._stamps = self._stamp()

    def context(self, *_: Any) -> ssl.SSLContext:
        """What connections are made with; the one object for as long as the server runs."""
        return self._context

    async def watch(self) -> None:
        """Until cancelled. What does not work is left alone, and said."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> bool:
        """Whether there was another certificate, which new connections get from now on."""
        try:
            stamps = self._stamp()
            if stamps == self._stamps:
                return False
            # The one in use is not touched before the new one is seen to be whole: it may be half written.
            self._load()
            self._context.load_cert_chain(*self._files, password=_none)
        except (OSError, ssl.SSLError) as error:
            log.warning(
                "the certificate %s has changed and cannot be used yet: %s", self._files[0], error.strerror
            )
            return False
        self._stamps, self.expires_at = stamps, self._read_expiry()
        log.info("the certificate %s has changed and was taken over", self._files[0])
        return True

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(*self._files, password=_none)
        return context

    def _read_expiry(self) -> float:
        certificate = load_pem_x509_certificate(self._files[0].read_bytes())
        return certificate.not_valid_after_utc.timestamp()

    def _stamp(self) -> list[tuple[int, int]]:
        return [(path.stat().st_mtime_ns, path.stat().st_ino) for path in self._files]


def _none() -> str:
    """Instead of asking for the password on the terminal."""
    return ""
