"""The certificate: one that is renewed is shown to new connections, one that is of no use is not."""

from __future__ import annotations

import shutil
import socket
import ssl
import threading
from pathlib import Path

import pytest

from orchestrator.server.tls import Certificate
from tests.certificates import Pair, make_pair


def shown(context: ssl.SSLContext) -> bytes:
    """The certificate that a connection gets, as DER."""
    client_context = ssl.create_default_context()
    client_context.check_hostname, client_context.verify_mode = False, ssl.CERT_NONE
    here, there = socket.socketpair()
    with here, there:
        server = threading.Thread(target=lambda: context.wrap_socket(there, server_side=True).unwrap())
        server.start()
        with client_context.wrap_socket(here) as connection:
            found = connection.getpeercert(binary_form=True)
            connection.unwrap()
        server.join()
    assert found is not None
    return found


def der(pair: Pair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "next").mkdir()
    return tmp_path


def test_a_renewed_certificate_is_taken_over(folder: Path) -> None:
    pair, renewed = make_pair(folder), make_pair(folder / "next")
    certificate = Certificate(pair.certificate, pair.key)
    context = certificate.context()
    assert shown(context) == der(pair)
    assert not certificate.refresh()
    shutil.copy(renewed.key, pair.key)
    assert not certificate.refresh(), "the certificate is still the old one's"
    assert shown(context) == ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())
    shutil.copy(renewed.certificate, pair.certificate)
    assert certificate.refresh()
    assert shown(context) == der(renewed)
    assert not certificate.refresh()


@pytest.mark.parametrize("text", ["", "nonsense"])
def test_what_is_no_certificate_changes_nothing(folder: Path, text: str) -> None:
    pair = make_pair(folder)
    before = der(pair)
    certificate = Certificate(pair.certificate, pair.key)
    pair.certificate.write_text(text)
    assert not certificate.refresh()
    pair.certificate.unlink()
    assert not certificate.refresh()
    assert shown(certificate.context()) == before


def test_old_versions_of_tls_are_not_spoken(folder: Path) -> None:
    pair = make_pair(folder)
    assert Certificate(pair.certificate, pair.key).context().minimum_version is ssl.TLSVersion.TLSv1_2
