"""Signatures of Ed25519 (RFC 8032), by the library ``cryptography``: extra ``pack``."""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path
from typing import TYPE_CHECKING

from tillerman.core.errors import FileError, UsageError
from tillerman.core.files import as_ours

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_BEGIN = "ed25519:"
_LONGEST = 10_000  # bytes of a file with a key


def new_key(path: Path) -> str:
    """Write a private key (PEM, for its owner alone) and give the public one. ``UsageError`` for a file that is
    there."""
    _ensure_installed()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    content = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        with as_ours(path), os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
    except FileError as error:
        if isinstance(error.__cause__, FileExistsError):
            raise UsageError(f"{path}: exists; a key is not written over") from None
        raise
    return _public(key)


def signed(content: bytes, path: Path) -> tuple[str, str]:
    """Public key and signature (base64) of the content, by the private key in the file."""
    _ensure_installed()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    with as_ours(path):
        pem = path.read_bytes()
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path}: no private key without a password ({error}); --new-key makes one") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path}: expected a key of Ed25519; --new-key makes one")
    return _public(key), base64.b64encode(key.sign(content)).decode()


def is_signed(content: bytes, signature: str, key: str) -> bool:
    """Whether the signature is of this content and this public key."""
    _ensure_installed()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(_decoded(key)).verify(base64.b64decode(signature, validate=True), content)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def public_key(text: str) -> str:
    """A key as it is written (``ed25519:...``), or the one in a file of this name. ``UsageError`` for what is none."""
    if not text.startswith(_BEGIN) and Path(text).is_file():
        with as_ours(text):
            text = Path(text).read_bytes()[:_LONGEST].decode("utf-8", "replace").strip()
    if not text.startswith(_BEGIN) or len(_decoded(text)) != 32:
        raise UsageError(f"{text[:40]!r}: expected a public key, ed25519:BASE64, as 'tillerman pack' prints it")
    return text


def _decoded(key: str) -> bytes:
    try:
        return base64.b64decode(key.removeprefix(_BEGIN), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _public(key: Ed25519PrivateKey) -> str:
    return _BEGIN + base64.b64encode(key.public_key().public_bytes_raw()).decode()


def _ensure_installed() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise UsageError("signatures need the library cryptography: pip install 'tillerman[pack]'") from None
