"""TLS: a real connection with a certificate made here, and files that are no pair."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import trustme

from tillerman.cli.commands.serve import serve
from tillerman.core.errors import UsageError
from tillerman.serving.client import SteeringClient
from tillerman.serving.http.server import Address

from . import made


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def pair(authority: trustme.CA, tmp_path: Path) -> Address:
    """A certificate of 127.0.0.1 and its key."""
    issued = authority.issue_cert("127.0.0.1")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    for part in issued.cert_chain_pems:
        part.write_to_path(str(cert), append=True)
    issued.private_key_pem.write_to_path(str(key))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return Address("127.0.0.1", 0, cert, key)


def test_https_answers_with_a_receipt_and_plain_http_gets_nothing(
    tmp_path: Path, pair: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = made.opened(tmp_path / "door")
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "steering": "honesty@0.1"}

    def ask(url: str) -> None:
        assert url.startswith("https://127.0.0.1:")
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, verify=context)
        assert answer.json()["steering"]["applied"][0]["artefact"] == "honesty"
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(f"{url}/health")
        for path in ("/health", "/v1/models"):
            with pytest.raises(httpx.TransportError):
                httpx.get(f"{url.replace('https', 'http')}{path}")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        with SteeringClient(url) as client:
            assert client.chat("Hi", steering="honesty@0.1").text == "Hello there"

    made.running(door, pair, ask)
    assert [line["event"] for line in made.audited(door)] == ["admitted", "ended"] * 2


def test_files_that_are_no_pair_are_told_before_the_model_is_opened(tmp_path: Path, pair: Address) -> None:
    cert, key = pair.tls_cert, pair.tls_key
    assert cert is not None and key is not None
    with pytest.raises(UsageError, match="both files"):
        replace(pair, tls_key=None)
    with pytest.raises(UsageError, match="no such file"):
        replace(pair, tls_key=tmp_path / "nowhere.pem")
    other = tmp_path / "other.pem"
    trustme.CA().issue_cert("127.0.0.1").private_key_pem.write_to_path(str(other))
    with pytest.raises(UsageError, match=r"other.pem: is the private key of another certificate"):
        serve("no model is opened", tmp_path, tls_cert=cert, tls_key=other)
    other.write_text("a key, surely")
    with pytest.raises(UsageError, match="expected a certificate and its private key in PEM form"):
        replace(pair, tls_key=other)
    with pytest.raises(UsageError, match="in PEM form"):
        replace(pair, tls_cert=key, tls_key=cert)


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(tmp_path: Path, pair: Address) -> None:
    from cryptography.hazmat.primitives import serialization as form

    assert pair.tls_key is not None
    key = form.load_pem_private_key(pair.tls_key.read_bytes(), None)
    locked = tmp_path / "locked.pem"
    how = form.BestAvailableEncryption(b"secret")
    locked.write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, how))
    with pytest.raises(UsageError, match=r"locked.pem: is locked by a password.*openssl pkey"):
        replace(pair, tls_key=locked)
