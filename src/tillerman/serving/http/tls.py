"""The two files of TLS, tried before anything else is opened."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from tillerman.core.errors import UsageError
from tillerman.core.files import system_words


def ensure_pair(cert: Path | None, key: Path | None) -> None:
    """``UsageError`` says what is wrong with certificate and key, if there are any."""
    if (cert is None) != (key is None):
        raise UsageError("TLS needs both files: --tls-cert CERT.pem --tls-key KEY.pem")
    if cert is None or key is None:
        return
    for path in (cert, key):
        if not path.is_file():
            raise UsageError(f"{path}: no such file; --tls-cert and --tls-key name PEM files")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=_locked(key))
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UsageError(f"{key}: is the private key of another certificate than {cert}") from None
        raise UsageError(f"{cert} and {key}: expected a certificate and its private key in PEM form") from None
    except OSError as error:
        raise UsageError(f"{error.filename or key}: {system_words(error)}") from None


def _locked(key: Path) -> Callable[[], NoReturn]:
    """Asked for its password, it would hold up the start, and every start that nobody sits beside."""

    def ask() -> NoReturn:
        raise UsageError(f"{key}: is locked by a password; give it without: openssl pkey -in KEY.pem -out OPEN.pem")

    return ask
