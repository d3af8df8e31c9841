"""Keys of clients: made once, kept as a hash, found in a time that does not depend on which one it is."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence

from tillerman.serving.settings import KeySettings

PREFIX = "tlm-"


def new_key() -> str:
    """256 random bits, so that a plain hash of it tells nothing."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_of(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def find_key(given: str, keys: Sequence[KeySettings]) -> KeySettings | None:
    """Every key is compared, whether or not one before it fits."""
    hashed, found = hash_of(given), None
    for one in keys:
        if hmac.compare_digest(hashed, one.sha256):
            found = one
    return found
